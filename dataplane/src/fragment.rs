//! Fragments (RFC 8200 §4.5): outer packets that do not fit the way to a tunnel's other end are cut,
//! those that come here in pieces are put together, and the fragments of mobiles' packets follow their
//! first one.

mod cut;
mod follow;
mod gather;

pub(crate) use cut::Identifications;
pub(crate) use follow::Firsts;
pub(crate) use gather::Gathering;

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::packet::header::{IPV6_LEN, Ipv6, next_header};

/// Octets of a Fragment header.
pub(crate) const FRAGMENT_LEN: usize = 8;

/// A Fragment header.
///
/// ```text
/// |  Next Header  |   Reserved    |      Fragment Offset    |Res|M|
/// |                         Identification                        |
/// ```
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub(crate) struct FragmentHeader {
    pub(crate) next_header: u8,
    pub(crate) reserved: u8,
    place: U16,
    pub(crate) identification: U32,
}

impl FragmentHeader {
    /// The header of a fragment that starts at `offset`, in octets, of which the lower three bits are
    /// ignored.
    pub(crate) fn new(next_header: u8, offset: u16, more: bool, identification: u32) -> Self {
        Self {
            next_header,
            reserved: 0,
            place: U16::new(offset & !7 | u16::from(more)),
            identification: U32::new(identification),
        }
    }

    /// Octets of the packet's fragmentable part before this fragment.
    pub(crate) fn offset(self) -> usize {
        usize::from(self.place.get() & !7)
    }

    /// Whether others come after it.
    pub(crate) fn more(self) -> bool {
        self.place.get() & 1 != 0
    }
}

/// The first Fragment header of a packet, and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) header: FragmentHeader,
    /// From the start of the IPv6 header.
    pub(crate) at: usize,
    /// Where the next header octet that announced it lies, from the start of the IPv6 header.
    pub(crate) announced_at: usize,
}

/// Looks for the Fragment header of `packet`, which starts with its IPv6 header `ip`.
pub(crate) fn find(ip: &Ipv6, packet: &[u8]) -> Option<Found> {
    let (mut kind, mut at, mut announced_at) = (ip.next_header, IPV6_LEN, 6);
    loop {
        let rest = packet.get(at..)?;
        match kind {
            next_header::FRAGMENT => {
                let (header, _) = FragmentHeader::read_from_prefix(rest).ok()?;
                return Some(Found {
                    header,
                    at,
                    announced_at,
                });
            }
            next_header::HOP_BY_HOP | next_header::ROUTING | next_header::DESTINATION => {
                let [next, len] = rest.first_chunk()?;
                announced_at = at;
                (kind, at) = (*next, at + 8 + 8 * usize::from(*len));
            }
            _ => return None,
        }
    }
}
