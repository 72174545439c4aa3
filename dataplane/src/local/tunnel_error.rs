//! Errors from inside a tunnel, which the entry point owes to the inner source (RFC 2473 §8).

use flow::{DropReason, Role};
use zerocopy::FromBytes;

use crate::fate::{Arrival, Error, Fate, Via};
use crate::io::PacketIo;
use crate::packet::PacketBuf;
use crate::packet::build::ICMP_HEAD;
use crate::packet::header::{ETHERNET_LEN, IPV6_LEN, Ipv6, MIN_MTU, next_header};
use crate::packet::walk;
use crate::table::path::Endpoint;
use crate::worker::Worker;

/// ICMPv6 error types (RFC 4443 §3).
const UNREACHABLE: u8 = 1;
const TOO_BIG: u8 = 2;
const TIME_EXCEEDED: u8 = 3;
const PARAMETER_PROBLEM: u8 = 4;

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
            return Fate::Drop(DropReason::Unhandled);
        };
        let upper = walk::upper(outer, quote);
        let ends = (outer.source.get(), outer.destination.get());
        let inner = quote.get(upper.offset..).unwrap_or_default();
        let inner_len = Ipv6::ref_from_prefix(inner).map(|(ip, _)| ip.total_len());
        let (next_header::IPV6, Ok(inner_len)) = (upper.next_header, inner_len) else {
            return Fate::Drop(DropReason::Unhandled);
        };
        let reported = u32::from_be_bytes(*word);
        let error = match (*kind, *code) {
            (TOO_BIG, _) => {
                // RFC 8201 §4: what is reported below the minimum is read as the minimum.
                let mtu = reported.clamp(MIN_MTU.into(), u16::MAX.into());
                let least = u32::from(MIN_MTU);
                let header = u32::try_from(IPV6_LEN).unwrap_or(least);
                Error::TooBig((mtu - header).max(least))
            }
            (UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM, _) => Error::AddressUnreachable,
            _ => return Fate::Drop(DropReason::Unhandled),
        };
        if !self.note_tunnel_error(ends, *kind == TOO_BIG, reported) {
            return Fate::Drop(DropReason::Unhandled);
        }
        if matches!(error, Error::TooBig(_)) && inner_len <= usize::from(MIN_MTU) {
            // RFC 2473 §8.2: nothing the source could do about it.
            return Fate::Consume;
        }
        packet.trim_front(quote_at + upper.offset - ETHERNET_LEN);
        arrival.via = Via::Tunnel(ends.0);
        Fate::Relay(error)
    }

    /// Whether we have a tunnel between these ends; lowers its MTU to what an error reported. It is
    /// raised again when the control plane states the path anew.
    fn note_tunnel_error(&mut self, ends: (u128, u128), too_big: bool, reported: u32) -> bool {
        let endpoint = Endpoint::Tunnel(ends.0, ends.1);
        let mtu = u16::try_from(reported).unwrap_or(u16::MAX).max(MIN_MTU);
        let mut known = false;
        for role in [Role::Lma, Role::Mag] {
            let Some(state) = self.role_mut(role) else {
                continue;
            };
            let paths = &mut state.table.paths;
            if paths.knows(&endpoint) {
                known = true;
                let same = paths
                    .iter_mut()
                    .filter(|(p, _)| Endpoint::from(*p) == endpoint);
                for (_, rewrite) in same.filter(|_| too_big) {
                    rewrite.lower_mtu(mtu);
                }
            }
        }
        known
    }
}
