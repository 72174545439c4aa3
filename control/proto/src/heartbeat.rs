//! Whether peers are alive, and whether they lost their sessions: Heartbeat (RFC 5847), the same for
//! an LMA and a MAG.
//!
//! ```text
//!             first answer             more than the allowed answers missing
//!   Unknown ----------------> Up ----------------------------------------> Down
//!      |                      ^ |  answer with another Restart Counter       |
//!      |                      | `--------------> restarted ----------------. |
//!      |                      `--------------------------------------------+-'  answer
//!      `--> Unsupported: Binding Error, no more requests
//! ```
//!
//! Only the answer to a request of ours, heard once and in time, proves anything: copies, late
//! answers and unsolicited heartbeats can be old. The latter are a reason to ask at once.

use std::collections::VecDeque;
use std::net::Ipv6Addr;
use std::time::Duration;

use pmip_wire::{Heartbeat, HeartbeatKind, RestartCounter};
use serde::{Deserialize, Serialize};

use crate::kept::Kept;
use crate::outbox::Outbox;
use crate::random::Random;
use crate::rate::RateLimit;
use crate::timer::Timers;

/// Requests answered per second and peer, and at once: ten times what the shortest interval asks for.
const ANSWERS: (u32, u32) = (100, 100);

/// Least time between a request and one that a hint is the reason for.
const HINT_SPACING: Duration = Duration::from_millis(100);

/// How liveness is watched (RFC 5847 §5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeartbeatConfig {
    /// HEARTBEAT_INTERVAL, at least 100 ms here; `None` asks nobody. Requests are answered all the same.
    pub interval: Option<Duration>,
    /// MISSING_HEARTBEATS_ALLOWED: a peer is down when more answers than these are missing in a row.
    pub missing_allowed: u32,
    /// The Restart Counter of this run, greater than that of the one before (RFC 5847 §3.2).
    pub restart_counter: u32,
}

impl Default for HeartbeatConfig {
    /// Answers, and asks nobody.
    fn default() -> Self {
        Self {
            interval: None,
            missing_allowed: 3,
            restart_counter: 0,
        }
    }
}

/// What is known of a peer's liveness.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Liveness {
    /// It has not been asked, or has not answered yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not answer any more.
    Down,
    /// It does not know Heartbeat, and is not asked (RFC 5847 §3).
    Unsupported,
}

/// A peer's liveness, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeartbeatView {
    /// What is known.
    pub liveness: Liveness,
    /// Its Restart Counter, if it told.
    pub restart_counter: Option<u32>,
    /// Answers missing in a row.
    pub missing: u32,
    /// Counters.
    pub counters: HeartbeatCounters,
}

/// Heartbeats exchanged with one peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct HeartbeatCounters {
    /// Requests sent.
    pub requests: u64,
    /// Answers to them.
    pub answers: u64,
    /// Answers that were missing when the next request was due.
    pub missed: u64,
    /// Answers to no request that waits for one: copies, and late or strange ones.
    pub stray: u64,
    /// Requests of the peer that were answered.
    pub answered: u64,
    /// Requests of the peer beyond the rate at which they are answered.
    pub suppressed: u64,
    /// Unsolicited heartbeats of the peer.
    pub unsolicited: u64,
    /// How often it went down.
    pub downs: u64,
    /// How often it restarted.
    pub restarts: u64,
}

/// What a heartbeat, or the lack of one, means for the sessions with a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// It does not answer any more.
    Down,
    /// It answers again, or is not asked any more, and has lost nothing.
    Up,
    /// It lost the sessions that it had when it was asked at this time.
    Restarted {
        /// When the last request was sent that its former self answered.
        since: Duration,
        /// Its new Restart Counter.
        counter: u32,
    },
}

/// A message without answer that a Binding Error may be about: it does not say which one it means. Who
/// answered a kind of message before knows that kind; otherwise it is about the latest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Suspect {
    /// Whether the peer has never answered one of its kind.
    pub(crate) never_answered: bool,
    /// When it was sent.
    pub(crate) sent: Duration,
}

/// One peer, as it is also written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Peer {
    local: Ipv6Addr,
    /// Whether it was told that we have begun.
    announced: bool,
    liveness: Liveness,
    counter: Option<u32>,
    /// When the latest request was sent that it answered.
    alive: Duration,
    missing: u32,
    next_sequence: u32,
    /// Requests without answer, oldest first: no more than there may be before the peer is down.
    outstanding: VecDeque<(u32, Duration)>,
    limit: RateLimit,
    counters: HeartbeatCounters,
}

/// The heartbeats of one role with all of its peers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Heartbeats {
    config: HeartbeatConfig,
    peers: Kept<Ipv6Addr, Peer>,
    timers: Timers<Ipv6Addr>,
}

impl Heartbeats {
    /// Watches these peers, from an address of our own each.
    pub(crate) fn new(
        config: HeartbeatConfig,
        peers: impl Iterator<Item = (Ipv6Addr, Ipv6Addr)>,
        random: &mut Random,
    ) -> Self {
        let mut heartbeats = Self {
            config,
            peers: Kept::default(),
            timers: Timers::default(),
        };
        for (address, local) in peers {
            heartbeats.watch(address, local, random);
        }
        heartbeats
    }

    /// Watches a peer from an address of our own; `false` if it is watched already.
    pub(crate) fn watch(
        &mut self,
        address: Ipv6Addr,
        local: Ipv6Addr,
        random: &mut Random,
    ) -> bool {
        let new = !self.peers.contains_key(&address);
        if new {
            self.peers.insert(address, Peer::new(local, random));
        }
        new
    }

    /// From now on, changes are noted.
    pub(crate) fn keep(&mut self) {
        self.peers.keep();
    }

    /// The next peer that may have changed; nothing is left of one that is not watched any more.
    pub(crate) fn pop_changed(&mut self) -> Option<(Ipv6Addr, Option<&Peer>)> {
        let address = self.peers.pop_changed()?;
        Some((address, self.peers.get(&address)))
    }

    /// Goes on with a peer where others were: its requests are forgotten, and an answer to one that is late is
    /// no answer. `false` if it is not watched.
    pub(crate) fn go_on(&mut self, address: Ipv6Addr, former: Peer) -> bool {
        let Some(peer) = self.peers.get_mut(&address) else {
            return false;
        };
        *peer = Peer {
            local: peer.local,
            missing: 0,
            outstanding: VecDeque::new(),
            ..former
        };
        true
    }

    /// Watches a peer no longer.
    pub(crate) fn forget(&mut self, address: Ipv6Addr) {
        self.peers.remove(&address);
        self.timers.cancel(address);
    }

    /// Asks in another way from now on; the Restart Counter stays. Returns the peers that were down and are
    /// not asked any more.
    pub(crate) fn reconfigure(&mut self, now: Duration, new: HeartbeatConfig) -> Vec<Ipv6Addr> {
        let restart_counter = self.config.restart_counter;
        self.config = HeartbeatConfig {
            restart_counter,
            ..new
        };
        let watched: Vec<Ipv6Addr> = self.peers.keys().copied().collect();
        let Some(interval) = new.interval else {
            let mut down = Vec::new();
            for address in watched {
                self.timers.cancel(address);
                if let Some(peer) = self.peers.get_mut(&address) {
                    if peer.liveness == Liveness::Down {
                        down.push(address);
                    }
                    peer.rest();
                }
            }
            return down;
        };
        for address in watched {
            // Nobody waits for longer than the new interval.
            if let Some(due) = self.timers.deadline(address) {
                self.timers.set(address, due.min(now + interval));
            }
        }
        Vec::new()
    }

    /// As [`Heartbeats::wake`], from the address of ours that it was watched from.
    pub(crate) fn wake_again(&mut self, now: Duration, address: Ipv6Addr) {
        if let Some(local) = self.peers.get(&address).map(|peer| peer.local) {
            self.wake(now, address, local);
        }
    }

    /// Tells a peer of our Restart Counter, once: we have begun, and had no sessions then (RFC 5847 §3.2).
    pub(crate) fn announce<E>(&mut self, address: Ipv6Addr, outbox: &mut Outbox<E>) {
        let heartbeat = self.stamped(HeartbeatKind::Unsolicited, 0);
        if let Some(peer) = self.peers.get_mut(&address)
            && self.config.interval.is_some()
            && !std::mem::replace(&mut peer.announced, true)
        {
            outbox.send(peer.local, address, heartbeat.into());
        }
    }

    /// Goes on with another Restart Counter, and tells all peers of it.
    pub(crate) fn count_restart<E>(&mut self, counter: u32, outbox: &mut Outbox<E>) {
        self.config.restart_counter = counter;
        let watched: Vec<Ipv6Addr> = self.peers.keys().copied().collect();
        for address in watched {
            if let Some(peer) = self.peers.get_mut(&address) {
                peer.announced = false;
            }
            self.announce(address, outbox);
        }
    }

    /// There is a binding with a peer, in which `local` is our address: requests begin, if they have not.
    pub(crate) fn wake(&mut self, now: Duration, address: Ipv6Addr, local: Ipv6Addr) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        peer.local = local;
        let asks = self.config.interval.is_some() && peer.liveness != Liveness::Unsupported;
        if asks && self.timers.deadline(address).is_none() {
            self.timers.set(address, now);
        }
    }

    /// When [`Heartbeats::pop_due`] has something to do.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// Does what is due for one peer by now; `None` if nothing is left to do. Peers that there is no
    /// binding with are not asked (RFC 5847 §3.1).
    pub(crate) fn pop_due<E>(
        &mut self,
        now: Duration,
        is_bound: impl Fn(Ipv6Addr) -> bool,
        outbox: &mut Outbox<E>,
    ) -> Option<(Ipv6Addr, Option<Verdict>)> {
        let address = self.timers.pop_due(now)?;
        let peer = self.peers.get_mut(&address)?;
        let interval = self.config.interval?;
        if !is_bound(address) {
            peer.rest();
            return Some((address, None));
        }
        let verdict = peer.miss(self.config.missing_allowed);
        self.request(now, address, outbox);
        // Late by whatever the caller was late, and no more: the next is due an interval from now.
        self.timers.set(address, now + interval);
        Some((address, verdict))
    }

    /// Takes in a heartbeat of a peer, and answers it if it is a request.
    pub(crate) fn handle<E>(
        &mut self,
        now: Duration,
        from: Ipv6Addr,
        to: Ipv6Addr,
        heartbeat: &Heartbeat,
        outbox: &mut Outbox<E>,
    ) -> Option<Verdict> {
        let answer = self.stamped(HeartbeatKind::Response, heartbeat.sequence);
        let peer = self.peers.get_mut(&from)?;
        match heartbeat.kind {
            HeartbeatKind::Request => {
                if peer.limit.allow(now) {
                    peer.counters.answered += 1;
                    outbox.send(to, from, answer.into());
                } else {
                    peer.counters.suppressed += 1;
                }
                None
            }
            HeartbeatKind::Response => {
                let counter = heartbeat.restart_counter.map(|counter| counter.0);
                peer.answer(heartbeat.sequence, counter)
            }
            HeartbeatKind::Unsolicited => {
                peer.counters.unsolicited += 1;
                self.hint(now, from, outbox);
                None
            }
        }
    }

    /// Something suggests that a peer is back, or not what it was: it is asked at once.
    pub(crate) fn hint<E>(&mut self, now: Duration, address: Ipv6Addr, outbox: &mut Outbox<E>) {
        // Without a timer there is no binding, or nothing is asked.
        let watched = self.timers.deadline(address).is_some();
        let last = self.peers.get(&address).and_then(|p| p.outstanding.back());
        if watched && last.is_none_or(|(_, sent)| *sent + HINT_SPACING <= now) {
            self.request(now, address, outbox);
        }
    }

    /// The request that a Binding Error of this peer may be about.
    pub(crate) fn suspect(&self, address: Ipv6Addr) -> Option<Suspect> {
        let peer = self.peers.get(&address)?;
        let (_, sent) = peer.outstanding.back()?;
        Some(Suspect {
            never_answered: peer.counters.answers == 0,
            sent: *sent,
        })
    }

    /// A peer does not know Heartbeat: it is never asked again (RFC 5847 §3).
    pub(crate) fn refused(&mut self, address: Ipv6Addr) -> Option<Verdict> {
        self.timers.cancel(address);
        let peer = self.peers.get_mut(&address)?;
        let was = std::mem::replace(&mut peer.liveness, Liveness::Unsupported);
        peer.rest();
        (was == Liveness::Down).then_some(Verdict::Up)
    }

    /// Whether a peer does not answer.
    pub(crate) fn is_down(&self, address: Ipv6Addr) -> bool {
        let peer = self.peers.get(&address);
        peer.is_some_and(|peer| peer.liveness == Liveness::Down)
    }

    /// What is known of a peer.
    pub(crate) fn view(&self, address: Ipv6Addr) -> Option<HeartbeatView> {
        self.peers.get(&address).map(|peer| HeartbeatView {
            liveness: peer.liveness,
            restart_counter: peer.counter,
            missing: peer.missing,
            counters: peer.counters,
        })
    }

    fn request<E>(&mut self, now: Duration, address: Ipv6Addr, outbox: &mut Outbox<E>) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        let sequence = peer.next_sequence;
        peer.next_sequence = sequence.wrapping_add(1);
        let room = usize::try_from(self.config.missing_allowed).unwrap_or(usize::MAX);
        while peer.outstanding.len() > room {
            peer.outstanding.pop_front();
        }
        peer.outstanding.push_back((sequence, now));
        peer.counters.requests += 1;
        let request = Heartbeat {
            kind: HeartbeatKind::Request,
            sequence,
            restart_counter: None,
            others: Vec::new(),
        };
        outbox.send(peer.local, address, request.into());
    }

    fn stamped(&self, kind: HeartbeatKind, sequence: u32) -> Heartbeat {
        Heartbeat {
            kind,
            sequence,
            restart_counter: Some(RestartCounter(self.config.restart_counter)),
            others: Vec::new(),
        }
    }
}

impl Peer {
    fn new(local: Ipv6Addr, random: &mut Random) -> Self {
        let [a, b] = [random.next_u16(), random.next_u16()];
        let (rate, burst) = ANSWERS;
        Self {
            local,
            announced: false,
            liveness: Liveness::Unknown,
            counter: None,
            alive: Duration::ZERO,
            missing: 0,
            next_sequence: u32::from(a) << 16 | u32::from(b),
            outstanding: VecDeque::new(),
            limit: RateLimit::new(rate, burst),
            counters: HeartbeatCounters::default(),
        }
    }

    /// The next request is due. More answers missing than allowed mean that the peer is down (RFC 5847 §3.1).
    fn miss(&mut self, allowed: u32) -> Option<Verdict> {
        if self.outstanding.is_empty() {
            return None;
        }
        self.missing = self.missing.saturating_add(1);
        self.counters.missed += 1;
        match self.liveness {
            Liveness::Unknown | Liveness::Up if self.missing > allowed => {
                self.liveness = Liveness::Down;
                self.counters.downs += 1;
                Some(Verdict::Down)
            }
            Liveness::Unknown | Liveness::Up | Liveness::Down | Liveness::Unsupported => None,
        }
    }

    /// An answer came. Earlier requests are not waited for any more: what their answers say is older.
    fn answer(&mut self, sequence: u32, counter: Option<u32>) -> Option<Verdict> {
        let at = self.outstanding.iter().position(|(s, _)| *s == sequence);
        let Some((_, sent)) = at.and_then(|at| self.outstanding.drain(..=at).next_back()) else {
            self.counters.stray += 1;
            return None;
        };
        self.counters.answers += 1;
        self.missing = 0;
        let since = std::mem::replace(&mut self.alive, sent);
        let was = std::mem::replace(&mut self.liveness, Liveness::Up);
        // A peer that tells no counter cannot tell of a restart either.
        let known = self.counter;
        self.counter = counter.or(known);
        match (known, counter) {
            (Some(known), Some(counter)) if known != counter => {
                self.counters.restarts += 1;
                Some(Verdict::Restarted { since, counter })
            }
            (Some(_) | None, Some(_) | None) => (was == Liveness::Down).then_some(Verdict::Up),
        }
    }

    /// There is nothing to ask about: what was missing is not counted on.
    fn rest(&mut self) {
        self.outstanding.clear();
        self.missing = 0;
        match self.liveness {
            Liveness::Unknown | Liveness::Up | Liveness::Down => self.liveness = Liveness::Unknown,
            Liveness::Unsupported => {}
        }
    }
}

#[cfg(test)]
mod tests;
