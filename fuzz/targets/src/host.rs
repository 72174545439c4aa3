//! Packets and neighbour discovery as a mobile node and the lab read them.

use std::net::Ipv6Addr;

use flow::MacAddr;
use nd::host::{self, Message};
use nd::packet::{ETHERNET_LEN, Ipv6, checksum, ethernet_payload, next_header};

const OURS: MacAddr = MacAddr([2, 0, 0, 0, 1, 1]);

/// Reads a frame as it is, and with length, hop limit and ICMPv6 checksum made right.
pub fn run(data: &[u8]) {
    read(data);
    let mut mended = data.to_vec();
    mend(&mut mended);
    read(&mended);
}

fn read(frame: &[u8]) {
    let Some(ip) = ethernet_payload(frame).and_then(Ipv6::parse) else {
        return;
    };
    assert!(ip.packet.len() <= frame.len() - ETHERNET_LEN);
    let tuple = ip.five_tuple();
    assert_eq!(tuple.reversed().reversed(), tuple);
    let (_, upper) = ip.upper();
    assert!(upper.len() <= ip.payload.len());
    match host::decode(&ip) {
        Some(Message::NeighbourSolicitation(solicitation)) => {
            let answer = host::neighbour_advertisement(OURS, &solicitation, MacAddr([2; 6]));
            let answer = ethernet_payload(&answer).and_then(Ipv6::parse).unwrap();
            assert_eq!(answer.source, solicitation.target);
            assert_eq!(sum(&answer), 0);
            assert!(host::decode(&answer).is_some());
        }
        Some(Message::RouterAdvertisement(advertisement)) => {
            assert!(advertisement.router.is_unicast_link_local());
            // 32 octets make one.
            assert!(advertisement.prefixes.len() <= ip.payload.len() / 32);
        }
        Some(Message::Other) | None => {}
    }
}

fn sum(ip: &Ipv6<'_>) -> u16 {
    checksum(ip.source, ip.destination, next_header::ICMPV6, ip.payload)
}

/// Makes right what hardly any random frame has.
fn mend(frame: &mut [u8]) {
    let Some(len) = frame.len().checked_sub(ETHERNET_LEN + 44) else {
        return;
    };
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    let packet = &mut frame[ETHERNET_LEN..];
    packet[0] = 0x60 | packet[0] & 0xf;
    let len = u16::try_from(len + 4).unwrap_or(u16::MAX);
    packet[4..6].copy_from_slice(&len.to_be_bytes());
    if packet[6] == next_header::ICMPV6 {
        packet[7] = 255;
        packet[42..44].fill(0);
        let source: [u8; 16] = packet[8..24].try_into().unwrap();
        let destination: [u8; 16] = packet[24..40].try_into().unwrap();
        let (source, destination) = (Ipv6Addr::from(source), Ipv6Addr::from(destination));
        let end = packet.len().min(40 + usize::from(len));
        let sum = checksum(source, destination, next_header::ICMPV6, &packet[40..end]);
        packet[42..44].copy_from_slice(&sum.to_be_bytes());
    }
}
