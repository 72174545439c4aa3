//! Addresses go, in whatever notation and company; all else stays.

use proptest::prelude::*;

use super::*;

fn told(text: &str) -> String {
    String::from_utf8(redacted(text.as_bytes())).unwrap()
}

#[test]
fn addresses_go() {
    for (text, expected) in [
        ("2001:db8::1", "<address>"),
        ("from=2001:db8:f::11 name", "from=<address> name"),
        ("[2001:DB8::1]:8090", "[<address>]:8090"),
        ("2001:db8:0:0:0:0:0:1.", "<address>."),
        ("mag1 2001:db8::1: refused", "mag1 <address>: refused"),
        ("fe80::1%eth0", "<address>%eth0"),
        ("via ::, or ::1", "via <address>, or <address>"),
        ("route[::/0].via", "route[<prefix>].via"),
        (
            "with 2001:db8:100::/64, 2001:db8:200::/64",
            "with <prefix>, <prefix>",
        ),
        ("2001:db8::/x", "<address>/x"),
        ("2001:db8::1/129", "<address>/129"),
        ("2001:db8::1-2001:db8::9", "<address>-<address>"),
        (
            "::ffff:192.0.2.1 64:ff9b::192.0.2.0/120",
            "<address> <prefix>",
        ),
        ("192.0.2.1:80, 192.0.2.0/24.", "<address>:80, <prefix>."),
        ("peer:192.0.2.1", "peer:<address>"),
        ("source:2001:db8::1", "source:<address>"),
        ("face:2001:db8:0:0:0:0:0:1", "<address>"),
        ("local:::1", "local:<address>"),
        ("path::2001:db8::1", "path::<address>"),
        ("02:00:00:00:01:01", "<link-layer>"),
        ("link 02-00-00-00-01-0A,", "link <link-layer>,"),
        ("0200.0000.0101 2:0:0:0:1:1", "<link-layer> <link-layer>"),
        ("port:02:00:00:00:01:01", "port:<link-layer>"),
        ("id 02:00:00:ff:fe:00:01:01", "id <address>"),
        ("\\n2001:db8::1\\t192.0.2.1", "\\n<address>\\t<address>"),
        ("\\\\n2001:db8::1", "\\\\n<address>"),
        ("\\u00e92001:db8::1", "\\u00e9<address>"),
        ("\\u{1b}[0m2001:db8::1", "\\u{1b}[0m<address>"),
        ("\\x1b[0m2001:db8::1", "\\x1b[0m<address>"),
        (
            "\x1b[3mfrom\x1b[0m\x1b[2m=\x1b[0m2001:db8::1",
            "\x1b[3mfrom\x1b[0m\x1b[2m=\x1b[0m<address>",
        ),
        ("über2001:db8::1", "über2001:<address>"),
        ("é2001:db8::1", "é<address>"),
    ] {
        assert_eq!(told(text), expected, "{text}");
    }
}

#[test]
fn what_only_looks_like_one_stays() {
    for text in [
        "",
        "12:00:01",
        "2026-11-28T19:21:08.123456Z  INFO ready",
        "flowmob::appliance::control: received",
        "a::b::c::d, x::add::bad, <u8>::add, ::std::net, my_b::a, dead::module",
        "1.2.3, v1.2.3.4, 1.2.3.4.5, 23.11.0",
        "control/src/main.rs:10:5",
        "abc.c:10:5",
        "port 8090, 0x0000100a, deadbeef, 020000000101",
        "550e8400-e29b-41d4-a716-446655440000",
        "0000:3b:00.0",
        "mn1@example.net access 1",
        "...: a:b, c.d",
        "2026-11-28",
        "\u{1b}[2m2026-11-28T19:21:08Z\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m",
    ] {
        assert_eq!(told(text), text);
    }
}

/// An address as people and programs write it, and what it becomes.
fn address() -> impl Strategy<Value = (String, &'static str)> {
    let v6 = prop_oneof![
        any::<u128>(),
        any::<u64>().prop_map(u128::from),
        any::<u64>().prop_map(|high| u128::from(high) << 64),
        Just(1),
        any::<u32>().prop_map(|v4| 0xffff_0000_0000 | u128::from(v4)),
    ];
    let v6 = (v6, 0..4).prop_map(|(bits, form)| {
        let address = Ipv6Addr::from(bits);
        let full = address.segments().map(|group| format!("{group:04x}"));
        let text = match form {
            0 => address.to_string(),
            1 => address.to_string().to_uppercase(),
            2 => full.join(":"),
            _ => address
                .segments()
                .map(|group| format!("{group:x}"))
                .join(":"),
        };
        (text, "<address>")
    });
    let v4 = any::<u32>().prop_map(|bits| (Ipv4Addr::from(bits).to_string(), "<address>"));
    let mac = (any::<[u8; 6]>(), 0..3).prop_map(|(octets, form)| {
        let [a, b, c, d, e, f] = octets.map(|octet| format!("{octet:02x}"));
        let text = match form {
            0 => [a, b, c, d, e, f].join(":"),
            1 => [a, b, c, d, e, f].join("-").to_uppercase(),
            _ => format!("{a}{b}.{c}{d}.{e}{f}"),
        };
        (text, "<link-layer>")
    });
    prop_oneof![3 => v6, 1 => v4, 1 => mac]
}

fn harmless() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?Z?",
        "[0-9]{4}-[0-9]{2}-[0-9]{2}",
        "[a-f]{0,3}[g-z_][a-z_0-9]{0,5}(::[a-f_]{0,2}[g-z][a-z_0-9]{0,5}){0,3}",
        "v?[0-9]{1,2}\\.[0-9]{1,2}\\.[0-9]{1,3}",
        "[a-z]{1,8}\\.rs:[0-9]{1,4}:[0-9]{1,3}",
        "0x[0-9a-f]{1,8}",
        "[0-9a-f]{1,32}",
        "[0-9]{1,5}",
        "mn[0-9]@[a-z]{1,5}\\.net",
        "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}",
    ]
}

/// What may stand before and after an address.
const BEFORE: [&str; 12] = [
    "",
    " ",
    "=",
    "\"",
    "[",
    "(",
    "peer:",
    "\\n",
    "\u{1b}[0m",
    ",",
    "é",
    "from ",
];
const AFTER: [&str; 13] = [
    "",
    " ",
    ",",
    ".",
    ")",
    "]:8090",
    "\"",
    "%eth0",
    ": refused",
    ":",
    "\n",
    "\\n",
    "é",
];

proptest! {
    #[test]
    fn every_address_goes_and_nothing_else(
        (text, word) in address(),
        before in prop::sample::select(&BEFORE[..]),
        after in prop::sample::select(&AFTER[..]),
        (left, right) in (harmless(), harmless()),
        length in prop::option::of(0u8..=128),
    ) {
        let length = length.filter(|_| word == "<address>");
        let (text, word) = match length {
            Some(length) => (format!("{text}/{length}"), "<prefix>"),
            None => (text, word),
        };
        let line = format!("{left} {before}{text}{after} {right}");
        prop_assert_eq!(told(&line), format!("{left} {before}{word}{after} {right}"));
    }

    #[test]
    fn text_without_addresses_stays(parts in prop::collection::vec(
        (harmless(), prop::sample::select(&[" ", ", ", "=", " (", ") ", "\"", "; ", "/"][..])),
        0..12,
    )) {
        let text: String = parts.iter().flat_map(|(part, gap)| [part, *gap]).collect();
        prop_assert_eq!(told(&text), text);
    }

    #[test]
    fn json_stays_json(
        (key, text) in ("\\PC{0,8}", any::<String>()),
        (address, word) in address(),
        number in any::<i64>(),
        debug in any::<bool>(),
    ) {
        let mut text = format!("{text}\n{address} {text}");
        if debug {
            text = format!("{text:?}");
        }
        // Not one of the others.
        let key = format!("c{key}");
        let line = serde_json::json!({"a": number, key: text, "b": [1.5, 7]}).to_string();
        let told = told(&line);
        let read: Result<serde_json::Value, _> = serde_json::from_str(&told);
        prop_assert!(read.is_ok(), "{}", told);
        prop_assert!(told.contains(word), "{}", told);
        let alone = told.split(|c: char| c.is_whitespace() || c == '"' || c == '\\');
        for part in alone {
            let part = part.trim_start_matches(['n', 't', 'r']);
            prop_assert!(part.parse::<std::net::IpAddr>().is_err() , "{} in {}", part, told);
        }
    }

    #[test]
    fn any_octets_do(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let once = redacted(&octets);
        prop_assert_eq!(redacted(&once), once);
    }
}
