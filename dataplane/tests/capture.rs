//! Captures: what is seen is what came and what left, and nobody's packets notice.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::sync::Arc;

use common::*;
use flow::{
    Direction, DropReason, End, Fid, Filter, MobileId, PathId, PortId, Role, RuleAction, Seen,
    Update,
};
use proptest::prelude::*;

/// What was seen, with its octets.
type Shown = Vec<(Seen, Vec<u8>)>;

fn capture(rig: &mut Rig, filter: Filter) {
    rig.update(Update::Capture(Some(Arc::new(filter))));
    rig.turn();
}

fn shown(rig: &mut Rig) -> Shown {
    let mut frame = Vec::new();
    std::iter::from_fn(|| {
        let seen = rig.control.pop_seen(&mut frame)?;
        Some((seen, frame.clone()))
    })
    .collect()
}

/// An anchor whose mobile 1 has flow 7, UDP to port 7000, on the second MAG.
fn lma() -> Rig {
    let mut rig = Rig::lma();
    let mut binding = lma_binding(1, &[1, 2]).unwrap();
    binding.rules = vec![rule(7, 7000, RuleAction::Forward(PathId(2)))];
    rig.binding(Role::Lma, 1, Some(binding));
    rig.turn();
    rig
}

fn down(n: u16, port: u16) -> Vec<u8> {
    udp(CN_MAC, EDGE, cn(), mn(n), port, b"downlink")
}

fn up(n: u16, payload: &[u8]) -> Vec<u8> {
    let inner = udp(MAG1_MAC, CORE, mn(n), cn(), 5001, payload);
    ipv6(MAG1_MAC, PORT_MACS[0], mag1(), lmaa(), 41, 64, &inner[14..])
}

const MOBILE_1: Option<(Role, MobileId)> = Some((Role::Lma, MobileId(1)));

#[test]
fn a_packet_is_seen_as_it_comes_and_as_it_leaves_with_what_was_decided() {
    let mut rig = lma();
    capture(&mut rig, Filter::default());
    let came = down(1, 7000);
    rig.rx(EDGE, &came);
    let left = rig.sent(CORE).remove(0);
    let all = shown(&mut rig);
    let [(first, first_frame), (second, second_frame)] = &all[..] else {
        panic!("{all:?}")
    };
    assert_eq!((first_frame, second_frame), (&came, &left));
    assert_eq!(
        (first.port, first.direction, first.end),
        (EDGE, Direction::In, End::Sent)
    );
    assert_eq!(
        (second.port, second.direction, second.end),
        (CORE, Direction::Out, End::Sent)
    );
    for seen in [first, second] {
        assert_eq!((seen.from, seen.to), (None, MOBILE_1));
        assert_eq!(seen.fid, Fid::new(7));
        assert_eq!(seen.path, Some((Role::Lma, PathId(2))));
        assert_eq!((seen.packet, seen.missed), (first.packet, 0));
    }
    // By no rule, and then out of the tunnel.
    rig.rx(EDGE, &down(1, 7001));
    rig.rx(CORE, &up(1, b"uplink"));
    let all = shown(&mut rig);
    assert_eq!(all.len(), 4);
    assert_eq!(
        (all[0].0.fid, all[0].0.path),
        (None, Some((Role::Lma, PathId(1))))
    );
    assert_eq!((all[2].0.from, all[2].0.to), (MOBILE_1, None));
    let mut bare = up(1, b"uplink")[54..].to_vec();
    bare[7] -= 1;
    assert_eq!(all[3].1[14..], bare);
    rig.update(Update::Capture(None));
    rig.rx(EDGE, &came);
    assert!(shown(&mut rig).is_empty());
}

#[test]
fn filters_choose_packets_and_frames() {
    let all_of = |filter: Filter| {
        let mut rig = lma();
        capture(&mut rig, filter);
        rig.rx(EDGE, &down(1, 7000));
        rig.rx(EDGE, &down(1, 7001));
        rig.rx(EDGE, &down(2, 7000));
        rig.rx(CORE, &up(1, b"uplink"));
        // Nobody's prefix: dropped, and answered.
        rig.rx(EDGE, &down(9, 7000));
        rig.sent(CORE);
        rig.sent(EDGE);
        shown(&mut rig)
    };
    let count = |filter| all_of(filter).len();
    let any = Filter::default();
    assert_eq!(count(any.clone()), 10);
    let mobiles = |mobiles: &[(Role, MobileId)]| Filter {
        mobiles: Some(mobiles.to_vec()),
        ..Filter::default()
    };
    assert_eq!(count(mobiles(&[(Role::Lma, MobileId(1))])), 6);
    assert_eq!(count(mobiles(&[(Role::Mag, MobileId(1))])), 0);
    assert_eq!(count(mobiles(&[])), 0);
    let fid = Fid::new(7);
    assert_eq!(count(Filter { fid, ..any.clone() }), 2);
    // Both packets through its tunnel, each as it came and as it left.
    let peer = Some(mag1());
    assert_eq!(
        count(Filter {
            peer,
            ..any.clone()
        }),
        4
    );
    let port = Some(CORE);
    assert_eq!(
        count(Filter {
            port,
            ..any.clone()
        }),
        4
    );
    let direction = Some(Direction::In);
    assert_eq!(
        count(Filter {
            direction,
            ..any.clone()
        }),
        5
    );
    let peer_in_on_core = Filter {
        peer,
        port,
        direction,
        ..any.clone()
    };
    assert_eq!(count(peer_in_on_core), 1);
    let dropped = Some(vec![DropReason::NoBinding, DropReason::Rule]);
    let refused = all_of(Filter {
        dropped,
        octets: 60,
        ..any
    });
    let [(came, frame), (answer, error)] = &refused[..] else {
        panic!("{refused:?}")
    };
    assert_eq!(came.end, End::Dropped(DropReason::NoBinding));
    assert_eq!((came.len, came.captured), (70, 60));
    assert_eq!(frame[..], down(9, 7000)[..60]);
    assert_eq!((answer.port, answer.direction), (EDGE, Direction::Out));
    assert_eq!((error[20], error[54]), (58, 1), "destination unreachable");
}

#[test]
fn what_waits_is_seen_when_it_leaves_or_is_given_up() {
    let mut rig = lma();
    capture(&mut rig, Filter::default());
    let stranger = ip("2001:db8:1::77");
    let mut inner = up(1, b"uplink");
    inner[54 + 24..54 + 40].copy_from_slice(&stranger.octets());
    for answered in [true, false] {
        rig.rx(CORE, &inner);
        let held = shown(&mut rig);
        assert_eq!(held.len(), 1);
        assert_eq!((held[0].0.end, held[0].0.from), (End::Held, MOBILE_1));
        rig.neighbour(EDGE, stranger, answered.then_some(CN_MAC));
        rig.turn();
        let later = shown(&mut rig);
        let (seen, _) = later[0];
        assert_eq!(seen.direction, Direction::Out);
        assert_eq!(seen.from, MOBILE_1);
        assert_ne!(seen.packet, held[0].0.packet);
        let end = if answered {
            assert_eq!((seen.port, later.len()), (EDGE, 1));
            End::Sent
        } else {
            // And its sender is told.
            assert_eq!((seen.port, later.len()), (Seen::NO_PORT, 2));
            End::Dropped(DropReason::Neighbour)
        };
        assert_eq!(seen.end, end);
        rig.neighbour(EDGE, stranger, None);
        rig.turn();
        rig.sent(EDGE);
        rig.sent(CORE);
        shown(&mut rig);
    }
}

#[test]
fn fragments_wait_and_go_on_whole_and_packets_leave_in_fragments() {
    let mut rig = lma();
    rig.path(Role::Lma, 1, Some(narrow_tunnel(lmaa(), mag1(), 1280)));
    rig.turn();
    capture(&mut rig, Filter::default());
    rig.rx(EDGE, &sized(CN_MAC, EDGE, cn(), mn(1), 1280));
    let (left, all) = (rig.sent(CORE), shown(&mut rig));
    assert_eq!((left.len(), all.len()), (2, 3));
    assert!(
        all.iter()
            .all(|(seen, _)| seen.packet == all[0].0.packet && seen.end == End::Sent)
    );
    assert_eq!([&all[1].1, &all[2].1], [&left[0], &left[1]]);
    // At the other end the first one waits for the second, which goes on with it.
    let through = |filter: Filter| {
        let mut mag = Rig::mag();
        capture(&mut mag, filter);
        let mut ends = Vec::new();
        for mut frame in left.clone() {
            frame[..6].copy_from_slice(&PORT_MACS[0].0);
            mag.rx(CORE, &frame);
            ends.extend(shown(&mut mag).iter().map(|(seen, _)| (seen.end, seen.to)));
        }
        ends
    };
    let to = Some((Role::Mag, MobileId(1)));
    let whole = [(End::Sent, to), (End::Sent, to)];
    let all = through(Filter::default());
    assert_eq!(all, [&[(End::Held, to)][..], &whole].concat());
    // The second shows whose it is only when it goes on.
    let mobiles = |n| Filter {
        mobiles: Some(vec![(Role::Mag, MobileId(n))]),
        ..Filter::default()
    };
    assert_eq!(through(mobiles(1)), all);
    assert_eq!(through(mobiles(2)), []);
}

#[test]
fn a_packet_with_a_limit_is_a_mobiles_too() {
    let mut rig = lma();
    rig.path(Role::Lma, 1, Some(limited_tunnel(lmaa(), mag1(), 4)));
    rig.turn();
    let mobiles = Some(vec![(Role::Lma, MobileId(1))]);
    capture(
        &mut rig,
        Filter {
            mobiles,
            ..Filter::default()
        },
    );
    rig.rx(EDGE, &down(1, 7001));
    let all = shown(&mut rig);
    assert_eq!(all.len(), 2);
    assert!(
        all.iter()
            .all(|(seen, _)| seen.path == Some((Role::Lma, PathId(1))))
    );
    let frame = &all[1].1;
    assert_eq!(frame[20], 60, "destination options");
    let mut up = frame.clone();
    up[..6].copy_from_slice(&PORT_MACS[0].0);
    let (source, destination) = up[22..54].split_at_mut(16);
    source.swap_with_slice(destination);
    let (source, destination) = up[70..102].split_at_mut(16);
    source.swap_with_slice(destination);
    rig.rx(CORE, &up);
    let all = shown(&mut rig);
    assert_eq!(all[0].0.from, Some((Role::Lma, MobileId(1))));
    assert_eq!((all.len(), all[0].0.end), (2, End::Sent));
}

#[test]
fn what_finds_no_room_is_counted_and_told_with_the_next() {
    let mut rig = lma();
    capture(&mut rig, Filter::default());
    let mut sent = 0;
    while sent < 40_000 {
        rig.io.receive(EDGE, &down(1, 7000));
        rig.worker.turn();
        rig.sent(CORE);
        sent += 2;
    }
    let all = shown(&mut rig);
    assert!(all.iter().all(|(seen, _)| seen.missed == 0));
    rig.rx(EDGE, &down(1, 7000));
    let (next, _) = &shown(&mut rig)[0];
    assert_eq!(all.len() as u64 + next.missed, sent);
    assert!(next.missed > 0);
    // Another capture begins at zero.
    capture(
        &mut rig,
        Filter {
            capture: 2,
            ..Filter::default()
        },
    );
    rig.rx(EDGE, &down(1, 7000));
    let (first, _) = &shown(&mut rig)[0];
    assert_eq!((first.capture, first.missed), (2, 0));
}

/// Frames of all kinds, no two alike.
fn frames() -> impl Strategy<Value = Vec<(PortId, Vec<u8>)>> {
    let kinds = prop::collection::vec((0..9u16, 7000..7002u16), 1..80);
    kinds.prop_map(|kinds| {
        let frame = |(number, (kind, port)): (usize, (u16, u16))| {
            let payload = number.to_be_bytes();
            match kind {
                1..4 => (EDGE, udp(CN_MAC, EDGE, cn(), mn(kind), port, &payload)),
                4..7 => (CORE, up(kind - 3, &payload)),
                7 => (EDGE, sized(CN_MAC, EDGE, cn(), mn(1), 1480)),
                8 => (CORE, udp(MAG1_MAC, CORE, mag1(), lmaa(), 1, &payload)),
                _ => (CORE, vec![0; 60]),
            }
        };
        kinds.into_iter().enumerate().map(frame).collect()
    })
}

/// Frames that left, those from and to the same addresses in their order: others may pass each other, and so may
/// errors, which are about packets of different kinds.
fn by_addresses(mut frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let key = |frame: &Vec<u8>| {
        let error = (frame[20] == 58).then(|| frame.clone());
        (frame[22..54].to_vec(), error)
    };
    frames.sort_by_key(key);
    frames
}

fn filters() -> impl Strategy<Value = Filter> {
    let mobiles = prop::option::of(Just(vec![(Role::Lma, MobileId(1))]));
    let dropped = prop::option::of(Just(vec![DropReason::NoBinding]));
    let peer = prop::option::of(prop_oneof![Just(mag1()), Just(mag2())]);
    let port = prop::option::of(prop_oneof![Just(CORE), Just(EDGE)]);
    (mobiles, dropped, peer, port).prop_map(|(mobiles, dropped, peer, port)| Filter {
        mobiles,
        dropped,
        peer,
        port,
        ..Filter::default()
    })
}

proptest! {
    /// The same frames leave, those of a flow in their order, and the same is counted.
    #[test]
    fn nobody_notices_a_capture(frames in frames(), filter in filters()) {
        let run = |filter: Option<Filter>| {
            let mut rig = lma();
            if let Some(filter) = filter {
                capture(&mut rig, filter);
            }
            for (port, frame) in &frames {
                rig.io.receive(*port, frame);
            }
            rig.turn();
            let (core, edge) = (by_addresses(rig.sent(CORE)), by_addresses(rig.sent(EDGE)));
            let counters = rig.counters();
            (core, edge, counters.drops, counters.lma_paths, shown(&mut rig))
        };
        let (plain, watched) = (run(None), run(Some(filter.clone())));
        prop_assert!(plain.0 == watched.0, "what left to the core");
        prop_assert!(plain.1 == watched.1, "what left to the edge");
        prop_assert_eq!(plain.2, watched.2);
        prop_assert_eq!(plain.3, watched.3);
        for (seen, frame) in &watched.4 {
            prop_assert!(filter.wants(seen.port, seen.direction));
            prop_assert_eq!(seen.captured as usize, frame.len());
        }
        if filter == Filter::default() {
            let came = |(seen, _): &&(Seen, Vec<u8>)| seen.direction == Direction::In;
            prop_assert_eq!(watched.4.iter().filter(came).count(), frames.len());
        }
    }
}
