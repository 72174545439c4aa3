//! Sessions that the LMA ends: BRI in, BRA out (RFC 5846 §9).
//!
//! A mobile whose session was revoked may well be on its link still. It is not registered again for what it
//! sends: an operator attaches it anew, or the LMA asks for it.

use std::time::Duration;

use flow::{Hnp, Lmaa, MobileId};
use pmip_wire::{Bra, Bri, MnIdOption, RevocationFlags, RevocationStatus, RevocationTrigger};
use serde::{Deserialize, Serialize};

use super::bul::{BuleState, SessionId};
use super::{Mag, Timer};
use crate::event::MagEvent;
use crate::kept::Kept;
use crate::time::Now;

/// The last BRI for all sessions of each LMA: its number and our answer. A copy that is late must not end
/// sessions that began since.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct GlobalRevocations(pub(super) Kept<Lmaa, (u16, Bra)>);

impl GlobalRevocations {
    /// An LMA numbers its messages anew.
    pub(super) fn forget(&mut self, lmaa: Lmaa) {
        self.0.remove(&lmaa);
    }
}

impl Mag {
    /// Ends the sessions that a BRI names, or says why not. What is forwarded for them ends before the
    /// answer leaves.
    pub(super) fn handle_bri(&mut self, now: Now, from: Lmaa, bri: &Bri) {
        let mobile = bri.mn_id.as_ref().and_then(MnIdOption::nai);
        let mobile = mobile.and_then(|mn_id| self.bul.mobile_of(mn_id));
        if let Some(bra) = self.answered_before(from, mobile, bri) {
            self.counters.bri_copies += 1;
            self.send_bra(from, bra);
            return;
        }
        let status = match self.addressed_by(from, mobile, bri) {
            Ok((sessions, status)) => {
                self.counters.bris_accepted += 1;
                for id in sessions {
                    self.end_revoked(now, id, bri.trigger);
                }
                status
            }
            Err(status) => {
                self.counters.bris_refused += 1;
                status
            }
        };
        let bra = answer(bri, status);
        if is_global(bri) {
            let last = (bri.sequence, bra.clone());
            self.global_revocations.0.insert(from, last);
        } else if let Some(entry) = mobile.and_then(|mobile| self.bul.mobiles.get_mut(&mobile)) {
            entry.last_bri = Some((from, bri.sequence, bra.clone()));
        }
        self.send_bra(from, bra);
    }

    /// An LMA that is not ours may not revoke all of anybody's sessions (RFC 5846 §9.1).
    pub(super) fn refuse_stranger(&mut self, now: Duration, from: Lmaa, bri: &Bri) {
        if is_global(bri) && self.strangers.allow(now) {
            let bra = answer(bri, RevocationStatus::GLOBAL_NOT_AUTHORIZED);
            self.send_bra(from, bra);
        }
    }

    fn answered_before(&self, from: Lmaa, mobile: Option<MobileId>, bri: &Bri) -> Option<Bra> {
        if is_global(bri) {
            let (sequence, bra) = self.global_revocations.0.get(&from)?;
            return (*sequence == bri.sequence).then(|| bra.clone());
        }
        let (lmaa, sequence, bra) = self.bul.mobiles.get(&mobile?)?.last_bri.as_ref()?;
        (*lmaa == from && *sequence == bri.sequence).then(|| bra.clone())
    }

    /// The sessions to end, and whether those are all that were named.
    fn addressed_by(
        &self,
        from: Lmaa,
        mobile: Option<MobileId>,
        bri: &Bri,
    ) -> Result<(Vec<SessionId>, RevocationStatus), RevocationStatus> {
        // This is no home agent's mobile: it has proxy bindings only, and none for IPv4.
        if !bri.flags.contains(RevocationFlags::PROXY) {
            return Err(RevocationStatus::FUNCTION_NOT_SUPPORTED);
        }
        if bri.flags.contains(RevocationFlags::IPV4) {
            return Err(RevocationStatus::NO_BINDING);
        }
        if is_global(bri) {
            return self.all_of(from, bri.trigger);
        }
        let handover = match bri.trigger {
            RevocationTrigger::HANDOVER_SAME_ACCESS
            | RevocationTrigger::HANDOVER_OTHER_ACCESS
            | RevocationTrigger::HANDOVER_UNKNOWN => true,
            RevocationTrigger::UNSPECIFIED
            | RevocationTrigger::ADMINISTRATIVE
            | RevocationTrigger::USER_ENDED
            | RevocationTrigger::ACCESS_ENDED
            | RevocationTrigger::OUT_OF_SYNC => false,
            _ => return Err(RevocationStatus::TRIGGER_NOT_SUPPORTED),
        };
        if bri.mn_id.is_none() {
            return Err(RevocationStatus::IDENTITIES_REQUIRED);
        }
        let mobile = mobile.ok_or(RevocationStatus::NO_BINDING)?;
        let named: Vec<Hnp> = bri.hnps.iter().map(|hnp| hnp.prefix).collect();
        let ids = self.bul.sessions_of(mobile);
        let mut sessions = Vec::new();
        let mut known: Vec<Hnp> = Vec::new();
        let mut attached = false;
        for bule in ids.iter().filter_map(|id| self.bul.sessions.get(id)) {
            let meant = named.is_empty() || bule.hnps.iter().any(|hnp| named.contains(hnp));
            if bule.lmaa == from && meant && is_bound(bule.state) {
                attached |= bule.state == BuleState::Active;
                known.extend(&bule.hnps);
                sessions.push(bule.id);
            }
        }
        if sessions.is_empty() {
            return Err(RevocationStatus::NO_BINDING);
        }
        if handover && attached {
            return Err(RevocationStatus::STILL_ATTACHED);
        }
        let all = named.iter().all(|hnp| known.contains(hnp));
        let status = if all {
            RevocationStatus::SUCCESS
        } else {
            RevocationStatus::PARTIAL
        };
        Ok((sessions, status))
    }

    /// With the G flag: all sessions with this LMA. Which a policy of its own means, a MAG cannot know.
    fn all_of(
        &self,
        from: Lmaa,
        trigger: RevocationTrigger,
    ) -> Result<(Vec<SessionId>, RevocationStatus), RevocationStatus> {
        match trigger {
            RevocationTrigger::PER_PEER => {}
            RevocationTrigger::LOCAL_POLICY => return Err(RevocationStatus::IDENTITIES_REQUIRED),
            _ => return Err(RevocationStatus::TRIGGER_NOT_SUPPORTED),
        }
        let sessions = self.bul.sessions.values();
        let ours = sessions.filter(|bule| bule.lmaa == from && is_bound(bule.state));
        let ids: Vec<SessionId> = ours.map(|bule| bule.id).collect();
        if ids.is_empty() {
            return Err(RevocationStatus::NO_BINDING);
        }
        Ok((ids, RevocationStatus::SUCCESS))
    }

    fn end_revoked(&mut self, now: Now, id: SessionId, trigger: RevocationTrigger) {
        let Some(bule) = self.bul.sessions.get(&id) else {
            return;
        };
        let mn_id = bule.attachment.mn_id.clone();
        let trigger = trigger.0;
        self.outbox.event(MagEvent::Revoked { mn_id, trigger });
        if bule.state == BuleState::Deregistering {
            // The mobile is gone, and now the LMA's binding is too.
            self.end_session(now.monotonic, id, true);
            return;
        }
        self.withdraw(id);
        self.timers.cancel(Timer::Request(id));
        if let Some(bule) = self.bul.sessions.get_mut(&id) {
            bule.state = BuleState::Revoked;
            // A PBU that the LMA has not answered may be overtaken by all this, and begin a binding there
            // that nobody serves: it is followed by its end.
            if bule.request.take().is_some() {
                self.send_pbu(now, id);
            }
        }
    }

    fn send_bra(&mut self, to: Lmaa, bra: Bra) {
        self.outbox.send(self.config.proxy_coa.0, to.0, bra.into());
    }
}

/// Whether the LMA has, or may have, a binding for a session.
fn is_bound(state: BuleState) -> bool {
    match state {
        BuleState::Active | BuleState::Deregistering => true,
        BuleState::Registering | BuleState::Refused(_) | BuleState::Revoked => false,
    }
}

fn is_global(bri: &Bri) -> bool {
    bri.flags.contains(RevocationFlags::GLOBAL)
}

/// The answer, with what tells the LMA what it is about.
fn answer(bri: &Bri, status: RevocationStatus) -> Bra {
    Bra {
        status,
        sequence: bri.sequence,
        flags: bri.flags,
        mn_id: bri.mn_id.clone(),
        hnps: bri.hnps.clone(),
        others: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
