//! Just enough of IPv6 for the mobile node, the lab's captures and the control plane's own messages.

use std::net::Ipv6Addr;

/// Octets of an Ethernet header without tags.
pub const ETHERNET_LEN: usize = 14;
/// Octets of an IPv6 header.
pub const IPV6_LEN: usize = 40;
/// The EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Next header numbers (RFC 8200 §4, IANA).
pub mod next_header {
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// An IPv6 packet inside (RFC 2473).
    pub const IPV6: u8 = 41;
    /// Routing header.
    pub const ROUTING: u8 = 43;
    /// Fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Encapsulating Security Payload (RFC 4303).
    pub const ESP: u8 = 50;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// Nothing follows.
    pub const NONE: u8 = 59;
    /// Destination options.
    pub const DESTINATION: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// Mobility Header.
    pub const MOBILITY: u8 = 135;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
}

/// Reads a big-endian number of 16 bits at `at`.
pub fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let octets = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(octets.try_into().ok()?))
}

/// Reads a big-endian number of 32 bits at `at`.
pub fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let octets = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(octets.try_into().ok()?))
}

/// Reads an IPv6 address at `at`.
pub fn address(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    let octets: [u8; 16] = bytes.get(at..at.checked_add(16)?)?.try_into().ok()?;
    Some(Ipv6Addr::from(octets))
}

/// The packet that an Ethernet frame carries, if its EtherType is IPv6.
pub fn ethernet_payload(frame: &[u8]) -> Option<&[u8]> {
    (be16(frame, 12)? == ETHERTYPE_IPV6).then(|| frame.get(ETHERNET_LEN..))?
}

/// An IPv6 packet whose length agrees with its header.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<'a> {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// The first next header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// The whole packet without what the link padded.
    pub packet: &'a [u8],
    /// What follows the IPv6 header.
    pub payload: &'a [u8],
}

impl<'a> Ipv6<'a> {
    /// Reads a packet; octets past the payload length are padding. `None` if it is no IPv6 or
    /// shorter than it says.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.first()? >> 4 != 6 {
            return None;
        }
        let len = IPV6_LEN + usize::from(be16(bytes, 4)?);
        let packet = bytes.get(..len)?;
        Some(Self {
            source: address(packet, 8)?,
            destination: address(packet, 24)?,
            next_header: *packet.get(6)?,
            hop_limit: *packet.get(7)?,
            packet,
            payload: packet.get(IPV6_LEN..)?,
        })
    }

    /// The upper-layer protocol and its octets, after the extension headers. Later fragments and
    /// broken chains end at the header that cannot be passed.
    pub fn upper(&self) -> (u8, &'a [u8]) {
        let (mut protocol, mut rest) = (self.next_header, self.payload);
        while let Some((next, after)) = skip_extension(protocol, rest) {
            (protocol, rest) = (next, after);
        }
        (protocol, rest)
    }

    /// What tells this packet's flow from others.
    pub fn five_tuple(&self) -> FiveTuple {
        let (protocol, upper) = self.upper();
        let has_ports = matches!(
            protocol,
            next_header::TCP | next_header::UDP | next_header::SCTP | next_header::UDP_LITE
        );
        let ports = || Some((be16(upper, 0)?, be16(upper, 2)?));
        FiveTuple {
            source: self.source,
            destination: self.destination,
            protocol,
            ports: if has_ports { ports() } else { None },
        }
    }
}

/// The next header and the octets after one extension header; `None` if `protocol` is none or ends
/// the chain.
fn skip_extension(protocol: u8, bytes: &[u8]) -> Option<(u8, &[u8])> {
    let next = *bytes.first()?;
    let len = match protocol {
        next_header::HOP_BY_HOP | next_header::ROUTING | next_header::DESTINATION => {
            (usize::from(*bytes.get(1)?) + 1) * 8
        }
        // RFC 8200 §4.5: only the first fragment has the upper layer's header.
        next_header::FRAGMENT if be16(bytes, 2)? >> 3 == 0 => 8,
        _ => return None,
    };
    Some((next, bytes.get(len..)?))
}

/// Addresses, protocol and ports of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FiveTuple {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// Upper-layer protocol.
    pub protocol: u8,
    /// Source and destination port, for protocols that have ports.
    pub ports: Option<(u16, u16)>,
}

impl FiveTuple {
    /// The same flow seen in the other direction.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            protocol: self.protocol,
            ports: self.ports.map(|(s, d)| (d, s)),
        }
    }
}

/// The checksum of an upper-layer packet with its IPv6 pseudo-header (RFC 8200 §8.1). Over octets
/// that hold their own checksum the result is 0 if it is right.
pub fn checksum(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, data: &[u8]) -> u16 {
    let words = |octets: &[u8]| -> u64 {
        octets
            .chunks(2)
            .map(|c| match *c {
                [a, b] => u64::from(u16::from_be_bytes([a, b])),
                [a] => u64::from(a) << 8,
                _ => 0,
            })
            .sum()
    };
    let mut sum = words(&source.octets()) + words(&destination.octets()) + words(data);
    sum += data.len() as u64 + u64::from(protocol);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // The loop above leaves at most 16 bits.
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// An IPv6 header followed by `payload`.
pub fn ipv6_packet(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    protocol: u8,
    hop_limit: u8,
    payload: &[u8],
) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let mut packet = Vec::with_capacity(IPV6_LEN + payload.len());
    packet.extend([0x60, 0, 0, 0]);
    packet.extend(len.to_be_bytes());
    packet.extend([protocol, hop_limit]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    fn udp(payload: &[u8]) -> Vec<u8> {
        let source: Ipv6Addr = "2001:db8:c::5".parse().unwrap();
        let destination: Ipv6Addr = "2001:db8:100::100".parse().unwrap();
        let builder =
            PacketBuilder::ipv6(source.octets(), destination.octets(), 64).udp(4000, 5004);
        let mut out = Vec::new();
        builder.write(&mut out, payload).unwrap();
        out
    }

    #[test]
    fn a_udp_packet_of_an_independent_builder_is_read() {
        let mut bytes = udp(b"payload");
        bytes.extend([0; 11]);
        let packet = Ipv6::parse(&bytes).unwrap();
        assert_eq!(packet.packet.len(), IPV6_LEN + 8 + 7);
        let tuple = packet.five_tuple();
        assert_eq!(tuple.ports, Some((4000, 5004)));
        assert_eq!(tuple.protocol, next_header::UDP);
        assert_eq!(tuple.reversed().ports, Some((5004, 4000)));
        assert_eq!(tuple.reversed().reversed(), tuple);
        let (protocol, upper) = packet.upper();
        assert_eq!(
            checksum(packet.source, packet.destination, protocol, upper),
            0
        );
    }

    #[test]
    fn extension_headers_are_passed_and_later_fragments_are_not() {
        let source = Ipv6Addr::LOCALHOST;
        let ports = [0x0f, 0xa0, 0x13, 0x8c, 0, 8, 0, 0];
        let hop = [next_header::FRAGMENT, 0, 1, 4, 0, 0, 0, 0];
        for (offset, ports_seen) in [(0_u8, Some((4000, 5004))), (8, None)] {
            let fragment = [next_header::UDP, 0, 0, offset, 0, 0, 0, 1];
            let payload = [hop, fragment, ports].concat();
            let bytes = ipv6_packet(source, source, next_header::HOP_BY_HOP, 64, &payload);
            let tuple = Ipv6::parse(&bytes).unwrap().five_tuple();
            assert_eq!(tuple.ports, ports_seen);
        }
    }

    #[test]
    fn short_and_foreign_packets_are_refused() {
        let bytes = udp(b"payload");
        assert!(Ipv6::parse(&bytes[..bytes.len() - 1]).is_none());
        assert!(Ipv6::parse(&[]).is_none());
        assert!(Ipv6::parse(&[0x45; 60]).is_none());
    }

    proptest! {
        #[test]
        fn no_octets_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(packet) = Ipv6::parse(&bytes) {
                packet.five_tuple();
            }
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = 0x60;
            }
            if bytes.len() >= IPV6_LEN {
                let len = u16::try_from(bytes.len() - IPV6_LEN).unwrap();
                bytes[4..6].copy_from_slice(&len.to_be_bytes());
                let packet = Ipv6::parse(&bytes).unwrap();
                prop_assert_eq!(packet.packet.len(), bytes.len());
                packet.five_tuple();
            }
        }
    }
}
