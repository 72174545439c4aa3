//! Messages of routers, for the tests of this host.

use std::net::Ipv6Addr;

use flow::MacAddr;
use nd::host::ethernet;
use nd::icmp6::{ALL_NODES, solicited_node};
use nd::packet::{checksum, ipv6_packet, next_header};

const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const SOURCE_LINK_LAYER: u8 = 1;
const PREFIX_INFORMATION: u8 = 3;
const MTU: u8 = 5;

/// A frame with a Router Advertisement from the fixed identity of a MAG (RFC 6543).
pub(crate) fn advertisement(lifetime: u16, mtu: u32, prefixes: &[(&str, u32)]) -> Vec<u8> {
    let mut icmp = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0];
    icmp.extend(lifetime.to_be_bytes());
    icmp.extend([0; 8]);
    icmp.extend(link_layer_option(SOURCE_LINK_LAYER, MacAddr::MAG));
    icmp.extend([MTU, 1, 0, 0]);
    icmp.extend(mtu.to_be_bytes());
    for (prefix, valid) in prefixes {
        icmp.extend([PREFIX_INFORMATION, 4, 64, 0xc0]);
        icmp.extend(valid.to_be_bytes());
        icmp.extend(valid.to_be_bytes());
        icmp.extend([0; 4]);
        icmp.extend(prefix.parse::<Ipv6Addr>().unwrap().octets());
    }
    let to = MacAddr::for_multicast(ALL_NODES);
    frame(MacAddr::MAG, to, MacAddr::MAG.link_local(), ALL_NODES, icmp)
}

/// A frame in which `source` asks for `target`.
pub(crate) fn solicitation(source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let mut icmp = vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    icmp.extend(target.octets());
    if !source.is_unspecified() {
        icmp.extend(link_layer_option(SOURCE_LINK_LAYER, MacAddr::MAG));
    }
    let group = solicited_node(target);
    let to = MacAddr::for_multicast(group);
    frame(MacAddr::MAG, to, source, group, icmp)
}

fn link_layer_option(kind: u8, mac: MacAddr) -> impl Iterator<Item = u8> {
    [kind, 1].into_iter().chain(mac.0)
}

fn frame(
    from: MacAddr,
    to: MacAddr,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    mut icmp: Vec<u8>,
) -> Vec<u8> {
    let sum = checksum(source, destination, next_header::ICMPV6, &icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let packet = ipv6_packet(source, destination, next_header::ICMPV6, 255, &icmp);
    [ethernet(from, to).as_slice(), &packet].concat()
}
