//! The floor: the same packets through a bare loop that looks up, matches four selectors,
//! encapsulates (or checks both sources and bares), and counts, and nothing else. No other field, no
//! neighbour, no MTU, no congestion mark, no drop: whatever meets none of its expectations is
//! counted as lost, and the run is void.
//!
//! Buckets of eight keys in one cache line, compared at once; records of one cache line under the
//! number of the key's place; both read for the whole burst before the first is needed, so that their
//! misses overlap. (A prefetch instead is dropped where it misses the TLB: with a million bindings
//! that costs some forty cycles.)

#![expect(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    clippy::indexing_slicing,
    clippy::inline_always,
    clippy::cast_possible_truncation,
    clippy::cast_ptr_alignment,
    reason = "as bare as the machine allows: with bounds checks, calls or without vector \
              instructions it would be no floor"
)]

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use std::io;

use dpdk::{Burst, Mbuf, RxQueue, TxQueue};

use crate::case::{Memory, Work};
use crate::generator::{GeneratorIo, prefix_offset};
use crate::network::{self, FIRST_PORT, TUNNELS};
use crate::pages::{Pages, Zero};

/// Packets handled together.
pub(crate) const BURST: usize = 32;

/// Selectors of a record.
const SELECTORS: u16 = 4;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Bucket([u64; 8]);

// SAFETY: an array of integers.
unsafe impl Zero for Bucket {}

#[derive(Clone, Copy)]
#[repr(C)]
struct Selector {
    low: u16,
    high: u16,
    protocol: u8,
    tunnel: u8,
    unused: u16,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Record {
    tunnel: u32,
    selectors: u32,
    selector: [Selector; SELECTORS as usize],
    packets: u64,
    octets: u64,
}

const _: () = assert!(size_of::<Record>() == 64);

// SAFETY: integers only.
unsafe impl Zero for Record {}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Header([u8; 64]);

/// The tables of the bare loop.
pub(crate) struct Floor {
    work: Work,
    buckets: Pages<Bucket>,
    records: Pages<Record>,
    headers: Vec<Header>,
    lost: u64,
    queues: (RxQueue, TxQueue),
    turn: fn(&mut Self, &mut [Mbuf]),
}

impl Floor {
    /// Tables with this many prefixes on pages of this kind, and its queues.
    ///
    /// # Errors
    /// The kernel's, if it has no such memory.
    pub(crate) fn new(
        work: Work,
        bindings: u32,
        memory: Memory,
        queues: (RxQueue, TxQueue),
    ) -> io::Result<Self> {
        let mut count = 64_u32;
        while u64::from(count) * 8 * 6 / 10 < u64::from(bindings) {
            count *= 2;
        }
        let mut floor = Self {
            work,
            buckets: Pages::new(count as usize, memory)?,
            records: Pages::new(count as usize * 8, memory)?,
            // The one after the last is the first again, as a mobile's second tunnel.
            headers: (0..=TUNNELS)
                .map(|number| {
                    let mut header = Header([0; 64]);
                    let outer = network::outer(work, number % TUNNELS);
                    header.0[..54].copy_from_slice(&outer);
                    header
                })
                .collect(),
            lost: 0,
            queues,
            turn: fastest(),
        };
        for mobile in 0..bindings {
            floor.insert(mobile);
        }
        Ok(floor)
    }

    fn insert(&mut self, mobile: u32) {
        let key = network::prefix(mobile).to_be();
        let mask = self.buckets.len() - 1;
        let mut number = hash(key) as usize & mask;
        let place = loop {
            let bucket = &mut self.buckets[number];
            if let Some(place) = bucket.0.iter().position(|held| *held == 0) {
                bucket.0[place] = key;
                break number * 8 + place;
            }
            number = (number + 1) & mask;
        };
        let tunnel = |rule: u16| {
            if self.work.is_lma() {
                (network::tunnel_of(mobile) + rule) % TUNNELS
            } else {
                0
            }
        };
        let selector = |rule: u16| Selector {
            low: FIRST_PORT + rule,
            high: FIRST_PORT + rule,
            protocol: 17,
            tunnel: tunnel(rule).to_le_bytes()[0],
            unused: 0,
        };
        let record = Record {
            tunnel: tunnel(0).into(),
            selectors: SELECTORS.into(),
            selector: [0, 1, 2, 3].map(selector),
            packets: 0,
            octets: 0,
        };
        self.records[place] = record;
    }

    /// Receives, handles and sends one burst; returns how many packets.
    #[inline]
    pub(crate) fn turn(&mut self, generator: &mut GeneratorIo) -> usize {
        let mut burst = Burst::<BURST>::new();
        self.queues.0.burst(&mut burst);
        generator.generate(&mut burst);
        let count = burst.len();
        (self.turn)(self, &mut burst);
        self.queues.1.burst(&mut burst);
        count
    }

    /// Packets that were not as expected.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    #[inline(always)]
    fn handle<M: Match>(&mut self, burst: &mut [Mbuf]) {
        let mut places = [0; BURST];
        self.find::<M>(burst, &mut places);
        match self.work {
            Work::LmaDownlink => self.tunnel(burst, &places, select),
            Work::MagUplink => self.tunnel(burst, &places, |record, _| record.tunnel),
            Work::LmaUplink => self.bare::<2>(burst, &places),
            Work::MagDownlink => self.bare::<1>(burst, &places),
        }
    }

    #[inline(always)]
    fn find<M: Match>(&mut self, burst: &mut [Mbuf], places: &mut [usize; BURST]) {
        let at = prefix_offset(self.work);
        let mask = self.buckets.len() - 1;
        let (buckets, records) = (self.buckets.as_ptr(), self.records.as_ptr());
        let mut keys = [0u64; BURST];
        for ((key, place), packet) in keys.iter_mut().zip(&mut *places).zip(&mut *burst) {
            let frame = packet.data_mut().as_ptr();
            // SAFETY: the generator's frames are longer than `at + 8`.
            *key = unsafe { frame.add(at).cast::<u64>().read_unaligned() };
            *place = hash(*key) as usize & mask;
            // SAFETY: the mask keeps the number within the buckets.
            let bucket = unsafe { buckets.add(*place) };
            // SAFETY: a prefetch does not fault.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(bucket.cast()) };
        }
        let mut read = 0;
        for (place, _) in places.iter().zip(&*burst) {
            // SAFETY: the mask keeps the number within the buckets.
            read ^= unsafe { (*buckets.add(*place)).0[0] };
        }
        std::hint::black_box(read);
        for ((key, place), _) in keys.iter().zip(&mut *places).zip(&*burst) {
            let mut number = *place;
            *place = loop {
                // SAFETY: as above.
                let bucket = unsafe { &*buckets.add(number) };
                let hits = M::places(bucket, *key);
                if hits != 0 {
                    break number * 8 + hits.trailing_zeros() as usize;
                }
                if M::places(bucket, 0) != 0 {
                    self.lost += 1;
                    break 0;
                }
                number = (number + 1) & mask;
            };
            // SAFETY: there are eight records for each bucket.
            let record = unsafe { records.add(*place) };
            // SAFETY: a prefetch does not fault.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(record.cast()) };
        }
        let mut read = 0;
        for (place, _) in places.iter().zip(&*burst) {
            // SAFETY: there are eight records for each bucket.
            read ^= unsafe { (*records.add(*place)).tunnel };
        }
        std::hint::black_box(read);
    }

    /// Selects, counts, encapsulates.
    #[inline(always)]
    fn tunnel(
        &mut self,
        burst: &mut [Mbuf],
        places: &[usize; BURST],
        choose: impl Fn(&Record, *const u8) -> u32,
    ) {
        let mut tunnels = [0; BURST];
        for ((tunnel, place), packet) in tunnels.iter_mut().zip(places).zip(&mut *burst) {
            // SAFETY: `find` gave a place of the records.
            let record = unsafe { self.records.get_unchecked_mut(*place) };
            *tunnel = choose(record, packet.data_mut().as_ptr());
            record.packets += 1;
            record.octets += packet.len() as u64;
        }
        for (tunnel, packet) in tunnels.iter().zip(burst) {
            let inner = packet.data_mut().as_mut_ptr();
            // SAFETY: the frame has an Ethernet and an IPv6 header.
            unsafe { *inner.add(21) -= 1 };
            // SAFETY: as above.
            let length = unsafe { inner.add(18).cast::<[u8; 2]>().read() };
            let Some(front) = packet.prepend(40) else {
                self.lost += 1;
                continue;
            };
            let outer = front.as_mut_ptr();
            // SAFETY: tunnel numbers are below the number of headers.
            let header = unsafe { self.headers.get_unchecked(*tunnel as usize) };
            // SAFETY: 40 new octets and 14 of the old Ethernet header.
            unsafe { outer.copy_from_nonoverlapping(header.0.as_ptr(), 54) };
            let length = (u16::from_be_bytes(length) + 40).to_be_bytes();
            // SAFETY: within those 54 octets.
            unsafe { outer.add(18).cast::<[u8; 2]>().write(length) };
        }
    }

    /// Counts, checks the outer header and the hop limit, bares. The packet may come through so many
    /// tunnels in a row, from the record's own on.
    #[inline(always)]
    fn bare<const SOURCES: usize>(&mut self, burst: &mut [Mbuf], places: &[usize; BURST]) {
        let mut tunnels = [0; BURST];
        for ((tunnel, place), packet) in tunnels.iter_mut().zip(places).zip(&mut *burst) {
            // SAFETY: `find` gave a place of the records.
            let record = unsafe { self.records.get_unchecked_mut(*place) };
            *tunnel = record.tunnel;
            record.packets += 1;
            record.octets += packet.len() as u64;
        }
        for (tunnel, packet) in tunnels.iter().zip(burst) {
            let first = *tunnel as usize;
            // SAFETY: tunnel numbers are below the number of headers, of which there is one more.
            let headers = unsafe { self.headers.get_unchecked(first..first + SOURCES) };
            let header = &headers[0];
            let frame = packet.data_mut().as_mut_ptr();
            // SAFETY: the frame has an Ethernet header and two IPv6 headers.
            let outer = unsafe { &*frame.cast::<[u8; 94]>() };
            let address = |bytes: &[u8], at: usize| {
                // SAFETY: only called with 16 octets left.
                unsafe { bytes.as_ptr().add(at).cast::<u128>().read_unaligned() }
            };
            // What we would send on such a tunnel, turned round. Which it is, no one can tell: no jump.
            let source = address(outer, 22);
            let known = headers.iter().fold(false, |known, header| {
                known | (address(&header.0, 38) == source)
            });
            let wrong = outer[20] != 41
                || address(outer, 38) != address(&header.0, 22)
                || !known
                || outer[61] <= 1;
            self.lost += u64::from(wrong);
            // SAFETY: as above.
            unsafe { *frame.add(61) -= 1 };
            packet.trim_front(40);
            let bared = packet.data_mut().as_mut_ptr();
            // SAFETY: 14 octets of what was the outer header, in front of the inner one.
            unsafe { bared.copy_from_nonoverlapping(header.0.as_ptr(), 14) };
        }
    }
}

/// The tunnel of the first selector that matches, without a branch.
#[inline(always)]
fn select(record: &Record, frame: *const u8) -> u32 {
    // SAFETY: the frame has an Ethernet, an IPv6 and a UDP header.
    let port = u16::from_be_bytes(unsafe { frame.add(56).cast::<[u8; 2]>().read() });
    // SAFETY: as above.
    let protocol = unsafe { *frame.add(20) };
    let mut hits = 0;
    for (bit, selector) in record.selector.iter().enumerate() {
        let inside = u32::from(port >= selector.low) & u32::from(port <= selector.high);
        let same = u32::from(selector.protocol == 0) | u32::from(selector.protocol == protocol);
        hits |= (inside & same) << bit;
    }
    hits &= (1 << record.selectors) - 1;
    let first = (hits | 16).trailing_zeros() as usize & 3;
    if hits == 0 {
        record.tunnel
    } else {
        record.selector[first].tunnel.into()
    }
}

/// How eight keys are compared with one.
trait Match {
    fn places(bucket: &Bucket, key: u64) -> u32;
}

struct Scalar;
struct Avx2;
struct Avx512;

/// One instruction, as good as is needed for keys that nobody chose with bad intent.
#[inline(always)]
fn hash(key: u64) -> u64 {
    #[inline]
    #[target_feature(enable = "sse4.2")]
    fn crc(key: u64) -> u64 {
        std::arch::x86_64::_mm_crc32_u64(0, key)
    }
    // SAFETY: DPDK is compiled for SSE4.2 and ends a process that has not got it.
    unsafe { crc(key) }
}

impl Match for Scalar {
    #[inline(always)]
    fn places(bucket: &Bucket, key: u64) -> u32 {
        let mut places = 0;
        for (place, held) in bucket.0.iter().enumerate() {
            places |= u32::from(*held == key) << place;
        }
        places
    }
}

impl Match for Avx2 {
    #[inline(always)]
    fn places(bucket: &Bucket, key: u64) -> u32 {
        // SAFETY: only reached through `turn_avx2`.
        unsafe { places_avx2(bucket, key) }
    }
}

impl Match for Avx512 {
    #[inline(always)]
    fn places(bucket: &Bucket, key: u64) -> u32 {
        // SAFETY: only reached through `turn_avx512`.
        unsafe { places_avx512(bucket, key) }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn places_avx2(bucket: &Bucket, key: u64) -> u32 {
    use std::arch::x86_64::{
        __m256i, _mm256_castsi256_pd, _mm256_cmpeq_epi64, _mm256_load_si256, _mm256_movemask_pd,
        _mm256_set1_epi64x,
    };
    let half = |first: usize| {
        let keys = bucket.0.as_ptr().wrapping_add(first).cast::<__m256i>();
        // SAFETY: four keys, aligned as the bucket is.
        let keys = unsafe { _mm256_load_si256(keys) };
        let equal = _mm256_cmpeq_epi64(keys, _mm256_set1_epi64x(key.cast_signed()));
        _mm256_movemask_pd(_mm256_castsi256_pd(equal)).cast_unsigned()
    };
    half(0) | half(4) << 4
}

#[inline]
#[target_feature(enable = "avx512f")]
fn places_avx512(bucket: &Bucket, key: u64) -> u32 {
    use std::arch::x86_64::{
        __m512i, _mm512_cmpeq_epi64_mask, _mm512_load_si512, _mm512_set1_epi64,
    };
    // SAFETY: a bucket is 64 octets, so aligned.
    let keys = unsafe { _mm512_load_si512(bucket.0.as_ptr().cast::<__m512i>()) };
    _mm512_cmpeq_epi64_mask(keys, _mm512_set1_epi64(key.cast_signed())).into()
}

#[target_feature(enable = "sse4.2")]
fn turn_scalar(floor: &mut Floor, burst: &mut [Mbuf]) {
    floor.handle::<Scalar>(burst);
}

#[target_feature(enable = "avx2")]
fn turn_avx2(floor: &mut Floor, burst: &mut [Mbuf]) {
    floor.handle::<Avx2>(burst);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt")]
fn turn_avx512(floor: &mut Floor, burst: &mut [Mbuf]) {
    floor.handle::<Avx512>(burst);
}

/// The widest way that this processor has.
fn fastest() -> fn(&mut Floor, &mut [Mbuf]) {
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("bmi2");
    if avx512 {
        // SAFETY: the processor has just said that it can.
        |floor, burst| unsafe { turn_avx512(floor, burst) }
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has just said that it can.
        |floor, burst| unsafe { turn_avx2(floor, burst) }
    } else {
        // SAFETY: as for `hash`.
        |floor, burst| unsafe { turn_scalar(floor, burst) }
    }
}
