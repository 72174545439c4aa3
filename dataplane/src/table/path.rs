//! Paths as the packet path needs them: everything that does not depend on the packet, prebuilt.

use std::collections::HashMap;
use std::mem::offset_of;

use flow::{MacAddr, Path, PathCounters, PathId, PortId, RuleAction, Tunnel};
use zerocopy::IntoBytes;
use zerocopy::network_endian::{U16, U32, U128};

use super::TableError;
use super::hash::{Seed, halves};
use super::prefetch::prefetch;
use crate::neighbour::AdjacencyId;
use crate::packet::header::{Ethernet, Frame, IPV6_LEN, Ipv6, next_header};

/// The greatest path number.
pub(crate) const MAX_PATH: u16 = PathId::LAST.0;
/// In place of a path: the packet is not to be chosen for in its burst.
pub(crate) const ASIDE: u16 = u16::MAX - 2;
/// In a record: discard the packet.
pub(crate) const DISCARD: u16 = u16::MAX - 1;
/// In a record: no path.
pub(crate) const NO_PATH: u16 = u16::MAX;

/// A rule's action as records hold it.
pub(crate) fn action_number(action: RuleAction) -> u16 {
    match action {
        RuleAction::Forward(path) => path.0,
        RuleAction::Drop => DISCARD,
    }
}

/// What can be done with a path now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub(crate) enum State {
    /// There is no such path.
    #[default]
    Absent,
    /// A tunnel whose next hop is resolved.
    Tunnel,
    /// A tunnel whose next hop's link-layer address is not known.
    TunnelUnresolved,
    /// A tunnel whose remote end no route leads to.
    TunnelUnreachable,
    /// A tunnel whose ends are both here (RFC 2473 §4.1.2).
    TunnelLoop,
    /// A mobile's link.
    Link,
}

/// One path: what to do with a packet, and the frame header to copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub(crate) struct Rewrite {
    pub(crate) port: PortIndex,
    /// Greatest IPv6 packet that may be put on the path, in octets, without the outer header. 0 for
    /// tunnels that add more than an IPv6 header: each of their packets takes the long way.
    pub(crate) room: u16,
    /// What of an inner header's first word a tunnel's has too.
    pub(crate) class_mask: u32,
    pub(crate) state: State,
    /// Of a link, the [`Ethernet::sender`] of what its mobile sends; otherwise 0, as no sender is.
    sender: [u8; 8],
    /// Of a tunnel Ethernet and outer IPv6; of a link Ethernet only.
    pub(crate) header: Frame,
    pub(crate) adjacency: AdjacencyId,
}

/// [`PortId`] with a default.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct PortIndex(u16);

impl From<PortId> for PortIndex {
    fn from(port: PortId) -> Self {
        Self(port.0)
    }
}

impl From<PortIndex> for PortId {
    fn from(port: PortIndex) -> Self {
        Self(port.0)
    }
}

/// A path and what is counted on it, in two cache lines. A gateway has a link for each mobile: such a
/// packet finds its counters and its Ethernet header in the first line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
struct Entry {
    counters: PathCounters,
    rewrite: Rewrite,
}

const _: () = assert!(size_of::<Entry>() == 128);
const _: () = assert!(offset_of!(Entry, rewrite.header.ip) <= 64);

impl Rewrite {
    /// A tunnel that still has to find its next hop.
    pub(crate) fn tunnel(tunnel: &Tunnel) -> Self {
        let ip = Ipv6 {
            version_class_label: U32::new(Ipv6::VERSION_6),
            payload_len: U16::new(0),
            next_header: next_header::IPV6,
            hop_limit: tunnel.hop_limit,
            source: U128::new(tunnel.local.to_bits()),
            destination: U128::new(tunnel.remote.to_bits()),
        };
        Self {
            header: Frame {
                ip,
                ..Frame::default()
            },
            state: State::TunnelUnreachable,
            class_mask: if tunnel.copy_dscp { CLASS } else { ECN },
            ..Self::default()
        }
    }

    /// A mobile's link.
    pub(crate) fn link(port: PortId, port_mac: MacAddr, mtu: u16, mobile: MacAddr) -> Self {
        let ethernet = Ethernet::ipv6(port_mac, mobile);
        Self {
            sender: Ethernet::ipv6(mobile, port_mac).sender(),
            header: Frame {
                ethernet,
                ..Frame::default()
            },
            port: port.into(),
            room: mtu,
            state: State::Link,
            ..Self::default()
        }
    }

    /// Sets the greatest outer packet that fits the way to a tunnel's remote end, in octets.
    pub(crate) fn set_mtu(&mut self, mtu: u16, tunnel: &Tunnel) {
        // This field is another in every packet, so here it has room for what few packets ask for.
        self.header.ip.payload_len = U16::new(mtu);
        self.room = match tunnel.encapsulation_limit {
            None => mtu.saturating_sub(OUTER),
            Some(_) => 0,
        };
    }

    /// The greatest outer packet that fits the way to a tunnel's remote end, in octets.
    pub(crate) fn mtu(&self) -> u16 {
        self.header.ip.payload_len.get()
    }

    /// Takes in what is known of a tunnel's next hop.
    pub(crate) fn set_next_hop(&mut self, header: Option<Ethernet>) {
        match (self.state, header) {
            (State::Tunnel | State::TunnelUnresolved, Some(header)) => {
                self.header.ethernet = header;
                self.state = State::Tunnel;
            }
            (State::Tunnel | State::TunnelUnresolved, None) => {
                self.state = State::TunnelUnresolved;
            }
            // The number of a next hop means nothing in these.
            (State::Absent | State::TunnelUnreachable | State::TunnelLoop | State::Link, _) => {}
        }
    }

    /// Whether this is a tunnel between these outer addresses, as seen by its receiving end.
    #[inline(always)]
    pub(crate) fn receives(&self, outer_source: u128, outer_destination: u128) -> bool {
        self.header.ip.source.get() == outer_destination
            && self.header.ip.destination.get() == outer_source
            && !matches!(self.state, State::Absent | State::Link | State::TunnelLoop)
    }

    /// Whether this is the link that an IPv6 frame has come on by `port`.
    #[inline(always)]
    pub(crate) fn is_way_of(&self, ethernet: &Ethernet, port: PortId) -> bool {
        u64::from_ne_bytes(self.sender) == u64::from_ne_bytes(ethernet.sender())
            && PortId::from(self.port) == port
    }

    /// Whether this is the link of a station on `port`.
    #[inline(always)]
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "by value, it is put together from two loads before it is compared"
    )]
    pub(crate) fn is_link_of(&self, port: PortId, station: &[u8; 6]) -> bool {
        self.state == State::Link
            && PortId::from(self.port) == port
            && self.header.ethernet.destination == *station
    }
}

/// The paths of one role.
#[derive(Debug)]
pub(crate) struct Paths {
    entries: Vec<Entry>,
    /// As the control plane gave them.
    given: Vec<Option<Path>>,
    /// Tunnels and links in use, to tell a stranger from a station that may not send this.
    known: HashMap<Endpoint, usize, Seed>,
    /// Source and destination of what comes through each tunnel, as on the wire; zeros for paths that
    /// nothing comes through.
    ends: Vec<[u8; ENDS]>,
    /// Numbers of tunnels, placed by their remote ends: at most a sixteenth of a power of two of places.
    entrances: Vec<u16>,
    /// Places taken.
    tunnels: usize,
    /// The number of the only tunnel, as most gateways have one; [`NO_PATH`] if there are others.
    sole: u16,
}

/// The far end of a path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Endpoint {
    /// Local and remote address of a tunnel.
    Tunnel(u128, u128),
    /// Port and station of a link.
    Link(PortId, MacAddr),
}

impl From<&Path> for Endpoint {
    fn from(path: &Path) -> Self {
        match path {
            Path::Tunnel(t) => Self::Tunnel(t.local.to_bits(), t.remote.to_bits()),
            Path::Link(l) => Self::Link(l.port, l.mac),
        }
    }
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            given: Vec::new(),
            known: HashMap::with_hasher(Seed::random()),
            ends: Vec::new(),
            entrances: vec![NO_PATH; LEAST_ENTRANCES],
            tunnels: 0,
            sole: NO_PATH,
        }
    }
}

/// The traffic class in the first word of an IPv6 header, and its last two bits (RFC 3168 §5).
const CLASS: u32 = 0xff << 20;
const ECN: u32 = 0b11 << 20;

/// Octets of an outer header.
const OUTER: u16 = 40;
const _: () = assert!(OUTER as usize == IPV6_LEN);

/// Octets of the two addresses at the end of an IPv6 header.
const ENDS: usize = 32;

/// Places for the first few tunnels.
const LEAST_ENTRANCES: usize = 64;

impl Paths {
    /// Creates, replaces or removes a path, whose rewrite the caller has built. The counters start
    /// at zero if it leads elsewhere now.
    ///
    /// # Errors
    /// [`TableError::PathNumber`] for a number above [`MAX_PATH`].
    pub(crate) fn set(
        &mut self,
        id: PathId,
        path: Option<Path>,
        rewrite: Rewrite,
    ) -> Result<(), TableError> {
        if id.0 > MAX_PATH {
            return Err(TableError::PathNumber(id.0));
        }
        let index = usize::from(id.0);
        if path.is_some() && index >= self.given.len() {
            self.given.resize(index + 1, None);
            self.entries.resize(index + 1, Entry::default());
            self.ends.resize(index + 1, [0; ENDS]);
        }
        let Some(held) = self.given.get_mut(index) else {
            return Ok(());
        };
        let old = std::mem::replace(held, path);
        let (before, after) = (
            old.as_ref().map(Endpoint::from),
            path.as_ref().map(Endpoint::from),
        );
        if let Some(entry) = self.entries.get_mut(index) {
            entry.rewrite = rewrite;
        }
        if let Some(ends) = self.ends.get_mut(index) {
            *ends = match path {
                Some(Path::Tunnel(tunnel)) if rewrite.state != State::TunnelLoop => {
                    let mut ends = [0; ENDS];
                    let both = tunnel
                        .remote
                        .octets()
                        .into_iter()
                        .chain(tunnel.local.octets());
                    for (to, from) in ends.iter_mut().zip(both) {
                        *to = from;
                    }
                    ends
                }
                Some(_) | None => [0; ENDS],
            };
        }
        if before != after {
            self.move_entrance(id.0, before, after);
            if let Some(entry) = self.entries.get_mut(index) {
                entry.counters = PathCounters::default();
            }
            if let Some(endpoint) = after {
                *self.known.entry(endpoint).or_default() += 1;
            }
            if let Some(endpoint) = before
                && let Some(count) = self.known.get_mut(&endpoint)
            {
                *count -= 1;
                if *count == 0 {
                    self.known.remove(&endpoint);
                }
            }
        }
        Ok(())
    }

    /// Notes that the remote end of path `number` changed.
    fn move_entrance(&mut self, number: u16, from: Option<Endpoint>, to: Option<Endpoint>) {
        let is_tunnel = |end: Option<Endpoint>| matches!(end, Some(Endpoint::Tunnel(..)));
        if is_tunnel(from) {
            self.place_all(self.entrances.len());
        } else if is_tunnel(to) {
            self.tunnels += 1;
            if self.tunnels * 16 > self.entrances.len() {
                self.place_all(self.entrances.len() * 2);
            } else {
                self.place(number);
            }
        }
        let mut placed = self.entrances.iter().filter(|number| **number != NO_PATH);
        let sole = (self.tunnels == 1).then(|| placed.next()).flatten();
        self.sole = sole.copied().unwrap_or(NO_PATH);
    }

    /// Finds places for all tunnels among `count`.
    fn place_all(&mut self, count: usize) {
        self.entrances.clear();
        self.entrances.resize(count, NO_PATH);
        let tunnels: Vec<u16> = (0..)
            .zip(&self.given)
            .filter(|(_, path)| matches!(path, Some(Path::Tunnel(_))))
            .map(|(number, _)| number)
            .collect();
        self.tunnels = tunnels.len();
        for number in tunnels {
            self.place(number);
        }
    }

    /// Finds a place for a tunnel.
    fn place(&mut self, number: u16) {
        let Some(Some(Path::Tunnel(tunnel))) = self.given.get(usize::from(number)) else {
            return;
        };
        let mut place = self.first_entrance(tunnel.remote.to_bits());
        while self.entrances.get(place).is_some_and(|n| *n != NO_PATH) {
            place = self.next_entrance(place);
        }
        if let Some(free) = self.entrances.get_mut(place) {
            *free = number;
        }
    }

    #[inline(always)]
    fn first_entrance(&self, remote: u128) -> usize {
        // Its keys are our peers' addresses, which no stranger chooses: this needs no secret.
        const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
        let [low, high] = halves(remote);
        let mixed = (low ^ high.rotate_left(32)).wrapping_mul(MULTIPLIER);
        (mixed >> 32) as usize & (self.entrances.len() - 1)
    }

    #[inline(always)]
    fn next_entrance(&self, place: usize) -> usize {
        (place + 1) & (self.entrances.len() - 1)
    }

    /// The tunnel that a frame comes through, by its outer addresses.
    #[inline(always)]
    pub(crate) fn entrance(&self, frame: &Frame) -> Option<u16> {
        let ends: &[u8; ENDS] = frame.as_bytes().last_chunk()?;
        if self.sole != NO_PATH {
            let comes = self.ends.get(usize::from(self.sole))? == ends;
            return comes.then_some(self.sole);
        }
        let mut place = self.first_entrance(frame.ip.source.get());
        loop {
            let number = *self.entrances.get(place)?;
            // There are no ends of this number in a free place, which ends the search.
            if self.ends.get(usize::from(number))? == ends {
                return Some(number);
            }
            place = self.next_entrance(place);
        }
    }

    /// Fetches what a packet needs of a link.
    #[inline(always)]
    pub(crate) fn prefetch(&self, number: u16) {
        if let Some(entry) = self.entries.get(usize::from(number)) {
            prefetch(&entry.counters);
        }
    }

    #[inline(always)]
    pub(crate) fn rewrite(&self, number: u16) -> Option<&Rewrite> {
        let entry = self.entries.get(usize::from(number))?;
        Some(&entry.rewrite)
    }

    /// A path and what is counted on it.
    #[inline(always)]
    pub(crate) fn get_mut(&mut self, number: u16) -> Option<(&Rewrite, &mut PathCounters)> {
        let entry = self.entries.get_mut(usize::from(number))?;
        Some((&entry.rewrite, &mut entry.counters))
    }

    /// Two paths, which are not the same one, and what is counted on them.
    #[inline(always)]
    pub(crate) fn two_mut(
        &mut self,
        numbers: [u16; 2],
    ) -> Option<[(&Rewrite, &mut PathCounters); 2]> {
        let entries = self.entries.get_disjoint_mut(numbers.map(usize::from));
        Some(
            entries
                .ok()?
                .map(|entry| (&entry.rewrite, &mut entry.counters)),
        )
    }

    /// The Tunnel Encapsulation Limit that a path adds to packets which have none.
    pub(crate) fn encapsulation_limit(&self, number: u16) -> Option<u8> {
        match self.given.get(usize::from(number))? {
            Some(Path::Tunnel(tunnel)) => tunnel.encapsulation_limit,
            Some(Path::Link(_)) | None => None,
        }
    }

    #[inline(always)]
    pub(crate) fn count_in(&mut self, number: u16, octets: usize) {
        self.count_all_in(number, 1, octets as u64);
    }

    #[inline(always)]
    pub(crate) fn count_all_in(&mut self, number: u16, packets: u64, octets: u64) {
        if let Some(entry) = self.entries.get_mut(usize::from(number)) {
            entry.counters.in_packets += packets;
            entry.counters.in_octets += octets;
        }
    }

    /// Whether any path has this far end.
    pub(crate) fn knows(&self, endpoint: &Endpoint) -> bool {
        self.known.contains_key(endpoint)
    }

    /// All paths with their rewrites, to be resolved anew.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&Path, &mut Rewrite)> {
        let both = self.given.iter().zip(&mut self.entries);
        both.filter_map(|(path, entry)| Some((path.as_ref()?, &mut entry.rewrite)))
    }

    pub(crate) fn counters(&self) -> impl Iterator<Item = PathCounters> {
        self.entries.iter().map(|entry| entry.counters)
    }
}

#[cfg(test)]
mod tests;
