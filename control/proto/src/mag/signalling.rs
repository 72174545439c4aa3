//! Registration of sessions at the LMA: Proxy Binding Updates and their answers (RFC 5213 §6.9).

use std::time::Duration;

use flow::{HandoffIndicator, Hnp, Lmaa};
use pmip_wire::{
    BindingLifetime, BindingStatus, HnpOption, MnIdOption, Pba, PbaFlags, Pbu, PbuFlags, Timestamp,
};

use super::bul::{Attachment, Bule, BuleState, Request, SessionId};
use super::{Mag, Timer};
use crate::event::MagEvent;
use crate::time::Now;

/// Copies of a PBU that may be sent as soon as the LMA disliked the last one's timestamp or sequence
/// number; further ones wait their turn (RFC 6275 §11.8 allows three a second).
const PROMPT_COPIES: u32 = 3;

/// Most prefixes of one session: those and as many that they replace fit one Router Advertisement.
const MAX_PREFIXES: usize = 16;

impl Mag {
    /// Registers a session, or begins to again.
    pub(super) fn register(&mut self, now: Now, id: SessionId) {
        if let Some(bule) = self.bul.sessions.get_mut(&id) {
            bule.state = BuleState::Registering;
            bule.request = None;
            self.timers.cancel(Timer::Retry(id));
            self.send_pbu(now, id);
        }
    }

    /// A mobile appeared where it is already.
    pub(super) fn reattach(&mut self, now: Now, id: SessionId, attachment: Attachment) {
        let Some(bule) = self.bul.sessions.get_mut(&id) else {
            return;
        };
        match bule.state {
            BuleState::Active | BuleState::Registering => {}
            BuleState::Deregistering | BuleState::Refused(_) => {
                let known = bule.hnps.clone();
                bule.attachment = attachment;
                if bule.attachment.wanted.is_empty() {
                    bule.attachment.wanted = known;
                }
                bule.state = BuleState::Registering;
                self.withdraw(id);
                self.register(now, id);
            }
        }
    }

    /// RFC 5213 §6.9.1.3: half of the lifetime is over and the mobile is still there.
    pub(super) fn refresh(&mut self, now: Now, id: SessionId) {
        if let Some(bule) = self.bul.sessions.get_mut(&id) {
            bule.request = None;
            self.send_pbu(now, id);
        }
    }

    /// RFC 5213 §6.9.1.4: the mobile is gone.
    pub(super) fn deregister(&mut self, now: Now, id: SessionId) {
        for timer in [Timer::Refresh(id), Timer::Advertise(id), Timer::Retry(id)] {
            self.timers.cancel(timer);
        }
        if let Some(bule) = self.bul.sessions.get_mut(&id) {
            // A session that was never accepted has nothing to forward.
            bule.withdrawn = bule.state != BuleState::Active || bule.withdrawn;
            bule.state = BuleState::Deregistering;
            bule.request = None;
            self.send_pbu(now, id);
        }
    }

    /// The LMA did not confirm in time.
    pub(super) fn handle_expiry(&mut self, now: Now, id: SessionId) {
        let Some(bule) = self.bul.sessions.get_mut(&id) else {
            return;
        };
        match bule.state {
            BuleState::Active => {
                let mn_id = bule.attachment.mn_id.clone();
                bule.attachment.wanted = bule.hnps.clone();
                self.outbox.event(MagEvent::RegistrationExpired { mn_id });
                self.withdraw(id);
                self.register(now, id);
            }
            BuleState::Deregistering => self.withdraw(id),
            BuleState::Registering | BuleState::Refused(_) => {}
        }
    }

    /// A PBU was not answered in time (RFC 5213 §6.9.4).
    pub(super) fn handle_no_answer(&mut self, now: Now, id: SessionId) {
        let Some(bule) = self.bul.sessions.get(&id) else {
            return;
        };
        let copies = bule.request.as_ref().map_or(0, |r| r.copies);
        match bule.state {
            BuleState::Registering | BuleState::Active => self.send_pbu(now, id),
            BuleState::Deregistering if copies > self.config.deregistration_retries => {
                self.end_session(now.monotonic, id, false);
            }
            BuleState::Deregistering => {
                // Routes go after INITIAL_BINDACK_TIMEOUT even if the LMA was not heard.
                self.withdraw(id);
                self.send_pbu(now, id);
            }
            BuleState::Refused(_) => {}
        }
    }

    /// Sends the PBU that the session's state asks for. Each copy has a number and a timestamp of its own
    /// (RFC 5213 §6.9.4).
    fn send_pbu(&mut self, now: Now, id: SessionId) {
        let Some(bule) = self.bul.sessions.get_mut(&id) else {
            return;
        };
        let (handoff, lifetime) = match bule.state {
            BuleState::Registering => (bule.attachment.handoff, self.config.lifetime),
            BuleState::Active => (HandoffIndicator::NO_CHANGE, self.config.lifetime),
            BuleState::Deregistering => (HandoffIndicator::UNKNOWN, Duration::ZERO),
            BuleState::Refused(_) => return,
        };
        let first = self.config.initial_bindack_timeout;
        let (copies, patience) = match &bule.request {
            Some(r) => (
                r.copies + 1,
                (r.patience * 2).min(self.config.max_bindack_timeout),
            ),
            None => (1, first),
        };
        let sequence = self.next_sequence;
        self.next_sequence = sequence.wrapping_add(1);
        let timestamp = Timestamp::from_epoch(now.wall);
        let timestamp = timestamp.max(Timestamp(bule.last_timestamp.0.saturating_add(1)));
        bule.last_timestamp = timestamp;
        bule.request = Some(Request {
            sequence,
            handoff,
            sent: now.monotonic,
            copies,
            patience,
        });
        let pbu = Pbu {
            sequence,
            flags: PbuFlags::REQUEST,
            lifetime: BindingLifetime::from_duration(lifetime),
            mn_id: Some(bule.attachment.mn_id.clone().into()),
            hnps: asked_prefixes(bule),
            handoff: Some(handoff),
            access: Some(bule.attachment.access),
            ll_id: bule.attachment.ll_id.clone(),
            // Only a MAG without a fixed address of its own asks (RFC 5213 §6.9.1.5).
            link_local: self.config.link_local.is_none().then_some(bule.link_local),
            timestamp: self.config.timestamps.then_some(timestamp),
            ..Pbu::default()
        };
        self.counters.pbus += 1;
        self.outbox
            .send(self.config.proxy_coa.0, bule.lmaa.0, pbu.into());
        self.timers
            .set(Timer::Request(id), now.monotonic + patience);
    }

    pub(super) fn handle_pba(&mut self, now: Now, from: Lmaa, pba: &Pba) {
        let found = self.find_request(from, pba);
        let Some(bule) = found.and_then(|id| self.bul.sessions.get_mut(&id)) else {
            self.counters.stray_pbas += 1;
            return;
        };
        let (id, state) = (bule.id, bule.state);
        let Some(request) = bule.request.clone() else {
            return;
        };
        self.counters.pbas += 1;
        // RFC 5213 §6.9.1.2: an answer that repeats other identifiers ends the asking, until an
        // operator acts; the registration lasts as long as it had been granted.
        let repeated = pba.handoff == Some(request.handoff)
            && pba.access == Some(bule.attachment.access)
            && pba.ll_id == bule.attachment.ll_id;
        if !repeated {
            let mn_id = bule.attachment.mn_id.clone();
            // A mobile that left is asked about until the copies run out: nobody else would end it.
            if state != BuleState::Deregistering {
                self.timers.cancel(Timer::Request(id));
            }
            self.outbox.event(MagEvent::PbaMismatch { mn_id });
            return;
        }
        let accepted = pba.status.is_accepted();
        match state {
            BuleState::Registering | BuleState::Active if accepted => {
                self.handle_accepted(now, id, &request, pba);
            }
            BuleState::Registering | BuleState::Active => {
                self.handle_refused(now, id, &request, pba);
            }
            // Whatever the LMA says, it has no session of this mobile here.
            BuleState::Deregistering => self.end_session(now.monotonic, id, accepted),
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
        let answered = |bule: &&Bule| {
            let Some(request) = &bule.request else {
                return false;
            };
            // RFC 6275 §11.7.3: this status comes with the number that the LMA expected.
            let expected = pba.status == BindingStatus::SEQUENCE_OUT_OF_WINDOW
                && pba.ll_id == bule.attachment.ll_id
                && pba.access == Some(bule.attachment.access);
            bule.lmaa == from && (request.sequence == pba.sequence || expected)
        };
        let ids = self.bul.sessions_of(mobile);
        let mut sessions = ids.iter().filter_map(|id| self.bul.sessions.get(id));
        sessions.find(answered).map(|bule| bule.id)
    }

    fn handle_accepted(&mut self, now: Now, id: SessionId, request: &Request, pba: &Pba) {
        let on_link = pba
            .hnps
            .iter()
            .filter(|hnp| !hnp.off_link && !hnp.is_all_zero());
        let mut hnps: Vec<Hnp> = on_link.map(|hnp| hnp.prefix).collect();
        hnps.sort_unstable();
        hnps.dedup();
        if hnps.is_empty() || hnps.len() > MAX_PREFIXES || pba.lifetime.is_zero() {
            // Accepted, but nothing to forward, or more than a mobile can be told: as good as a refusal.
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
        bule.state = BuleState::Active;
        bule.withdrawn = false;
        bule.request = None;
        bule.expires = expires;
        if let Some(link_local) = pba.link_local.filter(|a| !a.is_unspecified()) {
            bule.link_local = link_local;
        }
        let mobile = bule.mobile;
        let mn_id = bule.attachment.mn_id.clone();
        let access = bule.attachment.access;
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
    fn handle_refused(&mut self, now: Now, id: SessionId, request: &Request, pba: &Pba) {
        let Some(bule) = self.bul.sessions.get_mut(&id) else {
            return;
        };
        match pba.status {
            BindingStatus::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED => {
                // Register again; every copy has a later timestamp.
                self.repeat(now, id, request);
            }
            BindingStatus::SEQUENCE_OUT_OF_WINDOW => {
                self.next_sequence = pba.sequence.wrapping_add(1);
                self.repeat(now, id, request);
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
            // The session lasts as long as it had been granted; by then the clocks may agree again.
            BindingStatus::TIMESTAMP_MISMATCH if bule.state == BuleState::Active => {
                let retry = now.monotonic + self.config.refused_retry;
                self.timers.cancel(Timer::Request(id));
                self.timers.set(Timer::Refresh(id), retry);
                self.report_refusal(id, pba.status, Some(retry));
            }
            status => self.stop(now, id, status),
        }
    }

    fn repeat(&mut self, now: Now, id: SessionId, request: &Request) {
        if request.copies < PROMPT_COPIES {
            self.send_pbu(now, id);
        }
    }

    /// Nothing is forwarded for the mobile; it is asked for again later if that may help.
    fn stop(&mut self, now: Now, id: SessionId, status: BindingStatus) {
        self.timers.cancel(Timer::Request(id));
        self.withdraw(id);
        if let Some(bule) = self.bul.sessions.get_mut(&id) {
            bule.state = BuleState::Refused(status.0);
            bule.request = None;
        }
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

/// The prefixes that a PBU of this session names: its own, or those it would like, or any.
fn asked_prefixes(bule: &Bule) -> Vec<HnpOption> {
    let hnps = if bule.hnps.is_empty() {
        &bule.attachment.wanted
    } else {
        &bule.hnps
    };
    if hnps.is_empty() {
        return vec![HnpOption::ALL_ZERO];
    }
    hnps.iter().copied().map(HnpOption::on_link).collect()
}
