//! Home network prefixes that are not of 64 bits.

use std::collections::HashMap;
use std::ops::Range;

use flow::Hnp;

use super::hash::Seed;

/// A map for each length in use, longest first.
#[derive(Debug)]
pub(crate) struct OtherLengths {
    slots: HashMap<(u8, u128), u32, Seed>,
    /// Lengths in use, descending, and how many prefixes have each.
    lengths: Vec<(u8, usize)>,
    free: Vec<u32>,
}

impl OtherLengths {
    /// An empty structure that hands out `slots`.
    pub(crate) fn new(slots: Range<u32>) -> Self {
        Self {
            slots: HashMap::with_hasher(Seed::random()),
            lengths: Vec::new(),
            free: slots.rev().collect(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Most prefixes held.
    pub(crate) fn capacity(&self) -> usize {
        self.slots.len() + self.free.len()
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// The longest match of more than 64 bits.
    pub(crate) fn find_longer_than_64(&self, address: u128) -> Option<u32> {
        self.find(address, |length| length > 64)
    }

    /// The longest match of at most 64 bits.
    pub(crate) fn find_up_to_64(&self, address: u128) -> Option<u32> {
        self.find(address, |length| length <= 64)
    }

    fn find(&self, address: u128, wanted: impl Fn(u8) -> bool) -> Option<u32> {
        let lengths = self.lengths.iter().map(|(length, _)| *length);
        lengths
            .filter(|length| wanted(*length))
            .find_map(|length| self.slots.get(&(length, address & mask(length))).copied())
    }

    /// The slot of exactly this prefix.
    pub(crate) fn slot(&self, hnp: Hnp) -> Option<u32> {
        self.slots.get(&(hnp.len(), hnp.addr().to_bits())).copied()
    }

    /// A slot for a prefix that has none; `None` if there is none left.
    pub(crate) fn insert(&mut self, hnp: Hnp) -> Option<u32> {
        let slot = self.free.pop()?;
        self.slots.insert((hnp.len(), hnp.addr().to_bits()), slot);
        match self.lengths.iter_mut().find(|(len, _)| *len == hnp.len()) {
            Some((_, count)) => *count += 1,
            None => self.lengths.push((hnp.len(), 1)),
        }
        self.lengths.sort_unstable_by(|a, b| b.cmp(a));
        Some(slot)
    }

    /// Forgets a prefix.
    pub(crate) fn remove(&mut self, hnp: Hnp) {
        let Some(slot) = self.slots.remove(&(hnp.len(), hnp.addr().to_bits())) else {
            return;
        };
        self.free.push(slot);
        for (length, count) in &mut self.lengths {
            *count -= usize::from(*length == hnp.len());
        }
        self.lengths.retain(|(_, count)| *count > 0);
    }
}

/// The upper `length` bits.
pub(crate) fn mask(length: u8) -> u128 {
    u128::MAX
        .checked_shl(128 - u32::from(length))
        .unwrap_or_default()
}
