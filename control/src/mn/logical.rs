//! The logical interface as a state machine without input or output.
//!
//! Frames and packets go in through `handle_*`; the packet itself comes back as a slice or a
//! header, so forwarding does not allocate. Afterwards, call [`LogicalInterface::poll_output`]
//! until it is empty, then [`LogicalInterface::poll_event`], and [`LogicalInterface::handle_timeout`] at
//! [`LogicalInterface::poll_timeout`].

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use flow::{DropReason, Hnp, MacAddr};

use super::flows::FlowTable;
use super::status::{AccessRow, DropRow, FlowRow, MnStatus, PrefixRow};
use super::{AccessId, MnSettings};
use crate::api::event::What;
use crate::log::LogRate;
use nd::host::{self, Message, NeighbourSolicitation, RouterAdvertisement};
use nd::packet::{ETHERNET_LEN, FiveTuple, Ipv6, ethernet_payload, next_header};

/// Least MTU of an IPv6 link (RFC 8200 §5).
const MIN_MTU: u32 = 1280;
/// First pause between solicitations. RFC 4861 §10 waits 4 s from the start; a mobile that waits
/// for its prefix cannot.
const SOLICIT_FIRST: Duration = Duration::from_millis(250);
/// Longest pause: RTR_SOLICITATION_INTERVAL of RFC 4861 §10. They go on for ever (RFC 7559).
const SOLICIT_MAX: Duration = Duration::from_secs(4);
/// Flows remembered.
const MAX_FLOWS: usize = 65_536;
/// Prefixes held; a router that advertises more is broken.
const MAX_PREFIXES: usize = 64;
/// Moves of flows that are told in a second. There may be one for each packet, if the network wants to.
const MOVES_TOLD: u32 = 10;

/// What the outside must do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Output {
    /// Send this frame.
    Transmit(AccessId, Vec<u8>),
    /// Put this address on the logical interface.
    AddAddress(Ipv6Addr),
    /// Take it away.
    RemoveAddress(Ipv6Addr),
    /// Set the logical interface's MTU, in octets.
    SetMtu(u32),
    /// Make the logical interface the default route, or no longer.
    DefaultRoute(bool),
}

/// How an access is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    /// Its station address.
    pub(crate) mac: MacAddr,
    /// Its MTU, in octets.
    pub(crate) mtu: u32,
    /// Whether it is up.
    pub(crate) up: bool,
}

/// The logical interface of a mobile node.
#[derive(Debug)]
pub(crate) struct LogicalInterface {
    settings: MnSettings,
    accesses: Vec<Access>,
    prefixes: BTreeMap<Hnp, Prefix>,
    flows: FlowTable,
    outputs: VecDeque<Output>,
    events: VecDeque<(bool, What)>,
    mtu: u32,
    default_route: bool,
    drops: BTreeMap<DropReason, u64>,
    start: Instant,
    /// How often flows came to another access, and how often that may be told.
    moves: u64,
    told: LogRate,
}

#[derive(Debug)]
struct Access {
    /// As it was last; `None` if there has been no interface yet.
    link: Option<Link>,
    router: Option<Router>,
    /// The router that was told of.
    told: Option<Ipv6Addr>,
    /// When to ask next and how long to wait after that; `None` while a router is known or the
    /// link is down.
    solicit: Option<(Instant, Duration)>,
    rx_packets: u64,
    delivered: u64,
    discovery: u64,
    tx_packets: u64,
    originated: u64,
}

#[derive(Debug)]
struct Router {
    address: Ipv6Addr,
    mac: MacAddr,
    mtu: u32,
    expires: Instant,
}

#[derive(Debug)]
struct Prefix {
    address: Ipv6Addr,
    /// Until when each access's router vouches for it.
    valid: BTreeMap<AccessId, Validity>,
}

/// The end of a prefix's life; `Until` sorts before `Forever`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Validity {
    Until(Instant),
    Forever,
}

impl LogicalInterface {
    /// An interface over `links`, given in the order of `settings.accesses`; `None` for an access whose interface is
    /// not there yet. It starts to solicit routers at once.
    pub(crate) fn new(settings: MnSettings, links: &[Option<Link>], now: Instant) -> Self {
        let accesses = links.iter().map(|link| Access::new(*link, now)).collect();
        let mtu = links.iter().flatten().map(|l| l.mtu).min();
        let mtu = mtu.unwrap_or(MIN_MTU).max(MIN_MTU);
        let mut out = Self {
            settings,
            accesses,
            prefixes: BTreeMap::new(),
            flows: FlowTable::new(MAX_FLOWS),
            outputs: VecDeque::from([Output::SetMtu(mtu)]),
            events: VecDeque::new(),
            mtu,
            default_route: false,
            drops: BTreeMap::new(),
            start: now,
            moves: 0,
            told: LogRate::new(MOVES_TOLD),
        };
        for (number, link) in links.iter().enumerate() {
            out.tell_link(AccessId(number), link.is_some_and(|link| link.up));
        }
        out
    }

    /// A frame arrived on an access. The result is the packet for the logical interface, if the
    /// frame carries one.
    pub(crate) fn handle_frame<'a>(
        &mut self,
        access: AccessId,
        frame: &'a [u8],
        now: Instant,
    ) -> Option<&'a [u8]> {
        let own = self.accesses.get_mut(access.0)?;
        own.rx_packets += 1;
        let mac = own.link?.mac;
        match self.receive(access, mac, frame, now) {
            Ok(packet) => {
                let own = self.accesses.get_mut(access.0)?;
                match packet {
                    Some(_) => own.delivered += 1,
                    None => own.discovery += 1,
                }
                packet
            }
            Err(reason) => {
                self.count_drop(reason);
                None
            }
        }
    }

    /// `Ok(None)` is a frame that has been dealt with here.
    fn receive<'a>(
        &mut self,
        access: AccessId,
        mac: MacAddr,
        frame: &'a [u8],
        now: Instant,
    ) -> Result<Option<&'a [u8]>, DropReason> {
        let (to, from) = stations(frame).ok_or(DropReason::Malformed)?;
        if to != mac && !to.is_multicast() {
            return Err(DropReason::NotForUs);
        }
        let payload = ethernet_payload(frame).ok_or(DropReason::NotIpv6)?;
        let ip = Ipv6::parse(payload).ok_or(DropReason::Malformed)?;
        if ip.source.is_multicast() || ip.source.is_loopback() {
            return Err(DropReason::BadSource);
        }
        let discovery = ip.next_header == next_header::ICMPV6
            && ip.payload.first().is_some_and(|kind| host::is_ndp(*kind));
        if discovery {
            match host::decode(&ip).ok_or(DropReason::BadIcmp)? {
                Message::RouterAdvertisement(ra) => self.advertised(access, &ra, from, now),
                Message::NeighbourSolicitation(ns) => self.solicited(access, &ns, from),
                Message::Other => {}
            }
            return Ok(None);
        }
        if ip.destination.is_multicast() {
            return Err(DropReason::Multicast);
        }
        if ip.destination.is_unicast_link_local() || ip.source.is_unicast_link_local() {
            return Err(DropReason::LinkLocal);
        }
        if !self.owns(ip.destination) {
            return Err(DropReason::NotForUs);
        }
        let flow = ip.five_tuple().reversed();
        if let Some(from) = self.flows.downlink(flow, access) {
            self.moved(&flow, from, access, now);
        }
        Ok(Some(ip.packet))
    }

    /// A packet from the logical interface. The result says where it goes and with which Ethernet
    /// header.
    pub(crate) fn handle_packet(
        &mut self,
        packet: &[u8],
    ) -> Option<(AccessId, [u8; ETHERNET_LEN])> {
        let sent = self.route(packet).and_then(|id| {
            let access = self.accesses.get_mut(id.0).ok_or(DropReason::NoPath)?;
            let router = access.router.as_ref().ok_or(DropReason::NoRoute)?;
            let link = access.link.ok_or(DropReason::NoRoute)?;
            access.tx_packets += 1;
            Ok((id, host::ethernet(link.mac, router.mac)))
        });
        sent.map_err(|reason| self.count_drop(reason)).ok()
    }

    /// The access an uplink packet leaves on: that of its flow's downlink (RFC 7847 §5.2), else the
    /// lowest numbered one whose router advertises the source's prefix, else any with a router.
    fn route(&mut self, packet: &[u8]) -> Result<AccessId, DropReason> {
        let ip = Ipv6::parse(packet).ok_or(DropReason::Malformed)?;
        if ip.destination.is_multicast() {
            return Err(DropReason::Multicast);
        }
        if ip.destination.is_unicast_link_local() || ip.source.is_unicast_link_local() {
            return Err(DropReason::LinkLocal);
        }
        if !self.owns(ip.source) {
            return Err(DropReason::IngressFilter);
        }
        let tuple: FiveTuple = ip.five_tuple();
        let followed = self.flows.uplink(&tuple).filter(|id| self.has_router(*id));
        followed
            .or_else(|| {
                let prefix = self.prefix_of(ip.source)?;
                prefix.valid.keys().copied().find(|id| self.has_router(*id))
            })
            .or_else(|| self.ids().find(|id| self.has_router(*id)))
            .ok_or(DropReason::NoRoute)
    }

    /// The link of an access went up or down, or has another address or MTU.
    pub(crate) fn handle_link(&mut self, access: AccessId, link: Link, now: Instant) {
        let Some(own) = self.accesses.get_mut(access.0) else {
            return;
        };
        let before = own.link.replace(link);
        if before == Some(link) {
            return;
        }
        // The prefix may come back over another MAG within its lifetime: sessions must not lose
        // their address in between, so only the router goes. Under another link-layer address, this is another
        // interface to a MAG, which has to attach first.
        own.router = None;
        own.solicit = link.up.then_some((now, SOLICIT_FIRST));
        if before.is_some_and(|before| before.up) != link.up {
            self.tell_link(access, link.up);
        }
        self.settle();
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for (number, access) in self.accesses.iter_mut().enumerate() {
            if access.router.as_ref().is_some_and(|r| r.expires <= now) {
                access.router = None;
                access.solicit = Some((now, SOLICIT_FIRST));
            }
            if let (Some((due, pause)), Some(link)) = (access.solicit, access.link)
                && due <= now
            {
                let frame = host::router_solicitation(link.mac);
                access.originated += 1;
                access.solicit = Some((now + pause, (pause * 2).min(SOLICIT_MAX)));
                let output = Output::Transmit(AccessId(number), frame);
                self.outputs.push_back(output);
            }
        }
        for prefix in self.prefixes.values_mut() {
            prefix.valid.retain(|_, v| *v > Validity::Until(now));
        }
        self.settle();
    }

    /// When [`LogicalInterface::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let routers = self.accesses.iter().filter_map(|a| a.router.as_ref());
        let solicits = self.accesses.iter().filter_map(|a| a.solicit);
        let prefixes = self.prefixes.values().flat_map(|p| p.valid.values());
        let prefixes = prefixes.filter_map(|v| match v {
            Validity::Until(end) => Some(*end),
            Validity::Forever => None,
        });
        let others = solicits.map(|(due, _)| due).chain(prefixes);
        routers.map(|r| r.expires).chain(others).min()
    }

    /// The next thing the outside must do.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The next thing that has happened, and whether somebody should look at it.
    pub(crate) fn poll_event(&mut self) -> Option<(bool, What)> {
        self.events.pop_front()
    }

    /// A packet that had its place could not be handed on by the outside.
    pub(crate) fn count_drop(&mut self, reason: DropReason) {
        *self.drops.entry(reason).or_default() += 1;
    }

    fn advertised(&mut self, id: AccessId, ra: &RouterAdvertisement, from: MacAddr, now: Instant) {
        for info in &ra.prefixes {
            // RFC 4862 §5.5.3: the prefix and the interface identifier must fill an address.
            let usable = info.autonomous && info.len == 64;
            let prefix = Hnp::new(info.prefix, info.len).ok().filter(|_| usable);
            let routable = |p: &Hnp| !p.addr().is_unicast_link_local() && !p.addr().is_multicast();
            if let Some(prefix) = prefix.filter(routable) {
                self.learn_prefix(prefix, id, info.valid, now);
            }
        }
        let Some(access) = self.accesses.get_mut(id.0) else {
            return;
        };
        let Some(link) = access.link else {
            return;
        };
        if ra.lifetime.is_zero() {
            access.router = None;
            access.solicit = Some((now + SOLICIT_MAX, SOLICIT_MAX));
        } else {
            let mtu = ra.mtu.filter(|m| *m >= MIN_MTU);
            access.router = Some(Router {
                address: ra.router,
                mac: ra.link_layer.unwrap_or(from),
                mtu: mtu.unwrap_or(link.mtu).min(link.mtu),
                expires: now + ra.lifetime,
            });
            access.solicit = None;
        }
        self.settle();
    }

    fn learn_prefix(
        &mut self,
        prefix: Hnp,
        id: AccessId,
        lifetime: Option<Duration>,
        now: Instant,
    ) {
        let full = self.prefixes.len() >= MAX_PREFIXES;
        if lifetime == Some(Duration::ZERO) {
            if let Some(known) = self.prefixes.get_mut(&prefix) {
                known.valid.remove(&id);
            }
            return;
        }
        if full && !self.prefixes.contains_key(&prefix) {
            return;
        }
        let mut octets = prefix.addr().octets();
        let (_, low) = octets.split_at_mut(8);
        low.copy_from_slice(&self.settings.interface_id);
        let address = Ipv6Addr::from(octets);
        let entry = self.prefixes.entry(prefix).or_insert_with(|| {
            self.outputs.push_back(Output::AddAddress(address));
            let gained = What::PrefixGained { prefix, address };
            self.events.push_back((false, gained));
            Prefix {
                address,
                valid: BTreeMap::new(),
            }
        });
        let until = lifetime.map_or(Validity::Forever, |l| Validity::Until(now + l));
        entry.valid.insert(id, until);
    }

    fn solicited(&mut self, id: AccessId, ns: &NeighbourSolicitation, from: MacAddr) {
        let known = self.owns(ns.target);
        let Some(access) = self.accesses.get_mut(id.0) else {
            return;
        };
        let Some(Link { mac, .. }) = access.link else {
            return;
        };
        // Every access answers for every address: after a move, a MAG asks for an address whose
        // prefix it never advertised.
        if known || ns.target == mac.link_local() {
            access.originated += 1;
            let frame = host::neighbour_advertisement(mac, ns, from);
            self.outputs.push_back(Output::Transmit(id, frame));
        }
    }

    /// Removes what has expired and tells the outside what changed.
    fn settle(&mut self) {
        let (outputs, events) = (&mut self.outputs, &mut self.events);
        self.prefixes.retain(|prefix, entry| {
            let keep = !entry.valid.is_empty();
            if !keep {
                let (prefix, address) = (*prefix, entry.address);
                outputs.push_back(Output::RemoveAddress(address));
                events.push_back((true, What::PrefixLost { prefix, address }));
            }
            keep
        });
        for (own, settings) in self.accesses.iter_mut().zip(&self.settings.accesses) {
            let router = own.router.as_ref().map(|router| router.address);
            let told = std::mem::replace(&mut own.told, router);
            if told == router {
                continue;
            }
            let access = || settings.name.clone();
            if let (None, Some(router)) = (router, told) {
                let access = access();
                events.push_back((true, What::RouterLost { access, router }));
            }
            if let Some(router) = router {
                let access = access();
                events.push_back((false, What::RouterFound { access, router }));
            }
        }
        let routers = self.accesses.iter().filter_map(|a| a.router.as_ref());
        // Without any router the MTU stays: packets that wait in sockets were cut for it.
        let mtu = routers.map(|r| r.mtu).min().unwrap_or(self.mtu);
        if mtu != self.mtu {
            self.mtu = mtu;
            self.outputs.push_back(Output::SetMtu(mtu));
        }
        let default_route = self.accesses.iter().any(|a| a.router.is_some());
        if default_route != self.default_route {
            self.default_route = default_route;
            self.outputs.push_back(Output::DefaultRoute(default_route));
        }
    }

    fn tell_link(&mut self, id: AccessId, up: bool) {
        let Some(settings) = self.settings.accesses.get(id.0) else {
            return;
        };
        let (access, interface) = (settings.name.clone(), settings.interface.clone());
        self.events.push_back(if up {
            (false, What::AccessUp { access, interface })
        } else {
            (true, What::AccessDown { access, interface })
        });
    }

    /// A flow's downlink came to another access than before, and its uplink goes there too.
    fn moved(&mut self, flow: &FiveTuple, from: AccessId, to: AccessId, now: Instant) {
        self.moves += 1;
        let since = now.saturating_duration_since(self.start);
        if self.told.allow(since) {
            let moved = What::UplinkMoved {
                source: flow.source,
                destination: flow.destination,
                protocol: flow.protocol,
                ports: flow.ports,
                from: self.name(from),
                to: self.name(to),
                untold: self.told.suppressed(),
            };
            self.events.push_back((false, moved));
        }
    }

    fn name(&self, id: AccessId) -> String {
        let access = self.settings.accesses.get(id.0);
        access.map_or_else(String::new, |a| a.name.clone())
    }

    fn ids(&self) -> impl Iterator<Item = AccessId> + use<> {
        (0..self.accesses.len()).map(AccessId)
    }

    fn has_router(&self, id: AccessId) -> bool {
        self.accesses.get(id.0).is_some_and(|a| a.router.is_some())
    }

    fn prefix_of(&self, address: Ipv6Addr) -> Option<&Prefix> {
        let prefix = Hnp::new(address, 64).ok()?;
        self.prefixes.get(&prefix)
    }

    fn owns(&self, address: Ipv6Addr) -> bool {
        self.prefix_of(address)
            .is_some_and(|p| p.address == address)
    }

    /// The state for people and programs.
    pub(crate) fn status(&self) -> MnStatus {
        let mut flows: Vec<FlowRow> = self
            .flows
            .iter()
            .map(|(tuple, flow)| FlowRow {
                source: tuple.source,
                destination: tuple.destination,
                protocol: tuple.protocol,
                ports: tuple.ports,
                access: self.name(flow.access),
                downlink_packets: flow.downlink,
                uplink_packets: flow.uplink,
                moves: flow.moves,
            })
            .collect();
        flows.sort_by_key(|f| std::cmp::Reverse(f.downlink_packets));
        flows.truncate(MnStatus::MAX_FLOWS);
        MnStatus {
            flows,
            ..self.summary()
        }
    }

    /// The same without the flows.
    pub(crate) fn summary(&self) -> MnStatus {
        let name = |id: AccessId| self.name(id);
        let prefixes = self.prefixes.iter().map(|(prefix, entry)| PrefixRow {
            prefix: *prefix,
            address: entry.address,
            accesses: entry.valid.keys().copied().map(name).collect(),
        });
        let drops = self.drops.iter().map(|(reason, packets)| DropRow {
            reason: reason.name().to_owned(),
            packets: *packets,
        });
        let accesses = self.settings.accesses.iter().zip(&self.accesses);
        MnStatus {
            interface: self.settings.interface.clone(),
            mtu: self.mtu,
            prefixes: prefixes.collect(),
            accesses: accesses
                .map(|(settings, access)| access.row(&settings.name, &settings.interface))
                .collect(),
            flows: Vec::new(),
            flow_count: self.flows.len(),
            flow_moves: self.moves,
            drops: drops.collect(),
        }
    }
}

impl Access {
    fn new(link: Option<Link>, now: Instant) -> Self {
        let up = link.is_some_and(|link| link.up);
        Self {
            link,
            router: None,
            told: None,
            solicit: up.then_some((now, SOLICIT_FIRST)),
            rx_packets: 0,
            delivered: 0,
            discovery: 0,
            tx_packets: 0,
            originated: 0,
        }
    }

    fn row(&self, name: &str, interface: &str) -> AccessRow {
        AccessRow {
            name: name.to_owned(),
            interface: interface.to_owned(),
            mac: self.link.map(|link| link.mac),
            up: self.link.is_some_and(|link| link.up),
            router: self.router.as_ref().map(|r| r.address),
            router_mac: self.router.as_ref().map(|r| r.mac),
            rx_packets: self.rx_packets,
            delivered: self.delivered,
            discovery: self.discovery,
            tx_packets: self.tx_packets,
            originated: self.originated,
        }
    }
}

/// Destination and source of an Ethernet frame.
fn stations(frame: &[u8]) -> Option<(MacAddr, MacAddr)> {
    let station = |at: usize| Some(MacAddr(frame.get(at..at + 6)?.try_into().ok()?));
    Some((station(0)?, station(6)?))
}

#[cfg(test)]
mod tests;
