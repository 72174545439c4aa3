//! The codec from outside: known messages, round trips, bad input, and other people's decoders.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests may fail loudly, like the tests"
)]

mod decoders;
mod errors;
mod generate;
mod round_trip;
mod vectors;

use std::fmt::Write;
use std::net::Ipv6Addr;

/// An address.
fn addr(text: &str) -> Ipv6Addr {
    text.parse().expect("an IPv6 address")
}

/// The octets that a text in hex stands for; white space is ignored.
fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).expect("hex digits"))
        .collect()
}

/// Octets as hex, eight to a word, so that a failed comparison can be read.
fn hex(octets: &[u8]) -> String {
    let words: Vec<String> = octets.chunks(8).map(digits).collect();
    words.join(" ")
}

/// Octets as hex.
fn digits(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

/// Gives a Mobility Header the checksum that belongs to it.
fn fix_checksum(mh: &mut [u8], source: Ipv6Addr, destination: Ipv6Addr) {
    let checksum = pmip_wire::checksum::compute(mh, source, destination);
    mh[4..6].copy_from_slice(&checksum.to_be_bytes());
}
