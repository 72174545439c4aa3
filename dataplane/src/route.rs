//! On by destination: another mobile, the appliance itself, or a route and its next hop.

use flow::{DropReason, Role};

use crate::classify;
use crate::decap;
use crate::encap;
use crate::fate::{Arrival, Error, Fate, Via};
use crate::io::PacketIo;
use crate::neighbour;
use crate::packet::PacketBuf;
use crate::packet::header::{ETHERNET_LEN, Frame, Ipv6, scope};
use crate::simd::{Compare, Scalar};
use crate::table::Slot;
use crate::table::path::{Endpoint, NO_PATH};
use crate::table::rules::Fields;
use crate::worker::Worker;
use flow::MacAddr;
use zerocopy::FromBytes;

impl<Io: PacketIo> Worker<Io> {
    /// A packet from the core at an LMA: to a mobile, or on as any router would.
    #[inline(always)]
    pub(crate) fn forward(
        &mut self,
        slot: Option<Slot>,
        packet: &mut Io::Packet,
        arrival: &Arrival,
    ) -> Fate {
        match slot {
            Some(slot) => self.deliver_alone(Role::Lma, slot, packet, arrival),
            None => self.forward_unbound(packet, arrival),
        }
    }

    /// As [`Worker::deliver`] for a packet that was not looked up with its burst.
    #[inline(never)]
    fn deliver_alone(
        &mut self,
        role: Role,
        slot: Slot,
        packet: &mut Io::Packet,
        arrival: &Arrival,
    ) -> Fate {
        self.deliver(role, slot, packet, arrival, Scalar)
    }

    /// A packet to the mobile at `slot`.
    #[inline(always)]
    fn deliver(
        &mut self,
        role: Role,
        slot: Slot,
        packet: &mut Io::Packet,
        arrival: &Arrival,
        compare: impl Compare,
    ) -> Fate {
        let Some(state) = self.role_mut(role) else {
            return Fate::Drop(DropReason::NoBinding);
        };
        let choice = if arrival.in_transit() {
            classify::to_mobile(&mut state.table.bindings, slot, packet, compare)
        } else {
            classify::by_default(&mut state.table.bindings, slot)
        };
        match choice {
            Ok(choice) => encap::onto_path(&mut state.table.paths, choice, packet, arrival),
            Err(reason) => Fate::Drop(reason),
        }
    }

    /// A packet whose destination no binding covers.
    #[inline(always)]
    fn forward_unbound(&mut self, packet: &mut Io::Packet, arrival: &Arrival) -> Fate {
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
        self.by_route(destination, packet, arrival)
    }

    /// By the routing table and the neighbour it names.
    #[inline(always)]
    fn by_route(&mut self, to: u128, packet: &mut Io::Packet, arrival: &Arrival) -> Fate {
        let Some(hop) = self.fib.lookup(to) else {
            return Fate::Refuse(DropReason::NoRoute, Error::NoRoute);
        };
        let Some(port) = self.ports.get(usize::from(hop.port.0)) else {
            return Fate::Drop(DropReason::PortDown);
        };
        let frame = match encap::step(packet, usize::from(port.mtu), arrival) {
            Ok(frame) => frame,
            Err(fate) => return fate,
        };
        let Some(adjacency) = self.neighbours.entry(hop.port, hop.address) else {
            return Fate::Drop(DropReason::NeighbourQueue);
        };
        match self
            .neighbours
            .get(adjacency)
            .and_then(|entry| entry.header)
        {
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

    /// A packet out of a tunnel; its inner header is at `offset`.
    #[inline(always)]
    pub(crate) fn exit(
        &mut self,
        role: Role,
        offset: usize,
        slot: Option<Slot>,
        packet: &mut Io::Packet,
        arrival: &mut Arrival,
        compare: impl Compare,
    ) -> Fate {
        match self.check_exit(role, offset, slot, packet, arrival) {
            Ok(Some(slot)) => self.deliver(Role::Mag, slot, packet, arrival, compare),
            Ok(None) => self.mobile_uplink(packet, arrival),
            Err(fate) => fate,
        }
    }

    /// Bares and checks a tunnelled packet; gives the mobile it is for if this is its MAG.
    #[inline(always)]
    fn check_exit(
        &mut self,
        role: Role,
        offset: usize,
        slot: Option<Slot>,
        packet: &mut Io::Packet,
        arrival: &mut Arrival,
    ) -> Result<Option<Slot>, Fate> {
        let outer = decap::bare(packet, offset)?;
        arrival.via = Via::Tunnel(outer.destination);
        let Some(frame) = Frame::of(packet) else {
            return Err(Fate::Drop(DropReason::Malformed));
        };
        decap::check_addresses(&frame.ip)?;
        let octets = frame.ip.total_len();
        let Some(state) = self.role_mut(role) else {
            return Err(Fate::Drop(DropReason::NoTunnel));
        };
        match role {
            Role::Lma => decap::check_uplink(state, slot, &outer, octets).map(|()| None),
            Role::Mag => decap::check_downlink(state, slot, &outer, octets).map(Some),
        }
    }

    /// A mobile's packet at its LMA, bared and checked.
    #[inline(always)]
    fn mobile_uplink(&mut self, packet: &mut Io::Packet, arrival: &Arrival) -> Fate {
        let Some(destination) = Frame::of(packet).map(|frame| frame.ip.destination.get()) else {
            return Fate::Drop(DropReason::Malformed);
        };
        if self.own.contains(destination, arrival.port) {
            return self.local(packet, &mut arrival.clone());
        }
        let slot = self.lma.as_ref().and_then(|lma| lma.lookup(destination));
        self.forward(slot, packet, arrival)
    }

    /// As [`Worker::exit`] for a tunnel packet that was not looked up with its burst.
    #[cold]
    #[inline(never)]
    pub(crate) fn exit_alone(
        &mut self,
        role: Role,
        offset: usize,
        packet: &mut Io::Packet,
        arrival: &mut Arrival,
    ) -> Fate {
        let inner = packet.data().get(offset..).unwrap_or_default();
        let address = Ipv6::ref_from_prefix(inner).ok().map(|(ip, _)| match role {
            Role::Lma => ip.source.get(),
            Role::Mag => ip.destination.get(),
        });
        let slot = self
            .role_mut(role)
            .zip(address)
            .and_then(|(state, address)| state.lookup(address));
        self.exit(role, offset, slot, packet, arrival, Scalar)
    }

    /// A packet from an access link at a MAG: into the tunnel of the session that owns its source
    /// (RFC 5213 §6.10.3, §6.10.5).
    #[inline(always)]
    pub(crate) fn access_uplink(
        &mut self,
        slot: Option<Slot>,
        packet: &mut Io::Packet,
        arrival: &Arrival,
    ) -> Fate {
        let Some(uplink) = self.ingress_filter(slot, packet, arrival) else {
            return Fate::Drop(DropReason::IngressFilter);
        };
        let (Some(mag), Some(frame)) = (&mut self.mag, Frame::of(packet)) else {
            return Fate::Drop(DropReason::IngressFilter);
        };
        if uplink == NO_PATH {
            return Fate::Drop(DropReason::BindingInactive);
        }
        let choice = classify::Choice {
            path: uplink,
            entropy: Fields::of(&frame.ip, packet.data()).entropy(),
        };
        encap::onto_path(&mut mag.table.paths, choice, packet, arrival)
    }

    /// The uplink path of the binding at `slot`, if this station on this port may send for it.
    #[inline(always)]
    pub(crate) fn ingress_filter(
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
                rewrite.is_some_and(|path| path.is_link_of(arrival.port, arrival.station))
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
                return self.deliver_alone(role, slot, packet, &Arrival::OWN);
            }
        }
        if self.own.is_ours(destination) {
            return Fate::Drop(DropReason::Unhandled);
        }
        self.forward_unbound(packet, &Arrival::OWN)
    }

    /// Puts a complete packet on a port, to a station.
    pub(crate) fn link_to(
        &mut self,
        port: flow::PortId,
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
