//! Outer packets in fragments (RFC 2473 §7.1 b).

use zerocopy::IntoBytes;

use super::{FRAGMENT_LEN, FragmentHeader};
use crate::fate::{Arrival, Fate, Onward};
use crate::io::PacketIo;
use crate::packet::PacketBuf;
use crate::packet::header::{ETHERNET_LEN, Frame, IPV6_LEN, next_header};
use crate::table::hash::Seed;
use crate::worker::Worker;
use flow::DropReason;

/// Octets of the Destination Options header with a Tunnel Encapsulation Limit.
const LIMIT_LEN: usize = 8;

/// Numbers for packets that are sent in fragments: no two the same between two nodes while fragments
/// of either may be on their way (RFC 8200 §4.5). All workers send into the same tunnels, so each has
/// those numbers that end in its own.
#[derive(Debug)]
pub(crate) struct Identifications {
    count: u32,
    worker: u32,
    /// Bits that tell workers apart.
    bits: u32,
}

impl Identifications {
    /// Starts anywhere, so that a restarted process does not repeat itself.
    pub(crate) fn new() -> Self {
        let [start, _] = crate::table::hash::halves32(Seed::random().mix(0));
        Self {
            count: start,
            worker: 0,
            bits: 0,
        }
    }

    /// Keeps to the numbers of worker `worker` out of so many.
    pub(crate) fn share(&mut self, worker: usize, workers: usize) {
        self.worker = u32::try_from(worker).unwrap_or(0);
        self.bits = workers.next_power_of_two().trailing_zeros();
    }

    fn next(&mut self) -> u32 {
        self.count = self.count.wrapping_add(1);
        self.count.checked_shl(self.bits).unwrap_or(0) | self.worker
    }
}

impl<Io: PacketIo> Worker<Io> {
    /// Sends a finished outer packet in two fragments of at most `mtu` octets.
    pub(crate) fn cut(&mut self, mut packet: Io::Packet, mtu: u16, to: Onward, arrival: &Arrival) {
        let Some(mut rest) = self.io.alloc() else {
            return self.count_drop(DropReason::NoBuffer);
        };
        let number = self.identifications.next();
        let Some(inner) = in_two(&mut packet, &mut rest, mtu.into(), number) else {
            return self.count_drop(DropReason::NoHeadroom);
        };
        self.originated += 1;
        self.fragmented += 1;
        let fate = |inner| match to {
            Onward::Port(port) => Fate::Send(port),
            Onward::Neighbour(adjacency) => Fate::Hold { adjacency, inner },
        };
        self.finish(packet, fate(inner), arrival);
        // It does not show whose it is: the first one tells.
        self.finish(rest, fate(ETHERNET_LEN), &Arrival::OWN);
    }
}

/// Moves what does not fit `mtu` octets from the end of an outer packet into the empty `rest`, and
/// makes both fragments; returns where the inner packet starts in the first. `None` without enough
/// room in the buffers.
///
/// What routers on the way look at stays in every fragment: the IPv6 header, and a Tunnel
/// Encapsulation Limit, which the entry of a further tunnel must find (RFC 2473 §4.1.1).
fn in_two<P: PacketBuf>(
    packet: &mut P,
    rest: &mut P,
    mtu: usize,
    identification: u32,
) -> Option<usize> {
    let first = Frame::of(packet)?.ip.next_header;
    let limited = first == next_header::DESTINATION;
    let head = ETHERNET_LEN + IPV6_LEN + if limited { LIMIT_LEN } else { 0 };
    let announced_at = ETHERNET_LEN + if limited { IPV6_LEN } else { 6 };
    let next = *packet.data().get(announced_at)?;
    // Every fragment but the last carries a multiple of eight octets.
    let part = mtu.checked_sub(head - ETHERNET_LEN + FRAGMENT_LEN)? & !7;
    let header = |offset: usize, more| {
        let offset = u16::try_from(offset).unwrap_or(u16::MAX);
        FragmentHeader::new(next, offset, more, identification)
    };

    let (shared, body) = packet.data().split_at_checked(head)?;
    let later = body.get(part..)?;
    let (to_head, to_body) = rest
        .append(head + FRAGMENT_LEN + later.len())?
        .split_at_mut(head);
    let (to_header, to_body) = to_body.split_at_mut(FRAGMENT_LEN);
    to_head.copy_from_slice(shared);
    to_header.copy_from_slice(header(part, false).as_bytes());
    to_body.copy_from_slice(later);

    packet.truncate(head + part);
    let data = packet.prepend(FRAGMENT_LEN)?;
    data.copy_within(FRAGMENT_LEN..FRAGMENT_LEN + head, 0);
    data.get_mut(head..head + FRAGMENT_LEN)?
        .copy_from_slice(header(0, true).as_bytes());
    for fragment in [packet, rest] {
        let len = fragment.data().len() - ETHERNET_LEN - IPV6_LEN;
        *fragment.data_mut().get_mut(announced_at)? = next_header::FRAGMENT;
        Frame::of_mut(fragment)?.ip.payload_len = u16::try_from(len).ok()?.into();
    }
    Some(head + FRAGMENT_LEN)
}
