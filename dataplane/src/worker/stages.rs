//! A burst's way through a worker, stage by stage.
//!
//! ```text
//! look      parse once, name the lane, fetch the bucket of the address that decides
//! find      bucket -> place of the binding, fetch its record
//! choose    record -> first matching rule, count; at a MAG also the link, whose path is fetched
//! take      source checks, rewrite in place, send: runs on one lane, each in a straight loop
//! ```
//!
//! Each stage runs over the whole burst, so that the memory one packet waits for is on its way while
//! the others are looked at. The stages know four lanes, the usual ones at an LMA and at a MAG, and
//! leave whatever is odd about a packet to [`Worker::alone`]. The last stage is in [`ways`]. Packets stay in order, but for those of
//! a run on one lane that are not sent: they end after the others.

use arrayvec::{ArrayVec, Drain};
use flow::{PortId, Role};
use zerocopy::FromBytes;

use super::Worker;
use super::ways::{FromLink, FromMobile, ToLink, ToMobile, Way};
use crate::classify;
use crate::egress::{self, Port};
use crate::fate::{Arrival, Fate, Via};
use crate::ingress::{Lane, Passage};
use crate::io::{BURST, Burst, PacketIo};
use crate::packet::PacketBuf;
use crate::packet::header::{FRAME_LEN, Frame, IPV6_LEN, Ipv6};
use crate::simd::{Compare, Stages};
use crate::spread::Peers;
use crate::table::{Bindings, Records, Table};

/// A worker's burst, to be handled as this processor does it best.
struct Handle<'a, Io: PacketIo> {
    worker: &'a mut Worker<Io>,
    place: usize,
    burst: &'a mut Burst<Io::Packet>,
}

impl<Io: PacketIo> Stages for Handle<'_, Io> {
    #[inline(always)]
    fn run(self, compare: impl Compare + Copy) {
        self.worker.stages(self.place, self.burst, compare);
    }
}

impl<Io: PacketIo> Worker<Io> {
    /// Handles a burst that came in on the port at `place`.
    pub(super) fn handle(&mut self, place: usize, burst: &mut Burst<Io::Packet>) {
        self.level.run(Handle {
            worker: self,
            place,
            burst,
        });
    }

    #[inline(always)]
    fn stages(
        &mut self,
        place: usize,
        burst: &mut Burst<Io::Packet>,
        compare: impl Compare + Copy,
    ) {
        let mut passages = [Passage::NEW; BURST];
        let (Some(port), Some(passages)) = (self.ports.get(place), passages.get_mut(..burst.len()))
        else {
            return;
        };
        let arrived = port.id;
        let ingress = port.ingress(&self.own, self.lma.as_ref(), self.mag.as_ref());
        for (packet, passage) in burst.iter_mut().zip(&mut *passages) {
            ingress.look(packet, passage, compare);
        }
        if let Some(lma) = &mut self.lma {
            let bindings = &lma.table.bindings;
            find(
                bindings,
                Lane::Forward,
                Lane::LmaExit,
                burst,
                passages,
                compare,
            );
            let (mut records, _) = lma.table.parts();
            find_rules(&records, passages);
            choose(&mut records, burst, passages, compare);
        }
        if let Some(mag) = &mut self.mag {
            let bindings = &mag.table.bindings;
            find(
                bindings,
                Lane::MagExit,
                Lane::Access,
                burst,
                passages,
                compare,
            );
            find_links(&mut mag.table, burst, passages, compare);
        }
        let mut packets = burst.drain(..);
        for run in passages.chunk_by(|a, b| a.lane == b.lane) {
            self.take(&mut packets, run, arrived);
        }
    }

    /// Handles packets that are on one lane.
    #[inline(always)]
    fn take(
        &mut self,
        packets: &mut Drain<'_, Io::Packet, BURST>,
        run: &[Passage],
        arrived: PortId,
    ) {
        let lane = run.first().map_or(Lane::Local, |passage| passage.lane);
        let mut aside = Aside::new();
        let out = Out {
            ports: &mut self.ports,
            io: &mut self.io,
            peers: &mut self.peers,
            aside: &mut aside,
        };
        match (lane, &mut self.lma, &mut self.mag) {
            (Lane::Forward, Some(lma), _) => {
                let (_, paths) = lma.table.parts();
                send_each(packets, run, out, ToMobile { paths });
            }
            (Lane::LmaExit, Some(lma), _) => {
                let (own, fib, neighbours) = (&self.own, &self.fib, &mut self.neighbours);
                let way = FromMobile::new(own, fib, neighbours, lma);
                send_each(packets, run, out, way);
            }
            (Lane::MagExit, _, Some(mag)) => {
                let (_, paths) = mag.table.parts();
                send_each(packets, run, out, ToLink { paths });
            }
            (Lane::Access, _, Some(mag)) => {
                let (records, paths) = mag.table.parts();
                let way = FromLink {
                    records,
                    paths,
                    arrived,
                };
                send_each(packets, run, out, way);
            }
            (
                Lane::Forward
                | Lane::LmaExit
                | Lane::MagExit
                | Lane::Access
                | Lane::Unbound
                | Lane::Stranger
                | Lane::Local
                | Lane::Drop,
                ..,
            ) => {
                for (passage, packet) in run.iter().zip(packets) {
                    self.alone(passage, packet, arrived);
                }
                return;
            }
        }
        // In place: the array is not moved, which would be a copy of it for every run.
        for (packet, fate, passage) in aside.drain(..) {
            self.end_one(packet, fate, passage, arrived);
        }
    }

    /// Ends the stay of a packet that was not sent.
    #[cold]
    #[inline(never)]
    fn end_one(&mut self, mut packet: Io::Packet, fate: Fate, passage: &Passage, arrived: PortId) {
        if fate == Fate::Aside {
            return self.alone(passage, packet, arrived);
        }
        let tunnel = match passage.lane {
            Lane::LmaExit => self.role(Role::Lma),
            Lane::MagExit => self.role(Role::Mag),
            Lane::Forward
            | Lane::Access
            | Lane::Unbound
            | Lane::Stranger
            | Lane::Local
            | Lane::Drop => None,
        };
        let tunnel = tunnel.and_then(|state| state.table.paths.rewrite(passage.through));
        let via = tunnel.map_or(Via::Link, |tunnel| {
            Via::Tunnel(tunnel.header.ip.source.get())
        });
        // From no group, and from no station that anyone will ask for.
        let arrival = Arrival::transit(arrived, via);
        let fate = if fate == Fate::Turn {
            self.mobile_uplink(&mut packet, &arrival)
        } else {
            fate
        };
        self.finish(packet, fate, &arrival);
    }
}

/// Finds the bindings of the packets on two lanes and fetches the records that they need.
#[inline(always)]
fn find<P: PacketBuf>(
    bindings: &Bindings,
    down: Lane,
    up: Lane,
    packets: &[P],
    passages: &mut [Passage],
    compare: impl Compare + Copy,
) {
    let (uniform, search) = (bindings.is_uniform(), bindings.search());
    for (packet, passage) in packets.iter().zip(&mut *passages) {
        let lane = passage.lane;
        if lane != down && lane != up {
            continue;
        }
        passage.slot = if uniform {
            search.find_64(passage.key, passage.home, compare)
        } else {
            let address = lane.wanted(packet.data());
            address.and_then(|address| bindings.lookup(address))
        };
        match passage.slot {
            Some(slot) if lane == down => search.prefetch_downlink(slot),
            Some(slot) => search.prefetch_uplink(slot),
            None => {}
        }
    }
}

/// Fetches the rules of packets whose mobiles have more than fit a record.
#[inline(always)]
fn find_rules(records: &Records<'_>, passages: &[Passage]) {
    if records.sets.is_empty() {
        return;
    }
    let forward = passages
        .iter()
        .filter(|passage| passage.lane == Lane::Forward);
    for slot in forward.filter_map(|passage| passage.slot) {
        records.prefetch_rules(slot);
    }
}

/// Chooses the paths of packets to mobiles at an LMA.
#[inline(always)]
fn choose<P: PacketBuf>(
    records: &mut Records<'_>,
    packets: &[P],
    passages: &mut [Passage],
    compare: impl Compare + Copy,
) {
    for (packet, passage) in packets.iter().zip(passages) {
        let data = packet.data();
        if passage.lane == Lane::Forward
            && let (Some(slot), Ok((frame, _))) = (passage.slot, Frame::ref_from_prefix(data))
        {
            passage.choice = classify::to_mobile(records, slot, &frame.ip, data, compare);
        }
    }
}

/// Finds the links of packets at a MAG and fetches their paths, which are as many as mobiles.
///
/// What left a tunnel must have left that of the session which owns the destination; what did not loses
/// its binding here, and is told apart later. What came on a link should have come on the first of
/// its mobile's.
#[inline(always)]
fn find_links<P: PacketBuf>(
    table: &mut Table,
    packets: &[P],
    passages: &mut [Passage],
    compare: impl Compare + Copy,
) {
    let (mut records, paths) = table.parts();
    for (packet, passage) in packets.iter().zip(passages) {
        if passage.lane == Lane::MagExit {
            let slot = passage.slot.take();
            let (Some(slot), Some(ip), Some(data)) =
                (slot, inner(packet), packet.data().get(IPV6_LEN..))
            else {
                continue;
            };
            let from = records.downlink.get(slot.index()).map(|record| record.from);
            if from == Some(passage.through) {
                paths.count_in(passage.through, ip.total_len());
                passage.choice = classify::to_mobile(&mut records, slot, ip, data, compare);
                passage.slot = Some(slot);
                paths.prefetch(passage.choice.path);
            }
        } else if passage.lane == Lane::Access
            && let Some(slot) = passage.slot
            && let Some(record) = records.uplink.get(slot.index())
        {
            let [link, ..] = record.sources;
            passage.through = link;
            paths.prefetch(link);
        }
    }
}

/// Packets of a burst that were not sent, and why.
type Aside<'a, P> = ArrayVec<(P, Fate, &'a Passage), BURST>;

/// What it takes to send, and where packets go that are not sent.
struct Out<'a, 'p, Io: PacketIo> {
    ports: &'a mut [Port<Io::Packet>],
    io: &'a mut Io,
    peers: &'a mut Option<Peers<Io::Packet>>,
    aside: &'a mut Aside<'p, Io::Packet>,
}

impl<'p, Io: PacketIo> Out<'_, 'p, Io> {
    /// Hands packets to the port they leave by.
    #[inline(always)]
    fn leave(&mut self, port: PortId, packets: &mut Burst<Io::Packet>, passage: &'p Passage) {
        if packets.is_empty() {
            return;
        }
        if let Err(reason) = egress::send_all(self.ports, self.io, self.peers, port, packets) {
            let dropped = packets.drain(..);
            self.aside
                .extend(dropped.map(|packet| (packet, Fate::Drop(reason), passage)));
        }
    }
}

/// Lets every packet of a run go its way and sends it where that leads.
#[inline(always)]
fn send_each<'p, Io: PacketIo>(
    packets: &mut impl Iterator<Item = Io::Packet>,
    run: &'p [Passage],
    mut out: Out<'_, 'p, Io>,
    mut way: impl Way<Io::Packet>,
) {
    // Most runs leave by one port, and are handed to it as a whole.
    let (mut leaving, mut together) = (PortId(u16::MAX), Burst::new());
    for (passage, mut packet) in run.iter().zip(packets) {
        let port = match way.usual(&mut packet, passage) {
            Some(port) => port,
            None => match way.odd(&mut packet, passage) {
                Fate::Send(port) => port,
                fate => {
                    out.aside.push((packet, fate, passage));
                    continue;
                }
            },
        };
        if port != leaving {
            out.leave(leaving, &mut together, passage);
            leaving = port;
        }
        // There is room for a whole run.
        together.push(packet);
    }
    if let Some(passage) = run.last() {
        out.leave(leaving, &mut together, passage);
    }
}

/// The header behind the outer one.
#[inline(always)]
pub(super) fn inner<P: PacketBuf>(packet: &P) -> Option<&Ipv6> {
    let (inner, _) = Ipv6::ref_from_prefix(packet.data().get(FRAME_LEN..)?).ok()?;
    Some(inner)
}
