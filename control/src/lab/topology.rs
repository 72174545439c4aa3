//! The lab's network as data: hosts, links and addresses.
//!
//! ```text
//!  CN ---- LMA ---- core (a plain bridge) ---- MAG1 ---- if1 \
//!                     |                                       MN (lif0)
//!                     +----------------------- MAG2 ---- if2 /
//! ```
//!
//! Where things are done to the lab there is a second mobile, MN2, on the same two access links.
//! With a pair there is a second LMA beside the first, on the same two links, and both are on a third one with etcd.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use flow::MacAddr;
use serde::{Deserialize, Serialize};

/// The mobile node's identifier.
pub(crate) const MN_ID: &str = "mn1@example.net";
/// The identifier of the mobile that stands by.
pub(crate) const MN2_ID: &str = "mn2@example.net";
/// The mobile node's logical interface.
pub(crate) const LIF: &str = "lif0";
/// The LMA's end of all tunnels.
pub(crate) const LMAA: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1);
/// The correspondent node.
pub(crate) const CN_ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 5);
/// Where home network prefixes come from.
pub(crate) const POOL: &str = "2001:db8:100::/48";
/// The name, in the core, of the bridge port that leads to the LMA: where the capture is.
pub(crate) const CAPTURE_PORT: &str = "lma";
/// The LMA, on its link to the correspondent node.
pub(super) const LMA_CN_ADDRESS: &str = "2001:db8:c::1";

/// The interface of a gateway that leads to the other mobile.
const BYSTANDER_LINK: &str = "access-link2";
/// The interface of an LMA that leads to etcd.
const STORE_LINK: &str = "store-link";
/// Where etcd is.
pub(super) const STORE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Packets that may wait between the kernel and an appliance.
const TAP_QUEUE_LEN: u32 = 10_000;

/// Which of the draft's two scenarios.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scenario {
    /// Each interface of the mobile has a prefix of its own.
    Unique,
    /// Both interfaces share one prefix.
    Shared,
}

impl Scenario {
    /// Its name in files and options.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unique => "unique",
            Self::Shared => "shared",
        }
    }

    /// What it is about.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Unique => "a prefix for each interface",
            Self::Shared => "one prefix shared by both interfaces",
        }
    }
}

/// What the LMA and the gateways speak about flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Dialect {
    /// FMI and FMA of the draft.
    Draft,
    /// Update notifications of RFC 7864.
    Rfc7864,
    /// The draft's with MAG1, those of RFC 7864 with MAG2.
    Mixed,
}

impl Dialect {
    /// Its name in files and options.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Rfc7864 => "rfc7864",
            Self::Mixed => "mixed",
        }
    }

    /// What it is about.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Draft => "FMI and FMA of the draft",
            Self::Rfc7864 => "update notifications of RFC 7864",
            Self::Mixed => "the draft's messages at MAG1, those of RFC 7864 at MAG2",
        }
    }

    /// The value of `signalling` for a gateway.
    pub(super) fn signalling(self, mag: Mag) -> &'static str {
        match (self, mag) {
            (Self::Draft, _) | (Self::Mixed, Mag::Mag1) => "draft",
            (Self::Rfc7864, _) | (Self::Mixed, Mag::Mag2) => "rfc7864",
        }
    }
}

/// What a lab is built for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Setting {
    /// Which scenario.
    pub(crate) scenario: Scenario,
    /// What is spoken about flows.
    pub(crate) dialect: Dialect,
    /// Workers of each appliance.
    pub(crate) workers: u16,
    /// Mobiles besides the one, which gateways attach by command only. A lab that has them is one to which things are
    /// done ([`Setting::is_chaos`]).
    pub(crate) guests: u16,
    /// Whether there is a second LMA, and an etcd that the two share.
    pub(crate) pair: bool,
}

impl Setting {
    /// Whether things are done to it: heartbeats are sent, what a process keeps is on a small disk of its own, clocks can be
    /// set, and another mobile looks whether it gets what is not its own.
    pub(crate) fn is_chaos(self) -> bool {
        self.guests > 0
    }

    /// Its hosts, in the order they are made.
    pub(crate) fn hosts(self) -> impl Iterator<Item = Host> {
        Host::ALL.into_iter().filter(move |host| match host {
            Host::Lma2 | Host::Store => self.pair,
            Host::Mn2 => self.is_chaos(),
            Host::Cn | Host::Lma | Host::Core | Host::Mag1 | Host::Mag2 | Host::Mn => true,
        })
    }

    /// A name for its results, which are the draft's unless it says otherwise.
    pub(crate) fn name(self) -> String {
        let scenario = self.scenario.name();
        match self.dialect {
            Dialect::Draft => scenario.to_owned(),
            Dialect::Rfc7864 | Dialect::Mixed => format!("{scenario}-{}", self.dialect.name()),
        }
    }
}

/// One of the two gateways.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mag {
    /// The first, a wireless LAN.
    Mag1,
    /// The second, E-UTRAN.
    Mag2,
}

impl Mag {
    /// Both, in order.
    pub(crate) const ALL: [Self; 2] = [Self::Mag1, Self::Mag2];

    /// Its name in configurations.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mag1 => "mag1",
            Self::Mag2 => "mag2",
        }
    }

    /// Its name on the draft's slides.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Mag1 => "MAG1",
            Self::Mag2 => "MAG2",
        }
    }

    /// Its Proxy-CoA.
    pub(crate) fn proxy_coa(self) -> Ipv6Addr {
        let net = match self {
            Self::Mag1 => 0xa,
            Self::Mag2 => 0xb,
        };
        Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, 1)
    }

    /// The binding identifier of the mobile's session there: it attaches at MAG1 first.
    pub(crate) fn bid(self) -> u16 {
        self.number().into()
    }

    /// The access technology of its link to the mobile.
    pub(crate) fn access_technology(self) -> &'static str {
        match self {
            Self::Mag1 => "wlan",
            Self::Mag2 => "eutran",
        }
    }

    /// A mobile's interface there.
    pub(crate) fn mn_interface(self) -> &'static str {
        match self {
            Self::Mag1 => "if1",
            Self::Mag2 => "if2",
        }
    }

    /// The link-layer address of the interface there of a mobile, which is the one or the other.
    pub(crate) fn mac_of(self, mobile: Host) -> MacAddr {
        let mobile = if mobile == Host::Mn2 { 2 } else { 1 };
        MacAddr([2, 0, 0, 0, mobile, self.number()])
    }

    /// The host it runs on.
    pub(crate) fn host(self) -> Host {
        match self {
            Self::Mag1 => Host::Mag1,
            Self::Mag2 => Host::Mag2,
        }
    }

    /// The link-layer address of a guest there.
    pub(super) fn guest_mac(self, guest: u16) -> MacAddr {
        let [high, low] = guest.to_be_bytes();
        MacAddr([2, 0, 0, self.number(), high, low])
    }

    fn number(self) -> u8 {
        match self {
            Self::Mag1 => 1,
            Self::Mag2 => 2,
        }
    }

    pub(super) fn core_mac(self) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0xc, self.number()])
    }
}

/// A network namespace of the lab.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Host {
    /// The correspondent node: the kernel's own stack.
    Cn,
    /// The LMA.
    Lma,
    /// The LMA that may take its place.
    Lma2,
    /// Where etcd runs, on a network of its own.
    Store,
    /// The core network.
    Core,
    /// The first gateway.
    Mag1,
    /// The second gateway.
    Mag2,
    /// The mobile node.
    Mn,
    /// A mobile node to which nothing is done.
    Mn2,
}

impl Host {
    /// All, in the order they are made.
    pub(crate) const ALL: [Self; 9] = [
        Self::Cn,
        Self::Lma,
        Self::Lma2,
        Self::Store,
        Self::Core,
        Self::Mag1,
        Self::Mag2,
        Self::Mn,
        Self::Mn2,
    ];

    /// Its name, the end of its namespace's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cn => "cn",
            Self::Lma => "lma",
            Self::Lma2 => "lma2",
            Self::Store => "store",
            Self::Core => "core",
            Self::Mag1 => "mag1",
            Self::Mag2 => "mag2",
            Self::Mn => "mn",
            Self::Mn2 => "mn2",
        }
    }

    /// Its address on the network of etcd.
    pub(super) fn store_address(self) -> Option<Ipv4Addr> {
        match self {
            Self::Lma => Some(Ipv4Addr::new(192, 0, 2, 11)),
            Self::Lma2 => Some(Ipv4Addr::new(192, 0, 2, 12)),
            Self::Cn
            | Self::Store
            | Self::Core
            | Self::Mag1
            | Self::Mag2
            | Self::Mn
            | Self::Mn2 => None,
        }
    }

    /// The DPDK ports of the appliance on this host.
    pub(crate) fn taps(self) -> &'static [Tap] {
        const CORE: Tap = Tap {
            device: "core0",
            bridge: "br-core",
        };
        const CN: Tap = Tap {
            device: "cn0",
            bridge: "br-cn",
        };
        const ACCESS: Tap = Tap {
            device: "access0",
            bridge: "br-access",
        };
        match self {
            Self::Lma | Self::Lma2 => &[CORE, CN],
            Self::Mag1 | Self::Mag2 => &[CORE, ACCESS],
            Self::Cn | Self::Store | Self::Core | Self::Mn | Self::Mn2 => &[],
        }
    }
}

/// A TAP device that an appliance makes, and the bridge that joins it to a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tap {
    /// The TAP device.
    pub(crate) device: &'static str,
    /// The bridge that waits for it.
    pub(crate) bridge: &'static str,
}

impl Tap {
    /// `ip` commands that join the device, once it exists, to its bridge.
    ///
    /// A bridge keeps frames for the address of one of its own interfaces to itself. The device
    /// has the appliance's address; so it gets another.
    pub(crate) fn attach_commands(&self, number: usize) -> String {
        let Self { device, bridge } = self;
        format!(
            "link set dev {device} address 02:fe:00:00:00:{number:02x}\n\
             link set dev {device} txqueuelen {TAP_QUEUE_LEN}\n\
             link set dev {device} addrgenmode none\n\
             link set dev {device} master {bridge}\n\
             link set dev {device} up\n"
        )
    }
}

/// `ip` commands that make a host's part of the network, to be run in its namespace in the order of
/// [`Host::ALL`]. `namespace` gives a host's namespace.
pub(crate) fn link_commands(
    host: Host,
    setting: Setting,
    namespace: impl Fn(Host) -> String,
) -> String {
    let Setting { pair, .. } = setting;
    let mut out = String::from("link set dev lo up\n");
    let mut veth = |near: &str, host: Host, far: &str, options: &str| {
        let netns = namespace(host);
        let _ = writeln!(
            out,
            "link add name {near} {options} type veth peer name {far} netns {netns}"
        );
    };
    match host {
        Host::Cn if pair => veth("eth0", Host::Core, "cn-link", ""),
        Host::Cn => veth("eth0", Host::Lma, "cn-link", ""),
        Host::Core => {
            if pair {
                veth(CAPTURE_PORT, Host::Core, "lmas-link", "");
                for lma in [Host::Lma, Host::Lma2] {
                    let name = lma.name();
                    veth(&format!("{name}-core"), lma, "core-link", "");
                    veth(&format!("{name}-cn"), lma, "cn-link", "");
                }
            } else {
                veth(CAPTURE_PORT, Host::Lma, "core-link", "");
            }
            veth("mag1", Host::Mag1, "core-link", "");
            veth("mag2", Host::Mag2, "core-link", "");
        }
        Host::Store => {
            for lma in [Host::Lma, Host::Lma2] {
                veth(lma.name(), lma, STORE_LINK, "");
            }
        }
        Host::Mn | Host::Mn2 => {
            for mag in Mag::ALL {
                let mac = format!("address {}", mag.mac_of(host));
                let link = if host == Host::Mn2 {
                    BYSTANDER_LINK
                } else {
                    "access-link"
                };
                veth(mag.mn_interface(), mag.host(), link, &mac);
            }
        }
        Host::Lma | Host::Lma2 | Host::Mag1 | Host::Mag2 => {}
    }
    out
}

/// `ip` commands that configure a host once all links exist.
pub(crate) fn host_commands(host: Host, setting: Setting) -> String {
    let Setting { pair, .. } = setting;
    let mut out = String::new();
    match host {
        Host::Cn => {
            let gateway = LMA_CN_ADDRESS;
            let _ = write!(
                out,
                "link set dev eth0 up\n\
                 addr add {CN_ADDRESS}/64 dev eth0 nodad\n\
                 route add {POOL} via {gateway} dev eth0\n"
            );
        }
        Host::Core => {
            bridge(&mut out, "core", &[CAPTURE_PORT, "mag1", "mag2"]);
            if pair {
                bridge(&mut out, "lmas", &["lmas-link", "lma-core", "lma2-core"]);
                bridge(&mut out, "cns", &["cn-link", "lma-cn", "lma2-cn"]);
            }
        }
        Host::Lma | Host::Lma2 => {
            bridge(&mut out, "br-core", &["core-link"]);
            bridge(&mut out, "br-cn", &["cn-link"]);
            if let Some(address) = host.store_address().filter(|_| pair) {
                let _ = write!(
                    out,
                    "addr add {address}/24 dev {STORE_LINK}\nlink set dev {STORE_LINK} up\n"
                );
            }
        }
        Host::Store => {
            bridge(&mut out, "stores", &["lma", "lma2"]);
            let _ = writeln!(out, "addr add {STORE_ADDRESS}/24 dev stores");
        }
        Host::Mag1 | Host::Mag2 => {
            bridge(&mut out, "br-core", &["core-link"]);
            let links: &[&str] = if setting.is_chaos() {
                &["access-link", BYSTANDER_LINK]
            } else {
                &["access-link"]
            };
            bridge(&mut out, "br-access", links);
        }
        Host::Mn | Host::Mn2 => {}
    }
    out
}

/// `ip` commands, run at an LMA of a pair, that cut it off from etcd and the other one, or join it.
pub(crate) fn store_link_command(up: bool) -> String {
    let state = if up { "up" } else { "down" };
    format!("link set dev {STORE_LINK} {state}\n")
}

/// A guest's identifier.
pub(crate) fn guest_id(guest: u16) -> String {
    format!("guest{guest}@example.net")
}

/// `ip` commands, run at the LMA or a MAG, that join it to the core or cut it off. The core's end of the link, where the
/// capture may be, only loses its carrier.
pub(crate) fn core_link_command(up: bool) -> String {
    let state = if up { "up" } else { "down" };
    format!("link set dev core-link {state}\n")
}

/// `ip` commands, run at a MAG, that make the mobile see its access link go up or down.
pub(crate) fn access_link_command(up: bool) -> String {
    let state = if up { "up" } else { "down" };
    format!("link set dev access-link {state}\n")
}

fn bridge(out: &mut String, name: &str, ports: &[&str]) {
    // Without spanning tree and snooping it forwards at once, and all multicast: a wire.
    let _ = writeln!(
        out,
        "link add name {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
    );
    for port in ports {
        let _ = write!(
            out,
            "link set dev {port} master {name}\nlink set dev {port} txqueuelen {TAP_QUEUE_LEN}\n\
             link set dev {port} up\n"
        );
    }
    let _ = writeln!(out, "link set dev {name} up");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_has_two_ends_that_are_used() {
        let setting = |pair: bool, guests| Setting {
            scenario: Scenario::Unique,
            dialect: Dialect::Draft,
            workers: 1,
            guests,
            pair,
        };
        let links = |setting: Setting| -> String {
            let of = |host| link_commands(host, setting, |h| format!("t-{}", h.name()));
            setting.hosts().map(of).collect()
        };
        for (pair, host, end) in [
            (true, Host::Lma, "core-link"),
            (true, Host::Lma2, "core-link"),
            (true, Host::Lma, "cn-link"),
            (true, Host::Lma2, "cn-link"),
            (true, Host::Core, "cn-link"),
            (true, Host::Core, "lmas-link"),
            (false, Host::Lma, "cn-link"),
            (false, Host::Lma, "core-link"),
            (false, Host::Mag1, "core-link"),
            (false, Host::Mag2, "core-link"),
            (false, Host::Mag1, "access-link"),
            (false, Host::Mag2, "access-link"),
            (true, Host::Mag1, BYSTANDER_LINK),
            (true, Host::Mag2, BYSTANDER_LINK),
        ] {
            let setting = setting(pair, u16::from(pair));
            let made = format!("peer name {end} netns t-{}\n", host.name());
            assert_eq!(links(setting).matches(&made).count(), 1, "{made}");
            let joined = format!("link set dev {end} master");
            assert!(host_commands(host, setting).contains(&joined), "{joined}");
        }
    }
}
