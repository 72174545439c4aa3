//! What the LMA answered to Proxy Binding Updates (RFC 5213 §6.9.1.2).

use std::time::Duration;

use flow::{HandoffIndicator, Hnp, Lmaa};
use pmip_wire::{BindingStatus, HnpOption, MnIdOption, Pba, PbaFlags, Timestamp};

use super::assignment::Assignment;
use super::bul::{Bule, BuleState, Request, SessionId};
use super::signalling::asked_prefixes;
use super::{Mag, Timer};
use crate::event::MagEvent;
use crate::time::Now;

/// Copies of a PBU that may be sent in a row as soon as the LMA disliked the last one's timestamp or
/// sequence number; then the next one waits its time.
const PROMPT_COPIES: u32 = 2;

/// How far the clocks of an LMA and a MAG may be apart (TimestampValidityWindow, RFC 5213 §9.1).
pub(super) const TIMESTAMP_VALIDITY_WINDOW: Duration = Duration::from_millis(300);

/// Most prefixes of one session: those and as many that they replace fit one Router Advertisement.
const MAX_PREFIXES: usize = 16;

impl Mag {
    pub(super) fn handle_pba(&mut self, now: Now, from: Lmaa, pba: &Pba) {
        let found = self.find_request(from, pba);
        let Some(bule) = found.and_then(|id| self.bul.sessions.get_mut(&id)) else {
            self.counters.stray_pbas += 1;
            self.disown(now, from, pba);
            return;
        };
        let (id, state) = (bule.id, bule.state);
        let Some(request) = bule.request.clone() else {
            return;
        };
        self.counters.pbas += 1;
        // A sign of life, but not yet of what the LMA remembers.
        if self.heartbeats.is_down(from.0) {
            self.heartbeats
                .hint(now.monotonic, from.0, &mut self.outbox);
        }
        // RFC 5213 §6.9.1.2: an answer that repeats other identifiers ends the asking, until an
        // operator acts; the registration lasts as long as it had been granted.
        let repeated = pba.handoff == Some(request.handoff)
            && pba.access == Some(bule.attachment.access)
            && pba.ll_id == bule.attachment.ll_id;
        if !repeated {
            bule.muted = true;
            let mn_id = bule.attachment.mn_id.clone();
            // A mobile that left is asked about until the copies run out: nobody else would end it.
            if state != BuleState::Deregistering {
                self.timers.cancel(Timer::Request(id));
            }
            self.timers.cancel(Timer::Refresh(id));
            self.outbox.event(MagEvent::PbaMismatch { mn_id });
            return;
        }
        let accepted = pba.status.is_accepted();
        match state {
            BuleState::Registering | BuleState::Active if accepted => {
                self.handle_accepted(now, id, &request, pba);
            }
            BuleState::Registering | BuleState::Active => {
                self.handle_refused(now, id, pba);
            }
            // Whatever the LMA says, it has no session of this mobile here.
            BuleState::Deregistering => self.end_session(now.monotonic, id, accepted),
            // A copy that was slow says nothing about the others.
            BuleState::Revoked if pba.status == BindingStatus::TIMESTAMP_MISMATCH => {}
            // Nor has it of one that it revoked; here it stays as it is.
            BuleState::Revoked => {
                bule.request = None;
                self.timers.cancel(Timer::Request(id));
            }
            BuleState::Refused(_) => {}
        }
    }

    /// The session whose outstanding PBU this answers, by MN-ID and then sequence number.
    fn find_request(&self, from: Lmaa, pba: &Pba) -> Option<SessionId> {
        if !pba.flags.contains(PbaFlags::PROXY) {
            return None;
        }
        let mn_id = pba.mn_id.as_ref().and_then(MnIdOption::nai)?;
        let mobile = self.bul.mobile_of(mn_id)?;
        let same_interface = |bule: &Bule| {
            pba.ll_id == bule.attachment.ll_id && pba.access == Some(bule.attachment.access)
        };
        let answered = |bule: &&Bule| {
            let Some(request) = &bule.request else {
                return false;
            };
            // RFC 6275 §11.7.3: this status comes with the number that the LMA has, so that only the
            // options tell which PBU it is about.
            let is_answer = match pba.status {
                BindingStatus::SEQUENCE_OUT_OF_WINDOW => {
                    pba.handoff == Some(request.handoff) && same_interface(bule)
                }
                // A number of the session's own may have been that of an earlier session of the same
                // interface: then the handoff indicator tells whose late answer this is.
                _ => {
                    request.sequence == pba.sequence
                        && (bule.sequence.is_none() || pba.handoff == Some(request.handoff))
                }
            };
            bule.lmaa == from && is_answer
        };
        let ids = self.bul.sessions_of(mobile);
        let sessions = || ids.iter().filter_map(|id| self.bul.sessions.get(id));
        // Sessions that number their PBUs themselves may use the same number: then it is the interface
        // that tells whose answer this is, or was.
        let found = match sessions().find(|bule| same_interface(bule)) {
            Some(bule) => Some(bule).filter(answered),
            None => sessions().find(answered),
        };
        found.map(|bule| bule.id)
    }

    /// The LMA accepted a PBU that is not waited for. If the session was revoked meanwhile, that PBU was
    /// overtaken by the revocation, and the LMA has a binding that nobody serves: it is told.
    fn disown(&mut self, now: Now, from: Lmaa, pba: &Pba) {
        let name = pba.mn_id.as_ref().and_then(MnIdOption::nai);
        let mobile = name.and_then(|name| self.bul.mobile_of(name));
        let ids = mobile.map(|mobile| self.bul.sessions_of(mobile));
        let ids = ids.unwrap_or_default();
        let mut sessions = ids.iter().filter_map(|id| self.bul.sessions.get(id));
        let revoked = sessions.find(|bule| {
            bule.lmaa == from
                && bule.state == BuleState::Revoked
                && bule.request.is_none()
                && bule.attachment.ll_id == pba.ll_id
                && Some(bule.attachment.access) == pba.access
        });
        let lives = pba.is_proxy() && pba.status.is_accepted() && !pba.lifetime.is_zero();
        if let Some(id) = revoked.map(|bule| bule.id).filter(|_| lives) {
            self.send_pbu(now, id);
        }
    }

    fn handle_accepted(&mut self, now: Now, id: SessionId, request: &Request, pba: &Pba) {
        let assigned = match self.assignment(id, pba) {
            Assignment::Here => None,
            Assignment::There(lmaa) => Some(lmaa),
            Assignment::Refused => {
                self.stop(now, id, BindingStatus::UNSPECIFIED);
                return;
            }
        };
        let on_link = pba
            .hnps
            .iter()
            .filter(|hnp| !hnp.off_link && !hnp.is_all_zero());
        let mut hnps: Vec<Hnp> = on_link.map(|hnp| hnp.prefix).collect();
        hnps.sort_unstable();
        hnps.dedup();
        let mobile = self.bul.sessions.get(&id).map(|bule| bule.mobile);
        let more = mobile.map_or(0, |mobile| self.routes.missing(&hnps, mobile));
        let bule = self.bul.sessions.get(&id);
        let full = self.routes.len() + more > self.config.max_prefixes
            || bule.is_some_and(|bule| !self.routes.has_room_for(bule));
        let unusable = hnps.is_empty() || hnps.len() > MAX_PREFIXES;
        if unusable || pba.lifetime.is_zero() || full {
            // Accepted, but nothing to forward, more than a mobile can be told, or no room for it.
            self.stop(now, id, BindingStatus::UNSPECIFIED);
            return;
        }
        self.timers.cancel(Timer::Request(id));
        let lifetime = pba.lifetime.duration();
        let expires = request.sent + lifetime;
        self.timers.set(Timer::Expiry(id), expires);
        self.timers
            .set(Timer::Refresh(id), request.sent + lifetime / 2);
        self.take_over(id, &hnps);
        let Some(bule) = self.bul.sessions.get_mut(&id) else {
            return;
        };
        let news = bule.state != BuleState::Active || bule.hnps != hnps;
        let old = std::mem::replace(&mut bule.hnps, hnps.clone());
        if let Some(lmaa) = assigned.filter(|lmaa| *lmaa != bule.lmaa) {
            // What the other one said about flows is void.
            bule.lmaa = lmaa;
            bule.flows.clear();
            bule.granted.clear();
            bule.listed = None;
            self.timers.cancel(Timer::Flows(id));
        }
        bule.state = BuleState::Active;
        bule.withdrawn = false;
        bule.muted = false;
        bule.attachment.handoff = later(bule.attachment.handoff);
        bule.anew = None;
        bule.request = None;
        bule.expires = expires;
        if let Some(link_local) = pba.link_local.filter(|a| !a.is_unspecified()) {
            bule.link_local = link_local;
        }
        let (mobile, lmaa) = (bule.mobile, bule.lmaa);
        let mn_id = bule.attachment.mn_id.clone();
        let access = bule.attachment.access;
        self.take_offer(id, request, pba);
        // Who was assigned has not heard from us yet.
        self.heartbeats.announce(lmaa.0, &mut self.outbox);
        self.heartbeats
            .wake(now.monotonic, lmaa.0, self.config.proxy_coa.0);
        self.update_routes(mobile);
        let gone: Vec<Hnp> = old.into_iter().filter(|hnp| !hnps.contains(hnp)).collect();
        self.advertise(now.monotonic, id, &gone);
        if news {
            self.outbox.event(MagEvent::Registered {
                mn_id,
                access,
                hnps,
            });
        }
    }

    /// The LMA decides whose a prefix is: what other mobiles had of it here ends.
    fn take_over(&mut self, id: SessionId, hnps: &[Hnp]) {
        let Some(mobile) = self.bul.sessions.get(&id).map(|bule| bule.mobile) else {
            return;
        };
        for hnp in hnps {
            while let Some((old, loser)) = self.routes.conflict(*hnp, mobile) {
                for other in self.bul.sessions_of(loser) {
                    if let Some(bule) = self.bul.sessions.get_mut(&other) {
                        bule.hnps.retain(|h| *h != old);
                        bule.granted.retain(|h| *h != old);
                        for flow in &mut bule.flows {
                            flow.off_link.retain(|h| *h != old);
                        }
                    }
                }
                self.update_routes(loser);
                let names = self.bul.mobiles.get(&loser);
                if let Some(mn_id) = names.map(|m| m.mn_id.clone()) {
                    self.outbox
                        .event(MagEvent::PrefixReassigned { mn_id, hnp: old });
                }
            }
        }
    }

    /// RFC 5213 §6.9.1.2: what a refusal means depends on its status.
    fn handle_refused(&mut self, now: Now, id: SessionId, pba: &Pba) {
        let Some(bule) = self.bul.sessions.get_mut(&id) else {
            return;
        };
        match pba.status {
            // Register again; every copy has a later timestamp. If our clock was put back, those that are late enough are
            // still to come.
            BindingStatus::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED
                if bule.state != BuleState::Active || agree(now, pba) =>
            {
                self.repeat(now, id);
            }
            BindingStatus::SEQUENCE_OUT_OF_WINDOW => {
                bule.sequence = Some(pba.sequence);
                self.repeat(now, id);
            }
            BindingStatus::NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX
            | BindingStatus::BCE_PBU_PREFIX_SET_DO_NOT_MATCH
                if !asked_prefixes(bule).iter().any(HnpOption::is_all_zero) =>
            {
                // Never the same prefixes again, but any will do.
                bule.attachment.wanted.clear();
                self.withdraw(id);
                self.register(now, id);
            }
            // The clocks agree, so it was not those: it has waited on its way, or for an LMA that was busy or starting.
            BindingStatus::TIMESTAMP_MISMATCH if may_repeat(bule) && agree(now, pba) => {
                self.repeat(now, id);
            }
            // The session lasts as long as it had been granted; by then the clocks may agree again.
            BindingStatus::TIMESTAMP_MISMATCH
            | BindingStatus::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED
                if bule.state == BuleState::Active =>
            {
                let retry = now.monotonic + self.config.refused_retry;
                self.timers.cancel(Timer::Request(id));
                self.timers.set(Timer::Refresh(id), retry);
                self.report_refusal(id, pba.status, Some(retry));
            }
            status => self.stop(now, id, status),
        }
    }

    fn repeat(&mut self, now: Now, id: SessionId) {
        let bule = self.bul.sessions.get_mut(&id);
        if let Some(bule) = bule.filter(|bule| may_repeat(bule))
            && let Some(request) = &mut bule.request
        {
            request.prompt += 1;
            self.send_pbu(now, id);
        }
    }

    /// Nothing is forwarded for the mobile; it is asked for again later if that may help.
    fn stop(&mut self, now: Now, id: SessionId, status: BindingStatus) {
        self.timers.cancel(Timer::Request(id));
        self.withdraw(id);
        let passing = matches!(
            status,
            BindingStatus::UNSPECIFIED
                | BindingStatus::INSUFFICIENT_RESOURCES
                | BindingStatus::TIMESTAMP_MISMATCH
        );
        let retry = passing.then(|| now.monotonic + self.config.refused_retry);
        if let Some(retry) = retry {
            self.timers.set(Timer::Retry(id), retry);
        }
        self.refused(id, status, retry);
    }

    pub(super) fn refused(
        &mut self,
        id: SessionId,
        status: BindingStatus,
        retry: Option<Duration>,
    ) {
        if let Some(bule) = self.bul.sessions.get_mut(&id) {
            bule.state = BuleState::Refused(status.0);
            bule.request = None;
            bule.muted = false;
        }
        self.report_refusal(id, status, retry);
    }

    fn report_refusal(&mut self, id: SessionId, status: BindingStatus, retry: Option<Duration>) {
        if let Some(bule) = self.bul.sessions.get(&id) {
            self.outbox.event(MagEvent::Refused {
                mn_id: bule.attachment.mn_id.clone(),
                status: status.0,
                retry,
            });
        }
    }
}

/// What a handoff indicator is once the LMA has heard of it: that another session was taken over is
/// said once, or two interfaces would take it from each other for ever.
fn later(handoff: HandoffIndicator) -> HandoffIndicator {
    match handoff {
        HandoffIndicator::BETWEEN_INTERFACES | HandoffIndicator::BETWEEN_MAGS => {
            HandoffIndicator::UNKNOWN
        }
        other => other,
    }
}

/// Whether another copy of the PBU may be sent at once.
fn may_repeat(bule: &Bule) -> bool {
    let request = bule.request.as_ref();
    request.is_some_and(|request| request.prompt < PROMPT_COPIES)
}

/// Whether the LMA's clock, which it tells with a refusal, says what ours does.
fn agree(now: Now, pba: &Pba) -> bool {
    let ours = Timestamp::from_epoch(now.wall);
    (pba.timestamp).is_some_and(|its| its.abs_diff(ours) <= TIMESTAMP_VALIDITY_WINDOW)
}
