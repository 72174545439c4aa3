//! What the control plane says, applied between two bursts.

use std::net::Ipv6Addr;

use flow::{
    Counters, DropReason, MacAddr, Path, PathId, PortId, Report, ReportRequest, Role, RouteNext,
    TableUpdate, Transmit, TransmitTo, Tunnel, Update,
};
use ipnet::Ipv6Net;

use super::ways::Hop;
use super::{UPDATE_BATCH, UPDATES_PER_TURN, Worker, one_of};
use crate::egress::Port;
use crate::fate::{Arrival, Fate};
use crate::fib::Fib;
use crate::ingress::OwnAddresses;
use crate::io::PacketIo;
use crate::mtu::LearnedMtus;
use crate::neighbour::{self, Neighbours};
use crate::packet::{PacketBuf, build};
use crate::ring::Order;
use crate::table::path::{Endpoint, State};
use crate::table::{Packed, Rewrite, TableError};

impl<Io: PacketIo> Worker<Io> {
    /// Applies what has come, in order, and lets the control thread see how far it got.
    ///
    /// What comes meanwhile waits for the next turn: one by one, each update would wait for memory by itself.
    pub(super) fn apply_updates(&mut self) {
        if let Some(report) = self.stalled.take() {
            self.answer(report);
        }
        let before = self.updates;
        let mut left = self.rings.waiting().min(UPDATES_PER_TURN);
        let mut fetched = 0;
        while left > 0 && self.stalled.is_none() && !self.stopped {
            if fetched == 0 {
                fetched = UPDATE_BATCH.min(left);
                self.fetch(fetched);
            }
            let (mut applied, mut refused) = self.apply_bindings(fetched);
            if applied == 0 {
                let Some(update) = self.rings.pop_other() else {
                    break;
                };
                (applied, refused) = (1, u64::from(self.apply(update).is_err()));
            }
            left -= applied;
            fetched -= applied;
            self.updates += applied as u64;
            self.updates_refused += refused;
            self.rings.note_applied(applied as u64);
            // It is made of routes, neighbours, pools and addresses, all of which come here.
            self.hop = Hop::NONE;
        }
        if self.updates != before {
            self.rings.publish();
        }
    }

    /// Asks for the buckets and records of all bindings among the next updates, before the first is applied.
    fn fetch(&mut self, count: usize) {
        let Self {
            rings, lma, mag, ..
        } = self;
        let Some((mut orders, _)) = rings.orders(count) else {
            return;
        };
        let (first, second) = orders.as_mut_slices();
        let bindings = || {
            let orders = first.iter().chain(&*second);
            orders.filter_map(|order| match order {
                Order::Binding(packed) => Some(packed),
                Order::Other(_) => None,
            })
        };
        for packed in bindings() {
            packed.prefetch();
            if let Some(state) = one_of(lma, mag, packed.role) {
                state.table.bindings.prefetch_bucket(packed.hnp);
            }
        }
        for packed in bindings() {
            if let Some(state) = one_of(lma, mag, packed.role) {
                state.table.bindings.prefetch_all(packed.hnp);
            }
        }
    }

    /// Applies up to `most` bindings, where they lie in the ring, until something else comes. How many, and how many of
    /// them were refused.
    fn apply_bindings(&mut self, most: usize) -> (usize, u64) {
        let Self {
            rings, lma, mag, ..
        } = self;
        let Some((mut orders, mut spent)) = rings.orders(most) else {
            return (0, 0);
        };
        let (first, second) = orders.as_mut_slices();
        let (mut applied, mut refused) = (0, 0);
        for order in first.iter_mut().chain(second) {
            let Order::Binding(packed) = order else {
                break;
            };
            let state = one_of(lma, mag, packed.role).ok_or(TableError::Role);
            let result = state.and_then(|state| state.set(packed));
            if let Some(rules) = packed.take_rules() {
                spent.give_back(rules);
            }
            refused += u64::from(result.is_err());
            applied += 1;
        }
        orders.commit(applied);
        (applied, refused)
    }

    fn apply(&mut self, update: Update) -> Result<(), TableError> {
        match update {
            Update::Table(role, TableUpdate::Path { id, path }) => self.set_path(role, id, path),
            Update::Table(role, TableUpdate::Binding { hnp, binding }) => {
                // One that could not be packed, or a removal.
                let packed = binding.map(|binding| Packed::of(role, hnp, &binding));
                let packed = packed.transpose()?;
                let state = self.role_mut(role).ok_or(TableError::Role)?;
                if let Some(mut packed) = packed {
                    return state.set(&mut packed);
                }
                state.remove(hnp);
                Ok(())
            }
            Update::Route { prefix, next } => self.set_route(prefix, next),
            Update::Neighbour { port, address, mac } => self.set_neighbour(port, address, mac),
            Update::PathMtu { local, remote, mtu } => {
                self.learn_mtu(Endpoint::Tunnel(local.to_bits(), remote.to_bits()), mtu);
                Ok(())
            }
            Update::Pools(pools) => self.set_pools(&pools),
            Update::Claim { port, address } => {
                self.own.add(address.to_bits(), Some(port));
                self.expect_anew();
                Ok(())
            }
            Update::Peers(peers) => {
                self.police.set_peers(&peers);
                Ok(())
            }
            Update::Capture(filter) => {
                self.set_capture(filter);
                Ok(())
            }
            Update::Transmit(transmit) => {
                self.transmit(&transmit);
                Ok(())
            }
            Update::Report(request) => {
                let report = self.report(request);
                self.answer(report);
                Ok(())
            }
            Update::Stop => {
                self.stopped = true;
                Ok(())
            }
        }
    }

    /// Takes home network prefixes from elsewhere; ports then expect other packets.
    fn set_pools(&mut self, pools: &[Ipv6Net]) -> Result<(), TableError> {
        let lma = self.lma.as_mut().ok_or(TableError::Role)?;
        lma.set_pools(pools);
        self.expect_anew();
        Ok(())
    }

    /// Which packets are usual depends on pools and addresses of ours.
    pub(super) fn expect_anew(&mut self) {
        let own = &self.own;
        if let Some(lma) = &mut self.lma {
            lma.choose_plain_pool(|network, mask| own.any_in(network, mask));
        }
        for port in &mut self.ports {
            port.expect(self.lma.as_ref(), self.mag.as_ref());
        }
    }

    fn set_path(&mut self, role: Role, id: PathId, path: Option<Path>) -> Result<(), TableError> {
        let rewrite = match &path {
            None => Rewrite::default(),
            Some(Path::Link(link)) => {
                let port = self.ports.get(usize::from(link.port.0));
                let port = port.ok_or(TableError::Port(link.port))?;
                Rewrite::link(link.port, port.mac, port.mtu, link.mac)
            }
            Some(Path::Tunnel(tunnel)) => {
                let mut rewrite = Rewrite::tunnel(tunnel);
                let ways = Ways {
                    fib: &self.fib,
                    own: &self.own,
                    ports: &self.ports,
                    mtus: &self.mtus,
                };
                ways.resolve(tunnel, &mut rewrite, &mut self.neighbours);
                rewrite
            }
        };
        let state = self.role_mut(role).ok_or(TableError::Role)?;
        state.table.paths.set(id, path, rewrite)
    }

    /// Creates, replaces or removes a static route; tunnels may lead elsewhere then.
    pub(super) fn set_route(
        &mut self,
        prefix: Ipv6Net,
        next: Option<RouteNext>,
    ) -> Result<(), TableError> {
        let mtu = match next {
            Some(RouteNext::OnLink(port) | RouteNext::Via(port, _)) => {
                let found = self.ports.get(usize::from(port.0));
                found.ok_or(TableError::Port(port))?.mtu
            }
            None => 0,
        };
        let mut adjacency = None;
        if let Some(RouteNext::Via(port, gateway)) = next {
            let gateway = self.neighbours.pin(port, gateway.to_bits());
            adjacency = Some(gateway.ok_or(TableError::Neighbours)?);
        }
        self.fib.set(prefix, next, adjacency, mtu);
        self.resolve_tunnels();
        Ok(())
    }

    /// Finds the next hops and MTUs of all tunnels anew.
    pub(crate) fn resolve_tunnels(&mut self) {
        let ways = Ways {
            fib: &self.fib,
            own: &self.own,
            ports: &self.ports,
            mtus: &self.mtus,
        };
        for role in [&mut self.lma, &mut self.mag].into_iter().flatten() {
            for (path, rewrite) in role.table.paths.iter_mut() {
                if let Path::Tunnel(tunnel) = path {
                    ways.resolve(tunnel, rewrite, &mut self.neighbours);
                }
            }
        }
    }

    fn set_neighbour(
        &mut self,
        port: PortId,
        address: Ipv6Addr,
        mac: Option<MacAddr>,
    ) -> Result<(), TableError> {
        let state = self.ports.get(usize::from(port.0));
        let own = state.ok_or(TableError::Port(port))?.mac;
        let header = mac.map(|mac| neighbour::header(own, mac));
        let (id, waiting) = match header {
            Some(header) => self
                .neighbours
                .resolved(port, address.to_bits(), header)
                .ok_or(TableError::Neighbours)?,
            // A neighbour nobody asked for cannot fail.
            None => match self.neighbours.failed(port, address.to_bits()) {
                Some(failed) => failed,
                None => return Ok(()),
            },
        };
        for role in [&mut self.lma, &mut self.mag].into_iter().flatten() {
            for (_, rewrite) in role.table.paths.iter_mut() {
                if rewrite.adjacency == id {
                    rewrite.set_next_hop(header);
                }
            }
        }
        for held in waiting {
            match header {
                Some(header) => self.release(held, port, header),
                None => self.give_up(held),
            }
        }
        Ok(())
    }

    fn transmit(&mut self, transmit: &Transmit) {
        self.originated += 1;
        let Some(mut packet) = self.io.alloc() else {
            self.count_drop(DropReason::NoBuffer);
            return;
        };
        let fate = if build::copy(&mut packet, &transmit.packet) {
            match transmit.to {
                TransmitTo::Routed => self.own_way(&mut packet),
                TransmitTo::Link(port, mac) => self.link_to(port, mac, &mut packet),
            }
        } else {
            Fate::Drop(DropReason::TooBig)
        };
        self.finish(packet, fate, &Arrival::OWN);
    }

    fn report(&self, request: ReportRequest) -> Report {
        match request {
            ReportRequest::Counters { token } => Report::Counters {
                token,
                worker: self.id,
                counters: Box::new(self.counters()),
            },
            ReportRequest::Binding { token, role, hnp } => {
                let state = self.role(role);
                let counters = state.and_then(|state| state.table.bindings.counters(hnp));
                Report::Binding {
                    token,
                    worker: self.id,
                    counters: counters.map(Box::new),
                }
            }
        }
    }

    /// Hands a report over, or keeps it for the next turn.
    fn answer(&mut self, report: Report) {
        self.stalled = self.rings.push_report(report).err();
    }

    /// What this worker has counted since it started.
    pub fn counters(&self) -> Counters {
        let backlog: usize = self.ports.iter().map(Port::backlog).sum();
        let paths = |role: Role| {
            self.role(role)
                .map(|state| state.table.paths.counters().collect())
                .unwrap_or_default()
        };
        Counters {
            ports: self.ports.iter().map(|port| port.counters).collect(),
            drops: self.drops.to_vec(),
            punted: self.punted,
            consumed: self.consumed,
            originated: self.originated,
            held: (self.neighbours.held() + backlog + self.gathering.held()) as u64,
            fragmented: self.fragmented,
            reassembled: self.reassembled,
            early_fragments: self.firsts.early,
            handed_over: self.peers.as_ref().map_or(0, |peers| peers.handed_over),
            taken_over: self.peers.as_ref().map_or(0, |peers| peers.taken_over),
            lma_paths: paths(Role::Lma),
            mag_paths: paths(Role::Mag),
            turns: self.turns,
            busy_turns: self.busy_turns,
            updates: self.updates,
            updates_refused: self.updates_refused,
        }
    }
}

/// What decides where tunnels lead.
struct Ways<'a, P> {
    fib: &'a Fib,
    own: &'a OwnAddresses,
    ports: &'a [Port<P>],
    mtus: &'a LearnedMtus,
}

impl<P: PacketBuf> Ways<'_, P> {
    /// Finds a tunnel's next hop and MTU and sets its rewrite accordingly.
    fn resolve(&self, tunnel: &Tunnel, rewrite: &mut Rewrite, neighbours: &mut Neighbours<P>) {
        let remote = tunnel.remote.to_bits();
        if tunnel.local == tunnel.remote || self.own.is_ours(remote) {
            rewrite.state = State::TunnelLoop;
            return;
        }
        let hop = self.fib.pin(remote, neighbours);
        let port = |port: PortId| self.ports.get(usize::from(port.0));
        let Some((hop, adjacency, port)) =
            hop.and_then(|(hop, adjacency)| Some((hop, adjacency, port(hop.port)?)))
        else {
            rewrite.state = State::TunnelUnreachable;
            return;
        };
        rewrite.port = hop.port.into();
        let learned = self
            .mtus
            .of(&Endpoint::Tunnel(tunnel.local.to_bits(), remote));
        let mtu = learned.unwrap_or(u16::MAX).min(tunnel.path_mtu);
        rewrite.set_mtu(mtu.min(port.mtu), tunnel);
        rewrite.adjacency = adjacency;
        rewrite.state = State::TunnelUnresolved;
        rewrite.set_next_hop(neighbours.get(adjacency).and_then(|entry| entry.header));
    }
}
