//! Packets through a whole worker that is a MAG.

mod common;

use common::*;
use flow::{
    Binding, DropReason, Hnp, Link, MacAddr, MobileId, Path, PathId, Punt, Role, TableUpdate,
    Update,
};

fn inner(to: std::net::Ipv6Addr) -> Vec<u8> {
    packet(&udp(CN_MAC, CORE, cn(), to, 5001, b"downlink")).to_vec()
}

fn from_lma(inner: &[u8]) -> Vec<u8> {
    tunnelled(LMA_MAC, lmaa(), mag1(), inner)
}

#[test]
fn a_downlink_packet_reaches_the_mobiles_link() {
    let mut rig = Rig::mag();
    let inner = inner(mn(1));
    let out = rig.through(CORE, &from_lma(&inner), EDGE);
    let (ethernet, ip, _) = parse(&out);
    assert_eq!(
        (ethernet.source, ethernet.destination),
        (PORT_MACS[1].0, MN_MAC.0)
    );
    assert_eq!(ip.hop_limit, inner[7] - 1);
    assert_eq!(packet(&out)[8..], inner[8..]);
    let counters = rig.counters();
    assert_eq!(counters.mag_paths[1].in_packets, 1);
    assert_eq!(counters.mag_paths[2].out_packets, 1);
}

#[test]
fn a_downlink_packet_must_come_from_the_sessions_anchor() {
    let mut rig = Rig::mag();
    let other = ip("2001:db8:ffff::2");
    let frame = tunnelled(LMA_MAC, other, mag1(), &inner(mn(1)));
    rig.drops(CORE, &frame, DropReason::NoTunnel);
    rig.path(Role::Mag, 3, Some(tunnel(mag1(), other)));
    rig.drops(CORE, &frame, DropReason::OuterSource);
    rig.drops(CORE, &from_lma(&inner(mn(5))), DropReason::NoBinding);
    // Outside a tunnel a mobile is nobody this router knows.
    let plain = udp(LMA_MAC, CORE, lmaa(), mn(1), 1, b"");
    rig.rx(CORE, &plain);
    assert_eq!(rig.counters().dropped(DropReason::NoRoute), 1);
}

#[test]
fn an_uplink_packet_is_tunnelled_to_the_anchor() {
    let mut rig = Rig::mag();
    let frame = udp(MN_MAC, EDGE, mn(1), cn(), 5001, b"uplink");
    let out = rig.through(EDGE, &frame, CORE);
    let (ethernet, outer, inner) = parse(&out);
    assert_eq!(ethernet.destination, LMA_MAC.0);
    assert_eq!(
        (outer.source_addr(), outer.destination_addr()),
        (mag1(), lmaa())
    );
    let mut expected = packet(&frame).to_vec();
    expected[7] -= 1;
    assert_eq!(inner, expected);
    assert_eq!(rig.counters().mag_paths[2].in_packets, 1);
    assert_eq!(rig.counters().mag_paths[1].out_packets, 1);
}

#[test]
fn only_a_mobiles_own_sources_pass() {
    let mut rig = Rig::mag();
    let stranger = MacAddr([2, 0, 0, 0, 0, 0xbb]);
    let from = |mac, source| udp(mac, EDGE, source, cn(), 1, b"");
    // A known station with another's address: filtered, and nothing to learn from it.
    rig.drops(EDGE, &from(MN_MAC, mn(2)), DropReason::IngressFilter);
    assert!(rig.punts().is_empty());
    // An unknown one, even with a known address.
    rig.drops(EDGE, &from(stranger, mn(1)), DropReason::IngressFilter);
    let punt = Punt::UnknownMobile {
        port: EDGE,
        source: stranger,
    };
    assert_eq!(rig.punts(), [punt]);
    rig.drops(EDGE, &from(MN_MAC, ip("fe80::1")), DropReason::LinkLocal);
    rig.drops(EDGE, &from(MN_MAC, ip("::")), DropReason::BadSource);
    // Nor may a mobile pose as a tunnel end or signal.
    let forged = ipv6(MN_MAC, PORT_MACS[1], lmaa(), mag1(), 41, 64, &inner(mn(1)));
    rig.drops(EDGE, &forged, DropReason::IngressFilter);
    for protocol in [135, 50] {
        let forged = ipv6(
            MN_MAC,
            PORT_MACS[1],
            mn(1),
            mag1(),
            protocol,
            64,
            &[59, 0, 5, 0, 0, 0, 0, 0],
        );
        rig.drops(EDGE, &forged, DropReason::IngressFilter);
    }
}

/// Not even by one who is given a prefix that holds such.
#[test]
fn no_packet_from_an_address_of_a_special_kind_passes() {
    for (prefix, len) in [("fe80::", 64), ("fe80::", 10), ("::", 0), ("ff02::", 64)] {
        let mut rig = Rig::mag();
        let binding = Binding {
            mobile: MobileId(1),
            default_path: Some(PathId(2)),
            sources: vec![PathId(2)],
            uplink: Some(PathId(1)),
            local: false,
            rules: vec![],
        };
        let hnp = Hnp::new(ip(prefix), len).unwrap();
        let binding = Some(Box::new(binding));
        rig.update(Update::Table(
            Role::Mag,
            TableUpdate::Binding { hnp, binding },
        ));
        rig.turn();
        let from = |source| udp(MN_MAC, EDGE, source, cn(), 1, b"");
        rig.drops(EDGE, &from(ip("fe80::1")), DropReason::LinkLocal);
        for source in ["::", "::1", "ff02::1"] {
            rig.drops(EDGE, &from(ip(source)), DropReason::BadSource);
        }
    }
}

#[test]
fn a_granted_prefix_is_the_mobiles_own() {
    let mut rig = Rig::mag();
    rig.binding(
        Role::Mag,
        2,
        Some(Binding {
            mobile: MobileId(1),
            default_path: Some(PathId(2)),
            sources: vec![PathId(2)],
            uplink: Some(PathId(1)),
            local: false,
            rules: vec![],
        }),
    );
    rig.through(EDGE, &udp(MN_MAC, EDGE, mn(2), cn(), 1, b""), CORE);
    rig.through(CORE, &from_lma(&inner(mn(2))), EDGE);
    rig.binding(Role::Mag, 2, None);
    rig.drops(
        EDGE,
        &udp(MN_MAC, EDGE, mn(2), cn(), 1, b""),
        DropReason::IngressFilter,
    );
}

/// A binding of mobile 2, at another station of the access link.
fn neighbour_mobile(rig: &mut Rig, mac: MacAddr, local: bool) {
    rig.path(Role::Mag, 3, Some(Path::Link(Link { port: EDGE, mac })));
    let binding = Binding {
        mobile: MobileId(2),
        default_path: Some(PathId(3)),
        sources: vec![PathId(3)],
        uplink: Some(PathId(1)),
        local,
        rules: vec![],
    };
    rig.binding(Role::Mag, 2, Some(binding));
}

#[test]
fn mobiles_of_one_gateway_reach_each_other_without_the_anchor_only_where_that_is_allowed() {
    let mut rig = Rig::mag();
    let other = MacAddr([2, 0, 0, 0, 0, 0xab]);
    let plain = udp(MN_MAC, EDGE, mn(1), mn(2), 5001, b"to a neighbour");
    let options = [59, 0, 1, 4, 0, 0, 0, 0];
    let extended = ipv6(MN_MAC, PORT_MACS[1], mn(1), mn(2), 60, 64, &options);
    for local in [false, true, false] {
        neighbour_mobile(&mut rig, other, local);
        for frame in [&plain, &extended] {
            let mut expected = packet(frame).to_vec();
            expected[7] -= 1;
            if local {
                let out = rig.through(EDGE, frame, EDGE);
                let (ethernet, _, _) = parse(&out);
                assert_eq!(
                    (ethernet.source, ethernet.destination),
                    (PORT_MACS[1].0, other.0)
                );
                assert_eq!(packet(&out), expected);
            } else {
                let out = rig.through(EDGE, frame, CORE);
                assert_eq!(parse(&out).1.destination_addr(), lmaa());
                assert_eq!(parse(&out).2, expected);
            }
            // What is for others goes on as ever.
            let away = udp(MN_MAC, EDGE, mn(1), cn(), 5001, b"");
            assert_eq!(
                parse(&rig.through(EDGE, &away, CORE)).1.destination_addr(),
                lmaa()
            );
        }
    }
    let counters = rig.counters();
    assert_eq!(counters.mag_paths[2].in_packets, 12);
    assert_eq!(counters.mag_paths[3].out_packets, 2);
    assert_eq!(counters.mag_paths[1].out_packets, 10);
    rig.binding(Role::Mag, 2, None);
    rig.through(EDGE, &plain, CORE);
}

#[test]
fn a_packet_that_stays_at_the_gateway_is_checked_as_others_are() {
    let mut rig = Rig::mag();
    let other = MacAddr([2, 0, 0, 0, 0, 0xab]);
    neighbour_mobile(&mut rig, other, true);
    let forged = udp(MN_MAC, EDGE, mn(2), mn(2), 1, b"");
    rig.drops(EDGE, &forged, DropReason::IngressFilter);
    let stranger = udp(MacAddr([2, 0, 0, 0, 0, 0xbb]), EDGE, mn(1), mn(2), 1, b"");
    rig.drops(EDGE, &stranger, DropReason::IngressFilter);
    let mut last_hop = udp(MN_MAC, EDGE, mn(1), mn(2), 1, b"");
    set_hop_limit(&mut last_hop, 1);
    let out = rig.through(EDGE, &last_hop, EDGE);
    assert_eq!(
        (parse_icmp(&out).0, parse(&out).0.destination),
        (3, MN_MAC.0)
    );
    // The link is wider than the tunnel: 1500 octets pass that would not reach the anchor.
    let long = udp(MN_MAC, EDGE, mn(1), mn(2), 1, &[0; 1452]);
    let out = rig.through(EDGE, &long, EDGE);
    assert_eq!((out.len(), parse(&out).0.destination), (14 + 1500, other.0));
}

#[test]
fn the_access_links_mtu_and_the_hop_limit_hold() {
    let mut rig = Rig::mag();
    let mut frame = udp(MN_MAC, EDGE, mn(1), cn(), 1, &[0; 1452]);
    let out = rig.through(EDGE, &frame, EDGE);
    let (kind, _, mtu, _) = parse_icmp(&out);
    assert_eq!((kind, mtu), (2, 1460));
    assert_eq!(parse(&out).0.destination, MN_MAC.0, "by the mobile's link");
    assert_eq!(parse(&out).1.source_addr(), mag1());
    frame.truncate(14 + 48);
    frame[18..20].copy_from_slice(&8u16.to_be_bytes());
    set_hop_limit(&mut frame, 1);
    let out = rig.through(EDGE, &frame, EDGE);
    assert_eq!(parse_icmp(&out).0, 3);
}

#[test]
fn the_shared_gateway_address_is_answered_at_either_mac() {
    let mut rig = Rig::mag();
    let mag = ip("fe80::200:5eff:fe00:5213");
    let mn_link_local = MN_MAC.link_local();
    let echo = icmp(mn_link_local, mag, 128, [0, 1, 0, 2], b"ping");
    for to in [MacAddr::MAG, PORT_MACS[1]] {
        let frame = ipv6(MN_MAC, to, mn_link_local, mag, 58, 64, &echo);
        let out = rig.through(EDGE, &frame, EDGE);
        assert_eq!(parse_icmp(&out), (129, 0, 0x0001_0002, b"ping".to_vec()));
        assert_eq!(parse(&out).0.destination, MN_MAC.0);
        assert_eq!(parse(&out).1.source_addr(), mag);
    }
    // Not on the core, where it is nobody's.
    let frame = ipv6(LMA_MAC, MacAddr::MAG, mn_link_local, mag, 58, 64, &echo);
    rig.drops(CORE, &frame, DropReason::NotForUs);
}

#[test]
fn a_mobile_reaches_the_gateway_with_its_own_address_only() {
    let mut rig = Rig::mag();
    let ping = |source| {
        let echo = icmp(source, mag1(), 128, [0; 4], b"");
        ipv6(MN_MAC, PORT_MACS[1], source, mag1(), 58, 64, &echo)
    };
    let out = rig.through(EDGE, &ping(mn(1)), EDGE);
    assert_eq!(parse_icmp(&out).0, 129);
    rig.drops(EDGE, &ping(mn(2)), DropReason::IngressFilter);
}

#[test]
fn a_mobile_that_moves_ports_is_followed() {
    let mut rig = Rig::mag();
    let mac = MacAddr([2, 0, 0, 0, 0, 0xab]);
    rig.path(Role::Mag, 2, Some(Path::Link(Link { port: EDGE, mac })));
    let out = rig.through(CORE, &from_lma(&inner(mn(1))), EDGE);
    assert_eq!(parse(&out).0.destination, mac.0);
    rig.drops(
        EDGE,
        &udp(MN_MAC, EDGE, mn(1), cn(), 1, b""),
        DropReason::IngressFilter,
    );
}

#[test]
fn the_outer_class_of_an_uplink_packet_follows_the_path() {
    let mut rig = Rig::mag();
    for copy_dscp in [false, true] {
        let Path::Tunnel(tunnel) = tunnel(mag1(), lmaa()) else {
            unreachable!()
        };
        let path = Path::Tunnel(flow::Tunnel {
            copy_dscp,
            ..tunnel
        });
        rig.path(Role::Mag, 1, Some(path));
        // In one piece, and with an extension header, which takes another way through the worker.
        let plain = udp(MN_MAC, EDGE, mn(1), cn(), 5001, b"uplink");
        let options = [59, 0, 1, 4, 0, 0, 0, 0];
        let extended = ipv6(MN_MAC, PORT_MACS[1], mn(1), cn(), 60, 64, &options);
        for mut frame in [plain, extended] {
            for class in [0, 0xb8, 0xba, 0xbb, 3] {
                set_traffic_class(&mut frame, class);
                let out = rig.through(EDGE, &frame, CORE);
                let (_, outer, inner) = parse(&out);
                let copied = if copy_dscp { class } else { class & 3 };
                assert_eq!(outer.traffic_class, copied);
                assert_eq!(inner[..2], frame[14..16]);
            }
        }
    }
}
