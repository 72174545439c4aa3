//! Bindings that were revoked, and of which PBUs may come all the same.
//!
//! A refresh that was under way when its binding was revoked, or a copy of an earlier PBU, must not begin a
//! new one: nobody would serve it. And a MAG that never acknowledged the revocation may still have the session, with all it knew of
//! flows: its next refresh shows that, and is answered by revoking once more. A mobile that attaches anew is
//! let in.

use std::collections::BTreeSet;
use std::time::Duration;

use flow::{Bid, HandoffIndicator, Hnp, Lmaa, MnId, ProxyCoa};
use pmip_wire::Timestamp;
use serde::{Deserialize, Serialize};

use super::Lma;
use super::binding_cache::{BceState, Mobile};
use super::lookup::Request;
use super::sync::LINGER;
use crate::event::RequestOutcome;
use crate::time::Now;

/// Sessions of a mobile that a MAG had.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ghost {
    lmaa: Lmaa,
    hnps: Vec<Hnp>,
    /// Whether the MAG acknowledged that they are over.
    heard: bool,
    /// Of the last PBU about them: one that is no later is a copy.
    timestamp: Option<Timestamp>,
}

impl Lma {
    /// Notes sessions of a mobile that are revoked, before they are deleted. A MAG that does not know
    /// revocation cannot be told: its next refresh begins a new session.
    pub(super) fn note_ghost(
        &mut self,
        now: Duration,
        mobile: &Mobile,
        mag: ProxyCoa,
        bids: &[Bid],
        outcome: RequestOutcome,
    ) {
        let heard = match outcome {
            RequestOutcome::Answered(_) => true,
            RequestOutcome::NoAnswer => false,
            RequestOutcome::NotUnderstood => return,
        };
        for session in bids.iter().filter_map(|bid| mobile.session(*bid)) {
            // The lifetime that an unheard one was granted has to be over.
            let until = if heard { now + LINGER } else { session.expires };
            let key = (mag, mobile.mn_id.clone());
            let known = self.ghosts.take(now, &key);
            let (latest, mut ghost) = known.unwrap_or_else(|| {
                let ghost = Ghost {
                    lmaa: session.lmaa,
                    hnps: Vec::new(),
                    heard: true,
                    timestamp: None,
                };
                (until, ghost)
            });
            ghost.lmaa = session.lmaa;
            ghost.hnps.extend(&session.hnps);
            ghost.heard &= heard;
            ghost.timestamp = ghost.timestamp.max(session.timestamp);
            self.ghosts.note(now, key, until.max(latest), ghost);
        }
    }

    /// A MAG has heard of sessions that it had not heard of: a PBU that is under way is a refresh still.
    pub(super) fn lay_ghost(&mut self, now: Duration, mag: ProxyCoa, mn_id: &MnId) {
        let key = (mag, mn_id.clone());
        if let Some((_, mut ghost)) = self.ghosts.take(now, &key) {
            ghost.heard = true;
            self.ghosts.note(now, key, now + LINGER, ghost);
        }
    }

    /// MAGs without sessions that live, of some that were revoked there and may not have heard so: perhaps of all at once.
    pub(super) fn bare(&mut self, now: Duration) -> BTreeSet<ProxyCoa> {
        let notes = self.ghosts.notes().iter();
        let unheard = notes.filter(|(_, (until, ghost))| *until > now && !ghost.heard);
        let mut mags: BTreeSet<ProxyCoa> = unheard.map(|((mag, _), _)| *mag).collect();
        if !mags.is_empty() {
            // One that was being deregistered was not revoked with the others.
            let live = self.bindings().map(|(_, bce)| bce);
            for bce in live.filter(|bce| bce.state != BceState::Deregistering) {
                mags.remove(&bce.proxy_coa);
            }
        }
        mags
    }

    /// Whether a PBU that would begin a session is not let in: because a revocation that names the mobile
    /// is under way, or because it only keeps a session alive that was revoked, or is a copy of what began it.
    pub(super) fn is_revoked(
        &mut self,
        now: Now,
        mn_id: &MnId,
        request: &Request,
        timestamp: Option<Timestamp>,
    ) -> bool {
        let mag = request.proxy_coa;
        if self.revocations.names(mag, mn_id) {
            return true;
        }
        let key = (mag, mn_id.clone());
        let Some((_, ghost)) = self.ghosts.get(now.monotonic, &key) else {
            return false;
        };
        if request.handoff != HandoffIndicator::NO_CHANGE {
            let last = ghost
                .timestamp
                .filter(|last| self.may_have_been(now, *last));
            let copy = timestamp.is_some() && timestamp <= last;
            // What a former self has sent would end the session that begins.
            let awaited = !ghost.heard && self.revocations.may_be_under_way(now.monotonic);
            if !copy && !awaited {
                self.ghosts.take(now.monotonic, &key);
            }
            return copy || awaited;
        }
        let known = |hnp: &Hnp| ghost.hnps.contains(hnp);
        let meant = request.hnps.is_empty() || request.hnps.iter().any(known);
        if meant && !ghost.heard {
            let (lmaa, hnps) = (ghost.lmaa, ghost.hnps.clone());
            self.revoke_again(now.monotonic, mag, mn_id, lmaa, hnps);
        }
        meant
    }
}
