//! What a port can be, and the driver arguments that make it so.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{DeviceError, MissingDriver};

/// A network device, before DPDK knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// A new TAP interface of the kernel, named `iface`. Needs `CAP_NET_ADMIN`.
    Tap {
        /// The interface's name.
        iface: String,
    },
    /// An existing interface of the kernel, through a packet socket. Needs `CAP_NET_RAW`.
    AfPacket {
        /// The interface's name.
        iface: String,
    },
    /// An existing interface of the kernel, through AF_XDP. Needs `CAP_NET_ADMIN`, `CAP_NET_RAW`
    /// and `CAP_BPF`.
    AfXdp {
        /// The interface's name.
        iface: String,
    },
    /// Capture files: what `input` has is received once, what is sent goes to `output`.
    Pcap {
        /// The file to receive from.
        input: PathBuf,
        /// The file to create.
        output: PathBuf,
    },
    /// Receives endless packets of `size` bytes without content and sends into nothing.
    Null {
        /// The length of the packets received, in bytes.
        size: u16,
    },
    /// What is sent is received again.
    Ring,
    /// Shared memory to another process, which a Unix socket negotiates (libmemif, VPP).
    Memif {
        /// The socket's path; one that starts with `@` is abstract.
        socket: PathBuf,
        /// Whether this end listens; the other end connects.
        server: bool,
        /// Tells interfaces on the same socket apart; the same at both ends.
        id: u32,
        /// The most queue pairs to have. The same at both ends, or they do not connect.
        queues: u16,
    },
    /// The back end of a virtio device in the memory of another process, which has the front end: a virtual machine,
    /// or virtio-user.
    VhostUser {
        /// The Unix socket of the vhost-user protocol.
        socket: PathBuf,
        /// Whether this end listens; if not, the driver connects, again and again.
        server: bool,
        /// The most queue pairs to have.
        queues: u16,
    },
    /// The front end of a virtio device in our own memory; the back end is in another process, such as OVS-DPDK. It
    /// listens, as the driver of a front end that connects does so once in its life.
    VirtioUser {
        /// The Unix socket of the vhost-user protocol.
        socket: PathBuf,
        /// The most queue pairs to have. The other end must have as many.
        queues: u16,
    },
    /// A network card.
    Pci {
        /// Such as `0000:3b:00.0`. Must also be in [`EalConfig::pci`](crate::EalConfig::pci).
        address: String,
    },
    /// A virtual device as DPDK's `--vdev` option takes it: `net_vhost0,iface=/run/vhost.sock`.
    Vdev(String),
}

impl Device {
    /// The device as DPDK's `--vdev` option, or in the case of [`Device::Pci`] `--allow`, takes it:
    /// `net_tap0,iface=mag1`. `index` makes the name unique in the process; `queues` and `mtu` are for drivers
    /// that must know the number of queue pairs or the largest IP packet beforehand.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] if a name, path or address cannot be one, or the driver has no such queues.
    pub fn eal_args(&self, index: u16, queues: u16, mtu: u16) -> Result<String, DeviceError> {
        Ok(match self {
            Self::Tap { iface } => {
                format!("net_tap{index},iface={}", interface(iface)?)
            }
            Self::AfPacket { iface } => {
                format!(
                    "net_af_packet{index},iface={},qpairs={queues}",
                    interface(iface)?
                )
            }
            Self::AfXdp { iface } => {
                let iface = interface(iface)?;
                format!("net_af_xdp{index},iface={iface},start_queue=0,queue_count={queues}")
            }
            Self::Pcap { .. } if queues != 1 => {
                return Err(DeviceError::OneQueue {
                    device: self.to_string(),
                    queues,
                });
            }
            Self::Pcap { input, output } => {
                format!(
                    "net_pcap{index},rx_pcap={},tx_pcap={}",
                    path(input)?,
                    path(output)?
                )
            }
            Self::Null { size } => format!("net_null{index},size={size}"),
            Self::Ring => format!("net_ring{index}"),
            Self::Memif {
                socket, server, id, ..
            } => {
                let buffer = MEMIF_BUFFER.max(mtu.saturating_add(L2_OVERHEAD).next_multiple_of(64));
                let socket = path(socket)?;
                let role = if *server { "server" } else { "client" };
                let (socket, hidden) = match socket.strip_prefix('@') {
                    Some(name) => (name, "yes"),
                    None => (socket, "no"),
                };
                format!(
                    "net_memif{index},role={role},id={id},socket={socket},socket-abstract={hidden},bsize={buffer}"
                )
            }
            // Offloads would have a guest send what no link carries.
            Self::VhostUser { socket, server, .. } => format!(
                "net_vhost{index},iface={},queues={queues},client={},tso=0",
                path(socket)?,
                u8::from(!server)
            ),
            // Packets are to be in one buffer.
            Self::VirtioUser { socket, .. } => format!(
                "net_virtio_user{index},path={},queues={queues},queue_size={VIRTIO_QUEUE},server=1,mrg_rxbuf=0",
                path(socket)?
            ),
            Self::Pci { address } => pci_address(address)?.to_owned(),
            Self::Vdev(raw) => vdev(raw)?.to_owned(),
        })
    }

    /// The most queue pairs that the driver is known to have before it is asked, which it must not be
    /// for more of. The port itself may have fewer.
    pub(crate) fn max_queues(&self) -> u16 {
        match self {
            Self::Pcap { .. } => 1,
            Self::AfPacket { .. } => AF_PACKET_QUEUES,
            Self::AfXdp { iface } => kernel_queues(iface),
            Self::Memif { queues, .. }
            | Self::VhostUser { queues, .. }
            | Self::VirtioUser { queues, .. } => *queues,
            Self::Tap { .. }
            | Self::Null { .. }
            | Self::Ring
            | Self::Pci { .. }
            | Self::Vdev(_) => u16::MAX,
        }
    }

    /// The driver's name; None if the card or the raw text decides.
    pub(crate) fn driver(&self) -> Option<&'static str> {
        match self {
            Self::Tap { .. } => Some("net_tap"),
            Self::AfPacket { .. } => Some("net_af_packet"),
            Self::AfXdp { .. } => Some("net_af_xdp"),
            Self::Pcap { .. } => Some("net_pcap"),
            Self::Null { .. } => Some("net_null"),
            Self::Ring => Some("net_ring"),
            Self::Memif { .. } => Some("net_memif"),
            Self::VhostUser { .. } => Some("net_vhost"),
            Self::VirtioUser { .. } => Some("net_virtio_user"),
            Self::Pci { .. } | Self::Vdev(_) => None,
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tap { iface } => write!(f, "tap:{iface}"),
            Self::AfPacket { iface } => write!(f, "af_packet:{iface}"),
            Self::AfXdp { iface } => write!(f, "af_xdp:{iface}"),
            Self::Pcap { input, output } => {
                write!(f, "pcap:{},{}", input.display(), output.display())
            }
            Self::Null { .. } => f.write_str("null"),
            Self::Ring => f.write_str("ring"),
            Self::Memif {
                socket, server, id, ..
            } => {
                let role = if *server { "server" } else { "client" };
                write!(f, "memif:{},role={role},id={id}", socket.display())
            }
            Self::VhostUser { socket, server, .. } => {
                let role = if *server { "server" } else { "client" };
                write!(f, "vhost-user:{},role={role}", socket.display())
            }
            Self::VirtioUser { socket, .. } => write!(f, "virtio-user:{}", socket.display()),
            Self::Pci { address } => write!(f, "pci:{address}"),
            Self::Vdev(raw) => write!(f, "vdev {raw:?}"),
        }
    }
}

/// An Ethernet header with one VLAN tag.
pub(crate) const L2_OVERHEAD: u16 = 18;

/// `ETH_MEMIF_DEFAULT_PKT_BUFFER_SIZE`, octets of a buffer. Larger packets get larger ones: 22.11's driver never clears
/// the flag of a packet that goes on in the next buffer, so one such packet would spoil all after it.
const MEMIF_BUFFER: u16 = 2048;

/// Descriptors of a virtqueue: a power of two.
const VIRTIO_QUEUE: u16 = 1024;

/// `RTE_PMD_AF_PACKET_MAX_RINGS`.
const AF_PACKET_QUEUES: u16 = 16;

/// The receive queues of an interface of the kernel, at least one.
fn kernel_queues(iface: &str) -> u16 {
    let queues = Path::new("/sys/class/net").join(iface).join("queues");
    let entries = fs::read_dir(queues).into_iter().flatten().flatten();
    let receiving = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("rx-"));
    u16::try_from(receiving.count()).unwrap_or(u16::MAX).max(1)
}

/// The kernel's rule (`dev_valid_name`), and no comma, which ends a driver argument.
fn interface(name: &str) -> Result<&str, DeviceError> {
    let bad = |why| {
        Err(DeviceError::Interface {
            name: name.to_owned(),
            why,
        })
    };
    match name {
        "" => bad("is empty"),
        "." | ".." => bad("is reserved"),
        _ if name.len() > 15 => bad("is longer than 15 bytes"),
        _ if !name.bytes().all(|b| b.is_ascii_graphic()) => {
            bad("has a byte that is not a visible ASCII character")
        }
        _ if name.contains(['/', ':', ',', '%']) => bad("has one of / : , %"),
        _ => Ok(name),
    }
}

/// Driver arguments are separated by commas and cannot be quoted.
fn path(path: &Path) -> Result<&str, DeviceError> {
    let bad = |why| DeviceError::Path {
        path: path.to_owned(),
        why,
    };
    let text = path.to_str().ok_or_else(|| bad("is not UTF-8"))?;
    if text.is_empty() || text == "@" {
        return Err(bad("is empty"));
    }
    if text.contains([',', '=', '[', ']', '\0']) {
        return Err(bad(
            "has one of , = [ ] NUL, which driver arguments cannot carry",
        ));
    }
    Ok(text)
}

fn pci_address(address: &str) -> Result<&str, DeviceError> {
    let field = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let valid = (|| {
        let (domain, rest) = address.split_once(':')?;
        let (bus, rest) = rest.split_once(':')?;
        let (device, function) = rest.split_once('.')?;
        let function_ok = matches!(function.as_bytes(), [b'0'..=b'7']);
        Some(field(domain, 4) && field(bus, 2) && field(device, 2) && function_ok)
    })();
    if valid == Some(true) {
        Ok(address)
    } else {
        Err(DeviceError::Pci {
            address: address.to_owned(),
        })
    }
}

fn vdev(raw: &str) -> Result<&str, DeviceError> {
    let name = raw.split(',').next().unwrap_or_default();
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain && name.contains('_') && !raw.contains('\0') {
        Ok(raw)
    } else {
        Err(DeviceError::Vdev {
            raw: raw.to_owned(),
        })
    }
}

/// Why `driver` is not there, if it is not: DPDK has the drivers that are linked in, and if none is, the plugins that it
/// finds.
pub(crate) fn missing_driver(driver: &str) -> Option<MissingDriver> {
    // All others have the name of their driver.
    let driver = match driver {
        "net_virtio_user" | "virtio_user" => "net_virtio",
        driver => driver,
    };
    match crate::linked_drivers() {
        Some(linked) => not_linked(driver, linked),
        None => missing_plugin(driver),
    }
}

fn not_linked(driver: &str, linked: &[&str]) -> Option<MissingDriver> {
    (!linked.contains(&driver)).then(|| MissingDriver::NotLinked {
        driver: driver.to_owned(),
    })
}

fn missing_plugin(driver: &str) -> Option<MissingDriver> {
    let directory = PathBuf::from(dpdk_sys::RTE_EAL_PMD_PATH.to_string_lossy().into_owned());
    let library = format!("librte_{driver}.so");
    // A development package has `librte_x.so`, a runtime package only `librte_x.so.23`.
    let installed = fs::read_dir(&directory).is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with(&library))
        })
    });
    if installed {
        return None;
    }
    // Debian names a package after the ABI, which is one above the release's year.
    let abi = dpdk_sys::RTE_VER_YEAR + 1;
    let package = format!("librte-{}{abi}", driver.replace('_', "-"));
    Some(MissingDriver::Plugin {
        library,
        package,
        directory,
    })
}

#[cfg(test)]
mod tests;
