//! Sessions that begin, go on, move and end by Proxy Binding Updates (RFC 5213 §5.3.2 to §5.3.5).

use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{Bid, Binding, HandoffIndicator, Lmaa, MnId};
use pmip_wire::{BindingLifetime, BindingStatus, Pbu};

use super::binding_cache::{Bce, BceState, Interface, Mobile};
use super::change::Statements;
use super::lookup::Request;
use super::pbu::{Arrival, Stop, request};
use super::sync::Sync;
use super::{Lma, Timer};
use crate::config::{MobileProfile, PrefixModel};
use crate::event::{DeletionReason, LmaEvent};
use crate::exact;
use crate::time::Now;

/// BID-PRI of access technologies for which none is configured.
const DEFAULT_BID_PRIORITY: u8 = 64;

impl Lma {
    /// RFC 5213 §5.3.2: a session begins.
    pub(super) fn create(
        &mut self,
        now: Now,
        arrival: &Arrival,
        mn_id: &MnId,
        request: &Request,
        profile: &MobileProfile,
        share: Option<Bid>,
    ) -> Result<(), Stop> {
        let full = Stop::Refuse(BindingStatus::INSUFFICIENT_RESOURCES);
        let id = match self.cache.id_of(mn_id) {
            Some(id) => id,
            None if self.cache.len() >= self.config.max_mobiles => return Err(full),
            None => self.cache.create(mn_id.clone()).ok_or(full)?,
        };
        let mut result = Err(full);
        self.with_mobile(id, |lma, mobile| {
            result = lma.begin_session(now, arrival, mobile, request, profile, share);
        });
        result
    }

    fn begin_session(
        &mut self,
        now: Now,
        arrival: &Arrival,
        mobile: &mut Mobile,
        request: &Request,
        profile: &MobileProfile,
        share: Option<Bid>,
    ) -> Result<(), Stop> {
        let full = Stop::Refuse(BindingStatus::INSUFFICIENT_RESOURCES);
        let most = self
            .config
            .max_sessions_per_mobile
            .min(Binding::MAX_SOURCES);
        if mobile.sessions.len() >= most {
            return Err(full);
        }
        let registrar = self.registrar(arrival);
        let registered = self.peers.get(&registrar).map_or(0, |peer| peer.sessions);
        if registered >= self.config.max_sessions_per_mag {
            self.counters.over_share += 1;
            return Err(full);
        }
        let interface = Interface {
            access: request.access,
            ll_id: request.ll_id.clone(),
        };
        let bid = mobile.assign_bid(interface).ok_or(full)?;
        let shared = share
            .and_then(|bid| mobile.session(bid))
            .map(|s| s.hnps.clone());
        let any = request.hnps.is_empty();
        let hybrid = any && self.prefix_model(profile) == PrefixModel::Hybrid;
        let hnps = match shared {
            Some(hnps) if hybrid => {
                self.allocate(now.monotonic, mobile, profile, hnps.first().copied())?
            }
            Some(hnps) => hnps,
            None if any => self.allocate(now.monotonic, mobile, profile, None)?,
            None => self.claim(now.monotonic, mobile, &request.hnps, profile)?,
        };
        let pbu = &arrival.pbu;
        let priority = self.config.bid_priorities.get(&request.access).copied();
        let lifetime = self.grant(pbu.lifetime);
        mobile.insert(Bce {
            bid,
            bid_priority: priority.unwrap_or(DEFAULT_BID_PRIORITY),
            ll_id: request.ll_id.clone(),
            access: request.access,
            handoff: request.handoff,
            hnps: hnps.clone(),
            link_local: self.link_local(pbu, Ipv6Addr::UNSPECIFIED),
            lmaa: Lmaa(arrival.to),
            proxy_coa: arrival.proxy_coa,
            registrar,
            state: self.state_at(now.monotonic, arrival.proxy_coa),
            expires: now.monotonic + lifetime.duration(),
            updated: now.monotonic,
            registered: now.monotonic,
            timestamp: pbu.timestamp,
            sequence: pbu.sequence,
            sync: Sync::default(),
        });
        self.expect_late_copies(now.monotonic, mobile, bid);
        self.charge(None, Some(registrar));
        self.bind(now.monotonic, arrival.proxy_coa, Lmaa(arrival.to));
        self.outbox.event(LmaEvent::BindingCreated {
            mn_id: mobile.mn_id.clone(),
            bid,
            proxy_coa: arrival.proxy_coa,
            hnps,
        });
        self.accepted(now, arrival, mobile, bid, lifetime);
        Ok(())
    }

    /// RFC 5213 §5.3.3 and §5.3.4: a session goes on, here or at another MAG.
    pub(super) fn update(&mut self, now: Now, arrival: &Arrival, mobile: &mut Mobile, bid: Bid) {
        let request = request(arrival);
        let pbu = &arrival.pbu;
        let mn_id = mobile.mn_id.clone();
        let Some(session) = mobile.session(bid) else {
            return;
        };
        let (from, state) = (session.proxy_coa, session.state);
        let stays = from == arrival.proxy_coa
            && (session.access, &session.ll_id) == (request.access, &request.ll_id);
        // A MAG that registers a session anew has nothing left of what it was told about flows, and
        // neither has another MAG. Only a refresh leaves that as it is.
        let anew = from != arrival.proxy_coa
            || matches!(state, BceState::Deregistering | BceState::Lost)
            || request.handoff != HandoffIndicator::NO_CHANGE;
        if from != arrival.proxy_coa {
            let to = arrival.proxy_coa;
            self.leave(mobile.id, session);
            self.outbox.event(LmaEvent::Handoff {
                mn_id,
                bid,
                from,
                to,
            });
        } else if anew {
            self.outbox.event(LmaEvent::BindingRenewed { mn_id, bid });
        }
        if !stays {
            mobile.pass_on(now.monotonic, bid);
        }
        if anew {
            self.forget_signalling(now.monotonic, mobile, bid);
            self.rebind(now.monotonic, from, arrival.proxy_coa, Lmaa(arrival.to));
        }
        let state = self.state_at(now.monotonic, arrival.proxy_coa);
        self.timers.cancel((mobile.id, Timer::Delete(bid)));
        let interface = Interface {
            access: request.access,
            ll_id: request.ll_id.clone(),
        };
        mobile.rename_interface(bid, interface);
        let lifetime = self.grant(pbu.lifetime);
        let registrar = self.registrar(arrival);
        if let Some(session) = mobile.session_mut(bid) {
            self.charge(Some(session.registrar), Some(registrar));
            session.registrar = registrar;
            session.link_local = self.link_local(pbu, session.link_local);
            session.sync.retry();
            session.ll_id = request.ll_id;
            session.access = request.access;
            session.handoff = request.handoff;
            session.lmaa = Lmaa(arrival.to);
            session.proxy_coa = arrival.proxy_coa;
            session.state = state;
            session.expires = now.monotonic + lifetime.duration();
            session.updated = now.monotonic;
            if anew {
                session.registered = now.monotonic;
            }
            session.timestamp = pbu.timestamp;
            session.sequence = pbu.sequence;
        }
        if anew {
            self.expect_late_copies(now.monotonic, mobile, bid);
        }
        self.accepted(now, arrival, mobile, bid, lifetime);
    }

    /// Puts an accepted session in force and answers: tables, then the PBA, then FMIs, which the
    /// MAG would refuse before the PBA.
    fn accepted(
        &mut self,
        now: Now,
        arrival: &Arrival,
        mobile: &mut Mobile,
        bid: Bid,
        lifetime: BindingLifetime,
    ) {
        let Some(session) = mobile.session(bid) else {
            return;
        };
        self.timers
            .set((mobile.id, Timer::Expiry(bid)), session.expires);
        self.switch(now.monotonic, mobile);
        let offered = self.offer(now.monotonic, mobile, bid);
        self.accept(arrival, mobile, bid, lifetime, &offered);
        self.supersede(now, mobile, bid);
        self.signal(now.monotonic, mobile);
    }

    /// A MAG has one session for an interface. If it has another now, and timestamps say that it is the
    /// later one, the earlier is over.
    fn supersede(&mut self, now: Now, mobile: &mut Mobile, bid: Bid) {
        let Some(session) = mobile.session(bid).filter(|s| s.timestamp.is_some()) else {
            return;
        };
        let earlier = |other: &&Bce| {
            session.is_twin(other)
                && (other.timestamp).is_some_and(|its| {
                    Some(its) < session.timestamp || !self.may_have_been(now, its)
                })
                && other.state != BceState::Revoking
        };
        let earlier: Vec<Bid> = mobile
            .sessions
            .iter()
            .filter(earlier)
            .map(|s| s.bid)
            .collect();
        for other in earlier {
            let reason = DeletionReason::Superseded;
            self.delete_session(now.monotonic, mobile, other, reason);
        }
    }

    /// RFC 5213 §5.3.5: a session ends, unless it is revived in time.
    pub(super) fn deregister(
        &mut self,
        now: Now,
        arrival: &Arrival,
        mn_id: &MnId,
        bid: Bid,
    ) -> Result<(), Stop> {
        let mobile = self.cache.find(mn_id).ok_or(Stop::Ignore)?;
        let id = mobile.id;
        let session = mobile.session(bid).ok_or(Stop::Ignore)?;
        // The session has moved on; the MAG it left has nothing to say about it but that it is over there.
        if session.proxy_coa != arrival.proxy_coa {
            self.with_mobile(id, |lma, mobile| {
                // Of several that were left, it is not known which one this was.
                if lma.timers.deadline((id, Timer::Forsaken)).is_none() {
                    lma.timers.cancel((id, Timer::Left));
                }
                lma.release_retired(now.monotonic, mobile);
            });
            return Err(Stop::Ignore);
        }
        self.with_mobile(id, |lma, mobile| {
            let Some(session) = mobile.session_mut(bid) else {
                return;
            };
            session.timestamp = arrival.pbu.timestamp;
            session.sequence = arrival.pbu.sequence;
            let lives = session.is_active() || session.state.is_stranded();
            if lives {
                session.state = BceState::Deregistering;
                let mn_id = mobile.mn_id.clone();
                lma.outbox
                    .event(LmaEvent::BindingDeregistered { mn_id, bid });
                lma.forget_signalling(now.monotonic, mobile, bid);
                lma.timers.cancel((id, Timer::Expiry(bid)));
                let delay = lma.config.min_delay_before_bce_delete;
                lma.timers
                    .set((id, Timer::Delete(bid)), now.monotonic + delay);
                lma.switch(now.monotonic, mobile);
            }
            let nothing = Statements::new();
            lma.accept(arrival, mobile, bid, BindingLifetime::ZERO, &nothing);
            lma.signal(now.monotonic, mobile);
        });
        self.resume_deferred(now, id);
        Ok(())
    }

    /// A session is over, for whatever reason.
    pub(super) fn delete_session(
        &mut self,
        now: Duration,
        mobile: &mut Mobile,
        bid: Bid,
        reason: DeletionReason,
    ) {
        mobile.pass_on(now, bid);
        self.forget_signalling(now, mobile, bid);
        self.timers.cancel((mobile.id, Timer::Expiry(bid)));
        self.timers.cancel((mobile.id, Timer::Delete(bid)));
        let Some(at) = mobile.sessions.iter().position(|s| s.bid == bid) else {
            return;
        };
        let session = exact::remove(&mut mobile.sessions, at);
        self.charge(Some(session.registrar), None);
        self.unbind(session.proxy_coa);
        let left = mobile.hnps().into_owned();
        let gone = session.hnps.iter().copied().filter(|h| !left.contains(h));
        // RFC 5213 §5.3.5 frees the prefixes. One that another session's MAG routes for a moved flow
        // is withdrawn there first: the next mobile to get it may be at the same MAG.
        mobile.retiring.extend(gone);
        self.outbox.event(LmaEvent::BindingDeleted {
            mn_id: mobile.mn_id.clone(),
            bid,
            reason,
        });
        self.settle(now, mobile);
    }

    fn grant(&self, asked: BindingLifetime) -> BindingLifetime {
        asked.min(BindingLifetime::from_duration(self.config.max_lifetime))
    }

    /// The MAG's link-local address of a session, from the request and what it was (RFC 5213 §5.3.6).
    fn link_local(&mut self, pbu: &Pbu, known: Ipv6Addr) -> Ipv6Addr {
        match pbu.link_local {
            Some(asked) if !asked.is_unspecified() => asked,
            Some(_) if known.is_unspecified() => self.config.mag_link_local.unwrap_or_else(|| {
                let id = self.random.next_u64();
                Ipv6Addr::from(0xfe80_u128 << 112 | u128::from(id))
            }),
            Some(_) | None => known,
        }
    }
}
