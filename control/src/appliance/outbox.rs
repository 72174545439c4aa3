//! Messages that wait until the tables they speak of are in force, and what they say is on disk.

use std::collections::VecDeque;
use std::net::Ipv6Addr;

use flow::{MnId, TransmitTo};
use store::Mark as Kept;

use super::keeping::Keeping;
use super::workers::{Mark, WorkerSet};

/// What is to be sent.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A packet as it is.
    Packet(Vec<u8>, TransmitTo),
    /// A message that is sealed when it leaves: sequence numbers leave in order, whoever has waited.
    Message(Box<Letter>),
}

/// A message in its Mobility Header, and whom a log names if it cannot be sent.
#[derive(Debug)]
pub(crate) struct Letter {
    /// Source address.
    pub(crate) from: Ipv6Addr,
    /// Destination address.
    pub(crate) to: Ipv6Addr,
    /// The octets of the Mobility Header.
    pub(crate) header: Vec<u8>,
    /// The message's name.
    pub(crate) name: &'static str,
    /// The mobile it is about.
    pub(crate) mn: Option<MnId>,
}

/// What the control plane sends, in its order, each behind the updates issued before it.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// What has to be on disk first.
    promises: VecDeque<(Mark, Kept, Outgoing)>,
    /// What has not, and does not wait for those that have.
    others: VecDeque<(Mark, Outgoing)>,
}

impl Outbox {
    /// Takes something to send once every update issued so far is in force everywhere.
    pub(crate) fn push(&mut self, workers: &WorkerSet, outgoing: Outgoing) {
        self.others.push_back((workers.mark(), outgoing));
    }

    /// As [`Outbox::push`], and once all before `kept` is on disk: a MAG that acknowledges an FMI has the route, on each
    /// of its workers, and in its next life.
    pub(crate) fn promise(&mut self, workers: &WorkerSet, kept: Kept, outgoing: Outgoing) {
        self.promises.push_back((workers.mark(), kept, outgoing));
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.promises.is_empty() && self.others.is_empty()
    }

    /// The next whose time has come.
    pub(crate) fn pop(&mut self, workers: &WorkerSet, keeping: &Keeping) -> Option<Outgoing> {
        let in_force = |mark: &Mark| workers.reached_by_others(mark);
        if let Some((_, outgoing)) = self.others.pop_front_if(|(mark, _)| in_force(mark)) {
            return Some(outgoing);
        }
        let ready = |(mark, kept, _): &mut (Mark, Kept, Outgoing)| {
            in_force(mark) && keeping.has_kept(*kept)
        };
        self.promises
            .pop_front_if(ready)
            .map(|(.., outgoing)| outgoing)
    }
}
