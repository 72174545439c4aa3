//! Which LMA of a pool is asked about a mobile, and which one it is assigned (RFC 6463 §5.2).
//!
//! One LMA is asked first. Its answer may say, by a Redirect option, that another LMA of the pool has taken the session:
//! then all else about it goes there, until it has to be registered from the start again.
//!
//! The option is followed if the PBU had Redirect-Capability, which every PBU has that may begin a session at an LMA of
//! the pool. RFC 6463 §5.2 speaks of those with handoff indicator 1. A handoff has to find the mobile's LMA as well, and
//! this MAG does not know which one another MAG was assigned. So has a refresh, if its LMA has lost the session and the
//! mobile has come to another meanwhile: to one that has it, the option says nothing. An answer takes a session from one
//! LMA to another and asks for no further PBU, so there are no rounds.

use std::net::IpAddr;

use flow::Lmaa;
use pmip_wire::Pba;

use super::Mag;
use super::bul::{Attachment, Bule, BuleState, SessionId};
use crate::config::MagConfig;

/// What an answer says about where the session is.
pub(super) enum Assignment {
    /// At the LMA that answered.
    Here,
    /// At this LMA of the pool.
    There(Lmaa),
    /// At one that is in no pool of ours.
    Refused,
}

impl Mag {
    /// The LMA that is asked about a new session: that of the attachment, or the first; of a pool, another if that one
    /// does not answer heartbeats.
    pub(super) fn first_asked(&self, attachment: &Attachment) -> Option<Lmaa> {
        let mut lmas = self.config.lmas.iter().map(|peer| peer.lmaa);
        let first = lmas.find(|lmaa| attachment.lma.is_none_or(|named| named == *lmaa))?;
        let pool = &self.config.pool;
        if !pool.contains(&first) || !self.heartbeats.is_down(first.0) {
            return Some(first);
        }
        let up = |lmaa: &&Lmaa| !self.heartbeats.is_down(lmaa.0);
        Some(pool.iter().find(up).copied().unwrap_or(first))
    }

    /// Whether a station that attaches so belongs to the session that it has, whichever LMA that was assigned.
    pub(super) fn is_same(&self, bule: &Bule, attachment: &Attachment, lmaa: Lmaa) -> bool {
        let assigned = self.config.pool.contains(&bule.lmaa) && self.config.pool.contains(&lmaa);
        bule.attachment.mn_id == attachment.mn_id && (bule.lmaa == lmaa || assigned)
    }

    /// A session is registered from the start: by the LMA that is asked first.
    pub(super) fn ask_first(&mut self, id: SessionId) {
        let Some(bule) = self.bul.sessions.get(&id) else {
            return;
        };
        let first = self.first_asked(&bule.attachment);
        let Some(first) = first.filter(|lmaa| self.config.pool.contains(lmaa)) else {
            return;
        };
        if bule.lmaa != first
            && let Some(bule) = self.bul.sessions.get_mut(&id)
        {
            bule.lmaa = first;
        }
    }

    /// Where the session of an accepted PBU is. An option that was not asked for is ignored (RFC 6463 §5.2).
    pub(super) fn assignment(&mut self, id: SessionId, pba: &Pba) -> Assignment {
        let (Some(redirect), Some(bule)) = (pba.redirect, self.bul.sessions.get(&id)) else {
            return Assignment::Here;
        };
        if !is_redirectable(&self.config, bule) {
            self.counters.redirects_ignored += 1;
            return Assignment::Here;
        }
        let named = match redirect.0 {
            IpAddr::V6(address) => Some(Lmaa(address)),
            IpAddr::V4(_) => None,
        };
        let Some(lmaa) = named.filter(|lmaa| self.config.pool.contains(lmaa)) else {
            self.counters.redirects_refused += 1;
            return Assignment::Refused;
        };
        self.counters.redirects_followed += u64::from(lmaa != bule.lmaa);
        Assignment::There(lmaa)
    }
}

/// Whether a session's PBU says that another LMA may be assigned.
pub(super) fn is_redirectable(config: &MagConfig, bule: &Bule) -> bool {
    let begins = match bule.state {
        BuleState::Registering | BuleState::Active => true,
        // One that was never accepted may have begun anywhere.
        BuleState::Deregistering => bule.withdrawn,
        BuleState::Refused(_) | BuleState::Revoked => false,
    };
    begins && config.pool.contains(&bule.lmaa)
}
