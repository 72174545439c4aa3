//! Packets that somebody wants to see: which ones, and what is told about each.

use std::fmt;
use std::net::Ipv6Addr;
use std::time::Duration;

use crate::{DropReason, Fid, MobileId, PathId, PortId, Role, WorkerId};

/// Which packets are captured, and of which of them the frames. What is left out matches everything.
///
/// A packet is seen when it comes in, and again in each frame that leaves because of it: itself in or out of a
/// tunnel, its fragments, an answer to its sender. What is said of packets decides for all of these frames; what
/// is said of frames decides for each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// Tells one capture from the next: everything that is seen says it.
    pub capture: u64,
    /// Packets from or to one of these mobiles. An empty list matches nothing.
    pub mobiles: Option<Vec<(Role, MobileId)>>,
    /// Packets with a frame to or from this LMA or MAG.
    pub peer: Option<Ipv6Addr>,
    /// Packets that this flow's rule decided.
    pub fid: Option<Fid>,
    /// Packets dropped for one of these reasons.
    pub dropped: Option<Vec<DropReason>>,
    /// Frames on this port.
    pub port: Option<PortId>,
    /// Frames of this direction.
    pub direction: Option<Direction>,
    /// Most octets of a frame, counted from its start; 0 is all.
    pub octets: u32,
}

impl Filter {
    /// Whether a frame on this port is one of those that are wanted.
    pub fn wants(&self, port: PortId, direction: Direction) -> bool {
        self.port.is_none_or(|wanted| wanted == port)
            && self.direction.is_none_or(|wanted| wanted == direction)
    }
}

/// Which way a frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// It came in.
    In,
    /// It leaves.
    Out,
}

/// How a packet's stay at a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was sent.
    Sent,
    /// It was dropped.
    Dropped(DropReason),
    /// It went to the control plane.
    Punted,
    /// It ended at the appliance itself.
    Consumed,
    /// It waits, for a neighbour or for the rest of its fragments.
    Held,
}

/// The number of a packet: workers count apart from each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PacketNumber {
    /// Who saw it.
    pub worker: WorkerId,
    /// How many packets it had looked at.
    pub number: u64,
}

impl fmt::Display for PacketNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.worker.0, self.number)
    }
}

/// A frame that was seen. Its octets are told beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// [`Filter::capture`].
    pub capture: u64,
    /// When, since 1970.
    pub time: Duration,
    /// A number, the same for a packet that came in and for all that left because of it.
    pub packet: PacketNumber,
    /// Where. Of a packet that was to leave and never did, [`Seen::NO_PORT`].
    pub port: PortId,
    /// Which way.
    pub direction: Direction,
    /// Whose packet it is: the mobile that has its source, inside of tunnels.
    pub from: Option<(Role, MobileId)>,
    /// The mobile that has its destination.
    pub to: Option<(Role, MobileId)>,
    /// The flow whose rule decided.
    pub fid: Option<Fid>,
    /// The path that it went on, or was to go on.
    pub path: Option<(Role, PathId)>,
    /// What became of the packet, of a frame that came in; of one that leaves, whether it did.
    pub end: End,
    /// Octets of the frame.
    pub len: u32,
    /// Octets of it that are told, from its start.
    pub captured: u32,
    /// Frames that were to be seen since the last one, and for which there was no room.
    pub missed: u64,
}

impl Seen {
    /// In place of a port.
    pub const NO_PORT: PortId = PortId(u16::MAX);
}
