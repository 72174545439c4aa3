//! The kernel beside us: the same encapsulation on the same virtual wires, by Linux and by a worker
//! on ports that are interfaces of Linux.

mod check;
mod cpu;
mod netns;
mod rows;
mod sender;
mod stretch;
mod wires;
mod worker;

use std::fmt;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::case::{Case, Memory, Size, Work};
use crate::cell::pin;
use check::Frames;
use rows::row;
use stretch::{Stretch, alone, sample};
use wires::Bed;

pub(crate) use rows::{Row, print};
pub(crate) use worker::serve;

/// Mobiles, and routes of the kernel.
const BINDINGS: u32 = 1000;
/// Rules of each mobile. The kernel's routes have none.
const RULES: u16 = 4;

/// What the child is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Where the workers' packets live.
    memory: Memory,
    /// The forwarder's core.
    core: usize,
    /// The sender's.
    sender_core: usize,
    /// Rounds, through all forwarders each.
    rounds: u32,
    /// How long a forwarder has packets in one round, in milliseconds.
    milliseconds: u64,
    /// Octets of the mobiles' Ethernet frames.
    sizes: Vec<u16>,
}

impl Order {
    /// A run on these cores.
    pub(crate) fn new(memory: Memory, core: usize, cores: usize, quick: bool) -> Self {
        Self {
            memory,
            core,
            sender_core: (core + 1) % cores,
            rounds: if quick { 3 } else { 5 },
            milliseconds: if quick { 200 } else { 700 },
            sizes: if quick { vec![64] } else { vec![64, 1024] },
        }
    }

    /// Steps of the way.
    pub(crate) fn steps(&self) -> u64 {
        u64::from(self.rounds) * self.sizes.len() as u64
    }
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// One for each forwarder and size that came up.
    pub(crate) rows: Vec<Row>,
    /// Why the others did not, or what makes their result void.
    pub(crate) left_out: Vec<String>,
}

impl Outcome {
    /// Nothing, for this reason.
    pub(crate) fn none(error: &anyhow::Error) -> Self {
        let left_out = vec![one_line(&format!("the kernel beside us: {error:#}"))];
        Self {
            rows: vec![],
            left_out,
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Who encapsulates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Forwarder {
    /// Linux, by routes.
    #[serde(rename = "linux-seg6")]
    LinuxSeg6,
    /// A worker on packet sockets.
    #[serde(rename = "flowmob-af_packet")]
    AfPacket,
    /// A worker on AF_XDP sockets.
    #[serde(rename = "flowmob-af_xdp")]
    AfXdp,
}

impl Forwarder {
    const ALL: [Self; 3] = [Self::LinuxSeg6, Self::AfPacket, Self::AfXdp];
}

impl fmt::Display for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::LinuxSeg6 => "linux-seg6",
            Self::AfPacket => "flowmob-af_packet",
            Self::AfXdp => "flowmob-af_xdp",
        })
    }
}

/// Measures; calls `progress` after every round of a size. A forwarder that does not come up, or whose
/// packets are wrong, is left out, and the others go on.
pub(crate) fn measure(order: &Order, mut progress: impl FnMut()) -> Outcome {
    let mut outcome = Outcome::default();
    for octets in &order.sizes {
        if let Err(error) = measure_size(order, *octets, &mut outcome, &mut progress) {
            // What is missing for one size is for the others.
            outcome.left_out.extend(Outcome::none(&error).left_out);
            break;
        }
    }
    outcome
}

fn measure_size(
    order: &Order,
    octets: u16,
    outcome: &mut Outcome,
    progress: &mut impl FnMut(),
) -> Result<()> {
    ensure!(order.core != order.sender_core, "it takes two cores");
    pin(order.sender_core)?;
    let case = Case {
        work: Work::LmaDownlink,
        bindings: BINDINGS,
        rules: RULES,
        size: Size::Fixed(octets),
    };
    let frames = Frames::new(case);
    let mut sender = Bed::sender_alone(&frames)?;
    let mut subjects = Vec::new();
    for forwarder in Forwarder::ALL {
        let order = worker::Order {
            memory: order.memory,
            core: order.core,
            forwarder,
            case,
        };
        let bed = Bed::new(&order, &frames);
        subjects.push((forwarder, bed, Vec::<Stretch>::new()));
    }
    for _ in 0..order.rounds {
        let alone = alone(order, &mut sender)?;
        for (forwarder, up, stretches) in &mut subjects {
            let Ok(bed) = up else {
                continue;
            };
            let stretch =
                sample(*forwarder, bed, &frames).and_then(|()| Stretch::measure(order, bed, alone));
            match stretch {
                Ok(stretch) => stretches.push(stretch),
                Err(error) => *up = Err(error.context("void")),
            }
        }
        progress();
    }
    for (forwarder, up, stretches) in subjects {
        match up {
            Ok(_) => outcome.rows.push(row(forwarder, &case, stretches)),
            Err(error) => {
                let reason = format!("{forwarder}, {octets} octets: {error:#}");
                outcome.left_out.push(one_line(&reason));
            }
        }
    }
    Ok(())
}
