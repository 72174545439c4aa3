//! How much is logged: peers must not fill the disk, whatever they make happen.

use std::time::Duration;

/// Lines a second. What more there is to say is counted.
const LINES: u32 = 100;

/// Counts the lines of each second.
#[derive(Debug, Default)]
pub(crate) struct LogRate {
    second: u64,
    lines: u32,
    suppressed: u64,
}

impl LogRate {
    /// Whether there may be one more line; counts it either way.
    pub(crate) fn allow(&mut self, now: Duration) -> bool {
        if now.as_secs() != self.second {
            self.second = now.as_secs();
            self.lines = 0;
        }
        if self.lines < LINES {
            self.lines += 1;
            return true;
        }
        self.suppressed += 1;
        false
    }

    /// Lines that were not written.
    pub(crate) fn suppressed(&self) -> u64 {
        self.suppressed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_lines() {
        let mut rate = LogRate::default();
        let mut at = |ms| {
            (0..1000)
                .filter(|_| rate.allow(Duration::from_millis(ms)))
                .count()
        };
        assert_eq!([at(0), at(999), at(1000)], [100, 0, 100]);
        assert_eq!(rate.suppressed(), 900 + 1000 + 900);
    }
}
