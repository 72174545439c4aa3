//! What would become of a packet: asked of a worker of its own, which is told what the others know.
//!
//! The control thread collects what is known; another thread lets the packet go its way.

mod answer;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use dataplane::WorkerConfig;
use flow::{
    Binding, Hnp, Link, MacAddr, Path, PathId, PortId, Role, RuleAction, TableUpdate, Tunnel,
    Update,
};
use nd::packet::{Ipv6, ipv6_packet};
use pmip_proto::lma::WhatIf;
use tokio::sync::oneshot;

use super::calls::{answered, rows};
use super::control::Control;
use crate::api::Problem;
use crate::api::explain::{BindingFound, Explain};
use crate::selector_text;
use crate::server::Answer;

const ETHERNET_LEN: usize = 14;
const IPV6: u8 = 41;

/// Everything that it takes to answer.
struct Question {
    worker: WorkerConfig,
    /// What the worker is told, in this order.
    told: Vec<Update>,
    arrival: Arrival,
    /// Of the destination, or else of the source.
    found: Option<(BindingFound, Binding)>,
    /// What would be otherwise if an access were lost.
    what_ifs: Vec<(u16, String, WhatIf, Option<String>)>,
    names: Names,
}

/// How a packet comes.
struct Arrival {
    words: String,
    port: PortId,
    frame: Vec<u8>,
}

/// What things are called.
struct Names {
    ports: Vec<String>,
    paths: BTreeMap<(Role, PathId), String>,
    /// Peers by the ends of tunnels.
    peers: BTreeMap<(Role, Ipv6Addr), String>,
}

impl Control {
    /// Answers from a thread of its own: looking at many rules takes a while.
    pub(super) fn explain(&self, request: &Explain, reply: oneshot::Sender<Answer>) {
        let question = match self.question(request) {
            Ok(question) => question,
            Err(problem) => return answered(reply, Err(problem)),
        };
        let thread = std::thread::Builder::new().name("explain".into());
        let answer = move || answered(reply, question.answer().and_then(|answer| rows(&answer)));
        if let Err(error) = thread.spawn(answer) {
            // The asker sees that there will be no answer.
            tracing::warn!(%error, "no thread to explain a packet");
        }
    }

    fn question(&self, request: &Explain) -> Result<Question, Problem> {
        let packet = packet(request)?;
        let ip = Ipv6::parse(&packet).ok_or_else(|| Problem::bad_request("hex: no IPv6 packet"))?;
        let (source, destination) = (ip.source, ip.destination);
        let mut bindings: Vec<(Role, Hnp, Binding, BindingFound)> = Vec::new();
        for (address, of_destination) in [(destination, true), (source, false)] {
            for role in [Role::Lma, Role::Mag] {
                let Some(hnp) = self.covering(role, address) else {
                    continue;
                };
                let known = bindings
                    .iter()
                    .any(|(r, known, ..)| (*r, *known) == (role, hnp));
                let installed = match role {
                    Role::Lma => self.lma.as_deref().and_then(|lma| lma.installed(hnp)),
                    Role::Mag => self.mag.as_deref().and_then(|mag| mag.installed(hnp)),
                };
                if let Some((mn_id, binding)) = installed.filter(|_| !known) {
                    let path = binding.default_path;
                    let default = path.map_or_else(
                        || "none".to_owned(),
                        |path| self.setup.path_text(role, path),
                    );
                    let found = BindingFound {
                        role,
                        mn: mn_id.clone(),
                        prefix: hnp,
                        of_destination,
                        default,
                    };
                    bindings.push((role, hnp, binding, found));
                }
            }
        }
        let arrival = self.arrival(request, &packet, &bindings)?;
        let found = bindings
            .first()
            .map(|(_, _, b, found)| (found.clone(), b.clone()));
        let what_ifs = match &found {
            Some((found, _)) if found.role == Role::Lma && found.of_destination => {
                self.what_ifs(found)
            }
            Some(_) | None => Vec::new(),
        };
        let mut told = self.known_paths(&bindings);
        let paths: BTreeMap<_, _> = told
            .iter()
            .filter_map(|update| self.named(update))
            .collect();
        told.extend(bindings.into_iter().map(|(role, hnp, binding, _)| {
            let binding = Some(Box::new(binding));
            Update::Table(role, TableUpdate::Binding { hnp, binding })
        }));
        let neighbours = self
            .nd
            .known()
            .map(|(port, address, mac)| Update::Neighbour {
                port,
                address,
                mac: Some(mac),
            });
        told.extend(neighbours);
        let ways = self
            .ways
            .all()
            .map(|((local, remote), mtu)| Update::PathMtu { local, remote, mtu });
        told.extend(ways);
        let ports = self.setup.ports.iter().map(|port| port.name.clone());
        let peers = self.setup.peers.iter();
        Ok(Question {
            worker: self.worker.clone(),
            told,
            arrival,
            found,
            what_ifs,
            names: Names {
                ports: ports.collect(),
                paths,
                peers: peers
                    .map(|peer| ((peer.role, peer.address), peer.name.clone()))
                    .collect(),
            },
        })
    }

    /// A path that is told of, and its name.
    fn named(&self, update: &Update) -> Option<((Role, PathId), String)> {
        let Update::Table(role, TableUpdate::Path { id, .. }) = update else {
            return None;
        };
        Some(((*role, *id), self.setup.path_text(*role, *id)))
    }

    /// The longest prefix in force that holds an address.
    fn covering(&self, role: Role, address: Ipv6Addr) -> Option<Hnp> {
        (0..=128).rev().find_map(|len| {
            let net = ipnet::Ipv6Net::new(address, len).ok()?.trunc();
            let hnp = Hnp::new(net.addr(), len).ok()?;
            self.setup
                .prefixes
                .contains_key(&(role, hnp))
                .then_some(hnp)
        })
    }

    /// All tunnels, and the links that bindings name.
    fn known_paths(&self, bindings: &[(Role, Hnp, Binding, BindingFound)]) -> Vec<Update> {
        let mut named = BTreeSet::new();
        for (role, _, binding, _) in bindings {
            let rules = binding.rules.iter().filter_map(|rule| match rule.action {
                RuleAction::Forward(path) => Some(path),
                RuleAction::Drop => None,
            });
            let paths = binding.sources.iter().copied().chain(rules);
            let paths = paths.chain(binding.default_path).chain(binding.uplink);
            named.extend(paths.map(|path| (*role, path)));
        }
        let wanted = |(key, path): &(&(Role, PathId), &Path)| {
            matches!(path, Path::Tunnel(_)) || named.contains(*key)
        };
        let update = |(&(role, id), path): (&(Role, PathId), &Path)| {
            let path = Some(*path);
            Update::Table(role, TableUpdate::Path { id, path })
        };
        let paths = self.setup.paths.iter().filter(wanted);
        paths.map(update).collect()
    }

    /// How the packet comes, as far as the asker does not say.
    fn arrival(
        &self,
        request: &Explain,
        packet: &[u8],
        bindings: &[(Role, Hnp, Binding, BindingFound)],
    ) -> Result<Arrival, Problem> {
        let named =
            match &request.port {
                None => None,
                Some(name) => {
                    let port = self.setup.port_id(name);
                    Some(port.ok_or_else(|| {
                        Problem::not_found(format!("port: no port is named {name}"))
                    })?)
                }
            };
        let is_access = |port: PortId| {
            let port = self.setup.ports.get(usize::from(port.0));
            port.is_some_and(|port| port.access)
        };
        let first = |access| {
            let mut ports = (0u16..).map(PortId).zip(&self.setup.ports);
            ports
                .find(|(_, port)| port.access == access)
                .map(|(id, _)| id)
        };
        let core = named.or_else(|| first(false)).or_else(|| first(true));
        let core = core.ok_or_else(|| Problem::refused("there are no ports"))?;
        let of = |role, destination| {
            bindings
                .iter()
                .find(|(r, _, _, found)| (*r, found.of_destination) == (role, destination))
        };
        let path = |role, id: Option<PathId>| {
            let path = self.setup.paths.get(&(role, id?))?;
            Some(*path)
        };
        // From a mobile's link, unless another port is named.
        if let Some((_, _, binding, _)) = of(Role::Mag, false)
            && named.is_none_or(is_access)
        {
            let links = binding
                .sources
                .iter()
                .filter_map(|id| match path(Role::Mag, Some(*id)) {
                    Some(Path::Link(link)) => Some(link),
                    Some(Path::Tunnel(_)) | None => None,
                });
            let mut links = links.filter(|link| named.is_none_or(|port| port == link.port));
            if let Some(Link { port, mac }) = links.next() {
                let words = format!("from the mobile's station {mac}");
                return Ok(self.framed(words, port, mac, packet));
            }
        }
        if let Some(via) = &request.via {
            let peer = self.setup.peer_named(via);
            let peer =
                peer.ok_or_else(|| Problem::not_found(format!("via: no peer is named {via}")))?;
            return Ok(self.tunnelled(via, core, (peer.address, peer.own), packet));
        }
        let to_mobile = of(Role::Mag, true);
        let from_mobile = of(Role::Lma, false).filter(|_| of(Role::Lma, true).is_none());
        let tunnel = match (to_mobile, from_mobile) {
            (Some((_, _, binding, _)), _) => path(Role::Mag, binding.uplink),
            (None, Some((_, _, binding, _))) => path(
                Role::Lma,
                binding.default_path.or(binding.sources.first().copied()),
            ),
            (None, None) => None,
        };
        if let Some(Path::Tunnel(Tunnel { local, remote, .. })) = tunnel {
            let role = if to_mobile.is_some() {
                Role::Mag
            } else {
                Role::Lma
            };
            let peer = self.setup.peer_name(role, remote);
            return Ok(self.tunnelled(&peer, core, (remote, local), packet));
        }
        let words = "as it is".to_owned();
        Ok(self.framed(words, core, MacAddr([2, 0, 0, 0, 0, 1]), packet))
    }

    fn tunnelled(
        &self,
        peer: &str,
        port: PortId,
        (source, destination): (Ipv6Addr, Ipv6Addr),
        packet: &[u8],
    ) -> Arrival {
        let outer = ipv6_packet(source, destination, IPV6, 64, packet);
        let words = format!("out of the tunnel from {peer} {source}");
        self.framed(words, port, MacAddr([2, 0, 0, 0, 0, 1]), &outer)
    }

    fn framed(&self, words: String, port: PortId, from: MacAddr, packet: &[u8]) -> Arrival {
        let ours = self.setup.port_mac(port).unwrap_or_default();
        let mut frame = nd::host::ethernet(from, ours).to_vec();
        frame.extend(packet);
        Arrival { words, port, frame }
    }

    fn what_ifs(&self, found: &BindingFound) -> Vec<(u16, String, WhatIf, Option<String>)> {
        let Some(lma) = &self.lma else {
            return Vec::new();
        };
        let view = lma.binding(&found.mn);
        let sessions = view.iter().flat_map(|view| view.sessions);
        let active = sessions.filter(|session| session.is_active());
        let name = |coa: flow::ProxyCoa| self.setup.peer_name(Role::Lma, coa.0);
        let what_if = |session: &pmip_proto::lma::Bce| {
            let what_if = lma.if_lost(found.prefix, session.bid)?;
            let rescuer = what_if.rescuer.map(name);
            Some((
                session.bid.0.get(),
                name(session.proxy_coa),
                what_if,
                rescuer,
            ))
        };
        active.filter_map(what_if).collect()
    }
}

/// The octets of an IPv6 packet.
fn packet(request: &Explain) -> Result<Vec<u8>, Problem> {
    if let Some(hex) = &request.hex {
        let given = Explain {
            hex: None,
            port: None,
            via: None,
            ..request.clone()
        };
        if given != Explain::default() {
            let why = "hex says all of a packet: leave out the other fields";
            return Err(Problem::bad_request(why));
        }
        return from_hex(hex);
    }
    let address = |address: Option<Ipv6Addr>, name| {
        address.ok_or_else(|| Problem::bad_request(format!("{name} is missing (or hex)")))
    };
    let (source, destination) = (address(request.src, "src")?, address(request.dst, "dst")?);
    let proto = selector_text::protocol_number(request.proto.as_deref().unwrap_or("udp"))?;
    let ports = (request.sport, request.dport);
    let payload = match proto {
        6 | 17 | 33 | 132 | 136 => {
            let [sport, dport] = [ports.0, ports.1].map(|port| port.unwrap_or(0).to_be_bytes());
            // As long as the longest of these headers.
            [&sport[..], &dport, &[0; 16]].concat()
        }
        _ if ports != (None, None) => {
            let why = format!("sport, dport: protocol {proto} has no ports");
            return Err(Problem::bad_request(why));
        }
        _ => vec![0; 20],
    };
    let label = request.flow_label.unwrap_or(0);
    if label >> 20 != 0 {
        return Err(Problem::bad_request("flow_label: at most 20 bits"));
    }
    let mut packet = ipv6_packet(source, destination, proto, 64, &payload);
    let word = 6 << 28 | u32::from(request.tc.unwrap_or(0)) << 20 | label;
    if let Some(place) = packet.first_chunk_mut() {
        *place = word.to_be_bytes();
    }
    Ok(packet)
}

fn from_hex(hex: &str) -> Result<Vec<u8>, Problem> {
    let wrong = || {
        let why = "hex: expected the octets of an IPv6 packet, or of an Ethernet frame with one";
        Problem::bad_request(why)
    };
    let mut digits = Vec::new();
    for c in hex.chars().filter(|c| !c.is_whitespace() && *c != ':') {
        let digit = c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        digits.push(digit.ok_or_else(wrong)?);
    }
    let (pairs, rest) = digits.as_chunks();
    if !rest.is_empty() {
        return Err(wrong());
    }
    let mut octets: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    if let Some(packet) = nd::packet::ethernet_payload(&octets) {
        octets = packet.to_vec();
    }
    let most = 9000;
    if Ipv6::parse(&octets).is_none() || octets.len() > most {
        return Err(wrong());
    }
    Ok(octets)
}
