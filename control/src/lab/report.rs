//! A run's report for people.

use std::fmt::Write as _;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use flow::Hnp;

use super::analysis::{Direction, Flow, PerMag};
use super::moves::{Move, Packets};
use super::scenario::Report;
use super::tables::{Routes, Stage, Tables};
use super::topology::{Mag, Scenario};
use super::traffic::Outcome;

/// Columns of a report that goes to a file.
const WIDTH: u16 = 140;

/// The whole report.
pub(crate) fn render(report: &Report) -> String {
    let scenario = report.scenario;
    let mut out = format!("\nScenario \"{}\": {}\n", scenario.name(), scenario.title());
    let _ = writeln!(out, "Flow mobility by {}", report.dialect.title());
    let [one, two] = report.prefixes;
    let _ = match scenario {
        Scenario::Unique => writeln!(out, "pref1 = {one}, pref2 = {two}"),
        Scenario::Shared => writeln!(out, "pref1 = {one}"),
    };
    let sections = [
        ("Tables", state_table(report)),
        ("Signalling on the core link", signalling_table(report)),
        ("Flows", flow_table(report)),
        ("Packets per tunnel on the core link", tunnel_table(report)),
        ("Moves of flow Y", move_table(report)),
    ];
    for (title, table) in sections {
        let _ = write!(out, "\n{title}\n{table}\n");
    }
    out.push('\n');
    for criterion in &report.criteria {
        let mark = if criterion.passed { "ok  " } else { "FAIL" };
        let _ = writeln!(out, "  {mark}  {}: {}", criterion.name, criterion.evidence);
    }
    let name = format!("{}, {}", scenario.name(), report.dialect.name());
    let failed = report.criteria.iter().filter(|c| !c.passed).count();
    let _ = match failed {
        0 => writeln!(out, "\n{name}: passed"),
        _ => writeln!(out, "\n{name}: FAILED, {failed} criteria not met"),
    };
    out
}

/// Short names for this run's prefixes.
struct Names<'a>(&'a Report);

impl Names<'_> {
    fn prefix(&self, prefix: Hnp) -> String {
        let [one, two] = self.0.prefixes;
        match prefix {
            p if p == one => "pref1".to_owned(),
            p if p == two => "pref2".to_owned(),
            p => p.to_string(),
        }
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    // On a terminal the tables take its width.
    if !table.is_tty() {
        table.set_width(WIDTH);
    }
    table
}

fn state_table(report: &Report) -> Table {
    let mut out = table(STATE_COLUMNS);
    out.add_rows(state_rows(report));
    out
}

/// Of [`state_rows`].
pub(super) const STATE_COLUMNS: [&str; 5] = [
    "",
    "LMA: Binding Cache",
    "LMA: Flowmob State",
    "MAG1: Routing State",
    "MAG2: Routing State",
];

/// The tables at each stage: the LMA's two, and each gateway's.
pub(super) fn state_rows(report: &Report) -> Vec<[String; 5]> {
    let names = Names(report);
    let row = |(stage, tables): &(Stage, Tables)| {
        let [one, two] = Mag::ALL.map(|mag| mag_cell(tables, mag, &names));
        [
            stage.name().to_owned(),
            binding_cell(tables, &names),
            flow_cell(tables),
            one,
            two,
        ]
    };
    report.tables.iter().map(row).collect()
}

fn binding_cell(tables: &Tables, names: &Names<'_>) -> String {
    let lines = tables.bindings.iter().map(|b| {
        let own = b.prefixes.iter().map(|p| names.prefix(*p));
        let granted = b.granted.iter().map(|p| format!("({})", names.prefix(*p)));
        let prefixes: Vec<String> = own.chain(granted).collect();
        format!(
            "BID {}: MN1, {}, {}, {}",
            b.bid,
            b.access_technology,
            prefixes.join(" "),
            b.mag.to_uppercase()
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn flow_cell(tables: &Tables) -> String {
    let lines = tables.flows.iter().map(|f| {
        let flow = f.flow.map_or("?".to_owned(), |flow| format!("{flow:?}"));
        let mag = f.mag.as_deref().unwrap_or("none").to_uppercase();
        format!("MN1: flow {flow} -> {mag}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn mag_cell(tables: &Tables, mag: Mag, names: &Names<'_>) -> String {
    let Some(routes) = tables.routes.iter().find(|r| r.mag == mag) else {
        return String::new();
    };
    let Routes {
        prefixes,
        default_to_lma,
        ..
    } = routes;
    let mut lines: Vec<String> = prefixes
        .iter()
        .map(|p| format!("{}::/64 -> p2p link to MN1", names.prefix(*p)))
        .collect();
    if *default_to_lma {
        lines.push("default -> LMA".to_owned());
    }
    lines.join("\n")
}

fn signalling_table(report: &Report) -> Table {
    let mut out = table(["time", "from", "to", "message", "seq", "content"]);
    for heard in &report.signalling {
        let mag = heard.mag.title();
        let (from, to) = if heard.from_lma {
            ("LMA", mag)
        } else {
            (mag, "LMA")
        };
        let time = heard.time.saturating_sub(report.started);
        let sequence = heard.sequence.map_or(String::new(), |s| s.to_string());
        out.add_row([
            format!("{:.6} s", time.as_secs_f64()),
            from.to_owned(),
            to.to_owned(),
            heard.kind.name().to_owned(),
            sequence,
            heard.content.clone(),
        ]);
    }
    out
}

fn flow_table(report: &Report) -> Table {
    let mut out = table(FLOW_COLUMNS);
    for row in flow_rows(report) {
        let cells = row.into_iter().enumerate().map(|(column, text)| {
            let cell = Cell::new(text);
            match column {
                0 | 1 => cell,
                _ => cell.set_alignment(CellAlignment::Right),
            }
        });
        out.add_row(cells);
    }
    out
}

/// Of [`flow_rows`].
pub(super) const FLOW_COLUMNS: [&str; 10] = [
    "flow",
    "direction",
    "sent",
    "received",
    "lost",
    "duplicated",
    "reordered",
    "delay: median",
    "99 %",
    "longest",
];

/// What became of the packets of each flow and direction.
pub(super) fn flow_rows(report: &Report) -> Vec<[String; 10]> {
    let row = |outcome: &Outcome| {
        let a = &outcome.accounting;
        let [sent, received, lost, duplicated, reordered] =
            [a.sent, a.received, a.lost, a.duplicated, a.reordered].map(|n| n.to_string());
        let [median, most, max] =
            [a.delay_median_us, a.delay_p99_us, a.delay_max_us].map(|us| format!("{us} us"));
        let (flow, direction) = (format!("{:?}", outcome.flow), outcome.direction.name());
        [
            flow,
            direction.to_owned(),
            sent,
            received,
            lost,
            duplicated,
            reordered,
            median,
            most,
            max,
        ]
    };
    let mut rows: Vec<_> = report.flows.iter().map(row).collect();
    if let Ok((sent, received)) = &report.tcp {
        let mut row = <[String; 10]>::default();
        let known = [
            "Z".to_owned(),
            "TCP, octets".to_owned(),
            sent.octets.to_string(),
            received.octets.to_string(),
        ];
        for (cell, text) in row.iter_mut().zip(known) {
            *cell = text;
        }
        rows.push(row);
    }
    rows
}

fn tunnel_table(report: &Report) -> Table {
    let mut out = table(["flow", "direction", "before", "after", "back"]);
    let text = |p: PerMag| format!("MAG1 {}, MAG2 {}", p.mag1, p.mag2);
    let [there, back] = report.moves.as_slice() else {
        return out;
    };
    let find = |found: &Move, flow: Flow, direction: Direction| -> Option<Packets> {
        let mut all = found.packets.iter();
        all.find(|p| p.flow == flow && p.direction == direction)
            .copied()
    };
    for flow in Flow::ALL {
        for direction in Direction::ALL {
            let first = find(there, flow, direction);
            let second = find(back, flow, direction);
            let (Some(first), Some(second)) = (first, second) else {
                continue;
            };
            out.add_row([
                format!("{flow:?}"),
                direction.name().to_owned(),
                text(first.before),
                text(first.after),
                text(second.after),
            ]);
        }
    }
    out
}

fn move_table(report: &Report) -> Table {
    let mut out = table([
        "move",
        "command to FMA",
        "to first downlink packet on the new path",
        "to first uplink packet",
        "to the command's answer",
    ]);
    out.add_rows(move_rows(report));
    out
}

/// How long each move took, from the command.
pub(super) fn move_rows(report: &Report) -> Vec<[String; 5]> {
    let us = |time: Option<u64>| time.map_or("never".to_owned(), |t| format!("{t} us"));
    let row = |m: &Move| {
        [
            format!("{} -> {}", m.from.title(), m.to.title()),
            us(m.fma_us),
            us(m.first_downlink_us),
            us(m.first_uplink_us),
            us(Some(m.command_us)),
        ]
    };
    report.moves.iter().map(row).collect()
}
