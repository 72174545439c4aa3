//! Another configuration for living processes: what changes, what does not, and what is refused.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use std::path::Path;
use std::time::Duration;

use common::appliances::{MAGS, MN1, MN2, lma, mag};
use common::process::Appliance;
use common::wait_for;
use nix::sys::signal::Signal;
use serde_json::Value;

/// Replaces text in a process's file.
fn edit(directory: &Path, name: &str, from: &str, to: &str) {
    let file = directory.join(format!("{name}.toml"));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from:?} is not in\n{text}");
    std::fs::write(file, text.replace(from, to)).unwrap();
}

/// What `config show` says.
fn running(of: &Appliance) -> Value {
    serde_json::from_str(&of.command(["config", "show", "--json"]).ok()).unwrap()
}

#[test]
fn an_lma_takes_what_it_can_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let lma = lma(&directory);
    let edit = |from: &str, to: &str| edit(directory.path(), "lma", from, to);
    let flow = lma.command(["flow", "add", "--mn", MN1, "--bid", "1", "--dport", "5001"]);
    assert!(flow.ok().contains("flow 1"));
    let bindings = || {
        let mut rows = lma.show("bindings");
        for row in &mut rows {
            row.as_object_mut().unwrap().remove("lifetime_left");
        }
        let text = rows.iter().map(ToString::to_string);
        // Seconds that are left pass.
        text.map(|row| row.split("\"lifetime").next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let before = bindings();
    assert_eq!(lma.command(["reload"]).ok(), "nothing is different\n");

    edit(
        "fmi_retries = 1\n",
        "fmi_retries = 2\nany_mobile = false\n[lma.tunnel]\nhop_limit = 9\n",
    );
    edit("via = \"2001:db8:c::5\"", "via = \"2001:db8:c::6\"");
    edit(
        "pools = [\"2001:db8:100::/48\"]",
        "pools = [\"2001:db8:100::/48\", \"2001:db8:200::/48\"]",
    );
    edit(
        "[[lma.mobile]]\n",
        "[[lma.peer]]\nname = \"mag3\"\naddress = \"2001:db8:f::13\"\nprotection = \"none\"\n\
         [[lma.mobile]]\nid = \"mn3@example.net\"\n[[lma.mobile]]\n",
    );
    edit("[process]\n", "[log]\nlevel = \"debug\"\n[process]\n");
    let expected = [
        "~ lma.any_mobile: true -> false",
        "~ lma.fmi_retries: 1 -> 2",
        "+ lma.mobile[mn3@example.net]: { id = \"mn3@example.net\", service = true }",
        "+ lma.peer[mag3]: { address = \"2001:db8:f::13\", name = \"mag3\", protection = \"none\", \
         signalling = \"draft\" }",
        "~ lma.pools: [\"2001:db8:100::/48\"] -> [\"2001:db8:100::/48\", \"2001:db8:200::/48\"]",
        "~ lma.tunnel.hop_limit: 64 -> 9",
        "~ log.level: \"info\" -> \"debug\"",
        "~ route[::/0].via: \"2001:db8:c::5\" -> \"2001:db8:c::6\"",
    ]
    .join("\n");
    let diff = lma.command(["config", "diff"]).ok();
    let (warning, differences) = diff.split_at(diff.find("~ lma.any").unwrap());
    assert_eq!(warning.matches("not protected").count(), 1, "{warning}");
    let differ = "8 changes: flowmob reload would put it into force";
    assert_eq!(differences, format!("{expected}\n{differ}\n"));
    let unchanged = running(&lma);
    assert_eq!(unchanged["lma"]["fmi_retries"], 1);
    let reloaded = lma.command(["reload"]).ok();
    let end = format!("{expected}\n8 changes: in force\n");
    assert!(reloaded.ends_with(&end), "{reloaded}");

    let now = running(&lma);
    assert_eq!(now["lma"]["tunnel"]["hop_limit"], 9);
    assert_eq!(now["lma"]["peer"].as_array().unwrap().len(), 3);
    assert_eq!(bindings(), before);
    assert_eq!(lma.show("flows").len(), 1);
    assert_eq!(lma.show("peers").len(), 3);
    let routes = lma.command(["show", "routes"]).ok();
    assert!(routes.contains("via 2001:db8:c::6 on cn"), "{routes}");
    assert!(!routes.contains("2001:db8:c::5"), "{routes}");
    assert!(lma.log().contains("configuration applied"), "{}", lma.log());
    // What was said is said by the code that would say it at the start.
    let moved = lma.command(["flow", "del", "--mn", MN1, "--fid", "1"]);
    assert!(moved.ok().contains("deleted"));
    // What is written down is a configuration.
    let written = lma.command(["config", "show"]).ok();
    let file = directory.path().join("written.toml");
    std::fs::write(&file, written).unwrap();
    let checked = common::process::flowmob(["check", "--config", file.to_str().unwrap()]);
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn what_cannot_be_taken_is_named_and_nothing_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let lma = lma(&directory);
    let edit = |from: &str, to: &str| edit(directory.path(), "lma", from, to);
    let before = running(&lma);
    let refused = |words: &[&str]| {
        let diff = lma.command(["config", "diff"]);
        assert_eq!(diff.status.code(), Some(1), "{diff:?}");
        let said = lma.command(["reload"]).fails();
        for word in words {
            assert!(said.contains(word), "{word:?} is not in {said}");
            assert!(diff.out.contains(word), "{word:?} is not in {}", diff.out);
        }
        assert_eq!(running(&lma), before);
    };
    // What could be taken waits for the rest.
    edit("fmi_retries = 1\n", "fmi_retries = 2\n");
    edit("memory_mib = 64", "memory_mib = 128");
    edit("2001:db8:c::1/64", "2001:db8:c::2/64");
    refused(&[
        "process.memory_mib: needs a restart",
        "port[cn].addresses: needs a restart",
    ]);
    edit("memory_mib = 128", "memory_mib = 64");
    edit("2001:db8:c::2/64", "2001:db8:c::1/64");

    let pool = "pools = [\"2001:db8:100::/48\"]";
    edit(pool, "pools = [\"2001:db8:200::/48\"]");
    edit(MAGS[1], "2001:db8:f::13");
    refused(&[
        &format!("2 mobiles are at the MAG {}", MAGS[1]),
        "prefixes of the pool 2001:db8:100::/48 are in use",
    ]);
    edit(
        "pools = [\"2001:db8:200::/48\"]",
        &format!("{pool}\nmax_mobiles = 1000000"),
    );
    edit("2001:db8:f::13", MAGS[1]);
    refused(&["the tables were made for"]);
    edit("\nmax_mobiles = 1000000", "");

    edit(
        "name = \"mag1\"\naddress = \"2001:db8:f::11\"\nprotection = \"none\"",
        "name = \"mag1\"\naddress = \"2001:db8:f::11\"\nkeys = \"missing.keys\"",
    );
    refused(&["missing.keys"]);
    edit("keys = \"missing.keys\"", "protection = \"none\"");

    // A file that is wrong is shown as `check` shows it.
    edit("fmi_retries = 2\n", "fmi_retries = 99\n");
    let said = lma.command(["reload"]).fails();
    assert!(
        said.contains("`fmi_retries` is out of range") && said.contains("lma.toml:"),
        "{said}"
    );
    assert_eq!(running(&lma), before);

    edit("fmi_retries = 99\n", "fmi_retries = 2\n");
    assert!(lma.command(["reload"]).ok().contains("1 change: in force"));
}

#[test]
fn a_mag_learns_of_mobiles_on_a_signal() {
    let directory = tempfile::tempdir().unwrap();
    let mag = mag(&directory);
    let third = "mn3@example.net";
    assert!(mag.command(["attach", third]).fails().contains(third));
    edit(
        directory.path(),
        "mag",
        "[[mag.mobile]]\nid = \"mn1",
        "[[mag.mobile]]\nid = \"mn3@example.net\"\nlink_layer = \"02:00:00:00:01:04\"\n\
         access_technology = \"wlan\"\nport = \"wlan0\"\nattach = \"command\"\n\
         [[mag.mobile]]\nid = \"mn1",
    );
    mag.signal(Signal::SIGHUP);
    wait_for("the signal's effect", Duration::from_secs(5), || {
        mag.log().contains("configuration applied").then_some(())
    });
    assert!(mag.command(["attach", third]).ok().contains(third));
    assert!(
        mag.command(["attach", MN2, "--port", "wlan1"])
            .ok()
            .contains(MN2)
    );
    // A wrong file is refused, and the process goes on.
    edit(directory.path(), "mag", "[mag]\n", "[mag]\nprobes = true\n");
    mag.signal(Signal::SIGHUP);
    wait_for("a complaint", Duration::from_secs(5), || {
        mag.log().contains("unknown key `probes`").then_some(())
    });
    assert_eq!(mag.show("bindings").len(), 2);
}
