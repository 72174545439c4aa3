//! Which LMA of a pool a mobile belongs to: rendezvous hashing.
//!
//! Each member has a score for each mobile, and the one with the highest score comes first. So every member knows the
//! order without asking, mobiles spread evenly, and when a member comes or goes only the mobiles move for which it came
//! first.

use std::cmp::Reverse;

use flow::{Lmaa, MnId};

/// The members in a mobile's order of preference, whatever order they are named in.
///
/// The order depends on the MN-Identifier and on the LMAAs alone, so that all accesses of a mobile lead to one LMA
/// (RFC 6463 §6). The score of a member is a 64-bit number, from FNV-1a over the 16 octets of its LMAA and then the octets of the
/// MN-Identifier, finished as MurmurHash3 finishes its 64-bit hash, as FNV alone hardly mixes its last octets into the
/// high bits. Members of the same score come in the order of their addresses. Versions that run in one pool must agree,
/// so the score must never change.
pub(crate) fn order(mn_id: &MnId, members: &[Lmaa]) -> Vec<Lmaa> {
    let mut members = members.to_vec();
    members.sort_unstable();
    members.dedup();
    members.sort_by_cached_key(|member| Reverse(score(mn_id, *member)));
    members
}

fn score(mn_id: &MnId, member: Lmaa) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let address = member.0.octets();
    let octets = address.iter().chain(mn_id.as_str().as_bytes());
    let hash = octets.fold(BASIS, |hash, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(PRIME)
    });
    finish(hash)
}

fn finish(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;

    const SCORES: [(&str, u16, u64); 6] = [
        ("mn1@example.net", 1, 0xbd45_a3cb_ec0b_1d47),
        ("mn1@example.net", 2, 0x9505_8b11_9417_31eb),
        ("mn2@example.net", 1, 0xc879_bc59_af6d_bf4b),
        ("a", 1, 0x787d_9cae_9308_b148),
        ("a", 0xffff, 0xd5ba_3061_9401_b6b8),
        ("élan@example.org", 3, 0x8e96_a7f4_70d7_801d),
    ];
    const ORDERS: [(&str, [u16; 4]); 4] = [
        ("mn1@example.net", [1, 2, 3, 4]),
        ("mn2@example.net", [3, 1, 4, 2]),
        ("a", [4, 1, 3, 2]),
        ("élan@example.org", [3, 4, 1, 2]),
    ];

    fn member(number: u16) -> Lmaa {
        Lmaa(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, number))
    }

    fn members(count: u16) -> Vec<Lmaa> {
        (1..=count).map(member).collect()
    }

    fn name(number: u32) -> MnId {
        MnId::new(&format!("mn{number}@example.net")).unwrap()
    }

    fn first(mn_id: &MnId, members: &[Lmaa]) -> Lmaa {
        order(mn_id, members)[0]
    }

    /// Worked out apart from this crate.
    #[test]
    fn scores_are_what_they_have_always_been() {
        let id = |text| MnId::new(text).unwrap();
        for (text, number, expected) in SCORES {
            assert_eq!(
                score(&id(text), member(number)),
                expected,
                "{text} {number}"
            );
        }
        let numbers = |text| -> Vec<u16> {
            let order = order(&id(text), &members(4));
            order.iter().map(|lmaa| lmaa.0.segments()[7]).collect()
        };
        for (text, expected) in ORDERS {
            assert_eq!(numbers(text), expected, "{text}");
        }
    }

    #[test]
    fn mobiles_spread_evenly() {
        const NAMES: u32 = 10_000;
        for count in 2..=8 {
            let members = members(count);
            let mut shares: BTreeMap<Lmaa, u32> = BTreeMap::new();
            for number in 0..NAMES {
                *shares.entry(first(&name(number), &members)).or_default() += 1;
            }
            let fair = NAMES / u32::from(count);
            for (member, share) in &shares {
                let off = share.abs_diff(fair);
                assert!(
                    off * 100 <= fair * 8,
                    "{member:?} of {count}: {share}, fair is {fair}"
                );
            }
            assert_eq!(shares.len(), usize::from(count));
        }
    }

    #[test]
    fn only_the_mobiles_of_a_member_that_goes_move() {
        let all = members(5);
        let left = &all[..4];
        let mut moved = 0;
        for number in 0..10_000 {
            let name = name(number);
            if first(&name, &all) == all[4] {
                // To the next in its order.
                assert_eq!(first(&name, left), order(&name, &all)[1]);
                moved += 1;
            } else {
                assert_eq!(first(&name, left), first(&name, &all));
            }
        }
        assert!((1_800..2_200).contains(&moved), "{moved}");
    }

    proptest! {
        #[test]
        fn the_order_is_the_names_alone(
            id in "[a-z0-9]{1,20}@[a-z.]{1,20}",
            addresses in proptest::collection::btree_set(any::<u128>(), 1..10),
            gone in any::<prop::sample::Index>(),
        ) {
            let id = MnId::new(&id).unwrap();
            let members: Vec<Lmaa> = addresses.iter().map(|a| Lmaa(Ipv6Addr::from(*a))).collect();
            let expected = order(&id, &members);
            let mut other: Vec<Lmaa> = members.iter().rev().copied().collect();
            other.extend(&members);
            prop_assert_eq!(&order(&id, &other), &expected);
            // Whoever goes leaves the others in their order.
            let gone = *gone.get(&members);
            let left: Vec<Lmaa> = members.into_iter().filter(|m| *m != gone).collect();
            let expected: Vec<Lmaa> = expected.into_iter().filter(|m| *m != gone).collect();
            prop_assert_eq!(order(&id, &left), expected);
        }
    }
}
