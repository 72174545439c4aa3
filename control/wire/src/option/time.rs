//! Times and lifetimes, and the counter that says when a peer began anew.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

use super::{OptionRef, WireOption, kind};
use crate::codec::{Alignment, Writer};
use crate::error::DecodeError;

/// A time since 1970-01-01 00:00 UTC: 48 bits of seconds, 16 bits of 1/65536 s (RFC 5213 §8.8).
/// Not the NTP format.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The last timestamp at or before a time, given as what has passed since 1970.
    pub fn from_epoch(since: Duration) -> Self {
        const MAX_SECONDS: u64 = (1 << 48) - 1;
        let fraction = (u64::from(since.subsec_nanos()) << 16) / 1_000_000_000;
        Self(since.as_secs().min(MAX_SECONDS) << 16 | fraction)
    }

    /// What has passed since 1970, rounded down to nanoseconds.
    pub fn since_epoch(self) -> Duration {
        let fraction = self.0 & 0xffff;
        Duration::from_secs(self.0 >> 16) + Duration::from_nanos((fraction * 1_000_000_000) >> 16)
    }

    /// How far two timestamps are apart.
    pub fn abs_diff(self, other: Self) -> Duration {
        Self(self.0.abs_diff(other.0)).since_epoch()
    }

    /// Whether it is later than another by more than so much.
    pub fn is_after(self, other: Self, by: Duration) -> bool {
        self > other && self.abs_diff(other) > by
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({:?})", self.since_epoch())
    }
}

impl WireOption for Timestamp {
    fn decode(option: &OptionRef<'_>) -> Result<Self, DecodeError> {
        option.fixed().map(|o| Self(u64::from_be_bytes(*o)))
    }

    fn encode(&self, writer: &mut Writer) {
        writer.option(kind::TIMESTAMP, Alignment::new(8, 2), |w| {
            w.put(self.0.to_be_bytes());
        });
    }
}

/// How often a peer lost its sessions (RFC 5847 §3.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct RestartCounter(pub u32);

impl WireOption for RestartCounter {
    fn decode(option: &OptionRef<'_>) -> Result<Self, DecodeError> {
        option.fixed().map(|o| Self(u32::from_be_bytes(*o)))
    }

    fn encode(&self, writer: &mut Writer) {
        writer.option(kind::RESTART_COUNTER, Alignment::new(4, 2), |w| {
            w.put(self.0.to_be_bytes());
        });
    }
}

/// Lifetime of a binding in PBU and PBA: a number of 4-second units (RFC 6275 §6.1.7).
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct BindingLifetime {
    units: u16,
}

impl BindingLifetime {
    /// De-registration, or nothing granted.
    pub const ZERO: Self = Self { units: 0 };
    /// About three days, the most there is.
    pub const MAX: Self = Self { units: u16::MAX };

    /// A lifetime in units of 4 s.
    pub const fn from_units(units: u16) -> Self {
        Self { units }
    }

    /// The longest lifetime that is not above `duration`, except that what is above zero stays so:
    /// a lifetime of zero would end the binding.
    pub fn from_duration(duration: Duration) -> Self {
        let units = u16::try_from(duration.as_secs() / 4).unwrap_or(u16::MAX);
        Self {
            units: units.max((!duration.is_zero()).into()),
        }
    }

    /// The lifetime in units of 4 s.
    pub const fn units(self) -> u16 {
        self.units
    }

    /// The lifetime as time.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.units as u64 * 4)
    }

    /// Whether this ends the binding.
    pub const fn is_zero(self) -> bool {
        self.units == 0
    }
}

/// Lifetime of flow state in the draft's FMI and FMA: seconds, 0 to end it, 0xffff for ever.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct FlowLifetime {
    seconds: u16,
}

impl FlowLifetime {
    /// The flow state ends.
    pub const ZERO: Self = Self { seconds: 0 };
    /// The flow state stays until it is deleted or the session ends.
    pub const INFINITE: Self = Self { seconds: u16::MAX };

    /// A lifetime as the field has it.
    pub const fn from_seconds(seconds: u16) -> Self {
        Self { seconds }
    }

    /// The longest finite lifetime that is not above `duration`, except that what is above zero
    /// stays so: a lifetime of zero would end the flow state.
    pub fn from_duration(duration: Duration) -> Self {
        let seconds = u16::try_from(duration.as_secs()).unwrap_or(u16::MAX);
        Self {
            seconds: seconds.clamp((!duration.is_zero()).into(), u16::MAX - 1),
        }
    }

    /// The field's value.
    pub const fn seconds(self) -> u16 {
        self.seconds
    }

    /// The lifetime as time; `None` if it does not end.
    pub fn duration(self) -> Option<Duration> {
        (self != Self::INFINITE).then(|| Duration::from_secs(self.seconds.into()))
    }

    /// Whether this ends the flow state.
    pub const fn is_zero(self) -> bool {
        self.seconds == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_48_16_fixed_point_since_1970() {
        let half_past = Duration::from_millis(1_700_000_000_500);
        let timestamp = Timestamp::from_epoch(half_past);
        assert_eq!(timestamp, Timestamp(0x0000_6553_f100_8000));
        assert_eq!(timestamp.since_epoch(), half_past);
        let later = Timestamp(timestamp.0 + 0x1_4000);
        assert_eq!(later.abs_diff(timestamp), Duration::from_millis(1_250));
        assert_eq!(timestamp.abs_diff(later), Duration::from_millis(1_250));
        assert_eq!(Timestamp::from_epoch(Duration::MAX).0 >> 16, (1 << 48) - 1);
        assert_eq!(Timestamp(u64::MAX).since_epoch().as_secs(), (1 << 48) - 1);
    }

    #[test]
    fn only_nothing_is_a_lifetime_of_zero() {
        let binding = |d| BindingLifetime::from_duration(d).units();
        assert_eq!(binding(Duration::ZERO), 0);
        assert_eq!(binding(Duration::from_millis(1)), 1);
        assert_eq!(binding(Duration::from_mins(5)), 75);
        assert_eq!(binding(Duration::from_secs(303)), 75);
        assert_eq!(binding(Duration::MAX), u16::MAX);
        assert_eq!(BindingLifetime::MAX.duration().as_secs(), 262_140);

        let flow = FlowLifetime::from_duration;
        assert_eq!(flow(Duration::ZERO), FlowLifetime::ZERO);
        assert_eq!(flow(Duration::from_millis(1)).seconds(), 1);
        assert_eq!(flow(Duration::MAX).seconds(), 0xfffe);
        assert_eq!(FlowLifetime::INFINITE.duration(), None);
        let minute = Duration::from_mins(1);
        assert_eq!(flow(minute).duration(), Some(minute));
    }
}
