//! The first look at a frame: is it for us, is it whole, and which way does it go?

use flow::{DropReason, MacAddr, PortId, Role};

use crate::decap;
use crate::fate::{Arrival, Via};
use crate::packet::PacketBuf;
use crate::packet::header::{
    ETHERNET_LEN, ETHERTYPE_IPV6, FRAME_LEN, Frame, Ipv6, next_header, scope,
};
use crate::packet::walk;
use crate::role::RoleState;
use crate::spread::{self, Spread};
use crate::table::binding::Home;
use crate::table::hash::Seed;
use zerocopy::FromBytes;

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    /// Nowhere.
    Drop(DropReason),
    /// To the appliance itself, or to a group it listens to.
    Local,
    /// Out of a tunnel of this role; the inner header is at this offset. The address looked up is
    /// the inner source at an LMA, the inner destination at a MAG.
    Exit(Role, usize),
    /// From a mobile at a MAG; the source is looked up.
    Access,
    /// On by its destination, which is looked up at an LMA.
    Forward,
}

/// What the first look found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parsed {
    pub(crate) lane: Lane,
    pub(crate) arrival: Arrival,
    /// What to look up, and in which bucket; `None` if nothing is to be.
    pub(crate) lookup: Option<(Role, u128, Home)>,
}

/// What a worker needs to know of itself to tell its packets from others.
#[derive(Clone, Copy)]
pub(crate) struct Ingress<'a> {
    pub(crate) port: PortId,
    pub(crate) mac: MacAddr,
    pub(crate) access: bool,
    pub(crate) own: &'a OwnAddresses,
    pub(crate) lma: Option<&'a RoleState>,
    pub(crate) mag: Option<&'a RoleState>,
}

impl Ingress<'_> {
    /// Looks at one frame, and cuts off what Ethernet padded it with.
    #[inline]
    pub(crate) fn parse<P: PacketBuf>(&self, packet: &mut P) -> Parsed {
        let (lane, arrival, total) = self.look(packet);
        packet.truncate(ETHERNET_LEN + total);
        let wanted = match (lane, Frame::of(packet)) {
            (Lane::Forward, Some(frame)) => Some((Role::Lma, frame.ip.destination.get())),
            (Lane::Access, Some(frame)) => Some((Role::Mag, frame.ip.source.get())),
            (Lane::Exit(role, offset), Some(_)) => {
                let inner = packet.data().get(offset..).unwrap_or_default();
                Ipv6::ref_from_prefix(inner).ok().map(|(ip, _)| match role {
                    Role::Lma => (role, ip.source.get()),
                    Role::Mag => (role, ip.destination.get()),
                })
            }
            _ => None,
        };
        let lookup = wanted.and_then(|(role, address)| {
            let bindings = match role {
                Role::Lma => &self.lma.filter(|lma| lma.may_hold(address))?.table.bindings,
                Role::Mag => &self.mag?.table.bindings,
            };
            let home = bindings.home(address);
            bindings.prefetch(home);
            Some((role, address, home))
        });
        Parsed {
            lane,
            arrival,
            lookup,
        }
    }

    /// What a packet's flow hashes to if it is to be handled by the flow's worker; `None` if it stays
    /// with whoever received it: what is for the appliance itself, and what goes nowhere.
    #[inline]
    pub(crate) fn flow<P: PacketBuf>(&self, packet: &P, spread: Spread, seed: Seed) -> Option<u64> {
        let first = Frame::of(packet)?.ip.next_header;
        if spread == Spread::Tunnelled && first != next_header::IPV6 && !walk::is_extension(first) {
            return None;
        }
        let (lane, _, total) = self.look(packet);
        let frame = packet.data().get(..ETHERNET_LEN + total)?;
        let start = match lane {
            Lane::Forward | Lane::Access if spread == Spread::All => ETHERNET_LEN,
            Lane::Exit(_, offset) => offset,
            Lane::Local => self.late_exit(frame)?,
            Lane::Forward | Lane::Access | Lane::Drop(_) => return None,
        };
        spread::flow_hash(frame.get(start..)?, seed)
    }

    /// Where the inner header of a tunnel packet is that has extension headers before it.
    fn late_exit(&self, frame: &[u8]) -> Option<usize> {
        let packet = frame.get(ETHERNET_LEN..)?;
        let (ip, _) = Ipv6::ref_from_prefix(packet).ok()?;
        let end = decap::tunnel_end(self.lma, self.mag, ip.destination.get());
        if self.access || end.is_none() {
            return None;
        }
        let upper = walk::upper(ip, packet);
        let tunnelled = upper.next_header == next_header::IPV6 && !upper.fragmented;
        tunnelled.then_some(ETHERNET_LEN + upper.offset)
    }

    /// The way, the arrival, and the IPv6 packet's length.
    #[inline]
    fn look<P: PacketBuf>(&self, packet: &P) -> (Lane, Arrival, usize) {
        let mut arrival = Arrival {
            via: Via::Link,
            port: self.port,
            station: MacAddr::default(),
            group: false,
        };
        let data = packet.data();
        let Some(frame) = Frame::of(packet) else {
            let reason = match data.get(12..ETHERNET_LEN) {
                Some(ethertype) if ethertype != ETHERTYPE_IPV6.to_be_bytes() => DropReason::NotIpv6,
                Some(_) | None => DropReason::Malformed,
            };
            return (Lane::Drop(reason), arrival, data.len());
        };
        let to = MacAddr(frame.ethernet.destination);
        arrival.station = MacAddr(frame.ethernet.source);
        arrival.group = to.is_multicast();
        let total = frame.ip.total_len();
        let ours = to == self.mac || arrival.group || (self.access && to == MacAddr::MAG);
        let lane = if !ours || arrival.station.is_multicast() {
            Lane::Drop(DropReason::NotForUs)
        } else if frame.ethernet.ethertype.get() != ETHERTYPE_IPV6 {
            Lane::Drop(DropReason::NotIpv6)
        } else if !frame.ip.is_version_6() || total > data.len() - ETHERNET_LEN {
            Lane::Drop(DropReason::Malformed)
        } else {
            self.way(&frame.ip, arrival.group)
        };
        (lane, arrival, total)
    }

    /// The way of a whole IPv6 packet.
    #[inline]
    fn way(&self, ip: &Ipv6, group: bool) -> Lane {
        let (source, destination) = (ip.source.get(), ip.destination.get());
        if scope::is_multicast(source) || source == scope::LOOPBACK {
            return Lane::Drop(DropReason::BadSource);
        }
        if self.own.contains(destination, self.port) {
            // Whoever is on an access link is no tunnel end (RFC 5213 §6.10.3).
            return match decap::tunnel_end(self.lma, self.mag, destination) {
                Some(role) if ip.next_header == next_header::IPV6 && !self.access => {
                    Lane::Exit(role, FRAME_LEN)
                }
                Some(_) | None => Lane::Local,
            };
        }
        if scope::is_multicast(destination) {
            // A MAG hears every solicitation on its point-to-point links: duplicate address
            // detection of a mobile is the control plane's to judge.
            let heard = self.own.listens(destination, self.port)
                || (self.access && scope::is_solicited_node(destination));
            return if heard {
                Lane::Local
            } else {
                Lane::Drop(DropReason::Multicast)
            };
        }
        if group {
            return Lane::Drop(DropReason::NotForUs);
        }
        if let Err(crate::fate::Fate::Drop(reason)) = decap::check_addresses(ip) {
            return Lane::Drop(reason);
        }
        if self.access {
            Lane::Access
        } else {
            Lane::Forward
        }
    }
}

/// The appliance's own addresses.
#[derive(Debug, Default)]
pub(crate) struct OwnAddresses {
    /// Each with its port, unless it is a tunnel end that no port has.
    list: Vec<(u128, Option<PortId>)>,
    /// One bit for each address: most packets are told apart by it alone.
    filter: u64,
}

impl OwnAddresses {
    /// Adds an address.
    pub(crate) fn add(&mut self, address: u128, port: Option<PortId>) {
        if !self.list.contains(&(address, port)) {
            self.list.push((address, port));
            self.filter |= Self::bit(address);
        }
    }

    fn bit(address: u128) -> u64 {
        let [low, high] = crate::table::hash::halves(address);
        1 << ((low ^ high).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
    }

    /// Whether packets to `address` that come in on `port` are for us: any address of ours on any
    /// port, but a link-local one only on its own.
    #[inline]
    pub(crate) fn contains(&self, address: u128, port: PortId) -> bool {
        self.filter & Self::bit(address) != 0
            && self.list.iter().any(|(own, on)| {
                *own == address && (!scope::is_link_local(address) || *on == Some(port))
            })
    }

    /// Whether `address` is ours on any port.
    pub(crate) fn is_ours(&self, address: u128) -> bool {
        self.list.iter().any(|(own, _)| *own == address)
    }

    /// Whether `address` is ours on this very port.
    pub(crate) fn is_on(&self, address: u128, port: PortId) -> bool {
        self.list.contains(&(address, Some(port)))
    }

    /// Whether `address` is a tunnel end that no port has.
    pub(crate) fn is_portless(&self, address: u128) -> bool {
        self.list.contains(&(address, None))
    }

    /// Whether we hear `group` on `port` (RFC 4291 §2.8).
    fn listens(&self, group: u128, port: PortId) -> bool {
        group == scope::ALL_NODES
            || group == scope::ALL_ROUTERS
            || self.list.iter().any(|(own, on)| {
                on.is_none_or(|on| on == port) && scope::solicited_node(*own) == group
            })
    }

    /// An address to send from on `port` to a destination of this scope.
    pub(crate) fn source(&self, port: PortId, link_local: bool) -> Option<u128> {
        let mut on_port = self.list.iter().filter(|(_, on)| *on == Some(port));
        let of_scope =
            |(own, _): &&(u128, Option<PortId>)| scope::is_link_local(*own) == link_local;
        let any = || {
            let mut all = self.list.iter().filter(|_| !link_local);
            all.find(of_scope)
        };
        on_port.find(of_scope).or_else(any).map(|(own, _)| *own)
    }
}
