//! Anything may come in: nothing panics, every packet is accounted for, no buffer is lost.
#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests"
)]

mod common;

use common::*;
use flow::{Binding, PathId, Role, RuleAction};
use proptest::prelude::*;

/// Well-formed frames of every kind, to be mutated.
fn seeds() -> Vec<(bool, Vec<u8>)> {
    let mut seeds = usual();
    seeds.extend(fragments_and_errors());
    seeds
}

/// Fragments of tunnel packets and of others, packets with a limit, and errors about tunnel packets.
fn fragments_and_errors() -> Vec<(bool, Vec<u8>)> {
    let inner = packet(&sized(MN_MAC, CORE, mn(1), cn(), 200)).to_vec();
    let core = |source, to, next_header, payload: &[u8]| {
        let frame = ipv6(MAG1_MAC, PORT_MACS[0], source, to, next_header, 64, payload);
        (false, frame)
    };
    let mut seeds = Vec::new();
    for (offset, more) in [(0, 1), (96, 1), (104, 0)] {
        let end = if more == 1 { offset + 96 } else { inner.len() };
        let header = [41, 0, 0, offset as u8 | more, 0, 0, 0, 1];
        let payload = [&header[..], &inner[offset..end]].concat();
        seeds.push(core(mag1(), lmaa(), 44, &payload));
        seeds.push(core(lmaa(), mag1(), 44, &payload));
    }
    for (place, body) in [
        (1, &[0x0f, 0xa0, 0x13, 0x89, 0, 8, 0, 0][..]),
        (8, &[7; 16]),
    ] {
        let payload = [&[17, 0, 0, place, 0, 0, 0, 1], body].concat();
        for (mac, source, to) in [(CN_MAC, cn(), mn(1)), (MN_MAC, mn(1), cn())] {
            let frame = ipv6(mac, PORT_MACS[1], source, to, 44, 64, &payload);
            seeds.push((true, frame));
        }
    }
    let limited = [17, 0, 4, 1, 1, 1, 1, 0, 0x0f, 0xa0, 0x13, 0x89, 0, 8, 0, 0];
    for (mac, source, to) in [(CN_MAC, cn(), mn(1)), (MN_MAC, mn(1), cn())] {
        seeds.push((true, ipv6(mac, PORT_MACS[1], source, to, 60, 64, &limited)));
    }
    let router = ip("2001:db8:ffff::fe");
    for (local, remote) in [(lmaa(), mag1()), (mag1(), lmaa()), (lmaa(), mag2())] {
        let quote = tunnelled(MAG1_MAC, local, remote, &inner);
        for kind in [1, 2, 3] {
            let message = icmp(router, local, kind, [0, 0, 0, 100], packet(&quote));
            seeds.push(core(router, local, 58, &message));
        }
    }
    seeds
}

fn usual() -> Vec<(bool, Vec<u8>)> {
    let inner = packet(&udp(MN_MAC, CORE, mn(1), cn(), 5001, b"uplink")).to_vec();
    let to_mobile = packet(&udp(CN_MAC, CORE, cn(), mn(1), 5001, b"downlink")).to_vec();
    let echo = icmp(cn(), lmaa(), 128, [0; 4], b"echo");
    let ns = icmp(mag1(), lmaa(), 135, [0; 4], &lmaa().octets());
    let mut limited = vec![41, 0, 4, 1, 3, 1, 1, 0];
    limited.extend_from_slice(&inner);
    vec![
        (true, udp(CN_MAC, EDGE, cn(), mn(1), 5001, b"downlink")),
        (true, udp(MN_MAC, EDGE, mn(1), cn(), 5001, b"uplink")),
        (
            true,
            udp(CN_MAC, EDGE, cn(), ip("2001:db8:ffff::77"), 1, b""),
        ),
        (false, tunnelled(MAG1_MAC, mag1(), lmaa(), &inner)),
        (false, tunnelled(LMA_MAC, lmaa(), mag1(), &to_mobile)),
        (
            false,
            ipv6(MAG1_MAC, PORT_MACS[0], mag1(), lmaa(), 60, 64, &limited),
        ),
        (
            false,
            ipv6(
                MAG1_MAC,
                PORT_MACS[0],
                mag1(),
                lmaa(),
                135,
                64,
                &[59, 0, 5, 0, 0, 0, 0, 0],
            ),
        ),
        (
            true,
            ipv6(CN_MAC, PORT_MACS[1], cn(), lmaa(), 58, 64, &echo),
        ),
        (
            false,
            ipv6(MAG1_MAC, PORT_MACS[0], mag1(), lmaa(), 58, 255, &ns),
        ),
        (
            true,
            ipv6(
                CN_MAC,
                PORT_MACS[1],
                cn(),
                lmaa(),
                43,
                64,
                &[17, 0, 0, 1, 0, 0, 0, 0],
            ),
        ),
    ]
}

#[derive(Clone, Debug)]
enum Change {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Grow(u8),
    Copy(prop::sample::Index, prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    let interesting = prop_oneof![
        any::<u8>(),
        prop::sample::select(vec![
            0u8, 1, 6, 17, 41, 43, 44, 50, 51, 58, 59, 60, 0x60, 255
        ])
    ];
    prop_oneof![
        4 => (any::<prop::sample::Index>(), interesting).prop_map(|(i, b)| Change::Set(i, b)),
        2 => (any::<prop::sample::Index>(), 0u8..8).prop_map(|(i, b)| Change::Flip(i, b)),
        1 => any::<prop::sample::Index>().prop_map(Change::Cut),
        1 => any::<u8>().prop_map(Change::Grow),
        1 => any::<(prop::sample::Index, prop::sample::Index)>()
            .prop_map(|(a, b)| Change::Copy(a, b)),
    ]
}

fn apply(frame: &mut Vec<u8>, change: &Change) {
    if frame.is_empty() {
        return;
    }
    let len = frame.len();
    match change {
        Change::Set(at, byte) => frame[at.index(len)] = *byte,
        Change::Flip(at, bit) => frame[at.index(len)] ^= 1 << bit,
        Change::Cut(at) => frame.truncate(at.index(len)),
        Change::Grow(by) => frame.resize(len + usize::from(*by), *by),
        Change::Copy(from, to) => frame[to.index(len)] = frame[from.index(len)],
    }
}

/// Makes the IPv6 payload length right again, so that deeper layers are reached.
fn mend(frame: &mut [u8]) {
    if let Ok(len) = u16::try_from(frame.len().saturating_sub(54))
        && frame.len() >= 54
    {
        frame[18..20].copy_from_slice(&len.to_be_bytes());
    }
}

fn frames() -> impl Strategy<Value = Vec<(bool, Vec<u8>)>> {
    let mutated = (
        prop::sample::select(seeds()),
        proptest::collection::vec(change(), 0..6),
        any::<bool>(),
    )
        .prop_map(|((edge, mut frame), changes, mended)| {
            for change in &changes {
                apply(&mut frame, change);
            }
            if mended {
                mend(&mut frame);
            }
            (edge, frame)
        });
    let random = (
        any::<bool>(),
        proptest::collection::vec(any::<u8>(), 0..300),
    );
    proptest::collection::vec(prop_oneof![8 => mutated, 1 => random], 1..100)
}

fn both_roles() -> Rig {
    // An anchor that is a gateway too, with mobiles on its edge port.
    let mut config = Rig::lma_config();
    config.mag = Rig::mag_config().mag;
    config.ports[1].access = true;
    let mut rig = Rig::new(config);
    rig.neighbour(CORE, mag2(), Some(MAG2_MAC));
    rig.path(Role::Lma, 1, Some(limited_tunnel(lmaa(), mag2(), 4)));
    rig.path(Role::Mag, 1, Some(narrow_tunnel(mag1(), mag2(), 1280)));
    rig.binding(Role::Lma, 1, lma_binding(1, &[1]));
    rig.turn();
    rig
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_is_lost_and_nothing_panics(frames in frames(), which in 0..3) {
        let mut rig = match which {
            0 => Rig::lma(),
            1 => Rig::mag(),
            _ => both_roles(),
        };
        // Wide rules, so that every field of the packet is looked at.
        let mut wide = rule(1, 5001, RuleAction::Forward(PathId(1)));
        wide.selector = flow::Selector {
            flow_label: flow::Interval::new(0, 0xfffff),
            spi: flow::Interval::new(0, 9),
            ..flow::Selector::default()
        }
        .into();
        let binding = Binding { rules: vec![wide; 9], ..lma_binding(1, &[1]).unwrap() };
        if which != 1 {
            rig.binding(Role::Lma, 1, Some(binding));
        }
        for (edge, frame) in &frames {
            assert!(rig.io.receive(if *edge { EDGE } else { CORE }, frame));
        }
        rig.turn();
        // What was sent is well-formed.
        for port in [CORE, EDGE] {
            for frame in rig.sent(port) {
                parse(&frame);
                prop_assert_eq!(frame[6..12].to_vec(), PORT_MACS[usize::from(port.0)].0.to_vec());
            }
        }
        rig.check();
        // Neither does giving up on everything that waits.
        for n in 0..=255u16 {
            let address = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, n);
            rig.neighbour(CORE, address, None);
        }
        rig.turn();
    }
}
