//! One role's tables: home network prefixes to bindings, and the paths those name.
//!
//! A worker owns its tables outright. A packet costs two dependent cache misses at most: the bucket
//! that holds its prefix and the binding's record for its direction. Paths are few and stay cached.
//!
//! The capacity is fixed when the worker starts: growing a table of a million bindings would stall
//! the worker for longer than its receive rings can bear. An update that finds no room is refused
//! and counted (`updates_refused`), and changes nothing; the control plane must therefore not accept
//! more sessions than it sized the workers for.

pub(crate) mod binding;
pub(crate) mod hash;
pub(crate) mod other;
mod packed;
pub(crate) mod path;
mod prefetch;
pub(crate) mod record;
pub(crate) mod rules;

pub(crate) use binding::{Bindings, Records, Slot};
pub(crate) use packed::Packed;
pub(crate) use path::{Paths, Rewrite};
pub(crate) use rules::RuleSet;

/// Why an update could not be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// No room for another prefix.
    #[error("the table has room for {0} prefixes and is full")]
    Full(usize),
    /// More rules than [`flow::Binding::MAX_RULES`].
    #[error("a prefix has at most {max} rules, this update has {0}", max = flow::Binding::MAX_RULES)]
    Rules(usize),
    /// More sources than [`flow::Binding::MAX_SOURCES`].
    #[error("a prefix has at most {max} sources, this update has {0}", max = flow::Binding::MAX_SOURCES)]
    Sources(usize),
    /// A path number that the tables keep for themselves.
    #[error("path numbers end at {max}, this update names {0}", max = path::MAX_PATH)]
    PathNumber(u16),
    /// The neighbour table is full.
    #[error("the neighbour table is full")]
    Neighbours,
    /// A route or path names a port that the worker does not have.
    #[error("there is no port {0}")]
    Port(flow::PortId),
    /// The worker does not act in that role.
    #[error("the worker does not act in that role")]
    Role,
}

/// The tables of one role.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) bindings: Bindings,
    pub(crate) paths: Paths,
}

impl Table {
    pub(crate) fn new(expected_bindings: usize, other_lengths: usize) -> Self {
        Self {
            bindings: Bindings::new(expected_bindings, other_lengths),
            paths: Paths::default(),
        }
    }

    /// What packets need of it, borrowed once for many.
    #[inline(always)]
    pub(crate) fn parts(&mut self) -> (Records<'_>, &mut Paths) {
        (self.bindings.records(), &mut self.paths)
    }
}
