//! A run as one page that needs nothing else, its figures as SVG and their data as CSV.

mod figures;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use picture::{cell, escaped};

use super::report::{FLOW_COLUMNS, STATE_COLUMNS, flow_rows, move_rows, state_rows};
use super::scenario::Report;
use super::signalling::Heard;

/// Writes everything into `directory`; returns where the page is.
///
/// # Errors
/// The system's.
pub(crate) fn write(report: &Report, directory: &Path) -> anyhow::Result<PathBuf> {
    let zero = zero(report);
    let packets = figures::packets(report, zero);
    let moves = figures::moves(report);
    let sequence = figures::sequence(report, zero);
    let files = [
        ("packets.svg", picture::alone(&packets)),
        ("packets.csv", report.timeline.csv(zero)),
        ("moves.svg", picture::alone(&moves)),
        ("moves.csv", closely(report)),
        ("sequence.svg", picture::alone(&sequence)),
        ("signalling.csv", signalling(report, zero)),
        ("report.html", page(report, [&packets, &moves, &sequence])),
    ];
    for (name, text) in files {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(directory.join("report.html"))
}

/// What times are told from: the command of the first move, since 1970.
fn zero(report: &Report) -> Duration {
    report
        .moves
        .first()
        .map_or(report.started, |moved| moved.command)
}

/// Seconds from there, which may be negative.
fn after(zero: Duration, time: Duration) -> f64 {
    time.as_secs_f64() - zero.as_secs_f64()
}

/// Who sends a message, and who gets it.
fn ends(heard: &Heard) -> (&'static str, &'static str) {
    let mag = heard.mag.title();
    if heard.from_lma {
        ("LMA", mag)
    } else {
        (mag, "LMA")
    }
}

/// Each packet of flow Y about the moves, in microseconds from each command.
fn closely(report: &Report) -> String {
    let mut out = "move,microseconds,direction,mag\n".to_owned();
    for (moved, packets) in report.moves.iter().zip(&report.timeline.closely) {
        for (time, direction, mag) in packets {
            // Writing into a string cannot fail.
            let _infallible = writeln!(
                out,
                "{} to {},{:.0},{},{}",
                moved.from.title(),
                moved.to.title(),
                after(moved.command, *time) * 1e6,
                direction.name(),
                mag.title()
            );
        }
    }
    out
}

fn signalling(report: &Report, zero: Duration) -> String {
    let mut out = "seconds,from,to,message,sequence,status,content\n".to_owned();
    for heard in &report.signalling {
        let (from, to) = ends(heard);
        let number = |number: Option<String>| number.unwrap_or_default();
        // Writing into a string cannot fail.
        let _infallible = writeln!(
            out,
            "{:.6},{from},{to},{},{},{},{}",
            after(zero, heard.time),
            heard.kind.name(),
            number(heard.sequence.map(|n| n.to_string())),
            number(heard.status.map(|n| n.to_string())),
            cell(&heard.content)
        );
    }
    out
}

fn page(report: &Report, [packets, moves, sequence]: [&str; 3]) -> String {
    let (scenario, dialect) = (report.scenario, report.dialect);
    let met = report
        .criteria
        .iter()
        .filter(|criterion| criterion.passed)
        .count();
    let verdict = format!("{met} of {} criteria met", report.criteria.len());
    let mut body = format!(
        "<h1>flowmob: {}</h1>\n<p>{}, by {}. Flow Y moves from MAG2 to MAG1 and back while all flows go on: <strong>\
         {verdict}</strong>.</p>\n",
        escaped(scenario.name()),
        escaped(scenario.title()),
        escaped(dialect.title()),
    );
    body += &section(
        "What the core link showed",
        "Packets of each flow in each tunnel, counted piece by piece; dots are messages between the LMA and a MAG. \
         The moves closely: each packet of flow Y by itself. And every Mobility Header, decoded, in the order of the capture: point at a dot for what it says. \
         Times are from the command of the first move.",
    );
    let figures = [
        figure(packets, "packets"),
        figure(sequence, "sequence"),
        figure(moves, "moves"),
    ];
    let _infallible = writeln!(body, "<div class=\"figures\">\n{}</div>", figures.concat());
    body += &tables(report);
    body += &section(
        "Again",
        &format!(
            "flowmob {}, {} of each appliance, {} packets per second and flow in each direction; the capture is in \
             core.pcapng beside this page.",
            report.version,
            match report.workers {
                1 => "1 worker".to_owned(),
                more => format!("{more} workers"),
            },
            report.rate
        ),
    );
    let _infallible = writeln!(
        body,
        "<p><code>flowmob lab run --scenario {} --dialect {} --workers {} --rate {}</code></p>",
        scenario.name(),
        dialect.name(),
        report.workers,
        report.rate
    );
    picture::page(
        &format!("flowmob: {}, {}", scenario.name(), dialect.name()),
        &body,
    )
}

/// The tables of the run: state, moves, flows, criteria.
fn tables(report: &Report) -> String {
    let [one, two] = report.prefixes;
    let mut body = section(
        "Tables",
        &format!("pref1 is {one}, pref2 is {two}; granted prefixes are in parentheses."),
    );
    body += &table(&STATE_COLUMNS, &state_rows(report), 5);
    body += &section(
        "Moves of flow Y",
        "From the command to the LMA, in microseconds, by the capture's clock.",
    );
    body += &table(
        &[
            "move",
            "FMA",
            "first packet to the mobile",
            "first packet from it",
            "the command's answer",
        ],
        &move_rows(report),
        1,
    );
    body += &section(
        "Flows",
        "By numbers in the packets, counted by the applications at both ends.",
    );
    body += &table(&FLOW_COLUMNS, &flow_rows(report), 2);
    body += &section("Criteria", "What a run must show.");
    let criteria = report.criteria.iter().map(|criterion| {
        let mark = if criterion.passed { "met" } else { "NOT MET" };
        [
            mark.to_owned(),
            criterion.name.clone(),
            criterion.evidence.clone(),
        ]
    });
    body += &table(
        &["", "criterion", "evidence"],
        &criteria.collect::<Vec<_>>(),
        3,
    );
    body
}

fn section(title: &str, text: &str) -> String {
    format!("<h2>{}</h2>\n<p>{}</p>\n", escaped(title), escaped(text))
}

fn figure(svg: &str, name: &str) -> String {
    format!(
        "<figure>\n{svg}<figcaption>{name}.svg and its data are beside this page</figcaption>\n</figure>\n"
    )
}

/// A table whose first `words` columns are words.
pub(super) fn table<const N: usize>(
    header: &[&str; N],
    rows: &[[String; N]],
    words: usize,
) -> String {
    let row = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.enumerate().map(|(column, text)| {
            let class = if column < words { " class=\"n\"" } else { "" };
            let text = escaped(text).replace('\n', "<br/>");
            format!("<{tag}{class}>{text}</{tag}>")
        });
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let head = row("th", &mut header.iter().copied());
    let lines = rows
        .iter()
        .map(|cells| row("td", &mut cells.iter().map(String::as_str)));
    let lines: String = lines.collect();
    format!(
        "<div class=\"wide\"><table>\n<thead>{head}</thead>\n<tbody>{lines}</tbody>\n</table></div>\n"
    )
}

#[cfg(test)]
mod tests;
