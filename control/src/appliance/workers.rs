//! The control thread's end of all workers' rings.
//!
//! Every worker gets every update, in order. A full ring is waited for: what does not fit stays in a
//! list here, so nothing is lost and nothing overtakes. A [`Mark`] tells when everything issued before it
//! is in force, which is how a reply is held back until the tables it speaks of are.

use std::collections::VecDeque;

use dataplane::ring::ControlRings;
use flow::{Punt, Report, Seen, Update};

/// Updates that may wait for a worker. While there are more, what would make yet others is left where it is: in the rings, which
/// are bounded.
const MAX_BACKLOG: usize = 65_536;

/// A point in the stream of updates of every worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark(Vec<u64>);

#[derive(Debug)]
struct End {
    rings: ControlRings,
    /// Issued but not in the ring yet.
    waiting: VecDeque<Update>,
    /// Updates issued so far, waiting ones included.
    issued: u64,
}

impl End {
    fn issue(&mut self, update: Update) {
        self.issued += 1;
        if self.waiting.is_empty() {
            if let Err(update) = self.rings.push(update) {
                self.waiting.push_back(update);
            }
        } else {
            self.waiting.push_back(update);
        }
    }

    fn flush(&mut self) {
        while let Some(update) = self.waiting.pop_front() {
            if let Err(update) = self.rings.push(update) {
                self.waiting.push_front(update);
                return;
            }
        }
    }
}

/// All workers, from the control thread's side.
#[derive(Debug)]
pub(crate) struct WorkerSet {
    ends: Vec<End>,
    /// Whose punts are taken next, so that a busy worker does not starve the others.
    turn: usize,
    /// Whose captured frames are taken next, likewise.
    seen_turn: usize,
}

impl WorkerSet {
    /// Takes the control ends of the rings, in the order of the workers.
    pub(crate) fn new(rings: Vec<ControlRings>) -> Self {
        let end = |rings| End {
            rings,
            waiting: VecDeque::new(),
            issued: 0,
        };
        Self {
            ends: rings.into_iter().map(end).collect(),
            turn: 0,
            seen_turn: 0,
        }
    }

    /// Number of workers.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Tells every worker.
    pub(crate) fn broadcast(&mut self, update: &Update) {
        for end in &mut self.ends {
            end.issue(update.clone());
        }
    }

    /// Has a packet of the control plane sent, by the first worker.
    pub(crate) fn transmit(&mut self, update: Update) {
        if let Some(first) = self.ends.first_mut() {
            first.issue(update);
        }
    }

    /// The point in every worker's stream after all that was issued so far.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.ends.iter().map(|end| end.issued).collect())
    }

    /// Whether everything before `mark` is in force at every worker.
    pub(crate) fn reached(&self, mark: &Mark) -> bool {
        self.ends
            .iter()
            .zip(&mark.0)
            .all(|(end, issued)| end.rings.applied() >= *issued)
    }

    /// As [`Self::reached`], leaving out the worker that transmits: what it is given next
    /// comes after the mark anyway.
    pub(crate) fn reached_by_others(&self, mark: &Mark) -> bool {
        self.ends
            .iter()
            .zip(&mark.0)
            .skip(1)
            .all(|(end, issued)| end.rings.applied() >= *issued)
    }

    /// Moves what was waiting into rings that have room again.
    pub(crate) fn flush(&mut self) {
        for end in &mut self.ends {
            end.flush();
        }
    }

    /// Whether a worker has so much to catch up with that nothing more should be begun.
    pub(crate) fn is_behind(&self) -> bool {
        self.backlog() > MAX_BACKLOG
    }

    /// Most updates that wait for room in one ring.
    fn backlog(&self) -> usize {
        let waiting = self.ends.iter().map(|end| end.waiting.len());
        waiting.max().unwrap_or(0)
    }

    /// Whether updates wait for room in a ring.
    pub(crate) fn is_waiting(&self) -> bool {
        self.ends.iter().any(|end| !end.waiting.is_empty())
    }

    /// The next packet or question from a worker; none while one is behind.
    pub(crate) fn pop_punt(&mut self) -> Option<Punt> {
        if self.is_behind() {
            return None;
        }
        for _ in 0..self.ends.len() {
            self.turn = (self.turn + 1) % self.ends.len();
            if let Some(punt) = self
                .ends
                .get_mut(self.turn)
                .and_then(|end| end.rings.pop_punt())
            {
                return Some(punt);
            }
        }
        None
    }

    /// Whether punts fill half of a worker's ring.
    pub(crate) fn is_crowded(&self) -> bool {
        self.ends.iter().any(|end| end.rings.is_crowded())
    }

    /// The next captured frame from a worker; its octets replace what is in `frame`.
    pub(crate) fn pop_seen(&mut self, frame: &mut Vec<u8>) -> Option<Seen> {
        for _ in 0..self.ends.len() {
            self.seen_turn = (self.seen_turn + 1) % self.ends.len();
            let end = self.ends.get_mut(self.seen_turn);
            if let Some(seen) = end.and_then(|end| end.rings.pop_seen(frame)) {
                return Some(seen);
            }
        }
        None
    }

    /// The next answer from a worker.
    pub(crate) fn pop_report(&mut self) -> Option<Report> {
        self.ends.iter_mut().find_map(|end| end.rings.pop_report())
    }
}

#[cfg(test)]
mod tests {
    use dataplane::ring::{RingSizes, rings};
    use flow::{PortId, Punt};

    use super::*;

    /// Rings with four places for updates, and four for punts.
    fn small() -> RingSizes {
        RingSizes {
            updates: 4,
            punts: 4,
            ..RingSizes::default()
        }
    }

    fn punt() -> Punt {
        Punt::Resolve {
            port: PortId(0),
            next_hop: std::net::Ipv6Addr::LOCALHOST,
        }
    }

    #[test]
    fn nothing_is_begun_while_a_worker_is_behind() {
        let ends = [(); 2].map(|()| rings(small()));
        let [(mut first, one), (mut second, other)] = ends;
        let mut workers = WorkerSet::new(vec![one, other]);
        for _ in 0..4 {
            assert!(first.push_punt(punt(), 0).is_ok());
            assert!(second.push_punt(punt(), 0).is_ok());
        }
        for _ in 0..4 + MAX_BACKLOG {
            workers.broadcast(&Update::Stop);
        }
        assert!(!workers.is_behind());
        assert!(workers.pop_punt().is_some());
        workers.broadcast(&Update::Stop);
        assert!(workers.is_behind());
        assert!(workers.pop_punt().is_none());
        // What comes in fills the rings, and is dropped and counted there: one has room for what was taken.
        let [one, other] = [first, second].map(|mut end| end.push_punt(punt(), 0).is_ok());
        assert_ne!(one, other);
    }

    #[test]
    fn what_does_not_fit_a_ring_waits_and_is_counted() {
        let (mut worker, control) = rings(small());
        let mut workers = WorkerSet::new(vec![control]);
        for _ in 0..4 {
            workers.broadcast(&Update::Stop);
        }
        assert_eq!((workers.backlog(), workers.is_waiting()), (0, false));
        for _ in 0..7_000 {
            workers.broadcast(&Update::Stop);
        }
        workers.flush();
        assert_eq!((workers.backlog(), workers.is_waiting()), (7_000, true));

        assert!(worker.push_punt(punt(), 0).is_ok());
        assert!(!workers.is_crowded());
        assert!(worker.push_punt(punt(), 0).is_ok());
        assert!(workers.is_crowded());
        assert!(workers.pop_punt().is_some());
        assert!(!workers.is_crowded());
    }
}
