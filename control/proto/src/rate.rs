//! A token bucket on the caller's clock.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Lets `burst` events through at once and `per_second` on average.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RateLimit {
    per_second: u32,
    burst: u32,
    /// Credit in nanoseconds of waiting: an event costs a second divided by the rate.
    credit: Duration,
    last: Duration,
}

impl RateLimit {
    /// A full bucket.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let mut limit = Self {
            per_second,
            burst,
            credit: Duration::ZERO,
            last: Duration::ZERO,
        };
        limit.credit = limit.capacity();
        limit
    }

    /// Whether an event at `now` may pass; takes its token if so.
    pub(crate) fn allow(&mut self, now: Duration) -> bool {
        if self.per_second == 0 {
            return false;
        }
        let refill = now.saturating_sub(self.last);
        self.last = self.last.max(now);
        self.credit = self.credit.saturating_add(refill).min(self.capacity());
        match self.credit.checked_sub(self.cost()) {
            Some(rest) => {
                self.credit = rest;
                true
            }
            None => false,
        }
    }

    fn cost(&self) -> Duration {
        Duration::from_secs(1) / self.per_second.max(1)
    }

    fn capacity(&self) -> Duration {
        self.cost() * self.burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut limit = RateLimit::new(10, 3);
        let at = Duration::from_millis;
        assert_eq!((0..5).filter(|_| limit.allow(at(1000))).count(), 3);
        assert!(!limit.allow(at(1099)));
        assert!(limit.allow(at(1100)));
        assert!(!limit.allow(at(1100)));
        assert_eq!((0..100).filter(|_| limit.allow(at(9000))).count(), 3);
        assert!(!RateLimit::new(0, 3).allow(at(1)));
    }
}
