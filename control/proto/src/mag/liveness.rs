//! LMAs that die, return and restart, and what becomes of the sessions with them (RFC 5847 §3).
//!
//! Whatever happened, the sessions are registered again: only the LMA's answer says what is still true.
//! They are served for as long as they had been granted, and no longer.

use std::time::Duration;

use flow::{HandoffIndicator, Lmaa, MobileId};
use pmip_wire::Heartbeat;

use super::bul::{BuleState, SessionId};
use super::{Mag, Timer};
use crate::event::MagEvent;
use crate::heartbeat::Verdict;

/// Time between two sessions that are registered again, so that they do not all come at once.
const PACE: Duration = Duration::from_micros(100);

impl Mag {
    pub(super) fn handle_heartbeat(&mut self, now: Duration, from: Lmaa, heartbeat: &Heartbeat) {
        let local = self.config.proxy_coa.0;
        let outbox = &mut self.outbox;
        let verdict = self
            .heartbeats
            .handle(now, from.0, local, heartbeat, outbox);
        if let Some(verdict) = verdict {
            self.act_on(now, from, verdict);
        }
    }

    pub(super) fn handle_heartbeat_timeout(&mut self, now: Duration) {
        loop {
            let sessions = &self.bul.sessions;
            let pool = &self.config.pool;
            let is_bound = |lmaa| {
                let mut bules = sessions.values();
                // An LMA that may be asked or assigned is watched before there is a session.
                if pool.contains(&Lmaa(lmaa)) {
                    return true;
                }
                bules.any(|bule| bule.lmaa == Lmaa(lmaa) && bule.state == BuleState::Active)
            };
            let due = self.heartbeats.pop_due(now, is_bound, &mut self.outbox);
            let Some((lmaa, verdict)) = due else { break };
            if let Some(verdict) = verdict {
                self.act_on(now, Lmaa(lmaa), verdict);
            }
        }
    }

    /// An LMA does not know the type of a message: of all that a MAG begins to say, it must know PBUs.
    pub(super) fn handle_unknown_type(&mut self, now: Duration, lmaa: Lmaa) {
        if self.heartbeats.suspect(lmaa.0).is_none() {
            self.counters.unexpected += 1;
            return;
        }
        let verdict = self.heartbeats.refused(lmaa.0);
        self.outbox.event(MagEvent::HeartbeatRefused { lmaa });
        if let Some(verdict) = verdict {
            self.act_on(now, lmaa, verdict);
        }
    }

    pub(super) fn act_on(&mut self, now: Duration, lmaa: Lmaa, verdict: Verdict) {
        self.outbox.event(match verdict {
            Verdict::Down => MagEvent::PeerDown { lmaa },
            Verdict::Up => MagEvent::PeerUp { lmaa },
            Verdict::Restarted { counter, .. } => MagEvent::PeerRestarted { lmaa, counter },
        });
        match verdict {
            Verdict::Down | Verdict::Up => {}
            Verdict::Restarted { .. } => self.forget_flows(lmaa),
        }
        self.register_all(now, lmaa);
    }

    /// Who put these flows here does not know them any more, and numbers its messages anew.
    fn forget_flows(&mut self, lmaa: Lmaa) {
        let mut changed: Vec<(SessionId, MobileId)> = Vec::new();
        for bule in self.bul.sessions.values_mut().filter(|b| b.lmaa == lmaa) {
            bule.flows.clear();
            bule.granted.clear();
            bule.anew = Some(HandoffIndicator::UNKNOWN);
            changed.push((bule.id, bule.mobile));
        }
        for entry in self.bul.mobiles.values_mut() {
            entry.last_fmi.take_if(|last| last.lmaa == lmaa);
            entry.last_bri.take_if(|(from, ..)| *from == lmaa);
        }
        self.global_revocations.forget(lmaa);
        for (id, mobile) in changed {
            self.timers.cancel(Timer::Flows(id));
            self.update_routes(mobile);
        }
    }

    /// Registers all sessions with an LMA again, with patience as for a first time (RFC 5213 §6.9.4).
    pub(super) fn register_all(&mut self, now: Duration, lmaa: Lmaa) {
        let mut at = now;
        for bule in self.bul.sessions.values_mut().filter(|b| b.lmaa == lmaa) {
            match bule.state {
                BuleState::Active | BuleState::Registering => {
                    bule.request = None;
                    self.timers.set(Timer::Request(bule.id), at);
                    at += PACE;
                }
                BuleState::Deregistering | BuleState::Refused(_) | BuleState::Revoked => {}
            }
        }
    }
}
