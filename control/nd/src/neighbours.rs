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
            outputs: VecDeque::new(),
            refused: 0,
            replaced: 0,
        }
    }

    /// Announces our addresses on every port, so that neighbours that knew a former station learn the new
    /// one (RFC 4861 §7.2.6).
    pub fn announce(&mut self) {
        for (index, port) in (0u16..).zip(&self.ports) {
            for address in &port.addresses {
                let packet = icmp6::unsolicited_advertisement(address.addr(), port.mac);
                let to = TransmitTo::Link(PortId(index), MacAddr::for_multicast(icmp6::ALL_NODES));
                self.outputs
                    .push_back(Update::Transmit(Box::new(Transmit { packet, to })));
            }
        }
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
                    due: now + RETRANSMIT,
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

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Asks again, or gives up. Calls that come too early do no harm.
    pub fn handle_timeout(&mut self, now: Duration) {
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
                let due = now + RETRANSMIT;
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
mod tests {
    use super::*;

    const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const THEIRS: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
    const PORT: PortId = PortId(0);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn neighbour() -> Ipv6Addr {
        "2001:db8:f::2".parse().unwrap()
    }

    fn discovery(access: bool) -> NeighbourDiscovery {
        let addresses = vec!["2001:db8:f::1/64".parse().unwrap()];
        NeighbourDiscovery::new(vec![NdPort {
            mac: OURS,
            addresses,
            access,
        }])
    }

    fn updates(nd: &mut NeighbourDiscovery) -> Vec<Update> {
        std::iter::from_fn(|| nd.poll_update()).collect()
    }

    fn solicitation(update: &Update) -> (Ipv6Addr, TransmitTo) {
        let Update::Transmit(transmit) = update else {
            panic!("{update:?}")
        };
        let destination: [u8; 16] = transmit.packet[24..40].try_into().unwrap();
        assert_eq!(transmit.packet[40], 135);
        assert_eq!(transmit.packet[7], 255);
        (destination.into(), transmit.to)
    }

    fn told(mac: Option<MacAddr>) -> Update {
        Update::Neighbour {
            port: PORT,
            address: neighbour(),
            mac,
        }
    }

    fn advertisement() -> Vec<u8> {
        icmp6::unsolicited_advertisement(neighbour(), THEIRS)
    }

    #[test]
    fn a_neighbour_is_asked_learnt_probed_and_given_up() {
        let mut nd = discovery(false);
        nd.handle_resolve(at(0), PORT, neighbour());
        nd.handle_resolve(at(0), PORT, neighbour());
        let sent = updates(&mut nd);
        assert_eq!(sent.len(), 1);
        let group = "ff02::1:ff00:2".parse().unwrap();
        let station = MacAddr([0x33, 0x33, 0xff, 0, 0, 2]);
        assert_eq!(
            solicitation(&sent[0]),
            (group, TransmitTo::Link(PORT, station))
        );

        nd.handle_packet(at(0), PORT, THEIRS, &advertisement());
        assert_eq!(updates(&mut nd), [told(Some(THEIRS))]);
        nd.handle_timeout(at(29));
        assert_eq!(updates(&mut nd), []);

        for second in 30..33 {
            assert_eq!(nd.poll_timeout(), Some(at(second)));
            nd.handle_timeout(at(second));
            let sent = updates(&mut nd);
            assert_eq!(
                solicitation(&sent[0]),
                (neighbour(), TransmitTo::Link(PORT, THEIRS))
            );
        }
        nd.handle_timeout(at(33));
        assert_eq!(updates(&mut nd), [told(None)]);
        assert_eq!(nd.poll_timeout(), None);
    }

    #[test]
    fn an_unanswered_question_ends_after_three_tries() {
        let mut nd = discovery(false);
        nd.handle_resolve(at(0), PORT, neighbour());
        for second in 1..=3 {
            nd.handle_timeout(at(second));
        }
        let outputs = updates(&mut nd);
        assert_eq!(outputs.len(), 4);
        assert_eq!(outputs[3], told(None));
    }

    #[test]
    fn advertisements_nobody_asked_for_create_nothing() {
        let mut nd = discovery(false);
        nd.handle_packet(at(0), PORT, THEIRS, &advertisement());
        assert_eq!(updates(&mut nd), []);
    }

    #[test]
    fn solicitations_teach_who_asks_but_not_on_access_links() {
        let ask = |from: Ipv6Addr| {
            let target = "2001:db8:f::1".parse().unwrap();
            icmp6::neighbour_solicitation(from, icmp6::solicited_node(target), target, THEIRS)
        };
        let mut nd = discovery(false);
        nd.handle_packet(at(0), PORT, THEIRS, &ask(neighbour()));
        assert_eq!(updates(&mut nd), [told(Some(THEIRS))]);
        nd.handle_packet(at(0), PORT, THEIRS, &ask("2001:db8:e::2".parse().unwrap()));
        assert_eq!(updates(&mut nd), []);
        let mut nd = discovery(true);
        nd.handle_packet(at(0), PORT, THEIRS, &ask(neighbour()));
        assert_eq!(updates(&mut nd), []);
    }

    fn solicit_from(nd: &mut NeighbourDiscovery, now: u64, from: Ipv6Addr) {
        let target = "2001:db8:f::1".parse().unwrap();
        let packet =
            icmp6::neighbour_solicitation(from, icmp6::solicited_node(target), target, THEIRS);
        nd.handle_packet(at(now), PORT, THEIRS, &packet);
        assert!(updates(nd).len() <= 2);
        assert!(nd.entries.len() <= MAX_NEIGHBOURS);
    }

    fn nth(n: u32) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(neighbour()) + 0x1_0000 + u128::from(n))
    }

    #[test]
    fn a_million_solicitations_replace_their_own() {
        let mut nd = discovery(false);
        nd.handle_resolve(at(0), PORT, neighbour());
        nd.handle_packet(at(0), PORT, THEIRS, &advertisement());
        updates(&mut nd);
        for n in 0..1_000_000 {
            solicit_from(&mut nd, 1, nth(n));
        }
        assert_eq!(nd.entries.len(), MAX_NEIGHBOURS);
        let others = 1_000_000 - (MAX_NEIGHBOURS as u64 - 1);
        assert_eq!((nd.replaced(), nd.refused()), (others, 0));
        // Who is in use is known, and who is asked for now is asked.
        nd.handle_resolve(at(1), PORT, neighbour());
        assert_eq!(updates(&mut nd), [told(Some(THEIRS))]);
        let new = nth(u32::MAX);
        nd.handle_resolve(at(1), PORT, new);
        let asked = updates(&mut nd);
        assert!(matches!(asked[0], Update::Neighbour { mac: None, .. }));
        assert_eq!(solicitation(&asked[1]).0, icmp6::solicited_node(new));
        assert_eq!(
            nd.giving_way.values().map(BTreeSet::len).sum::<usize>(),
            MAX_NEIGHBOURS - 1
        );
        assert_eq!(nd.due.len(), MAX_NEIGHBOURS);
    }

    #[test]
    fn a_scan_replaces_its_own_questions() {
        let mut nd = discovery(false);
        nd.handle_resolve(at(0), PORT, neighbour());
        nd.handle_packet(at(0), PORT, THEIRS, &advertisement());
        for n in 0..100_000 {
            nd.handle_resolve(at(1), PORT, nth(n));
            // Nobody new is learnt at the expense of who is asked for.
            if n == 50_000 {
                updates(&mut nd);
                solicit_from(&mut nd, 1, nth(u32::MAX));
                assert_eq!(nd.refused(), 1);
            }
        }
        updates(&mut nd);
        assert_eq!(nd.entries.len(), MAX_NEIGHBOURS);
        assert_eq!(nd.replaced(), 100_000 - (MAX_NEIGHBOURS as u64 - 1));
        nd.handle_resolve(at(1), PORT, neighbour());
        assert_eq!(updates(&mut nd), [told(Some(THEIRS))]);
    }
}
