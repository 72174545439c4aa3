//! Neighbour discovery (RFC 4861): what the worker answers itself, and what it shows to the control
//! plane.

use flow::{DropReason, MacAddr, PortId};

use super::icmp_type;
use crate::fate::{Arrival, Fate, Punted};
use crate::io::PacketIo;
use crate::packet::header::{FRAME_LEN, Frame, Ipv6, scope};
use crate::packet::{PacketBuf, build};
use crate::worker::Worker;

/// Hop limit of every such message: it has crossed no router (RFC 4861 §6.1, §7.1).
const HOP_LIMIT: u8 = 255;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
/// Router, solicited and override flags of an advertisement (RFC 4861 §4.4).
const ROUTER: u32 = 1 << 31;
const SOLICITED: u32 = 1 << 30;
const OVERRIDE: u32 = 1 << 29;

/// A message that passed the checks of RFC 4861 §6.1.1 and §7.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Message {
    RouterSolicitation,
    Solicitation { target: u128 },
    Advertisement,
}

impl<Io: PacketIo> Worker<Io> {
    /// A message whose checksum is right.
    pub(super) fn discovery(
        &mut self,
        ip: &Ipv6,
        packet: &mut Io::Packet,
        arrival: &Arrival,
    ) -> Fate {
        let octets = packet.data().get(FRAME_LEN..).unwrap_or_default();
        match check(ip, octets) {
            None => Fate::Drop(DropReason::BadIcmp),
            Some(Message::Solicitation { target }) if self.answers_for(target, arrival.port) => {
                self.advertise(ip, target, packet, arrival)
            }
            Some(
                Message::RouterSolicitation | Message::Solicitation { .. } | Message::Advertisement,
            ) => Fate::Punt(Punted::NeighbourDiscovery),
        }
    }

    /// Whether `target` is ours on that link: an address of the port, or a tunnel end of ours that
    /// lies in the link's prefix.
    fn answers_for(&self, target: u128, port: PortId) -> bool {
        let Some(state) = self.ports.get(usize::from(port.0)) else {
            return false;
        };
        let on_link = || {
            let target = std::net::Ipv6Addr::from_bits(target);
            state.prefixes.iter().any(|prefix| prefix.contains(&target))
        };
        self.own.is_on(target, port) || (self.own.is_portless(target) && on_link())
    }

    /// Turns a solicitation into the advertisement that answers it (RFC 4861 §7.2.4), after the
    /// control plane was shown who asked.
    fn advertise(
        &mut self,
        ip: &Ipv6,
        target: u128,
        packet: &mut Io::Packet,
        arrival: &Arrival,
    ) -> Fate {
        // Only a hint here, so the loss of it is not the packet's.
        let _policed = self.punt(Punted::NeighbourDiscovery, packet, arrival);
        let Some(mac) = self.ports.get(usize::from(arrival.port.0)).map(|p| p.mac) else {
            return Fate::Drop(DropReason::PortDown);
        };
        let source = ip.source.get();
        let (to, solicited) = if source == scope::UNSPECIFIED {
            (scope::ALL_NODES, 0)
        } else {
            (source, SOLICITED)
        };
        let [a, b, c, d, e, f] = mac.0;
        let mut body = [0; 24];
        let (address, option) = body.split_at_mut(16);
        address.copy_from_slice(&target.to_be_bytes());
        option.copy_from_slice(&[TARGET_LINK_LAYER, 1, a, b, c, d, e, f]);
        packet.truncate(0);
        let advertisement = build::Message {
            source: target,
            destination: to,
            hop_limit: HOP_LIMIT,
            kind: icmp_type::NEIGHBOUR_ADVERTISEMENT,
            code: 0,
            word: ROUTER | solicited | OVERRIDE,
            body: &body,
        };
        if build::write(packet, &advertisement) {
            Fate::Answer
        } else {
            Fate::Drop(DropReason::NoBuffer)
        }
    }
}

/// Where an answer to a station on the link goes, if not by route: to the station itself, unless
/// the answer is for all.
pub(crate) fn answer_station<P: PacketBuf>(packet: &P, arrival: &Arrival) -> Option<MacAddr> {
    let ip = &Frame::of(packet)?.ip;
    let to = ip.destination.get();
    let is_advertisement =
        packet.data().get(FRAME_LEN) == Some(&icmp_type::NEIGHBOUR_ADVERTISEMENT);
    if scope::is_multicast(to) {
        Some(MacAddr::for_multicast(ip.destination_addr()))
    } else if scope::is_link_local(to) || is_advertisement {
        Some(arrival.station)
    } else {
        None
    }
}

/// The checks of RFC 4861 §6.1.1 (Router Solicitation), §7.1.1 (Neighbour Solicitation) and §7.1.2
/// (Neighbour Advertisement), but for the checksum.
fn check(ip: &Ipv6, message: &[u8]) -> Option<Message> {
    let [kind, 0, _, _, flags, ..] = message else {
        return None;
    };
    if ip.hop_limit != HOP_LIMIT {
        return None;
    }
    let (source, destination) = (ip.source.get(), ip.destination.get());
    let unspecified = source == scope::UNSPECIFIED;
    if *kind == icmp_type::ROUTER_SOLICITATION {
        let options = message.get(8..)?;
        let valid = options_are_whole(options, unspecified);
        return valid.then_some(Message::RouterSolicitation);
    }
    let target = u128::from_be_bytes(*message.get(8..)?.first_chunk()?);
    if scope::is_multicast(target) || !options_are_whole(message.get(24..)?, unspecified) {
        return None;
    }
    if *kind == icmp_type::NEIGHBOUR_SOLICITATION {
        let probe = !unspecified || destination == scope::solicited_node(target);
        probe.then_some(Message::Solicitation { target })
    } else {
        let solicited = flags & 0x40 != 0;
        let valid = !unspecified && (!solicited || !scope::is_multicast(destination));
        valid.then_some(Message::Advertisement)
    }
}

/// Whether every option has a length other than 0 and ends within the message, and none gives the
/// link-layer address of a source that has no address.
fn options_are_whole(mut options: &[u8], unspecified: bool) -> bool {
    while let [kind, rest @ ..] = options {
        let len = 8 * usize::from(rest.first().copied().unwrap_or(0));
        if len == 0 || len > options.len() || (unspecified && *kind == SOURCE_LINK_LAYER) {
            return false;
        }
        options = options.get(len..).unwrap_or_default();
    }
    true
}
