//! The tables of `flowmob show`, and the other commands that speak to a process.

mod config;
mod events;
mod explain;
mod log;
mod watch;

use std::fmt::Display;
use std::time::Duration;

use anyhow::Context;
use comfy_table::{CellAlignment, Table, presets};
use flow::Path;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::mobiles::MobileRow;
use crate::api::{
    Attach, BindingRow, Done, Drain, Drained, DropRow, FlowAdd, FlowAdded, FlowDelete, FlowMove,
    FlowMoved, FlowRow, Handoff, PathRow, PeerRow, PortRow, Reregister, Revoke, RouteRow, Service,
    Status, WorkerRow,
};
use crate::cli::{Flow, FlowAddArgs, Mobile, ReregisterArgs, RevokeArgs, Show, Switch};
use crate::client::Client;
#[cfg(feature = "dpdk")]
use crate::doctor::Finding;
use crate::mn::status as mn;

pub(crate) use config::{config, reload};
pub(crate) use events::events;
pub(crate) use explain::explain;
pub(crate) use log::log;
pub(crate) use watch::watch;

/// Runs `flowmob show`, returning what to print.
///
/// # Errors
/// If the process does not answer.
pub(crate) fn show(client: &Client, what: Show, json: bool) -> anyhow::Result<String> {
    let value = ask(client, what)?;
    if json {
        return Ok(serde_json::to_string_pretty(&value)?);
    }
    shown(what, value)
}

/// Asks for what is to be shown.
fn ask(client: &Client, what: Show) -> anyhow::Result<Value> {
    let resource = match what {
        Show::Bindings => "bindings",
        Show::Mobiles => "mobiles",
        Show::Flows => "flows",
        Show::Paths => "paths",
        Show::Routes => "routes",
        Show::Peers => "peers",
        Show::Ports => "ports",
        Show::Workers => "workers",
        Show::Drops => "drops",
        Show::Mn => "mn",
        Show::Status => "status",
    };
    client.get(&format!("/v1/{resource}"))
}

fn shown(what: Show, value: Value) -> anyhow::Result<String> {
    match what {
        Show::Bindings => table(value, &BINDINGS),
        Show::Mobiles => table(value, &MOBILES),
        Show::Flows => table(value, &FLOWS),
        Show::Paths => table(value, &PATHS),
        Show::Routes => table(value, &ROUTES),
        Show::Peers => table(value, &PEERS),
        Show::Ports => table(value, &PORTS),
        Show::Workers => table(value, &WORKERS),
        Show::Drops => table(value, &DROPS),
        Show::Mn => mobile_node(&value),
        Show::Status => status(value),
    }
}

/// A column: its head, whether it is a number, and its text for a row.
type Column<R> = (&'static str, bool, fn(&R) -> String);

const BINDINGS: [Column<BindingRow>; 10] = [
    ("ROLE", false, |r| r.role.to_string()),
    ("MN", false, |r| r.mn.to_string()),
    ("BID", true, |r| optional(r.bid)),
    ("ATT", false, |r| r.access_technology.clone()),
    ("LINK LAYER", false, |r| optional(r.link_layer.as_ref())),
    ("PREFIXES", false, |r| lines(&r.prefixes)),
    ("GRANTED", false, |r| lines(&r.granted)),
    ("PEER", false, |r| format!("{} {}", r.peer, r.peer_address)),
    ("STATE", false, |r| r.state.clone()),
    ("LEFT", true, |r| format!("{} s", r.remaining_seconds)),
];

const MOBILES: [Column<MobileRow>; 8] = [
    ("ROLE", false, |r| r.role.to_string()),
    ("MN", false, |r| r.mn.to_string()),
    ("ACCESSES", true, |r| r.accesses.to_string()),
    ("FLOWS", true, |r| r.flows.to_string()),
    ("DOWN PACKETS", true, |r| {
        optional(r.traffic.map(|t| t.downlink_packets))
    }),
    ("DOWN OCTETS", true, |r| {
        optional(r.traffic.map(|t| t.downlink_octets))
    }),
    ("UP PACKETS", true, |r| {
        optional(r.traffic.map(|t| t.uplink_packets))
    }),
    ("UP OCTETS", true, |r| {
        optional(r.traffic.map(|t| t.uplink_octets))
    }),
];

const FLOWS: [Column<FlowRow>; 9] = [
    ("ROLE", false, |r| r.role.to_string()),
    ("MN", false, |r| r.mn.to_string()),
    ("FID", true, |r| optional(r.fid)),
    ("PRIORITY", true, |r| optional(r.priority)),
    ("SELECTOR", false, |r| r.selector_text.clone()),
    ("BID", true, |r| optional(r.bid)),
    ("VIA", false, |r| optional(r.via.as_ref())),
    ("STATE", false, |r| r.state.clone()),
    ("PACKETS", true, |r| r.packets.to_string()),
];

const PATHS: [Column<PathRow>; 9] = [
    ("ROLE", false, |r| r.role.to_string()),
    ("ID", true, |r| r.id.to_string()),
    ("KIND", false, |r| match r.path {
        Path::Tunnel(_) => "tunnel".to_owned(),
        Path::Link(_) => "link".to_owned(),
    }),
    ("ENDS", false, |r| match r.path {
        Path::Tunnel(t) => format!("{} > {}", t.local, t.remote),
        Path::Link(l) => format!("port {} > {}", l.port, l.mac),
    }),
    ("PATH MTU", true, |r| match (r.path, r.learned_mtu) {
        (Path::Tunnel(t), Some(learned)) if learned < t.path_mtu => format!("{learned} (learned)"),
        (Path::Tunnel(t), _) => t.path_mtu.to_string(),
        (Path::Link(_), _) => "-".to_owned(),
    }),
    ("OUT PACKETS", true, |r| r.counters.out_packets.to_string()),
    ("OUT OCTETS", true, |r| r.counters.out_octets.to_string()),
    ("IN PACKETS", true, |r| r.counters.in_packets.to_string()),
    ("IN OCTETS", true, |r| r.counters.in_octets.to_string()),
];

const ROUTES: [Column<RouteRow>; 6] = [
    ("ROLE", false, |r| {
        r.role
            .map_or_else(|| "static".to_owned(), |role| role.to_string())
    }),
    ("PREFIX", false, |r| r.prefix.clone()),
    ("MN", false, |r| optional(r.mn.as_ref())),
    ("NEXT", false, |r| r.next.clone()),
    ("UPLINK", false, |r| optional(r.uplink.as_ref())),
    ("LOCAL", false, |r| {
        if r.local { "yes" } else { "-" }.to_owned()
    }),
];

const PEERS: [Column<PeerRow>; 11] = [
    ("ROLE", false, |r| r.role.to_string()),
    ("PEER", false, |r| r.name.clone()),
    ("ADDRESS", false, |r| r.address.to_string()),
    ("SIGNALLING", false, |r| r.signalling.clone()),
    ("PROTECTION", false, |r| r.protection.clone()),
    ("SENT SPI", false, |r| spi(r.sent_spi)),
    ("HEARD SPI", false, |r| spi(r.heard_spi)),
    ("SESSIONS", true, |r| r.sessions.to_string()),
    ("STATE", false, |r| r.state.clone()),
    ("MISSING", true, |r| r.missing.to_string()),
    ("RESTART COUNTER", true, |r| optional(r.restart_counter)),
];

const PORTS: [Column<PortRow>; 10] = [
    ("PORT", false, |r| r.name.clone()),
    ("DEVICE", false, |r| r.device.clone()),
    ("MAC", false, |r| r.mac.to_string()),
    ("MTU", true, |r| r.mtu.to_string()),
    ("SIDE", false, |r| {
        if r.access { "access" } else { "network" }.to_owned()
    }),
    ("RX PACKETS", true, |r| r.rx_packets.to_string()),
    ("RX OCTETS", true, |r| r.rx_octets.to_string()),
    ("TX PACKETS", true, |r| r.tx_packets.to_string()),
    ("TX OCTETS", true, |r| r.tx_octets.to_string()),
    ("RX MISSED", true, |r| r.rx_missed.to_string()),
];

const WORKERS: [Column<WorkerRow>; 13] = [
    ("WORKER", true, |r| r.id.to_string()),
    ("CORE", true, |r| optional(r.core)),
    ("BUSY", true, |r| percent(r.busy_turns, r.turns)),
    ("RX PACKETS", true, |r| r.rx_packets.to_string()),
    ("TX PACKETS", true, |r| r.tx_packets.to_string()),
    ("DROPS", true, |r| r.drops.to_string()),
    ("PUNTED", true, |r| r.punted.to_string()),
    ("HANDED", true, |r| r.handed_over.to_string()),
    ("TAKEN", true, |r| r.taken_over.to_string()),
    ("FRAGMENTED", true, |r| r.fragmented.to_string()),
    ("REASSEMBLED", true, |r| r.reassembled.to_string()),
    ("EARLY", true, |r| r.early_fragments.to_string()),
    ("UPDATES", true, |r| r.updates.to_string()),
];

const DROPS: [Column<DropRow>; 4] = [
    ("PLANE", false, |r| r.plane.clone()),
    ("REASON", false, |r| r.reason.clone()),
    ("PACKETS", true, |r| r.packets.to_string()),
    ("MEANING", false, |r| r.meaning.clone()),
];

fn table<R: DeserializeOwned>(rows: Value, columns: &[Column<R>]) -> anyhow::Result<String> {
    let rows: Vec<R> = serde_json::from_value(rows)
        .context("the process speaks another version of the API than this command")?;
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(columns.iter().map(|(head, ..)| *head));
    for (column, (_, number, _)) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2));
        if *number {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for row in &rows {
        table.add_row(columns.iter().map(|(.., text)| text(row)));
    }
    let none = if rows.is_empty() { "\n(none)" } else { "" };
    Ok(table.trim_fmt() + none)
}

fn status(value: Value) -> anyhow::Result<String> {
    let status: Status = serde_json::from_value(value)?;
    let draining = match status.sessions {
        Some(sessions) if status.draining => format!(", {}", load(true, sessions)),
        Some(_) | None => String::new(),
    };
    Ok(format!(
        "{} ({}) version {}: {}, {} workers, up {} s{draining}",
        status.name,
        status.roles.join(" and "),
        status.version,
        match (status.ready, status.leads) {
            (false, _) => "not ready",
            (true, None) => "ready",
            (true, Some(true)) => "leads",
            (true, Some(false)) => "stands by",
        },
        status.workers,
        status.uptime_seconds,
    ))
}

const MN_ACCESSES: [Column<mn::AccessRow>; 7] = [
    ("ACCESS", false, |r| r.name.clone()),
    ("INTERFACE", false, |r| r.interface.clone()),
    ("MAC", false, |r| optional(r.mac)),
    ("LINK", false, |r| {
        if r.up { "up" } else { "down" }.to_owned()
    }),
    ("ROUTER", false, |r| optional(r.router)),
    ("RX PACKETS", true, |r| r.rx_packets.to_string()),
    ("TX PACKETS", true, |r| r.tx_packets.to_string()),
];

const MN_PREFIXES: [Column<mn::PrefixRow>; 3] = [
    ("PREFIX", false, |r| r.prefix.to_string()),
    ("ADDRESS", false, |r| r.address.to_string()),
    ("ADVERTISED ON", false, |r| r.accesses.join(", ")),
];

const MN_FLOWS: [Column<mn::FlowRow>; 7] = [
    ("SOURCE", false, |r| r.source.to_string()),
    ("DESTINATION", false, |r| r.destination.to_string()),
    ("PROTOCOL", true, |r| r.protocol.to_string()),
    ("PORTS", false, |r| {
        optional(r.ports.map(|(from, to)| format!("{from} > {to}")))
    }),
    ("ACCESS", false, |r| r.access.clone()),
    ("DOWNLINK", true, |r| r.downlink_packets.to_string()),
    ("UPLINK", true, |r| r.uplink_packets.to_string()),
];

fn mobile_node(value: &Value) -> anyhow::Result<String> {
    let part = |name: &str| value.get(name).cloned().unwrap_or(Value::Null);
    Ok([
        table(part("accesses"), &MN_ACCESSES)?,
        table(part("prefixes"), &MN_PREFIXES)?,
        table(part("flows"), &MN_FLOWS)?,
    ]
    .join("\n\n"))
}

fn optional<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}

fn lines<T: Display>(values: &[T]) -> String {
    let texts: Vec<_> = values.iter().map(ToString::to_string).collect();
    if texts.is_empty() {
        "-".to_owned()
    } else {
        texts.join("\n")
    }
}

/// A share in whole per cent.
fn percent(part: u64, whole: u64) -> String {
    let share = u128::from(part) * 100 / u128::from(whole.max(1));
    format!("{share} %")
}

/// The table of `flowmob doctor`.
///
/// # Errors
/// None: findings are made here.
#[cfg(feature = "dpdk")]
pub(crate) fn findings(findings: &[Finding]) -> anyhow::Result<String> {
    const COLUMNS: [Column<Finding>; 3] = [
        ("STATE", false, |f| f.state.to_string()),
        ("CHECK", false, |f| f.check.clone()),
        ("FOUND", false, |f| match &f.fix {
            Some(fix) => format!("{}\nfix: {fix}", f.found),
            None => f.found.clone(),
        }),
    ];
    table(json!(findings), &COLUMNS)
}

/// Runs `flowmob flow ...`, returning what to print.
///
/// # Errors
/// If the process does not answer or refuses.
pub(crate) fn flow(client: &Client, command: Flow) -> anyhow::Result<String> {
    match command {
        Flow::Add(arguments) => {
            let request = flow_add(*arguments);
            let answer = client.post("/v1/flows", &json!(request))?;
            let added: FlowAdded = serde_json::from_value(answer)?;
            Ok(format!(
                "flow {} of {} added on access {}",
                added.fid, request.mn, request.bid
            ))
        }
        Flow::Move { mn, fid, to } => {
            let request = json!(FlowMove {
                mn: mn.clone(),
                fid,
                bid: to
            });
            let moved: FlowMoved =
                serde_json::from_value(client.post("/v1/flows/move", &request)?)?;
            Ok(moved.text(&mn))
        }
        Flow::Del { mn, fid } => done(client, "/v1/flows/delete", &json!(FlowDelete { mn, fid })),
    }
}

/// Runs `flowmob keys reload`, returning what to print.
///
/// # Errors
/// If the process does not answer, or something is wrong with the keys.
#[cfg(feature = "dpdk")]
pub(crate) fn reload_keys(client: &Client) -> anyhow::Result<String> {
    done(client, "/v1/keys/reload", &json!(crate::api::KeysReload {}))
}

/// Runs `flowmob attach` or `detach`, returning what to print.
///
/// # Errors
/// If the process does not answer or refuses.
pub(crate) fn mobile(
    client: &Client,
    verb: &str,
    mobile: Mobile,
    handoff: Option<Handoff>,
) -> anyhow::Result<String> {
    let request = json!(Attach {
        mn: mobile.mn,
        port: mobile.port,
        handoff
    });
    done(client, &format!("/v1/{verb}"), &request)
}

/// Runs `flowmob revoke`, returning what to print.
///
/// # Errors
/// If the process does not answer or refuses.
pub(crate) fn revoke(client: &Client, request: RevokeArgs) -> anyhow::Result<String> {
    let RevokeArgs { mn, bid, mag } = request;
    done(client, "/v1/revoke", &json!(Revoke { mn, bid, mag }))
}

/// Runs `flowmob reregister`, returning what to print.
///
/// # Errors
/// If the process does not answer or refuses.
pub(crate) fn reregister(client: &Client, request: ReregisterArgs) -> anyhow::Result<String> {
    let ReregisterArgs { mn, bid, mag } = request;
    let request = json!(Reregister { mn, bid, mag });
    done(client, "/v1/reregister", &request)
}

/// Runs `flowmob service`, returning what to print.
///
/// # Errors
/// If the process does not answer or refuses.
pub(crate) fn service(client: &Client, mn: String, switch: Switch) -> anyhow::Result<String> {
    let on = match switch {
        Switch::On => true,
        Switch::Off => false,
    };
    done(client, "/v1/service", &json!(Service { mn, on }))
}

/// Runs `flowmob drain`, returning what to print.
///
/// # Errors
/// If the process does not answer or refuses.
pub(crate) fn drain(client: &Client, on: bool) -> anyhow::Result<String> {
    let answer = client.post("/v1/drain", &json!(Drain { on }))?;
    let Drained { draining, sessions } = serde_json::from_value(answer)?;
    Ok(load(draining, sessions))
}

/// Waits until an LMA that drains has no sessions, returning what to print.
///
/// # Errors
/// If the process does not answer, or takes mobiles again.
pub(crate) fn drained(client: &Client) -> anyhow::Result<String> {
    loop {
        let status: Status = serde_json::from_value(client.get("/v1/status")?)?;
        anyhow::ensure!(status.draining, "somebody has it take new mobiles again");
        if status.sessions == Some(0) {
            return Ok("empty".to_owned());
        }
        std::thread::sleep(LOOK);
    }
}

/// Time between two looks at an LMA that is to be empty.
const LOOK: Duration = Duration::from_millis(500);

fn load(draining: bool, sessions: usize) -> String {
    let sessions = match sessions {
        1 => "1 session".to_owned(),
        many => format!("{many} sessions"),
    };
    if draining {
        format!("draining, {sessions} left")
    } else {
        format!("takes new mobiles, {sessions}")
    }
}

/// The index of a security association.
fn spi(spi: Option<u32>) -> String {
    optional(spi.map(|spi| format!("{spi:#010x}")))
}

fn done(client: &Client, path: &str, request: &Value) -> anyhow::Result<String> {
    let done: Done = serde_json::from_value(client.post(path, request)?)?;
    Ok(done.done)
}

fn flow_add(arguments: FlowAddArgs) -> FlowAdd {
    FlowAdd {
        mn: arguments.mn,
        bid: arguments.bid,
        fid: arguments.fid,
        priority: arguments.priority,
        src: arguments.src,
        dst: arguments.dst,
        proto: arguments.proto,
        sport: arguments.sport,
        dport: arguments.dport,
        flow_label: arguments.flow_label,
        tc: arguments.tc,
        spi: arguments.spi,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_plain_text_with_aligned_numbers() {
        let rows = json!([
            {"plane": "data-plane", "reason": "hop-limit", "packets": 7, "meaning": "Ran out."},
            {"plane": "signalling", "reason": "checksum", "packets": 1234, "meaning": "Wrong."},
        ]);
        let text = table(rows, &DROPS).unwrap();
        assert_eq!(
            text,
            "PLANE       REASON     PACKETS  MEANING\n\
             data-plane  hop-limit        7  Ran out.\n\
             signalling  checksum      1234  Wrong."
        );
        assert!(table(json!([]), &DROPS).unwrap().ends_with("(none)"));
        assert!(table(json!([{"other": 1}]), &DROPS).is_err());
    }
}
