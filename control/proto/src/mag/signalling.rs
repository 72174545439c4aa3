//! Registration of sessions at the LMA: which Proxy Binding Updates are sent, and when (RFC 5213 §6.9).

use std::time::Duration;

use flow::HandoffIndicator;
use pmip_wire::{BindingLifetime, BindingStatus, HnpOption, Pbu, PbuFlags, Timestamp};

use super::acknowledgement::TIMESTAMP_VALIDITY_WINDOW;
use super::assignment::is_redirectable;
use super::bul::{Attachment, Bule, BuleState, Request, SessionId};
use super::{Mag, Timer};
use crate::event::MagEvent;
use crate::time::Now;

/// How far apart sessions begin that number their PBUs themselves, so that an answer to one is hardly
/// taken for another's. Being odd, it reaches every number.
const FAR: u16 = 40503;

impl Mag {
    /// Registers a session, or begins to again.
    pub(super) fn register(&mut self, now: Now, id: SessionId) {
        self.ask_first(id);
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
            BuleState::Registering => {
                self.ask_first(id);
                self.send_pbu(now, id);
            }
            BuleState::Active => self.send_pbu(now, id),
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

    /// Sends the PBU that the session's state asks for, as soon as it is the mobile's turn.
    pub(super) fn send_pbu(&mut self, now: Now, id: SessionId) {
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
        let clock = Timestamp::from_epoch(now.wall);
        let next = Timestamp(bule.last_timestamp.0.saturating_add(1));
        // One that is far ahead is from before the clock was put right: with a later one still, the LMA would refuse
        // all that come.
        let timestamp = if next.is_after(clock, TIMESTAMP_VALIDITY_WINDOW) {
            clock
        } else {
            clock.max(next)
        };
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
            redirect_capability: is_redirectable(&self.config, bule),
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
}

/// The prefixes that a PBU of this session names: its own, or those it would like, or any.
pub(super) fn asked_prefixes(bule: &Bule) -> Vec<HnpOption> {
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
