//! Binding Revocation (RFC 5846 §8): the LMA ends bindings, and the MAG is told.
//!
//! A binding that is being revoked is not used, and PBUs cannot revive it. It is deleted when the MAG
//! has acknowledged, or has not done so in time: the LMA decides, whatever the MAG says, with one
//! exception. A MAG to which a handoff is given as the reason may know better where the mobile is.

use std::collections::BTreeSet;
use std::time::Duration;

use flow::{Bid, Hnp, Lmaa, MnId, MobileId, ProxyCoa};
use pmip_wire::{Bra, Bri, HnpOption, RevocationFlags, RevocationStatus, RevocationTrigger};

use super::Lma;
use super::binding_cache::{Bce, BceState, Mobile};
use super::liveness::sessions_at;
use crate::event::{DeletionReason, LmaEvent, RequestOutcome};
use crate::time::Now;

mod table;

pub(super) use table::Revocations;

use serde::{Deserialize, Serialize};
use table::{MAX_OUTSTANDING, Revocation};

/// InitMINDelayBRIs (RFC 5846 §11).
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// MAX_BRACK_TIMEOUT (RFC 5846 §11).
const MAX_DELAY: Duration = Duration::from_secs(2);
/// BRIMaxRetriesNumber (RFC 5846 §11).
const RETRIES: u32 = 1;

/// How long an acknowledgement is waited for, with all copies.
pub(super) const PATIENCE: Duration = FIRST_DELAY.saturating_add(MAX_DELAY);

/// Number of no mobile: nothing is left here of what is revoked.
const NOBODY: MobileId = MobileId(u32::MAX);

/// Which bindings to revoke.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RevocationScope {
    /// All bindings of a mobile.
    Mobile(MnId),
    /// One binding of a mobile, and with it those at the same MAG that have a prefix of it: a BRI cannot
    /// tell them apart.
    Session(MnId, Bid),
    /// All bindings of a mobile with one MAG.
    MobileAt(MnId, ProxyCoa),
    /// All bindings with a MAG.
    Peer(ProxyCoa),
}

/// Why nothing can be revoked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RevocationError {
    /// No such mobile is registered.
    #[error("no mobile {0} is registered here")]
    UnknownMobile(MnId),
    /// No such MAG is configured.
    #[error("no MAG {} is configured", .0.0)]
    UnknownPeer(ProxyCoa),
    /// There is no such binding, or it is being ended already.
    #[error("there is no such binding to revoke")]
    NoBinding,
    /// Too many revocations wait for their acknowledgements.
    #[error("too many revocations are under way: try again in a few seconds")]
    TooMany,
}

impl Lma {
    /// Revokes bindings, and returns how many. They are out of use at once;
    /// [`LmaEvent::BindingDeleted`] and [`LmaEvent::RevocationEnded`] follow.
    ///
    /// # Errors
    /// [`RevocationError`]; then nothing has changed.
    pub fn revoke(&mut self, now: Now, scope: &RevocationScope) -> Result<usize, RevocationError> {
        let now = now.monotonic;
        let trigger = RevocationTrigger::ADMINISTRATIVE;
        match scope {
            RevocationScope::Peer(proxy_coa) => self.revoke_peer(now, *proxy_coa),
            RevocationScope::Mobile(mn_id) => {
                let (id, bids) = self.revocable(mn_id, |_, _| true)?;
                self.revoke_sessions(now, id, &bids, trigger)
            }
            RevocationScope::MobileAt(mn_id, proxy_coa) => {
                let here = |mobile: &Mobile, bid| {
                    mobile.session(bid).map(|s| s.proxy_coa) == Some(*proxy_coa)
                };
                let (id, bids) = self.revocable(mn_id, here)?;
                self.revoke_sessions(now, id, &bids, trigger)
            }
            RevocationScope::Session(mn_id, bid) => {
                let meant = |mobile: &Mobile, other| {
                    let (Some(meant), Some(other)) = (mobile.session(*bid), mobile.session(other))
                    else {
                        return false;
                    };
                    let shares = meant.hnps.iter().any(|hnp| other.owns(*hnp));
                    meant.bid == other.bid || (meant.proxy_coa == other.proxy_coa && shares)
                };
                let (id, bids) = self.revocable(mn_id, meant)?;
                self.revoke_sessions(now, id, &bids, trigger)
            }
        }
    }

    /// The bindings of a mobile that can be revoked, and are meant.
    fn revocable(
        &self,
        mn_id: &MnId,
        meant: impl Fn(&Mobile, Bid) -> bool,
    ) -> Result<(MobileId, Vec<Bid>), RevocationError> {
        let mobile = self.cache.find(mn_id);
        let mobile = mobile.ok_or_else(|| RevocationError::UnknownMobile(mn_id.clone()))?;
        let lives = mobile.sessions.iter().filter(|s| can_end(s.state));
        let bids: Vec<Bid> = lives
            .map(|s| s.bid)
            .filter(|bid| meant(mobile, *bid))
            .collect();
        if bids.is_empty() {
            return Err(RevocationError::NoBinding);
        }
        Ok((mobile.id, bids))
    }

    /// Revokes sessions of one mobile, with one BRI to each of their MAGs.
    fn revoke_sessions(
        &mut self,
        now: Duration,
        id: MobileId,
        bids: &[Bid],
        trigger: RevocationTrigger,
    ) -> Result<usize, RevocationError> {
        let mut result = Err(RevocationError::TooMany);
        if self.revocations.outstanding.len() + bids.len() <= MAX_OUTSTANDING {
            self.with_mobile(id, |lma, mobile| {
                lma.mark_revoking(now, mobile, bids);
                let sessions = bids.iter().filter_map(|bid| mobile.session(*bid));
                let mags: BTreeSet<ProxyCoa> = sessions.map(|s| s.proxy_coa).collect();
                for mag in mags {
                    lma.indicate(now, mobile, mag, bids, trigger);
                }
                result = Ok(bids.len());
            });
        }
        result
    }

    /// Tells one MAG which of a mobile's sessions there are revoked.
    fn indicate(
        &mut self,
        now: Duration,
        mobile: &mut Mobile,
        mag: ProxyCoa,
        bids: &[Bid],
        trigger: RevocationTrigger,
    ) {
        let there = sessions_at(mobile, mag).map(|s| s.bid);
        let meant: Vec<Bid> = there.filter(|bid| bids.contains(bid)).collect();
        let sessions: Vec<&Bce> = meant.iter().filter_map(|b| mobile.session(*b)).collect();
        let Some(lmaa) = sessions.first().map(|s| s.lmaa) else {
            return;
        };
        // Named even where all sessions there are meant: a copy that is late must not end one that began
        // since, with other prefixes.
        let hnps: BTreeSet<Hnp> = sessions.iter().flat_map(|s| s.hnps.clone()).collect();
        let revocation = Revocation {
            lmaa,
            trigger,
            mobile: Some((
                mobile.id,
                mobile.mn_id.clone(),
                hnps.into_iter().collect(),
                meant.clone(),
            )),
            copies: 0,
            wait: FIRST_DELAY,
            sent: now,
        };
        if self.revocations.incapable.contains(&mag) {
            let outcome = RequestOutcome::NotUnderstood;
            self.delete_revoked(now, mobile, mag, &meant, outcome);
        } else if let Some(key) = self.revocations.begin(mag, revocation) {
            self.send_bri(now, key);
        } else {
            self.delete_revoked(now, mobile, mag, &meant, RequestOutcome::NoAnswer);
        }
    }

    fn revoke_peer(&mut self, now: Duration, mag: ProxyCoa) -> Result<usize, RevocationError> {
        if !self.peers.contains_key(&mag) {
            return Err(RevocationError::UnknownPeer(mag));
        }
        let mut revoked = 0;
        let mut lmaas = BTreeSet::new();
        for id in self.mobiles_at(mag) {
            self.with_mobile(id, |lma, mobile| {
                let there = sessions_at(mobile, mag).filter(|s| can_end(s.state));
                let bids: Vec<Bid> = there.map(|s| s.bid).collect();
                lmaas.extend(sessions_at(mobile, mag).map(|s| s.lmaa));
                revoked += bids.len();
                lma.mark_revoking(now, mobile, &bids);
            });
        }
        if revoked == 0 {
            return Err(RevocationError::NoBinding);
        }
        for lmaa in lmaas {
            let revocation = Revocation {
                lmaa,
                trigger: RevocationTrigger::PER_PEER,
                mobile: None,
                copies: 0,
                wait: FIRST_DELAY,
                sent: now,
            };
            let incapable = self.revocations.incapable.contains(&mag);
            let key = (!incapable).then(|| self.revocations.begin(mag, revocation));
            match key {
                Some(Some(key)) => self.send_bri(now, key),
                Some(None) => {
                    self.delete_all_revoked(now, mag, Some(lmaa), RequestOutcome::NoAnswer);
                }
                None => {
                    self.delete_all_revoked(now, mag, Some(lmaa), RequestOutcome::NotUnderstood);
                }
            }
        }
        Ok(revoked)
    }

    /// Takes sessions out of use.
    fn mark_revoking(&mut self, now: Duration, mobile: &mut Mobile, bids: &[Bid]) {
        for bid in bids {
            self.forget_signalling(now, mobile, *bid);
            self.timers.cancel((mobile.id, super::Timer::Delete(*bid)));
            if let Some(session) = mobile.session_mut(*bid) {
                session.state = BceState::Revoking;
            }
        }
        self.settle(now, mobile);
    }

    /// Sends a copy of a BRI (RFC 5846 §6.3).
    fn send_bri(&mut self, now: Duration, key: (ProxyCoa, u16)) {
        let (mag, sequence) = key;
        let Some(revocation) = self.revocations.outstanding.get_mut(&key) else {
            return;
        };
        let mut bri = Bri {
            trigger: revocation.trigger,
            sequence,
            flags: RevocationFlags::PROXY,
            ..Bri::default()
        };
        match &revocation.mobile {
            Some((_, mn_id, hnps, _)) => {
                bri.mn_id = Some(mn_id.clone().into());
                bri.hnps = hnps.iter().copied().map(HnpOption::on_link).collect();
            }
            None => bri.flags = RevocationFlags(bri.flags.0 | RevocationFlags::GLOBAL.0),
        }
        revocation.copies += 1;
        revocation.sent = now;
        let deadline = now + revocation.wait;
        revocation.wait = (revocation.wait * 2).min(MAX_DELAY);
        let lmaa = revocation.lmaa;
        self.revocations.timers.set(key, deadline);
        self.counters.bris += 1;
        self.outbox.send(lmaa.0, mag.0, bri.into());
    }

    pub(super) fn handle_bra_timeout(&mut self, now: Duration) {
        while let Some(key) = self.revocations.timers.pop_due(now) {
            let copies = self.revocations.outstanding.get(&key).map(|r| r.copies);
            if copies.is_some_and(|copies| copies <= RETRIES) {
                self.send_bri(now, key);
            } else {
                self.end_revocation(now, key, RequestOutcome::NoAnswer);
            }
        }
    }

    pub(super) fn handle_bra(&mut self, now: Duration, from: ProxyCoa, bra: &Bra) {
        if !self.peers.contains_key(&from) {
            self.counters.unknown_peer += 1;
            return;
        }
        let key = (from, bra.sequence);
        let named = bra.mn_id.as_ref().and_then(|mn_id| mn_id.nai());
        let meant = |revocation: &Revocation| match (&revocation.mobile, named) {
            (Some((_, mn_id, ..)), Some(named)) => mn_id == named,
            (None, Some(_)) => false,
            (Some(_) | None, None) => true,
        };
        if !self.revocations.outstanding.get(&key).is_some_and(meant) {
            self.counters.stray_bras += 1;
            return;
        }
        self.revocations.capable.insert(from);
        self.end_revocation(now, key, RequestOutcome::Answered(bra.status.0));
    }

    /// A MAG does not know revocation: it is not told any more, and its bindings end all the same.
    pub(super) fn handle_revocation_unknown(&mut self, now: Duration, from: ProxyCoa) {
        self.revocations.incapable.insert(from);
        let keys: Vec<_> = self.revocations.of(from).map(|(key, _)| key).collect();
        for key in keys {
            self.end_revocation(now, key, RequestOutcome::NotUnderstood);
        }
    }

    fn end_revocation(&mut self, now: Duration, key: (ProxyCoa, u16), outcome: RequestOutcome) {
        let Some(revocation) = self.revocations.end(key) else {
            return;
        };
        let (mag, _) = key;
        let status = match outcome {
            RequestOutcome::Answered(status) => Some(RevocationStatus(status)),
            RequestOutcome::NoAnswer | RequestOutcome::NotUnderstood => None,
        };
        self.outbox.event(LmaEvent::RevocationEnded {
            proxy_coa: mag,
            mn_id: revocation
                .mobile
                .as_ref()
                .map(|(_, mn_id, ..)| mn_id.clone()),
            outcome,
        });
        match (&revocation.mobile, status) {
            (Some((id, _, _, bids)), Some(RevocationStatus::STILL_ATTACHED)) => {
                self.with_mobile(*id, |lma, mobile| lma.reinstate(now, mobile, mag, bids));
            }
            (Some((NOBODY, mn_id, ..)), Some(_)) => self.lay_ghost(now, mag, mn_id),
            (Some((id, _, _, bids)), Some(_) | None) => {
                self.with_mobile(*id, |lma, mobile| {
                    lma.delete_revoked(now, mobile, mag, bids, outcome);
                });
            }
            // The MAG wants to hear it of each mobile.
            (
                None,
                Some(
                    RevocationStatus::GLOBAL_NOT_AUTHORIZED | RevocationStatus::IDENTITIES_REQUIRED,
                ),
            ) => self.revoke_one_by_one(now, mag, revocation.lmaa),
            (None, Some(_) | None) => {
                self.delete_all_revoked(now, mag, Some(revocation.lmaa), outcome);
            }
        }
    }

    /// Tells a MAG once more of bindings that are gone.
    pub(super) fn revoke_again(
        &mut self,
        now: Duration,
        mag: ProxyCoa,
        mn_id: &MnId,
        lmaa: Lmaa,
        hnps: Vec<Hnp>,
    ) {
        let revocation = Revocation {
            lmaa,
            trigger: RevocationTrigger::ADMINISTRATIVE,
            mobile: Some((NOBODY, mn_id.clone(), hnps, Vec::new())),
            copies: 0,
            wait: FIRST_DELAY,
            sent: now,
        };
        if let Some(key) = self.revocations.begin(mag, revocation) {
            self.send_bri(now, key);
        }
    }

    /// The MAG knows that the mobile is there (RFC 5846 §9.1): its bindings go on.
    fn reinstate(&mut self, now: Duration, mobile: &mut Mobile, mag: ProxyCoa, bids: &[Bid]) {
        let state = self.state_at(now, mag);
        for bid in bids {
            if let Some(session) = mobile.session_mut(*bid)
                && session.state == BceState::Revoking
            {
                session.state = state;
            }
        }
        self.settle(now, mobile);
    }

    fn revoke_one_by_one(&mut self, now: Duration, mag: ProxyCoa, lmaa: Lmaa) {
        for id in self.mobiles_at(mag) {
            self.with_mobile(id, |lma, mobile| {
                let bids = revoking(mobile, mag, Some(lmaa));
                let trigger = RevocationTrigger::ADMINISTRATIVE;
                lma.indicate(now, mobile, mag, &bids, trigger);
            });
        }
    }

    fn delete_all_revoked(
        &mut self,
        now: Duration,
        mag: ProxyCoa,
        lmaa: Option<Lmaa>,
        outcome: RequestOutcome,
    ) {
        for id in self.mobiles_at(mag) {
            self.with_mobile(id, |lma, mobile| {
                let bids = revoking(mobile, mag, lmaa);
                lma.delete_revoked(now, mobile, mag, &bids, outcome);
            });
        }
    }

    /// Deletes the sessions that are still being revoked.
    pub(super) fn delete_revoked(
        &mut self,
        now: Duration,
        mobile: &mut Mobile,
        mag: ProxyCoa,
        bids: &[Bid],
        outcome: RequestOutcome,
    ) {
        let mut revoked = revoking(mobile, mag, None);
        revoked.retain(|bid| bids.contains(bid));
        self.note_ghost(now, mobile, mag, &revoked, outcome);
        for bid in revoked {
            if let Some(session) = mobile.session(bid)
                && !matches!(outcome, RequestOutcome::Answered(_))
            {
                self.forsake(mobile.id, session.expires);
            }
            self.delete_session(now, mobile, bid, DeletionReason::Revoked);
        }
    }
}

/// Whether a session can be revoked.
fn can_end(state: BceState) -> bool {
    match state {
        BceState::Active | BceState::Unreachable | BceState::Lost => true,
        BceState::Deregistering | BceState::Revoking => false,
    }
}

/// A mobile's sessions at a MAG that are being revoked, by one of our addresses or any.
fn revoking(mobile: &Mobile, mag: ProxyCoa, lmaa: Option<Lmaa>) -> Vec<Bid> {
    let here = sessions_at(mobile, mag)
        .filter(|s| s.state == BceState::Revoking)
        .filter(|s| lmaa.is_none_or(|lmaa| lmaa == s.lmaa));
    here.map(|s| s.bid).collect()
}

#[cfg(test)]
mod tests;
