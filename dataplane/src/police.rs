//! Token buckets: what a worker makes or hands up has a rate.
//!
//! Time comes from outside and coarsely; a bucket never looks at a clock.

use std::time::Duration;

/// How often something may happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Times a second in the long run.
    pub per_second: u32,
    /// Times at once after a pause.
    pub burst: u32,
}

/// A token bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    tokens: u32,
    /// Billionths of a token that have grown since the last whole one.
    fraction: u64,
    filled_at: Duration,
}

const BILLION: u64 = 1_000_000_000;

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            tokens: rate.burst,
            fraction: 0,
            filled_at: Duration::ZERO,
        }
    }

    /// Adds what has grown by `now`, which never goes back.
    pub(crate) fn fill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.filled_at);
        self.filled_at = now;
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let grown = nanos
            .saturating_mul(self.rate.per_second.into())
            .saturating_add(self.fraction);
        self.fraction = grown % BILLION;
        let tokens = u64::from(self.tokens).saturating_add(grown / BILLION);
        self.tokens = u32::try_from(tokens).map_or(self.rate.burst, |t| t.min(self.rate.burst));
    }

    /// Takes one token, if there is one.
    pub(crate) fn take(&mut self) -> bool {
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_a_burst_and_fills_at_its_rate() {
        let mut bucket = Bucket::new(Rate {
            per_second: 3,
            burst: 2,
        });
        let take = |bucket: &mut Bucket| (0..10).filter(|_| bucket.take()).count();
        assert_eq!(take(&mut bucket), 2);
        // Thirds of a second add up without loss.
        let mut taken = 0;
        for step in 1..=100_u32 {
            bucket.fill(Duration::from_millis(100) * step);
            taken += take(&mut bucket);
        }
        assert_eq!(taken, 30);
        bucket.fill(Duration::from_secs(1_000_000));
        assert_eq!(take(&mut bucket), 2);
    }
}
