//! The flight recorder of living processes: what they were told and decided is decided the same elsewhere.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::appliances::{MN1, MN2, PROCESS, lma, mag};
use common::process::{Appliance, flowmob};

/// What a process has kept.
fn dump(of: &Appliance, directory: &Path, name: &str) -> PathBuf {
    let file = directory.join(name);
    let said = of
        .command(["recorder", "dump", file.to_str().unwrap()])
        .ok();
    assert!(said.starts_with(file.to_str().unwrap()) && said.contains(" turns of the "));
    file
}

/// What `replay` says, which has to be that all is the same.
fn same(file: &Path) -> String {
    let said = flowmob(["replay", file.to_str().unwrap()]).ok();
    assert!(said.contains(": decided the same\n"), "{said}");
    said
}

fn list(file: &Path, about: &str) -> String {
    flowmob(["replay", file.to_str().unwrap(), "--list", "--about", about]).ok()
}

#[test]
fn an_lma_decides_the_same_again() {
    let directory = tempfile::tempdir().unwrap();
    let lma = lma(&directory);
    let run = |text: &str| lma.command(text.split(' '));
    run("flow add --mn mn1@example.net --bid 1 --dport 5001").ok();
    run("flow move --mn mn1@example.net --fid 1 --to 2").ok();
    run("flow move --mn mn1@example.net --fid 9 --to 2").fails();
    // Nobody answers there: it is asked twice, and stays.
    run("flow add --mn mn2@example.net --bid 1 --proto tcp").ok();
    run("flow move --mn mn2@example.net --fid 1 --to 2").fails();
    let config = directory.path().join("lma.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("fmi_retries = 1", "fmi_retries = 2")).unwrap();
    run("reload").ok();
    run("revoke --mn mn1@example.net --bid 1").ok();
    run("flow del --mn mn1@example.net --fid 1").ok();
    let file = dump(&lma, directory.path(), "lma.recording");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let said = same(&file);
    assert!(said.starts_with("lma, recorded 20") && said.contains(": by command\nlma: "));
    assert!(said.contains(", 0 before them forgotten"), "{said}");
    let lines = list(&file, MN1);
    for part in [
        "lma in   Message {",
        "in   AddFlow(",
        "in   MoveFlow(",
        "out  Send {",
        "FlowMoved",
    ] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
    assert!(!lines.contains(MN2), "{lines}");
    assert!(list(&file, "Reconfigure").contains("in   Reconfigure(LmaConfig {"));
    assert!(list(&file, "UnknownFlow").contains("lma out  Err("));

    // Something else that was decided, or so it says.
    let mut octets = std::fs::read(&file).unwrap();
    let at = octets
        .windows(9)
        .rposition(|text| text == b"FlowMoved")
        .unwrap();
    octets
        .get_mut(at..at + 9)
        .unwrap()
        .copy_from_slice(b"FlowMowed");
    std::fs::write(&file, octets).unwrap();
    let said = flowmob(["replay", file.to_str().unwrap()]);
    assert_eq!(said.status.code(), Some(1));
    assert!(
        said.out.contains("\n  then: FlowMowed {") && said.out.contains("\n  now:  FlowMoved {")
    );
    std::fs::write(&file, "no recording").unwrap();
    let said = flowmob(["replay", file.to_str().unwrap()]).fails();
    assert!(said.contains("this is no recording of flowmob's"), "{said}");
}

#[test]
fn a_mag_decides_the_same_again() {
    let directory = tempfile::tempdir().unwrap();
    let mag = mag(&directory);
    // Its PBUs are not answered, and repeated.
    mag.command(["attach", MN1]).ok();
    mag.command(["attach", MN2, "--port", "wlan1"]).ok();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    mag.command(["detach", MN1]).ok();
    let file = dump(&mag, directory.path(), "mag.recording");
    assert!(same(&file).contains("\nmag: "));
    assert!(list(&file, MN1).contains("mag in   Attach("));
}

#[test]
fn a_short_recording_is_whole_and_none_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let config = |turns| {
        let process = format!("{PROCESS}recorded_turns = {turns}\n");
        format!(
            "{process}[[port]]\nname = \"core\"\ndevice = \"ring\"\naddresses = [\"2001:db8:f::11/64\"]\n\
             [[port]]\nname = \"wlan0\"\ndevice = \"ring\"\n\
             [mag]\naddress = \"2001:db8:f::11\"\naccess_ports = [\"wlan0\"]\n\
             [[mag.peer]]\nname = \"lma\"\naddress = \"2001:db8:f::1\"\nprotection = \"none\"\n\
             [[mag.mobile]]\nid = \"{MN1}\"\nlink_layer = \"02:00:00:00:01:01\"\n\
             access_technology = \"wlan\"\nport = \"wlan0\"\nattach = \"command\"\n"
        )
    };
    let short = Appliance::start(directory.path(), "short", None, &config(2));
    for _ in 0..3 {
        short.command(["attach", MN1]).ok();
        short.command(["detach", MN1]).ok();
    }
    let file = dump(&short, directory.path(), "short.recording");
    let said = same(&file);
    assert!(
        said.contains("mag: 2 turns") && !said.contains(" 0 before them"),
        "{said}"
    );
    let none = Appliance::start(directory.path(), "none", None, &config(0));
    let file = directory.path().join("none.recording");
    let said = none
        .command(["recorder", "dump", file.to_str().unwrap()])
        .fails();
    assert!(
        said.contains("nothing is recorded: [process] recorded_turns is 0"),
        "{said}"
    );
    assert!(!file.exists());
}
