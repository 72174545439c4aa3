//! What went into a state machine and what it decided, written down, so that it can be asked again.
//!
//! A [`Recorder`] keeps the last turns and a second machine, which is as many turns behind: what it is now is
//! what the first was before them. That makes a [`Recording`] complete, however long the process has run, and
//! [`Recording::replay`] tells whether this program decides as that one did.

mod inputs;
mod recorded;

use std::collections::VecDeque;
use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::event::{LmaEvent, MagEvent};
use crate::mag::Probe;
use crate::time::Now;

pub use inputs::{LmaInput, MagInput};
pub use recorded::{Recorded, Tape};

/// A state machine whose inputs can be written down.
pub trait Machine: Clone + Debug + Serialize + DeserializeOwned {
    /// Everything that changes it.
    type Input: Clone + Debug + Serialize + DeserializeOwned;

    /// Takes in one input; what the caller is told, if it is told anything.
    fn apply(&mut self, now: Now, input: &Self::Input) -> Option<String>;

    /// The next that is to be done or told.
    fn poll(&mut self) -> Option<Output>;
}

/// What comes out of a machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Something to carry out.
    Command(Command),
    /// A mobile to be asked whether it is there.
    Probe(Probe),
    /// Something to tell, of an LMA.
    LmaEvent(LmaEvent),
    /// Something to tell, of a MAG.
    MagEvent(MagEvent),
    /// The answer to whoever gave the input.
    Answer(String),
}

impl Output {
    /// In words that are the same if and only if it is.
    pub fn text(&self) -> String {
        match self {
            Self::Command(command) => format!("{command:?}"),
            Self::Probe(probe) => format!("{probe:?}"),
            Self::LmaEvent(event) => format!("{event:?}"),
            Self::MagEvent(event) => format!("{event:?}"),
            Self::Answer(answer) => answer.clone(),
        }
    }
}

/// What happened between two looks at what is to be done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Turn<I> {
    /// What went in, in this order, and when.
    pub inputs: Vec<(Now, I)>,
    /// What came out then, in words, in this order.
    pub outputs: Vec<String>,
}

/// The last turns of a machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Recording<M: Machine> {
    /// As it was before them.
    before: M,
    /// Turns before these, which are not known any more.
    pub forgotten: u64,
    /// The turns, oldest first.
    pub turns: Vec<Turn<M::Input>>,
    /// Of the last one, not all outputs may be known.
    open: bool,
}

/// A turn that does not decide as it did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Which one of the recording, from 0 on.
    pub turn: usize,
    /// What was decided then and is not now, or not there in the order.
    pub then: Option<String>,
    /// What is decided now in place of it.
    pub now: Option<String>,
}

impl<M: Machine> Recording<M> {
    /// Puts the turns through the machine again, and compares what comes out; the first difference. `begin` is told
    /// the number of each turn before it is decided.
    pub fn replay(&self, mut begin: impl FnMut(usize)) -> Option<Difference> {
        let mut machine = self.before.clone();
        let last = self.turns.len().saturating_sub(1);
        for (number, turn) in self.turns.iter().enumerate() {
            begin(number);
            let decided = decide(&mut machine, &turn.inputs);
            let mut decided: Vec<_> = decided.iter().map(Output::text).collect();
            if self.open && number == last {
                decided.truncate(turn.outputs.len());
            }
            if let Some((then, now)) = first_difference(&turn.outputs, &decided) {
                let turn = number;
                return Some(Difference { turn, then, now });
            }
        }
        None
    }
}

/// What a machine decides on the inputs of a turn.
fn decide<M: Machine>(machine: &mut M, inputs: &[(Now, M::Input)]) -> Vec<Output> {
    let mut decided = Vec::new();
    for (now, input) in inputs {
        decided.extend(machine.apply(*now, input).map(Output::Answer));
    }
    decided.extend(std::iter::from_fn(|| machine.poll()));
    decided
}

fn first_difference(then: &[String], now: &[String]) -> Option<(Option<String>, Option<String>)> {
    let count = then.len().max(now.len());
    (0..count)
        .map(|place| (then.get(place).cloned(), now.get(place).cloned()))
        .find(|(then, now)| then != now)
}

/// A turn as it is kept: words take longer to make than there is time while much happens.
#[derive(Clone, Debug)]
struct Kept<I> {
    inputs: Vec<(Now, I)>,
    outputs: Vec<Output>,
}

impl<I> Kept<I> {
    fn items(&self) -> usize {
        self.inputs.len() + self.outputs.len()
    }
}

/// Keeps the last turns of a machine.
#[derive(Clone, Debug)]
pub struct Recorder<M: Machine> {
    /// As the machine was before the turns that are kept.
    before: M,
    /// What the machine had to say before its first input.
    owed: VecDeque<Output>,
    forgotten: u64,
    turns: VecDeque<Kept<M::Input>>,
    room: usize,
    /// Inputs and outputs in all turns.
    items: usize,
    /// The last turn goes on.
    open: bool,
}

impl<M: Machine> Recorder<M> {
    /// Inputs and outputs that are kept for each turn there is room for, all turns together.
    pub const ITEMS_PER_TURN: usize = 16;

    /// For a machine that has seen nothing yet; keeps so many turns, but at least one.
    pub fn new(machine: M, room: usize) -> Self {
        let mut before = machine;
        Self {
            owed: decide(&mut before, &[]).into(),
            before,
            forgotten: 0,
            turns: VecDeque::new(),
            room: room.max(1),
            items: 0,
            open: false,
        }
    }

    fn begin(&mut self) {
        let most = self.room.saturating_mul(Self::ITEMS_PER_TURN);
        while (self.turns.len() >= self.room || self.items > most)
            && let Some(oldest) = self.turns.pop_front()
        {
            self.items -= oldest.items();
            decide(&mut self.before, &oldest.inputs);
            self.forgotten += 1;
        }
        self.turns.push_back(Kept {
            inputs: Vec::new(),
            outputs: Vec::new(),
        });
        self.open = true;
    }

    /// What is kept now.
    pub fn recording(&self) -> Recording<M> {
        let turn = |kept: &Kept<M::Input>| Turn {
            inputs: kept.inputs.clone(),
            outputs: kept.outputs.iter().map(Output::text).collect(),
        };
        Recording {
            before: self.before.clone(),
            forgotten: self.forgotten,
            turns: self.turns.iter().map(turn).collect(),
            open: self.open,
        }
    }
}

impl<M: Machine> Tape<M> for Recorder<M> {
    fn input(&mut self, now: Now, input: M::Input) {
        if !self.open {
            self.begin();
        }
        if let Some(turn) = self.turns.back_mut() {
            turn.inputs.push((now, input));
            self.items += 1;
        }
    }

    fn output(&mut self, output: Output) {
        if self.owed.front() == Some(&output) {
            self.owed.pop_front();
        } else if let Some(turn) = self.turns.back_mut() {
            turn.outputs.push(output);
            self.items += 1;
        }
    }

    fn end_turn(&mut self) {
        self.open = false;
    }
}
