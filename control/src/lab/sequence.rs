//! Accounting of numbered packets: lost, duplicated, reordered, late.

use hdrhistogram::Histogram;
use serde::Serialize;

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
    /// The first ranges of lost numbers, for people who look for the reason.
    pub(crate) lost_ranges: Vec<(u64, u64)>,
    /// Median of the one-way delay between the applications, in microseconds.
    pub(crate) delay_median_us: u64,
    /// 99th percentile of it.
    pub(crate) delay_p99_us: u64,
    /// Longest.
    pub(crate) delay_max_us: u64,
}

/// How many lost ranges are listed.
const MAX_RANGES: usize = 8;
/// Delays above this count as this, in microseconds.
const MAX_DELAY_US: u64 = 60_000_000;

impl Accounting {
    /// Accounts for `arrivals`, in the order they came, of packets numbered below `sent`.
    pub(crate) fn new(sent: u64, arrivals: &[Arrival]) -> Self {
        let mut out = Self {
            sent,
            ..Self::default()
        };
        let mut seen = vec![false; usize::try_from(sent).unwrap_or(0)];
        let mut next = 0;
        let mut delays: Vec<u64> = Vec::with_capacity(arrivals.len());
        for arrival in arrivals {
            let index = usize::try_from(arrival.sequence).ok();
            let Some(slot) = index.and_then(|i| seen.get_mut(i)) else {
                out.foreign += 1;
                continue;
            };
            if std::mem::replace(slot, true) {
                out.duplicated += 1;
                continue;
            }
            out.received += 1;
            if arrival.sequence < next {
                out.reordered += 1;
            } else {
                next = arrival.sequence + 1;
            }
            delays.push(arrival.received.saturating_sub(arrival.sent) / 1000);
        }
        out.lost = sent - out.received;
        out.lost_ranges = ranges(&seen);
        out.delays(&delays);
        out
    }

    /// Whether every packet came exactly once.
    pub(crate) fn is_whole(&self) -> bool {
        self.sent > 0 && self.lost == 0 && self.duplicated == 0 && self.foreign == 0
    }

    fn delays(&mut self, delays: &[u64]) {
        // Three digits over this range is a valid histogram; without one there is nothing to say.
        let Ok(mut histogram) = Histogram::<u64>::new_with_bounds(1, MAX_DELAY_US, 3) else {
            return;
        };
        for delay in delays {
            histogram.saturating_record((*delay).clamp(1, MAX_DELAY_US));
        }
        self.delay_median_us = histogram.value_at_quantile(0.5);
        self.delay_p99_us = histogram.value_at_quantile(0.99);
        self.delay_max_us = delays.iter().copied().max().unwrap_or(0);
    }
}

fn ranges(seen: &[bool]) -> Vec<(u64, u64)> {
    let mut out: Vec<(u64, u64)> = Vec::new();
    for (number, _) in (0..).zip(seen).filter(|(_, seen)| !**seen) {
        let full = out.len() == MAX_RANGES;
        match out.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            Some(_) if full => break,
            Some(_) | None => out.push((number, number)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arrivals(numbers: &[u64]) -> Vec<Arrival> {
        let arrival = |sequence: &u64| Arrival {
            sequence: *sequence,
            sent: 1_000_000,
            received: 1_500_000,
        };
        numbers.iter().map(arrival).collect()
    }

    #[test]
    fn each_fate_is_counted_once() {
        let a = Accounting::new(10, &arrivals(&[0, 1, 3, 2, 2, 5, 9, 77]));
        assert_eq!((a.sent, a.received, a.lost), (10, 6, 4));
        assert_eq!((a.duplicated, a.reordered, a.foreign), (1, 1, 1));
        assert_eq!(a.lost_ranges, [(4, 4), (6, 8)]);
        assert_eq!(a.delay_max_us, 500);
        assert!(!a.is_whole());
    }

    #[test]
    fn nothing_sent_is_not_whole() {
        assert!(!Accounting::new(0, &[]).is_whole());
        assert!(Accounting::new(2, &arrivals(&[1, 0])).is_whole());
    }

    proptest! {
        #[test]
        fn every_packet_has_one_fate(
            numbers in prop::collection::vec(0_u64..60, 0..100), sent in 0_u64..50,
        ) {
            let a = Accounting::new(sent, &arrivals(&numbers));
            prop_assert_eq!(a.received + a.lost, sent);
            prop_assert_eq!(
                a.received + a.duplicated + a.foreign,
                u64::try_from(numbers.len()).unwrap()
            );
            let listed: u64 = a.lost_ranges.iter().map(|(from, to)| to - from + 1).sum();
            prop_assert!(listed == a.lost || a.lost_ranges.len() == MAX_RANGES);
        }
    }
}
