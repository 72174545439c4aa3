//! Ethernet and IPv6 headers as views on a frame.

use std::net::Ipv6Addr;

use flow::MacAddr;
use zerocopy::network_endian::{U16, U32, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::packet::PacketBuf;

/// Octets of an Ethernet header.
pub(crate) const ETHERNET_LEN: usize = 14;
/// Octets of an IPv6 header without extensions (RFC 8200 §3).
pub(crate) const IPV6_LEN: usize = 40;
/// Octets of both.
pub(crate) const FRAME_LEN: usize = ETHERNET_LEN + IPV6_LEN;
/// EtherType of IPv6 (RFC 2464 §3).
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Least MTU of an IPv6 link (RFC 8200 §5).
pub(crate) const MIN_MTU: u16 = 1280;

/// Next header values (RFC 8200 §4 and the IANA registry).
pub(crate) mod next_header {
    pub(crate) const HOP_BY_HOP: u8 = 0;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const DCCP: u8 = 33;
    pub(crate) const IPV6: u8 = 41;
    pub(crate) const ROUTING: u8 = 43;
    pub(crate) const FRAGMENT: u8 = 44;
    pub(crate) const ESP: u8 = 50;
    pub(crate) const AH: u8 = 51;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const NONE: u8 = 59;
    pub(crate) const DESTINATION: u8 = 60;
    pub(crate) const SCTP: u8 = 132;
    pub(crate) const MOBILITY: u8 = 135;
    pub(crate) const UDP_LITE: u8 = 136;
}

/// An Ethernet II header.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub(crate) struct Ethernet {
    pub(crate) destination: [u8; 6],
    pub(crate) source: [u8; 6],
    pub(crate) ethertype: U16,
}

impl Ethernet {
    /// All zero.
    pub(crate) const NONE: Self = Self {
        destination: [0; 6],
        source: [0; 6],
        ethertype: U16::ZERO,
    };

    /// Source and type of the frame, together as they are in memory: never 0 in an IPv6 frame.
    #[inline(always)]
    pub(crate) fn sender(&self) -> [u8; 8] {
        self.as_bytes().last_chunk().copied().unwrap_or_default()
    }

    /// The header of an IPv6 frame.
    pub(crate) fn ipv6(source: MacAddr, destination: MacAddr) -> Self {
        Self {
            destination: destination.0,
            source: source.0,
            ethertype: U16::new(ETHERTYPE_IPV6),
        }
    }
}

/// An IPv6 header (RFC 8200 §3).
///
/// ```text
/// |Version| Traffic Class |           Flow Label                  |
/// |         Payload Length        |  Next Header  |   Hop Limit   |
/// |                        Source Address (16)                    |
/// |                      Destination Address (16)                 |
/// ```
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub(crate) struct Ipv6 {
    pub(crate) version_class_label: U32,
    pub(crate) payload_len: U16,
    pub(crate) next_header: u8,
    pub(crate) hop_limit: u8,
    pub(crate) source: U128,
    pub(crate) destination: U128,
}

impl Ipv6 {
    pub(crate) const VERSION_6: u32 = 6 << 28;

    /// The header at the start of a packet, if it is long enough.
    pub(crate) fn of(packet: &[u8]) -> Option<&Self> {
        Self::ref_from_prefix(packet).ok().map(|(ip, _)| ip)
    }

    #[inline(always)]
    pub(crate) fn is_version_6(&self) -> bool {
        self.version_class_label.get() >> 28 == 6
    }

    /// The traffic class: six bits of DSCP and two of ECN.
    #[inline(always)]
    pub(crate) fn traffic_class(&self) -> u8 {
        (self.version_class_label.get() >> 20).to_le_bytes()[0]
    }

    /// Replaces the two ECN bits of the traffic class.
    #[inline(always)]
    pub(crate) fn set_ecn(&mut self, ecn: u8) {
        let word = self.version_class_label.get();
        self.version_class_label = U32::new(word & !(3 << 20) | u32::from(ecn & 3) << 20);
    }

    #[inline(always)]
    pub(crate) fn flow_label(&self) -> u32 {
        self.version_class_label.get() & flow::FlowKey::FLOW_LABEL_MASK
    }

    /// Octets of the packet by its own account, header included.
    #[inline(always)]
    pub(crate) fn total_len(&self) -> usize {
        IPV6_LEN + usize::from(self.payload_len.get())
    }

    pub(crate) fn source_addr(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.source.get())
    }

    pub(crate) fn destination_addr(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.destination.get())
    }
}

/// The start of every frame a worker handles.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub(crate) struct Frame {
    pub(crate) ethernet: Ethernet,
    pub(crate) ip: Ipv6,
}

impl Frame {
    /// The headers at the start of the frame, if it is long enough.
    #[inline(always)]
    pub(crate) fn of<P: PacketBuf>(packet: &P) -> Option<&Self> {
        Self::ref_from_prefix(packet.data())
            .ok()
            .map(|(frame, _)| frame)
    }

    /// Overwrites another with this: two moves of 32 octets, of which the second repeats the first's last ten.
    #[inline(always)]
    pub(crate) fn copy_to(&self, other: &mut Self) {
        const HALF: usize = 32;
        let (from, to) = (self.as_bytes(), other.as_mut_bytes());
        if let (Some(half), Some(place)) = (from.first_chunk::<HALF>(), to.first_chunk_mut()) {
            *place = *half;
        }
        if let (Some(half), Some(place)) = (from.last_chunk::<HALF>(), to.last_chunk_mut()) {
            *place = *half;
        }
    }

    /// As [`Frame::of`], to be changed in place.
    #[inline(always)]
    pub(crate) fn of_mut<P: PacketBuf>(packet: &mut P) -> Option<&mut Self> {
        Self::mut_from_prefix(packet.data_mut())
            .ok()
            .map(|(frame, _)| frame)
    }
}

/// The start of a frame that holds a tunnelled packet and no extension header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Tunnelled {
    pub(crate) outer: Frame,
    pub(crate) inner: Ipv6,
}

impl Tunnelled {
    /// The headers at the start of the frame, if it is long enough.
    #[inline(always)]
    pub(crate) fn of<P: PacketBuf>(packet: &P) -> Option<&Self> {
        Self::ref_from_prefix(packet.data())
            .ok()
            .map(|(frame, _)| frame)
    }

    /// As [`Tunnelled::of`], to be changed in place.
    #[inline(always)]
    pub(crate) fn of_mut<P: PacketBuf>(packet: &mut P) -> Option<&mut Self> {
        Self::mut_from_prefix(packet.data_mut())
            .ok()
            .map(|(frame, _)| frame)
    }
}

/// Kinds of addresses, tested on the 128 bits (RFC 4291 §2.4).
pub(crate) mod scope {
    use flow::Hnp;

    use crate::table::other::mask;

    /// `::`
    pub(crate) const UNSPECIFIED: u128 = 0;
    /// `::1`
    pub(crate) const LOOPBACK: u128 = 1;

    #[inline(always)]
    pub(crate) fn is_multicast(address: u128) -> bool {
        address >> 120 == 0xff
    }

    #[inline(always)]
    pub(crate) fn is_link_local(address: u128) -> bool {
        address >> 118 == 0xfe80 >> 6
    }

    /// Whether an address is neither multicast, link-local, loopback nor unspecified, told by its
    /// first 16 bits; a few other addresses that are nowhere in use fail this too.
    #[inline(always)]
    pub(crate) fn is_plain(address: u128) -> bool {
        let [_, high] = crate::table::hash::halves(address);
        (1..0xfe80).contains(&(high >> 48))
    }

    /// The first addresses of what is not plain: nothing at the beginning; link-local, site-local and multicast addresses at
    /// the end.
    pub(crate) const SPECIAL: [u128; 2] = [0, 0xfe80 << 112];

    /// Whether any address of a prefix is the unspecified, the loopback, an IPv4-mapped, a link-local or a multicast one.
    pub(crate) fn has_special(prefix: Hnp) -> bool {
        let special = [(0, 16), (0xfe80 << 112, 10), (0xff00 << 112, 8)];
        special.into_iter().any(|(network, len)| {
            let mask = mask(len.min(prefix.len()));
            (prefix.addr().to_bits() ^ network) & mask == 0
        })
    }

    /// Whether no packet that is forwarded may have this source.
    #[inline(always)]
    pub(crate) fn is_bad_source(address: u128) -> bool {
        address <= LOOPBACK || is_multicast(address)
    }

    /// The solicited-node group of an address (RFC 4291 §2.7.1).
    pub(crate) fn solicited_node(address: u128) -> u128 {
        0xff02_0000_0000_0000_0000_0001_ff00_0000 | (address & 0x00ff_ffff)
    }

    /// Whether a group is some address's solicited-node group.
    pub(crate) fn is_solicited_node(group: u128) -> bool {
        group >> 24 == 0xff02_0000_0000_0000_0000_0001_ff00_0000 >> 24
    }

    /// `ff02::1`
    pub(crate) const ALL_NODES: u128 = 0xff02_0000_0000_0000_0000_0000_0000_0001;
    /// `ff02::2`
    pub(crate) const ALL_ROUTERS: u128 = 0xff02_0000_0000_0000_0000_0000_0000_0002;
}

#[cfg(test)]
mod tests {
    use flow::Hnp;

    use super::scope;

    #[test]
    fn prefixes_with_special_addresses_are_known() {
        for (prefix, len, special) in [
            ("2001:db8::", 64, false),
            ("fec0:1::", 64, false),
            ("fe00::", 9, false),
            ("fe00::", 8, true),
            ("fe80::", 64, true),
            ("ff02::", 16, true),
            ("::", 64, true),
            ("::", 0, true),
        ] {
            let hnp = Hnp::new(prefix.parse().unwrap(), len).unwrap();
            assert_eq!(scope::has_special(hnp), special, "{hnp}");
        }
    }
}
