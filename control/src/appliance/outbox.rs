//! Messages that wait until the tables they speak of are in force.

use std::collections::VecDeque;

use flow::{Transmit, TransmitTo, Update};

use super::workers::{Mark, WorkerSet};

/// Packets of the control plane in their order, each behind the updates issued before it.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    packets: VecDeque<(Mark, Transmit)>,
}

impl Outbox {
    /// Takes a packet to send once every update issued so far is in force everywhere: a MAG that
    /// acknowledges an FMI has the route, on each of its workers.
    pub(crate) fn push(&mut self, workers: &WorkerSet, packet: Vec<u8>, to: TransmitTo) {
        self.packets
            .push_back((workers.mark(), Transmit { packet, to }));
    }

    /// Hands over every packet whose time has come.
    pub(crate) fn release(&mut self, workers: &mut WorkerSet) {
        while let Some((mark, _)) = self.packets.front() {
            if !workers.reached_by_others(mark) {
                return;
            }
            if let Some((_, transmit)) = self.packets.pop_front() {
                workers.transmit(Update::Transmit(Box::new(transmit)));
            }
        }
    }
}
