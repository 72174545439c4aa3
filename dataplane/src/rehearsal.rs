//! What a worker would do with a packet, found out by a worker of its own that does nothing else.
//!
//! It is told what the others were told about the prefixes, paths, routes and neighbours at hand, and then given
//! the packet: the answer is made by the same code, and the packets of others know nothing of it.

use std::time::Duration;

use flow::{
    BindingCounters, Counters, End, Fid, Hnp, PathId, PortId, Report, ReportRequest, Role, Update,
};

use crate::config::{FragmentLimits, NeighbourLimits, WorkerConfig};
use crate::io::memory::MemoryIo;
use crate::ring::{ControlRings, RingSizes, rings};
use crate::worker::{Clock, Worker, WorkerError};

/// Packets that the worker can have at once: the one it is given, and what it makes of it.
const BUFFERS: usize = 16;

/// A worker on ports of memory.
#[derive(Debug)]
pub struct Rehearsal {
    worker: Worker<MemoryIo>,
    control: ControlRings,
    io: MemoryIo,
    ports: usize,
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Played {
    /// How it ended.
    pub end: End,
    /// Frames that left, with their ports: the packet, its fragments, or an answer to its sender.
    pub sent: Vec<(PortId, Vec<u8>)>,
    /// Whether any of these was made here: a second fragment, an answer or an error.
    pub originated: bool,
    /// The path that a packet was put on.
    pub path: Option<(Role, PathId)>,
}

impl Rehearsal {
    /// A worker with this configuration, whose tables have little room: only what is at hand is asked
    /// for.
    ///
    /// # Errors
    /// As [`Worker::new`].
    pub fn new(mut config: WorkerConfig) -> Result<Self, WorkerError> {
        const ROOM: usize = 64;
        if let Some(lma) = &mut config.lma {
            (lma.expected_bindings, lma.other_lengths) = (ROOM, ROOM);
        }
        if let Some(mag) = &mut config.mag {
            (mag.expected_bindings, mag.other_lengths) = (ROOM, ROOM);
        }
        config.neighbours = NeighbourLimits {
            held_each: 1,
            held_total: 1,
            ..config.neighbours
        };
        config.fragments = FragmentLimits {
            packets: 1,
            fragments: 1,
            ..config.fragments
        };
        let ports = config.ports.len();
        let io = MemoryIo::new(ports, BUFFERS);
        let (worker_end, control) = rings(RingSizes::default());
        // Nothing runs out here, and no rate is used up.
        let clock = Clock::new(|| Duration::ZERO);
        let worker = Worker::with_clock(config, io.clone(), worker_end, clock)?;
        Ok(Self {
            worker,
            control,
            io,
            ports,
        })
    }

    /// Tells it what the others know. One that makes no sense changes nothing.
    pub fn tell(&mut self, update: Update) {
        let mut update = update;
        while let Err(back) = self.control.push(update) {
            update = back;
            self.worker.turn();
        }
        self.worker.turn();
    }

    /// Gives it a frame that arrived on a port.
    pub fn play(&mut self, port: PortId, frame: &[u8]) -> Played {
        let (before, ends) = (self.worker.counters(), self.worker.ends());
        let came = self.io.receive(port, frame);
        debug_assert!(came, "there are more buffers than one packet takes");
        while self.worker.turn() > 0 {}
        let after = self.worker.counters();
        while self.control.pop_punt().is_some() {}
        let mut sent = Vec::new();
        for port in (0u16..).take(self.ports).map(PortId) {
            while let Some(frame) = self.io.sent(port) {
                sent.push((port, frame));
            }
        }
        let grew = |value: fn(&Counters) -> u64| value(&after) > value(&before);
        Played {
            end: self.worker.ends().since(&ends),
            sent,
            originated: grew(|c| c.originated),
            path: path_taken(&before, &after),
        }
    }

    /// The rule of a prefix that decided most packets so far.
    pub fn decided_by(&mut self, role: Role, hnp: Hnp) -> Option<Fid> {
        let counters = self.counters(role, hnp)?;
        let most = counters
            .rules
            .into_iter()
            .max_by_key(|(_, packets)| *packets);
        most.filter(|(_, packets)| *packets > 0).map(|(fid, _)| fid)
    }

    /// What it has counted for a prefix.
    pub fn counters(&mut self, role: Role, hnp: Hnp) -> Option<BindingCounters> {
        self.tell(Update::Report(ReportRequest::Binding {
            token: 0,
            role,
            hnp,
        }));
        match self.control.pop_report()? {
            Report::Binding { counters, .. } => counters.map(|counters| *counters),
            Report::Counters { .. } => None,
        }
    }
}

/// The path on which more packets were sent.
fn path_taken(before: &Counters, after: &Counters) -> Option<(Role, PathId)> {
    let roles = [
        (Role::Lma, &before.lma_paths, &after.lma_paths),
        (Role::Mag, &before.mag_paths, &after.mag_paths),
    ];
    roles.into_iter().find_map(|(role, before, after)| {
        let grew = |(number, path): (u16, &flow::PathCounters)| {
            let before = before.get(usize::from(number));
            let before = before.map_or(0, |path| path.out_packets);
            (path.out_packets > before).then_some((role, PathId(number)))
        };
        (0..).zip(after).find_map(grew)
    })
}
