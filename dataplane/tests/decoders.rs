//! tshark reads our fragments and errors, and shares no code with us. Where it is missing the test says
//! so and passes, unless `FLOWMOB_REQUIRE_TOOLS=1` is set.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

mod common;

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::*;
use flow::{Role, Tunnel};
use pcap_file::pcap::{PcapPacket, PcapWriter};

/// What tshark is asked for, of each frame.
const FIELDS: [&str; 11] = [
    "ipv6.opt.tel",
    "ipv6.fraghdr.offset",
    "ipv6.fraghdr.more",
    "ipv6.fragment.count",
    "ipv6.reassembled.length",
    "udp.length",
    "udp.checksum.status",
    "icmpv6.type",
    "icmpv6.checksum.status",
    "icmpv6.pointer",
    "_ws.malformed",
];

/// The fields of each frame, with `|` between them.
fn read_by_tshark(frames: &[Vec<u8>]) -> Option<Vec<String>> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("decoders.pcap");
    let mut writer = PcapWriter::new(File::create(&file).unwrap()).unwrap();
    for frame in frames {
        let len = u32::try_from(frame.len()).unwrap();
        let packet = PcapPacket::new(Duration::ZERO, len, frame);
        writer.write_packet(&packet).unwrap();
    }
    drop(writer);
    let run = Command::new("tshark")
        .args(["-n", "-o", "ipv6.defragment:TRUE"])
        .args(["-o", "udp.check_checksum:TRUE", "-r"])
        .arg(&file)
        .args(["-T", "fields", "-E", "separator=|", "-E", "occurrence=f"])
        .args(FIELDS.iter().flat_map(|field| ["-e", field]))
        .output();
    let Ok(run) = run else {
        let required = std::env::var_os("FLOWMOB_REQUIRE_TOOLS").is_some_and(|v| v == "1");
        assert!(!required, "tshark is not installed");
        println!("left out: tshark is not installed");
        return None;
    };
    assert!(run.status.success(), "{run:?}");
    let text = String::from_utf8(run.stdout).unwrap();
    Some(text.lines().map(str::to_owned).collect())
}

#[test]
fn tshark_puts_our_fragments_together_and_finds_the_checksums_right() {
    let mut rig = Rig::lma();
    let down = sized(CN_MAC, EDGE, cn(), mn(1), 1280);
    let mut frames = Vec::new();
    for encapsulation_limit in [None, Some(4)] {
        let flow::Path::Tunnel(tunnel) = narrow_tunnel(lmaa(), mag1(), 1280) else {
            unreachable!()
        };
        let tunnel = Tunnel {
            encapsulation_limit,
            ..tunnel
        };
        rig.path(Role::Lma, 1, Some(flow::Path::Tunnel(tunnel)));
        rig.rx(EDGE, &down);
        frames.extend(rig.sent(CORE));
    }
    // Two errors: a limit that is spent, and a packet that no fragments help.
    let limited = [17, 0, 4, 1, 0, 1, 1, 0, 0x0f, 0xa0, 0x13, 0x89, 0, 8, 0, 0];
    for refused in [
        ipv6(CN_MAC, PORT_MACS[1], cn(), mn(1), 60, 64, &limited),
        sized(CN_MAC, EDGE, cn(), mn(1), 1281),
    ] {
        rig.rx(EDGE, &refused);
        frames.extend(rig.sent(EDGE));
    }
    let Some(lines) = read_by_tshark(&frames) else {
        return;
    };
    // Checksums: 1 is good, 2 cannot be told of what is quoted in part, 3 is that there is none.
    let expected = [
        "|0|1||||||||",
        "|154|0|2|1280|1240|1||||",
        "4|0|1||||||||",
        "4|153|0|2|1280|1240|1||||",
        "0|||||8|3|4|1|44|",
        "|||||1241|2|2|1||",
    ];
    assert_eq!(lines, expected);
}
