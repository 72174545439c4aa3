//! From an IPv6 packet to the key its flow is selected by.

use flow::FlowKey;

use crate::packet::header::{IPV6_LEN, Ipv6, next_header};

/// Most extension headers that are walked; a packet with more is keyed by the one after them.
const MAX_EXTENSIONS: usize = 8;

/// What lies behind the extension headers of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Upper {
    /// The first next header value that is no walkable extension.
    pub(crate) next_header: u8,
    /// Where that header starts, from the start of the IPv6 header.
    pub(crate) offset: usize,
    /// Where the next header octet that announced it lies, from the start of the IPv6 header.
    pub(crate) announced_at: usize,
    /// Not the first fragment: what is at `offset` is not a header.
    pub(crate) later_fragment: bool,
    /// Any fragment but a whole packet with a fragment header (RFC 6946).
    pub(crate) fragmented: bool,
}

/// Whether a next header value is that of an extension header that [`upper`] walks.
pub(crate) fn is_extension(value: u8) -> bool {
    matches!(
        value,
        next_header::HOP_BY_HOP
            | next_header::ROUTING
            | next_header::DESTINATION
            | next_header::FRAGMENT
    )
}

/// Walks the extension headers of `packet`, which starts with its IPv6 header `ip`.
pub(crate) fn upper(ip: &Ipv6, packet: &[u8]) -> Upper {
    let mut at = Upper {
        next_header: ip.next_header,
        offset: IPV6_LEN,
        announced_at: 6,
        later_fragment: false,
        fragmented: false,
    };
    for _ in 0..MAX_EXTENSIONS {
        let len = match at.next_header {
            next_header::HOP_BY_HOP | next_header::ROUTING | next_header::DESTINATION => {
                let Some(len) = packet.get(at.offset + 1) else {
                    return at;
                };
                8 + 8 * usize::from(*len)
            }
            next_header::FRAGMENT => 8,
            _ => return at,
        };
        let Some(header) = packet.get(at.offset..at.offset + len) else {
            return at;
        };
        if let (next_header::FRAGMENT, Some([_, _, high, low])) =
            (at.next_header, header.first_chunk())
        {
            // Thirteen bits of offset, two reserved, one for more fragments (RFC 8200 §4.5).
            let field = u16::from_be_bytes([*high, *low]);
            at.fragmented |= field & 0xfff9 != 0;
            at.later_fragment |= field >> 3 != 0;
        }
        at.announced_at = at.offset;
        at.next_header = header.first().copied().unwrap_or(next_header::NONE);
        at.offset += len;
        if at.later_fragment {
            return at;
        }
    }
    at
}

/// Ports and security parameter index of the upper layer.
pub(crate) fn ports_and_spi(upper: &Upper, packet: &[u8]) -> (Option<(u16, u16)>, Option<u32>) {
    if upper.later_fragment {
        return (None, None);
    }
    let rest = packet.get(upper.offset..).unwrap_or_default();
    match upper.next_header {
        next_header::TCP
        | next_header::UDP
        | next_header::UDP_LITE
        | next_header::SCTP
        | next_header::DCCP => {
            let ports = rest
                .first_chunk()
                .map(|[a, b, c, d]| (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])));
            (ports, None)
        }
        next_header::ESP => (None, rest.first_chunk().map(|spi| u32::from_be_bytes(*spi))),
        next_header::AH => {
            let spi = rest
                .first_chunk()
                .map(|[_, _, _, _, a, b, c, d]: &[u8; 8]| u32::from_be_bytes([*a, *b, *c, *d]));
            (None, spi)
        }
        _ => (None, None),
    }
}

/// The key of a packet that starts with its IPv6 header `ip`.
pub(crate) fn flow_key(ip: &Ipv6, packet: &[u8]) -> FlowKey {
    let upper = upper(ip, packet);
    let (ports, spi) = ports_and_spi(&upper, packet);
    FlowKey {
        source: ip.source_addr(),
        destination: ip.destination_addr(),
        next_header: upper.next_header,
        traffic_class: ip.traffic_class(),
        flow_label: ip.flow_label(),
        ports,
        spi,
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{
        IpFragOffset, Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader, PacketBuilder,
    };
    use zerocopy::FromBytes;

    use super::*;

    fn key(packet: &[u8]) -> FlowKey {
        let (ip, _) = Ipv6::ref_from_prefix(packet).unwrap();
        flow_key(ip, packet)
    }

    fn with_headers(headers: &[(u8, Vec<u8>)], upper: u8, payload: &[u8]) -> Vec<u8> {
        let first = headers.first().map_or(upper, |(number, _)| *number);
        let ip = Ipv6Header {
            next_header: first.into(),
            hop_limit: 64,
            ..Ipv6Header::default()
        };
        let mut bytes = Vec::new();
        ip.write(&mut bytes).unwrap();
        for (_, header) in headers {
            bytes.extend_from_slice(header);
        }
        bytes.extend_from_slice(payload);
        bytes
    }

    fn raw(next: u8, payload: &[u8]) -> Vec<u8> {
        Ipv6RawExtHeader::new_raw(next.into(), payload)
            .unwrap()
            .to_bytes()
            .to_vec()
    }

    fn fragment(next: u8, offset: u16, more: bool) -> Vec<u8> {
        Ipv6FragmentHeader::new(next.into(), IpFragOffset::try_new(offset).unwrap(), more, 7)
            .to_bytes()
            .to_vec()
    }

    #[test]
    fn udp_and_tcp_have_ports() {
        let mut packet = Vec::new();
        PacketBuilder::ipv6([1; 16], [2; 16], 64)
            .udp(4000, 5004)
            .write(&mut packet, &[0; 8])
            .unwrap();
        let key = key(&packet);
        assert_eq!(
            (key.next_header, key.ports, key.spi),
            (17, Some((4000, 5004)), None)
        );
        assert_eq!(key.source.octets(), [1; 16]);
    }

    #[test]
    fn extension_headers_are_skipped() {
        let headers = [
            (0, raw(43, &[0; 14])),
            (43, raw(60, &[0; 6])),
            (60, raw(44, &[0; 6])),
            (44, fragment(17, 0, true)),
        ];
        let packet = with_headers(&headers, 17, &[0x12, 0x34, 0x56, 0x78, 0, 8, 0, 0]);
        let key = key(&packet);
        assert_eq!((key.next_header, key.ports), (17, Some((0x1234, 0x5678))));
    }

    #[test]
    fn later_fragments_have_a_protocol_but_no_ports() {
        let packet = with_headers(&[(44, fragment(17, 3, true))], 17, &[0xff; 16]);
        let key = key(&packet);
        assert_eq!((key.next_header, key.ports), (17, None));
    }

    #[test]
    fn ipsec_has_an_spi() {
        assert_eq!(
            key(&with_headers(&[], 50, &[1, 2, 3, 4, 0, 0, 0, 1])).spi,
            Some(0x0102_0304)
        );
        assert_eq!(
            key(&with_headers(&[], 51, &[17, 4, 0, 0, 1, 2, 3, 4])).spi,
            Some(0x0102_0304)
        );
        assert_eq!(key(&with_headers(&[], 51, &[17, 4, 0, 0, 1])).spi, None);
    }

    #[test]
    fn a_truncated_header_ends_the_walk() {
        let packet = with_headers(&[(0, vec![17, 200, 0, 0])], 17, &[]);
        let key = key(&packet);
        assert_eq!((key.next_header, key.ports), (0, None));
    }
}
