//! What was found: as JSON, as a table, and beside an older run.

use std::collections::HashMap;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde::{Deserialize, Serialize};

use crate::case::{Case, Memory, Size, Work};
use crate::cell::Outcome;
use crate::hostile;
use crate::kernel;
use crate::latency;
use crate::machine::Machine;
use crate::signalling;
use crate::spread;
use crate::tables;

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Where.
    pub(crate) machine: Machine,
    /// The yardstick.
    pub(crate) testpmd: Yardstick,
    /// The data plane, case by case.
    pub(crate) results: Vec<Row>,
    /// Latencies at shares of the rate without loss; none in a run that left them out.
    #[serde(default)]
    pub(crate) latency: Vec<latency::Row>,
    /// The control plane; absent from a run that left it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) control: Option<signalling::Outcome>,
    /// Memory of workers' tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tables: Vec<tables::Row>,
    /// What hostile packets cost the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) hostile: Vec<hostile::Row>,
    /// Two workers and one tunnel; absent from a run on one core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) spread: Option<spread::Outcome>,
    /// The kernel beside us.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) kernel: Vec<kernel::Row>,
    /// What of that is missing, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) kernel_left_out: Vec<String>,
    /// Every round of every case.
    pub(crate) rounds: Vec<Rounds>,
}

impl Report {
    /// Nothing yet.
    pub(crate) fn of(machine: Machine) -> Self {
        Self {
            machine,
            testpmd: Yardstick {
                cycles_per_packet: f64::NAN,
                hugepages: None,
                anonymous: None,
            },
            results: vec![],
            latency: vec![],
            control: None,
            tables: vec![],
            hostile: vec![],
            spread: None,
            kernel: vec![],
            kernel_left_out: vec![],
            rounds: vec![],
        }
    }
}

/// testpmd's mac forwarding in the same run, in cycles per packet.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Yardstick {
    /// On the machine's kind of memory.
    pub(crate) cycles_per_packet: f64,
    /// On hugepages.
    pub(crate) hugepages: Option<f64>,
    /// On ordinary pages.
    pub(crate) anonymous: Option<f64>,
}

/// One case. Cycles are medians of the rounds; the ratio to the floor is the median of each
/// round's own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The work.
    pub(crate) work: Work,
    /// Prefixes in the table.
    pub(crate) bindings: u32,
    /// Rules of each.
    pub(crate) rules: u16,
    /// Octets of a mobile's packet with its Ethernet header; of a mix on average.
    pub(crate) packet_bytes: u16,
    /// Workers, each on a core of its own.
    pub(crate) workers: u32,
    /// The kind of memory.
    pub(crate) memory: Memory,
    /// TSC cycles per packet.
    pub(crate) cycles_per_packet: f64,
    /// The floor's in the same rounds.
    pub(crate) floor_cycles: f64,
    /// Million packets per second and core.
    pub(crate) mpps_per_core: f64,
    /// Cycles over the floor's.
    pub(crate) ratio_to_floor: f64,
    /// Cycles over testpmd's.
    pub(crate) ratio_to_testpmd: f64,
    /// Heap calls of the forwarding loop: any would have voided the run.
    #[serde(default)]
    pub(crate) allocations_per_burst: u64,
}

/// The rounds behind a row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rounds {
    /// The kind of memory.
    pub(crate) memory: Memory,
    /// The case and its cycles.
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

/// The value in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
    match (sorted.get(low), sorted.get(high)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => f64::NAN,
    }
}

/// Rows of what was measured on one kind of memory.
pub(crate) fn rows(outcomes: &[Outcome], memory: Memory, testpmd: f64, tsc_hz: f64) -> Vec<Row> {
    let key = |case: &Case| (case.work, case.bindings, case.size);
    let floors: HashMap<_, _> = outcomes
        .iter()
        .filter(|o| !o.floor.is_empty())
        .map(|o| (key(&o.case), &o.floor))
        .collect();
    outcomes
        .iter()
        .map(|outcome| {
            let case = &outcome.case;
            let cycles = median(&outcome.cycles);
            let none = Vec::new();
            let floor = floors.get(&key(case)).copied().unwrap_or(&none);
            let each = outcome.cycles.iter().zip(floor);
            let ratios: Vec<f64> = each.map(|(cycles, floor)| cycles / floor).collect();
            Row {
                work: case.work,
                bindings: case.bindings,
                rules: case.rules,
                packet_bytes: case.size.mean(),
                workers: 1,
                memory,
                cycles_per_packet: rounded(cycles, 1),
                floor_cycles: rounded(median(floor), 1),
                mpps_per_core: rounded(tsc_hz / 1e6 / cycles, 2),
                ratio_to_floor: rounded(median(&ratios), 3),
                ratio_to_testpmd: rounded(cycles / testpmd, 2),
                allocations_per_burst: 0,
            }
        })
        .collect()
}

/// To so many digits behind the point.
pub(crate) fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// What [`cells`] holds.
pub(crate) const COLUMNS: [&str; 12] = [
    "work",
    "bindings",
    "rules",
    "octets",
    "memory",
    "cycles",
    "least",
    "most",
    "Mpps/core",
    "floor",
    "x floor",
    "x testpmd",
];

/// One line of the results, for terminal and page; `count` writes the number of bindings.
pub(crate) fn cells(row: &Row, rounds: &Rounds, count: fn(u64) -> String) -> Vec<String> {
    let cycles = rounds.outcome.cycles.iter().copied();
    vec![
        row.work.to_string(),
        count(row.bindings.into()),
        row.rules.to_string(),
        match rounds.outcome.case.size {
            Size::Imix => format!("imix {}", row.packet_bytes),
            Size::Fixed(octets) => octets.to_string(),
        },
        row.memory.to_string(),
        format!("{:.1}", row.cycles_per_packet),
        format!("{:.1}", cycles.clone().fold(f64::INFINITY, f64::min)),
        format!("{:.1}", cycles.fold(0.0, f64::max)),
        format!("{:.2}", row.mpps_per_core),
        format!("{:.1}", row.floor_cycles),
        format!("{:.2}", row.ratio_to_floor),
        format!("{:.2}", row.ratio_to_testpmd),
    ]
}

/// The table for the terminal.
pub(crate) fn table(report: &Report, old: Option<&Report>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    let mut header = COLUMNS.to_vec();
    if old.is_some() {
        header.push("before");
        header.push("change");
    }
    table.set_header(header);
    for (row, rounds) in report.results.iter().zip(&report.rounds) {
        let mut cells = cells(row, rounds, |bindings| bindings.to_string());
        if let Some(old) = old {
            let (before, change) = compared(row, old);
            cells.push(before);
            cells.push(change);
        }
        table.add_row(cells);
    }
    for (number, column) in table.column_iter_mut().enumerate() {
        if number > 0 && number != 4 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The ratio to the floor in an older run, and how it changed: cycles alone would tell of the
/// machine's mood.
fn compared(row: &Row, old: &Report) -> (String, String) {
    let same = |other: &&Row| {
        (
            other.work,
            other.bindings,
            other.rules,
            other.packet_bytes,
            other.memory,
        ) == (
            row.work,
            row.bindings,
            row.rules,
            row.packet_bytes,
            row.memory,
        )
    };
    match old.results.iter().find(same) {
        Some(other) => (
            format!("{:.2}", other.ratio_to_floor),
            format!(
                "{:+.1} %",
                (row.ratio_to_floor / other.ratio_to_floor - 1.0) * 100.0
            ),
        ),
        None => ("-".into(), "-".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Size;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]).to_bits(), 2f64.to_bits());
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]).to_bits(), 2.5f64.to_bits());
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn rows_have_the_agreed_names_and_borrow_the_floor_of_four_rules() {
        let case = |rules| Case {
            work: Work::LmaDownlink,
            bindings: 1000,
            rules,
            size: Size::Fixed(64),
        };
        let outcome = |rules, cycles: &[f64], floor: &[f64]| Outcome {
            case: case(rules),
            cycles: cycles.to_vec(),
            floor: floor.to_vec(),
        };
        let outcomes = [
            outcome(4, &[90.0, 100.0, 400.0], &[60.0, 50.0, 100.0]),
            outcome(16, &[100.0, 100.0, 100.0], &[]),
        ];
        let rows = rows(&outcomes, Memory::Hugepages, 25.0, 2.5e9);
        let row = serde_json::to_value(&rows).unwrap();
        let expected = serde_json::json!([
            {
                "work": "lma-downlink", "bindings": 1000, "rules": 4, "packet_bytes": 64,
                "workers": 1, "memory": "hugepages", "cycles_per_packet": 100.0,
                "floor_cycles": 60.0, "mpps_per_core": 25.0, "ratio_to_floor": 2.0,
                "ratio_to_testpmd": 4.0, "allocations_per_burst": 0
            },
            {
                "work": "lma-downlink", "bindings": 1000, "rules": 16, "packet_bytes": 64,
                "workers": 1, "memory": "hugepages", "cycles_per_packet": 100.0,
                "floor_cycles": 60.0, "mpps_per_core": 25.0, "ratio_to_floor": 1.667,
                "ratio_to_testpmd": 4.0, "allocations_per_burst": 0
            }
        ]);
        assert_eq!(row, expected);
    }
}
