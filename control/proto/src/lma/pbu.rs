//! Proxy Binding Updates: which are accepted, answered, put off or left alone (RFC 5213 §5.3.1).

use std::net::Ipv6Addr;

use flow::{AccessTechnology, HandoffIndicator, Hnp, MnId, MobileId, ProxyCoa};
use pmip_wire::{BindingStatus, MnIdOption, Pbu, PbuFlags, Timestamp};
use serde::{Deserialize, Serialize};

use super::binding_cache::BceState;
use super::lookup::{Lookup, Policy, Request, lookup};
use super::{Lma, Timer};
use crate::config::{MobileProfile, PrefixModel};
use crate::time::{Now, is_newer};

/// A PBU and where it came from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Arrival {
    pub(super) from: Ipv6Addr,
    pub(super) to: Ipv6Addr,
    pub(super) proxy_coa: ProxyCoa,
    pub(super) pbu: Pbu,
}

/// A PBU that waits up to MaxDelayBeforeNewBCEAssign for another session's de-registration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Deferred(Arrival);

/// Why a PBU was not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
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
    /// A member of the pool asked for a mobile that is not here.
    Elsewhere,
    /// The pool has been asked, and whoever it leads to answers.
    Asked,
}

/// How often a PBU was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// It has just come.
    First,
    /// It has waited for another session's de-registration.
    Waited,
    /// Members of the pool were asked for its mobile, whose place is here.
    Placed,
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
        self.process(now, arrival, Turn::First);
    }

    /// Takes up a PBU that has waited long enough, or for nothing.
    pub(super) fn resume_deferred(&mut self, now: Now, id: MobileId) {
        let mut deferred = None;
        self.timers.cancel((id, Timer::Deferred));
        self.with_mobile(id, |_, mobile| deferred = mobile.deferred.take());
        if let Some(deferred) = deferred {
            self.process(now, deferred.0, Turn::Waited);
        }
    }

    /// Accepts or answers a PBU. Its time is checked when it comes.
    fn process(&mut self, now: Now, arrival: Arrival, turn: Turn) {
        if let Err(stop) = self.register(now, &arrival, turn) {
            self.stopped(now, arrival, stop);
        }
    }

    /// A PBU was not accepted.
    pub(super) fn stopped(&mut self, now: Now, arrival: Arrival, stop: Stop) {
        match stop {
            Stop::Refuse(status) => {
                if status == BindingStatus::INSUFFICIENT_RESOURCES {
                    self.note_full(now.monotonic, &arrival);
                }
                self.refuse(now, &arrival, status, None);
            }
            Stop::OutOfWindow(last) => {
                let status = BindingStatus::SEQUENCE_OUT_OF_WINDOW;
                self.refuse(now, &arrival, status, Some(last));
            }
            Stop::Ignore => self.counters.ignored_deregistrations += 1,
            Stop::Revoking => self.counters.ignored_while_revoking += 1,
            Stop::Wait => self.defer(now, arrival),
            Stop::Elsewhere => self.answer_elsewhere(&arrival),
            Stop::Asked => {}
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
    pub(super) fn register(&mut self, now: Now, arrival: &Arrival, turn: Turn) -> Result<(), Stop> {
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
        self.decline(arrival, mn_id)?;
        self.admit(arrival, mn_id)?;
        // Only plain IPv6-in-IPv6 tunnels are offered (RFC 5844 §4.1.3.1).
        if pbu.flags.contains(PbuFlags::FORCE_UDP) {
            return Err(BindingStatus::PROHIBITED.into());
        }
        let policy = Policy {
            sharing: self.prefix_model(&profile) != PrefixModel::Unique,
            wait: turn == Turn::First && self.config.max_delay_before_new_bce_assign.is_some(),
        };
        let request = request(arrival);
        let found = match self.cache.find(mn_id) {
            Some(mobile) => lookup(mobile, &request, policy),
            None => Lookup::New,
        };
        if turn == Turn::First {
            self.check_order(now, mn_id, found, &request, pbu)?;
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
        self.dispatch(now, arrival, mn_id, &request, &profile, (found, turn))
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
    /// own, since MAGs' clocks differ. A MAG's PBUs about one interface are in order even where one names
    /// the session that was and another the session that is.
    fn check_order(
        &self,
        now: Now,
        mn_id: &MnId,
        found: Lookup,
        request: &Request,
        pbu: &Pbu,
    ) -> Result<(), Stop> {
        let mobile = self.cache.find(mn_id);
        let session = match found {
            Lookup::Update(bid) => mobile.and_then(|m| m.session(bid)),
            Lookup::New | Lookup::Share(_) | Lookup::Wait | Lookup::Refuse(_) => None,
        };
        match (pbu.timestamp, session) {
            (Some(timestamp), session) => {
                let all = mobile.into_iter().flat_map(|m| &m.sessions);
                let same = all.filter(|s| request.is_from(s));
                let last = same.chain(session).filter_map(|s| s.timestamp);
                let mut last = last.filter(|last| self.may_have_been(now, *last));
                if last.any(|last| timestamp <= last) {
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

    /// Whether a timestamp that was accepted can be one of now or before. Otherwise our own clock was ahead then, and has been
    /// put right: it would have all PBUs refused until that time has come, so it orders nothing.
    pub(super) fn may_have_been(&self, now: Now, timestamp: Timestamp) -> bool {
        let config = &self.config;
        let clock = Timestamp::from_epoch(now.wall);
        config.mobile_node_generated_timestamps
            || !timestamp.is_after(clock, config.timestamp_validity_window)
    }

    /// RFC 5213 §5.3.1 step 14 onwards: a new session, an extension, a handoff, or the end of one.
    fn dispatch(
        &mut self,
        now: Now,
        arrival: &Arrival,
        mn_id: &MnId,
        request: &Request,
        profile: &MobileProfile,
        (found, turn): (Lookup, Turn),
    ) -> Result<(), Stop> {
        let ends = arrival.pbu.lifetime.is_zero();
        if !ends && self.revocations.is_global(now.monotonic, arrival.proxy_coa) {
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
            Lookup::Share(_) | Lookup::Wait if ends => Err(Stop::Ignore),
            Lookup::New if ends => {
                self.place(now, arrival, mn_id, turn)?;
                Err(Stop::Ignore)
            }
            Lookup::New | Lookup::Share(_)
                if self.is_revoked(now, mn_id, request, arrival.pbu.timestamp) =>
            {
                Err(Stop::Revoking)
            }
            Lookup::Wait => Err(Stop::Wait),
            Lookup::New => {
                self.place(now, arrival, mn_id, turn)?;
                self.create(now, arrival, mn_id, request, profile, None)
            }
            Lookup::Share(bid) => self.create(now, arrival, mn_id, request, profile, Some(bid)),
        }
    }
}

/// What of a PBU identifies its session; of one that lacks options, as far as they are there.
pub(super) fn request(arrival: &Arrival) -> Request {
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
