//! Which figures a report has.

use serde_json::Value;

use super::bars::Bars;
use super::plot::{Axis, Plot, Series, Values};
use crate::case::{Memory, Size, Work};
use crate::latency;
use crate::report::{Report, Row};

/// Colours by role. What is flowmob's, and three peers.
const FLOWMOB: u8 = 0;
/// The bare loop.
const FLOOR: u8 = 1;
/// testpmd.
const TESTPMD: u8 = 2;
/// Another row of flowmob's beside [`FLOWMOB`].
const SECOND: u8 = 3;

/// Where in the page a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    /// Cycles per packet.
    Cycles,
    /// Latencies.
    Latency,
    /// The control plane.
    Control,
    /// Two workers and one tunnel.
    Spread,
    /// Memory of tables.
    Tables,
    /// Beside the kernel.
    Kernel,
}

/// A figure, ready for the page and for files beside it.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// The name of its files.
    pub(crate) id: String,
    /// Where it goes.
    pub(crate) section: Section,
    /// What is under it.
    pub(crate) caption: String,
    /// The picture.
    pub(crate) svg: String,
    /// The data.
    pub(crate) csv: String,
}

impl Figure {
    fn plot(id: &str, section: Section, caption: String, plot: &Plot) -> Self {
        Self {
            id: id.into(),
            section,
            caption,
            svg: plot.svg(),
            csv: plot.csv(),
        }
    }

    fn bars(id: &str, section: Section, caption: &str, bars: &Bars) -> Self {
        Self {
            id: id.into(),
            section,
            caption: caption.into(),
            svg: bars.svg(),
            csv: bars.csv(),
        }
    }
}

/// All that this report has the points for.
pub(crate) fn figures(report: &Report, kernel: &[Value]) -> Vec<Figure> {
    let mut all = Vec::new();
    all.extend(overview(report));
    for work in [Work::LmaDownlink, Work::LmaUplink] {
        all.extend(tables(report, work));
    }
    all.extend(rules(report));
    all.extend(sizes(report));
    for work in Work::ALL {
        all.extend(latencies(report, work));
    }
    all.extend(switch(report));
    all.extend(beside_kernel(kernel));
    all
}

/// Rows of a work, with their sizes.
fn rows(report: &Report, work: Work, memory: Memory) -> impl Iterator<Item = (&Row, Size)> {
    let pairs = report.results.iter().zip(&report.rounds);
    pairs
        .map(|(row, rounds)| (row, rounds.outcome.case.size))
        .filter(move |(row, _)| row.work == work && row.memory == memory)
}

fn testpmd(report: &Report, memory: Memory) -> Option<f64> {
    match memory {
        Memory::Hugepages => report.testpmd.hugepages,
        Memory::Anonymous => report.testpmd.anonymous,
    }
}

const SMALL: Size = Size::Fixed(64);
const CYCLES: &str = "TSC cycles per packet";

fn overview(report: &Report) -> Option<Figure> {
    let memory = report.machine.memory;
    let yardstick = testpmd(report, memory);
    let groups: Vec<_> = Work::ALL
        .into_iter()
        .filter_map(|work| {
            let bindings = if work.is_lma() { 100_000 } else { 10_000 };
            let rules = if work == Work::LmaDownlink { 4 } else { 0 };
            let (row, _) = rows(report, work, memory)
                .find(|(row, size)| (row.bindings, row.rules, *size) == (bindings, rules, SMALL))?;
            let name = format!("{work}, {} x {rules}", large(bindings));
            let values = vec![
                Some(row.cycles_per_packet),
                Some(row.floor_cycles),
                yardstick,
            ];
            Some((name, values))
        })
        .collect();
    let bars = Bars {
        title: format!("The four works, 64 octets, {memory}"),
        label: CYCLES.into(),
        keys: vec![
            ("flowmob".into(), FLOWMOB),
            ("floor".into(), FLOOR),
            ("testpmd, mac".into(), TESTPMD),
        ],
        groups,
    };
    let caption = "Bindings x rules. Less is better. The floor is a bare loop that does the same to \
                   the same packets; testpmd only exchanges Ethernet addresses.";
    (!bars.groups.is_empty()).then(|| Figure::bars("overview", Section::Cycles, caption, &bars))
}

/// Over table sizes, on both kinds of memory.
fn tables(report: &Report, work: Work) -> Option<Figure> {
    let rules = if work == Work::LmaDownlink { 4 } else { 0 };
    let (mut series, mut levels) = (Vec::new(), Vec::new());
    for memory in [Memory::Hugepages, Memory::Anonymous] {
        let mut rows: Vec<_> = rows(report, work, memory)
            .filter(|(row, size)| row.rules == rules && *size == SMALL)
            .map(|(row, _)| (f64::from(row.bindings), row))
            .collect();
        if rows.is_empty() {
            continue;
        }
        rows.sort_by_key(|(_, row)| row.bindings);
        // Those were measured for their memory, without a floor.
        let own = (work, memory) == (Work::LmaDownlink, Memory::Anonymous);
        let most = rows.last().map_or(0, |(_, row)| row.bindings);
        let larger = report.tables.iter().filter(|t| own && t.bindings > most);
        let larger: Vec<_> = larger
            .map(|t| (f64::from(t.bindings), t.cycles_per_packet))
            .collect();
        let main = memory == report.machine.memory;
        let dashed = !main;
        let mut line = |name, colour, values, of: fn(&Row) -> f64, more: &[(f64, f64)]| {
            let points = rows.iter().map(|(x, row)| (*x, of(row)));
            series.push(Series {
                name: format!("{name}, {memory}"),
                colour,
                dashed,
                values: if main { values } else { Values::Hidden },
                points: points.chain(more.iter().copied()).collect(),
            });
        };
        let of: fn(&Row) -> f64 = |row| row.cycles_per_packet;
        line("flowmob", FLOWMOB, Values::Above, of, &larger);
        line("floor", FLOOR, Values::Below, |row| row.floor_cycles, &[]);
        let level = |cycles| (format!("testpmd, {memory}"), TESTPMD, dashed, cycles);
        levels.extend(testpmd(report, memory).map(level));
    }
    let mut sizes: Vec<f64> = points(&series).map(|point| point.0).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    if sizes.len() < 2 {
        return None;
    }
    let ticks = sizes.into_iter().map(|size| (size, short(size))).collect();
    let plot = Plot {
        title: format!("{work}: over the size of the table"),
        x: Axis::log_at("bindings in the table, all equally often asked for", ticks),
        y: Axis::linear(CYCLES, heights(&series, &levels)),
        series,
        levels,
    };
    let caption = format!(
        "{rules} rules, 64 octets. Every packet is for another mobile, drawn uniformly. The floor has \
         its tables on the same kind of pages; testpmd has no table."
    );
    let id = format!("tables-{work}");
    Some(Figure::plot(&id, Section::Cycles, caption, &plot))
}

fn rules(report: &Report) -> Option<Figure> {
    let memory = report.machine.memory;
    let mut rows: Vec<_> = rows(report, Work::LmaDownlink, memory)
        .filter(|(row, size)| row.bindings == 1000 && *size == SMALL)
        .map(|(row, _)| row)
        .collect();
    rows.sort_by_key(|row| row.rules);
    let floor = rows.iter().find(|row| row.rules == 4)?.floor_cycles;
    if rows.len() < 2 {
        return None;
    }
    let names: Vec<u16> = rows.iter().map(|row| row.rules).collect();
    let places = (0u32..).map(f64::from);
    let series = vec![Series {
        name: "flowmob".into(),
        colour: FLOWMOB,
        dashed: false,
        values: Values::Above,
        points: places
            .zip(rows.iter().map(|row| row.cycles_per_packet))
            .collect(),
    }];
    let mut levels = vec![("floor, four selectors".into(), FLOOR, false, floor)];
    let level = |cycles| ("testpmd, mac".into(), TESTPMD, false, cycles);
    levels.extend(testpmd(report, memory).map(level));
    let plot = Plot {
        title: "lma-downlink: over the number of rules".into(),
        x: Axis::names("rules of each binding", &names),
        y: Axis::linear(CYCLES, heights(&series, &levels)),
        series,
        levels,
    };
    let caption = format!(
        "1 k bindings, 64 octets, {memory}. Every rule is hit equally often, so neither caches nor \
         branch predictor know the next one. The floor always has four selectors."
    );
    Some(Figure::plot("rules", Section::Cycles, caption, &plot))
}

fn sizes(report: &Report) -> Option<Figure> {
    let memory = report.machine.memory;
    let mut names: Vec<Size> = Vec::new();
    for work in [Work::LmaDownlink, Work::LmaUplink] {
        let of_work = rows(report, work, memory).filter(|(row, _)| row.bindings == 100_000);
        names.extend(of_work.map(|(_, size)| size));
    }
    let key = |size: &Size| match size {
        Size::Fixed(octets) => *octets,
        Size::Imix => u16::MAX,
    };
    names.sort_by_key(key);
    names.dedup();
    if names.len() < 2 {
        return None;
    }
    let mut series = Vec::new();
    for (work, colour) in [(Work::LmaDownlink, FLOWMOB), (Work::LmaUplink, SECOND)] {
        let places = || (0u32..).map(f64::from).zip(&names);
        let row = |wanted: Size| {
            let mut all = rows(report, work, memory);
            all.find(|(row, size)| row.bindings == 100_000 && *size == wanted)
        };
        let mut line = |name, dashed, of: fn(&Row) -> f64| {
            series.push(Series {
                name: format!("{name}{work}"),
                colour,
                dashed,
                values: Values::Hidden,
                points: places()
                    .filter_map(|(x, size)| Some((x, of(row(*size)?.0))))
                    .collect(),
            });
        };
        line("", false, |row| row.cycles_per_packet);
        line("floor, ", true, |row| row.floor_cycles);
    }
    let level = |cycles| ("testpmd, 64 octets".into(), TESTPMD, false, cycles);
    let levels: Vec<_> = testpmd(report, memory).map(level).into_iter().collect();
    let plot = Plot {
        title: "LMA: over the size of packets".into(),
        x: Axis::names("octets of the mobile's frame without FCS", &names),
        y: Axis::linear(CYCLES, heights(&series, &levels)),
        series,
        levels,
    };
    let caption = format!(
        "100 k bindings, {memory}. Only headers are touched, so nothing should rise. imix is 7 of 64, \
         4 of 590 and 1 of 1514 octets."
    );
    Some(Figure::plot("sizes", Section::Cycles, caption, &plot))
}

fn latencies(report: &Report, work: Work) -> Option<Figure> {
    let rows: Vec<&latency::Row> = report.latency.iter().filter(|r| r.work == work).collect();
    let first = rows.first()?;
    let mut series = Vec::new();
    for quiet in [false, true] {
        for (row, colour) in rows.iter().zip([SECOND, FLOWMOB, TESTPMD].iter().cycle()) {
            let load = row.load_percent;
            let (name, values) = if quiet {
                (format!("{load} %, no stall"), row.quiet_percentiles())
            } else {
                let rate = format!("{load} %: {:.1} Mpps", row.offered_mpps);
                (rate, row.percentiles())
            };
            series.push(Series {
                name,
                colour: *colour,
                dashed: quiet,
                values: Values::Hidden,
                points: (0u32..).map(f64::from).zip(values).collect(),
            });
        }
    }
    let plot = Plot {
        title: format!(
            "{work}, {} x {}, {} octets: latency",
            large(first.bindings),
            first.rules,
            first.packet_bytes
        ),
        x: Axis::names(
            "per cent of the packets that took no longer",
            &latency::Row::PERCENTILES,
        ),
        y: Axis::log("microseconds", points(&series).map(|point| point.1)),
        series,
        levels: vec![],
    };
    let machine: Vec<String> = rows
        .iter()
        .map(|row| {
            format!(
                "at {}\u{a0}% {} of {} packets lost, {} stalls, the longest {} us",
                row.load_percent, row.lost, row.packets, row.stalls, row.largest_gap_us
            )
        })
        .collect();
    let caption = format!(
        "Loads are shares of the rate without loss, {} Mpps. Dashed: packets that met no \
         stall (over {} us) and no queue that one had left. The machine: {}.",
        first.no_loss_mpps,
        first.stall_over_us,
        machine.join("; ")
    );
    let id = format!("latency-{work}");
    Some(Figure::plot(&id, Section::Latency, caption, &plot))
}

fn switch(report: &Report) -> Option<Figure> {
    let switch = report.control.as_ref()?.switch;
    let times = [
        switch.p50_us,
        switch.p99_us,
        switch.p99_99_us,
        switch.max_us,
    ];
    let series = vec![Series {
        name: format!("{} moves of a flow", switch.count),
        colour: FLOWMOB,
        dashed: false,
        values: Values::Above,
        points: (0u32..).map(f64::from).zip(times).collect(),
    }];
    let plot = Plot {
        title: "From an FMA until both workers forward by it".into(),
        x: Axis::names(
            "per cent of the moves that took no longer",
            &["50", "99", "99.99", "all"],
        ),
        y: Axis::log("microseconds", times.into_iter()),
        series,
        levels: vec![],
    };
    let caption = "Both workers forward in turn on one core, at full rate; the control plane is on \
                   another.";
    Some(Figure::plot(
        "switch",
        Section::Control,
        caption.into(),
        &plot,
    ))
}

/// For each forwarder and case the row that delivered most.
fn beside_kernel(kernel: &[Value]) -> Vec<Figure> {
    let number = |row: &Value, key: &str| row.get(key).and_then(Value::as_f64);
    let mut best: Vec<(String, &Value)> = Vec::new();
    for row in kernel {
        let name = kernel_name(row);
        let delivered = number(row, "delivered_pps").unwrap_or(0.0);
        match best.iter_mut().find(|(other, _)| *other == name) {
            Some((_, other)) => {
                if delivered > number(other, "delivered_pps").unwrap_or(0.0) {
                    *other = row;
                }
            }
            None => best.push((name, row)),
        }
    }
    let figure = |id, title: &str, label: &str, caption, of: &dyn Fn(&Value) -> Option<f64>| {
        let groups: Vec<_> = best
            .iter()
            .filter_map(|(name, row)| Some((name.clone(), vec![Some(of(row)?)])))
            .collect();
        let bars = Bars {
            title: title.into(),
            label: label.into(),
            keys: vec![(String::new(), FLOWMOB)],
            groups,
        };
        (!bars.groups.is_empty()).then(|| Figure::bars(id, Section::Kernel, caption, &bars))
    };
    let rate = |row: &Value| Some(number(row, "delivered_pps")? / 1e6);
    let cost = |row: &Value| {
        number(row, "busy_cpu_ns_per_packet").or_else(|| number(row, "cpu_ns_per_packet"))
    };
    [
        figure(
            "kernel-rate",
            "Delivered at most",
            "million packets per second",
            "Of all offered rates the one of which most came out. More is better.",
            &rate,
        ),
        figure(
            "kernel-cost",
            "Processor time at that rate",
            "busy nanoseconds of processor per delivered packet",
            "Less is better.",
            &cost,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What a row beside the kernel is called.
fn kernel_name(row: &Value) -> String {
    let text = |key: &str| row.get(key).and_then(Value::as_str);
    let mut parts = vec![text("forwarder").unwrap_or("unnamed").to_owned()];
    if let Some(entries) = row.get("routes_or_bindings").and_then(Value::as_f64) {
        parts.push(format!("{} entries", short(entries)));
    }
    if let Some(octets) = row.get("packet_bytes").and_then(Value::as_u64) {
        parts.push(format!("{octets} octets"));
    }
    parts.join(", ")
}

fn points(series: &[Series]) -> impl Iterator<Item = (f64, f64)> {
    series.iter().flat_map(|line| line.points.iter().copied())
}

fn heights(series: &[Series], levels: &[(String, u8, bool, f64)]) -> impl Iterator<Item = f64> {
    let levels = levels.iter().map(|level| level.3);
    points(series).map(|point| point.1).chain(levels)
}

/// A count as one says it.
fn large(count: u32) -> String {
    short(f64::from(count))
}

fn short(count: f64) -> String {
    if count >= 1e6 {
        format!("{} M", super::plot::number(count / 1e6))
    } else if count >= 1e3 {
        format!("{} k", super::plot::number(count / 1e3))
    } else {
        super::plot::number(count)
    }
}
