//! Packets to us that come in pieces (RFC 8200 §4.5, RFC 5722, RFC 2473 §7).
//!
//! Memory is bounded: so many packets, so many fragments of all, so many of each, and only for a while.
//! When there is no room, the oldest packet goes that does not come through a tunnel of ours, then
//! the oldest that does: so strangers cannot keep tunnels from working.

use std::time::Duration;

use arrayvec::ArrayVec;
use flow::DropReason;
use zerocopy::FromBytes;

use super::{FRAGMENT_LEN, Found, find};
use crate::config::FragmentLimits;
use crate::fate::{Arrival, Error, Fate};
use crate::io::PacketIo;
use crate::packet::header::{ETHERNET_LEN, Frame, IPV6_LEN, Ipv6};
use crate::packet::{PacketBuf, ecn, walk};
use crate::table::path::Endpoint;
use crate::worker::Worker;

/// Most fragments of one packet.
const MAX_PIECES: usize = 8;

/// What the fragments of one packet have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Key {
    source: u128,
    destination: u128,
    identification: u32,
}

/// One fragment.
#[derive(Debug)]
struct Piece<P> {
    packet: P,
    found: Found,
    /// Octets of the packet's fragmentable part that it carries.
    len: usize,
}

impl<P: PacketBuf> Piece<P> {
    fn start(&self) -> usize {
        self.found.header.offset()
    }

    fn end(&self) -> usize {
        self.start() + self.len
    }

    fn body(&self) -> &[u8] {
        let start = ETHERNET_LEN + self.found.at + FRAGMENT_LEN;
        self.packet.data().get(start..).unwrap_or_default()
    }

    /// The traffic class's last two bits.
    fn ecn(&self) -> u8 {
        Frame::of(&self.packet).map_or(ecn::NOT_ECT, |frame| frame.ip.traffic_class() & 3)
    }
}

/// A packet of which some fragments are here.
#[derive(Debug)]
struct Partial<P> {
    key: Key,
    /// Through a tunnel of ours.
    known: bool,
    since: Duration,
    /// Of the first that came.
    arrival: Arrival,
    /// In the order of the packet.
    pieces: ArrayVec<Piece<P>, MAX_PIECES>,
    /// Fragments overlapped: nothing of the packet is used, whatever else comes (RFC 5722 §4).
    spoilt: bool,
}

impl<P: PacketBuf> Partial<P> {
    /// Whether no fragment is missing.
    fn is_whole(&self) -> bool {
        let mut end = 0;
        let in_a_row = self.pieces.iter().all(|piece| {
            let next = piece.start() == end;
            end = piece.end();
            next
        });
        let last = self.pieces.last();
        in_a_row && last.is_some_and(|piece| !piece.found.header.more())
    }

    /// Whether a fragment contradicts those that are here.
    fn contradicts(&self, new: &Piece<P>) -> bool {
        let crosses = |piece: &Piece<P>| piece.start() < new.end() && new.start() < piece.end();
        let beyond = |last: &Piece<P>, other: &Piece<P>| {
            !last.found.header.more() && other.end() > last.end()
        };
        let against = |piece| crosses(piece) || beyond(piece, new) || beyond(new, piece);
        self.pieces.iter().any(against)
    }

    /// Whether the very same fragment is here.
    fn has(&self, new: &Piece<P>) -> bool {
        self.pieces.iter().any(|piece| {
            piece.start() == new.start()
                && piece.found.header.more() == new.found.header.more()
                && piece.body() == new.body()
        })
    }
}

/// What became of a fragment.
#[derive(Debug)]
enum Added<P> {
    /// It waits for the others.
    Held,
    /// It was the last: the whole packet, and how many it was besides.
    Whole(P, usize),
    /// It is dropped, and so many others with it.
    Dropped(DropReason, usize),
}

/// All packets of which some fragments are here.
#[derive(Debug)]
pub(crate) struct Gathering<P> {
    /// Oldest first.
    packets: Vec<Partial<P>>,
    fragments: usize,
    limits: FragmentLimits,
}

impl<P: PacketBuf> Gathering<P> {
    pub(crate) fn new(limits: FragmentLimits) -> Self {
        Self {
            packets: Vec::with_capacity(limits.packets),
            fragments: 0,
            limits,
        }
    }

    /// Fragments that wait.
    pub(crate) fn held(&self) -> usize {
        self.fragments
    }

    /// Takes in a fragment that [`check`] found right. Gives also how many older ones had to go for
    /// it.
    fn add(
        &mut self,
        piece: Piece<P>,
        key: Key,
        known: bool,
        arrival: &Arrival,
        now: Duration,
    ) -> (Added<P>, usize) {
        let mut place = self.packets.iter().position(|partial| partial.key == key);
        if let Some(partial) = place.and_then(|place| self.packets.get_mut(place)) {
            if partial.spoilt {
                return (Added::Dropped(DropReason::FragmentOverlap, 0), 0);
            }
            if partial.has(&piece) {
                return (Added::Dropped(DropReason::FragmentDuplicate, 0), 0);
            }
            if partial.contradicts(&piece) {
                partial.spoilt = true;
                let others = partial.pieces.len();
                partial.pieces.clear();
                self.fragments -= others;
                return (Added::Dropped(DropReason::FragmentOverlap, others), 0);
            }
        }
        let mut evicted = 0;
        if self.fragments >= self.limits.fragments
            || place.is_none() && self.packets.len() >= self.limits.packets
        {
            match self.evict(key, known) {
                Some(gone) => evicted = gone,
                None => return (Added::Dropped(DropReason::FragmentRoom, 0), 0),
            }
            place = self.packets.iter().position(|partial| partial.key == key);
        }
        let place = place.unwrap_or_else(|| {
            self.packets.push(Partial {
                key,
                known,
                since: now,
                arrival: *arrival,
                pieces: ArrayVec::new(),
                spoilt: false,
            });
            self.packets.len() - 1
        });
        (self.insert(place, piece), evicted)
    }

    /// Puts a fragment among the others of its packet.
    fn insert(&mut self, place: usize, piece: Piece<P>) -> Added<P> {
        let Some(partial) = self.packets.get_mut(place) else {
            return Added::Dropped(DropReason::FragmentRoom, 0);
        };
        let earlier = partial
            .pieces
            .iter()
            .take_while(|p| p.start() < piece.start());
        let index = earlier.count();
        let room = partial.pieces.try_insert(index, piece).is_ok();
        self.fragments += usize::from(room);
        if room && !partial.is_whole() {
            return Added::Held;
        }
        let Partial { pieces, .. } = self.packets.remove(place);
        let count = pieces.len();
        self.fragments -= count;
        if !room {
            return Added::Dropped(DropReason::FragmentRoom, count);
        }
        match join(pieces) {
            Ok(whole) => Added::Whole(whole, count - 1),
            Err(reason) => Added::Dropped(reason, count - 1),
        }
    }

    /// Gives up a packet for that of `key`, and says how many fragments of it were here; `None` if
    /// there is none that may go.
    fn evict(&mut self, key: Key, known: bool) -> Option<usize> {
        let mut others = self
            .packets
            .iter()
            .enumerate()
            .filter(|(_, p)| p.key != key);
        let stranger = others.clone().find(|(_, partial)| !partial.known);
        let (place, _) = stranger.or_else(|| others.find(|_| known))?;
        let gone = self.packets.remove(place).pieces.len();
        self.fragments -= gone;
        Some(gone)
    }

    /// The next packet whose time is over, with its fragments.
    fn expired(&mut self, now: Duration) -> Option<Partial<P>> {
        let oldest = self.packets.first()?;
        (now.saturating_sub(oldest.since) >= self.limits.time).then(|| {
            let partial = self.packets.remove(0);
            self.fragments -= partial.pieces.len();
            partial
        })
    }
}

impl<Io: PacketIo> Worker<Io> {
    /// A fragment of a packet to us, whose source was found right.
    pub(crate) fn gather(&mut self, packet: Io::Packet, arrival: &Arrival) {
        let (piece, key) = match check(packet) {
            Ok(checked) => checked,
            Err((packet, fate)) => return self.finish(packet, fate, arrival),
        };
        let known = self.has_tunnel(&Endpoint::Tunnel(key.destination, key.source));
        let (added, evicted) = self.gathering.add(piece, key, known, arrival, self.now);
        self.count_drops(DropReason::FragmentRoom, evicted as u64);
        match added {
            Added::Held => {}
            Added::Dropped(reason, others) => self.count_drops(reason, 1 + others as u64),
            Added::Whole(mut packet, others) => {
                self.consumed += others as u64;
                self.reassembled += 1;
                let mut arrival = *arrival;
                let fate = self.local_whole(&mut packet, &mut arrival, true);
                self.finish(packet, fate, &arrival);
            }
        }
    }

    /// Gives up packets whose fragments did not come in time; if the first did, the sender is told
    /// (RFC 4443 §3.3).
    pub(crate) fn expire_fragments(&mut self) {
        while let Some(partial) = self.gathering.expired(self.now) {
            for piece in partial.pieces {
                let fate = if piece.start() == 0 {
                    Fate::Refuse(DropReason::FragmentTime, Error::FragmentTime)
                } else {
                    Fate::Drop(DropReason::FragmentTime)
                };
                self.finish(piece.packet, fate, &partial.arrival);
            }
        }
    }
}

/// Checks a fragment as RFC 8200 §4.5 asks, and says whose it is.
fn check<P: PacketBuf>(packet: P) -> Result<(Piece<P>, Key), (P, Fate)> {
    const PAYLOAD_LENGTH: u32 = 4;
    let octets = packet.data().get(ETHERNET_LEN..).unwrap_or_default();
    let found = Ipv6::ref_from_prefix(octets)
        .ok()
        .and_then(|(ip, _)| Some((ip, find(ip, octets)?)));
    let Some((ip, found)) = found else {
        return Err((packet, Fate::Drop(DropReason::Malformed)));
    };
    let header = found.header;
    let len = octets.len().saturating_sub(found.at + FRAGMENT_LEN);
    let total = found.at - IPV6_LEN + header.offset() + len;
    let offset_at = u32::try_from(found.at + 2).unwrap_or(0);
    let error = if header.more() && !len.is_multiple_of(8) {
        Some(Error::Parameter(0, PAYLOAD_LENGTH))
    } else if total > usize::from(u16::MAX) {
        Some(Error::Parameter(0, offset_at))
    } else if header.offset() == 0 && !shows_upper_layer(ip, octets) {
        Some(Error::Parameter(3, 0))
    } else {
        None
    };
    if let Some(error) = error {
        return Err((packet, Fate::Refuse(DropReason::BadFragment, error)));
    }
    if len == 0 {
        return Err((packet, Fate::Drop(DropReason::BadFragment)));
    }
    let key = Key {
        source: ip.source.get(),
        destination: ip.destination.get(),
        identification: header.identification.get(),
    };
    Ok((Piece { packet, found, len }, key))
}

/// Whether a first fragment has all headers up to that of the upper layer (RFC 7112 §5).
fn shows_upper_layer(ip: &Ipv6, octets: &[u8]) -> bool {
    let upper = walk::upper(ip, octets);
    !walk::is_extension(upper.next_header) && upper.offset < octets.len()
}

/// Joins fragments that are in a row into one packet, in the first one's buffer.
fn join<P: PacketBuf>(pieces: ArrayVec<Piece<P>, MAX_PIECES>) -> Result<P, DropReason> {
    let marked = pieces.iter().any(|piece| piece.ecn() == ecn::CE);
    // RFC 3168 §5.3: a mark on one is a mark on all, if all can have one.
    if marked && pieces.iter().any(|piece| piece.ecn() == ecn::NOT_ECT) {
        return Err(DropReason::Ecn);
    }
    let mut pieces = pieces.into_iter();
    let Piece {
        mut packet, found, ..
    } = pieces.next().ok_or(DropReason::BadFragment)?;
    let head = ETHERNET_LEN + found.at;
    if let Some(announced) = packet.data_mut().get_mut(ETHERNET_LEN + found.announced_at) {
        *announced = found.header.next_header;
    }
    if packet.data().len() >= head + FRAGMENT_LEN {
        packet.data_mut().copy_within(..head, FRAGMENT_LEN);
    }
    packet.trim_front(FRAGMENT_LEN);
    for piece in pieces {
        let body = piece.body();
        let room = packet.append(body.len());
        room.ok_or(DropReason::FragmentRoom)?.copy_from_slice(body);
    }
    let len = packet.data().len().saturating_sub(ETHERNET_LEN + IPV6_LEN);
    let frame = Frame::of_mut(&mut packet).ok_or(DropReason::Malformed)?;
    frame.ip.payload_len = u16::try_from(len)
        .map_err(|_| DropReason::BadFragment)?
        .into();
    if marked {
        frame.ip.set_ecn(ecn::CE);
    }
    Ok(packet)
}
