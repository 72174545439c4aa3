use std::collections::HashSet;

use etherparse::{IpFragOffset, Ipv6FragmentHeader, PacketBuilder};
use proptest::prelude::*;

use super::*;

fn share(queues: u16) -> PortShare {
    PortShare {
        queues,
        spread: Spread::All,
    }
}

proptest! {
    /// Every queue has one worker, and whoever has none on a port knows one that has.
    #[test]
    fn every_worker_has_a_way_to_send(workers in 1u16..20, queues in 1u16..20, port in 0u16..300) {
        let queues = queues.min(workers);
        let (port, share) = (PortId(port), share(queues));
        let queue = |worker| share.queue_of(port, WorkerId(worker), workers);
        let held: Vec<_> = (0..workers).filter_map(queue).collect();
        prop_assert_eq!(held.len(), usize::from(queues));
        prop_assert_eq!(held.iter().collect::<HashSet<_>>().len(), held.len());
        prop_assert!(held.iter().all(|queue| *queue < queues));
        for worker in 0..workers {
            let sender = share.sender(port, WorkerId(worker), workers);
            prop_assert_eq!(sender.is_none(), queue(worker).is_some());
            prop_assert!(sender.is_none_or(|sender| queue(sender.0).is_some()));
        }
    }
}

#[test]
fn ports_with_one_queue_are_received_by_different_workers() {
    let holder = |port| (0..2).find(|w| share(1).queue_of(PortId(port), WorkerId(*w), 2).is_some());
    assert_eq!([holder(0), holder(1)], [Some(0), Some(1)]);
}

fn udp(source: [u8; 16], ports: (u16, u16), label: u32) -> Vec<u8> {
    let mut packet = Vec::new();
    let mut ip = etherparse::Ipv6Header {
        hop_limit: 64,
        source,
        destination: [2; 16],
        ..etherparse::Ipv6Header::default()
    };
    ip.flow_label = label.try_into().unwrap();
    PacketBuilder::ip(etherparse::IpHeaders::Ipv6(
        ip,
        etherparse::Ipv6Extensions::default(),
    ))
    .udp(ports.0, ports.1)
    .write(&mut packet, &[0; 8])
    .unwrap();
    packet
}

/// The packet with this fragment header put before what it carries.
fn fragment(packet: &[u8], offset: u16, more: bool, id: u32) -> Vec<u8> {
    let header =
        Ipv6FragmentHeader::new(17.into(), IpFragOffset::try_new(offset).unwrap(), more, id);
    let mut fragment = packet.to_vec();
    fragment[6] = 44;
    fragment.splice(40..40, header.to_bytes());
    let len = u16::try_from(fragment.len() - 40).unwrap();
    fragment[4..6].copy_from_slice(&len.to_be_bytes());
    fragment
}

#[test]
fn a_flow_is_its_addresses_protocol_and_ports() {
    let seed = Seed::random();
    let hash = |packet: &[u8]| flow_hash(packet, seed).unwrap();
    let one = hash(&udp([1; 16], (1, 2), 0));
    assert_eq!(
        one,
        hash(&udp([1; 16], (1, 2), 77)),
        "a new label is no new flow"
    );
    assert_ne!(one, hash(&udp([3; 16], (1, 2), 0)));
    assert_ne!(one, hash(&udp([1; 16], (2, 1), 0)));
    let mut tcp = udp([1; 16], (1, 2), 0);
    tcp[6] = 6;
    assert_ne!(one, hash(&tcp));
    let mut other = tcp.clone();
    (tcp[6], other[6]) = (58, 58);
    other[3] = 1;
    assert_ne!(hash(&tcp), hash(&other), "without ports the label decides");
    let mut esp = [tcp.clone(), tcp.clone(), tcp.clone()];
    for (i, packet) in (0..).zip(&mut esp) {
        packet[6] = 50;
        packet[43] = i / 2;
        packet[47] = i; // the sequence number
    }
    assert_eq!(hash(&esp[0]), hash(&esp[1]));
    assert_ne!(hash(&esp[0]), hash(&esp[2]));
}

#[test]
fn fragments_stay_together() {
    let seed = Seed::random();
    let packet = udp([1; 16], (1, 2), 0);
    let hash = |packet: &[u8]| flow_hash(packet, seed).unwrap();
    let first = hash(&fragment(&packet, 0, true, 1));
    assert_eq!(first, hash(&fragment(&packet, 5, true, 1)));
    assert_eq!(first, hash(&fragment(&packet, 9, false, 1)));
    // RFC 6946: a packet that is all of its fragments is whole.
    assert_eq!(hash(&fragment(&packet, 0, false, 1)), hash(&packet));
}

#[test]
fn what_is_no_packet_has_no_flow() {
    let seed = Seed::random();
    let mut packet = udp([1; 16], (1, 2), 0);
    assert!(flow_hash(&packet[..39], seed).is_none());
    packet[0] = 0x45;
    assert!(flow_hash(&packet, seed).is_none());
}

#[test]
fn flows_are_divided_evenly() {
    let seed = Seed::random();
    for workers in [2, 3, 16] {
        let mut count = vec![0_i32; workers as usize];
        for n in 0..16_000_u16 {
            let flow = flow_hash(&udp([1; 16], (n % 100, n / 100), 0), seed).unwrap();
            count[hash::reduce(flow, workers) as usize] += 1;
        }
        let fair = 16_000 / i32::try_from(workers).unwrap();
        let all = count.iter();
        assert!(
            all.clone().all(|n| (n - fair).abs() * 10 < fair * 2),
            "{count:?}"
        );
    }
}

/// Whatever the secret: a client's ports are often in a row, and so are those of many clients.
#[test]
fn ports_in_a_row_are_divided_with_every_seed() {
    for _ in 0..500 {
        let seed = Seed::random();
        let first = |port| {
            let flow = flow_hash(&udp([1; 16], (4000, port), 0), seed).unwrap();
            hash::reduce(flow, 2) == 0
        };
        let count = (5000..5064).filter(|port| first(*port)).count();
        assert!((8..=56).contains(&count), "{count} of 64, {seed:?}");
    }
}
