//! A worker on DPDK ports that read and write capture files: the same frames through real queues
//! and real buffers. DPDK starts once a process, so this file has one test.
#![cfg(feature = "dpdk")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::*;
use dataplane::io::dpdk::DpdkIo;
use dataplane::worker::Clock;
use dataplane::{ControlRings, RingSizes, Worker, WorkerConfig, rings};
use dpdk::{Device, Eal, EalConfig, Mempool, MempoolConfig, Port, PortConfig};
use etherparse::IpNumber;
use flow::{Counters, DropReason, Role, RuleAction, TableUpdate, Update};
use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};

const PACKETS: u32 = 4095;

fn write(path: &Path, frames: &[Vec<u8>]) {
    let mut writer = PcapWriter::new(File::create(path).unwrap()).unwrap();
    for frame in frames {
        let len = u32::try_from(frame.len()).unwrap();
        writer
            .write_packet(&PcapPacket::new(Duration::ZERO, len, frame))
            .unwrap();
    }
}

fn read(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::new(File::open(path).unwrap()).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        frames.push(packet.unwrap().data.into_owned());
    }
    frames
}

/// A worker whose two ports each read one file and write another.
struct Files {
    worker: Worker<DpdkIo>,
    control: ControlRings,
    ports: Vec<Port>,
    outputs: [PathBuf; 2],
    pool: Mempool,
}

impl Files {
    /// Ports of which CORE receives the first frames and EDGE the others.
    fn new(
        eal: &Eal,
        directory: &Path,
        name: &str,
        config: WorkerConfig,
        rx: [&[Vec<u8>]; 2],
    ) -> Self {
        let wanted = MempoolConfig {
            name: name.into(),
            count: PACKETS,
            ..MempoolConfig::default()
        };
        let pool = Mempool::new(eal, &wanted).unwrap();
        let mut io = DpdkIo::new(pool.clone());
        let mut ports = Vec::new();
        let file = |port: usize, way: &str| directory.join(format!("{name}-{port}-{way}.pcap"));
        for (number, frames) in rx.iter().enumerate() {
            let input = file(number, "in");
            write(&input, frames);
            let device = Device::Pcap {
                input,
                output: file(number, "out"),
            };
            // DPDK's names of devices are for the whole process, and so are ours.
            let index = eal_index();
            let mut port = Port::open(eal, &device, index, &PortConfig::default(), &pool).unwrap();
            let (rx, tx) = port.start().unwrap().pop().unwrap();
            io.add_port(rx, tx);
            ports.push(port);
        }
        let (worker_end, control) = rings(RingSizes::default());
        let clock = Clock::new(|| Duration::ZERO);
        let worker = Worker::with_clock(config, io, worker_end, clock).unwrap();
        let outputs = [0, 1].map(|number| file(number, "out"));
        Self {
            worker,
            control,
            ports,
            outputs,
            pool,
        }
    }

    fn update(&mut self, update: Update) {
        self.control.push(update).unwrap();
    }

    /// Turns until the files are at their ends; then nothing is left anywhere. Returns what was
    /// sent on CORE and on EDGE.
    fn run(mut self) -> ([Vec<Vec<u8>>; 2], Counters) {
        // Everything is told before the first packet, and a burst need not be full.
        while self.worker.turn() > 0 {}
        assert_eq!(self.worker.turn(), 0);
        let counters = self.worker.counters();
        let c = &counters;
        let rx: u64 = c.ports.iter().map(|p| p.rx_packets).sum();
        let tx: u64 = c.ports.iter().map(|p| p.tx_packets).sum();
        let drops: u64 = c.drops.iter().sum();
        assert_eq!(
            rx + c.originated,
            tx + drops + c.punted + c.consumed + c.held,
            "{c:?}"
        );
        let held = usize::try_from(c.held).unwrap();
        assert_eq!(self.pool.in_use(), held, "a buffer is lost");
        // What the worker counted is what the driver did.
        for (port, counted) in self.ports.iter().zip(&c.ports) {
            let stats = port.stats().unwrap();
            assert_eq!(
                (stats.rx_packets, stats.tx_packets),
                (counted.rx_packets, counted.tx_packets)
            );
        }
        let Self {
            worker,
            ports,
            outputs,
            pool,
            ..
        } = self;
        // The files are complete when the ports are closed.
        drop((worker, ports));
        assert_eq!(
            (pool.available(), pool.in_use()),
            (PACKETS as usize, 0),
            "a buffer is lost"
        );
        (outputs.map(|path| read(&path)), counters)
    }
}

/// A number that no port of this process has had.
fn eal_index() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[test]
fn through_capture_files() {
    let eal = Eal::init(&EalConfig {
        memory_mib: 96,
        ..EalConfig::default()
    })
    .unwrap();
    let directory = tempfile::tempdir().unwrap();
    an_anchor(&eal, directory.path());
    a_gateway(&eal, directory.path());
    rubbish(&eal, directory.path());
}

/// More than a burst each way, of many lengths, mixed with packets that must not pass.
fn an_anchor(eal: &Eal, directory: &Path) {
    let payload = |n: usize| vec![0x5a; n * 13 % 1400];
    let inner = |n: usize| packet(&udp(MN_MAC, CORE, mn(1), cn(), 5001, &payload(n))).to_vec();
    // One octet more than fits, first: ICMPv6 errors are limited.
    let mut edge = vec![udp(CN_MAC, EDGE, cn(), mn(1), 5001, &[0; 1461 - 48])];
    let mut core = Vec::new();
    for n in 0..100 {
        // To MAG1 by default, to MAG2 by a rule, to nobody.
        edge.push(udp(CN_MAC, EDGE, cn(), mn(1), 5001, &payload(n)));
        edge.push(udp(CN_MAC, EDGE, cn(), mn(1), 5002, &payload(n)));
        edge.push(udp(CN_MAC, EDGE, cn(), mn(77), 5001, b"unknown"));
        // From MAG1 and MAG2, both of which have the mobile now, and from one that does not exist.
        core.push(tunnelled(MAG1_MAC, mag1(), lmaa(), &inner(n)));
        core.push(tunnelled(MAG2_MAC, mag2(), lmaa(), &inner(n)));
        core.push(tunnelled(
            MAG2_MAC,
            ip("2001:db8:ffff::13"),
            lmaa(),
            &inner(n),
        ));
    }
    let mut files = Files::new(eal, directory, "lma", Rig::lma_config(), [&core, &edge]);
    for (port, address, mac) in [
        (CORE, mag1(), MAG1_MAC),
        (CORE, mag2(), MAG2_MAC),
        (EDGE, cn(), CN_MAC),
    ] {
        files.update(Update::Neighbour {
            port,
            address,
            mac: Some(mac),
        });
    }
    for (id, remote) in [(1, mag1()), (2, mag2())] {
        let (id, path) = (flow::PathId(id), Some(tunnel(lmaa(), remote)));
        files.update(Update::Table(Role::Lma, TableUpdate::Path { id, path }));
    }
    let mut binding = lma_binding(1, &[1, 2]).unwrap();
    binding.rules = vec![rule(1, 5002, RuleAction::Forward(flow::PathId(2)))];
    let (hnp, binding) = (hnp(1), Some(Box::new(binding)));
    files.update(Update::Table(
        Role::Lma,
        TableUpdate::Binding { hnp, binding },
    ));
    let ([to_core, to_edge], counters) = files.run();

    // Downlink: in order, each in its tunnel, and byte for byte what came but for the hop limit.
    assert_eq!(to_core.len(), 200);
    for (n, pair) in to_core.chunks(2).enumerate() {
        let came = &edge[3 * n + 1..3 * n + 3];
        for ((out, came), (mac, remote)) in pair
            .iter()
            .zip(came)
            .zip([(MAG1_MAC, mag1()), (MAG2_MAC, mag2())])
        {
            let (ethernet, outer, rest) = parse(out);
            assert_eq!(
                (ethernet.source, ethernet.destination),
                (PORT_MACS[0].0, mac.0)
            );
            assert_eq!(
                (outer.source_addr(), outer.destination_addr()),
                (lmaa(), remote)
            );
            assert_eq!((outer.next_header, outer.hop_limit), (IpNumber::IPV6, 64));
            let mut expected = packet(came).to_vec();
            expected[7] -= 1;
            assert_eq!(rest, expected, "packet {n}");
        }
    }
    // Uplink: bared, in order, and only from the two. Errors to the CN are in between.
    let (errors, bared): (Vec<_>, Vec<_>) = to_edge
        .iter()
        .partition(|frame| parse(frame).1.next_header == IpNumber::IPV6_ICMP);
    assert_eq!(bared.len(), 200);
    for (n, out) in bared.iter().enumerate() {
        let (ethernet, _, _) = parse(out);
        assert_eq!(
            (ethernet.source, ethernet.destination),
            (PORT_MACS[1].0, CN_MAC.0)
        );
        let mut expected = inner(n / 2);
        expected[7] -= 1;
        assert_eq!(packet(out), expected, "packet {n}");
    }
    let too_big = errors
        .iter()
        .map(|frame| parse_icmp(frame))
        .filter(|(kind, ..)| *kind == 2);
    let too_big: Vec<_> = too_big.map(|(_, _, mtu, _)| mtu).collect();
    assert_eq!(too_big, [1460]);
    assert!(!errors.is_empty() && errors.len() as u64 == counters.originated);
    assert_eq!(counters.dropped(DropReason::NoBinding), 100);
    assert_eq!(counters.dropped(DropReason::NoTunnel), 100);
    assert_eq!(counters.dropped(DropReason::TooBig), 1);
    assert_eq!(counters.drops.iter().sum::<u64>(), 201);
    assert_eq!(counters.held, 0);
    assert_eq!(
        (counters.ports[0].rx_packets, counters.ports[1].rx_packets),
        (300, 301)
    );
}

/// Both ways at a gateway; a source that is not the mobile's stays out.
fn a_gateway(eal: &Eal, directory: &Path) {
    let down = packet(&udp(CN_MAC, CORE, cn(), mn(1), 5001, b"down")).to_vec();
    let core = [tunnelled(LMA_MAC, lmaa(), mag1(), &down)];
    let edge = [
        udp(MN_MAC, EDGE, mn(1), cn(), 5001, b"up"),
        udp(MN_MAC, EDGE, mn(2), cn(), 5001, b"another's"),
    ];
    let mut files = Files::new(eal, directory, "mag", Rig::mag_config(), [&core, &edge]);
    files.update(Update::Neighbour {
        port: CORE,
        address: lmaa(),
        mac: Some(LMA_MAC),
    });
    let link = flow::Path::Link(flow::Link {
        port: EDGE,
        mac: MN_MAC,
    });
    for (id, path) in [(1, tunnel(mag1(), lmaa())), (2, link)] {
        let (id, path) = (flow::PathId(id), Some(path));
        files.update(Update::Table(Role::Mag, TableUpdate::Path { id, path }));
    }
    let binding = flow::Binding {
        mobile: flow::MobileId(1),
        default_path: Some(flow::PathId(2)),
        sources: vec![flow::PathId(2)],
        uplink: Some(flow::PathId(1)),
        local: false,
        rules: vec![],
    };
    let (hnp, binding) = (hnp(1), Some(Box::new(binding)));
    files.update(Update::Table(
        Role::Mag,
        TableUpdate::Binding { hnp, binding },
    ));
    let ([to_core, to_edge], counters) = files.run();

    let [up] = to_core.as_slice() else {
        panic!("{to_core:x?}")
    };
    let (ethernet, outer, rest) = parse(up);
    assert_eq!(ethernet.destination, LMA_MAC.0);
    assert_eq!(
        (outer.source_addr(), outer.destination_addr()),
        (mag1(), lmaa())
    );
    let mut expected = packet(&edge[0]).to_vec();
    expected[7] = rest[7];
    assert_eq!(rest, expected);
    let [bared] = to_edge.as_slice() else {
        panic!("{to_edge:x?}")
    };
    assert_eq!(parse(bared).0.destination, MN_MAC.0);
    let mut expected = down;
    expected[7] = packet(bared)[7];
    assert_eq!(packet(bared), expected);
    assert_eq!(counters.dropped(DropReason::IngressFilter), 1);
    assert_eq!(counters.drops.iter().sum::<u64>(), 1);
}

/// Frames of every length cut from good ones, and with every octet of the headers spoilt: whatever
/// becomes of them, none is lost without account, and none takes a buffer with it.
fn rubbish(eal: &Eal, directory: &Path) {
    let inner = packet(&udp(MN_MAC, CORE, mn(1), cn(), 5001, b"uplink")).to_vec();
    let good = tunnelled(MAG1_MAC, mag1(), lmaa(), &inner);
    let mut core: Vec<_> = (14..good.len()).map(|len| good[..len].to_vec()).collect();
    for at in 0..14 + 80 {
        for flip in [0x01, 0x80, 0xff] {
            let mut frame = good.clone();
            frame[at] ^= flip;
            core.push(frame);
        }
    }
    let edge: Vec<_> = core
        .iter()
        .map(|frame| frame.iter().rev().copied().collect())
        .collect();
    let files = Files::new(eal, directory, "rubbish", Rig::lma_config(), [&core, &edge]);
    let (_, counters) = files.run();
    let received: u64 = counters.ports.iter().map(|port| port.rx_packets).sum();
    assert_eq!(received, 2 * core.len() as u64);
    assert!(
        counters.drops.iter().filter(|n| **n > 0).count() > 3,
        "{counters:?}"
    );
}
