//! Seeded hashing. Whoever sends packets chooses the keys, so each table has a secret of its own.

use std::hash::{BuildHasher, Hasher, RandomState};

/// The secret of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed {
    key: u64,
    factor: u64,
}

impl Seed {
    /// A secret no one else knows, from the standard library's source of randomness.
    pub(crate) fn random() -> Self {
        let state = RandomState::new();
        Self {
            key: state.hash_one(0u8),
            factor: state.hash_one(1u8) | 1,
        }
    }

    /// Mixes a key: the two halves of one wide multiplication, folded.
    #[inline(always)]
    pub(crate) fn mix(self, key: u64) -> u64 {
        let [low, high] = halves(u128::from(key ^ self.key) * u128::from(self.factor));
        low ^ high
    }
}

/// The low and the high half of a number.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is wanted"
)]
pub(crate) const fn halves(wide: u128) -> [u64; 2] {
    [wide as u64, (wide >> 64) as u64]
}

/// Where a mixed key falls among `count` places: fair for any count, without a division.
#[inline(always)]
pub(crate) const fn reduce(mixed: u64, count: u32) -> u32 {
    let [_, high] = halves(mixed as u128 * count as u128);
    // `high` is below `count`.
    let [a, b, c, d, ..] = high.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

impl BuildHasher for Seed {
    type Hasher = Mixer;

    fn build_hasher(&self) -> Mixer {
        Mixer {
            seed: *self,
            state: self.key,
        }
    }
}

/// A [`Hasher`] for short keys in the standard maps.
pub(crate) struct Mixer {
    seed: Seed,
    state: u64,
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.state
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.state = self.seed.mix(self.state.rotate_left(23) ^ word);
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(word.into());
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_u128(&mut self, word: u128) {
        for half in halves(word) {
            self.write_u64(half);
        }
    }
}
