//! The ICMPv6 messages the control plane makes and reads: neighbour discovery (RFC 4861) and parameter
//! problems about signalling (RFC 4443 §3.4).

use std::net::Ipv6Addr;

use flow::MacAddr;

use crate::packet::{IPV6_LEN, checksum, ipv6_packet, next_header};

/// All nodes on the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const PARAMETER_PROBLEM: u8 = 4;
const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

pub(crate) const OPTION_SOURCE_LINK_LAYER: u8 = 1;
const OPTION_TARGET_LINK_LAYER: u8 = 2;

/// An error quotes as much of the packet as fits the minimum MTU (RFC 4443 §2.4).
const MAX_ERROR: usize = 1280;

/// The group a station listens to for solicitations of `address` (RFC 4291 §2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// A neighbour solicitation (RFC 4861 §4.3).
pub fn neighbour_solicitation(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    mac: MacAddr,
) -> Vec<u8> {
    let mut message = vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend([OPTION_SOURCE_LINK_LAYER, 1]);
    message.extend(mac.0);
    packet(source, destination, 255, message)
}

/// An unsolicited neighbour advertisement with the override flag (RFC 4861 §7.2.6).
pub fn unsolicited_advertisement(target: Ipv6Addr, mac: MacAddr) -> Vec<u8> {
    const ROUTER_OVERRIDE: u8 = 0xa0;
    let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, ROUTER_OVERRIDE, 0, 0, 0];
    message.extend(target.octets());
    message.extend([OPTION_TARGET_LINK_LAYER, 1]);
    message.extend(mac.0);
    packet(target, ALL_NODES, 255, message)
}

/// A parameter problem of code 0, erroneous header field, about a whole IPv6 packet (RFC 4443 §3.4).
pub fn parameter_problem(source: Ipv6Addr, offending: &[u8], pointer: u32) -> Option<Vec<u8>> {
    let to: [u8; 16] = offending.get(8..24)?.try_into().ok()?;
    let mut message = vec![PARAMETER_PROBLEM, 0, 0, 0];
    message.extend(pointer.to_be_bytes());
    let quoted = offending.len().min(MAX_ERROR - IPV6_LEN - message.len());
    message.extend(offending.get(..quoted)?);
    Some(packet(source, to.into(), 64, message))
}

/// Puts an ICMPv6 message, whose checksum is zero, into an IPv6 packet.
pub(crate) fn packet(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
    mut message: Vec<u8>,
) -> Vec<u8> {
    let sum = checksum(source, destination, next_header::ICMPV6, &message);
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    ipv6_packet(
        source,
        destination,
        next_header::ICMPV6,
        hop_limit,
        &message,
    )
}

/// What neighbour discovery has to know of a received message; validity was checked by the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourMessage {
    /// Somebody asks for an address.
    Solicitation {
        /// Who asks.
        from: Ipv6Addr,
        /// Its station, if it says so.
        link_layer: Option<MacAddr>,
    },
    /// Somebody tells where an address is.
    Advertisement {
        /// The address.
        target: Ipv6Addr,
        /// Its station, if it says so.
        link_layer: Option<MacAddr>,
    },
}

impl NeighbourMessage {
    /// Reads a whole IPv6 packet; `None` for anything else.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let message = packet.get(IPV6_LEN..)?;
        let from: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
        let target: [u8; 16] = message.get(8..24)?.try_into().ok()?;
        let options = message.get(24..)?;
        match *message.first()? {
            NEIGHBOUR_SOLICITATION => Some(Self::Solicitation {
                from: from.into(),
                link_layer: link_layer(options, OPTION_SOURCE_LINK_LAYER),
            }),
            NEIGHBOUR_ADVERTISEMENT => Some(Self::Advertisement {
                target: target.into(),
                link_layer: link_layer(options, OPTION_TARGET_LINK_LAYER),
            }),
            _ => None,
        }
    }
}

/// The address that the sender of a neighbour discovery packet has for its own: that of an
/// advertisement, or else the source. `None` if it says none, as one that looks for duplicates.
pub fn own_address(packet: &[u8]) -> Option<Ipv6Addr> {
    if let Some(NeighbourMessage::Advertisement { target, .. }) = NeighbourMessage::parse(packet) {
        return Some(target);
    }
    let source: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
    Some(Ipv6Addr::from(source)).filter(|source| !source.is_unspecified())
}

/// Whether a whole IPv6 packet is a router solicitation.
pub fn is_router_solicitation(packet: &[u8]) -> bool {
    packet.get(6) == Some(&next_header::ICMPV6)
        && packet.get(IPV6_LEN) == Some(&ROUTER_SOLICITATION)
}

fn link_layer(mut options: &[u8], kind: u8) -> Option<MacAddr> {
    while let [found, units, ..] = *options {
        let length = usize::from(units) * 8;
        let option = options.get(..length).filter(|o| !o.is_empty())?;
        if found == kind {
            return option.get(2..8)?.try_into().ok().map(MacAddr);
        }
        options = options.get(length..)?;
    }
    None
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An independent reader: also verifies the checksum.
    pub(crate) fn read(packet: &[u8]) -> etherparse::Icmpv6Slice<'_> {
        let sliced = etherparse::SlicedPacket::from_ip(packet).unwrap();
        let Some(etherparse::TransportSlice::Icmpv6(icmp)) = sliced.transport else {
            panic!()
        };
        let source: [u8; 16] = packet[8..24].try_into().unwrap();
        let destination: [u8; 16] = packet[24..40].try_into().unwrap();
        assert!(icmp.is_checksum_valid(source, destination));
        icmp
    }

    #[test]
    fn solicitations_and_advertisements_are_read_back() {
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        let from: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let target: Ipv6Addr = "2001:db8::2".parse().unwrap();
        let packet = neighbour_solicitation(from, solicited_node(target), target, mac);
        assert_eq!(read(&packet).type_u8(), 135);
        let expected = NeighbourMessage::Solicitation {
            from,
            link_layer: Some(mac),
        };
        assert_eq!(NeighbourMessage::parse(&packet), Some(expected));
        let packet = unsolicited_advertisement(target, mac);
        assert_eq!(read(&packet).type_u8(), 136);
        let expected = NeighbourMessage::Advertisement {
            target,
            link_layer: Some(mac),
        };
        assert_eq!(NeighbourMessage::parse(&packet), Some(expected));
    }

    #[test]
    fn senders_say_which_address_is_theirs() {
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        let from: Ipv6Addr = "fe80::9".parse().unwrap();
        let target: Ipv6Addr = "2001:db8::2".parse().unwrap();
        let solicits = |from| neighbour_solicitation(from, target, target, mac);
        assert_eq!(own_address(&solicits(from)), Some(from));
        assert_eq!(own_address(&solicits(Ipv6Addr::UNSPECIFIED)), None);
        assert_eq!(
            own_address(&unsolicited_advertisement(target, mac)),
            Some(target)
        );
        assert_eq!(own_address(&[0; 12]), None);
    }

    #[test]
    fn broken_options_are_no_address() {
        assert_eq!(link_layer(&[2, 0, 1, 2, 3, 4, 5, 6], 2), None);
        assert_eq!(link_layer(&[1, 2, 0, 0, 0, 0, 0, 0], 2), None);
        assert_eq!(link_layer(&[1, 1, 0, 0, 0, 0, 0, 0, 2], 2), None);
        assert_eq!(NeighbourMessage::parse(&[0; 50]), None);
    }

    #[test]
    fn a_parameter_problem_quotes_what_fits() {
        let offending = ipv6_packet(
            "2001:db8::2".parse().unwrap(),
            "2001:db8::1".parse().unwrap(),
            135,
            64,
            &[7; 2000],
        );
        let packet = parameter_problem("2001:db8::1".parse().unwrap(), &offending, 40).unwrap();
        assert_eq!(packet.len(), MAX_ERROR);
        let icmp = read(&packet);
        assert_eq!((icmp.type_u8(), icmp.code_u8()), (4, 0));
        assert_eq!(icmp.slice()[4..8], 40u32.to_be_bytes());
        assert_eq!(icmp.slice()[8..48], offending[..40]);
    }
}
