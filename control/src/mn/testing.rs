//! Messages of routers, for the tests of this host.

use std::net::Ipv6Addr;

use flow::MacAddr;
use nd::host::{icmpv6_frame, link_layer_option};
use nd::icmp6::{ALL_NODES, solicited_node};

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
    icmpv6_frame(MacAddr::MAG, to, MacAddr::MAG.link_local(), ALL_NODES, icmp)
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
    icmpv6_frame(MacAddr::MAG, to, source, group, icmp)
}
