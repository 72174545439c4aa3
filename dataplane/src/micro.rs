//! For benchmarks of single stages only: no stable API, it changes with the stages.
//!
//! A [`Bench`] holds an LMA's worker and a few bursts of packets. Its methods take all of them through
//! one stage, burst by burst, compiled as the worker compiles it for this processor, and return how many
//! packets fared as they should: fewer than [`PACKETS`] is a broken benchmark.
//!
//! A packet is one pointer to its bounds, which are in another cache line than its octets, as in an mbuf.
//! Both stay in the first two caches, where behind a card they would come from the third.

mod lma;
mod train;

use flow::Update;

use crate::io::memory::{MemoryIo, MemoryPacket};
use crate::io::{BURST, Burst};
use crate::ring::{ControlRings, RingSizes, rings};
use crate::simd::Level;
use crate::spread::{Peers, PortShare, Spread, peers};
use crate::table::hash::reduce;
use crate::worker::share::Flows;
use crate::worker::{Worker, WorkerError};
use train::{Stage, Through, Train};

/// Bursts that a method takes through its stage.
pub const BURSTS: usize = 8;
/// Packets in them.
pub const PACKETS: usize = BURSTS * BURST;

/// Rules of each binding, every one for another UDP port and into another tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rules {
    /// So many; up to four are in the binding's record.
    Exact(u16),
    /// So many, which also ask for a range of sources: each match is confirmed in full.
    Wide(u16),
}

/// Which way the packets of a bench go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// To mobiles, 64 octets.
    Down,
    /// Out of tunnels, 104 octets.
    Up,
}

/// A worker, packets for it, and a peer of it.
#[derive(Debug)]
pub struct Bench {
    level: Level,
    worker: Worker<MemoryIo>,
    control: ControlRings,
    peers: Vec<Peers<Box<MemoryPacket>>>,
    trains: Vec<Train>,
    updates: Vec<Update>,
    bindings: u32,
    rules: Rules,
    random: u64,
}

impl Bench {
    /// An LMA that holds so many `bindings`, at most 2^24.
    ///
    /// # Errors
    /// None but a fault in here.
    pub fn new(bindings: u32, rules: Rules) -> Result<Self, WorkerError> {
        let io = MemoryIo::new(1, PACKETS);
        let (worker_end, control) = rings(RingSizes::default());
        let train = |_| Train::new((0..BURST).filter_map(|_| io.pool().alloc()));
        let share = PortShare {
            queues: 1,
            spread: Spread::All,
        };
        let mut bench = Self {
            level: Level::detect(),
            trains: (0..BURSTS).map(train).collect(),
            worker: Worker::new(lma::config(bindings), io, worker_end)?,
            control,
            peers: peers(2, &[share], PACKETS),
            updates: Vec::new(),
            bindings,
            rules,
            random: 1,
        };
        for update in lma::updates(bindings, rules) {
            bench.tell(update);
        }
        bench.settle();
        Ok(bench)
    }

    fn tell(&mut self, mut update: Update) {
        while let Err(back) = self.control.push(update) {
            update = back;
            self.worker.turn();
        }
    }

    /// Turns until all updates are in force: a turn takes some of them only.
    fn settle(&mut self) {
        while self.control.applied() < self.control.pushed() {
            self.worker.turn();
        }
    }

    fn draw(&mut self, count: u32) -> u32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ self.random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        reduce(mixed ^ mixed << 27, count)
    }

    /// Writes new packets, each for a mobile and a rule drawn anew.
    pub fn fresh(&mut self, way: Way) {
        let (Rules::Exact(rules) | Rules::Wide(rules)) = self.rules;
        let mut trains = std::mem::take(&mut self.trains);
        for train in &mut trains {
            for place in 0..BURST {
                let (mobile, rule) = (self.draw(self.bindings), self.draw(rules.into()));
                train.write(place, way, mobile, rule, self.draw(1 << 16));
            }
        }
        self.trains = trains;
    }

    /// Makes updates for [`Bench::update`]: bindings drawn anew, to be replaced.
    pub fn fresh_updates(&mut self) {
        while self.updates.len() < PACKETS {
            let mobile = self.draw(self.bindings);
            self.updates.extend(lma::binding(mobile, self.rules));
        }
    }

    /// Looks at each packet for the first time, which also asks for the bucket of its binding.
    pub fn parse(&mut self) -> usize {
        self.through(Stage::Parse)
    }

    /// Finds the bindings: asks for the buckets of a burst, looks in them, asks for the records.
    pub fn lookup(&mut self) -> usize {
        self.through(Stage::Lookup)
    }

    /// Finds the first rule that matches, after [`Bench::lookup`].
    pub fn match_rules(&mut self) -> usize {
        self.through(Stage::Match)
    }

    /// Puts packets into tunnels, after [`Bench::match_rules`].
    pub fn encapsulate(&mut self) -> usize {
        self.through(Stage::Encapsulate)
    }

    /// Takes off the outer headers of usual packets.
    pub fn strip(&mut self) -> usize {
        self.through(Stage::Strip)
    }

    /// The same for any packets, with all checks.
    pub fn bare(&mut self) -> usize {
        self.through(Stage::Bare)
    }

    /// Sends updates to the worker, a burst at a time, until all are in force. Both ends are on this core.
    pub fn update(&mut self) -> usize {
        let before = self.control.applied();
        let mut updates = std::mem::take(&mut self.updates);
        while !updates.is_empty() {
            let rest = updates.len().saturating_sub(BURST);
            for update in updates.drain(rest..) {
                self.tell(update);
            }
            self.settle();
        }
        self.updates = updates;
        usize::try_from(self.control.applied() - before).unwrap_or(0)
    }

    /// Hands over what belongs to the other one of two workers, by inner flow, and takes it there, on this
    /// core.
    pub fn spread(&mut self) -> usize {
        let worker = &self.worker;
        let (Some(port), [first, second]) = (worker.ports.first(), self.peers.as_mut_slice())
        else {
            return 0;
        };
        let ingress = port.ingress(&worker.own, worker.lma.as_ref(), worker.mag.as_ref());
        let (mut kept, before) = (0, second.taken_over);
        for train in &mut self.trains {
            let mut flows = [None; BURST];
            self.level.run(Flows {
                ingress: &ingress,
                packets: train.packets.iter().map(|packet| &**packet),
                spread: Spread::All,
                seed: first.seed,
                found: &mut flows,
            });
            first.spread(lma::PORT, &mut train.packets, &flows);
            let mut taken = Burst::new();
            second.take(0, &mut taken);
            train.packets.extend(taken);
            kept += train.packets.len();
        }
        if second.taken_over == before { 0 } else { kept }
    }

    fn through(&mut self, stage: Stage) -> usize {
        let mut well = 0;
        self.level.run(Through {
            worker: &mut self.worker,
            trains: &mut self.trains,
            stage,
            well: &mut well,
        });
        well
    }
}
