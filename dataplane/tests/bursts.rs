//! A burst does to its packets what each of them gets alone, and keeps those of a kind in order.
#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests"
)]

mod common;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use common::*;
use flow::{Binding, Counters, Link, MacAddr, MobileId, Path, PathId, PortId, Punt, Role};
use proptest::prelude::*;

/// A frame that is the `n`th of a burst.
type Kind = fn(n: u32) -> Vec<u8>;

/// Frames that left by a port.
type Sent = [Vec<Vec<u8>>; 2];

/// A burst's packets, one after the other and all at once.
fn compare(rig: fn() -> Rig, port: PortId, kinds: &[Kind], picks: &[usize], late: fn(&mut Rig)) {
    let frames = (0..).zip(picks).map(|(n, pick)| kinds[*pick](n));
    let frames: Vec<Vec<u8>> = frames.collect();

    let mut alone = rig();
    let mut of_kinds: BTreeMap<usize, Sent> = BTreeMap::new();
    for (pick, frame) in picks.iter().zip(&frames) {
        alone.rx(port, frame);
        add(of_kinds.entry(*pick).or_default(), sent(&mut alone));
    }
    let mut together = rig();
    for frame in &frames {
        assert!(together.io.receive(port, frame));
    }
    together.turn();
    let all = sent(&mut together);
    agree(&of_kinds, &all);
    assert_eq!(counted(&alone.counters()), counted(&together.counters()));
    let punts = |rig: &mut Rig| {
        let mut punts: Vec<String> = rig.punts().iter().map(shown).collect();
        punts.sort();
        punts
    };
    assert_eq!(punts(&mut alone), punts(&mut together));

    // What waited.
    late(&mut alone);
    late(&mut together);
    alone.turn();
    together.turn();
    assert_eq!(sent(&mut alone), sent(&mut together));
    assert_eq!(counted(&alone.counters()), counted(&together.counters()));
}

/// The same frames, and those of each kind in the same order.
fn agree(of_kinds: &BTreeMap<usize, Sent>, all: &Sent) {
    for (port, all) in all.iter().enumerate() {
        let count: usize = of_kinds.values().map(|sent| sent[port].len()).sum();
        assert_eq!(all.len(), count, "port {port}");
        for (kind, sent) in of_kinds {
            let here: Vec<_> = all
                .iter()
                .filter(|frame| sent[port].contains(frame))
                .collect();
            let expected: Vec<_> = sent[port].iter().collect();
            assert_eq!(here, expected, "kind {kind}, port {port}");
        }
    }
}

fn sent(rig: &mut Rig) -> Sent {
    [CORE, EDGE].map(|port| rig.sent(port).into_iter().map(comparable).collect())
}

fn add(all: &mut Sent, more: Sent) {
    for (all, more) in all.iter_mut().zip(more) {
        all.extend(more);
    }
}

/// Without what a worker draws: flow labels, and identifications of fragments.
fn comparable(mut frame: Vec<u8>) -> Vec<u8> {
    const FRAGMENT: u8 = 44;
    frame[14 + 1] &= 0xf0;
    frame[14 + 2..14 + 4].fill(0);
    if frame[14 + 6] == FRAGMENT {
        frame[14 + 44..14 + 48].fill(0);
    }
    frame
}

/// What does not depend on how often a worker has looked.
fn counted(counters: &Counters) -> String {
    let ports: Vec<_> = counters
        .ports
        .iter()
        .map(|port| (port.rx_packets, port.tx_packets, port.tx_octets))
        .collect();
    format!(
        "{ports:?} {:?} {:?} {:?} {} {} {} {}",
        counters.lma_paths,
        counters.mag_paths,
        counters.drops,
        counters.punted,
        counters.consumed,
        counters.originated,
        counters.held
    )
}

fn shown(punt: &Punt) -> String {
    format!("{punt:?}")
}

fn datagram(
    from: MacAddr,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    octets: usize,
    n: u32,
) -> Vec<u8> {
    let mut frame = sized(from, CORE, source, destination, octets);
    frame[62..66].copy_from_slice(&n.to_be_bytes());
    frame
}

fn out_of_tunnel(outer: (Ipv6Addr, Ipv6Addr), inner: (Ipv6Addr, Ipv6Addr), n: u32) -> Vec<u8> {
    let inner = datagram(MAG1_MAC, inner.0, inner.1, 200, n);
    tunnelled(MAG1_MAC, outer.0, outer.1, packet(&inner))
}

/// Halves of tunnel packets, of which two make one.
fn fragment(to: Ipv6Addr, from: Ipv6Addr, inner: &[u8], n: u32) -> Vec<u8> {
    let (first, second) = inner.split_at(104);
    let is_second = n % 2 == 1;
    let (offset, part) = if is_second {
        (104_u16, second)
    } else {
        (1, first)
    };
    let mut payload = vec![41, 0];
    payload.extend(offset.to_be_bytes());
    payload.extend((n / 8).to_be_bytes());
    payload.extend(part);
    ipv6(MAG1_MAC, PORT_MACS[0], from, to, 44, 64, &payload)
}

fn echo(from: Ipv6Addr, to: Ipv6Addr, n: u32) -> Vec<u8> {
    let message = icmp(from, to, 128, n.to_be_bytes(), b"are you there?");
    ipv6(MAG1_MAC, PORT_MACS[0], from, to, 58, 64, &message)
}

fn stranger() -> Ipv6Addr {
    ip("2001:db8:ffff::99")
}

/// A neighbour that is found late.
fn late() -> Ipv6Addr {
    ip("2001:db8:1::dd")
}

/// An anchor with a third mobile, to whom the way is narrow.
fn anchor() -> Rig {
    let mut rig = Rig::lma();
    let mag3 = ip("2001:db8:ffff::13");
    rig.neighbour(CORE, mag3, Some(MAG1_MAC));
    rig.path(Role::Lma, 3, Some(narrow_tunnel(lmaa(), mag3, 1280)));
    rig.binding(Role::Lma, 3, lma_binding(3, &[3]));
    rig.turn();
    rig
}

const AT_ANCHOR: [Kind; 15] = [
    |n| datagram(MAG1_MAC, cn(), mn(1), 100, n),
    |n| datagram(MAG1_MAC, cn(), mn(2), 100, n),
    // To be cut, for the tunnel.
    |n| datagram(MAG1_MAC, cn(), mn(3), 1280, n),
    |n| datagram(MAG1_MAC, cn(), mn(3), 100, n),
    // Too big, which its sender is told.
    |n| datagram(MAG1_MAC, cn(), mn(1), 1461, n),
    // To nobody.
    |n| datagram(MAG1_MAC, cn(), mn(9), 100, n),
    |n| out_of_tunnel((mag1(), lmaa()), (mn(1), cn()), n),
    |n| out_of_tunnel((mag1(), lmaa()), (mn(1), mn(2)), n),
    |n| out_of_tunnel((stranger(), lmaa()), (mn(1), cn()), n),
    |n| out_of_tunnel((mag2(), lmaa()), (mn(1), cn()), n),
    |n| datagram(MAG1_MAC, mag1(), cn(), 100, n),
    |n| datagram(MAG1_MAC, mag1(), late(), 100, n),
    |n| echo(mag1(), lmaa(), n),
    |n| {
        ipv6(
            MAG1_MAC,
            PORT_MACS[0],
            mag1(),
            lmaa(),
            135,
            64,
            &[59, 1, 5, 0, 0, 0, 0, n as u8, 1, 0, 0, 0, 0, 0, 0, 0],
        )
    },
    |n| {
        let inner = datagram(MAG1_MAC, mn(1), cn(), 208, n / 8);
        fragment(lmaa(), mag1(), packet(&inner), n)
    },
];

const OTHER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xbb]);

/// A gateway with two mobiles that may talk to each other directly.
fn gateway() -> Rig {
    let mut rig = Rig::mag();
    let link = Link {
        port: EDGE,
        mac: OTHER_MAC,
    };
    rig.path(Role::Mag, 3, Some(Path::Link(link)));
    // Each mobile has an anchor of its own.
    let other_anchor = ip("2001:db8:ffff::b");
    rig.neighbour(CORE, other_anchor, Some(LMA_MAC));
    rig.path(Role::Mag, 4, Some(tunnel(mag1(), other_anchor)));
    for (n, path, uplink) in [(1, 2, 1), (2, 3, 4)] {
        let binding = Binding {
            mobile: MobileId(n.into()),
            default_path: Some(PathId(path)),
            sources: vec![PathId(path)],
            uplink: Some(PathId(uplink)),
            local: true,
            rules: vec![],
        };
        rig.binding(Role::Mag, n, Some(binding));
    }
    rig.turn();
    rig
}

fn up(from: MacAddr, source: Ipv6Addr, destination: Ipv6Addr, n: u32) -> Vec<u8> {
    let mut frame = datagram(from, source, destination, 100, n);
    frame[..6].copy_from_slice(&PORT_MACS[1].0);
    frame
}

const FROM_MOBILES: [Kind; 6] = [
    |n| up(MN_MAC, mn(1), cn(), n),
    |n| up(OTHER_MAC, mn(2), cn(), n),
    |n| up(MN_MAC, mn(1), mn(2), n),
    // From somebody's station, or nobody's.
    |n| up(OTHER_MAC, mn(1), cn(), n),
    |n| up(MacAddr([2, 0, 0, 0, 1, n as u8]), mn(1), cn(), n),
    |n| up(MN_MAC, mn(9), cn(), n),
];

const TO_MOBILES: [Kind; 7] = [
    |n| out_of_tunnel((lmaa(), mag1()), (cn(), mn(1)), n),
    |n| out_of_tunnel((lmaa(), mag1()), (cn(), mn(2)), n),
    |n| out_of_tunnel((lmaa(), mag1()), (cn(), mn(9)), n),
    |n| out_of_tunnel((stranger(), mag1()), (cn(), mn(1)), n),
    |n| echo(lmaa(), mag1(), n),
    |n| datagram(MAG1_MAC, cn(), mn(1), 100, n),
    |n| {
        let inner = datagram(MAG1_MAC, cn(), mn(1), 208, n / 8);
        fragment(mag1(), lmaa(), packet(&inner), n)
    },
];

fn picks(kinds: usize) -> impl Strategy<Value = Vec<usize>> {
    // Few kinds in some bursts, so that most of a burst is alike.
    let some = prop::collection::vec(0..kinds, 1..=4);
    some.prop_flat_map(|some| {
        let usual = some[0];
        let one = prop_oneof![3 => Just(usual), 1 => prop::sample::select(some)];
        prop::collection::vec(one, 1..=32)
    })
}

proptest! {
    #[test]
    fn at_an_anchor(picks in picks(AT_ANCHOR.len())) {
        compare(anchor, CORE, &AT_ANCHOR, &picks, |rig| {
            rig.neighbour(EDGE, late(), Some(CN_MAC));
        });
    }

    #[test]
    fn at_a_gateway_from_mobiles(picks in picks(FROM_MOBILES.len())) {
        compare(gateway, EDGE, &FROM_MOBILES, &picks, |_| {});
    }

    #[test]
    fn at_a_gateway_to_mobiles(picks in picks(TO_MOBILES.len())) {
        compare(gateway, CORE, &TO_MOBILES, &picks, |_| {});
    }
}
