//! What a worker's tables take, and how many prefixes they hold.

use std::time::Duration;

use anyhow::Result;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde::{Deserialize, Serialize};

use crate::case::{Case, Memory, Size, Work};
use crate::cell::{environment, pin};
use crate::clock::{precise, thread_time};
use crate::machine::resident;
use crate::report::{median, rounded};
use crate::subject::Subject;

/// Rules of each binding.
const RULES: u16 = 4;

/// What a child process is asked: one for each size, as memory that was given back stays resident.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Prefixes to put into the table.
    pub(crate) bindings: u32,
    /// How long a stretch of forwarding takes.
    pub(crate) milliseconds: u64,
    /// The core to run on.
    pub(crate) core: usize,
    /// The frequency of the time stamp counter.
    pub(crate) tsc_hz: f64,
}

/// A full table.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Prefixes in it; none was refused.
    pub(crate) bindings: u32,
    /// Rules of each.
    pub(crate) rules: u16,
    /// What the process's resident memory grew by.
    pub(crate) bytes_per_binding: f64,
    /// From an empty worker until the last update is in force; the same thread makes the updates.
    pub(crate) fill_seconds: f64,
    /// Downlink, 64 octets, each packet for another of all the mobiles.
    pub(crate) cycles_per_packet: f64,
}

/// How often [`measure`] tells of progress.
pub(crate) const STEPS: u64 = 2;

/// The sizes of a run.
pub(crate) fn sizes(quick: bool) -> &'static [u32] {
    if quick {
        &[1_000_000]
    } else {
        &[1_000_000, 10_000_000]
    }
}

/// Measures; calls `progress` at each of [`STEPS`] steps.
///
/// # Errors
/// An update that was refused, and whatever makes a result void.
pub(crate) fn measure(order: &Order, mut progress: impl FnMut()) -> Result<Row> {
    const ROUNDS: usize = 5;
    let (eal, pool) = environment(Memory::Anonymous)?;
    pin(order.core)?;
    let case = |bindings| Case {
        work: Work::LmaDownlink,
        bindings,
        rules: RULES,
        size: Size::Fixed(64),
    };
    // What the first worker of a process brings along is no table's.
    drop(Subject::new(&eal, &pool, 0, case(1))?);
    let (before, start) = (resident()?, thread_time());
    let mut subject = Subject::new(&eal, &pool, 1, case(order.bindings))?;
    let took = thread_time().saturating_sub(start);
    let grown = resident()? - before;
    progress();
    subject.verify()?;
    let turns = subject.calibrate(Duration::from_millis(order.milliseconds))?;
    let packets = precise(turns * dataplane::BURST as u64);
    let mut cycles = Vec::new();
    for _ in 0..ROUNDS {
        let took = subject.forward(turns)?;
        cycles.push(took.as_secs_f64() * order.tsc_hz / packets);
    }
    progress();
    Ok(Row {
        bindings: order.bindings,
        rules: RULES,
        bytes_per_binding: rounded(grown / f64::from(order.bindings), 1),
        fill_seconds: rounded(took.as_secs_f64(), 2),
        cycles_per_packet: rounded(median(&cycles), 1),
    })
}

/// The table for the terminal.
pub(crate) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "table of",
        "rules",
        "octets/binding",
        "s to fill",
        "cycles/packet",
    ]);
    for row in rows {
        table.add_row([
            row.bindings.to_string(),
            row.rules.to_string(),
            format!("{:.1}", row.bytes_per_binding),
            format!("{:.2}", row.fill_seconds),
            format!("{:.1}", row.cycles_per_packet),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
