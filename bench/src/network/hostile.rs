//! Frames of somebody who means harm.

use std::net::Ipv6Addr;

use nd::packet::{checksum, ipv6_packet};

use super::{MACS, PEER_MAC, TUNNELLED, anchor, edge_address, ethernet, gateway, prefix, template};
use crate::case::{Size, Work};
use crate::hostile::Attack;

/// What is copied for each packet, and what is then written into it.
#[derive(Debug)]
pub(crate) struct HostileFrame {
    /// The whole frame, at least 64 octets.
    pub(crate) template: Vec<u8>,
    /// Makes it another one. Takes a random number.
    pub(crate) vary: Vary,
}

type Vary = fn(&mut [u8], u64);

/// Where addresses are in a frame.
const SOURCE: usize = 14 + 8;
const DESTINATION: usize = 14 + 24;
/// Where the upper layer begins.
const UPPER: usize = 14 + 40;

/// Hosts that are configured nowhere have this network.
const STRANGER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 0);

/// The frames of an attack.
pub(crate) fn hostile(attack: Attack) -> HostileFrame {
    let of = |work, octets| {
        template(work, Size::Fixed(64))
            .into_iter()
            .take(octets)
            .collect()
    };
    let (template, vary): (Vec<u8>, Vary) = match attack {
        Attack::StrangersSignalling => (signalling(STRANGER), |frame, random| {
            put(frame, SOURCE + 8, &random.to_be_bytes());
        }),
        Attack::PeersSignalling => (signalling(gateway(1)), |_, _| ()),
        Attack::Discovery => (advertisement(), |frame, random| {
            let [a, b, c, d, e, f, ..] = random.to_be_bytes();
            put(frame, 8, &[a, b, c, d]);
            // The source is the target; the sum of both stays what it was.
            let host = [e, f, !e, !f];
            put(frame, SOURCE + 12, &host);
            put(frame, UPPER + 8 + 12, &host);
        }),
        Attack::NeighbourScan => (of(Work::LmaDownlink, 64), |frame, random| {
            put(frame, DESTINATION, &edge_address(0).octets());
            put(frame, DESTINATION + 8, &(random | 1 << 63).to_be_bytes());
        }),
        Attack::PoolScan => (of(Work::LmaDownlink, 64), |frame, random| {
            put(frame, DESTINATION, &nobodys(random));
        }),
        Attack::ForgedTunnel => {
            let mut frame: Vec<u8> = of(Work::LmaUplink, TUNNELLED);
            put(&mut frame, 0, &MACS[1].0);
            put(&mut frame, SOURCE, &STRANGER.octets());
            (frame, |frame, random| {
                put(frame, SOURCE + 8, &random.to_be_bytes());
            })
        }
        Attack::UnknownStation => (of(Work::MagUplink, 64), |frame, random| {
            let [a, b, c, d, ..] = (random | 1 << 63).to_be_bytes();
            put(frame, 8, &[a, b, c, d]);
        }),
        Attack::ForgedSource => (of(Work::MagUplink, 64), |frame, random| {
            put(frame, SOURCE, &nobodys(random));
        }),
    };
    HostileFrame { template, vary }
}

/// The upper half of an address in the pool, of a mobile that there is not.
fn nobodys(random: u64) -> [u8; 8] {
    let [.., a, b] = (random >> 32).to_be_bytes();
    let mobile = u32::from_be_bytes([0, 0x80, a, b]);
    prefix(mobile).to_be_bytes()
}

/// A Mobility Header of the least length to the anchor.
fn signalling(from: Ipv6Addr) -> Vec<u8> {
    const MOBILITY: u8 = 135;
    frame(&ipv6_packet(
        from,
        anchor(),
        MOBILITY,
        64,
        &[59, 0, 5, 0, 0, 0, 0, 0],
    ))
}

/// A Neighbor Advertisement about its source, for the anchor's address on the edge.
fn advertisement() -> Vec<u8> {
    const ICMPV6: u8 = 58;
    let (from, to) = (edge_address(0), edge_address(1));
    let mut message = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
    message.extend(from.octets());
    // As the random part will leave it.
    let neutral = [0, 0, 0xff, 0xff];
    put(&mut message, 8 + 12, &neutral);
    let mut packet = ipv6_packet(from, to, ICMPV6, 255, &message);
    put(&mut packet, 8 + 12, &neutral);
    let mut source = from.octets();
    put(&mut source, 12, &neutral);
    let sum = checksum(source.into(), to, ICMPV6, &message).to_be_bytes();
    put(&mut packet, 40 + 2, &sum);
    frame(&packet)
}

/// A packet in a frame to the edge, of at least 64 octets.
fn frame(packet: &[u8]) -> Vec<u8> {
    let mut frame = Vec::from(ethernet(MACS[1], PEER_MAC));
    frame.extend(packet);
    frame.resize(frame.len().max(64), 0);
    frame
}

#[inline]
fn put(frame: &mut [u8], at: usize, octets: &[u8]) {
    if let Some(place) = frame.get_mut(at..at + octets.len()) {
        place.copy_from_slice(octets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advertisements_have_a_right_checksum_however_they_vary() {
        let HostileFrame { mut template, vary } = hostile(Attack::Discovery);
        for random in [0, u64::MAX, 0x0123_4567_89ab_cdef] {
            vary(&mut template, random);
            let source: [u8; 16] = template[SOURCE..][..16].try_into().unwrap();
            assert_eq!(source, template[UPPER + 8..][..16]);
            let sum = checksum(source.into(), edge_address(1), 58, &template[UPPER..]);
            assert_eq!(sum, 0);
        }
    }

    #[test]
    fn nobody_has_the_prefixes_that_are_asked_for() {
        let mobiles: std::collections::HashSet<u64> = (0..100_000).map(prefix).collect();
        for random in (0..1000).map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            assert!(!mobiles.contains(&u64::from_be_bytes(nobodys(random))));
        }
    }
}
