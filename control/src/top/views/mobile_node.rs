//! Tables that a mobile node has instead of those of an LMA or MAG.

use super::super::data::Data;
use super::super::grid::{Cell, Column, Grid, Row, Subject};
use super::super::rates::Counted;
use super::{list, table};
use crate::mn::status as mn;

/// Its flows, by where their uplink goes.
pub(super) fn uplinks(data: &Data) -> Grid {
    table(UPLINKS, data.uplinks.counted().map(uplink))
}

/// Its prefixes.
pub(super) fn prefixes(data: &Data) -> Grid {
    table(PREFIXES, data.prefixes.iter().map(prefix))
}

/// One of its accesses, in the table of traffic.
pub(super) fn access(access: Counted<'_, mn::AccessRow>) -> Row {
    let row = access.row;
    Row {
        subject: Subject::Other(format!("access {}", row.name)),
        loud: !row.up,
        cells: vec![
            Cell::text("access"),
            Cell::text(&row.name),
            Cell::rate(access.rate(|a| a.rx_packets)),
            Cell::none(),
            Cell::rate(access.rate(|a| a.tx_packets)),
            Cell::none(),
            Cell::number(row.rx_packets),
            Cell::number(row.tx_packets),
            Cell::none(),
            Cell::text(format!(
                "{}{}",
                row.interface,
                if row.up { "" } else { ", link down" }
            )),
        ],
    }
}

const UPLINKS: &[Column] = &[
    ("ACCESS", false),
    ("DOWN PKT/S", true),
    ("UP PKT/S", true),
    ("DOWN PACKETS", true),
    ("UP PACKETS", true),
    ("MOVES", true),
    ("FLOW", false),
];

fn uplink(flow: Counted<'_, mn::FlowRow>) -> Row {
    let row = flow.row;
    let ports = row.ports.map(|(from, to)| format!(" ports {from} > {to}"));
    let name = format!(
        "{} > {} proto {}{}",
        row.source,
        row.destination,
        row.protocol,
        ports.unwrap_or_default()
    );
    Row {
        subject: Subject::Other(name.clone()),
        loud: false,
        cells: vec![
            Cell::text(&row.access),
            Cell::rate(flow.rate(|f| f.downlink_packets)),
            Cell::rate(flow.rate(|f| f.uplink_packets)),
            Cell::number(row.downlink_packets),
            Cell::number(row.uplink_packets),
            Cell::number(row.moves.into()),
            Cell::text(name),
        ],
    }
}

const PREFIXES: &[Column] = &[
    ("PREFIX", false),
    ("ADDRESS", false),
    ("ADVERTISED ON", false),
];

fn prefix(row: &mn::PrefixRow) -> Row {
    Row {
        subject: Subject::Other(row.prefix.to_string()),
        loud: row.accesses.is_empty(),
        cells: vec![
            Cell::text(row.prefix.to_string()),
            Cell::text(row.address.to_string()),
            list(&row.accesses),
        ],
    }
}
