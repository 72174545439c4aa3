//! Home network prefixes of other lengths than 64 bits, through whole workers: both roles, both
//! directions, with rules, beside prefixes of 64 bits and inside one another.

#![expect(clippy::unwrap_used, reason = "a panic is a finding")]

mod common;

use std::net::Ipv6Addr;

use common::*;
use flow::{Binding, DropReason, Hnp, MobileId, PathId, Role, RuleAction, TableUpdate, Update};

/// Each with an address in it and one beside it, all in the pool of the rig.
const LENGTHS: [(&str, &str, &str); 6] = [
    (
        "2001:db8:100::/48",
        "2001:db8:100:ffff::5",
        "2001:db8:101::5",
    ),
    (
        "2001:db8:100:4200::/56",
        "2001:db8:100:42ff::5",
        "2001:db8:100:4300::5",
    ),
    (
        "2001:db8:100:4230::/60",
        "2001:db8:100:423f::5",
        "2001:db8:100:4240::5",
    ),
    (
        "2001:db8:100:4231::/65",
        "2001:db8:100:4231:7fff::5",
        "2001:db8:100:4231:8000::5",
    ),
    (
        "2001:db8:100:4231:1::/80",
        "2001:db8:100:4231:1::5",
        "2001:db8:100:4231:2::5",
    ),
    (
        "2001:db8:100:4231::7/128",
        "2001:db8:100:4231::7",
        "2001:db8:100:4231::8",
    ),
];

fn prefix(text: &str) -> Hnp {
    let (address, len) = text.split_once('/').unwrap();
    Hnp::new(address.parse().unwrap(), len.parse().unwrap()).unwrap()
}

/// The MAG at the end of path `n`.
fn mag(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x10 + n)
}

fn bind(rig: &mut Rig, role: Role, hnp: Hnp, binding: Option<Binding>) {
    let binding = binding.map(Box::new);
    rig.update(Update::Table(role, TableUpdate::Binding { hnp, binding }));
    rig.turn();
}

/// The anchor with paths and neighbours, and no prefixes.
fn lma() -> Rig {
    let mut rig = Rig::lma();
    for n in 1..=2 {
        rig.binding(Role::Lma, n, None);
    }
    rig.turn();
    rig
}

#[test]
fn an_anchor_forwards_prefixes_of_any_length() {
    for (text, inside, beside) in LENGTHS {
        let mut rig = lma();
        let (hnp, inside, beside) = (prefix(text), ip(inside), ip(beside));
        let binding = Binding {
            rules: vec![rule(1, 5001, RuleAction::Forward(PathId(2)))],
            ..lma_binding(1, &[1]).unwrap()
        };
        bind(&mut rig, Role::Lma, hnp, Some(binding));
        // Downlink: the default path, a rule, and nothing for the neighbour.
        let to = |rig: &mut Rig, address, port| {
            let out = rig.through(EDGE, &udp(CN_MAC, EDGE, cn(), address, port, b"down"), CORE);
            parse(&out).1.destination_addr()
        };
        assert_eq!(to(&mut rig, inside, 5000), mag1(), "{text}");
        assert_eq!(to(&mut rig, inside, 5001), mag2(), "{text}");
        let outside = udp(CN_MAC, EDGE, cn(), beside, 5000, b"");
        rig.rx(EDGE, &outside);
        assert!(rig.sent(CORE).is_empty(), "{text}");
        // The correspondent may have been told.
        rig.sent(EDGE);
        // Uplink: from the MAG it is bound to, and from no other.
        let inner = |source: Ipv6Addr| packet(&udp(MN_MAC, CORE, source, cn(), 9, b"up")).to_vec();
        let from = |mag, source| tunnelled(MAG1_MAC, mag, lmaa(), &inner(source));
        let out = rig.through(CORE, &from(mag1(), inside), EDGE);
        assert_eq!(parse(&out).1.source_addr(), inside, "{text}");
        rig.drops(CORE, &from(mag2(), inside), DropReason::OuterSource);
        rig.drops(CORE, &from(mag1(), beside), DropReason::InnerSource);
        // Gone, it is as if it had never been.
        bind(&mut rig, Role::Lma, hnp, None);
        let before = rig.counters().dropped(DropReason::NoBinding);
        rig.rx(EDGE, &udp(CN_MAC, EDGE, cn(), inside, 1, b""));
        assert_eq!(
            rig.counters().dropped(DropReason::NoBinding),
            before + 1,
            "{text}"
        );
        assert!(rig.sent(CORE).is_empty(), "{text}");
    }
}

#[test]
fn a_gateway_forwards_prefixes_of_any_length() {
    for (text, inside, beside) in LENGTHS {
        let mut rig = Rig::mag();
        rig.binding(Role::Mag, 1, None);
        let (hnp, inside, beside) = (prefix(text), ip(inside), ip(beside));
        let binding = Binding {
            mobile: MobileId(1),
            default_path: Some(PathId(2)),
            sources: vec![PathId(2)],
            uplink: Some(PathId(1)),
            local: false,
            rules: vec![],
        };
        bind(&mut rig, Role::Mag, hnp, Some(binding));
        let inner = |to| packet(&udp(CN_MAC, CORE, cn(), to, 5001, b"down")).to_vec();
        let downlink = |to| tunnelled(LMA_MAC, lmaa(), mag1(), &inner(to));
        let out = rig.through(CORE, &downlink(inside), EDGE);
        assert_eq!(parse(&out).0.destination, MN_MAC.0, "{text}");
        rig.drops(CORE, &downlink(beside), DropReason::NoBinding);
        let uplink = |from| udp(MN_MAC, EDGE, from, cn(), 5001, b"up");
        let out = rig.through(EDGE, &uplink(inside), CORE);
        assert_eq!(parse(&out).1.destination_addr(), lmaa(), "{text}");
        rig.drops(EDGE, &uplink(beside), DropReason::IngressFilter);
    }
}

/// The longest prefix decides, whatever came first, with 64 bits among the lengths.
#[test]
fn lengths_mix() {
    let prefixes = [
        ("2001:db8:100::/48", "2001:db8:100:1::1", 1),
        ("2001:db8:100:4200::/56", "2001:db8:100:4201::1", 2),
        ("2001:db8:100:4231::/64", "2001:db8:100:4231:9::1", 3),
        ("2001:db8:100:4231:1::/80", "2001:db8:100:4231:1::1", 4),
    ];
    for backwards in [false, true] {
        let mut rig = lma();
        for n in 3..=4 {
            rig.neighbour(CORE, mag(n), Some(MAG1_MAC));
            rig.path(Role::Lma, n, Some(tunnel(lmaa(), mag(n))));
        }
        let mut order = prefixes.to_vec();
        if backwards {
            order.reverse();
        }
        for (text, _, path) in order {
            bind(
                &mut rig,
                Role::Lma,
                prefix(text),
                lma_binding(path, &[path]),
            );
        }
        for (text, inside, path) in prefixes {
            let out = rig.through(EDGE, &udp(CN_MAC, EDGE, cn(), ip(inside), 5000, b"x"), CORE);
            assert_eq!(parse(&out).1.destination_addr(), mag(path), "{text}");
        }
        // Without the longer one, the shorter has its addresses.
        bind(&mut rig, Role::Lma, prefix(prefixes[3].0), None);
        let out = rig.through(
            EDGE,
            &udp(CN_MAC, EDGE, cn(), ip(prefixes[3].1), 5000, b"x"),
            CORE,
        );
        assert_eq!(parse(&out).1.destination_addr(), mag(3));
    }
}

/// There is room for as many as were configured, and more than that is refused and counted.
#[test]
fn there_is_room_for_many_prefixes_of_another_length() {
    let mut config = Rig::lma_config();
    if let Some(lma) = &mut config.lma {
        lma.other_lengths = 5000;
    }
    let mut rig = Rig::new(config);
    rig.neighbour(CORE, mag1(), Some(MAG1_MAC));
    rig.path(Role::Lma, 1, Some(tunnel(lmaa(), mag1())));
    rig.turn();
    let nth = |n: u32| {
        let address = ip("2001:db8:100::").to_bits() | u128::from(n) << 56;
        Hnp::new(Ipv6Addr::from_bits(address), 72).unwrap()
    };
    for n in 0..5000 {
        bind(&mut rig, Role::Lma, nth(n), lma_binding(1, &[1]));
    }
    assert_eq!(rig.counters().updates_refused, 0);
    for n in [0, 1, 2500, 4999] {
        let to = Ipv6Addr::from_bits(nth(n).addr().to_bits() | 7);
        rig.through(EDGE, &udp(CN_MAC, EDGE, cn(), to, 5000, b"x"), CORE);
    }
    bind(&mut rig, Role::Lma, nth(5000), lma_binding(1, &[1]));
    assert_eq!(rig.counters().updates_refused, 1);
    bind(&mut rig, Role::Lma, nth(17), None);
    bind(&mut rig, Role::Lma, nth(5000), lma_binding(1, &[1]));
    assert_eq!(rig.counters().updates_refused, 1);
}
