//! Checks of `[mag]`.

use std::collections::BTreeMap;

use flow::{MacAddr, PortId};

use super::{lma_pool, no_peers, own_address, peers, tunnel, unique};
use crate::notes::{Draft, Notes};
use crate::roles::{Handoff, Mag, MagMobile};
use crate::schema::Config;

pub(crate) fn check(config: &Config, mag: &Mag, notes: &mut Notes) {
    let port = own_address(config, notes, "mag.address", mag.address.0);
    tunnel(config, notes, "mag", port, &mag.tunnel);
    let named: Vec<_> = mag
        .peers
        .iter()
        .map(|p| (p.name.as_str(), p.address.0))
        .collect();
    peers(config, notes, "mag", &named);
    if mag.peers.is_empty() && mag.mobiles.is_empty() {
        no_peers(notes, "mag");
    }
    lma_pool(notes, "mag", &mag.lma_pool, &mag.heartbeat);
    if let [_] = mag.lma_pool.as_slice() {
        notes.push(
            Draft::warning("mag.lma_pool", "a pool of one LMA")
                .label("nobody else can be assigned")
                .help("name all LMAs of the pool"),
        );
    }
    access_ports(config, mag, port, notes);
    mobiles(config, mag, notes);
    if mag.max_bindack_timeout < mag.initial_bindack_timeout {
        notes.push(
            Draft::error(
                "mag.max_bindack_timeout_ms",
                "the longest wait is shorter than the first",
            )
            .label("where the doubling ends")
            .other("mag.initial_bindack_timeout_ms", "where it starts")
            .help("use at least the initial timeout"),
        );
    }
    if !mag.timestamps && config.lma.as_ref().is_some_and(|lma| lma.mobile_timestamps) {
        notes.push(
            Draft::error(
                "lma.mobile_timestamps",
                "mobiles' timestamps without timestamps",
            )
            .label("timestamps that mobiles make")
            .other("mag.timestamps", "no timestamps in PBUs")
            .help("leave out one of the two (RFC 5213 §9.3)"),
        );
    }
    if mag.ra_interval >= mag.lifetime {
        notes.push(
            Draft::warning(
                "mag.ra_interval_ms",
                "router advertisements come too rarely",
            )
            .label("not shorter than the binding lifetime")
            .other("mag.lifetime", "in seconds")
            .help("use a third of the lifetime or less: mobiles' prefixes expire otherwise"),
        );
    }
}

fn access_ports(config: &Config, mag: &Mag, own: Option<PortId>, notes: &mut Notes) {
    let ports = || mag.access_ports.iter().enumerate();
    let at = |i: usize| format!("mag.access_ports[{i}]");
    if mag.access_ports.is_empty() {
        notes.push(
            Draft::error("mag.access_ports", "a MAG needs an access port")
                .label("none")
                .help("name the ports that mobiles attach to"),
        );
    }
    unique(
        notes,
        ports().map(|(i, id)| (*id, at(i))),
        |_| "an access port is named twice".to_owned(),
        "name it once",
    );
    let lma = config
        .lma
        .as_ref()
        .and_then(|lma| config.port_of(lma.address.0));
    for (role, own) in [("mag", own), ("lma", lma)] {
        for (i, id) in ports().filter(|(_, id)| Some(**id) == own) {
            notes.push(
                Draft::error(at(i), format!("an access port has the address of [{role}]"))
                    .label("an access port")
                    .other(format!("port[{id}].addresses"), "has the tunnels' address")
                    .help("tunnels run over the core: give the address to another port"),
            );
        }
    }
}

fn mobiles(config: &Config, mag: &Mag, notes: &mut Notes) {
    let mobiles = || mag.mobiles.iter().enumerate();
    let at = |i: usize, key: &str| format!("mag.mobile[{i}].{key}");
    let stations: Vec<_> = mobiles()
        .filter(|(i, _)| !notes.is_tainted(&at(*i, "port")))
        .map(|(i, mobile)| ((mobile.port, mobile.link_layer), at(i, "link_layer")))
        .collect();
    unique(
        notes,
        stations,
        |(_, mac)| format!("two mobiles on one port have the link-layer address {mac}"),
        "packets tell mobiles apart by it; correct one of the two",
    );
    for (i, mobile) in mobiles() {
        access(config, mag, i, mobile, notes);
        if mobile.share_prefixes && mobile.handoff == Handoff::Unknown {
            notes.push(
                Draft::error(at(i, "share_prefixes"), "one attachment cannot say both")
                    .label("a new interface that shares prefixes")
                    .other(at(i, "handoff"), "or who knows what")
                    .help("leave out one of the two"),
            );
        }
    }
    one_lma(mag, notes);
    if mag.peers.is_empty() && !mag.mobiles.is_empty() && !notes.any_tainted("mag.peer") {
        notes.push(
            Draft::error("mag.mobile[0]", "there is no LMA for the mobiles")
                .label("served by none")
                .help("add a [[mag.peer]]"),
        );
    }
    if mag.mobiles.is_empty() && !notes.any_tainted("mag.mobile") {
        notes.push(
            Draft::warning("mag", "[mag] knows no mobile")
                .label("nobody may attach")
                .help("add a [[mag.mobile]] for each interface of each mobile"),
        );
    }
}

fn access(config: &Config, mag: &Mag, i: usize, mobile: &MagMobile, notes: &mut Notes) {
    let (path, link_layer) = (
        format!("mag.mobile[{i}].port"),
        format!("mag.mobile[{i}].link_layer"),
    );
    let Some(port) = config.port(mobile.port) else {
        return;
    };
    if !mag.access_ports.contains(&mobile.port) && !notes.any_tainted("mag.access_ports") {
        notes.push(
            Draft::error(path, format!("port `{}` is no access port", port.name))
                .label("mobiles do not attach here")
                .other("mag.access_ports", "these are")
                .help(format!(
                    "add \"{}\" to `access_ports`, or name one of them",
                    port.name
                )),
        );
    }
    if mobile.link_layer == MacAddr::MAG || port.mac == Some(mobile.link_layer) {
        notes.push(
            Draft::error(link_layer, "a mobile has the link-layer address of the MAG")
                .label("the MAG's own on this link")
                .help("give the address of the mobile's interface"),
        );
    }
}

/// A mobile with several interfaces must end on one LMA for its flows to move between them.
fn one_lma(mag: &Mag, notes: &mut Notes) {
    let mut first = BTreeMap::new();
    for (i, mobile) in mag.mobiles.iter().enumerate() {
        let path = format!("mag.mobile[{i}].lma");
        let (lma, other) = first
            .entry(&mobile.id)
            .or_insert((mobile.lma, path.clone()));
        let one_pool = [*lma, mobile.lma]
            .iter()
            .all(|lma| mag.lma_pool.contains(lma));
        if *lma != mobile.lma && !one_pool && !notes.is_tainted(&format!("mag.mobile[{i}].id")) {
            notes.push(
                Draft::warning(path, format!("{} has two LMAs", mobile.id))
                    .label("one")
                    .other(other.as_str(), "the other")
                    .help("flows move only between interfaces with the same LMA"),
            );
        }
    }
}
