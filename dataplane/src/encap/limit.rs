//! The Tunnel Encapsulation Limit option (RFC 2473 §4.1.1).

use flow::DropReason;

use crate::fate::{Error, Fate};
use crate::packet::header::{IPV6_LEN, Ipv6, next_header};

/// Octets of a Destination Options header with nothing but a limit.
pub(super) const LEN: usize = 8;

const PAD1: u8 = 0;
const PADN: u8 = 1;
const ENCAPSULATION_LIMIT: u8 = 4;

/// The limit that a packet has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Found {
    limit: u8,
    /// Where that octet is, from the start of the IPv6 header.
    at: usize,
}

impl Found {
    /// The limit for the tunnel header that is put before the packet.
    ///
    /// # Errors
    /// The packet must not be encapsulated again: its sender is told so.
    pub(super) fn spend(self) -> Result<u8, Fate> {
        let pointer = u32::try_from(self.at).unwrap_or(0);
        let error = Error::Parameter(0, pointer);
        let refused = Fate::Refuse(DropReason::EncapsulationLimit, error);
        self.limit.checked_sub(1).ok_or(refused)
    }
}

/// A Destination Options header for a tunnelled IPv6 packet.
///
/// ```text
/// |Next Header=41 | Hdr Ext Len=0 |  Opt Type=4   | Opt Data Len=1|
/// | Encaps. Limit |  PadN=1       |  Opt Data Len=1 |       0       |
/// ```
pub(super) fn header(limit: u8) -> [u8; LEN] {
    [
        next_header::IPV6,
        0,
        ENCAPSULATION_LIMIT,
        1,
        limit,
        PADN,
        1,
        0,
    ]
}

/// The limit of a packet that starts with its IPv6 header `ip`: headers are looked at from left to
/// right, up to one that is no extension or cannot be read.
pub(super) fn of(ip: &Ipv6, packet: &[u8]) -> Option<Found> {
    let (mut kind, mut at) = (ip.next_header, IPV6_LEN);
    loop {
        let [next, len, place @ ..] = packet.get(at..)?.first_chunk::<4>()?;
        let len = match kind {
            next_header::HOP_BY_HOP | next_header::ROUTING | next_header::DESTINATION => {
                8 + 8 * usize::from(*len)
            }
            // Behind a later fragment's header there is no header.
            next_header::FRAGMENT if u16::from_be_bytes(*place) >> 3 == 0 => 8,
            _ => return None,
        };
        let header = packet.get(at..at + len)?;
        if kind == next_header::DESTINATION
            && let Some(within) = option(header)
        {
            let limit = *header.get(within)?;
            return Some(Found {
                limit,
                at: at + within,
            });
        }
        (kind, at) = (*next, at + len);
    }
}

/// Where the limit's octet is in a Destination Options header.
fn option(header: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        let kind = *header.get(at)?;
        if kind == PAD1 {
            at += 1;
            continue;
        }
        let len = *header.get(at + 1)?;
        if kind == ENCAPSULATION_LIMIT && len == 1 {
            return Some(at + 2);
        }
        at += 2 + usize::from(len);
    }
}
