//! On by destination: another mobile, the appliance itself, or a route and its next hop; and the whole
//! way of packets that do not go it with their burst.

use flow::{DropReason, MacAddr, PortId, Role};

use crate::classify::{self, Choice};
use crate::decap;
use crate::encap;
use crate::fate::{Arrival, Error, Fate, Via};
use crate::fib::Fib;
use crate::ingress::{Ingress, Lane, Passage};
use crate::io::PacketIo;
use crate::neighbour::{self, Neighbours};
use crate::packet::PacketBuf;
use crate::packet::header::{ETHERNET_LEN, Frame, Ipv6, scope};
use crate::table::Slot;
use crate::table::path::{Endpoint, NO_PATH};
use crate::table::rules::Fields;
use crate::worker::Worker;

impl<Io: PacketIo> Worker<Io> {
    /// The whole way of a packet that the stages leave aside: it is not to or from a mobile, or there
    /// is something odd about it.
    #[inline(never)]
    pub(crate) fn alone(
        &mut self,
        passage: &Passage,
        packet: &mut Io::Packet,
        port: PortId,
    ) -> (Fate, Arrival) {
        let mut arrival = Ingress::arrival(port, packet);
        let slot = passage.slot;
        let fate = match passage.lane {
            Lane::Forward | Lane::Unbound => self.forward(slot, packet, &arrival),
            Lane::Access | Lane::Stranger => self.access_uplink(slot, packet, &arrival),
            Lane::LmaExit | Lane::MagExit | Lane::Local => self.local(packet, &mut arrival),
            Lane::Drop => Fate::Drop(passage.reason),
        };
        (fate, arrival)
    }

    /// A packet from the core at an LMA: to a mobile, or on as any router would.
    fn forward(&mut self, slot: Option<Slot>, packet: &mut Io::Packet, arrival: &Arrival) -> Fate {
        match slot {
            Some(slot) => self.deliver(Role::Lma, slot, packet, arrival),
            None => self.forward_unbound(packet, arrival.in_transit()),
        }
    }

    /// A packet to the mobile at `slot`.
    fn deliver(
        &mut self,
        role: Role,
        slot: Slot,
        packet: &mut Io::Packet,
        arrival: &Arrival,
    ) -> Fate {
        let octets = packet.data().get(ETHERNET_LEN..).unwrap_or_default();
        let Some(ip) = Ipv6::of(octets) else {
            return Fate::Drop(DropReason::Malformed);
        };
        let key = (arrival.in_transit()).then(|| self.firsts.key_of(ip, octets, self.now));
        let Some(state) = self.role_mut(role) else {
            return Fate::Drop(DropReason::NoBinding);
        };
        let mut records = state.table.bindings.records();
        let choice = match key {
            Some(key) => classify::by_key(&mut records, slot, ip, &key),
            None => classify::by_default(&records, slot),
        };
        encap::carefully(&mut state.table.paths, choice, packet, arrival.in_transit())
    }

    /// A packet whose destination no binding covers.
    fn forward_unbound(&mut self, packet: &mut Io::Packet, in_transit: bool) -> Fate {
        let Some(destination) = Frame::of(packet).map(|frame| frame.ip.destination.get()) else {
            return Fate::Drop(DropReason::Malformed);
        };
        if self
            .lma
            .as_ref()
            .is_some_and(|lma| lma.in_pool(destination))
        {
            return Fate::Refuse(DropReason::NoBinding, Error::AddressUnreachable);
        }
        self.by_route(destination, packet, in_transit)
    }

    /// By the routing table and the neighbour it names.
    fn by_route(&mut self, to: u128, packet: &mut Io::Packet, in_transit: bool) -> Fate {
        by_route(&self.fib, &mut self.neighbours, to, packet, in_transit)
    }

    /// A packet out of a tunnel of the given role; its inner header is at `offset`.
    #[cold]
    #[inline(never)]
    pub(crate) fn exit(
        &mut self,
        role: Role,
        offset: usize,
        packet: &mut Io::Packet,
        arrival: &mut Arrival,
    ) -> Fate {
        let bared = self.check_exit(role, offset, packet, arrival);
        match bared {
            Ok(Some(slot)) => self.deliver(Role::Mag, slot, packet, arrival),
            Ok(None) => self.mobile_uplink(packet, arrival),
            Err(fate) => fate,
        }
    }

    /// Bares and checks a tunnelled packet; gives the mobile it is for if this is its MAG.
    fn check_exit(
        &mut self,
        role: Role,
        offset: usize,
        packet: &mut Io::Packet,
        arrival: &mut Arrival,
    ) -> Result<Option<Slot>, Fate> {
        let outer = decap::bare(packet, offset)?;
        arrival.via = Via::Tunnel(outer.destination);
        let Some(ip) = Frame::of(packet).map(|frame| frame.ip) else {
            return Err(Fate::Drop(DropReason::Malformed));
        };
        decap::check_addresses(&ip).map_err(Fate::Drop)?;
        let octets = ip.total_len();
        let Some(state) = self.role_mut(role) else {
            return Err(Fate::Drop(DropReason::NoTunnel));
        };
        match role {
            Role::Lma => {
                let slot = state.lookup(ip.source.get());
                decap::check_uplink(state, slot, &outer, octets).map(|()| None)
            }
            Role::Mag => {
                let slot = state.lookup(ip.destination.get());
                decap::check_downlink(state, slot, &outer, octets).map(Some)
            }
        }
    }

    /// A mobile's packet at its LMA, bared and checked.
    #[inline(never)]
    pub(crate) fn mobile_uplink(&mut self, packet: &mut Io::Packet, arrival: &Arrival) -> Fate {
        let Some(destination) = Frame::of(packet).map(|frame| frame.ip.destination.get()) else {
            return Fate::Drop(DropReason::Malformed);
        };
        if self.own.contains(destination, arrival.port) {
            return self.local(packet, &mut arrival.clone());
        }
        let slot = self.lma.as_ref().and_then(|lma| lma.lookup(destination));
        self.forward(slot, packet, arrival)
    }

    /// A packet from an access link at a MAG: into the tunnel of the session that owns its source, or, where
    /// that is allowed, straight to another mobile (RFC 5213 §6.10.3, §6.10.5).
    fn access_uplink(
        &mut self,
        slot: Option<Slot>,
        packet: &mut Io::Packet,
        arrival: &Arrival,
    ) -> Fate {
        // The first look has left the source open.
        if let Some(frame) = Frame::of(packet)
            && let Err(reason) = decap::check_addresses(&frame.ip)
        {
            return Fate::Drop(reason);
        }
        let Some(uplink) = self.ingress_filter(slot, packet, arrival) else {
            return Fate::Drop(DropReason::IngressFilter);
        };
        let octets = packet.data().get(ETHERNET_LEN..).unwrap_or_default();
        let (Some(mag), Some(ip)) = (&mut self.mag, Ipv6::of(octets)) else {
            return Fate::Drop(DropReason::IngressFilter);
        };
        if uplink == NO_PATH {
            return Fate::Drop(DropReason::BindingInactive);
        }
        let bindings = &mag.table.bindings;
        if bindings.has_local()
            && let Some(slot) = bindings.lookup_local(ip.destination.get())
        {
            return self.deliver(Role::Mag, slot, packet, arrival);
        }
        let key = self.firsts.key_of(ip, octets, self.now);
        let choice = Choice {
            path: uplink,
            entropy: Fields::from(&key).entropy(),
        };
        encap::carefully(&mut mag.table.paths, choice, packet, arrival.in_transit())
    }

    /// The uplink path of the binding at `slot`, if this station on this port may send for it.
    fn ingress_filter(
        &mut self,
        slot: Option<Slot>,
        packet: &Io::Packet,
        arrival: &Arrival,
    ) -> Option<u16> {
        let octets = Frame::of(packet)?.ip.total_len();
        let mag = self.mag.as_mut()?;
        let paths = &mut mag.table.paths;
        if let Some(record) = slot.and_then(|slot| mag.table.bindings.uplink(slot)) {
            let is_its_link = |number: &&u16| {
                let rewrite = paths.rewrite(**number);
                rewrite.is_some_and(|path| path.is_link_of(arrival.port, &arrival.station.0))
            };
            if let Some(number) = record.sources.iter().find(is_its_link) {
                record.packets += 1;
                record.octets += octets as u64;
                paths.count_in(*number, octets);
                return Some(record.forward);
            }
        }
        if !paths.knows(&Endpoint::Link(arrival.port, arrival.station)) {
            self.ask_for_mobile(arrival);
        }
        None
    }

    /// Whether a packet to the appliance itself that came from an access link has a source its sender
    /// may use.
    pub(crate) fn may_talk_to_us(
        &mut self,
        source: u128,
        packet: &Io::Packet,
        arrival: &Arrival,
    ) -> bool {
        scope::is_link_local(source) || {
            let slot = self.mag.as_ref().and_then(|mag| mag.lookup(source));
            self.ingress_filter(slot, packet, arrival).is_some()
        }
    }

    /// The way of a packet that the worker or the control plane made: back through the tunnel or link
    /// of a mobile, or by route.
    pub(crate) fn own_way(&mut self, packet: &mut Io::Packet) -> Fate {
        let Some(destination) = Frame::of(packet).map(|frame| frame.ip.destination.get()) else {
            return Fate::Drop(DropReason::Malformed);
        };
        if scope::is_multicast(destination) || scope::is_link_local(destination) {
            // Without a port these lead nowhere.
            return Fate::Drop(DropReason::NoRoute);
        }
        for role in [Role::Lma, Role::Mag] {
            let state = self.role_mut(role);
            if let Some(slot) = state.and_then(|state| state.lookup(destination)) {
                return self.deliver(role, slot, packet, &Arrival::OWN);
            }
        }
        if self.own.is_ours(destination) {
            return Fate::Drop(DropReason::Unhandled);
        }
        self.forward_unbound(packet, Arrival::OWN.in_transit())
    }

    /// Puts a complete packet on a port, to a station.
    pub(crate) fn link_to(
        &mut self,
        port: PortId,
        station: MacAddr,
        packet: &mut Io::Packet,
    ) -> Fate {
        let mac = self.ports.get(usize::from(port.0)).map(|port| port.mac);
        match (mac, Frame::of_mut(packet)) {
            (Some(mac), Some(frame)) => {
                frame.ethernet = neighbour::header(mac, station);
                Fate::Send(port)
            }
            (None, _) => Fate::Drop(DropReason::PortDown),
            (_, None) => Fate::Drop(DropReason::Malformed),
        }
    }
}

/// By the routing table and the neighbour it names.
#[inline(always)]
pub(crate) fn by_route<P: PacketBuf>(
    fib: &Fib,
    neighbours: &mut Neighbours<P>,
    to: u128,
    packet: &mut P,
    in_transit: bool,
) -> Fate {
    let Some(hop) = fib.lookup(to) else {
        return Fate::Refuse(DropReason::NoRoute, Error::NoRoute);
    };
    let Some(frame) = Frame::of_mut(packet) else {
        return Fate::Drop(DropReason::Malformed);
    };
    if let Err(fate) = encap::step(frame, hop.mtu.into(), in_transit) {
        return fate;
    }
    let adjacency = match hop.adjacency {
        Some(gateway) => Some(gateway),
        None => neighbours.entry(hop.port, hop.address),
    };
    let Some(adjacency) = adjacency else {
        return Fate::Drop(DropReason::NeighbourQueue);
    };
    match neighbours.get(adjacency).and_then(|entry| entry.header) {
        Some(header) => {
            frame.ethernet = header;
            Fate::Send(hop.port)
        }
        None => Fate::Hold {
            adjacency,
            inner: ETHERNET_LEN,
        },
    }
}
