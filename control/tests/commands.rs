//! Every command, right and wrong, against living processes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::appliances::{LMAA, MAGS, MN1, MN2, PROCESS, lma, mag};
use common::process::{Appliance, FLOWMOB, Said, flowmob};
use common::unique;
use nix::sys::signal::Signal;

fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .map(|line| line.split_whitespace().collect())
        .collect()
}

#[test]
fn an_lma_shows_its_tables() {
    let directory = tempfile::tempdir().unwrap();
    let lma = lma(&directory);
    let show = |what| lma.command(["show", what]).ok();

    let bindings = show("bindings");
    let rows = words(&bindings);
    assert_eq!(bindings.lines().count(), 5, "{bindings}");
    assert_eq!(
        rows[0].join(" "),
        "ROLE MN BID ATT LINK LAYER PREFIXES GRANTED PEER STATE LEFT"
    );
    let row = |mn: &str, bid: &str| {
        let row = rows.iter().find(|row| row[1] == mn && row[2] == bid);
        let mut row = row.unwrap_or_else(|| panic!("{bindings}")).clone();
        // Seconds of 300 that are left.
        let left: u32 = row[row.len() - 2].parse().unwrap();
        assert!((280..=300).contains(&left), "{bindings}");
        row.truncate(row.len() - 2);
        row.join(" ")
    };
    let expected = |mn, bid, att, layer, prefix, mag, address| {
        format!("lma {mn} {bid} {att} {layer} {prefix} - {mag} {address} active")
    };
    let shared = "2001:db8:100::/64";
    assert_eq!(
        row(MN1, "1"),
        expected(MN1, 1, "wlan", "02:00:00:00:01:01", shared, "mag1", MAGS[0])
    );
    assert_eq!(
        row(MN1, "2"),
        expected(
            MN1,
            2,
            "eutran",
            "02:00:00:00:01:02",
            shared,
            "mag2",
            MAGS[1]
        )
    );
    let own = "2001:db8:100:1::/64";
    assert_eq!(
        row(MN2, "1"),
        expected(MN2, 1, "wlan", "02:00:00:00:01:01", own, "mag1", MAGS[0])
    );
    let own = "2001:db8:100:2::/64";
    assert_eq!(
        row(MN2, "2"),
        expected(MN2, 2, "eutran", "02:00:00:00:01:02", own, "mag2", MAGS[1])
    );

    assert_eq!(
        show("flows").lines().collect::<Vec<_>>(),
        [
            "ROLE  MN  FID  PRIORITY  SELECTOR  BID  VIA  STATE  PACKETS",
            "(none)"
        ]
    );
    assert_eq!(
        show("peers"),
        "ROLE  PEER  ADDRESS         SIGNALLING  PROTECTION  SENT SPI  HEARD SPI  SESSIONS  \
         STATE    MISSING  RESTART COUNTER\n\
         lma   mag1  2001:db8:f::11  draft       none        -         -                 2  \
         unknown        0                -\n\
         lma   mag2  2001:db8:f::12  draft       none        -         -                 2  \
         unknown        0                -\n"
    );
    let routes = show("routes");
    assert!(routes.contains("static  ::/0 "), "{routes}");
    assert!(routes.contains("via 2001:db8:c::5 on cn"), "{routes}");
    assert!(routes.contains("tunnel to mag1 2001:db8:f::11"), "{routes}");
    let mobiles = show("mobiles");
    let mobiles = words(&mobiles);
    let mobile = format!("lma {MN1} 2 0 0 0 0 0");
    assert_eq!(mobiles[1].join(" "), mobile, "{mobiles:?}");
    let paths = show("paths");
    assert!(paths.contains("2001:db8:f::1 > 2001:db8:f::12"), "{paths}");
    let ports = show("ports");
    assert!(ports.contains("02:00:00:00:0c:00"), "{ports}");
    assert!(ports.contains("ring"), "{ports}");
    assert!(show("workers").starts_with("WORKER  CORE"));
    let drops = show("drops");
    assert!(drops.contains("not-ipv6"), "{drops}");
    let status = show("status");
    assert!(status.starts_with("lma (lma) version "), "{status}");
    assert!(status.contains(": ready, 1 workers, up "), "{status}");
    let refused = lma.command(["show", "mn"]).fails();
    assert_eq!(refused, "flowmob: this process is no mobile node\n");
}

#[test]
fn json_has_the_fields_that_programs_rely_on() {
    let directory = tempfile::tempdir().unwrap();
    let lma = lma(&directory);
    let add = ["flow", "add", "--mn", MN2, "--bid", "1"];
    lma.command(add).ok();
    let fields: [(&str, usize, &[&str]); 9] = [
        (
            "mobiles",
            2,
            &["role", "mn", "accesses", "flows", "traffic"],
        ),
        (
            "bindings",
            4,
            &[
                "role",
                "mn",
                "bid",
                "access_technology",
                "prefixes",
                "granted",
                "state",
            ],
        ),
        (
            "flows",
            1,
            &[
                "role", "mn", "fid", "priority", "selector", "bid", "via", "state", "packets",
            ],
        ),
        ("paths", 2, &["role", "id", "path", "counters"]),
        ("routes", 4, &["role", "prefix", "mn", "next", "uplink"]),
        (
            "peers",
            2,
            &["role", "name", "address", "signalling", "sessions"],
        ),
        (
            "ports",
            2,
            &[
                "name",
                "device",
                "mac",
                "mtu",
                "access",
                "rx_packets",
                "tx_packets",
            ],
        ),
        (
            "workers",
            1,
            &[
                "id",
                "core",
                "turns",
                "rx_packets",
                "tx_packets",
                "drops",
                "punted",
            ],
        ),
        ("drops", 1, &["plane", "reason", "packets", "meaning"]),
    ];
    for (what, count, names) in fields {
        let rows = lma.show(what);
        assert!(rows.len() >= count, "{what}: {rows:#?}");
        for row in &rows {
            let row = row.as_object().unwrap();
            assert!(
                names.iter().all(|name| row.contains_key(*name)),
                "{what}: {row:?}"
            );
        }
    }
    let ports = lma.show("ports");
    assert_eq!(ports[0]["rx_packets"], 5);
    // All but the rubbish went to the control plane; so did the question where the MAGs are.
    assert!(lma.show("workers")[0]["punted"].as_u64().unwrap() >= 4);
    assert_eq!(lma.drops("not-ipv6"), 1);
    let status: serde_json::Value =
        serde_json::from_str(&lma.command(["show", "status", "--json"]).ok()).unwrap();
    assert_eq!(status["ready"], true);
    assert_eq!(status["roles"], serde_json::json!(["lma"]));
}

/// What `flowmob flow` refuses, and why, when mobile 1 has flows 1 and 7 and mobile 2 has flow 1.
const WRONG_FLOWS: &[(&str, &str)] = &[
    (
        "add --mn mn9@example.net --bid 1",
        "no mobile mn9@example.net is registered here",
    ),
    (
        "add --mn mn1@example.net --bid 9 --proto esp",
        "mn1@example.net has no active binding 9",
    ),
    ("add --mn mn1@example.net --bid 0", "bid: 0 is reserved"),
    (
        "add --mn mn1@example.net --bid 1 --fid 0",
        "fid: 0 is reserved",
    ),
    (
        "add --mn mn1@example.net --bid 1 --priority 0",
        "priority: 0 is reserved",
    ),
    (
        "add --mn mn1@example.net --bid 1 --fid 1 --proto esp",
        "flow 1 exists already: choose another FID or leave it out",
    ),
    (
        "add --mn mn1@example.net --bid 1 --priority 3 --proto esp",
        "priority 3 is that of flow 7: every flow of a mobile needs its own",
    ),
    (
        "add --mn mn1@example.net --bid 1 --proto tcp",
        "flow 7 has the same selector",
    ),
    (
        "add --mn mn1@example.net --bid 1 --src 10.0.0.1",
        "src: \"10.0.0.1\": expected an IPv6",
    ),
    (
        "add --mn mn1@example.net --bid 1 --dport 70000",
        "dport: \"70000\": expected a number",
    ),
    (
        "add --mn mn1@example.net --bid 1 --sport 9-1",
        "the range's start is greater than its end",
    ),
    (
        "add --mn mn1@example.net --bid 1 --proto udb",
        "expected one of tcp, udp",
    ),
    (
        "add --mn mn1@example.net --bid 1 --flow-label 0x100000",
        "20 bits",
    ),
    (
        "move --mn mn9@example.net --fid 1 --to 2",
        "no mobile mn9@example.net is registered here",
    ),
    (
        "move --mn mn1@example.net --fid 3 --to 2",
        "mn1@example.net has no flow 3",
    ),
    (
        "move --mn mn1@example.net --fid 1 --to 3",
        "mn1@example.net has no active binding 3",
    ),
    (
        "move --mn mn1@example.net --fid 1 --to 1",
        "flow 1 is on access 1 already",
    ),
    (
        "del --mn mn1@example.net --fid 3",
        "mn1@example.net has no flow 3",
    ),
    (
        "del --mn mn9@example.net --fid 1",
        "no mobile mn9@example.net is registered here",
    ),
    // The other MAG does not host the prefix, and there is nobody there to say yes.
    (
        "move --mn mn2@example.net --fid 1 --to 2",
        "flow 1 stays where it was: the MAG did not answer",
    ),
];

#[test]
fn flows_are_added_moved_and_deleted_or_the_reason_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let lma = lma(&directory);
    let flow = |arguments: &str| lma.command(["flow"].into_iter().chain(arguments.split(' ')));
    let said =
        flow("add --mn mn1@example.net --bid 1 --src 2001:db8:c::5 --proto udp --dport 5001");
    assert_eq!(said.ok(), format!("flow 1 of {MN1} added on access 1\n"));
    let said = flow("add --mn mn1@example.net --bid 2 --fid 7 --priority 3 --proto tcp");
    assert_eq!(said.ok(), format!("flow 7 of {MN1} added on access 2\n"));
    let said = flow("add --mn mn2@example.net --bid 1 --dst 2001:db8:100:1::/64");
    assert_eq!(said.ok(), format!("flow 1 of {MN2} added on access 1\n"));
    let before = lma.show("flows");
    assert_eq!(before.len(), 3);

    for (command, expected) in WRONG_FLOWS {
        let said = flow(command).fails();
        assert!(
            said.starts_with("flowmob: ") && said.lines().count() == 1,
            "{command}: {said}"
        );
        assert!(said.contains(expected), "{command}: {said}");
    }
    assert_eq!(
        lma.show("flows"),
        before,
        "what was refused has changed something"
    );

    let said = flow("move --mn mn1@example.net --fid 1 --to 2").ok();
    let expected = format!("flow 1 of {MN1} moved to access 2 without signalling, in ");
    assert!(
        said.starts_with(&expected) && said.ends_with(" us\n"),
        "{said}"
    );
    let flows = lma.command(["show", "flows"]).ok();
    let rows = words(&flows);
    let row = rows
        .iter()
        .find(|row| row[1] == MN1 && row[2] == "1")
        .unwrap()
        .join(" ");
    assert_eq!(
        row,
        format!("lma {MN1} 1 1 src 2001:db8:c::5 dport 5001 proto 17 2 mag2 active 0")
    );
    assert_eq!(
        flow("del --mn mn1@example.net --fid 1").ok(),
        format!("flow 1 of {MN1} deleted\n")
    );
    assert_eq!(lma.show("flows").len(), 2);

    let attach = lma.command(["attach", MN1]).fails();
    assert_eq!(
        attach,
        "flowmob: this process is no MAG: mobiles are attached at a MAG\n"
    );
}

#[test]
fn mobiles_are_attached_and_detached_or_the_reason_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let mag = mag(&directory);
    let bindings = || mag.show("bindings");
    assert_eq!(bindings(), Vec::<serde_json::Value>::new());
    assert!(mag.command(["show", "bindings"]).ok().ends_with("(none)\n"));
    let wrong: [(&[&str], &str); 9] = [
        (
            &["attach", "mn9@example.net"],
            "no [[mag.mobile]] entry is for mn9@example.net",
        ),
        (
            &["attach", MN2],
            "mn2@example.net is on several ports: name one (--port)",
        ),
        (
            &["attach", MN2, "--port", "wlan9"],
            "no port is named wlan9",
        ),
        (
            &["attach", MN1, "--port", "wlan1"],
            "is for mn1@example.net on port wlan1",
        ),
        (
            &["detach", MN1],
            "mn1@example.net is not attached on port wlan0",
        ),
        (&["attach", ""], "mn: "),
        (
            &["flow", "add", "--mn", MN1, "--bid", "1"],
            "this process is no LMA: flows are added and moved at the LMA",
        ),
        (
            &["revoke", "--mn", MN1],
            "this process is no LMA: bindings are revoked and renewed at the LMA",
        ),
        (&["reregister", "--mn", ""], "mn: "),
    ];
    for (command, expected) in wrong {
        let said = mag.command(command.iter().copied()).fails();
        assert!(
            said.starts_with("flowmob: ") && said.contains(expected),
            "{command:?}: {said}"
        );
        assert!(bindings().is_empty(), "{command:?}");
    }
    let said = mag.command(["attach", MN1]).ok();
    assert_eq!(said, format!("attaching {MN1} on port wlan0\n"));
    let said = mag.command(["attach", MN2, "--port", "wlan1"]).ok();
    assert_eq!(said, format!("attaching {MN2} on port wlan1\n"));
    let rows = bindings();
    let waiting = rows
        .iter()
        .map(|row| (&row["mn"], &row["port"], &row["state"]));
    let mut waiting: Vec<_> = waiting
        .map(|(mn, port, state)| format!("{mn} {port} {state}"))
        .collect();
    waiting.sort();
    assert_eq!(waiting.len(), 2);
    assert!(
        waiting[0].starts_with("\"mn1@example.net\" \"wlan0\""),
        "{waiting:?}"
    );
    assert!(
        waiting[1].starts_with("\"mn2@example.net\" \"wlan1\""),
        "{waiting:?}"
    );
    assert!(
        waiting.iter().all(|row| !row.contains("active")),
        "{waiting:?}"
    );
    // Once more, and saying where from.
    let said = mag.command(["attach", MN1, "--handoff", "mags"]).ok();
    assert_eq!(said, format!("attaching {MN1} on port wlan0\n"));
    let said = mag.command(["detach", MN1]).ok();
    assert_eq!(said, format!("detaching {MN1} from port wlan0\n"));
    let peers = mag.command(["show", "peers"]).ok();
    assert!(peers.contains("mag   lma   2001:db8:f::1"), "{peers}");
}

#[test]
fn nobody_there_is_said_so() {
    let socket = format!("/tmp/{}", unique("nobody.sock"));
    for command in [
        &["show", "status"][..],
        &["flow", "del", "--mn", "x", "--fid", "1"],
    ] {
        let said = flowmob(
            ["--socket", &socket]
                .into_iter()
                .chain(command.iter().copied()),
        )
        .fails();
        assert!(
            said.contains(&format!("no flowmob answers on {socket}; is it running")),
            "{said}"
        );
    }
    // The socket may also be named by the environment.
    let mut command = Command::new(FLOWMOB);
    let output = command
        .args(["show", "status"])
        .env("FLOWMOB_SOCKET", &socket)
        .output()
        .unwrap();
    assert!(Said::from(output).fails().contains(&socket));
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let directory = tempfile::tempdir().unwrap();
    let mag = mag(&directory);
    let mut child = Command::new(FLOWMOB)
        .arg("--socket")
        .arg(mag.socket())
        .args(["show", "ports"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stderr, b"");
}

#[test]
fn a_process_says_how_it_is_and_what_it_counts() {
    let directory = tempfile::tempdir().unwrap();
    let lma = lma(&directory);
    let (status, body) = lma.http("GET /livez");
    assert_eq!((status, body.as_str()), (200, "ok\n"));
    let (status, body) = lma.http("GET /readyz");
    assert_eq!(
        (status, body.as_str()),
        (200, r#"{"ready":true,"ports_down":[]}"#)
    );
    let (status, text) = lma.http("GET /metrics");
    assert_eq!(status, 200);
    for line in [
        "flowmob_bindings{role=\"lma\",state=\"active\"} 4",
        "flowmob_dropped_packets_total{reason=\"not-ipv6\"} 1",
        "flowmob_dropped_packets_total{reason=\"hop-limit\"} 0",
        "flowmob_peer_sessions{role=\"lma\",peer=\"mag2\"} 2",
        "flowmob_tunnel_out_packets_total{role=\"lma\",peer=\"mag1\"} 0",
        "flowmob_port_rx_packets_total{port=\"core\"} 5",
        "flowmob_flow_move_seconds_count 0",
        "flowmob_ready 1",
        "# TYPE flowmob_flow_move_seconds histogram",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    // No label that grows with the number of mobiles.
    assert!(
        !text.contains("example.net") && !text.contains("2001:"),
        "{text}"
    );
    let (status, body) = lma.http("GET /metrics?x=1");
    assert_eq!(status, 200, "{body}");
    let (status, body) = lma.http("POST /metrics");
    assert_eq!(status, 405, "{body}");
}

#[test]
fn what_happens_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let lma = lma(&directory);
    let said = lma.command(["events"]).ok();
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].ends_with("Z  INFO  configuration applied"),
        "{said}"
    );
    let attached = format!("INFO  {MN2} access 2 attached at mag2 with 2001:db8:100:2::/64");
    assert!(lines.iter().any(|line| line.ends_with(&attached)), "{said}");
    assert_eq!(lines.len(), 5, "{said}");

    let follow = Command::new(FLOWMOB)
        .args(["events", "--follow", "--json", "--socket"])
        .arg(lma.socket())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    lma.command(["service", "--mn", MN1, "off"]).ok();
    let deleted = || {
        let said = lma.command(["events", "--json"]).ok();
        let events = said
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        events.filter(|event| event["kind"] == "detached").count()
    };
    let patience = Duration::from_secs(30);
    common::wait_for("both bindings to go", patience, || {
        (deleted() == 2).then_some(())
    });
    let kept = lma.command(["events", "--json"]).ok();
    assert_eq!(lma.stop(Signal::SIGTERM).code(), Some(0));
    // The stream ends with the process, and has told everything.
    let followed = follow.wait_with_output().unwrap();
    assert!(followed.status.success(), "{followed:?}");
    assert_eq!(String::from_utf8(followed.stdout).unwrap(), kept);
    let ids = kept.lines().map(|line| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["id"]
            .as_u64()
            .unwrap()
    });
    assert!(ids.eq(1..=kept.lines().count() as u64), "{kept}");
}

#[test]
fn events_are_asked_for_by_number() {
    let directory = tempfile::tempdir().unwrap();
    let lma = lma(&directory);
    let (status, body) = lma.http("GET /v1/events?after=4");
    assert_eq!(status, 200);
    let events: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(events.as_array().unwrap().len(), 1, "{body}");
    for wrong in [
        "/v1/events?after=x",
        "/v1/events?since=1",
        "/v1/events/stream?after=-1",
    ] {
        let (status, body) = lma.http(&format!("GET {wrong}"));
        let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (status, problem["type"].as_str()),
            (400, Some("urn:flowmob:bad-request")),
            "{wrong}"
        );
    }
}

/// One request over TCP: status and body.
fn over_tcp(address: &str, request: &str, headers: &str) -> (u16, String) {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let text = format!("{request} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        body.to_owned(),
    )
}

/// A port that nobody listens on now.
fn free_address() -> String {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().to_string()
}

#[test]
fn tcp_is_for_those_who_may() {
    const TOKEN: &str = "0123456789abcdef-secret";
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let start = |name: &str, address: &str, more: &str| {
        let config = format!(
            "{PROCESS}[[port]]\nname = \"core\"\ndevice = \"ring\"\naddresses = [\"{LMAA}/64\"]\n\
             [lma]\naddress = \"{LMAA}\"\npools = [\"2001:db8:100::/48\"]\n\
             [[lma.peer]]\nname = \"mag1\"\naddress = \"2001:db8:f::11\"\nprotection = \"none\"\n\
             [management]\ntcp = \"{address}\"\n{more}"
        );
        Appliance::start(directory.path(), name, None, &config)
    };
    // With a token: nothing but probes without it.
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let address = free_address();
    let guarded = start("guarded", &address, "token_file = \"token\"\n");
    let bearer = |token: &str| format!("Host: x\r\nAuthorization: Bearer {token}\r\n");
    for path in ["/v1/status", "/metrics", "/v1/events"] {
        let ask = |headers: &str| over_tcp(&address, &format!("GET {path}"), headers);
        assert_eq!(ask(&bearer(TOKEN)).0, 200, "{path}");
        for wrong in [
            "Host: localhost\r\n",
            &bearer("0123456789abcdef-secreT"),
            &bearer(""),
            &bearer("0123456789abcdef"),
        ] {
            let (status, body) = ask(wrong);
            assert_eq!(status, 401, "{path} {wrong}");
            assert!(
                body.contains("urn:flowmob:unauthorized") && !body.contains(TOKEN),
                "{body}"
            );
        }
    }
    for probe in ["/livez", "/readyz"] {
        let (status, body) = over_tcp(&address, &format!("GET {probe}"), "Host: x\r\n");
        assert_eq!(status, 200, "{probe}: {body}");
    }
    let (status, _) = over_tcp(&address, "POST /v1/revoke", "Host: x\r\n");
    assert_eq!(status, 401);
    // Its socket asks for nothing.
    assert!(guarded.command(["show", "status"]).ok().contains("ready"));

    // Without one: only whoever asks for this machine itself.
    let address = free_address();
    let _local = start("local", &address, "");
    let ask = |host: &str| over_tcp(&address, "GET /v1/status", &format!("Host: {host}\r\n")).0;
    assert_eq!([ask(&address), ask("localhost:1"), ask("[::1]")], [200; 3]);
    assert_eq!([ask("rebound.example.net"), ask("192.0.2.1")], [403; 2]);

    // What is wrong with it is said at the start.
    let fails = |name: &str, more: &str| {
        let path = directory.path().join(name);
        let config = format!(
            "name = \"x\"\n{PROCESS}[[port]]\nname = \"core\"\ndevice = \"ring\"\naddresses = [\"{LMAA}/64\"]\n\
             [lma]\naddress = \"{LMAA}\"\npools = [\"2001:db8:100::/48\"]\n\
             [[lma.peer]]\nname = \"mag1\"\naddress = \"2001:db8:f::11\"\nprotection = \"none\"\n\
             [management]\nsocket = \"{}\"\n{more}",
            directory.path().join("x.sock").display()
        );
        std::fs::write(&path, config).unwrap();
        let said = flowmob(["run", "-c", path.to_str().unwrap()]);
        assert_eq!(said.status.code(), Some(1), "{said:?}");
        said.err
    };
    let taken = format!("tcp = \"{address}\"\n");
    assert!(fails("taken", &taken).contains("cannot listen on 127.0.0.1"));
    let here = format!("tcp = \"{}\"\ntoken_file = \"token\"\n", free_address());
    // What `run` refuses, `check` does, in the same words.
    let fails = |name: &str, management: &str| {
        let said = fails(name, management);
        let checked = flowmob(["check", "-c", file.with_file_name(name).to_str().unwrap()]);
        let error = checked.fails();
        let (_, problem) = error.split_once("error: ").unwrap();
        assert!(said.contains(problem.trim_end()), "{said}\n{error}");
        assert!(
            said.contains("token") && !said.contains("key file"),
            "{said}"
        );
        said
    };
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    assert!(fails("open", &here).contains("mode 0600 or 0400"));
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&file, "short\n").unwrap();
    let said = fails("short", &here);
    assert!(
        said.contains("at least 16 characters") && !said.contains("short\n"),
        "{said}"
    );
}

#[test]
fn the_doctor_looks_at_machine_and_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.toml");
    let config = format!(
        "name = \"x\"\n{PROCESS}[[port]]\nname = \"core\"\ndevice = \"af_packet:nowhere0\"\naddresses = [\"{LMAA}/64\"]\n\
         [lma]\naddress = \"{LMAA}\"\npools = [\"2001:db8:100::/48\"]\n\
         [[lma.peer]]\nname = \"mag1\"\naddress = \"2001:db8:f::11\"\nprotection = \"none\"\n"
    );
    std::fs::write(&path, config).unwrap();
    let said = flowmob(["doctor", "--json", "-c", path.to_str().unwrap()]);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    let findings: Vec<serde_json::Value> = serde_json::from_str(&said.out).unwrap();
    let of = |check: &str| findings.iter().find(|f| f["check"] == check).unwrap();
    assert_eq!(of("port core")["state"], "fail");
    assert!(
        of("port core")["found"]
            .as_str()
            .unwrap()
            .contains("nowhere0")
            || !common::is_root()
    );
    assert_eq!(of("drivers")["state"], "ok");
    assert_eq!(of("LMA tunnel MTU")["state"], "warn");
    assert!(
        findings
            .iter()
            .all(|f| f["state"] == "ok" || f["fix"].is_string())
    );
    let said = flowmob(["doctor"]);
    assert!(said.out.starts_with("STATE  CHECK"), "{said:?}");
    let said = flowmob(["doctor", "-c", "/nowhere.toml"]).fails();
    assert!(said.contains("nowhere"), "{said}");
}

#[test]
fn the_api_is_what_its_document_says() {
    let directory = tempfile::tempdir().unwrap();
    let lma = lma(&directory);
    let (status, served) = lma.http("GET /v1/openapi.json");
    assert_eq!(status, 200);
    let served: serde_json::Value = serde_json::from_str(&served).unwrap();
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    let kept = std::fs::read_to_string(kept).unwrap();
    assert_eq!(
        served,
        serde_json::from_str::<serde_json::Value>(&kept).unwrap()
    );
    let paths = served["paths"].as_object().unwrap();
    assert!(paths.len() > 20);
    for (path, item) in paths {
        if item["post"].is_object() {
            // A body is missing, which is not what is said of a path that is not there.
            let (status, body) = lma.http(&format!("POST {path}"));
            assert_eq!(status, 400, "{path}: {body}");
        }
        // Some go on until their reader has enough.
        let request = match path.as_str() {
            "/v1/events/stream" => continue,
            "/v1/capture" => "/v1/capture?packets=0",
            path => path,
        };
        if item["get"].is_object() {
            let (status, body) = lma.http(&format!("GET {request}"));
            // It is no mobile node.
            let expected = if path == "/v1/mn" { 409 } else { 200 };
            assert_eq!(status, expected, "{path}: {body}");
        }
    }
}
