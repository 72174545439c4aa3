//! Large arrays on pages of one's choice.

#![expect(
    unsafe_code,
    reason = "the standard allocator does not say which pages it takes"
)]

use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::case::Memory;

/// A type of which all octets zero are a value.
///
/// # Safety
/// They are, and values need no drop.
pub(crate) unsafe trait Zero: Copy {}

/// A zeroed array of `T` in memory of its own.
#[derive(Debug)]
pub(crate) struct Pages<T: Zero> {
    start: NonNull<T>,
    count: usize,
    octets: usize,
    owned: PhantomData<T>,
}

impl<T: Zero> Pages<T> {
    /// `count` values on pages of this kind.
    ///
    /// # Errors
    /// The kernel's, if it has no such memory.
    pub(crate) fn new(count: usize, memory: Memory) -> io::Result<Self> {
        const HUGE: usize = 2 << 20;
        let octets = (count * size_of::<T>()).next_multiple_of(HUGE);
        let kind = match memory {
            Memory::Hugepages => libc::MAP_HUGETLB | libc::MAP_POPULATE,
            Memory::Anonymous => libc::MAP_POPULATE,
        };
        // SAFETY: a new private mapping at an address that the kernel chooses.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                octets,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | kind,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            start,
            count,
            octets,
            owned: PhantomData,
        })
    }
}

impl<T: Zero> Deref for Pages<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the mapping holds `count` values, zeroed by the kernel, which `Zero` allows.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl<T: Zero> DerefMut for Pages<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` makes the borrow exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.count) }
    }
}

impl<T: Zero> Drop for Pages<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference to it outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.octets) };
    }
}
