//! Errors from inside a tunnel, which the entry point owes to the inner source (RFC 2473 §8).

use flow::DropReason;
use zerocopy::FromBytes;

use crate::fate::{Arrival, Error, Fate, Via};
use crate::io::PacketIo;
use crate::packet::PacketBuf;
use crate::packet::build::ICMP_HEAD;
use crate::packet::header::{ETHERNET_LEN, Ipv6, MIN_MTU, next_header};
use crate::packet::walk;
use crate::role::RoleState;
use crate::table::path::Endpoint;
use crate::worker::Worker;

/// ICMPv6 error types (RFC 4443 §3).
const UNREACHABLE: u8 = 1;
const TOO_BIG: u8 = 2;
const TIME_EXCEEDED: u8 = 3;
const PARAMETER_PROBLEM: u8 = 4;
/// Code of Time Exceeded: fragments did not come in time.
const REASSEMBLY: u8 = 1;

impl<Io: PacketIo> Worker<Io> {
    /// An ICMPv6 error to us, whose message starts at `offset` of the IPv6 packet. If it quotes a
    /// packet that we put into one of our tunnels, the inner packet is bared and its source told.
    pub(super) fn tunnel_error(
        &mut self,
        offset: usize,
        packet: &mut Io::Packet,
        arrival: &mut Arrival,
    ) -> Fate {
        let quote_at = ETHERNET_LEN + offset + ICMP_HEAD;
        let data = packet.data();
        let message = data.get(ETHERNET_LEN + offset..).unwrap_or_default();
        let quote = data.get(quote_at..).unwrap_or_default();
        let (Some([kind, code, _, _, word @ ..]), Ok((outer, _))) = (
            message.first_chunk::<ICMP_HEAD>(),
            Ipv6::ref_from_prefix(quote),
        ) else {
            return Fate::Drop(DropReason::BadQuote);
        };
        let upper = walk::upper(outer, quote);
        let outer_len = outer.total_len();
        let (local, remote) = (outer.source.get(), outer.destination.get());
        let tunnel = Endpoint::Tunnel(local, remote);
        if upper.next_header != next_header::IPV6 || !self.has_tunnel(&tunnel) {
            return Fate::Drop(DropReason::BadQuote);
        }
        let error = match (*kind, *code) {
            (TOO_BIG, _) => {
                let reported = u32::from_be_bytes(*word);
                if usize::try_from(reported).is_ok_and(|mtu| mtu >= outer_len) {
                    // The packet fits what it is said not to fit: no router says that.
                    return Fate::Drop(DropReason::BadQuote);
                }
                let mtu = self.too_big(tunnel, reported);
                let inner_mtu = usize::from(mtu).saturating_sub(upper.offset);
                let inner_mtu = u32::try_from(inner_mtu).unwrap_or(0);
                Error::TooBig(inner_mtu.max(MIN_MTU.into()))
            }
            // A loss like any other.
            (TIME_EXCEEDED, REASSEMBLY) => return Fate::Consume,
            (UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM, _) => Error::AddressUnreachable,
            _ => return Fate::Drop(DropReason::Unhandled),
        };
        let inner = quote.get(upper.offset..).and_then(Ipv6::of);
        let inner = inner.filter(|ip| ip.is_version_6() && !upper.later_fragment);
        let told = match (error, inner) {
            (Error::TooBig(_), None) => false,
            // RFC 2473 §8.2: nothing the source could do about it.
            (Error::TooBig(_), Some(ip)) => ip.total_len() > usize::from(MIN_MTU),
            (_, Some(_)) => true,
            (_, None) => return Fate::Drop(DropReason::BadQuote),
        };
        if inner.is_some_and(|ip| !self.may_have_tunnelled(ip)) {
            return Fate::Drop(DropReason::BadQuote);
        }
        if !told {
            return Fate::Consume;
        }
        packet.trim_front(quote_at + upper.offset - ETHERNET_LEN);
        arrival.via = Via::Tunnel(local);
        Fate::Relay(error)
    }
    /// Whether a packet is to a mobile of the anchor's or from one of the gateway's: nothing else enters
    /// our tunnels, and nobody is told of it.
    fn may_have_tunnelled(&self, inner: &Ipv6) -> bool {
        let of = |role: &Option<RoleState>, address| {
            let slot = role.as_ref().and_then(|role| role.lookup(address));
            slot.is_some()
        };
        of(&self.lma, inner.destination.get()) || of(&self.mag, inner.source.get())
    }
}
