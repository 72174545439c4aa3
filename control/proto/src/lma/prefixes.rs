//! Home network prefixes of sessions: where they come from, and when they go back.

use std::collections::BTreeSet;
use std::time::Duration;

use flow::{Hnp, MobileId};
use pmip_wire::BindingStatus;

use super::binding_cache::{Bce, BceState, Mobile};
use super::pbu::Stop;
use super::{Lma, Timer, tables};
use crate::config::{MobileProfile, PrefixModel};

impl Lma {
    fn prefixes_per_session(&self, profile: &MobileProfile) -> usize {
        let wanted = profile.prefixes_per_session;
        let wanted = wanted.unwrap_or(self.config.prefixes_per_session);
        wanted.clamp(1, Hnp::MAX_PER_SESSION)
    }

    /// Prefixes for a session that may have any: one of another session's if it shares, the rest of
    /// the mobile's own, then of the pools, and at last those that it had and that are kept from others.
    pub(super) fn allocate(
        &mut self,
        now: Duration,
        mobile: &mut Mobile,
        profile: &MobileProfile,
        shared: Option<Hnp>,
    ) -> Result<Vec<Hnp>, Stop> {
        let fresh = self.prefixes_per_session(profile) - usize::from(shared.is_some());
        let mut hnps = Vec::new();
        let unused = profile
            .prefixes
            .iter()
            .filter(|hnp| self.cache.owner(**hnp).is_none() || mobile.retiring.contains(hnp));
        let own: Vec<Hnp> = unused.copied().collect();
        for _ in 0..fresh.max(1) {
            let had = mobile.retiring.iter().find(|hnp| !hnps.contains(*hnp));
            let next = own.get(hnps.len()).copied();
            let next = next.or_else(|| self.pools.iter_mut().find_map(|p| p.allocate(now)));
            let Some(hnp) = next.or(had.copied()) else {
                let new = hnps.iter().filter(|hnp| !mobile.retiring.contains(hnp));
                for hnp in new {
                    self.cache.set_owner(*hnp, None);
                    if !self.reserved.contains(hnp) {
                        self.pools.iter_mut().for_each(|pool| pool.put_back(*hnp));
                    }
                }
                return Err(BindingStatus::INSUFFICIENT_RESOURCES.into());
            };
            self.cache.set_owner(hnp, Some(mobile.id));
            hnps.push(hnp);
        }
        mobile.retiring.retain(|hnp| !hnps.contains(hnp));
        hnps.extend(shared);
        hnps.sort_unstable();
        Ok(hnps)
    }

    /// The very prefixes that were asked for, if they are anchored here and free (RFC 5213 §5.3.2).
    pub(super) fn claim(
        &mut self,
        now: Duration,
        mobile: &mut Mobile,
        asked: &BTreeSet<Hnp>,
        profile: &MobileProfile,
    ) -> Result<Vec<Hnp>, Stop> {
        let hybrid = self.prefix_model(profile) == PrefixModel::Hybrid;
        let most = self.prefixes_per_session(profile);
        if asked.len() > most.max(1 + usize::from(hybrid)) {
            return Err(BindingStatus::INSUFFICIENT_RESOURCES.into());
        }
        let mut claimed = Vec::new();
        for hnp in asked {
            let allowed = mobile.retiring.contains(hnp)
                || (!self.cache.overlaps(*hnp)
                    && (profile.prefixes.contains(hnp)
                        || self.pools.iter_mut().any(|pool| pool.take(*hnp))));
            if !allowed {
                for hnp in claimed {
                    self.release_prefix(now, hnp);
                }
                return Err(BindingStatus::NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX.into());
            }
            if !mobile.retiring.contains(hnp) {
                self.cache.set_owner(*hnp, Some(mobile.id));
                claimed.push(*hnp);
            }
        }
        mobile.retiring.retain(|hnp| !asked.contains(hnp));
        Ok(asked.iter().copied().collect())
    }

    /// A session leaves its MAG, which may route for it as long as it was granted.
    pub(super) fn leave(&mut self, id: MobileId, session: &Bce) {
        if session.state == BceState::Active || session.state == BceState::Unreachable {
            let left = (id, Timer::Left);
            if let Some(before) = self.timers.deadline(left) {
                self.forsake(id, before);
            }
            self.timers.set(left, session.expires);
        }
    }

    /// A MAG may route a mobile's prefixes until then, unheard.
    pub(super) fn forsake(&mut self, id: MobileId, until: Duration) {
        let key = (id, Timer::Forsaken);
        let until = until.max(self.timers.deadline(key).unwrap_or_default());
        self.timers.set(key, until);
    }

    /// Gives back the prefixes that nobody can be sent packets for any more, and that no MAG may still have: the next
    /// mobile could be at that.
    pub(super) fn release_retired(&mut self, now: Duration, mobile: &mut Mobile) {
        // As nearly always.
        if mobile.retiring.is_empty() {
            return;
        }
        let mut held = [Timer::Left, Timer::Forsaken].into_iter();
        if held.any(|timer| self.timers.deadline((mobile.id, timer)).is_some()) {
            return;
        }
        for hnp in tables::retired(mobile) {
            mobile.retiring.remove(&hnp);
            self.release_prefix(now, hnp);
        }
    }

    pub(super) fn release_prefix(&mut self, now: Duration, hnp: Hnp) {
        self.cache.set_owner(hnp, None);
        if !self.reserved.contains(&hnp) {
            for pool in &mut self.pools {
                pool.release(now, hnp);
            }
        }
    }
}
