//! Which prefixes a traffic selector can match.

use std::net::Ipv6Addr;

use flow::{Hnp, TrafficSelector};

/// Whether some packet to `hnp` can match: the destination range meets the prefix.
///
/// A selector without a destination can match packets to any prefix, one of format 1 (IPv4) to none.
pub(crate) fn can_match(selector: &TrafficSelector, hnp: Hnp) -> bool {
    selector.ipv6().is_some_and(|selector| {
        let first: Ipv6Addr = hnp.addr();
        selector
            .destination
            .is_none_or(|range| range.start <= hnp.last() && first <= range.end)
    })
}

#[cfg(test)]
mod tests {
    use flow::{Interval, Selector};

    use super::*;

    #[test]
    fn a_destination_range_meets_a_prefix_or_not() {
        let hnp = Hnp::new("2001:db8:2::".parse().unwrap(), 64).unwrap();
        let to = |start: &str, end: &str| -> TrafficSelector {
            Selector {
                destination: Interval::new(start.parse().unwrap(), end.parse().unwrap()),
                ..Selector::<Ipv6Addr>::default()
            }
            .into()
        };
        for (start, end, expected) in [
            ("2001:db8:2::100", "2001:db8:2::100", true),
            ("2001:db8:1::", "2001:db8:2::", true),
            ("2001:db8:2:0:ffff:ffff:ffff:ffff", "2001:db8:3::", true),
            ("2001:db8:1::", "2001:db8:9::", true),
            ("2001:db8:2:1::", "2001:db8:3::", false),
            ("2001:db8:1::", "2001:db8:1::1", false),
        ] {
            assert_eq!(can_match(&to(start, end), hnp), expected, "{start} {end}");
        }
        assert!(can_match(&Selector::<Ipv6Addr>::default().into(), hnp));
        assert!(!can_match(&TrafficSelector::Ipv4(Selector::default()), hnp));
    }
}
