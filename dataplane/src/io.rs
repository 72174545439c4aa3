//! Where a worker's packets come from and go to.

#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod memory;

use arrayvec::ArrayVec;
use flow::PortId;

use crate::packet::PacketBuf;

/// Most packets that are handled together. Larger bursts gain nothing.
pub const BURST: usize = 32;

/// Packets on their way between a worker and a port.
pub type Burst<P> = ArrayVec<P, BURST>;

/// The ports of one worker: its own receive and transmit queue on each.
pub trait PacketIo {
    /// The buffers the ports hand out and take.
    type Packet: PacketBuf;

    /// Appends to `burst` what has come in on `port`, as far as there is room; an unknown port or one
    /// that is down has nothing.
    fn rx(&mut self, port: PortId, burst: &mut Burst<Self::Packet>);

    /// Sends from the front of `burst`; what the port does not take stays, in order.
    fn tx(&mut self, port: PortId, burst: &mut Burst<Self::Packet>);

    /// An empty buffer, with at least 128 octets of headroom and room for 1536 more, for a packet
    /// that the worker makes; `None` while the pool is empty.
    fn alloc(&mut self) -> Option<Self::Packet>;
}
