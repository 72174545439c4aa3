//! A configuration as a file says it, with nothing left to defaults.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use flow::PortId;
use toml::{Table, Value};

use crate::device::Device;
use crate::roles::{
    Heartbeat, Lma, LmaMobile, Mag, MagMobile, Mn, MnAccess, Peer, Protection, TunnelOptions,
};
use crate::schema::{Config, Log, Management, Port, Process, Route, Tls, User};

impl Config {
    /// The configuration in the words of its file. [`parse`](crate::parse) makes the same of it, but for
    /// paths that were relative.
    pub fn to_table(&self) -> Table {
        let port = |id: PortId| self.port(id).map(|port| text(&port.name));
        table([
            ("name", Some(text(&self.name))),
            ("process", Some(process(&self.process))),
            ("management", Some(management(&self.management))),
            ("log", Some(log(&self.log))),
            ("port", list(self.ports.iter().map(self::port))),
            (
                "route",
                list(self.routes.iter().map(|r| route(r, port(r.port)))),
            ),
            ("lma", self.lma.as_ref().map(lma)),
            ("mag", self.mag.as_ref().map(|m| mag(m, &port))),
            ("mn", self.mn.as_ref().map(mn)),
        ])
    }
}

fn tls(tls: &Tls) -> Value {
    let path = |path: &Path| Some(text(path.display()));
    let own = tls.identity.as_ref();
    Value::Table(table([
        ("ca", path(&tls.ca)),
        ("certificate", own.and_then(|own| path(&own.certificate))),
        ("key", own.and_then(|own| path(&own.key))),
    ]))
}

fn process(process: &Process) -> Value {
    let fragments = &process.fragments;
    let fragments = table([
        ("packets", Some(number(fragments.packets))),
        ("held", Some(number(fragments.held))),
        ("remembered", Some(number(fragments.remembered))),
        ("time_ms", millis(fragments.time)),
    ]);
    let pair = table([
        ("address", process.pair.address.map(text)),
        ("addresses", list(process.pair.addresses.iter().map(text))),
        ("lease", seconds(process.pair.lease)),
        ("tls", process.pair.tls.as_ref().map(tls)),
    ]);
    let directory = process.state_directory.as_ref();
    let user = process.user.as_ref().map(|user| match user {
        User::Name(name) => text(name),
        User::Id(id) => number(*id),
    });
    Value::Table(table([
        ("user", user),
        ("seccomp", Some(text(process.seccomp))),
        ("memory", Some(text(process.memory))),
        ("memory_mib", Some(number(process.memory_mib))),
        ("workers", Some(number(process.workers))),
        (
            "cores",
            list(process.cores.iter().map(|core| i64::from(*core).into())),
        ),
        ("control_core", process.control_core.map(number)),
        ("idle", Some(text(process.idle))),
        ("spread", Some(text(process.spread))),
        (
            "state_directory",
            directory.map(|path| text(path.display())),
        ),
        ("durability", Some(text(process.durability))),
        ("store", Some(text(&process.store))),
        ("pair", Some(Value::Table(pair))),
        ("path_mtu_lifetime", seconds(process.path_mtu_lifetime)),
        ("recorded_turns", Some(number(process.recorded_turns))),
        ("fragments", Some(Value::Table(fragments))),
    ]))
}

fn management(management: &Management) -> Value {
    let token_file = management.token_file.as_ref();
    Value::Table(table([
        ("socket", Some(text(management.socket.display()))),
        ("tcp", management.tcp.map(text)),
        ("token_file", token_file.map(|path| text(path.display()))),
    ]))
}

fn log(log: &Log) -> Value {
    Value::Table(table([
        ("level", Some(text(log.level))),
        ("format", Some(text(log.format))),
        ("addresses", Some(Value::Boolean(log.addresses))),
    ]))
}

fn port(port: &Port) -> Value {
    let device = if let Device::Vdev { .. } = port.device {
        "vdev"
    } else {
        "device"
    };
    Value::Table(table([
        ("name", Some(text(&port.name))),
        (device, Some(text(&port.device))),
        ("mac", port.mac.map(text)),
        ("mtu", Some(number(port.mtu))),
        ("addresses", list(port.addresses.iter().map(text))),
    ]))
}

fn route(route: &Route, port: Option<Value>) -> Value {
    Value::Table(table([
        ("to", Some(text(route.to))),
        ("via", route.via.map(text)),
        ("port", port),
    ]))
}

fn peer<A: Display>(peer: &Peer<A>) -> Value {
    let (protection, keys) = match &peer.protection {
        Protection::Esp { keys } => ("esp", Some(text(keys.display()))),
        Protection::None => ("none", None),
    };
    Value::Table(table([
        ("name", Some(text(&peer.name))),
        ("address", Some(text(&peer.address))),
        ("signalling", Some(text(peer.signalling))),
        ("protection", Some(text(protection))),
        ("keys", keys),
    ]))
}

fn tunnel(options: &TunnelOptions) -> Value {
    Value::Table(table([
        ("hop_limit", Some(number(options.hop_limit))),
        ("copy_dscp", Some(options.copy_dscp.into())),
        ("path_mtu", options.path_mtu.map(number)),
        (
            "encapsulation_limit",
            options.encapsulation_limit.map(number),
        ),
    ]))
}

fn heartbeat(heartbeat: &Heartbeat) -> Value {
    Value::Table(table([
        ("enabled", Some(heartbeat.enabled.into())),
        ("interval_ms", millis(heartbeat.interval)),
        ("missing_allowed", Some(number(heartbeat.missing_allowed))),
    ]))
}

fn lma(lma: &Lma) -> Value {
    let (window, least, most) = (
        lma.timestamp_validity_window,
        lma.min_delay_before_bce_delete,
        lma.max_delay_before_new_bce_assign,
    );
    let flow_lifetime = lma
        .flow_lifetime
        .map_or_else(|| Some(text("infinite")), seconds);
    Value::Table(table([
        ("address", Some(text(lma.address))),
        ("lma_pool", members(&lma.lma_pool, &lma.peers)),
        ("pools", list(lma.pools.iter().map(text))),
        ("prefix_length", Some(number(lma.prefix_length))),
        (
            "prefixes_per_session",
            Some(number(lma.prefixes_per_session)),
        ),
        ("prefix_model", Some(text(lma.prefix_model))),
        ("any_mobile", Some(lma.any_mobile.into())),
        ("max_lifetime", seconds(lma.max_lifetime)),
        ("mobile_timestamps", Some(lma.mobile_timestamps.into())),
        ("timestamp_validity_window_ms", millis(window)),
        ("min_delay_before_bce_delete_ms", millis(least)),
        ("max_delay_before_new_bce_assign_ms", millis(most)),
        ("fmi_retry_ms", millis(lma.fmi_retry)),
        ("fmi_retries", Some(number(lma.fmi_retries))),
        ("upn_retry_ms", millis(lma.upn_retry)),
        ("upn_retries", Some(number(lma.upn_retries))),
        ("flow_lifetime", flow_lifetime),
        ("drain_ms", millis(lma.drain)),
        ("signal_hosted_moves", Some(lma.signal_hosted_moves.into())),
        ("max_mobiles", Some(number(lma.max_mobiles))),
        ("max_sessions_per_mag", lma.max_sessions_per_mag.map(number)),
        (
            "max_sessions_per_mobile",
            Some(number(lma.max_sessions_per_mobile)),
        ),
        (
            "max_flows_per_mobile",
            Some(number(lma.max_flows_per_mobile)),
        ),
        ("tunnel", Some(tunnel(&lma.tunnel))),
        ("heartbeat", Some(heartbeat(&lma.heartbeat))),
        ("peer", list(lma.peers.iter().map(peer))),
        (
            "mobile",
            list(lma.mobiles.iter().map(|mobile| lma_mobile(mobile, lma))),
        ),
    ]))
}

/// The names of peers that are LMAs of one pool.
fn members<A>(members: &[usize], peers: &[Peer<A>]) -> Option<Value> {
    let peers = members.iter().filter_map(|index| peers.get(*index));
    list(peers.map(|peer| text(&peer.name)))
}

fn lma_mobile(mobile: &LmaMobile, lma: &Lma) -> Value {
    let mags = mobile.mags.iter().filter_map(|index| lma.peers.get(*index));
    Value::Table(table([
        ("id", Some(text(&mobile.id))),
        ("prefixes", list(mobile.prefixes.iter().map(text))),
        (
            "prefixes_per_session",
            mobile.prefixes_per_session.map(number),
        ),
        ("prefix_model", mobile.prefix_model.map(text)),
        ("mags", list(mags.map(|peer| text(&peer.name)))),
        (
            "access_technologies",
            list(mobile.access_technologies.iter().map(text)),
        ),
        ("service", Some(mobile.service.into())),
    ]))
}

fn mag(mag: &Mag, port: &impl Fn(PortId) -> Option<Value>) -> Value {
    Value::Table(table([
        ("address", Some(text(mag.address))),
        (
            "access_ports",
            list(mag.access_ports.iter().filter_map(|id| port(*id))),
        ),
        ("lma_pool", members(&mag.lma_pool, &mag.peers)),
        ("link_local", Some(text(mag.link_local))),
        ("timestamps", Some(mag.timestamps.into())),
        ("lifetime", seconds(mag.lifetime)),
        ("ra_interval_ms", millis(mag.ra_interval)),
        (
            "initial_bindack_timeout_ms",
            millis(mag.initial_bindack_timeout),
        ),
        ("max_bindack_timeout_ms", millis(mag.max_bindack_timeout)),
        ("probe", Some(mag.probe.into())),
        ("local_routing", Some(mag.local_routing.into())),
        ("deregister_on_stop", Some(mag.deregister_on_stop.into())),
        ("max_update_rate", Some(number(mag.max_update_rate))),
        ("max_prefixes", Some(number(mag.max_prefixes))),
        ("tunnel", Some(tunnel(&mag.tunnel))),
        ("heartbeat", Some(heartbeat(&mag.heartbeat))),
        ("peer", list(mag.peers.iter().map(peer))),
        (
            "mobile",
            list(mag.mobiles.iter().map(|m| mag_mobile(m, mag, port(m.port)))),
        ),
    ]))
}

fn mag_mobile(mobile: &MagMobile, mag: &Mag, port: Option<Value>) -> Value {
    let lma = mag.peers.get(mobile.lma);
    Value::Table(table([
        ("id", Some(text(&mobile.id))),
        ("link_layer", Some(text(mobile.link_layer))),
        ("access_technology", Some(text(mobile.access_technology))),
        ("port", port),
        ("handoff", Some(text(mobile.handoff))),
        ("share_prefixes", Some(mobile.share_prefixes.into())),
        ("lma", lma.map(|peer| text(&peer.name))),
        ("attach", Some(text(mobile.attach))),
    ]))
}

fn mn(mn: &Mn) -> Value {
    let access = |access: &MnAccess| {
        Value::Table(table([
            ("name", Some(text(&access.name))),
            ("interface", Some(text(&access.interface))),
        ]))
    };
    Value::Table(table([
        ("interface", Some(text(&mn.interface))),
        ("interface_id", Some(text(mn.interface_id))),
        ("access", list(mn.accesses.iter().map(access))),
    ]))
}

/// The keys that have a value.
fn table<const N: usize>(keys: [(&'static str, Option<Value>); N]) -> Table {
    let given = keys.into_iter();
    let given = given.filter_map(|(key, value)| Some((key.to_owned(), value?)));
    given.collect()
}

fn text(value: impl Display) -> Value {
    Value::String(value.to_string())
}

fn number(value: impl Into<i64>) -> Value {
    Value::Integer(value.into())
}

fn millis(time: Duration) -> Option<Value> {
    i64::try_from(time.as_millis()).ok().map(Value::Integer)
}

fn seconds(time: Duration) -> Option<Value> {
    i64::try_from(time.as_secs()).ok().map(Value::Integer)
}

/// A list; none if it is empty.
fn list(values: impl Iterator<Item = Value>) -> Option<Value> {
    let values: Vec<Value> = values.collect();
    (!values.is_empty()).then_some(Value::Array(values))
}

#[cfg(test)]
mod tests {
    use crate::{Config, parse};

    /// What a configuration says of itself reads as the same configuration.
    fn round_trip(name: &str, text: &str) {
        let config = parse(name, text).unwrap();
        let written = toml::to_string(&config.to_table()).unwrap();
        let again = parse("written", &written).unwrap_or_else(|e| panic!("{name}: {e}\n{written}"));
        let without_warnings = |config: Config| Config {
            warnings: Vec::new(),
            ..config
        };
        assert_eq!(
            without_warnings(again),
            without_warnings(config),
            "{written}"
        );
    }

    #[test]
    fn every_example_reads_as_it_is_written() {
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap() {
            let path = entry.unwrap().path();
            round_trip(
                &path.display().to_string(),
                &std::fs::read_to_string(&path).unwrap(),
            );
        }
    }

    #[test]
    fn what_the_examples_do_not_say_is_written_too() {
        let text = r#"
            [process]
            user = 998
            seccomp = "log"
            store = "etcd://a:1,[::1]:2/x/y"
            pair.address = "[::1]:3"
            pair.addresses = ["2001:db8::1"]
            pair.tls = { ca = "ca.pem", certificate = "lma.pem", key = "lma.key" }
            [[port]]
            name = "a"
            vdev = "net_null0,size=64"
            addresses = ["2001:db8::1/64"]
            [[port]]
            name = "b"
            device = "ring"
            [lma]
            address = "2001:db8::1"
            pools = ["2001:db8:100::/40"]
            flow_lifetime = 60
            lma_pool = ["l"]
            max_sessions_per_mag = 7
            [[lma.peer]]
            name = "m"
            address = "2001:db8::2"
            keys = "/k"
            [[lma.peer]]
            name = "l"
            address = "2001:db8::3"
            keys = "/k"
            [[lma.mobile]]
            id = "mn@x"
            mags = ["m"]
            prefix_model = "hybrid"
            access_technologies = ["wlan"]
            prefixes_per_session = 2
        "#;
        round_trip("text", text);
    }
}
