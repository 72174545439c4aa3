//! Whether more comes in than can be kept up with, and what is done about it.
//!
//! | how much waits | what is taken in |
//! | --- | --- |
//! | little | everything |
//! | [`MANY_MESSAGES`], [`MANY_CHANGES`], or punts for [`LONG`] | no new mobiles: the LMA refuses them with 130 ([`pmip_proto::Lma::set_overloaded`]) |
//! | [`MOST_MESSAGES`], [`MOST_CHANGES`] | no signalling but heartbeats: it is counted, and its senders repeat it |
//!
//! The second begins and ends with different numbers, and not before it has been quiet for a while, so that it is not switched with every
//! message. The third needs no such care: whoever is left out repeats himself.

use std::time::Duration;

use pmip_proto::Now;

use super::control::Control;

/// Messages whose records are not kept yet, from which on the disk is behind. One that takes a tenth of a second for a
/// group has as many waiting at 100 000 answers a second.
pub(super) const MANY_MESSAGES: usize = 16_384;
/// Changes that the store has not taken up, likewise: as many as it puts in one group.
const MANY_CHANGES: u64 = 65_536;
/// So many messages wait that none are caused any more.
pub(super) const MOST_MESSAGES: usize = 65_536;
/// Likewise changes. Each is some hundred octets.
const MOST_CHANGES: u64 = 262_144;
/// What has gone down to this part of where it begins is no sign any more.
const EASED: u8 = 4;
/// How long punts have to wait in crowds before that is a sign: bursts of many peers are served faster.
const LONG: Duration = Duration::from_secs(1);
/// How long there has to be no sign before it ends.
const QUIET: Duration = Duration::from_secs(1);

/// What waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Load {
    /// Messages that have not left.
    pub(super) messages: usize,
    /// Changes that the store has not taken up.
    pub(super) changes: u64,
    /// Whether punts fill half of a ring.
    pub(super) crowded: bool,
}

impl Load {
    /// Whether so much waits that nothing more may be added.
    pub(super) fn is_most(self) -> bool {
        self.messages >= MOST_MESSAGES || self.changes >= MOST_CHANGES
    }

    fn is_high(self) -> bool {
        self.messages >= MANY_MESSAGES || self.changes >= MANY_CHANGES
    }

    fn is_low(self) -> bool {
        self.messages <= MANY_MESSAGES / usize::from(EASED)
            && self.changes <= MANY_CHANGES / u64::from(EASED)
            && !self.crowded
    }
}

/// What a look at the load has brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// Too much waits for the disk, or etcd.
    BeginsAtStore,
    /// Too much waits to be looked at.
    BeginsAtPunts,
    /// There is time for everybody again.
    Ends,
}

/// Whether new mobiles are refused.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Overload {
    is_on: bool,
    crowded_since: Option<Duration>,
    eased_since: Option<Duration>,
}

impl Overload {
    /// Takes note of what waits now.
    pub(super) fn look(&mut self, now: Duration, load: Load) -> Option<Turn> {
        self.crowded_since = load.crowded.then(|| self.crowded_since.unwrap_or(now));
        self.eased_since = load.is_low().then(|| self.eased_since.unwrap_or(now));
        let lasts = |since: Option<Duration>, time| {
            since.is_some_and(|since| now.saturating_sub(since) >= time)
        };
        let turn = if self.is_on {
            lasts(self.eased_since, QUIET).then_some(Turn::Ends)
        } else if load.is_high() {
            Some(Turn::BeginsAtStore)
        } else {
            lasts(self.crowded_since, LONG).then_some(Turn::BeginsAtPunts)
        };
        self.is_on ^= turn.is_some();
        turn
    }

    /// Whether new mobiles are refused.
    pub(super) fn is_on(self) -> bool {
        self.is_on
    }
}

impl Control {
    /// Looks what waits, and tells the LMA and people if that makes a difference.
    pub(super) fn watch_load(&mut self, now: Now) {
        self.load = Load {
            messages: self.outbox.len(),
            changes: self.keeping.queued(),
            crowded: self.workers.is_crowded(),
        };
        let Load {
            messages, changes, ..
        } = self.load;
        let turn = self.overload.look(now.monotonic, self.load);
        let Some(lma) = &mut self.lma else { return };
        match turn {
            Some(Turn::BeginsAtStore) => tracing::warn!(
                messages,
                changes,
                "overload: too much waits for the store, and new mobiles are refused"
            ),
            Some(Turn::BeginsAtPunts) => tracing::warn!(
                "overload: more signalling comes in than there is time for, and new mobiles are refused"
            ),
            Some(Turn::Ends) => {
                let refused = lma.counters().overload;
                tracing::info!(refused, "overload is over: new mobiles are served");
            }
            None => {}
        }
        // One that has just begun to lead knows nothing of it.
        if lma.is_overloaded() != self.overload.is_on() {
            lma.set_overloaded(now, self.overload.is_on());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Load = Load {
        messages: 0,
        changes: 0,
        crowded: false,
    };

    fn messages(messages: usize) -> Load {
        Load {
            messages,
            ..NOTHING
        }
    }

    fn changes(changes: u64) -> Load {
        Load { changes, ..NOTHING }
    }

    fn crowd() -> Load {
        Load {
            crowded: true,
            ..NOTHING
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_begins_at_once_when_the_disk_is_behind_and_ends_when_it_has_been_quiet() {
        for (below, high, between, low) in [
            (
                messages(MANY_MESSAGES - 1),
                messages(MANY_MESSAGES),
                messages(MANY_MESSAGES / 4 + 1),
                messages(MANY_MESSAGES / 4),
            ),
            (
                changes(MANY_CHANGES - 1),
                changes(MANY_CHANGES),
                changes(MANY_CHANGES / 4 + 1),
                changes(MANY_CHANGES / 4),
            ),
        ] {
            let mut overload = Overload::default();
            assert_eq!(overload.look(ms(0), below), None);
            assert!(!overload.is_on());
            assert_eq!(overload.look(ms(1), high), Some(Turn::BeginsAtStore));
            assert!(overload.is_on());
            // It is said once, and not over while it is not quiet.
            assert_eq!(overload.look(ms(2), high), None);
            assert_eq!(overload.look(ms(9_000), between), None);
            assert_eq!(overload.look(ms(10_000), low), None);
            assert_eq!(overload.look(ms(10_999), low), None);
            // A moment that is not begins it anew.
            assert_eq!(overload.look(ms(11_000), between), None);
            assert_eq!(overload.look(ms(11_001), NOTHING), None);
            assert_eq!(overload.look(ms(12_000), NOTHING), None);
            assert!(overload.is_on());
            assert_eq!(overload.look(ms(12_001), NOTHING), Some(Turn::Ends));
            assert!(!overload.is_on());
            assert_eq!(overload.look(ms(20_000), NOTHING), None);
        }
    }

    #[test]
    fn a_burst_is_no_sign_and_a_flood_is() {
        let mut overload = Overload::default();
        assert_eq!(overload.look(ms(0), crowd()), None);
        assert_eq!(overload.look(ms(999), crowd()), None);
        assert_eq!(overload.look(ms(1000), NOTHING), None);
        assert_eq!(overload.look(ms(1001), crowd()), None);
        assert_eq!(overload.look(ms(2000), crowd()), None);
        let begins = overload.look(ms(2001), crowd());
        assert_eq!(begins, Some(Turn::BeginsAtPunts));
        // Refusals are quick, so the rings are empty soon: that alone does not end it.
        assert_eq!(overload.look(ms(2002), NOTHING), None);
        assert_eq!(overload.look(ms(3001), NOTHING), None);
        assert_eq!(overload.look(ms(3002), NOTHING), Some(Turn::Ends));
    }

    #[test]
    fn there_is_a_most_that_may_wait() {
        assert!(!messages(MOST_MESSAGES - 1).is_most());
        assert!(messages(MOST_MESSAGES).is_most());
        assert!(!changes(MOST_CHANGES - 1).is_most());
        assert!(changes(MOST_CHANGES).is_most());
        assert!(!crowd().is_most());
        // New mobiles are refused long before.
        assert!(
            Overload::default()
                .look(ms(0), messages(MOST_MESSAGES))
                .is_some()
        );
    }
}
