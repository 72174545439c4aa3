//! Like beside like: each stage then goes straight through the packets it is for.

use arrayvec::ArrayVec;

use crate::ingress::{Lane, Passage};
use crate::io::{BURST, Burst};

/// Packets that were taken out of a burst, with what is known of each, in the order they came.
#[derive(Debug)]
pub(super) struct Strays<P> {
    pub(super) packets: Burst<P>,
    pub(super) passages: ArrayVec<Passage, BURST>,
}

impl<P> Default for Strays<P> {
    fn default() -> Self {
        Self {
            packets: Burst::new(),
            passages: ArrayVec::new(),
        }
    }
}

/// Whether a packet is on none of the lanes of mobiles' packets, or its mobile is unknown.
#[inline(always)]
pub(super) fn is_stray(passage: &Passage) -> bool {
    let on_lane = matches!(
        passage.lane,
        Lane::Forward | Lane::LmaExit | Lane::MagExit | Lane::Access
    );
    !on_lane || passage.slot.is_none()
}

/// How many of the first packets are on one lane: all, unless the burst is mixed.
#[inline(always)]
pub(super) fn run_len(passages: &[Passage], mixed: bool) -> usize {
    let lane = passages.first().map(|passage| passage.lane);
    let is_other = |passage: &Passage| Some(passage.lane) != lane;
    let other = || passages.iter().position(is_other);
    mixed.then(other).flatten().unwrap_or(passages.len())
}

/// Takes the strays out of a burst and puts those of the others beside each other that go the same way. Packets stay in
/// order among themselves, and the ways in that of their first packets.
///
/// A processor cannot guess which of a burst's packets go another way than most. Asked for each of them in
/// every stage, it would be wrong as often; here nothing depends on the answer but where a packet is put. A single
/// stray, which anyone can send, costs no more than closing its gap.
#[cold]
#[inline(never)]
pub(super) fn sort<P>(burst: &mut Burst<P>, passages: &mut [Passage], strays: &mut Strays<P>) {
    let ways = ways_of(passages);
    let all = first(burst.len());
    let stray = same_as(STRAY, &ways) & all;
    let usual = all & !stray;
    if stray != 0 {
        take_out(stray, burst, passages, strays);
    }
    let leader = ways.get(usual.trailing_zeros() as usize);
    if leader.is_some_and(|way| usual & !same_as(*way, &ways) != 0) {
        gather(burst, passages);
    }
}

/// Takes the packets out whose bits are set, and closes the gaps.
fn take_out<P>(which: u32, burst: &mut Burst<P>, passages: &mut [Passage], strays: &mut Strays<P>) {
    if which == first(burst.len()) {
        std::mem::swap(burst, &mut strays.packets);
        strays.passages.extend(passages.iter().copied());
        return;
    }
    let mut left = which;
    while left != 0 {
        // Those before it have gone.
        let (place, now) = (left.trailing_zeros() as usize, strays.packets.len());
        left &= left - 1;
        if let (Some(packet), Some(passage)) = (burst.pop_at(place - now), passages.get(place)) {
            strays.packets.push(packet);
            strays.passages.push(*passage);
        }
    }
    let first = which.trailing_zeros() as usize;
    let mut to = first;
    for from in first..passages.len() {
        if let Some(passage) = passages.get(from).copied()
            && let Some(place) = passages.get_mut(to)
        {
            *place = passage;
            to += usize::from(which >> from & 1 == 0);
        }
    }
}

/// Puts the packets of a burst beside each other that are on the same lane.
fn gather<P>(burst: &mut Burst<P>, passages: &mut [Passage]) {
    let passages = passages.get_mut(..burst.len()).unwrap_or_default();
    let ways = ways_of(passages);
    let (mut order, mut placed, mut left) = ([0_u8; BURST], 0, first(burst.len()));
    while let Some(way) = ways.get(left.trailing_zeros() as usize) {
        let mut same = left & same_as(*way, &ways);
        left &= !same;
        while same != 0
            && let Some(place) = order.get_mut(placed)
        {
            // Below BURST.
            *place = same.trailing_zeros().to_le_bytes()[0];
            same &= same - 1;
            placed += 1;
        }
    }
    arrange(&order, burst, passages);
}

/// No lane has this number.
const STRAY: u8 = 0x7f;

/// A number for each passage, which those share that go the same way.
#[inline(always)]
fn ways_of(passages: &[Passage]) -> [u8; BURST] {
    let mut ways = [0; BURST];
    for (way, passage) in ways.iter_mut().zip(passages) {
        *way = if is_stray(passage) {
            STRAY
        } else {
            passage.lane as u8
        };
    }
    ways
}

/// The lowest `count` bits.
#[inline(always)]
fn first(count: usize) -> u32 {
    let count = u32::try_from(count).unwrap_or(u32::BITS);
    u32::MAX.unbounded_shr(u32::BITS.saturating_sub(count))
}

/// One bit for each that is `way`, the first one's the lowest: eight at a time, on any processor.
#[inline(always)]
fn same_as(way: u8, ways: &[u8; BURST]) -> u32 {
    let way = u64::from_ne_bytes([way; 8]);
    let (eights, _) = ways.as_chunks();
    eights.iter().rev().fold(0, |same, eight| {
        // Both are below 128, so that the highest bit of a sum tells whether they differ.
        let differ = (u64::from_le_bytes(*eight) ^ way) + u64::from_ne_bytes([0x7f; 8]);
        let equal = !differ & u64::from_ne_bytes([0x80; 8]);
        // The highest bits of the octets, beside each other in the highest octet.
        let bits = (equal >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        same << 8 | bits as u32
    })
}

/// Puts at each place the packet whose number is there in `order`, which names each of them once.
#[inline(always)]
fn arrange<P>(order: &[u8; BURST], burst: &mut Burst<P>, passages: &mut [Passage]) {
    let mut was = [Passage::NEW; BURST];
    for (was, passage) in was.iter_mut().zip(&*passages) {
        *was = *passage;
    }
    let mut packets = [const { None }; BURST];
    for (place, packet) in packets.iter_mut().zip(burst.drain(..)) {
        *place = Some(packet);
    }
    for (number, passage) in order.iter().zip(passages) {
        let number = usize::from(*number);
        if let (Some(was), Some(packet)) = (was.get(number), packets.get_mut(number)) {
            *passage = *was;
            burst.extend(packet.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::table::Slot;

    const LANES: [Lane; 8] = [
        Lane::Forward,
        Lane::LmaExit,
        Lane::MagExit,
        Lane::Access,
        Lane::Unbound,
        Lane::Stranger,
        Lane::Local,
        Lane::Drop,
    ];

    proptest! {
        #[test]
        fn like_stands_beside_like_in_the_order_it_came(
            lanes in prop::collection::vec(
                (prop::sample::select(LANES.as_slice()), prop::option::weighted(0.8, 0..9_u32)),
                0..=BURST,
            ),
        ) {
            let passage = |(key, (lane, slot)): (u64, (Lane, Option<u32>))| Passage {
                key,
                lane,
                slot: slot.map(Slot::new),
                ..Passage::NEW
            };
            let mut passages: Vec<Passage> = (0..).zip(lanes).map(passage).collect();
            let mut burst: Burst<u64> = passages.iter().map(|passage| passage.key).collect();
            let (out, stay): (Vec<Passage>, Vec<Passage>) = passages.iter().partition(|p| is_stray(p));
            let mut firsts: Vec<Lane> = Vec::new();
            for passage in &stay {
                if !firsts.contains(&passage.lane) {
                    firsts.push(passage.lane);
                }
            }
            let of = |lane| stay.iter().filter(move |passage| passage.lane == lane);
            let expected: Vec<u64> = firsts.into_iter().flat_map(of).map(|p| p.key).collect();
            let mut strays = Strays::default();
            sort(&mut burst, &mut passages, &mut strays);
            let keys = |passages: &[Passage]| passages.iter().map(|p| p.key).collect::<Vec<_>>();
            prop_assert_eq!(&expected, burst.as_slice());
            prop_assert_eq!(expected, keys(&passages[..burst.len()]));
            prop_assert_eq!(strays.packets.as_slice(), keys(&out));
            prop_assert_eq!(keys(&strays.passages), keys(&out));
        }

        #[test]
        fn each_that_is_the_same_has_its_bit(ways: [u8; BURST], way: u8) {
            let ways = ways.map(|way| way & 0x0f);
            let same = same_as(way & 0x0f, &ways);
            for (number, other) in ways.iter().enumerate() {
                prop_assert_eq!(same >> number & 1 == 1, *other == way & 0x0f);
            }
        }
    }
}
