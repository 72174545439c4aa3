//! The stages of a burst compiled for what the processor has, chosen once when a worker starts.
//!
//! [`Level::run`] compiles a [`Stages`] three times over: for any x86-64, for one with AVX2 and BMI,
//! and for one with AVX-512. Whatever is `#[inline(always)]` below it is compiled along. Nothing but
//! [`Compare`] differs in source, and both its forms give the same results.
#![expect(
    unsafe_code,
    reason = "a function compiled for more than the baseline may only be called where the processor has been asked"
)]

/// What a processor has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Level {
    /// Nothing beyond what the program was compiled for.
    Baseline,
    /// AVX2, BMI1, BMI2, MOVBE.
    #[cfg(target_arch = "x86_64")]
    V3(Checked),
    /// Also AVX-512 F, BW, CD, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    V4(Checked),
}

/// Only made where the processor was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Checked(());

use crate::table::record::INLINE;
use crate::table::rules::{Fields, Lanes};

/// How the keys of a bucket and the lanes of a record are compared.
pub(crate) trait Compare {
    /// One bit for each of `keys` that is `key`, the first one's the lowest.
    fn places(self, keys: &[u64; 8], key: u64) -> u32;

    /// One bit for each lane that matches, the first one's the lowest.
    fn hits(self, lanes: &Lanes<INLINE>, fields: &Fields) -> u32;
}

/// One after the other, or however the compiler sees fit.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

impl Compare for Scalar {
    #[inline(always)]
    fn places(self, keys: &[u64; 8], key: u64) -> u32 {
        let mut places = 0;
        for (i, held) in keys.iter().enumerate() {
            places |= u32::from(*held == key) << i;
        }
        places
    }

    #[inline(always)]
    fn hits(self, lanes: &Lanes<INLINE>, fields: &Fields) -> u32 {
        lanes.hits(fields)
    }
}

/// Work that is worth compiling for each processor. Its `run` is to be `#[inline(always)]`.
pub(crate) trait Stages {
    /// Does it.
    fn run(self, compare: impl Compare + Copy);
}

impl Level {
    /// The most this processor can do.
    pub(crate) fn detect() -> Self {
        Self::supported().next().unwrap_or(Self::Baseline)
    }

    /// All that this processor can do, the most first.
    pub(crate) fn supported() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let wide = {
            let v3 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt")
                && is_x86_feature_detected!("movbe");
            let v4 = v3
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512cd")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            let v3 = v3.then_some(Self::V3(Checked(())));
            let v4 = v4.then_some(Self::V4(Checked(())));
            v4.into_iter().chain(v3)
        };
        #[cfg(not(target_arch = "x86_64"))]
        let wide = std::iter::empty();
        wide.chain([Self::Baseline])
    }

    /// Runs `stages` as compiled for this level.
    #[inline(always)]
    pub(crate) fn run(self, stages: impl Stages) {
        match self {
            Self::Baseline => stages.run(Scalar),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a `Checked` is only made after all features of its level were detected.
            Self::V3(_) => unsafe { x86::v3(stages) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::V4(_) => unsafe { x86::v4(stages) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm_add_epi16, _mm_and_si128, _mm_cmpeq_epi8, _mm_cmpeq_epi16, _mm_cvtepu8_epi16,
        _mm_cvtsi32_si128, _mm_cvtsi64_si128, _mm_max_epu16, _mm_min_epu16, _mm_movemask_epi8,
        _mm_mullo_epi16, _mm_or_si128, _mm_packs_epi16, _mm_set1_epi8, _mm_set1_epi16,
        _mm_shuffle_epi8, _mm512_cmpeq_epi64_mask, _mm512_loadu_epi64, _mm512_set1_epi64,
    };

    use super::{Compare, Scalar, Stages};
    use crate::table::record::INLINE;
    use crate::table::rules::{Fields, Lanes};

    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,movbe")]
    pub(super) fn v3(stages: impl Stages) {
        stages.run(Avx2(()));
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,movbe")]
    pub(super) fn v4(stages: impl Stages) {
        stages.run(Avx512(()));
    }

    /// Four lanes at once. Only made in [`v3`].
    #[derive(Clone, Copy)]
    struct Avx2(());

    impl Compare for Avx2 {
        #[inline(always)]
        fn places(self, keys: &[u64; 8], key: u64) -> u32 {
            // The compiler makes two vector comparisons of it.
            Scalar.places(keys, key)
        }

        #[inline(always)]
        fn hits(self, lanes: &Lanes<INLINE>, fields: &Fields) -> u32 {
            // SAFETY: whoever has an `Avx2` got it from `v3`, so the processor has AVX2.
            unsafe { hits(lanes, fields) }
        }
    }

    /// Eight keys at once. Only made in [`v4`].
    #[derive(Clone, Copy)]
    struct Avx512(());

    impl Compare for Avx512 {
        #[inline(always)]
        fn places(self, keys: &[u64; 8], key: u64) -> u32 {
            // SAFETY: whoever has an `Avx512` got it from `v4`, so the processor has AVX-512 F.
            unsafe { places(keys, key) }
        }

        #[inline(always)]
        fn hits(self, lanes: &Lanes<INLINE>, fields: &Fields) -> u32 {
            // SAFETY: as above; AVX2 is part of it.
            unsafe { hits(lanes, fields) }
        }
    }

    /// As [`Lanes::hits`]: each lane's field is moved to it by a byte shuffle.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn hits(lanes: &Lanes<INLINE>, fields: &Fields) -> u32 {
        let words = |words: [u16; INLINE]| {
            let bits: u64 = zerocopy::transmute!(words);
            _mm_cvtsi64_si128(bits.cast_signed())
        };
        let octets = |octets: [u8; INLINE]| {
            let bits: u32 = zerocopy::transmute!(octets);
            _mm_cvtsi32_si128(bits.cast_signed())
        };
        let kind = octets(lanes.kind);
        // Field k is in octets 2k and 2k + 1: 0x0202 * k + 0x0100 names both.
        let field = _mm_and_si128(_mm_cvtepu8_epi16(kind), _mm_set1_epi16(3));
        let field = _mm_mullo_epi16(field, _mm_set1_epi16(0x0202));
        let field = _mm_add_epi16(field, _mm_set1_epi16(0x0100));
        let of_lanes = |all: u64| _mm_shuffle_epi8(_mm_cvtsi64_si128(all.cast_signed()), field);
        let value = of_lanes(fields.values);
        let above = _mm_cmpeq_epi16(_mm_max_epu16(value, words(lanes.low)), value);
        let below = _mm_cmpeq_epi16(_mm_min_epu16(value, words(lanes.high)), value);
        let inside = _mm_and_si128(_mm_and_si128(above, below), of_lanes(fields.present));
        let next_header = _mm_set1_epi8(fields.next_header.cast_signed());
        let same = _mm_cmpeq_epi8(octets(lanes.next_header), next_header);
        // The highest bit of an octet decides: that of `kind` means any next header.
        let protocol = _mm_or_si128(same, kind);
        let hits = _mm_and_si128(_mm_packs_epi16(inside, inside), protocol);
        _mm_movemask_epi8(hits).cast_unsigned() & ((1 << INLINE) - 1)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn places(keys: &[u64; 8], key: u64) -> u32 {
        // SAFETY: eight keys; an unaligned load takes them anywhere.
        let keys = unsafe { _mm512_loadu_epi64(keys.as_ptr().cast()) };
        _mm512_cmpeq_epi64_mask(keys, _mm512_set1_epi64(key.cast_signed())).into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::table::rules::ANY_PROTOCOL;

    struct Places<'a>(&'a [u64; 8], u64, &'a mut u32);

    impl Stages for Places<'_> {
        fn run(self, compare: impl Compare + Copy) {
            *self.2 = compare.places(self.0, self.1);
        }
    }

    struct Hits<'a>(&'a Lanes<INLINE>, &'a Fields, &'a mut u32);

    impl Stages for Hits<'_> {
        fn run(self, compare: impl Compare + Copy) {
            *self.2 = compare.hits(self.0, self.1);
        }
    }

    /// Small numbers and both ends of the range.
    fn word() -> impl Strategy<Value = u16> {
        prop_oneof![0..8_u16, Just(0x7fff), Just(0x8000), Just(0xffff)]
    }

    proptest! {
        #[test]
        fn every_level_finds_the_same_lanes(
            low in prop::array::uniform4(word()),
            high in prop::array::uniform4(word()),
            next_header in prop::array::uniform4(0..2_u8),
            kind in prop::array::uniform4((0..4_u8, any::<bool>())),
            values in prop::array::uniform4(word()),
            ports: bool,
            protocol in 0..2_u8,
        ) {
            let kind = kind.map(|(field, any)| field | if any { ANY_PROTOCOL } else { 0 });
            let lanes = Lanes { low, high, next_header, kind };
            let values = values.iter().rev().fold(0, |all, word| all << 16 | u64::from(*word));
            let present = if ports { u64::MAX } else { u64::MAX << 32 };
            let fields = Fields { values, present, next_header: protocol };
            let expected = lanes.hits(&fields);
            for level in Level::supported() {
                let mut hits = 0;
                level.run(Hits(&lanes, &fields, &mut hits));
                prop_assert_eq!(hits, expected, "{:?}", level);
            }
        }

        #[test]
        fn every_level_finds_the_same_places(keys: [u8; 8], key: u8) {
            // Few values, so that some are equal.
            let keys = keys.map(|key| u64::from(key & 3) << 40);
            let key = u64::from(key & 3) << 40;
            let expected = (0..8).filter(|i| keys[*i] == key).map(|i| 1 << i).sum::<u32>();
            for level in Level::supported() {
                let mut places = 0;
                level.run(Places(&keys, key, &mut places));
                prop_assert_eq!(places, expected, "{:?}", level);
            }
        }
    }
}
