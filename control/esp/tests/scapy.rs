//! scapy's ESP, on Python's cryptography, at the other end: it opens what we seal and we open what it seals.
//!
//! It is not needed to build or use the crate. Where it is missing the test says so and passes, unless
//! `FLOWMOB_REQUIRE_TOOLS=1` is set.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

use std::io::Write;
use std::process::{Command, Stdio};

use pmip_esp::{InboundSa, Key, OutboundSa, Spi};

const SPI: Spi = Spi::new(0x00c0_ffee).unwrap();
const SOURCE: &str = "2001:db8:a::1";
const DESTINATION: &str = "2001:db8:f::1";

/// Reads lines of key and packet, each `open` or `seal` and a packet without ESP; prints the other form.
const SCRIPT: &str = r"
import sys
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import SecurityAssociation, ESP
from scapy.packet import Raw
for line in sys.stdin:
    what, key, octets = line.split()
    sa = SecurityAssociation(ESP, spi=0x00c0ffee, crypt_algo='AES-GCM',
                             crypt_key=bytes.fromhex(key), seq_num=7)
    packet = IPv6(bytes.fromhex(octets))
    if what == 'open':
        done = sa.decrypt(packet)
    else:
        done = sa.encrypt(packet)
    print(bytes(done).hex())
";

fn digits(octets: &[u8]) -> String {
    let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap();
    let pair = |octet: &u8| [digit(octet >> 4), digit(octet & 15)];
    octets.iter().flat_map(pair).collect()
}

fn octets(digits: &str) -> Vec<u8> {
    let at = |i: usize| u8::from_str_radix(&digits[i..i + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(at).collect()
}

fn packet(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [0x60, 0, 0, 0, len[0], len[1], next_header, 64];
    let addresses = [address(SOURCE), address(DESTINATION)].concat();
    [&head[..], &addresses, payload].concat()
}

/// What Debian's Python says to the lines; `None` if it has no scapy.
fn scapy(lines: &str) -> Option<Vec<Vec<u8>>> {
    let probe = Command::new("/usr/bin/python3")
        .args(["-c", "import scapy.layers.ipsec, cryptography"])
        .stderr(Stdio::null())
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        let required = std::env::var_os("FLOWMOB_REQUIRE_TOOLS").is_some_and(|v| v == "1");
        assert!(
            !required,
            "python3-scapy or python3-cryptography is missing"
        );
        println!("left out: python3-scapy or python3-cryptography is missing");
        return None;
    }
    let mut child = Command::new("/usr/bin/python3")
        .args(["-W", "ignore", "-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The whole input fits the pipe.
    child
        .stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.lines().map(octets).collect())
}

#[test]
fn scapy_and_we_open_each_others_packets() {
    let keys: [Vec<u8>; 2] = [20, 36].map(|len: u8| (0..len).map(|i| i ^ 0x5a).collect());
    // Mobility Headers are multiples of 8 octets; the others need every length of padding.
    let payloads: Vec<Vec<u8>> = [0_u8, 1, 2, 3, 8, 48].map(|len| (0..len).collect()).into();
    let cases = || {
        keys.iter()
            .flat_map(|key| payloads.iter().map(move |p| (key, p)))
    };
    let mut lines = Vec::new();
    for (key, payload) in cases() {
        let mut sa = OutboundSa::new(SPI, Key::new(key).unwrap(), 1_700_000_000, 40);
        sa.reserve(41);
        let sealed = packet(50, &sa.seal(135, payload).unwrap());
        lines.push(format!("open {} {}\n", digits(key), digits(&sealed)));
        let plain = digits(&packet(135, payload));
        lines.push(format!("seal {} {plain}\n", digits(key)));
    }
    let Some(answers) = scapy(&lines.concat()) else {
        return;
    };
    assert_eq!(answers.len(), 2 * cases().count());
    for (i, (key, payload)) in cases().enumerate() {
        assert_eq!(answers[2 * i], packet(135, payload), "{}", payload.len());
        let theirs = &answers[2 * i + 1];
        assert_eq!((theirs[6], &theirs[44..48]), (50, &[0, 0, 0, 7][..]));
        let mut sa = InboundSa::new(SPI, Key::new(key).unwrap(), 0);
        let opened = sa.open(&theirs[40..]).unwrap();
        assert_eq!((opened.next_header, &opened.payload), (135, payload));
    }
}
