//! One packet buffer with one owner.

use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::slice;

use dpdk_sys::{dpdk_sys_mbuf_head, rte_mbuf};

/// A packet in pool memory. Not `Clone`: dropping it gives the buffer back to its pool.
///
/// ```text
/// |<- headroom ->|<- data ->|<- tailroom ->|
/// ```
///
/// The accessors are plain field reads. They see one contiguous packet, which is all that this
/// crate's ports deliver (scattered receive is off); [`Mbuf::is_contiguous`] tells.
#[repr(transparent)]
pub struct Mbuf {
    /// An mbuf whose reference count is one, with that reference ours: it comes from an
    /// allocation or from a driver's receive function, and leaves by free or transmit.
    raw: NonNull<rte_mbuf>,
    owned: PhantomData<rte_mbuf>,
}

// SAFETY: an mbuf is plain memory without thread affinity, and this is its only owner. Pools may
// be freed into from any thread.
unsafe impl Send for Mbuf {}
// SAFETY: `&Mbuf` only permits reads.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    /// # Safety
    ///
    /// `raw` is a valid mbuf with one reference, which passes to the new value.
    pub(crate) unsafe fn from_raw(raw: NonNull<rte_mbuf>) -> Self {
        Self {
            raw,
            owned: PhantomData,
        }
    }

    #[inline(always)]
    fn head(&self) -> &dpdk_sys_mbuf_head {
        // SAFETY: `raw` is a live mbuf that only `self` refers to, and dpdk-sys asserts at compile
        // time that it starts with these fields.
        unsafe { self.raw.cast().as_ref() }
    }

    #[inline(always)]
    fn head_mut(&mut self) -> &mut dpdk_sys_mbuf_head {
        // SAFETY: as in `head`, and `&mut self` makes the borrow exclusive.
        unsafe { self.raw.cast().as_mut() }
    }

    /// The packet's length in bytes.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.head().pkt_len as usize
    }

    /// Whether the packet has no bytes, as one just allocated.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the packet lies in one buffer. If not, [`Mbuf::data`] is its first part.
    #[inline(always)]
    pub fn is_contiguous(&self) -> bool {
        self.head().nb_segs == 1
    }

    /// The packet's bytes.
    #[inline(always)]
    pub fn data(&self) -> &[u8] {
        let len = usize::from(self.head().data_len);
        // SAFETY: DPDK keeps data_off + data_len <= buf_len, and so do the methods below; the
        // memory is initialised (zeroed when mapped) and borrowed from `self`.
        unsafe { slice::from_raw_parts(self.data_start(), len) }
    }

    /// The packet's bytes, to change them in place.
    #[inline(always)]
    pub fn data_mut(&mut self) -> &mut [u8] {
        let len = usize::from(self.head().data_len);
        // SAFETY: as in `data`, and `&mut self` makes the borrow exclusive.
        unsafe { slice::from_raw_parts_mut(self.data_start(), len) }
    }

    #[inline(always)]
    fn data_start(&self) -> *mut u8 {
        let head = self.head();
        // SAFETY: buf_addr points to buf_len bytes and data_off <= buf_len.
        unsafe { head.buf_addr.cast::<u8>().add(usize::from(head.data_off)) }
    }

    /// Bytes that [`Mbuf::prepend`] can still add in front.
    #[inline(always)]
    pub fn headroom(&self) -> usize {
        usize::from(self.head().data_off)
    }

    /// Bytes that [`Mbuf::extend_back`] can still add behind.
    #[inline(always)]
    pub fn tailroom(&self) -> usize {
        let head = self.head();
        usize::from(head.buf_len) - usize::from(head.data_off) - usize::from(head.data_len)
    }

    /// Grows the packet by `n` bytes in front and returns them, with whatever they last held.
    /// None, and no change, if the headroom is smaller.
    #[inline(always)]
    pub fn prepend(&mut self, n: usize) -> Option<&mut [u8]> {
        let grow = u16::try_from(n).ok()?;
        let head = self.head_mut();
        let offset = head.data_off.checked_sub(grow)?;
        // A buffer is at most 65535 bytes, so its data cannot outgrow data_len.
        head.data_off = offset;
        head.data_len += grow;
        head.pkt_len += u32::from(grow);
        self.data_mut().get_mut(..n)
    }

    /// Grows the packet by `n` bytes at its end and returns them, with whatever they last held.
    /// None, and no change, if the tailroom is smaller or the packet is not contiguous.
    #[inline(always)]
    pub fn extend_back(&mut self, n: usize) -> Option<&mut [u8]> {
        let grow = u16::try_from(n).ok()?;
        if n > self.tailroom() || !self.is_contiguous() {
            return None;
        }
        let head = self.head_mut();
        let old = usize::from(head.data_len);
        head.data_len += grow;
        head.pkt_len += u32::from(grow);
        self.data_mut().get_mut(old..)
    }

    /// Removes `n` bytes in front; false, and no change, if there are fewer in the first buffer.
    #[inline(always)]
    pub fn trim_front(&mut self, n: usize) -> bool {
        let head = self.head_mut();
        let Some((cut, len)) = shorter(head.data_len, n) else {
            return false;
        };
        head.data_off += cut;
        head.data_len = len;
        head.pkt_len -= u32::from(cut);
        true
    }

    /// Removes `n` bytes at the end; false, and no change, if there are fewer or the packet is
    /// not contiguous.
    #[inline(always)]
    pub fn trim_back(&mut self, n: usize) -> bool {
        if !self.is_contiguous() {
            return false;
        }
        let head = self.head_mut();
        let Some((cut, len)) = shorter(head.data_len, n) else {
            return false;
        };
        head.data_len = len;
        head.pkt_len -= u32::from(cut);
        true
    }

    /// Asks the processor to fetch the packet's first cache line.
    #[inline(always)]
    pub fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch never faults, and SSE is part of x86_64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.data_start().cast()) };
        }
    }

    /// Asks the processor to fetch packets that another core has touched last: first what says where
    /// they are, then their first cache lines.
    #[inline(always)]
    pub fn prefetch_all(packets: &[Self]) {
        #[cfg(target_arch = "x86_64")]
        for packet in packets {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch never faults, and SSE is part of x86_64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(packet.raw.as_ptr().cast()) };
        }
        for packet in packets {
            packet.prefetch();
        }
    }

    /// Frees many packets in one call, cheaper than dropping them one by one. Leaves none.
    #[inline(always)]
    pub fn free_bulk<const N: usize>(packets: &mut arrayvec::ArrayVec<Self, N>) {
        // At most 65535, the most a burst can hold: see Burst.
        let count = u32::try_from(packets.len()).unwrap_or(u32::MAX);
        let first = packets.as_mut_ptr().cast::<*mut rte_mbuf>();
        // SAFETY: nothing is moved out of the array, which only becomes shorter: its elements'
        // ownership passes to the free below.
        unsafe { packets.set_len(0) };
        // SAFETY: `Mbuf` is transparent over a non-null mbuf pointer, `count` of them start at
        // `first`, and no owner but this call is left.
        unsafe { dpdk_sys::rte_pktmbuf_free_bulk(first, count) };
    }
}

/// `(n, len - n)` if that many can be cut off.
#[inline(always)]
fn shorter(len: u16, n: usize) -> Option<(u16, u16)> {
    let cut = u16::try_from(n).ok()?;
    Some((cut, len.checked_sub(cut)?))
}

impl Drop for Mbuf {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: `raw` holds our one reference, and `self` is not used again.
        unsafe { dpdk_sys::rte_pktmbuf_free(self.raw.as_ptr()) };
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("len", &self.len())
            .field("headroom", &self.headroom())
            .field("tailroom", &self.tailroom())
            .finish_non_exhaustive()
    }
}
