//! The process's monotonic clock, which goes on where that of its former self was.
//!
//! What outlives a process has times in it. So the clock begins where the last one would be now. Until the machine is
//! started again the kernel's own monotonic clock tells, which nobody sets; who stands by for a process hears its readings as they
//! are written. Of any other one, it is where the last one was written down, plus what the wall clock says has passed since; if
//! that went back meanwhile, nothing has.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use pmip_proto::Now;
use store::Clocks;

/// Says which start of the machine this is.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    /// The monotonic clock at the start.
    base: Duration,
}

impl Clock {
    /// A clock of a process that began at `start`, after one that has left these readings, if any, and its `origin`.
    pub(super) fn new(start: Instant, last: Option<Clocks>, origin: Option<&[u8]>) -> Self {
        let base = last.map_or(Duration::ZERO, |last| {
            if let Some(now) = origin.and_then(|origin| since(origin, start)) {
                return now.max(last.monotonic);
            }
            let since = wall().saturating_sub(last.wall);
            let since = since.saturating_sub(start.elapsed());
            last.monotonic.saturating_add(since)
        });
        Self { start, base }
    }

    /// Goes ahead by so much.
    pub(super) fn go_ahead(&mut self, by: Duration) {
        self.base = self.base.saturating_add(by);
    }

    /// What tells the next process where this clock is, for as long as the machine runs: which start of the machine it is,
    /// and by how many nanoseconds this clock is ahead of the kernel's. `None` if the kernel does not say.
    pub(super) fn origin(&self) -> Option<Vec<u8>> {
        let (boot, kernel) = kernel(self.start)?;
        let nanoseconds = |time: Duration| i128::try_from(time.as_nanos()).ok();
        let ahead = nanoseconds(self.base)? - nanoseconds(kernel)?;
        Some(format!("{boot} {ahead}").into_bytes())
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

/// Where the clock with that origin was at `start`, if the machine has run since.
fn since(origin: &[u8], start: Instant) -> Option<Duration> {
    let (then, ahead) = std::str::from_utf8(origin).ok()?.split_once(' ')?;
    let (boot, kernel) = kernel(start)?;
    let ahead: i128 = ahead.parse().ok().filter(|_| then == boot)?;
    let now = i128::try_from(kernel.as_nanos()).ok()?.checked_add(ahead)?;
    u64::try_from(now).ok().map(Duration::from_nanos)
}

/// Which start of the machine this is, and the kernel's monotonic clock at `start`.
fn kernel(start: Instant) -> Option<(String, Duration)> {
    let boot = fs::read_to_string(BOOT).ok()?.trim().to_owned();
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?);
    Some((boot, now.checked_sub(start.elapsed())?))
}

/// A clock before 1970 makes the peers refuse our timestamps, which says what is wrong.
fn wall() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn last(wall: Duration) -> Clocks {
        let monotonic = S(1000);
        Clocks { monotonic, wall }
    }

    fn ago(seconds: u64) -> Duration {
        wall().saturating_sub(S(seconds))
    }

    fn read(last: impl Into<Option<Clocks>>, origin: Option<&[u8]>) -> u64 {
        Clock::new(Instant::now(), last.into(), origin)
            .now()
            .monotonic
            .as_secs()
    }

    #[test]
    fn time_goes_on_while_nobody_runs_and_never_back() {
        assert!(read(None, None) < 100);
        let after = read(last(ago(60)), None);
        assert!((1059..1160).contains(&after), "{after}");
        let back = read(last(wall() + S(3600)), None);
        assert!((1000..1100).contains(&back), "{back}");
    }

    #[test]
    fn whoever_sets_the_wall_clock_while_the_machine_runs_does_not_make_time_pass() {
        let former = Clock::new(Instant::now(), Some(last(wall())), None);
        let origin = former.origin().unwrap();
        for wrong in [ago(86_400), wall() + S(86_400)] {
            let after = read(last(wrong), Some(&origin));
            assert!((1000..1100).contains(&after), "{after}");
        }
        // It never goes back, whatever is in the file.
        let later = Clocks {
            monotonic: S(5000),
            wall: wall(),
        };
        assert!(read(later, Some(&origin)) >= 5000);
        // Of another start of the machine, or no origin at all.
        let text = String::from_utf8(origin).unwrap();
        let (boot, ahead) = text.split_once(' ').unwrap();
        for unknown in [
            format!("other {ahead}"),
            boot.to_owned(),
            format!("{boot} x"),
        ] {
            let after = read(last(ago(60)), Some(unknown.as_bytes()));
            assert!((1059..1160).contains(&after), "{after}");
        }
    }
}
