//! Messages that wait until the tables they speak of are in force, and what they say is on disk.

use std::collections::VecDeque;

use flow::{Transmit, TransmitTo, Update};

use store::Mark as Kept;

use super::keeping::Keeping;
use super::workers::{Mark, WorkerSet};

/// Packets of the control plane in their order, each behind the updates issued before it.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    packets: VecDeque<(Mark, Kept, Transmit)>,
}

impl Outbox {
    /// Takes a packet to send once every update issued so far is in force everywhere, and all before `kept` is on
    /// disk: a MAG that acknowledges an FMI has the route, on each of its workers, and in its next life.
    pub(crate) fn push(
        &mut self,
        workers: &WorkerSet,
        kept: Kept,
        packet: Vec<u8>,
        to: TransmitTo,
    ) {
        self.packets
            .push_back((workers.mark(), kept, Transmit { packet, to }));
    }

    /// Hands over every packet whose time has come.
    pub(crate) fn release(&mut self, workers: &mut WorkerSet, keeping: &Keeping) {
        while let Some((mark, kept, _)) = self.packets.front() {
            if !workers.reached_by_others(mark) || !keeping.has_kept(*kept) {
                return;
            }
            if let Some((.., transmit)) = self.packets.pop_front() {
                workers.transmit(Update::Transmit(Box::new(transmit)));
            }
        }
    }
}
