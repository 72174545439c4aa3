//! The two figures of a run.

use std::time::Duration;

use picture::{Anchor, Canvas, WIDTH};

use super::super::analysis::{Direction, Flow, PerMag};
use super::super::scenario::Report;
use super::super::timeline::CLOSELY;
use super::super::topology::Mag;
use super::{after, ends};

/// Where a panel's time axis begins and ends.
const LEFT: f64 = 44.0;
const RIGHT: f64 = WIDTH - 10.0;
/// A panel's height, and what is between two.
const PANEL: f64 = 62.0;
const GAP: f64 = 26.0;
/// Most messages in the sequence diagram; the rest are in the CSV.
const MESSAGES: usize = 200;

/// Packets per second in each tunnel over time: a panel for each flow and direction.
pub(super) fn packets(report: &Report, zero: Duration) -> String {
    let timeline = &report.timeline;
    let mut canvas = Canvas::default();
    canvas.text(
        "t",
        (12.0, 20.0),
        Anchor::Start,
        "Packets per second in each tunnel",
    );
    let legend = [
        ("s s0", "tunnel to MAG1"),
        ("s s2", "tunnel to MAG2"),
        ("a d", "flow Y is moved"),
    ];
    let legend = legend.map(|(class, name)| (class.to_owned(), name.to_owned()));
    let mut top = canvas.legend(40.0, &legend, false) + 26.0;
    let pieces = timeline
        .rows
        .iter()
        .map(|(.., pieces)| pieces.len())
        .max()
        .unwrap_or(0);
    let from = timeline.seconds(0, zero);
    // Also a run without packets has an axis.
    let to = timeline.seconds(pieces, zero).max(from + 1.0);
    let x = |seconds: f64| LEFT + (RIGHT - LEFT) * ((seconds - from) / (to - from)).clamp(0.0, 1.0);
    let begin = top;
    for (flow, direction, pieces) in &timeline.rows {
        // The TCP transfer is one-way: what comes back are acknowledgements.
        if (*flow, *direction) == (Flow::Z, Direction::Uplink) {
            continue;
        }
        let rate = |packets: u64| count(packets) / timeline.width.as_secs_f64();
        let most = pieces
            .iter()
            .map(|p| rate(p.mag1.max(p.mag2)))
            .fold(1.0, f64::max);
        let most = round_up(most);
        let bottom = top + PANEL;
        canvas.text(
            "l",
            (LEFT, top - 5.0),
            Anchor::Start,
            format!("{flow:?}, {}", direction.name()),
        );
        for (share, named) in [(0.0, true), (0.5, false), (1.0, true)] {
            let y = bottom - PANEL * share;
            canvas.line("g", (LEFT, y), (RIGHT, y));
            if named {
                canvas.text(
                    "l",
                    (LEFT - 5.0, y + 4.0),
                    Anchor::End,
                    format!("{:.0}", most * share),
                );
            }
        }
        let tunnel = |of: fn(&PerMag) -> u64| {
            let points = pieces.iter().enumerate().map(|(number, packets)| {
                let middle = timeline.seconds(number, zero) + timeline.width.as_secs_f64() / 2.0;
                (x(middle), bottom - PANEL * rate(of(packets)) / most)
            });
            points.collect::<Vec<_>>()
        };
        canvas.polyline("s s2", &tunnel(|packets| packets.mag2));
        canvas.polyline("s s0", &tunnel(|packets| packets.mag1));
        top = bottom + GAP;
    }
    let end = top - GAP;
    for moved in &report.moves {
        let at = x(after(zero, moved.command));
        canvas.line("a d", (at, begin - 2.0), (at, end + 4.0));
        let title = format!("Y to {}", moved.to.title());
        canvas.text("v", (at + 3.0, begin + 10.0), Anchor::Start, title);
    }
    // Messages sit below the panels, the gateways' each in a row of its own.
    for (row, mag) in Mag::ALL.into_iter().enumerate() {
        let y = end + 16.0 + 14.0 * if row == 0 { 0.0 } else { 1.0 };
        canvas.text("l", (LEFT - 5.0, y + 4.0), Anchor::End, mag.title());
        for heard in report.signalling.iter().filter(|heard| heard.mag == mag) {
            let at = after(zero, heard.time);
            if (from..=to).contains(&at) {
                let (sender, receiver) = ends(heard);
                let says = format!(
                    "{at:.6} s: {} from {sender} to {receiver}",
                    heard.kind.name()
                );
                canvas.dot(if row == 0 { "f0" } else { "f2" }, (x(at), y), &says);
            }
        }
    }
    let axis = end + 56.0;
    for tick in ticks(from, to) {
        canvas.text("l", (x(tick), axis), Anchor::Middle, format!("{tick:.0} s"));
        canvas.line("g", (x(tick), end), (x(tick), end + 38.0));
    }
    canvas.finish(axis + 10.0, "Packets per second in each tunnel over time")
}

/// Each packet of flow Y about each move, in its tunnel, with what was said meanwhile.
pub(super) fn moves(report: &Report) -> String {
    const ROW: f64 = 18.0;
    let (before, behind) = CLOSELY;
    let (from, to) = (-before.as_secs_f64() * 1e3, behind.as_secs_f64() * 1e3);
    let left = LEFT + 54.0;
    let x = |ms: f64| left + (RIGHT - 12.0 - left) * ((ms - from) / (to - from)).clamp(0.0, 1.0);
    let mut canvas = Canvas::default();
    canvas.text(
        "t",
        (12.0, 20.0),
        Anchor::Start,
        "Each packet of flow Y about its moves",
    );
    let mut top = 44.0;
    for (moved, packets) in report.moves.iter().zip(&report.timeline.closely) {
        let title = format!("{} to {}", moved.from.title(), moved.to.title());
        canvas.text("l", (12.0, top), Anchor::Start, title);
        let begin = top + 8.0;
        let mut y = begin + ROW / 2.0;
        for direction in Direction::ALL {
            for mag in Mag::ALL {
                let name = format!("{} {}", mag.title(), direction.name());
                canvas.text("l", (left - 6.0, y + 4.0), Anchor::End, name);
                canvas.line("g", (left, y), (RIGHT, y));
                let its = packets
                    .iter()
                    .filter(|(_, d, m)| (*d, *m) == (direction, mag));
                for (time, ..) in its {
                    let at = x(after(moved.command, *time) * 1e3);
                    let class = if mag == Mag::Mag1 { "s s0" } else { "s s2" };
                    canvas.line(class, (at, y - 6.0), (at, y + 6.0));
                }
                y += ROW;
            }
        }
        // What was said, each at a height of its own, so that names do not meet.
        let exchange = moved.add.iter().flat_map(|add| {
            let answer = add.acknowledge.as_ref();
            std::iter::once(&add.initiate).chain(answer)
        });
        let said =
            exchange.map(|heard| (after(moved.command, heard.time) * 1e3, heard.kind.name()));
        let answered = Duration::from_micros(moved.command_us).as_secs_f64() * 1e3;
        let said = [(0.0, "command")]
            .into_iter()
            .chain(said)
            .chain([(answered, "answer")]);
        let mut name = y + 4.0;
        for (ms, what) in said.filter(|(ms, _)| (from..=to).contains(ms)) {
            canvas.line("a d", (x(ms), begin), (x(ms), name - 8.0));
            canvas.text(
                "l",
                (x(ms) + 3.0, name),
                Anchor::Start,
                format!("{what} {ms:.2} ms"),
            );
            name += 14.0;
        }
        for tick in ticks(from, to).into_iter().filter(|tick| tick % 5.0 == 0.0) {
            canvas.text(
                "l",
                (x(tick), name + 6.0),
                Anchor::Middle,
                format!("{tick:.0} ms"),
            );
        }
        top = name + 36.0;
    }
    canvas.finish(top, "Each packet of flow Y about its moves, in its tunnel")
}

/// The messages between the LMA and its gateways, one below the other.
pub(super) fn sequence(report: &Report, zero: Duration) -> String {
    const ROW: f64 = 30.0;
    let (time, mag1, lma, mag2) = (76.0, 120.0, 290.0, WIDTH - 20.0);
    let shown = report.signalling.len().min(MESSAGES);
    let left = report.signalling.len() - shown;
    let top = 56.0;
    let bottom = top + ROW * count(shown as u64) + 6.0;
    let mut canvas = Canvas::default();
    canvas.text("t", (12.0, 20.0), Anchor::Start, "Signalling as captured");
    for (x, name) in [(mag1, "MAG1"), (lma, "LMA"), (mag2, "MAG2")] {
        let anchor = if name == "MAG2" {
            Anchor::End
        } else {
            Anchor::Middle
        };
        canvas.text("", (x, 42.0), anchor, name);
        canvas.line("a", (x, 48.0), (x, bottom));
    }
    for (number, heard) in (0_u64..).zip(report.signalling.iter().take(MESSAGES)) {
        let y = top + ROW * count(number) + 18.0;
        let (mag, class) = match heard.mag {
            Mag::Mag1 => (mag1, "s s0"),
            Mag::Mag2 => (mag2, "s s2"),
        };
        let (from, to) = if heard.from_lma {
            (lma, mag)
        } else {
            (mag, lma)
        };
        canvas.text(
            "l",
            (time, y + 4.0),
            Anchor::End,
            clock(after(zero, heard.time)),
        );
        canvas.line(class, (from, y), (to, y));
        let back = if to > from { -7.0 } else { 7.0 };
        canvas.polyline(
            class,
            &[(to + back, y - 4.0), (to, y), (to + back, y + 4.0)],
        );
        let sequence = heard.sequence.map(|sequence| format!(" {sequence}"));
        let status = heard.status.map(|status| format!(", status {status}"));
        let more = [sequence, status].map(Option::unwrap_or_default).concat();
        let name = format!("{}{more}", heard.kind.name());
        let middle = f64::midpoint(from, to);
        canvas.text("l", (middle, y - 5.0), Anchor::Middle, name);
        canvas.dot(
            if class == "s s0" { "f0" } else { "f2" },
            (from, y),
            &heard.content,
        );
    }
    let mut height = bottom + 14.0;
    if left > 0 {
        height += 14.0;
        canvas.text(
            "l",
            (12.0, height - 10.0),
            Anchor::Start,
            format!("and {left} more in signalling.csv"),
        );
    }
    canvas.finish(
        height,
        "The messages between the LMA and its gateways in the order of the capture",
    )
}

/// A time from the first move's command: coarse when far from it.
fn clock(seconds: f64) -> String {
    if seconds.abs() < 1.0 {
        format!("{:+.3} ms", seconds * 1000.0)
    } else {
        format!("{seconds:+.3} s")
    }
}

/// Whole seconds, a dozen at most.
fn ticks(from: f64, to: f64) -> Vec<f64> {
    let steps = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0];
    let step = steps
        .into_iter()
        .find(|step| (to - from) / step <= 12.0)
        .unwrap_or(3600.0);
    let mut at = (from / step).ceil() * step;
    let mut ticks = Vec::new();
    while at <= to && ticks.len() < 100 {
        ticks.push(at);
        at += step;
    }
    ticks
}

/// The next of 1, 2, 5, 10, ... that is not less.
fn round_up(value: f64) -> f64 {
    let step = 10_f64.powf(value.log10().floor());
    let round = [1.0, 2.0, 5.0, 10.0].map(|n| n * step);
    round.into_iter().find(|n| *n >= value).unwrap_or(value)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "no capture has more packets than a double counts"
)]
fn count(packets: u64) -> f64 {
    packets as f64
}
