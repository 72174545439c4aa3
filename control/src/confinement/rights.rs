//! Which capabilities a process needs, by what its ports are made of.
//!
//! A process that becomes another user keeps these, and `flowmob doctor` looks for them.

use caps::{Capability, CapsHashSet};
use config::{Config, Device};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

/// What a mobile node needs: it makes a TUN interface and sends on those that are there.
const MOBILE_NODE: [Capability; 2] = [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW];

/// The first port of TCP that is for everybody (ip(7)).
const UNPRIVILEGED: u16 = 1024;

/// What a device asks for, if as much memory may be locked as there is or not. A card's depend on its driver.
pub(crate) fn of_device(device: &Device, may_lock: bool) -> &'static [Capability] {
    let by_driver = |driver: &str| match driver {
        "net_tap" => &[Capability::CAP_NET_ADMIN][..],
        // DPDK switches the interface's modes.
        "net_af_packet" => &[Capability::CAP_NET_RAW, Capability::CAP_NET_ADMIN],
        // libxdp asks the kernel for its own program by number, which takes more than CAP_BPF.
        "net_af_xdp" if may_lock => &[
            Capability::CAP_NET_RAW,
            Capability::CAP_NET_ADMIN,
            Capability::CAP_SYS_ADMIN,
        ],
        // The kernel locks the memory that packets are in.
        "net_af_xdp" => &[
            Capability::CAP_NET_RAW,
            Capability::CAP_NET_ADMIN,
            Capability::CAP_SYS_ADMIN,
            Capability::CAP_IPC_LOCK,
        ],
        _ => &[],
    };
    match device {
        Device::Tap { .. } => by_driver("net_tap"),
        Device::AfPacket { .. } => by_driver("net_af_packet"),
        Device::AfXdp { .. } => by_driver("net_af_xdp"),
        Device::Vdev { args } => {
            let name = args.split(',').next().unwrap_or_default();
            by_driver(name.trim_end_matches(|c: char| c.is_ascii_digit()))
        }
        Device::Pci { .. }
        | Device::Pcap { .. }
        | Device::Null
        | Device::Ring
        | Device::Memif { .. }
        | Device::VhostUser { .. }
        | Device::VirtioUser { .. } => &[],
    }
}

/// What a card asks for, by the driver that it is bound to; whether there is an IOMMU, and as much memory may be locked as
/// there is.
#[cfg(feature = "dpdk")]
pub(crate) fn of_card(
    driver: Option<&str>,
    is_guarded: bool,
    may_lock: bool,
) -> &'static [Capability] {
    match driver {
        Some("mlx5_core" | "mlx4_core") => &[Capability::CAP_NET_RAW],
        // The memory that it may reach is locked.
        Some("vfio-pci") if is_guarded && may_lock => &[],
        Some("vfio-pci") if is_guarded => &[Capability::CAP_IPC_LOCK],
        // Physical addresses are for this one only, and such groups for that.
        Some("vfio-pci") => &[Capability::CAP_SYS_ADMIN, Capability::CAP_SYS_RAWIO],
        _ => &[Capability::CAP_SYS_ADMIN],
    }
}

/// What a process with this configuration needs on this machine.
pub(super) fn needed(config: &Config) -> CapsHashSet {
    let devices = config.ports.iter().map(|port| &port.device);
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK);
    let may_lock = limit.is_ok_and(|(now, _)| now == RLIM_INFINITY);
    let of_devices = (devices.clone()).flat_map(|device| of_device(device, may_lock));
    let mut needed: CapsHashSet = of_devices.copied().collect();
    #[cfg(feature = "dpdk")]
    {
        let machine = crate::doctor::Machine::this();
        for device in devices {
            if let Device::Pci { address } = device {
                needed.extend(machine.rights_of_card(*address));
            }
        }
    }
    if config.mn.is_some() {
        needed.extend(MOBILE_NODE);
    }
    if (config.management.tcp).is_some_and(|tcp| (1..UNPRIVILEGED).contains(&tcp.port())) {
        needed.insert(Capability::CAP_NET_BIND_SERVICE);
    }
    needed
}
