//! An open loop: packets arrive when their schedule says, whether the worker is ready or not.
//!
//! The gaps between arrivals are exponential, so arrivals are a Poisson process: a constant gap would
//! fall into step with the worker's turns and show no queue below the full rate. A packet waits in a
//! ring of [`RING`] places, as many as a card's descriptors; what finds it full is lost. A latency
//! counts from the scheduled arrival, so it has all the time that the worker came late.

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::clock::precise;

/// Places in the ring between the schedule and the worker.
pub(crate) const RING: usize = 1024;

/// Places for arrivals that are in the ring or on their way through the worker.
const PLACES: usize = 2 * RING;

/// Times of the schedule are in cycles of 2^-8.
const FRACTION: u32 = 8;

/// Kinds of gaps: the middles of as many equal parts of the exponential distribution.
const GAPS: usize = 256;

/// A schedule, and what became of it. Time is an argument: cycles of a clock that never goes back.
#[derive(Debug)]
pub(crate) struct Pace {
    start: u64,
    gaps: [u32; GAPS],
    mean: u64,
    random: u64,
    /// When the next packet arrives, since the start.
    next: u64,
    /// Packets that have not arrived.
    left: u64,
    /// When the packets arrived, in whole cycles since the start; a stretch is voided before 32 bits
    /// of difference are too few.
    arrivals: Box<[u32; PLACES]>,
    arrived: usize,
    handed: usize,
    sent: usize,
    lost: u64,
    lost_to_stalls: u64,
    /// Packets in the ring when the last one had come; none before.
    waiting: Option<usize>,
    looked: u64,
    /// A gap between looks that counts as a stall.
    stall: u64,
    largest_gap: u64,
    stalls: u64,
    stalled: u64,
    /// Whether the ring has not been found empty since the last stall.
    disturbed: bool,
    /// Latencies of packets that a stall kept waiting, and of all others.
    stall_latencies: Histogram<u32>,
    quiet_latencies: Histogram<u32>,
}

/// What became of a schedule, in cycles.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    /// Packets handed to the worker.
    pub(crate) handed: u64,
    /// Packets that it sent.
    pub(crate) sent: u64,
    /// Packets that found the ring full.
    pub(crate) lost: u64,
    /// Of those, packets that did after a stall, before the ring was empty again.
    pub(crate) lost_to_stalls: u64,
    /// Packets that were in the ring when the last one had come.
    pub(crate) waiting: u64,
    /// The longest time between two looks into the ring.
    pub(crate) largest_gap: u64,
    /// Gaps longer than an undisturbed turn can take.
    pub(crate) stalls: u64,
    /// Their sum.
    pub(crate) stalled: u64,
    /// From scheduled arrival until the driver had the packet.
    pub(crate) latencies: Histogram<u32>,
    /// The same, of packets only that met no stall and no queue that one had left.
    pub(crate) quiet: Histogram<u32>,
}

impl Pace {
    /// `packets` packets at a mean distance of `gap` cycles, from `start` on. A worker that does not
    /// look for `stall` cycles was not running.
    ///
    /// # Errors
    /// None that can happen: the histogram's bounds are right.
    pub(crate) fn new(gap: f64, packets: u64, start: u64, stall: u64) -> Result<Self> {
        let mut gaps = [0; GAPS];
        let share = |kind: usize| -(1.0 - (precise(kind as u64) + 0.5) / precise(GAPS as u64)).ln();
        // The middles miss a little of the tail.
        let sum: f64 = (0..GAPS).map(share).sum();
        let scale = gap * f64::from(1u32 << FRACTION) * precise(GAPS as u64) / sum;
        for (kind, place) in gaps.iter_mut().enumerate() {
            *place = whole(share(kind) * scale);
        }
        let total: u64 = gaps.iter().map(|gap| u64::from(*gap)).sum();
        let latencies = Histogram::new_with_bounds(1, 1 << 40, 2)?;
        Ok(Self {
            start,
            gaps,
            mean: (total / GAPS as u64).max(1),
            random: 0x2545_f491_4f6c_dd1d,
            next: 0,
            left: packets,
            arrivals: Box::new([0; PLACES]),
            arrived: 0,
            handed: 0,
            sent: 0,
            lost: 0,
            lost_to_stalls: 0,
            waiting: None,
            looked: start,
            stall,
            largest_gap: 0,
            stalls: 0,
            stalled: 0,
            disturbed: false,
            stall_latencies: latencies.clone(),
            quiet_latencies: latencies,
        })
    }

    /// Lets it begin now instead: what was done since it was made is nobody's delay.
    pub(crate) fn begin(&mut self, now: u64) {
        self.start = now;
        self.looked = now;
    }

    #[inline]
    fn gap(&mut self) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let [.., kind] = self.random.to_le_bytes();
        u64::from(self.gaps.get(usize::from(kind)).copied().unwrap_or(0))
    }

    /// The worker looks into the ring: how many packets it gets, at most `room`.
    #[inline]
    pub(crate) fn look(&mut self, now: u64, room: usize) -> usize {
        let gap = now.saturating_sub(self.looked);
        self.looked = now;
        self.largest_gap = self.largest_gap.max(gap);
        if gap > self.stall {
            self.stalls += 1;
            self.stalled += gap;
            self.disturbed = true;
        } else if self.arrived == self.handed {
            self.disturbed = false;
        }
        let at = now.saturating_sub(self.start) << FRACTION;
        while self.next <= at && self.left > 0 {
            if self.arrived - self.handed == RING {
                self.lose(at);
                break;
            }
            if let Some(place) = self.arrivals.get_mut(self.arrived % PLACES) {
                *place = low(self.next >> FRACTION);
            }
            self.arrived += 1;
            self.left -= 1;
            self.next += self.gap();
        }
        let there = self.arrived - self.handed;
        if self.left == 0 && self.waiting.is_none() {
            self.waiting = Some(there);
        }
        let count = room.min(there);
        self.handed += count;
        count
    }

    /// The ring is full until now. As many are lost as arrive in that time on average; what comes
    /// after them owes nothing to when they came.
    #[cold]
    fn lose(&mut self, at: u64) {
        let lost = ((at - self.next) / self.mean + 1).min(self.left);
        self.lost += lost;
        if self.disturbed {
            self.lost_to_stalls += lost;
        }
        self.left -= lost;
        self.next = at + self.gap().max(1);
    }

    /// The driver has the next `count` packets.
    #[inline]
    pub(crate) fn sent(&mut self, now: u64, count: usize) {
        let at = low(now.saturating_sub(self.start));
        // A stall in the middle of a turn: the next look counts it.
        self.disturbed |= now.saturating_sub(self.looked) > self.stall;
        let latencies = if self.disturbed {
            &mut self.stall_latencies
        } else {
            &mut self.quiet_latencies
        };
        for _ in 0..count {
            let arrival = self.arrivals.get(self.sent % PLACES).copied().unwrap_or(at);
            latencies.saturating_record(u64::from(at.wrapping_sub(arrival)));
            self.sent += 1;
        }
    }

    /// Whether every packet was handed out or lost.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.left == 0 && self.handed == self.arrived
    }

    /// What became of it.
    ///
    /// # Errors
    /// None that can happen: both histograms have the same bounds.
    pub(crate) fn course(self) -> Result<Course> {
        let mut latencies = self.stall_latencies;
        latencies.add(&self.quiet_latencies)?;
        Ok(Course {
            handed: self.handed as u64,
            sent: self.sent as u64,
            lost: self.lost,
            lost_to_stalls: self.lost_to_stalls,
            waiting: self.waiting.unwrap_or(0) as u64,
            largest_gap: self.largest_gap,
            stalls: self.stalls,
            stalled: self.stalled,
            latencies,
            quiet: self.quiet_latencies,
        })
    }
}

/// The lower half.
#[inline]
fn low(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and a cast saturates"
)]
fn whole(value: f64) -> u32 {
    value.round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: u64 = 50_000;

    fn pace(gap: f64, packets: u64) -> Pace {
        Pace::new(gap, packets, 1_000, STALL).unwrap()
    }

    #[test]
    fn packets_come_at_the_rate_that_was_asked_for() {
        for gap in [40.0, 333.3, 250_000.0] {
            let mut pace = pace(gap, 100_000);
            let mut now = 1_000;
            while !pace.is_over() {
                now += 100;
                let count = pace.look(now, 64);
                pace.sent(now, count);
            }
            let took = precise(now - 1_000);
            assert!((took / (gap * 1e5) - 1.0).abs() < 0.02, "{gap}: {took}");
            let course = pace.course().unwrap();
            assert_eq!((course.handed, course.sent), (100_000, 100_000));
            assert_eq!((course.lost, course.stalls), (0, 0));
            // A look every hundred cycles: no packet waits for longer.
            assert!(course.latencies.max() <= 101);
            assert!(course.waiting < 10, "{}", course.waiting);
        }
    }

    #[test]
    fn what_was_before_the_beginning_is_no_stall() {
        let mut pace = pace(100.0, 1_000_000);
        pace.begin(1_000_000);
        assert_eq!(pace.look(1_000_000, 64), 1);
        pace.sent(1_000_010, 1);
        let course = pace.course().unwrap();
        assert_eq!((course.stalls, course.largest_gap), (0, 0));
        assert_eq!(course.latencies.max(), 10);
    }

    #[test]
    fn gaps_vary_as_those_of_a_poisson_process() {
        let mut pace = pace(1000.0, u64::MAX);
        let gaps: Vec<f64> = (0..100_000).map(|_| precise(pace.gap()) / 256.0).collect();
        let mean = gaps.iter().sum::<f64>() / 1e5;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / 1e5;
        assert!((mean - 1000.0).abs() < 10.0, "{mean}");
        let deviation = variance.sqrt();
        assert!((deviation - 1000.0).abs() < 30.0, "{deviation}");
    }

    #[test]
    fn a_late_worker_pays_for_every_packet_that_waited() {
        let mut pace = pace(100.0, 1_000_000);
        assert_eq!(pace.look(1_000, 64), 1);
        pace.sent(1_010, 1);
        // Some 500 arrive while nobody looks.
        let now = 1_000 + STALL + 1;
        let mut taken = 1;
        for _ in 0..20 {
            let count = pace.look(now, 64);
            pace.sent(now, count);
            taken += count;
        }
        assert!((400..600).contains(&taken), "{taken}");
        let course = pace.course().unwrap();
        assert_eq!(course.lost, 0);
        assert_eq!((course.stalls, course.largest_gap), (1, STALL + 1));
        let half = course.latencies.value_at_quantile(0.5);
        assert!((22_000..28_000).contains(&half), "{half}");
        // Nobody but the first found the worker there.
        assert_eq!(
            (course.latencies.len(), course.quiet.len()),
            (taken as u64, 1)
        );
    }

    #[test]
    fn a_stall_within_a_turn_touches_its_packets_and_those_behind_them() {
        let mut pace = pace(100.0, 1_000_000);
        assert_eq!(pace.look(1_000, 64), 1);
        let late = 1_000 + STALL + 1;
        pace.sent(late, 1);
        let mut now = late;
        while !(pace.arrived == pace.handed && now > late) {
            let count = pace.look(now, 64);
            pace.sent(now + 10, count);
            now += 10;
        }
        let behind = pace.sent as u64;
        now += 1_000;
        let count = pace.look(now, 64);
        pace.sent(now, count);
        let course = pace.course().unwrap();
        assert_eq!(course.stalls, 1);
        assert_eq!(course.latencies.len() - course.quiet.len(), behind);
        assert_eq!(course.quiet.len(), count as u64);
    }

    #[test]
    fn what_finds_the_ring_full_is_lost_and_not_made_up_for() {
        let mut pace = pace(100.0, 100_000);
        let now = 1_000 + 100 * 50_000;
        let (mut taken, mut looks) = (0, 0);
        while looks < 100 {
            let count = pace.look(now, 64);
            pace.sent(now, count);
            taken += count;
            looks += 1;
        }
        // The ring was emptied, and nothing else has come: no time has passed.
        assert_eq!(taken, RING);
        assert!(!pace.is_over());
        assert_eq!(pace.look(now + 10_000_000, 64), 64);
        while pace.look(now + 20_000_000, 64) > 0 {}
        assert!(pace.is_over());
        let course = pace.course().unwrap();
        assert_eq!(course.handed + course.lost, 100_000);
        // Half of the packets came in the first stall.
        let first = 50_000 - RING as u64;
        assert!(
            course.lost > first && course.lost < 100_000,
            "{}",
            course.lost
        );
        assert_eq!(course.lost_to_stalls, course.lost);
    }

    #[test]
    fn a_worker_that_is_too_slow_loses_without_a_stall() {
        let mut pace = pace(100.0, 100_000);
        let mut now = 1_000;
        while !pace.is_over() {
            now += 10_000;
            let count = pace.look(now, 64);
            pace.sent(now, count);
        }
        let course = pace.course().unwrap();
        assert!(course.lost > 30_000, "{}", course.lost);
        assert_eq!((course.lost_to_stalls, course.stalls), (0, 0));
        // Some hundred come between two looks, and 64 are taken.
        assert!(course.waiting > RING as u64 / 2, "{}", course.waiting);
    }
}
