//! The one safe door to DPDK.
//!
//! ```text
//! Eal::init ──> Mempool::new ──> Port::open ──> Port::start ──> (RxQueue, TxQueue) per worker
//!                    │                                             │ rx.burst      ▲ tx.burst
//!                    └── alloc ──> Mbuf <── push / pop ── Burst <──┘───────────────┘
//! ```
//!
//! * [`eal`]: DPDK's environment, one per process;
//! * [`device`]: what a port can be, and the driver arguments that make it so;
//! * [`port`]: one opened device; the last owner of the port or of its queues closes it;
//! * [`queue`]: one direction of one port, owned by one thread;
//! * [`mempool`], [`mbuf`], [`burst`]: packet memory, one packet, a handful of packets;
//! * [`thread`]: lets a thread that DPDK did not start use the pools' caches;
//! * [`log`]: DPDK's own log lines.
//!
//! An [`Mbuf`] has exactly one owner and is freed when dropped. Nothing on the packet path
//! allocates, locks or logs: receiving and transmitting cost one C call per burst, reading or
//! moving a packet's edges none.

#![expect(
    unsafe_code,
    reason = "this crate is where DPDK's C interface is made safe"
)]
#![expect(
    clippy::inline_always,
    reason = "accessors of the packet path are to be compiled for the processor their caller is compiled for"
)]

pub mod burst;
pub mod device;
pub mod eal;
pub mod error;
pub mod log;
pub mod mbuf;
pub mod mempool;
pub mod port;
pub mod queue;
pub mod thread;

pub use burst::Burst;
pub use device::Device;
pub use eal::{Eal, EalConfig, EalHandle, Memory};
pub use error::{DeviceError, EalError, MempoolError, MissingDriver, PortError, ThreadError};
pub use mbuf::Mbuf;
pub use mempool::{Mempool, MempoolConfig};
pub use port::{Link, Port, PortConfig, PortStats};
pub use queue::{RxQueue, TxQueue};
pub use thread::RegisteredThread;

/// The version of the DPDK library in use, such as `DPDK 22.11.11`.
pub fn version() -> String {
    // SAFETY: rte_version needs no initialisation.
    let version = unsafe { dpdk_sys::rte_version() };
    // SAFETY: rte_version returns a NUL-terminated string in static storage.
    unsafe { std::ffi::CStr::from_ptr(version) }
        .to_string_lossy()
        .into_owned()
}

/// The drivers that are linked in, such as `net_tap`; `None` if DPDK is a shared library, which loads them as plugins.
///
/// With drivers linked in, DPDK looks for no plugins, whatever is installed: it does so only if it finds itself as a
/// shared library in the process (`is_shared_build` in `eal_common_options.c`).
pub const fn linked_drivers() -> Option<&'static [&'static str]> {
    if dpdk_sys::DRIVERS.is_empty() {
        None
    } else {
        Some(dpdk_sys::DRIVERS)
    }
}
