//! Raw bindings to the system's DPDK (22.11 or newer), generated at build time.
//!
//! Only the names that the `dpdk` crate uses are bound; the list is in `build.rs`. DPDK's
//! `static inline` functions keep their names and go through C shims compiled with this crate.
//! There is no logic here and nothing safe: use the `dpdk` crate.

#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    clippy::all,
    clippy::pedantic,
    reason = "generated from C headers"
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));

/// The drivers that are linked in, such as `net_tap`; none if DPDK is a shared library, which loads them as plugins.
pub const DRIVERS: &[&str] = include!(concat!(env!("OUT_DIR"), "/drivers.rs"));

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{align_of, offset_of, size_of};

    /// The drivers are plugins compiled against this layout: a mismatch is memory corruption.
    #[test]
    fn an_mbuf_is_two_cache_lines() {
        assert_eq!(size_of::<rte_mbuf>(), 128);
        assert_eq!(align_of::<rte_mbuf>(), 64);
        assert_eq!(offset_of!(rte_mbuf, buf_addr), 0);
        assert!(
            offset_of!(rte_mbuf, pkt_len) < 64,
            "rx fields are in the first line"
        );
    }

    #[test]
    fn the_library_is_the_one_the_headers_describe() {
        // SAFETY: rte_version returns a NUL-terminated string in static storage.
        let version = unsafe { std::ffi::CStr::from_ptr(rte_version()) };
        let headers = format!("DPDK {RTE_VER_YEAR}.{RTE_VER_MONTH:02}");
        assert!(
            version.to_string_lossy().starts_with(&headers),
            "{version:?} is not {headers}"
        );
    }

    #[test]
    fn shims_are_linked() {
        // SAFETY: reads a thread-local integer.
        assert_eq!(unsafe { dpdk_sys_errno() }, 0);
        assert_ne!(DPDK_SYS_RSS_IPV6, 0);
    }
}
