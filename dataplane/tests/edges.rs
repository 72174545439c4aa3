//! What few packets need: narrow ways that are discovered, encapsulation limits, extension headers, and
//! fragments of mobiles' own packets.
#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests"
)]

mod common;

use std::net::Ipv6Addr;
use std::time::Duration;

use common::*;
use dataplane::FragmentLimits;
use etherparse::IpNumber;
use flow::{Binding, DropReason, PathId, Punt, Role, RuleAction, Update};

/// A router between LMA and MAG.
fn router() -> Ipv6Addr {
    ip("2001:db8:ffff::fe")
}

/// Its Packet Too Big about an outer packet, to the tunnel end `to`.
fn too_big(to: Ipv6Addr, mtu: u32, outer: &[u8]) -> Vec<u8> {
    let quote = &outer[..outer.len().min(1232)];
    let message = icmp(router(), to, 2, mtu.to_be_bytes(), quote);
    ipv6(MAG1_MAC, PORT_MACS[0], router(), to, 58, 64, &message)
}

fn down(octets: usize) -> Vec<u8> {
    sized(CN_MAC, EDGE, cn(), mn(1), octets)
}

fn learned(mtu: u16) -> Punt {
    Punt::PathMtu {
        local: lmaa(),
        remote: mag1(),
        mtu,
    }
}

#[test]
fn a_narrow_way_is_learned_told_and_forgotten() {
    let (rig, time) = Rig::timed(Rig::lma_config());
    let mut rig = rig.into_lma();
    let outer = rig.through(EDGE, &down(1460), CORE);
    let told = rig.through(CORE, &too_big(lmaa(), 1400, packet(&outer)), EDGE);
    let (kind, _, mtu, quote) = parse_icmp(&told);
    assert_eq!((kind, mtu), (2, 1360));
    assert_eq!(quote[8..600], packet(&down(1460))[8..600]);
    assert_eq!(rig.punts(), [learned(1400)]);
    let out = rig.through(EDGE, &down(1361), EDGE);
    assert_eq!(parse_icmp(&out).2, 1360, "the next one is told here");
    rig.through(EDGE, &down(1360), CORE);
    // Other tunnels are not concerned; and a new route or path changes nothing of what is known.
    rig.through(EDGE, &sized(CN_MAC, EDGE, cn(), mn(2), 1460), CORE);
    rig.path(Role::Lma, 1, Some(tunnel(lmaa(), mag1())));
    rig.update(Update::Route {
        prefix: "2001:db8:9::/48".parse().unwrap(),
        next: None,
    });
    let out = rig.through(EDGE, &down(1361), EDGE);
    assert_eq!(parse_icmp(&out).2, 1360);
    // Ten minutes it counts; and ten more from when it is said again.
    *time.lock().unwrap() = Duration::from_secs(599);
    rig.update(Update::PathMtu {
        local: lmaa(),
        remote: mag1(),
        mtu: 1400,
    });
    rig.turn();
    *time.lock().unwrap() = Duration::from_secs(1198);
    let out = rig.through(EDGE, &down(1361), EDGE);
    assert_eq!(parse_icmp(&out).2, 1360);
    *time.lock().unwrap() = Duration::from_secs(1199);
    rig.turn();
    rig.through(EDGE, &down(1460), CORE);
}

#[test]
fn what_the_control_plane_says_of_a_way_counts_for_every_role() {
    let update = |local, remote, mtu| Update::PathMtu { local, remote, mtu };
    let mut rig = Rig::mag();
    rig.update(update(mag1(), lmaa(), 1300));
    let up = |octets| sized(MN_MAC, EDGE, mn(1), cn(), octets);
    let out = rig.through(EDGE, &up(1300), EDGE);
    assert_eq!(parse_icmp(&out).2, 1280);
    rig.rx(EDGE, &up(1261));
    assert_eq!(rig.sent(CORE).len(), 2);
    // More than before changes nothing, less than any link carries is not believed, and others' ways
    // are none of ours.
    rig.update(update(mag1(), lmaa(), 1400));
    rig.rx(EDGE, &up(1261));
    assert_eq!(rig.sent(CORE).len(), 2);
    rig.update(update(mag1(), lmaa(), 0));
    rig.update(update(lmaa(), mag1(), 1280));
    rig.through(EDGE, &up(1240), CORE);
    rig.rx(EDGE, &up(1241));
    let lens: Vec<_> = rig.sent(CORE).iter().map(|f| packet(f).len()).collect();
    assert_eq!(lens, [1280, 40 + 8 + 1241 - 1232]);
}

#[test]
fn a_word_about_nothing_we_sent_is_not_believed() {
    let mut rig = Rig::lma();
    let outer = rig.through(EDGE, &down(1400), CORE);
    let outer = packet(&outer);
    // It fits; it is another's; it shows too little; it is no tunnel's.
    rig.drops(CORE, &too_big(lmaa(), 1440, outer), DropReason::BadQuote);
    let mut foreign = outer.to_vec();
    foreign[39] ^= 1;
    rig.drops(CORE, &too_big(lmaa(), 1300, &foreign), DropReason::BadQuote);
    let short = &outer[..39];
    rig.drops(CORE, &too_big(lmaa(), 1300, short), DropReason::BadQuote);
    let mut plain = outer.to_vec();
    plain[6] = 17;
    rig.drops(CORE, &too_big(lmaa(), 1300, &plain), DropReason::BadQuote);
    assert!(rig.punts().is_empty());
    rig.through(EDGE, &down(1460), CORE);
    // Less than any link carries is read as that (RFC 8201 §4), and only known to those it helps: here
    // the quote ends before the inner header.
    rig.rx(CORE, &too_big(lmaa(), 68, &outer[..60]));
    assert!(rig.sent(EDGE).is_empty());
    assert_eq!(rig.punts(), [learned(1280)]);
    let out = rig.through(EDGE, &down(1281), EDGE);
    assert_eq!(parse_icmp(&out).2, 1280);
}

#[test]
fn a_gateway_tells_its_mobile_what_happened_in_the_tunnel() {
    let mut rig = Rig::mag();
    let up = sized(MN_MAC, EDGE, mn(1), cn(), 1400);
    let outer = rig.through(EDGE, &up, CORE);
    let told = rig.through(CORE, &too_big(mag1(), 1350, packet(&outer)), EDGE);
    assert_eq!(parse(&told).0.destination, MN_MAC.0);
    assert_eq!(parse(&told).1.destination_addr(), mn(1));
    assert_eq!((parse_icmp(&told).0, parse_icmp(&told).2), (2, 1310));
    let quote = &packet(&outer)[..200];
    for kind in [1, 3, 4] {
        let message = icmp(router(), mag1(), kind, [0; 4], quote);
        let frame = ipv6(LMA_MAC, PORT_MACS[0], router(), mag1(), 58, 64, &message);
        let told = rig.through(CORE, &frame, EDGE);
        let (kind, code, _, body) = parse_icmp(&told);
        assert_eq!((kind, code), (1, 3));
        assert_eq!(body[8..], packet(&up)[8..160]);
    }
    // A packet whose fragments did not all arrive is lost like any other; and no stranger is told of
    // what its mobile never sent.
    let error = |kind, code, quote: &[u8]| {
        let mut message = icmp(router(), mag1(), kind, [0; 4], quote);
        message[1] = code;
        message[3] = message[3].wrapping_sub(code);
        ipv6(LMA_MAC, PORT_MACS[0], router(), mag1(), 58, 64, &message)
    };
    let consumed = rig.counters().consumed;
    rig.rx(CORE, &error(3, 1, quote));
    assert_eq!(rig.counters().consumed, consumed + 1);
    let mut forged = quote.to_vec();
    forged[40 + 8 + 7] ^= 0xff;
    rig.drops(CORE, &error(1, 0, &forged), DropReason::BadQuote);
    // As many as errors may be sent, and no more.
    let message = icmp(router(), mag1(), 3, [0; 4], quote);
    let frame = ipv6(LMA_MAC, PORT_MACS[0], router(), mag1(), 58, 64, &message);
    for _ in 0..200 {
        rig.rx(CORE, &frame);
    }
    assert_eq!(rig.sent(EDGE).len(), 100 - 4);
}

#[test]
fn errors_about_fragments_of_ours_concern_their_inner_packet() {
    let mut rig = Rig::lma();
    rig.path(Role::Lma, 1, Some(narrow_tunnel(lmaa(), mag1(), 1280)));
    rig.rx(EDGE, &down(1280));
    let sent = rig.sent(CORE);
    let about = |quote: &[u8]| {
        let message = icmp(router(), lmaa(), 1, [0; 4], &quote[..quote.len().min(1232)]);
        ipv6(MAG1_MAC, PORT_MACS[0], router(), lmaa(), 58, 64, &message)
    };
    let told = rig.through(CORE, &about(packet(&sent[0])), EDGE);
    assert_eq!(parse_icmp(&told).3[8..200], packet(&down(1280))[8..200]);
    // The second one shows no inner header, whatever is there looks like.
    let frame = about(packet(&sent[1]));
    rig.drops(CORE, &frame, DropReason::BadQuote);
}

/// A packet to mobile 1 with these extension headers, the first of type `first`.
fn with_headers(first: u8, headers: &[u8], upper: &[u8]) -> Vec<u8> {
    let payload = [headers, upper].concat();
    ipv6(CN_MAC, PORT_MACS[1], cn(), mn(1), first, 64, &payload)
}

/// A UDP header to this port.
fn udp_header(port: u16) -> [u8; 8] {
    let [high, low] = port.to_be_bytes();
    [0x0f, 0xa0, high, low, 0, 8, 0, 0]
}

#[test]
fn an_encapsulation_limit_is_spent_at_every_tunnel() {
    let mut rig = Rig::lma();
    let limit = |limit, next| [next, 0, 4, 1, limit, 1, 1, 0];
    let udp = udp_header(1);
    let routing = [60, 0, 0, 0, 0, 0, 0, 0];
    let padded = [17, 1, 0, 1, 3, 0, 0, 0, 0, 4, 1, 5, 1, 2, 0, 0];
    for (first, headers, at) in [
        (60, limit(5, 17).to_vec(), 44),
        (43, [routing, limit(5, 17)].concat(), 52),
        (60, padded.to_vec(), 51),
    ] {
        let mut frame = with_headers(first, &headers, &udp);
        let out = rig.through(EDGE, &frame, CORE);
        let (_, outer, payload) = parse(&out);
        assert_eq!(outer.next_header, IpNumber::IPV6_DESTINATION_OPTIONS);
        assert_eq!(payload[..8], limit(4, 41));
        assert_eq!(payload[8 + 7], 63);
        assert_eq!(payload[16..], packet(&frame)[8..]);
        frame[14 + at] = 0;
        let out = rig.through(EDGE, &frame, EDGE);
        let (kind, code, pointer, quote) = parse_icmp(&out);
        assert_eq!((kind, code, pointer), (4, 0, at as u32));
        assert_eq!(quote, packet(&frame));
    }
    assert_eq!(rig.counters().dropped(DropReason::EncapsulationLimit), 3);
    // Behind an inner IPv6 header or a later fragment's there is none to be found.
    let tunnel = [&[0x60, 0, 0, 0, 0, 0, 60, 64][..], &[0; 32], &limit(0, 59)].concat();
    let out = rig.through(EDGE, &with_headers(41, &[], &tunnel), CORE);
    assert_eq!(parse(&out).1.next_header, IpNumber::IPV6);
    let later = [60, 0, 0, 8, 0, 0, 0, 1];
    let out = rig.through(EDGE, &with_headers(44, &later, &limit(0, 17)), CORE);
    assert_eq!(parse(&out).1.next_header, IpNumber::IPV6);
    // At a gateway as well.
    let mut rig = Rig::mag();
    let payload = [&limit(0, 17)[..], &udp].concat();
    let up = ipv6(MN_MAC, PORT_MACS[1], mn(1), cn(), 60, 64, &payload);
    let out = rig.through(EDGE, &up, EDGE);
    assert_eq!((parse_icmp(&out).0, parse_icmp(&out).2), (4, 44));
}

#[test]
fn a_configured_limit_is_added_and_taken_off() {
    let mut lma = Rig::lma();
    lma.path(Role::Lma, 1, Some(limited_tunnel(lmaa(), mag1(), 4)));
    let frame = down(1452);
    let out = lma.through(EDGE, &frame, CORE);
    let (_, outer, payload) = parse(&out);
    assert_eq!(packet(&out).len(), 1500);
    assert_eq!(outer.next_header, IpNumber::IPV6_DESTINATION_OPTIONS);
    assert_eq!(payload[..8], [41, 0, 4, 1, 4, 1, 1, 0]);
    assert_ne!(outer.flow_label.value(), 0);
    assert_eq!(lma.counters().lma_paths[1].out_octets, 1452);
    // RFC 2473 §6.7: what remains inside is eight octets less.
    let told = lma.through(EDGE, &down(1453), EDGE);
    assert_eq!((parse_icmp(&told).0, parse_icmp(&told).2), (2, 1452));
    // Its own limit goes before the configured one.
    let own = with_headers(60, &[17, 0, 4, 1, 9, 1, 1, 0], &udp_header(1));
    assert_eq!(parse(&lma.through(EDGE, &own, CORE)).2[4], 8);
    let mut mag = Rig::mag();
    let mut out = out;
    out[..6].copy_from_slice(&PORT_MACS[0].0);
    let bared = mag.through(CORE, &out, EDGE);
    assert_eq!(packet(&bared)[8..], packet(&frame)[8..]);
    // On a narrow way it stays in front of both fragments.
    let flow::Path::Tunnel(tunnel) = limited_tunnel(lmaa(), mag1(), 4) else {
        unreachable!()
    };
    let narrow = flow::Tunnel {
        path_mtu: 1280,
        ..tunnel
    };
    lma.path(Role::Lma, 1, Some(flow::Path::Tunnel(narrow)));
    lma.rx(EDGE, &down(1280));
    let sent = lma.sent(CORE);
    assert_eq!(sent.len(), 2);
    for mut frame in sent {
        assert_eq!(parse(&frame).2[..8], [44, 0, 4, 1, 4, 1, 1, 0]);
        assert_eq!(parse(&frame).2[8], 41);
        frame[..6].copy_from_slice(&PORT_MACS[0].0);
        mag.rx(CORE, &frame);
    }
    assert_eq!(packet(&mag.sent(EDGE)[0])[8..], packet(&down(1280))[8..]);
}

/// An anchor whose mobile 1 has UDP port 5001 on MAG2, and all else on MAG1.
fn with_rule(rig: Rig) -> Rig {
    let mut rig = rig.into_lma();
    let rules = vec![rule(1, 5001, RuleAction::Forward(PathId(2)))];
    let binding = Binding {
        rules,
        ..lma_binding(1, &[1, 2]).unwrap()
    };
    rig.binding(Role::Lma, 1, Some(binding));
    rig.turn();
    rig
}

/// A fragment of a packet to mobile 1.
fn fragment(id: u32, offset: u16, more: bool, body: &[u8]) -> Vec<u8> {
    let place = (offset | u16::from(more)).to_be_bytes();
    let id = id.to_be_bytes();
    let header = [17, 0, place[0], place[1], id[0], id[1], id[2], id[3]];
    with_headers(44, &header, body)
}

fn mag_of(rig: &mut Rig, frame: &[u8]) -> Ipv6Addr {
    parse(&rig.through(EDGE, frame, CORE)).1.destination_addr()
}

#[test]
fn later_fragments_go_where_their_first_one_went() {
    let (rig, time) = Rig::timed(Rig::lma_config());
    let mut rig = with_rule(rig);
    let first = |id, port| fragment(id, 0, true, &[udp_header(port), [7; 8]].concat());
    let later = |id| fragment(id, 16, false, &[9; 24]);
    // Too early: the default path, as a packet without ports.
    assert_eq!(mag_of(&mut rig, &later(1)), mag1());
    assert_eq!(rig.counters().early_fragments, 1);
    for (id, port, mag) in [(1, 5001, mag2()), (2, 5002, mag1()), (3, 5001, mag2())] {
        assert_eq!(mag_of(&mut rig, &first(id, port)), mag);
    }
    for (id, mag) in [(3, mag2()), (2, mag1()), (1, mag2()), (1, mag2())] {
        let out = rig.through(EDGE, &later(id), CORE);
        let (_, outer, inner) = parse(&out);
        assert_eq!(outer.destination_addr(), mag);
        assert_eq!(
            inner[8..],
            packet(&later(id))[8..],
            "nothing else of it changes"
        );
    }
    // A number is of a pair of addresses and a protocol, and is used again after a while.
    let mut other = later(1);
    other[14 + 40] = 6;
    assert_eq!(mag_of(&mut rig, &other), mag1());
    let mut other = later(1);
    other[14 + 8 + 15] ^= 1;
    assert_eq!(mag_of(&mut rig, &other), mag1());
    *time.lock().unwrap() = Duration::from_mins(1);
    rig.turn();
    assert_eq!(mag_of(&mut rig, &later(1)), mag1());
    assert_eq!(rig.counters().early_fragments, 4);
    // The rule that decides has counted them all.
    assert_eq!(mag_of(&mut rig, &first(1, 5002)), mag1());
    assert_eq!(mag_of(&mut rig, &later(1)), mag1());
    rig.update(Update::Report(flow::ReportRequest::Binding {
        token: 1,
        role: Role::Lma,
        hnp: hnp(1),
    }));
    rig.turn();
    let Some(flow::Report::Binding {
        counters: Some(counters),
        ..
    }) = rig.control.pop_report()
    else {
        unreachable!()
    };
    assert_eq!(counters.rules[0].1, 5);
    assert_eq!(counters.downlink_packets, 13, "each packet counts once");
}

#[test]
fn a_gateway_gives_all_fragments_of_a_packet_one_label() {
    let mut rig = Rig::mag();
    let mut label = |payload: &[u8]| {
        let up = ipv6(MN_MAC, PORT_MACS[1], mn(1), cn(), 44, 64, payload);
        parse(&rig.through(EDGE, &up, CORE)).1.flow_label.value()
    };
    let mut labels = std::collections::HashSet::new();
    for id in 0..20 {
        let header = |place| [17, 0, 0, place, 0, 0, 0, id];
        let body = [udp_header(id.into()), [7; 8]].concat();
        let first = label(&[&header(1)[..], &body].concat());
        let later = label(&[&header(16)[..], &body].concat());
        assert_eq!(first, later);
        labels.insert(first);
    }
    assert!(labels.len() > 15);
}

#[test]
fn first_fragments_are_remembered_in_bounded_memory() {
    let mut config = Rig::lma_config();
    config.fragments = FragmentLimits {
        remembered: 16,
        ..FragmentLimits::default()
    };
    let mut rig = with_rule(Rig::new(config));
    let first = |id| fragment(id, 0, true, &[udp_header(5001), [7; 8]].concat());
    for id in 0..100 {
        assert_eq!(mag_of(&mut rig, &first(id)), mag2());
    }
    let followed = (0..100).filter(|id| {
        let later = fragment(*id, 16, false, &[9; 24]);
        mag_of(&mut rig, &later) == mag2()
    });
    assert_eq!(followed.count(), 16);
}

#[test]
fn rules_look_behind_extension_headers() {
    let mut rig = with_rule(Rig::new(Rig::lma_config()));
    let options = |next| [next, 0, 1, 4, 0, 0, 0, 0];
    let routing = |next| [next, 0, 0, 0, 0, 0, 0, 0];
    let atomic = [17, 0, 0, 0, 0, 0, 0, 1];
    for (first, headers) in [
        (60, options(17).to_vec()),
        (0, [options(43), routing(60), options(17)].concat()),
        (44, atomic.to_vec()),
        (43, [routing(44), atomic].concat()),
    ] {
        for (port, mag) in [(5001, mag2()), (5002, mag1())] {
            let frame = with_headers(first, &headers, &udp_header(port));
            assert_eq!(mag_of(&mut rig, &frame), mag, "{first} {port}");
        }
    }
    // The same with more rules than a record holds, and one that looks at all fields.
    let mut wide = rule(1, 5001, RuleAction::Forward(PathId(2)));
    wide.selector = flow::Selector {
        destination: Some(flow::Interval::single(mn(1))),
        destination_port: Some(flow::Interval::single(5001)),
        ..flow::Selector::default()
    }
    .into();
    let mut rules = vec![wide];
    rules.extend((0..9).map(|n| rule(10 + n, 6000 + n, RuleAction::Drop)));
    let binding = Binding {
        rules,
        ..lma_binding(1, &[1, 2]).unwrap()
    };
    rig.binding(Role::Lma, 1, Some(binding));
    let first = fragment(8, 0, true, &[udp_header(5001), [7; 8]].concat());
    assert_eq!(mag_of(&mut rig, &first), mag2());
    assert_eq!(mag_of(&mut rig, &fragment(8, 16, true, &[9; 24])), mag2());
    assert_eq!(mag_of(&mut rig, &fragment(8, 40, false, &[9])), mag2());
    assert_eq!(mag_of(&mut rig, &fragment(9, 40, false, &[9])), mag1());
}

#[test]
fn hops_run_out_at_both_ends_of_the_tunnel() {
    let mut rig = Rig::lma();
    for hops in [0, 1] {
        // Out of the tunnel at the anchor.
        let mut inner = udp(MN_MAC, CORE, mn(1), cn(), 1, b"up");
        set_hop_limit(&mut inner, hops);
        let out = rig.through(
            CORE,
            &tunnelled(MAG1_MAC, mag1(), lmaa(), packet(&inner)),
            CORE,
        );
        let (_, outer, told) = parse(&out);
        assert_eq!(outer.destination_addr(), mag1());
        assert_eq!((told[40], told[41]), (3, 0));
        assert_eq!(told[48..], *packet(&inner));
        // With extension headers into it.
        let mut frame = with_headers(60, &[17, 0, 1, 4, 0, 0, 0, 0], &udp_header(1));
        set_hop_limit(&mut frame, hops);
        let told = rig.through(EDGE, &frame, EDGE);
        assert_eq!((parse_icmp(&told).0, parse_icmp(&told).1), (3, 0));
        assert_eq!(parse_icmp(&told).3, packet(&frame));
    }
    // At the gateway out of the tunnel and into it.
    let mut rig = Rig::mag();
    for hops in [0, 1] {
        let mut inner = udp(CN_MAC, CORE, cn(), mn(1), 1, b"down");
        set_hop_limit(&mut inner, hops);
        let frame = tunnelled(LMA_MAC, lmaa(), mag1(), packet(&inner));
        rig.rx(CORE, &frame);
        let mut up = udp(MN_MAC, EDGE, mn(1), cn(), 1, b"up");
        set_hop_limit(&mut up, hops);
        let told = rig.through(EDGE, &up, EDGE);
        assert_eq!((parse_icmp(&told).0, parse_icmp(&told).1), (3, 0));
    }
    assert_eq!(rig.counters().dropped(DropReason::HopLimit), 4);
}

#[test]
fn a_gateway_tunnels_nothing_link_local_or_for_many() {
    let mut rig = Rig::mag();
    let up = |source, to| udp(MN_MAC, EDGE, source, to, 1, b"");
    rig.drops(EDGE, &up(mn(1), ip("ff0e::5")), DropReason::Multicast);
    rig.drops(EDGE, &up(mn(1), ip("ff02::fb")), DropReason::Multicast);
    rig.drops(EDGE, &up(mn(1), ip("fe80::5")), DropReason::LinkLocal);
    rig.drops(EDGE, &up(ip("fe80::5"), cn()), DropReason::LinkLocal);
    rig.drops(EDGE, &up(ip("ff02::5"), cn()), DropReason::BadSource);
    let inner = |source, to| packet(&udp(CN_MAC, CORE, source, to, 1, b"")).to_vec();
    let from_lma = |inner: &[u8]| tunnelled(LMA_MAC, lmaa(), mag1(), inner);
    for (packet, reason) in [
        (inner(cn(), ip("ff02::1")), DropReason::Multicast),
        (inner(ip("fe80::1"), mn(1)), DropReason::LinkLocal),
        (inner(cn(), ip("fe80::1")), DropReason::LinkLocal),
        (inner(ip("ff02::1"), mn(1)), DropReason::BadSource),
    ] {
        rig.drops(CORE, &from_lma(&packet), reason);
    }
}
