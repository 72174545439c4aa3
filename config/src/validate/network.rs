//! Checks of ports and routes.

use std::net::Ipv6Addr;

use flow::Hnp;
use ipnet::Ipv6Net;

use super::{disjoint, on_link, unique};
use crate::device::{Device, End};
use crate::notes::{Draft, Notes};
use crate::schema::{Config, Memory, Port};

pub(crate) fn ports(config: &Config, notes: &mut Notes) {
    let ports = || config.ports.iter().enumerate();
    unique(
        notes,
        ports().map(|(i, port)| (&port.name, format!("port[{i}].name"))),
        |name| format!("two ports are named `{name}`"),
        "give each port a name of its own",
    );
    unique(
        notes,
        ports().filter_map(|(i, port)| Some((exclusive(&port.device)?, device_path(i, port)))),
        |what| format!("two ports use {what}"),
        "a device belongs to one port only",
    );
    unique(
        notes,
        ports().filter_map(|(i, port)| Some((port.mac?, format!("port[{i}].mac")))),
        |mac| format!("two ports have the MAC address {mac}"),
        "give each port an address of its own, or leave `mac` out",
    );
    addresses(config, notes);
    for (i, port) in ports() {
        resources(config, i, port, notes);
    }
}

/// What of a device cannot be shared, in words.
fn exclusive(device: &Device) -> Option<String> {
    match device {
        Device::Tap { interface }
        | Device::AfPacket { interface }
        | Device::AfXdp { interface } => Some(format!("the interface `{interface}`")),
        Device::Pcap { output, .. } => Some(format!("the file `{}`", output.display())),
        // Who listens does so for one.
        Device::Memif {
            socket,
            end: End::Server,
            ..
        } => Some(format!("the socket `{}`", socket.display())),
        Device::Memif { socket, id, .. } => Some(format!(
            "connection {id} of the socket `{}`",
            socket.display()
        )),
        Device::VhostUser { socket, .. } | Device::VirtioUser { socket, .. } => {
            Some(format!("the socket `{}`", socket.display()))
        }
        Device::Pci { address } => Some(format!("the device {address}")),
        Device::Vdev { args } => {
            let name = args.split(',').next().unwrap_or(args);
            Some(format!("the virtual device `{name}`"))
        }
        Device::Null | Device::Ring => None,
    }
}

fn device_path(i: usize, port: &Port) -> String {
    let key = match port.device {
        Device::Vdev { .. } => "vdev",
        Device::Tap { .. }
        | Device::AfPacket { .. }
        | Device::AfXdp { .. }
        | Device::Pcap { .. }
        | Device::Null
        | Device::Ring
        | Device::Memif { .. }
        | Device::VhostUser { .. }
        | Device::VirtioUser { .. }
        | Device::Pci { .. } => "device",
    };
    format!("port[{i}].{key}")
}

/// The ports' addresses, with their paths.
fn all_addresses(config: &Config) -> impl Iterator<Item = (usize, Ipv6Net, String)> {
    config.ports.iter().enumerate().flat_map(|(i, port)| {
        let nets = port.addresses.iter().enumerate();
        nets.map(move |(j, net)| (i, *net, format!("port[{i}].addresses[{j}]")))
    })
}

fn addresses(config: &Config, notes: &mut Notes) {
    let global = || all_addresses(config).filter(|(_, net, _)| !net.addr().is_unicast_link_local());
    unique(
        notes,
        global().map(|(_, net, path)| (net.addr(), path)),
        |address| format!("the address {address} is given twice"),
        "an address belongs to one port only",
    );
    // Two addresses in one prefix of one port are fine; on two ports, neighbours are ambiguous.
    let prefixes: Vec<_> = global()
        .filter(|(i, net, path)| {
            let earlier = || global().take_while(|(.., other)| other != path);
            let same = |(j, other, _): (usize, Ipv6Net, String)| {
                other.addr() == net.addr() || (j == *i && other.trunc() == net.trunc())
            };
            !earlier().any(same)
        })
        .filter_map(|(_, net, path)| Some((Hnp::try_from(net.trunc()).ok()?, path)))
        .collect();
    disjoint(
        notes,
        prefixes,
        |later, _| format!("the prefix {later} is on link twice"),
        "neighbours would be looked for on either; use a prefix of its own for each link",
    );
}

fn resources(config: &Config, i: usize, port: &Port, notes: &mut Notes) {
    if matches!(port.device, Device::Pci { .. }) && config.process.memory == Memory::Anonymous {
        notes.push(
            Draft::warning(device_path(i, port), "a PCI device with anonymous memory")
                .label("needs an IOMMU to reach such memory")
                .help("set memory = \"hugepages\" in [process]"),
        );
    }
    let workers = config.process.workers;
    if let Some(queues) = port.device.queues()
        && queues > workers
        && !notes.any_tainted("process")
    {
        let message = format!("queues={queues} with workers = {workers}");
        notes.push(
            Draft::error(device_path(i, port), message)
                .label("nobody would serve all of them")
                .help("one queue of a port has one worker: use fewer queues, or set [process] workers"),
        );
    }
}

pub(crate) fn routes(config: &Config, notes: &mut Notes) {
    let routes = || config.routes.iter().enumerate();
    unique(
        notes,
        routes().map(|(i, route)| (route.to, format!("route[{i}].to"))),
        |to| format!("there are two routes to {to}"),
        "a destination has one next hop; remove one of the two",
    );
    for (i, route) in routes() {
        if let Some(via) = route.via {
            next_hop(config, i, via, notes);
        }
        let to = format!("route[{i}].to");
        let pools = config
            .lma
            .iter()
            .flat_map(|lma| lma.pools.iter().enumerate());
        for (j, pool) in pools {
            if pool.net().contains(&route.to) {
                notes.push(
                    Draft::warning(&to, format!("{} is part of a pool of [lma]", route.to))
                        .label("mobiles are reached by their bindings")
                        .other(format!("lma.pools[{j}]"), "the pool")
                        .help("remove the route, or make the pool smaller"),
                );
            }
        }
        let access = config
            .mag
            .iter()
            .flat_map(|mag| mag.access_ports.iter().enumerate());
        for (j, _) in access.filter(|(_, id)| **id == route.port) {
            notes.push(
                Draft::warning(format!("route[{i}].port"), "a route through an access port")
                    .label("mobiles are its only neighbours")
                    .other(format!("mag.access_ports[{j}]"), "made an access port here")
                    .help("name a port towards the core"),
            );
        }
    }
}

fn next_hop(config: &Config, i: usize, via: Ipv6Addr, notes: &mut Notes) {
    let path = format!("route[{i}].via");
    let Some(route) = config.routes.get(i) else {
        return;
    };
    let Some(port) = config.port(route.port) else {
        return;
    };
    let addresses = format!("port[{}].addresses", route.port);
    if notes.is_tainted(&format!("route[{i}].port")) || notes.any_tainted("port.addresses") {
        return;
    }
    if config.port_of(via).is_some() {
        notes.push(
            Draft::error(path, "the next hop is this very process")
                .label("an address of one of the ports")
                .help("give the address of the next router"),
        );
    } else if !via.is_unicast_link_local() && !on_link(port, via) {
        let elsewhere = config.ports.iter().find(|other| on_link(other, via));
        let help = match elsewhere {
            Some(other) => format!("it is a neighbour of port `{}`", other.name),
            None => "a next hop is a neighbour: link-local, or in a prefix of the port".to_owned(),
        };
        let message = format!("the next hop {via} is no neighbour of port `{}`", port.name);
        notes.push(
            Draft::error(path, message)
                .label("not in a prefix of the port")
                .other(addresses, "the port's prefixes")
                .help(help),
        );
    }
}
