//! Like beside like: each stage then goes straight through the packets it is for.

use crate::ingress::Passage;
use crate::io::{BURST, Burst};

/// Puts the packets of a burst that go the same way beside each other. They stay in order among
/// themselves, and the ways in that of their first packets.
///
/// A processor cannot guess which of a burst's packets go another way than most. Asked for each of them in
/// every stage, it would be wrong as often; here nothing depends on the answer but where a packet is put.
#[cold]
#[inline(never)]
pub(super) fn gather<P>(burst: &mut Burst<P>, passages: &mut [Passage]) {
    let mut ways = [0_u8; BURST];
    for (way, passage) in ways.iter_mut().zip(&*passages) {
        *way = way_of(passage);
    }
    let all = u32::MAX >> (BURST - passages.len().clamp(1, BURST));
    let (mut order, mut placed, mut left) = ([0_u8; BURST], 0, all);
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

/// A number that packets share which go the same way: their lane, and whether a binding was found on it.
#[inline(always)]
fn way_of(passage: &Passage) -> u8 {
    (passage.lane as u8) << 1 | u8::from(passage.slot.is_none())
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
    use crate::ingress::Lane;

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
            lanes in prop::collection::vec(prop::sample::select(LANES.as_slice()), 0..=BURST),
        ) {
            let passage = |(key, lane)| Passage { key, lane, ..Passage::NEW };
            let mut passages: Vec<Passage> = (0..).zip(lanes).map(passage).collect();
            let mut burst: Burst<u64> = passages.iter().map(|passage| passage.key).collect();
            let mut firsts: Vec<Lane> = Vec::new();
            for passage in &passages {
                if !firsts.contains(&passage.lane) {
                    firsts.push(passage.lane);
                }
            }
            let of = |lane| passages.iter().filter(move |passage| passage.lane == lane);
            let expected: Vec<u64> = firsts.into_iter().flat_map(of).map(|p| p.key).collect();
            gather(&mut burst, &mut passages);
            prop_assert_eq!(&expected, burst.as_slice());
            let moved: Vec<u64> = passages.iter().map(|passage| passage.key).collect();
            prop_assert_eq!(expected, moved);
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
