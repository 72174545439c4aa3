//! Two workers on threads of their own share capture files, which have one queue each: real queues,
//! real buffers. DPDK starts once a process, so this file has one test.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use common::*;
use dataplane::io::dpdk::DpdkIo;
use dataplane::{Idle, PortShare, RingSizes, Spread, Worker, WorkerConfig, peers, rings};
use dpdk::{Device, Eal, EalConfig, Mempool, MempoolConfig, Port, PortConfig};
use flow::{PathId, PortId, Role, TableUpdate, Update, WorkerId};
use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};

const WORKERS: u16 = 2;
const FRAMES: u32 = 3000;
const FLOWS: u32 = 251;

/// All from one MAG: flow and number of each are in the inner packet.
fn uplink(number: u32) -> Vec<u8> {
    let flow = u16::try_from(number % FLOWS).unwrap();
    let inner = udp(MN_MAC, CORE, mn(1), cn(), flow, &number.to_be_bytes());
    tunnelled(MAG1_MAC, mag1(), lmaa(), packet(&inner))
}

fn write(path: &Path, frames: impl Iterator<Item = Vec<u8>>) {
    let mut writer = PcapWriter::new(File::create(path).unwrap()).unwrap();
    for frame in frames {
        let len = u32::try_from(frame.len()).unwrap();
        let packet = PcapPacket::new(Duration::ZERO, len, &frame);
        writer.write_packet(&packet).unwrap();
    }
}

fn updates() -> Vec<Update> {
    let neighbour = |port, address, mac| Update::Neighbour {
        port,
        address,
        mac: Some(mac),
    };
    let table = |update| Update::Table(Role::Lma, update);
    vec![
        neighbour(CORE, mag1(), MAG1_MAC),
        neighbour(EDGE, cn(), CN_MAC),
        table(TableUpdate::Path {
            id: PathId(1),
            path: Some(tunnel(lmaa(), mag1())),
        }),
        table(TableUpdate::Binding {
            hnp: hnp(1),
            binding: lma_binding(1, &[1]).map(Box::new),
        }),
    ]
}

/// The capture files as ports, and each worker's queues on them.
fn open(eal: &Eal, pool: &Mempool, directory: &Path) -> ([DpdkIo; 2], Vec<Port>, Vec<PortShare>) {
    let mut ios = [0, 1].map(|_| DpdkIo::new(pool.clone()));
    let mut ports = Vec::new();
    let mut shares = Vec::new();
    for (index, name) in [(0, "core"), (1, "edge")] {
        let device = Device::Pcap {
            input: directory.join(format!("{name}-in")),
            output: directory.join(format!("{name}-out")),
        };
        let wanted = PortConfig {
            queues: WORKERS,
            ..PortConfig::default()
        };
        let mut port = Port::open_at_most(eal, &device, index, &wanted, pool).unwrap();
        let share = PortShare {
            queues: port.queues(),
            spread: Spread::All,
        };
        let mut queues: Vec<_> = port.start().unwrap().into_iter().map(Some).collect();
        assert_eq!(queues.len(), 1);
        for (id, io) in (0..).map(WorkerId).zip(&mut ios) {
            match share.queue_of(PortId(index), id, WORKERS) {
                Some(queue) => {
                    let (rx, tx) = queues[usize::from(queue)].take().unwrap();
                    io.add_port(rx, tx);
                }
                None => io.skip_port(),
            }
        }
        ports.push(port);
        shares.push(share);
    }
    (ios, ports, shares)
}

#[test]
fn two_workers_share_a_port_with_one_queue() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    write(&file("core-in"), (0..FRAMES).map(uplink));
    write(&file("edge-in"), std::iter::empty());

    let eal = Eal::init(&EalConfig {
        memory_mib: 64,
        ..EalConfig::default()
    })
    .unwrap();
    let pool = Mempool::new(
        &eal,
        &MempoolConfig {
            name: "spread".into(),
            count: 8191,
            ..MempoolConfig::default()
        },
    )
    .unwrap();
    let (ios, ports, shares) = open(&eal, &pool, directory.path());

    let mut controls = Vec::new();
    let mut threads = Vec::new();
    for ((id, io), peers) in (0..)
        .map(WorkerId)
        .zip(ios)
        .zip(peers(WORKERS, &shares, 4096))
    {
        let config = WorkerConfig {
            id,
            idle: Idle::Adaptive {
                spins: 16,
                sleep: Duration::from_micros(50),
            },
            ..Rig::lma_config()
        };
        let (end, mut control) = rings(RingSizes::default());
        for update in updates() {
            control.push(update).unwrap();
        }
        let mut worker = Worker::new(config, io, end).unwrap().with_peers(peers);
        controls.push(control);
        threads.push(move || {
            worker.run();
            worker.counters()
        });
    }
    // Worker 1 first, so that its tables are filled when worker 0 starts to read.
    let mut running: Vec<_> = Vec::new();
    for (thread, control) in threads.into_iter().zip(&controls).rev() {
        running.push(std::thread::spawn(thread));
        let deadline = Instant::now() + Duration::from_secs(10);
        while control.applied() < control.pushed() {
            assert!(Instant::now() < deadline, "the worker does not start");
            std::thread::yield_now();
        }
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while ports[1].stats().unwrap().tx_packets < u64::from(FRAMES) {
        assert!(Instant::now() < deadline, "packets are missing");
        std::thread::sleep(Duration::from_millis(5));
    }
    for control in &mut controls {
        control.push(Update::Stop).unwrap();
    }
    let counters: Vec<_> = running.into_iter().map(|t| t.join().unwrap()).collect();
    drop(ports);

    let [second, first] = <[_; 2]>::try_from(counters).unwrap();
    assert_eq!(first.ports[0].rx_packets, u64::from(FRAMES));
    assert_eq!(second.ports[1].tx_packets, u64::from(FRAMES));
    for worker in [&first, &second] {
        let done = worker.lma_paths[1].in_packets;
        assert!(done * 4 > u64::from(FRAMES), "{done} of {FRAMES}");
        assert_eq!(worker.drops.iter().sum::<u64>(), 0);
    }
    // What worker 0 does not decapsulate goes over as it is; what it does, as finished frames.
    assert_eq!(first.handed_over, u64::from(FRAMES));
    assert_eq!(second.taken_over, u64::from(FRAMES));
    assert_eq!(pool.in_use(), 0);

    in_order(&file("edge-out"));
}

/// Checks that all frames are there, those of each flow in order.
fn in_order(path: &Path) {
    let mut reader = PcapReader::new(File::open(path).unwrap()).unwrap();
    let mut last = HashMap::new();
    let mut count = 0;
    while let Some(frame) = reader.next_packet() {
        let frame = frame.unwrap().data;
        let number = u32::from_be_bytes(frame[62..66].try_into().unwrap());
        let before = last.insert(number % FLOWS, number);
        assert!(before < Some(number), "{before:?} then {number}");
        count += 1;
    }
    assert_eq!(count, FRAMES);
}
