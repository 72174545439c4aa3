//! The network around the worker: addresses, frames, tables, and what should come out of it.
//!
//! ```text
//! correspondents --- router --- EDGE [anchor] CORE === 64 tunnels === gateways
//!                                     anchor === 1 tunnel === CORE [gateway] EDGE --- mobiles
//! ```

mod hostile;

use std::net::Ipv6Addr;

use dataplane::{LmaConfig, MagConfig, PortConfig, WorkerConfig};
use flow::{
    Binding, Fid, FidPriority, Hnp, HnpError, Interval, Link, MacAddr, MobileId, Path, PathId,
    PortId, Role, RouteNext, Rule, RuleAction, Selector, TableUpdate, Tunnel, Update, WorkerId,
};
use ipnet::{Ipv6Net, PrefixLenError};

pub(crate) use self::hostile::{HostileFrame, hostile};
use crate::case::{Case, Size, Work};

/// The port towards the tunnels.
const CORE: PortId = PortId(0);
/// The port towards the network (at an anchor) or the mobiles (at a gateway).
const EDGE: PortId = PortId(1);
/// The worker's stations.
pub(crate) const MACS: [MacAddr; 2] = [
    MacAddr([2, 0, 0, 0, 0, 0x10]),
    MacAddr([2, 0, 0, 0, 0, 0x20]),
];
/// Whoever sends to the worker and is no mobile.
const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x99]);
/// Gateways, and so tunnels, of an anchor.
pub(crate) const TUNNELS: u16 = 64;
/// Octets of the smallest frame in a tunnel.
pub(crate) const TUNNELLED: usize = 104;
/// Destination port of the first rule.
pub(crate) const FIRST_PORT: u16 = 5001;
/// Greatest IPv6 packet on every link, so that a tunnelled one of 1500 octets fits.
pub(crate) const MTU: u16 = 1600;

/// The way to all correspondents, on the anchor's edge.
const ROUTER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0xfe);

/// Correspondents are `2001:db8:3:n::c`.
fn correspondent(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 3, number, 0, 0, 0, 0xc)
}

/// Where in a frame of an anchor's uplink a correspondent's number is.
pub(crate) const CORRESPONDENT_AT: usize = 14 + 40 + 24 + 6;

/// The anchor's end of the tunnels.
pub(crate) fn anchor() -> Ipv6Addr {
    core_address(1)
}

/// Gateway `number`'s end of its tunnel.
pub(crate) fn gateway(number: u16) -> Ipv6Addr {
    core_address(gateway_host(number))
}

/// The last 16 bits of [`gateway`].
#[inline]
pub(crate) fn gateway_host(number: u16) -> u16 {
    2 + number
}

/// Hosts of the anchor's edge; 1 is the anchor.
fn edge_address(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, host)
}

fn core_address(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, host)
}

/// The tunnel that a mobile's default path is. Its uplink packets come through this one or
/// [`second_tunnel`].
#[inline]
pub(crate) fn tunnel_of(mobile: u32) -> u16 {
    let [low, ..] = mobile.to_le_bytes();
    u16::from(low) % TUNNELS
}

/// The other tunnel that a mobile's uplink packets may come through, if the first is this.
#[inline]
pub(crate) fn second_tunnel(first: u16) -> u16 {
    (first + 1) % TUNNELS
}

/// The station of gateway `number`.
pub(crate) fn gateway_mac(number: u16) -> MacAddr {
    let [high, low] = number.to_be_bytes();
    MacAddr([2, 0, 0, 1, high, low])
}

/// A mobile's station.
fn mobile_mac(mobile: u32) -> MacAddr {
    let [a, b, c, d] = mobile.to_be_bytes();
    MacAddr([2, 1, a, b, c, d])
}

/// The first half of a mobile's prefix: mobiles in a row have prefixes all over `2001:db8:100::/40`.
/// A bijection on 24 bits, so no two mobiles share one.
#[inline]
pub(crate) fn prefix(mobile: u32) -> u64 {
    const MASK: u32 = 0x00ff_ffff;
    let mut x = mobile.wrapping_add(0x0037_79b9) & MASK;
    x ^= x >> 12;
    x = x.wrapping_mul(0x00eb_352d) & MASK;
    x ^= x >> 11;
    x = x.wrapping_mul(0x006c_a68b) & MASK;
    x ^= x >> 12;
    0x2001_0db8_0100_0000 | u64::from(x)
}

/// A mobile's address.
fn mobile_address(mobile: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(u128::from(prefix(mobile)) << 64 | 1)
}

/// The port on which a work's packets arrive.
pub(crate) fn arrival_port(work: Work) -> PortId {
    match work {
        Work::LmaDownlink | Work::MagUplink => EDGE,
        Work::LmaUplink | Work::MagDownlink => CORE,
    }
}

/// A worker for this case.
///
/// # Errors
/// None of its prefixes is too long.
pub(crate) fn config(case: &Case) -> Result<WorkerConfig, PrefixLenError> {
    let lma = case.work.is_lma();
    let address = |address, len| Ipv6Net::new(address, len);
    let port = |id: PortId, addresses, access| PortConfig {
        id,
        mac: MACS.get(usize::from(id.0)).copied().unwrap_or_default(),
        mtu: MTU,
        addresses,
        access,
    };
    let (core, edge) = if lma {
        (anchor(), vec![address(edge_address(1), 64)?])
    } else {
        (gateway(0), vec![])
    };
    let ports = vec![
        port(CORE, vec![address(core, 64)?], false),
        port(EDGE, edge, !lma),
    ];
    let expected_bindings = case.bindings as usize;
    let pool = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 0);
    Ok(WorkerConfig {
        lma: lma.then_some(LmaConfig {
            addresses: vec![anchor()],
            pools: vec![address(pool, 40)?],
            expected_bindings,
            other_lengths: 0,
        }),
        mag: (!lma).then(|| MagConfig {
            addresses: vec![gateway(0)],
            expected_bindings,
            other_lengths: 0,
        }),
        routes: if lma {
            let far = address(correspondent(0), 48)?.trunc();
            vec![(far, RouteNext::Via(EDGE, ROUTER))]
        } else {
            vec![]
        },
        peers: if lma {
            (0..TUNNELS).map(gateway).collect()
        } else {
            vec![anchor()]
        },
        ..WorkerConfig::new(WorkerId(0), ports)
    })
}

/// All that the worker has to be told.
pub(crate) fn updates(case: &Case) -> impl Iterator<Item = Result<Update, HnpError>> {
    let (lma, case) = (case.work.is_lma(), *case);
    let role = if lma { Role::Lma } else { Role::Mag };
    let table = move |update| Ok(Update::Table(role, update));
    let neighbour = |port, address, mac| {
        Ok(Update::Neighbour {
            port,
            address,
            mac: Some(mac),
        })
    };
    let path = move |id, path| {
        table(TableUpdate::Path {
            id: PathId(id),
            path: Some(path),
        })
    };
    let tunnels = (0..TUNNELS).filter(move |_| lma).flat_map(move |number| {
        let remote = gateway(number);
        [
            neighbour(CORE, remote, gateway_mac(number)),
            path(number, tunnel(anchor(), remote)),
        ]
    });
    let router = lma.then(|| neighbour(EDGE, ROUTER, PEER_MAC));
    let to_anchor = [
        neighbour(CORE, anchor(), PEER_MAC),
        path(0, tunnel(gateway(0), anchor())),
    ];
    let mobiles = (0..case.bindings).flat_map(move |mobile| {
        let link = (!lma).then(|| {
            let mac = mobile_mac(mobile);
            path(link_path(mobile), Path::Link(Link { port: EDGE, mac }))
        });
        let binding = binding(&case, mobile).and_then(|(hnp, binding)| {
            table(TableUpdate::Binding {
                hnp,
                binding: Some(Box::new(binding)),
            })
        });
        link.into_iter().chain([binding])
    });
    tunnels
        .chain(router)
        .chain(to_anchor.into_iter().filter(move |_| !lma))
        .chain(mobiles)
}

fn tunnel(local: Ipv6Addr, remote: Ipv6Addr) -> Path {
    Path::Tunnel(Tunnel {
        local,
        remote,
        hop_limit: 64,
        path_mtu: MTU,
        copy_dscp: false,
        encapsulation_limit: None,
    })
}

/// The path of a mobile's link; path 0 is the tunnel.
fn link_path(mobile: u32) -> u16 {
    u16::try_from(mobile + 1).unwrap_or(u16::MAX)
}

/// A mobile's prefix and what is known about it.
///
/// # Errors
/// None: a /64 of the pool is a home network prefix.
pub(crate) fn binding(case: &Case, mobile: u32) -> Result<(Hnp, Binding), HnpError> {
    let hnp = Hnp::new(Ipv6Addr::from_bits(u128::from(prefix(mobile)) << 64), 64)?;
    let binding = if case.work.is_lma() {
        let first = tunnel_of(mobile);
        Binding {
            mobile: MobileId(mobile),
            default_path: Some(PathId(first)),
            sources: vec![PathId(first), PathId(second_tunnel(first))],
            uplink: None,
            local: false,
            rules: (0..case.rules)
                .filter_map(|rule| self::rule(mobile, rule))
                .collect(),
        }
    } else {
        let link = PathId(link_path(mobile));
        Binding {
            mobile: MobileId(mobile),
            default_path: Some(link),
            sources: vec![link],
            uplink: Some(PathId(0)),
            local: false,
            rules: vec![],
        }
    };
    Ok((hnp, binding))
}

/// UDP to a port of its own, through a tunnel that is another for each rule.
fn rule(mobile: u32, number: u16) -> Option<Rule> {
    let selector = Selector::<Ipv6Addr> {
        destination_port: Some(Interval::single(FIRST_PORT + number)),
        next_header: Some(Interval::single(17)),
        ..Selector::default()
    };
    Some(Rule {
        fid: Fid::new(number + 1)?,
        priority: FidPriority::new(number + 1)?,
        selector: selector.into(),
        action: RuleAction::Forward(PathId(ruled_tunnel(mobile, number))),
    })
}

fn ruled_tunnel(mobile: u32, rule: u16) -> u16 {
    (tunnel_of(mobile) + rule) % TUNNELS
}

/// The frame that is copied for each packet before its mobile is put in.
pub(crate) fn template(work: Work, size: Size) -> [u8; TUNNELLED] {
    let octets = usize::from(match size {
        Size::Fixed(octets) => octets,
        Size::Imix => 64,
    });
    let (mobile, correspondent) = (mobile_address(0), correspondent(0));
    let (to, from, inner) = match work {
        Work::LmaDownlink => (MACS[1], PEER_MAC, (correspondent, mobile)),
        Work::LmaUplink => (MACS[0], PEER_MAC, (mobile, correspondent)),
        Work::MagDownlink => (MACS[0], PEER_MAC, (correspondent, mobile)),
        Work::MagUplink => (MACS[1], mobile_mac(0), (mobile, correspondent)),
    };
    let mut frame = Vec::from(ethernet(to, from));
    if work.is_tunnelled() {
        let ends = if work == Work::LmaUplink {
            (gateway(0), anchor())
        } else {
            (anchor(), gateway(0))
        };
        frame.extend(ipv6(41, 64, ends));
    }
    frame.extend(ipv6(17, 64, inner));
    frame.extend([4000u16.to_be_bytes(), FIRST_PORT.to_be_bytes()].concat());
    frame.resize(octets + if work.is_tunnelled() { 40 } else { 0 }, 0);
    set_lengths(&mut frame, work.is_tunnelled());
    frame.resize(TUNNELLED.max(frame.len()), 0);
    frame.first_chunk().copied().unwrap_or([0; TUNNELLED])
}

/// Makes the headers of a frame say how long it is.
#[inline]
pub(crate) fn set_lengths(frame: &mut [u8], tunnelled: bool) {
    let len = frame.len();
    let mut put = |at: usize, before: usize| {
        let octets = u16::try_from(len - before).unwrap_or(u16::MAX);
        if let Some(place) = frame.get_mut(at..at + 2) {
            place.copy_from_slice(&octets.to_be_bytes());
        }
    };
    let inner = if tunnelled { 14 + 40 } else { 14 };
    if tunnelled {
        put(14 + 4, 14 + 40);
    }
    put(inner + 4, inner + 40);
    put(inner + 40 + 4, inner + 40);
}

fn ethernet(to: MacAddr, from: MacAddr) -> [u8; 14] {
    let mut header = [0; 14];
    header[..6].copy_from_slice(&to.0);
    header[6..12].copy_from_slice(&from.0);
    header[12..].copy_from_slice(&[0x86, 0xdd]);
    header
}

fn ipv6(next_header: u8, hop_limit: u8, (from, to): (Ipv6Addr, Ipv6Addr)) -> [u8; 40] {
    let mut header = [0; 40];
    header[0] = 0x60;
    header[6..8].copy_from_slice(&[next_header, hop_limit]);
    header[8..24].copy_from_slice(&from.octets());
    header[24..].copy_from_slice(&to.octets());
    header
}

/// The headers in front of an outgoing packet to gateway `number`: what the floor copies, and what
/// a packet is compared with. At a gateway, the way to its anchor.
pub(crate) fn outer(work: Work, number: u16) -> [u8; 54] {
    let (to, ends) = if work.is_lma() {
        (gateway_mac(number), (anchor(), gateway(number)))
    } else {
        (PEER_MAC, (gateway(0), anchor()))
    };
    let mut header = [0; 54];
    header[..14].copy_from_slice(&ethernet(to, MACS[0]));
    header[14..].copy_from_slice(&ipv6(41, 64, ends));
    header
}

/// What has to become of a frame; `None` if the frame itself is cut short. The outer flow label, which
/// is the worker's choice, is zero.
pub(crate) fn expected(
    work: Work,
    frame: &[u8],
    mobile: u32,
    rule: Option<u16>,
) -> Option<Vec<u8>> {
    let bared = if work.is_tunnelled() { 14 + 40 } else { 14 };
    let mut packet = frame.get(bared..)?.to_vec();
    *packet.get_mut(7)? -= 1;
    let mut out = match work {
        Work::LmaDownlink => {
            let number = rule.map_or(tunnel_of(mobile), |rule| ruled_tunnel(mobile, rule));
            outer(work, number).to_vec()
        }
        Work::MagUplink => outer(work, 0).to_vec(),
        Work::LmaUplink => ethernet(PEER_MAC, MACS[1]).to_vec(),
        Work::MagDownlink => ethernet(mobile_mac(mobile), MACS[1]).to_vec(),
    };
    if !work.is_tunnelled() {
        let octets = u16::try_from(packet.len()).ok()?;
        out.get_mut(18..20)?.copy_from_slice(&octets.to_be_bytes());
    }
    out.extend(packet);
    Some(out)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_mobiles_share_a_prefix() {
        let prefixes: HashSet<u64> = (0..1 << 20).map(prefix).collect();
        assert_eq!(prefixes.len(), 1 << 20);
        assert!(prefixes.iter().all(|p| p >> 24 == 0x20_010d_b801));
    }

    #[test]
    fn templates_say_how_long_they_are() {
        for work in Work::ALL {
            for octets in [64, 1024] {
                let frame = template(work, Size::Fixed(octets));
                let tunnel = if work.is_tunnelled() { 40 } else { 0 };
                let payload = u16::from_be_bytes([frame[18], frame[19]]);
                assert_eq!(payload, octets + tunnel - 14 - 40, "{work}");
                let at = 14 + usize::from(tunnel) + 40 + 4;
                let udp = u16::from_be_bytes([frame[at], frame[at + 1]]);
                assert_eq!(udp, octets - 14 - 40, "{work}");
            }
        }
    }

    #[test]
    fn a_downlink_packet_goes_where_its_rule_says() {
        let frame = template(Work::LmaDownlink, Size::Fixed(64));
        let out = expected(Work::LmaDownlink, &frame[..64], 3, Some(2)).unwrap();
        assert_eq!(out.len(), 104);
        assert_eq!(out[38..54], gateway(5).octets());
        assert_eq!(out[18..22], [0, 50, 41, 64]);
        assert_eq!(out[54 + 7], 63);
        assert_eq!(expected(Work::LmaUplink, &frame[..40], 3, None), None);
    }

    #[test]
    fn an_uplink_packet_goes_to_the_router_whoever_it_is_for() {
        let mut frame = template(Work::LmaUplink, Size::Fixed(64));
        frame[CORRESPONDENT_AT..CORRESPONDENT_AT + 2].copy_from_slice(&[0xab, 0xcd]);
        let out = expected(Work::LmaUplink, &frame, 3, None).unwrap();
        assert_eq!(out[..6], PEER_MAC.0);
        assert_eq!(out[38..54], correspondent(0xabcd).octets());
    }
}
