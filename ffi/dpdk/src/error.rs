//! What can go wrong, each with what to do about it.

use std::path::PathBuf;

use crate::log::Said;

/// A driver that DPDK does not have here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MissingDriver {
    /// It would be a plugin, which is not installed.
    #[error(
        "DPDK's driver {library} is not in {}: `apt-get install {package}`",
        directory.display()
    )]
    Plugin {
        /// The plugin's file.
        library: String,
        /// The Debian package that has it.
        package: String,
        /// Where DPDK looks for plugins.
        directory: PathBuf,
    },
    /// Drivers are linked in, and it is not among them.
    #[error(
        "DPDK's driver {driver} is not linked into this program: take the one of the Debian package, which loads drivers"
    )]
    NotLinked {
        /// The driver.
        driver: String,
    },
}

/// Why DPDK's environment did not start.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// There was an environment in this process: DPDK cannot start twice.
    #[error("DPDK was initialised before in this process: it can be only once")]
    AlreadyInitialised,
    /// An option DPDK cannot take.
    #[error("DPDK option {option} = {value:?}: {why}")]
    Option {
        /// The field of [`EalConfig`](crate::EalConfig).
        option: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Fewer free hugepages than asked for.
    #[error(
        "{needed_mib} MiB of hugepages needed, {free_mib} MiB free: reserve them with \
         `sysctl vm.nr_hugepages={pages}` ({page_kib} KiB each), or set memory = \"anonymous\""
    )]
    Hugepages {
        /// MiB asked for.
        needed_mib: u64,
        /// MiB in free hugepages of all sizes.
        free_mib: u64,
        /// Size of the default hugepage.
        page_kib: u64,
        /// The number of default hugepages that would do.
        pages: u64,
    },
    /// Less free memory than asked for.
    #[error("{needed_mib} MiB of memory needed, {available_mib} MiB available: lower memory_mib")]
    Memory {
        /// MiB asked for.
        needed_mib: u64,
        /// MiB that the kernel deems available.
        available_mib: u64,
    },
    /// The thread's CPU affinity could not be read or restored.
    #[error("cannot {action} the CPU affinity of the calling thread: {reason}")]
    Affinity {
        /// `read` or `restore`.
        action: &'static str,
        /// The system's reason.
        reason: nix::errno::Errno,
    },
    /// DPDK said no.
    #[error("DPDK did not initialise: {reason}{said}")]
    Init {
        /// The reason it gave.
        reason: String,
        /// What it logged.
        said: Said,
    },
}

/// Why a pool was not made.
#[derive(Debug, thiserror::Error)]
pub enum MempoolError {
    /// A parameter is out of its bounds.
    #[error("packet pool {name:?}: {why}")]
    Bad {
        /// The pool's name.
        name: String,
        /// Which parameter, and its bounds.
        why: &'static str,
    },
    /// The name is taken.
    #[error("packet pool {name:?} exists already")]
    Exists {
        /// The pool's name.
        name: String,
    },
    /// The environment's memory is too small.
    #[error(
        "packet pool {name:?} needs about {needed_mib} MiB, which is not free in DPDK's \
         {memory_mib} MiB of {kind} memory: raise memory_mib or lower the number of packets"
    )]
    Memory {
        /// The pool's name.
        name: String,
        /// About what it needs.
        needed_mib: u64,
        /// What the environment has, in use or not.
        memory_mib: u32,
        /// Anonymous or hugepage.
        kind: &'static str,
    },
    /// The pool driver is missing.
    #[error("packet pools: {0}")]
    NoDriver(MissingDriver),
    /// DPDK said no.
    #[error("packet pool {name:?}: {reason}{said}")]
    Refused {
        /// The pool's name.
        name: String,
        /// The reason it gave.
        reason: String,
        /// What it logged.
        said: Said,
    },
}

/// Why a [`Device`](crate::Device) cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Not an interface name.
    #[error("interface name {name:?} {why}")]
    Interface {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A path that a driver argument cannot carry.
    #[error("path {path:?} {why}")]
    Path {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not a PCI address.
    #[error("{address:?} is not a PCI address such as 0000:3b:00.0")]
    Pci {
        /// The text.
        address: String,
    },
    /// Not a virtual device.
    #[error("{raw:?} is not a virtual device such as net_tap7,iface=mag1")]
    Vdev {
        /// The text.
        raw: String,
    },
    /// The driver has one queue pair.
    #[error("{device} has one queue pair, {queues} are needed: use one worker")]
    OneQueue {
        /// The device.
        device: String,
        /// The number asked for.
        queues: u16,
    },
}

/// Why a port did not open or start.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The device cannot be.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// There is no such interface in this network namespace.
    #[error("{device}: this network namespace has no interface {iface:?} (see `ip link`)")]
    NoInterface {
        /// The device.
        device: String,
        /// The interface's name.
        iface: String,
    },
    /// The directory of its socket is missing.
    #[error(
        "{device}: the directory of its socket is not there: `mkdir -p {}`",
        directory.display()
    )]
    NoSocketDirectory {
        /// The device.
        device: String,
        /// The directory.
        directory: PathBuf,
    },
    /// It is to listen where it cannot.
    #[error("{device}: it cannot listen on {}: {why}", path.display())]
    Socket {
        /// The device.
        device: String,
        /// The socket's path.
        path: PathBuf,
        /// What is in its way.
        why: String,
    },
    /// The driver is missing.
    #[error("{device}: {missing}")]
    NoDriver {
        /// The device.
        device: String,
        /// Which, and why.
        missing: MissingDriver,
    },
    /// The process lacks a capability.
    #[error(
        "{device} needs {capability}: run as root, or `setcap {lower}+ep` on the program, or add \
         the capability to the container{said}",
        lower = capability.to_lowercase()
    )]
    Privilege {
        /// The device.
        device: String,
        /// The capability.
        capability: &'static str,
        /// What DPDK logged.
        said: Said,
    },
    /// No driver took the device.
    #[error("{device}: DPDK cannot open it: {reason}{said}")]
    Probe {
        /// The device.
        device: String,
        /// The reason it gave.
        reason: String,
        /// What it logged.
        said: Said,
    },
    /// No driver took the card when the environment started, or it was not in [`crate::EalConfig::pci`].
    #[error(
        "{device}: DPDK found no such card, or may not drive it: it must be there and bound to vfio-pci \
         (see `dpdk-devbind.py --status`)"
    )]
    NoCard {
        /// The device.
        device: String,
    },
    /// The device has too few queues.
    #[error(
        "{device} has at most {max} queue pairs, {wanted} are needed: one for each worker, so \
         use fewer workers"
    )]
    Queues {
        /// The device.
        device: String,
        /// The number asked for.
        wanted: u16,
        /// The number it has.
        max: u16,
    },
    /// The MTU is not one for this device or pool.
    #[error("{device}: MTU {mtu} is not within {min} and {max}, given by {by}")]
    Mtu {
        /// The device.
        device: String,
        /// The MTU asked for.
        mtu: u16,
        /// The least that works.
        min: u16,
        /// The most that works.
        max: u16,
        /// Who sets the bound.
        by: &'static str,
    },
    /// The station address is not one a station can have.
    #[error("{device}: the MAC address must be unicast and not zero")]
    Mac {
        /// The device.
        device: String,
    },
    /// The port was started before.
    #[error("{device} was started before: its queues have their owners")]
    Started {
        /// The device.
        device: String,
    },
    /// A step of the set-up failed.
    #[error("{device}: cannot {step}: {reason}{said}")]
    Step {
        /// The device.
        device: String,
        /// The step.
        step: &'static str,
        /// The reason DPDK gave.
        reason: String,
        /// What it logged.
        said: Said,
    },
}

/// Why a thread was not registered.
#[derive(Debug, thiserror::Error)]
pub enum ThreadError {
    /// The thread is known to DPDK already.
    #[error("the thread is registered with DPDK already")]
    Registered,
    /// DPDK said no.
    #[error("DPDK did not register the thread: {reason}{said}")]
    Refused {
        /// The reason it gave.
        reason: String,
        /// What it logged.
        said: Said,
    },
}
