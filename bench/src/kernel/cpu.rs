//! Processor time of the whole machine.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// What each processor did since the start of the system.
///
/// The kernel reckons idle time by the clock, with interrupts taken out of it; the kinds of busy time
/// it samples. So busy is what is not idle.
#[derive(Clone, Debug)]
pub(super) struct Usage(Vec<Option<Core>>);

/// One that is on.
#[derive(Clone, Copy, Debug)]
struct Core {
    /// Nothing to do, or not ours.
    away: Duration,
    /// In programs, not in the kernel.
    programs: Duration,
}

impl Usage {
    /// Reads `/proc/stat`.
    ///
    /// # Errors
    /// If it is not there or not as it should be.
    pub(super) fn read() -> Result<Self> {
        parse(&fs::read_to_string("/proc/stat")?).context("/proc/stat is not understood")
    }

    /// How long the processor was busy in the last `elapsed`, at whose begin `self` was read.
    pub(super) fn busy(&self, later: &Self, core: usize, elapsed: Duration) -> Duration {
        self.between(later, core)
            .map_or(Duration::ZERO, |core| elapsed.saturating_sub(core.away))
    }

    /// As [`Usage::busy`], of all processors together.
    pub(super) fn all_busy(&self, later: &Self, elapsed: Duration) -> Duration {
        (0..self.0.len())
            .map(|core| self.busy(later, core, elapsed))
            .sum()
    }

    /// How long the processor was in programs.
    pub(super) fn programs(&self, later: &Self, core: usize) -> Duration {
        self.between(later, core)
            .map_or(Duration::ZERO, |core| core.programs)
    }

    fn between(&self, later: &Self, core: usize) -> Option<Core> {
        let (before, after) = (self.0.get(core)?.as_ref()?, later.0.get(core)?.as_ref()?);
        Some(Core {
            away: after.away.saturating_sub(before.away),
            programs: after.programs.saturating_sub(before.programs),
        })
    }
}

/// Times are in hundredths of a second.
fn parse(stat: &str) -> Option<Usage> {
    let mut cores = Vec::new();
    for line in stat.lines().skip(1) {
        let Some(rest) = line.strip_prefix("cpu") else {
            break;
        };
        let mut fields = rest.split_whitespace();
        let number: usize = fields.next()?.parse().ok()?;
        let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
        let [user, nice, _, idle, disk, _, _, stolen, ..] = *ticks.as_slice() else {
            return None;
        };
        cores.resize(number, None);
        cores.push(Some(Core {
            away: Duration::from_millis((idle + disk + stolen) * 10),
            programs: Duration::from_millis((user + nice) * 10),
        }));
    }
    Some(Usage(cores))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_what_is_neither_idle_nor_stolen() {
        let stat = |idle, stolen| {
            format!(
                "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 {idle} 2 3 {idle} 5 6 7 {stolen} 0 0\n\
                 cpu2 1 2 3 100 0 6 7 0 0 0\nintr 1 2 3\n"
            )
        };
        let (first, second) = (
            parse(&stat(100, 0)).unwrap(),
            parse(&stat(130, 10)).unwrap(),
        );
        let elapsed = Duration::from_secs(1);
        let busy = |core| first.busy(&second, core, elapsed).as_millis();
        assert_eq!([busy(0), busy(1), busy(2)], [600, 0, 1000]);
        assert_eq!(first.all_busy(&second, elapsed).as_millis(), 1600);
        assert_eq!(first.programs(&second, 0).as_millis(), 300);
        assert!(parse("cpu 1 2\ncpu0 1 2").is_none());
    }
}
