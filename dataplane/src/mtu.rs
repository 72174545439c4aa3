//! What the ways between tunnel ends carry, as routers on them have said (RFC 2473 §7, RFC 8201).
//!
//! The worker that receives such a word goes by it at once and tells the control plane, which tells all
//! workers. It counts for a while; then packets of the configured size try again.

use std::net::Ipv6Addr;
use std::time::Duration;

use flow::Punt;

use crate::io::PacketIo;
use crate::packet::header::MIN_MTU;
use crate::table::path::Endpoint;
use crate::worker::Worker;

/// A router's word on a tunnel's way.
#[derive(Clone, Copy, Debug)]
struct Learned {
    tunnel: Endpoint,
    mtu: u16,
    since: Duration,
}

/// What routers have said, of tunnels that we have.
#[derive(Debug)]
pub(crate) struct LearnedMtus {
    list: Vec<Learned>,
    lifetime: Duration,
}

impl LearnedMtus {
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self {
            list: Vec::new(),
            lifetime,
        }
    }

    /// Octets that the way carries, if a router has said so lately.
    pub(crate) fn of(&self, tunnel: &Endpoint) -> Option<u16> {
        let learned = self.list.iter().find(|learned| learned.tunnel == *tunnel);
        learned.map(|learned| learned.mtu)
    }

    /// Takes in a word; whether it is less than was known. Unless it is more, the time begins anew.
    fn learn(&mut self, tunnel: Endpoint, mtu: u16, now: Duration) -> bool {
        let known = self
            .list
            .iter_mut()
            .find(|learned| learned.tunnel == tunnel);
        let Some(known) = known else {
            self.list.push(Learned {
                tunnel,
                mtu,
                since: now,
            });
            return true;
        };
        let before = known.mtu;
        if mtu <= before {
            (known.mtu, known.since) = (mtu, now);
        }
        mtu < before
    }

    /// Forgets what is too old; whether there was anything.
    fn expire(&mut self, now: Duration) -> bool {
        let before = self.list.len();
        let lifetime = self.lifetime;
        self.list
            .retain(|learned| now.saturating_sub(learned.since) < lifetime);
        self.list.len() < before
    }
}

impl<Io: PacketIo> Worker<Io> {
    /// A router said that a packet of ours was too big for the way to a tunnel's other end. Returns
    /// what the way carries now: never less than every link must (RFC 8201 §4).
    pub(crate) fn too_big(&mut self, tunnel: Endpoint, reported: u32) -> u16 {
        let mtu = u16::try_from(reported).unwrap_or(u16::MAX).max(MIN_MTU);
        self.learn_mtu(tunnel, mtu);
        if let Endpoint::Tunnel(local, remote) = tunnel
            && self.police.path_mtu.take()
        {
            let [local, remote] = [local, remote].map(Ipv6Addr::from_bits);
            // Without the other workers each hears of it itself.
            let _full = self.push_punt(Punt::PathMtu { local, remote, mtu }, self.punt_reserve);
        }
        mtu
    }

    /// Goes by a router's word on the way of a tunnel, if we have that.
    pub(crate) fn learn_mtu(&mut self, tunnel: Endpoint, mtu: u16) {
        let mtu = mtu.max(MIN_MTU);
        if self.has_tunnel(&tunnel) && self.mtus.learn(tunnel, mtu, self.now) {
            self.resolve_tunnels();
        }
    }

    /// Lets tunnels try again what routers said too long ago.
    pub(crate) fn expire_mtus(&mut self) {
        if self.mtus.expire(self.now) {
            self.resolve_tunnels();
        }
    }

    /// Whether we have this tunnel.
    pub(crate) fn has_tunnel(&self, tunnel: &Endpoint) -> bool {
        let roles = [&self.lma, &self.mag].into_iter().flatten();
        roles.into_iter().any(|role| role.table.paths.knows(tunnel))
    }
}
