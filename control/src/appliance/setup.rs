//! What the control thread knows by heart: names for numbers, and what it told the workers.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use config::Config;
use dpdk::Mempool;
use flow::{Binding, Hnp, MacAddr, Path, PathId, PortId, Role, TableUpdate};
use netdev::Membership;

use super::wiring;
use crate::api::RouteRow;

/// A port, with what does not change while it runs.
pub(crate) struct PortInfo {
    /// Its name in the configuration.
    pub(crate) name: String,
    /// The device behind it.
    pub(crate) device: String,
    /// Its station address.
    pub(crate) mac: MacAddr,
    /// Largest IPv6 packet, in octets.
    pub(crate) mtu: u16,
    /// Whether mobiles are on it.
    pub(crate) access: bool,
    /// The device itself, for its own counters. Dropped only after the workers.
    pub(crate) port: dpdk::Port,
    /// What the kernel is asked for, where the port is one of its interfaces.
    pub(crate) _frames: Option<Membership>,
}

/// A configured LMA or MAG.
#[derive(Clone, Debug)]
pub(crate) struct PeerInfo {
    /// Our role towards it.
    pub(crate) role: Role,
    /// Its name in the configuration.
    pub(crate) name: String,
    /// Our address towards it.
    pub(crate) own: Ipv6Addr,
    /// Its address.
    pub(crate) address: Ipv6Addr,
    /// The signalling dialect.
    pub(crate) signalling: String,
}

impl PeerInfo {
    fn of<A>(role: Role, own: Ipv6Addr, peer: &config::Peer<A>, address: Ipv6Addr) -> Self {
        Self {
            role,
            name: peer.name.clone(),
            own,
            address,
            signalling: wiring::signalling(peer.signalling),
        }
    }
}

/// Where a home network prefix leads, as the workers were told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PrefixInfo {
    /// Where packets go that match no rule.
    pub(crate) default_path: Option<PathId>,
    /// Where packets from it go.
    pub(crate) uplink: Option<PathId>,
    /// Whether packets to it from the same MAG's mobiles stay there.
    pub(crate) local: bool,
}

impl From<&Binding> for PrefixInfo {
    fn from(binding: &Binding) -> Self {
        Self {
            default_path: binding.default_path,
            uplink: binding.uplink,
            local: binding.local,
        }
    }
}

/// Everything there is to say about the process itself.
pub(crate) struct Setup {
    /// The process's name.
    pub(crate) name: String,
    /// Its roles.
    pub(crate) roles: Vec<String>,
    /// Its ports, indexed by [`PortId`].
    pub(crate) ports: Vec<PortInfo>,
    /// Where all packets are.
    pub(crate) pool: Mempool,
    /// Its address as a MAG, if it is one.
    pub(crate) proxy_coa: Option<Ipv6Addr>,
    /// Its peers.
    pub(crate) peers: Vec<PeerInfo>,
    /// Static and connected routes.
    pub(crate) routes: Vec<RouteRow>,
    /// The core of each worker.
    pub(crate) cores: Vec<Option<usize>>,
    /// Paths in force.
    pub(crate) paths: BTreeMap<(Role, PathId), Path>,
    /// Prefixes in force.
    pub(crate) prefixes: BTreeMap<(Role, Hnp), PrefixInfo>,
}

impl Setup {
    /// What a configuration says, and what has been opened for it.
    pub(crate) fn new(
        config: &Config,
        ports: Vec<PortInfo>,
        pool: Mempool,
        cores: Vec<Option<usize>>,
    ) -> Self {
        let (peers, routes) = peers_and_routes(config);
        let roles = [("lma", config.lma.is_some()), ("mag", config.mag.is_some())];
        Self {
            name: config.name.clone(),
            roles: roles
                .iter()
                .filter(|(_, on)| *on)
                .map(|(name, _)| (*name).to_owned())
                .collect(),
            proxy_coa: config.mag.as_ref().map(|mag| mag.address.0),
            peers,
            routes,
            ports,
            pool,
            cores,
            paths: BTreeMap::new(),
            prefixes: BTreeMap::new(),
        }
    }

    /// Notes what the workers are told.
    pub(crate) fn remember(&mut self, role: Role, update: &TableUpdate) {
        match update {
            TableUpdate::Path {
                id,
                path: Some(path),
            } => {
                self.paths.insert((role, *id), *path);
            }
            TableUpdate::Path { id, path: None } => {
                self.paths.remove(&(role, *id));
            }
            TableUpdate::Binding {
                hnp,
                binding: Some(binding),
            } => {
                self.prefixes.insert((role, *hnp), binding.as_ref().into());
            }
            TableUpdate::Binding { hnp, binding: None } => {
                self.prefixes.remove(&(role, *hnp));
            }
        }
    }

    /// A peer by its name in the configuration, or by its address.
    pub(crate) fn peer_named(&self, name: &str) -> Option<&PeerInfo> {
        let address = name.parse().ok();
        let mut peers = self.peers.iter();
        peers.find(|peer| peer.name == name || Some(peer.address) == address)
    }

    /// Whether there is a tunnel between these addresses, or may be: ours and a peer's.
    pub(crate) fn is_peer(&self, (own, address): (Ipv6Addr, Ipv6Addr)) -> bool {
        let mut peers = self.peers.iter();
        peers.any(|peer| (peer.own, peer.address) == (own, address))
    }

    /// The name of the peer between these addresses of ours and its.
    pub(crate) fn peer_between(&self, own: Ipv6Addr, address: Ipv6Addr) -> Option<&str> {
        let mut peers = self.peers.iter();
        let peer = peers.find(|peer| (peer.own, peer.address) == (own, address))?;
        Some(&peer.name)
    }

    /// A port's name.
    pub(crate) fn port_name(&self, port: PortId) -> &str {
        self.ports
            .get(usize::from(port.0))
            .map_or("?", |port| &port.name)
    }

    /// A port's station address.
    pub(crate) fn port_mac(&self, port: PortId) -> Option<MacAddr> {
        self.ports.get(usize::from(port.0)).map(|port| port.mac)
    }

    /// The port with a name.
    pub(crate) fn port_id(&self, name: &str) -> Option<PortId> {
        let index = self.ports.iter().position(|port| port.name == name)?;
        u16::try_from(index).ok().map(PortId)
    }

    /// A peer's name; its address if it has none.
    pub(crate) fn peer_name(&self, role: Role, address: Ipv6Addr) -> String {
        let known = self
            .peers
            .iter()
            .find(|peer| peer.role == role && peer.address == address);
        known.map_or_else(|| address.to_string(), |peer| peer.name.clone())
    }

    /// A path in words: where its packets go.
    pub(crate) fn path_text(&self, role: Role, id: PathId) -> String {
        match self.paths.get(&(role, id)) {
            Some(Path::Tunnel(tunnel)) => {
                format!(
                    "tunnel to {} {}",
                    self.peer_name(role, tunnel.remote),
                    tunnel.remote
                )
            }
            Some(Path::Link(link)) => {
                format!("link {} to {}", self.port_name(link.port), link.mac)
            }
            None => format!("path {id}"),
        }
    }
}

/// The peers and static routes of a configuration, for people.
pub(super) fn peers_and_routes(config: &Config) -> (Vec<PeerInfo>, Vec<RouteRow>) {
    let anchors = config.lma.iter().flat_map(|lma| {
        let peers = lma.peers.iter();
        peers.map(|peer| PeerInfo::of(Role::Lma, lma.address.0, peer, peer.address.0))
    });
    let gateways = config.mag.iter().flat_map(|mag| {
        let peers = mag.peers.iter();
        peers.map(|peer| PeerInfo::of(Role::Mag, mag.address.0, peer, peer.address.0))
    });
    let port_name = |id| config.port(id).map_or("?", |port| port.name.as_str());
    let routes = config.routes.iter().map(|route| RouteRow {
        role: None,
        prefix: route.to.to_string(),
        mn: None,
        next: match route.via {
            Some(via) => format!("via {via} on {}", port_name(route.port)),
            None => format!("on link {}", port_name(route.port)),
        },
        uplink: None,
        local: false,
    });
    (anchors.chain(gateways).collect(), routes.collect())
}
