//! Where destinations are that no binding covers: connected prefixes and static routes.
//!
//! An appliance has a handful of routes, so they are searched in order of length.

use flow::{PortId, RouteNext};
use ipnet::Ipv6Net;

use crate::neighbour::{AdjacencyId, Neighbours};
use crate::table::hash::halves;
use crate::table::other::mask;

#[derive(Clone, Copy, Debug)]
struct Route {
    network: u128,
    mask: u128,
    length: u8,
    /// From a port's own address: not to be removed, and before a static route of the same length.
    connected: bool,
    next: RouteNext,
    /// The gateway's entry among the neighbours.
    adjacency: Option<AdjacencyId>,
    /// Greatest IPv6 packet that the port carries, in octets.
    mtu: u16,
}

/// Where a packet goes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NextHop {
    pub(crate) port: PortId,
    pub(crate) address: u128,
    /// Its entry among the neighbours, if the route knows it.
    pub(crate) adjacency: Option<AdjacencyId>,
    /// Greatest IPv6 packet that the port carries, in octets.
    pub(crate) mtu: u16,
}

/// The routes of a worker.
#[derive(Debug, Default)]
pub(crate) struct Fib {
    /// Longest prefix first.
    routes: Vec<Route>,
    /// How many of them are longer than 64 bits.
    long: usize,
    /// Upper halves of all their networks and masks: enough while none is longer.
    short: Vec<(u64, u64)>,
}

impl Fib {
    /// Adds the prefix of a port's own address.
    pub(crate) fn connect(&mut self, prefix: Ipv6Net, port: PortId, mtu: u16) {
        self.insert(prefix, RouteNext::OnLink(port), None, mtu, true);
    }

    /// Creates, replaces or removes a static route; a gateway comes with its entry among the neighbours,
    /// and the port with its MTU.
    pub(crate) fn set(
        &mut self,
        prefix: Ipv6Net,
        next: Option<RouteNext>,
        adjacency: Option<AdjacencyId>,
        mtu: u16,
    ) {
        let network = prefix.network().to_bits();
        self.routes
            .retain(|r| r.connected || r.network != network || r.length != prefix.prefix_len());
        if let Some(next) = next {
            self.insert(prefix, next, adjacency, mtu, false);
        }
        self.note_halves();
    }

    fn insert(
        &mut self,
        prefix: Ipv6Net,
        next: RouteNext,
        adjacency: Option<AdjacencyId>,
        mtu: u16,
        connected: bool,
    ) {
        self.routes.push(Route {
            network: prefix.network().to_bits(),
            mask: mask(prefix.prefix_len()),
            length: prefix.prefix_len(),
            connected,
            next,
            adjacency,
            mtu,
        });
        self.routes
            .sort_by_key(|r| (std::cmp::Reverse(r.length), !r.connected));
        self.note_halves();
    }

    /// Makes what [`Fib::route_of`] looks at of the routes.
    fn note_halves(&mut self) {
        self.long = self.routes.iter().filter(|r| r.length > 64).count();
        let upper_halves = self.routes.iter().map(|route| {
            let ([_, network], [_, mask]) = (halves(route.network), halves(route.mask));
            (network, mask)
        });
        self.short = upper_halves.collect();
    }

    /// The number of the first route that holds `destination`; good until a route changes.
    #[inline(always)]
    pub(crate) fn route_of(&self, destination: u128) -> Option<usize> {
        if self.long > 0 {
            let holds = |route: &Route| destination & route.mask == route.network;
            return self.routes.iter().position(holds);
        }
        let [_, upper] = halves(destination);
        let holds = |(network, mask): &(u64, u64)| upper & mask == *network;
        self.short.iter().position(holds)
    }

    /// Upper half and mask of destinations around this one that all take its route, as there is no longer route among
    /// them, and none of which is in one of some other networks: `others` are the first addresses of these, and this
    /// destination is in none. `None` if they are told by the lower half.
    pub(crate) fn around(
        &self,
        route: usize,
        destination: u128,
        others: impl Iterator<Item = u128>,
    ) -> Option<(u64, u64)> {
        let (longer, rest) = self.routes.split_at_checked(route)?;
        let others = longer.iter().map(|route| route.network).chain(others);
        let apart = others.map(|network| (network ^ destination).leading_zeros() + 1);
        let length = apart.fold(rest.first()?.length.into(), u32::max);
        let ([lower, mask], [_, upper]) =
            (halves(mask(length.try_into().ok()?)), halves(destination));
        (lower == 0).then_some((upper & mask, mask))
    }

    /// The gateway of a route, by its entry among the neighbours, and the MTU towards it; `None` if it leads
    /// straight to its destinations.
    pub(crate) fn gateway(&self, route: usize) -> Option<(AdjacencyId, u16)> {
        let route = self.routes.get(route)?;
        Some((route.adjacency?, route.mtu))
    }

    /// The next hop towards `destination`.
    #[inline(always)]
    pub(crate) fn lookup(&self, destination: u128) -> Option<NextHop> {
        let route = self.routes.get(self.route_of(destination)?)?;
        let (port, address) = match route.next {
            RouteNext::OnLink(port) => (port, destination),
            RouteNext::Via(port, gateway) => (port, gateway.to_bits()),
        };
        Some(NextHop {
            port,
            address,
            adjacency: route.adjacency,
            mtu: route.mtu,
        })
    }

    /// The neighbour's entry for a tunnel end, kept.
    pub(crate) fn pin<P>(
        &self,
        destination: u128,
        neighbours: &mut Neighbours<P>,
    ) -> Option<(NextHop, AdjacencyId)> {
        let hop = self.lookup(destination)?;
        Some((hop, neighbours.pin(hop.port, hop.address)?))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> Ipv6Net {
        text.parse().unwrap()
    }

    fn bits(text: &str) -> u128 {
        text.parse::<Ipv6Addr>().unwrap().to_bits()
    }

    #[test]
    fn the_longest_prefix_wins_and_connected_ones_stay() {
        let mut fib = Fib::default();
        let via = RouteNext::Via(PortId(1), "fe80::1".parse().unwrap());
        fib.set(net("::/0"), Some(via), None, 1500);
        fib.connect(net("2001:db8::/64"), PortId(0), 1500);
        fib.set(net("2001:db8::/64"), Some(via), None, 1500);
        let on_link = Some(RouteNext::OnLink(PortId(2)));
        fib.set(net("2001:db8::8/128"), on_link, None, 1500);
        let port = |fib: &Fib, to| fib.lookup(bits(to)).map(|hop| hop.port.0);
        assert_eq!(port(&fib, "2001:db8::1"), Some(0));
        assert_eq!(port(&fib, "2001:db8::8"), Some(2));
        assert_eq!(port(&fib, "2001:db9::1"), Some(1));
        assert_eq!(fib.lookup(bits("::5")).unwrap().address, bits("fe80::1"));
        fib.set(net("2001:db8::/64"), None, None, 1500);
        fib.set(net("::/0"), None, None, 1500);
        assert_eq!(port(&fib, "2001:db8::1"), Some(0));
        assert_eq!(port(&fib, "2001:db9::1"), None);
    }

    proptest! {
        #[test]
        fn all_around_a_destination_take_its_route(
            routes in prop::collection::vec((0..16_u128, 120..=128_u8), 0..6),
            others in prop::collection::vec((0..16_u128, 120..=128_u8), 0..6),
            shift in prop_oneof![Just(0_u32), Just(64)],
            destinations: [u8; 2],
        ) {
            // Some bits only, so that prefixes lie in each other.
            let mut fib = Fib::default();
            let prefix = |(bits, length): (u128, u8)| {
                let length = length - if shift > 0 { 64 } else { 0 };
                let address = Ipv6Addr::from_bits((bits * 0x11) << shift);
                Ipv6Net::new(address, length).unwrap().trunc()
            };
            for prefix in routes.into_iter().map(prefix) {
                fib.set(prefix, Some(RouteNext::OnLink(PortId(1))), None, 1500);
            }
            let [one, other] = destinations.map(|bits| u128::from(bits) << shift);
            let mut others: Vec<Ipv6Net> = others.into_iter().map(prefix).collect();
            others.retain(|prefix| !prefix.contains(&Ipv6Addr::from_bits(one)));
            let networks = others.iter().map(|prefix| prefix.network().to_bits());
            if let Some(route) = fib.route_of(one)
                && let Some((network, mask)) = fib.around(route, one, networks)
            {
                let ([_, one], [_, upper]) = (halves(one), halves(other));
                prop_assert_eq!(one & mask, network);
                if upper & mask == network {
                    let other_address = Ipv6Addr::from_bits(other);
                    prop_assert!(!others.iter().any(|prefix| prefix.contains(&other_address)));
                    prop_assert_eq!(fib.route_of(other), Some(route));
                }
            }
        }
    }
}
