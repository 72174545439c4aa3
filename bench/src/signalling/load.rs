//! Forwarding while the tables change.

mod updater;

use std::time::{Duration, Instant};

use anyhow::Result;
use dpdk::{EalHandle, Mempool};
use serde::{Deserialize, Serialize};

use self::updater::Updater;
use super::Order;
use crate::case::{Case, Size, Work};
use crate::cell::pin;
use crate::clock::precise;
use crate::latency::{Clock, Stretch, no_loss_rate};
use crate::report::{median, rounded};
use crate::subject::Subject;

/// Updates per second.
const RATE: f64 = 100_000.0;

/// The share of the rate without loss that is offered.
const LOAD: f64 = 0.9;

/// A worker at 90 % of its rate without loss. Percentiles are medians of stretches, with updates and
/// without in turn; counts are of all stretches together, which are equally long. They are short, so that
/// a machine that takes the core away now and then leaves some alone.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct UnderLoad {
    /// The highest rate without updates at which most stretches of a tenth of a second lost nothing.
    pub(crate) no_loss_mpps: f64,
    /// What was offered.
    pub(crate) offered_mpps: f64,
    /// Bindings replaced.
    pub(crate) updates_per_second: f64,
    /// Stretches of each kind; absent from old reports, as the next two are.
    #[serde(default)]
    pub(crate) stretches: u64,
    /// Of those with updates, the ones in which nothing was lost.
    #[serde(default)]
    pub(crate) stretches_without_loss: u64,
    /// As `stretches_without_loss`.
    #[serde(default)]
    pub(crate) stretches_without_loss_without_updates: u64,
    /// Packets offered with updates.
    pub(crate) packets: u64,
    /// Of those, packets that found the ring full.
    pub(crate) lost: u64,
    /// Of those, packets that did after a stall, before the ring was empty again.
    pub(crate) lost_to_stalls: u64,
    /// Packets offered without updates.
    pub(crate) packets_without_updates: u64,
    /// As `lost`.
    pub(crate) lost_without_updates: u64,
    /// As `lost_to_stalls`.
    pub(crate) lost_to_stalls_without_updates: u64,
    /// From scheduled arrival until the driver had the packet: half are below.
    pub(crate) p50_us: f64,
    /// 99 in a hundred.
    pub(crate) p99_us: f64,
    /// 9999 in ten thousand.
    pub(crate) p99_99_us: f64,
    /// As `p50_us`.
    pub(crate) p50_us_without_updates: f64,
    /// As `p99_us`.
    pub(crate) p99_us_without_updates: f64,
    /// As `p99_99_us`.
    pub(crate) p99_99_us_without_updates: f64,
    /// 9999 in ten thousand of the packets that met no stall and no queue that one had left.
    pub(crate) quiet_p99_99_us: f64,
    /// As `quiet_p99_99_us`.
    pub(crate) quiet_p99_99_us_without_updates: f64,
    /// What counts as a stall: longer than three full bursts take in the flood.
    pub(crate) stall_over_us: f64,
    /// Stalls with updates.
    pub(crate) stalls: u64,
    /// Stalls without.
    pub(crate) stalls_without_updates: u64,
    /// Their share of the time, in per cent.
    pub(crate) stalled_percent: f64,
    /// As `stalled_percent`.
    pub(crate) stalled_percent_without_updates: f64,
}

impl UnderLoad {
    /// What to say if a busy machine has spoiled it.
    pub(crate) fn warning(&self) -> Option<String> {
        const MOST: f64 = 10.0;
        let stalled = self.stalled_percent_without_updates;
        (stalled > MOST).then(|| {
            format!(
                "under_load: the worker stalled for {stalled:.0} % of the time without any update: others had \
                 the core. Losses and latencies are theirs."
            )
        })
    }
}

/// What a flood is slowed by.
pub(super) struct Flood {
    /// Cycles per packet without updates.
    pub(super) idle: f64,
    /// And with them.
    pub(super) loaded: f64,
    /// The median of neighbouring rounds, in per cent of the rate.
    pub(super) drop: f64,
    /// Updates per second.
    pub(super) given: f64,
}

/// A worker forwards while bindings change under it: as fast as it can, and what it is offered.
pub(super) fn under_load(
    order: &Order,
    eal: &EalHandle,
    pool: &Mempool,
) -> Result<(Flood, UnderLoad)> {
    let case = Case {
        work: Work::LmaDownlink,
        bindings: order.mobiles,
        rules: 4,
        size: Size::Fixed(64),
    };
    pin(order.core)?;
    let mut subject = Subject::new(eal, pool, 0, case)?;
    subject.verify()?;
    let length = Duration::from_millis(order.milliseconds);
    let control = subject.take_control()?;
    // A little more than a stretch of this length takes.
    let ahead = usize::try_from(order.milliseconds)? * 120;
    let updater = Updater::start(control, case, RATE, ahead, order.control_core);
    let flood = flood(order, &mut subject, &updater)?;
    let paced = paced(order, &mut subject, &updater, length, flood.idle)?;
    updater.stop()?;
    subject.accepted()?;
    Ok((flood, paced))
}

fn flood(order: &Order, subject: &mut Subject, updater: &Updater) -> Result<Flood> {
    const ROUNDS: usize = 7;
    let turns = subject.calibrate(Duration::from_millis(200))?;
    let packets = precise(turns * dataplane::BURST as u64);
    let (mut idle, mut loaded, mut drops, mut given) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        updater.prepare()?;
        let mut pair = [0.0; 2];
        for (cycles, updates) in pair.iter_mut().zip([false, true]) {
            updater.switch(updates);
            subject.forward(turns / 10)?;
            let (start, sent) = (Instant::now(), updater.sent());
            let took = subject.forward(turns)?;
            *cycles = took.as_secs_f64() * order.tsc_hz / packets;
            if updates {
                given.push(precise(updater.sent() - sent) / start.elapsed().as_secs_f64());
            }
            updater.switch(false);
        }
        let [alone, busy] = pair;
        idle.push(alone);
        loaded.push(busy);
        drops.push((1.0 - alone / busy) * 100.0);
    }
    Ok(Flood {
        idle: median(&idle),
        loaded: median(&loaded),
        drop: median(&drops),
        given: median(&given),
    })
}

/// Stretches of one kind.
#[derive(Default)]
struct Side {
    stretches: u64,
    kept_all: u64,
    packets: u64,
    lost: u64,
    lost_to_stalls: u64,
    stalls: u64,
    stalled: u64,
    seconds: f64,
    /// Of each stretch: three percentiles in microseconds, and the last also of quiet packets.
    times: [Vec<f64>; 4],
}

impl Side {
    fn add(&mut self, stretch: &Stretch, tsc_hz: f64) {
        let course = &stretch.course;
        self.stretches += 1;
        self.kept_all += u64::from(course.lost == 0);
        self.packets += course.handed + course.lost;
        self.lost += course.lost;
        self.lost_to_stalls += course.lost_to_stalls;
        self.stalls += course.stalls;
        self.stalled += course.stalled;
        self.seconds += stretch.seconds;
        let all = [0.5, 0.99, 0.9999].map(|quantile| course.latencies.value_at_quantile(quantile));
        let [p50, p99, p99_99] = all;
        let each = [p50, p99, p99_99, course.quiet.value_at_quantile(0.9999)];
        for (times, cycles) in self.times.iter_mut().zip(each) {
            times.push(precise(cycles) / tsc_hz * 1e6);
        }
    }

    fn times(&self) -> [f64; 4] {
        let [a, b, c, d] = &self.times;
        [a, b, c, d].map(|times| rounded(median(times), 2))
    }

    fn stalled_percent(&self, tsc_hz: f64) -> f64 {
        rounded(precise(self.stalled) / tsc_hz / self.seconds * 100.0, 3)
    }
}

/// By a schedule that waits for nobody; `cycles` is what a packet takes in the flood.
fn paced(
    order: &Order,
    subject: &mut Subject,
    updater: &Updater,
    length: Duration,
    cycles: f64,
) -> Result<UnderLoad> {
    // Together as long as seven of the given length.
    const PAIRS: u32 = 70;
    let length = length * 7 / PAIRS;
    let tsc_hz = order.tsc_hz;
    let clock = Clock::of_flood(tsc_hz, tsc_hz / cycles);
    let no_loss = no_loss_rate(subject, tsc_hz / cycles, clock)?;
    let rate = no_loss * LOAD;
    let (mut without, mut with) = (Side::default(), Side::default());
    let (mut given, warm) = (vec![], length / 10);
    for _ in 0..PAIRS {
        updater.prepare()?;
        Stretch::run(subject, rate, warm, clock)?;
        without.add(&Stretch::run(subject, rate, length, clock)?, tsc_hz);
        updater.switch(true);
        Stretch::run(subject, rate, warm, clock)?;
        let sent = updater.sent();
        let stretch = Stretch::run(subject, rate, length, clock)?;
        given.push(precise(updater.sent() - sent) / stretch.seconds);
        updater.switch(false);
        with.add(&stretch, tsc_hz);
    }
    let [p50_us, p99_us, p99_99_us, quiet_p99_99_us] = with.times();
    let [p50, p99, p99_99, quiet_p99_99] = without.times();
    Ok(UnderLoad {
        no_loss_mpps: rounded(no_loss / 1e6, 2),
        offered_mpps: rounded(rate / 1e6, 2),
        updates_per_second: rounded(median(&given), 0),
        stretches: with.stretches,
        stretches_without_loss: with.kept_all,
        stretches_without_loss_without_updates: without.kept_all,
        packets: with.packets,
        lost: with.lost,
        lost_to_stalls: with.lost_to_stalls,
        packets_without_updates: without.packets,
        lost_without_updates: without.lost,
        lost_to_stalls_without_updates: without.lost_to_stalls,
        p50_us,
        p99_us,
        p99_99_us,
        p50_us_without_updates: p50,
        p99_us_without_updates: p99,
        p99_99_us_without_updates: p99_99,
        quiet_p99_99_us,
        quiet_p99_99_us_without_updates: quiet_p99_99,
        stall_over_us: rounded(clock.stall * 1e6, 1),
        stalls: with.stalls,
        stalls_without_updates: without.stalls,
        stalled_percent: with.stalled_percent(tsc_hz),
        stalled_percent_without_updates: without.stalled_percent(tsc_hz),
    })
}
