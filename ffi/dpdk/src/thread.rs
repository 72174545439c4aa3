//! Threads that DPDK did not start.

use std::marker::PhantomData;

use crate::eal::{EalHandle, errno, reason};
use crate::error::ThreadError;
use crate::log::Mark;

/// Registers the calling thread with DPDK for as long as it lives.
///
/// A registered thread has its own cache in every [`Mempool`](crate::Mempool): without it each
/// allocation and each free goes to the shared ring. Registering does not pin the thread.
#[derive(Debug)]
pub struct RegisteredThread {
    /// A registered thread may use a pool's cache: the environment must outlive it.
    _eal: EalHandle,
    /// The registration belongs to the thread, so the guard must be dropped on it.
    not_send: PhantomData<*const ()>,
}

impl RegisteredThread {
    /// Registers the calling thread.
    ///
    /// # Errors
    ///
    /// [`ThreadError`] if the thread already is registered, or too many are (128 less one).
    pub fn new(eal: &EalHandle) -> Result<Self, ThreadError> {
        // SAFETY: reads a thread-local.
        if unsafe { dpdk_sys::dpdk_sys_lcore_id() } != dpdk_sys::DPDK_SYS_LCORE_ANY {
            return Err(ThreadError::Registered);
        }
        let mark = Mark::now();
        // SAFETY: the environment is initialised: `eal` proves it.
        if unsafe { dpdk_sys::rte_thread_register() } != 0 {
            return Err(ThreadError::Refused {
                reason: reason(errno()),
                said: mark.said(),
            });
        }
        Ok(Self {
            _eal: eal.clone(),
            not_send: PhantomData,
        })
    }
}

impl Drop for RegisteredThread {
    fn drop(&mut self) {
        // SAFETY: the guard cannot leave the thread it registered, and is dropped once.
        unsafe { dpdk_sys::rte_thread_unregister() };
    }
}
