//! Onto a path: into a tunnel (RFC 2473, RFC 6040) or onto a mobile's link.

use flow::{DropReason, PortId};
use zerocopy::network_endian::{U16, U32};

use crate::classify::{Choice, why_none};
use crate::fate::{Error, Fate};
use crate::packet::PacketBuf;
use crate::packet::header::{FRAME_LEN, Frame, IPV6_LEN, Ipv6, MIN_MTU, Tunnelled};
use crate::table::hash::halves;
use crate::table::path::State;
use crate::table::{Paths, Rewrite};

/// Puts a packet on the path chosen for it, and counts it there. Being forwarded costs a packet `in
/// transit` a hop.
#[inline(always)]
pub(crate) fn onto_path<P: PacketBuf>(
    paths: &mut Paths,
    choice: Choice,
    packet: &mut P,
    in_transit: bool,
) -> Fate {
    let Some((path, counters)) = paths.get_mut(choice.path) else {
        return Fate::Drop(why_none(choice.path));
    };
    let Some(frame) = Frame::of_mut(packet) else {
        return Fate::Drop(DropReason::Malformed);
    };
    let octets = frame.ip.total_len();
    let fate = if matches!(path.state, State::Tunnel | State::TunnelUnresolved) {
        into_tunnel(path, choice.entropy, packet, in_transit)
    } else if path.state == State::Link {
        match step(frame, path.room.into(), in_transit) {
            Ok(()) => {
                frame.ethernet = path.header.ethernet;
                Fate::Send(path.port.into())
            }
            Err(fate) => fate,
        }
    } else {
        nowhere(path.state)
    };
    if matches!(fate, Fate::Send(_) | Fate::Hold { .. }) {
        counters.out_packets += 1;
        counters.out_octets += octets as u64;
    }
    fate
}

/// As [`onto_path`] for a packet in transit about which there is nothing unusual, into a tunnel whose next hop is
/// known. `None`, and nothing done, for all others.
#[inline(always)]
pub(crate) fn straight_into_tunnel<P: PacketBuf>(
    paths: &mut Paths,
    choice: Choice,
    packet: &mut P,
) -> Option<PortId> {
    let (tunnel, counters) = paths.get_mut(choice.path)?;
    let headroom = packet.headroom();
    let frame = Frame::of(packet)?;
    if tunnel.state != State::Tunnel
        || headroom < IPV6_LEN
        || !may_step(&frame.ip, tunnel.room.into())
        || is_between_ends(&frame.ip, tunnel)
    {
        return None;
    }
    let octets = frame.ip.total_len();
    let word = outer_word(&frame.ip, tunnel.class_mask, choice.entropy);
    // There is room for it, so both headers are there.
    packet.prepend(IPV6_LEN);
    let headers = Tunnelled::of_mut(packet)?;
    write_outer(&mut headers.outer, tunnel, octets, word);
    headers.inner.hop_limit -= 1;
    counters.out_packets += 1;
    counters.out_octets += octets as u64;
    Some(tunnel.port.into())
}

/// Whether a packet in transit has a hop to spend and fits `room` octets: the usual answer of [`step`].
#[inline(always)]
pub(crate) fn may_step(ip: &Ipv6, room: usize) -> bool {
    ip.hop_limit > 1 && ip.total_len() <= room
}

/// Whether a packet goes from a tunnel's own end to the other: it would enter the tunnel again and again
/// (RFC 2473 §4.1.2).
#[inline(always)]
fn is_between_ends(inner: &Ipv6, tunnel: &Rewrite) -> bool {
    let ends = &tunnel.header.ip;
    inner.destination == ends.destination && inner.source == ends.source
}

/// Writes a tunnel's header before a packet of so many octets.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "no path has room for more than 65535 octets"
)]
fn write_outer(frame: &mut Frame, tunnel: &Rewrite, octets: usize, word: U32) {
    tunnel.header.copy_to(frame);
    frame.ip.payload_len = U16::new(octets as u16);
    frame.ip.version_class_label = word;
}

/// What becomes of a packet whose path leads nowhere.
#[cold]
#[inline(never)]
fn nowhere(state: State) -> Fate {
    match state {
        State::TunnelUnreachable => Fate::Refuse(DropReason::NoRoute, Error::AddressUnreachable),
        State::TunnelLoop => Fate::Drop(DropReason::Loop),
        State::Absent | State::Tunnel | State::TunnelUnresolved | State::Link => {
            Fate::Drop(DropReason::NoPath)
        }
    }
}

/// Encapsulates; needs 40 octets of headroom.
#[inline(always)]
fn into_tunnel<P: PacketBuf>(
    tunnel: &Rewrite,
    entropy: u32,
    packet: &mut P,
    in_transit: bool,
) -> Fate {
    let Some(frame) = Frame::of_mut(packet) else {
        return Fate::Drop(DropReason::Malformed);
    };
    if let Err(fate) = step(frame, tunnel.room.into(), in_transit) {
        return fate;
    }
    if is_between_ends(&frame.ip, tunnel) {
        return Fate::Drop(DropReason::Loop);
    }
    let octets = frame.ip.total_len();
    let word = outer_word(&frame.ip, tunnel.class_mask, entropy);
    let grown = packet.prepend(IPV6_LEN).is_some();
    let (true, Some(frame)) = (grown, Frame::of_mut(packet)) else {
        return Fate::Drop(DropReason::NoHeadroom);
    };
    write_outer(frame, tunnel, octets, word);
    if tunnel.state == State::Tunnel {
        Fate::Send(tunnel.port.into())
    } else {
        Fate::Hold {
            adjacency: tunnel.adjacency,
            inner: FRAME_LEN,
        }
    }
}

/// The forwarding step: a packet in transit needs a hop to spend and must fit `room` octets.
#[inline(always)]
#[expect(
    clippy::needless_bitwise_bool,
    reason = "one branch for both: hardly any packet fails"
)]
pub(crate) fn step(frame: &mut Frame, room: usize, in_transit: bool) -> Result<(), Fate> {
    let spent = in_transit & (frame.ip.hop_limit <= 1);
    let total = frame.ip.total_len();
    if spent | (total > room) {
        return Err(refusal(spent, total, room));
    }
    frame.ip.hop_limit -= u8::from(in_transit);
    Ok(())
}

/// Why a packet cannot go on.
///
/// A packet of up to 1280 octets that does not fit, because the path has no room for an outer header
/// besides the IPv6 minimum, is dropped without an error, as its sender could not do better.
// TODO-correctness RFC 2473 §7.1 (b): such a packet is to be sent in fragments of the outer packet.
#[cold]
#[inline(never)]
fn refusal(spent: bool, total: usize, room: usize) -> Fate {
    if spent {
        Fate::Refuse(DropReason::HopLimit, Error::HopLimit)
    } else if total > usize::from(MIN_MTU) {
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        Fate::Refuse(DropReason::TooBig, Error::TooBig(room.max(MIN_MTU.into())))
    } else {
        Fate::Drop(DropReason::TooBig)
    }
}

/// Version, traffic class and flow label of the outer header: ECN is copied (RFC 6040 §4.1, normal
/// mode), DSCP if the path says so (RFC 2983), and the label tells flows apart for the balancers
/// on the way (RFC 6438 §3).
#[inline(always)]
fn outer_word(inner: &Ipv6, class_mask: u32, entropy: u32) -> U32 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let word = inner.version_class_label.get();
    let class = word & class_mask;
    let [source, destination] = [inner.source, inner.destination].map(|address| {
        let [low, high] = halves(u128::from_le_bytes(address.to_bytes()));
        low.rotate_left(32) ^ high
    });
    let flow = source
        .wrapping_mul(3)
        .wrapping_add(destination)
        .wrapping_add(u64::from(entropy ^ inner.flow_label()) << 32);
    let [_, _, _, _, a, b, c, d] = flow.wrapping_mul(MULTIPLIER).to_le_bytes();
    // Upper bits of the product, and never 0, which would mean "no label".
    let label = u32::from_le_bytes([a, b, c, d]) >> 12 | 1;
    U32::new(Ipv6::VERSION_6 | class | label)
}
