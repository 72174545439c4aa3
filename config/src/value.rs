//! What a single value of the file can be.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use flow::{AccessTechnology, Hnp, HnpError, MacAddr, MnId};
use ipnet::Ipv6Net;
use toml::de::DeValue;

use crate::device::{Device, InterfaceName};
use crate::roles::InterfaceId;
use crate::spell::{listed, suggest};

/// Why a TOML value is no [`Value`].
pub(crate) enum Fault {
    /// It has another type.
    Type,
    /// It has the right type, but not a right content.
    Value { label: String, help: String },
}

impl Fault {
    pub(crate) fn new(label: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Value {
            label: label.into(),
            help: help.into(),
        }
    }
}

/// A kind of value.
pub(crate) trait Value: Sized {
    /// What it is, with its article.
    const EXPECTED: &'static str;
    /// How one is written in the file.
    const EXAMPLE: &'static str;

    /// Checks and converts a value of the file.
    fn read(value: &DeValue<'_>) -> Result<Self, Fault>;

    /// Stands in for a value that could not be read, until that is reported.
    fn placeholder() -> Self;
}

/// The content of a string.
pub(crate) fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, Fault> {
    value.as_str().ok_or(Fault::Type)
}

/// The content of an integer; the largest stands for all that do not fit, as no key allows it.
pub(crate) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    Some(i64::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i64::MAX))
}

/// The type of a TOML value, with its article.
pub(crate) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// Defines an enumeration whose values the file spells as words; the first is the example.
macro_rules! words {
    ($(#[$meta:meta])* $vis:vis $name:ident {
        $(#[$first_meta:meta])* $first:ident = $first_word:literal,
        $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize)]
        $vis enum $name {
            $(#[$first_meta])* #[serde(rename = $first_word)] $first,
            $($(#[$variant_meta])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// All values, in the order of the documentation.
            $vis const ALL: &'static [Self] = &[Self::$first, $(Self::$variant,)+];

            /// The word that the file uses.
            $vis const fn name(self) -> &'static str {
                match self {
                    Self::$first => $first_word,
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl $crate::value::Value for $name {
            const EXPECTED: &'static str =
                concat!("\"", $first_word, "\"", $(" or \"", $word, "\"",)+);
            const EXAMPLE: &'static str = concat!("\"", $first_word, "\"");

            fn read(value: &toml::de::DeValue<'_>) -> Result<Self, $crate::value::Fault> {
                let word = $crate::value::text(value)?;
                let all = Self::ALL.iter().copied();
                all.clone()
                    .find(|value| value.name() == word)
                    .ok_or_else(|| $crate::value::unknown_word(word, all.map(Self::name)))
            }

            fn placeholder() -> Self {
                Self::$first
            }
        }
    };
}
pub(crate) use words;

/// The fault of a word that is none of `words`.
pub(crate) fn unknown_word<'w>(word: &str, words: impl Iterator<Item = &'w str> + Clone) -> Fault {
    let list = format!("one of {}", listed(words.clone()));
    let help = suggest(word, words).map_or_else(|| list.clone(), |near| format!("{near} ({list})"));
    Fault::new("unknown word", help)
}

impl Value for bool {
    const EXPECTED: &'static str = "true or false";
    const EXAMPLE: &'static str = "true";

    fn read(value: &DeValue<'_>) -> Result<Self, Fault> {
        value.as_bool().ok_or(Fault::Type)
    }

    fn placeholder() -> Self {
        false
    }
}

/// A name of the file's own making: of the process, a port, a peer.
impl Value for String {
    const EXPECTED: &'static str = "a short plain name";
    const EXAMPLE: &'static str = "\"core\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Fault> {
        let name = text(value)?;
        let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if (1..=32).contains(&name.len()) && name.chars().all(usable) && !name.starts_with('.') {
            Ok(name.to_owned())
        } else {
            Err(Fault::new(
                "not usable as a name",
                "use 1 to 32 letters, digits, `-`, `_` and `.`, not `.` first",
            ))
        }
    }

    fn placeholder() -> Self {
        Self::new()
    }
}

/// A path name.
impl Value for PathBuf {
    const EXPECTED: &'static str = "a path";
    const EXAMPLE: &'static str = "\"/run/flowmob/lma1.sock\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Fault> {
        match text(value)? {
            "" => Err(Fault::new("empty", "name a file")),
            path if path.contains('\0') => Err(Fault::new(
                "contains a NUL character",
                "remove the escape sequence",
            )),
            path => Ok(path.into()),
        }
    }

    fn placeholder() -> Self {
        Self::new()
    }
}

impl Value for SocketAddr {
    const EXPECTED: &'static str = "an address and a port";
    const EXAMPLE: &'static str = "\"127.0.0.1:8090\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Fault> {
        let text = text(value)?;
        let wrong = |_| {
            Fault::new(
                "no address with a port",
                "write it such as 127.0.0.1:8090 or [::1]:8090",
            )
        };
        text.parse().map_err(wrong)
    }

    fn placeholder() -> Self {
        (Ipv6Addr::LOCALHOST, 0).into()
    }
}

fn parse_address(text: &str) -> Result<Ipv6Addr, Fault> {
    text.parse().map_err(|_| {
        let help = if text.parse::<std::net::Ipv4Addr>().is_ok() {
            "flowmob speaks IPv6 only"
        } else if text.contains('/') {
            "leave out the prefix length"
        } else if text.contains('%') {
            "leave out the zone; ports are named with `port`"
        } else {
            "write it such as 2001:db8:f::1"
        };
        Fault::new("not an IPv6 address", help)
    })
}

/// What kind of address it is, if it cannot be one host's.
fn not_unicast(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_multicast() {
        Some("a multicast address")
    } else if address.is_loopback() {
        Some("the loopback address")
    } else if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.to_ipv4_mapped().is_some() {
        Some("an IPv4-mapped address")
    } else {
        None
    }
}

/// The address of one host, link-local ones included.
#[derive(Clone, Copy)]
pub(crate) struct Unicast(pub(crate) Ipv6Addr);

impl Value for Unicast {
    const EXPECTED: &'static str = "a unicast IPv6 address";
    const EXAMPLE: &'static str = "\"2001:db8:f::1\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Fault> {
        let address = parse_address(text(value)?)?;
        match not_unicast(address) {
            Some(kind) => Err(Fault::new(kind, "give the address of one host")),
            None => Ok(Self(address)),
        }
    }

    fn placeholder() -> Self {
        Self(Ipv6Addr::UNSPECIFIED)
    }
}

/// A tunnel end: an address of one host that packets can be routed to.
#[derive(Clone, Copy)]
pub(crate) struct Routable(pub(crate) Ipv6Addr);

impl Value for Routable {
    const EXPECTED: &'static str = "a routable unicast IPv6 address";
    const EXAMPLE: &'static str = Unicast::EXAMPLE;

    fn read(value: &DeValue<'_>) -> Result<Self, Fault> {
        let Unicast(address) = Unicast::read(value)?;
        if address.is_unicast_link_local() {
            return Err(Fault::new(
                "a link-local address",
                "a tunnel needs an address that is valid beyond one link",
            ));
        }
        Ok(Self(address))
    }

    fn placeholder() -> Self {
        Self(Ipv6Addr::UNSPECIFIED)
    }
}

/// A link-local address.
#[derive(Clone, Copy)]
pub(crate) struct LinkLocal(pub(crate) Ipv6Addr);

impl Value for LinkLocal {
    const EXPECTED: &'static str = "a link-local IPv6 address";
    const EXAMPLE: &'static str = "\"fe80::200:5eff:fe00:5213\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Fault> {
        let address = parse_address(text(value)?)?;
        if address.is_unicast_link_local() {
            Ok(Self(address))
        } else {
            Err(Fault::new(
                "not in fe80::/10",
                "leave the key out for fe80::200:5eff:fe00:5213, the address of RFC 6543",
            ))
        }
    }

    fn placeholder() -> Self {
        Self(Ipv6Addr::UNSPECIFIED)
    }
}

fn parse_prefix(text: &str) -> Result<Ipv6Net, Fault> {
    text.parse().map_err(|_| {
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            let help = format!("such as \"{address}/64\"");
            Fault::new("no prefix length", help)
        } else {
            Fault::new(
                "not an IPv6 prefix",
                "an address, a slash, a length up to 128",
            )
        }
    })
}

/// A port's own address, with the length of the prefix that is on its link.
#[derive(Clone, Copy)]
pub(crate) struct OwnAddress(pub(crate) Ipv6Net);

impl Value for OwnAddress {
    const EXPECTED: &'static str = "an IPv6 address with prefix length";
    const EXAMPLE: &'static str = "\"2001:db8:f::1/64\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Fault> {
        let net = parse_prefix(text(value)?)?;
        if let Some(kind) = not_unicast(net.addr()) {
            return Err(Fault::new(kind, "give the port an address of its own"));
        }
        // The first address of a prefix belongs to all its routers (RFC 4291 §2.6.1).
        if net.prefix_len() < 127 && net.trunc() == net {
            let first = Ipv6Addr::from(u128::from(net.addr()) + 1);
            let help = format!(
                "give an address in it, such as {first}/{}",
                net.prefix_len()
            );
            return Err(Fault::new("the prefix, not an address in it", help));
        }
        Ok(Self(net))
    }

    fn placeholder() -> Self {
        Self(Ipv6Net::default())
    }
}

/// Destinations of a route.
#[derive(Clone, Copy)]
pub(crate) struct Destinations(pub(crate) Ipv6Net);

impl Value for Destinations {
    const EXPECTED: &'static str = "an IPv6 prefix";
    const EXAMPLE: &'static str = "\"::/0\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Fault> {
        let net = parse_prefix(text(value)?)?;
        if net.trunc() != net {
            let help = format!("did you mean {}?", net.trunc());
            return Err(Fault::new("bits beyond the prefix length are set", help));
        }
        if net.prefix_len() > 0 && (net.addr().is_multicast() || net.addr().is_unicast_link_local())
        {
            return Err(Fault::new(
                "never forwarded",
                "multicast and link-local packets stay on their link; remove the route",
            ));
        }
        Ok(Self(net))
    }

    fn placeholder() -> Self {
        Self(Ipv6Net::default())
    }
}

impl Value for Hnp {
    const EXPECTED: &'static str = "an IPv6 prefix of routable addresses";
    const EXAMPLE: &'static str = "\"2001:db8:100::/48\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Fault> {
        let net = parse_prefix(text(value)?)?;
        let hnp = Self::try_from(net).map_err(|error| match error {
            HnpError::HostBits(meant) => Fault::new(
                "bits beyond the prefix length are set",
                format!("did you mean {meant}?"),
            ),
            HnpError::Length(_) => Fault::new(error.to_string(), "shorten it"),
        })?;
        // What no mobile may have: all of ::/8 (loopback, IPv4-mapped), fe80::/10, ff00::/8.
        let reserved = [(0, 8), (0xfe80, 10), (0xff00, 8)]
            .into_iter()
            .filter_map(|(first, len)| {
                Self::new(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0), len).ok()
            })
            .find(|reserved| hnp.overlaps(*reserved));
        match reserved {
            Some(reserved) => Err(Fault::new(
                format!("reaches into {reserved}, which is reserved"),
                "give prefixes of global or unique local addresses, such as 2001:db8:100::/48",
            )),
            None => Ok(hnp),
        }
    }

    fn placeholder() -> Self {
        Self::try_from(Ipv6Net::default()).expect("::/0 has no host bits")
    }
}

impl Value for MacAddr {
    const EXPECTED: &'static str = "the MAC address of one station";
    const EXAMPLE: &'static str = "\"02:00:00:00:00:01\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Fault> {
        let mac: Self = text(value)?
            .parse()
            .map_err(|expected| Fault::new("not a MAC address", expected))?;
        if mac.is_multicast() {
            let help = "the first octet of a station's address is even, such as 02";
            return Err(Fault::new("a group address", help));
        }
        if mac == Self::default() {
            return Err(Fault::new("all zero", "give the address of one station"));
        }
        Ok(mac)
    }

    fn placeholder() -> Self {
        Self::default()
    }
}

impl Value for MnId {
    const EXPECTED: &'static str = "a mobile node identifier";
    const EXAMPLE: &'static str = "\"mn1@example.net\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Fault> {
        Self::new(text(value)?)
            .map_err(|error| Fault::new(error.to_string(), "write it such as mn1@example.net"))
    }

    fn placeholder() -> Self {
        Self::new("?").expect("one character is enough")
    }
}

impl Value for AccessTechnology {
    const EXPECTED: &'static str = "a known access technology";
    const EXAMPLE: &'static str = "\"wlan\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Fault> {
        let name = text(value)?;
        let names = Self::NAMES.iter().map(|(name, _)| *name);
        Self::from_name(name).ok_or_else(|| unknown_word(name, names))
    }

    fn placeholder() -> Self {
        Self(1)
    }
}

impl Value for Device {
    const EXPECTED: &'static str = "a device of a known kind";
    const EXAMPLE: &'static str = "\"tap:core0\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Fault> {
        text(value)?
            .parse()
            .map_err(|error: crate::DeviceError| Fault::new(error.message, error.help))
    }

    fn placeholder() -> Self {
        Self::Null
    }
}

impl Value for InterfaceName {
    const EXPECTED: &'static str = "the name of a network interface";
    const EXAMPLE: &'static str = "\"eth0\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Fault> {
        text(value)?
            .parse()
            .map_err(|error: crate::DeviceError| Fault::new(error.message, error.help))
    }

    fn placeholder() -> Self {
        Self::none()
    }
}

impl Value for InterfaceId {
    const EXPECTED: &'static str = "the lower 64 bits of an address";
    const EXAMPLE: &'static str = "\"::100\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Fault> {
        let bits = u128::from(parse_address(text(value)?)?);
        match u64::try_from(bits) {
            Ok(0) => Err(Fault::new(
                "all zero is the address of the routers (RFC 4291 §2.6.1)",
                "write it such as ::100",
            )),
            Ok(id) => Ok(Self(id)),
            Err(_) => Err(Fault::new(
                "bits of the prefix are set",
                "keep the lower half only, such as ::100; the prefix comes from the network",
            )),
        }
    }

    fn placeholder() -> Self {
        Self(0)
    }
}
