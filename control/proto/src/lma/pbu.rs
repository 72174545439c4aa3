//! Proxy Binding Updates: checks, acceptance, answers (RFC 5213 §5.3).

use std::net::Ipv6Addr;

use flow::{AccessTechnology, Bid, Binding, HandoffIndicator, Hnp, Lmaa, MnId, MobileId, ProxyCoa};
use pmip_wire::{BindingLifetime, BindingStatus, MnIdOption, Pbu, PbuFlags, Timestamp};

use super::binding_cache::{Bce, BceState, Interface, Mobile};
use super::lookup::{Lookup, Policy, Request, lookup};
use super::sync::{Statements, Sync};
use super::{Lma, Timer};
use crate::config::{MobileProfile, PrefixModel};
use crate::event::LmaEvent;
use crate::time::{Now, is_newer};

/// BID-PRI of access technologies for which none is configured.
const DEFAULT_BID_PRIORITY: u8 = 64;

/// A PBU and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(super) from: Ipv6Addr,
    pub(super) to: Ipv6Addr,
    pub(super) proxy_coa: ProxyCoa,
    pub(super) pbu: Pbu,
}

/// A PBU that waits up to MaxDelayBeforeNewBCEAssign for another session's de-registration.
#[derive(Clone, Debug)]
pub(crate) struct Deferred(Arrival);

/// Why a PBU was not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// It is answered with a status.
    Refuse(BindingStatus),
    /// Its sequence number is not newer than this one.
    OutOfWindow(u16),
    /// It is not answered.
    Ignore,
    /// It waits.
    Wait,
    /// Its session is being revoked: the next copy comes when that has ended.
    Revoking,
}

impl From<BindingStatus> for Stop {
    fn from(status: BindingStatus) -> Self {
        Self::Refuse(status)
    }
}

impl Lma {
    pub(super) fn handle_pbu(&mut self, now: Now, from: Ipv6Addr, to: Ipv6Addr, pbu: &Pbu) {
        // This is no Mobile IPv6 home agent.
        if !pbu.is_proxy() {
            self.counters.not_proxy += 1;
            return;
        }
        let proxy_coa = pbu.alt_coa.unwrap_or(ProxyCoa(from));
        if !is_unicast_routable(from) || !is_unicast_routable(proxy_coa.0) {
            self.counters.bad_care_of_address += 1;
            return;
        }
        match self.peers.get_mut(&ProxyCoa(from)) {
            Some(peer) => peer.counters.pbus += 1,
            None if self.strangers.allow(now.monotonic) => {}
            None => {
                self.counters.unknown_peer += 1;
                return;
            }
        }
        let arrival = Arrival {
            from,
            to,
            proxy_coa,
            pbu: pbu.clone(),
        };
        self.process(now, arrival, false);
    }

    /// Takes up a PBU that has waited long enough, or for nothing.
    pub(super) fn resume_deferred(&mut self, now: Now, id: MobileId) {
        let mut deferred = None;
        self.timers.cancel((id, Timer::Deferred));
        self.with_mobile(id, |_, mobile| deferred = mobile.deferred.take());
        if let Some(deferred) = deferred {
            self.process(now, deferred.0, true);
        }
    }

    /// Accepts or answers a PBU. With `waited`, its time was checked when it came.
    fn process(&mut self, now: Now, arrival: Arrival, waited: bool) {
        match self.register(now, &arrival, waited) {
            Ok(()) => {}
            Err(Stop::Refuse(status)) => self.refuse(now, &arrival, status, None),
            Err(Stop::OutOfWindow(last)) => {
                let status = BindingStatus::SEQUENCE_OUT_OF_WINDOW;
                self.refuse(now, &arrival, status, Some(last));
            }
            Err(Stop::Ignore) => self.counters.ignored_deregistrations += 1,
            Err(Stop::Revoking) => self.counters.ignored_while_revoking += 1,
            Err(Stop::Wait) => self.defer(now, arrival),
        }
    }

    fn defer(&mut self, now: Now, arrival: Arrival) {
        let name = arrival.pbu.mn_id.as_ref().and_then(MnIdOption::nai);
        let delay = self.config.max_delay_before_new_bce_assign;
        let Some((id, delay)) = name.and_then(|name| self.cache.id_of(name)).zip(delay) else {
            return;
        };
        let key = (id, Timer::Deferred);
        // A copy of a waiting PBU does not start the wait anew.
        if self.timers.deadline(key).is_none() {
            self.timers.set(key, now.monotonic + delay);
        }
        self.with_mobile(id, |_, mobile| {
            mobile.deferred = Some(Box::new(Deferred(arrival)));
        });
    }

    /// RFC 5213 §5.3.1, in its order.
    fn register(&mut self, now: Now, arrival: &Arrival, waited: bool) -> Result<(), Stop> {
        let pbu = &arrival.pbu;
        let mn_id = match &pbu.mn_id {
            None | Some(MnIdOption::Empty) => {
                return Err(BindingStatus::MISSING_MN_IDENTIFIER_OPTION.into());
            }
            Some(MnIdOption::Nai(mn_id)) => Some(mn_id),
            Some(MnIdOption::Other { .. }) => None,
        };
        let known = |proxy_coa| self.peers.contains_key(&proxy_coa);
        if !known(ProxyCoa(arrival.from)) || !known(arrival.proxy_coa) {
            return Err(BindingStatus::MAG_NOT_AUTHORIZED_FOR_PROXY_REG.into());
        }
        let mn_id = mn_id.ok_or(BindingStatus::NOT_LMA_FOR_THIS_MOBILE_NODE)?;
        let profile = self.entitled(mn_id, arrival.proxy_coa)?;
        // Only plain IPv6-in-IPv6 tunnels are offered (RFC 5844 §4.1.3.1).
        if pbu.flags.contains(PbuFlags::FORCE_UDP) {
            return Err(BindingStatus::PROHIBITED.into());
        }
        let policy = Policy {
            sharing: self.prefix_model(&profile) != PrefixModel::Unique,
            wait: !waited && self.config.max_delay_before_new_bce_assign.is_some(),
        };
        let request = request(arrival);
        let found = match self.cache.find(mn_id) {
            Some(mobile) => lookup(mobile, &request, policy),
            None => Lookup::New,
        };
        if !waited {
            self.check_order(now, mn_id, found, pbu)?;
        }
        if pbu.hnps.is_empty() {
            return Err(BindingStatus::MISSING_HOME_NETWORK_PREFIX_OPTION.into());
        }
        if pbu.handoff.is_none() {
            return Err(BindingStatus::MISSING_HANDOFF_INDICATOR_OPTION.into());
        }
        let access = pbu.access;
        let access = access.ok_or(BindingStatus::MISSING_ACCESS_TECH_TYPE_OPTION)?;
        let allowed = profile.access_technologies.as_ref();
        if allowed.is_some_and(|allowed| !allowed.contains(&access)) && !pbu.lifetime.is_zero() {
            return Err(BindingStatus::PROHIBITED.into());
        }
        self.dispatch(now, arrival, mn_id, &request, &profile, found)
    }

    /// What is known about the mobile in advance, if it may be served through this MAG.
    fn entitled(&self, mn_id: &MnId, proxy_coa: ProxyCoa) -> Result<MobileProfile, Stop> {
        let profile = match self.config.profiles.get(mn_id) {
            Some(profile) => profile.clone(),
            None if self.config.serve_unknown => MobileProfile::default(),
            None => return Err(BindingStatus::NOT_LMA_FOR_THIS_MOBILE_NODE.into()),
        };
        if profile
            .mags
            .as_ref()
            .is_some_and(|mags| !mags.contains(&proxy_coa))
        {
            return Err(BindingStatus::MAG_NOT_AUTHORIZED_FOR_PROXY_REG.into());
        }
        if !profile.enabled {
            return Err(BindingStatus::PROXY_REG_NOT_ENABLED.into());
        }
        Ok(profile)
    }

    pub(super) fn prefix_model(&self, profile: &MobileProfile) -> PrefixModel {
        profile.prefix_model.unwrap_or(self.config.prefix_model)
    }

    /// RFC 5213 §5.5: timestamps order PBUs, or else sequence numbers do; for each session on its
    /// own, since MAGs' clocks differ.
    fn check_order(&self, now: Now, mn_id: &MnId, found: Lookup, pbu: &Pbu) -> Result<(), Stop> {
        let session = match found {
            Lookup::Update(bid) => self.cache.find(mn_id).and_then(|m| m.session(bid)),
            Lookup::New | Lookup::Share(_) | Lookup::Wait | Lookup::Refuse(_) => None,
        };
        match (pbu.timestamp, session) {
            (Some(timestamp), session) => {
                let last = session.and_then(|s| s.timestamp);
                if last.is_some_and(|last| timestamp <= last) {
                    return Err(BindingStatus::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED.into());
                }
                let off = Timestamp::from_epoch(now.wall).abs_diff(timestamp);
                let checked = !self.config.mobile_node_generated_timestamps;
                if checked && off > self.config.timestamp_validity_window {
                    return Err(BindingStatus::TIMESTAMP_MISMATCH.into());
                }
                Ok(())
            }
            // RFC 6275 §9.5.1.
            (None, Some(session)) if !is_newer(pbu.sequence, session.sequence) => {
                Err(Stop::OutOfWindow(session.sequence))
            }
            (None, Some(_) | None) => Ok(()),
        }
    }

    /// RFC 5213 §5.3.1 step 14 onwards: a new session, an extension, a handoff, or the end of one.
    fn dispatch(
        &mut self,
        now: Now,
        arrival: &Arrival,
        mn_id: &MnId,
        request: &Request,
        profile: &MobileProfile,
        found: Lookup,
    ) -> Result<(), Stop> {
        let ends = arrival.pbu.lifetime.is_zero();
        if !ends && self.revocations.is_global(arrival.proxy_coa) {
            return Err(Stop::Revoking);
        }
        let id = self.cache.id_of(mn_id);
        let foreign = |hnp: &Hnp| {
            self.cache
                .owner(*hnp)
                .is_some_and(|owner| Some(owner) != id)
        };
        if request.hnps.iter().any(foreign) {
            return Err(BindingStatus::NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX.into());
        }
        match found {
            Lookup::Update(bid) if ends => self.deregister(now, arrival, mn_id, bid),
            Lookup::Update(bid) => {
                let id = id.ok_or(Stop::Ignore)?;
                let session = self.cache.get(id).and_then(|mobile| mobile.session(bid));
                if session.is_some_and(|s| s.state == BceState::Revoking) {
                    return Err(Stop::Revoking);
                }
                self.with_mobile(id, |lma, mobile| lma.update(now, arrival, mobile, bid));
                Ok(())
            }
            Lookup::Refuse(status) => Err(status.into()),
            Lookup::New | Lookup::Share(_) | Lookup::Wait if ends => Err(Stop::Ignore),
            Lookup::New if self.is_unheard(now.monotonic, mn_id, request) => Err(Stop::Revoking),
            Lookup::Wait => Err(Stop::Wait),
            Lookup::New => self.create(now, arrival, mn_id, request, profile, None),
            Lookup::Share(bid) => self.create(now, arrival, mn_id, request, profile, Some(bid)),
        }
    }

    /// RFC 5213 §5.3.2: a session begins.
    fn create(
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
        let registrar = ProxyCoa(arrival.from);
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
    fn update(&mut self, now: Now, arrival: &Arrival, mobile: &mut Mobile, bid: Bid) {
        let request = request(arrival);
        let pbu = &arrival.pbu;
        let mn_id = mobile.mn_id.clone();
        let Some(session) = mobile.session(bid) else {
            return;
        };
        let (from, state) = (session.proxy_coa, session.state);
        // A MAG that registers a session anew has nothing left of what it was told about flows, and
        // neither has another MAG. Only a refresh leaves that as it is.
        let anew = from != arrival.proxy_coa
            || matches!(state, BceState::Deregistering | BceState::Lost)
            || request.handoff != HandoffIndicator::NO_CHANGE;
        if from != arrival.proxy_coa {
            let to = arrival.proxy_coa;
            self.outbox.event(LmaEvent::Handoff {
                mn_id,
                bid,
                from,
                to,
            });
        } else if anew {
            self.outbox.event(LmaEvent::BindingRenewed { mn_id, bid });
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
        if let Some(session) = mobile.session_mut(bid) {
            let registrar = ProxyCoa(arrival.from);
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
        self.signal(now.monotonic, mobile);
    }

    /// RFC 5213 §5.3.5: a session ends, unless it is revived in time.
    fn deregister(
        &mut self,
        now: Now,
        arrival: &Arrival,
        mn_id: &MnId,
        bid: Bid,
    ) -> Result<(), Stop> {
        let mobile = self.cache.find(mn_id).ok_or(Stop::Ignore)?;
        let id = mobile.id;
        let session = mobile.session(bid).ok_or(Stop::Ignore)?;
        // The session has moved on; the MAG it left has nothing to say about it.
        if session.proxy_coa != arrival.proxy_coa {
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

/// What of a PBU identifies its session; of one that lacks options, as far as they are there.
fn request(arrival: &Arrival) -> Request {
    let pbu = &arrival.pbu;
    let named = pbu.hnps.iter().filter(|hnp| !hnp.is_all_zero());
    Request {
        hnps: named.map(|hnp| hnp.prefix).collect(),
        ll_id: pbu.ll_id.clone(),
        access: pbu.access.unwrap_or(AccessTechnology(0)),
        handoff: pbu.handoff.unwrap_or(HandoffIndicator::UNKNOWN),
        proxy_coa: arrival.proxy_coa,
    }
}

/// Whether an address can be a care-of address (RFC 6275 §6.1.7).
fn is_unicast_routable(address: Ipv6Addr) -> bool {
    !address.is_multicast()
        && !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_unicast_link_local()
}
