//! A burst and the stages it goes through.

use super::{Way, lma};
use crate::classify;
use crate::ingress::{Lane, Passage};
use crate::io::memory::{MemoryIo, MemoryPacket};
use crate::io::{BURST, Burst};
use crate::packet::PacketBuf;
use crate::packet::header::{FRAME_LEN, Frame};
use crate::simd::{Compare, Stages};
use crate::worker::Worker;
use crate::{decap, encap};

/// One burst and what is known of its packets.
#[derive(Debug)]
pub(super) struct Train {
    pub(super) packets: Burst<Box<MemoryPacket>>,
    passages: [Passage; BURST],
    /// The path that each should be put on.
    paths: [u16; BURST],
}

impl Train {
    /// A burst of these buffers.
    pub(super) fn new(packets: impl Iterator<Item = MemoryPacket>) -> Self {
        Self {
            packets: packets.map(Box::new).collect(),
            passages: [Passage::NEW; BURST],
            paths: [0; BURST],
        }
    }

    /// Writes a packet that the stages have not seen.
    pub(super) fn write(&mut self, place: usize, way: Way, mobile: u32, rule: u32, flow: u32) {
        let (Some(packet), Some(passage), Some(path)) = (
            self.packets.get_mut(place),
            self.passages.get_mut(place),
            self.paths.get_mut(place),
        ) else {
            return;
        };
        let frame = lma::frame(way, mobile, rule, flow);
        // Wherever the stages left it, it starts there again.
        let len = packet.data().len();
        packet.prepend(frame.len().saturating_sub(len));
        packet.trim_front(len.saturating_sub(frame.len()));
        if packet.data().len() == frame.len() {
            packet.data_mut().copy_from_slice(&frame);
        }
        *path = lma::path(mobile, rule).0;
        *passage = Passage {
            key: lma::key(mobile),
            ..Passage::NEW
        };
    }
}

/// Which one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    Parse,
    Lookup,
    Match,
    Encapsulate,
    Strip,
    Bare,
}

/// The bursts on their way through one stage.
pub(super) struct Through<'a> {
    pub(super) worker: &'a mut Worker<MemoryIo>,
    pub(super) trains: &'a mut [Train],
    pub(super) stage: Stage,
    pub(super) well: &'a mut usize,
}

impl Stages for Through<'_> {
    #[inline(always)]
    fn run(self, compare: impl Compare + Copy) {
        for train in self.trains {
            *self.well += match self.stage {
                Stage::Parse => train.parse(self.worker, compare),
                Stage::Lookup => train.lookup(self.worker, compare),
                Stage::Match => train.match_rules(self.worker, compare),
                Stage::Encapsulate => train.encapsulate(self.worker),
                Stage::Strip => train.strip(),
                Stage::Bare => train.bare(),
            };
        }
    }
}

impl Train {
    #[inline(always)]
    fn parse(&mut self, worker: &Worker<MemoryIo>, compare: impl Compare + Copy) -> usize {
        let Some(port) = worker.ports.first() else {
            return 0;
        };
        let ingress = port.ingress(&worker.own, worker.lma.as_ref(), worker.mag.as_ref());
        let packets = self.packets.iter_mut().map(|packet| &mut **packet);
        ingress.look(packets.zip(&mut self.passages), compare);
        let found = |passage: &&Passage| matches!(passage.lane, Lane::Forward | Lane::LmaExit);
        self.passages.iter().filter(found).count()
    }

    #[inline(always)]
    fn lookup(&mut self, worker: &Worker<MemoryIo>, compare: impl Compare + Copy) -> usize {
        let Some(lma) = &worker.lma else {
            return 0;
        };
        let bindings = &lma.table.bindings;
        let search = bindings.search();
        for passage in &mut self.passages {
            passage.home = bindings.home_of(passage.key);
            bindings.prefetch(passage.home);
        }
        let mut well = 0;
        for passage in &mut self.passages {
            passage.slot = search.find_64(passage.key, passage.home, compare);
            if let Some(slot) = passage.slot {
                search.prefetch_downlink(slot);
                well += 1;
            }
        }
        well
    }

    #[inline(always)]
    fn match_rules(
        &mut self,
        worker: &mut Worker<MemoryIo>,
        compare: impl Compare + Copy,
    ) -> usize {
        let Some(lma) = &mut worker.lma else {
            return 0;
        };
        let (mut records, _) = lma.table.parts();
        if !records.sets.is_empty() {
            for slot in self.passages.iter().filter_map(|passage| passage.slot) {
                records.prefetch_rules(slot);
            }
        }
        let mut well = 0;
        let all = self.packets.iter().zip(&mut self.passages).zip(&self.paths);
        for ((packet, passage), path) in all {
            if let (Some(slot), Some(frame)) = (passage.slot, Frame::of(&**packet)) {
                let data = packet.data();
                passage.choice = classify::to_mobile(&mut records, slot, &frame.ip, data, compare);
            }
            well += usize::from(passage.choice.path == *path);
        }
        well
    }

    #[inline(always)]
    fn encapsulate(&mut self, worker: &mut Worker<MemoryIo>) -> usize {
        let Some(lma) = &mut worker.lma else {
            return 0;
        };
        let paths = &mut lma.table.paths;
        let mut well = 0;
        for (packet, passage) in self.packets.iter_mut().zip(&self.passages) {
            let tunnel = paths.get_mut(passage.choice.path);
            let port = tunnel.and_then(|tunnel| {
                encap::straight_into_tunnel(tunnel, passage.choice.entropy, &mut **packet)
            });
            well += usize::from(port.is_some());
        }
        well
    }

    #[inline(always)]
    fn strip(&mut self) -> usize {
        for packet in &mut self.packets {
            decap::strip(&mut **packet);
        }
        self.packets.len()
    }

    #[inline(always)]
    fn bare(&mut self) -> usize {
        let mut well = 0;
        for packet in &mut self.packets {
            well += usize::from(decap::bare(&mut **packet, FRAME_LEN).is_ok());
        }
        well
    }
}
