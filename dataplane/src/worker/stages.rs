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
//! leave whatever is odd about a packet to [`Worker::alone`]. What the last one does on each lane is in
//! [`super::ways`]. Packets stay in order, but for those of a run on one lane that are not sent: they end
//! after the others.

use arrayvec::{ArrayVec, Drain};
use flow::{PortId, Role};
use zerocopy::FromBytes;

use super::Worker;
use super::ways::{FromLink, FromMobile, ToLink, ToMobile, Way};
use crate::classify;
use crate::egress::{self, Port};
use crate::fate::{Arrival, Fate, Via};
use crate::ingress::{Ingress, Lane, Passage};
use crate::io::{BURST, Burst, PacketIo};
use crate::packet::PacketBuf;
use crate::packet::header::{FRAME_LEN, Frame, IPV6_LEN, Ipv6};
use crate::simd::{Compare, Stages};
use crate::spread::Peers;
use crate::table::{Bindings, Records, Table};

impl<Io: PacketIo> Worker<Io> {
    /// Handles a burst that came in on the port at `place`.
    pub(super) fn handle(&mut self, place: usize, burst: &mut Burst<Io::Packet>) {
        let mut passages = [Passage::NEW; BURST];
        let (Some(port), Some(passages)) = (self.ports.get(place), passages.get_mut(..burst.len()))
        else {
            return;
        };
        let arrived = port.id;
        self.level.run(Look {
            ingress: port.ingress(&self.own, self.lma.as_ref(), self.mag.as_ref()),
            burst,
            passages,
        });
        if let Some(lma) = &mut self.lma {
            let table = &mut lma.table;
            self.level.run(AtLma {
                table,
                burst,
                passages,
            });
        }
        if let Some(mag) = &mut self.mag {
            let table = &mut mag.table;
            self.level.run(AtMag {
                table,
                burst,
                passages,
            });
        }
        let (mut packets, mut rest) = (burst.drain(..), &*passages);
        while !rest.is_empty() {
            rest = self.take(&mut packets, rest, arrived);
        }
    }

    /// Handles the first packets, which are on one lane, and returns what is known of the others.
    fn take<'p>(
        &mut self,
        packets: &mut Drain<'_, Io::Packet, BURST>,
        passages: &'p [Passage],
        arrived: PortId,
    ) -> &'p [Passage] {
        let lane = passages.first().map_or(Lane::Local, |first| first.lane);
        let (mut aside, mut rest) = (Aside::new(), passages);
        let out = Out {
            ports: &mut self.ports,
            io: &mut self.io,
            peers: &mut self.peers,
            aside: &mut aside,
            rest: &mut rest,
        };
        let level = self.level;
        match (lane, &mut self.lma, &mut self.mag) {
            (Lane::Forward, Some(lma), _) => {
                let (_, paths) = lma.table.parts();
                level.run(SendEach {
                    packets,
                    lane,
                    out,
                    way: ToMobile { paths },
                });
            }
            (Lane::LmaExit, Some(lma), _) => {
                let (own, fib, neighbours) = (&self.own, &self.fib, &mut self.neighbours);
                let way = FromMobile::new(own, fib, neighbours, lma);
                level.run(SendEach {
                    packets,
                    lane,
                    out,
                    way,
                });
            }
            (Lane::MagExit, _, Some(mag)) => {
                let (_, paths) = mag.table.parts();
                level.run(SendEach {
                    packets,
                    lane,
                    out,
                    way: ToLink { paths },
                });
            }
            (Lane::Access, _, Some(mag)) => {
                let (records, paths) = mag.table.parts();
                let way = FromLink {
                    records,
                    paths,
                    arrived,
                };
                level.run(SendEach {
                    packets,
                    lane,
                    out,
                    way,
                });
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
                while let Some((passage, packet)) = next(&mut rest, packets, lane) {
                    self.alone(passage, packet, arrived);
                }
                return rest;
            }
        }
        // In place: the array is not moved, which would be a copy of it for every run.
        for (packet, fate, passage) in aside.drain(..) {
            self.end_one(packet, fate, passage, arrived);
        }
        rest
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

/// The first stage.
struct Look<'a, P> {
    ingress: Ingress<'a>,
    burst: &'a mut [P],
    passages: &'a mut [Passage],
}

impl<P: PacketBuf> Stages for Look<'_, P> {
    #[inline(always)]
    fn run(self, compare: impl Compare + Copy) {
        for (packet, passage) in self.burst.iter_mut().zip(self.passages) {
            self.ingress.look(packet, passage, compare);
        }
    }
}

/// What an LMA does with a burst before packets are rewritten.
struct AtLma<'a, P> {
    table: &'a mut Table,
    burst: &'a [P],
    passages: &'a mut [Passage],
}

impl<P: PacketBuf> Stages for AtLma<'_, P> {
    #[inline(always)]
    fn run(self, compare: impl Compare + Copy) {
        let Self {
            table,
            burst,
            passages,
        } = self;
        let (down, up) = (Lane::Forward, Lane::LmaExit);
        if find(&table.bindings, down, up, burst, passages, compare) {
            let (mut records, _) = table.parts();
            find_rules(&records, passages);
            choose(&mut records, burst, passages, compare);
        }
    }
}

/// The same at a MAG.
struct AtMag<'a, P> {
    table: &'a mut Table,
    burst: &'a [P],
    passages: &'a mut [Passage],
}

impl<P: PacketBuf> Stages for AtMag<'_, P> {
    #[inline(always)]
    fn run(self, compare: impl Compare + Copy) {
        let Self {
            table,
            burst,
            passages,
        } = self;
        let (down, up) = (Lane::MagExit, Lane::Access);
        let _any_down = find(&table.bindings, down, up, burst, passages, compare);
        if table.bindings.has_local() {
            keep_local(&table.bindings, burst, passages);
        }
        find_links(table, burst, passages, compare);
    }
}

/// Finds the bindings of the packets on two lanes and fetches the records that they need. Returns whether
/// any was found on the first.
#[inline(always)]
fn find<P: PacketBuf>(
    bindings: &Bindings,
    down: Lane,
    up: Lane,
    packets: &[P],
    passages: &mut [Passage],
    compare: impl Compare + Copy,
) -> bool {
    let mut any_down = false;
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
            Some(slot) if lane == down => {
                any_down = true;
                search.prefetch_downlink(slot);
            }
            Some(slot) => search.prefetch_uplink(slot),
            None => {}
        }
    }
    any_down
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

/// Takes packets between mobiles of this MAG off their lane, if they need not go by their LMA.
#[cold]
#[inline(never)]
fn keep_local<P: PacketBuf>(bindings: &Bindings, packets: &[P], passages: &mut [Passage]) {
    for (packet, passage) in packets.iter().zip(passages) {
        if passage.lane == Lane::Access
            && let Some(frame) = Frame::of(packet)
            && bindings.lookup_local(frame.ip.destination.get()).is_some()
        {
            passage.lane = Lane::Stranger;
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
                passage.choice = classify::to_link(&mut records, slot, ip, data, compare);
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
    /// What is known of the packets that are still to go.
    rest: &'a mut &'p [Passage],
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

/// The next packet, if it is on this lane.
#[inline(always)]
fn next<'p, P>(
    rest: &mut &'p [Passage],
    packets: &mut Drain<'_, P, BURST>,
    lane: Lane,
) -> Option<(&'p Passage, P)> {
    let (passage, others) = rest.split_first()?;
    if passage.lane != lane {
        return None;
    }
    let packet = packets.next()?;
    *rest = others;
    Some((passage, packet))
}

/// The last stage: lets every packet of a run on one lane go its way and sends it where that leads.
struct SendEach<'a, 'b, 'p, Io: PacketIo, W> {
    packets: &'a mut Drain<'b, Io::Packet, BURST>,
    lane: Lane,
    out: Out<'a, 'p, Io>,
    way: W,
}

impl<Io: PacketIo, W: Way<Io::Packet>> Stages for SendEach<'_, '_, '_, Io, W> {
    #[inline(always)]
    fn run(self, _: impl Compare + Copy) {
        let Self {
            packets,
            lane,
            mut out,
            mut way,
        } = self;
        // Most runs leave by one port, and are handed to it as a whole.
        let (mut leaving, mut together) = (PortId(u16::MAX), Burst::new());
        let (mut rest, mut last) = (*out.rest, None);
        while let Some((passage, mut packet)) = next(&mut rest, packets, lane) {
            last = Some(passage);
            let port = if let Some(port) = way.usual(&mut packet, passage) {
                port
            } else {
                let fate = way.odd(&mut packet, passage);
                let Fate::Send(port) = fate else {
                    out.aside.push((packet, fate, passage));
                    continue;
                };
                port
            };
            if port != leaving {
                out.leave(leaving, &mut together, passage);
                leaving = port;
            }
            // There is room for a whole run.
            together.push(packet);
        }
        *out.rest = rest;
        if let Some(passage) = last {
            out.leave(leaving, &mut together, passage);
        }
    }
}

/// The header behind the outer one.
#[inline(always)]
pub(super) fn inner<P: PacketBuf>(packet: &P) -> Option<&Ipv6> {
    let (inner, _) = Ipv6::ref_from_prefix(packet.data().get(FRAME_LEN..)?).ok()?;
    Some(inner)
}
