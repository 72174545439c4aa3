//! Packet memory.

use std::ffi::{CString, c_int};
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use dpdk_sys::{rte_mbuf, rte_mempool};
use nix::errno::Errno;

use crate::burst::{self, Burst};
use crate::device::missing_driver;
use crate::eal::{EalHandle, Memory, errno, reason};
use crate::error::MempoolError;
use crate::log::Mark;
use crate::mbuf::Mbuf;

/// Bytes in front of a packet as received or allocated: room to encapsulate.
pub const HEADROOM: u16 = dpdk_sys::DPDK_SYS_HEADROOM;

/// The most packets a thread may cache.
pub const MAX_CACHE: u32 = dpdk_sys::RTE_MEMPOOL_CACHE_MAX_SIZE;

/// `SOCKET_ID_ANY`: memory from wherever it is.
const ANY_SOCKET: c_int = -1;

/// DPDK's limit for the name of a pool.
const MAX_NAME: usize = 25;

/// What a pool is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MempoolConfig {
    /// Unique in the process, at most 25 bytes.
    pub name: String,
    /// Packets; a power of two less one wastes no memory.
    pub count: u32,
    /// Packets each registered thread keeps at hand; at most [`MAX_CACHE`] and `count / 1.5`.
    pub cache: u32,
    /// Bytes per packet, [`HEADROOM`] not included.
    pub data_room: u16,
}

impl Default for MempoolConfig {
    /// 8191 packets of 2048 bytes, about 19 MiB.
    fn default() -> Self {
        Self {
            name: "packets".into(),
            count: 8191,
            cache: 256,
            data_room: 2048,
        }
    }
}

/// A pool of packet buffers, shared by whoever holds a clone.
///
/// The memory stays until the [`Eal`](crate::Eal) goes, even when the last clone does: packets may
/// still be under way, and an [`Mbuf`] carries no reference count on its pool.
#[derive(Clone)]
pub struct Mempool(Arc<Inner>);

struct Inner {
    /// Valid as long as `eal`.
    raw: NonNull<rte_mempool>,
    config: MempoolConfig,
    /// Keeps the environment, and with it the pool.
    _eal: EalHandle,
}

// SAFETY: rte_mempool is made for concurrent use: its ring is multi-producer multi-consumer and
// its caches belong to one registered thread each.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Mempool {
    /// Makes a pool.
    ///
    /// # Errors
    ///
    /// [`MempoolError`]: a bad parameter, a name in use, too little memory, or no pool driver.
    pub fn new(eal: &EalHandle, config: &MempoolConfig) -> Result<Self, MempoolError> {
        let bad = |why| MempoolError::Bad {
            name: config.name.clone(),
            why,
        };
        if config.name.is_empty() || config.name.len() > MAX_NAME {
            return Err(bad("the name must have 1 to 25 bytes"));
        }
        let name = CString::new(config.name.as_str()).map_err(|_| bad("the name has a NUL"))?;
        if config.count == 0 {
            return Err(bad("count is zero"));
        }
        if config.cache > MAX_CACHE || u64::from(config.cache) * 3 > u64::from(config.count) * 2 {
            return Err(bad("cache is above 512 or above count / 1.5"));
        }
        let data_room = config
            .data_room
            .checked_add(HEADROOM)
            .ok_or_else(|| bad("data_room and headroom exceed 65535 bytes"))?;

        let mark = Mark::now();
        // SAFETY: the environment is initialised (`eal` proves it) and `name` is a C string.
        let raw = unsafe {
            dpdk_sys::rte_pktmbuf_pool_create(
                name.as_ptr(),
                config.count,
                config.cache,
                0,
                data_room,
                ANY_SOCKET,
            )
        };
        let raw = NonNull::new(raw).ok_or_else(|| refused(eal, config, mark))?;
        eal.keep_pool(raw);
        Ok(Self(Arc::new(Inner {
            raw,
            config: config.clone(),
            _eal: eal.clone(),
        })))
    }

    /// What the pool was made of.
    pub fn config(&self) -> &MempoolConfig {
        &self.0.config
    }

    /// Packets that can be allocated, threads' caches included. Slow: for tests and people.
    pub fn available(&self) -> usize {
        // SAFETY: `raw` is valid while `self` lives.
        (unsafe { dpdk_sys::rte_mempool_avail_count(self.as_raw()) }) as usize
    }

    /// Packets that someone owns, drivers' rings included. Slow: for tests and people.
    pub fn in_use(&self) -> usize {
        // SAFETY: `raw` is valid while `self` lives.
        (unsafe { dpdk_sys::rte_mempool_in_use_count(self.as_raw()) }) as usize
    }

    /// An empty packet with [`HEADROOM`] bytes in front; None if the pool has none left.
    #[inline]
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: `raw` is valid while `self` lives.
        let raw = NonNull::new(unsafe { dpdk_sys::rte_pktmbuf_alloc(self.as_raw()) })?;
        // SAFETY: a new mbuf is valid and has one reference, now ours.
        Some(unsafe { Mbuf::from_raw(raw) })
    }

    /// Appends `count` empty packets to `burst`; false, and no change, if the burst has no room or
    /// the pool has too few left.
    #[inline]
    pub fn alloc_bulk<const N: usize>(&self, burst: &mut Burst<N>, count: u16) -> bool {
        let allocate = |free: *mut *mut rte_mbuf, room| {
            if count > room {
                return 0;
            }
            // SAFETY: `raw` is valid while `self` lives, and `free` has place for `room` pointers.
            let result =
                unsafe { dpdk_sys::rte_pktmbuf_alloc_bulk(self.as_raw(), free, u32::from(count)) };
            if result == 0 { count } else { 0 }
        };
        // SAFETY: on success the call wrote `count` new mbufs with one reference each.
        let got = unsafe { burst::fill(burst, allocate) };
        got == usize::from(count)
    }

    #[inline]
    pub(crate) fn as_raw(&self) -> *mut rte_mempool {
        self.0.raw.as_ptr()
    }
}

fn refused(eal: &EalHandle, config: &MempoolConfig, mark: Mark) -> MempoolError {
    let code = errno();
    if let Some(missing) = missing_driver("mempool_ring") {
        return MempoolError::NoDriver(missing);
    }
    let name = config.name.clone();
    if code == Errno::EEXIST as c_int {
        return MempoolError::Exists { name };
    }
    // ENOBUFS: there is memory, but not in pieces of a usable size.
    if code != Errno::ENOMEM as c_int && code != Errno::ENOBUFS as c_int {
        return MempoolError::Refused {
            name,
            reason: reason(code),
            said: mark.said(),
        };
    }
    // The mbuf's and the pool's headers together are 192 bytes; the rest is for alignment.
    let packet = u64::from(config.data_room) + u64::from(HEADROOM) + 256;
    let needed_mib = (u64::from(config.count) * packet).div_ceil(1 << 20);
    let memory_mib = eal.config().memory_mib;
    let kind = match eal.config().memory {
        Memory::Anonymous => "anonymous",
        Memory::Hugepages => "hugepage",
    };
    MempoolError::Memory {
        name,
        needed_mib,
        memory_mib,
        kind,
    }
}

impl fmt::Debug for Mempool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mempool").field(&self.0.config).finish()
    }
}
