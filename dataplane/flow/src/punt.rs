//! What a worker hands to the control plane: policed, and never waited for.

use std::net::Ipv6Addr;

use crate::id::{MacAddr, PortId};

/// A packet or a question only the control plane can answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Punt {
    /// A Mobility Header packet (next header 135) to an address of ours, or one that may be protected by ESP (50).
    Mobility {
        /// Where it came in.
        port: PortId,
        /// The whole IPv6 packet.
        packet: Vec<u8>,
    },
    /// A Router Solicitation, Neighbour Solicitation or Neighbour Advertisement whose hop limit
    /// (255), length and checksum were found right (RFC 4861 §6.1.1, §7.1). Solicitations for our own
    /// addresses have been answered already.
    NeighbourDiscovery {
        /// Where it came in.
        port: PortId,
        /// The station that sent it.
        source: MacAddr,
        /// The whole IPv6 packet.
        packet: Vec<u8>,
    },
    /// A next hop has to be resolved: packets for it are held.
    Resolve {
        /// The port it is on.
        port: PortId,
        /// Its address.
        next_hop: Ipv6Addr,
    },
    /// An ICMPv6 Packet Too Big about a packet of one of our tunnels: what the way to its remote end
    /// carries (RFC 2473 §7). The worker that saw it goes by it already, the others do not.
    PathMtu {
        /// Our end.
        local: Ipv6Addr,
        /// The other end.
        remote: Ipv6Addr,
        /// Octets of an outer packet, at least 1280.
        mtu: u16,
    },
    /// A packet came from a station on an access port whose source address belongs to no binding there:
    /// perhaps a mobile that has not been attached yet.
    UnknownMobile {
        /// The access port.
        port: PortId,
        /// The station.
        source: MacAddr,
    },
}
