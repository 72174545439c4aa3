//! The poll loop.

mod choose;
mod lanes;
pub(crate) mod share;
mod stages;
mod update;
mod ways;

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use flow::{DropReason, MacAddr, PortId, Report, Role};
use ipnet::Ipv6Net;

use crate::capture::Capture;
use crate::config::{Idle, PortConfig, WorkerConfig};
use crate::egress::{Port, total_len};
use crate::fib::Fib;
use crate::fragment::{Firsts, Gathering, Identifications};
use crate::ingress::{OwnAddresses, Passage};
use crate::io::{BURST, Burst, PacketIo};
use crate::mtu::LearnedMtus;
use crate::neighbour::Neighbours;
use crate::packet::header::MIN_MTU;
use crate::police::Police;
use crate::ring::WorkerRings;
use crate::role::RoleState;
use crate::simd::Level;
use crate::spread::{Peers, Spread};
use crate::table::TableError;
use ways::Hop;

/// Most updates applied before packets are received again: a flood of them must not starve the ports.
const UPDATES_PER_TURN: usize = 256;
/// Most of them that are fetched together.
const UPDATE_BATCH: usize = 32;

/// Why a worker cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkerError {
    /// A port's number is not its place in the list.
    #[error("port {port} is at place {place} of the worker's ports")]
    PortNumber {
        /// The number it has.
        port: PortId,
        /// Where it is.
        place: usize,
    },
    /// An MTU below the IPv6 minimum.
    #[error("port {port} has an MTU of {mtu}, IPv6 needs at least 1280")]
    Mtu {
        /// The port.
        port: PortId,
        /// Its MTU.
        mtu: u16,
    },
    /// A static route that cannot be installed.
    #[error("route to {prefix}: {error}")]
    Route {
        /// Its destinations.
        prefix: Ipv6Net,
        /// Why not.
        error: TableError,
    },
}

/// Where a worker takes the time from: once in many turns, never per packet.
pub struct Clock(Box<dyn FnMut() -> Duration + Send>);

impl Clock {
    /// Time since this call, by the system's monotonic clock.
    pub fn monotonic() -> Self {
        let start = Instant::now();
        Self(Box::new(move || start.elapsed()))
    }

    /// Any source of a time that never goes back.
    pub fn new(source: impl FnMut() -> Duration + Send + 'static) -> Self {
        Self(Box::new(source))
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

/// One poll-mode worker: it owns its queues and its tables, and shares nothing.
///
/// Give it to a thread and call [`Worker::run`]; or call [`Worker::turn`] in a loop of your own.
#[derive(Debug)]
pub struct Worker<Io: PacketIo> {
    pub(crate) io: Io,
    pub(crate) rings: WorkerRings,
    pub(crate) id: flow::WorkerId,
    /// What the processor has.
    level: Level,
    idle: Idle,
    clock: Clock,
    clock_turns: u64,
    /// Who wants to see packets; `None` while nobody does.
    pub(crate) capture: Option<Box<Capture>>,
    /// The other workers; `None` if this is the only one.
    pub(crate) peers: Option<Peers<Io::Packet>>,
    pub(crate) ports: Vec<Port<Io::Packet>>,
    pub(crate) own: OwnAddresses,
    pub(crate) lma: Option<RoleState>,
    pub(crate) mag: Option<RoleState>,
    pub(crate) fib: Fib,
    pub(crate) neighbours: Neighbours<Io::Packet>,
    /// Packets to us that come in fragments.
    pub(crate) gathering: Gathering<Io::Packet>,
    /// What the first fragments of mobiles' packets showed.
    pub(crate) firsts: Firsts,
    pub(crate) identifications: Identifications,
    pub(crate) mtus: LearnedMtus,
    /// Room for what the stages find out about a burst; what is left there means nothing.
    passages: Vec<Passage>,
    /// What packets that leave the LMA's tunnels went on over last.
    hop: Hop,
    /// The time when the clock was read last.
    pub(crate) now: Duration,
    pub(crate) police: Police,
    /// Places of the punt ring that only signalling may fill.
    pub(crate) punt_reserve: usize,
    pub(crate) drops: [u64; DropReason::ALL.len()],
    pub(crate) punted: u64,
    pub(crate) consumed: u64,
    pub(crate) originated: u64,
    pub(crate) fragmented: u64,
    pub(crate) reassembled: u64,
    turns: u64,
    busy_turns: u64,
    updates: u64,
    updates_refused: u64,
    /// A report that found its ring full: nothing more is applied until it is through.
    stalled: Option<Report>,
    stopped: bool,
}

impl<Io: PacketIo> Worker<Io> {
    /// A worker on these ports, with empty tables.
    ///
    /// # Errors
    /// [`WorkerError`] if the configuration contradicts itself.
    pub fn new(config: WorkerConfig, io: Io, rings: WorkerRings) -> Result<Self, WorkerError> {
        Self::with_clock(config, io, rings, Clock::monotonic())
    }

    /// As [`Worker::new`] with a clock of one's own.
    ///
    /// # Errors
    /// As [`Worker::new`].
    pub fn with_clock(
        config: WorkerConfig,
        io: Io,
        rings: WorkerRings,
        clock: Clock,
    ) -> Result<Self, WorkerError> {
        let mut worker = Self {
            io,
            id: config.id,
            level: Level::detect(),
            idle: config.idle,
            clock,
            clock_turns: u64::from(config.clock_turns.max(1)),
            capture: None,
            peers: None,
            ports: Vec::new(),
            own: OwnAddresses::default(),
            lma: config.lma.as_ref().map(RoleState::lma),
            mag: config.mag.as_ref().map(RoleState::mag),
            fib: Fib::default(),
            neighbours: Neighbours::new(config.neighbours),
            gathering: Gathering::new(config.fragments),
            firsts: Firsts::new(config.fragments.remembered, config.fragments.time),
            identifications: Identifications::new(),
            mtus: LearnedMtus::new(config.path_mtu_lifetime),
            passages: vec![Passage::NEW; BURST],
            hop: Hop::NONE,
            now: Duration::ZERO,
            police: Police::new(
                &config.punts,
                &config.peers,
                config.ports.len(),
                config.icmp_errors,
            ),
            punt_reserve: rings.punt_capacity() / 4,
            rings,
            drops: [0; DropReason::ALL.len()],
            punted: 0,
            consumed: 0,
            originated: 0,
            fragmented: 0,
            reassembled: 0,
            turns: 0,
            busy_turns: 0,
            updates: 0,
            updates_refused: 0,
            stalled: None,
            stopped: false,
        };
        for port in &config.ports {
            worker.add_port(port, &config.unclaimed)?;
        }
        for role in [&worker.lma, &worker.mag].into_iter().flatten() {
            for address in &role.addresses {
                let others = config.unclaimed.iter().any(|a| a.to_bits() == *address);
                if !others && !worker.own.is_ours(*address) {
                    worker.own.add(*address, None);
                }
            }
        }
        worker.expect_anew();
        for (prefix, next) in config.routes {
            let error = |error| WorkerError::Route { prefix, error };
            worker.set_route(prefix, Some(next)).map_err(error)?;
        }
        Ok(worker)
    }

    fn add_port(&mut self, config: &PortConfig, unclaimed: &[Ipv6Addr]) -> Result<(), WorkerError> {
        let (port, place) = (config.id, self.ports.len());
        if usize::from(port.0) != place {
            return Err(WorkerError::PortNumber { port, place });
        }
        if config.mtu < MIN_MTU {
            let mtu = config.mtu;
            return Err(WorkerError::Mtu { port, mtu });
        }
        for address in &config.addresses {
            if !unclaimed.contains(&address.addr()) {
                self.own.add(address.addr().to_bits(), Some(port));
            }
            self.fib.connect(address.trunc(), port, config.mtu);
        }
        let shared = config.access.then_some(MacAddr::MAG);
        for mac in std::iter::once(config.mac).chain(shared) {
            self.own.add(mac.link_local().to_bits(), Some(port));
        }
        self.ports.push(Port::new(config));
        Ok(())
    }

    /// One turn of the loop: updates, then each port's burst, then what other workers handed over,
    /// then what is to be sent. Returns how many packets came in.
    pub fn turn(&mut self) -> usize {
        if self.turns.is_multiple_of(self.clock_turns) {
            self.now = (self.clock.0)();
            self.police.set_time(self.now);
            self.expire_fragments();
            self.expire_mtus();
        }
        self.turns += 1;
        self.apply_updates();
        let mut burst = Burst::new();
        let mut received = 0;
        for port in 0..self.ports.len() {
            received += self.poll(port, &mut burst);
        }
        if self.peers.is_some() {
            received += self.take_over(&mut burst);
        }
        self.ask_for_neighbours();
        self.flush();
        self.busy_turns += u64::from(received > 0);
        received
    }

    /// Turns until [`flow::Update::Stop`] comes.
    pub fn run(&mut self) {
        let mut empty: u32 = 0;
        while !self.stopped {
            empty = match self.turn() {
                0 => empty.saturating_add(1),
                _ => 0,
            };
            match self.idle {
                Idle::Adaptive { spins, sleep } if empty > spins => std::thread::sleep(sleep),
                Idle::Adaptive { .. } | Idle::Poll => std::hint::spin_loop(),
            }
        }
    }

    /// Whether [`flow::Update::Stop`] has come.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The ports.
    pub fn io(&self) -> &Io {
        &self.io
    }

    /// The ports, to be changed.
    pub fn io_mut(&mut self) -> &mut Io {
        &mut self.io
    }

    /// Receives and handles one burst.
    fn poll(&mut self, place: usize, burst: &mut Burst<Io::Packet>) -> usize {
        let Some(port) = self.ports.get_mut(place) else {
            return 0;
        };
        self.io.rx(port.id, burst);
        if burst.is_empty() {
            return 0;
        }
        let received = burst.len();
        port.counters.rx_packets += received as u64;
        port.counters.rx_octets += total_len(burst);
        if port.spread != Spread::Nothing {
            self.hand_over(place, burst);
        }
        self.handle(place, burst);
        received
    }

    /// One role's tables.
    #[inline(always)]
    pub(crate) fn role(&self, role: Role) -> Option<&RoleState> {
        match role {
            Role::Lma => self.lma.as_ref(),
            Role::Mag => self.mag.as_ref(),
        }
    }

    /// One role's tables, to be changed.
    #[inline(always)]
    pub(crate) fn role_mut(&mut self, role: Role) -> Option<&mut RoleState> {
        one_of(&mut self.lma, &mut self.mag, role)
    }

    /// Whether mobiles attach on this port.
    pub(crate) fn is_access(&self, port: PortId) -> bool {
        let port = self.ports.get(usize::from(port.0));
        port.is_some_and(|port| port.access)
    }
}

/// One role's tables, where a worker's other parts are borrowed as well.
#[inline(always)]
fn one_of<'a>(
    lma: &'a mut Option<RoleState>,
    mag: &'a mut Option<RoleState>,
    role: Role,
) -> Option<&'a mut RoleState> {
    match role {
        Role::Lma => lma.as_mut(),
        Role::Mag => mag.as_mut(),
    }
}
