//! Neighbour discovery messages of a host (RFC 4861 §4).

use std::net::Ipv6Addr;
use std::time::Duration;

use flow::MacAddr;

use crate::packet::{
    ETHERNET_LEN, ETHERTYPE_IPV6, Ipv6, address, be16, be32, checksum, ipv6_packet, next_header,
};

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;

const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
const PREFIX_INFORMATION: u8 = 3;
const MTU: u8 = 5;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// RFC 4861 §6.1, §7.1: proves that no router forwarded the message.
const HOP_LIMIT: u8 = 255;

/// A valid message, as far as a host acts on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// A router speaks.
    RouterAdvertisement(RouterAdvertisement),
    /// Somebody asks for a link-layer address.
    NeighbourSolicitation(NeighbourSolicitation),
    /// Valid, and of no use to this host.
    Other,
}

/// RFC 4861 §4.2.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouterAdvertisement {
    /// The router's link-local address.
    pub router: Ipv6Addr,
    /// How long it is a default router; zero if it is none.
    pub lifetime: Duration,
    /// Its link-layer address, if it says so.
    pub link_layer: Option<MacAddr>,
    /// The link's MTU, if it says so.
    pub mtu: Option<u32>,
    /// The link's prefixes.
    pub prefixes: Vec<PrefixInformation>,
}

/// RFC 4861 §4.6.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrefixInformation {
    /// First address of the prefix.
    pub prefix: Ipv6Addr,
    /// Its length in bits.
    pub len: u8,
    /// Whether hosts make addresses from it.
    pub autonomous: bool,
    /// How long it is valid; `None` for ever.
    pub valid: Option<Duration>,
}

/// RFC 4861 §4.3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighbourSolicitation {
    /// Who asks; unspecified during duplicate address detection.
    pub source: Ipv6Addr,
    /// Which address is meant.
    pub target: Ipv6Addr,
    /// Where the asker can be reached, if it says so.
    pub link_layer: Option<MacAddr>,
}

/// Whether an ICMPv6 message of this type is neighbour discovery.
pub fn is_ndp(kind: u8) -> bool {
    (ROUTER_SOLICITATION..=REDIRECT).contains(&kind)
}

/// Checks and reads a neighbour discovery message; `None` if RFC 4861 §6.1 or §7.1 forbids to
/// accept it.
pub fn decode(ip: &Ipv6<'_>) -> Option<Message> {
    let icmp = ip.payload;
    let intact = ip.next_header == next_header::ICMPV6
        && ip.hop_limit == HOP_LIMIT
        && *icmp.get(1)? == 0
        && checksum(ip.source, ip.destination, next_header::ICMPV6, icmp) == 0;
    if !intact {
        return None;
    }
    match *icmp.first()? {
        ROUTER_ADVERTISEMENT => decode_advertisement(ip),
        NEIGHBOUR_SOLICITATION => decode_solicitation(ip),
        _ => Some(Message::Other),
    }
}

fn decode_advertisement(ip: &Ipv6<'_>) -> Option<Message> {
    if !ip.source.is_unicast_link_local() {
        return None;
    }
    let mut out = RouterAdvertisement {
        router: ip.source,
        lifetime: Duration::from_secs(be16(ip.payload, 6)?.into()),
        link_layer: None,
        mtu: None,
        prefixes: Vec::new(),
    };
    for option in Options(ip.payload.get(16..)?) {
        let (kind, body) = option?;
        match kind {
            SOURCE_LINK_LAYER => out.link_layer = mac(body),
            MTU => out.mtu = be32(body, 4),
            PREFIX_INFORMATION => out.prefixes.extend(prefix_information(body)),
            _ => {}
        }
    }
    Some(Message::RouterAdvertisement(out))
}

/// `body` begins at the option's type.
fn prefix_information(body: &[u8]) -> Option<PrefixInformation> {
    let valid = be32(body, 4)?;
    Some(PrefixInformation {
        prefix: address(body, 16)?,
        len: *body.get(2)?,
        autonomous: body.get(3)? & 0x40 != 0,
        valid: (valid != u32::MAX).then(|| Duration::from_secs(valid.into())),
    })
}

fn decode_solicitation(ip: &Ipv6<'_>) -> Option<Message> {
    let target = address(ip.payload, 8)?;
    let mut link_layer = None;
    for option in Options(ip.payload.get(24..)?) {
        let (kind, body) = option?;
        if kind == SOURCE_LINK_LAYER {
            link_layer = mac(body);
        }
    }
    // RFC 4861 §7.1.1.
    let detection = ip.source.is_unspecified();
    let accepted = !target.is_multicast()
        && !(detection && (link_layer.is_some() || !ip.destination.is_multicast()));
    accepted.then_some(Message::NeighbourSolicitation(NeighbourSolicitation {
        source: ip.source,
        target,
        link_layer,
    }))
}

/// Options from the octets behind a message's fixed part; `None` where one is broken.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = Option<(u8, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let split = || {
            let len = usize::from(*self.0.get(1)?) * 8;
            // RFC 4861 §4.6: a length of zero makes the whole packet invalid.
            (len > 0).then(|| self.0.split_at_checked(len))?
        };
        let Some((body, rest)) = split() else {
            self.0 = &[];
            return Some(None);
        };
        self.0 = rest;
        Some(body.first().map(|kind| (*kind, body)))
    }
}

fn mac(option: &[u8]) -> Option<MacAddr> {
    Some(MacAddr(option.get(2..8)?.try_into().ok()?))
}

/// A frame that asks all routers of the link to speak (RFC 4861 §4.1).
pub fn router_solicitation(mac: MacAddr) -> Vec<u8> {
    let mut icmp = vec![ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    icmp.extend(link_layer_option(SOURCE_LINK_LAYER, mac));
    let to = MacAddr::for_multicast(ALL_ROUTERS);
    icmpv6_frame(mac, to, mac.link_local(), ALL_ROUTERS, icmp)
}

/// A frame that answers `solicitation` with this host's link-layer address (RFC 4861 §4.4, §7.2.4).
pub fn neighbour_advertisement(
    mac: MacAddr,
    solicitation: &NeighbourSolicitation,
    asker: MacAddr,
) -> Vec<u8> {
    const SOLICITED: u8 = 0x40;
    const OVERRIDE: u8 = 0x20;
    let detection = solicitation.source.is_unspecified();
    let flags = if detection {
        OVERRIDE
    } else {
        SOLICITED | OVERRIDE
    };
    let (destination, to) = if detection {
        (ALL_NODES, MacAddr::for_multicast(ALL_NODES))
    } else {
        let to = solicitation.link_layer.unwrap_or(asker);
        (solicitation.source, to)
    };
    let mut icmp = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    icmp.extend(solicitation.target.octets());
    icmp.extend(link_layer_option(TARGET_LINK_LAYER, mac));
    icmpv6_frame(mac, to, solicitation.target, destination, icmp)
}

/// An Ethernet header for an IPv6 packet.
pub fn ethernet(from: MacAddr, to: MacAddr) -> [u8; ETHERNET_LEN] {
    let mut header = [0; ETHERNET_LEN];
    let fields = to.0.into_iter().chain(from.0);
    for (at, octet) in header
        .iter_mut()
        .zip(fields.chain(ETHERTYPE_IPV6.to_be_bytes()))
    {
        *at = octet;
    }
    header
}

/// A link-layer address option of Neighbor Discovery (RFC 4861 §4.6.1).
pub fn link_layer_option(kind: u8, mac: MacAddr) -> impl Iterator<Item = u8> {
    [kind, 1].into_iter().chain(mac.0)
}

/// A frame with an ICMPv6 message of Neighbor Discovery, whose checksum it fills in.
pub fn icmpv6_frame(
    from: MacAddr,
    to: MacAddr,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    mut icmp: Vec<u8>,
) -> Vec<u8> {
    let sum = checksum(source, destination, next_header::ICMPV6, &icmp);
    if let Some(field) = icmp.get_mut(2..4) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    let mut out = ethernet(from, to).to_vec();
    out.extend(ipv6_packet(
        source,
        destination,
        next_header::ICMPV6,
        HOP_LIMIT,
        &icmp,
    ));
    out
}
