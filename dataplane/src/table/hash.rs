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

    /// Mixes a key: the two halves of one wide multiplication, folded, and once more, because
    /// places are taken from the upper bits ([`reduce`]) and neighbouring keys may differ in the lower
    /// ones alone.
    #[inline(always)]
    pub(crate) fn mix(self, key: u64) -> u64 {
        let [low, high] = halves(u128::from(key ^ self.key) * u128::from(self.factor));
        let folded = low ^ high;
        (folded ^ folded >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
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

/// The low and the high half of a number of 64 bits.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is wanted"
)]
pub(crate) const fn halves32(wide: u64) -> [u32; 2] {
    [wide as u32, (wide >> 32) as u32]
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Prefixes are lent one after the other: whatever the secret, they spread over the buckets.
    #[test]
    fn consecutive_keys_fill_buckets_evenly() {
        const BUCKETS: u32 = 1024;
        for secret in 0..400u64 {
            // Small factors, one with a single high bit, and arbitrary ones.
            let factor = match secret {
                0..100 => secret * 2 + 1,
                100..163 => 1 << (secret - 99) | 1,
                _ => secret.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1,
            };
            let seed = Seed {
                key: secret.wrapping_mul(0x1234_5678_9abc_def1),
                factor,
            };
            let mut load = vec![0; BUCKETS as usize];
            for key in 0..u64::from(BUCKETS) * 6 {
                load[reduce(seed.mix(0x2001_0db8_0100_0000 + key), BUCKETS) as usize] += 1;
            }
            let fullest = load.iter().max().unwrap();
            assert!(*fullest <= 24, "{fullest} of 6 on average with {seed:?}");
        }
    }
}
