//! Packets to the appliance itself, neighbours, punts and their policing.

mod common;

use std::net::Ipv6Addr;
use std::time::Duration;

use common::*;
use dataplane::{NeighbourLimits, PuntRates, Rate, RingSizes, Worker, rings, worker::Clock};
use flow::{DropReason, MacAddr, Punt, Role, RouteNext, Transmit, TransmitTo, Update};

fn core_address() -> Ipv6Addr {
    lmaa()
}

fn solicitation(source: Ipv6Addr, to: Ipv6Addr, target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    let mut body = target.octets().to_vec();
    body.extend_from_slice(options);
    let message = icmp(source, to, 135, [0; 4], &body);
    ipv6(
        MAG1_MAC,
        MacAddr::for_multicast(to),
        source,
        to,
        58,
        255,
        &message,
    )
}

fn solicited_node(of: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = of.octets();
    let mut octets = ip("ff02::1:ff00:0").octets();
    octets[13..].copy_from_slice(&[a, b, c]);
    octets.into()
}

#[test]
fn solicitations_for_own_addresses_are_answered_and_shown() {
    let mut rig = Rig::lma();
    for target in [core_address(), PORT_MACS[0].link_local()] {
        let source_option = [1, 1, 2, 0, 0, 0, 0, 0x11];
        let ask = solicitation(mag1(), solicited_node(target), target, &source_option);
        let out = rig.through(CORE, &ask, CORE);
        let (ethernet, header, _) = parse(&out);
        assert_eq!(ethernet.destination, MAG1_MAC.0);
        assert_eq!(header.hop_limit, 255);
        assert_eq!(
            (header.source_addr(), header.destination_addr()),
            (target, mag1())
        );
        let (kind, code, word, body) = parse_icmp(&out);
        assert_eq!((kind, code, word), (136, 0, 0xe000_0000));
        assert_eq!(body[..16], target.octets());
        assert_eq!(body[16..18], [2, 1]);
        assert_eq!(body[18..], PORT_MACS[0].0);
        let shown = Punt::NeighbourDiscovery {
            port: CORE,
            source: MAG1_MAC,
            packet: packet(&ask).to_vec(),
        };
        assert_eq!(rig.punts(), [shown]);
    }
    let counters = rig.counters();
    assert_eq!(
        (counters.consumed, counters.originated, counters.punted),
        (2, 2, 0)
    );
}

#[test]
fn duplicate_address_detection_is_answered_to_all() {
    let mut rig = Rig::lma();
    let target = core_address();
    let ask = solicitation(ip("::"), solicited_node(target), target, &[]);
    let out = rig.through(CORE, &ask, CORE);
    let (ethernet, header, _) = parse(&out);
    assert_eq!(ethernet.destination, [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(header.destination_addr(), ip("ff02::1"));
    assert_eq!(parse_icmp(&out).2, 0xa000_0000, "not solicited");
}

#[test]
fn bad_discovery_messages_are_dropped() {
    let mut rig = Rig::lma();
    let target = core_address();
    let group = solicited_node(target);
    let good = solicitation(mag1(), group, target, &[]);
    let mut bad = Vec::new();
    let mut crossed_a_router = good.clone();
    set_hop_limit(&mut crossed_a_router, 254);
    bad.push(crossed_a_router);
    let mut checksum = good.clone();
    checksum[14 + 40 + 2] ^= 1;
    bad.push(checksum);
    bad.push(solicitation(
        mag1(),
        group,
        target,
        &[1, 0, 0, 0, 0, 0, 0, 0],
    ));
    bad.push(solicitation(
        mag1(),
        group,
        target,
        &[1, 2, 0, 0, 0, 0, 0, 0],
    ));
    bad.push(solicitation(
        ip("::"),
        group,
        target,
        &[1, 1, 0, 0, 0, 0, 0, 1],
    ));
    bad.push(solicitation(ip("::"), ip("ff02::1"), target, &[]));
    bad.push(solicitation(mag1(), ip("ff02::1"), ip("ff02::5"), &[]));
    let short = icmp(mag1(), group, 135, [0; 4], &[0; 15]);
    bad.push(ipv6(MAG1_MAC, PORT_MACS[0], mag1(), group, 58, 255, &short));
    let solicited_to_all = icmp(
        mag1(),
        ip("ff02::1"),
        136,
        [0x40, 0, 0, 0],
        &mag1().octets(),
    );
    bad.push(ipv6(
        MAG1_MAC,
        PORT_MACS[0],
        mag1(),
        ip("ff02::1"),
        58,
        255,
        &solicited_to_all,
    ));
    for frame in &bad {
        rig.drops(CORE, frame, DropReason::BadIcmp);
    }
    // Discovery out of a tunnel would be anyone's word about our links.
    let inner = icmp(mn(1), lmaa(), 136, [0; 4], &mag2().octets());
    let inner = ipv6(MN_MAC, PORT_MACS[0], mn(1), lmaa(), 58, 255, &inner);
    rig.drops(
        CORE,
        &tunnelled(MAG1_MAC, mag1(), lmaa(), packet(&inner)),
        DropReason::BadIcmp,
    );
    assert!(rig.punts().is_empty());
}

#[test]
fn advertisements_and_router_solicitations_are_punted() {
    let mut rig = Rig::mag();
    let own = PORT_MACS[1].link_local();
    let from = MN_MAC.link_local();
    let na = icmp(from, own, 136, [0x60, 0, 0, 0], &from.octets());
    let na = ipv6(MN_MAC, PORT_MACS[1], from, own, 58, 255, &na);
    let all_routers = ip("ff02::2");
    let rs = icmp(from, all_routers, 133, [0; 4], &[1, 1, 2, 0, 0, 0, 0, 0xaa]);
    let rs = ipv6(
        MN_MAC,
        MacAddr([0x33, 0x33, 0, 0, 0, 2]),
        from,
        all_routers,
        58,
        255,
        &rs,
    );
    // A mobile's own duplicate address detection is the control plane's to judge.
    let dad = solicitation(ip("::"), solicited_node(mn(1)), mn(1), &[]);
    for frame in [na, rs, dad] {
        rig.rx(EDGE, &frame);
        let source = MacAddr(frame[6..12].try_into().unwrap());
        let punt = Punt::NeighbourDiscovery {
            port: EDGE,
            source,
            packet: packet(&frame).to_vec(),
        };
        assert_eq!(rig.punts(), [punt]);
    }
    assert_eq!(rig.counters().punted, 3);
}

#[test]
fn mobility_headers_are_punted_whole() {
    is_punted_whole(135);
}

#[test]
fn protected_signalling_is_punted_whole() {
    is_punted_whole(50);
}

fn is_punted_whole(protocol: u8) {
    let mut rig = Rig::lma();
    let frame = ipv6(
        MAG1_MAC,
        PORT_MACS[0],
        mag1(),
        lmaa(),
        protocol,
        64,
        &[59, 1, 5, 0, 0, 0, 0, 1],
    );
    rig.rx(CORE, &frame);
    let punt = Punt::Mobility {
        port: CORE,
        packet: packet(&frame).to_vec(),
    };
    assert_eq!(rig.punts(), [punt]);
    // A mobile's own, through its tunnel, are not.
    let inner = ipv6(
        MN_MAC,
        PORT_MACS[0],
        mn(1),
        lmaa(),
        protocol,
        64,
        &[59, 0, 5, 0, 0, 0, 0, 0],
    );
    rig.rx(CORE, &tunnelled(MAG1_MAC, mag1(), lmaa(), packet(&inner)));
    assert!(rig.punts().is_empty());
    assert_eq!(rig.counters().dropped(DropReason::Unhandled), 1);
}

#[test]
fn echo_requests_are_answered() {
    let mut rig = Rig::lma();
    let echo = icmp(cn(), lmaa(), 128, [0, 7, 0, 9], &[0x5a; 1000]);
    let out = rig.through(
        EDGE,
        &ipv6(CN_MAC, PORT_MACS[1], cn(), lmaa(), 58, 3, &echo),
        EDGE,
    );
    assert_eq!(parse_icmp(&out), (129, 0, 0x0007_0009, vec![0x5a; 1000]));
    assert_eq!(parse(&out).1.hop_limit, 64);
    // To all nodes: from an address of the port.
    let all = ip("ff02::1");
    let from = CN_MAC.link_local();
    let echo = icmp(from, all, 128, [0; 4], b"");
    let frame = ipv6(
        CN_MAC,
        MacAddr([0x33, 0x33, 0, 0, 0, 1]),
        from,
        all,
        58,
        1,
        &echo,
    );
    let out = rig.through(EDGE, &frame, EDGE);
    assert_eq!(parse(&out).1.source_addr(), PORT_MACS[1].link_local());
    // From a mobile, through its tunnel and back.
    let echo = icmp(mn(1), lmaa(), 128, [0; 4], b"x");
    let inner = ipv6(MN_MAC, PORT_MACS[0], mn(1), lmaa(), 58, 64, &echo);
    let out = rig.through(
        CORE,
        &tunnelled(MAG1_MAC, mag1(), lmaa(), packet(&inner)),
        CORE,
    );
    let mut framed = out[..14].to_vec();
    framed.extend_from_slice(parse(&out).2);
    assert_eq!(parse_icmp(&framed).0, 129);
    assert_eq!(parse(&framed).1.destination_addr(), mn(1));
    // A wrong checksum is no request.
    let mut wrong = ipv6(
        CN_MAC,
        PORT_MACS[1],
        cn(),
        lmaa(),
        58,
        3,
        &icmp(cn(), lmaa(), 128, [0; 4], b""),
    );
    wrong[14 + 40 + 5] ^= 1;
    rig.drops(EDGE, &wrong, DropReason::BadIcmp);
}

#[test]
fn what_nobody_handles_is_told() {
    let mut rig = Rig::lma();
    let send = |rig: &mut Rig, next_header, payload: &[u8]| {
        let frame = ipv6(CN_MAC, PORT_MACS[1], cn(), lmaa(), next_header, 64, payload);
        let out = rig.through(EDGE, &frame, EDGE);
        assert_eq!(parse(&out).1.source_addr(), lmaa());
        let (kind, code, word, quote) = parse_icmp(&out);
        assert_eq!(quote, packet(&frame));
        (kind, code, word)
    };
    assert_eq!(send(&mut rig, 17, &[0; 8]), (1, 4, 0));
    assert_eq!(send(&mut rig, 99, &[0; 8]), (4, 1, 6));
    assert_eq!(send(&mut rig, 60, &[99, 0, 1, 4, 0, 0, 0, 0]), (4, 1, 40));
    assert_eq!(
        send(&mut rig, 43, &[17, 0, 0, 1, 0, 0, 0, 0]),
        (4, 0, 43 - 1)
    );
    assert_eq!(
        send(&mut rig, 60, &[17, 0, 0xc5, 0, 1, 2, 0, 0]),
        (4, 2, 42)
    );
    let silent = |rig: &mut Rig, next_header, payload: &[u8], reason| {
        let frame = ipv6(CN_MAC, PORT_MACS[1], cn(), lmaa(), next_header, 64, payload);
        rig.drops(EDGE, &frame, reason);
    };
    silent(&mut rig, 59, &[], DropReason::Unhandled);
    // Never about an error.
    let error = icmp(cn(), lmaa(), 1, [0; 4], &[0; 48]);
    silent(&mut rig, 58, &error, DropReason::BadQuote);
    // Never to many, in fragments or not.
    let to_all = ipv6(
        CN_MAC,
        MacAddr([0x33, 0x33, 0, 0, 0, 1]),
        cn(),
        ip("ff02::1"),
        44,
        1,
        &[17, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    rig.drops(EDGE, &to_all, DropReason::Unhandled);
    let to_all = ipv6(
        CN_MAC,
        MacAddr([0x33, 0x33, 0, 0, 0, 1]),
        cn(),
        ip("ff02::1"),
        17,
        1,
        &[0; 8],
    );
    rig.drops(EDGE, &to_all, DropReason::Unhandled);
    let unspecified = ipv6(CN_MAC, PORT_MACS[1], ip("::"), lmaa(), 17, 64, &[0; 8]);
    rig.drops(EDGE, &unspecified, DropReason::BadSource);
}

#[test]
fn frames_for_others_are_dropped_by_name() {
    let mut rig = Rig::lma();
    let good = udp(CN_MAC, EDGE, cn(), mn(1), 1, b"payload");
    let with = |at: usize, byte: u8| {
        let mut frame = good.clone();
        frame[at] = byte;
        frame
    };
    rig.drops(EDGE, &with(5, 0x99), DropReason::NotForUs);
    rig.drops(EDGE, &with(0, 0x33), DropReason::NotForUs);
    rig.drops(EDGE, &with(13, 0xde), DropReason::NotIpv6);
    rig.drops(EDGE, &with(14, 0x40), DropReason::Malformed);
    rig.drops(EDGE, &with(18, 0xff), DropReason::Malformed);
    rig.drops(EDGE, &good[..53], DropReason::Malformed);
    rig.drops(EDGE, &good[..13], DropReason::Malformed);
    rig.drops(EDGE, &[], DropReason::Malformed);
    let to = |source, destination| udp(CN_MAC, EDGE, source, destination, 1, b"");
    rig.drops(EDGE, &to(ip("::1"), mn(1)), DropReason::BadSource);
    rig.drops(EDGE, &to(ip("ff02::1"), mn(1)), DropReason::BadSource);
    rig.drops(EDGE, &to(ip("::"), mn(1)), DropReason::BadSource);
    rig.drops(EDGE, &to(ip("fe80::5"), mn(1)), DropReason::LinkLocal);
    rig.drops(EDGE, &to(cn(), ip("fe80::5")), DropReason::LinkLocal);
    rig.drops(EDGE, &to(cn(), ip("::1")), DropReason::LinkLocal);
    rig.drops(EDGE, &to(cn(), ip("ff0e::5")), DropReason::Multicast);
    // The core port's link-local address is nobody's here.
    rig.drops(
        EDGE,
        &to(cn(), PORT_MACS[0].link_local()),
        DropReason::LinkLocal,
    );
}

#[test]
fn packets_wait_for_a_neighbour_in_order() {
    let mut rig = Rig::lma();
    rig.neighbour(CORE, mag1(), None);
    for i in 0..20 {
        rig.rx(EDGE, &udp(CN_MAC, EDGE, cn(), mn(1), i, b""));
    }
    let resolve = Punt::Resolve {
        port: CORE,
        next_hop: mag1(),
    };
    assert_eq!(rig.punts(), [resolve], "asked once");
    assert_eq!(rig.counters().held, 16);
    assert_eq!(rig.counters().dropped(DropReason::NeighbourQueue), 4);
    let mac = MacAddr([2, 9, 9, 9, 9, 9]);
    rig.neighbour(CORE, mag1(), Some(mac));
    rig.turn();
    let sent = rig.sent(CORE);
    for (i, out) in (0u16..).zip(&sent) {
        let (ethernet, outer, inner) = parse(out);
        assert_eq!(ethernet.destination, mac.0);
        assert_eq!(outer.destination_addr(), mag1());
        assert_eq!(inner[42..44], i.to_be_bytes());
    }
    assert_eq!((sent.len(), rig.counters().held), (16, 0));
    // From now on the path has the new address by itself.
    let out = rig.through(EDGE, &udp(CN_MAC, EDGE, cn(), mn(1), 1, b""), CORE);
    assert_eq!(parse(&out).0.destination, mac.0);
}

#[test]
fn senders_learn_that_a_neighbour_is_silent() {
    let mut rig = Rig::lma();
    let silent = ip("2001:db8:1::dead");
    let inner = packet(&udp(MN_MAC, CORE, mn(1), silent, 1, b"up")).to_vec();
    rig.rx(CORE, &tunnelled(MAG1_MAC, mag1(), lmaa(), &inner));
    rig.neighbour(CORE, mag2(), None);
    let down = udp(CN_MAC, EDGE, cn(), mn(2), 1, b"down");
    rig.rx(EDGE, &down);
    assert_eq!(rig.counters().held, 2);
    rig.neighbour(EDGE, silent, None);
    rig.neighbour(CORE, mag2(), None);
    rig.turn();
    assert_eq!(rig.counters().dropped(DropReason::Neighbour), 2);
    // The mobile through its tunnel, the correspondent node directly, each about its own packet.
    let to_mobile = rig.sent(CORE).remove(0);
    let mut framed = to_mobile[..14].to_vec();
    framed.extend_from_slice(parse(&to_mobile).2);
    let (kind, code, _, quote) = parse_icmp(&framed);
    assert_eq!((kind, code), (1, 3));
    assert_eq!(quote[8..], inner[8..]);
    let to_cn = rig.sent(EDGE).remove(0);
    let (kind, code, _, quote) = parse_icmp(&to_cn);
    assert_eq!((kind, code), (1, 3));
    assert_eq!(quote[8..], packet(&down)[8..]);
    // The next packet asks again.
    rig.punts();
    rig.rx(EDGE, &down);
    assert_eq!(rig.punts().len(), 1);
}

#[test]
fn neighbours_and_held_packets_are_bounded() {
    let mut config = Rig::lma_config();
    config.neighbours = NeighbourLimits {
        held_each: 16,
        held_total: 20,
        entries: 10,
        ..NeighbourLimits::default()
    };
    let mut rig = Rig::new(config);
    let scan = |n: u16| {
        let target = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 1, n);
        udp(CN_MAC, EDGE, cn(), target, 1, b"")
    };
    for n in 0..100 {
        for _ in 0..3 {
            rig.rx(EDGE, &scan(n));
        }
    }
    assert_eq!(rig.counters().held, 20);
    assert_eq!(rig.punts().len(), 10);
    // A place is free again once a neighbour has failed.
    rig.neighbour(
        CORE,
        Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 1, 0),
        None,
    );
    rig.rx(EDGE, &scan(50));
    assert_eq!(rig.punts().len(), 1);
}

#[test]
fn signalling_is_policed_apart_from_the_rest() {
    let now = std::sync::Arc::new(std::sync::Mutex::new(Duration::ZERO));
    let mut config = Rig::lma_config();
    let rate = |burst| Rate {
        per_second: 10,
        burst,
    };
    config.punts = PuntRates {
        signalling: rate(5),
        neighbour_discovery: rate(3),
        ..PuntRates::default()
    };
    config.icmp_errors = rate(2);
    config.clock_turns = 1;
    let mut rig = Rig::new(config.clone());
    let (worker_end, control) = rings(RingSizes::default());
    let time = std::sync::Arc::clone(&now);
    let clock = Clock::new(move || *time.lock().unwrap());
    rig.worker = Worker::with_clock(config, rig.io.clone(), worker_end, clock).unwrap();
    rig.control = control;
    rig.neighbour(EDGE, cn(), Some(CN_MAC));
    let flood = |rig: &mut Rig| {
        for _ in 0..20 {
            let na = icmp(mag1(), lmaa(), 136, [0; 4], &mag1().octets());
            rig.rx(
                CORE,
                &ipv6(MAG1_MAC, PORT_MACS[0], mag1(), lmaa(), 58, 255, &na),
            );
            // Protected or not, signalling has one rate.
            for protocol in [135, 50] {
                rig.rx(
                    CORE,
                    &ipv6(
                        MAG1_MAC,
                        PORT_MACS[0],
                        mag1(),
                        lmaa(),
                        protocol,
                        64,
                        &[0; 8],
                    ),
                );
            }
            rig.rx(EDGE, &ipv6(CN_MAC, PORT_MACS[1], cn(), lmaa(), 99, 64, &[]));
        }
        let punts = rig.punts();
        let signalling = punts.iter().filter(|p| matches!(p, Punt::Mobility { .. }));
        (signalling.count(), punts.len(), rig.sent(EDGE).len())
    };
    assert_eq!(flood(&mut rig), (5, 8, 2));
    assert_eq!(rig.counters().dropped(DropReason::PuntRate), 52);
    assert_eq!(flood(&mut rig), (0, 0, 0));
    *now.lock().unwrap() = Duration::from_millis(200);
    assert_eq!(flood(&mut rig), (2, 4, 2));
}

#[test]
fn a_full_punt_ring_keeps_places_for_signalling() {
    let mut rig = Rig::lma();
    let na = icmp(mag1(), lmaa(), 136, [0; 4], &mag1().octets());
    // Each of another station: one alone has no rate for it, nor have two that chance lets share one.
    for n in 0..80 {
        let station = MacAddr([2, 0, 0, 0, 1, n]);
        rig.rx(
            CORE,
            &ipv6(station, PORT_MACS[0], mag1(), lmaa(), 58, 255, &na),
        );
    }
    assert_eq!(rig.counters().dropped(DropReason::PuntRing), 80 - 48);
    for _ in 0..17 {
        rig.rx(
            CORE,
            &ipv6(MAG1_MAC, PORT_MACS[0], mag1(), lmaa(), 135, 64, &[0; 8]),
        );
    }
    assert_eq!(rig.counters().dropped(DropReason::PuntRing), 80 - 48 + 1);
    assert_eq!(rig.punts().len(), 64);
}

#[test]
fn control_plane_packets_are_sent() {
    let mut rig = Rig::lma();
    let pba = packet(&ipv6(
        MAG1_MAC,
        PORT_MACS[0],
        lmaa(),
        mag1(),
        135,
        64,
        &[59; 16],
    ))
    .to_vec();
    let transmit = |packet: &[u8], to| {
        Update::Transmit(Box::new(Transmit {
            packet: packet.to_vec(),
            to,
        }))
    };
    rig.update(transmit(&pba, TransmitTo::Routed));
    let group = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
    rig.update(transmit(&pba, TransmitTo::Link(EDGE, group)));
    rig.turn();
    let routed = rig.sent(CORE).remove(0);
    assert_eq!(
        packet(&routed),
        pba,
        "the hop limit is as the control plane set it"
    );
    assert_eq!(parse(&routed).0.destination, MAG1_MAC.0);
    let linked = rig.sent(EDGE).remove(0);
    assert_eq!(parse(&linked).0.destination, group.0);
    assert_eq!(rig.counters().originated, 2);
    // What cannot be sent is counted, and no one is told.
    let lost = packet(&ipv6(
        MAG1_MAC,
        PORT_MACS[0],
        lmaa(),
        ip("3fff::1"),
        135,
        64,
        &[],
    ))
    .to_vec();
    rig.update(transmit(&lost, TransmitTo::Routed));
    rig.update(transmit(&lost, TransmitTo::Link(flow::PortId(9), group)));
    rig.update(transmit(&vec![0; 5000], TransmitTo::Routed));
    rig.update(transmit(&[], TransmitTo::Routed));
    rig.turn();
    let counters = rig.counters();
    let reasons = [
        DropReason::NoRoute,
        DropReason::PortDown,
        DropReason::TooBig,
        DropReason::Malformed,
    ];
    assert_eq!(reasons.map(|reason| counters.dropped(reason)), [1; 4]);
}

#[test]
fn tunnels_follow_routes_and_routes_name_ports_that_exist() {
    let mut rig = Rig::lma();
    let far = ip("2001:db8:bbbb::1");
    rig.path(Role::Lma, 1, Some(tunnel(lmaa(), far)));
    let route = |next| Update::Route {
        prefix: "2001:db8:bbbb::/48".parse().unwrap(),
        next,
    };
    rig.update(route(Some(RouteNext::Via(flow::PortId(7), mag2()))));
    rig.turn();
    assert_eq!(rig.counters().updates_refused, 1);
    for (via, mac) in [(mag2(), MAG2_MAC), (mag1(), MAG1_MAC)] {
        rig.update(route(Some(RouteNext::Via(CORE, via))));
        let out = rig.through(EDGE, &udp(CN_MAC, EDGE, cn(), mn(1), 1, b""), CORE);
        assert_eq!(parse(&out).0.destination, mac.0);
        assert_eq!(parse(&out).1.destination_addr(), far);
    }
}

#[test]
fn a_worker_stops_when_told_and_reports_wait_for_room() {
    let mut rig = Rig::lma();
    let ask = |token| Update::Report(flow::ReportRequest::Counters { token });
    for token in 0..70 {
        rig.update(ask(token));
    }
    rig.update(Update::Stop);
    rig.turn();
    assert!(!rig.worker.is_stopped(), "the ring has 64 places");
    let mut reports = Vec::new();
    while !rig.worker.is_stopped() {
        reports.extend(std::iter::from_fn(|| rig.control.pop_report()));
        rig.turn();
    }
    reports.extend(std::iter::from_fn(|| rig.control.pop_report()));
    let told = reports.into_iter().map(|report| match report {
        flow::Report::Counters {
            token, counters, ..
        } => (token, counters.updates),
        flow::Report::Binding { .. } => panic!("nobody asked for a binding"),
    });
    let (tokens, updates): (Vec<_>, Vec<_>) = told.unzip();
    assert_eq!(tokens, (0..70).collect::<Vec<_>>());
    let before = updates[0];
    let counted = (before..before + 70).collect::<Vec<_>>();
    assert_eq!(updates, counted, "each report knows the updates before it");
    assert_eq!(rig.control.applied(), rig.control.pushed());
    // On a thread of its own it ends at once.
    let Rig { mut worker, .. } = rig;
    std::thread::spawn(move || worker.run()).join().unwrap();
}

#[test]
fn contradictions_in_the_configuration_are_refused() {
    let try_new = |change: fn(&mut dataplane::WorkerConfig)| {
        let mut config = Rig::lma_config();
        change(&mut config);
        let io = dataplane::io::memory::MemoryIo::new(2, 1);
        let (worker_end, _control) = rings(RingSizes::default());
        Worker::new(config, io, worker_end)
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        try_new(|c| c.ports[1].id = CORE),
        "port 0 is at place 1 of the worker's ports"
    );
    assert_eq!(
        try_new(|c| c.ports[0].mtu = 1279),
        "port 0 has an MTU of 1279, IPv6 needs at least 1280"
    );
    assert_eq!(
        try_new(|c| {
            let next = RouteNext::OnLink(flow::PortId(5));
            c.routes.push(("::/0".parse().unwrap(), next));
        }),
        "route to ::/0: there is no port 5"
    );
}

#[test]
fn neighbours_beyond_the_rate_are_asked_for_later() {
    let now = std::sync::Arc::new(std::sync::Mutex::new(Duration::ZERO));
    let mut config = Rig::lma_config();
    config.punts.resolve = Rate {
        per_second: 1,
        burst: 2,
    };
    config.clock_turns = 1;
    let mut rig = Rig::new(config.clone());
    let (worker_end, control) = rings(RingSizes::default());
    let time = std::sync::Arc::clone(&now);
    let clock = Clock::new(move || *time.lock().unwrap());
    rig.worker = Worker::with_clock(config, rig.io.clone(), worker_end, clock).unwrap();
    rig.control = control;
    let neighbour = |n| Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 1, n);
    for n in 0..4 {
        rig.rx(EDGE, &udp(CN_MAC, EDGE, cn(), neighbour(n), 1, b""));
    }
    let mut asked = Vec::new();
    for second in 0..4 {
        *now.lock().unwrap() = Duration::from_secs(second);
        rig.turn();
        let hops = rig.punts().into_iter().filter_map(|punt| {
            if let Punt::Resolve { next_hop, .. } = punt {
                Some(next_hop)
            } else {
                None
            }
        });
        asked.push(hops.collect::<Vec<_>>());
    }
    let expected = [vec![0, 1], vec![2], vec![3], vec![]];
    assert_eq!(
        asked,
        expected.map(|hops: Vec<u16>| hops.into_iter().map(neighbour).collect::<Vec<_>>())
    );
}
