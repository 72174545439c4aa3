//! A report as one page that needs nothing else, and each of its figures as a file.

mod bars;
mod figures;
mod plot;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use picture::escaped;
use serde::Deserialize;
use serde_json::Value;

use self::figures::{Figure, Section, figures};
use crate::compare::numbers;
use crate::hostile::within;
use crate::latency;
use crate::report::{COLUMNS, Report, cells};
use crate::spread;

/// Where a stored report is and where its page goes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The report.json
    #[arg(long, default_value = "target/bench/report.json")]
    from: PathBuf,
    /// Directory for report.html and its figures
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

/// Renders a stored report again.
///
/// # Errors
/// If it cannot be read or the page not be written.
#[expect(clippy::print_stdout, reason = "it says where what was asked for is")]
pub(crate) fn again(options: &Options) -> Result<()> {
    let name = || options.from.display().to_string();
    let text = fs::read(&options.from).with_context(name)?;
    let value = serde_json::from_slice(&text).with_context(name)?;
    let page =
        write(&value, &options.out).with_context(|| format!("{}: no such report", name()))?;
    println!("{}", page.display());
    Ok(())
}

/// Writes the page, its figures as SVG, and all data as CSV; returns where the page is.
///
/// # Errors
/// If `report` is none, or the system's.
pub(crate) fn write(report: &Value, out: &Path) -> Result<PathBuf> {
    fs::create_dir_all(out)?;
    let (page, figures) = render(report)?;
    for figure in &figures {
        let file = out.join(&figure.id);
        fs::write(file.with_extension("svg"), picture::alone(&figure.svg))?;
        fs::write(file.with_extension("csv"), &figure.csv)?;
    }
    for key in ["results", "latency", "tables", "kernel"] {
        let rows = rows(report, key);
        if !rows.is_empty() {
            let table = grid(rows, &[]);
            let lines: Vec<String> = table
                .iter()
                .map(|cells| {
                    let cells: Vec<String> = cells.iter().map(|text| picture::cell(text)).collect();
                    cells.join(",") + "\n"
                })
                .collect();
            fs::write(out.join(key).with_extension("csv"), lines.concat())?;
        }
    }
    let path = out.join("report.html");
    fs::write(&path, page)?;
    Ok(path)
}

fn rows<'a>(report: &'a Value, key: &str) -> &'a [Value] {
    let rows = report.get(key).and_then(Value::as_array);
    rows.map_or(&[], Vec::as_slice)
}

/// The page and the figures in it.
fn render(value: &Value) -> Result<(String, Vec<Figure>)> {
    let report = Report::deserialize(value)?;
    let kernel = rows(value, "kernel");
    let figures = figures(&report, kernel);
    let mut body = format!("<h1>flowmob: what it costs</h1>\n{}", machine(&report));
    body += &section("Cycles per packet", CYCLES_TEXT, Section::Cycles, &figures);
    body += "<h2>All cases</h2>\n";
    body += &table(&results(&report), &["work", "memory"]);
    if !report.latency.is_empty() {
        let warning = latency::warning(&report.latency).unwrap_or_default();
        let text = format!("{LATENCY_TEXT} <strong>{warning}</strong>");
        body += &section("Latency", &text, Section::Latency, &figures);
        body += &table(&latencies(&report), &["work"]);
    }
    if let Some(control) = value.get("control").filter(|control| control.is_object()) {
        body += &section("Control plane", CONTROL_TEXT, Section::Control, &figures);
        body += &table(&control_figures(control), &["figure"]);
    }
    if let Some(spread) = &report.spread {
        let line = escaped(&spread::line(spread));
        body += &section("One tunnel, two workers", &line, Section::Spread, &figures);
    }
    let tables = rows(value, "tables");
    if !tables.is_empty() {
        body += &section("Tables", TABLES_TEXT, Section::Tables, &figures);
        body += &table(&grid(tables, &TABLES_COLUMNS), &[]);
    }
    let hostile = rows(value, "hostile");
    if !hostile.is_empty() {
        body += "<h2>Hostile packets</h2>\n<p>";
        body += HOSTILE_TEXT;
        body += "</p>\n";
        body += &table(&grid(hostile, &HOSTILE_COLUMNS), &["attack", "beside"]);
        let lines = within::cells(&report.hostile);
        if !lines.is_empty() {
            let warning = within::warning(&report.hostile).unwrap_or_default();
            body += &["<p>", WITHIN_TEXT, " <strong>", &warning, "</strong></p>\n"].concat();
            let lines: Vec<_> = [within::columns()].into_iter().chain(lines).collect();
            body += &table(&lines, &["attack"]);
        }
    }
    if !kernel.is_empty() {
        body += &section("Beside the kernel", KERNEL_TEXT, Section::Kernel, &figures);
        body += &table(&grid(kernel, &KERNEL_COLUMNS), &["forwarder"]);
    }
    let page = picture::page("flowmob: benchmark", &body);
    Ok((page, figures))
}

const CYCLES_TEXT: &str = "Cycles of the time stamp counter per packet on one core, everything \
    counted: receive from a null port, write the frame, all work, transmit. Medians of rounds; the \
    floor, a bare loop that looks up, matches, encapsulates and counts, ran in the same rounds. No \
    forwarding loop called the heap: that would have voided the run.";

const LATENCY_TEXT: &str = "From a packet's scheduled arrival until the driver has it, in an open \
    loop: packets arrive as a Poisson process, whether the worker is ready or not, into a ring of 1024. \
    A stall is a time without a look into the ring that is longer than three full bursts take in the flood: \
    the core was elsewhere, or slowed by what others do to the caches. Quiet are the packets that met no stall and no queue that one had left.";

const CONTROL_TEXT: &str = "Octets of PBUs in, octets of PBAs and table updates out, on one core, \
    without a network.";

const TABLES_TEXT: &str = "A worker's table filled through its ring, no update refused: what resident \
    memory grew by, and downlink of 64 octets with each packet for another of all the mobiles.";

/// The order of a table's figures.
const TABLES_COLUMNS: [&str; 5] = [
    "bindings",
    "rules",
    "bytes_per_binding",
    "fill_seconds",
    "cycles_per_packet",
];

const HOSTILE_TEXT: &str = "What somebody costs the others who sends what he is not entitled to, one packet in four: all \
    that a burst takes longer is charged to his packets. None of the others' was lost.";

/// The order of a table's figures.
const HOSTILE_COLUMNS: [&str; 7] = [
    "attack",
    "beside",
    "bindings",
    "forwarded_cycles",
    "hostile_cycles",
    "ratio",
    "heard_ppm",
];

const WITHIN_TEXT: &str = "What the others bear: they are offered a share of their rate without loss in an open loop, and \
    hostile packets come besides, at random as well. Borne are so many a second, at most, as leave the others 99 % of theirs, \
    also in per cent of what the others are offered. Then what the others lose beside fixed rates, in per cent: the median of \
    the stretches, and in brackets of all of them together what no stall explains.";

const KERNEL_TEXT: &str = "The same traffic through the kernel's own forwarding.";

/// What is known of rows beside the kernel, in this order; other columns follow.
const KERNEL_COLUMNS: [&str; 8] = [
    "forwarder",
    "packet_bytes",
    "routes_or_bindings",
    "offered_pps",
    "delivered_pps",
    "loss_percent",
    "cpu_ns_per_packet",
    "busy_cpu_ns_per_packet",
];

fn machine(report: &Report) -> String {
    let m = &report.machine;
    let said = format!(
        "{}, {} cores, TSC {} MHz, kernel {}, {}, transparent hugepages {}, governor {}, commit {}, \
         load {} at the start.",
        m.cpu,
        m.cores,
        m.tsc_mhz,
        m.kernel,
        m.dpdk,
        m.transparent_hugepages,
        m.governor,
        m.commit,
        m.load
    );
    let on = |memory, cycles: Option<f64>| cycles.map(|c| format!("{c:.1} cycles on {memory}"));
    let testpmd: Vec<String> = [
        on("hugepages", report.testpmd.hugepages),
        on("ordinary pages", report.testpmd.anonymous),
    ]
    .into_iter()
    .flatten()
    .collect();
    format!(
        "<p>{}</p>\n<p>testpmd, mac forwarding of 64 octets in the same run: {}. A shared machine \
         drifts by tens of per cent from run to run: compare ratios.</p>\n",
        escaped(&said),
        escaped(&testpmd.join(", "))
    )
}

fn section(title: &str, text: &str, section: Section, figures: &[Figure]) -> String {
    let figure = |figure: &Figure| {
        format!(
            "<figure id=\"{id}\">\n{}<figcaption>{} <a href=\"{id}.svg\">svg</a> <a \
             href=\"{id}.csv\">csv</a></figcaption>\n</figure>\n",
            figure.svg,
            escaped(&figure.caption),
            id = figure.id
        )
    };
    let here = figures.iter().filter(|f| f.section == section);
    let all: String = here.map(figure).collect();
    format!("<h2>{title}</h2>\n<p>{text}</p>\n<div class=\"figures\">\n{all}</div>\n")
}

/// The first row is the header; columns with these names have text.
fn table(rows: &[Vec<String>], text: &[&str]) -> String {
    let Some((header, rows)) = rows.split_first() else {
        return String::new();
    };
    let line = |tag: &str, cells: &[String]| {
        let cells = cells.iter().zip(header).map(|(cell, column)| {
            let class = if text.contains(&column.as_str()) {
                " class=\"n\""
            } else {
                ""
            };
            format!("<{tag}{class}>{}</{tag}>", escaped(cell))
        });
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let body: String = rows.iter().map(|row| line("td", row)).collect();
    format!(
        "<div class=\"wide\"><table>\n<thead>{}</thead>\n<tbody>{body}</tbody>\n</table></div>\n",
        line("th", header)
    )
}

fn header(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn results(report: &Report) -> Vec<Vec<String>> {
    let mut lines = vec![header(&COLUMNS)];
    let rows = report.results.iter().zip(&report.rounds);
    lines.extend(rows.map(|(row, rounds)| cells(row, rounds, grouped)));
    lines
}

fn latencies(report: &Report) -> Vec<Vec<String>> {
    let mut names = header(&["work", "load", "offered Mpps", "packets", "lost"]);
    let percentile = |name: &&str| match *name {
        "all" => "max us".into(),
        some => format!("{some}\u{a0}% us"),
    };
    names.extend(latency::Row::PERCENTILES.iter().map(percentile));
    names.extend(header(&[
        "gap us",
        "stalls",
        "stalled",
        "switches",
        "quiet",
        "quiet 50\u{a0}% us",
        "quiet 99\u{a0}% us",
        "quiet 99.99\u{a0}% us",
    ]));
    let mut lines = vec![names];
    for row in &report.latency {
        let mut cells = vec![
            format!(
                "{} {} x {}",
                row.work,
                grouped(row.bindings.into()),
                row.rules
            ),
            format!("{} %", row.load_percent),
            format!("{:.2}", row.offered_mpps),
            grouped(row.packets),
            grouped(row.lost),
        ];
        cells.extend(row.percentiles().map(microseconds));
        cells.extend([
            format!("{:.1}", row.largest_gap_us),
            grouped(row.stalls),
            format!("{:.2} %", row.stalled_percent),
            grouped(row.involuntary_switches),
            format!("{:.2} %", row.quiet_percent),
        ]);
        let quiet = row.quiet_percentiles().map(microseconds);
        cells.extend(quiet.into_iter().step_by(2));
        lines.push(cells);
    }
    lines
}

/// Two digits behind the point where they say something.
fn microseconds(us: f64) -> String {
    if us >= 100.0 {
        format!("{us:.0}")
    } else {
        format!("{us:.2}")
    }
}

/// Every number of the control plane under its name in the report.
fn control_figures(control: &Value) -> Vec<Vec<String>> {
    let mut lines = vec![header(&["figure", "value"])];
    for (name, value) in numbers("", control) {
        lines.push(vec![name.replace('_', " "), amount(value)]);
    }
    lines
}

/// Rows of any kind: the columns are `first`, as far as they are there, and then the others.
fn grid(rows: &[Value], first: &[&str]) -> Vec<Vec<String>> {
    let mut columns: Vec<&str> = Vec::new();
    let members = rows.iter().filter_map(Value::as_object);
    let there = members.flat_map(|row| row.iter().filter(|(_, v)| !v.is_array() && !v.is_object()));
    let there: Vec<&str> = there.map(|(key, _)| key.as_str()).collect();
    for key in first.iter().copied().filter(|key| there.contains(key)) {
        columns.push(key);
    }
    for key in there {
        if !columns.contains(&key) {
            columns.push(key);
        }
    }
    let mut lines = vec![header(&columns)];
    for row in rows {
        let cell = |key: &&str| match row.get(key) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        lines.push(columns.iter().map(cell).collect());
    }
    lines
}

/// A number as one reads it.
fn amount(value: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and a cast saturates"
    )]
    if value >= 10_000.0 {
        grouped(value.round() as u64)
    } else {
        plot::number(value)
    }
}

/// Digits in groups of three.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests;
