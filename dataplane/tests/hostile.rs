//! Somebody sends all he can: what he fills is bounded, what he is denied is counted, and the others'
//! packets, signalling and neighbours go on.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

mod common;

use std::net::Ipv6Addr;

use common::*;
use dataplane::{NeighbourLimits, PuntRates, RingSizes, rings};
use flow::{DropReason, MacAddr, PortId, Punt};

const MILLION: u32 = 1_000_000;

/// Frames of the flood before each turn, beside which the others send one.
const BATCH: u32 = 30;

/// A rig with a punt ring of the default size.
fn rig(config: dataplane::WorkerConfig) -> Rig {
    let mut rig = Rig::new(config.clone());
    let (worker_end, control) = rings(RingSizes::default());
    let clock = dataplane::Clock::new(|| std::time::Duration::ZERO);
    rig.worker = dataplane::Worker::with_clock(config, rig.io.clone(), worker_end, clock).unwrap();
    rig.control = control;
    rig
}

/// An anchor with mobile 1 at MAG1.
fn anchor() -> Rig {
    let mut config = Rig::lma_config();
    config.neighbours = limits();
    let mut rig = rig(config);
    rig.neighbour(CORE, mag1(), Some(MAG1_MAC));
    rig.neighbour(EDGE, cn(), Some(CN_MAC));
    rig.path(flow::Role::Lma, 1, Some(tunnel(lmaa(), mag1())));
    rig.binding(flow::Role::Lma, 1, lma_binding(1, &[1]));
    rig.turn();
    rig
}

/// Fewer packets may be held than there are buffers.
fn limits() -> NeighbourLimits {
    NeighbourLimits {
        held_total: BUFFERS / 2,
        ..NeighbourLimits::default()
    }
}

/// Sends `count` frames of a flood on `port`, and after each batch a packet to mobile 1, which has to
/// arrive; gives what was punted.
fn flood(
    rig: &mut Rig,
    port: PortId,
    count: u32,
    mut frame: impl FnMut(u32) -> Vec<u8>,
) -> Vec<Punt> {
    let packet = udp(CN_MAC, EDGE, cn(), mn(1), 5001, b"other traffic");
    let mut punts = Vec::new();
    let mut sent = 0;
    while sent < count {
        for n in sent..count.min(sent + BATCH) {
            assert!(rig.io.receive(port, &frame(n)));
        }
        sent = count.min(sent + BATCH);
        assert!(rig.io.receive(EDGE, &packet));
        while rig.worker.turn() > 0 {}
        punts.extend(std::iter::from_fn(|| rig.control.pop_punt()));
        let mut forwarded = 0;
        while let Some(out) = rig.io.sent_packet(CORE) {
            let octets = dataplane::PacketBuf::data(&out);
            forwarded += u32::from(octets.ends_with(b"other traffic"));
        }
        assert_eq!(forwarded, 1, "{:?}", rig.dropped());
        while rig.io.sent_packet(EDGE).is_some() {}
    }
    rig.check();
    punts
}

fn signalling(from: Ipv6Addr) -> Vec<u8> {
    ipv6(MAG1_MAC, PORT_MACS[0], from, lmaa(), 135, 64, &[0; 8])
}

/// An address that nobody else has.
fn nth(network: Ipv6Addr, n: u32) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(network) & !0xffff_ffff | u128::from(n) | 0x8000_0000)
}

fn count(punts: &[Punt], which: impl Fn(&Punt) -> bool) -> u64 {
    punts.iter().filter(|punt| which(punt)).count() as u64
}

fn is_signalling(punt: &Punt) -> bool {
    matches!(punt, Punt::Mobility { .. })
}

#[test]
fn a_million_messages_of_one_peer_leave_the_others_heard() {
    let mut rig = anchor();
    let rates = PuntRates::default();
    let frame = signalling(mag1());
    let punts = flood(&mut rig, CORE, MILLION, |_| frame.clone());
    let heard = u64::from(rates.signalling.burst);
    assert_eq!(count(&punts, is_signalling), heard);
    let denied = rig.counters().dropped(DropReason::PuntRate);
    assert_eq!(denied, u64::from(MILLION) - heard);

    let others = signalling(mag2());
    let punts = flood(&mut rig, CORE, 100, |_| others.clone());
    assert_eq!(count(&punts, is_signalling), 100);
    assert_eq!(rig.counters().dropped(DropReason::PuntRate), denied);
}

#[test]
fn a_million_strangers_are_heard_as_one() {
    let mut rig = anchor();
    let rates = PuntRates::default();
    let punts = flood(&mut rig, CORE, MILLION / 4, |n| {
        signalling(nth(ip("2001:db8:bad::"), n))
    });
    let heard = u64::from(rates.strangers.burst);
    assert_eq!(count(&punts, is_signalling), heard);
    let peer = signalling(mag1());
    let punts = flood(&mut rig, CORE, 100, |_| peer.clone());
    assert_eq!(count(&punts, is_signalling), 100);
}

/// A neighbour advertisement of a station.
fn advertisement(station: MacAddr, port: PortId, of: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    let message = icmp(of, to, 136, [0; 4], &of.octets());
    let ours = PORT_MACS[usize::from(port.0)];
    ipv6(station, ours, of, to, 58, 255, &message)
}

#[test]
fn a_million_discovery_messages_of_one_station_leave_the_others_heard() {
    let mut rig = anchor();
    let rates = PuntRates::default();
    let to = ip("2001:db8:1::1");
    let hostile = MacAddr([2, 0, 0, 0, 6, 6]);
    let punts = flood(&mut rig, EDGE, MILLION / 2, |n| {
        advertisement(hostile, EDGE, nth(cn(), n), to)
    });
    let heard = u64::from(rates.station_discovery.burst);
    assert_eq!(punts.len() as u64, heard);
    let denied = rig.counters().dropped(DropReason::PuntRate);
    assert_eq!(denied, u64::from(MILLION / 2) - heard);

    // Another station on the port, unless it meets the hostile one in a bucket, and one on another port.
    let others: u64 = (1..=8)
        .map(|n| {
            let station = MacAddr([2, 0, 0, 0, 7, n]);
            let frame = advertisement(station, EDGE, cn(), to);
            flood(&mut rig, EDGE, 1, |_| frame.clone()).len() as u64
        })
        .sum();
    assert!(others >= 4, "{others}");
    let frame = advertisement(MAG1_MAC, CORE, mag1(), lmaa());
    assert_eq!(flood(&mut rig, CORE, 10, |_| frame.clone()).len(), 10);

    // From as many stations: the port's rate bounds it, and the other port does not notice.
    let punts = flood(&mut rig, EDGE, MILLION / 4, |n| {
        let [a, b, c, d] = n.to_be_bytes();
        advertisement(MacAddr([2, 9, a, b, c, d]), EDGE, nth(cn(), n), to)
    });
    let most = u64::from(rates.neighbour_discovery.burst);
    assert!(punts.len() as u64 <= most - heard);
    assert_eq!(flood(&mut rig, CORE, 10, |_| frame.clone()).len(), 10);
}

#[test]
fn a_scan_of_one_network_leaves_room_for_the_neighbours_of_others() {
    let mut rig = anchor();
    // From the core into the other network.
    let scan = |n| udp(MAG1_MAC, CORE, mag1(), nth(cn(), n), 1, b"scan");
    let punts = flood(&mut rig, CORE, MILLION / 4, scan);
    let asked = u64::from(PuntRates::default().resolve.burst);
    let is_question = |punt: &Punt| matches!(punt, Punt::Resolve { .. });
    assert_eq!(count(&punts, is_question), asked);
    let counters = rig.counters();
    assert!(counters.held <= limits().held_total as u64);
    // Those that wait for an answer are dropped when it does not come; all others at once.
    let dropped = counters.dropped(DropReason::NeighbourQueue);
    assert_eq!(dropped + counters.held, u64::from(MILLION / 4));

    // A neighbour in the other network is asked for, when those before it have been looked at.
    let new = ip("2001:db8:ffff::99");
    let packet = udp(CN_MAC, EDGE, cn(), new, 1, b"");
    let punts = flood(&mut rig, EDGE, 40 * BATCH, |_| packet.clone());
    let port = CORE;
    let question = Punt::Resolve {
        port,
        next_hop: new,
    };
    assert_eq!(punts, [question]);
}

#[test]
fn unknown_stations_are_reported_at_a_rate() {
    let mut config = Rig::mag_config();
    config.peers = vec![lmaa()];
    let mut rig = rig(config);
    let rates = PuntRates::default();
    let send = |rig: &mut Rig, station: MacAddr, n: u32| {
        let frame = udp(station, EDGE, nth(mn(9), n), cn(), 1, b"");
        assert!(rig.io.receive(EDGE, &frame));
        while rig.worker.turn() > 0 {}
        rig.punts().len() as u64
    };
    let hostile = MacAddr([2, 0, 0, 0, 6, 6]);
    let one: u64 = (0..MILLION / 10).map(|n| send(&mut rig, hostile, n)).sum();
    assert_eq!(one, u64::from(rates.station_unknown.burst));
    let many: u64 = (0..MILLION / 10)
        .map(|n| {
            let [a, b, c, d] = n.to_be_bytes();
            send(&mut rig, MacAddr([2, 9, a, b, c, d]), n)
        })
        .sum();
    assert!(one + many <= u64::from(rates.unknown_mobile.burst));
    let dropped = rig.counters().dropped(DropReason::IngressFilter);
    assert_eq!(dropped, u64::from(MILLION / 5));
    rig.check();
}
