//! The LMA under the bench: its configuration, what it is told, and packets for its mobiles.

use std::net::Ipv6Addr;

use arrayvec::ArrayVec;
use flow::{
    Binding, Fid, FidPriority, Hnp, Interval, MacAddr, MobileId, Path, PathId, PortId, Role,
    RouteNext, Rule, RuleAction, Selector, TableUpdate, TrafficSelector, Tunnel, Update, WorkerId,
};
use ipnet::Ipv6Net;
use zerocopy::IntoBytes;
use zerocopy::network_endian::{U16, U32, U128};

use super::{Rules, Way};
use crate::config::{LmaConfig, PortConfig, WorkerConfig};
use crate::packet::header::{Ethernet, FRAME_LEN, IPV6_LEN, Ipv6, next_header};

pub(super) const PORT: PortId = PortId(0);
const PORT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const ROUTER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const LMAA: u128 = 0x2001_0db8_000f << 80 | 1;
const ROUTER: u128 = 0x2001_0db8_000f << 80 | 0xff;
/// The tunnels' remote ends are this and those after it.
const MAGS: u128 = 0x2001_0db8_000b << 80;
const TUNNELS: u16 = 64;
const CORRESPONDENT: u128 = 0x2001_0db8_00cc << 80 | 1;
const POOL: u64 = 0x2001_0db8_0100_0000;
const FIRST_PORT: u16 = 5000;
/// A UDP header and two octets more, which makes 64 of a frame.
const UDP: usize = 10;
const TUNNELLED: usize = FRAME_LEN + IPV6_LEN + UDP;

pub(super) fn config(bindings: u32) -> WorkerConfig {
    let port = PortConfig {
        id: PORT,
        mac: PORT_MAC,
        mtu: 1500,
        addresses: vec![Ipv6Net::new_assert(Ipv6Addr::from_bits(LMAA), 64)],
        access: false,
    };
    let pool = Ipv6Addr::from_bits(u128::from(POOL) << 64);
    let gateway = RouteNext::Via(PORT, Ipv6Addr::from_bits(ROUTER));
    WorkerConfig {
        lma: Some(LmaConfig {
            addresses: vec![Ipv6Addr::from_bits(LMAA)],
            pools: vec![Ipv6Net::new_assert(pool, 40)],
            expected_bindings: bindings as usize,
            other_lengths: 0,
        }),
        routes: vec![(Ipv6Net::default(), gateway)],
        ..WorkerConfig::new(WorkerId(0), vec![port])
    }
}

/// All that the worker is told.
pub(super) fn updates(bindings: u32, rules: Rules) -> impl Iterator<Item = Update> {
    let neighbour = Update::Neighbour {
        port: PORT,
        address: Ipv6Addr::from_bits(ROUTER),
        mac: Some(ROUTER_MAC),
    };
    let tunnel = |number: u16| {
        let tunnel = Tunnel {
            local: Ipv6Addr::from_bits(LMAA),
            remote: Ipv6Addr::from_bits(MAGS | u128::from(number)),
            hop_limit: 64,
            path_mtu: 1500,
            copy_dscp: false,
            encapsulation_limit: None,
        };
        let (id, path) = (PathId(number), Some(Path::Tunnel(tunnel)));
        Update::Table(Role::Lma, TableUpdate::Path { id, path })
    };
    let bindings = (0..bindings).filter_map(move |mobile| binding(mobile, rules));
    std::iter::once(neighbour)
        .chain((0..TUNNELS).map(tunnel))
        .chain(bindings)
}

/// The upper half of a mobile's addresses: they lie all over the pool.
pub(super) fn key(mobile: u32) -> u64 {
    POOL | u64::from(mobile.wrapping_mul(0x00eb_352d) & 0x00ff_ffff)
}

/// Where packets go that match this rule of a mobile's.
pub(super) fn path(mobile: u32, rule: u32) -> PathId {
    let number = mobile.wrapping_add(rule) % u32::from(TUNNELS);
    PathId(u16::try_from(number).unwrap_or(0))
}

/// Says all about a mobile's prefix.
pub(super) fn binding(mobile: u32, rules: Rules) -> Option<Update> {
    let hnp = Hnp::new(Ipv6Addr::from_bits(u128::from(key(mobile)) << 64), 64).ok()?;
    let (Rules::Exact(count) | Rules::Wide(count)) = rules;
    let rule = |number: u16| {
        let mut selector = Selector {
            destination_port: Some(Interval::single(FIRST_PORT + number)),
            next_header: Some(Interval::single(next_header::UDP)),
            ..Selector::default()
        };
        if let Rules::Wide(_) = rules {
            let network = CORRESPONDENT >> 80 << 80;
            let (start, end) = (network, network | u128::MAX >> 48);
            let source = Interval::new(Ipv6Addr::from_bits(start), Ipv6Addr::from_bits(end));
            selector.source = source;
        }
        Some(Rule {
            fid: Fid::new(number + 1)?,
            priority: FidPriority::new(number + 1)?,
            selector: TrafficSelector::Ipv6(Box::new(selector)),
            action: RuleAction::Forward(path(mobile, number.into())),
        })
    };
    let binding = Binding {
        mobile: MobileId(mobile),
        default_path: Some(path(mobile, 0)),
        sources: vec![path(mobile, 0), path(mobile, 1)],
        uplink: None,
        local: false,
        rules: (0..count).filter_map(rule).collect(),
    };
    let binding = Some(Box::new(binding));
    Some(Update::Table(
        Role::Lma,
        TableUpdate::Binding { hnp, binding },
    ))
}

/// A frame to or from a mobile, of one of its flows.
pub(super) fn frame(way: Way, mobile: u32, rule: u32, flow: u32) -> ArrayVec<u8, TUNNELLED> {
    let its = u128::from(key(mobile)) << 64 | 0x100;
    let (source, destination) = match way {
        Way::Down => (CORRESPONDENT, its),
        Way::Up => (its, CORRESPONDENT),
    };
    let inner = header(source, destination, next_header::UDP, UDP);
    let ethernet = Ethernet::ipv6(ROUTER_MAC, PORT_MAC);
    let mut frame = ArrayVec::new();
    frame.extend(ethernet.as_bytes().iter().copied());
    if way == Way::Up {
        let mag = MAGS | u128::from(path(mobile, 0).0);
        let outer = header(mag, LMAA, next_header::IPV6, IPV6_LEN + UDP);
        frame.extend(outer.as_bytes().iter().copied());
    }
    frame.extend(inner.as_bytes().iter().copied());
    let ports = flow << 16 | (u32::from(FIRST_PORT) + rule);
    frame.extend(ports.to_be_bytes());
    frame.extend([0, 10, 0, 0, 0, 0]);
    frame
}

fn header(source: u128, destination: u128, next_header: u8, payload: usize) -> Ipv6 {
    Ipv6 {
        version_class_label: U32::new(Ipv6::VERSION_6),
        payload_len: U16::new(u16::try_from(payload).unwrap_or(0)),
        next_header,
        hop_limit: 64,
        source: U128::new(source),
        destination: U128::new(destination),
    }
}
