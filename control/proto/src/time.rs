//! The two clocks that callers bring, and the order of sequence numbers.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One reading of both clocks. Nothing in this crate reads a clock: every input comes with one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Now {
    /// Never runs backwards, with any origin: all timers are measured on it.
    pub monotonic: Duration,
    /// Since 1970-01-01 UTC: only the Timestamp option is measured on it.
    pub wall: Duration,
}

/// Whether `a` comes after `b` in serial arithmetic modulo 2^16 (RFC 6275 §9.5.1).
pub(crate) fn is_newer(a: u16, b: u16) -> bool {
    (1..0x8000).contains(&a.wrapping_sub(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_wrap() {
        assert!(is_newer(1, 0));
        assert!(is_newer(0, u16::MAX));
        assert!(!is_newer(7, 7));
        assert!(is_newer(0x7fff, 0));
        assert!(!is_newer(0x8000, 0));
    }
}
