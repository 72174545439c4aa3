//! The Internet checksum over the IPv6 pseudo-header (RFC 8200 §8.1, RFC 1071).

/// The checksum field's value for `payload` between two addresses; the field itself must be zero in
/// `payload`. Over a payload whose checksum is right the result is 0.
pub(crate) fn over(source: u128, destination: u128, next_header: u8, payload: &[u8]) -> u16 {
    let mut sum: u64 = 0;
    for word in [source, destination] {
        sum += fold_wide(word);
    }
    sum += payload.len() as u64 + u64::from(next_header);
    let (words, tail) = payload.as_chunks::<4>();
    for word in words {
        sum += u64::from(u32::from_be_bytes(*word));
    }
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(tail) {
        *to = *from;
    }
    !fold(sum + u64::from(u32::from_be_bytes(last)))
}

/// Sum of the four 32-bit words of an address.
fn fold_wide(word: u128) -> u64 {
    let [a, b] = [
        (word >> 64) & u128::from(u64::MAX),
        word & u128::from(u64::MAX),
    ]
    .map(|half| u64::try_from(half).unwrap_or_default());
    (a >> 32) + (a & 0xffff_ffff) + (b >> 32) + (b & 0xffff_ffff)
}

/// Folds a sum of 16-bit words that were added up in larger ones.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_etherparse(
            source: u128,
            destination: u128,
            payload in proptest::collection::vec(any::<u8>(), 8..200),
        ) {
            let (source, destination_) = (source.to_be_bytes(), destination.to_be_bytes());
            let mut payload = payload;
            payload[2..4].fill(0);
            let icmp = etherparse::Icmpv6Slice::from_slice(&payload);
            prop_assume!(icmp.is_ok());
            let sum = over(u128::from_be_bytes(source), destination, 58, &payload);
            payload[2..4].copy_from_slice(&sum.to_be_bytes());
            let icmp = etherparse::Icmpv6Slice::from_slice(&payload).unwrap();
            prop_assert!(icmp.is_checksum_valid(source, destination_));
            let again = over(u128::from_be_bytes(source), destination, 58, &payload);
            prop_assert!(again == 0 || sum == 0xffff);
        }
    }
}
