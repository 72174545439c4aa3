//! The table of home network prefixes.
//!
//! Prefixes of 64 bits, which is what every deployment uses, live in buckets of eight keys: one cache
//! line each. A prefix that finds its bucket full goes to the next one, so a lookup ends at the first
//! bucket that has a free place. Removal closes the gap it leaves by pulling back whatever had been
//! pushed past it: there are no tombstones, and the table does not age. Prefixes of other lengths are
//! kept aside and cost nothing while there are none.
//!
//! A prefix's records lie in two arrays under the number of its place in the buckets.

use std::num::NonZeroU32;

use flow::{BindingCounters, Fid, Hnp, MobileId};

use super::TableError;
use super::hash::{Seed, halves, reduce};
use super::other::OtherLengths;
use super::packed::Packed;
use super::prefetch::prefetch;
use super::record::{self, Downlink, NOT_EXTENDED, Uplink};
use super::rules::RuleSet;
use crate::simd::{Compare, Scalar};

/// Keys in a bucket.
const WAYS: usize = 8;
/// The same, in the numbers of slots.
const SLOTS: u32 = 8;
/// Least places for prefixes that are not of 64 bits, for each table.
const OTHER_PLACES: usize = 1024;
/// The key of a free place. `::/64` is therefore kept with the other lengths.
const FREE: u64 = 0;

/// Where a prefix's records are. Good until the next update. The number of the place with the highest
/// bit set, so that an `Option` of it needs no more room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot(NonZeroU32);

impl Slot {
    /// Places are below 2^31: see [`Bindings::new`].
    const MARK: NonZeroU32 = NonZeroU32::MIN.saturating_add(i32::MAX as u32);

    #[inline(always)]
    pub(crate) fn new(place: u32) -> Self {
        Self(Self::MARK | place)
    }

    #[inline(always)]
    fn place(self) -> u32 {
        self.0.get() & !Self::MARK.get()
    }

    #[inline(always)]
    pub(crate) fn index(self) -> usize {
        self.place() as usize
    }
}

/// Which bucket a key is looked for in first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Home(u32);

impl Home {
    /// Of an address that is not to be looked up: there is no such bucket.
    pub(crate) const NOWHERE: Self = Self(u32::MAX);
}

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Bucket([u64; WAYS]);

impl Bucket {
    const EMPTY: Self = Self([FREE; WAYS]);

    /// One bit for each place that holds `key`.
    fn places_of(&self, key: u64) -> u32 {
        Scalar.places(&self.0, key)
    }
}

/// What the packets of a burst need of all bindings, borrowed once for all of them.
#[derive(Debug)]
pub(crate) struct Records<'a> {
    /// For packets to a prefix, by [`Slot::index`].
    pub(crate) downlink: &'a mut [Downlink],
    /// For packets from a prefix, likewise.
    pub(crate) uplink: &'a mut [Uplink],
    /// Rules that do not fit a record, by [`Downlink::extended`].
    pub(crate) sets: &'a mut [RuleSet],
}

impl Records<'_> {
    /// Fetches the rules of a prefix that did not fit its record.
    #[inline(always)]
    pub(crate) fn prefetch_rules(&self, slot: Slot) {
        if let Some(record) = self.downlink.get(slot.index())
            && let Some(set) = self.sets.get(record.extended as usize)
        {
            for block in &set.blocks {
                block.prefetch();
            }
        }
    }

    /// See [`Uplink::carry`].
    #[cold]
    pub(crate) fn carry(&mut self, slot: Slot, rule: usize) {
        if let Some(record) = self.uplink.get_mut(slot.index()) {
            record.carry(rule);
        }
    }
}

/// What it takes to find the bindings of a burst: by value, so that it stays in registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search<'a> {
    buckets: &'a [Bucket],
    downlink: &'a [Downlink],
    uplink: &'a [Uplink],
}

impl Search<'_> {
    /// The prefix of 64 bits that is `key`, whose home bucket is `home`.
    #[inline(always)]
    pub(crate) fn find_64(
        &self,
        key: u64,
        home: Home,
        compare: impl Compare + Copy,
    ) -> Option<Slot> {
        if key == FREE {
            return None;
        }
        let mut number = home.0;
        // The table is never full, so a bucket with a free place ends every chain.
        loop {
            let bucket = self.buckets.get(number as usize)?;
            let places = compare.places(&bucket.0, key);
            if places != 0 {
                return Some(Slot::new(number * SLOTS + places.trailing_zeros()));
            }
            if compare.places(&bucket.0, FREE) != 0 {
                return None;
            }
            number = following(number, self.buckets.len());
        }
    }

    /// Fetches the record for packets to the prefix.
    #[inline(always)]
    pub(crate) fn prefetch_downlink(&self, slot: Slot) {
        if let Some(record) = self.downlink.get(slot.index()) {
            prefetch(record);
        }
    }

    /// Fetches the record for packets from the prefix.
    #[inline(always)]
    pub(crate) fn prefetch_uplink(&self, slot: Slot) {
        if let Some(record) = self.uplink.get(slot.index()) {
            prefetch(record);
        }
    }
}

/// The bucket after one of so many.
#[inline(always)]
fn following(number: u32, count: usize) -> u32 {
    let next = number + 1;
    if (next as usize) < count { next } else { 0 }
}

/// Home network prefixes and their records.
#[derive(Debug)]
pub(crate) struct Bindings {
    seed: Seed,
    buckets: Vec<Bucket>,
    downlink: Vec<Downlink>,
    uplink: Vec<Uplink>,
    other: OtherLengths,
    /// Rules that do not fit a record, and places of none.
    extended: Vec<RuleSet>,
    extended_free: Vec<u32>,
    /// Prefixes held that are [`flow::Binding::local`].
    locals: usize,
    /// Prefixes of 64 bits held, and the most that are accepted.
    len: usize,
    capacity: usize,
}

impl Bindings {
    /// A table for `expected` prefixes of 64 bits, three quarters of its places, and for `others`.
    pub(crate) fn new(expected: usize, others: usize) -> Self {
        // Slots are numbered in 31 bits; 2^27 buckets would be 128 GiB of records.
        let buckets = (expected.max(6).saturating_mul(4))
            .div_ceil(3 * WAYS)
            .min(1 << 27);
        let others = others.clamp(OTHER_PLACES, 1 << 30);
        let places = buckets * WAYS + others;
        let number = |place| u32::try_from(place).unwrap_or(u32::MAX);
        Self {
            seed: Seed::random(),
            buckets: pages::filled(Bucket::EMPTY, buckets),
            downlink: pages::filled(Downlink::EMPTY, places),
            uplink: pages::filled(Uplink::EMPTY, places),
            other: OtherLengths::new(number(buckets * WAYS)..number(places)),
            // Grown later, they would be copied between two bursts; untouched, they cost nothing.
            extended: Vec::with_capacity(places),
            extended_free: Vec::with_capacity(places),
            locals: 0,
            len: 0,
            // Past seven eighths full, chains of full buckets grow quickly.
            capacity: buckets * (WAYS - 1),
        }
    }

    /// Prefixes held.
    pub(crate) fn len(&self) -> usize {
        self.len + self.other.len()
    }

    /// The bucket to start at for an address whose upper half is `key`.
    #[inline(always)]
    pub(crate) fn home_of(&self, key: u64) -> Home {
        // At most 2^27.
        #[expect(clippy::cast_possible_truncation, reason = "see `Bindings::new`")]
        let count = self.buckets.len() as u32;
        Home(reduce(self.seed.mix(key), count))
    }

    /// Fetches the bucket ahead of the search in it.
    #[inline(always)]
    pub(crate) fn prefetch(&self, home: Home) {
        if let Some(bucket) = self.buckets.get(home.0 as usize) {
            prefetch(bucket);
        }
    }

    /// What it takes to find bindings, borrowed once for many.
    #[inline(always)]
    pub(crate) fn search(&self) -> Search<'_> {
        Search {
            buckets: &self.buckets,
            downlink: &self.downlink,
            uplink: &self.uplink,
        }
    }

    /// Whether all prefixes are of 64 bits, so that [`Search::find_64`] finds what there is.
    #[inline(always)]
    pub(crate) fn is_uniform(&self) -> bool {
        self.other.is_empty()
    }

    /// The longest prefix that holds `address`.
    pub(crate) fn lookup(&self, address: u128) -> Option<Slot> {
        let [_, key] = halves(address);
        let find_64 = || self.search().find_64(key, self.home_of(key), Scalar);
        if self.is_uniform() {
            return find_64();
        }
        self.other
            .find_longer_than_64(address)
            .map(Slot::new)
            .or_else(find_64)
            .or_else(|| self.other.find_up_to_64(address).map(Slot::new))
    }

    /// Whether [`Bindings::lookup_local`] could find any.
    #[inline(always)]
    pub(crate) fn has_local(&self) -> bool {
        self.locals > 0
    }

    /// As [`Bindings::lookup`], if the prefix is [`flow::Binding::local`].
    pub(crate) fn lookup_local(&self, address: u128) -> Option<Slot> {
        let slot = self.lookup(address)?;
        let record = self.uplink.get(slot.index())?;
        record.local.then_some(slot)
    }

    /// All records.
    #[inline(always)]
    pub(crate) fn records(&mut self) -> Records<'_> {
        Records {
            downlink: &mut self.downlink,
            uplink: &mut self.uplink,
            sets: &mut self.extended,
        }
    }

    /// The record for packets from the prefix.
    #[inline(always)]
    pub(crate) fn uplink(&mut self, slot: Slot) -> Option<&mut Uplink> {
        self.uplink.get_mut(slot.index())
    }

    /// The record for packets to the prefix.
    #[inline(always)]
    pub(crate) fn downlink(&self, slot: Slot) -> Option<&Downlink> {
        self.downlink.get(slot.index())
    }

    /// Fetches the records of a prefix whose update is about to come.
    pub(crate) fn prefetch_all(&self, hnp: Hnp) {
        if let Some(slot) = self.slot_of(hnp) {
            let search = self.search();
            search.prefetch_downlink(slot);
            search.prefetch_uplink(slot);
        }
    }

    /// Fetches the bucket of a prefix ahead of [`Bindings::prefetch_all`].
    pub(crate) fn prefetch_bucket(&self, hnp: Hnp) {
        let [_, key] = halves(hnp.addr().to_bits());
        self.prefetch(self.home_of(key));
    }

    /// Creates or replaces a prefix. Counters live on while the mobile stays the same, those of a
    /// rule while its flow identifier does. Rules that are no longer needed are left in `packed`, for whoever
    /// frees them.
    ///
    /// # Errors
    /// [`TableError::Full`] if there is no room; nothing has changed then.
    pub(crate) fn set(&mut self, packed: &mut Packed) -> Result<(), TableError> {
        let hnp = packed.hnp;
        let (slot, held) = match self.slot_of(hnp) {
            Some(slot) => (slot, true),
            None => (self.claim(hnp)?, false),
        };
        // What a free place holds is what its last owner left there, and may name another's rules.
        let old = if held { self.release_rules(slot) } else { None };
        let (Some(down), Some(up)) = (
            self.downlink.get_mut(slot.index()),
            self.uplink.get_mut(slot.index()),
        ) else {
            return Ok(());
        };
        let (mut new_down, mut new_up) = (packed.down, packed.up);
        if held {
            self.locals -= usize::from(up.local);
            if up.mobile == packed.up.mobile {
                (new_down, new_up) = packed.instead_of(down, up, old.as_ref());
            }
        }
        self.locals += usize::from(new_up.local);
        (*down, *up) = (new_down, new_up);
        if !packed.rules.is_empty() {
            let rules = std::mem::take(&mut packed.rules);
            let number = self.keep_rules(rules);
            if let Some(down) = self.downlink.get_mut(slot.index()) {
                down.extended = number;
            }
        }
        if let Some(old) = old {
            packed.rules = old;
        }
        Ok(())
    }

    /// Forgets a prefix; `false` if it was not known.
    pub(crate) fn remove(&mut self, hnp: Hnp) -> bool {
        let Some(slot) = self.slot_of(hnp) else {
            return false;
        };
        // An allocation given back by the worker, but prefixes with many rules go seldom.
        drop(self.release_rules(slot));
        let local = self.uplink(slot).is_some_and(|record| record.local);
        self.locals -= usize::from(local);
        match short_key(hnp) {
            Some(_) => {
                self.close_gap(slot);
                self.len -= 1;
            }
            None => self.other.remove(hnp),
        }
        true
    }

    /// What was counted for a prefix.
    pub(crate) fn counters(&self, hnp: Hnp) -> Option<BindingCounters> {
        let slot = self.slot_of(hnp)?;
        let down = self.downlink.get(slot.index())?;
        let up = self.uplink.get(slot.index())?;
        let rules = self.rule_counters(slot).collect();
        Some(BindingCounters {
            downlink_packets: down.packets,
            downlink_octets: down.octets,
            uplink_packets: up.packets,
            uplink_octets: up.octets,
            rules,
        })
    }

    /// Packets that each rule of the prefix at `slot` has decided.
    pub(crate) fn rule_counters(&self, slot: Slot) -> impl Iterator<Item = (Fid, u64)> {
        let records = self
            .downlink
            .get(slot.index())
            .zip(self.uplink.get(slot.index()));
        let set = records.and_then(|(down, _)| self.extended.get(down.extended as usize));
        let own = records.filter(|_| set.is_none());
        let own = own
            .into_iter()
            .flat_map(|(down, up)| record::rule_hits(down, up));
        set.into_iter().flat_map(RuleSet::counters).chain(own)
    }

    /// Whose the prefix at `slot` is.
    pub(crate) fn mobile(&self, slot: Slot) -> Option<MobileId> {
        self.uplink.get(slot.index()).map(|record| record.mobile)
    }

    /// The slot of exactly this prefix.
    fn slot_of(&self, hnp: Hnp) -> Option<Slot> {
        match short_key(hnp) {
            Some(key) => self.search().find_64(key, self.home_of(key), Scalar),
            None => self.other.slot(hnp).map(Slot::new),
        }
    }

    /// A place for a prefix that has none.
    fn claim(&mut self, hnp: Hnp) -> Result<Slot, TableError> {
        let Some(key) = short_key(hnp) else {
            let full = TableError::Full(self.other.capacity());
            return self.other.insert(hnp).map(Slot::new).ok_or(full);
        };
        let full = TableError::Full(self.capacity);
        if self.len >= self.capacity {
            return Err(full);
        }
        let mut number = self.home_of(key).0;
        loop {
            let bucket = self.buckets.get_mut(number as usize).ok_or(full)?;
            let place = bucket.places_of(FREE).trailing_zeros();
            if let Some(free) = bucket.0.get_mut(place as usize) {
                *free = key;
                self.len += 1;
                return Ok(Slot::new(number * SLOTS + place));
            }
            number = following(number, self.buckets.len());
        }
    }

    /// Frees a place in the buckets, moving others back so that every chain stays whole.
    fn close_gap(&mut self, gap: Slot) {
        let mut gap = gap.place();
        let mut number = gap / SLOTS;
        let mut passed = self.is_full(number);
        // A prefix was pushed past a bucket only while that bucket was full.
        while passed {
            number = following(number, self.buckets.len());
            passed = self.is_full(number);
            let Some(mover) = self.pushed_past(gap / SLOTS, number) else {
                continue;
            };
            self.move_place(mover, gap);
            gap = mover;
            // The chain now has its gap in this bucket; what follows it may fill that in turn.
        }
        self.set_key(gap, FREE);
    }

    /// A place in bucket `number` whose prefix would rather be in bucket `gap` or before it.
    fn pushed_past(&self, gap: u32, number: u32) -> Option<u32> {
        let count = u32::try_from(self.buckets.len()).unwrap_or(u32::MAX);
        let distance = |from: u32| (number + count - from) % count;
        let bucket = self.buckets.get(number as usize)?;
        let place = bucket.0.iter().position(|key| {
            *key != FREE && distance(self.home_of(*key).0) >= distance(gap) && number != gap
        })?;
        Some(number * SLOTS + u32::try_from(place).ok()?)
    }

    fn is_full(&self, number: u32) -> bool {
        let bucket = self.buckets.get(number as usize);
        bucket.is_some_and(|b| b.places_of(FREE) == 0)
    }

    fn move_place(&mut self, from: u32, to: u32) {
        let (source, target) = (from as usize, to as usize);
        if let Some(key) = self.key(from) {
            self.set_key(to, key);
        }
        if source < self.downlink.len() && target < self.downlink.len() {
            self.downlink.copy_within(source..=source, target);
            self.uplink.copy_within(source..=source, target);
        }
    }

    fn key(&self, place: u32) -> Option<u64> {
        let bucket = self.buckets.get(place as usize / WAYS)?;
        bucket.0.get(place as usize % WAYS).copied()
    }

    fn set_key(&mut self, place: u32, key: u64) {
        if let Some(bucket) = self.buckets.get_mut(place as usize / WAYS)
            && let Some(held) = bucket.0.get_mut(place as usize % WAYS)
        {
            *held = key;
        }
    }

    fn keep_rules(&mut self, set: RuleSet) -> u32 {
        if let Some(number) = self.extended_free.pop()
            && let Some(place) = self.extended.get_mut(number as usize)
        {
            *place = set;
            return number;
        }
        self.extended.push(set);
        u32::try_from(self.extended.len() - 1).unwrap_or(NOT_EXTENDED)
    }

    /// Takes out the rules of a prefix that did not fit its record.
    fn release_rules(&mut self, slot: Slot) -> Option<RuleSet> {
        let record = self.downlink.get_mut(slot.index())?;
        let number = std::mem::replace(&mut record.extended, NOT_EXTENDED);
        let set = self.extended.get_mut(number as usize).map(std::mem::take)?;
        self.extended_free.push(number);
        Some(set)
    }
}

/// The key of a prefix that belongs in the buckets.
fn short_key(hnp: Hnp) -> Option<u64> {
    let [_, key] = halves(hnp.addr().to_bits());
    (hnp.len() == 64 && key != FREE).then_some(key)
}

#[cfg(test)]
mod tests;
