//! The tables that can be looked at, made from what is known.

mod mobile_node;
mod traffic;

use std::fmt::Display;

use flow::{MnId, Role};

use super::ask::Wanted;
use super::data::{Data, share};
use super::grid::{Cell, Column, Grid, Row, Subject};
use super::rates::{Counted, number};
use crate::api::mobiles::{MobileRow, MobileTraffic};
use crate::api::{BindingRow, DropRow, FlowRow, WorkerRow};

/// A table of the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum View {
    /// Ports and paths, or a mobile node's accesses.
    #[default]
    Traffic,
    /// Mobiles.
    Mobiles,
    /// Flow rules, or a mobile node's flows.
    Flows,
    /// The binding cache or the binding update list, or a mobile node's prefixes.
    Bindings,
    /// Workers.
    Workers,
    /// Drops.
    Drops,
    /// Events.
    Events,
}

impl View {
    /// In the order of their keys, from 1.
    pub(super) const ALL: [Self; 7] = [
        Self::Traffic,
        Self::Mobiles,
        Self::Flows,
        Self::Bindings,
        Self::Workers,
        Self::Drops,
        Self::Events,
    ];

    /// Its name.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Traffic => "Traffic",
            Self::Mobiles => "Mobiles",
            Self::Flows => "Flows",
            Self::Bindings => "Bindings",
            Self::Workers => "Workers",
            Self::Drops => "Drops",
            Self::Events => "Events",
        }
    }

    /// What it needs of the tables that may be long.
    pub(super) fn wanted(self) -> Wanted {
        Wanted {
            mobiles: self == Self::Mobiles,
            flows: self == Self::Flows,
            // Who moves a flow has to choose among the accesses.
            bindings: matches!(self, Self::Flows | Self::Bindings),
            events_after: 0,
        }
    }

    /// The table as it is now.
    pub(super) fn grid(self, data: &Data) -> Grid {
        let mobile_node = data.is_mobile_node();
        match self {
            Self::Traffic => traffic::all(data),
            Self::Mobiles => table(MOBILES, data.mobiles.counted().map(mobile)),
            Self::Flows if mobile_node => mobile_node::uplinks(data),
            Self::Flows => table(FLOWS, data.flows.counted().map(flow)),
            Self::Bindings if mobile_node => mobile_node::prefixes(data),
            Self::Bindings => table(BINDINGS, data.bindings.iter().map(binding)),
            Self::Workers => table(WORKERS, data.workers.counted().map(worker)),
            Self::Drops => table(DROPS, data.drops.counted().map(drop)),
            Self::Events => table(EVENTS, data.events.iter().map(event)),
        }
    }
}

/// The flows of one mobile.
pub(super) fn flows_of(data: &Data, role: Role, mn: &MnId) -> Grid {
    let flows = data.flows.counted();
    let own = flows.filter(|flow| flow.row.role == role && flow.row.mn == *mn);
    table(FLOWS, own.map(flow))
}

/// The accesses of one mobile.
pub(super) fn accesses_of(data: &Data, role: Role, mn: &MnId) -> Grid {
    table(BINDINGS, data.accesses_of(role, mn).map(binding))
}

fn table(columns: &'static [Column], rows: impl Iterator<Item = Row>) -> Grid {
    Grid {
        columns,
        rows: rows.collect(),
    }
}

const MOBILES: &[Column] = &[
    ("MN", false),
    ("DOWN PKT/S", true),
    ("DOWN BIT/S", true),
    ("UP PKT/S", true),
    ("UP BIT/S", true),
    ("ACCESSES", true),
    ("FLOWS", true),
    ("DOWN PACKETS", true),
    ("UP PACKETS", true),
    ("ROLE", false),
];

fn mobile(mobile: Counted<'_, MobileRow>) -> Row {
    let row = mobile.row;
    let counted = row.traffic.is_some();
    let of = |counter: fn(&MobileTraffic) -> u64| {
        // What was not counted before has not grown since.
        move |row: &MobileRow| row.traffic.as_ref().map_or(u64::MAX, counter)
    };
    let rate = |counter| Cell::rate(mobile.rate(of(counter)).filter(|_| counted));
    let bits = |counter| Cell::rate(mobile.bits(of(counter)).filter(|_| counted));
    let total = |counter: fn(&MobileTraffic) -> u64| {
        let counted = row.traffic.as_ref().map(counter);
        counted.map_or_else(Cell::none, Cell::number)
    };
    Row {
        subject: Subject::Mobile {
            role: row.role,
            mn: row.mn.clone(),
            access: None,
        },
        loud: false,
        cells: vec![
            Cell::text(row.mn.as_str()),
            rate(|t| t.downlink_packets),
            bits(|t| t.downlink_octets),
            rate(|t| t.uplink_packets),
            bits(|t| t.uplink_octets),
            Cell::number(row.accesses as u64),
            Cell::number(row.flows as u64),
            total(|t| t.downlink_packets),
            total(|t| t.uplink_packets),
            Cell::text(row.role.to_string()),
        ],
    }
}

const FLOWS: &[Column] = &[
    ("MN", false),
    ("FID", true),
    ("PKT/S", true),
    ("PACKETS", true),
    ("BID", true),
    ("VIA", false),
    ("STATE", false),
    ("PRIORITY", true),
    ("SELECTOR", false),
];

fn flow(flow: Counted<'_, FlowRow>) -> Row {
    let row = flow.row;
    // A MAG does not count them.
    let counted = row.role == Role::Lma;
    let packets = if counted {
        Cell::number(row.packets)
    } else {
        Cell::none()
    };
    Row {
        subject: Subject::Flow {
            role: row.role,
            mn: row.mn.clone(),
            fid: row.fid,
            selector: row.selector_text.clone(),
        },
        loud: row.state != "active",
        cells: vec![
            Cell::text(row.mn.as_str()),
            small(row.fid),
            Cell::rate(flow.rate(|f| f.packets).filter(|_| counted)),
            packets,
            small(row.bid),
            Cell::optional(row.via.as_ref()),
            Cell::text(&row.state),
            small(row.priority),
            Cell::text(&row.selector_text),
        ],
    }
}

const BINDINGS: &[Column] = &[
    ("MN", false),
    ("BID", true),
    ("ATT", false),
    ("PEER", false),
    ("STATE", false),
    ("LEFT S", true),
    ("PREFIXES", false),
    ("GRANTED", false),
    ("LINK LAYER", false),
    ("ROLE", false),
];

fn binding(row: &BindingRow) -> Row {
    let access = match (row.bid, &row.port, &row.link_layer) {
        (Some(bid), ..) => bid.to_string(),
        (None, Some(port), _) => port.clone(),
        (None, None, link_layer) => link_layer.clone().unwrap_or_default(),
    };
    Row {
        subject: Subject::Mobile {
            role: row.role,
            mn: row.mn.clone(),
            access: Some(access),
        },
        loud: row.state != "active",
        cells: vec![
            Cell::text(row.mn.as_str()),
            small(row.bid),
            Cell::text(&row.access_technology),
            Cell::text(&row.peer),
            Cell::text(&row.state),
            Cell::number(row.remaining_seconds),
            list(&row.prefixes),
            list(&row.granted),
            Cell::optional(row.link_layer.as_ref()),
            Cell::text(row.role.to_string()),
        ],
    }
}

const WORKERS: &[Column] = &[
    ("WORKER", true),
    ("CORE", true),
    ("LOAD", true),
    ("", false),
    ("RX PKT/S", true),
    ("TX PKT/S", true),
    ("DROPS/S", true),
    ("PUNTS/S", true),
    ("HANDED/S", true),
    ("TAKEN/S", true),
    ("UPDATES/S", true),
];

fn worker(worker: Counted<'_, WorkerRow>) -> Row {
    let row = worker.row;
    let busy = worker.growth(|w| w.busy_turns);
    let turns = worker.growth(|w| w.turns);
    let load = busy.zip(turns).and_then(|(busy, turns)| share(busy, turns));
    let core = row.core.map(|core| Cell::number(core as u64));
    Row {
        subject: Subject::Other(row.id.to_string()),
        // One that does not turn would be missed otherwise.
        loud: turns == Some(0),
        cells: vec![
            Cell::number(row.id.into()),
            core.unwrap_or_else(Cell::none),
            load.map_or_else(Cell::none, |load| Cell::valued(load, percent(load))),
            Cell::text(load.map(bar).unwrap_or_default()),
            Cell::rate(worker.rate(|w| w.rx_packets)),
            Cell::rate(worker.rate(|w| w.tx_packets)),
            Cell::rate(worker.rate(|w| w.drops)),
            Cell::rate(worker.rate(|w| w.punted)),
            Cell::rate(worker.rate(|w| w.handed_over)),
            Cell::rate(worker.rate(|w| w.taken_over)),
            Cell::rate(worker.rate(|w| w.updates)),
        ],
    }
}

/// A share in whole per cent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A share as a bar of ten, which needs no colour.
fn bar(share: f64) -> String {
    let mark = |tenth: u64| {
        if share * 10.0 > number(tenth) {
            '#'
        } else {
            '.'
        }
    };
    (0..10).map(mark).collect()
}

const DROPS: &[Column] = &[
    ("PLANE", false),
    ("REASON", false),
    ("PKT/S", true),
    ("PACKETS", true),
    ("MEANING", false),
];

fn drop(drop: Counted<'_, DropRow>) -> Row {
    let row = drop.row;
    Row {
        subject: Subject::Other(format!("{} {}", row.plane, row.reason)),
        loud: drop.growth(|d| d.packets).is_some_and(|growth| growth > 0),
        cells: vec![
            Cell::text(&row.plane),
            Cell::text(&row.reason),
            Cell::rate(drop.rate(|d| d.packets)),
            Cell::number(row.packets),
            Cell::text(&row.meaning),
        ],
    }
}

const EVENTS: &[Column] = &[("TIME", false), ("LEVEL", false), ("EVENT", false)];

fn event(event: &super::ask::Happening) -> Row {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(event.unix_ms);
    let level = if event.warning { "WARN" } else { "INFO" };
    Row {
        subject: Subject::Other(format!("{} {}", event.unix_ms, event.id)),
        loud: event.warning,
        cells: vec![
            Cell::text(humantime::format_rfc3339_seconds(at).to_string()),
            Cell::text(level),
            Cell::text(&event.text),
        ],
    }
}

fn small(number: Option<u16>) -> Cell {
    number.map_or_else(Cell::none, |number| Cell::number(number.into()))
}

fn list<T: Display>(values: &[T]) -> Cell {
    let texts: Vec<_> = values.iter().map(ToString::to_string).collect();
    Cell::optional((!texts.is_empty()).then(|| texts.join(", ")))
}
