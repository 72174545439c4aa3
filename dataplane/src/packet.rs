//! Packets: the buffer trait, header views, checksums, and the key that selectors are matched on.
//!
//! A frame is an Ethernet header and an IPv6 packet. The stages keep one invariant: 14 octets of
//! room lie before the IPv6 header they work on, whatever those octets held before; egress writes
//! the Ethernet header of the next hop over them.

pub(crate) mod build;
pub(crate) mod checksum;
pub(crate) mod ecn;
pub(crate) mod header;
pub(crate) mod shape;
pub(crate) mod walk;

/// A packet buffer with one owner: dropping it gives the buffer back to its pool.
///
/// The packet is contiguous. None of the operations allocates.
pub trait PacketBuf {
    /// The packet's octets.
    fn data(&self) -> &[u8];

    /// The packet's octets, to be changed in place.
    fn data_mut(&mut self) -> &mut [u8];

    /// Octets that can still be put before the packet.
    fn headroom(&self) -> usize;

    /// Grows the packet by `n` octets at the front and returns the whole of it; `None` and no change
    /// without enough headroom. The new octets hold whatever the buffer held.
    fn prepend(&mut self, n: usize) -> Option<&mut [u8]>;

    /// Removes the first `n` octets, or all of them if there are fewer.
    fn trim_front(&mut self, n: usize);

    /// Shortens the packet to `len` octets; no change if it is not longer.
    fn truncate(&mut self, len: usize);

    /// Fetches packets that another core has touched last.
    fn prefetch_all(_packets: &[Self])
    where
        Self: Sized,
    {
    }

    /// Grows the packet by `n` octets at the end and returns those; `None` and no change without
    /// enough room. The new octets hold whatever the buffer held.
    fn append(&mut self, n: usize) -> Option<&mut [u8]>;
}
