//! Whole workers on memory ports, an LMA and a MAG at once: frames of strangers, updates, and time. It is
//! one that does all, or two of which one receives and sends and they share the flows.
//!
//! After every turn every packet is accounted for, no buffer is lost, what was sent is well-formed, and
//! what was punted is bounded by its rates.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arbitrary::Result;
use dataplane::io::memory::MemoryIo;
use dataplane::{
    Clock, ControlRings, LmaConfig, MagConfig, PacketBuf, PortConfig, PortShare, RingSizes, Spread,
    Worker, WorkerConfig, peers, rings,
};
use flow::{
    Binding, Fid, FidPriority, Filter, Hnp, Interval, Link, MacAddr, MobileId, Path, PathId,
    PortId, Punt, Role, Rule, RuleAction, Selector, TableUpdate, Transmit, TransmitTo, Tunnel,
    Update, WorkerId,
};
use nd::packet::{checksum, next_header};

use crate::choice::Choice;

const CORE: PortId = PortId(0);
const ACCESS: PortId = PortId(1);
const EDGE: PortId = PortId(2);
const PORTS: [PortId; 3] = [CORE, ACCESS, EDGE];
const MACS: [MacAddr; 3] = [
    MacAddr([2, 0, 0, 0, 0, 0x10]),
    MacAddr([2, 0, 0, 0, 0, 0x20]),
    MacAddr([2, 0, 0, 0, 0, 0x30]),
];
const STATION: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xaa]);
const NEIGHBOUR: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x11]);

const LMAA: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1);
const COA: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 2);
const MAG: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0xa);
const LMA: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0xb);
const CN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 5);

/// The prefixes of the mobiles at the LMA.
const POOL: &str = "2001:db8:100::/60";
const BUFFERS: usize = 96;
const STEPS: usize = 32;

/// Mobile `n` of the LMA's pool, or from 16 on of another LMA's.
const fn mobile(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x100, n, 0, 0, 0, 0x100)
}

fn hnp(n: u16) -> Hnp {
    Hnp::new(mobile(n), 64).expect("a prefix")
}

/// Runs a sequence of frames and updates.
pub fn run(data: &[u8]) {
    let mut choice = Choice::new(data);
    let Ok(several) = choice.flag() else {
        return;
    };
    let mut rig = Rig::new(if several { 2 } else { 1 });
    for _ in 0..STEPS {
        if rig.step(&mut choice).is_err() {
            break;
        }
    }
    rig.turn();
    rig.give_up();
}

struct Rig {
    seats: Vec<Seat>,
    /// By port: the ports of the worker that has its queue.
    ios: Vec<MemoryIo>,
    /// Milliseconds.
    clock: Arc<AtomicU64>,
    /// Next hops that were asked for.
    asked: Vec<(PortId, Ipv6Addr)>,
}

/// A worker, and its rings from the control plane's side.
struct Seat {
    worker: Worker<MemoryIo>,
    control: ControlRings,
}

impl Rig {
    fn new(workers: u16) -> Self {
        let io = MemoryIo::new(PORTS.len(), BUFFERS);
        let clock = Arc::new(AtomicU64::new(0));
        let one_queue = PortShare {
            queues: 1,
            spread: Spread::All,
        };
        // Few places, so that rings fill.
        let shared = peers(workers, &[one_queue; PORTS.len()], 8);
        let all: Vec<MemoryIo> = (0..workers).map(|_| io.sibling(PORTS.len())).collect();
        let owner = |port: PortId| {
            let has = |id: &u16| one_queue.queue_of(port, WorkerId(*id), workers).is_some();
            let id = (0..workers).find(has).expect("every port has a queue");
            all[usize::from(id)].clone()
        };
        let ios = PORTS.map(owner).to_vec();
        let seat = |((id, shared), io): ((u16, _), &MemoryIo)| {
            let (worker_end, control) = rings(RingSizes {
                updates: 128,
                punts: 16,
                reports: 4,
                captured: 4096,
            });
            let hand = Arc::clone(&clock);
            let time = Clock::new(move || Duration::from_millis(hand.load(Ordering::Relaxed)));
            let worker = Worker::with_clock(config(WorkerId(id)), io.clone(), worker_end, time);
            let worker = worker.expect("a good configuration");
            let worker = if workers > 1 {
                worker.with_peers(shared)
            } else {
                worker
            };
            Seat { worker, control }
        };
        let seats = (0..workers).zip(shared).zip(&all).map(seat).collect();
        let mut rig = Self {
            seats,
            ios,
            clock,
            asked: Vec::new(),
        };
        rig.furnish();
        rig
    }

    /// Tunnels to a MAG and to an LMA, mobiles 1 and 2 at that MAG, mobile 16 on the access port.
    fn furnish(&mut self) {
        for (port, address) in [(CORE, MAG), (CORE, LMA), (EDGE, CN)] {
            let mac = Some(NEIGHBOUR);
            self.update(&Update::Neighbour { port, address, mac });
        }
        self.path(Role::Lma, 0, Some(tunnel(LMAA, MAG)));
        self.path(Role::Mag, 0, Some(tunnel(COA, LMA)));
        let link = Link {
            port: ACCESS,
            mac: STATION,
        };
        self.path(Role::Mag, 1, Some(Path::Link(link)));
        for n in [1, 2] {
            self.binding(Role::Lma, n, Some(binding(n, 0, None, 3)));
        }
        self.binding(Role::Mag, 16, Some(binding(16, 1, Some(PathId(0)), 0)));
        self.turn();
    }

    fn step(&mut self, choice: &mut Choice<'_>) -> Result<()> {
        match choice.below(8)? {
            0..5 => {
                let port = choice.pick(&PORTS)?;
                let frame = frame(choice, port)?;
                // Without a buffer the port drops it: nothing that a worker sees.
                let _came = self.ios[usize::from(port.0)].receive(port, &frame);
            }
            5 => self.turn(),
            6 => {
                let wait = choice.time()?.as_millis().try_into().unwrap_or(0);
                self.clock.fetch_add(wait, Ordering::Relaxed);
                self.notice();
                self.turn();
            }
            _ => self.change(choice)?,
        }
        Ok(())
    }

    /// One update of the control plane.
    fn change(&mut self, choice: &mut Choice<'_>) -> Result<()> {
        let n = choice.pick(&[1, 2, 3, 16])?;
        let role = choice.pick(&[Role::Lma, Role::Mag])?;
        match choice.below(9)? {
            0 => {
                let rules = choice.pick(&[0, 1, 4, 5, 16, 64])?;
                let path = choice.pick(&[0, 1, 2])?;
                let uplink = choice.perhaps(&[PathId(0), PathId(1)])?;
                self.binding(role, n, Some(binding(n, path, uplink, rules)));
            }
            1 => self.binding(role, n, None),
            2 => {
                let remote = choice.pick(&[MAG, LMA, CN, LMAA])?;
                let path = choice.perhaps(&[tunnel(LMAA, remote), tunnel(COA, remote)])?;
                self.path(role, choice.pick(&[0, 1, 2])?, path);
            }
            3 => {
                let address = choice.pick(&[MAG, LMA, CN, mobile(n)])?;
                let mac = choice.perhaps(&[NEIGHBOUR])?;
                let port = choice.pick(&PORTS)?;
                self.update(&Update::Neighbour { port, address, mac });
            }
            4 => {
                // The control plane's packets are whole.
                let body = choice.octets()?;
                let (header, to) = (choice.pick(&HEADERS)?, choice.pick(&ADDRESSES)?);
                let packet = nd::packet::ipv6_packet(LMAA, to, header, 64, body);
                let to = choice.pick(&[TransmitTo::Routed, TransmitTo::Link(ACCESS, STATION)])?;
                self.update(&Update::Transmit(Box::new(Transmit { packet, to })));
            }
            5 => {
                let mobiles =
                    choice.perhaps(&[(Role::Lma, MobileId(1)), (Role::Mag, MobileId(16))])?;
                let filter = Filter {
                    mobiles: mobiles.map(|mobile| vec![mobile]),
                    peer: choice.perhaps(&[MAG, LMA])?,
                    port: choice.perhaps(&PORTS)?,
                    octets: choice.pick(&[0, 60])?,
                    ..Filter::default()
                };
                let filter = choice.perhaps(&[Arc::new(filter)])?;
                self.update(&Update::Capture(filter));
            }
            6 => {
                let peers = choice.pick(&[&[MAG, LMA][..], &[CN], &[]])?;
                self.update(&Update::Peers(peers.to_vec()));
            }
            7 => {
                // One that prefixes may be in stays.
                let other = choice.perhaps(&["2001:db8:200::/40", "2001:db8:200:1::/80"])?;
                let pools = std::iter::once(POOL).chain(other);
                let pools = pools.map(|pool| pool.parse().expect("a prefix"));
                self.update(&Update::Pools(pools.collect()));
            }
            _ => {
                if let Some((port, address)) = self.asked.last().copied() {
                    let mac = choice.perhaps(&[NEIGHBOUR])?;
                    self.asked.pop();
                    self.update(&Update::Neighbour { port, address, mac });
                }
            }
        }
        Ok(())
    }

    fn update(&mut self, update: &Update) {
        for seat in 0..self.seats.len() {
            if let Err(update) = self.seats[seat].control.push(update.clone()) {
                self.turn();
                let again = self.seats[seat].control.push(update);
                again.expect("a turn makes room");
            }
        }
    }

    fn path(&mut self, role: Role, id: u16, path: Option<Path>) {
        let id = PathId(id);
        self.update(&Update::Table(role, TableUpdate::Path { id, path }));
    }

    fn binding(&mut self, role: Role, n: u16, binding: Option<Binding>) {
        let (hnp, binding) = (hnp(n), binding.map(Box::new));
        self.update(&Update::Table(role, TableUpdate::Binding { hnp, binding }));
    }

    /// Turns until nothing comes in, and checks what came of it.
    fn turn(&mut self) {
        // What one sent for another in a round without packets is there in the next.
        let mut quiet = 0;
        while quiet < 2 {
            let came: usize = self.seats.iter_mut().map(|s| s.worker.turn()).sum();
            quiet = if came == 0 { quiet + 1 } else { 0 };
        }
        let seats = self.seats.iter_mut();
        let punts = seats.flat_map(|seat| std::iter::from_fn(|| seat.control.pop_punt()));
        for punt in punts {
            match punt {
                Punt::Mobility { packet, .. } => assert!(packet.len() >= 40),
                Punt::NeighbourDiscovery { packet, .. } => assert_eq!(packet[7], 255),
                Punt::Resolve { port, next_hop } => self.asked.push((port, next_hop)),
                Punt::PathMtu { mtu, .. } => assert!(mtu >= 1280),
                Punt::UnknownMobile { port, .. } => assert_eq!(port, ACCESS),
            }
        }
        let mut frame = Vec::new();
        for seat in &mut self.seats {
            while let Some(seen) = seat.control.pop_seen(&mut frame) {
                assert_eq!(seen.captured as usize, frame.len());
                assert!(seen.captured <= seen.len);
            }
        }
        self.check();
    }

    /// Lets every worker look at the clock, which it does not do in every turn.
    fn notice(&mut self) {
        for seat in &mut self.seats {
            for _ in 0..32 {
                seat.worker.turn();
            }
        }
    }

    /// Packets that are held by anyone.
    fn held(&self) -> u64 {
        let held = self.seats.iter().map(|seat| seat.worker.counters().held);
        held.sum()
    }

    fn check(&mut self) {
        for seat in &self.seats {
            let c = seat.worker.counters();
            let received: u64 = c.ports.iter().map(|port| port.rx_packets).sum();
            let sent: u64 = c.ports.iter().map(|port| port.tx_packets).sum();
            let dropped: u64 = c.drops.iter().sum();
            let ends = sent + dropped + c.punted + c.consumed + c.held + c.handed_over;
            assert_eq!(received + c.originated + c.taken_over, ends, "{c:?}");
        }
        for ((port, mac), io) in PORTS.iter().zip(MACS).zip(&self.ios) {
            while let Some(packet) = io.sent_packet(*port) {
                well_formed(packet.data(), mac, *port == ACCESS);
            }
        }
        let held = usize::try_from(self.held()).expect("few");
        assert_eq!(
            self.ios[0].pool().available() + held,
            BUFFERS,
            "a buffer is lost"
        );
    }

    /// Nothing is held for ever: when the neighbours do not answer, all that waits is dropped.
    fn give_up(&mut self) {
        for _ in 0..8 {
            self.clock.fetch_add(3_600_000, Ordering::Relaxed);
            self.notice();
            self.turn();
            for (port, address) in std::mem::take(&mut self.asked) {
                let mac = None;
                self.update(&Update::Neighbour { port, address, mac });
            }
            self.turn();
            if self.held() == 0 {
                return;
            }
        }
        panic!("{} packets are held for ever", self.held());
    }
}

/// A frame that was sent is an IPv6 packet of the length it says, from our station.
fn well_formed(frame: &[u8], mac: MacAddr, access: bool) {
    assert!(frame.len() >= 54);
    let from = &frame[6..12];
    assert!(from == mac.0 || (access && from == MacAddr::MAG.0));
    assert_eq!(frame[12..14], [0x86, 0xdd]);
    assert_eq!(frame[14] >> 4, 6);
    let len = u16::from_be_bytes([frame[18], frame[19]]);
    assert_eq!(frame.len(), 54 + usize::from(len));
}

fn config(id: WorkerId) -> WorkerConfig {
    let port = |id: PortId, address: &str, access| PortConfig {
        id,
        mac: MACS[usize::from(id.0)],
        mtu: 1500,
        addresses: vec![address.parse().expect("a prefix")],
        access,
    };
    let ports = vec![
        port(CORE, "2001:db8:f::1/64", false),
        port(ACCESS, "2001:db8:e::1/64", true),
        port(EDGE, "2001:db8:c::1/64", false),
    ];
    let lma = LmaConfig {
        addresses: vec![LMAA],
        pools: vec![POOL.parse().expect("a prefix")],
        expected_bindings: 8,
        other_lengths: 8,
    };
    let mag = MagConfig {
        addresses: vec![COA],
        expected_bindings: 8,
        other_lengths: 8,
    };
    WorkerConfig {
        lma: Some(lma),
        mag: Some(mag),
        peers: vec![MAG, LMA],
        ..WorkerConfig::new(id, ports)
    }
}

fn tunnel(local: Ipv6Addr, remote: Ipv6Addr) -> Path {
    Path::Tunnel(Tunnel {
        local,
        remote,
        hop_limit: 64,
        path_mtu: 1400,
        copy_dscp: true,
        encapsulation_limit: None,
    })
}

fn binding(n: u16, path: u16, uplink: Option<PathId>, rules: u16) -> Binding {
    let rule = |number: u16| {
        let (fid, priority) = (Fid::new(number)?, FidPriority::new(number)?);
        let port = Interval::single(5000 + number);
        let selector = Selector {
            destination_port: (!number.is_multiple_of(2)).then_some(port),
            flow_label: Interval::new(0, u32::from(number) << 12),
            spi: (number == 4).then_some(Interval::single(4)),
            next_header: Some(Interval::single(17)),
            ..Selector::<Ipv6Addr>::default()
        };
        let action = match number % 3 {
            0 => RuleAction::Drop,
            _ => RuleAction::Forward(PathId(path)),
        };
        Some(Rule {
            fid,
            priority,
            selector: selector.into(),
            action,
        })
    };
    Binding {
        mobile: MobileId(n.into()),
        default_path: Some(PathId(path)),
        sources: vec![PathId(path)],
        uplink,
        // No octet of its own, so that inputs kept from before still mean the same.
        local: !rules.is_multiple_of(2),
        rules: (1..=rules).filter_map(rule).collect(),
    }
}

/// A frame to one of the ports: any octets, with as much made right as the first octet says.
fn frame(choice: &mut Choice<'_>, port: PortId) -> Result<Vec<u8>> {
    const ADDRESSED: u8 = 0x80;
    const INNER: u8 = 0x40;
    const TUNNELLED: u8 = 0x20;
    const LONG: u8 = 0x10;
    let how = choice.octet()?;
    let mut packet = Vec::new();
    let octets;
    if how & INNER == 0 {
        octets = choice.octets()?;
        packet.extend(octets);
    } else {
        let (from, to) = (choice.pick(&ADDRESSES)?, choice.pick(&ADDRESSES)?);
        let header = choice.pick(&HEADERS)?;
        let hop_limit = choice.pick(&[64, 255, 1, 0])?;
        let class = choice.octet()?;
        octets = choice.octets()?;
        packet.extend([0x60 | class >> 4, class << 4, 0, 0, 0, 0, header, hop_limit]);
        packet.extend(from.octets());
        packet.extend(to.octets());
        packet.extend(octets);
    }
    if how & LONG != 0 {
        packet.resize(packet.len() + 1300, how);
    }
    if how & ADDRESSED != 0 {
        mend(&mut packet);
    }
    if how & TUNNELLED != 0 {
        let ends = [(MAG, LMAA), (LMA, COA), (MAG, COA), (CN, LMAA)];
        let (from, to) = choice.pick(&ends)?;
        packet = nd::packet::ipv6_packet(from, to, 41, 64, &packet);
    }
    let mut frame = Vec::with_capacity(14 + packet.len());
    if how & (ADDRESSED | INNER) != 0 {
        let macs = [
            MACS[usize::from(port.0)],
            MacAddr::MAG,
            MacAddr([0x33, 0x33, 0xff, 0, 0, 1]),
        ];
        frame.extend(choice.pick(&macs)?.0);
        frame.extend(choice.pick(&[STATION, NEIGHBOUR, MacAddr([2; 6])])?.0);
        frame.extend([0x86, 0xdd]);
    }
    frame.extend(packet);
    Ok(frame)
}

/// Addresses that mean something here.
const ADDRESSES: [Ipv6Addr; 12] = [
    LMAA,
    COA,
    MAG,
    LMA,
    CN,
    mobile(1),
    mobile(2),
    mobile(3),
    mobile(16),
    Ipv6Addr::UNSPECIFIED,
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0x200, 0x5eff, 0xfe00, 0x5213),
];

/// Next headers that mean something here.
const HEADERS: [u8; 12] = [0, 6, 17, 41, 43, 44, 50, 51, 58, 59, 60, 135];

/// Makes length and ICMPv6 checksum right.
fn mend(packet: &mut [u8]) {
    let Some(len) = packet.len().checked_sub(40) else {
        return;
    };
    packet[0] = 0x60 | packet[0] & 0xf;
    let len = u16::try_from(len).unwrap_or(u16::MAX);
    packet[4..6].copy_from_slice(&len.to_be_bytes());
    if packet[6] == next_header::ICMPV6 && packet.len() >= 44 {
        packet[42..44].fill(0);
        let source: [u8; 16] = packet[8..24].try_into().unwrap();
        let destination: [u8; 16] = packet[24..40].try_into().unwrap();
        let (source, destination) = (Ipv6Addr::from(source), Ipv6Addr::from(destination));
        let sum = checksum(source, destination, next_header::ICMPV6, &packet[40..]);
        packet[42..44].copy_from_slice(&sum.to_be_bytes());
    }
}
