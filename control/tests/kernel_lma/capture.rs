//! Packets of the kernel's, captured by the LMA on their way, as tshark reads them.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;
use crate::common::has_tool;
use crate::common::process::{FLOWMOB, Said};

/// A capture under way.
struct Capture(Child);

impl Capture {
    /// Begins to capture into a file.
    fn start(of: &Appliance, file: &Path, filter: &str) -> Self {
        let child = Command::new(FLOWMOB)
            .arg("--socket")
            .arg(of.socket())
            .args(["capture", "--write"])
            .arg(file)
            .args(filter.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // What a file begins with comes when the workers know of the capture.
        wait_for("a capture", PATIENCE, || {
            std::fs::metadata(file)
                .is_ok_and(|file| file.len() > 0)
                .then_some(())
        });
        Self(child)
    }

    fn end(self, signal: Option<Signal>) -> Said {
        if let Some(signal) = signal {
            let id = Pid::from_raw(self.0.id().try_into().unwrap());
            kill(id, signal).unwrap();
        }
        self.0.wait_with_output().unwrap().into()
    }
}

/// Fields of each frame of a file.
fn fields(file: &Path, names: &[&str]) -> Vec<Vec<String>> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(file).args(["-T", "fields"]);
    tshark.args(names.iter().flat_map(|name| ["-e", name]));
    let said = Said::of(&mut tshark);
    assert!(said.status.success(), "{said:?}");
    let line = |line: &str| line.split('\t').map(str::to_owned).collect();
    said.out.lines().map(line).collect()
}

#[test]
fn packets_are_captured_with_what_was_decided_about_them() {
    if !is_root() || !has_tool("tshark") {
        return;
    }
    let at = AtLma::new("cap");
    let file = at.directory.path().join("all.pcapng");
    let flow = "flow add --mn mn1@example.net --bid 1 --proto udp --dport 5000";
    at.lma.command(flow.split(' ')).ok();
    // The LMA knows its neighbours then, and nothing waits for them.
    at.cn().is_answered_by(at.mn);
    let capture = Capture::start(&at.lma, &file, "--mn mn1@example.net");
    let busy = at.lma.command(["capture", "--count", "1"]).fails();
    assert!(busy.contains("somebody captures here already"), "{busy}");
    let (one, other) = (
        at.network.edge.udp(ip(CN), 4000),
        at.network.far.udp(at.mn, 5000),
    );
    datagrams_go_both_ways(&one, &other);
    // Another's, which is not wanted.
    let cn = at.cn();
    cn.is_answered_by(ip("2001:db8:c::1"));
    let said = capture.end(Some(Signal::SIGINT));
    assert_eq!(said.err, "24 frames, 0 missed\n");
    let names = [
        "frame.interface_name",
        "frame.packet_flags_direction",
        "ipv6.src",
        "udp.dstport",
        "frame.comment",
    ];
    let frames = fields(&file, &names);
    assert_eq!(frames.len(), 24);
    let (mn, tunnel) = (at.mn, format!("{LMAA},{CN}"));
    for (number, pair) in frames.chunks(2).enumerate() {
        let decided = format!(
            "packet 0.{}; to mn1@example.net; flow 1; tunnel to kernel {MAG}",
            number + 1
        );
        let expected: [Vec<String>; 2] = if number % 2 == 0 {
            let came = [
                "edge",
                "0x00000001",
                CN,
                "5000",
                &format!("{decided}; sent"),
            ];
            let left = ["core", "0x00000002", &tunnel, "5000", &decided];
            [came, left].map(|frame| frame.map(str::to_owned).to_vec())
        } else {
            let outer = format!("{MAG},{mn}");
            let decided = format!("packet 0.{}; from mn1@example.net", number + 1);
            let came = [
                "core",
                "0x00000001",
                &outer,
                "4000",
                &format!("{decided}; sent"),
            ];
            let left = ["edge", "0x00000002", &mn.to_string(), "4000", &decided];
            [came, left].map(|frame| frame.map(str::to_owned).to_vec())
        };
        assert_eq!(pair, expected);
    }
}

#[test]
fn drops_signalling_and_mobiles_that_come_later_are_captured() {
    if !is_root() || !has_tool("tshark") {
        return;
    }
    let at = AtLma::new("capd");
    let file = |name: &str| at.directory.path().join(name);
    // The LMA knows its neighbours then, and no answer waits for them.
    let cn = at.cn();
    cn.is_answered_by(at.mn);
    let drops = Capture::start(
        &at.lma,
        &file("drops"),
        "--drop no-binding,too-big --octets 80",
    );
    let nobody = ip("2001:db8:100:77::1");
    let lost = at.network.edge.udp(ip(CN), 4001);
    lost.send_to(&[7; 100], (nobody, 1)).unwrap();
    cn.ask(at.mn, 1500, 9);
    wait_for("two drops", PATIENCE, || {
        let frames = fields(&file("drops"), &["frame.number"]);
        (frames.len() == 4).then_some(())
    });
    assert_eq!(drops.end(Some(Signal::SIGTERM)).err, "4 frames, 0 missed\n");
    let names = ["frame.cap_len", "frame.len", "icmpv6.type", "frame.comment"];
    let frames = fields(&file("drops"), &names);
    let told: Vec<_> = frames.iter().map(|frame| frame[3].as_str()).collect();
    assert!(told[0].contains("dropped: no-binding. The destination lies in"));
    assert!(told[2].contains("to mn1@example.net; no rule; tunnel to kernel"));
    assert!(told[2].contains("dropped: too-big. The packet does not fit"));
    assert_eq!(frames[0][..2], ["80", "162"]);
    // What the senders are told belongs to the same packets.
    assert_eq!(
        (frames[1][2].as_str(), frames[3][2].split(',').next()),
        ("1", Some("2"))
    );

    // A mobile that is not there yet, and the MAG's signalling, which ends by itself.
    let later = Capture::start(&at.lma, &file("later"), "--mn mn2@example.net --count 1");
    let second = pbu(1, "mn2@example.net", 75);
    at.signalling.send(Pbu {
        ll_id: Some(MnLinkLayerId::new(&[2, 0, 0, 0, 1, 2]).unwrap()),
        ..second
    });
    let Message::Pba(pba) = at.signalling.receive() else {
        panic!("no PBA");
    };
    let address = Ipv6Addr::from(u128::from(pba.hnps[0].prefix.addr()) | 9);
    // The numbers of a mobile are looked up from time to time.
    let said = std::thread::scope(|scope| {
        let ended = scope.spawn(|| later.end(None));
        while !ended.is_finished() {
            lost.send_to(b"later", (address, 1)).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        ended.join().unwrap()
    });
    assert_eq!(said.err, "1 frame, 0 missed\n");
    let peer = Capture::start(
        &at.lma,
        &file("peer"),
        "--mag kernel --direction out --count 1",
    );
    at.signalling.send(pbu(2, "mn1@example.net", 75));
    let said = peer.end(None);
    assert_eq!(said.err, "1 frame, 0 missed\n");
    let frames = fields(
        &file("peer"),
        &["ipv6.src", "mip6.mhtype", "frame.interface_name"],
    );
    assert_eq!(frames, [[LMAA, "6", "core"]]);
}
