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

/// Copies of a PBU that may be sent in a row as soon as the LMA disliked the last one's timestamp or
/// sequence number; then the next one waits its time.
const PROMPT_COPIES: u32 = 2;

/// How far apart sessions begin that number their PBUs themselves, so that an answer to one is hardly
/// taken for another's. Being odd, it reaches every number.
const FAR: u16 = 40503;

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

    /// A mobile appeared where it is already, as far as this MAG knows. It may have been at another one
    /// meanwhile: the LMA is told, and what it said about flows is void, as the LMA will say it again.
    pub(super) fn reattach(&mut self, now: Now, id: SessionId, attachment: Attachment) {
        let Some(bule) = self.bul.sessions.get_mut(&id) else {
            return;
        };
        match bule.state {
            BuleState::Registering if bule.muted => self.register(now, id),
            BuleState::Registering => {}
            BuleState::Active => {
                bule.attachment = attachment;
                bule.presence.appear(now.monotonic);
                bule.anew = Some(bule.attachment.handoff);
                bule.flows.clear();
                bule.granted.clear();
                let mobile = bule.mobile;
                self.timers.cancel(Timer::Flows(id));
                self.update_routes(mobile);
                self.refresh(now, id);
            }
            BuleState::Deregistering | BuleState::Refused(_) | BuleState::Revoked => {
                let known = bule.hnps.clone();
                bule.attachment = attachment;
                bule.presence.appear(now.monotonic);
                if bule.attachment.wanted.is_empty() {
                    bule.attachment.wanted = known;
                }
                bule.state = BuleState::Registering;
                self.withdraw(id);
                self.register(now, id);
            }
        }
    }

    /// RFC 5213 §6.9.1.3: half of the lifetime is over, and the mobile is still there if it says so.
    pub(super) fn refresh(&mut self, now: Now, id: SessionId) {
        if let Some(bule) = self.bul.sessions.get_mut(&id) {
            bule.request = None;
            if self.is_there(now, id) {
                self.send_pbu(now, id);
            }
        }
    }

    /// A mobile that was asked for is there: what had to wait for that is sent.
    pub(super) fn go_on(&mut self, now: Now, id: SessionId) {
        match self.bul.sessions.get(&id).map(|bule| bule.state) {
            Some(BuleState::Registering | BuleState::Active) => self.send_pbu(now, id),
            Some(BuleState::Deregistering | BuleState::Refused(_) | BuleState::Revoked) | None => {}
        }
    }

    /// RFC 5213 §6.9.1.4: the mobile is gone.
    pub(super) fn deregister(&mut self, now: Now, id: SessionId) {
        let timers = [
            Timer::Probe(id),
            Timer::Refresh(id),
            Timer::Advertise(id),
            Timer::Retry(id),
        ];
        for timer in timers {
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
            BuleState::Active if bule.muted => {
                self.withdraw(id);
                self.refused(id, BindingStatus::UNSPECIFIED, None);
            }
            BuleState::Active => {
                let mn_id = bule.attachment.mn_id.clone();
                bule.attachment.wanted = bule.hnps.clone();
                self.outbox.event(MagEvent::RegistrationExpired { mn_id });
                self.withdraw(id);
                self.register(now, id);
            }
            BuleState::Deregistering => self.withdraw(id),
            BuleState::Registering | BuleState::Refused(_) | BuleState::Revoked => {}
        }
    }

    /// A PBU was not answered in time (RFC 5213 §6.9.4).
    pub(super) fn handle_no_answer(&mut self, now: Now, id: SessionId) {
        let Some(bule) = self.bul.sessions.get_mut(&id) else {
            return;
        };
        if let Some(request) = &mut bule.request {
            request.prompt = 0;
        }
        let state = bule.state;
        let copies = bule.request.as_ref().map_or(0, |r| r.copies);
        match state {
            BuleState::Registering | BuleState::Active if !self.is_there(now, id) => {}
            BuleState::Registering | BuleState::Active => self.send_pbu(now, id),
            // The first one has waited for its turn.
            BuleState::Deregistering if copies == 0 => self.send_pbu(now, id),
            BuleState::Deregistering if copies > self.config.deregistration_retries => {
                self.end_session(now.monotonic, id, false);
            }
            BuleState::Deregistering => {
                // Routes go after INITIAL_BINDACK_TIMEOUT even if the LMA was not heard.
                self.withdraw(id);
                self.send_pbu(now, id);
            }
            // The first one may have waited for its turn here, too.
            BuleState::Revoked if copies <= self.config.deregistration_retries => {
                self.send_pbu(now, id);
            }
            BuleState::Revoked => {
                if let Some(bule) = self.bul.sessions.get_mut(&id) {
                    bule.request = None;
                }
            }
            BuleState::Refused(_) => {}
        }
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

    /// Sends the PBU that the session's state asks for, as soon as it is the mobile's turn.
    fn send_pbu(&mut self, now: Now, id: SessionId) {
        let Some(bule) = self.bul.sessions.get(&id) else {
            return;
        };
        if matches!(bule.state, BuleState::Refused(_)) {
            return;
        }
        let (mobile, rate) = (bule.mobile, self.config.max_update_rate);
        match self.bul.take_turn(mobile, now.monotonic, rate) {
            Some(turn) => self.timers.set(Timer::Request(id), turn),
            None => self.send_next_pbu(now, id),
        }
    }

    /// Each copy has a number and a timestamp of its own (RFC 5213 §6.9.4).
    fn send_next_pbu(&mut self, now: Now, id: SessionId) {
        let Some(bule) = self.bul.sessions.get_mut(&id) else {
            return;
        };
        let no_change = HandoffIndicator::NO_CHANGE;
        let (handoff, lifetime) = match bule.state {
            BuleState::Registering => (bule.attachment.handoff, self.config.lifetime),
            BuleState::Active => (bule.anew.unwrap_or(no_change), self.config.lifetime),
            BuleState::Deregistering | BuleState::Revoked => {
                (HandoffIndicator::UNKNOWN, Duration::ZERO)
            }
            BuleState::Refused(_) => return,
        };
        let first = self.config.initial_bindack_timeout;
        let (copies, prompt, patience) = match &bule.request {
            Some(r) => (
                r.copies + 1,
                r.prompt,
                (r.patience * 2).min(self.config.max_bindack_timeout),
            ),
            None => (1, 0, first),
        };
        let sequence = match bule.sequence {
            Some(last) => last.wrapping_add(1),
            None => self.next_sequence,
        };
        // Timestamps order PBUs, or else numbers that are the session's own (RFC 5213 §5.5).
        if self.config.timestamps && bule.sequence.is_none() {
            self.next_sequence = sequence.wrapping_add(1);
        } else {
            if bule.sequence.is_none() {
                self.next_sequence = sequence.wrapping_add(FAR);
            }
            bule.sequence = Some(sequence);
        }
        let timestamp = Timestamp::from_epoch(now.wall);
        let timestamp = timestamp.max(Timestamp(bule.last_timestamp.0.saturating_add(1)));
        bule.last_timestamp = timestamp;
        bule.muted = false;
        bule.request = Some(Request {
            sequence,
            handoff,
            sent: now.monotonic,
            copies,
            prompt,
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
        let lmaa = bule.lmaa;
        // Before the first: what the LMA has of our former self is not what we register now.
        self.heartbeats.announce(lmaa.0, &mut self.outbox);
        self.outbox
            .send(self.config.proxy_coa.0, lmaa.0, pbu.into());
        self.timers
            .set(Timer::Request(id), now.monotonic + patience);
    }

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

    fn handle_accepted(&mut self, now: Now, id: SessionId, request: &Request, pba: &Pba) {
        let on_link = pba
            .hnps
            .iter()
            .filter(|hnp| !hnp.off_link && !hnp.is_all_zero());
        let mut hnps: Vec<Hnp> = on_link.map(|hnp| hnp.prefix).collect();
        hnps.sort_unstable();
        hnps.dedup();
        let mobile = self.bul.sessions.get(&id).map(|bule| bule.mobile);
        let more = mobile.map_or(0, |mobile| self.routes.missing(&hnps, mobile));
        let full = self.routes.len() + more > self.config.max_prefixes;
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
            BindingStatus::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED => {
                // Register again; every copy has a later timestamp.
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

    fn repeat(&mut self, now: Now, id: SessionId) {
        let bule = self.bul.sessions.get_mut(&id);
        if let Some(request) = bule.and_then(|bule| bule.request.as_mut())
            && request.prompt < PROMPT_COPIES
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

    fn refused(&mut self, id: SessionId, status: BindingStatus, retry: Option<Duration>) {
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
