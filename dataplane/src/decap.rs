//! Out of a tunnel: who may send what, congestion marks, and the inner packet bared.

use flow::{DropReason, Role};

use crate::fate::Fate;
use crate::packet::PacketBuf;
use crate::packet::ecn;
use crate::packet::header::{ETHERNET_LEN, FRAME_LEN, Frame, IPV6_LEN, Ipv6, scope};
use crate::role::RoleState;
use crate::table::Slot;
use crate::table::path::Endpoint;
use zerocopy::FromBytes;

/// Addresses and marks of an outer header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Outer {
    pub(crate) source: u128,
    pub(crate) destination: u128,
    ecn: u8,
}

/// Bares the inner packet, whose header is at `offset`: checks it, takes the outer headers off and
/// carries congestion marks over.
#[inline(always)]
pub(crate) fn bare<P: PacketBuf>(packet: &mut P, offset: usize) -> Result<Outer, Fate> {
    let data = packet.data();
    let (Some(frame), Ok((inner, rest))) = (
        Frame::of(packet),
        Ipv6::ref_from_prefix(data.get(offset..).unwrap_or_default()),
    ) else {
        return Err(Fate::Drop(DropReason::Malformed));
    };
    let outer = Outer {
        source: frame.ip.source.get(),
        destination: frame.ip.destination.get(),
        ecn: frame.ip.traffic_class() & 3,
    };
    if !inner.is_version_6() {
        return Err(Fate::Drop(DropReason::InnerProtocol));
    }
    if inner.total_len() > rest.len() + IPV6_LEN {
        return Err(Fate::Drop(DropReason::Malformed));
    }
    let (total, inner_ecn) = (inner.total_len(), inner.traffic_class() & 3);
    let Some(marked) = ecn::at_exit(inner_ecn, outer.ecn) else {
        return Err(Fate::Drop(DropReason::Ecn));
    };
    packet.trim_front(offset - ETHERNET_LEN);
    packet.truncate(ETHERNET_LEN + total);
    if marked != inner_ecn
        && let Some(frame) = Frame::of_mut(packet)
    {
        frame.ip.set_ecn(marked);
    }
    Ok(outer)
}

/// Takes the outer header off a packet that [`crate::ingress`] found nothing odd about, and carries a
/// congestion mark over.
#[inline(always)]
pub(crate) fn strip<P: PacketBuf>(packet: &mut P) {
    let marks = [ETHERNET_LEN, FRAME_LEN].map(|header| {
        // The traffic class is the fifth to twelfth bit, so its last two bits are in the second octet.
        let octet = packet.data().get(header + 1).copied().unwrap_or(0);
        octet >> 4 & 3
    });
    packet.trim_front(IPV6_LEN);
    let [outer, inner] = marks;
    if outer & 1 != 0
        && let (Some(marked), Some(frame)) = (ecn::at_exit(inner, outer), Frame::of_mut(packet))
    {
        frame.ip.set_ecn(marked);
    }
}

/// Whether the inner source and destination may be forwarded at all.
#[inline(always)]
pub(crate) fn check_addresses(ip: &Ipv6) -> Result<(), DropReason> {
    let (source, destination) = (ip.source.get(), ip.destination.get());
    if scope::is_bad_source(source) {
        return Err(DropReason::BadSource);
    }
    if scope::is_multicast(destination) {
        return Err(DropReason::Multicast);
    }
    // The loopback and the unspecified address have an even smaller scope than link-local ones.
    if scope::is_link_local(source)
        || scope::is_link_local(destination)
        || destination <= scope::LOOPBACK
    {
        return Err(DropReason::LinkLocal);
    }
    Ok(())
}

/// At an LMA: the outer source must be a MAG that may send for the inner source, which after a flow
/// move is not always the one that hosts the prefix (RFC 6275 §10.4.5, RFC 5213 §5.6.2).
#[inline(always)]
pub(crate) fn check_uplink(
    lma: &mut RoleState,
    slot: Option<Slot>,
    outer: &Outer,
    octets: usize,
) -> Result<(), Fate> {
    let paths = &mut lma.table.paths;
    let record = slot.and_then(|slot| lma.table.bindings.uplink(slot));
    if let Some(record) = record {
        let receives = |number: &&u16| {
            let rewrite = paths.rewrite(**number);
            rewrite.is_some_and(|path| path.receives(outer.source, outer.destination))
        };
        if let Some(number) = record.sources.iter().find(receives) {
            record.packets += 1;
            record.octets += octets as u64;
            paths.count_in(*number, octets);
            return Ok(());
        }
        if paths.knows(&Endpoint::Tunnel(outer.destination, outer.source)) {
            let inactive = record.is_inactive();
            return Err(Fate::Drop(if inactive {
                DropReason::BindingInactive
            } else {
                DropReason::OuterSource
            }));
        }
    }
    Err(Fate::Drop(stranger(lma, outer, DropReason::InnerSource)))
}

/// At a MAG: the packet must come through the tunnel of the session that owns its destination.
#[inline(always)]
pub(crate) fn check_downlink(
    mag: &mut RoleState,
    slot: Option<Slot>,
    outer: &Outer,
    octets: usize,
) -> Result<Slot, Fate> {
    let paths = &mut mag.table.paths;
    let known = slot.and_then(|slot| Some((slot, mag.table.bindings.downlink(slot)?.from)));
    let Some((slot, from)) = known else {
        return Err(Fate::Drop(stranger(mag, outer, DropReason::NoBinding)));
    };
    let rewrite = paths.rewrite(from);
    if rewrite.is_some_and(|path| path.receives(outer.source, outer.destination)) {
        paths.count_in(from, octets);
        return Ok(slot);
    }
    Err(Fate::Drop(stranger(mag, outer, DropReason::OuterSource)))
}

/// `otherwise`, unless the tunnel itself is unknown.
#[cold]
#[inline(never)]
fn stranger(role: &RoleState, outer: &Outer, otherwise: DropReason) -> DropReason {
    let tunnel = Endpoint::Tunnel(outer.destination, outer.source);
    if role.table.paths.knows(&tunnel) {
        otherwise
    } else {
        DropReason::NoTunnel
    }
}

/// Which role's tunnels end at `address`.
#[inline(always)]
pub(crate) fn tunnel_end(
    lma: Option<&RoleState>,
    mag: Option<&RoleState>,
    address: u128,
) -> Option<Role> {
    let ends_here = |role: &RoleState| role.addresses.contains(&address);
    if lma.is_some_and(ends_here) {
        Some(Role::Lma)
    } else if mag.is_some_and(ends_here) {
        Some(Role::Mag)
    } else {
        None
    }
}
