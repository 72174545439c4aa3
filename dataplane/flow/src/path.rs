//! Paths: where a worker sends the packets of a mobile.

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use crate::id::{MacAddr, PortId};

/// Where packets go, and where packets of the same mobile may come from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Path {
    /// IPv6-in-IPv6 between LMA and MAG (RFC 5213 §5.6.1, §6.10).
    Tunnel(Tunnel),
    /// The point-to-point link between MAG and mobile (RFC 5213 §6.10.3).
    Link(Link),
}

/// One bidirectional IPv6-in-IPv6 tunnel, seen from this end (RFC 2473).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Tunnel {
    /// Outer source of what is sent: the LMAA at an LMA, the Proxy-CoA at a MAG.
    pub local: Ipv6Addr,
    /// Outer destination of what is sent; the only outer source accepted.
    pub remote: Ipv6Addr,
    /// Outer hop limit, 64 by default (RFC 2473 §6.3).
    pub hop_limit: u8,
    /// Path MTU between the ends in octets, outer header included, 1280 to 65535.
    pub path_mtu: u16,
    /// Whether the inner DSCP is copied to the outer header; ECN always follows RFC 6040.
    pub copy_dscp: bool,
    /// How often packets may be encapsulated once more on the way: adds a Tunnel Encapsulation Limit
    /// option to each (RFC 2473 §4.1.1, §6.6).
    pub encapsulation_limit: Option<u8>,
}

/// A mobile's end of a MAG's access port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Link {
    /// The access port.
    pub port: PortId,
    /// The mobile's link-layer address there: its packets must come from it.
    pub mac: MacAddr,
}
