//! The table of everything that packets go through.

use flow::Path;

use super::super::data::Data;
use super::super::grid::{Cell, Column, Grid, Row, Subject};
use super::super::rates::Counted;
use super::mobile_node::access;
use super::table;
use crate::api::PathRow;

const TRAFFIC: &[Column] = &[
    ("KIND", false),
    ("NAME", false),
    ("IN PKT/S", true),
    ("IN BIT/S", true),
    ("OUT PKT/S", true),
    ("OUT BIT/S", true),
    ("IN PACKETS", true),
    ("OUT PACKETS", true),
    ("MISSED/S", true),
    ("WHERE", false),
];

/// Ports and paths, or a mobile node's accesses.
pub(super) fn all(data: &Data) -> Grid {
    let ports = data.ports.counted().map(|port| {
        let row = port.row;
        Row {
            subject: Subject::Other(format!("port {}", row.name)),
            loud: port.growth(|p| p.rx_missed).is_some_and(|lost| lost > 0),
            cells: vec![
                Cell::text("port"),
                Cell::text(&row.name),
                Cell::rate(port.rate(|p| p.rx_packets)),
                Cell::rate(port.bits(|p| p.rx_octets)),
                Cell::rate(port.rate(|p| p.tx_packets)),
                Cell::rate(port.bits(|p| p.tx_octets)),
                Cell::number(row.rx_packets),
                Cell::number(row.tx_packets),
                Cell::rate(port.rate(|p| p.rx_missed)),
                Cell::text(&row.device),
            ],
        }
    });
    let paths = data.paths.counted().map(|way| path(data, way));
    let accesses = data.accesses.counted().map(access);
    table(TRAFFIC, ports.chain(paths).chain(accesses))
}

fn path(data: &Data, path: Counted<'_, PathRow>) -> Row {
    let row = path.row;
    let (kind, name, ends) = match row.path {
        Path::Tunnel(tunnel) => {
            let peer = data.peer(row.role, tunnel.remote);
            let ends = format!("{} > {}", tunnel.local, tunnel.remote);
            ("tunnel", peer.map(str::to_owned), ends)
        }
        Path::Link(link) => {
            let ports = data.ports.rows();
            let port = ports.get(usize::from(link.port.0));
            let port = port.map_or_else(|| link.port.to_string(), |port| port.name.clone());
            ("link", Some(link.mac.to_string()), format!("port {port}"))
        }
    };
    Row {
        subject: Subject::Other(format!("{} {kind} {} {ends}", row.role, row.id)),
        loud: false,
        cells: vec![
            Cell::text(kind),
            Cell::optional(name),
            Cell::rate(path.rate(|p| p.counters.in_packets)),
            Cell::rate(path.bits(|p| p.counters.in_octets)),
            Cell::rate(path.rate(|p| p.counters.out_packets)),
            Cell::rate(path.bits(|p| p.counters.out_octets)),
            Cell::number(row.counters.in_packets),
            Cell::number(row.counters.out_packets),
            Cell::none(),
            Cell::text(ends),
        ],
    }
}
