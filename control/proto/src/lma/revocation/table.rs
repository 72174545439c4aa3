//! Revocations that wait for their acknowledgements.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flow::{Bid, Hnp, Lmaa, MnId, MobileId, ProxyCoa};
use pmip_wire::RevocationTrigger;
use serde::{Deserialize, Serialize};

use crate::heartbeat::Suspect;
use crate::timer::Timers;

/// Most BRIs without answer: half of the number space.
pub(super) const MAX_OUTSTANDING: usize = 0x8000;

/// What was sent to a MAG.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Revocation {
    pub(super) lmaa: Lmaa,
    pub(super) trigger: RevocationTrigger,
    /// Whose bindings: the mobile, their prefixes, and which they are here. All with the MAG if `None`.
    pub(super) mobile: Option<(MobileId, MnId, Vec<Hnp>, Vec<Bid>)>,
    pub(super) copies: u32,
    /// How long the next acknowledgement is waited for.
    pub(super) wait: Duration,
    pub(super) sent: Duration,
}

/// Revocations that wait for their acknowledgements.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::lma) struct Revocations {
    next_sequence: u16,
    pub(super) outstanding: BTreeMap<(ProxyCoa, u16), Revocation>,
    /// Those that are about all bindings with a MAG.
    global: BTreeSet<(ProxyCoa, u16)>,
    pub(super) timers: Timers<(ProxyCoa, u16)>,
    /// MAGs that have acknowledged one, and so know the message.
    pub(super) capable: BTreeSet<ProxyCoa>,
    /// MAGs that do not know the message.
    pub(super) incapable: BTreeSet<ProxyCoa>,
    former: Former,
}

/// What a former self may have sent: it is on its way for as long as an acknowledgement would be waited for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Former {
    until: Duration,
    /// MAGs that may be about to hear that all their bindings are revoked.
    global: BTreeSet<ProxyCoa>,
}

impl Revocations {
    pub(in crate::lma) fn new(first_sequence: u16) -> Self {
        Self {
            next_sequence: first_sequence,
            outstanding: BTreeMap::new(),
            global: BTreeSet::new(),
            timers: Timers::default(),
            capable: BTreeSet::new(),
            incapable: BTreeSet::new(),
            former: Former::default(),
        }
    }

    /// Goes on where a former self was: until then, what it sent may arrive.
    pub(in crate::lma) fn go_on(&mut self, until: Duration, global: BTreeSet<ProxyCoa>) {
        self.former = Former { until, global };
    }

    /// Whether a BRI that nobody here knows of may be under way.
    pub(in crate::lma) fn may_be_under_way(&self, now: Duration) -> bool {
        now < self.former.until
    }

    /// When the next BRI was not acknowledged in time.
    pub(in crate::lma) fn next(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// The BRI that a Binding Error may be about.
    pub(in crate::lma) fn suspect(&self, from: ProxyCoa) -> Option<Suspect> {
        let last = self.of(from).map(|(_, revocation)| revocation.sent).max();
        last.map(|sent| Suspect {
            never_answered: !self.capable.contains(&from),
            sent,
        })
    }

    /// Whether all bindings with a MAG are being revoked: it cannot tell those that begin meanwhile from them.
    pub(in crate::lma) fn is_global(&self, now: Duration, peer: ProxyCoa) -> bool {
        let mut all = self.global.range((peer, 0)..=(peer, u16::MAX));
        all.next().is_some() || (self.may_be_under_way(now) && self.former.global.contains(&peer))
    }

    /// Whether bindings of a mobile with a MAG are being revoked.
    pub(in crate::lma) fn names(&self, peer: ProxyCoa, name: &MnId) -> bool {
        let named = |r: &Revocation| {
            r.mobile
                .as_ref()
                .is_some_and(|(_, mn_id, ..)| mn_id == name)
        };
        self.of(peer).any(|(_, revocation)| named(revocation))
    }

    pub(super) fn of(
        &self,
        peer: ProxyCoa,
    ) -> impl Iterator<Item = ((ProxyCoa, u16), &Revocation)> {
        let all = self.outstanding.range((peer, 0)..=(peer, u16::MAX));
        all.map(|(key, revocation)| (*key, revocation))
    }

    pub(super) fn begin(
        &mut self,
        peer: ProxyCoa,
        revocation: Revocation,
    ) -> Option<(ProxyCoa, u16)> {
        if self.outstanding.len() >= MAX_OUTSTANDING {
            return None;
        }
        while self.outstanding.contains_key(&(peer, self.next_sequence)) {
            self.next_sequence = self.next_sequence.wrapping_add(1);
        }
        let key = (peer, self.next_sequence);
        self.next_sequence = self.next_sequence.wrapping_add(1);
        if revocation.mobile.is_none() {
            self.global.insert(key);
        }
        self.outstanding.insert(key, revocation);
        Some(key)
    }

    pub(super) fn end(&mut self, key: (ProxyCoa, u16)) -> Option<Revocation> {
        self.timers.cancel(key);
        self.global.remove(&key);
        self.outstanding.remove(&key)
    }
}
