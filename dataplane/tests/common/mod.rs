//! A worker on memory ports, and packets for it.
#![allow(
    dead_code,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unnecessary_wraps,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    unreachable_pub,
    missing_docs,
    reason = "each test file uses its share of this, and none of it is an interface"
)]

use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dataplane::io::memory::MemoryIo;
use dataplane::worker::Clock;
use dataplane::{
    ControlRings, LmaConfig, MagConfig, PortConfig, RingSizes, Worker, WorkerConfig, rings,
};
use etherparse::{Ethernet2Header, IpNumber, Ipv6Header, PacketBuilder};
use flow::{
    Binding, Counters, DropReason, Fid, FidPriority, Hnp, Interval, Link, MacAddr, MobileId, Path,
    PathId, PortId, Punt, Role, Rule, RuleAction, Selector, TableUpdate, Tunnel, Update, WorkerId,
};

pub const CORE: PortId = PortId(0);
pub const EDGE: PortId = PortId(1);
pub const BUFFERS: usize = 512;

pub const PORT_MACS: [MacAddr; 2] = [
    MacAddr([2, 0, 0, 0, 0, 0x10]),
    MacAddr([2, 0, 0, 0, 0, 0x20]),
];
pub const MAG1_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x11]);
pub const MAG2_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x12]);
pub const LMA_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x01]);
pub const CN_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xcc]);
pub const MN_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xaa]);

pub fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

pub fn lmaa() -> Ipv6Addr {
    ip("2001:db8:ffff::1")
}
pub fn mag1() -> Ipv6Addr {
    ip("2001:db8:ffff::11")
}
pub fn mag2() -> Ipv6Addr {
    ip("2001:db8:ffff::12")
}
pub fn cn() -> Ipv6Addr {
    ip("2001:db8:1::c")
}
/// Mobile `n`, whose prefix is `2001:db8:100:n::/64`.
pub fn mn(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x100, n, 0, 0, 0, 0x100)
}
pub fn hnp(n: u16) -> Hnp {
    Hnp::new(mn(n), 64).unwrap()
}

pub struct Rig {
    pub worker: Worker<MemoryIo>,
    pub control: ControlRings,
    pub io: MemoryIo,
}

pub fn port(id: PortId, address: Option<&str>, access: bool) -> PortConfig {
    PortConfig {
        id,
        mac: PORT_MACS[usize::from(id.0)],
        mtu: 1500,
        addresses: address.iter().map(|a| a.parse().unwrap()).collect(),
        access,
    }
}

impl Rig {
    pub fn new(config: WorkerConfig) -> Self {
        Self::with_clock(config, Clock::new(|| Duration::ZERO))
    }

    /// With a time that the test sets, and that is read in every turn.
    pub fn timed(mut config: WorkerConfig) -> (Self, Arc<Mutex<Duration>>) {
        let time = Arc::new(Mutex::new(Duration::ZERO));
        let now = Arc::clone(&time);
        config.clock_turns = 1;
        let clock = Clock::new(move || *now.lock().unwrap());
        (Self::with_clock(config, clock), time)
    }

    fn with_clock(config: WorkerConfig, clock: Clock) -> Self {
        let io = MemoryIo::new(config.ports.len(), BUFFERS);
        let (worker_end, control) = rings(RingSizes {
            punts: 64,
            ..RingSizes::default()
        });
        let worker = Worker::with_clock(config, io.clone(), worker_end, clock).unwrap();
        Self {
            worker,
            control,
            io,
        }
    }

    /// An anchor between a core with two MAGs and a network with a correspondent node.
    pub fn lma_config() -> WorkerConfig {
        let ports = vec![
            port(CORE, Some("2001:db8:ffff::1/64"), false),
            port(EDGE, Some("2001:db8:1::1/64"), false),
        ];
        WorkerConfig {
            lma: Some(LmaConfig {
                addresses: vec![lmaa()],
                pools: vec!["2001:db8:100::/48".parse().unwrap()],
                expected_bindings: 64,
                other_lengths: 0,
            }),
            peers: vec![mag1(), mag2()],
            ..WorkerConfig::new(WorkerId(0), ports)
        }
    }

    /// The anchor with all neighbours known, tunnels 1 and 2 to the MAGs, mobile 1 on MAG1 and mobile
    /// 2 on MAG2.
    pub fn lma() -> Self {
        Self::new(Self::lma_config()).into_lma()
    }

    /// As [`Rig::lma`], on a rig of one's own.
    pub fn into_lma(mut self) -> Self {
        let rig = &mut self;
        rig.neighbour(CORE, mag1(), Some(MAG1_MAC));
        rig.neighbour(CORE, mag2(), Some(MAG2_MAC));
        rig.neighbour(EDGE, cn(), Some(CN_MAC));
        rig.path(Role::Lma, 1, Some(tunnel(lmaa(), mag1())));
        rig.path(Role::Lma, 2, Some(tunnel(lmaa(), mag2())));
        rig.binding(Role::Lma, 1, lma_binding(1, &[1]));
        rig.binding(Role::Lma, 2, lma_binding(2, &[2]));
        rig.turn();
        self
    }

    pub fn mag_config() -> WorkerConfig {
        let ports = vec![
            port(CORE, Some("2001:db8:ffff::11/64"), false),
            port(EDGE, None, true),
        ];
        WorkerConfig {
            mag: Some(MagConfig {
                addresses: vec![mag1()],
                expected_bindings: 64,
                other_lengths: 0,
            }),
            peers: vec![lmaa()],
            ..WorkerConfig::new(WorkerId(0), ports)
        }
    }

    /// A MAG with mobile 1 attached: path 1 is the tunnel to the LMA, path 2 the mobile's link.
    pub fn mag() -> Self {
        let mut rig = Self::new(Self::mag_config());
        rig.neighbour(CORE, lmaa(), Some(LMA_MAC));
        rig.path(Role::Mag, 1, Some(tunnel(mag1(), lmaa())));
        let link = Link {
            port: EDGE,
            mac: MN_MAC,
        };
        rig.path(Role::Mag, 2, Some(Path::Link(link)));
        rig.binding(
            Role::Mag,
            1,
            Some(Binding {
                mobile: MobileId(1),
                default_path: Some(PathId(2)),
                sources: vec![PathId(2)],
                uplink: Some(PathId(1)),
                local: false,
                rules: vec![],
            }),
        );
        rig.turn();
        rig
    }

    pub fn update(&mut self, update: Update) {
        self.control.push(update).unwrap();
    }

    pub fn neighbour(&mut self, port: PortId, address: Ipv6Addr, mac: Option<MacAddr>) {
        self.update(Update::Neighbour { port, address, mac });
    }

    pub fn path(&mut self, role: Role, id: u16, path: Option<Path>) {
        let id = PathId(id);
        self.update(Update::Table(role, TableUpdate::Path { id, path }));
    }

    pub fn binding(&mut self, role: Role, n: u16, binding: Option<Binding>) {
        let (hnp, binding) = (hnp(n), binding.map(Box::new));
        self.update(Update::Table(role, TableUpdate::Binding { hnp, binding }));
    }

    /// Turns until nothing comes in, and checks that every packet is accounted for.
    pub fn turn(&mut self) {
        while self.worker.turn() > 0 {}
        self.check();
    }

    pub fn rx(&mut self, port: PortId, frame: &[u8]) {
        assert!(self.io.receive(port, frame));
        self.turn();
    }

    /// One frame in, and the one frame that comes out of `out`; nothing comes out elsewhere.
    pub fn through(&mut self, port: PortId, frame: &[u8], out: PortId) -> Vec<u8> {
        self.rx(port, frame);
        let mut sent = self.sent(out);
        assert_eq!(sent.len(), 1, "{:?}", self.dropped());
        for other in [CORE, EDGE] {
            assert!(self.sent(other).is_empty());
        }
        sent.remove(0)
    }

    /// One frame in, dropped for this reason with nothing said.
    pub fn drops(&mut self, port: PortId, frame: &[u8], reason: DropReason) {
        let before = self.counters().dropped(reason);
        self.rx(port, frame);
        let after = self.counters().dropped(reason);
        assert_eq!(after, before + 1, "{reason}: {:?}", self.dropped());
        assert!(
            self.sent(CORE).is_empty() && self.sent(EDGE).is_empty(),
            "{reason}"
        );
    }

    pub fn sent(&mut self, port: PortId) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.io.sent(port)).collect()
    }

    pub fn punts(&mut self) -> Vec<Punt> {
        std::iter::from_fn(|| self.control.pop_punt()).collect()
    }

    pub fn counters(&self) -> Counters {
        self.worker.counters()
    }

    pub fn dropped(&self) -> Vec<(DropReason, u64)> {
        let counters = self.counters();
        let all = DropReason::ALL.iter().map(|r| (*r, counters.dropped(*r)));
        all.filter(|(_, n)| *n > 0).collect()
    }

    /// Conservation, and no buffer lost: call it before sent packets are taken out, or after.
    pub fn check(&mut self) {
        let c = self.counters();
        let rx: u64 = c.ports.iter().map(|p| p.rx_packets).sum();
        let tx: u64 = c.ports.iter().map(|p| p.tx_packets).sum();
        let drops: u64 = c.drops.iter().sum();
        assert_eq!(
            rx + c.originated,
            tx + drops + c.punted + c.consumed + c.held,
            "{c:?}"
        );
        let mut out = Vec::new();
        for port in [CORE, EDGE] {
            let taken: Vec<_> = std::iter::from_fn(|| self.io.sent_packet(port)).collect();
            out.push((port, taken));
        }
        let waiting: usize = out.iter().map(|(_, packets)| packets.len()).sum();
        assert_eq!(
            self.io.pool().available() + waiting + c.held as usize,
            BUFFERS,
            "a buffer is lost"
        );
        // Put what was sent back in its order.
        for (port, packets) in out {
            let mut burst: Vec<_> = packets;
            self.io.put_back(port, &mut burst);
        }
    }
}

pub fn tunnel(local: Ipv6Addr, remote: Ipv6Addr) -> Path {
    Path::Tunnel(Tunnel {
        local,
        remote,
        hop_limit: 64,
        path_mtu: 1500,
        copy_dscp: false,
        encapsulation_limit: None,
    })
}

/// A tunnel over a way that carries less.
pub fn narrow_tunnel(local: Ipv6Addr, remote: Ipv6Addr, path_mtu: u16) -> Path {
    let Path::Tunnel(tunnel) = tunnel(local, remote) else {
        unreachable!()
    };
    Path::Tunnel(Tunnel { path_mtu, ..tunnel })
}

/// A tunnel that adds a Tunnel Encapsulation Limit.
pub fn limited_tunnel(local: Ipv6Addr, remote: Ipv6Addr, limit: u8) -> Path {
    let Path::Tunnel(tunnel) = tunnel(local, remote) else {
        unreachable!()
    };
    Path::Tunnel(Tunnel {
        encapsulation_limit: Some(limit),
        ..tunnel
    })
}

/// A UDP frame to a port of the worker, whose IPv6 packet has so many octets.
pub fn sized(
    from_mac: MacAddr,
    to: PortId,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    octets: usize,
) -> Vec<u8> {
    let payload: Vec<u8> = (0..=255).cycle().take(octets - 48).collect();
    udp(from_mac, to, source, destination, 5001, &payload)
}

/// A binding of mobile `n` with these sources, the first of which is the default path.
pub fn lma_binding(n: u16, sources: &[u16]) -> Option<Binding> {
    Some(Binding {
        mobile: MobileId(n.into()),
        default_path: sources.first().copied().map(PathId),
        sources: sources.iter().copied().map(PathId).collect(),
        uplink: None,
        local: false,
        rules: vec![],
    })
}

/// A rule for UDP to this port.
pub fn rule(number: u16, destination_port: u16, action: RuleAction) -> Rule {
    Rule {
        fid: Fid::new(number).unwrap(),
        priority: FidPriority::new(number).unwrap(),
        selector: Selector {
            destination_port: Some(Interval::single(destination_port)),
            next_header: Some(Interval::single(17)),
            ..Selector::default()
        }
        .into(),
        action,
    }
}

/// A UDP frame to a port of the worker.
pub fn udp(
    from_mac: MacAddr,
    to: PortId,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    port: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(from_mac.0, PORT_MACS[usize::from(to.0)].0)
        .ipv6(source.octets(), destination.octets(), 64)
        .udp(4000, port)
        .write(&mut frame, payload)
        .unwrap();
    frame
}

/// The IPv6 packet of a frame.
pub fn packet(frame: &[u8]) -> &[u8] {
    &frame[14..]
}

pub fn set_hop_limit(frame: &mut [u8], hop_limit: u8) {
    frame[14 + 7] = hop_limit;
}

pub fn set_traffic_class(frame: &mut [u8], class: u8) {
    frame[14] = 0x60 | class >> 4;
    frame[15] = frame[15] & 0xf | class << 4;
}

/// An Ethernet frame with an IPv6 packet of any next header.
pub fn ipv6(
    from_mac: MacAddr,
    to: MacAddr,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    next_header: u8,
    hop_limit: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = Vec::new();
    Ethernet2Header {
        source: from_mac.0,
        destination: to.0,
        ether_type: etherparse::EtherType::IPV6,
    }
    .write(&mut frame)
    .unwrap();
    Ipv6Header {
        payload_length: payload.len() as u16,
        next_header: IpNumber(next_header),
        hop_limit,
        source: source.octets(),
        destination: destination.octets(),
        ..Ipv6Header::default()
    }
    .write(&mut frame)
    .unwrap();
    frame.extend_from_slice(payload);
    frame
}

/// A tunnel packet to the worker's core port with this inner packet.
pub fn tunnelled(from_mac: MacAddr, source: Ipv6Addr, to: Ipv6Addr, inner: &[u8]) -> Vec<u8> {
    ipv6(from_mac, PORT_MACS[0], source, to, 41, 64, inner)
}

/// Ethernet and IPv6 header of a frame, and what follows.
pub fn parse(frame: &[u8]) -> (Ethernet2Header, Ipv6Header, &[u8]) {
    let (ethernet, rest) = Ethernet2Header::from_slice(frame).unwrap();
    let (ip, payload) = Ipv6Header::from_slice(rest).unwrap();
    assert_eq!(usize::from(ip.payload_length), payload.len());
    (ethernet, ip, payload)
}

/// An ICMPv6 message with its checksum: type, code, the word after the checksum, and the body.
pub fn icmp(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    kind: u8,
    word: [u8; 4],
    body: &[u8],
) -> Vec<u8> {
    let icmp = etherparse::Icmpv6Type::Unknown {
        type_u8: kind,
        code_u8: 0,
        bytes5to8: word,
    };
    let header =
        etherparse::Icmpv6Header::with_checksum(icmp, source.octets(), destination.octets(), body)
            .unwrap();
    let mut message = header.to_bytes().to_vec();
    message.extend_from_slice(body);
    message
}

/// Type, code, word and body of an ICMPv6 message whose checksum etherparse finds right.
pub fn parse_icmp(frame: &[u8]) -> (u8, u8, u32, Vec<u8>) {
    let (_, ip, payload) = parse(frame);
    assert_eq!(ip.next_header, IpNumber::IPV6_ICMP);
    let slice = etherparse::Icmpv6Slice::from_slice(payload).unwrap();
    assert!(slice.is_checksum_valid(ip.source, ip.destination));
    let word = u32::from_be_bytes(payload[4..8].try_into().unwrap());
    (payload[0], payload[1], word, payload[8..].to_vec())
}
