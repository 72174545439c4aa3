//! A mobile node on interfaces that come, go, change, and are touched by others: veth pairs in namespaces, and a
//! router at the other end of each.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;
#[allow(dead_code, unreachable_pub, reason = "routers here have no questions")]
#[path = "../src/mn/testing.rs"]
mod testing;

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::kernel::Namespace;
use common::process::{Appliance, FLOWMOB, Said};
use common::{has_tool, is_root, program_for_anybody, wait_for};
use flow::MacAddr;
use nd::host;
use nd::packet::ipv6_packet;
use netdev::{Options, PacketSocket};
use nix::sys::signal::Signal;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(15);
/// A little more than the time between two looks at the interfaces.
const A_LOOK: Duration = Duration::from_millis(700);
const PREFIX: &str = "2001:db8:100::";
const ADDRESS: &str = "2001:db8:100::100";
const CN: &str = "2001:db8:c::5";

/// The other end of an access: a router that answers whoever solicits.
struct Router(PacketSocket);

impl Router {
    fn new(net: &Namespace, interface: &str) -> Self {
        let options = Options {
            all_multicast: true,
            outgoing: false,
            timestamps: false,
            buffer: 1 << 20,
        };
        Self(net.enter(|| PacketSocket::open(interface, options).unwrap()))
    }

    /// Answers those who have solicited meanwhile, and says who they were.
    fn answer(&self) -> Vec<String> {
        let mut asked = Vec::new();
        let mut frame = [0; 2048];
        while let Ok(len) = self.0.recv(&mut frame) {
            // An IPv6 packet of ICMPv6, and that a solicitation of routers.
            if len > 54 && frame[12..14] == [0x86, 0xdd] && (frame[20], frame[54]) == (58, 133) {
                asked.push(MacAddr(frame[6..12].try_into().unwrap()).to_string());
                let answer = testing::advertisement(1800, 1460, &[(PREFIX, 3600)]);
                self.0.send(&[IoSlice::new(&answer)]).unwrap();
            }
        }
        asked
    }

    /// Sends the mobile a datagram from the correspondent node.
    fn downlink(&self, mac: MacAddr) {
        let [from, to] = [CN, ADDRESS].map(|text| text.parse().unwrap());
        let packet = ipv6_packet(from, to, 17, 64, &[0x0f, 0xa0, 0x13, 0x8c, 0, 8, 0, 0]);
        let header = host::ethernet(MacAddr::MAG, mac);
        let parts = [IoSlice::new(&header), IoSlice::new(&packet)];
        self.0.send(&parts).unwrap();
    }
}

/// The mobile's namespace and that of the routers.
struct Network {
    mn: Namespace,
    net: Namespace,
}

impl Network {
    fn new(name: &str) -> Self {
        let [mn, net] = ["mn", "net"].map(|host| Namespace::new(&format!("{name}-{host}")));
        net.ipv6(&[("all/disable_ipv6", "1"), ("default/disable_ipv6", "1")]);
        Self { mn, net }
    }

    /// What makes an access: its interface with this address, and a router's at the other end.
    fn access(&self, interface: &str, mac: &str) -> String {
        let net = self.net.name();
        format!(
            "link add {interface} address {mac} type veth peer name r-{interface} netns {net}\n"
        )
    }

    fn router(&self, interface: &str) -> Router {
        let there = format!("r-{interface}");
        self.net.ip(&format!("link set {there} up\n"));
        Router::new(&self.net, &there)
    }

    fn ipv6_is_off(&self, interface: &str) -> bool {
        self.mn.ipv6_value(&format!("{interface}/disable_ipv6")) == "1"
    }
}

fn config(accesses: &[(&str, &str)]) -> String {
    let accesses = accesses.iter().map(|(name, interface)| {
        format!("[[mn.access]]\nname = \"{name}\"\ninterface = \"{interface}\"\n")
    });
    let accesses: String = accesses.collect();
    format!("[mn]\ninterface = \"lif0\"\ninterface_id = \"::100\"\n{accesses}")
}

const BOTH: &[(&str, &str)] = &[("wifi", "wlan0"), ("modem", "wwan0")];

fn state(mobile: &Appliance) -> Value {
    serde_json::from_str(&mobile.command(["show", "mn", "--json"]).ok()).unwrap()
}

/// Waits until an access has its router, under this address.
fn attaches(mobile: &Appliance, number: usize, mac: &str, router: &Router) {
    wait_for(&format!("router of {mac}"), PATIENCE, || {
        router.answer();
        let row = &state(mobile)["accesses"][number];
        (row["mac"] == mac && row["up"] == true && row["router"].is_string()).then_some(())
    });
}

fn ready(mobile: &Appliance) -> (u16, Value) {
    let (status, text) = mobile.http("GET /readyz");
    let ready: Value = serde_json::from_str(&text).unwrap();
    (status, ready["accesses_down"].clone())
}

/// How often a text is in the log.
fn logged(mobile: &Appliance, text: &str) -> usize {
    mobile.log().matches(text).count()
}

#[test]
fn interfaces_come_go_and_change() {
    if !is_root() {
        return;
    }
    let network = Network::new("mnif");
    let directory = tempfile::tempdir().unwrap();
    network.mn.ip(&network.access("wlan0", "02:00:00:00:01:01"));
    let wlan = network.router("wlan0");
    // The other one is not there yet.
    let namespace = Some(network.mn.name());
    let mobile = Appliance::start(directory.path(), "mn1", namespace, &config(BOTH));
    let missing = "there is no such interface";
    wait_for("the logical interface", PATIENCE, || {
        (ready(&mobile).0 == 503).then_some(())
    });
    assert_eq!(ready(&mobile), (503, serde_json::json!(["wifi", "modem"])));
    let said = mobile.command(["health"]).fails();
    assert!(said.contains("wifi") && said.contains("modem"), "{said}");
    assert_eq!(state(&mobile)["accesses"][1]["mac"], Value::Null);
    attaches(&mobile, 0, "02:00:00:00:01:01", &wlan);
    assert_eq!(ready(&mobile), (200, serde_json::json!(["modem"])));
    std::thread::sleep(A_LOOK);
    assert_eq!(logged(&mobile, missing), 1, "{}", mobile.log());

    // It comes.
    let first = "02:00:00:00:01:02";
    network.mn.ip(&network.access("wwan0", first));
    let wwan = network.router("wwan0");
    attaches(&mobile, 1, first, &wwan);
    assert!(network.ipv6_is_off("wwan0"));
    // Nothing is down, and so nothing is listed.
    assert_eq!(ready(&mobile), (200, Value::Null));

    // It goes, and another one of that name is there before anybody has looked.
    let second = "02:00:00:00:01:0a";
    let again = format!("link del wwan0\n{}", network.access("wwan0", second));
    network.mn.ip(&again);
    let wwan = network.router("wwan0");
    attaches(&mobile, 1, second, &wwan);
    assert!(network.ipv6_is_off("wwan0"));
    // It goes for a while, and comes with the same address.
    network.mn.ip("link del wwan0\n");
    wait_for("a link that is down", PATIENCE, || {
        (state(&mobile)["accesses"][1]["up"] == false).then_some(())
    });
    network.mn.ip(&network.access("wwan0", second));
    let wwan = network.router("wwan0");
    attaches(&mobile, 1, second, &wwan);
    assert!(network.ipv6_is_off("wwan0"));
    assert_eq!(logged(&mobile, missing), 2, "{}", mobile.log());

    // The same interface has another address, as NetworkManager gives at random.
    let third = "02:00:00:00:01:0b";
    network.mn.ip(&format!("link set wlan0 address {third}\n"));
    attaches(&mobile, 0, third, &wlan);

    // Packets still come in on both, and a flow that goes from one to the other is told of.
    let macs = [MacAddr([2, 0, 0, 0, 1, 0xb]), MacAddr([2, 0, 0, 0, 1, 0xa])];
    wlan.downlink(macs[0]);
    wait_for("a packet", PATIENCE, || {
        (state(&mobile)["flow_count"] == 1).then_some(())
    });
    wwan.downlink(macs[1]);
    let moved = wait_for("a move", PATIENCE, || {
        let events = mobile.command(["events", "--json"]).ok();
        let mut events = events
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.find(|event| event["kind"] == "uplink-moved")
    });
    assert_eq!(
        (&moved["from"], &moved["to"]),
        (&"wifi".into(), &"modem".into())
    );

    // Others switch IPv6 on: it is off again, and that is said once.
    for _ in 0..2 {
        network.mn.ipv6(&[("wlan0/disable_ipv6", "0")]);
        wait_for("IPv6 off again", PATIENCE, || {
            network.ipv6_is_off("wlan0").then_some(())
        });
    }
    let switched = "others had switched on the kernel's IPv6";
    assert_eq!(logged(&mobile, switched), 1, "{}", mobile.log());

    // Others take the logical interface for theirs: it has its addresses and route again, and that is said once, too.
    for change in ["address flush dev lif0", "link set lif0 down"] {
        network.mn.ip(&format!("{change}\n"));
        wait_for("the address and the route again", PATIENCE, || {
            let addresses = network.mn.ip_says("-6 address show dev lif0 up");
            let route = network.mn.ip_says("-6 route show default");
            (addresses.contains(ADDRESS) && route.contains("lif0")).then_some(())
        });
    }
    let taken = "others had set it down, or taken its addresses";
    assert_eq!(logged(&mobile, taken), 1, "{}", mobile.log());

    let events = mobile.command(["events"]).ok();
    for text in [
        "WARN  access modem (wwan0) is down",
        "INFO  access modem (wwan0) is up",
        "INFO  access modem has router fe80::200:5eff:fe00:5213",
        "WARN  access modem has lost router fe80::200:5eff:fe00:5213",
        "INFO  prefix 2001:db8:100::/64 gained, address 2001:db8:100::100",
    ] {
        assert!(events.contains(text), "{text} is not in:\n{events}");
    }
    // Its addresses are not for everybody who reads the log.
    assert!(!mobile.log().contains(ADDRESS), "{}", mobile.log());

    let note = mobile.socket().with_extension("ipv6");
    assert!(note.exists());
    assert!(mobile.stop(Signal::SIGTERM).success());
    for interface in ["wlan0", "wwan0"] {
        assert!(!network.ipv6_is_off(interface), "{interface}");
    }
    assert!(!note.exists());
}

#[test]
fn what_a_killed_process_left_is_put_back_by_the_next() {
    if !is_root() {
        return;
    }
    let network = Network::new("mnkill");
    let directory = tempfile::tempdir().unwrap();
    let accesses = [("wlan0", 1), ("wwan0", 2), ("eth9", 3)];
    for (interface, n) in accesses {
        let mac = format!("02:00:00:00:01:0{n}");
        network.mn.ip(&network.access(interface, &mac));
    }
    // Somebody did not want it on this one.
    network.mn.ipv6(&[("eth9/disable_ipv6", "1")]);
    let namespace = Some(network.mn.name());
    let start = |accesses: &[(&str, &str)]| {
        let mobile = Appliance::start(directory.path(), "mn1", namespace, &config(accesses));
        wait_for("the logical interface", PATIENCE, || {
            (mobile.http("GET /v1/mn").0 == 200).then_some(())
        });
        mobile
    };
    let off = || accesses.map(|(interface, _)| network.ipv6_is_off(interface));
    let three = [BOTH, &[("cable", "eth9")]].concat();

    let killed = start(&three);
    assert!(!killed.stop(Signal::SIGKILL).success());
    assert_eq!(off(), [true, true, true]);
    let again = start(&three);
    assert!(again.stop(Signal::SIGTERM).success());
    assert_eq!(off(), [false, false, true]);

    // One is no access any more.
    let killed = start(&three);
    assert!(!killed.stop(Signal::SIGKILL).success());
    let again = start(&BOTH[..1]);
    assert_eq!(off(), [true, false, true]);
    assert!(again.stop(Signal::SIGTERM).success());
    assert_eq!(off(), [false, false, true]);

    // One has another name, and another one has its name: that one was never off.
    let killed = start(BOTH);
    assert!(!killed.stop(Signal::SIGKILL).success());
    network
        .mn
        .ip("link set wwan0 down\nlink set wwan0 name wwan7\n\
         link add wwan0 type veth peer name another\n");
    let again = start(&BOTH[..1]);
    assert!(!network.ipv6_is_off("wwan7"));
    assert!(!network.ipv6_is_off("wwan0"));
    assert!(again.stop(Signal::SIGTERM).success());
    assert!(!directory.path().join("mn1.ipv6").exists());
}

/// Runs a configuration that cannot be run in a namespace, and returns what is said.
fn refused(
    network: &Network,
    directory: &Path,
    accesses: &[(&str, &str)],
    before: &[&str],
) -> String {
    let path = directory.join("wrong.toml");
    let socket = directory.join("wrong.sock");
    let management = format!("[management]\nsocket = \"{}\"\n", socket.display());
    std::fs::write(&path, config(accesses) + &management).unwrap();
    let program = match before {
        [] => PathBuf::from(FLOWMOB),
        _ => program_for_anybody(directory),
    };
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/run/netns/{}", network.mn.name()))
        .args(before)
        .arg(program)
        .args(["run", "--config"])
        .arg(&path)
        .env_remove("FLOWMOB_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    wait_for("the end of what cannot start", PATIENCE, || {
        child.try_wait().unwrap()
    });
    Said::from(child.wait_with_output().unwrap()).fails()
}

#[test]
fn what_cannot_start_says_what_is_so() {
    if !is_root() || !has_tool("setpriv") {
        return;
    }
    let network = Network::new("mnwrong");
    let directory = tempfile::tempdir().unwrap();
    network.mn.ip(&network.access("wlan0", "02:00:00:00:01:01"));
    let one = &BOTH[..1];
    let said = |accesses: &[(&str, &str)], before: &[&str], expected: &str| {
        let said = refused(&network, directory.path(), accesses, before);
        assert!(said.contains(expected), "{said}");
    };

    // Interfaces of that name: a TAP, and a TUN that would be left behind.
    for kind in ["tap", "tun"] {
        network
            .mn
            .ip_says(&format!("tuntap add dev lif0 mode {kind}"));
        said(
            one,
            &[],
            "cannot make the interface lif0: there is an interface of that name already",
        );
        let there = network.mn.ip_says("-o link show dev lif0");
        assert!(there.contains("lif0"), "it is not ours to remove");
        network.mn.ip("link del lif0\n");
    }
    // What has no link-layer address.
    network.mn.ip_says("tuntap add dev raw0 mode tun");
    said(
        &[("modem", "raw0")],
        &[],
        "cannot use raw0 as access \"modem\": it is no Ethernet interface",
    );
    let user = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--",
    ];
    std::os::unix::fs::chown(directory.path(), Some(65534), Some(65534)).unwrap();
    said(
        one,
        &user,
        "cannot make the interface lif0: it needs CAP_NET_ADMIN",
    );
    let half = "--bounding-set=-all,+net_admin,+setpcap,+dac_override";
    said(one, &["setpriv", half, "--"], "cannot open a packet socket");
    // None of them has changed anything.
    assert!(!network.ipv6_is_off("wlan0"));
}
