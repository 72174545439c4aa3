//! Packets that a worker makes: ICMPv6 messages.

use zerocopy::IntoBytes;
use zerocopy::network_endian::{U16, U32, U128};

use crate::packet::PacketBuf;
use crate::packet::checksum;
use crate::packet::header::{ETHERNET_LEN, FRAME_LEN, Frame, Ipv6, next_header};

/// Octets of an ICMPv6 message before its body (RFC 4443 §2.1), the message-specific word included.
pub(crate) const ICMP_HEAD: usize = 8;

/// An ICMPv6 message to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) source: u128,
    pub(crate) destination: u128,
    pub(crate) hop_limit: u8,
    pub(crate) kind: u8,
    pub(crate) code: u8,
    /// The four octets after the checksum.
    pub(crate) word: u32,
    pub(crate) body: &'a [u8],
}

/// Writes a message into an empty buffer, with 14 octets of room before it; `false` if it does not
/// fit.
pub(crate) fn write<P: PacketBuf>(packet: &mut P, message: &Message<'_>) -> bool {
    let len = ICMP_HEAD + message.body.len();
    let Ok(payload_len) = u16::try_from(len) else {
        return false;
    };
    let frame = Frame {
        ip: Ipv6 {
            version_class_label: U32::new(Ipv6::VERSION_6),
            payload_len: U16::new(payload_len),
            next_header: next_header::ICMPV6,
            hop_limit: message.hop_limit,
            source: U128::new(message.source),
            destination: U128::new(message.destination),
        },
        ..Frame::default()
    };
    let [a, b, c, d] = message.word.to_be_bytes();
    let head = [message.kind, message.code, 0, 0, a, b, c, d];
    let Some(octets) = packet.append(FRAME_LEN + len) else {
        return false;
    };
    let (start, rest) = octets.split_at_mut(FRAME_LEN);
    let (icmp, body) = rest.split_at_mut(ICMP_HEAD);
    start.copy_from_slice(frame.as_bytes());
    icmp.copy_from_slice(&head);
    body.copy_from_slice(message.body);
    seal(packet);
    true
}

/// Sets the checksum of the ICMPv6 message right behind the IPv6 header.
pub(crate) fn seal<P: PacketBuf>(packet: &mut P) {
    let Some((source, destination)) =
        Frame::of(packet).map(|frame| (frame.ip.source.get(), frame.ip.destination.get()))
    else {
        return;
    };
    let Some([_, _, payload @ ..]) = packet.data_mut().get_mut(FRAME_LEN..) else {
        return;
    };
    if let Some(field) = payload.first_chunk_mut::<2>() {
        *field = [0; 2];
    }
    let payload = packet.data().get(FRAME_LEN..).unwrap_or_default();
    let sum = checksum::over(source, destination, next_header::ICMPV6, payload);
    if let Some([_, _, field @ ..]) = packet.data_mut().get_mut(FRAME_LEN..)
        && let Some(field) = field.first_chunk_mut::<2>()
    {
        *field = sum.to_be_bytes();
    }
}

/// An IPv6 packet of someone else in an empty buffer, with 14 octets of room before it; `false` if it
/// does not fit.
pub(crate) fn copy<P: PacketBuf>(packet: &mut P, ipv6: &[u8]) -> bool {
    let Some(octets) = packet.append(ETHERNET_LEN + ipv6.len()) else {
        return false;
    };
    let (_, room) = octets.split_at_mut(ETHERNET_LEN);
    room.copy_from_slice(ipv6);
    true
}
