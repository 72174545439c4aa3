//! Several workers that share their ports.
#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests"
)]

mod common;

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::*;
use dataplane::io::memory::MemoryIo;
use dataplane::worker::Clock;
use dataplane::{
    BURST, ControlRings, Idle, PortShare, RingSizes, Spread, Worker, WorkerConfig, peers, rings,
};
use flow::{Counters, DropReason, MacAddr, PortId, Punt, Role, Update, WorkerId};
use proptest::prelude::*;

/// Workers between the same ports.
struct Team {
    workers: Vec<Worker<MemoryIo>>,
    controls: Vec<ControlRings>,
    ios: Vec<MemoryIo>,
}

/// Of no port and no neighbour.
const OTHER_MAC: MacAddr = MacAddr([2, 9, 9, 9, 9, 9]);

const ONE_QUEUE: PortShare = PortShare {
    queues: 1,
    spread: Spread::All,
};

impl Team {
    /// LMAs with the bindings and neighbours of [`Rig::lma`], each with the queues it is due.
    fn new(workers: u16, shares: [PortShare; 2], places: usize) -> Self {
        let first = MemoryIo::new(2, BUFFERS);
        let mut team = Self {
            workers: vec![],
            controls: vec![],
            ios: vec![],
        };
        for (id, peers) in (0..workers)
            .map(WorkerId)
            .zip(peers(workers, &shares, places))
        {
            let has = |port: PortId| {
                let share = shares[usize::from(port.0)];
                share.queue_of(port, id, workers).is_some()
            };
            let io = first.sibling(2);
            let config = WorkerConfig {
                id,
                idle: Idle::Adaptive {
                    spins: 4,
                    sleep: Duration::from_micros(20),
                },
                ..Rig::lma_config()
            };
            let (end, control) = rings(RingSizes::default());
            let clock = Clock::new(|| Duration::ZERO);
            // Memory ports without a queue take nothing.
            for port in [CORE, EDGE] {
                if !has(port) {
                    io.limit_tx(port, 0);
                }
            }
            let worker = Worker::with_clock(config, io.clone(), end, clock).unwrap();
            team.workers.push(worker.with_peers(peers));
            team.controls.push(control);
            team.ios.push(io);
        }
        team.tables();
        team
    }

    fn tables(&mut self) {
        let neighbour = |port, address, mac| Update::Neighbour {
            port,
            address,
            mac: Some(mac),
        };
        let path = |id, remote| {
            let (id, path) = (flow::PathId(id), Some(tunnel(lmaa(), remote)));
            Update::Table(Role::Lma, flow::TableUpdate::Path { id, path })
        };
        let binding = |n: u16| {
            let (hnp, binding) = (hnp(n), lma_binding(n, &[n]).map(Box::new));
            Update::Table(Role::Lma, flow::TableUpdate::Binding { hnp, binding })
        };
        self.broadcast(&[
            neighbour(CORE, mag1(), MAG1_MAC),
            neighbour(CORE, mag2(), MAG2_MAC),
            neighbour(EDGE, cn(), CN_MAC),
            path(1, mag1()),
            path(2, mag2()),
            binding(1),
            binding(2),
        ]);
        self.turn();
    }

    fn broadcast(&mut self, updates: &[Update]) {
        for control in &mut self.controls {
            for update in updates {
                control.push(update.clone()).unwrap();
            }
        }
    }

    /// Turns all until no one has anything left to do, and checks that every packet is accounted for.
    fn turn(&mut self) {
        while self.workers.iter_mut().map(Worker::turn).sum::<usize>() > 0 {}
        self.check();
    }

    fn counters(&self) -> Vec<Counters> {
        self.workers.iter().map(Worker::counters).collect()
    }

    /// Conservation at each worker and between them.
    fn check(&self) {
        let all = self.counters();
        for c in &all {
            let rx: u64 = c.ports.iter().map(|p| p.rx_packets).sum();
            let tx: u64 = c.ports.iter().map(|p| p.tx_packets).sum();
            let drops: u64 = c.drops.iter().sum();
            assert_eq!(
                rx + c.originated + c.taken_over,
                tx + drops + c.punted + c.consumed + c.held + c.handed_over,
                "{c:?}"
            );
        }
    }

    fn under_way(&self) -> u64 {
        let all = self.counters();
        let handed: u64 = all.iter().map(|c| c.handed_over).sum();
        handed - all.iter().map(|c| c.taken_over).sum::<u64>()
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.counters().iter().map(|c| c.dropped(reason)).sum()
    }

    /// What a worker has sent on a port.
    fn sent(&self, worker: usize, port: PortId) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.ios[worker].sent(port)).collect()
    }

    fn available(&self) -> usize {
        self.ios[0].pool().available()
    }
}

/// A port of the LMA where MAG1 sends all that it has.
fn uplink(flow: u16, number: u32) -> Vec<u8> {
    let inner = udp(MN_MAC, CORE, mn(1), cn(), flow, &number.to_be_bytes());
    tunnelled(MAG1_MAC, mag1(), lmaa(), packet(&inner))
}

fn downlink(flow: u16, number: u32) -> Vec<u8> {
    udp(CN_MAC, EDGE, cn(), mn(1), flow, &number.to_be_bytes())
}

/// Flow and number of a packet made by `uplink`, or by `downlink` and then tunnelled.
fn flow_and_number(frame: &[u8]) -> (u16, u32) {
    let inner = if frame[20] == 41 { 54 } else { 14 };
    let port = u16::from_be_bytes(frame[inner + 42..inner + 44].try_into().unwrap());
    let number = frame[inner + 48..inner + 52].try_into().unwrap();
    (port, u32::from_be_bytes(number))
}

/// Checks the order within each flow, and counts the packets.
fn in_order(frames: &[Vec<u8>], last: &mut HashMap<u16, u32>) -> usize {
    for frame in frames {
        let (flow, number) = flow_and_number(frame);
        let before = last.insert(flow, number);
        assert!(
            before < Some(number),
            "flow {flow}: {before:?} then {number}"
        );
    }
    frames.len()
}

#[derive(Clone, Debug)]
enum Op {
    Uplink(u16),
    Downlink(u16),
    Turn(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..24u16).prop_map(Op::Uplink),
        3 => (0..24u16).prop_map(Op::Downlink),
        1 => (0..3usize).prop_map(Op::Turn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any number of workers and queues, any interleaving: each flow stays with one worker and in
    /// order, every packet arrives, and no buffer is lost.
    #[test]
    fn flows_keep_their_order(
        workers in 1u16..4,
        queues in [1u16..4, 1u16..4],
        ops in prop::collection::vec(op(), 1..350),
    ) {
        let shares = queues.map(|queues| PortShare { queues: queues.min(workers), ..ONE_QUEUE });
        let mut team = Team::new(workers, shares, 512);
        let (mut number, mut due) = (0, [0, 0]);
        let receiver = |port: PortId, flow: u16| {
            // The port hashes in its own way.
            let queue = flow % shares[usize::from(port.0)].queues;
            let holds = |w: &u16| {
                shares[usize::from(port.0)].queue_of(port, WorkerId(*w), workers) == Some(queue)
            };
            usize::from((0..workers).find(holds).unwrap())
        };
        for op in ops {
            number += 1;
            match op {
                Op::Uplink(flow) => {
                    let io = &team.ios[receiver(CORE, flow)];
                    prop_assert!(io.receive(CORE, &uplink(flow, number)));
                    due[1] += 1;
                }
                Op::Downlink(flow) => {
                    let io = &team.ios[receiver(EDGE, flow)];
                    prop_assert!(io.receive(EDGE, &downlink(flow, number)));
                    due[0] += 1;
                }
                Op::Turn(worker) => {
                    let worker = worker % usize::from(workers);
                    team.workers[worker].turn();
                    team.check();
                }
            }
        }
        team.turn();
        prop_assert_eq!(team.under_way(), 0);
        for port in [CORE, EDGE] {
            let mut seen = HashMap::new();
            let mut count = 0;
            for worker in 0..usize::from(workers) {
                let frames = team.sent(worker, port);
                let flows: Vec<_> = frames.iter().map(|f| flow_and_number(f).0).collect();
                prop_assert!(flows.iter().all(|flow| !seen.contains_key(flow)), "two senders");
                count += in_order(&frames, &mut seen);
            }
            prop_assert_eq!(count, due[usize::from(port.0)]);
        }
        prop_assert_eq!(team.available(), BUFFERS);
    }
}

#[test]
fn one_mag_keeps_two_workers_equally_busy() {
    let two_queues = PortShare {
        queues: 2,
        ..ONE_QUEUE
    };
    let mut team = Team::new(2, [ONE_QUEUE, two_queues], 512);
    let mut sent = [0, 0];
    for round in 0..100 {
        for flow in 0..40 {
            assert!(team.ios[0].receive(CORE, &uplink(round * 40 + flow, 0)));
        }
        team.turn();
        for (worker, sent) in sent.iter_mut().enumerate() {
            *sent += team.sent(worker, EDGE).len();
        }
    }
    let [a, b] = sent;
    assert_eq!(a + b, 4000);
    assert!(a.abs_diff(b) * 10 < 4000, "{a} and {b}");
    let counters = team.counters();
    assert_eq!(counters[0].handed_over, b as u64);
    assert_eq!(counters[1].taken_over, b as u64);
    // Each worker counts what it did itself.
    assert_eq!(counters[0].lma_paths[1].in_packets, a as u64);
    assert_eq!(counters[1].lma_paths[1].in_packets, b as u64);
    assert_eq!(team.available(), BUFFERS);
}

#[test]
fn a_full_ring_drops_and_counts() {
    let mut team = Team::new(2, [ONE_QUEUE; 2], 8);
    for flow in 0..BURST as u16 {
        assert!(team.ios[0].receive(CORE, &uplink(flow, 0)));
    }
    team.workers[0].turn();
    team.check();
    let (dropped, handed) = (
        team.dropped(DropReason::SpreadRing),
        team.counters()[0].handed_over,
    );
    // Worker 0 keeps its half; its finished frames need the same ring, as worker 1 sends on EDGE.
    assert_eq!(handed, 8);
    assert!(dropped > 0);
    // What is finished is not lost: it waits, as for a busy port.
    assert_eq!(team.counters()[0].held, BURST as u64 - 8 - dropped);
    team.turn();
    assert_eq!((team.under_way(), team.counters()[0].held), (0, 0));
    assert_eq!(team.dropped(DropReason::SpreadRing), dropped);
    assert_eq!(team.sent(1, EDGE).len() as u64, BURST as u64 - dropped);
    assert_eq!(team.available(), BUFFERS);
}

#[test]
fn packets_in_rings_go_with_their_workers() {
    let mut team = Team::new(2, [ONE_QUEUE; 2], 64);
    let pool = team.ios[0].pool().clone();
    for flow in 0..64 {
        assert!(team.ios[0].receive(CORE, &uplink(flow, 0)));
    }
    team.workers[0].turn();
    assert!(team.under_way() > 0);
    drop(team);
    assert_eq!(pool.available(), BUFFERS);
}

/// Echo requests, solicitations, signalling, and what is dropped at once.
#[test]
fn what_is_for_us_stays() {
    let mut team = Team::new(2, [ONE_QUEUE; 2], 64);
    let mut frames = Vec::new();
    for n in 0..16 {
        let from: Ipv6Addr = Ipv6Addr::from_bits(cn().to_bits() + n);
        let echo = icmp(from, lmaa(), 128, [0, 0, 0, n as u8], b"echo");
        frames.push(ipv6(CN_MAC, PORT_MACS[0], from, lmaa(), 58, 64, &echo));
        frames.push(ipv6(
            MAG1_MAC,
            PORT_MACS[0],
            from,
            lmaa(),
            135,
            64,
            &[59, 0, 0, 0, 0, 0],
        ));
        frames.push(ipv6(MAG1_MAC, OTHER_MAC, from, mn(1), 17, 64, &[0; 8]));
    }
    for frame in &frames {
        assert!(team.ios[0].receive(CORE, frame));
    }
    for _ in 0..frames.len().div_ceil(BURST) {
        team.workers[0].turn();
    }
    let first = &team.counters()[0];
    assert_eq!((first.consumed, first.punted), (16, 16));
    assert_eq!(first.dropped(DropReason::NotForUs), 16);
    let punts = std::iter::from_fn(|| team.controls[0].pop_punt());
    let messages = punts.filter(|punt| matches!(punt, Punt::Mobility { .. }));
    assert_eq!(messages.count(), 16);
    // Only the answers that leave by the other port were handed over, as finished frames.
    team.turn();
    assert_eq!(team.counters()[1].originated, 0);
    assert_eq!(team.counters()[1].consumed, 0);
}

#[test]
fn a_port_that_spreads_by_itself_has_only_tunnels_spread() {
    let tunnels = PortShare {
        queues: 2,
        spread: Spread::Tunnelled,
    };
    let mut team = Team::new(2, [tunnels; 2], 64);
    for flow in 0..32 {
        assert!(team.ios[0].receive(EDGE, &downlink(flow, 0)));
    }
    team.turn();
    assert_eq!(team.counters()[0].handed_over, 0);
    assert_eq!(team.sent(0, CORE).len(), 32);
    for flow in 0..32 {
        assert!(team.ios[0].receive(CORE, &uplink(flow, 0)));
    }
    team.turn();
    let (kept, handed) = (team.sent(0, EDGE).len(), team.sent(1, EDGE).len());
    assert!(
        kept > 0 && handed > 0 && kept + handed == 32,
        "kept {kept}, handed {handed}: {:?}",
        team.counters()
    );

    // A tunnel encapsulation limit before the inner packet (RFC 2473 §4.1.1) changes nothing.
    for flow in 0..32 {
        let inner = udp(MN_MAC, CORE, mn(1), cn(), flow, &[0; 4]);
        let mut payload = vec![41, 0, 4, 1, 4, 1, 0, 0];
        payload.extend_from_slice(packet(&inner));
        let frame = ipv6(MAG1_MAC, PORT_MACS[0], mag1(), lmaa(), 60, 64, &payload);
        assert!(team.ios[0].receive(CORE, &frame));
    }
    team.turn();
    assert_eq!(
        (team.sent(0, EDGE).len(), team.sent(1, EDGE).len()),
        (kept, handed)
    );
}

/// Workers on threads of their own, one of which receives all; the order of each flow, and all
/// packets accounted for, whatever the scheduler does.
#[test]
fn threads_keep_the_order_under_load() {
    const PACKETS: u32 = 40_000;
    const FLOWS: u16 = 97;
    let mut team = Team::new(3, [ONE_QUEUE; 2], 64);
    let ready = AtomicBool::new(false);
    let mut seen = HashMap::new();
    let mut received = 0;
    let ios = team.ios.clone();
    std::thread::scope(|scope| {
        for worker in &mut team.workers {
            let ready = &ready;
            scope.spawn(move || {
                while !ready.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                worker.run();
            });
        }
        ready.store(true, Ordering::Release);
        let mut quiet = Instant::now();
        let mut number = 0;
        while number < PACKETS || quiet.elapsed() < Duration::from_millis(300) {
            for _ in 0..48 {
                let flow = (number % u32::from(FLOWS)) as u16;
                if number == PACKETS || !ios[0].receive(CORE, &uplink(flow, number)) {
                    break;
                }
                number += 1;
            }
            let frames: Vec<_> = std::iter::from_fn(|| ios[1].sent(EDGE)).collect();
            if !frames.is_empty() {
                quiet = Instant::now();
            }
            received += in_order(&frames, &mut seen) as u64;
        }
        for control in &mut team.controls {
            control.push(Update::Stop).unwrap();
        }
    });
    team.check();
    assert_eq!(team.under_way(), 0);
    let lost = team.dropped(DropReason::SpreadRing) + team.dropped(DropReason::TxFull);
    assert_eq!(received + lost, u64::from(PACKETS));
    assert!(received > 0);
    let counters = team.counters();
    assert!(counters.iter().all(|c| c.lma_paths[1].in_packets > 0));
    assert_eq!(team.available(), BUFFERS);
}

#[test]
fn fragments_of_a_tunnel_meet_at_one_worker_wherever_they_come_in() {
    let two_queues = |spread| PortShare { queues: 2, spread };
    for spread in [Spread::All, Spread::Tunnelled] {
        let mut team = Team::new(4, [two_queues(spread), ONE_QUEUE], 1024);
        // Different sizes and tunnels; the halves of each packet arrive on different queues.
        let packets: Vec<_> = (0..64_u16)
            .map(|n| {
                let (mobile, mag) = if n % 2 == 0 { (1, mag1()) } else { (2, mag2()) };
                let payload = vec![7; 600 + usize::from(n)];
                let inner = udp(MN_MAC, CORE, mn(mobile), cn(), n, &payload);
                (mag, packet(&inner).to_vec())
            })
            .collect();
        for (n, (mag, inner)) in packets.iter().enumerate() {
            let half = 320;
            for (place, body) in [(1, &inner[..half]), (half, &inner[half..])] {
                let [high, low] = (place as u16).to_be_bytes();
                let header = [41, 0, high, low, 0, 0, 0, n as u8];
                let payload = [&header[..], body].concat();
                let frame = ipv6(MAG1_MAC, PORT_MACS[0], *mag, lmaa(), 44, 64, &payload);
                assert!(team.ios[usize::from(place > 1)].receive(CORE, &frame));
            }
        }
        team.turn();
        let all = team.counters();
        let reassembled: Vec<u64> = all.iter().map(|c| c.reassembled).collect();
        assert_eq!(reassembled.iter().sum::<u64>(), 64, "{reassembled:?}");
        assert!(all.iter().all(|c| c.held == 0));
        // What a tunnel's packets hash to is where all of them went.
        assert!(reassembled.iter().filter(|n| **n > 0).count() <= 2);
        let sent: usize = (0..4).map(|worker| team.sent(worker, EDGE).len()).sum();
        assert_eq!(sent, 64);
    }
}
