//! What a living process logs: more or less, about whom, and with or without addresses.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use std::time::Duration;

use common::appliances::{MN1, MN2, lma};
use common::process::Appliance;
use common::wait_for;

/// Waits for a line that has all of these words.
fn line(of: &Appliance, words: &[&str]) -> String {
    wait_for(&format!("{words:?}"), Duration::from_secs(5), || {
        let log = of.log();
        let mut lines = log.lines();
        let line = lines.find(|line| words.iter().all(|word| line.contains(word)));
        line.map(str::to_owned)
    })
}

#[test]
fn as_much_as_is_asked_for_and_no_address_unless_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let lma = lma(&directory);
    let file = directory.path().join("lma.toml");
    let edit = |from: &str, to: &str| {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from:?} is not in\n{text}");
        std::fs::write(&file, text.replace(from, to)).unwrap();
        lma.command(["reload"]).ok()
    };
    let shown = lma.command(["log"]).ok();
    let expected = "level: info\nmobiles at debug: none\naddresses: at debug and trace\n";
    assert_eq!(shown, expected);
    line(
        &lma,
        &[MN2, "attached at mag2 with <prefix>", "mn=mn2@example.net"],
    );
    let pools = edit(
        "pools = [\"2001:db8:100::/48\"",
        "pools = [\"2001:db8:100::/48\", \"2001:db8:200::/48\"",
    );
    assert!(pools.contains("2001:db8:200::/48"), "{pools}");
    line(&lma, &["~ lma.pools", "[\"<prefix>\", \"<prefix>\"]"]);

    // All about one mobile, and of others as before.
    let on = lma.command(["log", "mobile", MN1, "on"]).ok();
    assert!(on.contains("mobiles at debug: mn1@example.net\n"), "{on}");
    for mn in [MN2, MN1] {
        lma.command(["revoke", "--mn", mn]).ok();
    }
    let sending = line(&lma, &["DEBUG", "sending", "BRI", "mn=mn1@example.net"]);
    assert!(sending.contains("to=2001:db8:f::1"), "{sending}");
    let log = lma.log();
    let others = log.lines().filter(|line| !line.contains("DEBUG"));
    let addresses: Vec<_> = others.filter(|line| line.contains("2001:db8")).collect();
    assert!(addresses.is_empty(), "{addresses:?}");
    let mut close = log.lines().filter(|line| line.contains("DEBUG"));
    assert!(close.all(|line| line.contains(MN1)), "{log}");
    lma.command(["log", "mobile", MN1, "off"]).ok();

    let (_, state) = lma.http("GET /v1/log");
    let expected = "{\"addresses\":false,\"level\":\"info\",\"mobiles\":[],\"not_written\":0}";
    assert_eq!(state, expected);
    assert!(
        lma.command(["log", "level", "debug"])
            .ok()
            .starts_with("level: debug\n")
    );
    lma.command(["reregister", "--mn", MN2, "--mag", "mag1"])
        .ok();
    line(&lma, &["DEBUG", "sending", "UPN", "mn=mn2@example.net"]);
    // A reload that is about something else leaves what was said by command.
    edit("fmi_retries = 1", "fmi_retries = 2");
    assert!(lma.command(["log"]).ok().starts_with("level: debug\n"));

    edit("[process]", "[log]\nlevel = \"warn\"\n[process]");
    assert!(lma.command(["log"]).ok().starts_with("level: warn\n"));
    edit("level = \"warn\"", "level = \"info\"\naddresses = true");
    edit("\"2001:db8:200::/48\"", "\"2001:db8:300::/48\"");
    line(&lma, &[" INFO ", "~ lma.pools", "\"2001:db8:300::/48\"]"]);
    let shown = lma.command(["log", "--json"]).ok();
    assert!(shown.contains("\"addresses\": true"), "{shown}");
}

#[test]
fn what_cannot_be_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let lma = lma(&directory);
    let said = lma.command(["log", "mobile", "", "on"]).fails();
    assert!(said.contains("mn: "), "{said}");
    let wrong = lma.command(["log", "level", "loud"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}
