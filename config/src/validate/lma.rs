//! Checks of `[lma]`.

use std::time::Duration;

use flow::Hnp;

use super::{disjoint, lma_pool, no_peers, own_address, peers, tunnel, unique};
use crate::notes::{Draft, Notes};
use crate::roles::Lma;
use crate::schema::Config;

pub(crate) fn check(config: &Config, lma: &Lma, notes: &mut Notes) {
    let port = own_address(config, notes, "lma.address", lma.address.0);
    tunnel(config, notes, "lma", port, &lma.tunnel);
    let named: Vec<_> = lma
        .peers
        .iter()
        .map(|p| (p.name.as_str(), p.address.0))
        .collect();
    peers(config, notes, "lma", &named);
    if lma.peers.is_empty() {
        no_peers(notes, "lma");
    }
    lma_pool(notes, "lma", &lma.lma_pool, &lma.heartbeat);
    pools(config, lma, notes);
    supply(lma, notes);
    mobiles(config, lma, notes);
    timers(lma, notes);
}

fn pools(config: &Config, lma: &Lma, notes: &mut Notes) {
    let pools = || lma.pools.iter().enumerate();
    let at = |i: usize| format!("lma.pools[{i}]");
    disjoint(
        notes,
        pools().map(|(i, pool)| (*pool, at(i))),
        |pool, other| format!("the pools {pool} and {other} overlap"),
        "a prefix could be given out twice; make the pools disjoint",
    );
    for (i, pool) in pools() {
        if pool.len() > lma.prefix_length {
            let length = lma.prefix_length;
            notes.push(
                Draft::error(
                    at(i),
                    format!("the pool {pool} has no room for a /{length}"),
                )
                .label(format!("smaller than a /{length}"))
                .other("lma.prefix_length", "the length of each prefix")
                .help("use a shorter pool prefix, or a longer prefix_length"),
            );
        }
        off_link(config, notes, *pool, &at(i), "the pool");
        let peers = lma.peers.iter().enumerate();
        for (j, _) in peers.filter(|(_, peer)| pool.contains(peer.address.0)) {
            notes.push(
                Draft::error(format!("lma.peer[{j}].address"), "the peer lies in a pool")
                    .label("an address of some mobile")
                    .other(at(i), "the pool")
                    .help("tunnel packets would enter the tunnel: give MAGs other addresses"),
            );
        }
    }
    if lma.prefix_length != 64 {
        notes.push(
            Draft::warning("lma.prefix_length", "prefixes are not /64")
                .label("advertised without the A flag")
                .help(
                    "mobiles form addresses by themselves in /64 prefixes only (RFC 4862 §5.5.3)",
                ),
        );
    }
}

/// Reports a mobile's prefixes that are also a link's.
fn off_link(config: &Config, notes: &mut Notes, hnp: Hnp, path: &str, what: &str) {
    for (i, port) in config.ports.iter().enumerate() {
        for (j, net) in port.addresses.iter().enumerate() {
            if hnp.net().contains(net) || net.contains(&hnp.net()) {
                let message = format!("{what} {hnp} overlaps a prefix of port `{}`", port.name);
                notes.push(
                    Draft::error(path, message)
                        .label("mobiles' addresses")
                        .other(format!("port[{i}].addresses[{j}]"), "the link's addresses")
                        .help("an address is either a mobile's or on a link; keep them apart"),
                );
            }
        }
    }
}

/// Whether there are prefixes for all who are served.
fn supply(lma: &Lma, notes: &mut Notes) {
    let any_pools = !lma.pools.is_empty() || notes.is_tainted("lma.pools");
    if !any_pools && lma.any_mobile {
        notes.push(
            Draft::error(
                "lma.pools",
                "there are no prefixes for mobiles without an entry",
            )
            .label("no pools")
            .help("add pools = [\"2001:db8:100::/48\"], or set any_mobile = false"),
        );
    }
    if !any_pools && !lma.any_mobile {
        for (i, mobile) in lma.mobiles.iter().enumerate() {
            let path = format!("lma.mobile[{i}]");
            if mobile.service && mobile.prefixes.is_empty() {
                notes.push(
                    Draft::error(path, format!("there is no prefix for {}", mobile.id))
                        .label("neither `prefixes` here nor `pools` in [lma]")
                        .help("add one of the two"),
                );
            }
        }
    }
    if !lma.any_mobile
        && !lma.mobiles.iter().any(|mobile| mobile.service)
        && !notes.any_tainted("lma.mobile")
    {
        notes.push(
            Draft::warning("lma.any_mobile", "no mobile is served")
                .label("none without an entry, and there is no entry")
                .help("add a [[lma.mobile]] for each, or set any_mobile = true"),
        );
    }
    let per_session = u64::from(lma.prefixes_per_session);
    let room = lma.pool_room();
    if any_pools && notes.has("lma.max_mobiles") && room < u64::from(lma.max_mobiles) * per_session
    {
        notes.push(
            Draft::warning(
                "lma.max_mobiles",
                "the pools are too small for so many mobiles",
            )
            .label(format!("but only {room} prefixes"))
            .other("lma.pools", "the pools")
            .help("add a pool, or lower `max_mobiles`"),
        );
    }
}

fn mobiles(config: &Config, lma: &Lma, notes: &mut Notes) {
    let mobiles = || lma.mobiles.iter().enumerate();
    unique(
        notes,
        mobiles().map(|(i, mobile)| (&mobile.id, format!("lma.mobile[{i}].id"))),
        |id| format!("there are two entries for {id}"),
        "merge them into one",
    );
    let fixed = || {
        mobiles().flat_map(|(i, mobile)| {
            let prefixes = mobile.prefixes.iter().enumerate();
            prefixes.map(move |(j, hnp)| (*hnp, format!("lma.mobile[{i}].prefixes[{j}]")))
        })
    };
    disjoint(
        notes,
        fixed(),
        |hnp, other| format!("the prefixes {hnp} and {other} overlap"),
        "a home network prefix belongs to one mobile (RFC 5213 §5.4)",
    );
    for (i, mobile) in mobiles() {
        let path = |key| format!("lma.mobile[{i}].{key}");
        if mobile.mags.is_empty()
            && notes.has(&path("mags"))
            && !notes.any_tainted("lma.mobile.mags")
        {
            notes.push(
                Draft::error(path("mags"), format!("no MAG may register {}", mobile.id))
                    .label("none")
                    .help("name the MAGs, or leave `mags` out if all may"),
            );
        }
        let named = mobile.mags.iter().enumerate();
        unique(
            notes,
            named.map(|(j, mag)| (*mag, format!("{}[{j}]", path("mags")))),
            |_| "a MAG is named twice".to_owned(),
            "name it once",
        );
    }
    for (hnp, path) in fixed() {
        off_link(config, notes, hnp, &path, "the prefix");
        for (i, pool) in lma.pools.iter().enumerate() {
            if pool.overlaps(hnp) && hnp.len() != lma.prefix_length {
                let length = lma.prefix_length;
                notes.push(
                    Draft::error(
                        &path,
                        format!("{hnp} lies across a pool of /{length} prefixes"),
                    )
                    .label(format!("not a /{length}"))
                    .other(format!("lma.pools[{i}]"), "the pool")
                    .help(format!("use a /{length}, or a prefix outside of the pools")),
                );
            }
        }
    }
    let listed = lma.mobiles.iter().filter(|mobile| mobile.service).count();
    if u32::try_from(listed).is_ok_and(|listed| listed > lma.max_mobiles) {
        notes.push(
            Draft::warning(
                "lma.max_mobiles",
                "more mobiles are listed than may be served",
            )
            .label(format!("{listed} have entries"))
            .help("raise `max_mobiles`"),
        );
    }
}

fn timers(lma: &Lma, notes: &mut Notes) {
    // A MAG sends an unanswered PBU again after INITIAL_BINDACK_TIMEOUT, 1 s (RFC 6275 §12).
    if lma.max_delay_before_new_bce_assign <= Duration::from_secs(1) {
        let path = "lma.max_delay_before_new_bce_assign_ms";
        notes.push(
            Draft::warning(path, "a handoff may be taken for a new attachment")
                .label("not longer than a MAG waits to repeat a PBU")
                .help("use more than 1000 ms; 1500 is the default (RFC 5213 §9.1)"),
        );
    }
    if let Some(flow) = lma.flow_lifetime {
        let tries = u32::from(lma.fmi_retries) + 1;
        if flow / 2 <= lma.fmi_retry * tries {
            notes.push(
                Draft::warning(
                    "lma.flow_lifetime",
                    "flows may expire while they are refreshed",
                )
                .label("refreshed at half of this")
                .other("lma.fmi_retry_ms", format!("{tries} tries, this far apart"))
                .help("use a longer lifetime, or \"infinite\""),
            );
        }
    }
}
