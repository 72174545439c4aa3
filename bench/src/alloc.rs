//! Counts what a thread asks of the heap: the packet path may ask for nothing.
//!
//! A count is one addition to a thread-local word, and only where there is a heap call at all: a loop
//! without any runs as with the system's allocator.

#![expect(
    unsafe_code,
    reason = "counting allocations takes an allocator, and its trait is unsafe"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// Heap calls of the calling thread so far, those that give back included.
pub(crate) fn calls() -> u64 {
    CALLS.get()
}

struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator, and the counter itself needs
// no heap: it is constant at first and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, octets: usize) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: as in `alloc`; `pointer` came from there.
        unsafe { System.realloc(pointer, layout, octets) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: as in `realloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_thread_is_counted_and_no_other() {
        let before = calls();
        let word = std::hint::black_box(Box::new(1u64));
        assert_eq!(calls() - before, 1);
        drop(word);
        assert_eq!(calls() - before, 2);
        let other = std::thread::spawn(|| {
            let before = calls();
            drop(std::hint::black_box(vec![0u8; 100]));
            calls() - before
        });
        assert_eq!(other.join().ok(), Some(2));
        let before = calls();
        std::hint::black_box([0u8; 64]);
        assert_eq!(calls(), before);
    }
}
