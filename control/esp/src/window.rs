//! The anti-replay window.

/// Which sequence numbers have been received: exactly, among the latest [`Self::SIZE`]; older ones all count as
/// received (RFC 4303 §3.4.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReplayWindow {
    /// The highest number received.
    highest: u32,
    /// Bit `n` for `highest - n`.
    received: u128,
}

impl ReplayWindow {
    /// Numbers below the highest that are told apart. RFC 4303 asks for 64.
    pub const SIZE: u32 = u128::BITS;

    /// A window that has seen nothing.
    pub const fn new() -> Self {
        Self {
            highest: 0,
            received: 0,
        }
    }

    /// A window that takes every number up to `highest` for received, as after a restart.
    pub const fn resumed(highest: u32) -> Self {
        Self {
            highest,
            received: u128::MAX,
        }
    }

    /// The highest number received; 0 before the first.
    pub const fn highest(self) -> u32 {
        self.highest
    }

    /// Whether a number may be new. Zero is never sent.
    pub const fn is_new(self, number: u32) -> bool {
        if number == 0 {
            return false;
        }
        match self.highest.checked_sub(number) {
            None => true,
            Some(back) => back < Self::SIZE && self.received >> back & 1 == 0,
        }
    }

    /// Marks a number as received. Call it for authentic packets only, or a forged one closes the window.
    pub const fn mark(&mut self, number: u32) {
        if let Some(ahead) = number.checked_sub(self.highest) {
            // A leap over the whole window leaves nothing of it.
            self.received = if ahead < Self::SIZE {
                self.received << ahead | 1
            } else {
                1
            };
            self.highest = number;
        } else {
            let back = self.highest - number;
            if back < Self::SIZE {
                self.received |= 1 << back;
            }
        }
    }
}
