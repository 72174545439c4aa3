//! Revocations that a MAG never acknowledged.
//!
//! The binding is gone, but the MAG may still have the session, with all it knew of flows. Its next refresh
//! shows that: it is not let in as a new binding, but revoked once more. A mobile that attaches anew is.

use std::collections::BTreeMap;
use std::time::Duration;

use flow::{Bid, HandoffIndicator, Hnp, Lmaa, MnId, ProxyCoa};

use super::Lma;
use super::binding_cache::Mobile;
use super::lookup::Request;

/// Most that are remembered.
const MOST: usize = 1 << 16;

/// A session that a MAG may still have.
#[derive(Clone, Debug)]
struct Ghost {
    lmaa: Lmaa,
    hnps: Vec<Hnp>,
    /// When the lifetime that it was granted is over.
    until: Duration,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unheard(BTreeMap<(ProxyCoa, MnId), Ghost>);

impl Unheard {
    /// Forgets those whose lifetimes are over.
    pub(super) fn expire(&mut self, now: Duration) {
        self.0.retain(|_, ghost| ghost.until > now);
    }

    /// Notes sessions of a mobile that a MAG was told of in vain.
    pub(super) fn note(&mut self, mobile: &Mobile, mag: ProxyCoa, bids: &[Bid]) {
        for session in bids.iter().filter_map(|bid| mobile.session(*bid)) {
            if self.0.len() >= MOST {
                return;
            }
            let ghost = self.0.entry((mag, mobile.mn_id.clone())).or_insert(Ghost {
                lmaa: session.lmaa,
                hnps: Vec::new(),
                until: Duration::ZERO,
            });
            ghost.hnps.extend(&session.hnps);
            ghost.until = ghost.until.max(session.expires);
        }
    }
}

impl Lma {
    /// Whether a PBU that would begin a session has to wait: for a revocation that names the mobile, or
    /// because it only keeps a session alive whose revocation the MAG has not heard. Then that is sent again.
    pub(super) fn is_unheard(&mut self, now: Duration, mn_id: &MnId, request: &Request) -> bool {
        let mag = request.proxy_coa;
        if self.revocations.names(mag, mn_id) {
            return true;
        }
        let ghost = self.unheard.0.remove(&(mag, mn_id.clone()));
        let refreshed = request.handoff == HandoffIndicator::NO_CHANGE;
        match ghost.filter(|ghost| refreshed && ghost.until > now) {
            Some(ghost) => {
                self.revoke_again(now, mag, mn_id, ghost.lmaa, ghost.hnps);
                true
            }
            None => false,
        }
    }
}
