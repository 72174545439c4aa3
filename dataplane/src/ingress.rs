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
use crate::table::hash::{Seed, halves};
use zerocopy::FromBytes;

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    /// Nowhere.
    Drop(DropReason),
    /// To the appliance itself, or to a group it listens to.
    Local,
    /// Out of a tunnel of this role; the inner header is right behind the outer one. The address
    /// looked up is the inner source at an LMA, the inner destination at a MAG.
    Exit(Role),
    /// From a mobile at a MAG; the source is looked up.
    Access,
    /// On by its destination, which is looked up at an LMA.
    Forward,
}

impl Lane {
    /// What is to be looked up for a packet on this lane.
    #[inline(always)]
    pub(crate) fn wanted<P: PacketBuf>(self, packet: &P) -> Option<(Role, u128)> {
        let frame = Frame::of(packet)?;
        Some(match self {
            Self::Forward => (Role::Lma, frame.ip.destination.get()),
            Self::Access => (Role::Mag, frame.ip.source.get()),
            Self::Exit(role) => {
                let inner = packet.data().get(FRAME_LEN..)?;
                let (ip, _) = Ipv6::ref_from_prefix(inner).ok()?;
                match role {
                    Role::Lma => (role, ip.source.get()),
                    Role::Mag => (role, ip.destination.get()),
                }
            }
            Self::Drop(_) | Self::Local => return None,
        })
    }
}

/// What the first look found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parsed {
    /// The upper half of the address to be looked up.
    pub(crate) key: u64,
    /// In which bucket; [`Home::NOWHERE`] if nothing is to be looked up.
    pub(crate) home: Home,
    pub(crate) lane: Lane,
}

const _: () = assert!(size_of::<Parsed>() == 16);

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
    /// Looks at one frame, cuts off what Ethernet padded it with, and fetches the bucket of the
    /// address that decides where it goes.
    #[inline(always)]
    pub(crate) fn parse<P: PacketBuf>(&self, packet: &mut P) -> Parsed {
        let (lane, total) = self.look(packet);
        packet.truncate(ETHERNET_LEN + total);
        let mut parsed = Parsed {
            key: 0,
            home: Home::NOWHERE,
            lane,
        };
        if let Some((role, address)) = lane.wanted(packet) {
            let [_, key] = halves(address);
            let bindings = match role {
                Role::Lma => self.lma.filter(|lma| lma.may_hold(address)),
                Role::Mag => self.mag,
            };
            if let Some(bindings) = bindings.map(|role| &role.table.bindings) {
                parsed.home = bindings.home_of(key);
                parsed.key = key;
                bindings.prefetch(parsed.home);
            }
        }
        parsed
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
    pub(crate) fn flow<P: PacketBuf>(&self, packet: &P, spread: Spread, seed: Seed) -> Option<u64> {
        let first = Frame::of(packet)?.ip.next_header;
        if spread == Spread::Tunnelled && first != next_header::IPV6 && !walk::is_extension(first) {
            return None;
        }
        let (lane, total) = self.look(packet);
        let frame = packet.data().get(..ETHERNET_LEN + total)?;
        let start = match lane {
            Lane::Forward | Lane::Access if spread == Spread::All => ETHERNET_LEN,
            Lane::Exit(_) => FRAME_LEN,
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

    /// The way, and the IPv6 packet's length.
    #[inline(always)]
    fn look<P: PacketBuf>(&self, packet: &P) -> (Lane, usize) {
        let data = packet.data();
        let Some(frame) = Frame::of(packet) else {
            let reason = match data.get(12..ETHERNET_LEN) {
                Some(ethertype) if ethertype != ETHERTYPE_IPV6.to_be_bytes() => DropReason::NotIpv6,
                Some(_) | None => DropReason::Malformed,
            };
            return (Lane::Drop(reason), data.len());
        };
        let (to, from) = (
            MacAddr(frame.ethernet.destination),
            MacAddr(frame.ethernet.source),
        );
        let total = frame.ip.total_len();
        let ours = to == self.mac || to.is_multicast() || (self.access && to == MacAddr::MAG);
        let lane = if !ours || from.is_multicast() {
            Lane::Drop(DropReason::NotForUs)
        } else if frame.ethernet.ethertype.get() != ETHERTYPE_IPV6 {
            Lane::Drop(DropReason::NotIpv6)
        } else if !frame.ip.is_version_6() || total > data.len() - ETHERNET_LEN {
            Lane::Drop(DropReason::Malformed)
        } else {
            self.way(&frame.ip, to.is_multicast())
        };
        (lane, total)
    }

    /// The way of a whole IPv6 packet.
    #[inline(always)]
    fn way(&self, ip: &Ipv6, group: bool) -> Lane {
        let (source, destination) = (ip.source.get(), ip.destination.get());
        let plain = scope::is_plain(source) & scope::is_plain(destination);
        if plain && !group && !self.own.may_contain(destination) {
            return self.onward();
        }
        self.unusual_way(ip, group)
    }

    /// The way of a packet that nothing but its destination decides.
    #[inline(always)]
    fn onward(&self) -> Lane {
        if self.access {
            Lane::Access
        } else {
            Lane::Forward
        }
    }

    /// The way of a packet to us, to or from an address of a special kind, or to a group of stations.
    #[inline(never)]
    fn unusual_way(&self, ip: &Ipv6, group: bool) -> Lane {
        let (source, destination) = (ip.source.get(), ip.destination.get());
        if scope::is_multicast(source) || source == scope::LOOPBACK {
            return Lane::Drop(DropReason::BadSource);
        }
        if self.own.contains(destination, self.port) {
            // Whoever is on an access link is no tunnel end (RFC 5213 §6.10.3).
            return match decap::tunnel_end(self.lma, self.mag, destination) {
                Some(role) if ip.next_header == next_header::IPV6 && !self.access => {
                    Lane::Exit(role)
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
        self.onward()
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

    #[inline(always)]
    fn bit(address: u128) -> u64 {
        let [low, high] = halves(address);
        1 << ((low ^ high).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
    }

    /// Whether `address` might be ours.
    #[inline(always)]
    fn may_contain(&self, address: u128) -> bool {
        self.filter & Self::bit(address) != 0
    }

    /// Whether packets to `address` that come in on `port` are for us: any address of ours on any
    /// port, but a link-local one only on its own.
    #[inline(always)]
    pub(crate) fn contains(&self, address: u128, port: PortId) -> bool {
        self.may_contain(address)
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
