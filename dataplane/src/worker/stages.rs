//! A burst's way through a worker, stage by stage.
//!
//! ```text
//! look      parse once, name the lane, fetch the bucket of the address that decides
//! find      bucket -> place of the binding, fetch its record
//! sort      only if they do not all go the same way: strays out, like beside like
//! choose    record -> first matching rule, count; at a MAG also the link, whose path is fetched
//! rewrite   source checks, in place, runs on one lane, each in a straight loop
//! part      only if they do not all leave by one port: handle the odd ones between the others, and send
//! ```
//!
//! Each stage runs over the whole burst, so that the memory one packet waits for is on its way while
//! the others are looked at. The stages know four lanes, the usual ones at an LMA and at a MAG, and
//! leave whatever is odd about a packet to [`Worker::alone`]; packets that are on none of them, or whose
//! mobile nobody knows, wait for it beside the burst, so that the others go on as if they were among themselves.
//! What is found and chosen is in [`super::choose`], what the last one does on each lane in [`super::ways`]. Packets of a lane
//! stay in order.

use arrayvec::ArrayVec;
use flow::PortId;

use super::Worker;
use super::choose::{self, ChooseToLinks, ChooseToMobiles, Find};
use super::lanes::{self, Strays};
use super::ways::{FromLink, FromMobile, ToLink, ToMobile, Way};
use crate::fate::{Arrival, Fate, Via};
use crate::ingress::{Ingress, Lane, Passage};
use crate::io::{BURST, Burst, PacketIo};
use crate::packet::PacketBuf;
use crate::simd::{Compare, Stages};

impl<Io: PacketIo> Worker<Io> {
    /// Handles a burst that came in on the port at `place`.
    pub(super) fn handle(&mut self, place: usize, burst: &mut Burst<Io::Packet>) {
        let mut passages = std::mem::take(&mut self.passages);
        if self.capture.is_none() {
            self.go(place, burst, &mut passages);
        } else {
            self.handle_watched(place, burst, &mut passages);
        }
        self.passages = passages;
    }

    pub(crate) fn go(
        &mut self,
        place: usize,
        burst: &mut Burst<Io::Packet>,
        passages: &mut [Passage],
    ) {
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
        let mut strays = Strays::default();
        let mixed = self.find(burst, passages);
        if mixed {
            lanes::sort(burst, passages, &mut strays);
        }
        // All paths are chosen before the first packet is rewritten: some are still on their way.
        let (mut packets, mut rest) = (
            &**burst,
            passages.get_mut(..burst.len()).unwrap_or_default(),
        );
        while let Some(first) = rest.first() {
            let (lane, run) = (first.lane, lanes::run_len(rest, mixed));
            let (packets_now, passages_now);
            (packets_now, packets) = packets.split_at(run);
            (passages_now, rest) = rest.split_at_mut(run);
            self.choose(lane, packets_now, passages_now);
        }
        let mut leaving = Leaving::from([NOWHERE; BURST]);
        leaving.truncate(burst.len());
        let (mut packets, mut to) = (&mut **burst, &mut *leaving);
        let mut rest = passages.get(..packets.len()).unwrap_or_default();
        while let Some(first) = rest.first() {
            let run = lanes::run_len(rest, mixed);
            let (packets_now, passages_now, to_now);
            (packets_now, packets) = packets.split_at_mut(run);
            (passages_now, rest) = rest.split_at(run);
            (to_now, to) = to.split_at_mut(run);
            self.rewrite(first.lane, packets_now, passages_now, to_now, arrived);
        }
        match &*leaving {
            [] => {}
            [port, ..] if *port != NOWHERE && all_are(*port, &leaving) => {
                self.send_all(*port, burst);
            }
            _ => self.part(burst, passages, &mut leaving, arrived),
        }
        if !strays.packets.is_empty() {
            self.part_strays(&mut strays, arrived);
        }
    }

    /// Finds bindings, and says whether packets do not all go the same way.
    #[inline(always)]
    fn find(&self, packets: &[Io::Packet], passages: &mut [Passage]) -> bool {
        let mut mixed = false;
        if let Some(lma) = &self.lma {
            self.level.run(Find {
                bindings: &lma.table.bindings,
                lanes: [Lane::Forward, Lane::LmaExit],
                packets,
                passages,
                mixed: &mut mixed,
            });
        }
        if let Some(mag) = &self.mag {
            let bindings = &mag.table.bindings;
            self.level.run(Find {
                bindings,
                lanes: [Lane::MagExit, Lane::Access],
                packets,
                passages,
                mixed: &mut mixed,
            });
            if bindings.has_local() {
                mixed |= choose::keep_local(bindings, packets, passages);
            }
        }
        // Those that are all strays are all on one lane, too.
        mixed || passages.first().is_some_and(lanes::is_stray)
    }

    /// Chooses the paths of packets on one lane.
    #[inline(always)]
    fn choose(&mut self, lane: Lane, packets: &[Io::Packet], passages: &mut [Passage]) {
        match (lane, &mut self.lma, &mut self.mag) {
            (Lane::Forward, Some(lma), _) => self.level.run(ChooseToMobiles {
                table: &mut lma.table,
                packets,
                passages,
            }),
            (Lane::MagExit, _, Some(mag)) => self.level.run(ChooseToLinks {
                table: &mut mag.table,
                packets,
                passages,
            }),
            (Lane::Access, _, Some(mag)) => choose::find_links(&mut mag.table, passages),
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
            ) => {}
        }
    }

    /// Rewrites the usual ones of packets on one lane.
    #[inline(always)]
    fn rewrite(
        &mut self,
        lane: Lane,
        packets: &mut [Io::Packet],
        passages: &[Passage],
        leaving: &mut [PortId],
        arrived: PortId,
    ) {
        let level = self.level;
        match (lane, &mut self.lma, &mut self.mag) {
            (Lane::Forward, Some(lma), _) => {
                let (_, paths) = lma.table.parts();
                let way = ToMobile { paths };
                level.run(Rewrite {
                    packets,
                    passages,
                    leaving,
                    way,
                });
            }
            (Lane::LmaExit, Some(lma), _) => {
                let way = FromMobile::new(
                    &self.own,
                    &self.fib,
                    &mut self.neighbours,
                    lma,
                    &mut self.hop,
                );
                level.run(Rewrite {
                    packets,
                    passages,
                    leaving,
                    way,
                });
            }
            (Lane::MagExit, _, Some(mag)) => {
                let (_, paths) = mag.table.parts();
                let way = ToLink { paths };
                level.run(Rewrite {
                    packets,
                    passages,
                    leaving,
                    way,
                });
            }
            (Lane::Access, _, Some(mag)) => {
                let (records, paths) = mag.table.parts();
                let way = FromLink {
                    records,
                    paths,
                    arrived,
                };
                level.run(Rewrite {
                    packets,
                    passages,
                    leaving,
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
            ) => {}
        }
    }

    /// Handles the odd ones of a burst between the others, and sends what goes on.
    ///
    /// Nothing is done here for each packet that is not an odd one, so that a single one costs the others little.
    #[inline(never)]
    fn part(
        &mut self,
        burst: &mut Burst<Io::Packet>,
        passages: &[Passage],
        leaving: &mut Leaving,
        arrived: PortId,
    ) {
        // Passages stay where they are when packets before theirs have gone.
        let (mut place, mut gone) = (0, 0);
        while let Some(next) = next_odd(leaving, place) {
            place = next;
            let (Some(packet), Some(passage), Some(to)) = (
                burst.get_mut(place),
                passages.get(place + gone),
                leaving.get_mut(place),
            ) else {
                break;
            };
            let (fate, arrival) = self.odd(packet, passage, arrived);
            if let Fate::Send(by) = fate {
                *to = by;
                place += 1;
                continue;
            }
            if goes_on(fate) {
                let mut before: Burst<Io::Packet> = burst.drain(..place).collect();
                let ways: Leaving = leaving.drain(..place).collect();
                self.send_by(&ways, &mut before);
                gone += std::mem::take(&mut place);
            }
            if let (Some(packet), Some(_)) = (burst.pop_at(place), leaving.pop_at(place)) {
                gone += 1;
                self.end(packet, fate, &arrival);
            }
        }
        self.send_by(leaving, burst);
    }

    /// Handles what was taken out of a burst.
    #[inline(never)]
    fn part_strays(&mut self, strays: &mut Strays<Io::Packet>, arrived: PortId) {
        let (mut port, mut together) = (NOWHERE, Burst::new());
        for (mut packet, passage) in strays.packets.drain(..).zip(&strays.passages) {
            let (fate, arrival) = self.alone(passage, &mut packet, arrived);
            if let Fate::Send(by) = fate {
                if by != port {
                    self.send_together(port, &mut together);
                    port = by;
                }
                // There is room for a whole burst.
                together.push(packet);
                continue;
            }
            if goes_on(fate) {
                self.send_together(port, &mut together);
            }
            self.end(packet, fate, &arrival);
        }
        self.send_together(port, &mut together);
    }

    /// Sends packets by the ports that are said for each, those together that leave by the same one.
    fn send_by(&mut self, leaving: &[PortId], packets: &mut Burst<Io::Packet>) {
        let Some((first, others)) = leaving.split_first() else {
            return;
        };
        if others.iter().all(|to| to == first) {
            return self.send_all(*first, packets);
        }
        let (mut port, mut together) = (*first, Burst::new());
        for (packet, to) in packets.drain(..).zip(leaving) {
            if *to != port {
                self.send_together(port, &mut together);
                port = *to;
            }
            // There is room for a whole burst.
            together.push(packet);
        }
        self.send_together(port, &mut together);
    }

    fn send_together(&mut self, port: PortId, packets: &mut Burst<Io::Packet>) {
        if !packets.is_empty() {
            self.send_all(port, packets);
        }
    }

    /// What becomes of a packet that was not a usual one of its lane, and how it came.
    fn odd(
        &mut self,
        packet: &mut Io::Packet,
        passage: &Passage,
        arrived: PortId,
    ) -> (Fate, Arrival) {
        let (fate, tunnel) = match (passage.lane, &mut self.lma, &mut self.mag) {
            (Lane::Forward, Some(lma), _) => {
                let (_, paths) = lma.table.parts();
                (ToMobile { paths }.odd(packet, passage), None)
            }
            (Lane::LmaExit, Some(lma), _) => {
                let mut way = FromMobile::new(
                    &self.own,
                    &self.fib,
                    &mut self.neighbours,
                    lma,
                    &mut self.hop,
                );
                (way.odd(packet, passage), Some(&lma.table.paths))
            }
            (Lane::MagExit, _, Some(mag)) => {
                let (_, paths) = mag.table.parts();
                let fate = ToLink { paths }.odd(packet, passage);
                (fate, Some(&mag.table.paths))
            }
            (Lane::Access, _, Some(mag)) => {
                let (records, paths) = mag.table.parts();
                let mut way = FromLink {
                    records,
                    paths,
                    arrived,
                };
                (way.odd(packet, passage), None)
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
            ) => (Fate::Aside, None),
        };
        if fate == Fate::Aside {
            return self.alone(passage, packet, arrived);
        }
        let tunnel = tunnel.and_then(|paths| paths.rewrite(passage.through));
        let via = tunnel.map_or(Via::Link, |tunnel| {
            Via::Tunnel(tunnel.header.ip.source.get())
        });
        // From no group, and from no station that anyone will ask for.
        let arrival = Arrival::transit(arrived, via);
        let fate = if fate == Fate::Turn {
            self.mobile_uplink(packet, &arrival)
        } else {
            fate
        };
        (fate, arrival)
    }
}

/// In place of a port: a packet is not one of the usual ones.
const NOWHERE: PortId = PortId(u16::MAX);

/// By which ports packets leave, or [`NOWHERE`].
type Leaving = ArrayVec<PortId, BURST>;

/// Whether a packet goes on in another form, and so has to stay in order: what ends does not part the others.
fn goes_on(fate: Fate) -> bool {
    matches!(fate, Fate::Cut { .. } | Fate::Gather | Fate::Hold { .. })
}

/// Whether all leave by one port: all are looked at, which is quicker than to stop.
#[inline(always)]
fn all_are(port: PortId, leaving: &[PortId]) -> bool {
    let others = leaving
        .iter()
        .fold(0, |others, to| others | (to.0 ^ port.0));
    others == 0
}

/// The first odd one from `place` on.
#[inline(always)]
fn next_odd(leaving: &[PortId], place: usize) -> Option<usize> {
    let mut rest = leaving.get(place..)?.iter();
    Some(place + rest.position(|to| *to == NOWHERE)?)
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
        self.ingress
            .look(self.burst.iter_mut().zip(self.passages), compare);
    }
}

/// The last stage: rewrites packets on one lane in place and says which ports they leave by, but for the odd
/// ones.
struct Rewrite<'a, P, W> {
    packets: &'a mut [P],
    passages: &'a [Passage],
    leaving: &'a mut [PortId],
    way: W,
}

impl<P: PacketBuf, W: Way<P>> Stages for Rewrite<'_, P, W> {
    #[inline(always)]
    fn run(self, _: impl Compare + Copy) {
        let Self {
            packets,
            passages,
            leaving,
            mut way,
        } = self;
        for ((packet, passage), to) in packets.iter_mut().zip(passages).zip(leaving) {
            *to = way.usual(packet, passage).unwrap_or(NOWHERE);
        }
    }
}
