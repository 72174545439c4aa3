//! Next hops: known, or asked for while a few packets wait.
//!
//! A worker learns nothing by itself. It asks the control plane, once, and is told.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv6Addr;

use flow::{MacAddr, PortId};

use crate::config::NeighbourLimits;
use crate::fate::Arrival;
use crate::packet::header::Ethernet;
use crate::table::hash::Seed;

/// Number of a neighbour's entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct AdjacencyId(u32);

/// A packet that waits: complete but for its Ethernet header.
#[derive(Debug)]
pub(crate) struct Held<P> {
    pub(crate) packet: P,
    /// Octets before the IPv6 header that its sender knows: more than 14 if it was tunnelled.
    pub(crate) inner: usize,
    pub(crate) arrival: Arrival,
}

/// One neighbour.
#[derive(Debug)]
pub(crate) struct Adjacency<P> {
    pub(crate) port: PortId,
    pub(crate) address: u128,
    /// The header of frames to it, once its link-layer address is known.
    pub(crate) header: Option<Ethernet>,
    waiting: VecDeque<Held<P>>,
    /// The control plane was asked, or is about to be.
    asked: bool,
    /// A route or tunnel leads over it: it stays.
    pinned: bool,
}

/// The neighbours on all ports.
#[derive(Debug)]
pub(crate) struct Neighbours<P> {
    index: HashMap<(PortId, u128), AdjacencyId, Seed>,
    /// The entry looked up last: most packets leave by one gateway.
    last: Option<(PortId, u128, AdjacencyId)>,
    entries: Vec<Option<Adjacency<P>>>,
    free: Vec<AdjacencyId>,
    /// Those that the control plane has yet to be asked for.
    questions: VecDeque<AdjacencyId>,
    held: usize,
    /// By port: entries that were made for packets and have no answer.
    unanswered: Vec<usize>,
    limits: NeighbourLimits,
}

impl<P> Neighbours<P> {
    pub(crate) fn new(limits: NeighbourLimits) -> Self {
        Self {
            index: HashMap::with_hasher(Seed::random()),
            last: None,
            entries: Vec::new(),
            free: Vec::new(),
            questions: VecDeque::new(),
            held: 0,
            unanswered: Vec::new(),
            limits,
        }
    }

    /// Packets that wait.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    #[inline(always)]
    pub(crate) fn get(&self, id: AdjacencyId) -> Option<&Adjacency<P>> {
        self.entries.get(id.0 as usize)?.as_ref()
    }

    fn get_mut(&mut self, id: AdjacencyId) -> Option<&mut Adjacency<P>> {
        self.entries.get_mut(id.0 as usize)?.as_mut()
    }

    /// The entry of a neighbour, made if there is none; `None` if there are too many.
    #[inline(always)]
    pub(crate) fn entry(&mut self, port: PortId, address: u128) -> Option<AdjacencyId> {
        match self.last {
            Some((on, of, id)) if (on, of) == (port, address) => Some(id),
            Some(_) | None => {
                let most = self.limits.unanswered;
                let id = self.look_up_entry(port, address, most)?;
                self.last = Some((port, address, id));
                Some(id)
            }
        }
    }

    /// `most` bounds the neighbours of the port without answer, the new one included.
    #[inline(never)]
    fn look_up_entry(&mut self, port: PortId, address: u128, most: usize) -> Option<AdjacencyId> {
        if let Some(id) = self.index.get(&(port, address)) {
            return Some(*id);
        }
        if self.index.len() >= self.limits.entries || *self.unanswered_on(port) >= most {
            return None;
        }
        *self.unanswered_on(port) += 1;
        let adjacency = Adjacency {
            port,
            address,
            header: None,
            waiting: VecDeque::new(),
            asked: false,
            pinned: false,
        };
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            AdjacencyId(u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX))
        });
        *self.entries.get_mut(id.0 as usize)? = Some(adjacency);
        self.index.insert((port, address), id);
        Some(id)
    }

    /// As [`Neighbours::entry`], for a next hop of a route or tunnel: there is room for it however many
    /// others have no answer.
    pub(crate) fn pin(&mut self, port: PortId, address: u128) -> Option<AdjacencyId> {
        let id = self.look_up_entry(port, address, usize::MAX)?;
        let entry = self.get_mut(id)?;
        let counted = !entry.pinned && entry.header.is_none();
        entry.pinned = true;
        if counted {
            *self.unanswered_on(port) -= 1;
        }
        Some(id)
    }

    fn unanswered_on(&mut self, port: PortId) -> &mut usize {
        let place = usize::from(port.0);
        if self.unanswered.len() <= place {
            self.unanswered.resize(place + 1, 0);
        }
        #[expect(clippy::indexing_slicing, reason = "there is room for it now")]
        &mut self.unanswered[place]
    }

    /// Lets a packet wait for a neighbour, or gives it back if too many wait. The neighbour is asked
    /// for either way: no entry stays without hope of an answer.
    pub(crate) fn hold(&mut self, id: AdjacencyId, held: Held<P>) -> Result<(), Held<P>> {
        let (total, limits) = (self.held, self.limits);
        let Some(entry) = self.get_mut(id) else {
            return Err(held);
        };
        let first = !std::mem::replace(&mut entry.asked, true);
        let pinned = entry.pinned;
        let room = total < limits.held_total && entry.waiting.len() < limits.held_each;
        let result = if room {
            entry.waiting.push_back(held);
            Ok(())
        } else {
            Err(held)
        };
        self.held += usize::from(room);
        if first && pinned {
            self.questions.push_front(id);
        } else if first {
            self.questions.push_back(id);
        }
        result
    }

    /// The next neighbour that the control plane is to be asked for; call
    /// [`Neighbours::question_asked`] once it was.
    pub(crate) fn question(&mut self) -> Option<(PortId, Ipv6Addr)> {
        while let Some(id) = self.questions.front() {
            match self.get(*id) {
                Some(entry) if entry.asked && entry.header.is_none() => {
                    return Some((entry.port, Ipv6Addr::from_bits(entry.address)));
                }
                // Answered or forgotten in the meantime.
                Some(_) | None => self.question_asked(),
            }
        }
        None
    }

    /// Goes on to the next question.
    pub(crate) fn question_asked(&mut self) {
        self.questions.pop_front();
    }

    /// Lets others go before the first question.
    pub(crate) fn question_waits(&mut self) {
        if let Some(id) = self.questions.pop_front() {
            self.questions.push_back(id);
        }
    }

    /// Takes in a neighbour's link-layer address and gives what waited for it, in order.
    /// `None` if there are too many neighbours.
    pub(crate) fn resolved(
        &mut self,
        port: PortId,
        address: u128,
        header: Ethernet,
    ) -> Option<(AdjacencyId, VecDeque<Held<P>>)> {
        let id = self.look_up_entry(port, address, usize::MAX)?;
        let entry = self.get_mut(id)?;
        let counted = !entry.pinned && entry.header.is_none();
        entry.header = Some(header);
        entry.asked = false;
        let waiting = std::mem::take(&mut entry.waiting);
        self.held -= waiting.len();
        if counted {
            *self.unanswered_on(port) -= 1;
        }
        Some((id, waiting))
    }

    /// Forgets a neighbour's link-layer address and gives what waited for it.
    pub(crate) fn failed(
        &mut self,
        port: PortId,
        address: u128,
    ) -> Option<(AdjacencyId, VecDeque<Held<P>>)> {
        let id = *self.index.get(&(port, address))?;
        let entry = self.get_mut(id)?;
        let counted = !entry.pinned && entry.header.is_none();
        entry.header = None;
        entry.asked = false;
        let (waiting, pinned) = (std::mem::take(&mut entry.waiting), entry.pinned);
        self.held -= waiting.len();
        if counted {
            *self.unanswered_on(port) -= 1;
        }
        if !pinned {
            self.index.remove(&(port, address));
            self.last = None;
            if let Some(place) = self.entries.get_mut(id.0 as usize) {
                *place = None;
                self.free.push(id);
            }
        }
        Some((id, waiting))
    }
}

/// The header of frames from a port to a station.
pub(crate) fn header(port_mac: MacAddr, station: MacAddr) -> Ethernet {
    Ethernet::ipv6(port_mac, station)
}
