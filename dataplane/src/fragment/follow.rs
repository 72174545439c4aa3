//! Later fragments of mobiles' packets show no ports: they go the way of their first one (RFC 6089
//! §5.3.6, RFC 6088 §3).
//!
//! What first fragments showed is kept in a table of fixed size, for as long as a receiver may wait for
//! the rest. A later fragment that comes before its first one goes by those rules that need no ports,
//! or the default path, and is counted; holding it would cost memory that a stranger chooses.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use flow::FlowKey;

use super::find;
use crate::packet::header::Ipv6;
use crate::packet::walk::{self, Upper};
use crate::table::hash::{Seed, reduce};

/// First fragments that one key may lead to.
const WAYS: usize = 4;

/// What the fragments of one packet have in common, and no others (RFC 8200 §4.5). The next header is
/// that of the Fragment header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Key {
    source: u128,
    destination: u128,
    identification: u32,
    next_header: u8,
}

/// What a first fragment showed.
#[derive(Clone, Copy, Debug)]
struct First {
    key: Key,
    since: Duration,
    next_header: u8,
    ports: Option<(u16, u16)>,
    spi: Option<u32>,
}

/// What first fragments showed.
#[derive(Debug)]
pub(crate) struct Firsts {
    seed: Seed,
    sets: Box<[[Option<First>; WAYS]]>,
    time: Duration,
    /// Later fragments whose first one was not known.
    pub(crate) early: u64,
}

impl Firsts {
    /// Remembers about `count` first fragments, each for `time`.
    pub(crate) fn new(count: usize, time: Duration) -> Self {
        Self {
            seed: Seed::random(),
            sets: vec![[None; WAYS]; count.div_ceil(WAYS).max(1)].into(),
            time,
            early: 0,
        }
    }

    /// The key of the flow that a packet in transit belongs to; `packet` starts with its IPv6 header
    /// `ip`. It takes note of first fragments, and completes the key of others.
    pub(crate) fn key_of(&mut self, ip: &Ipv6, packet: &[u8], now: Duration) -> FlowKey {
        let upper = walk::upper(ip, packet);
        let mut flow = walk::flow_key(ip, packet);
        if upper.fragmented {
            self.follow(ip, packet, &upper, &mut flow, now);
        }
        flow
    }

    fn follow(
        &mut self,
        ip: &Ipv6,
        packet: &[u8],
        upper: &Upper,
        flow: &mut FlowKey,
        now: Duration,
    ) {
        let Some(found) = find(ip, packet) else {
            return;
        };
        let key = Key {
            source: ip.source.get(),
            destination: ip.destination.get(),
            identification: found.header.identification.get(),
            next_header: found.header.next_header,
        };
        if !upper.later_fragment {
            self.remember(First {
                key,
                since: now,
                next_header: flow.next_header,
                ports: flow.ports,
                spi: flow.spi,
            });
        } else if let Some(first) = self.recall(&key, now) {
            flow.next_header = first.next_header;
            flow.ports = first.ports;
            flow.spi = first.spi;
        } else {
            self.early += 1;
        }
    }

    fn set(&mut self, key: &Key) -> Option<&mut [Option<First>; WAYS]> {
        let mut hasher = self.seed.build_hasher();
        hasher.write_u128(key.source);
        hasher.write_u128(key.destination);
        hasher.write_u64(u64::from(key.identification) << 8 | u64::from(key.next_header));
        let sets = u32::try_from(self.sets.len()).unwrap_or(u32::MAX);
        let place = reduce(hasher.finish(), sets);
        self.sets.get_mut(place as usize)
    }

    /// Keeps a first fragment in place of one with the same key, of none, or of the oldest.
    fn remember(&mut self, first: First) {
        let Some(set) = self.set(&first.key) else {
            return;
        };
        let worth = |place: &&mut Option<First>| match place {
            Some(held) if held.key == first.key => (0, Duration::ZERO),
            None => (1, Duration::ZERO),
            Some(held) => (2, held.since),
        };
        if let Some(place) = set.iter_mut().min_by_key(worth) {
            *place = Some(first);
        }
    }

    fn recall(&mut self, key: &Key, now: Duration) -> Option<First> {
        let time = self.time;
        let fresh = |first: &First| first.key == *key && now.saturating_sub(first.since) < time;
        self.set(key)?
            .iter()
            .flatten()
            .find(|first| fresh(first))
            .copied()
    }
}
