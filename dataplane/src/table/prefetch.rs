//! Cache hints. The only module of this crate that needs `unsafe`.
#![expect(
    unsafe_code,
    reason = "the prefetch instruction takes a raw pointer; without it a lookup in a large table waits for memory once per packet instead of once per burst"
)]

/// Asks for the cache line of `line`, without waiting for it.
#[inline(always)]
pub(crate) fn prefetch<T>(line: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing, and the pointer is that of a live reference; SSE is part
        // of the x86_64 baseline.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(line).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}
