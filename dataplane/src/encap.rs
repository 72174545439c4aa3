//! Onto a path: into a tunnel (RFC 2473, RFC 6040) or onto a mobile's link.

use flow::DropReason;
use zerocopy::network_endian::{U16, U32};

use crate::classify::Choice;
use crate::fate::{Arrival, Error, Fate};
use crate::packet::PacketBuf;
use crate::packet::header::{FRAME_LEN, Frame, IPV6_LEN, MIN_MTU};
use crate::table::hash::halves;
use crate::table::path::State;
use crate::table::{Paths, Rewrite};

/// Puts a packet on the path chosen for it.
#[inline(always)]
pub(crate) fn onto_path<P: PacketBuf>(
    paths: &mut Paths,
    choice: Choice,
    packet: &mut P,
    arrival: &Arrival,
) -> Fate {
    let Some(rewrite) = paths.rewrite(choice.path) else {
        return Fate::Drop(DropReason::NoPath);
    };
    let Some(octets) = Frame::of(packet).map(|frame| frame.ip.total_len()) else {
        return Fate::Drop(DropReason::Malformed);
    };
    let fate = if matches!(rewrite.state, State::Tunnel | State::TunnelUnresolved) {
        into_tunnel(rewrite, choice.entropy, packet, arrival)
    } else {
        elsewhere(rewrite, packet, arrival)
    };
    if matches!(fate, Fate::Send(_) | Fate::Hold { .. }) {
        paths.count_out(choice.path, octets);
    }
    fate
}

/// Onto a path that is no tunnel with a next hop.
#[inline(always)]
fn elsewhere<P: PacketBuf>(rewrite: &Rewrite, packet: &mut P, arrival: &Arrival) -> Fate {
    match rewrite.state {
        State::Absent | State::Tunnel | State::TunnelUnresolved => Fate::Drop(DropReason::NoPath),
        State::TunnelUnreachable => Fate::Refuse(DropReason::NoRoute, Error::AddressUnreachable),
        State::TunnelLoop => Fate::Drop(DropReason::Loop),
        State::Link => onto_link(rewrite, packet, arrival),
    }
}

/// Encapsulates; needs 40 octets of headroom.
#[inline(always)]
fn into_tunnel<P: PacketBuf>(
    tunnel: &Rewrite,
    entropy: u64,
    packet: &mut P,
    arrival: &Arrival,
) -> Fate {
    let room = usize::from(tunnel.mtu).saturating_sub(IPV6_LEN);
    let inner = match step(packet, room, arrival) {
        Ok(frame) => frame.ip,
        Err(fate) => return fate,
    };
    // RFC 2473 §4.1.2: a packet between the tunnel's own ends would enter it again and again.
    let ends = &tunnel.header.ip;
    if (inner.source, inner.destination) == (ends.source, ends.destination) {
        return Fate::Drop(DropReason::Loop);
    }
    let Ok(payload_len) = u16::try_from(inner.total_len()) else {
        return Fate::Drop(DropReason::TooBig);
    };
    let Some(frame) = packet
        .prepend(IPV6_LEN)
        .and_then(|data| data.first_chunk_mut::<FRAME_LEN>())
        .map(|bytes| zerocopy::transmute_mut!(bytes))
    else {
        return Fate::Drop(DropReason::NoHeadroom);
    };
    let frame: &mut Frame = frame;
    *frame = tunnel.header;
    frame.ip.payload_len = U16::new(payload_len);
    frame.ip.version_class_label = outer_word(&inner, tunnel.copy_dscp, entropy);
    if tunnel.state == State::Tunnel {
        Fate::Send(tunnel.port.into())
    } else {
        Fate::Hold {
            adjacency: tunnel.adjacency,
            inner: FRAME_LEN,
        }
    }
}

fn onto_link<P: PacketBuf>(link: &Rewrite, packet: &mut P, arrival: &Arrival) -> Fate {
    match step(packet, usize::from(link.mtu), arrival) {
        Ok(frame) => {
            frame.ethernet = link.header.ethernet;
            Fate::Send(link.port.into())
        }
        Err(fate) => fate,
    }
}

/// The forwarding step: a packet in transit needs a hop to spend and must fit `mtu` octets.
///
/// A packet of up to 1280 octets that does not fit, because the path has no room for an outer header
/// besides the IPv6 minimum, is dropped without an error, as its sender could not do better.
// TODO-correctness RFC 2473 §7.1 (b): such a packet is to be sent in fragments of the outer packet.
#[inline(always)]
pub(crate) fn step<'a, P: PacketBuf>(
    packet: &'a mut P,
    mtu: usize,
    arrival: &Arrival,
) -> Result<&'a mut Frame, Fate> {
    let Some(frame) = Frame::of_mut(packet) else {
        return Err(Fate::Drop(DropReason::Malformed));
    };
    let transit = arrival.in_transit();
    if transit && frame.ip.hop_limit <= 1 {
        return Err(Fate::Refuse(DropReason::HopLimit, Error::HopLimit));
    }
    let total = frame.ip.total_len();
    if total > mtu {
        return Err(if total > usize::from(MIN_MTU) {
            let mtu = u32::try_from(mtu).unwrap_or(u32::MAX);
            let error = Error::TooBig(mtu.max(MIN_MTU.into()));
            Fate::Refuse(DropReason::TooBig, error)
        } else {
            Fate::Drop(DropReason::TooBig)
        });
    }
    frame.ip.hop_limit -= u8::from(transit);
    Ok(frame)
}

/// Version, traffic class and flow label of the outer header: ECN is copied (RFC 6040 §4.1, normal
/// mode), DSCP if the path says so (RFC 2983), and the label tells flows apart for the balancers
/// on the way (RFC 6438 §3).
#[inline(always)]
fn outer_word(inner: &crate::packet::header::Ipv6, copy_dscp: bool, entropy: u64) -> U32 {
    const VERSION: u32 = crate::packet::header::Ipv6::VERSION_6;
    const ECN: u32 = 0b11 << 20;
    const CLASS: u32 = 0xff << 20;
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let word = inner.version_class_label.get();
    let class = word & if copy_dscp { CLASS } else { ECN };
    let [source, destination] = [inner.source, inner.destination].map(|address| {
        let [low, high] = halves(u128::from_le_bytes(address.to_bytes()));
        low.rotate_left(32) ^ high
    });
    let flow = source
        .wrapping_mul(3)
        .wrapping_add(destination)
        .wrapping_add(entropy)
        ^ u64::from(inner.flow_label()) << 44;
    let [_, _, _, _, a, b, c, d] = flow.wrapping_mul(MULTIPLIER).to_le_bytes();
    // 20 upper bits of the product, never 0, which would mean "no label".
    let label = (u32::from_le_bytes([a, b, c, d]) >> 12).max(1);
    U32::new(VERSION | class | label)
}
