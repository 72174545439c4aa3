//! A MAG against the Linux kernel, which is the mobile node with its address autoconfiguration, and the
//! anchor's IPv6-in-IPv6 and checksums. Only the signalling of the LMA is the test's own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

mod common;

use std::time::Duration;

use common::kernel::{
    CN, LMAA, MAG, Mobility, Network, PATIENCE, SILENCE, STRANGER, arrives, datagram,
    datagram_is_lost, datagrams_go_both_ways, ip,
};
use common::process::Appliance;
use common::{is_root, wait_for};
use flow::{Hnp, Interval, MnId, MnLinkLayerId, Selector};
use pmip_wire::{FlowLifetime, Fma, FmaStatus, Fmi, HnpOption, Message, Pbu, PbuFlags};
use tempfile::TempDir;

fn mn_id(name: &str) -> MnId {
    MnId::new(name).unwrap()
}

fn prefix(text: &str) -> Hnp {
    let (address, length) = text.split_once('/').unwrap();
    Hnp::new(ip(address), length.parse().unwrap()).unwrap()
}

/// A MAG whose LMA is the kernel and this test, with the kernel as mobile node.
struct AtMag {
    mag: Appliance,
    signalling: Mobility,
    network: Network,
    directory: TempDir,
    config: String,
}

const MN_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const MN_ID: &str = "mn1@example.net";
const OWN: &str = "2001:db8:100:7::/64";
/// From the prefix and the interface's address (RFC 4862, RFC 4291 appendix A).
const MN: &str = "2001:db8:100:7:0:ff:fe00:101";
const GRANTED: &str = "2001:db8:100:8::/64";
const MN_GRANTED: &str = "2001:db8:100:8::8";

impl AtMag {
    /// With the mobile attached to prefix [`OWN`].
    fn new(name: &str) -> Self {
        let network = Network::new(name);
        network.make_tunnel(ip(LMAA), ip(MAG), "2001:db8:100::/48");
        network.peer.ip(&format!(
            "addr add 2001:db8:c::1/64 dev far0 nodad\naddr add {STRANGER}/128 dev core0 nodad\n"
        ));
        network.far.ip(&format!(
            "addr add {CN}/64 dev eth0 nodad\nroute add default via 2001:db8:c::1\n"
        ));
        let directory = tempfile::tempdir().unwrap();
        let config = format!(
            "[process]\nmemory_mib = 96\nstate_directory = \"{}\"\n\
             [[port]]\nname = \"core\"\ndevice = \"tap:core0\"\nmac = \"02:00:00:00:0c:01\"\n\
             addresses = [\"{MAG}/64\"]\n\
             [[port]]\nname = \"edge\"\ndevice = \"tap:edge0\"\n\
             [[route]]\nto = \"2001:db8:f::/64\"\nport = \"core\"\n\
             [mag]\naddress = \"{MAG}\"\naccess_ports = [\"edge\"]\n\
             [mag.heartbeat]\nenabled = false\n\
             [[mag.peer]]\nname = \"kernel\"\naddress = \"{LMAA}\"\nprotection = \"none\"\n\
             [[mag.mobile]]\nid = \"{MN_ID}\"\nlink_layer = \"02:00:00:00:01:01\"\n\
             access_technology = \"wlan\"\n",
            directory.path().join("state").display()
        );
        let namespace = Some(network.app.name());
        let mag = Appliance::start(directory.path(), "mag", namespace, &config);
        network.join_ports();

        let signalling = network.peer.mobility(ip(LMAA), ip(MAG));
        // The mobile appears: it solicits a router, for which the MAG registers it first.
        network
            .edge
            .ipv6(&[("eth0/accept_ra", "1"), ("eth0/dad_transmits", "0")]);
        network
            .edge
            .ip("link set eth0 address 02:00:00:00:01:01\nlink set eth0 up\n");
        let request = answer_pbu(&signalling);
        assert_eq!(request.mn_id, Some(mn_id(MN_ID).into()));
        assert_eq!(request.ll_id, Some(MnLinkLayerId::new(&MN_MAC).unwrap()));
        assert!(request.flags.contains(PbuFlags::REQUEST) && !request.lifetime.is_zero());
        wait_for("an address of the mobile", PATIENCE, || {
            let addresses = network
                .edge
                .ip_says("-6 -o addr show dev eth0 scope global");
            (addresses.contains(MN) && !addresses.contains("tentative")).then_some(())
        });
        Self {
            mag,
            signalling,
            network,
            directory,
            config,
        }
    }

    /// Asks for flow mobility and returns the answer.
    fn ask(&self, sequence: u16, name: &str, lifetime: FlowLifetime) -> Fma {
        let selector = Selector {
            source: Some(Interval::single(ip(CN))),
            destination: Some(Interval::single(ip(MN_GRANTED))),
            ..Selector::default()
        };
        self.signalling.send(Fmi {
            sequence,
            lifetime,
            mn_id: Some(mn_id(name).into()),
            hnps: vec![HnpOption::off_link(prefix(GRANTED))],
            selectors: vec![flow::TrafficSelector::from(selector).into()],
            ..Fmi::default()
        });
        let Message::Fma(fma) = self.signalling.receive() else {
            panic!("no FMA");
        };
        assert_eq!(fma.sequence, sequence);
        fma
    }
}

/// Takes a register request and grants [`OWN`] for as long as it asks.
fn answer_pbu(signalling: &Mobility) -> Pbu {
    signalling.grant(prefix(OWN))
}

#[test]
fn mag_serves_a_kernel_mobile_through_a_kernel_anchor() {
    if !is_root() {
        return;
    }
    let at = AtMag::new("mag");
    let (cn, mn) = (at.network.far.icmp(ip(CN)), at.network.edge.icmp(ip(MN)));
    cn.is_answered_by(ip(MN));
    mn.is_answered_by(ip(CN));
    let (one, other) = (
        at.network.far.udp(ip(CN), 4000),
        at.network.edge.udp(ip(MN), 5000),
    );
    datagrams_go_both_ways(&one, &other);
    let route = at.network.edge.ip_says("-6 route show default");
    assert!(route.contains("via fe80::200:5eff:fe00:5213"), "{route}");

    // What is explained is what has just been seen.
    let explain = |from, to, more: &[&'static str]| {
        let fields = ["explain", "--src", from, "--dst", to, "--dport", "5000"];
        at.mag
            .command(fields.into_iter().chain(more.iter().copied()))
            .ok()
    };
    let up = explain(MN, CN, &[]);
    assert!(up.contains("arrives   from the mobile's station"), "{up}");
    assert!(
        up.contains("result    sent, tunnel to ") && up.contains("next header 41"),
        "{up}"
    );
    let down = explain(CN, MN, &[]);
    assert!(down.contains("arrives   out of the tunnel from "), "{down}");
    assert!(
        down.contains("result    sent, link edge to ")
            && down.contains("next header 17, hop limit 63"),
        "{down}"
    );
    let forged = explain("2001:db8:dead::1", CN, &["--port", "edge"]);
    assert!(
        forged.contains("result    dropped: ingress-filter"),
        "{forged}"
    );

    // Not through another tunnel end, not to another prefix.
    let watch = at.network.edge.watch("eth0");
    let before = at.mag.drops("no-tunnel");
    let tunnel = at.network.peer.tunnel(ip(STRANGER), ip(MAG), 0);
    tunnel
        .send(&datagram(ip(CN), ip(MN), 0, b"by another"))
        .unwrap();
    assert_eq!(arrives(&watch, b"by another", SILENCE), None);
    assert_eq!(at.mag.drops("no-tunnel"), before + 1);
    // A source that is none of the mobile's is stopped at the first router.
    at.network
        .edge
        .ip("addr add 2001:db8:dead::1/128 dev eth0 nodad\n");
    let before = at.mag.drops("ingress-filter");
    datagram_is_lost(&at.network.edge.udp(ip("2001:db8:dead::1"), 5000), &one);
    assert_eq!(at.mag.drops("ingress-filter"), before + 1);

    // It is told to leave: the registration ends, and with it the route.
    let said = at.mag.command(["detach", MN_ID]).ok();
    assert_eq!(said, format!("detaching {MN_ID} from port edge\n"));
    let request = answer_pbu(&at.signalling);
    assert!(request.lifetime.is_zero() && request.flags.contains(PbuFlags::REQUEST));
    wait_for("the end of the route", PATIENCE, || {
        let routes = at.mag.show("routes");
        let left = routes.iter().any(|row| row["prefix"] == OWN);
        (!left).then_some(())
    });
    datagram_is_lost(&one, &other);
}

#[test]
fn mag_routes_a_moved_flow_from_fmi_to_fmi() {
    if !is_root() {
        return;
    }
    let at = AtMag::new("fmi");
    at.network
        .edge
        .ip(&format!("addr add {MN_GRANTED}/128 dev eth0 nodad\n"));
    let (cn, mn) = (
        at.network.far.udp(ip(CN), 4000),
        at.network.edge.udp(ip(MN_GRANTED), 5000),
    );
    let closed = |what: &str| {
        let before = (at.mag.drops("no-binding"), at.mag.drops("ingress-filter"));
        datagram_is_lost(&cn, &mn);
        datagram_is_lost(&mn, &cn);
        let after = (at.mag.drops("no-binding"), at.mag.drops("ingress-filter"));
        assert_eq!(after, (before.0 + 1, before.1 + 1), "{what}");
    };
    closed("before");

    let fma = at.ask(0x100, MN_ID, FlowLifetime::INFINITE);
    assert_eq!(
        (fma.status, fma.lifetime),
        (FmaStatus::SUCCESS, FlowLifetime::INFINITE)
    );
    assert_eq!(fma.mn_id, Some(mn_id(MN_ID).into()));
    assert_eq!(fma.hnps, [HnpOption::off_link(prefix(GRANTED))]);
    // The acknowledgement is a promise: the route is there already.
    datagrams_go_both_ways(&cn, &mn);
    let flows = at.mag.show("flows");
    assert_eq!(flows.len(), 1, "{flows:?}");

    // The same again changes nothing but is answered; for a stranger there is no route.
    let fma = at.ask(0x100, MN_ID, FlowLifetime::INFINITE);
    assert_eq!(fma.status, FmaStatus::SUCCESS);
    let fma = at.ask(0x101, "mn9@example.net", FlowLifetime::INFINITE);
    assert_eq!(fma.status, FmaStatus::NOT_ATTACHED);
    datagrams_go_both_ways(&cn, &mn);

    let fma = at.ask(0x102, MN_ID, FlowLifetime::ZERO);
    assert_eq!(
        (fma.status, fma.lifetime),
        (FmaStatus::SUCCESS, FlowLifetime::ZERO)
    );
    closed("after");
    let fma = at.ask(0x103, MN_ID, FlowLifetime::ZERO);
    assert_eq!(fma.status, FmaStatus::UNKNOWN_FLOW);

    // And with an end of its own.
    let fma = at.ask(0x104, MN_ID, FlowLifetime::from_seconds(1));
    assert_eq!(fma.status, FmaStatus::SUCCESS);
    datagrams_go_both_ways(&cn, &mn);
    wait_for("end of the lifetime", Duration::from_secs(4), || {
        at.mag.show("flows").is_empty().then_some(())
    });
    closed("after its lifetime");
}

/// After `kill -9` the mobile's packets go both ways again, and its LMA, which is this test, has heard nothing.
#[test]
fn mag_that_is_killed_forwards_again_without_one_message() {
    if !is_root() {
        return;
    }
    let mut at = AtMag::new("again");
    let fma = at.ask(7, MN_ID, FlowLifetime::INFINITE);
    assert_eq!(fma.status, FmaStatus::SUCCESS);
    let routes = at.mag.show("routes");
    let mobile = routes.iter().filter(|row| row["mn"] == MN_ID);
    assert_eq!(mobile.count(), 2, "{routes:?}");

    at.mag.kill();
    let namespace = Some(at.network.app.name());
    at.mag = Appliance::start(at.directory.path(), "mag", namespace, &at.config);
    at.network.join_ports();
    let (one, other) = (
        at.network.far.udp(ip(CN), 4000),
        at.network.edge.udp(ip(MN), 5000),
    );
    wait_for("packets", PATIENCE, || {
        let cn = at.network.far.icmp(ip(CN));
        cn.ask(ip(MN), 48, 0);
        cn.next(&[common::kernel::ECHO_REPLY], Duration::from_millis(200))
    });
    datagrams_go_both_ways(&one, &other);
    assert_eq!(at.mag.show("routes"), routes);
    // A PBU would have come before this answer.
    let fma = at.ask(7, MN_ID, FlowLifetime::INFINITE);
    assert_eq!(fma.status, FmaStatus::SUCCESS);
}

/// Sessions are at ports: with other ones they begin anew, and the LMA learns that.
#[test]
fn mag_with_other_ports_takes_no_session_to_the_wrong_one() {
    if !is_root() {
        return;
    }
    let mut at = AtMag::new("ports");
    at.mag.kill();
    let config = at
        .config
        .replace("name = \"edge\"", "name = \"wlan\"")
        .replace("[\"edge\"]", "[\"wlan\"]");
    assert_ne!(config, at.config);
    let namespace = Some(at.network.app.name());
    at.mag = Appliance::start(at.directory.path(), "mag", namespace, &config);
    let log = at.mag.log();
    assert!(log.contains("its sessions begin anew"), "{log}");
    assert!(at.mag.show("bindings").is_empty(), "{log}");
    let counter = at.directory.path().join("state/restart_counter");
    assert_eq!(std::fs::read_to_string(counter).unwrap(), "2\n");
}
