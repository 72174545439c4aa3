//! One direction of a port, owned by one thread.

use std::sync::Arc;

use crate::burst::{self, Burst};
use crate::port::{Gate, Opened};

/// Receives packets. Not `Clone`: a queue has one owner, who may be in any thread.
#[derive(Debug)]
pub struct RxQueue {
    pub(crate) port: Arc<Opened>,
    /// Copied from `port`: the packet path does not follow the pointer.
    pub(crate) port_id: u16,
    pub(crate) queue: u16,
    /// Where it passes, if the driver's memory may go.
    pub(crate) place: Option<Place>,
}

/// Transmits packets. Not `Clone`: a queue has one owner, who may be in any thread.
#[derive(Debug)]
pub struct TxQueue {
    pub(crate) port: Arc<Opened>,
    pub(crate) port_id: u16,
    pub(crate) queue: u16,
    /// Where it passes, if the driver's memory may go.
    pub(crate) place: Option<Place>,
}

/// A queue's place in its port's gate.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) gate: Arc<Gate>,
    pub(crate) place: usize,
}

/// Does `work` in the driver, or nothing while nobody may be there.
#[inline(always)]
fn pass(place: Option<&Place>, work: impl FnOnce() -> u16) -> u16 {
    match place {
        None => work(),
        Some(Place { gate, place }) => gate.pass(*place, work),
    }
}

impl RxQueue {
    /// Appends received packets to `burst`, as many as fit; returns how many, never waiting.
    #[inline(always)]
    pub fn burst<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        let receive = |free, room| {
            pass(self.place.as_ref(), || {
                // SAFETY: the port is started (`Port::start` made this queue) and not stopped before
                // `self.port` is gone, or else only while its gate is closed; `&mut self` excludes
                // another thread on this queue; `free` has place for `room` pointers.
                unsafe { dpdk_sys::rte_eth_rx_burst(self.port_id, self.queue, free, room) }
            })
        };
        // SAFETY: a driver hands over each mbuf it writes, with one reference.
        unsafe { burst::fill(burst, receive) }
    }

    /// The queue's number on its port.
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// The name of the queue's port.
    pub fn port_name(&self) -> &str {
        self.port.name()
    }
}

impl TxQueue {
    /// Transmits packets from the front of `burst`; returns how many the driver took, never
    /// waiting. The rest stays in `burst`, in order.
    #[inline(always)]
    pub fn burst<const N: usize>(&mut self, burst: &mut Burst<N>) -> usize {
        let transmit = |first, count| {
            pass(self.place.as_ref(), || {
                // SAFETY: the port is started and stays so as in `RxQueue::burst`; `&mut self` excludes
                // another thread on this queue; `count` owned mbufs start at `first`.
                unsafe { dpdk_sys::rte_eth_tx_burst(self.port_id, self.queue, first, count) }
            })
        };
        // SAFETY: a driver owns the mbufs it counts as sent, and those only.
        unsafe { burst::take(burst, transmit) }
    }

    /// The queue's number on its port.
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// The name of the queue's port.
    pub fn port_name(&self) -> &str {
        self.port.name()
    }
}
