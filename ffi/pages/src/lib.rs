//! Large arrays on large pages.
//!
//! A table that is looked up at random misses the TLB on every access once it outgrows what 4 KiB pages reach;
//! with pages of 2 MiB a table of a gigabyte costs little more than its cache misses. Linux gives
//! ordinary memory such pages where it is asked to, which needs no privilege and no reservation.

#![expect(unsafe_code, reason = "advice to the kernel is a raw system call")]

use std::mem::MaybeUninit;

/// Size and alignment of a large page on the processors that DPDK knows best.
const LARGE_PAGE: usize = 2 << 20;

/// A vector of `len` copies of `value`, on large pages where the kernel has them.
///
/// It is filled only after the advice, so it is never on small pages first.
pub fn filled<T: Copy>(value: T, len: usize) -> Vec<T> {
    let mut array = Vec::with_capacity(len);
    advise(array.spare_capacity_mut());
    array.resize(len, value);
    array
}

/// Asks for large pages behind every whole one in `memory`. A kernel that has none goes on as before.
fn advise<T>(memory: &mut [MaybeUninit<T>]) {
    let start = memory.as_mut_ptr() as usize;
    let end = start + size_of_val(memory);
    let (first, last) = (start.next_multiple_of(LARGE_PAGE), end - end % LARGE_PAGE);
    if first >= last {
        return;
    }
    // SAFETY: the range lies within memory that `memory` borrows exclusively, and this advice
    // changes neither its content nor its validity.
    let _without_large_pages = unsafe {
        libc::madvise(
            first as *mut libc::c_void,
            last - first,
            libc::MADV_HUGEPAGE,
        )
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_there() {
        for len in [0, 1, 1000, 3 * LARGE_PAGE / 8 + 5] {
            let array = filled(0x1234_5678_9abc_def0_u64, len);
            assert_eq!(array.len(), len);
            assert!(array.iter().all(|value| *value == 0x1234_5678_9abc_def0));
        }
    }
}
