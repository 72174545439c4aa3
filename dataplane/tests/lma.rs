//! Packets through a whole worker that is an LMA.

mod common;

use common::*;
use etherparse::IpNumber;
use flow::{Binding, DropReason, PathId, Role, RuleAction};

fn downlink(n: u16, port: u16) -> Vec<u8> {
    udp(CN_MAC, EDGE, cn(), mn(n), port, b"downlink")
}

fn inner_uplink(n: u16, to: std::net::Ipv6Addr) -> Vec<u8> {
    packet(&udp(MN_MAC, CORE, mn(n), to, 5001, b"uplink")).to_vec()
}

#[test]
fn a_downlink_packet_is_tunnelled_to_the_mag() {
    let mut rig = Rig::lma();
    let frame = downlink(1, 5004);
    let out = rig.through(EDGE, &frame, CORE);
    let (ethernet, outer, inner) = parse(&out);
    assert_eq!(ethernet.source, PORT_MACS[0].0);
    assert_eq!(ethernet.destination, MAG1_MAC.0);
    assert_eq!(outer.next_header, IpNumber::IPV6);
    assert_eq!(outer.hop_limit, 64);
    assert_eq!(outer.source_addr(), lmaa());
    assert_eq!(outer.destination_addr(), mag1());
    assert_eq!(outer.traffic_class, 0);
    assert_ne!(outer.flow_label.value(), 0);
    let mut expected = packet(&frame).to_vec();
    expected[7] -= 1;
    assert_eq!(inner, expected);
    let counters = rig.counters();
    assert_eq!(counters.lma_paths[1].out_packets, 1);
    assert_eq!(counters.lma_paths[1].out_octets, expected.len() as u64);
    assert_eq!(counters.ports[1].rx_octets, frame.len() as u64);
    assert_eq!(counters.ports[0].tx_octets, out.len() as u64);
}

#[test]
fn ethernet_padding_is_not_tunnelled() {
    let mut rig = Rig::lma();
    let mut frame = udp(CN_MAC, EDGE, cn(), mn(1), 1, b"");
    let len = frame.len();
    frame.resize(len + 7, 0xee);
    assert_eq!(rig.through(EDGE, &frame, CORE).len(), len + 40);
}

#[test]
fn the_first_rule_by_priority_decides() {
    let mut rig = Rig::lma();
    for extra in [0, 10] {
        let mut rules = vec![
            rule(1, 5001, RuleAction::Forward(PathId(2))),
            rule(2, 5001, RuleAction::Drop),
            rule(3, 5002, RuleAction::Drop),
            rule(4, 5003, RuleAction::Forward(PathId(9))),
        ];
        // Few rules lie in the record, many beside it.
        rules.extend((0..extra).map(|n| rule(10 + n, 6000 + n, RuleAction::Drop)));
        let binding = Binding {
            rules,
            ..lma_binding(1, &[1, 2]).unwrap()
        };
        rig.binding(Role::Lma, 1, Some(binding));
        let to = |rig: &mut Rig, port| {
            let out = rig.through(EDGE, &downlink(1, port), CORE);
            parse(&out).1.destination_addr()
        };
        assert_eq!(to(&mut rig, 5001), mag2());
        assert_eq!(to(&mut rig, 5000), mag1());
        rig.drops(EDGE, &downlink(1, 5002), DropReason::Rule);
        rig.drops(EDGE, &downlink(1, 5003), DropReason::NoPath);
    }
}

#[test]
fn flows_have_labels_of_their_own() {
    let mut rig = Rig::lma();
    let mut labels = std::collections::HashSet::new();
    for port in 0..64 {
        let twice = [0, 1].map(|_| {
            let out = rig.through(EDGE, &downlink(1, port), CORE);
            parse(&out).1.flow_label.value()
        });
        assert_eq!(twice[0], twice[1], "a flow keeps its label");
        labels.insert(twice[0]);
    }
    assert!(labels.len() > 60, "{}", labels.len());
}

#[test]
fn the_outer_traffic_class_follows_rfc_6040_and_the_path() {
    let mut rig = Rig::lma();
    for copy_dscp in [false, true] {
        let flow::Path::Tunnel(tunnel) = tunnel(lmaa(), mag1()) else {
            unreachable!()
        };
        let path = flow::Path::Tunnel(flow::Tunnel {
            copy_dscp,
            ..tunnel
        });
        rig.path(Role::Lma, 1, Some(path));
        for class in 0..=255 {
            let mut frame = downlink(1, 5004);
            set_traffic_class(&mut frame, class);
            let out = rig.through(EDGE, &frame, CORE);
            let (_, outer, inner) = parse(&out);
            assert_eq!(
                outer.traffic_class,
                if copy_dscp { class } else { class & 3 }
            );
            assert_eq!(inner[..2], frame[14..16]);
        }
    }
}

#[test]
fn an_uplink_packet_is_bared_and_routed() {
    let mut rig = Rig::lma();
    let inner = inner_uplink(1, cn());
    let out = rig.through(CORE, &tunnelled(MAG1_MAC, mag1(), lmaa(), &inner), EDGE);
    let (ethernet, ..) = parse(&out);
    assert_eq!(
        (ethernet.source, ethernet.destination),
        (PORT_MACS[1].0, CN_MAC.0)
    );
    let mut expected = inner.clone();
    expected[7] -= 1;
    assert_eq!(packet(&out), expected);
    assert_eq!(rig.counters().lma_paths[1].in_packets, 1);
    assert_eq!(rig.counters().lma_paths[1].in_octets, inner.len() as u64);
}

/// The next hop is kept from burst to burst, until anything changes.
#[test]
fn an_update_counts_from_the_next_packet_on() {
    let mut rig = Rig::lma();
    let far = ip("2001:db8:c00::5");
    let next = Some(flow::RouteNext::Via(EDGE, cn()));
    rig.update(flow::Update::Route {
        prefix: "2001:db8:c00::/40".parse().unwrap(),
        next,
    });
    let frame = tunnelled(MAG1_MAC, mag1(), lmaa(), &inner_uplink(1, far));
    for mac in [CN_MAC, MAG2_MAC, CN_MAC] {
        rig.neighbour(EDGE, cn(), Some(mac));
        for _ in 0..2 {
            let out = rig.through(CORE, &frame, EDGE);
            assert_eq!(parse(&out).0.destination, mac.0);
        }
    }
    let pools = |pools: &[&str]| {
        let pools = pools.iter().map(|pool| pool.parse().unwrap());
        flow::Update::Pools(pools.collect())
    };
    rig.update(pools(&["2001:db8:100::/48", "2001:db8:c00::/48"]));
    rig.rx(CORE, &frame);
    assert_eq!(rig.counters().dropped(DropReason::NoBinding), 1);
    rig.sent(CORE);
    rig.update(pools(&["2001:db8:100::/48"]));
    rig.through(CORE, &frame, EDGE);
    rig.update(flow::Update::Claim {
        port: EDGE,
        address: far,
    });
    rig.rx(CORE, &frame);
    assert!(rig.sent(EDGE).is_empty());
}

#[test]
fn the_exit_follows_rfc_6040() {
    let mut rig = Rig::lma();
    // Rows: inner 00, 01, 10, 11; columns: outer 00, 01, 10, 11; 4 drops.
    let table = [[0, 0, 0, 4], [1, 1, 1, 3], [2, 1, 2, 3], [3, 3, 3, 3]];
    for (inner_ecn, row) in (0u8..).zip(table) {
        for (outer_ecn, result) in (0u8..).zip(row) {
            let mut inner = udp(MN_MAC, CORE, mn(1), cn(), 5001, b"");
            set_traffic_class(&mut inner, 0xb8 | inner_ecn);
            let mut frame = tunnelled(MAG1_MAC, mag1(), lmaa(), packet(&inner));
            set_traffic_class(&mut frame, outer_ecn);
            if result == 4 {
                rig.drops(CORE, &frame, DropReason::Ecn);
            } else {
                let out = rig.through(CORE, &frame, EDGE);
                assert_eq!(parse(&out).1.traffic_class, 0xb8 | result);
            }
        }
    }
}

#[test]
fn an_encapsulation_limit_is_accepted_at_the_exit() {
    let mut rig = Rig::lma();
    let inner = inner_uplink(1, cn());
    let mut payload = vec![41, 0, 4, 1, 3, 1, 1, 0];
    payload.extend_from_slice(&inner);
    let frame = ipv6(MAG1_MAC, PORT_MACS[0], mag1(), lmaa(), 60, 64, &payload);
    let out = rig.through(CORE, &frame, EDGE);
    assert_eq!(packet(&out)[8..], inner[8..]);
}

#[test]
fn uplink_sources_are_checked() {
    let mut rig = Rig::lma();
    let from = |mag, n| tunnelled(MAG1_MAC, mag, lmaa(), &inner_uplink(n, cn()));
    rig.drops(CORE, &from(mag2(), 1), DropReason::OuterSource);
    rig.drops(CORE, &from(mag1(), 9), DropReason::InnerSource);
    rig.drops(
        CORE,
        &from(ip("2001:db8:ffff::99"), 1),
        DropReason::NoTunnel,
    );
    rig.drops(
        CORE,
        &from(ip("2001:db8:ffff::99"), 9),
        DropReason::NoTunnel,
    );
    // A flow has moved: its uplink comes from the other MAG, and from nowhere else.
    rig.binding(Role::Lma, 1, lma_binding(1, &[1, 2]));
    rig.through(CORE, &from(mag2(), 1), EDGE);
    rig.through(CORE, &from(mag1(), 1), EDGE);
    rig.binding(Role::Lma, 1, lma_binding(1, &[2]));
    rig.drops(CORE, &from(mag1(), 1), DropReason::OuterSource);
    rig.binding(Role::Lma, 1, lma_binding(1, &[]));
    rig.drops(CORE, &from(mag1(), 1), DropReason::BindingInactive);
    rig.drops(EDGE, &downlink(1, 1), DropReason::BindingInactive);
    rig.path(Role::Lma, 2, None);
    rig.drops(CORE, &from(mag2(), 2), DropReason::NoTunnel);
    rig.drops(EDGE, &downlink(2, 1), DropReason::NoPath);
}

#[test]
fn inner_packets_are_checked() {
    let mut rig = Rig::lma();
    let wrap = |inner: &[u8]| tunnelled(MAG1_MAC, mag1(), lmaa(), inner);
    let good = inner_uplink(1, cn());
    let mut ipv4 = good.clone();
    ipv4[0] = 0x45;
    rig.drops(CORE, &wrap(&ipv4), DropReason::InnerProtocol);
    let mut long = good.clone();
    long[5] += 1;
    rig.drops(CORE, &wrap(&long), DropReason::Malformed);
    rig.drops(CORE, &wrap(&good[..39]), DropReason::Malformed);
    let with = |source, destination| wrap(packet(&udp(MN_MAC, CORE, source, destination, 1, b"")));
    rig.drops(CORE, &with(ip("fe80::1"), cn()), DropReason::LinkLocal);
    rig.drops(CORE, &with(mn(1), ip("fe80::1")), DropReason::LinkLocal);
    rig.drops(CORE, &with(mn(1), ip("ff0e::1")), DropReason::Multicast);
    rig.drops(CORE, &with(ip("::"), cn()), DropReason::BadSource);
    rig.drops(CORE, &with(ip("ff02::1"), cn()), DropReason::BadSource);
}

#[test]
fn mobiles_reach_each_other_through_the_anchor() {
    let mut rig = Rig::lma();
    let inner = inner_uplink(1, mn(2));
    let out = rig.through(CORE, &tunnelled(MAG1_MAC, mag1(), lmaa(), &inner), CORE);
    let (ethernet, outer, again) = parse(&out);
    assert_eq!(ethernet.destination, MAG2_MAC.0);
    assert_eq!(
        (outer.source_addr(), outer.destination_addr()),
        (lmaa(), mag2())
    );
    assert_eq!(again[7], inner[7] - 1);
    assert_eq!(again[8..], inner[8..]);
}

#[test]
fn a_prefix_without_a_mobile_is_unreachable() {
    let mut rig = Rig::lma();
    let frame = downlink(77, 5004);
    let out = rig.through(EDGE, &frame, EDGE);
    let (kind, code, _, quote) = parse_icmp(&out);
    assert_eq!((kind, code), (1, 3));
    assert_eq!(quote, packet(&frame));
    assert_eq!(parse(&out).1.source_addr(), ip("2001:db8:1::1"));
    assert_eq!(rig.counters().dropped(DropReason::NoBinding), 1);
}

#[test]
fn no_route_is_told_to_the_mobile_through_its_tunnel() {
    let mut rig = Rig::lma();
    let inner = inner_uplink(1, ip("2001:db8:dead::1"));
    let out = rig.through(CORE, &tunnelled(MAG1_MAC, mag1(), lmaa(), &inner), CORE);
    let (_, outer, answer) = parse(&out);
    assert_eq!(outer.destination_addr(), mag1());
    let mut framed = vec![0; 12];
    framed.extend_from_slice(&[0x86, 0xdd]);
    framed.extend_from_slice(answer);
    let (kind, code, _, quote) = parse_icmp(&framed);
    assert_eq!((kind, code), (1, 0));
    assert_eq!(quote, inner);
    assert_eq!(parse(&framed).1.destination_addr(), mn(1));
    assert_eq!(parse(&framed).1.source_addr(), lmaa());
}

#[test]
fn the_hop_limit_is_spent_once() {
    let mut rig = Rig::lma();
    let mut frame = downlink(1, 5004);
    for (hop_limit, forwarded) in [(2, true), (1, false), (0, false)] {
        set_hop_limit(&mut frame, hop_limit);
        if forwarded {
            let out = rig.through(EDGE, &frame, CORE);
            assert_eq!(parse(&out).2[7], 1);
        } else {
            let out = rig.through(EDGE, &frame, EDGE);
            let (kind, code, word, quote) = parse_icmp(&out);
            assert_eq!((kind, code, word), (3, 0, 0));
            assert_eq!(quote, packet(&frame));
        }
    }
    assert_eq!(rig.counters().dropped(DropReason::HopLimit), 2);
}

#[test]
fn too_big_says_what_fits() {
    let mut rig = Rig::lma();
    let sized = |octets: usize| udp(CN_MAC, EDGE, cn(), mn(1), 1, &vec![7; octets - 48]);
    rig.through(EDGE, &sized(1460), CORE);
    let out = rig.through(EDGE, &sized(1461), EDGE);
    let (kind, code, mtu, quote) = parse_icmp(&out);
    assert_eq!((kind, code, mtu), (2, 0, 1460));
    assert_eq!(quote, packet(&sized(1461))[..1232]);
    assert_eq!(
        out.len(),
        14 + 1280,
        "an error is no larger than the IPv6 minimum"
    );
    // A path without room for the outer header besides the minimum.
    let flow::Path::Tunnel(tunnel) = tunnel(lmaa(), mag1()) else {
        unreachable!()
    };
    let path = flow::Path::Tunnel(flow::Tunnel {
        path_mtu: 1300,
        ..tunnel
    });
    rig.path(Role::Lma, 1, Some(path));
    rig.through(EDGE, &sized(1260), CORE);
    let out = rig.through(EDGE, &sized(1281), EDGE);
    assert_eq!(parse_icmp(&out).2, 1280, "never below the IPv6 minimum");
    rig.rx(EDGE, &sized(1261));
    assert_eq!(rig.sent(CORE).len(), 2, "sent in fragments");
}

#[test]
fn tunnels_to_ourselves_and_packets_between_tunnel_ends_are_refused() {
    let mut rig = Rig::lma();
    rig.path(Role::Lma, 1, Some(tunnel(lmaa(), lmaa())));
    rig.drops(EDGE, &downlink(1, 1), DropReason::Loop);
    rig.path(Role::Lma, 1, Some(tunnel(lmaa(), ip("2001:db8:1::1"))));
    rig.drops(EDGE, &downlink(1, 1), DropReason::Loop);
    // The MAG's own address lies in a prefix that is tunnelled to it.
    rig.neighbour(CORE, mn(2), Some(MAG2_MAC));
    let route = flow::Update::Route {
        prefix: "2001:db8:100:2::/64".parse().unwrap(),
        next: Some(flow::RouteNext::OnLink(CORE)),
    };
    rig.update(route);
    rig.path(Role::Lma, 2, Some(tunnel(lmaa(), mn(2))));
    rig.drops(
        EDGE,
        &udp(CN_MAC, EDGE, lmaa(), mn(2), 1, b""),
        DropReason::Loop,
    );
}

#[test]
fn a_tunnel_without_a_route_is_unreachable_until_there_is_one() {
    let mut rig = Rig::lma();
    let remote = ip("2001:db8:aaaa::1");
    rig.path(Role::Lma, 1, Some(tunnel(lmaa(), remote)));
    let out = rig.through(EDGE, &downlink(1, 1), EDGE);
    assert_eq!(parse_icmp(&out).0, 1);
    assert_eq!(rig.counters().dropped(DropReason::NoRoute), 1);
    rig.update(flow::Update::Route {
        prefix: "::/0".parse().unwrap(),
        next: Some(flow::RouteNext::Via(CORE, mag2())),
    });
    let out = rig.through(EDGE, &downlink(1, 1), CORE);
    let (ethernet, outer, _) = parse(&out);
    assert_eq!(ethernet.destination, MAG2_MAC.0);
    assert_eq!(outer.destination_addr(), remote);
}

#[test]
fn a_burst_of_any_size_stays_in_order() {
    let mut rig = Rig::lma();
    for size in [1, 31, 63, 64, 65, 200] {
        for i in 0..size {
            assert!(rig.io.receive(EDGE, &downlink(1 + i % 2, i)));
        }
        rig.turn();
        let sent = rig.sent(CORE);
        assert_eq!(sent.len(), usize::from(size));
        for (i, out) in (0..size).zip(&sent) {
            let (_, outer, inner) = parse(out);
            let mag = if i % 2 == 0 { mag1() } else { mag2() };
            assert_eq!(outer.destination_addr(), mag);
            assert_eq!(inner[42..44], i.to_be_bytes());
        }
    }
}

#[test]
fn a_busy_port_holds_a_burst_and_drops_the_rest() {
    let mut rig = Rig::lma();
    rig.io.limit_tx(CORE, 10);
    for i in 0..100 {
        assert!(rig.io.receive(EDGE, &downlink(1, i)));
    }
    rig.turn();
    let counters = rig.counters();
    let burst = dataplane::BURST as u64;
    assert_eq!((counters.held, counters.ports[0].tx_packets), (burst, 10));
    assert_eq!(counters.dropped(DropReason::TxFull), 100 - 10 - burst);
    rig.io.limit_tx(CORE, usize::MAX);
    rig.turn();
    let ports: Vec<_> = rig.sent(CORE).iter().map(|f| f[14 + 40 + 43]).collect();
    assert!(ports.iter().copied().map(u64::from).eq(0..10 + burst));
}

#[test]
fn counters_of_a_binding_and_its_rules_are_reported() {
    let mut rig = Rig::lma();
    let binding = Binding {
        rules: vec![
            rule(7, 5001, RuleAction::Forward(PathId(2))),
            rule(8, 5002, RuleAction::Forward(PathId(2))),
        ],
        ..lma_binding(1, &[1, 2]).unwrap()
    };
    rig.binding(Role::Lma, 1, Some(binding));
    for port in [5001, 5001, 5003] {
        rig.through(EDGE, &downlink(1, port), CORE);
    }
    rig.through(
        CORE,
        &tunnelled(MAG2_MAC, mag2(), lmaa(), &inner_uplink(1, cn())),
        EDGE,
    );
    let (role, hnp) = (Role::Lma, hnp(1));
    rig.update(flow::Update::Report(flow::ReportRequest::Binding {
        token: 5,
        role,
        hnp,
    }));
    rig.turn();
    let Some(flow::Report::Binding {
        token: 5,
        counters: Some(counters),
        ..
    }) = rig.control.pop_report()
    else {
        unreachable!()
    };
    assert_eq!((counters.downlink_packets, counters.uplink_packets), (3, 1));
    let rules: Vec<_> = counters
        .rules
        .iter()
        .map(|(f, n)| (f.0.get(), *n))
        .collect();
    assert_eq!(rules, [(7, 2), (8, 0)]);
}

#[test]
fn refused_updates_are_counted_and_change_nothing() {
    let mut rig = Rig::lma();
    rig.path(Role::Mag, 1, None);
    rig.binding(
        Role::Lma,
        1,
        Some(Binding {
            sources: vec![PathId(1); 5],
            ..lma_binding(1, &[1]).unwrap()
        }),
    );
    rig.through(EDGE, &downlink(1, 1), CORE);
    assert_eq!(rig.counters().updates_refused, 2);
    assert_eq!(rig.control.applied(), rig.control.pushed());
}

#[test]
fn errors_from_inside_a_tunnel_reach_the_inner_source() {
    let mut rig = Rig::lma();
    let router = ip("2001:db8:ffff::fe");
    let big = udp(CN_MAC, EDGE, cn(), mn(1), 1, &[7; 1400]);
    let tunnelled = rig.through(EDGE, &big, CORE);
    let about = |kind, word: u32, quote: &[u8]| {
        let quote = &quote[..quote.len().min(1232)];
        let message = icmp(router, lmaa(), kind, word.to_be_bytes(), quote);
        ipv6(MAG1_MAC, PORT_MACS[0], router, lmaa(), 58, 64, &message)
    };
    let out = rig.through(CORE, &about(3, 0, packet(&tunnelled)), EDGE);
    let (kind, code, _, quote) = parse_icmp(&out);
    assert_eq!((kind, code), (1, 3));
    assert_eq!(quote[8..100], packet(&big)[8..100]);
    assert_eq!(parse(&out).1.source_addr(), lmaa());
    assert_eq!(parse(&out).1.destination_addr(), cn());
    // Packet Too Big is told, and remembered.
    let out = rig.through(CORE, &about(2, 1400, packet(&tunnelled)), EDGE);
    assert_eq!(parse_icmp(&out).2, 1360);
    let out = rig.through(EDGE, &big, EDGE);
    assert_eq!((parse_icmp(&out).0, parse_icmp(&out).2), (2, 1360));
    // A small packet's source could do nothing about it; and others' tunnels are not ours.
    let small = rig.through(EDGE, &downlink(1, 1), CORE);
    let consumed = rig.counters().consumed;
    rig.rx(CORE, &about(2, 90, packet(&small)));
    assert_eq!(rig.counters().consumed, consumed + 1);
    let mut other = small.clone();
    other[14 + 39] ^= 1;
    rig.drops(CORE, &about(3, 0, packet(&other)), DropReason::BadQuote);
    rig.drops(
        CORE,
        &about(3, 0, &packet(&small)[..60]),
        DropReason::BadQuote,
    );
    // No error about an error: the inner packet is one itself.
    let error = icmp(cn(), mn(1), 1, [0; 4], &[0; 48]);
    let inner = rig.through(
        EDGE,
        &ipv6(CN_MAC, PORT_MACS[1], cn(), mn(1), 58, 9, &error),
        CORE,
    );
    rig.rx(CORE, &about(3, 0, packet(&inner)));
    assert!(rig.sent(EDGE).is_empty() && rig.sent(CORE).is_empty());
}

#[test]
fn pools_and_peers_change_under_traffic() {
    let mut rig = Rig::lma();
    let pools = |pools: &[&str]| {
        let pools = pools.iter().map(|pool| pool.parse().unwrap());
        flow::Update::Pools(pools.collect())
    };
    let old = "2001:db8:100::/48";
    let new = "2001:db8:a00::/48";
    let stranger = udp(CN_MAC, EDGE, cn(), ip("2001:db8:a00::1"), 1, b"");
    for told in [pools(&[new, old]), pools(&[old, new]), pools(&[old])] {
        rig.update(told.clone());
        // The mobile's packets go on, whichever pool packets are told apart by.
        let out = rig.through(EDGE, &downlink(1, 5004), CORE);
        assert_eq!(parse(&out).1.destination_addr(), mag1());
        let reason = if told == pools(&[old]) {
            DropReason::NoRoute
        } else {
            DropReason::NoBinding
        };
        let before = rig.counters().dropped(reason);
        rig.rx(EDGE, &stranger);
        assert_eq!(
            rig.counters().dropped(reason),
            before + 1,
            "{:?}",
            rig.dropped()
        );
        rig.sent(EDGE);
    }
    // An anchor's updates mean nothing to others.
    rig.update(flow::Update::Peers(vec![mag2()]));
    let out = rig.through(EDGE, &downlink(1, 5004), CORE);
    assert_eq!(parse(&out).1.destination_addr(), mag1());
    assert_eq!(rig.counters().updates_refused, 0);
}
