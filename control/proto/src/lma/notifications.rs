//! FORCE-REREGISTRATION (RFC 7077 §4.1): a MAG is asked to register a mobile again, because an operator
//! wants it, or because the MAG said that a mobile is not attached which it had registered.
//!
//! Numbers come from where those of FMIs come from, so that no two notifications share one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flow::{AccessTechnology, Bid, Hnp, Lmaa, MnId, MnLinkLayerId, MobileId, ProxyCoa};
use pmip_wire::{HnpOption, NotificationReason, Upa, UpaStatus, Upn};
use serde::{Deserialize, Serialize};

use super::binding_cache::{Bce, BceState, Mobile};
use super::liveness::sessions_at;
use super::peers::Peer;
use super::{Lma, Timer};
use crate::config::Dialect;
use crate::event::{LmaEvent, RequestOutcome};
use crate::heartbeat::Suspect;
use crate::time::Now;
use crate::timer::Timers;

/// MIN_DELAY_BETWEEN_UPDATE_NOTIFICATION_REPLAY (RFC 7077 §7).
const DELAY: Duration = Duration::from_secs(1);
/// MAX_UPDATE_NOTIFICATION_RETRANSMIT_COUNT: the default of RFC 7077 §7 is 1, which is little where
/// messages are lost; it allows up to 5.
const RETRIES: u32 = 3;

/// How long after a PBA an FMI may be the first that the MAG gets to see.
const OVERTAKING: Duration = Duration::from_secs(2);

/// Why a mobile cannot be registered again by its MAG.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReregistrationError {
    /// No such mobile is registered, and no MAG was named that may know it.
    #[error("no mobile {0} is registered here: name the MAG that it may be at")]
    UnknownMobile(MnId),
    /// The mobile has no such binding.
    #[error("{0} has no such binding")]
    NoBinding(MnId),
    /// No such MAG is configured.
    #[error("no MAG {} is configured", .0.0)]
    UnknownPeer(ProxyCoa),
    /// The MAG does not know the message.
    #[error("the MAG {} does not know update notifications", .0.0)]
    NotUnderstood(ProxyCoa),
    /// Too many notifications wait for their acknowledgements.
    #[error("too many notifications are under way: try again in a few seconds")]
    TooMany,
}

/// What was sent to a MAG.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Notification {
    lmaa: Lmaa,
    mn_id: MnId,
    /// The session that is meant; all of the mobile there if `None`.
    session: Option<Named>,
    copies: u32,
    first_sent: Duration,
    sent: Duration,
}

/// What tells a session from others of the mobile at the MAG.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Named {
    mobile: MobileId,
    bid: Bid,
    access: AccessTechnology,
    ll_id: Option<MnLinkLayerId>,
    hnps: Vec<Hnp>,
}

/// Notifications that wait for their acknowledgements.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Notifications {
    outstanding: BTreeMap<(ProxyCoa, u16), Notification>,
    timers: Timers<(ProxyCoa, u16)>,
    /// MAGs that have acknowledged one, and so know the message.
    capable: BTreeSet<ProxyCoa>,
    /// MAGs that do not know the message.
    incapable: BTreeSet<ProxyCoa>,
}

impl Notifications {
    /// When the next UPN was not acknowledged in time.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// The UPN that a Binding Error may be about.
    pub(crate) fn suspect(&self, from: ProxyCoa) -> Option<Suspect> {
        let last = self.of(from).map(|(_, notification)| notification.sent);
        last.max().map(|sent| Suspect {
            never_answered: !self.capable.contains(&from),
            sent,
        })
    }

    fn of(&self, peer: ProxyCoa) -> impl Iterator<Item = ((ProxyCoa, u16), &Notification)> {
        let all = self.outstanding.range((peer, 0)..=(peer, u16::MAX));
        all.map(|(key, notification)| (*key, notification))
    }

    /// Whether a MAG is being asked about a session already.
    fn asks(&self, peer: ProxyCoa, mobile: MobileId, bid: Bid) -> bool {
        let about = |named: &Named| named.mobile == mobile && named.bid == bid;
        self.of(peer)
            .any(|(_, notification)| notification.session.as_ref().is_some_and(about))
    }
}

impl Lma {
    /// Asks the MAGs of a mobile to register it again: for one binding, for those with one MAG, or for all.
    /// A MAG that is named is asked even if no binding is known. Returns how many MAGs are asked;
    /// [`LmaEvent::ReregistrationEnded`] follows for each.
    ///
    /// # Errors
    /// [`ReregistrationError`]; then nobody is asked.
    pub fn reregister(
        &mut self,
        now: Now,
        mn_id: &MnId,
        bid: Option<Bid>,
        at: Option<ProxyCoa>,
    ) -> Result<usize, ReregistrationError> {
        if let Some(at) = at.filter(|at| !self.peers.contains_key(at)) {
            return Err(ReregistrationError::UnknownPeer(at));
        }
        let mobile = self.cache.find(mn_id);
        let sessions = mobile.map(|m| m.sessions.as_slice()).unwrap_or_default();
        let mut asked: Vec<(ProxyCoa, Notification)> = Vec::new();
        for session in sessions {
            let meant = bid.is_none_or(|bid| bid == session.bid)
                && at.is_none_or(|at| at == session.proxy_coa);
            if let Some(mobile) = mobile.filter(|_| meant) {
                let only = bid.map(|_| Named::new(mobile, session));
                let known = asked.iter().any(|(coa, _)| *coa == session.proxy_coa);
                if !known {
                    asked.push((
                        session.proxy_coa,
                        Notification::new(session.lmaa, mn_id, only, now.monotonic),
                    ));
                }
            }
        }
        if let (true, None, Some(at)) = (asked.is_empty(), bid, at) {
            let lmaa = self.config.lmaas.first();
            asked.extend(
                lmaa.map(|lmaa| (at, Notification::new(*lmaa, mn_id, None, now.monotonic))),
            );
        }
        if asked.is_empty() {
            return Err(match mobile {
                Some(_) => ReregistrationError::NoBinding(mn_id.clone()),
                None => ReregistrationError::UnknownMobile(mn_id.clone()),
            });
        }
        if let Some((coa, _)) = asked
            .iter()
            .find(|(coa, _)| self.notifications.incapable.contains(coa))
        {
            return Err(ReregistrationError::NotUnderstood(*coa));
        }
        // Each of these MAGs is asked once, so this is all the room that is needed.
        let has_room =
            |(coa, _): &(ProxyCoa, _)| self.peers.get(coa).is_some_and(Peer::may_reserve);
        if !asked.iter().all(has_room) {
            return Err(ReregistrationError::TooMany);
        }
        let count = asked.len();
        for (coa, notification) in asked {
            self.notify(now.monotonic, coa, notification)
                .ok_or(ReregistrationError::TooMany)?;
        }
        Ok(count)
    }

    /// A MAG answered an FMI with "not attached". If it has just registered the mobile, the FMI overtook the
    /// PBA, and is sent again soon.
    pub(super) fn handle_denial(&mut self, now: Duration, mobile: &Mobile, bid: Bid) {
        let registered = mobile.session(bid).map(|session| session.registered);
        if registered.is_some_and(|at| now < at + OVERTAKING) {
            let key = (mobile.id, Timer::Resync(bid));
            self.timers.set(key, now + OVERTAKING / 4);
        } else {
            self.probe(now, mobile, bid);
        }
    }

    /// A MAG may not have a session that it registered. It is asked to register it again if it is one of
    /// those that can be told to, and otherwise whether it is alive.
    pub(super) fn probe(&mut self, now: Duration, mobile: &Mobile, bid: Bid) {
        let Some(session) = mobile.session(bid) else {
            return;
        };
        let mag = session.proxy_coa;
        let dialect = self.peers.get(&mag).map(|peer| peer.dialect);
        let can = dialect == Some(Dialect::Rfc7864) && !self.notifications.incapable.contains(&mag);
        if can && !self.notifications.asks(mag, mobile.id, bid) {
            let named = Named::new(mobile, session);
            let notification = Notification::new(session.lmaa, &mobile.mn_id, Some(named), now);
            // If too many are under way, the lifetime of the binding decides.
            self.notify(now, mag, notification);
        }
        self.heartbeats.hint(now, mag.0, &mut self.outbox);
    }

    fn notify(&mut self, now: Duration, mag: ProxyCoa, notification: Notification) -> Option<()> {
        let sequence = self.peers.get_mut(&mag)?.reserve()?;
        let key = (mag, sequence);
        self.notifications.outstanding.insert(key, notification);
        self.send_upn(now, key);
        Some(())
    }

    /// Sends a copy of a notification: the first and later ones differ in the D bit only (RFC 7077 §5).
    fn send_upn(&mut self, now: Duration, key: (ProxyCoa, u16)) {
        let (mag, sequence) = key;
        let Some(notification) = self.notifications.outstanding.get_mut(&key) else {
            return;
        };
        let named = notification.session.as_ref();
        let hnps = named.map(|named| named.hnps.as_slice()).unwrap_or_default();
        let upn = Upn {
            sequence,
            reason: NotificationReason::FORCE_REREGISTRATION,
            acknowledge: true,
            retransmission: notification.copies > 0,
            mn_id: Some(notification.mn_id.clone().into()),
            hnps: hnps.iter().copied().map(HnpOption::on_link).collect(),
            access: named.map(|named| named.access),
            ll_id: named.and_then(|named| named.ll_id.clone()),
            ..Upn::default()
        };
        notification.copies += 1;
        notification.sent = now;
        let lmaa = notification.lmaa;
        self.notifications.timers.set(key, now + DELAY);
        self.counters.reregistrations += 1;
        self.outbox.send(lmaa.0, mag.0, upn.into());
    }

    pub(super) fn handle_upa_timeout(&mut self, now: Duration) {
        while let Some(key) = self.notifications.timers.pop_due(now) {
            let copies = self.notifications.outstanding.get(&key).map(|n| n.copies);
            if copies.is_some_and(|copies| copies <= RETRIES) {
                self.send_upn(now, key);
            } else {
                self.end_notification(now, key, RequestOutcome::NoAnswer);
            }
        }
    }

    /// Takes in an acknowledgement of a request to register again; whether it is one.
    pub(super) fn handle_reregistration_upa(
        &mut self,
        now: Duration,
        from: ProxyCoa,
        upa: &Upa,
    ) -> bool {
        let key = (from, upa.sequence);
        let Some(notification) = self.notifications.outstanding.get(&key) else {
            return false;
        };
        let named = upa.mn_id.as_ref().and_then(|mn_id| mn_id.nai());
        if named.is_some_and(|named| *named != notification.mn_id) {
            self.counters.stray_upas += 1;
            return true;
        }
        self.notifications.capable.insert(from);
        self.end_notification(now, key, RequestOutcome::Answered(upa.status.0));
        true
    }

    /// A MAG does not know update notifications: it gets no more (RFC 7077 §5.2).
    pub(super) fn handle_notification_unknown(&mut self, now: Duration, from: ProxyCoa) {
        self.notifications.incapable.insert(from);
        let keys: Vec<_> = self.notifications.of(from).map(|(key, _)| key).collect();
        for key in keys {
            self.end_notification(now, key, RequestOutcome::NotUnderstood);
        }
    }

    fn end_notification(&mut self, now: Duration, key: (ProxyCoa, u16), outcome: RequestOutcome) {
        self.notifications.timers.cancel(key);
        let Some(notification) = self.notifications.outstanding.remove(&key) else {
            return;
        };
        let (mag, sequence) = key;
        if let Some(peer) = self.peers.get_mut(&mag) {
            peer.unreserve(sequence);
        }
        self.outbox.event(LmaEvent::ReregistrationEnded {
            proxy_coa: mag,
            mn_id: notification.mn_id.clone(),
            outcome,
        });
        if outcome == RequestOutcome::Answered(UpaStatus::NOT_ATTACHED.0) {
            self.lose_denied(now, mag, &notification);
        }
    }

    /// The MAG says that the mobile is not attached: what it had registered before we asked is void.
    fn lose_denied(&mut self, now: Duration, mag: ProxyCoa, notification: &Notification) {
        let Some(id) = self.cache.id_of(&notification.mn_id) else {
            return;
        };
        let only = notification.session.as_ref().map(|named| named.bid);
        self.with_mobile(id, |lma, mobile| {
            let denied = sessions_at(mobile, mag)
                .filter(|s| only.is_none_or(|bid| bid == s.bid))
                .filter(|s| s.registered <= notification.first_sent)
                .filter(|s| matches!(s.state, BceState::Active | BceState::Unreachable));
            let bids: Vec<Bid> = denied.map(|s| s.bid).collect();
            for bid in bids {
                lma.lose(now, mobile, bid);
            }
            lma.settle(now, mobile);
        });
    }
}

impl Notification {
    fn new(lmaa: Lmaa, mn_id: &MnId, session: Option<Named>, now: Duration) -> Self {
        Self {
            lmaa,
            mn_id: mn_id.clone(),
            session,
            copies: 0,
            first_sent: now,
            sent: now,
        }
    }
}

impl Named {
    fn new(mobile: &Mobile, session: &Bce) -> Self {
        Self {
            mobile: mobile.id,
            bid: session.bid,
            access: session.access,
            ll_id: session.ll_id.clone(),
            hnps: session.hnps.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
