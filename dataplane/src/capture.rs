//! Packets that somebody wants to see.
//!
//! While there is a capture, packets that it may concern take the worker's usual way one by one, between those
//! that it does not, and what the worker does with each is noted: nothing is decided here, and order is kept.
//! While there is none, this costs a look whether there is one for each burst, and for each packet that is
//! refused.
//!
//! Of packets that wait, for a neighbour or for the rest of their fragments, the rule is not known any more when
//! they go on. What has no room on its way to another worker is dropped before anyone looks at it.

mod owners;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flow::{Direction, DropReason, End, Fid, Filter, PacketNumber, PortId, Seen};

use self::owners::{Owners, concerns, path_chosen};
use crate::ends::Ends;
use crate::fate::Fate;
use crate::ingress::Passage;
use crate::io::{Burst, PacketIo};
use crate::packet::PacketBuf;
use crate::worker::Worker;

/// A capture that is under way.
#[derive(Debug)]
pub(crate) struct Capture {
    filter: Arc<Filter>,
    /// The number of the last packet that was looked at.
    packet: PacketNumber,
    /// What there was no room for since the last frame that was told.
    missed: u64,
    watch: Watch,
    /// When the packet came that is looked at.
    began: Duration,
    /// What came in, and what has left because of it. Kept, for their room.
    came: Vec<u8>,
    left: Vec<Left>,
    /// What the rules of the packet's destination had counted before.
    rules: Vec<(Fid, u64)>,
}

/// What frames that leave have to do with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Watch {
    /// With nothing that was looked at: the control plane sent them, or they waited.
    Nothing,
    /// With a packet that is looked at.
    Packet,
    /// With packets that the capture does not concern.
    Others,
}

/// A frame that leaves.
#[derive(Debug)]
struct Left {
    port: PortId,
    frame: Vec<u8>,
    refused: Option<DropReason>,
}

impl Capture {
    fn new(filter: Arc<Filter>, worker: flow::WorkerId) -> Self {
        Self {
            filter,
            packet: PacketNumber { worker, number: 0 },
            missed: 0,
            watch: Watch::Nothing,
            began: Duration::ZERO,
            came: Vec::new(),
            left: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// Whether a packet of these owners may be wanted, as far as that is known before it has gone its way.
    fn may_want(&self, owners: &Owners) -> bool {
        let Some(wanted) = &self.filter.mobiles else {
            return true;
        };
        if owners.hidden {
            return true;
        }
        let mobiles = [owners.from, owners.to].into_iter().flatten();
        mobiles.into_iter().any(|mobile| wanted.contains(&mobile))
    }

    /// Whether a packet is wanted whose way is known.
    fn wants(&self, owners: &Owners, fid: Option<Fid>, end: End) -> bool {
        let filter = &self.filter;
        let dropped = |wanted: &Vec<DropReason>| match end {
            End::Dropped(reason) => wanted.contains(&reason),
            End::Sent | End::Punted | End::Consumed | End::Held => false,
        };
        let frames = || {
            let left = self.left.iter().map(|left| &left.frame);
            std::iter::once(&self.came).chain(left)
        };
        let visible = filter.mobiles.is_none() || !owners.hidden;
        visible
            && self.may_want(owners)
            && filter.fid.is_none_or(|wanted| fid == Some(wanted))
            && filter.dropped.as_ref().is_none_or(dropped)
            && filter
                .peer
                .is_none_or(|peer| frames().any(|frame| concerns(frame, peer.to_bits())))
    }
}

impl<Io: PacketIo> Worker<Io> {
    /// Begins, changes or ends a capture.
    pub(crate) fn set_capture(&mut self, filter: Option<Arc<Filter>>) {
        self.capture = match (filter, self.capture.take()) {
            (None, _) => None,
            (Some(filter), Some(mut capture)) => {
                if capture.filter.capture != filter.capture {
                    capture.missed = 0;
                }
                capture.filter = filter;
                Some(capture)
            }
            (Some(filter), None) => Some(Box::new(Capture::new(filter, self.id))),
        };
    }

    /// Handles a burst, and looks at each packet that a capture may concern on its way.
    #[cold]
    #[inline(never)]
    pub(crate) fn handle_watched(
        &mut self,
        place: usize,
        burst: &mut Burst<Io::Packet>,
        passages: &mut [Passage],
    ) {
        let mut others = Burst::new();
        let mut one = Burst::new();
        for packet in std::mem::take(burst) {
            let owners = self.owners(packet.data());
            if !self.capture.as_ref().is_some_and(|c| c.may_want(&owners)) {
                others.push(packet);
                continue;
            }
            self.handle_others(place, &mut others, passages);
            let before = self.begin(packet.data(), &owners);
            one.push(packet);
            self.go(place, &mut one, passages);
            self.conclude(place, passages.first(), &owners, &before);
        }
        self.handle_others(place, &mut others, passages);
    }

    /// Handles packets that the capture does not concern.
    fn handle_others(
        &mut self,
        place: usize,
        others: &mut Burst<Io::Packet>,
        passages: &mut [Passage],
    ) {
        if !others.is_empty() {
            self.watch(Watch::Others);
            self.go(place, others, passages);
            self.watch(Watch::Nothing);
        }
    }

    fn watch(&mut self, watch: Watch) {
        if let Some(capture) = &mut self.capture {
            capture.watch = watch;
        }
    }

    /// Notes what came in, and what is counted before it goes its way.
    fn begin(&mut self, frame: &[u8], owners: &Owners) -> Ends {
        if let Some(mut capture) = self.capture.take() {
            capture.watch = Watch::Packet;
            capture.began = now();
            capture.packet.number += 1;
            capture.came.clear();
            capture.came.extend_from_slice(frame);
            capture.left.clear();
            capture.rules.clear();
            if let Some((role, slot)) = owners.rules {
                let state = self.role(role);
                let rules = state.map(|state| state.table.bindings.rule_counters(slot));
                capture.rules.extend(rules.into_iter().flatten());
            }
            self.capture = Some(capture);
        }
        self.ends()
    }

    /// Tells what came in and what has left because of it.
    fn conclude(
        &mut self,
        place: usize,
        passage: Option<&Passage>,
        owners: &Owners,
        before: &Ends,
    ) {
        let Some(mut capture) = self.capture.take() else {
            return;
        };
        let end = self.ends().since(before);
        let shown = capture.left.first().map(|left| self.owners(&left.frame));
        let owners = &shown.filter(|_| owners.hidden).unwrap_or(*owners);
        let rules = owners.rules.and_then(|(role, slot)| {
            let state = self.role(role)?;
            Some(state.table.bindings.rule_counters(slot))
        });
        let counted = rules.into_iter().flatten().zip(&capture.rules);
        let grew =
            |((fid, now), (_, before)): ((Fid, u64), &(Fid, u64))| (now > *before).then_some(fid);
        let fid = counted.into_iter().find_map(grew);
        if capture.wants(owners, fid, end) {
            let left = capture.left.first();
            let path = left
                .and_then(|left| self.tunnel_of(&left.frame))
                .or_else(|| passage.and_then(path_chosen));
            let seen = Seen {
                capture: capture.filter.capture,
                time: capture.began,
                packet: capture.packet,
                port: PortId(u16::try_from(place).unwrap_or(u16::MAX)),
                direction: Direction::In,
                from: owners.from,
                to: owners.to,
                fid,
                path,
                end,
                len: 0,
                captured: 0,
                missed: 0,
            };
            let came = std::mem::take(&mut capture.came);
            self.tell_seen(&mut capture, seen, &came);
            capture.came = came;
            self.tell_left(&mut capture, &seen);
        }
        capture.watch = Watch::Nothing;
        self.capture = Some(capture);
    }

    /// Notes frames that are about to leave on a port.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_leaving(&mut self, port: PortId, packets: &[Io::Packet]) {
        if let Some(capture) = &mut self.capture
            && capture.watch != Watch::Others
        {
            if capture.watch == Watch::Nothing {
                capture.left.clear();
            }
            capture.left.extend(packets.iter().map(|packet| Left {
                port,
                frame: packet.data().to_vec(),
                refused: None,
            }));
        }
    }

    /// Notes that the last of those did not leave.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_refused(&mut self, refused: Option<DropReason>, packets: usize) {
        let Some(capture) = &mut self.capture else {
            return;
        };
        if capture.watch != Watch::Others {
            for left in capture.left.iter_mut().rev().take(packets) {
                left.refused = refused;
            }
        }
        if capture.watch == Watch::Nothing {
            self.tell_alone();
        }
    }

    /// Notes frames that another worker made, if they do not leave: it has shown them as they left it.
    #[cold]
    #[inline(never)]
    pub(crate) fn pass_on_watched(&mut self, port: PortId, packets: &mut Burst<Io::Packet>) {
        self.note_leaving(port, packets);
        let Some((reason, count)) = self.pass_on(port, packets) else {
            return;
        };
        if let Some(capture) = &mut self.capture {
            let sent = capture.left.len().saturating_sub(count);
            capture.left.drain(..sent);
        }
        self.note_refused(Some(reason), count);
    }

    /// Notes that a packet ends which is not on its way from a port: it waited, or the appliance made it.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_end(&mut self, packet: &Io::Packet, fate: &Fate) {
        let (Fate::Drop(reason) | Fate::Refuse(reason, _)) = fate else {
            return;
        };
        if let Some(capture) = &mut self.capture
            && capture.watch == Watch::Nothing
        {
            capture.left.clear();
            capture.left.push(Left {
                port: Seen::NO_PORT,
                frame: packet.data().to_vec(),
                refused: Some(*reason),
            });
            self.tell_alone();
        }
    }

    /// Tells of frames that leave, or do not, and have to do with nothing that was looked at.
    fn tell_alone(&mut self) {
        let Some(mut capture) = self.capture.take() else {
            return;
        };
        capture.came.clear();
        let all = std::mem::take(&mut capture.left);
        for left in all {
            let owners = self.owners(&left.frame);
            let end = left.refused.map_or(End::Sent, End::Dropped);
            let path = self.tunnel_of(&left.frame);
            capture.packet.number += 1;
            capture.left.clear();
            capture.left.push(left);
            if capture.wants(&owners, None, end) {
                let seen = Seen {
                    capture: capture.filter.capture,
                    time: now(),
                    packet: capture.packet,
                    port: Seen::NO_PORT,
                    direction: Direction::Out,
                    from: owners.from,
                    to: owners.to,
                    fid: None,
                    path,
                    end,
                    len: 0,
                    captured: 0,
                    missed: 0,
                };
                self.tell_left(&mut capture, &seen);
            }
        }
        capture.left.clear();
        self.capture = Some(capture);
    }

    /// Tells of the frames that left because of a packet.
    fn tell_left(&mut self, capture: &mut Capture, seen: &Seen) {
        let left = std::mem::take(&mut capture.left);
        for frame in &left {
            let seen = Seen {
                time: now(),
                port: frame.port,
                direction: Direction::Out,
                end: frame.refused.map_or(End::Sent, End::Dropped),
                ..*seen
            };
            self.tell_seen(capture, seen, &frame.frame);
        }
        capture.left = left;
    }

    /// Puts a frame on the ring, if it is wanted.
    fn tell_seen(&mut self, capture: &mut Capture, seen: Seen, frame: &[u8]) {
        if !capture.filter.wants(seen.port, seen.direction) {
            return;
        }
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let captured = match capture.filter.octets {
            0 => len,
            octets => len.min(octets),
        };
        let frame = frame.get(..captured as usize).unwrap_or_default();
        let seen = Seen {
            len,
            captured,
            missed: capture.missed,
            ..seen
        };
        match self.rings.push_seen(seen, frame) {
            Ok(()) => capture.missed = 0,
            Err(_full) => capture.missed += 1,
        }
    }
}

/// Since 1970.
fn now() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}
