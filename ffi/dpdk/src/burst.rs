//! A handful of packets that travel together.

use arrayvec::ArrayVec;
use dpdk_sys::rte_mbuf;

use crate::mbuf::Mbuf;

/// Up to `N` packets (at most 65535) in an array, without allocation. What is left in it is freed when it is
/// dropped; [`Mbuf::free_bulk`] frees many in one call.
pub type Burst<const N: usize = 32> = ArrayVec<Mbuf, N>;

/// Lets `fill` write packets behind those present: it gets the place and the free room, and
/// returns how many it wrote, which is also the result.
///
/// # Safety
///
/// `fill` writes that many valid mbufs, each with one reference, which passes to the burst.
#[inline(always)]
pub(crate) unsafe fn fill<const N: usize>(
    burst: &mut Burst<N>,
    fill: impl FnOnce(*mut *mut rte_mbuf, u16) -> u16,
) -> usize {
    const { assert!(N <= u16::MAX as usize, "DPDK counts a burst in 16 bits") };
    let len = burst.len();
    // SAFETY: `len` is within the array.
    let free = unsafe { burst.as_mut_ptr().add(len) };
    // N, and so the room, fits 16 bits: asserted above.
    let room = u16::try_from(N - len).unwrap_or(u16::MAX);
    let written = usize::from(fill(free.cast(), room).min(room));
    // SAFETY: the caller vouches that `written` more elements are initialised, and `Mbuf` is
    // transparent over the pointers written.
    unsafe { burst.set_len(len + written) };
    written
}

/// Lets `take` take ownership of the first packets: it gets the place and the number of
/// packets and returns how many it took, which is also the result. The rest moves to the front.
///
/// # Safety
///
/// `take` becomes the owner of exactly the first packets, as many as it returns.
#[inline(always)]
pub(crate) unsafe fn take<const N: usize>(
    burst: &mut Burst<N>,
    take: impl FnOnce(*mut *mut rte_mbuf, u16) -> u16,
) -> usize {
    const { assert!(N <= u16::MAX as usize, "DPDK counts a burst in 16 bits") };
    let len = burst.len();
    let first = burst.as_mut_ptr();
    // N, and so the length, fits 16 bits: asserted above.
    let taken = usize::from(take(first.cast(), u16::try_from(len).unwrap_or(u16::MAX))).min(len);
    let left = len - taken;
    if taken != 0 && left != 0 {
        // SAFETY: `taken` is within the array.
        let rest = unsafe { first.add(taken) };
        // SAFETY: both ranges are within the array; copy allows them to overlap.
        unsafe { std::ptr::copy(rest, first, left) };
    }
    // SAFETY: the first `left` elements are the packets that were not taken, each once.
    unsafe { burst.set_len(left) };
    taken
}
