//! The examples: they load, `reference.toml` has every key, and no mutation of them panics.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const REFERENCE: &str = include_str!("../examples/reference.toml");
const LMA: &str = include_str!("../examples/lma.toml");
const MAG: &str = include_str!("../examples/mag.toml");
const MN: &str = include_str!("../examples/mn.toml");

const LMA_SECTION: &str = "[lma]\naddress = \"2001:db8:f::1\"\npools = [\"2001:db8:100::/48\"]\n\
    [[lma.peer]]\nname = \"mag1\"\naddress = \"2001:db8:f::11\"\nprotection = \"none\"\n";

fn machine() -> Machine {
    Machine::with_cores(0..4)
}

#[track_caller]
fn load_quietly(name: &str, text: &str) -> Config {
    let config = parse_with(name, text, &machine()).unwrap_or_else(|errors| panic!("{errors}"));
    let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    assert!(warnings.is_empty(), "{}", warnings.join("\n"));
    config
}

/// Turns every key and table that is commented out into one that is not.
fn uncommented(text: &str) -> String {
    let line = |line: &str| {
        let key = line
            .strip_prefix('#')
            .filter(|rest| rest.starts_with(|c| c != ' '));
        format!("{}\n", key.unwrap_or(line))
    };
    text.lines().map(line).collect()
}

/// The reference as two files: the appliance, and the mobile node.
fn reference_uncommented() -> [String; 2] {
    let text = uncommented(REFERENCE);
    let (appliance, mn) = text.split_once("\n[mn]\n").unwrap();
    [appliance.to_owned(), format!("[mn]\n{mn}")]
}

#[test]
fn strings_take_environment_variables() {
    let file = |device: &str| {
        let port = format!("[[port]]\nname = \"core\"\ndevice = \"{device}\"\n");
        format!("{port}addresses = [\"${{FLOWMOB_TEST_NONE:-2001:db8:f::1}}/64\"]\n{LMA_SECTION}")
    };
    // Cargo sets this one.
    let text = file("tap:${CARGO_PKG_NAME}");
    let config = parse_with("lma.toml", &text, &machine()).unwrap();
    assert_eq!(config.ports[0].device.to_string(), "tap:config");
    assert_eq!(config.ports[0].addresses[0].to_string(), "2001:db8:f::1/64");
    let errors = parse_with("lma.toml", &file("tap:${FLOWMOB_TEST_NONE}"), &machine()).unwrap_err();
    let said = errors.to_string();
    for part in [
        "--> lma.toml:3:10",
        "there is no environment variable FLOWMOB_TEST_NONE",
        "write ${FLOWMOB_TEST_NONE:-default}",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn all_examples_load_without_a_warning() {
    load_quietly("reference.toml", REFERENCE);
    let lma = load_quietly("lma.toml", LMA);
    assert_eq!(lma.name, "lma1");
    assert_eq!(lma.management.socket, Path::new("/run/flowmob/lma1.sock"));
    let mag = load_quietly("mag.toml", MAG);
    let mobile = &mag.mag.unwrap().mobiles[0];
    assert_eq!((mobile.port, mobile.lma), (flow::PortId(1), 0));
    assert_eq!(mobile.access_technology, flow::AccessTechnology(4));
    let mn = load_quietly("mn.toml", MN).mn.unwrap();
    let hnp = flow::Hnp::new("2001:db8:1::".parse().unwrap(), 64).unwrap();
    let address: std::net::Ipv6Addr = "2001:db8:1::100".parse().unwrap();
    assert_eq!(mn.interface_id.address(hnp), address);
}

#[test]
fn the_keys_that_the_reference_leaves_out_are_right_too() {
    let [appliance, mn] = reference_uncommented();
    load_quietly("reference.toml", &mn);
    let config = parse_with("reference.toml", &appliance, &machine());
    let config = config.unwrap_or_else(|errors| panic!("{errors}"));
    // It shows defaults, so its store is in files, which no connection leads to.
    let warnings: Vec<&str> = config.warnings.iter().map(|w| w.key.as_str()).collect();
    assert_eq!(warnings, ["process.pair.tls"]);
}

#[test]
fn the_reference_shows_the_defaults() {
    let without = parse_with("r", REFERENCE, &machine()).unwrap();
    let [appliance, _] = reference_uncommented();
    let with = parse_with("r", &appliance, &machine()).unwrap();
    let (lma, mag) = (without.lma.unwrap(), without.mag.unwrap());
    let (mut shown_lma, mut shown_mag) = (with.lma.unwrap(), with.mag.unwrap());
    // Keys without a fixed default: the reference shows examples.
    assert_eq!(shown_lma.max_sessions_per_mag.take(), Some(75_000));
    assert_eq!(shown_lma.tunnel.path_mtu.take(), Some(1500));
    assert_eq!(shown_mag.tunnel.path_mtu.take(), Some(1500));
    assert_eq!(shown_lma.tunnel.encapsulation_limit.take(), Some(4));
    assert_eq!(shown_mag.tunnel.encapsulation_limit.take(), Some(4));
    assert_eq!(shown_lma.mobiles.drain(..).count(), 1);
    assert_eq!(shown_lma, lma);
    assert_eq!(shown_mag, mag);
    let mut shown = with.process;
    assert_eq!(shown.cores.drain(..).collect::<Vec<_>>(), [1]);
    assert_eq!(shown.control_core.take(), Some(0));
    assert_eq!(shown.user.take(), Some(User::Name("flowmob".to_owned())));
    assert_eq!(
        shown.state_directory.take().as_deref(),
        Some(Path::new("/var/lib/flowmob/reference"))
    );
    let address = shown.pair.address.take();
    assert_eq!(address, Some("192.0.2.3:7864".parse().unwrap()));
    assert_eq!(shown.pair.addresses.drain(..).count(), 1);
    assert!(
        shown
            .pair
            .tls
            .take()
            .is_some_and(|tls| tls.identity.is_some())
    );
    assert_eq!(shown, without.process);
    let mut shown = with.management;
    assert_eq!(shown.tcp.take(), Some("127.0.0.1:8090".parse().unwrap()));
    assert_eq!(
        shown.token_file.take().as_deref(),
        Some(Path::new("keys/token"))
    );
    assert_eq!(shown, without.management);
    assert_eq!(with.log, without.log);
    assert_eq!(with.routes, without.routes);
    assert_eq!(with.ports[0].mtu, without.ports[0].mtu);
}

#[test]
fn a_user_is_a_name_or_a_number() {
    let read = |user: &str| {
        let text = format!(
            "[process]\nuser = {user}\n[[port]]\nname = \"a\"\ndevice = \"ring\"\n\
             addresses = [\"2001:db8:f::1/64\"]\n{LMA_SECTION}"
        );
        parse_with("lma.toml", &text, &machine())
            .map(|config| config.process.user)
            .map_err(|errors| errors.to_string())
    };
    for (user, is) in [
        ("\"flowmob\"", User::Name("flowmob".to_owned())),
        ("\"_a-b.9\"", User::Name("_a-b.9".to_owned())),
        ("998", User::Id(998)),
        ("\"998\"", User::Id(998)),
        ("0", User::Id(0)),
    ] {
        assert_eq!(read(user), Ok(Some(is)), "{user}");
    }
    for wrong in [
        "\"\"",
        "\"-x\"",
        "\"a b\"",
        "-1",
        "4294967295",
        "\"99999999999\"",
        "true",
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn of_several_mags_none_may_have_all_the_room() {
    let mut lma = load_quietly("lma.toml", LMA).lma.unwrap();
    // A /48 has 65536 prefixes, and 100000 mobiles may come.
    assert_eq!(lma.sessions_per_mag(), Some(49_152));
    lma.max_mobiles = 10;
    assert_eq!(lma.sessions_per_mag(), Some(8));
    lma.max_sessions_per_mag = Some(5);
    assert_eq!(lma.sessions_per_mag(), Some(5));
    lma.max_sessions_per_mag = None;
    lma.peers.pop();
    assert_eq!(lma.sessions_per_mag(), None);
}

#[test]
fn the_reference_has_every_key_that_there_is() {
    let (mut known, mut present) = (BTreeSet::new(), BTreeSet::new());
    for text in reference_uncommented() {
        let (tree, errors) = toml::de::DeTable::parse_recoverable(&text);
        assert!(errors.is_empty());
        let mut notes = Notes::new(Arc::new(Source::new("r", &text)), tree.get_ref());
        let mut root = Table::root(&mut notes, tree.get_ref());
        sections::config(&mut root);
        root.finish();
        known.extend(notes.known().iter().cloned());
        let plain = |path: &str| path.split(['[', ']']).step_by(2).collect::<String>();
        present.extend(notes.present().map(plain));
    }
    assert_eq!(known, present);
    assert!(known.len() > 70, "{}", known.len());
}

#[test]
fn key_files_are_looked_for_beside_the_configuration() {
    let directory = std::env::temp_dir().join(format!("flowmob-keys-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let path = directory.join("lma.toml");
    let text = LMA.replace("keys/mag2.toml", "/etc/flowmob/mag2.toml");
    std::fs::write(&path, text).unwrap();
    let lma = load(&path).unwrap().lma.unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    let keys: Vec<_> = lma.peers.into_iter().map(|peer| peer.protection).collect();
    let expected = [
        directory.join("keys/mag1.toml"),
        "/etc/flowmob/mag2.toml".into(),
    ];
    assert_eq!(keys, expected.map(|keys| Protection::Esp { keys }));
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let errors = load("/nonexistent/flowmob.toml").unwrap_err();
    let report = errors.iter().next().unwrap();
    assert_eq!((report.line, report.column), (0, 0));
    insta::assert_snapshot!(errors, @"
    error: cannot read `/nonexistent/flowmob.toml`: No such file or directory (os error 2)
     |
     = help: check the path; `examples/` has configurations to start from

    1 error in /nonexistent/flowmob.toml
    ");
}

#[test]
fn a_file_that_is_not_text_says_where() {
    let path = std::env::temp_dir().join(format!("flowmob-config-{}.toml", std::process::id()));
    std::fs::write(&path, b"name = \"a\"\nlog = \"\xff\"\n").unwrap();
    let errors = load(&path).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    let report = errors.iter().next().unwrap();
    assert_eq!((report.line, report.column), (2, 8));
    assert!(errors.to_string().contains(":2:8"), "{errors}");
}

#[test]
fn a_valid_configuration_serialises() {
    for text in [REFERENCE, LMA, MAG, MN] {
        let config = parse_with("x", text, &machine()).unwrap();
        let shown = toml::Table::try_from(&config).unwrap();
        assert_eq!(shown["name"].as_str(), Some(config.name.as_str()));
    }
}

/// One change to a text.
#[derive(Clone, Debug)]
enum Change {
    Insert(usize, String),
    Remove(usize, usize),
    RepeatLine(usize, usize),
    DropLine(usize),
    Value(usize, String),
}

fn change() -> impl Strategy<Value = Change> {
    let at = 0..10_000_usize;
    let value = prop::sample::select(vec![
        "1",
        "-1",
        "true",
        "\"\"",
        "\"x\"",
        "[]",
        "[1]",
        "{}",
        "{ a = 1 }",
        "1.5",
        "1979-05-27",
        "99999999999999999999",
        "0x1F",
        "\"::1/64\"",
        "\"fe80::1\"",
        "\"2001:db8:f::1\"",
        "\"2001:db8::/32\"",
        "[\"2001:db8:100::/64\", \"::/0\"]",
        "\"tap:core0\"",
        "\"core\"",
        "[\"core\", \"wlan\", \"wlan\"]",
        "\"ä\\u0000\\n\"",
        "'''\nx\n'''",
        "[[1],[2]]",
    ]);
    let noise = prop_oneof![
        "[\\PC\\n\\r\\t\"'\\[\\]#=.]{1,6}",
        "\\[\\[?(lma|mag|mn|port|route|process)"
    ];
    prop_oneof![
        (at.clone(), noise).prop_map(|(at, text)| Change::Insert(at, text)),
        (at.clone(), 1..40_usize).prop_map(|(at, len)| Change::Remove(at, len)),
        (at.clone(), at.clone()).prop_map(|(from, to)| Change::RepeatLine(from, to)),
        at.clone().prop_map(Change::DropLine),
        (at, value).prop_map(|(at, text)| Change::Value(at, text.to_owned())),
    ]
}

fn apply(text: &str, change: Change) -> String {
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let count = lines.len();
    let mut chars: Vec<char> = text.chars().collect();
    let len = chars.len();
    match change {
        Change::Insert(at, new) => {
            chars.splice(at % (len + 1)..at % (len + 1), new.chars());
            return chars.into_iter().collect();
        }
        Change::Remove(at, n) => {
            let start = at % (len + 1);
            chars.drain(start..(start + n).min(len));
            return chars.into_iter().collect();
        }
        Change::RepeatLine(from, to) => {
            let line = lines[from % count].clone();
            lines.insert(to % count, line);
        }
        Change::DropLine(at) => {
            lines.remove(at % count);
        }
        Change::Value(at, new) => {
            let line = &mut lines[at % count];
            if let Some((key, _)) = line.split_once('=') {
                *line = format!("{key}= {new}");
            }
        }
    }
    lines.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn no_file_makes_it_panic(
        start in prop::sample::select(vec![LMA, MAG, MN, REFERENCE, "full", "mn"]),
        changes in prop::collection::vec(change(), 1..6),
    ) {
        let [appliance, mn] = reference_uncommented();
        let start = match start {
            "full" => appliance,
            "mn" => mn,
            text => text.to_owned(),
        };
        let text = changes.into_iter().fold(start, |text, change| apply(&text, change));
        let reports = match parse_with("x.toml", &text, &machine()) {
            Ok(config) => config.warnings,
            Err(errors) => {
                prop_assert!(errors.iter().count() > 0);
                errors.iter().chain(errors.warnings()).cloned().collect()
            }
        };
        for report in reports {
            let shown = report.to_string();
            let place = format!("x.toml:{}:{}\n", report.line, report.column);
            prop_assert!(shown.contains(&place), "{place} is not in\n{shown}");
            prop_assert!(!report.message.is_empty() && !report.help.is_empty(), "{shown}");
            prop_assert!(!report.to_ansi().is_empty());
        }
    }
}
