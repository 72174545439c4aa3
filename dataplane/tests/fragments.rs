//! Outer packets in fragments: cut where a tunnel's way is narrow, put together where it ends.
#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::*;
use dataplane::FragmentLimits;
use etherparse::{IpNumber, Ipv6FragmentHeader};
use flow::{DropReason, MacAddr, Role};
use proptest::prelude::*;

/// An anchor and a gateway whose tunnel's way carries so much.
fn narrow(mtu: u16) -> (Rig, Rig) {
    let (mut lma, mut mag) = (Rig::lma(), Rig::mag());
    lma.path(Role::Lma, 1, Some(narrow_tunnel(lmaa(), mag1(), mtu)));
    mag.path(Role::Mag, 1, Some(narrow_tunnel(mag1(), lmaa(), mtu)));
    lma.turn();
    mag.turn();
    (lma, mag)
}

/// The Fragment header right behind the IPv6 header of a frame, and what follows.
fn fragment(frame: &[u8]) -> (Ipv6FragmentHeader, &[u8]) {
    let (_, ip, payload) = parse(frame);
    assert_eq!(ip.next_header, IpNumber::IPV6_FRAGMENTATION_HEADER);
    Ipv6FragmentHeader::from_slice(payload).unwrap()
}

/// A fragment of a packet between tunnel ends, to the worker's core port.
fn piece(
    (from_mac, source, to): (MacAddr, std::net::Ipv6Addr, std::net::Ipv6Addr),
    id: u32,
    offset: usize,
    more: bool,
    body: &[u8],
) -> Vec<u8> {
    let place = (offset as u16 & !7 | u16::from(more)).to_be_bytes();
    let id = id.to_be_bytes();
    let header = [41, 0, place[0], place[1], id[0], id[1], id[2], id[3]];
    let payload = [&header[..], body].concat();
    ipv6(from_mac, PORT_MACS[0], source, to, 44, 64, &payload)
}

fn from_mag1() -> (MacAddr, std::net::Ipv6Addr, std::net::Ipv6Addr) {
    (MAG1_MAC, mag1(), lmaa())
}

fn uplink(octets: usize) -> Vec<u8> {
    packet(&sized(MN_MAC, CORE, mn(1), cn(), octets)).to_vec()
}

/// The frame as it looks one hop further, without its Ethernet header.
fn one_hop_on(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[7] -= 1;
    packet
}

#[test]
fn what_every_link_must_carry_passes_a_way_that_carries_no_more() {
    let (mut lma, mut mag) = narrow(1280);
    let down = sized(CN_MAC, EDGE, cn(), mn(1), 1280);
    let up = sized(MN_MAC, EDGE, mn(1), cn(), 1280);
    let mut ids = BTreeSet::new();
    for (rig, frame, ends) in [
        (&mut lma, &down, (lmaa(), mag1())),
        (&mut mag, &up, (mag1(), lmaa())),
    ] {
        for _ in 0..2 {
            rig.rx(EDGE, frame);
            let sent = rig.sent(CORE);
            assert_eq!(sent.len(), 2);
            let mut whole = Vec::new();
            for (number, out) in sent.iter().enumerate() {
                let (_, outer, _) = parse(out);
                assert!(packet(out).len() <= 1280);
                assert_eq!((outer.source_addr(), outer.destination_addr()), ends);
                assert_eq!(outer.hop_limit, 64);
                let (header, body) = fragment(out);
                assert_eq!(header.next_header, IpNumber::IPV6);
                assert_eq!(usize::from(header.fragment_offset.value()) * 8, whole.len());
                assert_eq!(header.more_fragments, number == 0);
                assert_eq!(out[14..18], sent[0][14..18], "class and label are the same");
                whole.extend_from_slice(body);
                assert_eq!(header.identification, fragment(&sent[0]).0.identification);
            }
            assert_eq!(whole, one_hop_on(packet(frame)));
            assert!(ids.insert((ends, fragment(&sent[0]).0.identification)));
        }
        let counters = rig.counters();
        assert_eq!((counters.fragmented, counters.originated), (2, 2));
    }
    // One octet more is refused, and one that fits is not cut.
    let out = lma.through(EDGE, &sized(CN_MAC, EDGE, cn(), mn(1), 1281), EDGE);
    assert_eq!((parse_icmp(&out).0, parse_icmp(&out).2), (2, 1280));
    let out = lma.through(EDGE, &sized(CN_MAC, EDGE, cn(), mn(1), 1240), CORE);
    assert_eq!(parse(&out).1.next_header, IpNumber::IPV6);
}

#[test]
fn fragments_are_put_together_before_the_packet_leaves_the_tunnel() {
    let (mut lma, mut mag) = narrow(1280);
    let down = sized(CN_MAC, EDGE, cn(), mn(1), 1280);
    lma.rx(EDGE, &down);
    for mut frame in lma.sent(CORE) {
        frame[..6].copy_from_slice(&PORT_MACS[0].0);
        mag.rx(CORE, &frame);
    }
    let out = mag.sent(EDGE).remove(0);
    assert_eq!(packet(&out), one_hop_on(&one_hop_on(packet(&down))));
    let up = sized(MN_MAC, EDGE, mn(1), cn(), 1270);
    mag.rx(EDGE, &up);
    for mut frame in mag.sent(CORE).into_iter().rev() {
        frame[..6].copy_from_slice(&PORT_MACS[0].0);
        lma.rx(CORE, &frame);
    }
    let out = lma.sent(EDGE).remove(0);
    assert_eq!(packet(&out), one_hop_on(&one_hop_on(packet(&up))));
    for rig in [&lma, &mag] {
        let counters = rig.counters();
        assert_eq!(
            (counters.reassembled, counters.consumed, counters.held),
            (1, 1, 0)
        );
    }
    assert_eq!(lma.counters().lma_paths[1].in_packets, 1);
}

#[test]
fn the_exit_takes_more_and_smaller_fragments_than_our_entry_makes() {
    let mut rig = Rig::lma();
    let inner = uplink(1500);
    let cuts: Vec<(usize, &[u8])> = (0..).step_by(256).zip(inner.chunks(256)).collect();
    for (offset, body) in cuts.iter().rev() {
        rig.rx(
            CORE,
            &piece(from_mag1(), 7, *offset, offset + 256 < 1500, body),
        );
    }
    assert_eq!(packet(&rig.sent(EDGE).remove(0)), one_hop_on(&inner));
    // More than are kept of one packet are none.
    for (offset, body) in (0..).step_by(8).zip(inner.chunks(8)).take(9) {
        rig.rx(CORE, &piece(from_mag1(), 8, offset, true, body));
    }
    assert_eq!(rig.counters().dropped(DropReason::FragmentRoom), 9);
    assert_eq!(rig.counters().held, 0);
    // A whole packet with a Fragment header is just that (RFC 6946), whatever else has its number.
    rig.rx(CORE, &piece(from_mag1(), 9, 0, true, &inner[..64]));
    let out = rig.through(CORE, &piece(from_mag1(), 9, 0, false, &inner), EDGE);
    assert_eq!(packet(&out), one_hop_on(&inner));
    assert_eq!(rig.counters().held, 1);
}

#[test]
fn overlaps_spoil_a_packet_and_duplicates_do_not() {
    let inner = uplink(1200);
    let at = |id, range: std::ops::Range<usize>| {
        let more = range.end < 1200;
        piece(from_mag1(), id, range.start, more, &inner[range])
    };
    let mut rig = Rig::lma();
    rig.rx(CORE, &at(1, 0..600));
    rig.drops(CORE, &at(1, 0..600), DropReason::FragmentDuplicate);
    let out = rig.through(CORE, &at(1, 600..1200), EDGE);
    assert_eq!(packet(&out), one_hop_on(&inner));
    // Overlapping, the same place with other octets, behind the end, and two ends.
    let mut forged = at(2, 0..600);
    forged[200] ^= 1;
    let beyond = piece(from_mag1(), 2, 1200, true, &[0; 8]);
    let early_end = piece(from_mag1(), 2, 600, false, &[0; 8]);
    for (second, first) in [
        (at(2, 592..1200), 0..600),
        (at(2, 400..800), 0..600),
        (forged, 0..600),
        (beyond, 600..1200),
        (early_end, 800..1200),
    ] {
        let mut rig = Rig::lma();
        rig.rx(CORE, &at(2, first.clone()));
        rig.rx(CORE, &second);
        assert_eq!(
            rig.counters().dropped(DropReason::FragmentOverlap),
            2,
            "{first:?}"
        );
        // Nothing else of that packet is used, even if it would be whole now.
        for range in [0..600, 600..1200] {
            rig.drops(CORE, &at(2, range), DropReason::FragmentOverlap);
        }
        assert_eq!(rig.counters().held, 0);
    }
}

#[test]
fn fragments_wait_for_a_time_only_and_their_sender_is_told() {
    let (rig, time) = Rig::timed(Rig::lma_config());
    let mut rig = rig.into_lma();
    let inner = uplink(1200);
    rig.rx(CORE, &piece(from_mag1(), 1, 0, true, &inner[..600]));
    *time.lock().unwrap() = Duration::from_secs(30);
    rig.rx(CORE, &piece(from_mag1(), 2, 600, false, &inner[600..]));
    *time.lock().unwrap() = Duration::from_secs(59);
    rig.turn();
    assert_eq!(rig.counters().held, 2);
    *time.lock().unwrap() = Duration::from_mins(1);
    rig.turn();
    let told = rig.sent(CORE).remove(0);
    assert_eq!(parse(&told).1.destination_addr(), mag1());
    let (kind, code, _, quote) = parse_icmp(&told);
    assert_eq!((kind, code), (3, 1));
    assert_eq!(quote[48..], inner[..600]);
    // The rest comes too late; and of a packet without its first fragment no one is told.
    rig.rx(CORE, &piece(from_mag1(), 1, 600, false, &inner[600..]));
    *time.lock().unwrap() = Duration::from_secs(500);
    rig.turn();
    assert_eq!((rig.counters().held, rig.sent(CORE).len()), (0, 0));
    assert_eq!(rig.counters().dropped(DropReason::FragmentTime), 3);
}

#[test]
fn memory_for_fragments_is_bounded_and_strangers_get_what_is_left() {
    let mut config = Rig::lma_config();
    config.fragments = FragmentLimits {
        packets: 8,
        fragments: 12,
        ..FragmentLimits::default()
    };
    let mut rig = Rig::new(config).into_lma();
    let inner = uplink(1200);
    let stranger = (MAG1_MAC, ip("2001:db8:ffff::77"), lmaa());
    for id in 0..50 {
        rig.rx(CORE, &piece(stranger, id, 0, true, &inner[..600]));
    }
    assert_eq!(rig.counters().held, 8);
    assert_eq!(rig.counters().dropped(DropReason::FragmentRoom), 42);
    // A tunnel's packets drive those out, but not the other way round.
    for id in 0..8 {
        rig.rx(CORE, &piece(from_mag1(), id, 0, true, &inner[..600]));
    }
    rig.drops(
        CORE,
        &piece(stranger, 99, 0, true, &inner[..600]),
        DropReason::FragmentRoom,
    );
    let out = rig.through(
        CORE,
        &piece(from_mag1(), 0, 600, false, &inner[600..]),
        EDGE,
    );
    assert_eq!(packet(&out), one_hop_on(&inner));
    // Among themselves the oldest goes, for want of places or of buffers.
    rig.rx(CORE, &piece(from_mag1(), 100, 0, true, &inner[..600]));
    rig.drops(
        CORE,
        &piece(from_mag1(), 101, 0, true, &inner[..600]),
        DropReason::FragmentRoom,
    );
    rig.rx(CORE, &piece(from_mag1(), 1, 600, false, &inner[600..]));
    assert!(rig.sent(EDGE).is_empty(), "its first fragment had to go");
    for offset in (600..).step_by(8).take(6) {
        let body = &inner[offset..offset + 8];
        rig.rx(CORE, &piece(from_mag1(), 101, offset, true, body));
    }
    assert!(rig.counters().held <= 12);
}

#[test]
fn fragments_that_cannot_be_right_are_refused() {
    let mut rig = Rig::lma();
    let inner = uplink(1200);
    let refused = |rig: &mut Rig, frame: &[u8]| {
        let out = rig.through(CORE, frame, CORE);
        assert_eq!(parse(&out).1.destination_addr(), mag1());
        let (kind, code, pointer, _) = parse_icmp(&out);
        assert_eq!(kind, 4);
        (code, pointer)
    };
    let odd = piece(from_mag1(), 1, 0, true, &inner[..601]);
    assert_eq!(refused(&mut rig, &odd), (0, 4));
    let far = piece(from_mag1(), 2, 65_528, false, &inner[..600]);
    assert_eq!(refused(&mut rig, &far), (0, 42));
    let mut headless = piece(from_mag1(), 3, 0, true, &[60, 9, 1, 4, 0, 0, 0, 0]);
    headless[54] = 60;
    assert_eq!(refused(&mut rig, &headless), (3, 0));
    assert_eq!(rig.counters().dropped(DropReason::BadFragment), 3);
    let empty = piece(from_mag1(), 4, 8, true, &[]);
    rig.drops(CORE, &empty, DropReason::BadFragment);
    // Fragments of a fragment are put together once.
    let nested = piece(from_mag1(), 5, 0, true, &inner[..64]);
    for (offset, more, body) in [(0, true, &nested[54..94]), (40, false, &nested[94..])] {
        let mut frame = piece(from_mag1(), 6, offset, more, body);
        frame[54] = 44;
        rig.rx(CORE, &frame);
    }
    assert_eq!(rig.counters().dropped(DropReason::BadFragment), 5);
    assert_eq!(rig.counters().held, 0);
}

#[test]
fn congestion_marks_survive_being_put_together() {
    let mut inner = sized(MN_MAC, CORE, mn(1), cn(), 1200);
    set_traffic_class(&mut inner, 2);
    let inner = packet(&inner);
    // Marks of the two fragments, and of the inner packet afterwards (RFC 3168 §5.3, RFC 6040 §4.2).
    for (marks, result) in [
        ([0, 0], Some(2)),
        ([2, 3], Some(3)),
        ([3, 1], Some(3)),
        ([0, 3], None),
    ] {
        let mut rig = Rig::lma();
        let mut first = piece(from_mag1(), 1, 0, true, &inner[..600]);
        let mut last = piece(from_mag1(), 1, 600, false, &inner[600..]);
        set_traffic_class(&mut first, marks[0]);
        set_traffic_class(&mut last, marks[1]);
        rig.rx(CORE, &first);
        rig.rx(CORE, &last);
        let out = rig.sent(EDGE);
        let class = out.first().map(|out| parse(out).1.traffic_class);
        assert_eq!(class, result, "{marks:?}");
        let dropped = if result.is_none() { 2 } else { 0 };
        assert_eq!(rig.counters().dropped(DropReason::Ecn), dropped);
    }
}

#[test]
fn a_ping_in_fragments_is_answered_and_discovery_in_fragments_is_not_believed() {
    let mut rig = Rig::lma();
    // Later fragments of it begin like a solicitation.
    let echo = icmp(cn(), lmaa(), 128, [0, 1, 0, 2], &[135; 1000]);
    let ask = icmp(cn(), lmaa(), 135, [0; 4], &lmaa().octets());
    let send = |rig: &mut Rig, message: &[u8], hops| {
        for (offset, more) in [(0_u8, true), (16, false)] {
            let body = if more { &message[..16] } else { &message[16..] };
            let header = [58, 0, 0, offset | u8::from(more), 0, 0, 0, 1];
            let payload = [&header[..], body].concat();
            let to = PORT_MACS[1];
            rig.rx(EDGE, &ipv6(CN_MAC, to, cn(), lmaa(), 44, hops, &payload));
        }
    };
    send(&mut rig, &echo, 64);
    let out = rig.sent(EDGE).remove(0);
    assert_eq!(parse_icmp(&out), (129, 0, 0x0001_0002, vec![135; 1000]));
    send(&mut rig, &ask, 255);
    assert_eq!(rig.counters().dropped(DropReason::BadIcmp), 1);
    assert!(rig.sent(EDGE).is_empty() && rig.punts().is_empty());
}

#[test]
fn both_fragments_wait_for_a_neighbour_and_only_one_is_told_of() {
    let (mut rig, _) = narrow(1280);
    rig.neighbour(CORE, mag1(), None);
    let down = sized(CN_MAC, EDGE, cn(), mn(1), 1280);
    rig.rx(EDGE, &down);
    assert_eq!(rig.counters().held, 2);
    rig.neighbour(CORE, mag1(), Some(MAG1_MAC));
    rig.turn();
    let sent = rig.sent(CORE);
    let offsets: Vec<_> = sent
        .iter()
        .map(|f| fragment(f).0.fragment_offset.value())
        .collect();
    assert_eq!(offsets, [0, 154]);
    assert!(sent.iter().all(|frame| frame[..6] == MAG1_MAC.0));
    rig.neighbour(CORE, mag1(), None);
    rig.turn();
    rig.rx(EDGE, &down);
    rig.neighbour(CORE, mag1(), None);
    rig.turn();
    let told = rig.sent(EDGE);
    assert_eq!(told.len(), 1);
    let (kind, code, _, quote) = parse_icmp(&told[0]);
    assert_eq!((kind, code), (1, 3));
    assert_eq!(quote[8..1000], packet(&down)[8..1000]);
}

#[test]
fn without_a_buffer_for_the_second_fragment_the_packet_is_dropped_whole() {
    let (mut rig, _) = narrow(1280);
    let frame = rig
        .io
        .pool()
        .packet(&sized(CN_MAC, EDGE, cn(), mn(1), 1280))
        .unwrap();
    let all: Vec<_> = std::iter::from_fn(|| rig.io.pool().alloc()).collect();
    rig.io.receive_packet(EDGE, frame);
    rig.worker.turn();
    drop(all);
    rig.check();
    assert_eq!(rig.counters().dropped(DropReason::NoBuffer), 1);
    assert!(rig.sent(CORE).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// What our entry cuts, our exit puts together, whatever order the fragments come in and however
    /// often.
    #[test]
    fn the_exit_undoes_what_the_entry_did(
        mtu in 1280_u16..=1330,
        lens in proptest::collection::vec(1200_usize..=1280, 1..6),
        limit in proptest::option::of(1_u8..),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
        downlink: bool,
    ) {
        let (mut lma, mut mag) = narrow(mtu);
        if limit.is_some() {
            for (rig, role, ends) in [
                (&mut lma, Role::Lma, (lmaa(), mag1())),
                (&mut mag, Role::Mag, (mag1(), lmaa())),
            ] {
                let flow::Path::Tunnel(tunnel) = narrow_tunnel(ends.0, ends.1, mtu) else {
                    unreachable!()
                };
                let tunnel = flow::Tunnel { encapsulation_limit: limit, ..tunnel };
                rig.path(role, 1, Some(flow::Path::Tunnel(tunnel)));
                rig.turn();
            }
        }
        let (mac, source, to) = if downlink {
            (CN_MAC, cn(), mn(1))
        } else {
            (MN_MAC, mn(1), cn())
        };
        let (entry, exit) = if downlink { (&mut lma, &mut mag) } else { (&mut mag, &mut lma) };
        let mut expected = BTreeSet::new();
        for (number, len) in (0..).zip(&lens) {
            let payload: Vec<u8> = (0..=255).cycle().skip(number).take(len - 48).collect();
            let frame = udp(mac, EDGE, source, to, number as u16, &payload);
            expected.insert(one_hop_on(&one_hop_on(packet(&frame))));
            entry.rx(EDGE, &frame);
        }
        let pieces = entry.sent(CORE);
        let all_fit = pieces.iter().all(|frame| packet(frame).len() <= usize::from(mtu));
        prop_assert!(all_fit);
        // Some of them again and anywhere, then all of them backwards.
        let mut sequence: Vec<_> = order.iter().map(|index| index.get(&pieces)).collect();
        sequence.extend(pieces.iter().rev());
        let mut arrived = BTreeMap::new();
        for frame in sequence {
            let mut frame = frame.clone();
            frame[..6].copy_from_slice(&PORT_MACS[0].0);
            exit.rx(CORE, &frame);
            for out in exit.sent(EDGE) {
                *arrived.entry(packet(&out).to_vec()).or_insert(0) += 1;
            }
        }
        let arrived: BTreeSet<_> = arrived.into_keys().collect();
        prop_assert_eq!(arrived, expected);
        for reason in [DropReason::FragmentOverlap, DropReason::BadFragment, DropReason::FragmentRoom] {
            prop_assert_eq!(exit.counters().dropped(reason), 0);
        }
    }
}
