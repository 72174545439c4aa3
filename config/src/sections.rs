//! Which keys there are: every table of the file with its defaults and ranges.

mod process;

use std::path::PathBuf;
use std::time::Duration;

use flow::{Hnp, Lmaa, MacAddr, PortId, ProxyCoa};

use crate::device::Device;
use crate::notes::Draft;
use crate::read::{Names, Table};
use crate::roles::{
    Attach, Handoff, Heartbeat, Lma, LmaMobile, Mag, MagMobile, Mn, MnAccess, Peer, PrefixModel,
    Protection, Signalling, TunnelOptions,
};
use crate::schema::{Config, Log, LogFormat, LogLevel, Management, Port, Route};
use crate::value::{
    Destinations, Fault, LinkLocal, OwnAddress, Routable, Unicast, Value, text, words,
};

/// Most seconds that a binding lifetime holds: 65535 units of 4 s (RFC 6275 §6.1.7).
const MAX_LIFETIME: u64 = 65535 * 4;
/// Most seconds of a flow's lifetime that are not infinity.
const MAX_FLOW_LIFETIME: u64 = 0xfffe;
/// A day, in seconds.
const DAY: u64 = 86_400;
/// An hour, in milliseconds: longer delays are a wrong unit.
const HOUR: u64 = 3_600_000;

pub(crate) fn config(t: &mut Table<'_>) -> Config {
    let name: String = t.or("name", "flowmob".to_owned());
    let process = t.section("process", process::process);
    let management = t.section("management", |t| management(t, &name));
    let log = t.section("log", log);
    let ports = t.tables("port", port);
    let names = names(t, "port", ports.iter().map(|port| &port.name));
    Config {
        process,
        management,
        log,
        routes: t.tables("route", |t| route(t, &names)),
        lma: t.table("lma", lma),
        mag: t.table("mag", |t| mag(t, &names)),
        mn: t.table("mn", mn),
        name,
        ports,
        warnings: Vec::new(),
    }
}

/// The names that the tables of the array `tables` give themselves.
fn names<'n>(t: &mut Table<'_>, tables: &str, names: impl Iterator<Item = &'n String>) -> Names {
    let path = format!("{}.name", t.at(tables));
    Names {
        names: names.cloned().collect(),
        complete: !t.notes().any_tainted(&path),
    }
}

fn management(t: &mut Table<'_>, name: &str) -> Management {
    let socket = PathBuf::from(format!("/run/flowmob/{name}.sock"));
    Management {
        socket: t.or("socket", socket),
        tcp: t.optional("tcp"),
        token_file: t.optional("token_file"),
    }
}

fn log(t: &mut Table<'_>) -> Log {
    Log {
        level: t.or("level", LogLevel::Info),
        format: t.or("format", LogFormat::Text),
        addresses: t.or("addresses", false),
    }
}

/// A device given by `vdev`.
struct Vdev(Device);

impl Value for Vdev {
    const EXPECTED: &'static str = "a virtual device of DPDK";
    const EXAMPLE: &'static str = "\"net_af_packet0,iface=eth0\"";

    fn read(value: &toml::de::DeValue<'_>) -> Result<Self, Fault> {
        Device::vdev(text(value)?)
            .map(Self)
            .map_err(|error| Fault::new(error.message, error.help))
    }

    fn placeholder() -> Self {
        Self(Device::Null)
    }
}

fn port(t: &mut Table<'_>) -> Port {
    Port {
        name: t.required("name"),
        device: device(t),
        mac: t.optional("mac"),
        mtu: t.number("mtu", 1500, 1280..=9000),
        addresses: t
            .list("addresses")
            .into_iter()
            .map(|OwnAddress(net)| net)
            .collect(),
    }
}

fn device(t: &mut Table<'_>) -> Device {
    let (device, vdev) = (t.at("device"), t.at("vdev"));
    let (has_device, has_vdev) = (t.notes().has(&device), t.notes().has(&vdev));
    let from_device = t.optional("device");
    let from_vdev = t.optional("vdev").map(|Vdev(device)| device);
    match (has_device, has_vdev) {
        (true, true) => {
            let draft = Draft::error(vdev, "a port has either `device` or `vdev`")
                .on_key()
                .label("one too many")
                .other(device, "the other")
                .help("remove one of the two");
            t.notes().push(draft);
        }
        (false, false) => t.missing("device", Device::EXAMPLE),
        (true, false) | (false, true) => {}
    }
    from_device.or(from_vdev).unwrap_or(Device::Null)
}

fn port_id(index: Option<usize>) -> PortId {
    PortId(
        index
            .and_then(|i| u16::try_from(i).ok())
            .unwrap_or(u16::MAX),
    )
}

fn route(t: &mut Table<'_>, ports: &Names) -> Route {
    let Destinations(to) = t.required("to");
    let via = t.optional("via").map(|Unicast(address)| address);
    Route {
        to,
        via,
        port: port_id(t.required_reference("port", "port", ports)),
    }
}

fn tunnel(t: &mut Table<'_>) -> TunnelOptions {
    TunnelOptions {
        hop_limit: t.number("hop_limit", 64, 1..=255),
        copy_dscp: t.or("copy_dscp", false),
        path_mtu: t.optional_number("path_mtu", 1280..=u16::MAX),
        encapsulation_limit: t.optional_number("encapsulation_limit", 0..=u8::MAX),
    }
}

fn heartbeat(t: &mut Table<'_>) -> Heartbeat {
    Heartbeat {
        enabled: t.or("enabled", true),
        interval: t.millis("interval_ms", 60_000, 100..=HOUR),
        missing_allowed: t.number("missing_allowed", 3, 1..=10),
    }
}

fn peer<A>(t: &mut Table<'_>, role: fn(std::net::Ipv6Addr) -> A) -> Peer<A> {
    let name = t.required("name");
    let Routable(address) = t.required("address");
    Peer {
        name,
        address: role(address),
        signalling: t.or("signalling", Signalling::Draft),
        protection: protection(t),
    }
}

words! {
    /// The kinds of [`Protection`] as the file spells them.
    ProtectionKind {
        /// Of [`Protection::Esp`].
        Esp = "esp",
        /// Of [`Protection::None`].
        None = "none",
    }
}

/// A peer's `protection` and `keys`. Nobody gets a peer without protection by leaving something out.
fn protection(t: &mut Table<'_>) -> Protection {
    let (at, at_keys) = (t.at("protection"), t.at("keys"));
    let kind = t.or("protection", ProtectionKind::Esp);
    let keys: Option<PathBuf> = t.optional("keys");
    match (kind, keys) {
        (ProtectionKind::Esp, Some(keys)) => return Protection::Esp { keys },
        (ProtectionKind::Esp, None) => {
            // A faulty value of either has been reported.
            if !t.has("keys") && !t.notes().is_tainted(&at) {
                let draft = Draft::error(at_keys, "signalling with this peer has no keys")
                    .label("no `keys`")
                    .help(
                        "name a key file, keys = \"keys/mag1.toml\": `flowmob keys generate` makes \
                         one; or, in a lab, protection = \"none\"",
                    );
                t.notes().fault(draft);
            }
        }
        (ProtectionKind::None, Some(_)) => {
            let draft = Draft::error(at, "there are keys, but no protection")
                .label("makes no use of `keys`")
                .other(at_keys, "the keys")
                .help("remove one of the two");
            t.notes().push(draft);
        }
        (ProtectionKind::None, None) => {
            let draft = Draft::warning(at, "signalling with this peer is not protected")
                .label("whoever can send from its address can move mobiles")
                .help("give it `keys`; do without in a lab only (RFC 5213 §4)");
            t.notes().push(draft);
        }
    }
    Protection::None
}

/// A binding lifetime, in whole units of 4 s.
fn lifetime(t: &mut Table<'_>, key: &'static str, default: u64) -> Duration {
    let seconds = t.seconds(key, default, 4..=MAX_LIFETIME).as_secs();
    if !seconds.is_multiple_of(4) {
        let whole = seconds - seconds % 4;
        let message = format!("`{key}` is rounded down to {whole} s");
        let draft = Draft::warning(t.at(key), message)
            .label("no multiple of 4")
            .help("lifetimes are sent in units of 4 s (RFC 6275 §6.1.7)");
        t.notes().push(draft);
        return Duration::from_secs(whole);
    }
    Duration::from_secs(seconds)
}

fn lma(t: &mut Table<'_>) -> Lma {
    let Routable(address) = t.required("address");
    let peers = t.tables("peer", |t| peer(t, ProxyCoa));
    let mags = names(t, "peer", peers.iter().map(|peer| &peer.name));
    Lma {
        address: Lmaa(address),
        lma_pool: members(t, &mags),
        pools: t.list("pools"),
        prefix_length: t.number("prefix_length", 64, 8..=128),
        prefixes_per_session: t.number("prefixes_per_session", 1, 1..=max_prefixes()),
        prefix_model: t.or("prefix_model", PrefixModel::Unique),
        any_mobile: t.or("any_mobile", true),
        max_lifetime: lifetime(t, "max_lifetime", 3600),
        mobile_timestamps: t.or("mobile_timestamps", false),
        timestamp_validity_window: t.millis("timestamp_validity_window_ms", 300, 1..=HOUR),
        min_delay_before_bce_delete: t.millis("min_delay_before_bce_delete_ms", 10_000, 0..=HOUR),
        max_delay_before_new_bce_assign: t.millis(
            "max_delay_before_new_bce_assign_ms",
            1500,
            0..=HOUR,
        ),
        fmi_retry: t.millis("fmi_retry_ms", 3000, 10..=60_000),
        fmi_retries: t.number("fmi_retries", 3, 0..=10),
        upn_retry: t.millis("upn_retry_ms", 1000, 500..=5000),
        upn_retries: t.number("upn_retries", 3, 0..=5),
        flow_lifetime: t.seconds_or_infinite("flow_lifetime", 4..=MAX_FLOW_LIFETIME),
        drain: t.millis("drain_ms", 1000, 0..=60_000),
        signal_hosted_moves: t.or("signal_hosted_moves", true),
        max_mobiles: t.number("max_mobiles", 100_000, 1..=16_000_000),
        max_sessions_per_mag: t.optional_number("max_sessions_per_mag", 1..=64_000_000),
        max_sessions_per_mobile: t.number("max_sessions_per_mobile", 4, 1..=4),
        max_flows_per_mobile: t.number("max_flows_per_mobile", 64, 1..=max_flows()),
        tunnel: t.section("tunnel", tunnel),
        heartbeat: t.section("heartbeat", heartbeat),
        mobiles: t.tables("mobile", |t| lma_mobile(t, &mags)),
        peers,
    }
}

/// The peers that are LMAs of one pool.
fn members(t: &mut Table<'_>, peers: &Names) -> Vec<usize> {
    let members = t.references("lma_pool", "peer", peers);
    members.into_iter().flatten().collect()
}

fn max_prefixes() -> u8 {
    u8::try_from(Hnp::MAX_PER_SESSION).unwrap_or(u8::MAX)
}

fn max_flows() -> u16 {
    u16::try_from(flow::Binding::MAX_RULES).unwrap_or(u16::MAX)
}

fn lma_mobile(t: &mut Table<'_>, mags: &Names) -> LmaMobile {
    LmaMobile {
        id: t.required("id"),
        prefixes: t.list("prefixes"),
        prefixes_per_session: t.optional_number("prefixes_per_session", 1..=max_prefixes()),
        prefix_model: t.optional("prefix_model"),
        mags: t
            .references("mags", "peer", mags)
            .into_iter()
            .flatten()
            .collect(),
        access_technologies: t.list("access_technologies"),
        service: t.or("service", true),
    }
}

fn mag(t: &mut Table<'_>, ports: &Names) -> Mag {
    let Routable(address) = t.required("address");
    if !t.has("access_ports") {
        t.missing("access_ports", "[\"wlan\"]");
    }
    let access_ports = t.references("access_ports", "port", ports);
    let access_ports: Vec<_> = access_ports.into_iter().map(port_id).collect();
    let LinkLocal(link_local) = t.or("link_local", LinkLocal(MacAddr::MAG.link_local()));
    let peers = t.tables("peer", |t| peer(t, Lmaa));
    let lmas = names(t, "peer", peers.iter().map(|peer| &peer.name));
    let lma_pool = members(t, &lmas);
    let only_port = match access_ports.as_slice() {
        [port] => Some(*port),
        _ => None,
    };
    Mag {
        address: ProxyCoa(address),
        access_ports,
        link_local,
        timestamps: t.or("timestamps", true),
        lifetime: lifetime(t, "lifetime", 300),
        ra_interval: t.millis("ra_interval_ms", 30_000, 200..=1_800_000),
        initial_bindack_timeout: t.millis("initial_bindack_timeout_ms", 1000, 100..=60_000),
        max_bindack_timeout: t.millis("max_bindack_timeout_ms", 32_000, 100..=HOUR),
        probe: t.or("probe", true),
        local_routing: t.or("local_routing", false),
        deregister_on_stop: t.or("deregister_on_stop", false),
        max_update_rate: t.number("max_update_rate", 3, 1..=100),
        max_prefixes: t.number("max_prefixes", 65_536, 8..=16_000_000),
        tunnel: t.section("tunnel", tunnel),
        heartbeat: t.section("heartbeat", heartbeat),
        mobiles: t.tables("mobile", |t| {
            mag_mobile(t, ports, only_port, &lmas, lma_pool.first().copied())
        }),
        lma_pool,
        peers,
    }
}

fn mag_mobile(
    t: &mut Table<'_>,
    ports: &Names,
    only_port: Option<PortId>,
    lmas: &Names,
    first: Option<usize>,
) -> MagMobile {
    let id = t.required("id");
    let link_layer = t.required("link_layer");
    let access_technology = t.required("access_technology");
    let port = match only_port {
        Some(only) => t
            .reference("port", "port", ports)
            .map_or(only, |i| port_id(Some(i))),
        None => port_id(t.required_reference("port", "port", ports)),
    };
    let lma = if lmas.names.len() > 1 && first.is_none() {
        t.required_reference("lma", "peer", lmas)
    } else {
        t.reference("lma", "peer", lmas)
    };
    MagMobile {
        id,
        link_layer,
        access_technology,
        port,
        handoff: t.or("handoff", Handoff::New),
        share_prefixes: t.or("share_prefixes", false),
        lma: lma.or(first).unwrap_or(0),
        attach: t.or("attach", Attach::Automatic),
    }
}

fn mn(t: &mut Table<'_>) -> Mn {
    Mn {
        interface: t.required("interface"),
        interface_id: t.required("interface_id"),
        accesses: t.tables("access", |t| MnAccess {
            name: t.required("name"),
            interface: t.required("interface"),
        }),
    }
}
