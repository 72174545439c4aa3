//! What a worker gives to its peers and takes from them.

use flow::DropReason;

use super::Worker;
use crate::ingress::Ingress;
use crate::io::{BURST, Burst, PacketIo};
use crate::packet::PacketBuf;
use crate::simd::{Compare, Stages};
use crate::spread::{Peers, Spread, Step};
use crate::table::hash::Seed;

impl<Io: PacketIo> Worker<Io> {
    /// Makes the worker one of several that share their ports.
    #[must_use]
    pub fn with_peers(mut self, peers: Peers<Io::Packet>) -> Self {
        for (port, (spread, sender)) in self.ports.iter_mut().zip(&peers.ports) {
            (port.spread, port.sender) = (*spread, *sender);
        }
        self.identifications.share(peers.me(), peers.count() + 1);
        self.peers = Some(peers);
        self
    }

    /// Hands over what belongs to other workers of a burst that has just come in.
    pub(super) fn hand_over(&mut self, place: usize, burst: &mut Burst<Io::Packet>) {
        let (Some(peers), Some(port)) = (&mut self.peers, self.ports.get(place)) else {
            return;
        };
        let ingress = port.ingress(&self.own, self.lma.as_ref(), self.mag.as_ref());
        let mut flows = [None; BURST];
        self.level.run(Flows {
            ingress: &ingress,
            packets: burst.iter(),
            spread: port.spread,
            seed: peers.seed,
            found: &mut flows,
        });
        let dropped = peers.spread(port.id, burst, &flows);
        self.count_drops(DropReason::SpreadRing, dropped);
    }

    /// Does what the peers have handed over, a few bursts of each. Returns how many packets it was.
    pub(super) fn take_over(&mut self, burst: &mut Burst<Io::Packet>) -> usize {
        let peers = self.peers.as_ref().map_or(0, Peers::count);
        let mut taken = 0;
        for peer in 0..peers {
            // As many as a peer can receive in a turn: it must not get ahead of us for long.
            for _ in 0..self.ports.len() {
                let next = self.peers.as_mut().and_then(|all| all.take(peer, burst));
                let Some((port, step)) = next else {
                    break;
                };
                taken += burst.len();
                PacketBuf::prefetch_all(burst.as_slice());
                match step {
                    Step::Handle => self.handle(usize::from(port.0), burst),
                    Step::Send if self.capture.is_some() => self.pass_on_watched(port, burst),
                    // What is not sent is counted.
                    Step::Send => drop(self.pass_on(port, burst)),
                }
            }
        }
        taken
    }
}

/// Finds what the packets of a burst hash to, as this processor does it best.
pub(crate) struct Flows<'a, I> {
    pub(crate) ingress: &'a Ingress<'a>,
    pub(crate) packets: I,
    pub(crate) spread: Spread,
    pub(crate) seed: Seed,
    pub(crate) found: &'a mut [Option<u64>; BURST],
}

impl<'p, P: PacketBuf + 'p, I: Iterator<Item = &'p P>> Stages for Flows<'_, I> {
    #[inline(always)]
    fn run(self, compare: impl Compare + Copy) {
        for (packet, flow) in self.packets.zip(self.found) {
            *flow = self.ingress.flow(packet, self.spread, self.seed, compare);
        }
    }
}
