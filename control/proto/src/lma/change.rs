//! What a MAG is told about flows, in words that every dialect has, and how telling it ended.

use std::collections::BTreeMap;
use std::time::Duration;

use flow::{Fid, FidPriority, Hnp, TrafficSelector};
use serde::{Deserialize, Serialize};

use crate::event::MoveFailure;

/// What a MAG is told about one flow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Statement {
    /// The flow's place among those of the mobile.
    pub(crate) priority: FidPriority,
    /// The flow's downlink packets.
    pub(crate) selector: TrafficSelector,
    /// The prefixes they can be addressed to.
    pub(crate) hnps: Vec<StatedPrefix>,
}

impl Statement {
    /// Whether it makes the MAG route a prefix that it does not host.
    pub(super) fn grants(&self, hnp: Hnp) -> bool {
        self.hnps.contains(&StatedPrefix {
            hnp,
            off_link: true,
        })
    }
}

/// A prefix in a statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct StatedPrefix {
    pub(crate) hnp: Hnp,
    /// Whether the MAG does not host it, and so needs a route for it (RFC 7864 §4.1).
    pub(crate) off_link: bool,
}

/// What a MAG is told about all flows of a session.
pub(crate) type Statements = BTreeMap<Fid, Statement>;

/// A change of a MAG's flow state: the command that every dialect has to express.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Change {
    /// The MAG shall serve the flow, for all prefixes in the statement and no others.
    Add(Fid, Statement),
    /// The MAG shall keep what it has.
    Refresh(Fid, Statement),
    /// The MAG shall forget the flow, and the off-link prefixes that no other flow needs.
    Delete(Fid, Statement),
}

impl Change {
    pub(crate) fn fid(&self) -> Fid {
        match self {
            Self::Add(fid, _) | Self::Refresh(fid, _) | Self::Delete(fid, _) => *fid,
        }
    }

    pub(crate) fn statement(&self) -> &Statement {
        match self {
            Self::Add(_, s) | Self::Refresh(_, s) | Self::Delete(_, s) => s,
        }
    }
}

/// What one message says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// One change, the rest stays as it is (draft-bernardos-netext-pmipv6-flowmob).
    Change(Change),
    /// All that the MAG shall hold, whatever it held before (RFC 7864 §4.2).
    List {
        /// All of it.
        statements: Statements,
        /// Where it differs from what the MAG is known to hold, at least one.
        changes: Vec<Change>,
    },
}

impl Request {
    /// What it changes.
    pub(crate) fn changes(&self) -> &[Change] {
        match self {
            Self::Change(change) => std::slice::from_ref(change),
            Self::List { changes, .. } => changes,
        }
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// Done; for this long, or for ever.
    Accepted(Option<Duration>),
    /// The MAG has no session of the mobile.
    NotAttached(u8),
    /// The MAG does not know the flow.
    UnknownFlow(u8),
    /// The MAG will not, and changed nothing.
    Refused(u8),
    /// All copies were sent and nothing came back: the MAG may or may not have done it.
    NoAnswer,
    /// The MAG does not know the message.
    NotUnderstood,
}

impl Outcome {
    /// What it means for a flow that should have been added; `None` if it was.
    pub(crate) fn failure(self) -> Option<MoveFailure> {
        match self {
            Self::Accepted(_) => None,
            Self::NotAttached(status) | Self::UnknownFlow(status) | Self::Refused(status) => {
                Some(MoveFailure::Refused(status))
            }
            Self::NoAnswer => Some(MoveFailure::NoAnswer),
            Self::NotUnderstood => Some(MoveFailure::NotUnderstood),
        }
    }
}

/// The message on its way. There is never a second one for the same mobile and MAG: reordered on
/// the way, they would undo each other.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Outstanding {
    pub(crate) request: Request,
    pub(crate) sequence: u16,
    /// When the first copy left: lifetimes are counted from here, so that the LMA never believes
    /// in state that the MAG has dropped.
    pub(crate) first_sent: Duration,
    /// Copies sent.
    pub(crate) copies: u32,
    /// How often the MAG found the sequence number out of its window.
    pub(crate) jumps: u8,
}
