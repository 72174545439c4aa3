//! The Mobility Header checksum (RFC 6275 §6.1.1, RFC 1071).

use std::net::Ipv6Addr;

/// Next header value of the Mobility Header; the pseudo-header has it even when extension headers
/// come before the Mobility Header (RFC 8200 §8.1).
const NEXT_HEADER: u64 = 135;

/// The checksum of a Mobility Header between two addresses, whatever its checksum field holds.
///
/// `mh` is the whole Mobility Header and nothing after it; the addresses are those of the IPv6
/// header that carries it. The result is in host order.
pub fn compute(mh: &[u8], source: Ipv6Addr, destination: Ipv6Addr) -> u16 {
    let field = mh
        .get(4..6)
        .and_then(|f| f.first_chunk())
        .map_or(0, |f| u16::from_be_bytes(*f));
    // Adding the complement of a number takes it out of a one's-complement sum.
    !fold(sum(mh, source, destination) + u64::from(!field))
}

/// Whether the checksum field of a Mobility Header is right.
pub fn verify(mh: &[u8], source: Ipv6Addr, destination: Ipv6Addr) -> bool {
    fold(sum(mh, source, destination)) == u16::MAX
}

fn sum(mh: &[u8], source: Ipv6Addr, destination: Ipv6Addr) -> u64 {
    words(&source.octets())
        + words(&destination.octets())
        + mh.len() as u64
        + NEXT_HEADER
        + words(mh)
}

/// The sum of all 16-bit words; an odd last octet counts as if a zero followed.
fn words(octets: &[u8]) -> u64 {
    let (pairs, rest) = octets.as_chunks::<2>();
    let last = rest.first().map_or(0, |o| u64::from(*o) << 8);
    pairs
        .iter()
        .map(|pair| u64::from(u16::from_be_bytes(*pair)))
        .sum::<u64>()
        + last
}

fn fold(mut sum: u64) -> u16 {
    while sum > u64::from(u16::MAX) {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    #[expect(clippy::cast_possible_truncation, reason = "the loop left 16 bits")]
    let folded = sum as u16;
    folded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, word for word: zero the field, append to the pseudo-header, add with
    /// end-around carry, complement.
    fn by_the_book(mh: &[u8], source: Ipv6Addr, destination: Ipv6Addr) -> u16 {
        let mut octets = [source.octets(), destination.octets()].concat();
        octets.extend(u32::try_from(mh.len()).unwrap().to_be_bytes());
        octets.extend([0, 0, 0, 135]);
        octets.extend(mh);
        octets[44] = 0;
        octets[45] = 0;
        let sum = octets.chunks(2).fold(0u16, |sum, pair| {
            let (sum, carry) = sum.overflowing_add(u16::from_be_bytes([pair[0], pair[1]]));
            sum + u16::from(carry)
        });
        !sum
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            words in prop::collection::vec(any::<u16>(), 4..128),
            source: u128,
            destination: u128,
        ) {
            let mut mh: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
            let (source, destination) = (source.into(), destination.into());
            let checksum = compute(&mh, source, destination);
            prop_assert_eq!(checksum, by_the_book(&mh, source, destination));
            mh[4..6].copy_from_slice(&checksum.to_be_bytes());
            prop_assert!(verify(&mh, source, destination));
            mh[7] ^= 1;
            prop_assert!(!verify(&mh, source, destination));
        }
    }
}
