//! Neighbour discovery (RFC 4861) without a clock or a socket, and the packets it is made of.
//!
//! * [`NeighbourDiscovery`] keeps the neighbours of an LMA or MAG, once for all of its workers;
//! * [`icmp6`] has the ICMPv6 messages that a router makes and reads, [`host`] those of a mobile node;
//! * [`router`] puts a MAG's advertisements into words, and so needs its state machine: the feature `router`;
//! * [`packet`] is just enough of IPv6 for both.
//!
//! Nothing panics on any octets.

pub mod host;
pub mod icmp6;
pub mod neighbours;
pub mod packet;
#[cfg(feature = "router")]
pub mod router;

pub use neighbours::{NdPort, NeighbourDiscovery};
