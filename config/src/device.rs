//! What a port can be made of, and how the file names it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Why a text names no device or interface: what is wrong, and what to write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceError {
    /// What is wrong.
    pub message: String,
    /// What to write.
    pub help: String,
}

impl DeviceError {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: help.into(),
        }
    }
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.help)
    }
}

impl std::error::Error for DeviceError {}

/// The name of a Linux network interface: 1 to 15 octets that both the kernel and the argument
/// lists of DPDK accept.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// Most octets of a name: `IFNAMSIZ` with its closing zero is 16.
    pub const MAX_LEN: usize = 15;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Stands in for a name that could not be read.
    pub(crate) fn none() -> Self {
        Self(String::new())
    }
}

impl FromStr for InterfaceName {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        let fits = (1..=Self::MAX_LEN).contains(&name.len());
        let usable = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | ',' | '"' | '\'');
        if fits && name.chars().all(usable) && !matches!(name, "." | "..") {
            Ok(Self(name.to_owned()))
        } else {
            let help = "use 1 to 15 characters without spaces, quotes, `/`, `:` and `,`";
            Err(DeviceError::new("not an interface name", help))
        }
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The PCI address of a device: domain, bus, device, function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PciAddress {
    /// Domain, usually 0.
    pub domain: u16,
    /// Bus.
    pub bus: u8,
    /// Device on the bus, 0 to 31.
    pub device: u8,
    /// Function of the device, 0 to 7.
    pub function: u8,
}

impl FromStr for PciAddress {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let parse = || {
            let (front, function) = text.split_once('.')?;
            let mut parts = front.rsplit(':');
            let (device, bus) = (parts.next()?, parts.next()?);
            let domain = parts.next().unwrap_or("0000");
            let hex = |part: &str, len: usize, max: u16| {
                let exact = part.len() == len && part.chars().all(|c| c.is_ascii_hexdigit());
                let number = u16::from_str_radix(part, 16).ok()?;
                (exact && number <= max).then_some(number)
            };
            let octet = |part, len, max| u8::try_from(hex(part, len, max)?).ok();
            let address = Self {
                domain: hex(domain, 4, u16::MAX)?,
                bus: octet(bus, 2, 0xff)?,
                device: octet(device, 2, 0x1f)?,
                function: octet(function, 1, 7)?,
            };
            parts.next().is_none().then_some(address)
        };
        parse().ok_or_else(|| {
            let help = "write it as lspci -D prints it, such as pci:0000:00:05.0";
            DeviceError::new("not a PCI address", help)
        })
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

/// Which end of a Unix socket a port is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum End {
    /// Listens on it.
    Server,
    /// Connects to it, whenever the other end is there.
    Client,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Client => "client",
        })
    }
}

/// What a port is made of. `Display` and serialisation spell it as the file does; a raw
/// `vdev` has its argument list as text.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Device {
    /// `tap:NAME`: a TAP interface that is created; the kernel is at its other end.
    Tap {
        /// The interface's name in Linux.
        interface: InterfaceName,
    },
    /// `af_packet:IFACE`: an existing interface, through packet sockets.
    AfPacket {
        /// The interface.
        interface: InterfaceName,
    },
    /// `af_xdp:IFACE`: an existing interface, through AF_XDP sockets.
    AfXdp {
        /// The interface.
        interface: InterfaceName,
    },
    /// `pcap:IN,OUT`: packets from one capture file, to another.
    Pcap {
        /// The file that is read.
        input: PathBuf,
        /// The file that is written.
        output: PathBuf,
    },
    /// `null`: receives and discards endlessly.
    Null,
    /// `ring`: sends to itself.
    Ring,
    /// `memif:SOCKET[,server|client][,id=N][,queues=N]`: shared memory with another process, such as VPP; `client`,
    /// id 0 and one queue if nothing else is said.
    Memif {
        /// The Unix socket on which the two meet.
        socket: PathBuf,
        /// Which end this is. The client brings the shared memory.
        end: End,
        /// Tells connections over one socket apart.
        id: u32,
        /// Queue pairs, as many as the other end has.
        queues: u16,
    },
    /// `vhost-user:SOCKET[,server|client][,queues=N]`: the back end of a virtio device whose front end is in another
    /// process, such as a virtual machine; `client` and one queue if nothing else is said.
    VhostUser {
        /// The Unix socket on which the two meet.
        socket: PathBuf,
        /// Which end of it this is.
        end: End,
        /// Queue pairs, no more than the front end uses.
        queues: u16,
    },
    /// `virtio-user:SOCKET[,queues=N]`: the front end of a virtio device whose back end is in another process, such as
    /// OVS-DPDK, and connects; one queue if nothing else is said.
    VirtioUser {
        /// The Unix socket on which this process listens.
        socket: PathBuf,
        /// Queue pairs, no more than the back end offers.
        queues: u16,
    },
    /// `pci:0000:00:05.0`: a device that is bound to a driver for user space.
    Pci {
        /// Its address.
        address: PciAddress,
    },
    /// A virtual device of DPDK, given by the key `vdev`.
    Vdev {
        /// Its name and arguments, as for the EAL option `--vdev`.
        args: String,
    },
}

impl Device {
    /// How the file names devices.
    pub const FORMS: &'static str = "tap:NAME, af_packet:IFACE, af_xdp:IFACE, pcap:IN,OUT, null, ring, \
         memif:SOCKET[,server|client][,id=N][,queues=N], vhost-user:SOCKET[,server|client][,queues=N], \
         virtio-user:SOCKET[,queues=N] or pci:ADDRESS";

    /// The Linux interface it is or uses, if any.
    pub fn interface(&self) -> Option<&InterfaceName> {
        match self {
            Self::Tap { interface } | Self::AfPacket { interface } | Self::AfXdp { interface } => {
                Some(interface)
            }
            Self::Pcap { .. }
            | Self::Null
            | Self::Ring
            | Self::Memif { .. }
            | Self::VhostUser { .. }
            | Self::VirtioUser { .. }
            | Self::Pci { .. }
            | Self::Vdev { .. } => None,
        }
    }

    /// The Unix socket on which it meets another process, if it does; the names of abstract ones begin with `@`.
    pub fn socket(&self) -> Option<&Path> {
        match self {
            Self::Memif { socket, .. }
            | Self::VhostUser { socket, .. }
            | Self::VirtioUser { socket, .. } => Some(socket),
            Self::Tap { .. }
            | Self::AfPacket { .. }
            | Self::AfXdp { .. }
            | Self::Pcap { .. }
            | Self::Null
            | Self::Ring
            | Self::Pci { .. }
            | Self::Vdev { .. } => None,
        }
    }

    /// How many queue pairs it is to have, if the file says so.
    pub fn queues(&self) -> Option<u16> {
        match self {
            Self::Memif { queues, .. }
            | Self::VhostUser { queues, .. }
            | Self::VirtioUser { queues, .. } => Some(*queues),
            Self::Tap { .. }
            | Self::AfPacket { .. }
            | Self::AfXdp { .. }
            | Self::Pcap { .. }
            | Self::Null
            | Self::Ring
            | Self::Pci { .. }
            | Self::Vdev { .. } => None,
        }
    }

    /// A raw virtual device from the text of the key `vdev`.
    ///
    /// # Errors
    /// If the text cannot be an argument of the EAL option `--vdev` for a network device.
    pub fn vdev(args: &str) -> Result<Self, DeviceError> {
        let name = args.split(',').next().unwrap_or("");
        if args
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || !c.is_ascii())
        {
            let help = "write it as for the EAL option --vdev, without spaces";
            return Err(DeviceError::new("has characters that DPDK refuses", help));
        }
        if name.len() <= "net_".len() || !(name.starts_with("net_") || name.starts_with("eth_")) {
            let help = "write it such as net_af_packet0,iface=eth0";
            return Err(DeviceError::new("not a virtual network device", help));
        }
        Ok(Self::Vdev {
            args: args.to_owned(),
        })
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let (kind, argument) = match text.split_once(':') {
            Some((kind, argument)) => (kind, Some(argument)),
            None => (text, None),
        };
        let needed = || {
            argument.filter(|a| !a.is_empty()).ok_or_else(|| {
                let help = format!("one of {}", Self::FORMS);
                DeviceError::new(format!("`{kind}` needs an argument"), help)
            })
        };
        let plain = |device: Self| {
            if argument.is_none() {
                return Ok(device);
            }
            let message = format!("`{kind}` has no argument");
            Err(DeviceError::new(message, format!("write \"{kind}\" alone")))
        };
        match kind {
            "tap" => Ok(Self::Tap {
                interface: needed()?.parse()?,
            }),
            "af_packet" => Ok(Self::AfPacket {
                interface: needed()?.parse()?,
            }),
            "af_xdp" => Ok(Self::AfXdp {
                interface: needed()?.parse()?,
            }),
            "pcap" => pcap(needed()?),
            "null" => plain(Self::Null),
            "ring" => plain(Self::Ring),
            "memif" => memif(needed()?),
            "vhost-user" => vhost_user(needed()?),
            "virtio-user" => virtio_user(needed()?),
            "pci" => Ok(Self::Pci {
                address: needed()?.parse()?,
            }),
            _ if kind.starts_with("net_") => Err(DeviceError::new(
                "a raw DPDK device",
                format!("write it as: vdev = \"{text}\""),
            )),
            _ => Err(DeviceError::new(
                "unknown kind of device",
                format!("one of {}", Self::FORMS),
            )),
        }
    }
}

fn pcap(argument: &str) -> Result<Device, DeviceError> {
    match argument.split_once(',') {
        Some((input, output)) if ![input, output].contains(&"") && !output.contains(',') => {
            Ok(Device::Pcap {
                input: input.into(),
                output: output.into(),
            })
        }
        _ => Err(DeviceError::new(
            "not two files",
            "write it such as pcap:in.pcap,out.pcap",
        )),
    }
}

/// Longest path that the address of a Unix socket holds, in octets.
pub(crate) const MAX_SOCKET_PATH: usize = 107;

/// Most queue pairs of a port that shares memory: what virtio-user has.
const MAX_QUEUES: u16 = 8;

/// A socket and what is said about it.
struct Meeting {
    socket: PathBuf,
    end: Option<End>,
    id: Option<u32>,
    queues: u16,
}

/// Takes the argument of a `kind` apart, whose options are among those in `known`.
fn meeting(kind: &str, argument: &str, known: &[&str]) -> Result<Meeting, DeviceError> {
    let mut parts = argument.split(',');
    let mut meeting = Meeting {
        socket: socket(parts.next().unwrap_or(""))?,
        end: None,
        id: None,
        queues: 1,
    };
    let mut said = Vec::new();
    for part in parts {
        let name = part.split('=').next().unwrap_or(part);
        if !known.contains(&name) {
            let message = format!("`{part}` is no option of {kind}");
            let all = known.iter().map(|name| match *name {
                "id" => "id=0",
                "queues" => "queues=1",
                name => name,
            });
            let help = format!("its options are {}", all.collect::<Vec<_>>().join(", "));
            return Err(DeviceError::new(message, help));
        }
        let about = |name| match name {
            "server" | "client" => "end",
            name => name,
        };
        if let Some((_, other)) = said.iter().find(|(what, _)| *what == about(name)) {
            let message = format!("`{part}` after `{other}`");
            return Err(DeviceError::new(message, "say it once"));
        }
        said.push((about(name), part));
        match part.split_once('=') {
            None if part == "server" => meeting.end = Some(End::Server),
            None if part == "client" => meeting.end = Some(End::Client),
            Some(("id", number)) => meeting.id = Some(number_of(part, number, 0, u32::MAX)?),
            Some(("queues", number)) => {
                let queues = number_of(part, number, 1, u32::from(MAX_QUEUES))?;
                meeting.queues = u16::try_from(queues).unwrap_or(MAX_QUEUES);
            }
            _ => {
                let message = format!("`{part}` is not how it is written");
                let help =
                    "`server` and `client` stand alone, `id` and `queues` have a number: id=0";
                return Err(DeviceError::new(message, help));
            }
        }
    }
    Ok(meeting)
}

fn number_of(part: &str, number: &str, least: u32, most: u32) -> Result<u32, DeviceError> {
    // A sign is not refused by `parse`.
    let plain = number.chars().all(|c| c.is_ascii_digit());
    let number = number
        .parse()
        .ok()
        .filter(|n| plain && (least..=most).contains(n));
    number.ok_or_else(|| {
        let message = format!("`{part}` is not within its bounds");
        DeviceError::new(message, format!("give a number from {least} to {most}"))
    })
}

/// A path that both an address of a Unix socket and the argument lists of DPDK hold.
fn socket(path: &str) -> Result<PathBuf, DeviceError> {
    if !(1..=MAX_SOCKET_PATH).contains(&path.len()) {
        let help = format!("give the path of a Unix socket, at most {MAX_SOCKET_PATH} octets");
        return Err(DeviceError::new("not a socket path", help));
    }
    if path.contains(['=', '[', ']', '\0']) {
        let help = "DPDK takes no `=`, `[`, `]` and `,` in it";
        return Err(DeviceError::new("not a socket path", help));
    }
    if path == "@" || !(path.contains('/') || path.starts_with('@')) || path.ends_with('/') {
        let help = "name its directory, such as /run/flowmob/lma1.memif";
        return Err(DeviceError::new("not a socket path", help));
    }
    Ok(path.into())
}

/// The sockets of vhost-user have files.
fn with_file(meeting: Meeting) -> Result<Meeting, DeviceError> {
    if meeting.socket.to_string_lossy().starts_with('@') {
        let help = "only memif has abstract sockets: give a path, such as /run/flowmob/lma1.vhost";
        return Err(DeviceError::new("not a socket path", help));
    }
    Ok(meeting)
}

fn memif(argument: &str) -> Result<Device, DeviceError> {
    let meeting = meeting("memif", argument, &["server", "client", "id", "queues"])?;
    Ok(Device::Memif {
        end: meeting.end.unwrap_or(End::Client),
        id: meeting.id.unwrap_or(0),
        queues: meeting.queues,
        socket: meeting.socket,
    })
}

fn vhost_user(argument: &str) -> Result<Device, DeviceError> {
    let meeting = meeting("vhost-user", argument, &["server", "client", "queues"])?;
    let meeting = with_file(meeting)?;
    Ok(Device::VhostUser {
        end: meeting.end.unwrap_or(End::Client),
        queues: meeting.queues,
        socket: meeting.socket,
    })
}

fn virtio_user(argument: &str) -> Result<Device, DeviceError> {
    let meeting = with_file(meeting("virtio-user", argument, &["queues"])?)?;
    Ok(Device::VirtioUser {
        queues: meeting.queues,
        socket: meeting.socket,
    })
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tap { interface } => write!(f, "tap:{interface}"),
            Self::AfPacket { interface } => write!(f, "af_packet:{interface}"),
            Self::AfXdp { interface } => write!(f, "af_xdp:{interface}"),
            Self::Pcap { input, output } => {
                write!(f, "pcap:{},{}", input.display(), output.display())
            }
            Self::Null => f.write_str("null"),
            Self::Ring => f.write_str("ring"),
            Self::Memif {
                socket,
                end,
                id,
                queues,
            } => {
                write!(
                    f,
                    "memif:{},{end},id={id},queues={queues}",
                    socket.display()
                )
            }
            Self::VhostUser {
                socket,
                end,
                queues,
            } => {
                write!(f, "vhost-user:{},{end},queues={queues}", socket.display())
            }
            Self::VirtioUser { socket, queues } => {
                write!(f, "virtio-user:{},queues={queues}", socket.display())
            }
            Self::Pci { address } => write!(f, "pci:{address}"),
            Self::Vdev { args } => f.write_str(args),
        }
    }
}

impl Serialize for Device {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_printed() {
        for (text, printed) in [
            ("tap:core0", "tap:core0"),
            ("af_packet:eth0", "af_packet:eth0"),
            ("af_xdp:eth0.5", "af_xdp:eth0.5"),
            ("pcap:a.pcap,/tmp/b.pcap", "pcap:a.pcap,/tmp/b.pcap"),
            ("null", "null"),
            ("ring", "ring"),
            (
                "memif:/run/m.sock",
                "memif:/run/m.sock,client,id=0,queues=1",
            ),
            (
                "memif:./m,queues=2,id=4294967295,server",
                "memif:./m,server,id=4294967295,queues=2",
            ),
            ("memif:@lab,id=7", "memif:@lab,client,id=7,queues=1"),
            (
                "vhost-user:/run/v.sock",
                "vhost-user:/run/v.sock,client,queues=1",
            ),
            (
                "vhost-user:/run/v.sock,queues=8,server",
                "vhost-user:/run/v.sock,server,queues=8",
            ),
            (
                "virtio-user:/run/v.sock",
                "virtio-user:/run/v.sock,queues=1",
            ),
            ("pci:0000:00:05.0", "pci:0000:00:05.0"),
            ("pci:3b:1F.7", "pci:0000:3b:1f.7"),
        ] {
            let device: Device = text.parse().unwrap();
            assert_eq!(device.to_string(), printed);
            assert_eq!(printed.parse(), Ok(device));
        }
        assert!(Device::vdev("net_tap0,iface=x").is_ok());
    }

    #[test]
    fn anything_else_is_refused_with_help() {
        let long = format!("memif:/{}", "x".repeat(MAX_SOCKET_PATH));
        for text in [
            "",
            "tap",
            "tap:",
            "tap:sixteen-octets-x",
            "tap:a b",
            "tap:..",
            "tap:a,b",
            "eth0",
            "null:x",
            "ring:",
            "pcap:a",
            "pcap:a,",
            "pcap:,b",
            "pcap:a,b,c",
            "memif:,server",
            "memif:m",
            "memif:/run/",
            "memif:@",
            "memif:/run/a=b",
            "memif:/m,sever",
            "memif:/m,id=x",
            "memif:/m,id=+1",
            "memif:/m,id=4294967296",
            "memif:/m,id",
            "memif:/m,server=1",
            "memif:/m,queues=0",
            "memif:/m,queues=9",
            "memif:/m,queues=65537",
            "memif:/m,server,client",
            "memif:/m,id=1,id=1",
            "vhost-user:",
            "vhost-user:@v",
            "vhost-user:/v,id=1",
            "virtio-user:/v,server",
            "virtio-user:/v,client",
            &long,
            "pci:00:20.0",
            "pci:00:05.8",
            "pci:5.0",
            "pci:0:0000:00:05.0",
            "pci:+000:00:05.0",
            "net_tap0",
        ] {
            let error = text.parse::<Device>().unwrap_err();
            assert!(!error.help.is_empty(), "{text}");
        }
        for args in ["", "net_", "tap0", "net_tap0, iface=x", "net_ä"] {
            assert!(Device::vdev(args).is_err(), "{args}");
        }
    }
}
