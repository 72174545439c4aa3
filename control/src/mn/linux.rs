//! The logical interface on Linux: a TUN device, packet sockets, and the `ip` command.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind, IoSlice};
use std::net::Ipv6Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use flow::DropReason;
use netdev::Tun;
use nix::net::if_::InterfaceFlags;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::SockaddrIn6;

use super::access::{Access, ip};
use super::kernel::{KernelIpv6, sysctl};
use super::logical::{LogicalInterface, Output};
use super::status::StatusRequests;
use super::{AccessId, MnSettings};
use crate::api::event::What;
use crate::feed::EventMaker;

/// How long the loop sleeps at most: the delay of a stop and of an answered status request.
const MAX_SLEEP: Duration = Duration::from_millis(50);
/// How often the links are looked at.
const LINK_CHECK: Duration = Duration::from_millis(500);
/// Packets taken from one source before the next has its turn.
const BURST: usize = 64;
/// Packets that wait for this process on the logical interface.
const TX_QUEUE_LEN: &str = "10000";
/// A frame that the host's receive offload has merged is at most this long.
const MAX_FRAME: usize = 65_536 + 14;

/// Runs the logical interface until `stop` is set, and says when it is up. Afterwards all interfaces are as before,
/// also those that a process left which was killed: what they were is in the file `note`.
///
/// # Errors
/// No rights to make TUN devices and packet sockets, an access interface that cannot be used, a
/// name that is taken, or an `ip` command that fails at the start.
pub(crate) fn run(
    settings: &MnSettings,
    note: &Path,
    stop: &AtomicBool,
    requests: StatusRequests,
    mut events: EventMaker,
    up: impl FnOnce(),
) -> anyhow::Result<()> {
    let mut kernel = KernelIpv6::new(note);
    let names: Vec<_> = settings
        .accesses
        .iter()
        .map(|a| a.interface.as_str())
        .collect();
    kernel.restore_others(&names);
    let tun = make_tun(&settings.interface)?;
    let mut accesses = Vec::new();
    for access in &settings.accesses {
        accesses.push(Access::new(access, &mut kernel)?);
    }
    let links: Vec<_> = accesses.iter().map(Access::link).collect();
    let machine = LogicalInterface::new(settings.clone(), &links, Instant::now());
    events.tell(false, What::ConfigurationApplied);
    let mut node = Node {
        interface: settings.interface.clone(),
        tun,
        accesses,
        kernel,
        machine,
        buffer: vec![0; MAX_FRAME],
        requests,
        events,
        addresses: BTreeSet::new(),
        default_route: false,
        has_told: false,
    };
    tracing::info!(interface = %settings.interface, accesses = links.len(), "logical interface up");
    up();
    node.serve(stop)
}

struct Node {
    interface: String,
    tun: Tun,
    accesses: Vec<Access>,
    kernel: KernelIpv6,
    machine: LogicalInterface,
    buffer: Vec<u8>,
    requests: StatusRequests,
    events: EventMaker,
    /// What the logical interface is to have.
    addresses: BTreeSet<Ipv6Addr>,
    default_route: bool,
    /// Others have taken something of that, which was said.
    has_told: bool,
}

impl Node {
    fn serve(&mut self, stop: &AtomicBool) -> anyhow::Result<()> {
        let mut next_link_check = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now >= next_link_check {
                self.look(now);
                next_link_check = now + LINK_CHECK;
            }
            if self.machine.poll_timeout().is_some_and(|t| t <= now) {
                self.machine.handle_timeout(now);
            }
            self.perform();
            for request in self.requests.0.try_iter() {
                let status = if request.flows {
                    self.machine.status()
                } else {
                    self.machine.summary()
                };
                // Whoever asked may have stopped waiting.
                let _ = request.reply.try_send(status);
            }
            self.wait(now)?;
            let now = Instant::now();
            for number in 0..self.accesses.len() {
                self.drain_access(AccessId(number), now);
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
        let sockets = self.accesses.iter().filter_map(Access::socket);
        fds.extend(sockets.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error).context("cannot wait for packets"),
        }
    }

    /// Downlink: at most one burst.
    fn drain_access(&mut self, id: AccessId, now: Instant) {
        let Some(access) = self.accesses.get_mut(id.0) else {
            return;
        };
        for _ in 0..BURST {
            let Some(socket) = access.socket() else {
                return;
            };
            let len = match socket.recv(&mut self.buffer) {
                Ok(len) => len,
                Err(e) if passing(&e) => return,
                Err(error) => {
                    // The next look opens another.
                    tracing::warn!(interface = %access.interface(), %error, "cannot receive");
                    if let Some(link) = access.close() {
                        self.machine.handle_link(id, link, now);
                    }
                    return;
                }
            };
            let frame = self.buffer.get(..len).unwrap_or_default();
            if let Some(packet) = self.machine.handle_frame(id, frame, now)
                && self.tun.send(packet).is_err()
            {
                self.machine.count_drop(DropReason::PortDown);
            }
        }
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
            if let Err(reason) = send(&self.accesses, id, &parts) {
                self.machine.count_drop(reason);
            }
        }
        Ok(())
    }

    /// Looks at the interfaces: at those of the accesses, and whether the logical one has what it is to have.
    fn look(&mut self, now: Instant) {
        if let Err(error) = self.keep() {
            tracing::error!(interface = %self.interface, "{error:#}");
        }
        for (number, access) in self.accesses.iter_mut().enumerate() {
            for link in access.look(&mut self.kernel, now) {
                self.machine.handle_link(AccessId(number), link, now);
            }
        }
    }

    fn perform(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            let result = match output {
                Output::Transmit(id, frame) => {
                    let sent = send(&self.accesses, id, &[IoSlice::new(&frame)]);
                    if let Err(reason) = sent {
                        self.machine.count_drop(reason);
                    }
                    Ok(())
                }
                Output::AddAddress(address) => {
                    self.addresses.insert(address);
                    self.add_address(address)
                }
                Output::RemoveAddress(address) => {
                    self.addresses.remove(&address);
                    let address = format!("{address}/64");
                    ip(&["-6", "addr", "del", &address, "dev", &self.interface])
                }
                Output::SetMtu(mtu) => {
                    let mtu = mtu.to_string();
                    ip(&["link", "set", "dev", &self.interface, "mtu", &mtu])
                }
                Output::DefaultRoute(on) => {
                    self.default_route = on;
                    self.route(if on { "replace" } else { "del" })
                }
            };
            if let Err(error) = result {
                tracing::error!(interface = %self.interface, "{error:#}");
            }
        }
        while let Some((warning, what)) = self.machine.poll_event() {
            log(warning, &what);
            self.events.tell(warning, what);
        }
    }

    /// Puts back what others have taken from the logical interface. Managers of networks do so when they begin to think it
    /// theirs.
    fn keep(&mut self) -> anyhow::Result<()> {
        let (is_up, there) = addresses(&self.interface)?;
        let missing: Vec<_> = self.addresses.difference(&there).copied().collect();
        if is_up && missing.is_empty() {
            return Ok(());
        }
        if !std::mem::replace(&mut self.has_told, true) {
            tracing::warn!(
                interface = %self.interface,
                "others had set it down, or taken its addresses; it has them again: tell NetworkManager, or whoever it was"
            );
        }
        ip(&["link", "set", "dev", &self.interface, "up"])?;
        for address in missing {
            self.add_address(address)?;
        }
        if self.default_route {
            self.route("replace")?;
        }
        Ok(())
    }

    fn add_address(&self, address: Ipv6Addr) -> anyhow::Result<()> {
        let address = format!("{address}/64");
        // No duplicate address detection: the prefix is this mobile's alone (RFC 5213 §4.1).
        let what = ["replace", &address, "dev", &self.interface, "nodad"];
        ip(&[&["-6", "addr"], &what[..]].concat())
    }

    fn route(&self, verb: &str) -> anyhow::Result<()> {
        ip(&["-6", "route", verb, "default", "dev", &self.interface])
    }
}

/// Whether an interface is up, and the addresses that it has.
fn addresses(interface: &str) -> anyhow::Result<(bool, BTreeSet<Ipv6Addr>)> {
    let all = nix::ifaddrs::getifaddrs().context("cannot list interfaces")?;
    let its = all.filter(|entry| entry.interface_name == interface);
    let (mut is_up, mut addresses) = (false, BTreeSet::new());
    for entry in its {
        is_up |= entry.flags.contains(InterfaceFlags::IFF_UP);
        let address = entry.address.as_ref().and_then(|a| a.as_sockaddr_in6());
        addresses.extend(address.map(SockaddrIn6::ip));
    }
    Ok((is_up, addresses))
}

/// Moves of flows are the network's daily work.
fn log(warning: bool, what: &What) {
    if warning {
        tracing::warn!("{what}");
    } else if matches!(what, What::UplinkMoved { .. }) {
        tracing::debug!("{what}");
    } else {
        tracing::info!("{what}");
    }
}

fn send(accesses: &[Access], id: AccessId, parts: &[IoSlice<'_>]) -> Result<(), DropReason> {
    let access = accesses.get(id.0);
    let socket = access.and_then(Access::socket);
    let socket = socket.ok_or(DropReason::PortDown)?;
    socket.send(parts).map_err(|error| send_failure(&error))
}

/// Errors that end a burst and not the socket.
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

/// Makes the logical interface.
fn make_tun(interface: &str) -> anyhow::Result<Tun> {
    let tun = Tun::create(interface).map_err(|error| {
        let why = match error.raw_os_error() {
            Some(libc::EBUSY) => {
                "there is an interface of that name already, of another process or left behind: stop that process, or \
                 else remove it (ip link delete), or name another one in [mn]"
            }
            Some(libc::EPERM) => "it needs CAP_NET_ADMIN: run as root, or give it that capability",
            _ if error.kind() == ErrorKind::NotFound => {
                "there is no /dev/net/tun: load the kernel's module tun, or give the container that device"
            }
            _ if error.kind() == ErrorKind::PermissionDenied => "/dev/net/tun may not be opened",
            _ => return anyhow::Error::new(error),
        };
        anyhow::anyhow!("{why}")
    });
    let tun = tun.with_context(|| format!("cannot make the interface {interface}"))?;
    prepare_tun(interface)?;
    Ok(tun)
}

fn prepare_tun(interface: &str) -> anyhow::Result<()> {
    let device = ["link", "set", "dev", interface];
    // The kernel must not add a link-local address of its own: it would solicit routers here.
    ip(&[&device[..], &["addrgenmode", "none"]].concat())?;
    ip(&[&device[..], &["txqueuelen", TX_QUEUE_LEN]].concat())?;
    for (key, value) in [("disable_ipv6", "0"), ("accept_ra", "0")] {
        set(interface, key, value)?;
    }
    ip(&[&device[..], &["up"]].concat())
}

/// Has a setting of the kernel be this. Where it is, nothing is written: in a container these files can be set from
/// outside only.
fn set(interface: &str, key: &str, value: &str) -> anyhow::Result<()> {
    let path = sysctl(interface, key);
    let what = || path.display().to_string();
    if fs::read_to_string(&path).with_context(what)?.trim() != value {
        fs::write(&path, value).with_context(what)?;
    }
    Ok(())
}
