//! Packets that others have published, from draft-mcgrew-gcm-test-01, which RFC 4106's authors wrote for this
//! use of GCM: those of its cases with a sequence number of 32 bits.

use crate::{IV_LEN, Key, Spi};

pub(crate) const SPI: Spi = Spi::new(0x1000).unwrap();

/// A key that differs with `n`.
pub(crate) fn key(n: u8) -> Key {
    let octets: Vec<u8> = (0..36).map(|i: u8| i.wrapping_mul(7) ^ n).collect();
    Key::new(&octets).unwrap()
}

pub(crate) struct Vector {
    /// AES key and salt.
    key: &'static str,
    pub(crate) next_header: u8,
    pub(crate) payload: Vec<u8>,
    /// From the SPI to the integrity check value.
    pub(crate) packet: Vec<u8>,
}

impl Vector {
    pub(crate) fn key(&self) -> Key {
        Key::from_hex(self.key).unwrap()
    }
}

/// Index, sequence number and IV of a packet.
pub(crate) fn head(packet: &[u8]) -> (Spi, u32, [u8; IV_LEN]) {
    let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
    let iv = packet[8..16].try_into().unwrap();
    (Spi::new(word(0)).unwrap(), word(4), iv)
}

fn octets(digits: &str) -> Vec<u8> {
    let digits: Vec<_> = digits.chars().collect();
    let octet = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(octet).collect()
}

pub(crate) fn all() -> Vec<Vector> {
    let vector = |key, next_header, payload, packet| Vector {
        key,
        next_header,
        payload: octets(payload),
        packet: octets(packet),
    };
    vec![
        vector(
            "feffe9928665731c6d6a8f9467308308cafebabe",
            1,
            "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d00100\
             0001000000000000037369700963796265726369747902646b0000010001",
            "0000a5f80000000afacedbaddecaf888deb22cd9b07c72c16e3a65beeb8df304\
             a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d0eec416642\
             cfbb85a5b47e48a4ec3b9ba95d918bd183b70d3aa8bc6ee4c309e9d85a41ad4a",
        ),
        vector(
            "abbccddef00112233445566778899aababbccddef00112233445566778899aab\
             11223344",
            1,
            "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee000000000\
             7002400020bf0000020405b401010402",
            "4a2cbfe3000000020102030405060708ff425c9b724599df7a3bcd510194e00d\
             6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e99d\
             ef842d8eb335f4eecfdbf831824b4c4915956c96",
        ),
        vector(
            "7d773d00c144c525ac619d18c84a3f47d9664267",
            1,
            "",
            "335467aeffffffff43457e9182443bc6437f866bcb3f699fe9b0822bac961c45\
             04bef270",
        ),
    ]
}
