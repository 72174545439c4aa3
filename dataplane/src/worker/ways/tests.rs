//! What a way does to a usual packet must be what it does to any, and it must leave the others alone.

use std::net::Ipv6Addr;

use flow::{
    Binding, Hnp, Link, MacAddr, MobileId, Path, PathCounters, PathId, Role, RouteNext, Tunnel,
};
use proptest::prelude::*;

use super::*;
use crate::config::{LmaConfig, NeighbourLimits};
use crate::io::memory::{HEADROOM, MemoryPacket, MemoryPool};
use crate::neighbour;
use crate::table::{Packed, Rewrite, Slot};

const PORT: PortId = PortId(1);
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const STATION: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// Tables of a role with one mobile and a path of each kind, routes and neighbours.
struct World {
    own: OwnAddresses,
    fib: Fib,
    neighbours: Neighbours<MemoryPacket>,
    state: RoleState,
    slot: Slot,
    hop: Hop,
}

fn tunnel(state: State) -> (Path, Rewrite) {
    let tunnel = Tunnel {
        local: ip("2001:db8:ffff::1"),
        remote: ip("2001:db8:ffff::a"),
        hop_limit: 64,
        path_mtu: 1500,
        copy_dscp: state == State::Tunnel,
        encapsulation_limit: None,
    };
    let mut rewrite = Rewrite::tunnel(&tunnel);
    rewrite.set_mtu(200, &tunnel);
    rewrite.port = PORT.into();
    rewrite.state = state;
    (Path::Tunnel(tunnel), rewrite)
}

impl World {
    fn new() -> Self {
        Self::with(Some(0))
    }

    /// Its mobile's packets go on by this path.
    fn with(uplink: Option<u16>) -> Self {
        let config = LmaConfig {
            addresses: vec![ip("2001:db8:ffff::1")],
            pools: vec!["2001:db8:100::/40".parse().unwrap()],
            expected_bindings: 10,
            other_lengths: 0,
        };
        let mut state = RoleState::lma(&config);
        let link = Path::Link(Link {
            port: PORT,
            mac: STATION,
        });
        let paths = [
            tunnel(State::Tunnel),
            tunnel(State::TunnelUnresolved),
            (link, Rewrite::link(PORT, MAC, 160, STATION)),
            tunnel(State::TunnelLoop),
            tunnel(State::TunnelUnreachable),
        ];
        for (number, (path, rewrite)) in (0..).zip(paths) {
            let set = state.table.paths.set(PathId(number), Some(path), rewrite);
            set.unwrap();
        }
        let binding = Binding {
            mobile: MobileId(1),
            default_path: Some(PathId(0)),
            sources: vec![PathId(0), PathId(2)],
            uplink: uplink.map(PathId),
            local: false,
            rules: vec![],
        };
        let hnp = Hnp::new(ip("2001:db8:100:1::"), 64).unwrap();
        let mut packed = Packed::of(Role::Lma, hnp, &binding).unwrap();
        state.set(&mut packed).unwrap();
        let mut own = OwnAddresses::default();
        own.add(ip("2001:db8:ffff::1").to_bits(), None);
        let limits = NeighbourLimits::default();
        let (mut fib, mut neighbours) = (Fib::default(), Neighbours::new(limits));
        fib.connect("2001:db8:7::/64".parse().unwrap(), PORT, 1500);
        for (prefix, host, known) in [("2001:db8:1::/48", 1, true), ("2001:db8:2::/48", 2, false)] {
            let gateway = Ipv6Addr::from_bits(ip("2001:db8:7::").to_bits() | host);
            let adjacency = neighbours.pin(PORT, gateway.to_bits());
            let next = Some(RouteNext::Via(PORT, gateway));
            fib.set(prefix.parse().unwrap(), next, adjacency, 150);
            if known {
                let header = neighbour::header(MAC, STATION);
                neighbours.resolved(PORT, gateway.to_bits(), header);
            }
        }
        let slot = state.lookup(ip("2001:db8:100:1::5").to_bits()).unwrap();
        Self {
            own,
            fib,
            neighbours,
            state,
            slot,
            hop: Hop::NONE,
        }
    }

    fn counted(&mut self) -> (Vec<PathCounters>, [u64; 2]) {
        let record = self.state.table.bindings.uplink(self.slot).unwrap();
        let record = [record.packets, record.octets];
        (self.state.table.paths.counters().collect(), record)
    }

    /// Lets a packet go the way of a lane, the usual or the odd one.
    fn go(
        &mut self,
        lane: usize,
        odd: bool,
        packet: &mut MemoryPacket,
        passage: &Passage,
    ) -> Option<Fate> {
        fn way<W: Way<MemoryPacket>>(
            mut way: W,
            odd: bool,
            packet: &mut MemoryPacket,
            passage: &Passage,
        ) -> Option<Fate> {
            if odd {
                Some(way.odd(packet, passage))
            } else {
                way.usual(packet, passage).map(Fate::Send)
            }
        }
        let Self {
            own,
            fib,
            neighbours,
            state,
            hop,
            ..
        } = self;
        match lane {
            0 => {
                let (_, paths) = state.table.parts();
                way(ToMobile { paths }, odd, packet, passage)
            }
            1 => {
                let (records, paths) = state.table.parts();
                let arrived = PORT;
                let way_in = FromLink {
                    records,
                    paths,
                    arrived,
                };
                way(way_in, odd, packet, passage)
            }
            2 => {
                let (_, paths) = state.table.parts();
                way(ToLink { paths }, odd, packet, passage)
            }
            _ => way(
                FromMobile::new(own, fib, neighbours, state, hop),
                odd,
                packet,
                passage,
            ),
        }
    }
}

fn header(next: u8, hops: u8, class: u8, payload: usize, from: Ipv6Addr, to: Ipv6Addr) -> [u8; 40] {
    let [high, low] = u16::try_from(payload).unwrap().to_be_bytes();
    let start = [0x60 | class >> 4, class << 4, 0, 7, high, low, next, hops];
    let octets = [&start[..], &from.octets(), &to.octets()].concat();
    octets.try_into().unwrap()
}

fn packet(pool: &MemoryPool, headroom: usize, octets: &[u8]) -> MemoryPacket {
    let mut packet = pool.alloc().unwrap();
    packet.prepend(HEADROOM - headroom).unwrap();
    packet.truncate(0);
    packet.append(octets.len()).unwrap().copy_from_slice(octets);
    packet
}

const DESTINATIONS: [&str; 10] = [
    "2001:db8:1::5",
    "2001:db8:1::6",
    "2001:db8:2::5",
    "2001:db8:7::5",
    "2001:db8:9::5",
    "2001:db8:100:1::5",
    "2001:db8:ffff::a",
    "2001:db8:ffff::1",
    "ff0e::5",
    "fe80::5",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn a_usual_packet_fares_as_any(
        lane in 0..4_usize,
        hops in 0..4_u8,
        classes: (u8, u8),
        payload in prop_oneof![Just(8), 100..130_usize, 150..170_usize],
        to in prop_oneof![3 => 0..2_usize, 1 => 0..DESTINATIONS.len()],
        from_end: bool,
        from_station in prop::bool::weighted(0.9),
        headroom in prop_oneof![Just(39_usize), Just(40), Just(128)],
        bound in prop::bool::weighted(0.9),
        (path, through) in (prop_oneof![0..6_u16, Just(NO_PATH)], 0..4_u16),
        uplink in prop_oneof![3 => Just(Some(0)), 1 => prop::option::of(0..6_u16)],
    ) {
        let to = ip(DESTINATIONS[to]);
        let from = if from_end { ip("2001:db8:ffff::1") } else { ip("2001:db8:100:1::5") };
        let station = if from_station { STATION } else { MAC };
        let mut octets = [&MAC.0[..], &station.0, &[0x86, 0xdd]].concat();
        if lane >= 2 {
            let ends = (ip("2001:db8:ffff::a"), ip("2001:db8:ffff::1"));
            octets.extend(header(41, 64, classes.1, payload + 40, ends.0, ends.1));
        }
        octets.extend(header(17, hops, classes.0, payload, from, to));
        octets.extend((0..payload).map(|n| n.to_le_bytes()[0]));
        let [mut quick, mut slow, mut idle] = [(); 3].map(|()| World::with(uplink));
        let passage = Passage {
            slot: bound.then_some(quick.slot),
            choice: Choice { path, entropy: 5 },
            through,
            ..Passage::NEW
        };
        // One whose binding was not found has no path.
        let passage = if bound { passage } else { Passage { choice: Choice::NONE, ..passage } };
        let other_slot = Passage { slot: passage.slot.map(|_| slow.slot), ..passage };
        let pool = MemoryPool::new(2);
        let mut first = packet(&pool, headroom, &octets);
        if let Some(fate) = quick.go(lane, false, &mut first, &passage) {
            let mut second = packet(&pool, headroom, &octets);
            prop_assert_eq!(slow.go(lane, true, &mut second, &other_slot), Some(fate));
            prop_assert_eq!(first.data(), second.data());
            prop_assert_eq!(quick.counted(), slow.counted());
        } else {
            prop_assert_eq!(first.data(), octets.as_slice());
            prop_assert_eq!(quick.counted(), idle.counted());
        }
    }
}

/// An uplink packet to one of the destinations, and what is known of it.
fn uplink(pool: &MemoryPool, world: &World, to: usize) -> (MemoryPacket, Passage) {
    let mut octets = [&MAC.0[..], &STATION.0, &[0x86, 0xdd]].concat();
    let ends = (ip("2001:db8:ffff::a"), ip("2001:db8:ffff::1"));
    octets.extend(header(41, 64, 0, 48, ends.0, ends.1));
    let ends = (ip("2001:db8:100:1::5"), ip(DESTINATIONS[to]));
    octets.extend(header(17, 64, 0, 8, ends.0, ends.1));
    octets.extend([0; 8]);
    let passage = Passage {
        slot: Some(world.slot),
        through: 0,
        ..Passage::NEW
    };
    (packet(pool, 128, &octets), passage)
}

proptest! {
    /// Where the last one went says nothing false about the next.
    #[test]
    fn packets_fare_as_if_alone(all in prop::collection::vec(0..DESTINATIONS.len(), 1..12)) {
        let (mut together, pool) = (World::new(), MemoryPool::new(2));
        for to in all {
            let mut alone = World::new();
            let (mut first, passage) = uplink(&pool, &together, to);
            let (mut second, its) = uplink(&pool, &alone, to);
            prop_assert_eq!(
                together.go(3, false, &mut first, &passage),
                alone.go(3, false, &mut second, &its)
            );
            prop_assert_eq!(first.data(), second.data());
        }
    }
}

#[test]
fn usual_packets_take_the_straight_way() {
    let (mut world, pool) = (World::new(), MemoryPool::new(1));
    for lane in 0..4 {
        let mut octets = [&MAC.0[..], &STATION.0, &[0x86, 0xdd]].concat();
        if lane >= 2 {
            let ends = (ip("2001:db8:ffff::a"), ip("2001:db8:ffff::1"));
            octets.extend(header(41, 64, 2, 48, ends.0, ends.1));
        }
        let ends = (ip("2001:db8:100:1::5"), ip("2001:db8:1::5"));
        octets.extend(header(17, 64, 2, 8, ends.0, ends.1));
        octets.extend([0; 8]);
        let passage = Passage {
            slot: Some(world.slot),
            choice: Choice {
                path: if lane == 2 { 2 } else { 0 },
                entropy: 5,
            },
            through: if lane == 1 { 2 } else { 0 },
            ..Passage::NEW
        };
        let fate = world.go(lane, false, &mut packet(&pool, 128, &octets), &passage);
        assert_eq!(fate, Some(Fate::Send(PORT)), "{lane}");
    }
}
