//! What the state machines want done.

use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{Hnp, MacAddr, PortId, TableUpdate};
use pmip_wire::Message;

/// An effect, for the caller to carry out. Commands come in order, and the order matters: a table
/// change comes before the message that promises it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Encode and send this message. Nothing is fed back: the state machine retransmits by itself.
    Send {
        /// Source address: one of the role's own.
        from: Ipv6Addr,
        /// Destination address.
        to: Ipv6Addr,
        /// The message, without checksum.
        message: Message,
    },
    /// Tell every worker, under the role of the state machine that says so, before carrying out the
    /// commands that follow.
    Table(TableUpdate),
    /// Send a Router Advertisement to a mobile. Only a MAG asks for it.
    Advertise(RouterAdvertisement),
}

/// A Router Advertisement to one mobile on its point-to-point link (RFC 5213 §6.7, RFC 4861 §4.2).
///
/// Sent to all nodes in IPv6, but to `mac` alone on the link, with hop limit 255.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouterAdvertisement {
    /// The access port.
    pub port: PortId,
    /// The mobile's link-layer address.
    pub mac: MacAddr,
    /// Source address: the MAG's link-local address on this link.
    pub source: Ipv6Addr,
    /// Prefixes, each on-link (L set), and for autoconfiguration (A) if it has 64 bits.
    pub prefixes: Vec<AdvertisedPrefix>,
    /// MTU option: the largest packet that fits both tunnel and link.
    pub mtu: u16,
    /// How long the MAG is a default router; zero if it is no longer.
    pub router_lifetime: Duration,
}

/// A prefix information option (RFC 4861 §4.6.2). Granted off-link prefixes are never among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AdvertisedPrefix {
    /// The prefix.
    pub hnp: Hnp,
    /// Valid and preferred lifetime; zero withdraws the prefix.
    pub lifetime: Duration,
}
