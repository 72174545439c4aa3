//! What is done with the packets of each lane, once all about them is known: rewritten in place, counted, and
//! sent on their way.
//!
//! Each way is said twice: for the usual packet in one straight piece that the loop over a burst is made
//! of, and for any packet in a function of its own, which the usual one leaves everything else to.

use flow::PortId;

use crate::classify::Choice;
use crate::decap;
use crate::encap;
use crate::fate::Fate;
use crate::fib::Fib;
use crate::ingress::{OwnAddresses, Passage};
use crate::neighbour::Neighbours;
use crate::packet::header::{Ethernet, Frame, IPV6_LEN, Tunnelled, scope};
use crate::packet::{PacketBuf, ecn};
use crate::role::RoleState;
use crate::route;
use crate::table::hash::halves;
use crate::table::path::{NO_PATH, State};
use crate::table::rules::Fields;
use crate::table::{Paths, Records};

/// What is done with the packets of one lane.
pub(super) trait Way<P> {
    /// Rewrites and counts a packet about which there is nothing unusual, and says which port it leaves
    /// by; `None`, and nothing done, for any other.
    fn usual(&mut self, packet: &mut P, passage: &Passage) -> Option<PortId>;

    /// Rewrites and counts any packet and says what becomes of it.
    fn odd(&mut self, packet: &mut P, passage: &Passage) -> Fate;
}

/// At an LMA, into the tunnel that the first matching rule names.
pub(super) struct ToMobile<'a> {
    pub(super) paths: &'a mut Paths,
}

impl<P: PacketBuf> Way<P> for ToMobile<'_> {
    #[inline(always)]
    fn usual(&mut self, packet: &mut P, passage: &Passage) -> Option<PortId> {
        // Whose binding was not found has no path.
        let Choice { path, entropy } = passage.choice;
        encap::straight_into_tunnel(self.paths.get_mut(path)?, entropy, packet)
    }

    #[cold]
    #[inline(never)]
    fn odd(&mut self, packet: &mut P, passage: &Passage) -> Fate {
        if passage.slot.is_none() {
            return Fate::Aside;
        }
        encap::onto_path(self.paths, passage.choice, packet, true)
    }
}

/// At an LMA, out of a tunnel and on by route, unless it is to another mobile or to us. The MAG at the
/// other end must be one that may send for the inner source, which after a flow move is not always
/// the one that hosts the prefix (RFC 6275 §10.4.5, RFC 5213 §5.6.2).
pub(super) struct FromMobile<'a, P> {
    own: &'a OwnAddresses,
    fib: &'a Fib,
    neighbours: &'a mut Neighbours<P>,
    lma: &'a mut RoleState,
    hop: &'a mut Hop,
}

/// Over which gateway packets go, looked up once while they take the same route and nothing is updated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop {
    /// The number of the route.
    route: usize,
    /// Upper half and mask of destinations that all take it, and that are neither ours, nor mobiles', nor of a special
    /// kind: of most packets this alone is asked.
    clear: (u64, u64),
    header: Ethernet,
    port: PortId,
    mtu: u16,
}

impl Hop {
    /// No upper half is in this block.
    const NOT_CLEAR: (u64, u64) = (1, 0);

    /// Not known.
    pub(super) const NONE: Self = Self {
        route: usize::MAX,
        clear: Self::NOT_CLEAR,
        header: Ethernet::NONE,
        port: PortId(u16::MAX),
        mtu: 0,
    };
}

impl<'a, P> FromMobile<'a, P> {
    #[inline(always)]
    pub(super) fn new(
        own: &'a OwnAddresses,
        fib: &'a Fib,
        neighbours: &'a mut Neighbours<P>,
        lma: &'a mut RoleState,
        hop: &'a mut Hop,
    ) -> Self {
        Self {
            own,
            fib,
            neighbours,
            lma,
            hop,
        }
    }

    /// Makes the hop that of a destination; `None` if there is anything odd about it, or its route leads to no gateway that
    /// is known.
    #[inline(always)]
    fn turn_to(&mut self, to: u128) -> Option<()> {
        let ([_, upper], (network, mask)) = (halves(to), self.hop.clear);
        if upper & mask == network {
            return Some(());
        }
        if !self.goes_on(to) {
            return None;
        }
        let route = self.fib.route_of(to)?;
        if route == self.hop.route {
            return Some(());
        }
        self.look_up(route, to)
    }

    #[inline(never)]
    fn look_up(&mut self, route: usize, to: u128) -> Option<()> {
        let (gateway, mtu) = self.fib.gateway(route)?;
        let entry = self.neighbours.get(gateway)?;
        let others = self.own.all().chain(scope::SPECIAL);
        let clear = self.lma.pools().map(|pools| others.chain(pools));
        let clear = clear.and_then(|others| self.fib.around(route, to, others));
        *self.hop = Hop {
            route,
            clear: clear.unwrap_or(Hop::NOT_CLEAR),
            header: entry.header?,
            port: entry.port,
            mtu,
        };
        Some(())
    }

    /// Whether packets to an address go on by route.
    #[inline(always)]
    fn goes_on(&self, to: u128) -> bool {
        scope::is_plain(to) && !self.lma.may_hold(to) && !self.own.may_contain_plain(to)
    }
}

impl<P: PacketBuf> Way<P> for FromMobile<'_, P> {
    #[inline(always)]
    fn usual(&mut self, packet: &mut P, passage: &Passage) -> Option<PortId> {
        let slot = passage.slot?;
        let frame = Tunnelled::of(packet)?;
        let ip = &frame.inner;
        let (octets, to) = (ip.total_len(), ip.destination.get());
        self.turn_to(to)?;
        if !encap::may_step(ip, self.hop.mtu.into())
            || !ecn::keeps(ip.traffic_class(), frame.outer.ip.traffic_class())
        {
            return None;
        }
        let record = self.lma.table.bindings.uplink(slot)?;
        if !record.admits(passage.through) {
            return None;
        }
        bare(packet, &self.hop.header)?;
        record.packets += 1;
        record.octets += octets as u64;
        self.lma.table.paths.count_in(passage.through, octets);
        Some(self.hop.port)
    }

    #[cold]
    #[inline(never)]
    fn odd(&mut self, packet: &mut P, passage: &Passage) -> Fate {
        let (Some(slot), Some(Tunnelled { outer, inner: ip })) =
            (passage.slot, Tunnelled::of(packet))
        else {
            return Fate::Aside;
        };
        let (octets, to) = (ip.total_len(), ip.destination.get());
        // The first look has left both open.
        if !scope::is_plain(to) || !ecn::passes(ip.traffic_class(), outer.ip.traffic_class()) {
            return Fate::Aside;
        }
        match self.lma.table.bindings.uplink(slot) {
            Some(record) if record.admits(passage.through) => {
                record.packets += 1;
                record.octets += octets as u64;
            }
            // Who may not is told apart later.
            Some(_) | None => return Fate::Aside,
        }
        self.lma.table.paths.count_in(passage.through, octets);
        decap::strip(packet);
        if !self.goes_on(to) {
            return Fate::Turn;
        }
        route::by_route(self.fib, self.neighbours, to, packet, true)
    }
}

/// At a MAG, out of a tunnel onto the mobile's link, which the stage before found.
pub(super) struct ToLink<'a> {
    pub(super) paths: &'a mut Paths,
}

impl<P: PacketBuf> Way<P> for ToLink<'_> {
    #[inline(always)]
    fn usual(&mut self, packet: &mut P, passage: &Passage) -> Option<PortId> {
        // Whose binding was not found has no path here either.
        let (link, counters) = self.paths.get_mut(passage.choice.path)?;
        let frame = Tunnelled::of(packet)?;
        let ip = &frame.inner;
        let octets = ip.total_len();
        if link.state != State::Link
            || !encap::may_step(ip, link.room.into())
            || !ecn::keeps(ip.traffic_class(), frame.outer.ip.traffic_class())
        {
            return None;
        }
        bare(packet, &link.header.ethernet)?;
        counters.out_packets += 1;
        counters.out_octets += octets as u64;
        Some(link.port.into())
    }

    #[cold]
    #[inline(never)]
    fn odd(&mut self, packet: &mut P, passage: &Passage) -> Fate {
        if passage.slot.is_none() {
            return Fate::Aside;
        }
        decap::strip(packet);
        encap::onto_path(self.paths, passage.choice, packet, true)
    }
}

/// At a MAG, from the mobile's link, which the stage before found, into its tunnel (RFC 5213 §6.10.3,
/// §6.10.5).
pub(super) struct FromLink<'a> {
    pub(super) records: Records<'a>,
    pub(super) paths: &'a mut Paths,
    pub(super) arrived: PortId,
}

impl<P: PacketBuf> Way<P> for FromLink<'_> {
    #[inline(always)]
    fn usual(&mut self, packet: &mut P, passage: &Passage) -> Option<PortId> {
        let record = self.records.uplink.get_mut(passage.slot?.index())?;
        let [(link, counters), tunnel] = self.paths.two_mut([passage.through, record.forward])?;
        // The longer one is asked for first.
        let ports = Fields::ports_of(packet.data())?;
        let frame = Frame::of(packet)?;
        if !link.is_way_of(&frame.ethernet, self.arrived) {
            return None;
        }
        let octets = frame.ip.total_len() as u64;
        let entropy = Fields::usual_entropy(&frame.ip, ports, packet.data())?;
        let port = encap::straight_into_tunnel(tunnel, entropy, packet)?;
        record.packets += 1;
        record.octets += octets;
        counters.in_packets += 1;
        counters.in_octets += octets;
        Some(port)
    }

    #[cold]
    #[inline(never)]
    fn odd(&mut self, packet: &mut P, passage: &Passage) -> Fate {
        let data = packet.data();
        let (Some(slot), Some(frame), Some((link, counters))) = (
            passage.slot,
            Frame::of(packet),
            self.paths.get_mut(passage.through),
        ) else {
            return Fate::Aside;
        };
        let its = link.is_link_of(self.arrived, &frame.ethernet.source);
        let (true, Some(record)) = (its, self.records.uplink.get_mut(slot.index())) else {
            // It may have come on another of its mobile's links.
            return Fate::Aside;
        };
        if record.forward == NO_PATH {
            return Fate::Aside;
        }
        let Some(fields) = Fields::usual(&frame.ip, data) else {
            return Fate::Aside;
        };
        let octets = frame.ip.total_len() as u64;
        record.packets += 1;
        record.octets += octets;
        counters.in_packets += 1;
        counters.in_octets += octets;
        let choice = Choice {
            path: record.forward,
            entropy: fields.entropy(),
        };
        encap::onto_path(self.paths, choice, packet, true)
    }
}

/// Takes the outer header off and puts the next hop's before the inner one, which costs a hop.
#[inline(always)]
fn bare<P: PacketBuf>(packet: &mut P, header: &Ethernet) -> Option<()> {
    packet.trim_front(IPV6_LEN);
    let frame = Frame::of_mut(packet)?;
    frame.ip.hop_limit -= 1;
    frame.ethernet = *header;
    Some(())
}

#[cfg(test)]
mod tests;
