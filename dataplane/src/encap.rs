//! Onto a path: into a tunnel (RFC 2473, RFC 6040) or onto a mobile's link.
//!
//! Nearly all packets fit their tunnel as they are; [`onto_path`] sends the others to [`carefully`],
//! which knows fragments and the Tunnel Encapsulation Limit.

mod limit;

use flow::{DropReason, PathCounters, PortId};
use zerocopy::network_endian::{U16, U32};

use crate::classify::{Choice, no_path};
use crate::fate::{Error, Fate, Onward};
use crate::packet::PacketBuf;
use crate::packet::header::{
    ETHERNET_LEN, FRAME_LEN, Frame, IPV6_LEN, Ipv6, MIN_MTU, Tunnelled, next_header,
};
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
        return no_path(choice.path);
    };
    let Some(frame) = Frame::of_mut(packet) else {
        return Fate::Drop(DropReason::Malformed);
    };
    let octets = frame.ip.total_len();
    let fate = if matches!(path.state, State::Tunnel | State::TunnelUnresolved) {
        into_tunnel(path, choice.entropy, packet, in_transit)
    } else if path.state == State::Link {
        onto_link(path, frame, in_transit)
    } else {
        nowhere(path.state)
    };
    if matches!(fate, Fate::Send(_) | Fate::Hold { .. }) {
        counters.out_packets += 1;
        counters.out_octets += octets as u64;
        fate
    } else if fate == Fate::Aside {
        carefully(paths, choice, packet, in_transit)
    } else {
        fate
    }
}

/// As [`onto_path`], for packets that may not fit or may limit their encapsulation.
#[cold]
#[inline(never)]
pub(crate) fn carefully<P: PacketBuf>(
    paths: &mut Paths,
    choice: Choice,
    packet: &mut P,
    in_transit: bool,
) -> Fate {
    let limit = paths.encapsulation_limit(choice.path);
    let Some((path, counters)) = paths.get_mut(choice.path) else {
        return no_path(choice.path);
    };
    let Some(frame) = Frame::of_mut(packet) else {
        return Fate::Drop(DropReason::Malformed);
    };
    let octets = frame.ip.total_len();
    let fate = match path.state {
        State::Tunnel | State::TunnelUnresolved => {
            enter(path, limit, choice.entropy, packet, in_transit).unwrap_or_else(|fate| fate)
        }
        State::Link => onto_link(path, frame, in_transit),
        State::Absent | State::TunnelUnreachable | State::TunnelLoop => nowhere(path.state),
    };
    if matches!(fate, Fate::Send(_) | Fate::Hold { .. } | Fate::Cut { .. }) {
        counters.out_packets += 1;
        counters.out_octets += octets as u64;
    }
    fate
}

#[inline(always)]
fn onto_link(link: &Rewrite, frame: &mut Frame, in_transit: bool) -> Fate {
    match step(frame, link.room.into(), in_transit) {
        Ok(()) => {
            frame.ethernet = link.header.ethernet;
            Fate::Send(link.port.into())
        }
        Err(fate) => fate,
    }
}

/// As [`onto_path`] for a packet in transit about which there is nothing unusual, into a tunnel whose next hop is
/// known. `None`, and nothing done, for all others.
#[inline(always)]
pub(crate) fn straight_into_tunnel<P: PacketBuf>(
    (tunnel, counters): (&Rewrite, &mut PathCounters),
    entropy: u32,
    packet: &mut P,
) -> Option<PortId> {
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
    // There is room for it, so both headers are there.
    packet.prepend(IPV6_LEN);
    let headers = Tunnelled::of_mut(packet)?;
    let word = outer_word(&headers.inner, tunnel.class_mask, entropy);
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
    // Hardly any packet goes to where the network of the tunnel's end is; but many end in `::1`.
    let [of_inner, of_end] = [inner, ends].map(|ip| {
        let [upper, _] = halves(u128::from_le_bytes(ip.destination.to_bytes()));
        upper
    });
    of_inner == of_end && are_both(inner, ends)
}

#[cold]
#[inline(never)]
fn are_both(inner: &Ipv6, ends: &Ipv6) -> bool {
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

/// Encapsulates a packet that fits; needs 40 octets of headroom. [`Fate::Aside`] for one that does not.
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
    if step(frame, tunnel.room.into(), in_transit).is_err() {
        return Fate::Aside;
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

/// Encapsulates any packet: with a Tunnel Encapsulation Limit if it has one itself or the path
/// adds one, and to be cut if it does not fit but its sender could not do better (RFC 2473 §4.1.1,
/// §7.1).
fn enter<P: PacketBuf>(
    tunnel: &Rewrite,
    configured: Option<u8>,
    entropy: u32,
    packet: &mut P,
    in_transit: bool,
) -> Result<Fate, Fate> {
    const MALFORMED: Fate = Fate::Drop(DropReason::Malformed);
    const NO_HEADROOM: Fate = Fate::Drop(DropReason::NoHeadroom);
    let (inner, octets) = packet
        .data()
        .get(ETHERNET_LEN..)
        .and_then(|octets| Some((*Ipv6::of(octets)?, octets)))
        .ok_or(MALFORMED)?;
    if is_between_ends(&inner, tunnel) {
        return Err(Fate::Drop(DropReason::Loop));
    }
    let limit = match limit::of(&inner, octets) {
        Some(found) => Some(found.spend()?),
        None => configured,
    };
    let head = IPV6_LEN + if limit.is_some() { limit::LEN } else { 0 };
    let mtu = usize::from(tunnel.mtu());
    let fits = inner.total_len() + head <= mtu;
    // What does not fit may be cut, up to what every link must carry.
    let room = if fits {
        inner.total_len()
    } else {
        mtu.saturating_sub(head).max(MIN_MTU.into())
    };
    step(Frame::of_mut(packet).ok_or(MALFORMED)?, room, in_transit)?;

    let payload_len = u16::try_from(inner.total_len() + head - IPV6_LEN).map_err(|_| MALFORMED)?;
    packet.prepend(head).ok_or(NO_HEADROOM)?;
    let frame = Frame::of_mut(packet).ok_or(NO_HEADROOM)?;
    *frame = tunnel.header;
    frame.ip.payload_len = U16::new(payload_len);
    frame.ip.version_class_label = outer_word(&inner, tunnel.class_mask, entropy);
    if let Some(limit) = limit {
        frame.ip.next_header = next_header::DESTINATION;
        let option = packet.data_mut().get_mut(FRAME_LEN..FRAME_LEN + limit::LEN);
        option
            .ok_or(NO_HEADROOM)?
            .copy_from_slice(&limit::header(limit));
    }
    let to = if tunnel.state == State::Tunnel {
        Onward::Port(tunnel.port.into())
    } else {
        Onward::Neighbour(tunnel.adjacency)
    };
    let mtu = tunnel.mtu();
    Ok(match to {
        Onward::Port(_) | Onward::Neighbour(_) if !fits => Fate::Cut { mtu, to },
        Onward::Port(port) => Fate::Send(port),
        Onward::Neighbour(adjacency) => Fate::Hold {
            adjacency,
            inner: ETHERNET_LEN + head,
        },
    })
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
        return Err(refusal(spent, room));
    }
    frame.ip.hop_limit -= u8::from(in_transit);
    Ok(())
}

/// Why a packet cannot go on.
#[cold]
#[inline(never)]
fn refusal(spent: bool, room: usize) -> Fate {
    if spent {
        Fate::Refuse(DropReason::HopLimit, Error::HopLimit)
    } else {
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        Fate::Refuse(DropReason::TooBig, Error::TooBig(room.max(MIN_MTU.into())))
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
