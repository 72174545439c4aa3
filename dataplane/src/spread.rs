//! One tunnel, all cores: how workers share what their queues do not.
//!
//! A tunnel is one pair of outer addresses, so a port that hashes those puts all of a MAG's traffic
//! on one queue; and a port may have fewer queues than there are workers. Then the worker that
//! receives a packet hands it to the one that its *inner flow* belongs to, over a ring of the two.
//! A worker without a transmit queue on a port hands its finished frames to one that has.
//!
//! **Order.** A flow arrives on one queue and belongs to one worker, and rings keep order, so its
//! packets leave in the order they came. All fragments between two addresses are one flow, since
//! only the first of a packet shows its ports: the order between fragmented and whole packets of a
//! flow is not kept. Fragments of outer packets go to one worker for each tunnel, which puts them
//! together and handles what comes out: among themselves these packets stay in order.
//!
//! Packets move and are never copied. A worker neither waits for a peer nor shares a table with it.

use arrayvec::ArrayVec;
use flow::{PortId, WorkerId};
use rtrb::chunks::ChunkError;
use rtrb::{Consumer, Producer, RingBuffer};
use std::hash::{BuildHasher, Hasher};
use zerocopy::FromBytes;

use crate::io::{BURST, Burst};
use crate::packet::header::{Ipv6, next_header};
use crate::packet::walk;
use crate::table::hash::{self, Seed};

/// Which of the packets that come in on a port go to the worker of their flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Spread {
    /// None: each stays with the worker that received it.
    #[default]
    Nothing,
    /// Those that leave a tunnel here: the port spreads the others, but does not see inner flows.
    Tunnelled,
    /// All that are not for the appliance itself.
    All,
}

/// How the workers share a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortShare {
    /// Queue pairs of the port: at least one, and at most one for each worker.
    pub queues: u16,
    /// What is spread of what comes in on it.
    pub spread: Spread,
}

impl PortShare {
    /// The queue pair of `port` that belongs to a worker, out of so many `workers`. Ports with few
    /// queues give them to different workers, so that not the first does all receiving.
    pub fn queue_of(self, port: PortId, worker: WorkerId, workers: u16) -> Option<u16> {
        let queue = turn(port, worker, workers);
        (queue < self.queues.max(1)).then_some(queue)
    }

    /// The worker that sends on `port` for this one, which has no queue there.
    fn sender(self, port: PortId, worker: WorkerId, workers: u16) -> Option<WorkerId> {
        let turn = turn(port, worker, workers);
        let queues = self.queues.max(1);
        let holder = (u32::from(turn % queues) + u32::from(port.0)) % u32::from(workers.max(1));
        let holder = WorkerId(u16::try_from(holder).ok()?);
        (turn >= queues).then_some(holder)
    }
}

/// A worker's place in the row that the port's queues are given to.
fn turn(port: PortId, worker: WorkerId, workers: u16) -> u16 {
    let workers = workers.max(1);
    (worker.0 % workers + workers - port.0 % workers) % workers
}

/// A packet on its way to another worker.
#[derive(Debug)]
struct Handed<P> {
    packet: P,
    port: PortId,
    step: Step,
}

/// What is to be done with a packet that another worker handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// It came in on the port and nothing was done with it.
    Handle,
    /// It is a finished frame, to be sent on the port.
    Send,
}

/// The way to one other worker.
#[derive(Debug)]
struct Outlet<P> {
    ring: Producer<Handed<P>>,
    /// Packets of one burst, handed over together: the other core's cache line moves once.
    batch: ArrayVec<Handed<P>, BURST>,
}

/// A worker's ways to all others, and theirs to it.
#[derive(Debug)]
pub struct Peers<P> {
    me: usize,
    /// The same for all workers, and no one else's: it decides whose a flow is.
    pub(crate) seed: Seed,
    /// By port: what is spread, and who sends there instead of this worker.
    pub(crate) ports: Vec<(Spread, Option<WorkerId>)>,
    /// By worker, with none to itself.
    outlets: Vec<Option<Outlet<P>>>,
    inlets: Vec<Consumer<Handed<P>>>,
    pub(crate) handed_over: u64,
    pub(crate) taken_over: u64,
}

/// Connects `workers` workers that share these `ports`, indexed by [`PortId`]; each ring has `places`
/// places, and there is one from every worker to every other. In the order of the workers.
pub fn peers<P>(workers: u16, ports: &[PortShare], places: usize) -> Vec<Peers<P>> {
    let seed = Seed::random();
    let mut all: Vec<_> = (0..workers)
        .map(|me| Peers {
            me: usize::from(me),
            seed,
            ports: (0..)
                .map(PortId)
                .zip(ports)
                .map(|(id, port)| (port.spread, port.sender(id, WorkerId(me), workers)))
                .collect(),
            outlets: Vec::new(),
            inlets: Vec::new(),
            handed_over: 0,
            taken_over: 0,
        })
        .collect();
    for from in 0..all.len() {
        for to in 0..all.len() {
            let (producer, consumer) = RingBuffer::new(places.max(1));
            let outlet = (from != to).then_some(Outlet {
                ring: producer,
                batch: ArrayVec::new(),
            });
            if let (Some(_), Some(peer)) = (&outlet, all.get_mut(to)) {
                peer.inlets.push(consumer);
            }
            if let Some(peer) = all.get_mut(from) {
                peer.outlets.push(outlet);
            }
        }
    }
    all
}

impl<P> Peers<P> {
    /// Hands over what belongs to other workers of a burst that came in on `port`, and leaves the
    /// rest, both in order. `flows` has what each packet's flow hashes to, or `None` if the packet is to
    /// stay. Returns how many packets were dropped because a ring was full.
    pub(crate) fn spread(
        &mut self,
        port: PortId,
        burst: &mut Burst<P>,
        flows: &[Option<u64>; BURST],
    ) -> u64 {
        let workers = u32::try_from(self.outlets.len()).unwrap_or(u32::MAX);
        for (flow, packet) in flows.iter().zip(burst.take()) {
            let worker = flow.map_or(self.me, |flow| hash::reduce(flow, workers) as usize);
            match self.outlets.get_mut(worker) {
                // A burst fits a batch.
                Some(Some(outlet)) => outlet.batch.push(Handed {
                    packet,
                    port,
                    step: Step::Handle,
                }),
                Some(None) | None => burst.push(packet),
            }
        }
        let mut dropped = 0;
        for outlet in self.outlets.iter_mut().flatten() {
            let handed = push(&mut outlet.ring, outlet.batch.len(), |n| {
                outlet.batch.drain(..n)
            });
            self.handed_over += handed as u64;
            dropped += outlet.batch.len() as u64;
            outlet.batch.clear();
        }
        dropped
    }

    /// Hands finished frames to the worker that sends them on `port`. Those that its ring has no room
    /// for stay in `burst`, in order.
    pub(crate) fn send(&mut self, worker: WorkerId, port: PortId, burst: &mut Burst<P>) {
        let Some(Some(outlet)) = self.outlets.get_mut(usize::from(worker.0)) else {
            return;
        };
        let step = Step::Send;
        let handed = push(&mut outlet.ring, burst.len(), |n| {
            burst
                .drain(..n)
                .map(move |packet| Handed { packet, port, step })
        });
        self.handed_over += handed as u64;
    }

    /// This worker's number.
    pub(crate) fn me(&self) -> usize {
        self.me
    }

    /// Other workers.
    pub(crate) fn count(&self) -> usize {
        self.inlets.len()
    }

    /// Takes the next packets of one peer that go the same way into the empty `burst`.
    pub(crate) fn take(&mut self, peer: usize, burst: &mut Burst<P>) -> Option<(PortId, Step)> {
        let inlet = self.inlets.get_mut(peer)?;
        let waiting = inlet.slots().min(BURST);
        let chunk = inlet.read_chunk(waiting).ok()?;
        let (first, rest) = chunk.as_slices();
        let head = first.first()?;
        let (port, step) = (head.port, head.step);
        let same = first
            .iter()
            .chain(rest)
            .take_while(|handed| handed.port == port && handed.step == step)
            .count();
        burst.extend(chunk.into_iter().take(same).map(|handed| handed.packet));
        self.taken_over += burst.len() as u64;
        Some((port, step))
    }
}

/// Puts as many of `count` items on a ring as it has room for; returns how many. `first` gives the
/// first so many of them.
fn push<T, I: Iterator<Item = T>>(
    ring: &mut Producer<T>,
    count: usize,
    first: impl FnOnce(usize) -> I,
) -> usize {
    if count == 0 {
        return 0;
    }
    let room = match ring.write_chunk_uninit(count) {
        Ok(_) => count,
        Err(ChunkError::TooFewSlots(room)) => room,
    };
    match ring.write_chunk_uninit(room) {
        Ok(chunk) => chunk.fill_from_iter(first(room)),
        Err(ChunkError::TooFewSlots(_)) => 0,
    }
}

/// What the flow of an IPv6 packet hashes to; `None` if it is no such packet.
///
/// Addresses, protocol and ports; the security parameter index in place of ports; the flow label
/// where there is neither. Of fragments only the addresses, so that they stay together.
#[inline(always)]
pub(crate) fn flow_hash(packet: &[u8], seed: Seed) -> Option<u64> {
    let (ip, rest) = Ipv6::ref_from_prefix(packet).ok()?;
    if !ip.is_version_6() {
        return None;
    }
    let direct = matches!(ip.next_header, next_header::UDP | next_header::TCP);
    let (protocol, within) = match rest.first_chunk() {
        Some(ports) if direct => (ip.next_header, u32::from_be_bytes(*ports)),
        Some(_) | None => protocol_and_ports(ip, packet),
    };
    let mut hasher = seed.build_hasher();
    hasher.write_u128(ip.source.get());
    hasher.write_u128(ip.destination.get());
    hasher.write_u64(u64::from(protocol) << 32 | u64::from(within));
    Some(avalanche(hasher.finish()))
}

/// The protocol of a packet's flow, and what tells it from others of that protocol.
#[inline(never)]
fn protocol_and_ports(ip: &Ipv6, packet: &[u8]) -> (u8, u32) {
    let upper = walk::upper(ip, packet);
    if upper.fragmented {
        return (0, 0);
    }
    let within = match walk::ports_and_spi(&upper, packet) {
        (Some((source, destination)), _) => u32::from(source) << 16 | u32::from(destination),
        (None, Some(spi)) => spi,
        (None, None) => ip.flow_label(),
    };
    (upper.next_header, within)
}

/// Makes every bit depend on every other: the finalizer of MurmurHash3. The tables' mixing is one
/// multiplication, so ports in a row lie in a row after it too, and with a small factor their upper
/// bits, which decide whose a flow is, are all the same.
#[inline(always)]
fn avalanche(mut hash: u64) -> u64 {
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ hash >> 33).wrapping_mul(factor);
    }
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests;
