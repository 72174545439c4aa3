//! How much is logged: peers must not fill the disk, whatever they make happen.

use std::time::Duration;

/// Lets so many lines a second through. What more there is to say is counted.
#[derive(Debug)]
pub(crate) struct LogRate {
    most: u32,
    second: u64,
    lines: u32,
    suppressed: u64,
}

impl LogRate {
    /// For so many lines a second.
    pub(crate) fn new(most: u32) -> Self {
        Self {
            most,
            second: 0,
            lines: 0,
            suppressed: 0,
        }
    }

    /// Whether there may be one more line; counts it either way.
    pub(crate) fn allow(&mut self, now: Duration) -> bool {
        if now.as_secs() != self.second {
            self.second = now.as_secs();
            self.lines = 0;
        }
        if self.lines < self.most {
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
        let mut rate = LogRate::new(100);
        let mut at = |ms| {
            (0..1000)
                .filter(|_| rate.allow(Duration::from_millis(ms)))
                .count()
        };
        assert_eq!([at(0), at(999), at(1000)], [100, 0, 100]);
        assert_eq!(rate.suppressed(), 900 + 1000 + 900);
    }
}
