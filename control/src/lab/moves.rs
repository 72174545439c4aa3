//! One flow move, as the core link saw it.

use std::time::Duration;

use serde::Serialize;

use super::analysis::{Direction, Flow, PerMag, Watcher, Window};
use super::signalling::{Heard, Kind};
use super::topology::Mag;

/// When things happened, in time since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Marks {
    /// The steady stretch before the command.
    pub(crate) before: Window,
    /// The command to the LMA.
    pub(crate) command: Duration,
    /// Its answer.
    pub(crate) answer: Duration,
    /// The steady stretch after it.
    pub(crate) after: Window,
}

/// What is known of a move.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Move {
    /// Where flow Y came from.
    pub(crate) from: Mag,
    /// Where it went.
    pub(crate) to: Mag,
    /// When the LMA was told, in seconds since 1970.
    #[serde(serialize_with = "super::seconds")]
    pub(crate) command: Duration,
    /// The request to the new gateway and its answer.
    pub(crate) add: Option<Exchange>,
    /// The request to the old gateway and its answer; optional in the draft.
    pub(crate) del: Option<Exchange>,
    /// From the command to its answer, in microseconds.
    pub(crate) command_us: u64,
    /// From the command to the new gateway's FMA.
    pub(crate) fma_us: Option<u64>,
    /// From the command to flow Y's first packet in the new tunnel, towards the mobile.
    pub(crate) first_downlink_us: Option<u64>,
    /// The same from the mobile.
    pub(crate) first_uplink_us: Option<u64>,
    /// Packets per tunnel in the steady stretches.
    pub(crate) packets: Vec<Packets>,
}

/// A request and its answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Exchange {
    /// The first transmission of the request.
    pub(crate) initiate: Heard,
    /// The first answer that accepts it.
    pub(crate) acknowledge: Option<Heard>,
}

/// Packets of one flow and direction per tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Packets {
    /// Which flow.
    pub(crate) flow: Flow,
    /// Which way.
    pub(crate) direction: Direction,
    /// Before the command.
    pub(crate) before: PerMag,
    /// After its answer.
    pub(crate) after: PerMag,
}

impl Move {
    /// Gathers what the watcher saw of the move to `to`.
    pub(crate) fn new(watcher: &Watcher, to: Mag, marks: Marks) -> Self {
        let from = match to {
            Mag::Mag1 => Mag::Mag2,
            Mag::Mag2 => Mag::Mag1,
        };
        let since = |time: Duration| micros(time.saturating_sub(marks.command));
        let add = exchange(watcher.heard(), [Kind::FmiAdd, Kind::Upn], to, &marks);
        let del = exchange(watcher.heard(), [Kind::FmiDel, Kind::Upn], from, &marks);
        let first = |direction| watcher.first(Flow::Y, direction, to, marks.command);
        let fma = add.as_ref().and_then(|e| e.acknowledge.as_ref());
        let mut packets = Vec::new();
        for flow in Flow::ALL {
            for direction in Direction::ALL {
                packets.push(Packets {
                    flow,
                    direction,
                    before: watcher.count(flow, direction, marks.before),
                    after: watcher.count(flow, direction, marks.after),
                });
            }
        }
        Self {
            from,
            to,
            command: marks.command,
            command_us: since(marks.answer),
            fma_us: fma.map(|f| since(f.time)),
            first_downlink_us: first(Direction::Downlink).map(since),
            first_uplink_us: first(Direction::Uplink).map(since),
            add,
            del,
            packets,
        }
    }
}

fn exchange(heard: &[Heard], kinds: [Kind; 2], mag: Mag, marks: &Marks) -> Option<Exchange> {
    let during = |h: &&Heard| marks.command <= h.time && h.time < marks.after.to;
    let initiate = heard
        .iter()
        .filter(during)
        .find(|h| kinds.contains(&h.kind) && h.mag == mag && h.from_lma)?;
    Some(Exchange {
        acknowledge: heard.iter().find(|h| h.accepts(initiate)).cloned(),
        initiate: initiate.clone(),
    })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
