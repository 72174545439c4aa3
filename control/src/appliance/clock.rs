//! The process's monotonic clock, which goes on where that of its former self was.
//!
//! What outlives a process has times in it. So the clock begins where the last one was written down, plus what
//! the wall clock says has passed since; if that went back meanwhile, nothing has.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pmip_proto::Now;
use store::Clocks;

/// Both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    /// The monotonic clock at the start.
    base: Duration,
}

impl Clock {
    /// A clock of a process that began at `start`, after one that has left these readings, if any.
    pub(super) fn new(start: Instant, last: Option<Clocks>) -> Self {
        let away = |last: Clocks| {
            let since = wall().saturating_sub(last.wall);
            last.monotonic
                .saturating_add(since.saturating_sub(start.elapsed()))
        };
        Self {
            start,
            base: last.map_or(Duration::ZERO, away),
        }
    }

    /// Goes on where another process's clock was, if that is later.
    pub(super) fn go_on_from(&mut self, last: Clocks) {
        let since = wall().saturating_sub(last.wall);
        let now = last.monotonic.saturating_add(since);
        self.base = self.base.max(now.saturating_sub(self.start.elapsed()));
    }

    /// A reading of both.
    pub(super) fn now(&self) -> Now {
        Now {
            monotonic: self.base.saturating_add(self.start.elapsed()),
            wall: wall(),
        }
    }

    /// For how long the process has run.
    pub(super) fn uptime(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock before 1970 makes the peers refuse our timestamps, which says what is wrong.
fn wall() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_while_nobody_runs_and_never_back() {
        let s = Duration::from_secs;
        let start = Instant::now();
        let read = |last| Clock::new(start, last).now().monotonic.as_secs();
        assert!(read(None) < 100);
        let last = |wall| Clocks {
            monotonic: s(1000),
            wall,
        };
        let after = read(Some(last(wall().saturating_sub(s(60)))));
        assert!((1059..1160).contains(&after), "{after}");
        let back = read(Some(last(wall() + s(3600))));
        assert!((1000..1100).contains(&back), "{back}");
    }
}
