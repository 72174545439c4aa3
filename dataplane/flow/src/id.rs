//! Identifiers: each role, index and prefix has a type of its own.

use std::cmp::Ordering;
use std::fmt;
use std::net::Ipv6Addr;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::Ipv6Net;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text;

/// Mobile node identifier: a network access identifier such as `mn1@example.net` (RFC 4283 §3.1).
///
/// One to 254 octets, the most that a mobility option can carry. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MnId(Arc<str>);

/// Why a text is no [`MnId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MnIdError {
    /// The identifier has no octets.
    #[error("a mobile node identifier must not be empty")]
    Empty,
    /// The identifier does not fit a mobility option.
    #[error("a mobile node identifier has at most 254 octets, this one has {0}")]
    TooLong(usize),
    /// The identifier is not printable text.
    #[error("a mobile node identifier must be printable UTF-8 text without control characters")]
    NotText,
}

impl MnId {
    /// Most octets an identifier may have.
    pub const MAX_LEN: usize = 254;

    /// Checks and wraps an identifier.
    ///
    /// # Errors
    /// [`MnIdError`] if `text` is empty, longer than 254 octets, or holds control characters.
    pub fn new(text: &str) -> Result<Self, MnIdError> {
        if text.is_empty() {
            return Err(MnIdError::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(MnIdError::TooLong(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(MnIdError::NotText);
        }
        Ok(Self(text.into()))
    }

    /// Checks and wraps the octets of an identifier option.
    ///
    /// # Errors
    /// As [`MnId::new`], and [`MnIdError::NotText`] for octets that are not UTF-8.
    pub fn from_octets(octets: &[u8]) -> Result<Self, MnIdError> {
        Self::new(std::str::from_utf8(octets).map_err(|_| MnIdError::NotText)?)
    }

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MnId({})", &self.0)
    }
}

impl FromStr for MnId {
    type Err = MnIdError;

    fn from_str(text: &str) -> Result<Self, MnIdError> {
        Self::new(text)
    }
}

impl Serialize for MnId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MnId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parse(deserializer)
    }
}

/// Home network prefix of a mobile's session (RFC 5213 §2.2); bits past the length are zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Ipv6Net", into = "Ipv6Net")]
pub struct Hnp(Ipv6Net);

impl Ord for Hnp {
    /// By address, then by length.
    fn cmp(&self, other: &Self) -> Ordering {
        // As numbers: the standard library compares addresses piece by piece, and tables of a million prefixes do it often.
        let number = |hnp: &Self| (hnp.0.addr().to_bits(), hnp.0.prefix_len());
        number(self).cmp(&number(other))
    }
}

impl PartialOrd for Hnp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Why a prefix is no [`Hnp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HnpError {
    /// More than 128 bits.
    #[error("a prefix length is at most 128, this one is {0}")]
    Length(u8),
    /// Bits beyond the length are set.
    #[error("bits beyond the prefix length are set: did you mean {0}?")]
    HostBits(Ipv6Net),
}

impl Hnp {
    /// The zero-length prefix, with which a MAG asks for any (RFC 5213 §6.9.1.1).
    pub const ALL_ZERO: Self = Self(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0));

    /// Most prefixes of one session: tables have room for them, whatever a PBU asks for.
    pub const MAX_PER_SESSION: usize = 8;

    /// A prefix of `len` bits; host bits of `addr` are cleared.
    ///
    /// # Errors
    /// [`HnpError::Length`] for a length over 128.
    pub fn new(addr: Ipv6Addr, len: u8) -> Result<Self, HnpError> {
        Ipv6Net::new(addr, len)
            .map(|net| Self(net.trunc()))
            .map_err(|_| HnpError::Length(len))
    }

    /// The prefix's first address.
    pub fn addr(self) -> Ipv6Addr {
        self.0.addr()
    }

    /// The prefix's length in bits, 0 to 128.
    pub fn len(self) -> u8 {
        self.0.prefix_len()
    }

    /// Whether this is the zero-length prefix.
    pub fn is_empty(self) -> bool {
        self.0.prefix_len() == 0
    }

    /// Whether `addr` lies in the prefix.
    pub fn contains(self, addr: Ipv6Addr) -> bool {
        self.0.contains(&addr)
    }

    /// Whether the two prefixes have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }

    /// The last address of the prefix.
    pub fn last(self) -> Ipv6Addr {
        self.0.broadcast()
    }

    /// The same as a general-purpose prefix.
    pub fn net(self) -> Ipv6Net {
        self.0
    }
}

impl fmt::Display for Hnp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Hnp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hnp({})", self.0)
    }
}

impl TryFrom<Ipv6Net> for Hnp {
    type Error = HnpError;

    fn try_from(net: Ipv6Net) -> Result<Self, HnpError> {
        if net.trunc() == net {
            Ok(Self(net))
        } else {
            Err(HnpError::HostBits(net.trunc()))
        }
    }
}

impl From<Hnp> for Ipv6Net {
    fn from(hnp: Hnp) -> Self {
        hnp.0
    }
}

macro_rules! address_role {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Ipv6Addr);

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                // As for prefixes: every message looks up several.
                self.0.to_bits().cmp(&other.0.to_bits())
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

address_role! {
    /// The LMA's end of a tunnel (RFC 5213 §2.2).
    Lmaa
}
address_role! {
    /// The MAG's end of a tunnel: the proxy care-of address (RFC 5213 §2.2).
    ProxyCoa
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// Binding identifier: one per access of a mobile, given by the LMA (RFC 5648 §4.3, RFC 7864 §5.1).
    Bid(NonZeroU16)
}
number! {
    /// Flow identifier, unique per mobile (RFC 6089 §4.2).
    Fid(NonZeroU16)
}
number! {
    /// Priority of a flow rule, unique per mobile; the lowest matching one wins (RFC 6089 §4.2).
    FidPriority(NonZeroU16)
}
number! {
    /// A mobile in one role's tables; given by that role's state machine, never reused while in use.
    MobileId(u32)
}
number! {
    /// A path in one role's tables: an index, small and dense.
    PathId(u16)
}

impl PathId {
    /// The greatest number: those above it mean something else in the workers' tables.
    pub const LAST: Self = Self(u16::MAX - 3);
}

number! {
    /// A port of the process, numbered in the order of the configuration.
    PortId(u16)
}
number! {
    /// A worker of the process, from 0.
    WorkerId(u16)
}

impl Bid {
    /// A binding identifier from its number; `None` for the reserved 0.
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Self)
    }
}

impl Fid {
    /// A flow identifier from its number; `None` for the reserved 0.
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Self)
    }
}

impl FidPriority {
    /// A priority from its number; `None` for the reserved 0.
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Self)
    }
}

/// An IEEE 802 address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The fixed link-layer address of a MAG's access links (RFC 6543 §3).
    pub const MAG: Self = Self([0x00, 0x00, 0x5e, 0x00, 0x52, 0x13]);
    /// All stations of the link.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether the address names a group of stations.
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// The group address an IPv6 multicast destination maps to (RFC 2464 §7).
    pub fn for_multicast(group: Ipv6Addr) -> Self {
        let [.., a, b, c, d] = group.octets();
        Self([0x33, 0x33, a, b, c, d])
    }

    /// The link-local address with this interface identifier in EUI-64 form (RFC 4291 appendix A).
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let mut octets = [0; 16];
        octets[0] = 0xfe;
        octets[1] = 0x80;
        octets[8..].copy_from_slice(&[a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        Ipv6Addr::from(octets)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const MESSAGE: &str = "expected six octets in hex, such as 02:00:00:00:01:01";
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts
                .next()
                .filter(|p| (1..=2).contains(&p.len()))
                .ok_or(MESSAGE)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| MESSAGE)?;
        }
        if parts.next().is_some() {
            Err(MESSAGE)
        } else {
            Ok(Self(octets))
        }
    }
}

impl TryFrom<String> for MacAddr {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

/// Mobile node link-layer identifier, 1 to 250 octets; a MAC address has 6 (RFC 5213 §8.6).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MnLinkLayerId(Arc<[u8]>);

impl MnLinkLayerId {
    /// Most octets that fit the option next to its reserved field.
    pub const MAX_LEN: usize = 250;

    /// Wraps an identifier; `None` if it has no octets, more than 250, or only zeros, which
    /// RFC 5213 §8.6 does not allow on the wire.
    pub fn new(octets: &[u8]) -> Option<Self> {
        let fits = (1..=Self::MAX_LEN).contains(&octets.len());
        (fits && octets.iter().any(|o| *o != 0)).then(|| Self(octets.into()))
    }

    /// The identifier's octets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// The MAC address that the identifier is, if it has six octets.
    pub fn mac(&self) -> Option<MacAddr> {
        self.0.as_ref().try_into().ok().map(MacAddr)
    }
}

impl FromStr for MnLinkLayerId {
    type Err = &'static str;

    /// Reads octets in hex, separated by colons.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const MESSAGE: &str = "expected octets in hex separated by colons, not all zero";
        let digit = |octet: u8| char::from(octet).to_digit(16).ok_or(MESSAGE);
        let mut octets = [0; Self::MAX_LEN];
        let mut count = 0;
        for part in text.as_bytes().split(|octet| *octet == b':') {
            let octet = octets.get_mut(count).ok_or(MESSAGE)?;
            let number = match *part {
                [low] => digit(low)?,
                [high, low] => digit(high)? << 4 | digit(low)?,
                _ => return Err(MESSAGE),
            };
            *octet = u8::try_from(number).map_err(|_| MESSAGE)?;
            count += 1;
        }
        octets.get(..count).and_then(Self::new).ok_or(MESSAGE)
    }
}

impl Serialize for MnLinkLayerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}

impl<'de> Deserialize<'de> for MnLinkLayerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parse(deserializer)
    }
}

impl From<MacAddr> for MnLinkLayerId {
    fn from(mac: MacAddr) -> Self {
        Self(mac.0.as_slice().into())
    }
}

impl fmt::Display for MnLinkLayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, octet) in self.0.iter().enumerate() {
            write!(f, "{}{octet:02x}", if i == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for MnLinkLayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MnLinkLayerId({self})")
    }
}

/// Access technology type (RFC 5213 §8.5 and the registry that grew from it).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccessTechnology(pub u8);

impl AccessTechnology {
    /// Names and numbers, as configuration and output spell them.
    pub const NAMES: [(&'static str, u8); 13] = [
        ("virtual", 1),
        ("ppp", 2),
        ("ethernet", 3),
        ("wlan", 4),
        ("wimax", 5),
        ("geran", 6),
        ("utran", 7),
        ("eutran", 8),
        ("ehrpd", 9),
        ("hrpd", 10),
        ("1xrtt", 11),
        ("umb", 12),
        ("nb-iot", 13),
    ];

    /// The technology of a name in [`Self::NAMES`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, number)| Self(*number))
    }
}

impl fmt::Display for AccessTechnology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.pad(name),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Handoff indicator (RFC 5213 §8.4, RFC 7864 §3.2.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HandoffIndicator(pub u8);

impl HandoffIndicator {
    /// Attachment over a new interface.
    pub const NEW_INTERFACE: Self = Self(1);
    /// Handoff between two interfaces of the mobile.
    pub const BETWEEN_INTERFACES: Self = Self(2);
    /// Handoff between MAGs for the same interface.
    pub const BETWEEN_MAGS: Self = Self(3);
    /// Handoff state unknown.
    pub const UNKNOWN: Self = Self(4);
    /// Handoff state not changed: a re-registration.
    pub const NO_CHANGE: Self = Self(5);
    /// Attachment over a new interface that shares the prefixes of another.
    pub const SHARING_PREFIXES: Self = Self(6);
}

impl fmt::Display for HandoffIndicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_are_parsed_and_printed() {
        let mac: MacAddr = "02:00:00:00:01:fF".parse().unwrap();
        assert_eq!(mac, MacAddr([2, 0, 0, 0, 1, 0xff]));
        assert_eq!(mac.to_string(), "02:00:00:00:01:ff");
        for wrong in [
            "",
            "02:00:00:00:01",
            "02:00:00:00:01:01:01",
            "02:00:00:00:01:0g",
            "2::",
        ] {
            assert!(wrong.parse::<MacAddr>().is_err(), "{wrong}");
        }
        assert_eq!(
            MacAddr::MAG.link_local(),
            "fe80::200:5eff:fe00:5213".parse::<Ipv6Addr>().unwrap()
        );
    }

    #[test]
    fn link_layer_identifiers_are_parsed_and_printed() {
        for text in [
            "02:00:00:00:01:ff",
            "1:2",
            "0:0a",
            &vec!["7f"; 250].join(":"),
        ] {
            let id: MnLinkLayerId = text.parse().unwrap();
            let octets = text.split(':').map(|o| u8::from_str_radix(o, 16).unwrap());
            assert_eq!(id.octets(), octets.collect::<Vec<_>>());
            assert_eq!(id.to_string().parse::<MnLinkLayerId>(), Ok(id));
        }
        let long = vec!["7f"; 251].join(":");
        for wrong in ["", "00:0", "1:", ":1", "100", "1g", "+1", "1-2", &long] {
            assert!(wrong.parse::<MnLinkLayerId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_and_prefixes_are_ordered_as_the_standard_library_does() {
        let texts = [
            "::/0",
            "::/1",
            "::1/128",
            "2001:db8::/32",
            "2001:db8::/64",
            "2001:db8:1::/48",
            "ff02::/16",
        ];
        let hnps: Vec<Hnp> = texts
            .iter()
            .map(|text| text.parse::<Ipv6Net>().unwrap().try_into().unwrap())
            .collect();
        for one in &hnps {
            for other in &hnps {
                assert_eq!(one.cmp(other), one.net().cmp(&other.net()));
                let (a, b) = (one.addr(), other.addr());
                assert_eq!(Lmaa(a).cmp(&Lmaa(b)), a.cmp(&b));
                assert_eq!(ProxyCoa(a).partial_cmp(&ProxyCoa(b)), Some(a.cmp(&b)));
            }
        }
    }

    #[test]
    fn a_home_network_prefix_has_no_host_bits() {
        let hnp = Hnp::new("2001:db8::1".parse().unwrap(), 64).unwrap();
        assert_eq!(hnp.to_string(), "2001:db8::/64");
        assert!(Hnp::try_from("2001:db8::1/64".parse::<Ipv6Net>().unwrap()).is_err());
        assert!(Hnp::new(Ipv6Addr::UNSPECIFIED, 129).is_err());
    }

    #[test]
    fn a_mobile_node_identifier_is_checked() {
        assert!(MnId::new("mn1@example.net").is_ok());
        assert_eq!(MnId::new(""), Err(MnIdError::Empty));
        assert_eq!(MnId::new(&"x".repeat(255)), Err(MnIdError::TooLong(255)));
        assert_eq!(MnId::from_octets(&[0xff]), Err(MnIdError::NotText));
        assert_eq!(MnId::new("a\nb"), Err(MnIdError::NotText));
    }

    #[test]
    fn a_link_layer_identifier_is_never_all_zero() {
        assert!(MnLinkLayerId::new(&[0; 6]).is_none());
        assert!(MnLinkLayerId::new(&[]).is_none());
        assert_eq!(MnLinkLayerId::from(MacAddr::MAG).mac(), Some(MacAddr::MAG));
    }
}
