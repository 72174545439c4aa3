//! How long a packet takes from its scheduled arrival until the driver has it, at shares of the
//! highest rate without loss.

use std::time::Duration;

use anyhow::{Result, ensure};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::case::{Case, Memory, Size, Work};
use crate::cell::{environment, pin};
use crate::clock::{involuntary_switches, precise, tsc};
use crate::paced::{Course, Pace};
use crate::report::rounded;
use crate::subject::Subject;

/// What a child process is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Where everything lives.
    pub(crate) memory: Memory,
    /// What to measure.
    pub(crate) case: Case,
    /// How long packets come at each load, in milliseconds.
    pub(crate) milliseconds: u64,
    /// The core to run on.
    pub(crate) core: usize,
    /// The frequency of the time stamp counter.
    pub(crate) tsc_hz: f64,
}

/// One case at one load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The work.
    pub(crate) work: Work,
    /// Prefixes in the table.
    pub(crate) bindings: u32,
    /// Rules of each.
    pub(crate) rules: u16,
    /// Octets of a mobile's packet with its Ethernet header.
    pub(crate) packet_bytes: u16,
    /// The kind of memory.
    pub(crate) memory: Memory,
    /// Million packets per second with a packet always there, without the schedule's own work.
    pub(crate) flood_mpps: f64,
    /// The highest offered rate at which most stretches of a tenth of a second lost nothing.
    pub(crate) no_loss_mpps: f64,
    /// The share of it that was offered.
    pub(crate) load_percent: u32,
    /// What was offered.
    pub(crate) offered_mpps: f64,
    /// Packets offered.
    pub(crate) packets: u64,
    /// Packets that found the ring full.
    pub(crate) lost: u64,
    /// Half of the latencies are below, in microseconds.
    pub(crate) p50_us: f64,
    /// Nine in ten.
    pub(crate) p90_us: f64,
    /// 99 in a hundred.
    pub(crate) p99_us: f64,
    /// 999 in a thousand.
    pub(crate) p99_9_us: f64,
    /// 9999 in ten thousand.
    pub(crate) p99_99_us: f64,
    /// The longest.
    pub(crate) max_us: f64,
    /// The longest time between two looks of the worker into its ring.
    pub(crate) largest_gap_us: f64,
    /// What counts as a stall: longer than three full bursts take in the flood.
    pub(crate) stall_over_us: f64,
    /// Such gaps: the thread was not running, or slowed to a third.
    pub(crate) stalls: u64,
    /// Their share of the time, in per cent.
    pub(crate) stalled_percent: f64,
    /// How often the kernel took the core from the thread.
    pub(crate) involuntary_switches: u64,
    /// Packets that met no stall and no queue that one had left, in per cent of those sent.
    pub(crate) quiet_percent: f64,
    /// Their latencies: the worker's own part.
    pub(crate) quiet_p50_us: f64,
    /// Nine in ten.
    pub(crate) quiet_p90_us: f64,
    /// 99 in a hundred.
    pub(crate) quiet_p99_us: f64,
    /// 999 in a thousand.
    pub(crate) quiet_p99_9_us: f64,
    /// 9999 in ten thousand.
    pub(crate) quiet_p99_99_us: f64,
    /// The longest.
    pub(crate) quiet_max_us: f64,
}

impl Row {
    /// Names of [`Row::percentiles`].
    pub(crate) const PERCENTILES: [&str; 6] = ["50", "90", "99", "99.9", "99.99", "all"];

    /// Latencies that so many per cent of the packets did not exceed.
    pub(crate) fn percentiles(&self) -> [f64; 6] {
        [
            self.p50_us,
            self.p90_us,
            self.p99_us,
            self.p99_9_us,
            self.p99_99_us,
            self.max_us,
        ]
    }

    /// The same, of packets that no stall touched.
    pub(crate) fn quiet_percentiles(&self) -> [f64; 6] {
        [
            self.quiet_p50_us,
            self.quiet_p90_us,
            self.quiet_p99_us,
            self.quiet_p99_9_us,
            self.quiet_p99_99_us,
            self.quiet_max_us,
        ]
    }
}

/// Loads in per cent of the rate without loss.
const LOADS: [u32; 3] = [10, 50, 90];

/// Halvings of the range in which the rate without loss is: 0.4 % of the flood's rate.
const HALVINGS: u32 = 8;

/// How often [`measure`] tells of progress.
pub(crate) const STEPS: u64 = 1 + LOADS.len() as u64;

/// What is measured.
pub(crate) fn cases() -> impl Iterator<Item = Case> {
    Work::ALL.into_iter().map(|work| Case {
        work,
        bindings: if work.is_lma() { 100_000 } else { 10_000 },
        rules: if work == Work::LmaDownlink { 4 } else { 0 },
        size: Size::Fixed(64),
    })
}

/// Measures; calls `progress` at each of [`STEPS`] steps.
///
/// # Errors
/// Whatever makes a result void.
pub(crate) fn measure(order: &Order, mut progress: impl FnMut()) -> Result<Vec<Row>> {
    let (eal, pool) = environment(order.memory)?;
    pin(order.core)?;
    let mut subject = Subject::new(&eal, &pool, 0, order.case)?;
    subject.verify()?;
    let length = Duration::from_millis(order.milliseconds);
    let turns = subject.calibrate(length.min(Duration::from_millis(100)))?;
    let took = subject.forward(turns)?;
    let flood = precise(turns * dataplane::BURST as u64) / took.as_secs_f64();
    let clock = Clock::of_flood(order.tsc_hz, flood);
    let no_loss = no_loss_rate(&mut subject, flood, clock)?;
    progress();
    let mut rows = Vec::new();
    for load in LOADS {
        let rate = no_loss * f64::from(load) / 100.0;
        let stretch = Stretch::run(&mut subject, rate, length, clock)?;
        rows.push(row(order, [flood, no_loss, rate], load, &stretch));
        progress();
    }
    Ok(rows)
}

/// What a stretch says of itself; the rates are the flood's, that without loss, and the offered one.
fn row(order: &Order, rates: [f64; 3], load: u32, stretch: &Stretch) -> Row {
    let course = &stretch.course;
    let [flood_mpps, no_loss_mpps, offered_mpps] = rates.map(|rate| rounded(rate / 1e6, 2));
    let us = |cycles: u64| rounded(precise(cycles) / order.tsc_hz * 1e6, 2);
    let all = |of: &Histogram<u32>| {
        let quantiles = [0.5, 0.9, 0.99, 0.999, 0.9999, 1.0];
        quantiles.map(|quantile| us(of.value_at_quantile(quantile)))
    };
    let [p50_us, p90_us, p99_us, p99_9_us, p99_99_us, max_us] = all(&course.latencies);
    let quiet = all(&course.quiet);
    let [quiet_p50_us, quiet_p90_us, quiet_p99_us, ..] = quiet;
    let [_, _, _, quiet_p99_9_us, quiet_p99_99_us, quiet_max_us] = quiet;
    let quiet_share = precise(course.quiet.len()) / precise(course.sent.max(1));
    Row {
        work: order.case.work,
        bindings: order.case.bindings,
        rules: order.case.rules,
        packet_bytes: order.case.size.mean(),
        memory: order.memory,
        flood_mpps,
        no_loss_mpps,
        load_percent: load,
        offered_mpps,
        packets: course.handed + course.lost,
        lost: course.lost,
        p50_us,
        p90_us,
        p99_us,
        p99_9_us,
        p99_99_us,
        max_us,
        largest_gap_us: us(course.largest_gap),
        stall_over_us: rounded(stretch.stall * 1e6, 1),
        stalls: course.stalls,
        stalled_percent: rounded(
            precise(course.stalled) / order.tsc_hz / stretch.seconds * 100.0,
            3,
        ),
        involuntary_switches: stretch.switches,
        quiet_percent: rounded(quiet_share * 100.0, 2),
        quiet_p50_us,
        quiet_p90_us,
        quiet_p99_us,
        quiet_p99_9_us,
        quiet_p99_99_us,
        quiet_max_us,
    }
}

/// The highest rate at which most stretches lose nothing: a good moment of the machine is not enough, and a bad
/// one does not matter.
///
/// # Errors
/// As [`Stretch::run`]; a worker that loses packets at every rate.
pub(crate) fn no_loss_rate(subject: &mut Subject, flood: f64, clock: Clock) -> Result<f64> {
    const MOST: u32 = 3;
    const LENGTH: Duration = Duration::from_millis(100);
    let highest = highest(flood, HALVINGS, |rate| {
        let (mut kept, mut lost) = (0, 0);
        while kept < MOST && lost < MOST {
            let course = Stretch::run(subject, rate, LENGTH, clock)?.course;
            kept += u32::from(course.lost == 0);
            lost += u32::from(course.lost > 0);
        }
        Ok(kept == MOST)
    })?;
    ensure!(highest > 0.0, "packets are lost at every rate");
    Ok(highest)
}

/// The highest rate below `limit` that holds, after so many halvings of what is between; zero if none did.
///
/// # Errors
/// The first of `holds`.
pub(crate) fn highest(
    limit: f64,
    halvings: u32,
    mut holds: impl FnMut(f64) -> Result<bool>,
) -> Result<f64> {
    let (mut low, mut high) = (0.0, limit);
    for _ in 0..halvings {
        let rate = f64::midpoint(low, high);
        *(if holds(rate)? { &mut low } else { &mut high }) = rate;
    }
    Ok(low)
}

/// Cycles in a second, and what a stall is.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    tsc_hz: f64,
    /// What counts as a stall, in seconds.
    pub(crate) stall: f64,
}

impl Clock {
    /// For a worker that floods at this rate.
    pub(crate) fn of_flood(tsc_hz: f64, flood: f64) -> Self {
        Self {
            tsc_hz,
            stall: 3.0 * precise(dataplane::BURST as u64) / flood,
        }
    }

    /// Packets at this rate for so long.
    ///
    /// # Errors
    /// As [`Pace::new`].
    pub(crate) fn pace(self, rate: f64, length: Duration) -> Result<Pace> {
        let packets = whole(rate * length.as_secs_f64()).max(1);
        let stall = whole(self.stall * self.tsc_hz);
        Pace::new(self.tsc_hz / rate, packets, tsc(), stall)
    }
}

/// A time in which packets were offered at one rate.
pub(crate) struct Stretch {
    /// What became of them.
    pub(crate) course: Course,
    /// How long it took.
    pub(crate) seconds: f64,
    /// What counted as a stall, in seconds.
    stall: f64,
    /// How often the kernel took the core away.
    switches: u64,
}

impl Stretch {
    /// Offers packets at this rate for so long.
    ///
    /// # Errors
    /// As [`Subject::forward_paced`]; a thread that did not run for a second.
    pub(crate) fn run(
        subject: &mut Subject,
        rate: f64,
        length: Duration,
        clock: Clock,
    ) -> Result<Self> {
        let (switches, start) = (involuntary_switches(), tsc());
        let pace = clock.pace(rate, length)?;
        let course = subject.forward_paced(pace)?;
        let stretch = Self {
            seconds: precise(tsc() - start) / clock.tsc_hz,
            stall: clock.stall,
            switches: involuntary_switches() - switches,
            course,
        };
        ensure!(
            stretch.course.largest_gap < whole(clock.tsc_hz),
            "the thread did not run for a second"
        );
        Ok(stretch)
    }
}

/// The nearest whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and a cast saturates"
)]
pub(crate) fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// What to say of rows that a busy machine has spoiled.
pub(crate) fn warning(rows: &[Row]) -> Option<String> {
    const MOST: f64 = 10.0;
    let spoiled = rows.iter().filter(|row| row.stalled_percent > MOST).count();
    (spoiled > 0).then(|| {
        format!(
            "{spoiled} of {} latency rows stalled for over {MOST} % of the time: others had the core or \
             its caches. They say little of the worker, and the rate without loss may be too low.",
            rows.len()
        )
    })
}

/// The table for the terminal, beside an older run's median if there is one.
pub(crate) fn table(rows: &[Row], old: Option<&[Row]>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    let mut header = vec![
        "work",
        "load",
        "Mpps",
        "packets",
        "lost",
        "p50 us",
        "p90",
        "p99",
        "p99.9",
        "p99.99",
        "max",
        "gap us",
        "stalls",
        "stalled",
        "switches",
        "quiet",
        "quiet p99",
        "quiet p99.99",
    ];
    if old.is_some() {
        header.extend(["p50 before", "p99 before"]);
    }
    table.set_header(header);
    for row in rows {
        let mut cells = vec![
            format!("{} {} x {}", row.work, row.bindings, row.rules),
            format!("{} %", row.load_percent),
            format!("{:.2}", row.offered_mpps),
            row.packets.to_string(),
            row.lost.to_string(),
            format!("{:.2}", row.p50_us),
            format!("{:.2}", row.p90_us),
            format!("{:.2}", row.p99_us),
            format!("{:.2}", row.p99_9_us),
            format!("{:.2}", row.p99_99_us),
            format!("{:.1}", row.max_us),
            format!("{:.1}", row.largest_gap_us),
            row.stalls.to_string(),
            format!("{:.2} %", row.stalled_percent),
            row.involuntary_switches.to_string(),
            format!("{:.1} %", row.quiet_percent),
            format!("{:.2}", row.quiet_p99_us),
            format!("{:.2}", row.quiet_p99_99_us),
        ];
        if let Some(old) = old {
            let key = |row: &Row| (row.work, row.bindings, row.rules, row.load_percent);
            let before = old.iter().find(|other| key(other) == key(row));
            let show = |of: fn(&Row) -> f64| before.map_or("-".into(), |b| format!("{:.2}", of(b)));
            cells.extend([show(|row| row.p50_us), show(|row| row.p99_us)]);
        }
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_rate_that_holds_is_found_from_below() {
        for edge in [0.3, 1.0, 77.7, 99.9] {
            let mut asked = 0;
            let found = highest(100.0, 10, |rate| {
                asked += 1;
                Ok(rate <= edge)
            });
            let found = found.unwrap();
            assert!(found <= edge && edge - found < 0.1, "{edge}: {found}");
            assert_eq!(asked, 10);
        }
    }

    #[test]
    fn where_no_rate_holds_none_is_found() {
        assert!(highest(100.0, 8, |_| Ok(false)).unwrap() <= 0.0);
        assert!(highest(100.0, 8, |_| anyhow::bail!("no")).is_err());
    }
}
