//! What becomes of packets: the one place that acts on a [`Fate`].

use flow::{DropReason, MacAddr, PortCounters, PortId, Punt, WorkerId};

use crate::fate::{Arrival, Error, Fate, Punted};
use crate::ingress::{Ingress, OwnAddresses, Shapes};
use crate::io::{BURST, Burst, PacketIo};
use crate::local::discovery;
use crate::neighbour::Held;
use crate::packet::PacketBuf;
use crate::packet::header::{ETHERNET_LEN, Ethernet, Frame};
use crate::police::Sender;
use crate::role::RoleState;
use crate::spread::{Peers, Spread};
use crate::worker::Worker;
use ipnet::Ipv6Net;

/// Most questions for neighbours that are looked at in one turn: those that wait must not cost the
/// packets their time.
const QUESTIONS_PER_TURN: usize = 32;

/// A port as its worker knows it.
#[derive(Debug)]
pub(crate) struct Port<P> {
    pub(crate) id: PortId,
    pub(crate) mac: MacAddr,
    pub(crate) mtu: u16,
    pub(crate) access: bool,
    /// Its link-layer address, and on an access port that which all MAGs share.
    macs: [MacAddr; 2],
    /// How the usual frames look that come in.
    shapes: Shapes,
    /// Prefixes of its addresses.
    pub(crate) prefixes: Vec<Ipv6Net>,
    /// Packets that wait to be sent with their burst.
    queue: Burst<P>,
    /// What of the packets that come in goes to other workers.
    pub(crate) spread: Spread,
    /// The worker that sends here for this one; `None` if it does so itself.
    pub(crate) sender: Option<WorkerId>,
    pub(crate) counters: PortCounters,
}

impl<P: PacketBuf> Port<P> {
    pub(crate) fn new(config: &crate::config::PortConfig) -> Self {
        let shared = if config.access {
            MacAddr::MAG
        } else {
            config.mac
        };
        let macs = [config.mac, shared];
        Self {
            macs,
            shapes: Shapes::new(macs, None, None),
            id: config.id,
            mac: config.mac,
            mtu: config.mtu,
            access: config.access,
            prefixes: config.addresses.iter().map(Ipv6Net::trunc).collect(),
            queue: Burst::new(),
            spread: Spread::Nothing,
            sender: None,
            counters: PortCounters::default(),
        }
    }

    /// Takes note of an LMA's pools, and of where tunnels end.
    pub(crate) fn expect(&mut self, lma: Option<&RoleState>, mag: Option<&RoleState>) {
        let [lma, mag] = [lma, mag].map(|role| role.filter(|_| !self.access));
        self.shapes = Shapes::new(self.macs, lma, mag);
    }

    /// What a worker needs to know to tell its packets from others on this port.
    #[inline(always)]
    pub(crate) fn ingress<'a>(
        &'a self,
        own: &'a OwnAddresses,
        lma: Option<&'a RoleState>,
        mag: Option<&'a RoleState>,
    ) -> Ingress<'a> {
        let bindings = lma.map(|lma| &lma.table.bindings);
        Ingress {
            port: self.id,
            macs: &self.macs,
            shapes: &self.shapes,
            forward: self.shapes.forward.as_ref().zip(bindings),
            exit: self.shapes.exit(lma, mag),
            access: self.access,
            own,
            lma,
            mag,
        }
    }

    /// Packets that the port has not taken yet.
    pub(crate) fn backlog(&self) -> usize {
        self.queue.len()
    }

    /// Offers the port, or the worker that sends there, what waits for it.
    fn flush<Io: PacketIo<Packet = P>>(&mut self, io: &mut Io, peers: &mut Option<Peers<P>>) {
        if !self.queue.is_empty() {
            let (id, sender, counters) = (self.id, self.sender, &mut self.counters);
            offer(io, peers, id, sender, counters, &mut self.queue);
        }
    }

    /// Sends or queues packets, in order; those that the port is too busy for stay.
    #[inline(always)]
    fn send<Io: PacketIo<Packet = P>>(
        &mut self,
        io: &mut Io,
        peers: &mut Option<Peers<P>>,
        packets: &mut Burst<P>,
    ) {
        // So many are worth a transmission of their own.
        if self.queue.is_empty() && packets.len() >= BURST / 2 {
            let (id, sender, counters) = (self.id, self.sender, &mut self.counters);
            offer(io, peers, id, sender, counters, packets);
        }
        if !packets.is_empty() {
            self.join(io, peers, packets);
        }
    }

    #[inline(never)]
    fn join<Io: PacketIo<Packet = P>>(
        &mut self,
        io: &mut Io,
        peers: &mut Option<Peers<P>>,
        packets: &mut Burst<P>,
    ) {
        for offered in [false, true] {
            if offered && !packets.is_empty() {
                self.flush(io, peers);
            }
            let room = self.queue.remaining_capacity().min(packets.len());
            self.queue.extend(packets.drain(..room));
        }
    }
}

impl<Io: PacketIo> Worker<Io> {
    /// Ends a packet's stay here.
    #[inline(always)]
    pub(crate) fn finish(&mut self, packet: Io::Packet, fate: Fate, arrival: &Arrival) {
        if let Fate::Send(port) = fate {
            self.send(port, packet);
        } else {
            self.end(packet, fate, arrival);
        }
    }

    /// As [`Worker::finish`], for all that are not sent as they are.
    #[inline(never)]
    pub(crate) fn end(&mut self, packet: Io::Packet, fate: Fate, arrival: &Arrival) {
        if self.capture.is_some() {
            self.note_end(&packet, &fate);
        }
        match fate {
            Fate::Send(port) => self.send(port, packet),
            Fate::Hold { adjacency, inner } => {
                let held = Held {
                    packet,
                    inner,
                    arrival: *arrival,
                };
                if self.neighbours.hold(adjacency, held).is_err() {
                    self.count_drop(DropReason::NeighbourQueue);
                }
            }
            Fate::Cut { mtu, to } => self.cut(packet, mtu, to, arrival),
            Fate::Gather => self.gather(packet, arrival),
            Fate::Drop(reason) => self.count_drop(reason),
            Fate::Refuse(reason, error) => {
                self.count_drop(reason);
                if arrival.in_transit() {
                    self.tell(&packet, error, arrival);
                }
            }
            Fate::Punt(kind) => match self.punt(kind, &packet, arrival) {
                Ok(()) => self.punted += 1,
                Err(reason) => self.count_drop(reason),
            },
            // The stages see to these before a packet ends.
            Fate::Turn | Fate::Aside => self.count_drop(DropReason::NoRoute),
            Fate::Consume => self.consumed += 1,
            Fate::Relay(error) => {
                self.consumed += 1;
                self.tell(&packet, error, arrival);
            }
            Fate::Answer => {
                self.consumed += 1;
                self.originate(packet, arrival);
            }
        }
    }

    /// Sends a packet of the worker's own in answer to one that arrived.
    pub(crate) fn originate(&mut self, mut packet: Io::Packet, arrival: &Arrival) {
        self.originated += 1;
        let fate = match discovery::answer_station(&packet, arrival) {
            Some(station) => self.link_to(arrival.port, station, &mut packet),
            None => self.own_way(&mut packet),
        };
        self.finish(packet, fate, &Arrival::OWN);
    }

    /// Sends a complete frame.
    pub(crate) fn send(&mut self, port: PortId, packet: Io::Packet) {
        let mut packets = Burst::new();
        packets.push(packet);
        self.send_all(port, &mut packets);
    }

    /// Sends complete frames.
    pub(crate) fn send_all(&mut self, port: PortId, packets: &mut Burst<Io::Packet>) {
        if self.capture.is_none() {
            self.pass_on(port, packets);
            return;
        }
        self.note_leaving(port, packets);
        let refused = self.pass_on(port, packets);
        self.note_refused(
            refused.map(|(reason, _)| reason),
            refused.map_or(0, |(_, count)| count),
        );
    }

    /// Sends complete frames that another worker made, or this one; says why the last ones were not, and how many.
    pub(crate) fn pass_on(
        &mut self,
        port: PortId,
        packets: &mut Burst<Io::Packet>,
    ) -> Option<(DropReason, usize)> {
        let (ports, io, peers) = (&mut self.ports, &mut self.io, &mut self.peers);
        let reason = send_all(ports, io, peers, port, packets).err()?;
        let count = packets.len();
        self.count_drops(reason, count as u64);
        packets.clear();
        Some((reason, count))
    }

    /// Offers every port what waits for it.
    pub(crate) fn flush(&mut self) {
        for port in &mut self.ports {
            port.flush(&mut self.io, &mut self.peers);
        }
    }

    /// Sends what waited for a neighbour.
    pub(crate) fn release(&mut self, mut held: Held<Io::Packet>, port: PortId, header: Ethernet) {
        if let Some(frame) = Frame::of_mut(&mut held.packet) {
            frame.ethernet = header;
        }
        self.send(port, held.packet);
    }

    /// Drops what waited for a neighbour in vain, and tells its sender (RFC 4443 §3.1, RFC 2473 §8).
    pub(crate) fn give_up(&mut self, mut held: Held<Io::Packet>) {
        held.packet.trim_front(held.inner - ETHERNET_LEN);
        let fate = Fate::Refuse(DropReason::Neighbour, Error::AddressUnreachable);
        self.finish(held.packet, fate, &held.arrival);
    }

    /// Copies a packet to the control plane.
    pub(crate) fn punt(
        &mut self,
        kind: Punted,
        packet: &Io::Packet,
        arrival: &Arrival,
    ) -> Result<(), DropReason> {
        let port = arrival.port;
        let copy = || {
            packet
                .data()
                .get(ETHERNET_LEN..)
                .unwrap_or_default()
                .to_vec()
        };
        match kind {
            Punted::Mobility => {
                let source = Frame::of(packet).map_or(0, |frame| frame.ip.source.get());
                // Of the ring, what is left to signalling is left to peers.
                let reserve = match self.police.signalling(source) {
                    Some(Sender::Peer) => 0,
                    Some(Sender::Stranger) => self.punt_reserve,
                    None => return Err(DropReason::PuntRate),
                };
                let punt = Punt::Mobility {
                    port,
                    packet: copy(),
                };
                self.push_punt(punt, reserve)
            }
            Punted::NeighbourDiscovery => {
                if !self.police.neighbour_discovery(port, arrival.station) {
                    return Err(DropReason::PuntRate);
                }
                let punt = Punt::NeighbourDiscovery {
                    port,
                    source: arrival.station,
                    packet: copy(),
                };
                self.push_punt(punt, self.punt_reserve)
            }
        }
    }

    /// Asks the control plane for the neighbours that packets wait for, as fast as rates and ring
    /// allow; the rest is asked for in later turns. What a port has no rate left for does not stand in
    /// the way of other ports.
    pub(crate) fn ask_for_neighbours(&mut self) {
        for _ in 0..QUESTIONS_PER_TURN {
            let Some((port, next_hop)) = self.neighbours.question() else {
                return;
            };
            let asked = self.police.resolve(port)
                && self
                    .push_punt(Punt::Resolve { port, next_hop }, self.punt_reserve)
                    .is_ok();
            if asked {
                self.neighbours.question_asked();
            } else {
                self.neighbours.question_waits();
            }
        }
    }

    /// Tells the control plane of a station that no binding names. A question, not a packet: what it
    /// sent is dropped either way, and it will send again.
    pub(crate) fn ask_for_mobile(&mut self, arrival: &Arrival) {
        if self.police.unknown_mobile(arrival.port, arrival.station) {
            let punt = Punt::UnknownMobile {
                port: arrival.port,
                source: arrival.station,
            };
            let _full = self.push_punt(punt, self.punt_reserve);
        }
    }

    pub(crate) fn push_punt(&mut self, punt: Punt, reserve: usize) -> Result<(), DropReason> {
        self.rings
            .push_punt(punt, reserve)
            .map_err(|_punt| DropReason::PuntRing)
    }
}

/// Queues complete frames for a port, in order. Those that it is too busy for stay.
///
/// # Errors
/// Why some stayed.
#[inline(always)]
pub(crate) fn send_all<Io: PacketIo>(
    ports: &mut [Port<Io::Packet>],
    io: &mut Io,
    peers: &mut Option<Peers<Io::Packet>>,
    port: PortId,
    packets: &mut Burst<Io::Packet>,
) -> Result<(), DropReason> {
    let port = ports
        .get_mut(usize::from(port.0))
        .ok_or(DropReason::PortDown)?;
    port.send(io, peers, packets);
    if packets.is_empty() {
        Ok(())
    } else {
        Err(DropReason::TxFull)
    }
}

/// Offers packets to a port, or to the worker that sends there; what is not taken stays, in order.
fn offer<Io: PacketIo>(
    io: &mut Io,
    peers: &mut Option<Peers<Io::Packet>>,
    port: PortId,
    sender: Option<WorkerId>,
    counters: &mut PortCounters,
    packets: &mut Burst<Io::Packet>,
) {
    if let (Some(sender), Some(peers)) = (sender, peers) {
        peers.send(sender, port, packets);
        return;
    }
    let (count, octets) = (packets.len(), total_len(packets));
    io.tx(port, packets);
    counters.tx_packets += (count - packets.len()) as u64;
    counters.tx_octets += octets - total_len(packets);
}

/// Octets of all packets.
#[inline(always)]
pub(crate) fn total_len<P: PacketBuf>(packets: &[P]) -> u64 {
    packets
        .iter()
        .map(|packet| packet.data().len() as u64)
        .sum()
}
