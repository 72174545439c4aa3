use std::net::Ipv6Addr;

use flow::{Fid, FidPriority, FlowKey, Rule, RuleAction, Selector};
use proptest::prelude::*;

use super::*;
use crate::simd::Scalar;

/// Few different values, so that intervals hit and miss about as often.
fn small() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), Just(u16::MAX), 1u16..6]
}

fn interval<T: Copy + Ord>(a: T, b: T) -> Interval<T> {
    Interval {
        start: a.min(b),
        end: a.max(b),
    }
}

fn range<T: Copy + Ord + std::fmt::Debug>(
    value: impl Strategy<Value = T> + Clone,
) -> impl Strategy<Value = Option<Interval<T>>> {
    let single = value.clone().prop_map(|v| Some(Interval::single(v)));
    let both = (value.clone(), value).prop_map(|(a, b)| Some(interval(a, b)));
    prop_oneof![3 => Just(None), 1 => single, 1 => both]
}

fn address() -> impl Strategy<Value = Ipv6Addr> + Clone {
    prop_oneof![
        Just(Ipv6Addr::from_bits(0)),
        Just(Ipv6Addr::from_bits(u128::MAX)),
        (0u128..4, 0u128..3).prop_map(|(a, b)| Ipv6Addr::from_bits(a << 64 | b)),
    ]
    .boxed()
}

fn protocol() -> impl Strategy<Value = u8> + Clone {
    prop_oneof![Just(0u8), Just(6), Just(17), Just(50), Just(58), Just(255)].boxed()
}

fn selector() -> impl Strategy<Value = TrafficSelector> {
    let words = prop_oneof![Just(0u32), Just(1), Just(2), Just(0xf_ffff)].boxed();
    let spi = prop_oneof![Just(0u32), Just(1), Just(u32::MAX)].boxed();
    let class = prop_oneof![Just(0u8), Just(3), Just(4), Just(7), Just(255)].boxed();
    let ports = small().boxed();
    let fields = (
        range(address()),
        range(address()),
        range(spi),
        range(words),
        range(ports.clone()),
        range(ports),
        range(class),
        range(protocol()),
    );
    let ipv6 = fields.prop_map(|(source, destination, spi, label, sport, dport, tc, nh)| {
        TrafficSelector::from(Selector {
            source,
            destination,
            spi,
            flow_label: label,
            source_port: sport,
            destination_port: dport,
            traffic_class: tc,
            next_header: nh,
        })
    });
    let ipv4 = Just(TrafficSelector::Ipv4(Selector::default()));
    // Sets of simple rules must be as common as those that need a full comparison.
    prop_oneof![10 => ipv6, 10 => simple(), 1 => ipv4]
}

/// Selectors that a lane decides alone.
fn simple() -> impl Strategy<Value = TrafficSelector> {
    (range(small().boxed()), range(protocol()), 0..3).prop_map(|(values, next_header, field)| {
        let class = |v: u16| v.to_le_bytes()[0];
        let mut selector = Selector {
            next_header: next_header.map(|r| Interval::single(r.start)),
            ..Selector::default()
        };
        match field {
            0 => selector.destination_port = values,
            1 => selector.source_port = values,
            _ => {
                selector.traffic_class = values.map(|r| interval(class(r.start), class(r.end)));
            }
        }
        selector.into()
    })
}

fn key() -> impl Strategy<Value = FlowKey> {
    let spi = prop_oneof![Just(0u32), Just(1), Just(u32::MAX)];
    (
        address(),
        address(),
        protocol(),
        prop_oneof![Just(0u8), Just(3), Just(5), Just(255)],
        prop_oneof![Just(0u32), Just(1), Just(0xf_ffff)],
        proptest::option::of((small(), small())),
        proptest::option::of(spi),
    )
        .prop_map(
            |(source, destination, next_header, traffic_class, flow_label, ports, spi)| FlowKey {
                source,
                destination,
                next_header,
                traffic_class,
                flow_label,
                ports,
                spi,
            },
        )
}

fn rules(selectors: Vec<TrafficSelector>) -> Vec<Rule> {
    let number = |i: usize| u16::try_from(i + 1).unwrap();
    let rule = |(i, selector)| Rule {
        fid: Fid::new(number(i)).unwrap(),
        priority: FidPriority::new(number(i)).unwrap(),
        selector,
        action: RuleAction::Forward(flow::PathId(number(i))),
    };
    selectors.into_iter().enumerate().map(rule).collect()
}

fn fields(key: &FlowKey) -> Fields {
    let ports = key
        .ports
        .map(|(source, destination)| u32::from(source) << 16 | u32::from(destination));
    Fields::new(key.next_header, ports, key.traffic_class)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_wide_rule_matches_as_the_rfc_says(selector in selector(), key in key()) {
        let wide = WideRule::of(&selector);
        prop_assert_eq!(wide.matches(&WideKey::from(&key)), selector.matches(&key));
    }

    #[test]
    fn a_lane_never_misses_and_an_exact_one_never_errs(selector in selector(), key in key()) {
        let hit = Lanes::<1>::pack(std::iter::once(&selector)).hits(fields(&key)) == 1;
        prop_assert!(hit || !selector.matches(&key));
        if is_exact(&selector) {
            prop_assert_eq!(hit, selector.matches(&key));
        }
    }

    #[test]
    fn a_rule_set_finds_the_first_match(
        selectors in proptest::collection::vec(selector(), 0..=64),
        key in key(),
    ) {
        let expected = selectors.iter().position(|s| s.matches(&key));
        let mut set = RuleSet::pack(&rules(selectors));
        let action = set.decide(fields(&key), Scalar, || WideKey::from(&key));
        let number = expected.map(|i| u16::try_from(i + 1).unwrap());
        prop_assert_eq!(action, number);
        for (fid, hits) in set.counters() {
            prop_assert_eq!(hits, u64::from(Some(fid.0.get()) == number));
        }
    }

    #[test]
    fn a_record_finds_the_first_match(
        selectors in proptest::collection::vec(simple(), 0..=4),
        key in key(),
    ) {
        let rules = rules(selectors);
        let expected = rules.iter().position(|r| r.selector.matches(&key));
        let binding = flow::Binding {
            mobile: flow::MobileId(1),
            default_path: Some(flow::PathId(99)),
            sources: vec![],
            uplink: None,
            local: false,
            rules,
        };
        prop_assert!(crate::table::record::Downlink::fits(&binding));
        let mut record = crate::table::record::Downlink::of(&binding);
        let (action, rule, _) = record.select(fields(&key), Scalar);
        prop_assert_eq!(rule, expected.unwrap_or(4));
        prop_assert_eq!(action, expected.map_or(99, |i| u16::try_from(i + 1).unwrap()));
    }
}

#[test]
fn the_key_is_made_only_in_doubt() {
    let exact = TrafficSelector::from(Selector {
        destination_port: Some(Interval::single(5001)),
        ..Selector::default()
    });
    let wide = TrafficSelector::from(Selector {
        destination_port: Some(Interval::single(5002)),
        flow_label: Some(Interval::single(7)),
        ..Selector::default()
    });
    let mut set = RuleSet::pack(&rules(vec![wide, exact]));
    let to = |port: u32| Fields::new(17, Some(1 << 16 | port), 0);
    assert_eq!(set.decide(to(5001), Scalar, || unreachable!()), Some(2));
    assert_eq!(set.decide(to(5003), Scalar, || unreachable!()), None);
    let asked = std::cell::Cell::new(false);
    let result = set.decide(to(5002), Scalar, || {
        asked.set(true);
        WideKey::MIN
    });
    assert_eq!((result, asked.get()), (None, true));
}
