//! Accounting of numbered packets: lost, duplicated, reordered, late.

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

/// One numbered packet at its receiver. Times are nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Arrival {
    /// Its number, from 0.
    pub(crate) sequence: u64,
    /// When it was sent.
    pub(crate) sent: u64,
    /// When it was received.
    pub(crate) received: u64,
}

/// What became of the packets of one flow in one direction.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub(crate) struct Accounting {
    /// Packets sent.
    pub(crate) sent: u64,
    /// Packets received, each number once.
    pub(crate) received: u64,
    /// Numbers that never came.
    pub(crate) lost: u64,
    /// Packets that came again.
    pub(crate) duplicated: u64,
    /// Packets that came after one with a higher number (RFC 4737 §3).
    pub(crate) reordered: u64,
    /// Packets with a number that was never sent.
    pub(crate) foreign: u64,
    /// Ranges of lost numbers, for people who look for the reason: the first ones are written down.
    #[serde(serialize_with = "first")]
    pub(crate) lost_ranges: Vec<(u64, u64)>,
    /// Median of the one-way delay between the applications, in microseconds.
    pub(crate) delay_median_us: u64,
    /// 99th percentile of it.
    pub(crate) delay_p99_us: u64,
    /// Longest.
    pub(crate) delay_max_us: u64,
}

/// How many lost ranges are written down.
const MAX_RANGES: usize = 8;
/// Delays above this count as this, in microseconds.
const MAX_DELAY_US: u64 = 60_000_000;
/// A number so far beyond those that came was not sent by us.
const LEAP: usize = 1 << 20;

impl Accounting {
    /// Whether every packet came exactly once.
    pub(crate) fn is_whole(&self) -> bool {
        self.sent > 0 && self.lost == 0 && self.duplicated == 0 && self.foreign == 0
    }

    /// How many packets with numbers from `from` on, and below `to`, never came.
    pub(crate) fn lost_between(&self, from: u64, to: u64) -> u64 {
        let ranges = self.lost_ranges.iter();
        let common = ranges.map(|(first, last)| {
            let (first, end) = (from.max(*first), to.min(last + 1));
            end.saturating_sub(first)
        });
        common.sum()
    }
}

/// Accounts for packets as they arrive, in an octet for each.
#[derive(Debug)]
pub(crate) struct Tally {
    seen: Vec<bool>,
    /// One more than the highest number that came.
    next: u64,
    delays: Option<Histogram<u64>>,
    longest: u64,
    counts: Accounting,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            seen: Vec::new(),
            next: 0,
            // Three digits over this range is a valid histogram; without one there is nothing to say.
            delays: Histogram::new_with_bounds(1, MAX_DELAY_US, 3).ok(),
            longest: 0,
            counts: Accounting::default(),
        }
    }
}

impl Tally {
    /// The next packet that came.
    pub(crate) fn arrive(&mut self, arrival: Arrival) {
        let index = usize::try_from(arrival.sequence).unwrap_or(usize::MAX);
        if index >= self.seen.len().saturating_add(LEAP) {
            self.counts.foreign += 1;
            return;
        }
        if self.seen.len() <= index {
            self.seen.resize(index + 1, false);
        }
        if let Some(slot) = self.seen.get_mut(index)
            && std::mem::replace(slot, true)
        {
            self.counts.duplicated += 1;
            return;
        }
        self.counts.received += 1;
        if arrival.sequence < self.next {
            self.counts.reordered += 1;
        } else {
            self.next = arrival.sequence + 1;
        }
        let delay = arrival.received.saturating_sub(arrival.sent) / 1000;
        self.longest = self.longest.max(delay);
        if let Some(delays) = &mut self.delays {
            delays.saturating_record(delay.clamp(1, MAX_DELAY_US));
        }
    }

    /// What became of packets numbered below `sent`, once no more come.
    pub(crate) fn finish(mut self, sent: u64) -> Accounting {
        let all = usize::try_from(sent).unwrap_or(usize::MAX);
        let unsent = self.seen.iter().skip(all).filter(|seen| **seen).count();
        let unsent = u64::try_from(unsent).unwrap_or(u64::MAX);
        self.seen.resize(all, false);
        let delays = self.delays.as_ref();
        let quantile = |q| delays.map_or(0, |delays| delays.value_at_quantile(q));
        let received = self.counts.received - unsent;
        Accounting {
            sent,
            received,
            lost: sent - received,
            foreign: self.counts.foreign + unsent,
            lost_ranges: ranges(&self.seen),
            delay_median_us: quantile(0.5),
            delay_p99_us: quantile(0.99),
            delay_max_us: self.longest,
            ..self.counts
        }
    }
}

fn ranges(seen: &[bool]) -> Vec<(u64, u64)> {
    let mut out: Vec<(u64, u64)> = Vec::new();
    for (number, _) in (0..).zip(seen).filter(|(_, seen)| !**seen) {
        match out.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            Some(_) | None => out.push((number, number)),
        }
    }
    out
}

fn first<S: Serializer>(ranges: &[(u64, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ranges.iter().take(MAX_RANGES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn account(sent: u64, numbers: &[u64]) -> Accounting {
        let mut tally = Tally::default();
        for sequence in numbers {
            tally.arrive(Arrival {
                sequence: *sequence,
                sent: 1_000_000,
                received: 1_500_000,
            });
        }
        tally.finish(sent)
    }

    #[test]
    fn each_fate_is_counted_once() {
        let a = account(10, &[0, 1, 3, 2, 2, 5, 9, 77, u64::MAX]);
        assert_eq!((a.sent, a.received, a.lost), (10, 6, 4));
        assert_eq!((a.duplicated, a.reordered, a.foreign), (1, 1, 2));
        assert_eq!(a.lost_ranges, [(4, 4), (6, 8)]);
        assert_eq!(a.delay_max_us, 500);
        assert!(!a.is_whole());
        let lost = [(0, 10), (4, 7), (5, 6), (7, 8), (9, 10)];
        let lost = lost.map(|(from, to)| a.lost_between(from, to));
        assert_eq!(lost, [4, 2, 0, 1, 0]);
    }

    #[test]
    fn nothing_sent_is_not_whole() {
        assert!(!account(0, &[]).is_whole());
        assert!(account(2, &[1, 0]).is_whole());
    }

    #[test]
    fn only_the_first_ranges_are_written_down() {
        let numbers: Vec<u64> = (0..100).step_by(2).collect();
        let a = account(100, &numbers);
        assert_eq!(a.lost_ranges.len(), 50);
        let written = serde_json::to_value(&a).unwrap();
        assert_eq!(written["lost_ranges"].as_array().unwrap().len(), MAX_RANGES);
    }

    proptest! {
        #[test]
        fn every_packet_has_one_fate(
            numbers in prop::collection::vec(0_u64..60, 0..100), sent in 0_u64..50, cut in 0_u64..50,
        ) {
            let a = account(sent, &numbers);
            prop_assert_eq!(a.received + a.lost, sent);
            prop_assert_eq!(
                a.received + a.duplicated + a.foreign,
                u64::try_from(numbers.len()).unwrap()
            );
            let listed: u64 = a.lost_ranges.iter().map(|(from, to)| to - from + 1).sum();
            prop_assert_eq!(listed, a.lost);
            prop_assert_eq!(a.lost_between(0, cut) + a.lost_between(cut, sent.max(cut)), a.lost);
        }
    }
}
