//! The logical interface on Linux: a TUN device, packet sockets, and the `ip` command.

use std::fs;
use std::io::{self, IoSlice};
use std::net::Ipv6Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use flow::{DropReason, MacAddr};
use netdev::{Options, PacketSocket, Tun};
use nix::net::if_::InterfaceFlags;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::logical::{Link, LogicalInterface, Output};
use super::status::StatusRequests;
use super::{AccessId, MnSettings};

/// How long the loop sleeps at most: the delay of a stop and of an answered status request.
const MAX_SLEEP: Duration = Duration::from_millis(50);
/// How often the links are looked at.
const LINK_CHECK: Duration = Duration::from_millis(500);
/// Packets taken from one source before the next has its turn.
const BURST: usize = 64;
/// Octets of socket buffer per access and direction: about a second of 20,000 small packets.
const SOCKET_BUFFER: usize = 32 << 20;
/// Packets that wait for this process on the logical interface.
const TX_QUEUE_LEN: &str = "10000";
/// A frame that the host's receive offload has merged is at most this long.
const MAX_FRAME: usize = 65_536 + 14;

/// Runs the logical interface until `stop` is set, and says when it is up. Afterwards all interfaces are as before.
///
/// # Errors
/// No rights to make TUN devices and packet sockets, an access interface that does not exist, a
/// name that is taken, or an `ip` command that fails at the start.
pub(crate) fn run(
    settings: &MnSettings,
    stop: &AtomicBool,
    requests: StatusRequests,
    up: impl FnOnce(),
) -> anyhow::Result<()> {
    let tun = Tun::create(&settings.interface).with_context(|| {
        format!(
            "cannot create the TUN device {}: it needs CAP_NET_ADMIN and /dev/net/tun",
            settings.interface
        )
    })?;
    let mut ports = Vec::new();
    for access in &settings.accesses {
        let port = AccessPort::open(&access.interface).with_context(|| {
            format!(
                "cannot use {} as access \"{}\"",
                access.interface, access.name
            )
        })?;
        ports.push(port);
    }
    prepare_tun(&settings.interface)?;
    let links: Vec<Link> = ports.iter().map(|p| p.link).collect();
    let machine = LogicalInterface::new(settings.clone(), &links, Instant::now());
    let mut node = Node {
        interface: settings.interface.clone(),
        tun,
        ports,
        machine,
        buffer: vec![0; MAX_FRAME],
        requests,
    };
    tracing::info!(interface = %settings.interface, accesses = links.len(), "logical interface up");
    up();
    node.serve(stop)
}

/// An access interface while it belongs to the logical interface.
struct AccessPort {
    interface: String,
    socket: PacketSocket,
    link: Link,
    _kernel: KernelIpv6Off,
}

impl AccessPort {
    fn open(interface: &str) -> anyhow::Result<Self> {
        ip(&["link", "set", "dev", interface, "up"])?;
        let mac = find_interface(interface)?
            .mac
            .context("it has no Ethernet address")?;
        let mtu = fs::read_to_string(sysctl(interface, "mtu"))
            .context("cannot read its MTU: is IPv6 compiled in?")?;
        // Before the kernel's IPv6 goes: no solicitation may fall between the two.
        let socket = PacketSocket::open(
            interface,
            Options {
                all_multicast: true,
                outgoing: false,
                timestamps: false,
                buffer: SOCKET_BUFFER,
            },
        )
        .context("cannot open a packet socket")?;
        Ok(Self {
            interface: interface.to_owned(),
            socket,
            link: Link {
                mac,
                mtu: mtu.trim().parse().context("its MTU is no number")?,
                up: find_interface(interface)?.running,
            },
            _kernel: KernelIpv6Off::new(interface)?,
        })
    }
}

/// Keeps the kernel's IPv6 off an interface: it would answer solicitations for itself, and send
/// errors for packets that are not its own.
struct KernelIpv6Off {
    path: PathBuf,
    /// What it was; `None` if it was off already.
    before: Option<String>,
}

impl KernelIpv6Off {
    fn new(interface: &str) -> anyhow::Result<Self> {
        let path = sysctl(interface, "disable_ipv6");
        let before = set_sysctl(&path, "1").context("cannot switch off the kernel's IPv6")?;
        Ok(Self { path, before })
    }
}

impl Drop for KernelIpv6Off {
    fn drop(&mut self) {
        let restored = self.before.as_ref().map(|it| fs::write(&self.path, it));
        if let Some(Err(error)) = restored {
            tracing::warn!(path = %self.path.display(), %error, "cannot restore the kernel's IPv6");
        }
    }
}

/// Has a setting of the kernel be `value`, and returns what it was; `None` if it was that already, and then nothing is
/// written: in a container these files can be set from outside only.
fn set_sysctl(path: &Path, value: &str) -> anyhow::Result<Option<String>> {
    let what = || path.display().to_string();
    let before = fs::read_to_string(path).with_context(what)?;
    if before.trim() == value {
        return Ok(None);
    }
    fs::write(path, value).with_context(what)?;
    Ok(Some(before))
}

struct Node {
    interface: String,
    tun: Tun,
    ports: Vec<AccessPort>,
    machine: LogicalInterface,
    buffer: Vec<u8>,
    requests: StatusRequests,
}

impl Node {
    fn serve(&mut self, stop: &AtomicBool) -> anyhow::Result<()> {
        let mut next_link_check = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now >= next_link_check {
                self.check_links(now);
                next_link_check = now + LINK_CHECK;
            }
            if self.machine.poll_timeout().is_some_and(|t| t <= now) {
                self.machine.handle_timeout(now);
            }
            self.perform();
            for reply in self.requests.0.try_iter() {
                // Whoever asked may have stopped waiting.
                let _ = reply.try_send(self.machine.status());
            }
            self.wait(now)?;
            let now = Instant::now();
            for number in 0..self.ports.len() {
                self.drain_access(AccessId(number), now)?;
            }
            self.drain_tun()?;
        }
        Ok(())
    }

    fn wait(&self, now: Instant) -> anyhow::Result<()> {
        let due = self.machine.poll_timeout();
        let sleep = due.map_or(MAX_SLEEP, |t| {
            t.saturating_duration_since(now).min(MAX_SLEEP)
        });
        let timeout = PollTimeout::try_from(sleep).unwrap_or(PollTimeout::ZERO);
        let mut fds = vec![PollFd::new(self.tun.as_fd(), PollFlags::POLLIN)];
        let sockets = self.ports.iter().map(|p| p.socket.as_fd());
        fds.extend(sockets.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error).context("cannot wait for packets"),
        }
    }

    /// Downlink: at most one burst.
    fn drain_access(&mut self, id: AccessId, now: Instant) -> anyhow::Result<()> {
        let Some(port) = self.ports.get(id.0) else {
            return Ok(());
        };
        for _ in 0..BURST {
            let len = match port.socket.recv(&mut self.buffer) {
                Ok(len) => len,
                Err(e) if passing(&e) => break,
                Err(e) => bail!("cannot receive on {}: {e}", port.interface),
            };
            let frame = self.buffer.get(..len).unwrap_or_default();
            if let Some(packet) = self.machine.handle_frame(id, frame, now)
                && self.tun.send(packet).is_err()
            {
                self.machine.count_drop(DropReason::PortDown);
            }
        }
        Ok(())
    }

    /// Uplink: at most one burst.
    fn drain_tun(&mut self) -> anyhow::Result<()> {
        for _ in 0..BURST {
            let len = match self.tun.recv(&mut self.buffer) {
                Ok(len) => len,
                Err(e) if passing(&e) => break,
                Err(e) => bail!("cannot read from {}: {e}", self.interface),
            };
            let packet = self.buffer.get(..len).unwrap_or_default();
            let Some((id, header)) = self.machine.handle_packet(packet) else {
                continue;
            };
            let parts = [IoSlice::new(&header), IoSlice::new(packet)];
            let port = self.ports.get(id.0);
            if let Some(Err(error)) = port.map(|p| p.socket.send(&parts)) {
                self.machine.count_drop(send_failure(&error));
            }
        }
        Ok(())
    }

    fn check_links(&mut self, now: Instant) {
        for (number, port) in self.ports.iter_mut().enumerate() {
            // An interface that is gone is a link that is down: it may be a dongle.
            let running = find_interface(&port.interface).is_ok_and(|i| i.running);
            if running != port.link.up {
                port.link.up = running;
                tracing::info!(interface = %port.interface, up = running, "access link");
                self.machine.handle_link(AccessId(number), running, now);
            }
        }
    }

    fn perform(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            let result = match output {
                Output::Transmit(id, frame) => {
                    let port = self.ports.get(id.0);
                    let sent = port.map(|p| p.socket.send(&[IoSlice::new(&frame)]));
                    if let Some(Err(error)) = sent {
                        self.machine.count_drop(send_failure(&error));
                    }
                    Ok(())
                }
                Output::AddAddress(address) => self.address("replace", address),
                Output::RemoveAddress(address) => self.address("del", address),
                Output::SetMtu(mtu) => {
                    let mtu = mtu.to_string();
                    ip(&["link", "set", "dev", &self.interface, "mtu", &mtu])
                }
                Output::DefaultRoute(on) => {
                    let verb = if on { "replace" } else { "del" };
                    ip(&["-6", "route", verb, "default", "dev", &self.interface])
                }
            };
            if let Err(error) = result {
                tracing::error!(interface = %self.interface, "{error:#}");
            }
        }
    }

    fn address(&self, verb: &str, address: Ipv6Addr) -> anyhow::Result<()> {
        tracing::info!(interface = %self.interface, %address, verb, "address");
        let text = format!("{address}/64");
        // No duplicate address detection: the prefix is this mobile's alone (RFC 5213 §4.1).
        let detection: &[&str] = if verb == "del" { &[] } else { &["nodad"] };
        let command = ["-6", "addr", verb, &text, "dev", &self.interface];
        ip(&[&command[..], detection].concat())
    }
}

/// Errors that end a burst and not the process.
fn passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::EINTR | libc::ENETDOWN | libc::ENXIO)
    )
}

fn send_failure(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::EMSGSIZE) => DropReason::TooBig,
        Some(libc::EAGAIN | libc::ENOBUFS) => DropReason::TxFull,
        _ => DropReason::PortDown,
    }
}

fn prepare_tun(interface: &str) -> anyhow::Result<()> {
    let device = ["link", "set", "dev", interface];
    // The kernel must not add a link-local address of its own: it would solicit routers here.
    ip(&[&device[..], &["addrgenmode", "none"]].concat())?;
    ip(&[&device[..], &["txqueuelen", TX_QUEUE_LEN]].concat())?;
    for (key, value) in [("disable_ipv6", "0"), ("accept_ra", "0")] {
        set_sysctl(&sysctl(interface, key), value)?;
    }
    ip(&[&device[..], &["up"]].concat())
}

struct Interface {
    mac: Option<MacAddr>,
    running: bool,
}

fn find_interface(name: &str) -> anyhow::Result<Interface> {
    let all = nix::ifaddrs::getifaddrs().context("cannot list interfaces")?;
    for entry in all.filter(|e| e.interface_name == name) {
        let link = entry.address.as_ref().and_then(|a| a.as_link_addr());
        let Some(link) = link else { continue };
        let up = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
        return Ok(Interface {
            mac: link.addr().map(MacAddr),
            running: entry.flags.contains(up),
        });
    }
    bail!("there is no interface {name}")
}

fn sysctl(interface: &str, key: &str) -> PathBuf {
    ["/proc/sys/net/ipv6/conf", interface, key].iter().collect()
}

fn ip(args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(args)
        .output()
        .context("cannot run ip: install iproute2")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("ip {}: {}", args.join(" "), said.trim());
    }
    Ok(())
}
