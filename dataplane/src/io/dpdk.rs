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

    #[inline(always)]
    fn rx(&mut self, port: PortId, burst: &mut Burst<Mbuf>) {
        if let Some(Some((rx, _))) = self.queues.get_mut(usize::from(port.0)) {
            rx.burst(burst);
        }
    }

    #[inline(always)]
    fn tx(&mut self, port: PortId, burst: &mut Burst<Mbuf>) {
        if let Some(Some((_, tx))) = self.queues.get_mut(usize::from(port.0)) {
            tx.burst(burst);
        }
    }

    #[inline(always)]
    fn alloc(&mut self) -> Option<Mbuf> {
        self.pool.alloc()
    }
}

impl PacketBuf for Mbuf {
    /// The packet's first segment, which is all of it: no port is configured to receive more.
    #[inline(always)]
    fn data(&self) -> &[u8] {
        self.data()
    }

    #[inline(always)]
    fn data_mut(&mut self) -> &mut [u8] {
        self.data_mut()
    }

    #[inline(always)]
    fn headroom(&self) -> usize {
        self.headroom()
    }

    #[inline(always)]
    fn prepend(&mut self, n: usize) -> Option<&mut [u8]> {
        self.prepend(n)?;
        Some(self.data_mut())
    }

    #[inline(always)]
    fn trim_front(&mut self, n: usize) {
        if !self.trim_front(n) {
            let all = self.len();
            self.trim_front(all);
        }
    }

    #[inline(always)]
    fn truncate(&mut self, len: usize) {
        if let Some(excess) = self.len().checked_sub(len) {
            self.trim_back(excess);
        }
    }

    #[inline(always)]
    fn prefetch_all(packets: &[Self]) {
        Self::prefetch_all(packets);
    }

    #[inline(always)]
    fn append(&mut self, n: usize) -> Option<&mut [u8]> {
        self.extend_back(n)
    }
}
