//! What is known of the process.

use std::collections::VecDeque;
use std::net::Ipv6Addr;

use flow::{DropReason, MacAddr, MnId, Path, Role};

use super::ask::{Happening, Tables};
use super::rates::{Answered, Keyed, Series, number, sum};
use crate::api::mobiles::MobileRow;
use crate::api::{BindingRow, DropRow, FlowRow, PathRow, PeerRow, PortRow, Status, WorkerRow};
use crate::mn::status as mn;

/// Events that are kept.
const KEPT: usize = 1000;

/// All of it, with what is needed for rates.
#[derive(Debug, Default)]
pub(super) struct Data {
    pub(super) status: Option<Status>,
    pub(super) peers: Vec<PeerRow>,
    pub(super) ports: Series<PortRow>,
    pub(super) paths: Series<PathRow>,
    pub(super) workers: Series<WorkerRow>,
    pub(super) drops: Series<DropRow>,
    pub(super) mobiles: Series<MobileRow>,
    pub(super) flows: Series<FlowRow>,
    pub(super) bindings: Vec<BindingRow>,
    /// A mobile node's accesses.
    pub(super) accesses: Series<mn::AccessRow>,
    /// Its prefixes.
    pub(super) prefixes: Vec<mn::PrefixRow>,
    /// Its flows.
    pub(super) uplinks: Series<mn::FlowRow>,
    /// What happened, the latest first.
    pub(super) events: VecDeque<Happening>,
    /// The number of the last event of this process.
    pub(super) last_event: u64,
}

/// The traffic of all ports together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Total {
    pub(super) in_packets: Option<f64>,
    pub(super) in_bits: Option<f64>,
    pub(super) out_packets: Option<f64>,
    pub(super) out_bits: Option<f64>,
}

impl Data {
    /// Takes what the process says now.
    pub(super) fn take(&mut self, tables: Tables) {
        let known = self.status.as_ref();
        if known.is_some_and(|known| known.uptime_seconds > tables.status.uptime_seconds) {
            self.begin_anew();
        }
        self.peers = tables.peers.map(|peers| peers.value).unwrap_or_default();
        self.bindings = tables.bindings.map(|rows| rows.value).unwrap_or_default();
        self.ports.take(tables.ports);
        self.paths.take(tables.paths);
        self.workers.take(tables.workers);
        self.mobiles.take(tables.mobiles);
        self.flows.take(tables.flows);
        match tables.mn {
            Some(answered) => self.take_mobile_node(answered),
            None => self.drops.take(tables.drops),
        }
        self.status = Some(tables.status);
        for event in tables.events {
            self.last_event = self.last_event.max(event.id);
            self.events.push_front(event);
        }
        self.events.truncate(KEPT);
    }

    /// Another process answers than before: its counters and the numbers of its events have nothing to do with what
    /// is known. What has happened before it stays worth reading.
    fn begin_anew(&mut self) {
        *self = Self {
            events: std::mem::take(&mut self.events),
            ..Self::default()
        };
    }

    fn take_mobile_node(&mut self, Answered { at, value }: Answered<mn::MnStatus>) {
        let meaning = |reason: &str| {
            let known = DropReason::ALL.iter().find(|known| known.name() == reason);
            known.map_or("", |known| known.meaning()).to_owned()
        };
        let drops = value.drops.into_iter().map(|row| DropRow {
            plane: "data-plane".to_owned(),
            meaning: meaning(&row.reason),
            reason: row.reason,
            packets: row.packets,
        });
        self.drops.take(Some(Answered {
            at,
            value: drops.collect(),
        }));
        self.accesses.take(Some(Answered {
            at,
            value: value.accesses,
        }));
        self.uplinks.take(Some(Answered {
            at,
            value: value.flows,
        }));
        self.prefixes = value.prefixes;
    }

    /// Whether it is one.
    pub(super) fn is_mobile_node(&self) -> bool {
        let status = self.status.as_ref();
        status.is_some_and(|status| status.roles.iter().all(|role| role == "mn"))
    }

    /// The traffic of all ports or accesses together.
    pub(super) fn total(&self) -> Total {
        if self.is_mobile_node() {
            let accesses = || self.accesses.counted();
            return Total {
                in_packets: sum(accesses().map(|a| a.rate(|a| a.rx_packets))),
                out_packets: sum(accesses().map(|a| a.rate(|a| a.tx_packets))),
                ..Total::default()
            };
        }
        let ports = || self.ports.counted();
        Total {
            in_packets: sum(ports().map(|port| port.rate(|p| p.rx_packets))),
            in_bits: sum(ports().map(|port| port.bits(|p| p.rx_octets))),
            out_packets: sum(ports().map(|port| port.rate(|p| p.tx_packets))),
            out_bits: sum(ports().map(|port| port.bits(|p| p.tx_octets))),
        }
    }

    /// The share of turns, of all workers, in which there was something to do.
    pub(super) fn load(&self) -> Option<f64> {
        let workers = || self.workers.counted();
        let turns: Option<u64> = workers().map(|w| w.growth(|w| w.turns)).sum();
        let busy: Option<u64> = workers().map(|w| w.growth(|w| w.busy_turns)).sum();
        share(busy?, turns?)
    }

    /// The accesses of a mobile.
    pub(super) fn accesses_of(&self, role: Role, mn: &MnId) -> impl Iterator<Item = &BindingRow> {
        let rows = self.bindings.iter();
        rows.filter(move |row| row.role == role && row.mn == *mn)
    }

    /// The name of the peer at the other end of a tunnel.
    pub(super) fn peer(&self, role: Role, address: Ipv6Addr) -> Option<&str> {
        let peers = &mut self.peers.iter();
        let peer = peers.find(|peer| peer.role == role && peer.address == address)?;
        Some(&peer.name)
    }
}

/// A part of a whole, between 0 and 1.
pub(super) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| (number(part) / number(whole)).min(1.0))
}

impl Keyed for PortRow {
    type Key = String;

    fn key(&self) -> String {
        self.name.clone()
    }
}

impl Keyed for PathRow {
    /// Numbers are given again: the ends say whether it is the same path still.
    type Key = (Role, u16, Result<Ipv6Addr, MacAddr>);

    fn key(&self) -> Self::Key {
        let end = match self.path {
            Path::Tunnel(tunnel) => Ok(tunnel.remote),
            Path::Link(link) => Err(link.mac),
        };
        (self.role, self.id, end)
    }
}

impl Keyed for WorkerRow {
    type Key = u16;

    fn key(&self) -> u16 {
        self.id
    }
}

impl Keyed for DropRow {
    type Key = (String, String);

    fn key(&self) -> Self::Key {
        (self.plane.clone(), self.reason.clone())
    }
}

impl Keyed for MobileRow {
    type Key = (Role, MnId);

    fn key(&self) -> Self::Key {
        (self.role, self.mn.clone())
    }
}

impl Keyed for FlowRow {
    type Key = (Role, MnId, Option<u16>, String);

    fn key(&self) -> Self::Key {
        let selector = self.selector_text.clone();
        (self.role, self.mn.clone(), self.fid, selector)
    }
}

impl Keyed for mn::AccessRow {
    type Key = String;

    fn key(&self) -> String {
        self.name.clone()
    }
}

impl Keyed for mn::FlowRow {
    type Key = (Ipv6Addr, Ipv6Addr, u8, Option<(u16, u16)>);

    fn key(&self) -> Self::Key {
        (self.source, self.destination, self.protocol, self.ports)
    }
}
