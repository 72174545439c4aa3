//! An access on Linux: its interface, while there is one.
//!
//! Interfaces come and go, as modems are plugged in and drivers loaded. One of the same name that comes later is
//! another one: it has another index, perhaps another address, and the kernel's IPv6 is on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use flow::MacAddr;
use netdev::{Options, PacketSocket};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::LinkAddr;

use super::AccessSettings;
use super::kernel::{KernelIpv6, sysctl};
use super::logical::Link;

/// Octets of socket buffer per access and direction: about a second of 20,000 small packets.
const SOCKET_BUFFER: usize = 32 << 20;
/// How often it is said at most that others switch IPv6 on.
const SAY_AGAIN: Duration = Duration::from_mins(1);

/// What is said of an access without interface.
const NO_INTERFACE: &str = "there is no such interface: the access is down until there is";

/// An access and the interface that it has at this time.
#[derive(Debug)]
pub(super) struct Access {
    name: String,
    interface: String,
    port: Option<Port>,
    /// What was said last of why it cannot be used.
    said: String,
    /// When it was said last that its IPv6 was on again.
    on_again: Option<Instant>,
}

/// An interface that is an access.
#[derive(Debug)]
struct Port {
    index: u32,
    socket: PacketSocket,
    link: Link,
}

impl Access {
    /// An access whose interface may not be there yet.
    ///
    /// # Errors
    /// If the interface is there, but cannot be used.
    pub(super) fn new(settings: &AccessSettings, kernel: &mut KernelIpv6) -> anyhow::Result<Self> {
        let AccessSettings { name, interface } = settings;
        let mut access = Self {
            name: name.clone(),
            interface: interface.clone(),
            port: None,
            said: String::new(),
            on_again: None,
        };
        match find_interface(interface)? {
            Some(found) => {
                let port = Port::open(interface, &found, kernel);
                let what = || format!("cannot use {interface} as access \"{name}\"");
                access.port = Some(port.with_context(what)?);
            }
            None => access.say(NO_INTERFACE),
        }
        Ok(access)
    }

    /// The interface.
    pub(super) fn interface(&self) -> &str {
        &self.interface
    }

    /// The link; `None` if the interface is not there or cannot be used.
    pub(super) fn link(&self) -> Option<Link> {
        self.port.as_ref().map(|port| port.link)
    }

    /// Where its frames come in and leave.
    pub(super) fn socket(&self) -> Option<&PacketSocket> {
        self.port.as_ref().map(|port| &port.socket)
    }

    /// Looks at the interface. The result is how the link is now, if that is another way than before; twice if the
    /// interface has become another one meanwhile, which is a link that went down and came up.
    pub(super) fn look(&mut self, kernel: &mut KernelIpv6, now: Instant) -> Vec<Link> {
        let found = match find_interface(&self.interface) {
            Ok(found) => found,
            Err(error) => {
                self.say(&format!("{error:#}"));
                return Vec::new();
            }
        };
        let mut links = Vec::new();
        let same = |port: &Port| found.as_ref().is_some_and(|it| it.index == port.index);
        if self.port.as_ref().is_some_and(|port| !same(port)) {
            links.extend(self.close());
            kernel.forget(&self.interface);
        }
        let Some(found) = found else {
            self.say(NO_INTERFACE);
            return links;
        };
        if self.port.is_some() {
            links.extend(self.refresh(&found));
            self.keep_off(kernel, now);
            return links;
        }
        match Port::open(&self.interface, &found, kernel) {
            Ok(port) => {
                tracing::info!(access = %self.name, interface = %self.interface, "the access has an interface");
                self.said.clear();
                links.push(port.link);
                self.port = Some(port);
            }
            Err(error) => self.say(&format!("{error:#}")),
        }
        links
    }

    /// Does without the interface until the next look. The result is its link from now on.
    pub(super) fn close(&mut self) -> Option<Link> {
        let port = self.port.take()?;
        let up = false;
        Some(Link { up, ..port.link })
    }

    /// Reads the link again. The result is how it is now, if that is another way than before.
    fn refresh(&mut self, found: &Interface) -> Option<Link> {
        let link = match found.link(&self.interface) {
            Ok(link) => {
                self.said.clear();
                link
            }
            Err(error) => {
                // Without IPv6's own settings, as below its least MTU, it carries none.
                self.say(&format!("{error:#}"));
                let up = false;
                let port = self.port.as_ref()?;
                Link { up, ..port.link }
            }
        };
        let port = self.port.as_mut()?;
        let changed = port.link != link;
        port.link = link;
        changed.then_some(link)
    }

    fn keep_off(&mut self, kernel: &mut KernelIpv6, now: Instant) {
        let Some(index) = self.port.as_ref().map(|port| port.index) else {
            return;
        };
        let (access, interface) = (&self.name, &self.interface);
        let kept = kernel.keep_off(interface, index);
        if matches!(kept, Ok(false)) || self.on_again.is_some_and(|said| now < said + SAY_AGAIN) {
            return;
        }
        self.on_again = Some(now);
        match kept {
            Ok(_) => tracing::warn!(
                %access, %interface,
                "others had switched on the kernel's IPv6; it is off again: tell NetworkManager, or whoever it was"
            ),
            Err(error) => tracing::warn!(
                %access, %interface,
                "others have switched on the kernel's IPv6, and it cannot be switched off: {error:#}"
            ),
        }
    }

    /// Says why it cannot be used, once.
    fn say(&mut self, what: &str) {
        if self.said != what {
            tracing::warn!(access = %self.name, interface = %self.interface, "{what}");
            what.clone_into(&mut self.said);
        }
    }
}

impl Port {
    fn open(interface: &str, found: &Interface, kernel: &mut KernelIpv6) -> anyhow::Result<Self> {
        let link = found.link(interface)?;
        let set_up = if found.up {
            Ok(())
        } else {
            ip(&["link", "set", "dev", interface, "up"])
        };
        // Before the kernel's IPv6 goes: no solicitation may fall between the two.
        let options = Options {
            all_multicast: true,
            outgoing: false,
            timestamps: false,
            buffer: SOCKET_BUFFER,
        };
        let socket =
            PacketSocket::open(interface, options).context("cannot open a packet socket")?;
        kernel.switch_off(interface, found.index)?;
        // What was opened by name is what was found before, unless it went in between.
        let now = find_interface(interface)?.filter(|now| now.index == found.index);
        let now = now.context("the interface has just gone")?;
        if let Err(error) = set_up {
            // A radio that is switched off: whoever switches it on does that too.
            tracing::warn!(%interface, "it cannot be set up: {error:#}");
        }
        Ok(Self {
            index: found.index,
            socket,
            link: Link {
                up: now.running,
                ..link
            },
        })
    }
}

/// What the kernel says of an interface.
struct Interface {
    index: u32,
    /// The station address of an Ethernet interface.
    mac: Option<MacAddr>,
    /// Somebody has set it up.
    up: bool,
    /// And it has a carrier.
    running: bool,
}

impl Interface {
    fn link(&self, interface: &str) -> anyhow::Result<Link> {
        let mac = self.mac.context(
            "it is no Ethernet interface: the MAG knows a mobile by its link-layer address, which a modem in raw IP mode \
             does not have",
        )?;
        let mtu = fs::read_to_string(sysctl(interface, "mtu")).with_context(|| {
            if Path::new("/proc/sys/net/ipv6").exists() {
                format!("{interface} carries no IPv6: is its MTU less than 1280?")
            } else {
                "this kernel has no IPv6".to_owned()
            }
        })?;
        Ok(Link {
            mac,
            mtu: mtu.trim().parse().context("its MTU is no number")?,
            up: self.running,
        })
    }
}

/// The interface of this name, if there is one.
fn find_interface(name: &str) -> anyhow::Result<Option<Interface>> {
    let all = nix::ifaddrs::getifaddrs().context("cannot list interfaces")?;
    // The first entry is the link itself; one without a link-layer address has nothing in it.
    let Some(entry) = { all }.find(|entry| entry.interface_name == name) else {
        return Ok(None);
    };
    let link = entry.address.as_ref().and_then(|a| a.as_link_addr());
    let index = match link.map(|link| u32::try_from(link.ifindex())) {
        Some(index) => index.context("its index is no number")?,
        None => match nix::net::if_::if_nametoindex(name) {
            Ok(index) => index,
            Err(nix::errno::Errno::ENODEV) => return Ok(None),
            Err(error) => bail!("which interface is {name}? {error}"),
        },
    };
    let mac = link.filter(|link| link.hatype() == libc::ARPHRD_ETHER);
    let running = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
    Ok(Some(Interface {
        index,
        mac: mac.and_then(LinkAddr::addr).map(MacAddr),
        up: entry.flags.contains(InterfaceFlags::IFF_UP),
        running: entry.flags.contains(running),
    }))
}

/// Runs `ip`.
///
/// # Errors
/// If it is not there, or fails.
pub(super) fn ip(args: &[&str]) -> anyhow::Result<()> {
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
