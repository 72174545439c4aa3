//! A captured frame as a line of text.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nd::packet::{Ipv6, ethernet_payload, next_header};
use pmip_wire::Message;

use super::pieces::Frame;

/// When and where, from whom to whom, and what is said about it.
pub(super) fn line(frame: &Frame<'_>) -> String {
    let direction = if frame.came() { "in " } else { "out" };
    let octets = ethernet_payload(&frame.packet.data);
    let packet = octets.and_then(Ipv6::parse).map_or_else(
        || format!("{} octets", frame.packet.original_len),
        |ip| summary(&ip),
    );
    format!(
        "{} {direction} {:8} {packet} | {}",
        clock(frame.packet.timestamp),
        frame.interface,
        frame.comment()
    )
}

/// The time of day, UTC.
fn clock(time: Duration) -> String {
    let time: SystemTime = UNIX_EPOCH + time;
    let text = humantime::format_rfc3339_micros(time).to_string();
    let clock = text
        .split_once('T')
        .map_or(text.as_str(), |(_, clock)| clock);
    clock.trim_end_matches('Z').to_owned()
}

/// Addresses, protocol and ports; of a tunnelled packet those of both headers.
fn summary(ip: &Ipv6<'_>) -> String {
    let (protocol, rest) = ip.upper();
    let ends = format!("{} > {}", ip.source, ip.destination);
    let flow = ip.five_tuple();
    let octets = ip.packet.len();
    match protocol {
        next_header::IPV6 => match Ipv6::parse(rest) {
            Some(inner) => format!("{ends} tunnel [{}]", summary(&inner)),
            None => format!("{ends} tunnel, {octets} octets"),
        },
        next_header::MOBILITY => {
            let message = Message::decode(rest, ip.source, ip.destination);
            let name = message.map_or("mobility header", |message| message.name());
            format!("{ends} {name}, {octets} octets")
        }
        next_header::ICMPV6 => {
            let kind = rest.first().copied().unwrap_or(0);
            format!("{ends} icmpv6 type {kind}, {octets} octets")
        }
        _ => {
            let name = match protocol {
                next_header::TCP => "tcp".to_owned(),
                next_header::UDP => "udp".to_owned(),
                next_header::SCTP => "sctp".to_owned(),
                next_header::ESP => "esp".to_owned(),
                other => format!("protocol {other}"),
            };
            let ports = flow.ports.map(|(from, to)| format!(" {from} > {to}"));
            let ports = ports.unwrap_or_default();
            format!("{ends} {name}{ports}, {octets} octets")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use nd::packet::ipv6_packet;
    use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};

    use super::*;

    fn shown(packet: &[u8], cut: usize) -> String {
        let mut data = vec![0; 12];
        data.extend([0x86, 0xdd]);
        data.extend(packet);
        let len = data.len();
        data.truncate(len - cut);
        let packet = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: Duration::new(86_400 + 3661, 5000),
            original_len: len.try_into().unwrap(),
            data: Cow::Owned(data),
            options: vec![
                EnhancedPacketOption::Comment(Cow::Borrowed("packet 0.1; sent")),
                EnhancedPacketOption::Flags(1),
            ],
        };
        let interface = "core".to_owned();
        line(&Frame { packet, interface })
    }

    #[test]
    fn a_frame_is_one_line() {
        let [a, b, c] = ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(|a| a.parse().unwrap());
        let udp = ipv6_packet(a, b, 17, 64, &[0x13, 0x89, 0x1b, 0x58, 0, 8, 0, 0]);
        assert_eq!(
            shown(&udp, 0),
            "01:01:01.000005 in  core     2001:db8::1 > 2001:db8::2 udp 5001 > 7000, 48 octets \
             | packet 0.1; sent"
        );
        let tunnelled = ipv6_packet(c, a, 41, 64, &udp);
        let text = shown(&tunnelled, 0);
        let expected = "2001:db8::3 > 2001:db8::1 tunnel [2001:db8::1 > 2001:db8::2 udp";
        assert!(text.contains(expected), "{text}");
        let echo = ipv6_packet(a, b, 58, 64, &[128, 0, 0, 0]);
        assert!(shown(&echo, 0).contains("2001:db8::2 icmpv6 type 128, 44 octets"));
        let other = ipv6_packet(a, b, 89, 64, &[]);
        assert!(shown(&other, 0).contains("protocol 89, 40 octets"));
        assert!(shown(&udp, 1).contains("core     62 octets |"));
    }
}
