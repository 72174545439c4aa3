//! Pools of home network prefixes.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use flow::Hnp;
use serde::{Deserialize, Serialize};

use crate::timer::Timers;

/// Cuts prefixes of one length out of a larger one and lends each to one mobile at a time.
///
/// A prefix that came back rests for a while and then waits behind all that were never lent, so
/// that packets still on their way to its last holder do not reach the next.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PrefixPool {
    range: Hnp,
    len: u8,
    rest: Duration,
    /// Index of the first prefix never lent by [`Self::allocate`].
    fresh: u128,
    used: Used,
    /// Those that came back, and when they may be lent again.
    resting: Timers<u128>,
    /// What was last told of `fresh` to whoever writes it down.
    #[serde(skip)]
    told: u128,
}

/// Indexes of prefixes that are lent: bits, because most of a pool's first ones are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Used {
    count: usize,
    /// By index / 64; never 0.
    words: BTreeMap<u128, u64>,
}

impl Used {
    /// Adds an index; `false` if it was there.
    fn insert(&mut self, index: u128) -> bool {
        let (word, bit) = Self::place(index);
        let word = self.words.entry(word).or_default();
        let new = *word & bit == 0;
        *word |= bit;
        self.count += usize::from(new);
        new
    }

    fn contains(&self, index: u128) -> bool {
        let (at, bit) = Self::place(index);
        self.words.get(&at).is_some_and(|word| word & bit != 0)
    }

    /// Removes an index; `false` if it was not there.
    fn remove(&mut self, index: u128) -> bool {
        let (at, bit) = Self::place(index);
        let Some(word) = self.words.get_mut(&at).filter(|word| **word & bit != 0) else {
            return false;
        };
        *word &= !bit;
        if *word == 0 {
            self.words.remove(&at);
        }
        self.count -= 1;
        true
    }

    fn place(index: u128) -> (u128, u64) {
        (index / 64, 1 << (index % 64))
    }
}

/// Why there can be no such pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PoolError {
    /// The prefixes are not longer than the pool, or longer than 128 bits.
    #[error("the pool {range} cannot be cut into /{len}: give a length from {} to 128", range.len())]
    Length {
        /// The pool.
        range: Hnp,
        /// Length of the prefixes.
        len: u8,
    },
}

impl PrefixPool {
    /// A pool of all prefixes of `len` bits in `range`; one that came back is not lent again
    /// before `rest` has passed.
    ///
    /// # Errors
    /// [`PoolError::Length`] if no prefix of that length fits.
    pub fn new(range: Hnp, len: u8, rest: Duration) -> Result<Self, PoolError> {
        if len < range.len() || len > 128 || len == 0 {
            return Err(PoolError::Length { range, len });
        }
        Ok(Self {
            range,
            len,
            rest,
            fresh: 0,
            used: Used::default(),
            resting: Timers::default(),
            told: 0,
        })
    }

    /// What it is cut from.
    pub(crate) fn range(&self) -> Hnp {
        self.range
    }

    /// Whether both are cut alike from the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (self.range, self.len) == (other.range, other.len)
    }

    /// Takes over what its former self has lent.
    pub(crate) fn go_on(&mut self, former: Self) {
        let rest = self.rest;
        *self = Self { rest, ..former };
    }

    /// Whether `hnp` is one of the pool's prefixes, lent or not.
    pub fn covers(&self, hnp: Hnp) -> bool {
        self.index(hnp).is_some()
    }

    /// Up to where prefixes have been lent, if that has not been told.
    pub(crate) fn tell(&mut self) -> Option<u128> {
        (self.fresh > self.told).then(|| {
            self.told = self.fresh;
            self.told
        })
    }

    /// Goes on where another pool of the same prefixes was when it told this. Those in use have been taken; all
    /// others that may have been lent rest, as nobody knows when they came back.
    pub(crate) fn resume(&mut self, now: Duration, told: u128) {
        let told = told.min(self.last_index().saturating_add(1));
        for index in self.fresh..told {
            if !self.used.contains(index) {
                self.resting.set(index, now + self.rest);
            }
        }
        self.fresh = self.fresh.max(told);
        self.told = self.fresh;
    }

    /// Prefixes lent at the moment.
    pub fn used(&self) -> usize {
        self.used.count
    }

    /// Lends any free prefix; `None` if there is none.
    pub(crate) fn allocate(&mut self, now: Duration) -> Option<Hnp> {
        while self.fresh <= self.last_index() {
            let index = self.fresh;
            // A pool of 2^128 prefixes cannot run out before the counter would wrap.
            self.fresh = self.fresh.saturating_add(1);
            if self.used.insert(index) {
                return self.at(index);
            }
        }
        let index = self.resting.pop_due(now)?;
        self.used.insert(index);
        self.at(index)
    }

    /// Lends this very prefix; `false` if it is lent already or not of this pool.
    pub(crate) fn take(&mut self, hnp: Hnp) -> bool {
        self.index(hnp).is_some_and(|index| {
            self.resting.cancel(index);
            self.used.insert(index)
        })
    }

    /// Takes a prefix back.
    pub(crate) fn release(&mut self, now: Duration, hnp: Hnp) {
        if let Some(index) = self.index(hnp)
            && self.used.remove(index)
            && index < self.fresh
        {
            self.resting.set(index, now + self.rest);
        }
    }

    /// Takes back a prefix that nobody was told of: it need not rest.
    pub(crate) fn put_back(&mut self, hnp: Hnp) {
        if let Some(index) = self.index(hnp)
            && self.used.remove(index)
            && index < self.fresh
        {
            self.resting.set(index, Duration::ZERO);
        }
    }

    fn last_index(&self) -> u128 {
        match self.len - self.range.len() {
            128.. => u128::MAX,
            bits => (1 << bits) - 1,
        }
    }

    fn at(&self, index: u128) -> Option<Hnp> {
        let base = u128::from(self.range.addr());
        let offset = index.checked_shl(u32::from(128 - self.len)).unwrap_or(0);
        Hnp::new(Ipv6Addr::from(base | offset), self.len).ok()
    }

    fn index(&self, hnp: Hnp) -> Option<u128> {
        (hnp.len() == self.len && self.range.contains(hnp.addr())).then(|| {
            let offset = u128::from(hnp.addr()) ^ u128::from(self.range.addr());
            offset.checked_shr(u32::from(128 - self.len)).unwrap_or(0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hnp(text: &str) -> Hnp {
        let (addr, len) = text.split_once('/').unwrap();
        Hnp::new(addr.parse().unwrap(), len.parse().unwrap()).unwrap()
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn every_prefix_is_lent_once() {
        let mut pool = PrefixPool::new(hnp("2001:db8::/62"), 64, s(5)).unwrap();
        assert!(pool.take(hnp("2001:db8:0:1::/64")));
        assert!(!pool.take(hnp("2001:db8:0:1::/64")));
        assert!(!pool.take(hnp("2001:db8:0:4::/64")));
        assert!(!pool.take(hnp("2001:db8::/63")));
        let lent: Vec<String> = std::iter::from_fn(|| pool.allocate(s(0)))
            .map(|h| h.to_string())
            .collect();
        assert_eq!(
            lent,
            ["2001:db8::/64", "2001:db8:0:2::/64", "2001:db8:0:3::/64"]
        );
        assert_eq!(pool.used(), 4);
    }

    #[test]
    fn a_returned_prefix_rests() {
        let mut pool = PrefixPool::new(hnp("2001:db8::/63"), 64, s(5)).unwrap();
        let first = pool.allocate(s(0)).unwrap();
        let second = pool.allocate(s(0)).unwrap();
        pool.release(s(1), second);
        pool.release(s(2), first);
        pool.release(s(2), first);
        assert_eq!(pool.allocate(s(5)), None);
        // Its former holder may ask for it by name at once.
        assert!(pool.take(second));
        assert_eq!(pool.allocate(s(7)), Some(first));
        assert_eq!(pool.allocate(s(99)), None);
    }

    #[test]
    fn a_prefix_that_nobody_was_told_of_does_not_rest() {
        let mut pool = PrefixPool::new(hnp("2001:db8::/64"), 64, s(5)).unwrap();
        let only = pool.allocate(s(9)).unwrap();
        pool.put_back(only);
        assert_eq!(pool.used(), 0);
        assert_eq!(pool.allocate(s(9)), Some(only));
    }

    #[test]
    fn a_prefix_taken_by_name_and_returned_is_still_fresh() {
        let mut pool = PrefixPool::new(hnp("2001:db8::/64"), 64, s(5)).unwrap();
        assert!(pool.take(hnp("2001:db8::/64")));
        pool.release(s(0), hnp("2001:db8::/64"));
        assert_eq!(pool.allocate(s(0)), Some(hnp("2001:db8::/64")));
    }

    #[test]
    fn used_indexes_are_a_set() {
        let mut used = Used::default();
        let mut oracle = std::collections::BTreeSet::new();
        for step in 0..2000_u128 {
            let index = (step * step * 37 + step * 11) % 256 + (u128::MAX - 255);
            if step % 3 == 0 {
                assert_eq!(used.remove(index), oracle.remove(&index));
            } else {
                assert_eq!(used.insert(index), oracle.insert(index));
            }
            assert_eq!(used.count, oracle.len());
        }
        for index in oracle {
            assert!(used.remove(index));
        }
        assert_eq!((used.count, used.words.len()), (0, 0));
    }

    #[test]
    fn lengths_are_checked() {
        for (range, len) in [("2001:db8::/64", 63), ("2001:db8::/64", 129), ("::/0", 0)] {
            assert!(
                PrefixPool::new(hnp(range), len, s(0)).is_err(),
                "{range} {len}"
            );
        }
        let mut all = PrefixPool::new(hnp("::/0"), 128, s(0)).unwrap();
        assert_eq!(all.allocate(s(0)), Some(hnp("::/128")));
        assert!(all.take(hnp("ffff::1/128")));
    }
}
