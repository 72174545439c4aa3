//! Ports of DPDK.

use dpdk::{Mbuf, Mempool, RxQueue, TxQueue};
use flow::PortId;

use super::{Burst, PacketIo};
use crate::packet::PacketBuf;

/// One worker's queues on every port, and the pool for packets it makes.
#[derive(Debug)]
pub struct DpdkIo {
    queues: Vec<Option<(RxQueue, TxQueue)>>,
    pool: Mempool,
}

impl DpdkIo {
    /// Without ports; packets that the worker makes come from `pool`.
    pub fn new(pool: Mempool) -> Self {
        Self {
            queues: Vec::new(),
            pool,
        }
    }

    /// Adds the worker's queues on the next port: the first one added is [`PortId`] 0.
    pub fn add_port(&mut self, rx: RxQueue, tx: TxQueue) {
        self.queues.push(Some((rx, tx)));
    }

    /// Passes over the next port: the worker has no queues there.
    pub fn skip_port(&mut self) {
        self.queues.push(None);
    }
}

impl PacketIo for DpdkIo {
    type Packet = Mbuf;

    #[inline]
    fn rx(&mut self, port: PortId, burst: &mut Burst<Mbuf>) {
        if let Some(Some((rx, _))) = self.queues.get_mut(usize::from(port.0)) {
            rx.burst(burst);
        }
    }

    #[inline]
    fn tx(&mut self, port: PortId, burst: &mut Burst<Mbuf>) {
        if let Some(Some((_, tx))) = self.queues.get_mut(usize::from(port.0)) {
            tx.burst(burst);
        }
    }

    #[inline]
    fn alloc(&mut self) -> Option<Mbuf> {
        self.pool.alloc()
    }
}

impl PacketBuf for Mbuf {
    /// The packet's first segment, which is all of it: no port is configured to receive more.
    #[inline]
    fn data(&self) -> &[u8] {
        self.data()
    }

    #[inline]
    fn data_mut(&mut self) -> &mut [u8] {
        self.data_mut()
    }

    #[inline]
    fn headroom(&self) -> usize {
        self.headroom()
    }

    #[inline]
    fn prepend(&mut self, n: usize) -> Option<&mut [u8]> {
        self.prepend(n)?;
        Some(self.data_mut())
    }

    #[inline]
    fn trim_front(&mut self, n: usize) {
        let n = n.min(self.len());
        self.trim_front(n);
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        if let Some(excess) = self.len().checked_sub(len) {
            self.trim_back(excess);
        }
    }

    #[inline]
    fn append(&mut self, n: usize) -> Option<&mut [u8]> {
        self.extend_back(n)
    }
}
