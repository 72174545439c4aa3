//! The stages of a burst compiled for what the processor has, chosen once when a worker starts.
//!
//! [`Level::run`] compiles a [`Stages`] three times over: for any x86-64, for one with AVX2 and BMI,
//! and for one with AVX-512. Whatever is `#[inline(always)]` below it is compiled along. Nothing but
//! [`Compare`] differs in source, and all its forms give the same results.
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

use crate::packet::header::FRAME_LEN;
use crate::packet::shape::Shape;
use crate::table::record::INLINE;
use crate::table::rules::{Fields, GROUP, Lanes};

/// How the keys of a bucket and the lanes of rules are compared.
pub(crate) trait Compare {
    /// One bit for each of `keys` that is `key`, the first one's the lowest.
    fn places(self, keys: &[u64; 8], key: u64) -> u32;

    /// Whether a frame is as `shape` says.
    fn fits(self, frame: &[u8; FRAME_LEN], shape: &Shape) -> bool;

    /// One bit for each lane of a record that matches, the first one's the lowest.
    fn four(self, lanes: &Lanes<INLINE>, fields: Fields) -> u32;

    /// One bit for each lane of a block that matches, the first one's the lowest.
    fn sixteen(self, lanes: &Lanes<GROUP>, fields: Fields) -> u32;
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
    fn fits(self, frame: &[u8; FRAME_LEN], shape: &Shape) -> bool {
        shape.fits(frame)
    }

    #[inline(always)]
    fn four(self, lanes: &Lanes<INLINE>, fields: Fields) -> u32 {
        lanes.hits(fields)
    }

    #[inline(always)]
    fn sixteen(self, lanes: &Lanes<GROUP>, fields: Fields) -> u32 {
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
        __m128i, __m256i, _mm_add_epi16, _mm_and_si128, _mm_cmpeq_epi8, _mm_cmpeq_epi8_mask,
        _mm_cmpeq_epi16, _mm_cmple_epu16_mask, _mm_cvtepu8_epi16, _mm_cvtsi32_si128,
        _mm_cvtsi64_si128, _mm_loadu_si128, _mm_mask_cmple_epu16_mask, _mm_max_epu16,
        _mm_min_epu16, _mm_movemask_epi8, _mm_movepi8_mask, _mm_mullo_epi16, _mm_or_si128,
        _mm_packs_epi16, _mm_permutexvar_epi16, _mm_set1_epi8, _mm_set1_epi16, _mm_shuffle_epi8,
        _mm256_add_epi16, _mm256_and_si256, _mm256_castsi128_si256, _mm256_castsi256_pd,
        _mm256_castsi256_si128, _mm256_cmpeq_epi16, _mm256_cmpeq_epi64, _mm256_cmple_epu16_mask,
        _mm256_cvtepu8_epi16, _mm256_extracti128_si256, _mm256_loadu_si256,
        _mm256_mask_cmple_epu16_mask, _mm256_max_epu16, _mm256_min_epu16, _mm256_movemask_pd,
        _mm256_mullo_epi16, _mm256_or_si256, _mm256_permutexvar_epi16, _mm256_set1_epi16,
        _mm256_set1_epi64x, _mm256_shuffle_epi8, _mm256_testz_si256, _mm256_xor_si256,
        _mm512_cmpeq_epi64_mask, _mm512_loadu_epi64, _mm512_maskz_loadu_epi8, _mm512_set1_epi64,
        _mm512_test_epi64_mask, _mm512_xor_si512,
    };

    use super::{Compare, Stages};
    use crate::packet::header::FRAME_LEN;
    use crate::packet::shape::Shape;
    use crate::table::record::INLINE;
    use crate::table::rules::{Fields, GROUP, Lanes};

    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,movbe")]
    pub(super) fn v3(stages: impl Stages) {
        stages.run(Avx2(()));
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,movbe")]
    pub(super) fn v4(stages: impl Stages) {
        stages.run(Avx512(()));
    }

    /// As [`Lanes::hits`], for packets without ports: what follows looks at fields that they have not.
    #[cold]
    #[inline(never)]
    fn without_ports<const N: usize>(lanes: &Lanes<N>, fields: Fields) -> u32 {
        lanes.hits(fields)
    }

    /// Four keys, four lanes or sixteen at once. Only made in [`v3`].
    #[derive(Clone, Copy)]
    struct Avx2(());

    impl Compare for Avx2 {
        #[inline(always)]
        fn places(self, keys: &[u64; 8], key: u64) -> u32 {
            // SAFETY: whoever has an `Avx2` got it from `v3`, so the processor has AVX2.
            unsafe { halves_places(keys, key) }
        }

        #[inline(always)]
        fn fits(self, frame: &[u8; FRAME_LEN], shape: &Shape) -> bool {
            // SAFETY: as above.
            unsafe { halves_fit(frame, shape) }
        }

        #[inline(always)]
        fn four(self, lanes: &Lanes<INLINE>, fields: Fields) -> u32 {
            if !fields.has_ports() {
                return without_ports(lanes, fields);
            }
            // SAFETY: as above.
            unsafe { four(lanes, fields) }
        }

        #[inline(always)]
        fn sixteen(self, lanes: &Lanes<GROUP>, fields: Fields) -> u32 {
            if !fields.has_ports() {
                return without_ports(lanes, fields);
            }
            // SAFETY: as above.
            unsafe { sixteen(lanes, fields) }
        }
    }

    /// Eight keys or sixteen lanes at once. Only made in [`v4`].
    #[derive(Clone, Copy)]
    struct Avx512(());

    impl Compare for Avx512 {
        #[inline(always)]
        fn places(self, keys: &[u64; 8], key: u64) -> u32 {
            // SAFETY: whoever has an `Avx512` got it from `v4`, so the processor has AVX-512 F.
            unsafe { places(keys, key) }
        }

        #[inline(always)]
        fn fits(self, frame: &[u8; FRAME_LEN], shape: &Shape) -> bool {
            // SAFETY: as above, and BW.
            unsafe { fits(frame, shape) }
        }

        #[inline(always)]
        fn four(self, lanes: &Lanes<INLINE>, fields: Fields) -> u32 {
            if !fields.has_ports() {
                return without_ports(lanes, fields);
            }
            // SAFETY: as above, BW and VL.
            unsafe { wide_four(lanes, fields) }
        }

        #[inline(always)]
        fn sixteen(self, lanes: &Lanes<GROUP>, fields: Fields) -> u32 {
            if !fields.has_ports() {
                return without_ports(lanes, fields);
            }
            // SAFETY: as above, BW and VL.
            unsafe { wide_sixteen(lanes, fields) }
        }
    }

    /// As [`Shape::fits`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn fits(frame: &[u8; FRAME_LEN], shape: &Shape) -> bool {
        const ALL: u64 = (1 << FRAME_LEN) - 1;
        // SAFETY: as many octets as the mask has bits; the others are not read.
        let frame = unsafe { _mm512_maskz_loadu_epi8(ALL, frame.as_ptr().cast()) };
        // SAFETY: 64 octets.
        let expected = unsafe { _mm512_loadu_epi64(shape.expected.as_ptr().cast()) };
        // SAFETY: 64 octets.
        let mask = unsafe { _mm512_loadu_epi64(shape.mask.as_ptr().cast()) };
        _mm512_test_epi64_mask(_mm512_xor_si512(frame, expected), mask) == 0
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn words(words: [u16; 4]) -> __m128i {
        let bits: u64 = zerocopy::transmute!(words);
        _mm_cvtsi64_si128(bits.cast_signed())
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn octets(octets: [u8; 4]) -> __m128i {
        let bits: u32 = zerocopy::transmute!(octets);
        _mm_cvtsi32_si128(bits.cast_signed())
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn word(fields: Fields) -> __m128i {
        _mm_cvtsi64_si128(fields.word().cast_signed())
    }

    /// As [`Lanes::hits`] for packets with ports: each lane's field is moved to it by a byte shuffle.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn four(lanes: &Lanes<INLINE>, fields: Fields) -> u32 {
        let (low, high, kind) = (words(lanes.low), words(lanes.high), octets(lanes.kind));
        // Field k is in octets 2k and 2k + 1: 0x0202 * k + 0x0100 names both.
        let field = _mm_and_si128(_mm_cvtepu8_epi16(kind), _mm_set1_epi16(3));
        let field = _mm_mullo_epi16(field, _mm_set1_epi16(0x0202));
        let field = _mm_add_epi16(field, _mm_set1_epi16(0x0100));
        let value = _mm_shuffle_epi8(word(fields), field);
        let above = _mm_cmpeq_epi16(_mm_max_epu16(value, low), value);
        let below = _mm_cmpeq_epi16(_mm_min_epu16(value, high), value);
        let inside = _mm_and_si128(above, below);
        let same = _mm_cmpeq_epi8(octets(lanes.next_header), own_protocol(fields));
        // The highest bit of an octet decides: that of `kind` means any next header.
        let hits = _mm_and_si128(_mm_packs_epi16(inside, inside), _mm_or_si128(same, kind));
        _mm_movemask_epi8(hits).cast_unsigned() & ((1 << INLINE) - 1)
    }

    /// As [`four`] for sixteen.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn sixteen(lanes: &Lanes<GROUP>, fields: Fields) -> u32 {
        let (low, high) = (sixteen_words(&lanes.low), sixteen_words(&lanes.high));
        let kind = sixteen_octets(&lanes.kind);
        let field = _mm256_and_si256(_mm256_cvtepu8_epi16(kind), _mm256_set1_epi16(3));
        let field = _mm256_mullo_epi16(field, _mm256_set1_epi16(0x0202));
        let field = _mm256_add_epi16(field, _mm256_set1_epi16(0x0100));
        // Octets are shuffled within each half, so both have all fields.
        let source = _mm256_set1_epi64x(fields.word().cast_signed());
        let value = _mm256_shuffle_epi8(source, field);
        let above = _mm256_cmpeq_epi16(_mm256_max_epu16(value, low), value);
        let below = _mm256_cmpeq_epi16(_mm256_min_epu16(value, high), value);
        let inside = _mm256_and_si256(above, below);
        let (first, second) = (
            _mm256_castsi256_si128(inside),
            _mm256_extracti128_si256::<1>(inside),
        );
        let same = _mm_cmpeq_epi8(sixteen_octets(&lanes.next_header), own_protocol(fields));
        let hits = _mm_and_si128(_mm_packs_epi16(first, second), _mm_or_si128(same, kind));
        _mm_movemask_epi8(hits).cast_unsigned()
    }

    /// The packet's next header in every octet.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn own_protocol(fields: Fields) -> __m128i {
        _mm_set1_epi8(fields.next_header().cast_signed())
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn sixteen_words(words: &[u16; GROUP]) -> __m256i {
        // SAFETY: sixteen words; an unaligned load takes them anywhere.
        unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn sixteen_octets(octets: &[u8; GROUP]) -> __m128i {
        // SAFETY: sixteen octets; an unaligned load takes them anywhere.
        unsafe { _mm_loadu_si128(octets.as_ptr().cast()) }
    }

    /// As [`Lanes::hits`] for packets with ports. Of `kind`, the permutation takes the lowest three
    /// bits, and the mask the highest.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2")]
    fn wide_four(lanes: &Lanes<INLINE>, fields: Fields) -> u32 {
        let kind = octets(lanes.kind);
        let value = _mm_permutexvar_epi16(_mm_cvtepu8_epi16(kind), word(fields));
        let above = _mm_cmple_epu16_mask(words(lanes.low), value);
        let inside = _mm_mask_cmple_epu16_mask(above, value, words(lanes.high));
        let same = _mm_cmpeq_epi8_mask(octets(lanes.next_header), own_protocol(fields));
        let protocol = u32::from(same | _mm_movepi8_mask(kind));
        u32::from(inside) & protocol & ((1 << INLINE) - 1)
    }

    /// As [`wide_four`] for sixteen.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2")]
    fn wide_sixteen(lanes: &Lanes<GROUP>, fields: Fields) -> u32 {
        let kind = sixteen_octets(&lanes.kind);
        // Words 0 to 3 of the permutation's source are all that it takes.
        let source = _mm256_castsi128_si256(word(fields));
        let value = _mm256_permutexvar_epi16(_mm256_cvtepu8_epi16(kind), source);
        let above = _mm256_cmple_epu16_mask(sixteen_words(&lanes.low), value);
        let inside = _mm256_mask_cmple_epu16_mask(above, value, sixteen_words(&lanes.high));
        let next_header = sixteen_octets(&lanes.next_header);
        let same = _mm_cmpeq_epi8_mask(next_header, own_protocol(fields));
        u32::from(inside & (same | _mm_movepi8_mask(kind)))
    }

    /// As [`Shape::fits`]: two pieces of 32 octets, of which the second repeats the first's last ten.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn halves_fit(frame: &[u8; FRAME_LEN], shape: &Shape) -> bool {
        const SECOND: usize = FRAME_LEN - 32;
        const { assert!(SECOND <= 32) };
        let load = |octets: &[u8], at: usize| {
            let piece: &[u8; 32] = octets
                .get(at..)
                .and_then(<[u8]>::first_chunk)
                .unwrap_or(&[0; 32]);
            // SAFETY: 32 octets; an unaligned load takes them anywhere.
            unsafe { _mm256_loadu_si256(piece.as_ptr().cast()) }
        };
        let differ = |at| {
            let apart = _mm256_xor_si256(load(frame, at), load(&shape.expected, at));
            _mm256_and_si256(apart, load(&shape.mask, at))
        };
        let wrong = _mm256_or_si256(differ(0), differ(SECOND));
        _mm256_testz_si256(wrong, wrong) == 1
    }

    /// As [`Compare::places`]: of the plain loop the compiler makes three times as many instructions.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn halves_places(keys: &[u64; 8], key: u64) -> u32 {
        let (halves, _) = keys.as_chunks::<4>();
        let all = _mm256_set1_epi64x(key.cast_signed());
        halves.iter().rev().fold(0, |places, half| {
            // SAFETY: four keys; an unaligned load takes them anywhere.
            let half = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
            let equal = _mm256_castsi256_pd(_mm256_cmpeq_epi64(half, all));
            places << 4 | _mm256_movemask_pd(equal).cast_unsigned()
        })
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

    struct Hits<'a>(
        &'a Lanes<INLINE>,
        &'a Lanes<GROUP>,
        Fields,
        &'a mut (u32, u32),
    );

    impl Stages for Hits<'_> {
        fn run(self, compare: impl Compare + Copy) {
            *self.3 = (
                compare.four(self.0, self.2),
                compare.sixteen(self.1, self.2),
            );
        }
    }

    struct Fits<'a>(&'a [u8; FRAME_LEN], &'a Shape, &'a mut bool);

    impl Stages for Fits<'_> {
        fn run(self, compare: impl Compare + Copy) {
            *self.2 = compare.fits(self.0, self.1);
        }
    }

    /// Small numbers and both ends of the range.
    fn word() -> impl Strategy<Value = u16> {
        prop_oneof![0..8_u16, Just(0x7fff), Just(0x8000), Just(0xffff)]
    }

    proptest! {
        #[test]
        fn every_level_finds_the_same_lanes(
            low in prop::array::uniform16(word()),
            high in prop::array::uniform16(word()),
            next_header in prop::array::uniform16(0..2_u8),
            kind in prop::array::uniform16((0..4_u8, any::<bool>())),
            ports in prop::option::of((word(), word())),
            class: u8,
            protocol in 0..2_u8,
        ) {
            let kind = kind.map(|(field, any)| field | if any { ANY_PROTOCOL } else { 0 });
            let block = Lanes { low, high, next_header, kind };
            let record = Lanes {
                low: *low.first_chunk().unwrap(),
                high: *high.first_chunk().unwrap(),
                next_header: *next_header.first_chunk().unwrap(),
                kind: *kind.first_chunk().unwrap(),
            };
            let ports = ports.map(|(source, destination)| {
                u32::from(source) << 16 | u32::from(destination)
            });
            let fields = Fields::new(protocol, ports, class);
            let expected = (record.hits(fields), block.hits(fields));
            for level in Level::supported() {
                let mut hits = (0, 0);
                level.run(Hits(&record, &block, fields, &mut hits));
                prop_assert_eq!(hits, expected, "{:?}", level);
            }
        }

        #[test]
        fn every_level_knows_the_same_shapes(
            frame in prop::collection::vec(any::<u8>(), FRAME_LEN),
            cared in prop::collection::vec(any::<bool>(), FRAME_LEN),
            change in prop::option::of((0..FRAME_LEN, 0..8_u32)),
        ) {
            let mut frame: [u8; FRAME_LEN] = frame.try_into().unwrap();
            let mut shape = Shape::ANY;
            for (i, cared) in cared.iter().enumerate() {
                let mask = if *cared { 0xff } else { frame[i].rotate_left(3) };
                shape = shape.with(i, &[frame[i]], &[mask]);
            }
            let expected = change.is_none_or(|(at, bit)| {
                frame[at] ^= 1_u8 << bit;
                shape.mask[at] & 1_u8 << bit == 0
            });
            for level in Level::supported() {
                let mut fits = false;
                level.run(Fits(&frame, &shape, &mut fits));
                prop_assert_eq!(fits, expected, "{:?}", level);
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
