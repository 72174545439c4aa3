//! The MAGs an LMA serves, and the sequence numbers it shares with each.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use flow::{Bid, MobileId, ProxyCoa};
use serde::{Deserialize, Serialize};

use crate::config::{Dialect, MagPeer};
use crate::heartbeat::{HeartbeatView, Suspect};
use crate::random::Random;
use crate::rate::RateLimit;

/// Most notifications other than FMIs without answer, per MAG.
const MAX_RESERVED: usize = 1024;

/// A MAG as the LMA knows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Peer {
    pub(crate) dialect: Dialect,
    /// Whether it answered an FMI with a Binding Error: it does not know them.
    pub(crate) refuses: bool,
    next_sequence: u16,
    /// FMIs without answer, by sequence number.
    outstanding: BTreeMap<u16, (MobileId, Bid)>,
    /// Numbers of other notifications without answer.
    reserved: BTreeSet<u16>,
    /// When an FMI, or a copy of one, was last sent.
    pub(crate) signalled: Duration,
    /// Mobiles whose FMIs wait for the window, first come first served.
    queue: VecDeque<MobileId>,
    queued: BTreeSet<MobileId>,
    /// Sessions that it registered last.
    pub(crate) sessions: usize,
    /// How often a refusal is told to people: it is counted in any case.
    pub(crate) reports: RateLimit,
    pub(crate) counters: PeerCounters,
}

/// What is written down of a MAG. Which answers are waited for is known of each mobile.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PeerImage {
    dialect: Dialect,
    refuses: bool,
    next_sequence: u16,
    signalled: Duration,
    counters: PeerCounters,
}

/// Refusals per second and MAG that are told to people, and at once.
const REPORTS: (u32, u32) = (1, 10);

/// What was said to and heard from one MAG.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PeerCounters {
    /// PBUs that could be read, duplicates included.
    pub pbus: u64,
    /// PBAs that accept.
    pub accepted: u64,
    /// PBAs that refuse.
    pub refused: u64,
    /// FMIs sent, copies not counted.
    pub fmis: u64,
    /// Further copies of FMIs.
    pub fmi_copies: u64,
    /// FMAs that answer an outstanding FMI.
    pub fmas: u64,
    /// FMAs that answer none: late ones, mostly.
    pub stray_fmas: u64,
    /// FMIs that were never answered.
    pub unanswered: u64,
}

/// A MAG, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerView {
    /// The MAG.
    pub proxy_coa: ProxyCoa,
    /// How it signals.
    pub dialect: Dialect,
    /// Whether it said that it does not know FMIs.
    pub refuses_signalling: bool,
    /// FMIs without answer at the moment.
    pub outstanding: usize,
    /// Sessions that it registered last.
    pub sessions: usize,
    /// Whether it is alive.
    pub heartbeat: Option<HeartbeatView>,
    /// Counters.
    pub counters: PeerCounters,
}

impl Peer {
    pub(crate) fn new(config: &MagPeer, random: &mut Random) -> Self {
        Self {
            dialect: config.dialect,
            refuses: false,
            next_sequence: random.next_u16(),
            outstanding: BTreeMap::new(),
            reserved: BTreeSet::new(),
            signalled: Duration::ZERO,
            queue: VecDeque::new(),
            queued: BTreeSet::new(),
            sessions: 0,
            reports: RateLimit::new(REPORTS.0, REPORTS.1),
            counters: PeerCounters::default(),
        }
    }

    /// What another has to know of it.
    pub(crate) fn image(&self) -> PeerImage {
        PeerImage {
            dialect: self.dialect,
            refuses: self.refuses,
            next_sequence: self.next_sequence,
            signalled: self.signalled,
            counters: self.counters,
        }
    }

    /// Goes on where another was, with the same dialect. Sessions and answers that are waited for are entered one by one;
    /// other notifications are not waited for any more.
    pub(crate) fn go_on(&mut self, former: &PeerImage) {
        if former.dialect == self.dialect {
            self.refuses = former.refuses;
            self.signalled = former.signalled;
        }
        self.next_sequence = former.next_sequence;
        self.counters = former.counters;
    }

    /// The FMI of this number was sent and has no answer.
    pub(crate) fn go_on_waiting(&mut self, sequence: u16, owner: (MobileId, Bid)) {
        self.outstanding.insert(sequence, owner);
    }

    /// Whether answers are outstanding.
    pub(crate) fn is_owing(&self) -> bool {
        !self.outstanding.is_empty() || !self.reserved.is_empty()
    }

    pub(crate) fn view(&self, proxy_coa: ProxyCoa, heartbeat: Option<HeartbeatView>) -> PeerView {
        PeerView {
            proxy_coa,
            dialect: self.dialect,
            refuses_signalling: self.refuses,
            outstanding: self.outstanding.len(),
            sessions: self.sessions,
            heartbeat,
            counters: self.counters,
        }
    }

    /// A sequence number for an FMI of this session, if the window has room.
    ///
    /// Numbers grow by one; the window is no more than half of them, so none meets one outstanding,
    /// unless that one waits while tens of thousands pass. It is stepped over.
    pub(crate) fn begin(&mut self, owner: (MobileId, Bid), window: usize) -> Option<u16> {
        if self.outstanding.len() >= window.clamp(1, 0x8000) {
            if self.queued.insert(owner.0) {
                self.queue.push_back(owner.0);
            }
            return None;
        }
        let sequence = self.step();
        self.outstanding.insert(sequence, owner);
        Some(sequence)
    }

    /// Whether there are not too many notifications without answer for one more.
    pub(crate) fn may_reserve(&self) -> bool {
        self.reserved.len() < MAX_RESERVED
    }

    /// A sequence number for a notification other than an FMI (RFC 7077 §5), if there is room for it.
    pub(crate) fn reserve(&mut self) -> Option<u16> {
        if !self.may_reserve() {
            return None;
        }
        let sequence = self.step();
        self.reserved.insert(sequence);
        Some(sequence)
    }

    /// Frees such a number.
    pub(crate) fn unreserve(&mut self, sequence: u16) {
        self.reserved.remove(&sequence);
    }

    fn step(&mut self) -> u16 {
        let taken = |n| self.outstanding.contains_key(&n) || self.reserved.contains(&n);
        let mut sequence = self.next_sequence;
        while taken(sequence) {
            sequence = sequence.wrapping_add(1);
        }
        self.next_sequence = sequence.wrapping_add(1);
        sequence
    }

    /// Takes a mobile that waits for room in the window.
    pub(crate) fn pop_waiting(&mut self, window: usize) -> Option<MobileId> {
        if self.outstanding.len() >= window.clamp(1, 0x8000) {
            return None;
        }
        let id = self.queue.pop_front()?;
        self.queued.remove(&id);
        Some(id)
    }

    /// Whose FMI has this number.
    pub(crate) fn owner(&self, sequence: u16) -> Option<(MobileId, Bid)> {
        self.outstanding.get(&sequence).copied()
    }

    /// Frees a number.
    pub(crate) fn end(&mut self, sequence: u16) {
        self.outstanding.remove(&sequence);
    }

    /// Continues a quarter of the number space ahead: the MAG remembers numbers of an earlier life
    /// of this LMA. Three such jumps reach the half of the space that counts as newer.
    pub(crate) fn jump(&mut self) {
        self.next_sequence = self.next_sequence.wrapping_add(0x4000);
    }

    /// All sessions with an FMI outstanding.
    pub(crate) fn owners(&self) -> Vec<(MobileId, Bid)> {
        self.outstanding.values().copied().collect()
    }

    /// The FMI that a Binding Error may be about.
    pub(crate) fn suspect(&self) -> Option<Suspect> {
        let suspect = Suspect {
            never_answered: self.counters.fmas == 0,
            sent: self.signalled,
        };
        (!self.outstanding.is_empty()).then_some(suspect)
    }
}
