//! Neighbour discovery for the whole appliance (RFC 4861 §7), without a clock or a socket.
//!
//! Workers answer solicitations for our own addresses themselves and hold packets whose next hop they do not
//! know. Everything else is decided here, once for all workers: who is asked, who is believed, for how
//! long. What is known goes to every worker as an [`Update::Neighbour`].
//!
//! ```text
//!              resolve            advertisement
//!   (none) ----------> Incomplete -------------> Reachable --- 30 s ---> Probing
//!     ^                    | 3 unanswered            ^ advertisement        | 3 unanswered
//!     +--------------------+-------------------------+----------------------+----> (none)
//! ```
//!
//! The table is bounded. When it is full, the one that goes is whom no worker has asked for, or else who
//! has been asked the longest and not answered, of the port that has the most of the kind: floods and scans
//! replace their own (RFC 6583 §7.1).
//!
//! RFC 4861's STALE and DELAY need to know when a neighbour is used; only workers see that, so an entry is
//! probed when its time is up, used or not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{MacAddr, PortId, Transmit, TransmitTo, Update};
use ipnet::Ipv6Net;

use crate::icmp6;

/// REACHABLE_TIME (RFC 4861 §10).
const REACHABLE: Duration = Duration::from_secs(30);
/// RETRANS_TIMER (RFC 4861 §10).
const RETRANSMIT: Duration = Duration::from_secs(1);
/// MAX_MULTICAST_SOLICIT and MAX_UNICAST_SOLICIT (RFC 4861 §10).
const SOLICITATIONS: u8 = 3;
/// MAX_NEIGHBOR_ADVERTISEMENT (RFC 4861 §10).
const ADVERTISEMENTS: u8 = 3;
/// Most neighbours known at a time: a flood of solicitations must not fill the memory.
const MAX_NEIGHBOURS: usize = 4096;

/// A port as neighbour discovery sees it.
#[derive(Clone, Debug)]
pub struct NdPort {
    /// Our station address.
    pub mac: MacAddr,
    /// Our addresses and the prefixes that are on-link with them.
    pub addresses: Vec<Ipv6Net>,
    /// Whether mobiles are on it: their links come from bindings, never from solicitations.
    pub access: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Incomplete { sent: u8 },
    Reachable { mac: MacAddr },
    Probing { mac: MacAddr, sent: u8 },
}

impl State {
    /// How long it lasts. Who has not been heard yet may be behind a link that has only just come up, and packets wait for
    /// it: it is asked again after a quarter of RETRANS_TIMER, then half of it, so that one lost solicitation costs no
    /// second. Who was there before is given all the time there is (RFC 7048).
    fn patience(self) -> Duration {
        match self {
            Self::Incomplete { sent: 0 | 1 } => RETRANSMIT / 4,
            Self::Incomplete { sent: 2 } => RETRANSMIT / 2,
            Self::Incomplete { .. } | Self::Probing { .. } => RETRANSMIT,
            Self::Reachable { .. } => REACHABLE,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    state: State,
    /// When the state's time is up.
    due: Duration,
    /// Whether a worker has asked for it.
    wanted: bool,
}

impl Entry {
    /// Who goes first when there is no room; `None` for who stays.
    fn rank(&self) -> Option<Rank> {
        match (self.state, self.wanted) {
            (_, false) => Some(Rank::Unwanted),
            (State::Incomplete { .. }, true) => Some(Rank::Unanswered),
            (State::Reachable { .. } | State::Probing { .. }, true) => None,
        }
    }
}

/// Entries that give way to others, the first first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Nobody sends packets to it, as far as is known.
    Unwanted,
    /// It has not answered.
    Unanswered,
}

/// A neighbour.
type Key = (PortId, Ipv6Addr);

/// The neighbours of all ports.
#[derive(Debug)]
pub struct NeighbourDiscovery {
    ports: Vec<NdPort>,
    entries: BTreeMap<Key, Entry>,
    /// All entries by the time they are due.
    due: BTreeSet<(Duration, Key)>,
    /// Those that give way, by port: the ones due first have been there the longest.
    giving_way: BTreeMap<(Rank, PortId), BTreeSet<(Duration, Ipv6Addr)>>,
    /// Ports whose addresses are announced again: when, and how often.
    announcements: BTreeMap<PortId, (Duration, u8)>,
    outputs: VecDeque<Update>,
    refused: u64,
    replaced: u64,
}

impl NeighbourDiscovery {
    /// Starts with no neighbour known; `ports` are indexed by [`PortId`].
    pub fn new(ports: Vec<NdPort>) -> Self {
        Self {
            ports,
            entries: BTreeMap::new(),
            due: BTreeSet::new(),
            giving_way: BTreeMap::new(),
            announcements: BTreeMap::new(),
            outputs: VecDeque::new(),
            refused: 0,
            replaced: 0,
        }
    }

    /// Announces our addresses on a port, so that neighbours that knew a former station learn the new one: now, and
    /// a few times more, as one may be lost (RFC 4861 §7.2.6).
    pub fn announce(&mut self, now: Duration, port: PortId) {
        self.announcements.insert(port, (now, ADVERTISEMENTS));
        self.advertise(now);
    }

    /// An address on a port is ours from now on, which neighbours that knew another station of it learn.
    pub fn claim(&mut self, now: Duration, port: PortId, address: Ipv6Net) {
        if let Some(ours) = self.ports.get_mut(usize::from(port.0))
            && !ours.addresses.contains(&address)
        {
            ours.addresses.push(address);
            self.announce(now, port);
        }
    }

    /// Sends the advertisements that are due.
    fn advertise(&mut self, now: Duration) {
        for (id, (due, left)) in &mut self.announcements {
            if *due > now {
                continue;
            }
            *due = now + RETRANSMIT;
            *left = left.saturating_sub(1);
            let port = self.ports.get(usize::from(id.0));
            for (port, address) in port
                .iter()
                .flat_map(|p| p.addresses.iter().map(|a| (*p, a)))
            {
                let packet = icmp6::unsolicited_advertisement(address.addr(), port.mac);
                let to = TransmitTo::Link(*id, MacAddr::for_multicast(icmp6::ALL_NODES));
                self.outputs
                    .push_back(Update::Transmit(Box::new(Transmit { packet, to })));
            }
        }
        self.announcements.retain(|_, (_, left)| *left > 0);
    }

    /// A worker holds packets for this next hop. Asked again while unanswered, it changes nothing.
    pub fn handle_resolve(&mut self, now: Duration, port: PortId, address: Ipv6Addr) {
        let key = (port, address);
        match self.entries.get(&key).copied() {
            Some(Entry {
                state: State::Incomplete { .. },
                ..
            }) => {}
            // A worker that asks for what is known missed it: say it again.
            Some(entry) => {
                let (State::Reachable { mac } | State::Probing { mac, .. }) = entry.state else {
                    return;
                };
                let wanted = true;
                self.set(key, Some(Entry { wanted, ..entry }));
                self.tell(port, address, Some(mac));
            }
            None if !self.make_room(Rank::Unanswered) => {
                self.refused += 1;
                self.tell(port, address, None);
            }
            None => {
                let entry = Entry {
                    state: State::Incomplete { sent: 1 },
                    due: now + State::Incomplete { sent: 1 }.patience(),
                    wanted: true,
                };
                self.set(key, Some(entry));
                self.solicit(port, address, None);
            }
        }
    }

    /// A solicitation or advertisement that a worker found valid. Anything else is ignored.
    pub fn handle_packet(&mut self, now: Duration, port: PortId, source: MacAddr, packet: &[u8]) {
        match icmp6::NeighbourMessage::parse(packet) {
            Some(icmp6::NeighbourMessage::Advertisement { target, link_layer }) => {
                self.advertised(now, port, target, link_layer.unwrap_or(source));
            }
            Some(icmp6::NeighbourMessage::Solicitation {
                from,
                link_layer: Some(mac),
            }) => {
                self.solicited(now, port, from, mac);
            }
            // Without the option nothing is learnt (RFC 4861 §7.2.3).
            Some(icmp6::NeighbourMessage::Solicitation {
                link_layer: None, ..
            })
            | None => {}
        }
    }

    /// An advertisement changes what was asked for; it creates nothing (RFC 4861 §7.2.5).
    fn advertised(&mut self, now: Duration, port: PortId, address: Ipv6Addr, mac: MacAddr) {
        let Some(known) = self.entries.get(&(port, address)) else {
            return;
        };
        if mac.is_multicast() {
            return;
        }
        let entry = Entry {
            state: State::Reachable { mac },
            due: now + REACHABLE,
            ..*known
        };
        self.set((port, address), Some(entry));
        self.tell(port, address, Some(mac));
    }

    /// A solicitation tells its sender's link-layer address (RFC 4861 §7.2.3), if the sender can be on
    /// this link and there is room.
    fn solicited(&mut self, now: Duration, port: PortId, from: Ipv6Addr, mac: MacAddr) {
        if mac.is_multicast() || !self.on_link(port, from) {
            return;
        }
        let known = self.entries.get(&(port, from)).copied();
        match known.map(|entry| entry.state) {
            Some(State::Reachable { mac: same } | State::Probing { mac: same, .. })
                if same == mac => {}
            None if !self.make_room(Rank::Unwanted) => self.refused += 1,
            Some(_) | None => {
                let entry = Entry {
                    state: State::Reachable { mac },
                    due: now + REACHABLE,
                    wanted: known.is_some_and(|entry| entry.wanted),
                };
                self.set((port, from), Some(entry));
                self.tell(port, from, Some(mac));
            }
        }
    }

    fn on_link(&self, port: PortId, address: Ipv6Addr) -> bool {
        self.ports.get(usize::from(port.0)).is_some_and(|p| {
            let link_local = address.is_unicast_link_local();
            !p.access && (link_local || p.addresses.iter().any(|net| net.contains(&address)))
        })
    }

    /// The neighbours whose link-layer addresses are known.
    pub fn known(&self) -> impl Iterator<Item = (PortId, Ipv6Addr, MacAddr)> {
        self.entries.iter().filter_map(|((port, address), entry)| {
            let mac = match entry.state {
                State::Reachable { mac } | State::Probing { mac, .. } => mac,
                State::Incomplete { .. } => return None,
            };
            Some((*port, *address, mac))
        })
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let announcements = self.announcements.values().map(|(due, _)| *due);
        let neighbours = self.due.first().map(|(due, _)| *due);
        announcements.chain(neighbours).min()
    }

    /// Asks again, or gives up. Calls that come too early do no harm.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.advertise(now);
        while let Some((due, key)) = self.due.first().copied()
            && due <= now
        {
            let Some(entry) = self.entries.get(&key).copied() else {
                self.due.remove(&(due, key));
                continue;
            };
            let (port, address) = key;
            let (next, ask) = match entry.state {
                State::Incomplete { sent } if sent < SOLICITATIONS => {
                    (Some(State::Incomplete { sent: sent + 1 }), None)
                }
                State::Reachable { mac } => (Some(State::Probing { mac, sent: 1 }), Some(mac)),
                State::Probing { mac, sent } if sent < SOLICITATIONS => (
                    Some(State::Probing {
                        mac,
                        sent: sent + 1,
                    }),
                    Some(mac),
                ),
                State::Incomplete { .. } | State::Probing { .. } => (None, None),
            };
            if let Some(state) = next {
                let due = now + state.patience();
                self.set(
                    key,
                    Some(Entry {
                        state,
                        due,
                        ..entry
                    }),
                );
                self.solicit(port, address, ask);
            } else {
                self.set(key, None);
                self.tell(port, address, None);
            }
        }
    }

    /// What the workers have to be told, in order.
    pub fn poll_update(&mut self) -> Option<Update> {
        self.outputs.pop_front()
    }

    /// Neighbours that were not learnt because the table was full.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Known neighbours that gave way to others.
    pub fn replaced(&self) -> u64 {
        self.replaced
    }

    /// Makes, changes or (with `None`) removes an entry.
    fn set(&mut self, key: Key, entry: Option<Entry>) {
        let old = match entry {
            Some(entry) => self.entries.insert(key, entry),
            None => self.entries.remove(&key),
        };
        if let Some(old) = old {
            self.due.remove(&(old.due, key));
            if let Some(rank) = old.rank()
                && let Some(those) = self.giving_way.get_mut(&(rank, key.0))
            {
                those.remove(&(old.due, key.1));
            }
        }
        if let Some(entry) = entry {
            self.due.insert((entry.due, key));
            if let Some(rank) = entry.rank() {
                let those = self.giving_way.entry((rank, key.0)).or_default();
                those.insert((entry.due, key.1));
            }
        }
    }

    /// Whether there is room for one more: if need be, after one of this rank or before has gone.
    fn make_room(&mut self, rank: Rank) -> bool {
        if self.entries.len() < MAX_NEIGHBOURS {
            return true;
        }
        let most = self
            .giving_way
            .range(..=(rank, PortId(u16::MAX)))
            .max_by_key(|((rank, _), those)| {
                (!those.is_empty(), std::cmp::Reverse(*rank), those.len())
            });
        let Some(((_, port), address)) =
            most.and_then(|(key, those)| Some((*key, those.first()?.1)))
        else {
            return false;
        };
        self.set((port, address), None);
        self.replaced += 1;
        self.tell(port, address, None);
        true
    }

    fn tell(&mut self, port: PortId, address: Ipv6Addr, mac: Option<MacAddr>) {
        self.outputs
            .push_back(Update::Neighbour { port, address, mac });
    }

    /// Sends a solicitation: to the group while the station is unknown, else to the station.
    fn solicit(&mut self, port: PortId, target: Ipv6Addr, station: Option<MacAddr>) {
        let Some(ours) = self.ports.get(usize::from(port.0)) else {
            return;
        };
        let source = ours
            .addresses
            .iter()
            .find(|net| net.contains(&target))
            .map_or_else(|| ours.mac.link_local(), Ipv6Net::addr);
        let destination = if station.is_some() {
            target
        } else {
            icmp6::solicited_node(target)
        };
        let packet = icmp6::neighbour_solicitation(source, destination, target, ours.mac);
        let mac = station.unwrap_or_else(|| MacAddr::for_multicast(destination));
        let to = TransmitTo::Link(port, mac);
        self.outputs
            .push_back(Update::Transmit(Box::new(Transmit { packet, to })));
    }
}

#[cfg(test)]
mod tests;
