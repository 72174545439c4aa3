//! ICMPv6 errors (RFC 4443 §2.4, §3).

use flow::DropReason;

use crate::fate::{Arrival, Error, Via};
use crate::io::PacketIo;
use crate::local::HOP_LIMIT;
use crate::packet::header::{ETHERNET_LEN, IPV6_LEN, Ipv6, MIN_MTU, next_header, scope};
use crate::packet::{PacketBuf, build, walk};
use crate::worker::Worker;
use zerocopy::FromBytes;

/// Most of the offending packet that an error quotes: the error itself must not exceed the IPv6
/// minimum MTU (RFC 4443 §2.4 c).
const MAX_QUOTE: usize = MIN_MTU as usize - IPV6_LEN - build::ICMP_HEAD;

impl Error {
    /// Type, code and message-specific word.
    fn fields(self) -> (u8, u8, u32) {
        match self {
            Self::NoRoute => (1, 0, 0),
            Self::AddressUnreachable => (1, 3, 0),
            Self::PortUnreachable => (1, 4, 0),
            Self::TooBig(mtu) => (2, 0, mtu),
            Self::HopLimit => (3, 0, 0),
            Self::FragmentTime => (3, 1, 0),
            Self::Parameter(code, pointer) => (4, code, pointer),
        }
    }

    /// Whether it may be about a packet that was for many (RFC 4443 §2.4 e.3).
    fn may_answer_multicast(self) -> bool {
        matches!(self, Self::TooBig(_) | Self::Parameter(2, _))
    }
}

impl<Io: PacketIo> Worker<Io> {
    /// Tells the sender of `packet` what is wrong with it, if the rules of RFC 4443 and the rate allow
    /// it. The packet's IPv6 header is behind 14 octets.
    pub(crate) fn tell(&mut self, packet: &Io::Packet, error: Error, arrival: &Arrival) {
        let offending = packet.data().get(ETHERNET_LEN..).unwrap_or_default();
        let Ok((ip, _)) = Ipv6::ref_from_prefix(offending) else {
            return;
        };
        if !may_be_answered(ip, offending, error, arrival) {
            return;
        }
        let to = ip.source.get();
        let Some(source) = self.error_source(ip, arrival) else {
            return;
        };
        if !self.police.icmp_errors.take() {
            return;
        }
        let Some(mut answer) = self.io.alloc() else {
            return;
        };
        let (kind, code, word) = error.fields();
        let message = build::Message {
            source,
            destination: to,
            hop_limit: HOP_LIMIT,
            kind,
            code,
            word,
            body: offending.get(..MAX_QUOTE).unwrap_or(offending),
        };
        if build::write(&mut answer, &message) {
            self.originate(answer, arrival);
        }
    }

    /// The address an error is sent from: the one the packet was sent to if that is ours, the tunnel
    /// end it came to, or one of the port it came in on (RFC 4443 §2.2).
    fn error_source(&self, ip: &Ipv6, arrival: &Arrival) -> Option<u128> {
        let destination = ip.destination.get();
        if self.own.contains(destination, arrival.port) {
            return Some(destination);
        }
        match arrival.via {
            Via::Tunnel(local) => Some(local),
            Via::Link => {
                let link_local = scope::is_link_local(ip.source.get());
                self.own.source(arrival.port, link_local)
            }
            Via::Own => None,
        }
    }

    /// Counts a packet that is dropped.
    pub(crate) fn count_drop(&mut self, reason: DropReason) {
        self.count_drops(reason, 1);
    }

    /// Counts so many packets that are dropped.
    pub(crate) fn count_drops(&mut self, reason: DropReason, packets: u64) {
        if let Some(counter) = self.drops.get_mut(reason as usize) {
            *counter += packets;
        }
    }
}

/// RFC 4443 §2.4 e: never about errors and redirects, about packets for many (with two exceptions), or
/// to a source that is not one node.
fn may_be_answered(ip: &Ipv6, offending: &[u8], error: Error, arrival: &Arrival) -> bool {
    const REDIRECT: u8 = 137;
    let many = scope::is_multicast(ip.destination.get()) || arrival.group;
    if (many && !error.may_answer_multicast()) || scope::is_bad_source(ip.source.get()) {
        return false;
    }
    let upper = walk::upper(ip, offending);
    if upper.next_header != next_header::ICMPV6 {
        return true;
    }
    match offending.get(upper.offset) {
        // In a later fragment the type cannot be seen.
        Some(kind) => !upper.later_fragment && *kind >= 128 && *kind != REDIRECT,
        None => false,
    }
}
