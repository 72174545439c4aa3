//! Ports: drivers, rights, where cards are, what fits.

use std::path::Path;

use caps::Capability;
use config::{Config, Device, PciAddress, Port};

use super::{Finding, Machine};
use crate::confinement::rights;

/// Octets that a tunnel adds (RFC 2473 §6.7), and with a Tunnel Encapsulation Limit.
const OUTER: u16 = 40;
const LIMIT: u16 = 8;

impl Machine {
    pub(super) fn devices(&self, config: Option<&Config>) -> Vec<Finding> {
        let Some(config) = config else {
            return vec![self.drivers(&[]), self.iommu(&[])];
        };
        let mut findings = vec![self.drivers(&config.ports)];
        findings.extend(config.ports.iter().map(|port| self.port(port, config)));
        let mut cards = Vec::new();
        for port in &config.ports {
            if let Device::Pci { address } = port.device {
                cards.push(address);
            }
        }
        if !cards.is_empty() {
            findings.push(self.iommu(&cards));
        }
        findings.extend(tunnels_room(config));
        findings
    }

    /// DPDK has drivers linked in, or loads them at run time, from packages of their own.
    fn drivers(&self, ports: &[Port]) -> Finding {
        match self.linked {
            Some(linked) => linked_in(linked, ports),
            None => self.plugins(ports),
        }
    }

    fn plugins(&self, ports: &[Port]) -> Finding {
        let places = [
            "/usr/lib/x86_64-linux-gnu/dpdk",
            "/usr/lib/aarch64-linux-gnu/dpdk",
        ];
        let versions = places.iter().flat_map(|place| {
            let versions = self.list(place).into_iter();
            versions.map(move |version| (*place, version))
        });
        let versions: Vec<_> = versions.collect();
        let there: Vec<String> = (versions.iter())
            .flat_map(|(place, version)| self.list(format!("{place}/{version}")))
            .collect();
        // `pmds-23.0` is of the packages whose names end in 23.
        let abi = versions.iter().find_map(|(_, version)| {
            let (abi, _) = version.strip_prefix("pmds-")?.split_once('.')?;
            Some(abi.to_owned())
        });
        if there.is_empty() {
            return Finding::fail(
                "drivers",
                "DPDK's drivers are not where Debian has them",
                "apt-get install libdpdk-dev, or the librte-net-* packages",
            );
        }
        let has = |driver: &str| {
            let prefix = format!("librte_net_{driver}.so");
            there.iter().any(|file| file.starts_with(&prefix))
        };
        match missing(ports, has) {
            Some((driver, port)) => Finding::fail(
                "drivers",
                format!("port {port} needs net_{driver}, which is not installed"),
                format!(
                    "apt-get install librte-net-{}{}",
                    driver.replace('_', "-"),
                    abi.unwrap_or_default()
                ),
            ),
            None => Finding::ok("drivers", format!("{} files of DPDK's", there.len())),
        }
    }

    /// Rights, driver and place of one port.
    fn port(&self, port: &Port, config: &Config) -> Finding {
        let check = format!("port {}", port.name);
        if let Some(finding) = self.lacks(&check, rights::of_device(&port.device, self.may_lock()))
        {
            return finding;
        }
        if let Device::AfPacket { interface } | Device::AfXdp { interface } = &port.device
            && !self.has(format!("/sys/class/net/{interface}"))
        {
            let found = format!("there is no interface {interface}");
            return Finding::fail(&check, found, "make it, or name one that `ip link` lists");
        }
        // An abstract one has no directory.
        let socket = port.device.socket();
        let socket = socket.filter(|path| !path.to_string_lossy().starts_with('@'));
        if let Some(directory) = socket.and_then(Path::parent)
            && directory != Path::new("")
            && !self.has(directory)
        {
            let directory = directory.display();
            return Finding::fail(
                &check,
                format!("the directory of its socket, {directory}, is not there"),
                format!("mkdir -p {directory}"),
            );
        }
        let node = match &port.device {
            Device::Pci { address } => {
                let card = format!("/sys/bus/pci/devices/{address}");
                if !self.has(&card) {
                    let fix = "lspci -D lists the addresses there are";
                    return Finding::fail(&check, format!("there is no device {address}"), fix);
                }
                let driver = self.card_driver(*address);
                let own = [
                    "vfio-pci",
                    "uio_pci_generic",
                    "igb_uio",
                    "mlx5_core",
                    "mlx4_core",
                ];
                if self.linked.is_some()
                    && let Some(driver @ ("mlx5_core" | "mlx4_core")) = driver.as_deref()
                {
                    return Finding::fail(
                        &check,
                        format!(
                            "cards of {driver} need a driver that is not linked into this program"
                        ),
                        LOADS,
                    );
                }
                if !driver
                    .as_deref()
                    .is_some_and(|driver| own.contains(&driver))
                {
                    return Finding::fail(
                        &check,
                        format!("its driver is {}", driver.as_deref().unwrap_or("none")),
                        format!("dpdk-devbind.py -b vfio-pci {address}"),
                    );
                }
                if let Some(finding) = self.lacks(&check, self.rights_of_card(*address)) {
                    return finding;
                }
                self.read(format!("{card}/numa_node"))
            }
            Device::AfPacket { interface } | Device::AfXdp { interface } => {
                self.read(format!("/sys/class/net/{interface}/device/numa_node"))
            }
            Device::Tap { .. }
            | Device::Pcap { .. }
            | Device::Null
            | Device::Ring
            | Device::Memif { .. }
            | Device::VhostUser { .. }
            | Device::VirtioUser { .. }
            | Device::Vdev { .. } => None,
        };
        let node = node.and_then(|node| node.parse::<u16>().ok());
        let far = config.process.cores.iter().find(|core| {
            let its = self.list(format!("/sys/devices/system/cpu/cpu{core}"));
            let its = its
                .iter()
                .find_map(|name| name.strip_prefix("node")?.parse::<u16>().ok());
            node.is_some() && its.is_some() && its != node
        });
        match (node, far) {
            (Some(node), Some(core)) => Finding::warn(
                &check,
                format!("the card is at NUMA node {node}, and the worker's core {core} is not"),
                format!("choose cores of node {node}: /sys/devices/system/node/node{node}/cpulist"),
            ),
            (Some(node), None) => {
                Finding::ok(&check, format!("at NUMA node {node}, as its workers are"))
            }
            (None, _) => Finding::ok(&check, "rights and driver are there"),
        }
    }

    /// The first capability that is missing.
    fn lacks(&self, check: &str, needed: &[Capability]) -> Option<Finding> {
        let name = needed.iter().find(|capability| !self.may(**capability))?;
        let fix = format!("run as root, or give the process {name}");
        Some(Finding::fail(check, format!("needs {name}"), fix))
    }

    /// The capabilities that a card asks for, by the driver it is bound to.
    pub(crate) fn rights_of_card(&self, address: PciAddress) -> &'static [Capability] {
        let is_guarded = !self.list("/sys/class/iommu").is_empty();
        let driver = self.card_driver(address);
        rights::of_card(driver.as_deref(), is_guarded, self.may_lock())
    }

    /// Whether as much memory may be locked as there is.
    fn may_lock(&self) -> bool {
        let limits = self.read("/proc/self/limits").unwrap_or_default();
        let limit = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max locked memory"));
        limit.is_some_and(|limit| limit.trim_start().starts_with("unlimited"))
    }

    fn may(&self, capability: Capability) -> bool {
        let status = self.read("/proc/self/status").unwrap_or_default();
        let set = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
        let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
        set.is_some_and(|set| set & capability.bitmask() != 0)
    }

    /// Cards are safe to drive from here only behind an IOMMU.
    fn iommu(&self, cards: &[PciAddress]) -> Finding {
        if !self.list("/sys/class/iommu").is_empty() {
            return Finding::ok("IOMMU", "on");
        }
        let bound_to = |those: &[&str]| {
            let drivers = cards.iter().filter_map(|card| self.card_driver(*card));
            drivers.into_iter().any(|driver| those.contains(&&*driver))
        };
        let unsafe_mode = self.read("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode");
        let fix = "boot with intel_iommu=on iommu=pt (AMD: amd_iommu=on)";
        if bound_to(&["vfio-pci"]) && unsafe_mode.as_deref() != Some("Y") {
            // Debian's kernels have no such mode.
            let fix = format!("{fix}; in a machine without one, bind cards to uio_pci_generic");
            return Finding::fail("IOMMU", "off: VFIO gives no card away", fix);
        }
        if bound_to(&["vfio-pci", "uio_pci_generic", "igb_uio"]) {
            return Finding::warn("IOMMU", "off: a card can write anywhere", fix);
        }
        Finding::ok("IOMMU", "off or hidden; only cards on VFIO ask for it")
    }

    /// The kernel's driver of a card.
    fn card_driver(&self, address: PciAddress) -> Option<String> {
        let link = self.path(format!("/sys/bus/pci/devices/{address}/driver"));
        let target = std::fs::read_link(link).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }
}

/// What to do if a driver cannot be had.
const LOADS: &str = "use the program of the Debian package flowmob, which loads drivers";

/// The first port whose driver is not there, and that driver.
fn missing(ports: &[Port], has: impl Fn(&str) -> bool) -> Option<(&'static str, &str)> {
    let mut wanted = (ports.iter()).filter_map(|port| Some((driver(&port.device)?, &*port.name)));
    wanted.find(|(driver, _)| !has(driver))
}

fn linked_in(linked: &[&str], ports: &[Port]) -> Finding {
    let has = |driver: &str| linked.contains(&&*format!("net_{driver}"));
    match missing(ports, has) {
        Some((driver, port)) => Finding::fail(
            "drivers",
            format!("port {port} needs net_{driver}, which is not linked into this program"),
            LOADS,
        ),
        None => Finding::ok("drivers", format!("{} of DPDK's linked in", linked.len())),
    }
}

/// The driver behind a device, as its file is named; cards' drivers are many.
fn driver(device: &Device) -> Option<&'static str> {
    match device {
        Device::Tap { .. } => Some("tap"),
        Device::AfPacket { .. } => Some("af_packet"),
        Device::AfXdp { .. } => Some("af_xdp"),
        Device::Pcap { .. } => Some("pcap"),
        Device::Null => Some("null"),
        Device::Ring => Some("ring"),
        Device::Memif { .. } => Some("memif"),
        Device::VhostUser { .. } => Some("vhost"),
        Device::VirtioUser { .. } => Some("virtio"),
        Device::Pci { .. } | Device::Vdev { .. } => None,
    }
}

/// Packets as large as mobiles' links carry should fit the tunnels.
fn tunnels_room(config: &Config) -> Vec<Finding> {
    let accesses = config.mag.iter().flat_map(|mag| &mag.access_ports);
    let accesses: Vec<_> = accesses.copied().collect();
    let ports = || (0u16..).map(flow::PortId).zip(&config.ports);
    let core = ports().filter(|(id, _)| !accesses.contains(id));
    let core = core.map(|(_, port)| port.mtu).min();
    let roles = [
        config.lma.as_ref().map(|lma| ("LMA", &lma.tunnel)),
        config.mag.as_ref().map(|mag| ("MAG", &mag.tunnel)),
    ];
    let access = ports().filter(|(id, _)| accesses.contains(id));
    // What an LMA's mobiles may send is for their MAGs to know: Ethernet's usual.
    let access = access.map(|(_, port)| port.mtu).max().unwrap_or(1500);
    let room = |(role, tunnel): (&'static str, &config::TunnelOptions)| {
        let head = OUTER + tunnel.encapsulation_limit.map_or(0, |_| LIMIT);
        let carries = tunnel.path_mtu.or(core)?.saturating_sub(head);
        let check = format!("{role} tunnel MTU");
        if carries >= access {
            return Some(Finding::ok(
                &check,
                format!("{carries} octets, links carry {access}"),
            ));
        }
        Some(Finding::warn(
            &check,
            format!(
                "{carries} octets, links carry {access}: larger packets are refused with Packet Too Big"
            ),
            format!(
                "an MTU of {} on the core ports and on the way between LMA and MAG",
                access.saturating_add(head)
            ),
        ))
    };
    roles.into_iter().flatten().filter_map(room).collect()
}
