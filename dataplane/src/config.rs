//! What a worker is told when it starts.

use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{MacAddr, PortId, RouteNext, WorkerId};
use ipnet::Ipv6Net;

pub use crate::police::Rate;

/// All that a worker is told when it starts.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The worker's number.
    pub id: WorkerId,
    /// Its ports; the one with [`PortId`] `n` at place `n`.
    pub ports: Vec<PortConfig>,
    /// The anchor's part, if the process is one.
    pub lma: Option<LmaConfig>,
    /// The gateway's part, if the process is one.
    pub mag: Option<MagConfig>,
    /// Static routes. Those to the ports' own prefixes are added by the worker.
    pub routes: Vec<(Ipv6Net, RouteNext)>,
    /// The LMAs and MAGs of the configuration: the signalling of each has a rate of its own.
    pub peers: Vec<Ipv6Addr>,
    /// Addresses among those above that are another process's until [`flow::Update::Claim`] says that they are ours.
    pub unclaimed: Vec<Ipv6Addr>,
    /// What to do while nothing comes in.
    pub idle: Idle,
    /// What the control plane may be asked, and how often.
    pub punts: PuntRates,
    /// ICMPv6 errors (RFC 4443 §2.4 f).
    pub icmp_errors: Rate,
    /// Packets waiting for neighbours.
    pub neighbours: NeighbourLimits,
    /// Packets that come in fragments.
    pub fragments: FragmentLimits,
    /// How long a router's word on the MTU of a tunnel's way is believed (RFC 8201 §4).
    pub path_mtu_lifetime: Duration,
    /// The clock is read once in so many turns.
    pub clock_turns: u32,
}

impl WorkerConfig {
    /// A configuration without roles and routes, and with the default limits.
    pub fn new(id: WorkerId, ports: Vec<PortConfig>) -> Self {
        Self {
            id,
            ports,
            lma: None,
            mag: None,
            routes: Vec::new(),
            peers: Vec::new(),
            unclaimed: Vec::new(),
            idle: Idle::default(),
            punts: PuntRates::default(),
            icmp_errors: Rate {
                per_second: 100,
                burst: 100,
            },
            neighbours: NeighbourLimits::default(),
            fragments: FragmentLimits::default(),
            path_mtu_lifetime: Duration::from_mins(10),
            clock_turns: 32,
        }
    }
}

/// A port as a worker sees it.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// Its number, which is its place among the worker's ports.
    pub id: PortId,
    /// Its link-layer address. An access port with [`MacAddr::MAG`] is what RFC 6543 §3 asks for.
    pub mac: MacAddr,
    /// Greatest IPv6 packet it carries, in octets, at least 1280.
    pub mtu: u16,
    /// The appliance's addresses on it, each with the length of the link's prefix. The link-local
    /// address of `mac` is added, and on access ports the one all MAGs share (RFC 6543 §3).
    pub addresses: Vec<Ipv6Net>,
    /// Whether mobiles attach here: what comes in is filtered by its source and tunnelled.
    pub access: bool,
}

/// The anchor's part of a worker.
#[derive(Clone, Debug)]
pub struct LmaConfig {
    /// The LMAAs: tunnel packets to them are for us.
    pub addresses: Vec<Ipv6Addr>,
    /// Where home network prefixes are taken from. A packet to an address in a pool that no binding
    /// covers is not routed.
    pub pools: Vec<Ipv6Net>,
    /// Prefixes of 64 bits to make room for; a few more fit.
    pub expected_bindings: usize,
    /// Prefixes of other lengths to make room for; there is always room for 1024.
    pub other_lengths: usize,
}

/// The gateway's part of a worker.
#[derive(Clone, Debug)]
pub struct MagConfig {
    /// The Proxy-CoAs: tunnel packets to them are for us.
    pub addresses: Vec<Ipv6Addr>,
    /// Prefixes of 64 bits to make room for; a few more fit.
    pub expected_bindings: usize,
    /// Prefixes of other lengths to make room for; there is always room for 1024.
    pub other_lengths: usize,
}

/// What a worker does while nothing comes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Idle {
    /// Polls on: for a core of its own.
    #[default]
    Poll,
    /// Sleeps after some empty turns: for a shared core.
    Adaptive {
        /// Empty turns before the first sleep.
        spins: u32,
        /// Length of a sleep.
        sleep: Duration,
    },
}

/// Rates of what is handed to the control plane. Each kind has its own, so that none can crowd
/// out another, and within a kind each sender has, so that none can crowd out the others; of the ring, a
/// quarter is left to the signalling of peers alone.
#[derive(Clone, Copy, Debug)]
pub struct PuntRates {
    /// Mobility Header packets of one peer, protected by ESP or not. A burst is a part of the ring, not all
    /// of it.
    pub signalling: Rate,
    /// Mobility Header packets of all who are no peers.
    pub strangers: Rate,
    /// Neighbour discovery messages on one port.
    pub neighbour_discovery: Rate,
    /// Of those, messages of one station.
    pub station_discovery: Rate,
    /// Next hops to resolve on one port.
    pub resolve: Rate,
    /// Unknown stations on one access port.
    pub unknown_mobile: Rate,
    /// How often one of them is reported.
    pub station_unknown: Rate,
    /// What routers say about the MTU of a tunnel's way.
    pub path_mtu: Rate,
}

impl Default for PuntRates {
    fn default() -> Self {
        let rate = |per_second| Rate {
            per_second,
            burst: per_second,
        };
        Self {
            signalling: Rate {
                per_second: 20_000,
                burst: 512,
            },
            strangers: rate(100),
            neighbour_discovery: rate(1_000),
            station_discovery: rate(50),
            resolve: rate(500),
            unknown_mobile: rate(200),
            station_unknown: rate(5),
            path_mtu: rate(100),
        }
    }
}

/// Bounds on what neighbour resolution may cost.
#[derive(Clone, Copy, Debug)]
pub struct NeighbourLimits {
    /// Packets held for one neighbour.
    pub held_each: usize,
    /// Packets held in all.
    pub held_total: usize,
    /// Neighbours kept, next hops of routes and tunnels included.
    pub entries: usize,
    /// Neighbours on one port that packets wait for and that have not answered, next hops of routes and
    /// tunnels not included: who scans one network does not take the room of the others (RFC 6583 §4).
    pub unanswered: usize,
}

impl Default for NeighbourLimits {
    fn default() -> Self {
        Self {
            held_each: 16,
            held_total: 512,
            entries: 8192,
            unanswered: 1024,
        }
    }
}

/// Bounds on what fragments may cost.
#[derive(Clone, Copy, Debug)]
pub struct FragmentLimits {
    /// Packets to us of which some fragments are held.
    pub packets: usize,
    /// Fragments held in all.
    pub fragments: usize,
    /// First fragments of mobiles' packets that are remembered, so that the others follow them.
    pub remembered: usize,
    /// For how long each of these is kept (RFC 8200 §4.5: 60 s).
    pub time: Duration,
}

impl Default for FragmentLimits {
    fn default() -> Self {
        Self {
            packets: 128,
            fragments: 512,
            remembered: 1024,
            time: Duration::from_mins(1),
        }
    }
}
