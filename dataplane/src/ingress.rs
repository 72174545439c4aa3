//! The first look at a frame: is it for us, is it whole, and which way does it go?

mod own;

use flow::{DropReason, MacAddr, PortId};

pub(crate) use own::OwnAddresses;

use crate::classify::Choice;
use crate::decap;
use crate::fate::{Arrival, Via};
use crate::packet::header::{
    ETHERNET_LEN, ETHERTYPE_IPV6, FRAME_LEN, Frame, IPV6_LEN, Ipv6, next_header, scope,
};
use crate::packet::shape::Shape;
use crate::packet::{PacketBuf, ecn, walk};
use crate::role::RoleState;
use crate::simd::Compare;
use crate::spread::{self, Spread};
use crate::table::binding::Home;
use crate::table::hash::{Seed, halves};
use crate::table::path::{Endpoint, NO_PATH};
use crate::table::{Bindings, Slot};
use zerocopy::FromBytes;

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Lane {
    /// From the core at an LMA, to a mobile by its destination.
    Forward,
    /// Out of a tunnel at an LMA, from a mobile by its inner source.
    LmaExit,
    /// Out of a tunnel at a MAG, to a mobile by its inner destination.
    MagExit,
    /// From an access link at a MAG, from a mobile by its source.
    Access,
    /// On by its destination, which is no mobile's.
    Unbound,
    /// From an access link at a MAG, and not from where that source usually is.
    Stranger,
    /// To the appliance itself, to a group it listens to, or out of a tunnel and odd.
    Local,
    /// Nowhere: see [`Passage::reason`].
    Drop,
}

impl Lane {
    /// The address that is looked up for a frame on this lane.
    pub(crate) fn wanted(self, frame: &[u8]) -> Option<u128> {
        let address = |at: usize| {
            let octets = frame.get(at..)?.first_chunk()?;
            Some(u128::from_be_bytes(*octets))
        };
        match self {
            Self::Forward => address(ETHERNET_LEN + DESTINATION),
            Self::Access => address(ETHERNET_LEN + SOURCE),
            Self::LmaExit => address(FRAME_LEN + SOURCE),
            Self::MagExit => address(FRAME_LEN + DESTINATION),
            Self::Unbound | Self::Stranger | Self::Local | Self::Drop => None,
        }
    }
}

/// Where an IPv6 header has its next header and its addresses.
const NEXT_HEADER: usize = 6;
const SOURCE: usize = 8;
const DESTINATION: usize = 24;

/// What the stages know of a packet. Each writes its fields in place: moved about as a value, this
/// would go through memory in pieces, and every stage would wait for that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passage {
    /// The upper half of the address to be looked up.
    pub(crate) key: u64,
    /// In which bucket; [`Home::NOWHERE`] if nothing is to be looked up.
    pub(crate) home: Home,
    /// Where the binding is.
    pub(crate) slot: Option<Slot>,
    /// The path it goes on, and what tells its flow from others.
    pub(crate) choice: Choice,
    /// The tunnel it came through, or the link it should have come on.
    pub(crate) through: u16,
    pub(crate) lane: Lane,
    /// Why it ends, on [`Lane::Drop`].
    pub(crate) reason: DropReason,
}

const _: () = assert!(size_of::<Passage>() == 32);

impl Passage {
    /// Before the first look.
    pub(crate) const NEW: Self = Self {
        key: 0,
        home: Home::NOWHERE,
        slot: None,
        choice: Choice::NONE,
        through: NO_PATH,
        lane: Lane::Local,
        reason: DropReason::Malformed,
    };

    #[inline(always)]
    fn set(&mut self, lane: Lane) {
        self.lane = lane;
    }

    /// Puts a packet on a lane whose address, of which this is the upper half, is in `table`, and
    /// fetches its bucket.
    #[inline(always)]
    fn look_up(&mut self, lane: Lane, key: u64, table: &Bindings) {
        let home = table.home_of(key);
        table.prefetch(home);
        (self.key, self.home, self.lane) = (key, home, lane);
    }

    fn drop(&mut self, reason: DropReason) {
        (self.lane, self.reason) = (Lane::Drop, reason);
    }
}

/// How the usual frames on a port look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shapes {
    /// IPv6 to this station, or to the one that all MAGs share.
    to_us: [Shape; 2],
    /// To a mobile of the LMA's, from the core.
    pub(crate) forward: Option<Shape>,
    /// Out of a tunnel that ends at the only address where any does, and the lane of such packets.
    exit: Option<(Lane, Shape)>,
}

impl Shapes {
    /// Of frames that come in on a port with these link-layer addresses, at an LMA and at a MAG if it is no
    /// access port.
    pub(crate) fn new(
        macs: [MacAddr; 2],
        lma: Option<&RoleState>,
        mag: Option<&RoleState>,
    ) -> Self {
        let to_us = macs.map(|mac| {
            Shape::ANY
                .with(0, &mac.0, &[0xff; 6])
                // From one station, not a group.
                .with(6, &[0], &[1])
                .with(12, &[0x86, 0xdd, 0x60], &[0xff, 0xff, 0xf0])
        });
        let [shape, _] = to_us;
        let forward = lma.and_then(RoleState::plain_pool).map(|(network, mask)| {
            let (network, mask) = (network.to_be_bytes(), mask.to_be_bytes());
            shape.with(ETHERNET_LEN + DESTINATION, &network, &mask)
        });
        let end = match (lma, mag) {
            (Some(lma), None) => Some((Lane::LmaExit, lma.addresses.as_slice())),
            (None, Some(mag)) => Some((Lane::MagExit, mag.addresses.as_slice())),
            (Some(_), Some(_)) | (None, None) => None,
        };
        let exit = match end {
            Some((lane, [end])) => {
                let shape = shape
                    .with(ETHERNET_LEN + NEXT_HEADER, &[next_header::IPV6], &[0xff])
                    .with(ETHERNET_LEN + DESTINATION, &end.to_be_bytes(), &[0xff; 16]);
                Some((lane, shape))
            }
            Some(_) | None => None,
        };
        Self {
            to_us,
            forward,
            exit,
        }
    }

    /// How packets out of tunnels look, their lane, and whose tunnels these are.
    #[inline(always)]
    pub(crate) fn exit<'a>(
        &'a self,
        lma: Option<&'a RoleState>,
        mag: Option<&'a RoleState>,
    ) -> Option<(&'a Shape, Lane, &'a RoleState)> {
        let (lane, shape) = self.exit.as_ref()?;
        let role = if *lane == Lane::LmaExit { lma } else { mag };
        Some((shape, *lane, role?))
    }
}

/// What a worker needs to know of itself to tell its packets from others.
#[derive(Clone, Copy)]
pub(crate) struct Ingress<'a> {
    pub(crate) port: PortId,
    /// The port's link-layer address, and another one: on access ports that which all MAGs share. By
    /// reference, as are the others: copied for every burst, octets would be read before they are written
    /// through.
    pub(crate) macs: &'a [MacAddr; 2],
    pub(crate) shapes: &'a Shapes,
    /// What packets to mobiles look like that come from the core, and where their bindings are.
    pub(crate) forward: Option<(&'a Shape, &'a Bindings)>,
    /// What packets out of tunnels look like if they all end at one address, their lane, and whose they are.
    pub(crate) exit: Option<(&'a Shape, Lane, &'a RoleState)>,
    pub(crate) access: bool,
    pub(crate) own: &'a OwnAddresses,
    pub(crate) lma: Option<&'a RoleState>,
    pub(crate) mag: Option<&'a RoleState>,
}

impl Ingress<'_> {
    /// Looks at frames and fetches the buckets of the addresses that decide where each goes.
    ///
    /// What is said here about usual frames, [`Ingress::look_closely`] says again about all, but that it leaves it to
    /// [`Worker::local`](crate::worker::Worker) to find that there is no such tunnel.
    #[inline(always)]
    pub(crate) fn look<'p, P: PacketBuf + 'p>(
        &self,
        frames: impl Iterator<Item = (&'p mut P, &'p mut Passage)>,
        compare: impl Compare + Copy,
    ) {
        // What is the same for all frames of a port is asked once: each kind of port has a loop of its own, in which the lane of
        // what leaves a tunnel is a constant.
        if self.access {
            return self.look_as(frames, |start, data, passage| {
                self.usual_on_access(start, data, passage, compare)
            });
        }
        match self.exit {
            Some((shape, Lane::LmaExit, lma)) => {
                let exit = Some((shape, Lane::LmaExit, lma));
                self.look_as(frames, |start, data, passage| {
                    self.usual_in_core(exit, start, data, passage, compare)
                });
            }
            Some((shape, Lane::MagExit, mag)) => {
                let exit = Some((shape, Lane::MagExit, mag));
                self.look_as(frames, |start, data, passage| {
                    self.usual_in_core(exit, start, data, passage, compare)
                });
            }
            exit => self.look_as(frames, |start, data, passage| {
                self.usual_in_core(exit, start, data, passage, compare)
            }),
        }
    }

    /// As [`Ingress::look`], where `usual` puts a usual frame on its lane.
    #[inline(always)]
    fn look_as<'p, P: PacketBuf + 'p>(
        &self,
        frames: impl Iterator<Item = (&'p mut P, &'p mut Passage)>,
        usual: impl Fn(&[u8; FRAME_LEN], &[u8], &mut Passage) -> bool,
    ) {
        for (packet, passage) in frames {
            *passage = Passage::NEW;
            let data = packet.data();
            let done = data
                .first_chunk()
                .is_some_and(|start| usual(start, data, passage));
            if !done {
                self.look_closely(packet, passage);
            }
        }
    }

    /// Puts a frame on its lane if it holds one packet and nothing else, and is on one of the four lanes
    /// of mobiles' packets, or out of a tunnel that there is not.
    #[inline(always)]
    fn usual(
        &self,
        start: &[u8; FRAME_LEN],
        data: &[u8],
        passage: &mut Passage,
        compare: impl Compare + Copy,
    ) -> bool {
        if self.access {
            self.usual_on_access(start, data, passage, compare)
        } else {
            self.usual_in_core(self.exit, start, data, passage, compare)
        }
    }

    /// As [`Ingress::usual`], on an access port: unless the frame is to us, or to an address of a special kind.
    ///
    /// No binding admits a source of a special kind, so that is not asked about here: whoever takes the packet then asks for
    /// the reason.
    #[inline(always)]
    fn usual_on_access(
        &self,
        start: &[u8; FRAME_LEN],
        data: &[u8],
        passage: &mut Passage,
        compare: impl Compare + Copy,
    ) -> bool {
        let Frame { ip, .. } = zerocopy::transmute_ref!(start);
        let destination = ip.destination.get();
        match self.mag {
            Some(mag)
                if is_whole(ip, data)
                    && self.is_to_us(start, compare)
                    && scope::is_plain(destination)
                    && !self.own.may_contain_plain(destination) =>
            {
                let [_, key] = halves(ip.source.get());
                passage.look_up(Lane::Access, key, &mag.table.bindings);
                true
            }
            Some(_) | None => false,
        }
    }

    /// As [`Ingress::usual`], on any other port.
    #[inline(always)]
    fn usual_in_core(
        &self,
        exit: Option<(&Shape, Lane, &RoleState)>,
        start: &[u8; FRAME_LEN],
        data: &[u8],
        passage: &mut Passage,
        compare: impl Compare + Copy,
    ) -> bool {
        let frame: &Frame = zerocopy::transmute_ref!(start);
        let ip = &frame.ip;
        if !is_whole(ip, data) {
            return false;
        }
        // What may have come through a tunnel is looked at as such: few mobiles end other tunnels.
        if ip.next_header == next_header::IPV6
            && let Some((exit, lane, role)) = exit
            && compare.fits(start, exit)
        {
            let Some(inner) = sound_inner(lane, ip, data) else {
                return false;
            };
            if leave(lane, role, frame, inner, passage) {
                return true;
            }
            return is_turned_away(role, ip, passage);
        }
        if !scope::is_plain(ip.source.get()) {
            return false;
        }
        if ip.next_header != next_header::IPV6
            && let Some((forward, bindings)) = self.forward
            && compare.fits(start, forward)
        {
            let [_, key] = halves(ip.destination.get());
            passage.look_up(Lane::Forward, key, bindings);
            return true;
        }
        self.is_to_us(start, compare) && self.out_of_tunnel(frame, data, passage)
    }

    /// Whether a frame holds IPv6 and is for this station, or the one that all MAGs share.
    #[inline(always)]
    fn is_to_us(&self, start: &[u8; FRAME_LEN], compare: impl Compare + Copy) -> bool {
        let [own, shared] = &self.shapes.to_us;
        compare.fits(start, own) || compare.fits(start, shared)
    }

    /// Puts a frame on its lane that leaves a tunnel of ours, if there is nothing odd about it; whatever else
    /// leaves one is told apart later.
    #[inline(always)]
    fn out_of_tunnel(&self, frame: &Frame, data: &[u8], passage: &mut Passage) -> bool {
        let outer = &frame.ip;
        if outer.next_header != next_header::IPV6 {
            return false;
        }
        let roles = [(Lane::LmaExit, self.lma), (Lane::MagExit, self.mag)];
        roles.into_iter().any(|(lane, role)| {
            role.zip(sound_inner(lane, outer, data))
                .is_some_and(|(role, inner)| leave(lane, role, frame, inner, passage))
        })
    }

    /// How a frame came.
    #[inline(always)]
    pub(crate) fn arrival<P: PacketBuf>(port: PortId, packet: &P) -> Arrival {
        let ethernet = Frame::of(packet)
            .map(|frame| frame.ethernet)
            .unwrap_or_default();
        Arrival {
            via: Via::Link,
            port,
            station: MacAddr(ethernet.source),
            group: MacAddr(ethernet.destination).is_multicast(),
        }
    }

    /// What a packet's flow hashes to if it is to be handled by the flow's worker; `None` if it stays
    /// with whoever received it: what is for the appliance itself, and what goes nowhere.
    #[inline(always)]
    pub(crate) fn flow<P: PacketBuf>(
        &self,
        packet: &P,
        spread: Spread,
        seed: Seed,
        compare: impl Compare + Copy,
    ) -> Option<u64> {
        let first = Frame::of(packet)?.ip.next_header;
        if spread == Spread::Tunnelled && first != next_header::IPV6 && !walk::is_extension(first) {
            return None;
        }
        let data = packet.data();
        let mut passage = Passage::NEW;
        let start = data.first_chunk();
        if !start.is_some_and(|start| self.usual(start, data, &mut passage, compare)) {
            self.see(data, &mut passage);
        }
        let frame = data.get(..whole_len(data))?;
        let start = match passage.lane {
            Lane::Access if !scope::is_plain(Frame::of(packet)?.ip.source.get()) => return None,
            Lane::Forward | Lane::Unbound | Lane::Access if spread == Spread::All => ETHERNET_LEN,
            Lane::LmaExit | Lane::MagExit => FRAME_LEN,
            Lane::Local => self.late_exit(frame)?,
            Lane::Forward | Lane::Unbound | Lane::Access | Lane::Stranger | Lane::Drop => {
                return None;
            }
        };
        spread::flow_hash(frame.get(start..)?, seed)
    }

    /// Where the inner header of a tunnel packet is that has extension headers before it; of a fragment
    /// only the outer header will do.
    fn late_exit(&self, frame: &[u8]) -> Option<usize> {
        let packet = frame.get(ETHERNET_LEN..)?;
        let (ip, _) = Ipv6::ref_from_prefix(packet).ok()?;
        let end = decap::tunnel_end(self.lma, self.mag, ip.destination.get());
        if self.access || end.is_none() {
            return None;
        }
        let upper = walk::upper(ip, packet);
        if upper.fragmented {
            // All that is to be put together for this tunnel end goes to one worker.
            return Some(ETHERNET_LEN);
        }
        (upper.next_header == next_header::IPV6).then_some(ETHERNET_LEN + upper.offset)
    }

    /// As [`Ingress::look`] for any frame; cuts off what Ethernet padded it with.
    #[inline(never)]
    fn look_closely<P: PacketBuf>(&self, packet: &mut P, passage: &mut Passage) {
        self.see(packet.data(), passage);
        packet.truncate(whole_len(packet.data()));
    }

    /// Puts any frame on its lane.
    fn see(&self, data: &[u8], passage: &mut Passage) {
        let Ok((frame, _)) = Frame::ref_from_prefix(data) else {
            return passage.drop(match data.get(12..ETHERNET_LEN) {
                Some(ethertype) if ethertype != ETHERTYPE_IPV6.to_be_bytes() => DropReason::NotIpv6,
                Some(_) | None => DropReason::Malformed,
            });
        };
        let (to, from) = (
            MacAddr(frame.ethernet.destination),
            MacAddr(frame.ethernet.source),
        );
        let group = to.is_multicast();
        if !(self.macs.contains(&to) || group) || from.is_multicast() {
            passage.drop(DropReason::NotForUs);
        } else if frame.ethernet.ethertype.get() != ETHERTYPE_IPV6 {
            passage.drop(DropReason::NotIpv6);
        } else if !frame.ip.is_version_6() || frame.ip.total_len() > data.len() - ETHERNET_LEN {
            passage.drop(DropReason::Malformed);
        } else if self.access || group || !self.out_of_tunnel(frame, data, passage) {
            self.way(&frame.ip, group, passage);
        }
    }

    /// The way of a whole IPv6 packet, to us, to or from an address of a special kind, to a group of
    /// stations, or just on.
    fn way(&self, ip: &Ipv6, group: bool, passage: &mut Passage) {
        let (source, destination) = (ip.source.get(), ip.destination.get());
        if scope::is_multicast(source) || source == scope::LOOPBACK {
            return passage.drop(DropReason::BadSource);
        }
        if self.own.contains(destination, self.port) {
            return passage.set(Lane::Local);
        }
        if scope::is_multicast(destination) {
            // A MAG hears every solicitation on its point-to-point links: duplicate address
            // detection of a mobile is the control plane's to judge.
            let heard = self.own.listens(destination, self.port)
                || (self.access && scope::is_solicited_node(destination));
            return if heard {
                passage.set(Lane::Local);
            } else {
                passage.drop(DropReason::Multicast);
            };
        }
        if group {
            return passage.drop(DropReason::NotForUs);
        }
        if let Err(reason) = decap::check_addresses(ip) {
            return passage.drop(reason);
        }
        let [source, destination] = [source, destination].map(|address| {
            let [_, key] = halves(address);
            (address, key)
        });
        match (self.access, self.lma, self.mag) {
            (true, _, Some(mag)) => passage.look_up(Lane::Access, source.1, &mag.table.bindings),
            (true, _, None) => passage.set(Lane::Stranger),
            (false, Some(lma), _) if lma.may_hold(destination.0) => {
                passage.look_up(Lane::Forward, destination.1, &lma.table.bindings);
            }
            (false, ..) => passage.set(Lane::Unbound),
        }
    }
}

/// Whether a frame ends where its IPv6 packet does.
#[inline(always)]
fn is_whole(ip: &Ipv6, data: &[u8]) -> bool {
    ip.total_len() + ETHERNET_LEN == data.len()
}

/// The header in a tunnel packet, if there is nothing odd about it.
///
/// The address that is looked up for it is not asked about here, as nothing special is found then. At an LMA, the last stage
/// asks for the destination, and what congestion has done to it.
#[inline(always)]
fn sound_inner<'a>(lane: Lane, outer: &Ipv6, data: &'a [u8]) -> Option<&'a Ipv6> {
    let (inner, _) = Ipv6::ref_from_prefix(data.get(FRAME_LEN..)?).ok()?;
    let whole = inner.is_version_6() & (inner.total_len() + IPV6_LEN == outer.total_len());
    let plain = || {
        scope::is_plain(inner.source.get())
            & ecn::passes(inner.traffic_class(), outer.traffic_class())
    };
    (whole && (lane == Lane::LmaExit || plain())).then_some(inner)
}

/// Puts a tunnel packet on the lane of a role if one of the role's tunnels leads here from its source.
#[inline(always)]
fn leave(lane: Lane, role: &RoleState, frame: &Frame, inner: &Ipv6, passage: &mut Passage) -> bool {
    let Some(path) = role.table.paths.entrance(frame) else {
        return false;
    };
    passage.through = path;
    let address = if lane == Lane::LmaExit {
        inner.source
    } else {
        inner.destination
    };
    let [_, key] = halves(address.get());
    passage.look_up(lane, key, &role.table.bindings);
    true
}

/// Puts a tunnel packet on its lane that no tunnel of a role's leads here, unless there is something odd about its
/// source.
///
/// Anybody can send such, so it ends as soon as it is known that there is no such tunnel. What is wrong
/// with another one is told apart later.
#[cold]
#[inline(never)]
fn is_turned_away(role: &RoleState, outer: &Ipv6, passage: &mut Passage) -> bool {
    let (source, destination) = (outer.source.get(), outer.destination.get());
    let paths = &role.table.paths;
    if paths.knows(&Endpoint::Tunnel(destination, source)) {
        passage.set(Lane::Local);
    } else {
        passage.drop(DropReason::NoTunnel);
    }
    scope::is_plain(source)
}

/// Octets of a frame without what Ethernet padded it with; all of them if it has no IPv6 header.
#[inline(always)]
fn whole_len(data: &[u8]) -> usize {
    let total = Frame::ref_from_prefix(data).map(|(frame, _)| frame.ip.total_len());
    total.map_or(data.len(), |total| ETHERNET_LEN + total)
}

#[cfg(test)]
mod tests;
