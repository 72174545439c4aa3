//! Ports of the configuration, opened through DPDK.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use anyhow::Context;
use config::{Config, Memory, Port as Wanted};
use dataplane::io::dpdk::DpdkIo;
use dataplane::{Peers, PortShare, Spread};
use dpdk::{Device, EalConfig, EalHandle, Mbuf, Mempool, MempoolConfig, Port, PortConfig};
use flow::{MacAddr, PortId, WorkerId};
use netdev::{Frames, Membership};

use super::left_behind;
use super::setup::PortInfo;
use crate::confinement::user;

/// Packets each queue holds.
const DESCRIPTORS: u16 = 1024;
/// Packets a worker keeps at hand, holds for neighbours or as fragments, or has in its bursts.
const PER_WORKER: u32 = 1024;
/// Of those, fragments; what the configuration allows beyond comes on top.
const FRAGMENTS: u32 = 512;
/// Packets that may wait for a worker in all of its peers' rings, and in one of them.
const MAX_HANDED: usize = 4096;
const MAX_RING: usize = 1024;
const MIN_RING: usize = 32;
/// Octets of Ethernet header and a VLAN tag around the largest IPv6 packet.
const ETHERNET: u16 = 18;
/// Octets that a buffer takes besides its data room: DPDK's header, headroom and alignment.
const BUFFER_OVERHEAD: u64 = 512;
/// Data room of a buffer that holds any packet of MTU 1500 and its tunnel header.
const DATA_ROOM: u16 = 2048;

/// Ports and, for each worker, its queues on all of them.
pub(super) struct OpenPorts {
    /// Indexed by [`PortId`].
    pub(super) infos: Vec<PortInfo>,
    /// Indexed by worker.
    pub(super) workers: Vec<DpdkIo>,
    /// The workers' ways to each other, indexed by worker; none if there is only one.
    pub(super) peers: Vec<Option<Peers<Mbuf>>>,
}

/// How DPDK is to be started for this configuration.
pub(super) fn eal_config(config: &Config) -> EalConfig {
    let pci = config.ports.iter().filter_map(|port| {
        if let config::Device::Pci { address } = &port.device {
            Some(address.to_string())
        } else {
            None
        }
    });
    EalConfig {
        memory: match config.process.memory {
            Memory::Anonymous => dpdk::Memory::Anonymous,
            Memory::Hugepages => dpdk::Memory::Hugepages,
        },
        memory_mib: config.process.memory_mib,
        pci: pci.collect(),
        file_prefix: format!("{}{}", left_behind::PREFIX, std::process::id()),
        run: user::run_directory(config),
        ..EalConfig::default()
    }
}

/// Opens and starts every port, with a queue pair for every worker where the device has so many.
pub(super) fn open(eal: &EalHandle, config: &Config, pool: &Mempool) -> anyhow::Result<OpenPorts> {
    let count = config.process.workers;
    let mut workers: Vec<_> = (0..count).map(|_| DpdkIo::new(pool.clone())).collect();
    let (mut infos, mut shares) = (Vec::new(), Vec::new());
    for (index, wanted) in (0..).zip(&config.ports) {
        let mut port = open_one(eal, config, PortId(index), wanted, pool)
            .with_context(|| format!("port {}", wanted.name))?;
        let share = PortShare {
            queues: port.queues(),
            spread: spread(config, PortId(index), &port),
        };
        let mut queues: Vec<_> = port
            .start()
            .with_context(|| format!("port {}", wanted.name))?
            .into_iter()
            .map(Some)
            .collect();
        for (id, worker) in (0..).map(WorkerId).zip(&mut workers) {
            let queue = share.queue_of(PortId(index), id, count);
            match queue.and_then(|queue| queues.get_mut(usize::from(queue))?.take()) {
                Some((rx, tx)) => worker.add_port(rx, tx),
                None => worker.skip_port(),
            }
        }
        shares.push(share);
        infos.push(PortInfo {
            name: wanted.name.clone(),
            device: wanted.device.to_string(),
            mac: MacAddr(port.mac()),
            mtu: wanted.mtu,
            _frames: frames(config, PortId(index), wanted)?,
            access: is_access(config, PortId(index)),
            port,
        });
    }
    let peers = if count > 1 {
        let all = dataplane::peers(count, &shares, ring_places(count));
        all.into_iter().map(Some).collect()
    } else {
        vec![None]
    };
    Ok(OpenPorts {
        infos,
        workers,
        peers,
    })
}

/// Which of a port's packets are handed to the worker of their flow.
fn spread(config: &Config, id: PortId, port: &Port) -> Spread {
    let workers = config.process.workers;
    match config.process.spread {
        _ if workers == 1 => Spread::Nothing,
        config::Spread::Never => Spread::Nothing,
        config::Spread::Always => Spread::All,
        config::Spread::Auto if port.queues() < workers || !port.spreads_by_flow() => Spread::All,
        // No tunnel ends on a link that mobiles attach to.
        config::Spread::Auto if is_access(config, id) => Spread::Nothing,
        config::Spread::Auto => Spread::Tunnelled,
    }
}

/// Places of each ring between two of so many workers: enough for bursts, and bounded in all.
fn ring_places(workers: u16) -> usize {
    let peers = usize::from(workers.max(2) - 1);
    (MAX_HANDED / peers).clamp(MIN_RING, MAX_RING)
}

fn is_access(config: &Config, port: PortId) -> bool {
    config
        .mag
        .as_ref()
        .is_some_and(|mag| mag.access_ports.contains(&port))
}

/// One pool for all ports, large enough for every queue to be full at once.
pub(super) fn pool(eal: &EalHandle, config: &Config) -> anyhow::Result<Mempool> {
    let workers = u32::from(config.process.workers);
    let ports = u32::try_from(config.ports.len()).unwrap_or(u32::MAX);
    let handed = ring_places(config.process.workers) * usize::from(config.process.workers - 1);
    let fragments = config.process.fragments.held.saturating_sub(FRAGMENTS);
    let per_worker = PER_WORKER + fragments + u32::try_from(handed).unwrap_or(u32::MAX);
    let needed = ports * workers * u32::from(DESCRIPTORS) * 2 + workers * per_worker;
    let count = needed.next_power_of_two() - 1;
    let mtu = config
        .ports
        .iter()
        .map(|port| port.mtu)
        .max()
        .unwrap_or(1500);
    let data_room = DATA_ROOM.max(mtu.saturating_add(ETHERNET).next_multiple_of(64));
    let octets = u64::from(count) * (u64::from(data_room) + BUFFER_OVERHEAD);
    let mib = octets.div_ceil(1 << 20);
    anyhow::ensure!(
        mib <= u64::from(config.process.memory_mib),
        "{count} packet buffers of {data_room} octets need {mib} MiB: \
         set [process] memory_mib to {} or more",
        mib + 64
    );
    let wanted = MempoolConfig {
        count,
        data_room,
        ..MempoolConfig::default()
    };
    Mempool::new(eal, &wanted).context("no packet buffers")
}

fn open_one(
    eal: &EalHandle,
    config: &Config,
    id: PortId,
    wanted: &Wanted,
    pool: &Mempool,
) -> anyhow::Result<Port> {
    let port = PortConfig {
        queues: config.process.workers,
        rx_descriptors: DESCRIPTORS,
        tx_descriptors: DESCRIPTORS,
        mtu: wanted.mtu,
        mac: station(config, id, wanted).map(|mac| mac.0),
        promiscuous: false,
    };
    let name = if let config::Device::Tap { interface } = &wanted.device {
        Some(free_name(&interface.to_string())?)
    } else {
        None
    };
    let opened = Port::open_at_most(eal, &device(&wanted.device), id.0, &port, pool);
    // From here on the interface itself has the name.
    drop(name);
    Ok(opened?)
}

/// The station address of a port, if it is not the device's own.
fn station(config: &Config, id: PortId, wanted: &Wanted) -> Option<MacAddr> {
    // All MAGs look alike to a mobile (RFC 6543 §3).
    let fixed = is_access(config, id).then_some(MacAddr::MAG);
    wanted.mac.or(fixed)
}

/// Has the kernel let through what an appliance needs where a port is one of its interfaces: frames to all groups, as
/// solicitations go to groups that it has not joined, and if the station address is another one, all.
fn frames(config: &Config, id: PortId, wanted: &Wanted) -> anyhow::Result<Option<Membership>> {
    let (config::Device::AfPacket { interface } | config::Device::AfXdp { interface }) =
        &wanted.device
    else {
        return Ok(None);
    };
    let frames = match station(config, id, wanted) {
        Some(_) => Frames::All,
        None => Frames::AllMulticast,
    };
    let membership = Membership::new(interface.as_str(), frames).with_context(|| {
        let port = &wanted.name;
        format!("port {port}: {interface} does not let through what is not for the kernel")
    })?;
    Ok(Some(membership))
}

/// Makes sure that a TAP interface is a new one: the driver would share one that is there with the process that has
/// it, and each would get half of the packets. The name is ours until the answer is dropped, should another process
/// want the same at this moment; the kernel keeps such names apart by network namespace, as it does interfaces.
fn free_name(interface: &str) -> anyhow::Result<UnixListener> {
    let name = SocketAddr::from_abstract_name(format!("flowmob-tap-{interface}"))?;
    let name = match UnixListener::bind_addr(&name) {
        Ok(name) => name,
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            anyhow::bail!("tap:{interface}: another process is about to make this interface")
        }
        Err(error) => return Err(error).with_context(|| format!("tap:{interface}")),
    };
    anyhow::ensure!(
        nix::net::if_::if_nametoindex(interface).is_err(),
        "tap:{interface}: there is an interface {interface} already, of another process or left behind: stop that \
         process, or else remove it (ip link delete {interface}), or give the port another name"
    );
    Ok(name)
}

/// The configuration's device in DPDK's terms.
fn device(device: &config::Device) -> Device {
    match device {
        config::Device::Tap { interface } => Device::Tap {
            iface: interface.to_string(),
        },
        config::Device::AfPacket { interface } => Device::AfPacket {
            iface: interface.to_string(),
        },
        config::Device::AfXdp { interface } => Device::AfXdp {
            iface: interface.to_string(),
        },
        config::Device::Pcap { input, output } => Device::Pcap {
            input: input.clone(),
            output: output.clone(),
        },
        config::Device::Null => Device::Null { size: 64 },
        config::Device::Ring => Device::Ring,
        config::Device::Memif {
            socket,
            end,
            id,
            queues,
        } => Device::Memif {
            socket: socket.clone(),
            server: *end == config::End::Server,
            id: *id,
            queues: *queues,
        },
        config::Device::VhostUser {
            socket,
            end,
            queues,
        } => Device::VhostUser {
            socket: socket.clone(),
            server: *end == config::End::Server,
            queues: *queues,
        },
        config::Device::VirtioUser { socket, queues } => Device::VirtioUser {
            socket: socket.clone(),
            queues: *queues,
        },
        config::Device::Pci { address } => Device::Pci {
            address: address.to_string(),
        },
        config::Device::Vdev { args } => Device::Vdev(args.clone()),
    }
}
