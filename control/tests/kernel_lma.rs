//! An LMA against the Linux kernel: its IPv6-in-IPv6, its checksums, its neighbour discovery. Only the
//! signalling of the MAG is the test's own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

#[path = "kernel_lma/capture.rs"]
mod capture;
mod common;

use std::net::Ipv6Addr;
use std::time::Duration;

use common::is_root;
use common::kernel::{
    CN, ECHO_REPLY, Icmp, LMAA, MAG, Mobility, Network, PATIENCE, SILENCE, STRANGER, TIME_EXCEEDED,
    TOO_BIG, Watch, arrives, datagram, datagrams_go_both_ways, ip,
};
use common::process::Appliance;
use common::wait_for;
use etherparse::{IpNumber, Ipv6Header};
use flow::{AccessTechnology, HandoffIndicator, Hnp, MnId, MnLinkLayerId};
use nix::sys::signal::Signal;
use pmip_wire::{
    BindingLifetime, BindingStatus, Heartbeat, HeartbeatKind, HnpOption, Message, Pba, Pbu,
    PbuFlags,
};
use tempfile::TempDir;

/// A second gateway that the anchor knows.
const OTHER_MAG: &str = "2001:db8:b::1";

/// Both ports carry 1500 octets, of which the outer header takes 40.
const TUNNEL_MTU: usize = 1460;

fn mn_id(name: &str) -> MnId {
    MnId::new(name).unwrap()
}

/// A register request, or the end of a registration with a lifetime of zero.
fn pbu(sequence: u16, name: &str, units: u16) -> Pbu {
    Pbu {
        sequence,
        flags: PbuFlags::REQUEST,
        lifetime: BindingLifetime::from_units(units),
        mn_id: Some(mn_id(name).into()),
        hnps: vec![HnpOption::ALL_ZERO],
        handoff: Some(match sequence {
            1 => HandoffIndicator::NEW_INTERFACE,
            _ => HandoffIndicator::NO_CHANGE,
        }),
        access: Some(AccessTechnology(4)),
        ll_id: Some(MnLinkLayerId::new(&[2, 0, 0, 0, 1, 1]).unwrap()),
        ..Pbu::default()
    }
}

/// An LMA whose one MAG is the kernel, with a mobile node behind it.
struct AtLma {
    lma: Appliance,
    signalling: Mobility,
    hnp: Hnp,
    mn: Ipv6Addr,
    network: Network,
    directory: TempDir,
    config: String,
}

impl AtLma {
    fn new(name: &str) -> Self {
        Self::with_state_in(name, tempfile::tempdir().unwrap())
    }

    /// With a directory of the test's making for all that the LMA writes.
    fn with_state_in(name: &str, directory: TempDir) -> Self {
        Self::with(name, directory, "")
    }

    /// And with more keys of its process.
    fn with(name: &str, directory: TempDir, process: &str) -> Self {
        let network = Network::new(name);
        network.edge.ip(&format!(
            "link set eth0 up\naddr add {CN}/64 dev eth0 nodad\n\
             route add 2001:db8:100::/48 via 2001:db8:c::1\n"
        ));
        network.make_tunnel(ip(MAG), ip(LMAA), "2001:db8:c::/64");
        network.peer.ip(&format!(
            "addr add {OTHER_MAG}/128 dev core0 nodad\naddr add {STRANGER}/128 dev core0 nodad\n"
        ));
        let config = format!(
            "[process]\n{process}memory_mib = 96\nstate_directory = \"{}\"\n\
             [[port]]\nname = \"core\"\ndevice = \"tap:core0\"\nmac = \"02:00:00:00:0c:00\"\n\
             addresses = [\"{LMAA}/64\"]\n\
             [[port]]\nname = \"edge\"\ndevice = \"tap:edge0\"\nmac = \"02:00:00:00:0d:00\"\n\
             addresses = [\"2001:db8:c::1/64\"]\n\
             [[route]]\nto = \"2001:db8:a::/64\"\nport = \"core\"\n\
             [[route]]\nto = \"2001:db8:b::/64\"\nport = \"core\"\n\
             [lma]\naddress = \"{LMAA}\"\npools = [\"2001:db8:100::/48\"]\n\
             min_delay_before_bce_delete_ms = 60000\n\
             [lma.heartbeat]\nenabled = false\n\
             [[lma.peer]]\nname = \"kernel\"\naddress = \"{MAG}\"\nprotection = \"none\"\n\
             [[lma.peer]]\nname = \"other\"\naddress = \"{OTHER_MAG}\"\nprotection = \"none\"\n",
            directory.path().join("state").display()
        );
        let namespace = Some(network.app.name());
        let lma = Appliance::start(directory.path(), "lma", namespace, &config);
        network.join_ports();

        let signalling = network.peer.mobility(ip(MAG), ip(LMAA));
        let hnp = register(&signalling, 1, "mn1@example.net");
        let mn = Ipv6Addr::from(u128::from(hnp.addr()) | 0x100);
        let router = Ipv6Addr::from(u128::from(hnp.addr()) | 1);
        // The kernel does not tell those behind its tunnel what fits it.
        network.peer.ip(&format!(
            "link set far0 mtu {TUNNEL_MTU}\naddr add {router}/64 dev far0 nodad\n"
        ));
        network.far.ip(&format!(
            "link set eth0 mtu {TUNNEL_MTU}\naddr add {mn}/64 dev eth0 nodad\n\
             route add default via {router}\n"
        ));
        // The kernel takes its time to listen on a new link: until then it is not the LMA's that
        // packets are lost.
        let behind = network.peer.icmp(router);
        wait_for("the mobile on its link", PATIENCE, || {
            behind.ask(mn, 48, 0);
            behind.next(&[ECHO_REPLY], Duration::from_millis(500))
        });
        Self {
            lma,
            signalling,
            hnp,
            mn,
            network,
            directory,
            config,
        }
    }

    /// The process is killed, and begins anew with what is on disk.
    fn kill_and_start(&mut self) {
        self.lma.kill();
        self.start();
    }

    /// Another process takes over, and finds everything there.
    fn taken_over(mut self) -> Self {
        let namespace = self.network.app.name().to_owned();
        let directory = self.directory.path().to_owned();
        self.lma = self.lma.taken_over(&directory, "lma", Some(&namespace));
        self.network.join_ports();
        self
    }

    fn start(&mut self) {
        let namespace = Some(self.network.app.name());
        self.lma = Appliance::start(self.directory.path(), "lma", namespace, &self.config);
        self.network.join_ports();
    }

    fn cn(&self) -> Icmp {
        self.network.edge.icmp(ip(CN))
    }

    /// Sends a packet in a tunnel; it is lost, and counted as that.
    fn is_dropped(&self, reason: &str, outer: (&str, u8), packet: &[u8], payload: &[u8]) {
        let watch = self.network.edge.watch("eth0");
        let before = self.lma.drops(reason);
        let tunnel = self.network.peer.tunnel(ip(outer.0), ip(LMAA), outer.1);
        tunnel.send(packet).unwrap();
        assert_eq!(arrives(&watch, payload, SILENCE), None, "{reason}");
        assert_eq!(self.lma.drops(reason), before + 1, "{reason}");
    }
}

/// The next PBA, whatever comes before it.
fn answer(signalling: &Mobility) -> Pba {
    loop {
        if let Message::Pba(pba) = signalling.receive() {
            return pba;
        }
    }
}

/// Registers a mobile and returns the prefix it was given.
fn register(signalling: &Mobility, sequence: u16, name: &str) -> Hnp {
    signalling.send(pbu(sequence, name, 75));
    let pba = answer(signalling);
    assert_eq!(
        (pba.status, pba.sequence),
        (BindingStatus::ACCEPTED, sequence)
    );
    assert_eq!(pba.mn_id, Some(mn_id(name).into()));
    let [hnp] = pba.hnps.as_slice() else {
        panic!("{pba:?}");
    };
    assert!(!hnp.off_link && hnp.prefix.len() == 64);
    hnp.prefix
}

#[test]
fn lma_packets_of_all_sizes_go_both_ways_through_the_kernels_tunnel() {
    if !is_root() {
        return;
    }
    let at = AtLma::new("lma");
    let (cn, mn) = (at.cn(), at.network.far.icmp(at.mn));
    cn.is_answered_by(at.mn);
    mn.is_answered_by(ip(CN));
    let (one, other) = (
        at.network.edge.udp(ip(CN), 4000),
        at.network.far.udp(at.mn, 5000),
    );
    datagrams_go_both_ways(&one, &other);

    // One octet too many: the CN learns what fits, cuts its packets, and is answered.
    cn.ask(at.mn, TUNNEL_MTU, 100);
    assert!(
        cn.next(&[ECHO_REPLY, TOO_BIG], PATIENCE)
            .is_some_and(|m| m.kind == ECHO_REPLY)
    );
    cn.ask(at.mn, 1500, 101);
    let told = cn.next(&[ECHO_REPLY, TOO_BIG], PATIENCE).unwrap();
    assert_eq!((told.source, told.kind), (ip("2001:db8:c::1"), TOO_BIG));
    assert_eq!(told.word as usize, TUNNEL_MTU);
    assert_eq!(at.lma.drops("too-big"), 1);
    let mtu = at.network.edge.ip_says(&format!("-6 route get {}", at.mn));
    assert!(mtu.contains(&format!("mtu {TUNNEL_MTU}")), "{mtu}");
    cn.ask(at.mn, 1500, 102);
    let reply = cn
        .next(&[ECHO_REPLY], PATIENCE)
        .expect("fragments do not pass");
    assert_eq!(reply.body.len(), 1500 - 48);

    // The mobile is one hop behind the LMA for the CN, whatever the tunnel is made of.
    cn.hop_limit(1);
    cn.ask(at.mn, 100, 200);
    let told = cn.next(&[ECHO_REPLY, TIME_EXCEEDED], PATIENCE).unwrap();
    assert_eq!(
        (told.source, told.kind),
        (ip("2001:db8:c::1"), TIME_EXCEEDED)
    );
    assert_eq!(&told.body[24..40], at.mn.octets(), "the packet is quoted");
    assert_eq!(at.lma.drops("hop-limit"), 1);

    // Both sides of the tunnel were counted, and nothing else was lost.
    let paths = at.lma.show("paths");
    assert_eq!(paths.len(), 1, "{paths:?}");
    let counted = |name: &str| paths[0]["counters"][name].as_u64().unwrap();
    assert!(
        counted("out_packets") >= 19 && counted("in_packets") >= 19,
        "{paths:?}"
    );
    let mobiles = at.lma.show("mobiles");
    let traffic = |name: &str| mobiles[0]["traffic"][name].as_u64().unwrap();
    for name in ["downlink_packets", "uplink_packets"] {
        assert!(traffic(name) >= 19, "{mobiles:?}");
    }
    assert!(traffic("uplink_octets") >= 19 * 40, "{mobiles:?}");
    let reasons = at.lma.show("drops");
    let reasons: Vec<_> = reasons
        .iter()
        .map(|row| row["reason"].as_str().unwrap())
        .collect();
    // The host itself asks for routers and reports its groups.
    let expected = [
        "hop-limit",
        "too-big",
        "multicast",
        "not-for-us",
        "unhandled",
        "bad-source",
        "link-local",
    ];
    assert!(
        reasons.iter().all(|reason| expected.contains(reason)),
        "{reasons:?}"
    );
}

#[test]
fn lma_takes_from_a_tunnel_what_may_come_out_of_it_and_nothing_else() {
    if !is_root() {
        return;
    }
    let at = AtLma::new("out");
    let packet = |source, class, payload: &[u8]| datagram(source, ip(CN), class, payload);
    let enter = |class| at.network.peer.tunnel(ip(MAG), ip(LMAA), class);
    let watch = at.network.edge.watch("eth0");
    // RFC 6040 §4.2, figure 4: the more severe mark survives, on what can be marked.
    let ce = 3;
    for (outer, inner, expected) in [
        (0, 0xb8, 0xb8),
        (0, 2, 2),
        (ce, 2, ce),
        (ce, 1, ce),
        (1, 2, 1),
        (2, 1, 1),
    ] {
        let payload = format!("outer {outer} inner {inner}");
        let tunnel = enter(outer);
        tunnel
            .send(&packet(at.mn, inner, payload.as_bytes()))
            .unwrap();
        let arrived = arrives(&watch, payload.as_bytes(), PATIENCE);
        // RFC 2473 §3.1: one hop, however long the tunnel is.
        assert_eq!(arrived, Some((expected, 63)), "{payload}");
    }
    let good = packet(at.mn, 0, b"unmarkable");
    at.is_dropped("ecn", (MAG, ce), &good, b"unmarkable");

    let foreign = ip("2001:db8:100:ff::100");
    at.is_dropped(
        "inner-source",
        (MAG, 0),
        &packet(foreign, 0, b"foreign"),
        b"foreign",
    );
    let outside = ip("2001:db8:dead::1");
    at.is_dropped(
        "inner-source",
        (MAG, 0),
        &packet(outside, 0, b"outside"),
        b"outside",
    );
    let good = packet(at.mn, 0, b"by another");
    at.is_dropped("no-tunnel", (STRANGER, 0), &good, b"by another");
    // A known gateway, but not of this mobile.
    let other = at.network.peer.mobility(ip(OTHER_MAG), ip(LMAA));
    let hnp = register(&other, 1, "mn2@example.net");
    assert_ne!(hnp, at.hnp);
    at.is_dropped("outer-source", (OTHER_MAG, 0), &good, b"by another");
    let theirs = Ipv6Addr::from(u128::from(hnp.addr()) | 7);
    at.is_dropped(
        "outer-source",
        (MAG, 0),
        &packet(theirs, 0, b"theirs"),
        b"theirs",
    );

    // After de-registration the tunnel, which another mobile still needs, is shut for this one.
    register(&at.signalling, 1, "mn3@example.net");
    at.cn().is_answered_by(at.mn);
    at.signalling.send(pbu(2, "mn1@example.net", 0));
    let Message::Pba(pba) = at.signalling.receive() else {
        panic!("no PBA");
    };
    assert_eq!((pba.status, pba.sequence), (BindingStatus::ACCEPTED, 2));
    at.is_dropped(
        "binding-inactive",
        (MAG, 0),
        &packet(at.mn, 0, b"late"),
        b"late",
    );
    let cn = at.cn();
    cn.ask(at.mn, 100, 1);
    assert_eq!(cn.next(&[ECHO_REPLY], SILENCE), None);
    assert_eq!(
        at.lma.drops("binding-inactive"),
        2,
        "{:?}",
        at.lma.show("drops")
    );
}

#[test]
fn lma_refuses_strangers_and_damage() {
    if !is_root() {
        return;
    }
    let at = AtLma::new("ref");
    let stranger = at.network.peer.mobility(ip(STRANGER), ip(LMAA));
    stranger.send(pbu(1, "mn3@example.net", 75));
    let Message::Pba(pba) = stranger.receive() else {
        panic!("no PBA");
    };
    assert_eq!(pba.status, BindingStatus::MAG_NOT_AUTHORIZED_FOR_PROXY_REG);
    assert_eq!(at.lma.show("bindings").len(), 1);
    // A sequence number that was used before (RFC 6275 §9.5.1).
    at.signalling.send(Pbu {
        sequence: 1,
        ..pbu(2, "mn1@example.net", 75)
    });
    let Message::Pba(pba) = at.signalling.receive() else {
        panic!("no PBA");
    };
    assert_eq!(pba.status, BindingStatus::SEQUENCE_OUT_OF_WINDOW);
    at.cn().is_answered_by(at.mn);
}

#[test]
fn lma_answers_heartbeats_of_its_mags_and_of_nobody_else() {
    if !is_root() {
        return;
    }
    let at = AtLma::new("alive");
    let request = |sequence| Heartbeat {
        kind: HeartbeatKind::Request,
        sequence,
        restart_counter: None,
        others: Vec::new(),
    };
    let before = at.lma.drops("unknown-peer");
    at.network
        .peer
        .mobility(ip(STRANGER), ip(LMAA))
        .send(request(1));
    at.signalling.send(request(7));
    let Message::Heartbeat(answer) = at.signalling.receive() else {
        panic!("no heartbeat");
    };
    assert_eq!((answer.kind, answer.sequence), (HeartbeatKind::Response, 7));
    assert!(answer.restart_counter.is_some());
    assert_eq!(at.lma.drops("unknown-peer"), before + 1);
}

#[test]
fn lma_tunnels_are_plain_ipv6_in_ipv6() {
    if !is_root() {
        return;
    }
    let at = AtLma::new("raw");
    at.cn().is_answered_by(at.mn);
    let watch = at.network.peer.watch("core0");
    let cn = at.network.edge.udp(ip(CN), 4000);
    cn.send_to(b"look at me", (at.mn, 5000)).unwrap();
    let (outer, inner) = watch
        .find(PATIENCE, |frame| {
            let (outer, rest) = Ipv6Header::from_slice(frame.get(14..)?).ok()?;
            let (inner, payload) = Ipv6Header::from_slice(rest).ok()?;
            payload.ends_with(b"look at me").then_some((outer, inner))
        })
        .unwrap();
    assert_eq!(outer.next_header, IpNumber::IPV6);
    assert_eq!(
        (outer.source_addr(), outer.destination_addr()),
        (ip(LMAA), ip(MAG))
    );
    assert_eq!(outer.hop_limit, 64);
    assert_eq!(outer.payload_length, inner.payload_length + 40);
    // RFC 6438: entropy for those on the way, and the same for the whole flow.
    assert_ne!(outer.flow_label.value(), 0);
    assert_eq!(
        (inner.source_addr(), inner.destination_addr()),
        (ip(CN), at.mn)
    );
    assert_eq!(inner.hop_limit, 63);
}

/// What `explain` says of a packet.
fn explained(at: &AtLma, packet: &[u8], more: &[&str]) -> serde_json::Value {
    let hex = packet
        .iter()
        .fold(String::new(), |hex, octet| hex + &format!("{octet:02x}"));
    let command = ["explain", "--json", "--hex", &hex];
    let said = at
        .lma
        .command(command.into_iter().chain(more.iter().copied()));
    serde_json::from_str(&said.ok()).unwrap()
}

#[test]
fn lma_does_what_it_explains() {
    if !is_root() {
        return;
    }
    let at = AtLma::new("why");
    // The mobile's second access, behind the other gateway, with a flow and one that is never tried.
    let other = at.network.peer.mobility(ip(OTHER_MAG), ip(LMAA));
    other.send(Pbu {
        access: Some(AccessTechnology(8)),
        ll_id: Some(MnLinkLayerId::new(&[2, 0, 0, 0, 1, 2]).unwrap()),
        handoff: Some(HandoffIndicator::SHARING_PREFIXES),
        ..pbu(1, "mn1@example.net", 75)
    });
    assert!(matches!(other.receive(), Message::Pba(pba) if pba.status == BindingStatus::ACCEPTED));
    let flow = ["flow", "add", "--mn", "mn1@example.net", "--bid"];
    let add = |bid: &'static str, selector: &[&'static str]| {
        let words = flow
            .into_iter()
            .chain([bid])
            .chain(selector.iter().copied());
        at.lma.command(words).ok();
    };
    add(
        "1",
        &[
            "--proto",
            "udp",
            "--dport",
            "7000-7009",
            "--src",
            "2001:db8:c::77",
        ],
    );
    add("2", &["--proto", "udp", "--tc", "0x28"]);
    add("1", &["--proto", "tcp"]);

    // Down: what leaves for the kernel, octet for octet of the outer header.
    let tunnels = at.network.peer.watch("core0");
    let edge = at.network.edge.watch("eth0");
    at.cn().is_answered_by(at.mn);
    let sender = at.network.edge.packets(ip(CN), at.mn);
    let counted = |mag: &str| {
        let paths = at.lma.show("paths");
        let mut paths = paths
            .iter()
            .filter(|row| row["path"].to_string().contains(mag));
        paths.next().unwrap()["counters"]["out_packets"]
            .as_u64()
            .unwrap()
    };
    let pings = counted(MAG);
    let payload = |n: u8| [b"explained ".as_slice(), &[n; 30]].concat();
    for (n, class, to) in [(1, 0, MAG), (2, 0x28, OTHER_MAG), (3, 0x2a, OTHER_MAG)] {
        let packet = datagram(ip(CN), at.mn, class, &payload(n));
        let said = explained(&at, &packet, &["--port", "edge"]);
        assert_eq!(said["result"]["fate"], "sent", "{said}");
        sender.send(&packet).unwrap();
        let sent = tunnels.find(PATIENCE, |frame| {
            let ours = frame.ends_with(&payload(n)) && frame[20] == 41;
            ours.then(|| frame.to_vec())
        });
        let sent = sent.unwrap_or_else(|| panic!("{said}"));
        let outer = Ipv6Header::from_slice(&sent[14..]).unwrap().0;
        let frame = &said["result"]["frame"];
        let number = |name: &str| frame[name].as_u64().unwrap();
        assert_eq!(frame["destination"], to, "{said}");
        assert_eq!(outer.destination_addr(), ip(to));
        assert_eq!(frame["source"], outer.source_addr().to_string());
        assert_eq!(
            number("flow_label"),
            u64::from(outer.flow_label.value()),
            "{said}"
        );
        assert_eq!(number("traffic_class"), u64::from(outer.traffic_class));
        assert_eq!(number("hop_limit"), u64::from(outer.hop_limit));
        assert_eq!(number("octets") as usize, sent.len() - 14);
        let verdicts: Vec<&str> = (said["rules"].as_array().unwrap().iter())
            .map(|rule| rule["verdict"].as_str().unwrap())
            .collect();
        let expected = match n {
            1 => ["not matched"; 3],
            _ => ["not matched", "matched", "not tried"],
        };
        assert_eq!(verdicts, expected, "{said}");
        let why = &said["rules"][0]["mismatches"];
        assert_eq!(
            *why,
            serde_json::json!(["source address", "destination port"])
        );
        if n == 1 {
            let why = &said["rules"][1]["mismatches"];
            assert_eq!(*why, serde_json::json!(["traffic class"]));
            let why = &said["rules"][2]["mismatches"];
            assert_eq!(*why, serde_json::json!(["next header"]));
        }
        // Without an access, what was on it goes over the other, and the rest as before.
        let lost: Vec<_> = said["if_lost"].as_array().unwrap().iter().collect();
        assert_eq!(lost.len(), 2, "{said}");
        let of = |n: usize| lost[n]["result"]["frame"]["destination"].as_str().unwrap();
        assert_eq!([of(0), of(1)], [OTHER_MAG, MAG], "{said}");
    }

    up_and_dropped(&at, &edge, &payload);

    // Nothing of all that was sent, counted or remembered.
    assert_eq!((counted(MAG) - pings, counted(OTHER_MAG)), (1, 2));
    assert_eq!(at.lma.drops("no-binding"), 0);
    explained_to_people(&at);
}

/// Up, through either tunnel, and what is dropped for the reason that is counted.
fn up_and_dropped(at: &AtLma, edge: &Watch, payload: &impl Fn(u8) -> Vec<u8>) {
    // Somebody listens, so nobody is told that nobody does.
    let _listener = at.network.edge.udp(ip(CN), 5000);
    let up = |from: &str, source, n: u8| {
        let packet = datagram(source, ip(CN), 0, &payload(n));
        let via = if from == MAG { "kernel" } else { "other" };
        let said = explained(at, &packet, &["--via", via]);
        at.network
            .peer
            .tunnel(ip(from), ip(LMAA), 0)
            .send(&packet)
            .unwrap();
        said
    };
    for (n, from) in [(11, MAG), (12, OTHER_MAG)] {
        let said = up(from, at.mn, n);
        let frame = &said["result"]["frame"];
        assert_eq!(
            (&said["result"]["fate"], &frame["port"]),
            (&"sent".into(), &"edge".into()),
            "{said}"
        );
        let arrived = arrives(edge, &payload(n), PATIENCE).unwrap();
        let said = [&frame["traffic_class"], &frame["hop_limit"]].map(|v| v.as_u64().unwrap());
        assert_eq!(said, [arrived.0, arrived.1].map(u64::from));
    }
    let foreign = ip("2001:db8:100:ff::100");
    let before = at.lma.drops("inner-source");
    let said = up(MAG, foreign, 13);
    assert_eq!(said["result"]["reason"], "inner-source", "{said}");
    assert_eq!(arrives(edge, &payload(13), SILENCE), None);
    assert_eq!(at.lma.drops("inner-source"), before + 1);
    let nobody = datagram(ip(CN), ip("2001:db8:100:99::1"), 0, &payload(14));
    let said = explained(at, &nobody, &[]);
    assert_eq!(said["result"]["reason"], "no-binding", "{said}");
    assert_eq!(said["result"]["answered"], true, "{said}");
}

/// By fields, and what cannot be explained.
fn explained_to_people(at: &AtLma) {
    let mn = at.mn.to_string();
    let fields = [
        "explain", "--src", CN, "--dst", &mn, "--dport", "7001", "--tc", "40",
    ];
    let said = at.lma.command(fields).ok();
    let expected = "(flow 2) tc 40 proto 17";
    assert!(
        said.contains(expected) && said.contains("-> tunnel to other 2001:db8:b::1: matched"),
        "{said}"
    );
    assert!(
        said.contains("if lost   access 2 at other: sent, tunnel to kernel"),
        "{said}"
    );
    for (wrong, why) in [
        (&["--hex", "6000"][..], "hex: expected the octets"),
        (
            &[
                "--src", CN, "--dst", CN, "--proto", "icmpv6", "--dport", "1",
            ],
            "protocol 58 has no ports",
        ),
        (
            &["--src", CN, "--dst", CN, "--port", "none"],
            "no port is named none",
        ),
        (
            &["--src", CN, "--dst", CN, "--via", "none"],
            "no peer is named none",
        ),
    ] {
        let words = ["explain"].into_iter().chain(wrong.iter().copied());
        let said = at.lma.command(words).fails();
        assert!(said.contains(why), "{said}");
    }
}

/// After `kill -9`, or when another process takes over, everything goes on without one message: neither the MAG, which is this test, nor the mobile says
/// anything. What the LMA then says about the next refresh shows that it knows what it had promised.
#[test]
fn lma_that_is_killed_forwards_again_without_one_message() {
    if !is_root() {
        return;
    }
    let mut at = AtLma::new("again");
    let other = register_other(&at);
    let flow = ["flow", "add", "--mn", "mn1@example.net", "--bid", "1"];
    let selector = ["--proto", "udp", "--dport", "5004"];
    at.lma.command(flow.into_iter().chain(selector)).ok();
    let known = |lma: &Appliance| {
        let without_time = |mut row: serde_json::Value| {
            row.as_object_mut().unwrap().remove("remaining_seconds");
            row
        };
        let bindings: Vec<_> = lma.show("bindings").into_iter().map(without_time).collect();
        let flows: Vec<_> = lma
            .show("flows")
            .into_iter()
            .map(|row| (row["fid"].clone(), row["bid"].clone()))
            .collect();
        (bindings, flows, lma.show("routes"))
    };
    let before = known(&at.lma);
    assert_eq!((before.0.len(), before.1.len()), (2, 1), "{before:?}");

    for turn in 0..3 {
        if turn == 1 {
            at = at.taken_over();
        } else {
            at.kill_and_start();
        }
        let (one, other) = (
            at.network.edge.udp(ip(CN), 4000),
            at.network.far.udp(at.mn, 5000),
        );
        wait_for("packets", PATIENCE, || {
            at.cn().ask(at.mn, 48, 0);
            at.cn().next(&[ECHO_REPLY], Duration::from_millis(200))
        });
        datagrams_go_both_ways(&one, &other);
        assert_eq!(known(&at.lma), before);
        assert!(
            at.lma.log().contains("goes on from what was kept"),
            "{}",
            at.lma.log()
        );
    }

    // The numbers go on: an old one is refused, the next one is taken, and the prefix is the same. Nobody else gets it.
    at.signalling.send(pbu(1, "mn1@example.net", 75));
    let pba = answer(&at.signalling);
    assert_ne!(pba.status, BindingStatus::ACCEPTED, "{pba:?}");
    assert_eq!(register(&at.signalling, 2, "mn1@example.net"), at.hnp);
    let new = register(&at.signalling, 1, "mn3@example.net");
    assert!(new != at.hnp && new != other);
}

/// A second mobile of the same MAG.
fn register_other(at: &AtLma) -> Hnp {
    register(&at.signalling, 1, "mn2@example.net")
}

/// Root starts it, and it goes on as nobody in particular, with one capability; threads that parse or serve have none, and
/// few system calls. It does all that it did, to its orderly end.
#[test]
fn lma_forwards_as_a_user_of_its_own() {
    const USER: u32 = 54_321;
    /// CAP_NET_ADMIN, which TAP ports need.
    const ITS_PORTS: &str = "0000000000001000";
    const NONE: &str = "0000000000000000";
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(directory.path(), Some(USER), Some(USER)).unwrap();
    let at = AtLma::with("user", directory, &format!("user = {USER}\n"));

    let threads = at.lma.threads();
    let user = [USER; 4].map(|id| id.to_string()).join(" ");
    let filtered = ["control", "management", "recorder", "worker-0"];
    for (name, thread) in &threads {
        let is_filtered = filtered.contains(&&**name);
        assert_eq!((&thread["Uid"], &thread["Gid"]), (&user, &user), "{name}");
        assert_eq!(thread["Groups"], USER.to_string(), "{name}");
        let permitted = if is_filtered { NONE } else { ITS_PORTS };
        for (set, expected) in [
            ("CapInh", NONE),
            ("CapPrm", permitted),
            ("CapEff", permitted),
            ("CapBnd", ITS_PORTS),
            ("CapAmb", NONE),
        ] {
            assert_eq!(thread[set], expected, "{name}: {set}");
        }
        assert_eq!(thread["NoNewPrivs"], "1", "{name}");
        let seccomp = if is_filtered { "2" } else { "0" };
        assert_eq!(thread["Seccomp"], seccomp, "{name}");
    }
    for name in filtered {
        assert!(threads.contains_key(name), "{name}: {:?}", threads.keys());
    }

    let (one, other) = (
        at.network.edge.udp(ip(CN), 4000),
        at.network.far.udp(at.mn, 5000),
    );
    datagrams_go_both_ways(&one, &other);
    register_other(&at);
    let state = at.directory.path().join("state");
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&state).unwrap());
    assert_eq!(owner, USER);
    // Files are read and written again.
    let file = at.directory.path().join("lma.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace("delete_ms = 60000", "delete_ms = 59000"),
    )
    .unwrap();
    let said = at.lma.command(["reload"]).ok();
    assert!(
        said.contains("59000") && said.contains("in force"),
        "{said}"
    );
    let flow = [
        "flow",
        "add",
        "--mn",
        "mn1@example.net",
        "--bid",
        "1",
        "--dport",
        "5001",
    ];
    at.lma.command(flow).ok();
    let (cn, mn) = (CN, at.mn.to_string());
    let explained = ["explain", "--src", cn, "--dst", &mn, "--dport", "5001"];
    at.lma.command(explained).ok();
    let recording = at.directory.path().join("x.recording");
    at.lma
        .command(["recorder", "dump", recording.to_str().unwrap()])
        .ok();
    datagrams_go_both_ways(&one, &other);
    let log = at.lma.log();
    for hurt in [
        "ERROR",
        "not permitted",
        "not filtered",
        "keeps its capabilities",
    ] {
        assert!(!log.contains(hurt), "{log}");
    }
    let socket = at.lma.socket().to_owned();
    assert!(at.lma.stop(Signal::SIGTERM).success());
    assert!(!socket.exists());
    let left = at.network.app.ip_says("-o link show");
    assert!(!left.contains("edge0"), "{left}");
}

/// Files that are damaged are told of and put aside; what is good in them is used, and peers learn that something may be
/// lost.
#[test]
fn lma_goes_on_with_what_is_good_in_damaged_files() {
    if !is_root() {
        return;
    }
    let mut at = AtLma::new("damage");
    register_other(&at);
    at.lma.kill();
    let records = at.directory.path().join("state/records");
    let file = std::fs::read_dir(&records)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "records"))
        .unwrap();
    // Every record of the first mobile, of which there may be several.
    let mut octets = std::fs::read(&file).unwrap();
    let name = b"mn1@example.net";
    let places: Vec<usize> = octets
        .windows(name.len())
        .enumerate()
        .filter(|(_, window)| window == name)
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty());
    for at in places {
        octets[at] = 0xa5;
    }
    std::fs::write(&file, octets).unwrap();
    let namespace = Some(at.network.app.name());
    at.lma = Appliance::start(at.directory.path(), "lma", namespace, &at.config);
    let log = at.lma.log();
    assert!(
        log.contains("damaged: ") && log.contains("records.damaged-"),
        "{log}"
    );
    assert_eq!(at.lma.show("bindings").len(), 1, "{log}");
    let counter = at.directory.path().join("state/restart_counter");
    assert_eq!(std::fs::read_to_string(counter).unwrap(), "2\n");
}

/// A file system of some megabytes in the directory of a test; gone with this.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(at: &std::path::Path, megabytes: u32) -> Self {
        std::fs::create_dir(at).unwrap();
        let kind = Some("tmpfs");
        let flags = nix::mount::MsFlags::empty();
        let size = format!("size={megabytes}m");
        nix::mount::mount(kind, at, kind, flags, Some(size.as_str())).unwrap();
        Self(at.to_owned())
    }

    /// Leaves room for not an octet more; removing the file that is returned makes some.
    fn fill(&self) -> std::path::PathBuf {
        let filler = self.0.join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        for size in [1 << 16, 1 << 10, 1] {
            while std::io::Write::write_all(&mut file, &vec![0; size]).is_ok() {}
        }
        filler
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// While the disk is full the LMA forwards, answers heartbeats and says what is wrong; it acknowledges nothing that it could
/// not remember, and everything once it can.
#[test]
fn lma_acknowledges_nothing_while_the_disk_is_full() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let state = Small::mount(&directory.path().join("state"), 1);
    let at = AtLma::with_state_in("full", directory);
    let filler = state.fill();
    // The last page of a file may have room for some more.
    let mut names = (2..50).map(|n| format!("mn{n}@example.net"));
    let late = names.find(|name| {
        at.signalling.send(pbu(1, name, 75));
        at.signalling.receive_within(SILENCE).is_none()
    });
    let late = late.expect("the disk is never full");
    let (status, said) = at.lma.http("GET /readyz");
    assert!(
        status == 503 && said.contains("\"store_failing\":true"),
        "{status} {said}"
    );
    // What can be said without the disk comes first, whoever waits.
    at.signalling.send(Heartbeat {
        kind: HeartbeatKind::Request,
        sequence: 77,
        restart_counter: None,
        others: Vec::new(),
    });
    let Message::Heartbeat(alive) = at.signalling.receive() else {
        panic!("something else was said first");
    };
    assert_eq!(alive.sequence, 77);
    at.cn().is_answered_by(at.mn);
    assert!(
        at.lma.log().contains("the store cannot be written"),
        "{}",
        at.lma.log()
    );

    std::fs::remove_file(&filler).unwrap();
    let pba = answer(&at.signalling);
    assert_eq!(
        (pba.status, pba.mn_id),
        (BindingStatus::ACCEPTED, Some(mn_id(&late).into()))
    );
    wait_for("a process that is ready", PATIENCE, || {
        (at.lma.http("GET /readyz").0 == 200).then_some(())
    });
    let files = std::fs::read_dir(state.0.join("records")).unwrap().count();
    assert!(files <= 3, "{files} files are left of tries");
    drop(at);
}

/// A gauge without labels.
fn gauge(lma: &Appliance, name: &str) -> u64 {
    let (_, text) = lma.http("GET /metrics");
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.unwrap_or_else(|| panic!("no {name} in {text}"));
    value.parse().unwrap()
}

/// Sends PBUs of new mobiles at a rate that a MAG may have, so many at once.
fn flood(signalling: &Mobility, numbers: std::ops::Range<u32>) {
    for n in numbers {
        if n % 256 == 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        signalling.send(pbu(1, &format!("flood{n}@example.net"), 75));
    }
}

/// The disk takes nothing, and a MAG sends PBUs of ever new mobiles. What waits is bounded, who is there is forwarded and
/// served, and all of that is acknowledged once when the disk takes again.
#[test]
fn lma_that_cannot_keep_up_refuses_new_mobiles_and_no_others() {
    /// Messages that wait when new mobiles are refused from then on, and those of one turn on top.
    const MANY: u64 = 16_384;
    const TURN: u64 = 512;
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let state = Small::mount(&directory.path().join("state"), 48);
    let at = AtLma::with_state_in("overload", directory);
    let honest = at.network.peer.mobility(ip(OTHER_MAG), ip(LMAA));
    let living = "living@example.net";
    register(&honest, 1, living);
    assert_eq!(gauge(&at.lma, "flowmob_overload"), 0);
    let filler = state.fill();

    let mut sent = 0;
    while gauge(&at.lma, "flowmob_overload") == 0 {
        assert!(sent < 60_000, "everybody is served for ever");
        flood(&at.signalling, sent..sent + 1024);
        sent += 1024;
    }
    // As many again make nothing more.
    let before = gauge(&at.lma, "flowmob_messages_waiting");
    assert!((MANY..MANY + TURN).contains(&before), "{before}");
    flood(&at.signalling, sent..sent + 16_384);
    wait_for("refusals", PATIENCE, || {
        (at.lma.drops("lma-overload") > 4096).then_some(())
    });
    let after = gauge(&at.lma, "flowmob_messages_waiting");
    assert!((MANY..MANY + TURN).contains(&after), "{after}");
    // A refusal is heard at once, although the disk is full.
    honest.send(pbu(1, "new@example.net", 75));
    let refusal = answer(&honest);
    assert_eq!(refusal.mn_id, Some(mn_id("new@example.net").into()));
    assert_eq!(refusal.status, BindingStatus::INSUFFICIENT_RESOURCES);

    // Who is there is forwarded. Refreshes wait for the disk, all of them with one answer, and copies with none.
    at.cn().is_answered_by(at.mn);
    for sequence in 2..50 {
        honest.send(pbu(sequence, living, 75));
        honest.send(pbu(sequence, living, 75));
    }
    wait_for("copies", PATIENCE, || {
        (at.lma.drops("answer-copy") >= 47 + 48).then_some(())
    });
    let waiting = gauge(&at.lma, "flowmob_messages_waiting");
    assert!((MANY..MANY + TURN).contains(&waiting), "{waiting}");
    assert!(honest.receive_within(SILENCE).is_none());
    let (status, said) = at.lma.http("GET /readyz");
    assert!(
        status == 503 && said.contains("\"store_failing\":true"),
        "the disk is why it is not ready: {status} {said}"
    );

    std::fs::remove_file(&filler).unwrap();
    let pba = answer(&honest);
    assert_eq!((pba.status, pba.sequence), (BindingStatus::ACCEPTED, 49));
    assert_eq!(pba.mn_id, Some(mn_id(living).into()));
    assert!(honest.receive_within(SILENCE).is_none(), "one is enough");
    wait_for("the end of it", PATIENCE, || {
        (gauge(&at.lma, "flowmob_overload") == 0).then_some(())
    });
    assert_eq!(gauge(&at.lma, "flowmob_messages_waiting"), 0);
    assert_eq!(at.lma.drops("not-sent"), 0);
    register(&honest, 1, "new@example.net");
    let log = at.lma.log();
    assert_eq!(log.matches("overload: too much waits").count(), 1, "{log}");
    assert_eq!(log.matches("overload is over").count(), 1, "{log}");
    drop(at);
}

/// Who keeps nothing for a while does not go on later where it was before.
#[test]
fn lma_that_kept_nothing_does_not_go_on_from_before() {
    if !is_root() {
        return;
    }
    let mut at = AtLma::new("none");
    let keeps = at.config.clone();
    at.config = keeps.replace(
        "memory_mib = 96\n",
        "memory_mib = 96\ndurability = \"none\"\n",
    );
    at.kill_and_start();
    assert!(at.lma.show("bindings").is_empty());
    assert!(at.lma.log().contains("put aside, in "), "{}", at.lma.log());
    at.config = keeps;
    at.kill_and_start();
    assert!(at.lma.show("bindings").is_empty(), "{}", at.lma.log());
    let counter = at.directory.path().join("state/restart_counter");
    assert_eq!(std::fs::read_to_string(counter).unwrap(), "3\n");
}
