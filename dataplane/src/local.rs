//! Packets to the appliance itself: echo, neighbour discovery, signalling, and what nobody here
//! understands.

pub(crate) mod discovery;
mod tunnel_error;

use flow::DropReason;
use zerocopy::network_endian::U128;

use crate::decap;
use crate::fate::{Arrival, Error, Fate, Punted, Via};
use crate::io::PacketIo;
use crate::packet::header::{ETHERNET_LEN, FRAME_LEN, Frame, IPV6_LEN, Ipv6, next_header, scope};
use crate::packet::{PacketBuf, build, checksum, walk};
use crate::worker::Worker;

/// ICMPv6 types (RFC 4443, RFC 4861).
pub(crate) mod icmp_type {
    pub(crate) const ECHO_REQUEST: u8 = 128;
    pub(crate) const ECHO_REPLY: u8 = 129;
    pub(crate) const ROUTER_SOLICITATION: u8 = 133;
    pub(crate) const NEIGHBOUR_SOLICITATION: u8 = 135;
    pub(crate) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
}

/// Hop limit of our answers (RFC 8200 leaves it to the node; this is the usual value).
pub(crate) const HOP_LIMIT: u8 = 64;

impl<Io: PacketIo> Worker<Io> {
    /// A packet to one of our addresses or groups.
    #[cold]
    #[inline(never)]
    pub(crate) fn local(&mut self, packet: &mut Io::Packet, arrival: &mut Arrival) -> Fate {
        self.local_whole(packet, arrival, false)
    }

    /// As [`Worker::local`]; a packet that was put together here has shown its source already.
    pub(crate) fn local_whole(
        &mut self,
        packet: &mut Io::Packet,
        arrival: &mut Arrival,
        put_together: bool,
    ) -> Fate {
        let Some(ip) = Frame::of(packet).map(|frame| frame.ip) else {
            return Fate::Drop(DropReason::Malformed);
        };
        let octets = packet.data().get(ETHERNET_LEN..).unwrap_or_default();
        if let Err(fate) = check_extensions(&ip, octets) {
            return fate;
        }
        let upper = walk::upper(&ip, octets);
        let is_discovery = is_discovery(&upper, octets);
        if is_discovery && (upper.fragmented || put_together) {
            // RFC 6980 §5: nothing in neighbour discovery is that large.
            return Fate::Drop(DropReason::BadIcmp);
        }
        let access = self.is_access(arrival.port) && arrival.via == Via::Link;
        let shown = is_discovery || put_together;
        if access && !shown && !self.may_talk_to_us(ip.source.get(), packet, arrival) {
            return Fate::Drop(DropReason::IngressFilter);
        }
        if ip.source.get() == scope::UNSPECIFIED && !is_discovery {
            return Fate::Drop(DropReason::BadSource);
        }
        if upper.fragmented {
            return fragment_to_us(&ip, put_together);
        }
        let pointer = u32::try_from(upper.announced_at).unwrap_or(0);
        let unknown = Fate::Refuse(DropReason::Unhandled, Error::Parameter(1, pointer));
        match upper.next_header {
            next_header::IPV6 | next_header::MOBILITY | next_header::ESP if access => {
                // Tunnels and signalling are between LMA and MAG: not for mobiles to forge.
                Fate::Drop(DropReason::IngressFilter)
            }
            next_header::IPV6 => self.late_exit(&ip, upper.offset, packet, arrival, unknown),
            next_header::MOBILITY | next_header::ESP if arrival.via == Via::Link => {
                Fate::Punt(Punted::Mobility)
            }
            next_header::ICMPV6 => self.icmp(&ip, &upper, packet, arrival),
            next_header::NONE => Fate::Drop(DropReason::Unhandled),
            next_header::TCP
            | next_header::UDP
            | next_header::UDP_LITE
            | next_header::SCTP
            | next_header::DCCP => Fate::Refuse(DropReason::Unhandled, Error::PortUnreachable),
            _ => unknown,
        }
    }

    /// A tunnel packet with extension headers before the inner one, such as a tunnel encapsulation
    /// limit (RFC 2473 §4.1.1).
    fn late_exit(
        &mut self,
        ip: &Ipv6,
        offset: usize,
        packet: &mut Io::Packet,
        arrival: &mut Arrival,
        otherwise: Fate,
    ) -> Fate {
        let end = decap::tunnel_end(self.lma.as_ref(), self.mag.as_ref(), ip.destination.get());
        match end {
            Some(role) if arrival.via == Via::Link => {
                self.exit(role, ETHERNET_LEN + offset, packet, arrival)
            }
            Some(_) | None => otherwise,
        }
    }

    /// An ICMPv6 message to us.
    fn icmp(
        &mut self,
        ip: &Ipv6,
        upper: &walk::Upper,
        packet: &mut Io::Packet,
        arrival: &mut Arrival,
    ) -> Fate {
        let octets = packet.data().get(ETHERNET_LEN..).unwrap_or_default();
        let message = octets.get(upper.offset..).unwrap_or_default();
        let (source, destination) = (ip.source.get(), ip.destination.get());
        let sum = checksum::over(source, destination, next_header::ICMPV6, message);
        let [kind, _, _, _, ..] = message else {
            return Fate::Drop(DropReason::BadIcmp);
        };
        // Zero has two forms in one's complement; a right checksum leaves either.
        if sum != 0 && sum != u16::MAX {
            return Fate::Drop(DropReason::BadIcmp);
        }
        match *kind {
            icmp_type::ECHO_REQUEST => self.echo(ip, upper.offset, packet, arrival),
            icmp_type::ROUTER_SOLICITATION
            | icmp_type::NEIGHBOUR_SOLICITATION
            | icmp_type::NEIGHBOUR_ADVERTISEMENT => {
                // Messages of the link have no extension headers worth forging them for, and never
                // come out of a tunnel.
                if arrival.via == Via::Link && upper.offset == IPV6_LEN {
                    self.discovery(ip, packet, arrival)
                } else {
                    Fate::Drop(DropReason::BadIcmp)
                }
            }
            // Errors about tunnel packets come from the core, never from a mobile.
            ..icmp_type::ECHO_REQUEST
                if arrival.via == Via::Link && !self.is_access(arrival.port) =>
            {
                self.tunnel_error(upper.offset, packet, arrival)
            }
            // Echo replies, router advertisements, and what is to be ignored silently when not known
            // (RFC 4443 §2.4 b).
            _ => Fate::Drop(DropReason::Unhandled),
        }
    }

    /// Turns an echo request into its reply (RFC 4443 §4.2).
    fn echo(
        &mut self,
        ip: &Ipv6,
        offset: usize,
        packet: &mut Io::Packet,
        arrival: &Arrival,
    ) -> Fate {
        let requested = ip.destination.get();
        let to = ip.source.get();
        let from = if scope::is_multicast(requested) {
            self.own.source(arrival.port, scope::is_link_local(to))
        } else {
            Some(requested)
        };
        let Some(from) = from else {
            return Fate::Drop(DropReason::Unhandled);
        };
        // Extension headers are not for the reply.
        packet.trim_front(offset - IPV6_LEN);
        let total = packet.data().len() - ETHERNET_LEN;
        let Some(frame) = Frame::of_mut(packet) else {
            return Fate::Drop(DropReason::Malformed);
        };
        frame.ip = Ipv6 {
            version_class_label: Ipv6::VERSION_6.into(),
            payload_len: u16::try_from(total - IPV6_LEN).unwrap_or(0).into(),
            next_header: next_header::ICMPV6,
            hop_limit: HOP_LIMIT,
            source: U128::new(from),
            destination: U128::new(to),
        };
        if let Some(kind) = packet.data_mut().get_mut(FRAME_LEN) {
            *kind = icmp_type::ECHO_REPLY;
        }
        build::seal(packet);
        Fate::Answer
    }
}

/// A fragment waits for the rest, unless that can never be for us: packets to groups are not worth it,
/// and fragments of fragments are no one's honest work.
fn fragment_to_us(ip: &Ipv6, put_together: bool) -> Fate {
    if put_together {
        Fate::Drop(DropReason::BadFragment)
    } else if scope::is_multicast(ip.destination.get()) {
        Fate::Drop(DropReason::Unhandled)
    } else {
        Fate::Gather
    }
}

fn is_discovery(upper: &walk::Upper, octets: &[u8]) -> bool {
    upper.next_header == next_header::ICMPV6
        && !upper.later_fragment
        && matches!(
            octets.get(upper.offset),
            Some(&(icmp_type::ROUTER_SOLICITATION..=icmp_type::NEIGHBOUR_ADVERTISEMENT))
        )
}

/// Options that must be understood, and routing headers that lead on (RFC 8200 §4.2, §4.4).
fn check_extensions(ip: &Ipv6, octets: &[u8]) -> Result<(), Fate> {
    let (mut kind, mut at) = (ip.next_header, IPV6_LEN);
    while let next_header::HOP_BY_HOP | next_header::ROUTING | next_header::DESTINATION = kind {
        let Some([next, len, _, left]) = octets.get(at..).and_then(<[u8]>::first_chunk) else {
            return Err(Fate::Drop(DropReason::Malformed));
        };
        let len = 8 + 8 * usize::from(*len);
        let Some(header) = octets.get(at..at + len) else {
            return Err(Fate::Drop(DropReason::Malformed));
        };
        if kind == next_header::ROUTING {
            if *left != 0 {
                let pointer = u32::try_from(at + 2).unwrap_or(0);
                return Err(Fate::Refuse(
                    DropReason::Unhandled,
                    Error::Parameter(0, pointer),
                ));
            }
        } else {
            check_options(header, at)?;
        }
        (kind, at) = (*next, at + len);
    }
    Ok(())
}

/// The options of a header that starts at `at`. None needs anything done here: a tunnel
/// encapsulation limit matters only to a further tunnel (RFC 2473 §4.1.1).
fn check_options(header: &[u8], at: usize) -> Result<(), Fate> {
    const PAD1: u8 = 0;
    const PADN: u8 = 1;
    const ENCAPSULATION_LIMIT: u8 = 4;
    let mut offset = 2;
    while let Some(kind) = header.get(offset) {
        if *kind == PAD1 {
            offset += 1;
            continue;
        }
        let Some(len) = header.get(offset + 1) else {
            return Err(Fate::Drop(DropReason::Malformed));
        };
        if !matches!(*kind, PADN | ENCAPSULATION_LIMIT) {
            let pointer = u32::try_from(at + offset).unwrap_or(0);
            match kind >> 6 {
                0 => {}
                1 => return Err(Fate::Drop(DropReason::Unhandled)),
                _ => {
                    let error = Error::Parameter(2, pointer);
                    return Err(Fate::Refuse(DropReason::Unhandled, error));
                }
            }
        }
        offset += 2 + usize::from(*len);
    }
    if offset == header.len() {
        Ok(())
    } else {
        Err(Fate::Drop(DropReason::Malformed))
    }
}
