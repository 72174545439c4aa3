//! What the control plane tells a worker, and what it asks it.
//!
//! Every update is a full statement about one thing, so it can be sent again without harm, and
//! a worker applies it between two bursts: no packet sees half of one.

use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use crate::capture::Filter;
use crate::drop::DropReason;
use crate::id::{Fid, FidPriority, Hnp, MacAddr, MobileId, PathId, PortId, WorkerId};
use crate::path::Path;
use crate::selector::TrafficSelector;

/// Which of a process's two tables is meant: a process may be LMA and MAG at once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The local mobility anchor's table.
    Lma,
    /// The mobile access gateway's table.
    Mag,
}

/// Writes the role as the configuration and the API spell it.
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Lma => "lma",
            Self::Mag => "mag",
        })
    }
}

/// One flow rule as a worker holds it (RFC 6089 §4.3).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rule {
    /// The flow.
    pub fid: Fid,
    /// Its place among the mobile's rules.
    pub priority: FidPriority,
    /// Its downlink packets.
    pub selector: TrafficSelector,
    /// What happens to them.
    pub action: RuleAction,
}

/// What a rule does with a packet (RFC 6089 §4.2.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleAction {
    /// Sends it on this path.
    Forward(PathId),
    /// Discards it.
    Drop,
}

/// All that a worker knows about one home network prefix.
///
/// | role | `default_path` | `sources` | `uplink` |
/// | --- | --- | --- | --- |
/// | LMA | tunnel to the MAG of the owning session | tunnels of every MAG that may send for the prefix | `None`: routed |
/// | MAG | the mobile's link | the mobile's link | tunnel to the LMA, and the only one accepted from |
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Binding {
    /// The mobile the prefix belongs to.
    pub mobile: MobileId,
    /// Where packets to the prefix go that match no rule; `None` drops them as
    /// [`DropReason::BindingInactive`].
    pub default_path: Option<PathId>,
    /// Paths that packets *from* the prefix may arrive on: the source check of RFC 5213 §5.6.2
    /// and RFC 6275 §10.4.5 at an LMA, ingress filtering at a MAG. At most
    /// [`Binding::MAX_SOURCES`].
    pub sources: Vec<PathId>,
    /// Where packets from the prefix go; `None` routes them by destination.
    pub uplink: Option<PathId>,
    /// At a MAG, whether packets to the prefix from the MAG's own links take its default path instead of
    /// their senders' tunnels (EnableMAGLocalRouting, RFC 5213 §9.2).
    pub local: bool,
    /// Rules for packets to the prefix, in ascending priority. At most [`Binding::MAX_RULES`].
    pub rules: Vec<Rule>,
}

impl Binding {
    /// Most accesses one prefix may be used over at once.
    pub const MAX_SOURCES: usize = 4;
    /// Most flow rules that may apply to one prefix.
    pub const MAX_RULES: usize = 64;
}

/// A change to one role's tables: what the protocol's state machines emit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TableUpdate {
    /// Creates, replaces or (with `None`) removes a path. A path is removed only after every
    /// binding that names it.
    Path {
        /// Its index.
        id: PathId,
        /// Its content.
        path: Option<Path>,
    },
    /// Creates, replaces or (with `None`) removes all that is known about a prefix.
    Binding {
        /// The prefix.
        hnp: Hnp,
        /// Its content.
        binding: Option<Box<Binding>>,
    },
}

/// Where a route leads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum RouteNext {
    /// The destination is a neighbour on this port.
    OnLink(PortId),
    /// Through this neighbour.
    Via(PortId, Ipv6Addr),
}

/// A message from the control thread to a worker. Workers apply them in order, before the next
/// burst is received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Update {
    /// A change to a role's tables.
    Table(Role, TableUpdate),
    /// Creates, replaces or (with `None`) removes a static route; the longest prefix wins.
    Route {
        /// Destinations.
        prefix: Ipv6Net,
        /// Where they are.
        next: Option<RouteNext>,
    },
    /// What is known of a neighbour. With `None` it could not be resolved: packets held for
    /// it are dropped (and their senders told), and the next packet asks again.
    Neighbour {
        /// The port it is on.
        port: PortId,
        /// Its address.
        address: Ipv6Addr,
        /// Its link-layer address.
        mac: Option<MacAddr>,
    },
    /// The way between a tunnel's ends carries no more than this, as a router on it has said: until the
    /// worker's time for that is over (RFC 8201 §4), or for good if the path says less anyway.
    PathMtu {
        /// Our end.
        local: Ipv6Addr,
        /// The other end.
        remote: Ipv6Addr,
        /// Octets of an outer packet; less than 1280 counts as 1280.
        mtu: u16,
    },
    /// Where an LMA takes home network prefixes from, in place of what was said before. Of a pool that is
    /// no longer named, no prefix may be in the table.
    Pools(Vec<Ipv6Net>),
    /// From now on an address that was another process's is ours: packets to it end here, and neighbours on this port who
    /// ask for it are answered.
    Claim {
        /// The port that it is on.
        port: PortId,
        /// The address.
        address: Ipv6Addr,
    },
    /// Whose signalling is expected, in place of what was said before.
    Peers(Vec<Ipv6Addr>),
    /// Begins, changes or (with `None`) ends a capture.
    Capture(Option<Arc<Filter>>),
    /// Sends a packet that the control plane made.
    Transmit(Box<Transmit>),
    /// Asks for a [`Report`].
    Report(ReportRequest),
    /// Ends the worker after this burst.
    Stop,
}

/// A packet from the control plane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// The whole IPv6 packet, checksums included.
    pub packet: Vec<u8>,
    /// Where it goes.
    pub to: TransmitTo,
}

/// How a control-plane packet finds its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransmitTo {
    /// By the route and neighbour of its destination.
    Routed,
    /// On this port to this station.
    Link(PortId, MacAddr),
}

/// A question to a worker. Answers carry `token` back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReportRequest {
    /// All counters.
    Counters {
        /// Returned with the answer.
        token: u64,
    },
    /// The counters of one prefix.
    Binding {
        /// Returned with the answer.
        token: u64,
        /// Which table.
        role: Role,
        /// Which prefix.
        hnp: Hnp,
    },
}

/// A worker's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// All counters since the worker started.
    Counters {
        /// Of the question.
        token: u64,
        /// Who answers.
        worker: WorkerId,
        /// The values.
        counters: Box<Counters>,
    },
    /// Counters of one prefix; `None` if the worker does not know it.
    Binding {
        /// Of the question.
        token: u64,
        /// Who answers.
        worker: WorkerId,
        /// The values.
        counters: Option<Box<BindingCounters>>,
    },
}

/// What one worker has counted since it started.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Per port, indexed by [`PortId`].
    pub ports: Vec<PortCounters>,
    /// Packets dropped, indexed as [`DropReason::ALL`].
    pub drops: Vec<u64>,
    /// Packets handed to the control plane.
    pub punted: u64,
    /// Packets that ended at the appliance itself: echo requests answered, solicitations answered,
    /// fragments that others were joined with.
    pub consumed: u64,
    /// Packets the worker made: ICMPv6 errors and replies, second fragments, and those of the control
    /// plane.
    pub originated: u64,
    /// Packets held at this moment: for a neighbour, for a port that is busy, or for the rest of their
    /// fragments.
    pub held: u64,
    /// Packets sent into tunnels in fragments (RFC 2473 §7.1). Each fragment but the first was
    /// originated.
    pub fragmented: u64,
    /// Packets put together from fragments (RFC 2473 §7). Each fragment but one was consumed.
    pub reassembled: u64,
    /// Fragments of mobiles' packets that came before the first one, and went by rules that need no
    /// ports.
    pub early_fragments: u64,
    /// Packets handed to other workers: to the one that their flow belongs to, or to one that sends
    /// on a port where this one does not.
    pub handed_over: u64,
    /// Packets that other workers handed to this one.
    pub taken_over: u64,
    /// Traffic per path of the LMA table, indexed by [`PathId`].
    pub lma_paths: Vec<PathCounters>,
    /// Traffic per path of the MAG table, indexed by [`PathId`].
    pub mag_paths: Vec<PathCounters>,
    /// Poll-loop turns.
    pub turns: u64,
    /// Turns that found at least one packet.
    pub busy_turns: u64,
    /// Updates finished with, refused ones included.
    pub updates: u64,
    /// Updates refused because a table was full or they made no sense; they changed nothing.
    pub updates_refused: u64,
}

impl Counters {
    /// Packets dropped for one reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or(0)
    }
}

/// One worker's packets and octets on one port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PortCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Octets received, Ethernet header included, FCS not.
    pub rx_octets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Octets sent.
    pub tx_octets: u64,
}

/// Traffic of one path: inner packets and inner octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PathCounters {
    /// Packets sent on it.
    pub out_packets: u64,
    /// Octets sent on it.
    pub out_octets: u64,
    /// Packets accepted from it.
    pub in_packets: u64,
    /// Octets accepted from it.
    pub in_octets: u64,
}

/// Traffic of one prefix.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct BindingCounters {
    /// Packets towards the mobile.
    pub downlink_packets: u64,
    /// Octets towards the mobile, inner header included.
    pub downlink_octets: u64,
    /// Packets from the mobile.
    pub uplink_packets: u64,
    /// Octets from the mobile.
    pub uplink_octets: u64,
    /// Downlink packets per rule, in the order of [`Binding::rules`].
    pub rules: Vec<(Fid, u64)>,
}
