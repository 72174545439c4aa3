//! How a packet ends. Every stage says it in these words, and one function acts on them.

use flow::{DropReason, MacAddr, PortId};

use crate::neighbour::AdjacencyId;

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It leaves on this port; the frame is complete.
    Send(PortId),
    /// It waits for a neighbour; the frame is complete but for its Ethernet header. The IPv6 header
    /// that its sender knows is at `inner`.
    Hold {
        adjacency: AdjacencyId,
        inner: usize,
    },
    /// It goes on in two fragments of at most `mtu` octets; the frame is complete, but for its Ethernet
    /// header if that waits for a neighbour.
    Cut { mtu: u16, to: Onward },
    /// It is a fragment of a packet to us, and waits for the rest.
    Gather,
    /// It is dropped.
    Drop(DropReason),
    /// It is dropped and its sender is told. Its IPv6 header is behind 14 octets and unchanged.
    Refuse(DropReason, Error),
    /// The control plane gets it.
    Punt(Punted),
    /// It was for us and is done with.
    Consume,
    /// It was an error about a packet we tunnelled; the inner packet, which is all that is left of
    /// it, behind 14 octets, was its subject, and its sender is told.
    Relay(Error),
    /// There is something odd about it, and nothing was done with it.
    Aside,
    /// It came out of a tunnel and is not to be routed: another mobile's, or for us.
    Turn,
    /// It was turned into an answer in its own buffer, which goes to its destination address.
    Answer,
}

/// Where a packet goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Onward {
    /// On this port.
    Port(PortId),
    /// To this neighbour, whose link-layer address is not known.
    Neighbour(AdjacencyId),
}

/// Which packets the control plane gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Punted {
    /// Signalling, protected by ESP or not.
    Mobility,
    NeighbourDiscovery,
}

/// What the sender of a refused packet is told (RFC 4443 §3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Error {
    /// Type 1, code 0.
    NoRoute,
    /// Type 1, code 3.
    AddressUnreachable,
    /// Type 1, code 4.
    PortUnreachable,
    /// Type 2 with the MTU to use.
    TooBig(u32),
    /// Type 3, code 0.
    HopLimit,
    /// Type 3, code 1.
    FragmentTime,
    /// Type 4 with its code and pointer.
    Parameter(u8, u32),
}

/// How a packet came to the worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Arrival {
    pub(crate) via: Via,
    /// The port; meaningless for packets of our own.
    pub(crate) port: PortId,
    /// The station it came from.
    pub(crate) station: MacAddr,
    /// Whether the frame was for a group of stations.
    pub(crate) group: bool,
}

/// By which door.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Via {
    /// From a port as it is.
    Link,
    /// Out of a tunnel whose end here is this address.
    Tunnel(u128),
    /// The worker or the control plane made it: no one is told what becomes of it.
    Own,
}

impl Arrival {
    /// Of a packet that the worker or the control plane made.
    pub(crate) const OWN: Self = Self {
        via: Via::Own,
        port: PortId(u16::MAX),
        station: MacAddr([0; 6]),
        group: false,
    };

    /// Of a packet for this station alone, from a station that no answer will go to.
    pub(crate) const fn transit(port: PortId, via: Via) -> Self {
        Self {
            via,
            port,
            ..Self::OWN
        }
    }

    /// Whether forwarding the packet costs a hop, and its sender may be told of trouble.
    #[inline(always)]
    pub(crate) fn in_transit(&self) -> bool {
        self.via != Via::Own
    }
}
