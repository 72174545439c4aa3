//! Two LMAs of a pool and a MAG, real processes on TAP ports, with the kernel as mobile node and as the host it speaks to.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;
#[path = "docs/page.rs"]
mod page;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::kernel::{CN, ECHO_REPLY, Namespace, PATIENCE, datagrams_go_both_ways, ip};
use common::process::{Appliance, FLOWMOB, flowmob};
use common::{is_root, wait_for};

/// The LMAs, and the pools of prefixes by which they are told apart.
const LMAS: [&str; 2] = ["2001:db8:f::1", "2001:db8:f::2"];
const PREFIXES: [&str; 2] = ["2001:db8:100::/48", "2001:db8:200::/48"];
const MAG: &str = "2001:db8:f::11";
/// Two mobiles whose place is the second LMA. The first has a host.
const MOBILES: [&str; 2] = ["mn3@example.net", "mn4@example.net"];

/// The mobile's host, one that all processes have their ports in, and a host in the Internet.
struct Network {
    mn: Namespace,
    wire: Namespace,
    cn: Namespace,
}

impl Network {
    fn new() -> Self {
        let [mn, wire, cn] = ["pool-mn", "pool-wire", "pool-cn"].map(Namespace::new);
        // There the kernel is a wire: it must not speak itself.
        wire.ipv6(&[("all/disable_ipv6", "1"), ("default/disable_ipv6", "1")]);
        let bridge = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0";
        wire.ip(&format!(
            "link add core {bridge}\nlink add access {bridge}\nlink add net {bridge}\n\
             link add to-mn type veth peer name eth0 netns {}\n\
             link add to-cn type veth peer name eth0 netns {}\n\
             link set to-mn master access\nlink set to-cn master net\n\
             link set to-mn up\nlink set to-cn up\n\
             link set core up\nlink set access up\nlink set net up\n",
            mn.name(),
            cn.name(),
        ));
        cn.ip(&format!(
            "link set lo up\nlink set eth0 up\naddr add {CN}/64 dev eth0 nodad\n\
             route add {} via 2001:db8:c::1\nroute add {} via 2001:db8:c::2\n",
            PREFIXES[0], PREFIXES[1],
        ));
        mn.ip("link set lo up\n");
        Self { mn, wire, cn }
    }

    fn join(&self, port: &str, bridge: &str, number: u8) {
        // A bridge keeps to itself what is for the address of one of its interfaces.
        self.wire.ip(&format!(
            "link set {port} address 02:fe:00:00:00:{number:02x}\nlink set {port} addrgenmode none\n\
             link set {port} master {bridge}\nlink set {port} up\n"
        ));
    }

    /// Starts one of the LMAs, in a directory where it may have been before.
    fn lma(&self, directory: &Path, which: usize) -> Appliance {
        let (number, other) = (which + 1, 2 - which);
        let config = format!(
            "[process]\nmemory_mib = 96\nstate_directory = \"{}\"\n\
             [[port]]\nname = \"core\"\ndevice = \"tap:core{number}\"\nmac = \"02:00:00:00:0c:0{number}\"\n\
             addresses = [\"{}/64\"]\n\
             [[port]]\nname = \"net\"\ndevice = \"tap:net{number}\"\nmac = \"02:00:00:00:0d:0{number}\"\n\
             addresses = [\"2001:db8:c::{number}/64\"]\n\
             [lma]\naddress = \"{}\"\npools = [\"{}\"]\nlma_pool = [\"lma{other}\"]\n\
             min_delay_before_bce_delete_ms = 500\n\
             [lma.heartbeat]\ninterval_ms = 500\n\
             [[lma.peer]]\nname = \"lma{other}\"\naddress = \"{}\"\nkeys = \"lma{number}-keys.toml\"\n\
             [[lma.peer]]\nname = \"mag\"\naddress = \"{MAG}\"\nprotection = \"none\"\n",
            directory.join(format!("lma{number}-state")).display(),
            LMAS[which],
            LMAS[which],
            PREFIXES[which],
            LMAS[1 - which],
        );
        let name = format!("lma{number}");
        let lma = Appliance::start(directory, &name, Some(self.wire.name()), &config);
        let number = u8::try_from(number).unwrap();
        self.join(&format!("core{number}"), "core", number);
        self.join(&format!("net{number}"), "net", 0x10 + number);
        lma
    }

    /// Starts the MAG, which asks the first LMA about everybody.
    fn mag(&self, directory: &Path) -> Appliance {
        let peers = LMAS.iter().zip(1..).map(|(address, number)| {
            format!(
                "[[mag.peer]]\nname = \"lma{number}\"\naddress = \"{address}\"\nprotection = \"none\"\n"
            )
        });
        let mobiles = MOBILES.iter().zip(["automatic", "command"]).zip(1..);
        let mobiles = mobiles.map(|((mobile, attach), number)| {
            format!(
                "[[mag.mobile]]\nid = \"{mobile}\"\nlink_layer = \"02:00:00:00:01:0{number}\"\n\
                 access_technology = \"wlan\"\nattach = \"{attach}\"\n"
            )
        });
        let config = format!(
            "[process]\nmemory_mib = 96\nstate_directory = \"{}\"\n\
             [[port]]\nname = \"core\"\ndevice = \"tap:mag-core\"\nmac = \"02:00:00:00:0c:11\"\n\
             addresses = [\"{MAG}/64\"]\n\
             [[port]]\nname = \"access\"\ndevice = \"tap:mag-access\"\n\
             [mag]\naddress = \"{MAG}\"\naccess_ports = [\"access\"]\nlma_pool = [\"lma1\", \"lma2\"]\n\
             initial_bindack_timeout_ms = 200\n\
             [mag.heartbeat]\ninterval_ms = 500\n{}{}",
            directory.join("mag-state").display(),
            peers.collect::<String>(),
            mobiles.collect::<String>(),
        );
        let mag = Appliance::start(directory, "mag", Some(self.wire.name()), &config);
        self.join("mag-core", "core", 0x21);
        self.join("mag-access", "access", 0x22);
        mag
    }

    /// The mobile's host appears on its link, where it finds an address in a prefix.
    fn address_in(&self, prefix: &str) -> std::net::Ipv6Addr {
        let start = prefix.split("::").next().unwrap();
        wait_for("an address of the mobile", 4 * PATIENCE, || {
            let addresses = self.mn.ip_says("-6 -o addr show dev eth0 scope global");
            let mut words = addresses.split_whitespace();
            let found = words.find(|word| word.starts_with(start))?;
            (!addresses.contains("tentative")).then(|| ip(found.split('/').next().unwrap()))
        })
    }
}

/// Who is registered at an LMA, and is not just leaving.
fn mobiles(lma: &Appliance) -> Vec<String> {
    let rows = lma.show("bindings");
    let rows = rows.iter().filter(|row| row["state"] == "active");
    rows.map(|row| row["mn"].as_str().unwrap().to_owned())
        .collect()
}

fn metric(process: &Appliance, line: &str) -> bool {
    let (status, body) = process.http("GET /metrics");
    assert_eq!(status, 200);
    body.lines().any(|l| l == line)
}

#[test]
fn a_mobile_is_redirected_and_an_lma_is_emptied() {
    let [commands] = page::run_by(include_str!("../../docs/operations.md"), file!());
    let [drain, status, wait, off] = commands.as_slice() else {
        panic!("{commands:?}");
    };
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let keys = [1, 2].map(|number| directory.join(format!("lma{number}-keys.toml")));
    let [one, other] = keys.each_ref().map(|path| path.to_str().unwrap());
    flowmob(["keys", "generate", "--lma", one, "--mag", other]).ok();
    let network = Network::new();
    let lma1 = network.lma(directory, 0);
    let mut lma2 = network.lma(directory, 1);
    let mag = network.mag(directory);

    // The mobile appears. The MAG asks the first LMA, and the second one has it.
    network
        .mn
        .ipv6(&[("eth0/accept_ra", "1"), ("eth0/dad_transmits", "0")]);
    network
        .mn
        .ip("link set eth0 address 02:00:00:00:01:01\nlink set eth0 up\n");
    let mn = network.address_in(PREFIXES[1]);
    assert_eq!(
        (mobiles(&lma1), mobiles(&lma2)),
        (vec![], vec![MOBILES[0].to_owned()])
    );
    let rows = mag.show("bindings");
    assert_eq!(rows[0]["peer"], "lma2", "{rows:?}");
    assert!(metric(&lma1, "flowmob_redirects_total{role=\"lma\"} 1"));
    assert!(metric(&mag, "flowmob_redirects_total{role=\"mag\"} 1"));
    let traffic_flows = || {
        let (cn, mobile) = (network.cn.icmp(ip(CN)), network.mn.icmp(mn));
        wait_for("the way to the mobile", 4 * PATIENCE, || {
            cn.ask(mn, 48, 0);
            cn.next(&[ECHO_REPLY], Duration::from_millis(500))
        });
        mobile.is_answered_by(ip(CN));
        datagrams_go_both_ways(&network.cn.udp(ip(CN), 4000), &network.mn.udp(mn, 5000));
    };
    traffic_flows();

    // The second one drains: it goes on with the mobile that it has, also after it was killed.
    let shown = |lma: &Appliance, command: &page::Command| {
        let words = command.text.split(' ').skip(1);
        command.check(true, &lma.command(words).ok());
    };
    shown(&lma2, drain);
    lma2.kill();
    std::fs::remove_file(directory.join("lma2.log")).unwrap();
    drop(lma2);
    let lma2 = network.lma(directory, 1);
    shown(&lma2, status);
    assert!(metric(&lma2, "flowmob_draining 1"));
    traffic_flows();

    // Another mobile, whose place would be there, comes to the first one.
    mag.command(["attach", MOBILES[1]]).ok();
    wait_for("another mobile", 4 * PATIENCE, || {
        (mobiles(&lma1) == [MOBILES[1]]).then_some(())
    });
    assert_eq!(mobiles(&lma2), [MOBILES[0]]);
    assert!(lma2.drops("lma-draining") > 0);

    // It is empty as soon as its mobile leaves, and the mobile comes back elsewhere.
    let mut waits = Command::new(FLOWMOB)
        .arg("--socket")
        .arg(lma2.socket())
        .args(wait.text.split(' ').skip(1))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(waits.stdout.take().unwrap());
    let mut said = String::new();
    output.read_line(&mut said).unwrap();
    mag.command(["detach", MOBILES[0]]).ok();
    output.read_to_string(&mut said).unwrap();
    wait.check(waits.wait().unwrap().success(), &said);
    mag.command(["attach", MOBILES[0]]).ok();
    network.address_in(PREFIXES[0]);
    assert_eq!(mobiles(&lma2), [""; 0]);

    // Nobody waits for one that takes mobiles again.
    shown(&lma2, off);
    let status = lma2.command(["show", "status"]).ok();
    assert!(!status.contains("draining"), "{status}");
}
