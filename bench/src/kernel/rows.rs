//! What was found: as rows of the report and as a table.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde::{Deserialize, Serialize};

use super::Forwarder;
use super::stretch::Stretch;
use crate::case::Case;
use crate::report::{median, rounded};

/// One forwarder at one size; medians of the rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Who.
    forwarder: Forwarder,
    /// Octets of a mobile's packet with its Ethernet header.
    packet_bytes: u16,
    /// Prefixes that it knows.
    routes_or_bindings: u32,
    /// Rules of each.
    rules: u16,
    /// Packets sent in a second.
    offered_pps: f64,
    /// Packets that arrived in a second.
    delivered_pps: f64,
    /// Packets that never arrived.
    loss_percent: f64,
    /// Sending, forwarding and dropping at the sink: the forwarder's core and the sender's calls.
    cpu_ns_per_packet: f64,
    /// The forwarder's core was busy.
    core_ns_per_packet: f64,
    /// What of that the worker's thread was; Linux has none of its own.
    worker_ns_per_packet: Option<f64>,
    /// Packets that the worker found at once: while they are few, system calls are most of its time.
    packets_per_turn: Option<f64>,
    /// What others had of both cores.
    others_percent: f64,
    /// The sender's calls, with what is done in them for the forwarder.
    sender_ns_per_packet: f64,
    /// What they take when the next host drops the packet.
    sender_alone_ns_per_packet: f64,
    /// Whatever any core of the machine did.
    busy_cpu_ns_per_packet: f64,
    /// How much of the time the sender's calls took: near 100 it held the forwarder up.
    sender_busy_percent: f64,
    /// The rounds.
    rounds: Vec<Stretch>,
}

/// A row of its rounds.
pub(super) fn row(forwarder: Forwarder, case: &Case, rounds: Vec<Stretch>) -> Row {
    let of_some = |value: fn(&Stretch) -> Option<f64>, digits| {
        let values: Vec<f64> = rounds.iter().filter_map(value).collect();
        (!values.is_empty()).then(|| rounded(median(&values), digits))
    };
    let of = |value: fn(&Stretch) -> f64, digits| {
        let values: Vec<f64> = rounds.iter().map(value).collect();
        rounded(median(&values), digits)
    };
    Row {
        forwarder,
        packet_bytes: case.size.mean(),
        routes_or_bindings: case.bindings,
        rules: if forwarder == Forwarder::LinuxSeg6 {
            0
        } else {
            case.rules
        },
        offered_pps: of(|s| s.offered_pps, 0),
        delivered_pps: of(|s| s.delivered_pps, 0),
        loss_percent: of(|s| s.loss_percent, 4),
        cpu_ns_per_packet: of(|s| s.core_ns + s.sender_ns, 0),
        core_ns_per_packet: of(|s| s.core_ns, 0),
        worker_ns_per_packet: of_some(|s| s.worker_ns, 0),
        packets_per_turn: of_some(|s| s.burst, 1),
        others_percent: of(|s| s.others_percent, 1),
        sender_ns_per_packet: of(|s| s.sender_ns, 0),
        sender_alone_ns_per_packet: of(|s| s.sender_alone_ns, 0),
        busy_cpu_ns_per_packet: of(|s| s.busy_ns, 0),
        sender_busy_percent: of(|s| s.sender_percent, 0),
        rounds,
    }
}

/// The table for the terminal, and below it what is missing.
#[expect(clippy::print_stdout, reason = "the report is what it is for")]
pub(crate) fn print(rows: &[Row], left_out: &[String]) {
    if !rows.is_empty() {
        println!("{}", table(rows));
    }
    for row in rows.iter().filter(|row| row.others_percent > 5.0) {
        println!(
            "disturbed: {}, {} octets: others had {:.0} % of a core",
            row.forwarder, row.packet_bytes, row.others_percent
        );
    }
    for line in left_out {
        println!("left out: {line}");
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "forwarder",
        "octets",
        "prefixes",
        "rules",
        "kpps",
        "least",
        "most",
        "loss %",
        "cpu ns",
        "core ns",
        "worker ns",
        "packets a turn",
        "sender ns",
        "alone ns",
        "all cores ns",
        "sender busy %",
    ]);
    for row in rows {
        let rates = row.rounds.iter().map(|round| round.delivered_pps / 1e3);
        let least = rates.clone().fold(f64::INFINITY, f64::min);
        let most = rates.fold(0.0, f64::max);
        table.add_row([
            row.forwarder.to_string(),
            row.packet_bytes.to_string(),
            row.routes_or_bindings.to_string(),
            row.rules.to_string(),
            format!("{:.0}", row.delivered_pps / 1e3),
            format!("{least:.0}"),
            format!("{most:.0}"),
            format!("{:.3}", row.loss_percent),
            format!("{:.0}", row.cpu_ns_per_packet),
            format!("{:.0}", row.core_ns_per_packet),
            row.worker_ns_per_packet
                .map_or("-".into(), |ns| format!("{ns:.0}")),
            row.packets_per_turn
                .map_or("-".into(), |n| format!("{n:.1}")),
            format!("{:.0}", row.sender_ns_per_packet),
            format!("{:.0}", row.sender_alone_ns_per_packet),
            format!("{:.0}", row.busy_cpu_ns_per_packet),
            format!("{:.0}", row.sender_busy_percent),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
