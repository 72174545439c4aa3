//! What a frame shows: whose packet is in it, which tunnel of ours it is in, and whom it is to or from.

use flow::{MobileId, PathId, Role};

use crate::ingress::{Lane, Passage};
use crate::io::PacketIo;
use crate::packet::header::{ETHERNET_LEN, Frame, Ipv6, next_header};
use crate::packet::walk;
use crate::table::Slot;
use crate::table::path::MAX_PATH;
use crate::worker::Worker;

/// A mobile, in the tables of one role.
pub(super) type Mobile = (Role, MobileId);

/// Whose packet it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Owners {
    pub(super) from: Option<Mobile>,
    pub(super) to: Option<Mobile>,
    /// The binding whose rules decide.
    pub(super) rules: Option<(Role, Slot)>,
    /// It is a piece of a packet to us, and does not show whose.
    pub(super) hidden: bool,
}

impl<Io: PacketIo> Worker<Io> {
    /// Whose packet is in a frame.
    pub(super) fn owners(&self, frame: &[u8]) -> Owners {
        let Some(mut ip) = frame.get(ETHERNET_LEN..).and_then(Ipv6::of) else {
            return Owners::default();
        };
        let ours = |address: u128| self.own.is_ours(address);
        if ours(ip.source.get()) || ours(ip.destination.get()) {
            let packet = frame.get(ETHERNET_LEN..).unwrap_or_default();
            let upper = walk::upper(ip, packet);
            if upper.fragmented && upper.later_fragment {
                let hidden = upper.next_header == next_header::IPV6;
                return Owners {
                    hidden,
                    ..Owners::default()
                };
            }
            if upper.next_header == next_header::IPV6
                && let Some(inner) = packet.get(upper.offset..).and_then(Ipv6::of)
            {
                ip = inner;
            }
        }
        let owner = |address: u128| {
            [Role::Lma, Role::Mag].into_iter().find_map(|role| {
                let state = self.role(role)?;
                let slot = state.lookup(address)?;
                let mobile = state.table.bindings.mobile(slot)?;
                Some(((role, mobile), slot))
            })
        };
        let (from, to) = (owner(ip.source.get()), owner(ip.destination.get()));
        Owners {
            from: from.map(|(mobile, _)| mobile),
            to: to.map(|(mobile, _)| mobile),
            rules: to.map(|((role, _), slot)| (role, slot)),
            hidden: false,
        }
    }

    /// The tunnel of ours that a frame is in, on its way out.
    pub(super) fn tunnel_of(&self, frame: &[u8]) -> Option<(Role, PathId)> {
        let (mut back, _) = <Frame as zerocopy::FromBytes>::read_from_prefix(frame).ok()?;
        let upper = walk::upper(&back.ip, frame.get(ETHERNET_LEN..)?);
        if upper.next_header != next_header::IPV6 {
            return None;
        }
        std::mem::swap(&mut back.ip.source, &mut back.ip.destination);
        [Role::Lma, Role::Mag].into_iter().find_map(|role| {
            let path = self.role(role)?.table.paths.entrance(&back)?;
            Some((role, PathId(path)))
        })
    }
}

/// The path that was found for a packet in its burst.
pub(super) fn path_chosen(passage: &Passage) -> Option<(Role, PathId)> {
    let role = match passage.lane {
        Lane::Forward => Role::Lma,
        Lane::MagExit => Role::Mag,
        Lane::LmaExit
        | Lane::Access
        | Lane::Unbound
        | Lane::Stranger
        | Lane::Local
        | Lane::Drop => return None,
    };
    let path = passage.choice.path;
    (path <= MAX_PATH).then_some((role, PathId(path)))
}

/// Whether a frame is to or from this address.
pub(super) fn concerns(frame: &[u8], address: u128) -> bool {
    let ip = frame.get(ETHERNET_LEN..).and_then(Ipv6::of);
    ip.is_some_and(|ip| ip.source.get() == address || ip.destination.get() == address)
}
