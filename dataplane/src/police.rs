//! Token buckets: what a worker makes or hands up has a rate.
//!
//! Time comes from outside and coarsely; a bucket never looks at a clock. Who sends too much uses up what is
//! his own: a peer has a bucket for its signalling, and a station shares one with few others on its port.

use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{MacAddr, PortId};

use crate::config::PuntRates;
use crate::table::hash::{Seed, reduce};

/// How often something may happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Times a second in the long run.
    pub per_second: u32,
    /// Times at once after a pause.
    pub burst: u32,
}

/// A token bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    tokens: u32,
    /// Billionths of a token that have grown since the last whole one.
    fraction: u64,
    filled_at: Duration,
}

const BILLION: u64 = 1_000_000_000;

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            tokens: rate.burst,
            fraction: 0,
            filled_at: Duration::ZERO,
        }
    }

    /// Adds what has grown by `now`, which never goes back.
    pub(crate) fn fill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.filled_at);
        self.filled_at = now;
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let grown = nanos
            .saturating_mul(self.rate.per_second.into())
            .saturating_add(self.fraction);
        self.fraction = grown % BILLION;
        let tokens = u64::from(self.tokens).saturating_add(grown / BILLION);
        self.tokens = u32::try_from(tokens).map_or(self.rate.burst, |t| t.min(self.rate.burst));
    }

    /// As [`Bucket::take`], after adding what has grown.
    fn take_at(&mut self, now: Duration) -> bool {
        self.fill(now);
        self.take()
    }

    /// Takes one token, if there is one.
    pub(crate) fn take(&mut self) -> bool {
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

/// Stations of a port that have a bucket of their own, unless two meet in one.
const STATIONS: u32 = 64;

/// Everything that has a rate.
#[derive(Debug)]
pub(crate) struct Police {
    now: Duration,
    /// Whose signalling is expected, ascending.
    peers: Vec<(u128, Bucket)>,
    /// What each of them may send.
    each: Rate,
    strangers: Bucket,
    /// By [`PortId`].
    ports: Vec<PortPolice>,
    pub(crate) path_mtu: Bucket,
    pub(crate) icmp_errors: Bucket,
}

/// What comes in on one port.
#[derive(Debug)]
struct PortPolice {
    neighbour_discovery: Shares,
    unknown_mobile: Shares,
    resolve: Bucket,
}

/// A rate that no station can use up alone.
#[derive(Debug)]
struct Shares {
    all: Bucket,
    stations: Box<[Bucket]>,
    /// Nobody can choose an address to meet another's bucket.
    seed: Seed,
}

impl Shares {
    fn new(all: Rate, each: Rate) -> Self {
        Self {
            all: Bucket::new(all),
            stations: vec![Bucket::new(each); STATIONS as usize].into(),
            seed: Seed::random(),
        }
    }

    fn take(&mut self, station: MacAddr, now: Duration) -> bool {
        let [a, b, c, d, e, f] = station.0;
        let key = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        let place = reduce(self.seed.mix(key), STATIONS) as usize;
        let share = self.stations.get_mut(place);
        // The station's own first: what it may not send costs the others nothing.
        share.is_some_and(|share| share.take_at(now)) && self.all.take_at(now)
    }
}

impl Police {
    /// Full buckets for these peers and this many ports.
    pub(crate) fn new(
        punts: &PuntRates,
        peers: &[Ipv6Addr],
        ports: usize,
        icmp_errors: Rate,
    ) -> Self {
        let port = |_| PortPolice {
            neighbour_discovery: Shares::new(punts.neighbour_discovery, punts.station_discovery),
            unknown_mobile: Shares::new(punts.unknown_mobile, punts.station_unknown),
            resolve: Bucket::new(punts.resolve),
        };
        let mut police = Self {
            now: Duration::ZERO,
            peers: Vec::new(),
            each: punts.signalling,
            strangers: Bucket::new(punts.strangers),
            ports: (0..ports).map(port).collect(),
            path_mtu: Bucket::new(punts.path_mtu),
            icmp_errors: Bucket::new(icmp_errors),
        };
        police.set_peers(peers);
        police
    }

    /// Replaces the peers. Those that were known have used up what they have used up.
    pub(crate) fn set_peers(&mut self, peers: &[Ipv6Addr]) {
        let known = std::mem::take(&mut self.peers);
        let mut peers: Vec<u128> = peers.iter().map(|peer| peer.to_bits()).collect();
        peers.sort_unstable();
        peers.dedup();
        let bucket = |peer: u128| {
            let place = known.binary_search_by_key(&peer, |(known, _)| *known);
            let known = place.ok().and_then(|place| known.get(place));
            known.map_or_else(|| (peer, Bucket::new(self.each)), |known| *known)
        };
        self.peers = peers.into_iter().map(bucket).collect();
    }

    /// What the time is. Buckets are filled when they are next looked at, however many there are.
    pub(crate) fn set_time(&mut self, now: Duration) {
        self.now = now;
        self.path_mtu.fill(now);
        self.icmp_errors.fill(now);
    }

    /// Whether a Mobility Header from this address may go to the control plane: as that of a peer or as
    /// that of a stranger.
    pub(crate) fn signalling(&mut self, source: u128) -> Option<Sender> {
        let known = self.peers.binary_search_by_key(&source, |(peer, _)| *peer);
        let peer = known.ok().and_then(|place| self.peers.get_mut(place));
        match peer {
            Some((_, bucket)) => bucket.take_at(self.now).then_some(Sender::Peer),
            None => self.strangers.take_at(self.now).then_some(Sender::Stranger),
        }
    }

    /// Whether a neighbour discovery message of this station may.
    pub(crate) fn neighbour_discovery(&mut self, port: PortId, station: MacAddr) -> bool {
        let now = self.now;
        let port = self.ports.get_mut(usize::from(port.0));
        port.is_some_and(|port| port.neighbour_discovery.take(station, now))
    }

    /// Whether the control plane may be told of this station, which no binding names.
    pub(crate) fn unknown_mobile(&mut self, port: PortId, station: MacAddr) -> bool {
        let now = self.now;
        let port = self.ports.get_mut(usize::from(port.0));
        port.is_some_and(|port| port.unknown_mobile.take(station, now))
    }

    /// Whether the control plane may be asked for a next hop on this port.
    pub(crate) fn resolve(&mut self, port: PortId) -> bool {
        let now = self.now;
        let port = self.ports.get_mut(usize::from(port.0));
        port.is_some_and(|port| port.resolve.take_at(now))
    }
}

/// Who sent a Mobility Header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sender {
    /// An LMA or MAG of the configuration, or somebody with its address.
    Peer,
    /// Anybody else.
    Stranger,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sends_too_much_uses_up_what_is_his_own() {
        let rate = |burst| Rate {
            per_second: burst,
            burst,
        };
        let rates = PuntRates {
            signalling: rate(5),
            strangers: rate(2),
            neighbour_discovery: rate(100),
            station_discovery: rate(3),
            ..PuntRates::default()
        };
        let peers = [1, 2].map(Ipv6Addr::from_bits);
        let mut police = Police::new(&rates, &peers, 2, rate(1));
        let flood = |police: &mut Police, from| {
            let passed = (0..1000).filter_map(|_| police.signalling(from));
            passed.count()
        };
        assert_eq!(flood(&mut police, 1), 5);
        assert_eq!(flood(&mut police, 7) + flood(&mut police, 8), 2);
        assert_eq!(police.signalling(2), Some(Sender::Peer));
        police.set_time(Duration::from_secs(1));
        assert_eq!(flood(&mut police, 1), 5);
        assert_eq!(police.signalling(8), Some(Sender::Stranger));
        police.set_peers(&[8, 1].map(Ipv6Addr::from_bits));
        assert_eq!(flood(&mut police, 8), 5);
        assert_eq!(flood(&mut police, 1), 0, "it has had its share");
        assert_eq!(police.signalling(2), Some(Sender::Stranger));

        let ask = |police: &mut Police, port, n| {
            police.neighbour_discovery(PortId(port), MacAddr([2, 0, 0, 0, 0, n]))
        };
        assert_eq!((0..1000).filter(|_| ask(&mut police, 0, 1)).count(), 3);
        // Unless they meet in one bucket, others pass; on another port they do in any case.
        let others = (2..50).filter(|n| ask(&mut police, 0, *n)).count();
        assert!(others > 40, "{others}");
        assert!(ask(&mut police, 1, 1));
        assert!(!ask(&mut police, 9, 1), "no such port");
    }

    #[test]
    fn a_bucket_holds_a_burst_and_fills_at_its_rate() {
        let mut bucket = Bucket::new(Rate {
            per_second: 3,
            burst: 2,
        });
        let take = |bucket: &mut Bucket| (0..10).filter(|_| bucket.take()).count();
        assert_eq!(take(&mut bucket), 2);
        // Thirds of a second add up without loss.
        let mut taken = 0;
        for step in 1..=100_u32 {
            bucket.fill(Duration::from_millis(100) * step);
            taken += take(&mut bucket);
        }
        assert_eq!(taken, 30);
        bucket.fill(Duration::from_secs(1_000_000));
        assert_eq!(take(&mut bucket), 2);
    }
}
