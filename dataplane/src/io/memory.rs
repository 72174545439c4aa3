//! Ports in memory, for tests and simulations: frames are put in and taken out by hand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flow::PortId;

use super::{Burst, PacketIo};
use crate::packet::PacketBuf;

/// Octets kept free before a packet, as DPDK's `RTE_PKTMBUF_HEADROOM`.
pub const HEADROOM: usize = 128;
/// Octets of a buffer.
pub const BUFFER: usize = HEADROOM + 2048;

type Shared<T> = Arc<Mutex<T>>;

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic of another thread between two whole operations leaves the lists whole.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fixed number of buffers.
#[derive(Clone, Debug)]
pub struct MemoryPool {
    free: Shared<Vec<Box<[u8]>>>,
}

impl MemoryPool {
    /// A pool of `count` buffers.
    pub fn new(count: usize) -> Self {
        let buffers = (0..count).map(|_| vec![0; BUFFER].into_boxed_slice());
        Self {
            free: Arc::new(Mutex::new(buffers.collect())),
        }
    }

    /// Buffers that no packet holds.
    pub fn available(&self) -> usize {
        lock(&self.free).len()
    }

    /// An empty packet; `None` while all buffers are in use.
    pub fn alloc(&self) -> Option<MemoryPacket> {
        let buffer = lock(&self.free).pop()?;
        Some(MemoryPacket {
            buffer,
            start: HEADROOM,
            end: HEADROOM,
            pool: Arc::clone(&self.free),
        })
    }

    /// A packet of these octets; `None` while all buffers are in use or if they do not fit.
    pub fn packet(&self, octets: &[u8]) -> Option<MemoryPacket> {
        let mut packet = self.alloc()?;
        packet.append(octets.len())?.copy_from_slice(octets);
        Some(packet)
    }
}

/// A packet in one of a [`MemoryPool`]'s buffers, which goes back when the packet is dropped.
#[derive(Debug)]
pub struct MemoryPacket {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    pool: Shared<Vec<Box<[u8]>>>,
}

impl Drop for MemoryPacket {
    fn drop(&mut self) {
        lock(&self.pool).push(std::mem::take(&mut self.buffer));
    }
}

impl PacketBuf for MemoryPacket {
    fn data(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    fn data_mut(&mut self) -> &mut [u8] {
        self.buffer
            .get_mut(self.start..self.end)
            .unwrap_or_default()
    }

    fn headroom(&self) -> usize {
        self.start
    }

    fn prepend(&mut self, n: usize) -> Option<&mut [u8]> {
        self.start = self.start.checked_sub(n)?;
        Some(self.data_mut())
    }

    fn trim_front(&mut self, n: usize) {
        self.start = self.start.saturating_add(n).min(self.end);
    }

    fn truncate(&mut self, len: usize) {
        self.end = self.start.saturating_add(len).min(self.end);
    }

    fn append(&mut self, n: usize) -> Option<&mut [u8]> {
        let end = self.end.checked_add(n).filter(|end| *end <= BUFFER)?;
        let start = std::mem::replace(&mut self.end, end);
        self.buffer.get_mut(start..end)
    }
}

#[derive(Debug, Default)]
struct Queues {
    rx: VecDeque<MemoryPacket>,
    tx: VecDeque<MemoryPacket>,
    /// Most packets that may wait in `tx`.
    tx_limit: usize,
}

/// A worker's ports in memory. Clones are handles to the same ports.
#[derive(Clone, Debug)]
pub struct MemoryIo {
    pool: MemoryPool,
    ports: Vec<Shared<Queues>>,
}

impl MemoryIo {
    /// `ports` ports that share a pool of `buffers` buffers.
    pub fn new(ports: usize, buffers: usize) -> Self {
        let queues = || {
            Arc::new(Mutex::new(Queues {
                tx_limit: usize::MAX,
                ..Queues::default()
            }))
        };
        Self {
            pool: MemoryPool::new(buffers),
            ports: (0..ports).map(|_| queues()).collect(),
        }
    }

    /// Another worker's queues on as many ports, or on none at all: only the buffers are shared.
    #[must_use]
    pub fn sibling(&self, ports: usize) -> Self {
        Self {
            pool: self.pool.clone(),
            ports: Self::new(ports, 0).ports,
        }
    }

    /// The buffers.
    pub fn pool(&self) -> &MemoryPool {
        &self.pool
    }

    /// Lets a frame come in on `port`; `false` if there is no such port or no buffer.
    pub fn receive(&self, port: PortId, frame: &[u8]) -> bool {
        let packet = self.pool.packet(frame);
        match (self.queues(port), packet) {
            (Some(mut queues), Some(packet)) => {
                queues.rx.push_back(packet);
                true
            }
            _ => false,
        }
    }

    /// Puts a packet back where [`MemoryIo::receive`] puts frames.
    pub fn receive_packet(&self, port: PortId, packet: MemoryPacket) {
        if let Some(mut queues) = self.queues(port) {
            queues.rx.push_back(packet);
        }
    }

    /// Puts packets back that [`MemoryIo::sent_packet`] took out, at the front and in their order.
    pub fn put_back(&self, port: PortId, packets: &mut Vec<MemoryPacket>) {
        if let Some(mut queues) = self.queues(port) {
            for packet in packets.drain(..).rev() {
                queues.tx.push_front(packet);
            }
        }
    }

    /// The next frame that was sent on `port`.
    pub fn sent(&self, port: PortId) -> Option<Vec<u8>> {
        self.sent_packet(port).map(|packet| packet.data().to_vec())
    }

    /// As [`MemoryIo::sent`], in its buffer.
    pub fn sent_packet(&self, port: PortId) -> Option<MemoryPacket> {
        self.queues(port)?.tx.pop_front()
    }

    /// From now on `port` takes packets only while fewer than `limit` wait to be taken out.
    pub fn limit_tx(&self, port: PortId, limit: usize) {
        if let Some(mut queues) = self.queues(port) {
            queues.tx_limit = limit;
        }
    }

    fn queues(&self, port: PortId) -> Option<MutexGuard<'_, Queues>> {
        self.ports.get(usize::from(port.0)).map(|port| lock(port))
    }
}

impl PacketIo for MemoryIo {
    type Packet = MemoryPacket;

    fn rx(&mut self, port: PortId, burst: &mut Burst<MemoryPacket>) {
        let Some(mut queues) = self.queues(port) else {
            return;
        };
        let n = burst.remaining_capacity().min(queues.rx.len());
        burst.extend(queues.rx.drain(..n));
    }

    fn tx(&mut self, port: PortId, burst: &mut Burst<MemoryPacket>) {
        let Some(mut queues) = self.queues(port) else {
            return;
        };
        let n = queues
            .tx_limit
            .saturating_sub(queues.tx.len())
            .min(burst.len());
        queues.tx.extend(burst.drain(..n));
    }

    fn alloc(&mut self) -> Option<MemoryPacket> {
        self.pool.alloc()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_go_back_to_the_pool() {
        let io = MemoryIo::new(1, 2);
        assert!(io.receive(PortId(0), &[1, 2, 3]));
        assert!(io.receive(PortId(0), &[4]));
        assert!(!io.receive(PortId(0), &[5]), "the pool is empty");
        let mut worker = io.clone();
        let mut burst = Burst::new();
        worker.rx(PortId(0), &mut burst);
        worker.tx(PortId(0), &mut burst);
        assert_eq!(io.sent(PortId(0)), Some(vec![1, 2, 3]));
        assert_eq!(io.pool().available(), 1);
        assert_eq!(io.sent(PortId(0)), Some(vec![4]));
        assert_eq!((io.sent(PortId(0)), io.pool().available()), (None, 2));
    }

    #[test]
    fn a_packet_grows_and_shrinks_within_its_buffer() {
        let pool = MemoryPool::new(1);
        let mut packet = pool.packet(&[1, 2, 3, 4]).unwrap();
        assert!(packet.prepend(HEADROOM + 1).is_none());
        assert_eq!(packet.headroom(), HEADROOM);
        packet.prepend(2).unwrap()[..2].copy_from_slice(&[8, 9]);
        packet.truncate(4);
        assert_eq!(packet.data(), [8, 9, 1, 2]);
        packet.trim_front(3);
        packet.append(1).unwrap()[0] = 7;
        assert_eq!(packet.data(), [2, 7]);
        assert!(packet.append(BUFFER).is_none());
        packet.trim_front(usize::MAX);
        assert!(packet.data().is_empty());
    }

    #[test]
    fn a_full_port_leaves_the_rest() {
        let mut io = MemoryIo::new(1, 3);
        io.limit_tx(PortId(0), 2);
        let mut burst: Burst<_> = (0..3).map(|i| io.pool().packet(&[i]).unwrap()).collect();
        io.tx(PortId(0), &mut burst);
        assert_eq!(burst.len(), 1);
        assert_eq!(burst[0].data(), [2]);
    }
}
