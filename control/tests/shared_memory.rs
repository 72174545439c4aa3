//! An LMA and two MAGs, each a process, whose core links are shared memory: memif, or virtio over vhost-user. The
//! mobile and its correspondent are the kernel, on TAP ports. Each kind of link has the LMA at both of its ends.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use std::fs;
use std::net::{Ipv6Addr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use common::appliances::{LMAA, MN1, PROCESS};
use common::kernel::{
    CN, Namespace, PATIENCE, Watch, arrives, datagrams_go_both_ways, ip, uninterrupted,
};
use common::process::Appliance;
use common::{is_root, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// A link by the devices of the LMA and of the MAG, at a socket.
type Link = [fn(&str) -> String; 2];

/// Longer than anything here takes on a busy machine: vhost-user tries once a second.
const LONG: Duration = Duration::from_secs(30);
/// How a mobile knows its MAGs (RFC 6543).
const ROUTER: &str = "fe80::200:5eff:fe00:5213";

struct Network {
    links: [Link; 2],
    lma: Option<Appliance>,
    mags: Vec<Appliance>,
    /// The namespaces of the processes, of the correspondent and of the mobile.
    app: Namespace,
    cn: Namespace,
    mn: Namespace,
    directory: TempDir,
}

impl Network {
    fn new(name: &str, links: [Link; 2]) -> Self {
        let namespace = |host: &str| Namespace::new(&format!("{name}-{host}"));
        let [app, cn, mn] = ["app", "cn", "mn"].map(namespace);
        cn.ip("link set lo up\n");
        mn.ip("link set lo up\n");
        let mut network = Self {
            links,
            lma: None,
            mags: Vec::new(),
            app,
            cn,
            mn,
            directory: tempfile::tempdir().unwrap(),
        };
        // The LMA is there first, at either end of a link.
        network.start_lma();
        for n in [1, 2] {
            wait_for_port(network.lma(), &format!("mag{n}"), false);
        }
        for n in [1, 2] {
            network.start_mag(n);
            wait_for_port(&network.mags[n - 1], "core", true);
        }
        wait_for_port(network.lma(), "mag1", true);
        assert_eq!(network.lma().http("GET /readyz").0, 200);
        network.join_cn();
        network
    }

    fn socket(&self, n: usize) -> PathBuf {
        self.directory.path().join(format!("link{n}"))
    }

    fn device(&self, n: usize, end: usize) -> String {
        self.links[n - 1][end](self.socket(n).to_str().unwrap())
    }

    fn start(&self, name: &str, config: &str) -> Appliance {
        let here = self.directory.path();
        // Whoever waits for the socket shall not find that of a dead process.
        let _ = fs::remove_file(here.join(format!("{name}.sock")));
        let state = here.join(format!("{name}.state"));
        let config = format!(
            "{PROCESS}state_directory = \"{}\"\n{config}",
            state.display()
        );
        Appliance::start(here, name, Some(self.app.name()), &config)
    }

    fn start_lma(&mut self) {
        let link = |n: usize| {
            format!(
                "[[port]]\nname = \"mag{n}\"\ndevice = \"{}\"\naddresses = [\"2001:db8:f:{n}::f/64\"]\n",
                self.device(n, 0)
            )
        };
        let peer = |n: usize| {
            format!(
                "[[lma.peer]]\nname = \"mag{n}\"\naddress = \"2001:db8:f:{n}::1\"\nprotection = \"none\"\n"
            )
        };
        let config = format!(
            "{}{}[[port]]\nname = \"cn\"\ndevice = \"tap:cn0\"\nmac = \"02:00:00:00:0d:00\"\n\
             addresses = [\"{LMAA}/64\", \"2001:db8:c::1/64\"]\n\
             [lma]\naddress = \"{LMAA}\"\npools = [\"2001:db8:100::/48\"]\n\
             [lma.heartbeat]\ninterval_ms = 100\n{}{}",
            link(1),
            link(2),
            peer(1),
            peer(2),
        );
        self.lma = Some(self.start("lma", &config));
    }

    fn start_mag(&mut self, n: usize) {
        let config = format!(
            "[[port]]\nname = \"core\"\ndevice = \"{}\"\naddresses = [\"2001:db8:f:{n}::1/64\"]\n\
             [[port]]\nname = \"access\"\ndevice = \"tap:access{n}\"\nmtu = 1460\n\
             [[route]]\nto = \"::/0\"\nvia = \"2001:db8:f:{n}::f\"\nport = \"core\"\n\
             [mag]\naddress = \"2001:db8:f:{n}::1\"\naccess_ports = [\"access\"]\n\
             [mag.heartbeat]\ninterval_ms = 100\n\
             [[mag.peer]]\nname = \"lma\"\naddress = \"{LMAA}\"\nprotection = \"none\"\n\
             [[mag.mobile]]\nid = \"{MN1}\"\nlink_layer = \"02:00:00:00:01:0{n}\"\n\
             access_technology = \"wlan\"\n",
            self.device(n, 1)
        );
        let mag = self.start(&format!("mag{n}"), &config);
        self.mags.push(mag);
    }

    fn lma(&self) -> &Appliance {
        self.lma.as_ref().unwrap()
    }

    /// Gives the LMA's TAP interface to the correspondent.
    fn join_cn(&self) {
        self.app
            .ip(&format!("link set cn0 netns {}\n", self.cn.name()));
        self.cn.ip(&format!(
            "link set cn0 address 02:fe:00:00:00:00\nlink set cn0 up\n\
             addr add {CN}/64 dev cn0 nodad\nroute add 2001:db8:100::/48 via 2001:db8:c::1\n"
        ));
    }

    /// Gives the MAG's TAP interface to the mobile, which attaches there, and sends from its address there and nowhere
    /// else.
    fn join_mn(&self, n: usize) -> Ipv6Addr {
        self.app
            .ip(&format!("link set access{n} netns {}\n", self.mn.name()));
        self.mn.ipv6(&[
            (&format!("access{n}/accept_ra"), "1"),
            (&format!("access{n}/dad_transmits"), "0"),
        ]);
        self.mn.ip(&format!(
            "link set access{n} address 02:00:00:00:01:0{n}\nlink set access{n} mtu 1460\nlink set access{n} up\n"
        ));
        let address: Ipv6Addr = wait_for("an address of the mobile", LONG, || {
            let said = self
                .mn
                .ip_says(&format!("-6 -o addr show dev access{n} scope global"));
            let address = said.split_whitespace().nth(3)?;
            let usable = !said.contains("tentative");
            usable.then(|| address.split('/').next().unwrap().parse().unwrap())
        });
        self.mn.ip(&format!(
            "route add default via {ROUTER} dev access{n} table 10{n}\nrule add from {address} lookup 10{n}\n"
        ));
        address
    }

    fn ends(self) {
        let Self {
            lma,
            mags,
            links: _,
            directory,
            ..
        } = self;
        for process in mags.into_iter().chain(lma) {
            assert!(process.stop(Signal::SIGTERM).success());
        }
        for n in [1, 2] {
            let socket = directory.path().join(format!("link{n}"));
            assert!(!socket.exists(), "{} is left", socket.display());
        }
    }
}

/// Waits until `/readyz` says so of a port.
fn wait_for_port(process: &Appliance, port: &str, up: bool) {
    let state = if up { "up" } else { "down" };
    wait_for(&format!("{port} {state}"), LONG, || {
        let (_, said) = process.http("GET /readyz");
        let said: Value = serde_json::from_str(&said).unwrap();
        let down = said["ports_down"].as_array().unwrap();
        (down.iter().any(|name| name == port) != up).then_some(())
    });
}

/// A datagram reaches the mobile, over the interface that is watched.
fn comes_by(from: &UdpSocket, to: &UdpSocket, watch: &Watch, text: &str) {
    from.send_to(text.as_bytes(), to.local_addr().unwrap())
        .unwrap();
    let arrived = arrives(watch, text.as_bytes(), PATIENCE);
    assert!(arrived.is_some(), "{text}");
    let mut buffer = [0; 64];
    let len = uninterrupted(|| to.recv(&mut buffer)).unwrap();
    assert_eq!(buffer.get(..len), Some(text.as_bytes()));
}

fn a_mobile_is_served_over(name: &str, links: [Link; 2]) {
    if !is_root() {
        return;
    }
    let mut network = Network::new(name, links);
    let mn = network.join_mn(1);
    network.join_mn(2);
    let (one, other) = (network.cn.udp(ip(CN), 4000), network.mn.udp(mn, 5000));
    datagrams_go_both_ways(&one, &other);
    let watches = [1, 2].map(|n| network.mn.watch(&format!("access{n}")));
    comes_by(&one, &other, &watches[0], "by its first MAG");

    // A flow is moved to the other access, and comes by the other link.
    let flow = ["flow", "add", "--mn", MN1, "--bid", "1", "--proto", "udp"];
    network.lma().command(flow).ok();
    let moved = ["flow", "move", "--mn", MN1, "--fid", "1", "--to", "2"];
    let said = network.lma().command(moved).ok();
    assert!(said.contains("moved to access 2"), "{said}");
    comes_by(&one, &other, &watches[1], "by its second MAG");
    datagrams_go_both_ways(&one, &other);

    // The LMA is killed, and starts again while the MAGs go on.
    drop((one, watches));
    let killed = network.lma.take().unwrap();
    assert!(!killed.stop(Signal::SIGKILL).success());
    for mag in &network.mags {
        wait_for_port(mag, "core", false);
    }
    network.start_lma();
    for mag in &network.mags {
        wait_for_port(mag, "core", true);
    }
    assert_eq!(network.lma().http("GET /readyz").0, 200);
    network.join_cn();
    wait_for("both sessions", LONG, || {
        let bindings = network.lma().show("bindings");
        let active = bindings.iter().filter(|row| row["state"] == "active");
        (active.count() == 2).then_some(())
    });
    let one = network.cn.udp(ip(CN), 4000);
    datagrams_go_both_ways(&one, &other);
    drop((one, other));
    network.ends();
}

#[test]
fn a_mobile_is_served_over_memif() {
    a_mobile_is_served_over(
        "memif",
        [
            [
                |socket| format!("memif:{socket},server,id=1"),
                |socket| format!("memif:{socket},id=1"),
            ],
            [
                |socket| format!("memif:{socket}"),
                |socket| format!("memif:{socket},server"),
            ],
        ],
    );
}

#[test]
fn a_mobile_is_served_over_vhost_user() {
    a_mobile_is_served_over(
        "vhost",
        [
            [
                |socket| format!("virtio-user:{socket}"),
                |socket| format!("vhost-user:{socket}"),
            ],
            [
                |socket| format!("vhost-user:{socket}"),
                |socket| format!("virtio-user:{socket}"),
            ],
        ],
    );
}
