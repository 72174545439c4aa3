//! What one value alone cannot show: contradictions between values, and with the machine.

mod lma;
mod mag;
mod mn;
mod network;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::Path;

use flow::{Hnp, PortId};

use crate::device::MAX_SOCKET_PATH;
use crate::machine::Machine;
use crate::notes::{Draft, Notes};
use crate::roles::{Heartbeat, TunnelOptions};
use crate::schema::{Config, Durability, Idle, Management};

pub(crate) fn config(config: &Config, machine: &Machine, notes: &mut Notes) {
    roles(config, notes);
    process(config, machine, notes);
    socket(&config.management.socket, notes);
    tcp(&config.management, notes);
    network::ports(config, notes);
    network::routes(config, notes);
    if let Some(lma) = &config.lma {
        lma::check(config, lma, notes);
    }
    if let Some(mag) = &config.mag {
        mag::check(config, mag, notes);
    }
    if let Some(mn) = &config.mn {
        mn::check(config, mn, notes);
    }
}

fn roles(config: &Config, notes: &mut Notes) {
    let any = ["lma", "mag", "mn"].into_iter().any(|role| notes.has(role));
    if !any {
        notes.push(
            Draft::error("", "this process has no role")
                .label("none of [lma], [mag] and [mn] is in the file")
                .help("add the section [lma], [mag] or [mn]"),
        );
    }
    for (role, name) in [("lma", "an LMA"), ("mag", "a MAG")] {
        if notes.has("mn") && notes.has(role) {
            notes.push(
                Draft::error("mn", format!("a mobile node cannot be {name} too"))
                    .label("one role")
                    .other(role, "the other")
                    .help("write one file for each, and start a process for each"),
            );
        }
    }
    if let (Some(lma), Some(mag)) = (&config.lma, &config.mag)
        && lma.address.0 == mag.address.0
    {
        notes.push(
            Draft::error("mag.address", "LMA and MAG have the same address")
                .label("also the LMA's")
                .other("lma.address", "the LMA's")
                .help("give the port a second address for the other role"),
        );
    }
}

fn process(config: &Config, machine: &Machine, notes: &mut Notes) {
    let process = &config.process;
    let at = |i: usize| format!("process.cores[{i}]");
    let cores = process.cores.iter().copied();
    let workers = usize::from(process.workers);
    if !process.cores.is_empty() && notes.has("process.workers") && process.cores.len() != workers {
        notes.push(
            Draft::error("process.workers", "`workers` and `cores` do not agree")
                .label(format!("{workers} workers"))
                .other("process.cores", format!("{} cores", process.cores.len()))
                .help("leave `workers` out: each core gets one worker"),
        );
    }
    unique(
        notes,
        cores.clone().enumerate().map(|(i, core)| (core, at(i))),
        |core| format!("core {core} is given to two workers"),
        "a worker needs a core of its own",
    );
    existing_cores(config, machine, notes);
    if process.state_directory.is_some() && config.lma.is_none() && config.mag.is_none() {
        notes.push(
            Draft::warning("process.state_directory", "nothing is kept there")
                .label("neither [lma] nor [mag] here")
                .help("leave it out: only an LMA or a MAG has a Restart Counter"),
        );
    }
    pair(config, notes);
    if let Some(i) = cores
        .into_iter()
        .position(|core| Some(core) == process.control_core)
    {
        notes.push(
            Draft::warning(
                "process.control_core",
                "the control thread shares a worker's core",
            )
            .label("also a worker's")
            .other(at(i), "the worker's")
            .help("each takes the other's time; give the control thread another core"),
        );
    }
}

/// Checks what one of several processes needs of which one serves.
fn pair(config: &Config, notes: &mut Notes) {
    let process = &config.process;
    if !config.is_paired() {
        if process.pair.tls.is_some() {
            notes.push(
                Draft::warning("process.pair.tls", "there is no connection to protect")
                    .label("for the connections to etcd")
                    .help("say where etcd is, `store = \"etcd://...\"` in [process], or leave the table out"),
            );
        }
        return;
    }
    if process.durability != Durability::AcknowledgeAfterCommit {
        let (at, what) = (
            "process.durability",
            "what was acknowledged could be forgotten",
        );
        notes.push(
            Draft::error(at, what)
                .label("messages do not wait for the store")
                .other("process.store", "what another process goes on from")
                .help("leave `durability` out"),
        );
    }
    if process.pair.tls.is_none() && config.lma.is_some() && !process.store.is_here() {
        notes.push(
            Draft::warning("process.store", "the connections to etcd are not protected")
                .label("who is on their way can read and change everything")
                .help("add [process.pair.tls], or keep etcd on a network where only LMAs and etcd are"),
        );
    }
    for (i, address) in process.pair.addresses.iter().enumerate() {
        let at = format!("process.pair.addresses[{i}]");
        if config.port_of(*address).is_none() && !notes.is_tainted(&at) {
            notes.push(
                Draft::error(at, "no port has this address")
                    .label("nobody could be told where it is")
                    .help("put it in `addresses` of a port, or leave it out"),
            );
        }
    }
    if config.lma.is_none() || config.mag.is_some() {
        notes.push(
            Draft::error(
                "process.store",
                "only an LMA can have another one in reserve",
            )
            .label("not for files")
            .help("leave it out: a MAG keeps its records in the state directory"),
        );
    }
}

/// Checks against the cores that there are.
fn existing_cores(config: &Config, machine: &Machine, notes: &mut Notes) {
    let Some(exist) = &machine.cores else {
        return;
    };
    let process = &config.process;
    let control = process
        .control_core
        .map(|core| (core, "process.control_core".to_owned()));
    let workers = process.cores.iter().enumerate();
    let workers = workers.map(|(i, core)| (*core, format!("process.cores[{i}]")));
    for (core, path) in workers
        .chain(control)
        .filter(|(core, _)| !exist.contains(core))
    {
        let list: Vec<_> = exist.iter().map(u16::to_string).collect();
        notes.push(
            Draft::error(path, format!("core {core} does not exist"))
                .label("not on this machine, or not for this process")
                .help(format!("usable here: {}", list.join(", "))),
        );
    }
    let workers = usize::from(process.workers);
    if process.cores.is_empty() && process.idle == Idle::Poll && workers >= exist.len() {
        notes.push(
            Draft::warning(
                "process.idle",
                "polling workers leave no core for anything else",
            )
            .label(format!(
                "{workers} of {} cores are always busy",
                exist.len()
            ))
            .help("use fewer workers, or idle = \"adaptive\""),
        );
    }
}

fn socket(path: &Path, notes: &mut Notes) {
    let len = path.as_os_str().len();
    // A default path that is too long comes from a name, which is at most 32 octets: it is not.
    if len > MAX_SOCKET_PATH {
        notes.push(
            Draft::error(
                "management.socket",
                "the path is too long for a Unix socket",
            )
            .label(format!("{len} octets"))
            .help(format!("use at most {MAX_SOCKET_PATH} octets")),
        );
    } else if !path.is_absolute() {
        notes.push(
            Draft::warning("management.socket", "the path of the socket is relative")
                .label("depends on where flowmob is started")
                .help("write it from the root, such as /run/flowmob/lma1.sock"),
        );
    }
}

/// What changes an appliance is not open to everybody who can reach it.
fn tcp(management: &Management, notes: &mut Notes) {
    match (management.tcp, &management.token_file) {
        (Some(address), None) if !address.ip().is_loopback() => notes.push(
            Draft::error("management.tcp", "open to others without a token")
                .label("not a loopback address")
                .help(
                    "name a file with a token, token_file = \"token\", or use 127.0.0.1 or [::1]",
                ),
        ),
        (None, Some(_)) if !notes.is_tainted("management.tcp") => notes.push(
            Draft::error("management.token_file", "a token that nobody is asked for")
                .label("only requests over TCP bear it")
                .help("name an address, tcp = \"127.0.0.1:8090\", or leave it out"),
        ),
        (Some(_) | None, _) => {}
    }
}

/// Reports each item whose key an earlier one has; tainted items do not count.
fn unique<K: Ord>(
    notes: &mut Notes,
    items: impl IntoIterator<Item = (K, String)>,
    message: impl Fn(&K) -> String,
    help: &str,
) {
    let mut seen: BTreeMap<K, String> = BTreeMap::new();
    for (key, path) in items {
        if notes.is_tainted(&path) {
            continue;
        }
        if let Some(first) = seen.get(&key) {
            let draft = Draft::error(path, message(&key))
                .label("here again")
                .other(first, "here first")
                .help(help);
            notes.push(draft);
        } else {
            seen.insert(key, path);
        }
    }
}

/// Reports each prefix that overlaps another of the list. Takes `n log n`: there may be one for
/// each mobile.
fn disjoint(
    notes: &mut Notes,
    prefixes: impl IntoIterator<Item = (Hnp, String)>,
    message: impl Fn(Hnp, Hnp) -> String,
    help: &str,
) {
    let mut sorted: Vec<_> = prefixes
        .into_iter()
        .filter(|(_, path)| !notes.is_tainted(path))
        .collect();
    sorted.sort_by_key(|(hnp, path)| (hnp.addr(), hnp.len(), notes.offset(path)));
    // Prefixes overlap only by containment, and what contains others sorts before them.
    let mut outer: Option<(Hnp, String)> = None;
    for (hnp, path) in sorted {
        match &outer {
            Some((wide, first)) if wide.overlaps(hnp) => {
                let (later, earlier) = if notes.offset(&path) < notes.offset(first) {
                    ((*wide, first), (hnp, &path))
                } else {
                    ((hnp, &path), (*wide, first))
                };
                let draft = Draft::error(later.1, message(later.0, earlier.0))
                    .label(format!("overlaps {}", earlier.0))
                    .other(earlier.1, "this one")
                    .help(help);
                notes.push(draft);
            }
            _ => outer = Some((hnp, path)),
        }
    }
}

/// Checks that a role's address is one of a port's, and says which port that is.
fn own_address(
    config: &Config,
    notes: &mut Notes,
    path: &str,
    address: Ipv6Addr,
) -> Option<PortId> {
    let port = config.port_of(address);
    if port.is_none() && !notes.any_tainted("port.addresses") {
        let near = config.port_towards(address);
        let near = near.and_then(|id| config.port(id).filter(|p| on_link(p, address)));
        let help = match near {
            Some(port) => format!(
                "add \"{address}/64\" to the addresses of port `{}`",
                port.name
            ),
            None => "use one of the `addresses` of a [[port]], or add it to one".to_owned(),
        };
        notes.push(
            Draft::error(path, format!("no port has the address {address}"))
                .label("not an address of this process")
                .help(help),
        );
    }
    port
}

fn on_link(port: &crate::schema::Port, address: Ipv6Addr) -> bool {
    port.addresses.iter().any(|net| net.contains(&address))
}

/// What both roles ask of their peers, given by name and address. `role` is the section's path.
fn peers(config: &Config, notes: &mut Notes, role: &str, peers: &[(&str, Ipv6Addr)]) {
    let at = |i: usize, key: &str| format!("{role}.peer[{i}].{key}");
    let numbered = || peers.iter().enumerate();
    unique(
        notes,
        numbered().map(|(i, (name, _))| (*name, at(i, "name"))),
        |name| format!("two peers are named `{name}`"),
        "give each peer a name of its own",
    );
    unique(
        notes,
        numbered().map(|(i, (_, address))| (*address, at(i, "address"))),
        |address| format!("two peers have the address {address}"),
        "remove one of the two, or correct its address",
    );
    for (i, (name, address)) in numbered() {
        let path = at(i, "address");
        if config.port_of(*address).is_some() {
            notes.push(
                Draft::error(path, format!("the peer `{name}` is this very process"))
                    .label("an address of one of the ports")
                    .help("give the address of the other end"),
            );
        } else if config.port_towards(*address).is_none()
            && !notes.any_tainted("route.to")
            && !notes.any_tainted("port.addresses")
        {
            notes.push(
                Draft::warning(path, format!("no route leads to the peer `{name}`"))
                    .label("neither a neighbour of a port nor routed")
                    .help(format!(
                        "add a [[route]] with to = \"{address}/128\" or wider"
                    )),
            );
        }
    }
}

/// What both roles ask of a pool of LMAs, given by the indexes of its members among the peers.
fn lma_pool(notes: &mut Notes, role: &str, members: &[usize], heartbeat: &Heartbeat) {
    let path = format!("{role}.lma_pool");
    unique(
        notes,
        members
            .iter()
            .enumerate()
            .map(|(i, member)| (*member, format!("{path}[{i}]"))),
        |_| "an LMA is named twice".to_owned(),
        "name it once",
    );
    if !members.is_empty() && !heartbeat.enabled {
        notes.push(
            Draft::warning(path, "nobody finds out when an LMA of the pool dies")
                .label("LMAs that are asked about mobiles")
                .other(format!("{role}.heartbeat.enabled"), "no heartbeats")
                .help("mobiles wait for an LMA that does not answer, unless heartbeats tell that it is dead"),
        );
    }
}

/// Warns that a role has no peers.
fn no_peers(notes: &mut Notes, role: &str) {
    if !notes.any_tainted(&format!("{role}.peer")) {
        notes.push(
            Draft::warning(role, format!("[{role}] has no peers"))
                .label("nobody to build a tunnel with")
                .help(format!("add a [[{role}.peer]] for each")),
        );
    }
}

/// Octets of the outer header, and of the header with a Tunnel Encapsulation Limit.
const OUTER: u16 = 40;
const LIMIT: u16 = 8;
/// What every IPv6 link must carry (RFC 8200 §5).
const MIN_MTU: u16 = 1280;

/// Whether full-sized packets fit into the tunnels of a role whose address is on `port`.
fn tunnel(
    config: &Config,
    notes: &mut Notes,
    role: &str,
    port: Option<PortId>,
    tunnel: &TunnelOptions,
) {
    let Some((id, port)) = port.and_then(|id| Some((id, config.port(id)?))) else {
        return;
    };
    let path_mtu = format!("{role}.tunnel.path_mtu");
    let port_mtu = format!("port[{id}].mtu");
    if let Some(mtu) = tunnel.path_mtu
        && mtu > port.mtu
    {
        notes.push(
            Draft::warning(&path_mtu, "`path_mtu` is larger than the port's `mtu`")
                .label(format!("{mtu} octets do not leave port `{}`", port.name))
                .other(&port_mtu, format!("{} octets at most", port.mtu))
                .help("raise the port's `mtu`, or leave `path_mtu` out"),
        );
    }
    let mtu = tunnel.path_mtu.unwrap_or(port.mtu).min(port.mtu);
    let head = OUTER + tunnel.encapsulation_limit.map_or(0, |_| LIMIT);
    if mtu < MIN_MTU + head {
        let path = match tunnel.path_mtu {
            Some(path) if path <= port.mtu => path_mtu,
            _ => port_mtu,
        };
        let least = MIN_MTU + head;
        let message = format!("packets of {MIN_MTU} octets do not fit the tunnels of [{role}]");
        notes.push(
            Draft::warning(path, message)
                .label(format!("{} octets remain inside", mtu - head))
                .help(format!(
                    "larger ones are sent in fragments, which is slow: raise this to {least} or more"
                )),
        );
    }
}
