//! What routers have said of the ways to our peers, beside what workers do with it: mobiles and operators
//! want to know, too.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

/// The ends of a tunnel, ours first.
pub(super) type Ends = (Ipv6Addr, Ipv6Addr);

/// The MTUs of ways, as they were learned, with the same rules as a worker has.
#[derive(Debug)]
pub(super) struct Ways {
    learned: BTreeMap<Ends, Learned>,
    lifetime: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Learned {
    mtu: u16,
    /// When it is forgotten, on the monotonic clock.
    until: Duration,
}

impl Ways {
    pub(super) fn new(lifetime: Duration) -> Self {
        Self {
            learned: BTreeMap::new(),
            lifetime,
        }
    }

    /// A router said what a way carries. Returns whether that is news: less than was known.
    pub(super) fn learn(&mut self, now: Duration, ends: Ends, mtu: u16) -> bool {
        let before = self.mtu(ends).unwrap_or(u16::MAX);
        if mtu <= before {
            let until = now + self.lifetime;
            self.learned.insert(ends, Learned { mtu, until });
        }
        mtu < before
    }

    /// What a way carries, in octets, if a router has said so lately.
    pub(super) fn mtu(&self, ends: Ends) -> Option<u16> {
        self.learned.get(&ends).map(|learned| learned.mtu)
    }

    /// All that is known: the ends of tunnels and what their ways carry, in octets.
    pub(super) fn all(&self) -> impl Iterator<Item = (Ends, u16)> {
        self.learned.iter().map(|(ends, way)| (*ends, way.mtu))
    }

    /// Forgets one way whose time is over, and returns it.
    pub(super) fn pop_due(&mut self, now: Duration) -> Option<Ends> {
        let due = self
            .learned
            .iter()
            .find(|(_, learned)| learned.until <= now);
        let ends = due.map(|(ends, _)| *ends)?;
        self.learned.remove(&ends);
        Some(ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_less_is_news_and_all_is_forgotten() {
        let s = Duration::from_secs;
        let mut ways = Ways::new(s(600));
        let ends = (Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED);
        assert!(ways.learn(s(0), ends, 1400));
        assert!(!ways.learn(s(100), ends, 1400), "it counts anew");
        assert!(!ways.learn(s(200), ends, 1450));
        assert_eq!(ways.mtu(ends), Some(1400));
        assert_eq!(ways.pop_due(s(699)), None);
        assert!(ways.learn(s(699), ends, 1300));
        assert_eq!(ways.pop_due(s(1298)), None);
        assert_eq!(ways.pop_due(s(1299)), Some(ends));
        assert_eq!((ways.mtu(ends), ways.pop_due(s(9999))), (None, None));
    }
}
