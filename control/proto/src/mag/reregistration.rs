//! FORCE-REREGISTRATION: the LMA wants sessions registered again (RFC 7077 §4.1, §6).

use flow::Lmaa;
use pmip_wire::{MnIdOption, Upa, UpaStatus, Upn};

use super::Mag;
use super::bul::{Bule, BuleState, SessionId};
use crate::event::MagEvent;
use crate::time::Now;

impl Mag {
    /// Registers the sessions that are named again, and answers if an answer is wanted. A copy is treated as
    /// the first was: what is being registered already is not registered twice.
    pub(super) fn handle_force_reregistration(&mut self, now: Now, from: Lmaa, upn: &Upn) {
        self.counters.reregistrations += 1;
        let (status, sessions) = match self.named_by(from, upn) {
            Ok(sessions) => (UpaStatus::SUCCESS, sessions),
            Err(status) => {
                self.counters.reregistrations_refused += 1;
                (status, Vec::new())
            }
        };
        if upn.acknowledge {
            let upa = Upa {
                sequence: upn.sequence,
                status,
                mn_id: upn.mn_id.clone(),
                hnps: if status.is_success() {
                    upn.hnps.clone()
                } else {
                    Vec::new()
                },
                ..Upa::default()
            };
            self.outbox
                .send(self.config.proxy_coa.0, from.0, upa.into());
        }
        for id in sessions {
            self.register_again(now, id);
        }
    }

    /// The mobile's sessions with this LMA, and of these the one whose interface is named.
    fn named_by(&self, from: Lmaa, upn: &Upn) -> Result<Vec<SessionId>, UpaStatus> {
        let mn_id = upn.mn_id.as_ref().and_then(MnIdOption::nai);
        let mn_id = mn_id.ok_or(UpaStatus::UNSPECIFIED)?;
        let mobile = self.bul.mobile_of(mn_id);
        let ids = mobile.map(|mobile| self.bul.sessions_of(mobile));
        let meant = |bule: &&Bule| {
            bule.lmaa == from
                && bule.state != BuleState::Deregistering
                && upn.access.is_none_or(|a| a == bule.attachment.access)
                && (upn.ll_id.is_none() || upn.ll_id == bule.attachment.ll_id)
        };
        let ids = ids.unwrap_or_default();
        let sessions = ids.iter().filter_map(|id| self.bul.sessions.get(id));
        let sessions: Vec<SessionId> = sessions.filter(meant).map(|bule| bule.id).collect();
        if sessions.is_empty() {
            return Err(UpaStatus::NOT_ATTACHED);
        }
        Ok(sessions)
    }

    fn register_again(&mut self, now: Now, id: SessionId) {
        let Some(bule) = self.bul.sessions.get(&id) else {
            return;
        };
        let mn_id = bule.attachment.mn_id.clone();
        match bule.state {
            BuleState::Active if bule.request.is_none() => self.refresh(now, id),
            // A PBU is on its way.
            BuleState::Active | BuleState::Registering | BuleState::Deregistering => return,
            BuleState::Refused(_) | BuleState::Revoked => self.register(now, id),
        }
        self.outbox.event(MagEvent::ReregistrationAsked { mn_id });
    }
}

#[cfg(test)]
mod tests;
