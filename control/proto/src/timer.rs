//! Deadlines, ordered: the next one is known without looking at the others.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// At most one deadline per key. Timers with the same deadline fire in the order of their keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(deserialize = "K: Ord + Deserialize<'de>"))]
pub(crate) struct Timers<K> {
    by_deadline: BTreeSet<(Deadline, K)>,
    by_key: BTreeMap<K, Deadline>,
}

/// In nanoseconds: half of what a `Duration` takes, and there is one for each session. The last one,
/// in the year 584 of the clock, stands for all after it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct Deadline(u64);

impl From<Duration> for Deadline {
    fn from(at: Duration) -> Self {
        Self(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Deadline> for Duration {
    fn from(at: Deadline) -> Self {
        Self::from_nanos(at.0)
    }
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self {
            by_deadline: BTreeSet::new(),
            by_key: BTreeMap::new(),
        }
    }
}

impl<K: Copy + Ord> Timers<K> {
    /// Sets or moves a timer.
    pub(crate) fn set(&mut self, key: K, deadline: Duration) {
        let deadline = deadline.into();
        if let Some(old) = self.by_key.insert(key, deadline) {
            self.by_deadline.remove(&(old, key));
        }
        self.by_deadline.insert((deadline, key));
    }

    /// Forgets a timer, set or not.
    pub(crate) fn cancel(&mut self, key: K) {
        if let Some(old) = self.by_key.remove(&key) {
            self.by_deadline.remove(&(old, key));
        }
    }

    /// Sets many timers where none are: in order, which is quicker than one after the other.
    pub(crate) fn fill(&mut self, timers: Vec<(K, Duration)>) {
        let timers = timers.into_iter().map(|(key, at)| (key, at.into()));
        self.by_key = timers.collect();
        self.by_deadline = self.by_key.iter().map(|(key, at)| (*at, *key)).collect();
    }

    /// Forgets the timers between two keys, these included.
    pub(crate) fn cancel_between(&mut self, first: K, last: K) {
        let set: Vec<K> = self.between(first, last).map(|(key, _)| key).collect();
        for key in set {
            self.cancel(key);
        }
    }

    /// When a timer fires, if it is set.
    pub(crate) fn deadline(&self, key: K) -> Option<Duration> {
        self.by_key.get(&key).map(|at| (*at).into())
    }

    /// The timers that are set between two keys, these included, with their deadlines.
    pub(crate) fn between(&self, first: K, last: K) -> impl Iterator<Item = (K, Duration)> {
        let set = self.by_key.range(first..=last);
        set.map(|(key, at)| (*key, (*at).into()))
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.by_deadline.first().map(|(at, _)| (*at).into())
    }

    /// Takes the earliest timer that is due.
    pub(crate) fn pop_due(&mut self, now: Duration) -> Option<K> {
        let (deadline, key) = *self.by_deadline.first()?;
        if deadline > now.into() {
            return None;
        }
        self.by_deadline.remove(&(deadline, key));
        self.by_key.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn timers_fire_in_order_and_once() {
        let mut timers = Timers::default();
        timers.set('b', s(2));
        timers.set('a', s(2));
        timers.set('c', s(1));
        timers.set('c', s(3));
        assert_eq!(timers.next(), Some(s(2)));
        assert_eq!(timers.pop_due(s(1)), None);
        assert_eq!(timers.pop_due(s(9)), Some('a'));
        timers.cancel('b');
        assert_eq!(timers.deadline('c'), Some(s(3)));
        assert_eq!(timers.pop_due(s(9)), Some('c'));
        assert_eq!(timers.pop_due(s(9)), None);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_deadline_beyond_all_clocks_never_comes() {
        let mut timers = Timers::default();
        timers.set('a', Duration::MAX);
        timers.set('b', Duration::from_nanos(1));
        assert_eq!(timers.next(), Some(Duration::from_nanos(1)));
        assert_eq!(timers.pop_due(s(1 << 34)), Some('b'));
        assert_eq!(timers.pop_due(s(1 << 34)), None);
        timers.cancel('a');
        assert_eq!(timers.next(), None);
    }
}
