//! What a configuration holds: the process, its ports and routes.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flow::{MacAddr, PortId};
use ipnet::Ipv6Net;
use serde::Serialize;

use crate::device::Device;
use crate::report::Report;
use crate::roles::{Lma, Mag, Mn, Protection};
use crate::store::Store;
use crate::value::words;

/// A checked configuration: every reference in it leads somewhere.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Config {
    /// The process's name in output.
    pub name: String,
    /// Memory, threads and cores.
    pub process: Process,
    /// The management socket.
    pub management: Management,
    /// Logging.
    pub log: Log,
    /// The ports, indexed by [`PortId`].
    pub ports: Vec<Port>,
    /// Static routes.
    pub routes: Vec<Route>,
    /// The local mobility anchor, if this process is one.
    pub lma: Option<Lma>,
    /// The mobile access gateway, if this process is one.
    pub mag: Option<Mag>,
    /// The mobile node, if this process is one; then it is nothing else.
    pub mn: Option<Mn>,
    /// What is legal but dubious, in the order of the lines. Whoever asks whether two files mean
    /// the same compares the other fields.
    #[serde(skip)]
    pub warnings: Vec<Report>,
}

impl Config {
    /// A port by its index.
    pub fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.get(usize::from(id.0))
    }

    /// The directory for what outlives the process: the configured one, or `/var/lib/flowmob/NAME` if
    /// a peer has keys, whose sequence numbers must not repeat. `None` if there is nothing that must.
    pub fn state_directory(&self) -> Option<PathBuf> {
        let lma = self.lma.iter().flat_map(|lma| &lma.peers);
        let mag = self.mag.iter().flat_map(|mag| &mag.peers);
        let mut protections = lma
            .map(|peer| &peer.protection)
            .chain(mag.map(|peer| &peer.protection));
        let has_keys = protections.any(|p| matches!(p, Protection::Esp { .. }));
        let default = || PathBuf::from(format!("/var/lib/flowmob/{}", self.name));
        let configured = self.process.state_directory.clone();
        configured.or_else(|| has_keys.then(default))
    }

    /// Whether this process is one of several of which one serves.
    pub fn is_paired(&self) -> bool {
        self.process.store != Store::Files
    }

    /// The index of the port with a name.
    pub fn port_id(&self, name: &str) -> Option<PortId> {
        let index = self.ports.iter().position(|port| port.name == name)?;
        u16::try_from(index).ok().map(PortId)
    }

    /// The index of the port that has `address` as one of its own.
    pub fn port_of(&self, address: Ipv6Addr) -> Option<PortId> {
        let has = |port: &Port| port.addresses.iter().any(|net| net.addr() == address);
        let index = self.ports.iter().position(has)?;
        u16::try_from(index).ok().map(PortId)
    }

    /// Takes the relative paths of files with keys, tokens and certificates from `directory`.
    pub(crate) fn resolve(&mut self, directory: &Path) {
        if let Some(file) = &mut self.management.token_file {
            *file = directory.join(&*file);
        }
        if let Some(tls) = &mut self.process.pair.tls {
            let identity = tls.identity.iter_mut();
            let identity = identity.flat_map(|own| [&mut own.certificate, &mut own.key]);
            for file in std::iter::once(&mut tls.ca).chain(identity) {
                *file = directory.join(&*file);
            }
        }
        let anchored = self.lma.iter_mut().flat_map(|lma| &mut lma.peers);
        let anchored = anchored.map(|peer| &mut peer.protection);
        let gateways = self.mag.iter_mut().flat_map(|mag| &mut mag.peers);
        let gateways = gateways.map(|peer| &mut peer.protection);
        for protection in anchored.chain(gateways) {
            if let Protection::Esp { keys } = protection {
                // An absolute path stays what it is.
                *keys = directory.join(&*keys);
            }
        }
    }

    /// The port that packets to `destination` leave by: the longest prefix among what is on link
    /// and what is routed.
    pub fn port_towards(&self, destination: Ipv6Addr) -> Option<PortId> {
        let on_link = self.ports.iter().enumerate().flat_map(|(index, port)| {
            let id = u16::try_from(index).ok().map(PortId);
            let nets = port.addresses.iter().map(Ipv6Net::trunc);
            nets.filter_map(move |net| Some((net, id?)))
        });
        let routed = self.routes.iter().map(|route| (route.to, route.port));
        on_link
            .chain(routed)
            .filter(|(net, _)| net.contains(&destination))
            .max_by_key(|(net, _)| net.prefix_len())
            .map(|(_, port)| port)
    }
}

words! {
    /// Where packet buffers live.
    pub Memory {
        /// Ordinary pages: works everywhere, needs no preparation.
        Anonymous = "anonymous",
        /// Hugepages, which the system must have reserved: faster.
        Hugepages = "hugepages",
    }
}

words! {
    /// What a worker does when there are no packets.
    pub Idle {
        /// Sleeps shortly after some empty polls: for cores that are shared.
        Adaptive = "adaptive",
        /// Polls on: for cores of its own.
        Poll = "poll",
    }
}

words! {
    /// Which packets a worker hands to the worker that their flow belongs to.
    pub Spread {
        /// Those that the port does not spread over the workers by itself.
        Auto = "auto",
        /// All.
        Always = "always",
        /// None.
        Never = "never",
    }
}

words! {
    /// What is kept on disk of sessions and flows, and what has to be there before peers are told.
    pub Durability {
        /// What a message says is on disk before it leaves: whatever happens, what was acknowledged is remembered.
        AcknowledgeAfterCommit = "acknowledge-after-commit",
        /// Messages do not wait for the disk: an end of the machine may forget what it acknowledged a moment before.
        Group = "group",
        /// Nothing is kept: who starts again, starts with nothing.
        None = "none",
    }
}

words! {
    /// What becomes of the system calls that a thread has no need of.
    pub Seccomp {
        /// They are refused, and the kernel logs them.
        Refuse = "refuse",
        /// They are done, and the kernel logs them.
        Log = "log",
        /// They are done.
        Off = "off",
    }
}

/// A user of the machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum User {
    /// By name.
    Name(String),
    /// By number, which needs no name.
    Id(u32),
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Id(id) => write!(f, "{id}"),
        }
    }
}

words! {
    /// What is logged: this and everything above.
    pub LogLevel {
        /// Something failed.
        Error = "error",
        /// Something that someone should look at.
        Warn = "warn",
        /// Changes of state: attachments, moves, peers.
        Info = "info",
        /// Single messages, with addresses.
        Debug = "debug",
        /// Single steps.
        Trace = "trace",
    }
}

words! {
    /// How log lines look.
    pub LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

/// Memory, threads and cores: `[process]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Process {
    /// Whom a process that root starts becomes; `None` to stay who it is.
    pub user: Option<User>,
    /// What becomes of system calls that a thread has no need of.
    pub seccomp: Seccomp,
    /// Where packet buffers live.
    pub memory: Memory,
    /// How much memory packet buffers may take, in MiB.
    pub memory_mib: u32,
    /// Number of worker threads, at least one.
    pub workers: u16,
    /// The core of each worker; empty to leave that to the operating system.
    pub cores: Vec<u16>,
    /// The core of the control thread; `None` to leave that to the operating system.
    pub control_core: Option<u16>,
    /// What workers do when there are no packets.
    pub idle: Idle,
    /// Which packets go to the worker that their flow belongs to.
    pub spread: Spread,
    /// Where sessions and flows are kept from run to run, the Restart Counter (RFC 5847 §3.2), and the sequence numbers
    /// that protected signalling has used; an absolute path. `None` takes the time of the start in place of
    /// the counter.
    pub state_directory: Option<PathBuf>,
    /// What is kept there of sessions and flows. Without a state directory it is nothing.
    pub durability: Durability,
    /// Where that is kept, if not there.
    pub store: Store,
    /// How the processes that share a store find out about each other.
    pub pair: Pair,
    /// How long a router's word on the MTU of a tunnel's way is believed (RFC 8201 §4).
    pub path_mtu_lifetime: Duration,
    /// Turns of the protocol that the flight recorder keeps; 0 is no recorder.
    pub recorded_turns: u32,
    /// What fragments may take up.
    pub fragments: Fragments,
}

/// Being one of several processes of which one serves: `[process.pair]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Pair {
    /// Where the others connect, so that they notice at once when this process ends; `None` if they wait for its lease to run
    /// out.
    pub address: Option<SocketAddr>,
    /// Further addresses of ports that go to whoever serves, such as the next hop of the home network prefixes.
    pub addresses: Vec<Ipv6Addr>,
    /// For how long nobody else serves when nothing is heard of this process; whole seconds.
    pub lease: Duration,
    /// How the connections to etcd are protected; `None` if they are not.
    pub tls: Option<Tls>,
}

/// What the connections to etcd are protected with (TLS): `[process.pair.tls]`. All files are PEM; [`load`](crate::load) takes
/// relative paths from where the configuration is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Tls {
    /// Certificates, one of which has signed those of etcd's members.
    pub ca: PathBuf,
    /// What this process shows to etcd; `None` if etcd does not ask.
    pub identity: Option<Identity>,
}

/// Who this process is to etcd.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Identity {
    /// The file with its certificate, and with those in between that etcd does not know.
    pub certificate: PathBuf,
    /// The file with its private key.
    pub key: PathBuf,
}

/// What fragments may take up in each worker: `[process.fragments]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Fragments {
    /// Tunnel packets that are put together at once.
    pub packets: u32,
    /// Fragments of those that are held.
    pub held: u32,
    /// First fragments of mobiles' packets that are remembered, so that the others take the same path.
    pub remembered: u32,
    /// For how long (RFC 8200 §4.5).
    pub time: Duration,
}

/// The management interface: `[management]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Management {
    /// The Unix socket, at most 107 octets.
    pub socket: PathBuf,
    /// An address and port of TCP where the same is served; `None` for nowhere. Other than loopback addresses
    /// need a token.
    pub tcp: Option<SocketAddr>,
    /// The file with the token that requests over TCP must bear. [`load`](crate::load) takes a relative path from
    /// where the configuration is.
    pub token_file: Option<PathBuf>,
}

/// Logging: `[log]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Log {
    /// What is logged.
    pub level: LogLevel,
    /// How it looks.
    pub format: LogFormat,
    /// Whether lines above [`LogLevel::Debug`] have addresses in them.
    pub addresses: bool,
}

/// A port: `[[port]]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Port {
    /// Its name in this file and in output, unique.
    pub name: String,
    /// What it is made of.
    pub device: Device,
    /// Its MAC address; `None` for the device's own.
    pub mac: Option<MacAddr>,
    /// Largest IPv6 packet in octets, 1280 to 9000.
    pub mtu: u16,
    /// The appliance's addresses on it, with the length of the prefix that is on its link.
    pub addresses: Vec<Ipv6Net>,
}

/// A static route: `[[route]]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Route {
    /// Destinations; no bits beyond the prefix length are set.
    pub to: Ipv6Net,
    /// The next router; `None` if the destinations are neighbours.
    pub via: Option<Ipv6Addr>,
    /// The port that leads there.
    pub port: PortId,
}
