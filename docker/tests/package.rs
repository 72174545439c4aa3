//! The Debian packages, in a system that is booted for them: installed, started by systemd, upgraded, removed, purged.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::common::booted::{Booted, System};
use crate::common::packages::packages;
use crate::common::page::{file, run_by};
use crate::common::{all_said, can_run, fails, kept, ok};
use deploy::{root, wait_for};

const LMA: &str = r#"
name = "lma1"

[process]
memory_mib = 64

[[port]]
name = "core"
device = "tap:core0"
addresses = ["2001:db8:f::1/64"]

[lma]
address = "2001:db8:f::1"
pools = ["2001:db8:100::/48"]

[[lma.peer]]
name = "mag1"
address = "2001:db8:f::11"
keys = "keys/mag1.toml"
"#;

const MN: &str = r#"
name = "mn"

[mn]
interface = "lif0"
interface_id = "::100"

[[mn.access]]
name = "wlan"
interface = "wlan0"
"#;

/// A property of a unit.
fn property(system: &Booted, unit: &str, name: &str) -> String {
    let said = system.ok(&format!("systemctl show -P {name} {unit}"));
    said.trim().to_owned()
}

/// The same package with a higher version.
fn newer(package: &Path, directory: &Path) -> PathBuf {
    let tree = directory.join("tree");
    ok(Command::new("dpkg-deb").arg("-R").arg(package).arg(&tree));
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control).unwrap();
    fs::write(&control, text.replacen("\nVersion: ", "\nVersion: 1:", 1)).unwrap();
    let newer = directory.join("newer.deb");
    let mut command = Command::new("dpkg-deb");
    command.args(["--root-owner-group", "-Znone", "-b"]);
    ok(command.arg(&tree).arg(&newer));
    newer
}

#[test]
fn packages_are_installed_started_upgraded_and_removed() {
    if !can_run(&["dh", "mmdebstrap", "systemd-nspawn"]) {
        return;
    }
    let packages = packages();
    let system = System::ready_for(&[&packages.appliance]).boot();
    install(&system);
    for file in [
        "usr/bin/flowmob",
        "usr/share/man/man1/flowmob-flow-move.1.gz",
        "usr/share/bash-completion/completions/flowmob",
        "etc/flowmob/examples/reference.toml",
    ] {
        assert!(system.system().path(file).exists(), "{file}");
    }
    let failed = system.ok("systemctl --failed --no-legend --plain");
    assert_eq!(failed, "");

    // Started: as an ordinary user, and it serves.
    assert_eq!(system.ok("flowmob health --live"), "its loops turn\n");
    assert_eq!(
        system
            .ok("ps -o user= -C flowmob 2>/dev/null || stat -c %U /proc/$(pidof flowmob)")
            .trim(),
        "flowmob"
    );
    let status = property(&system, "flowmob@lma1", "StatusText");
    assert_eq!(status, "lma1 serves; ask it on /run/flowmob/lma1.sock");
    assert_eq!(
        system.ok("stat -c '%A %U %G' /run/flowmob/lma1.sock"),
        "srw-rw---- flowmob flowmob\n"
    );
    assert_eq!(
        system.ok("cat /sys/class/net/core0/operstate").trim(),
        "unknown"
    );

    // Reloaded, or not and says why.
    let file = system.system().path("etc/flowmob/lma1.toml");
    fs::write(&file, format!("{LMA}\n[log]\nlevel = \"debug\"\n")).unwrap();
    system.ok("systemctl reload flowmob@lma1");
    assert!(system.ok("flowmob log").starts_with("level: debug\n"));
    fs::write(&file, LMA.replace("core0", "core1")).unwrap();
    fails(&mut system.command("systemctl reload flowmob@lma1"));
    let log = system.ok("journalctl -o cat -u flowmob@lma1 -n 20");
    assert!(log.contains("needs a restart"), "{log}");
    fs::write(&file, LMA).unwrap();

    // Started again, if its threads do not turn.
    let drop_in = "/run/systemd/system/flowmob@lma1.service.d";
    system.ok(&format!(
        "mkdir -p {drop_in} && printf '[Service]\\nWatchdogSec=2\\nWatchdogSignal=SIGKILL\\n' > {drop_in}/watchdog.conf \
         && systemctl daemon-reload && systemctl restart flowmob@lma1"
    ));
    let pid = property(&system, "flowmob@lma1", "MainPID");
    system.ok(&format!("kill -STOP {pid}"));
    wait_for("another process", Duration::from_mins(1), || {
        let now = property(&system, "flowmob@lma1", "MainPID");
        let runs = property(&system, "flowmob@lma1", "ActiveState") == "active";
        (runs && now != pid && now != "0").then_some(())
    });
    // From now on it has the time that a busy machine may take.
    system.ok(&format!(
        "rm -r {drop_in} && systemctl daemon-reload && systemctl restart flowmob@lma1"
    ));

    // Upgraded: what runs goes on.
    let pid = property(&system, "flowmob@lma1", "MainPID");
    let directory = tempfile::tempdir_in(kept()).unwrap();
    let newer = system
        .system()
        .bring(&newer(&packages.appliance, directory.path()));
    let said = all_said(&mut system.command(&format!("dpkg -i {newer}")));
    assert!(
        said.contains("restart them when it suits: flowmob@lma1.service"),
        "{said}"
    );
    assert_eq!(property(&system, "flowmob@lma1", "MainPID"), pid);
    system.ok("systemctl restart flowmob@lma1");
    assert_eq!(system.ok("flowmob health"), "ready\n");

    // Removed: nothing runs on, what the operator wrote is there until it is purged.
    system.ok("dpkg -r flowmob");
    fails(&mut system.command("pidof flowmob || test -e /usr/bin/flowmob"));
    let there = |path: &str| system.system().path(path).exists();
    assert!(there("etc/flowmob/lma1.toml") && there("var/lib/flowmob/lma1"));
    system.ok("dpkg -P flowmob");
    assert!(
        !there("etc/flowmob")
            && !there("var/lib/flowmob")
            && !there("etc/sysctl.d/60-flowmob.conf")
    );

    // The mobile node.
    let mobile = system.system().bring(&packages.mobile);
    system.ok(&format!("dpkg -i {mobile}"));
    fs::write(system.system().path("etc/flowmob/mn.toml"), MN).unwrap();
    system.ok("ip link add wlan0 type veth peer name ap && ip link set ap up && systemctl start flowmob-mn");
    let table = system.ok("flowmob show mn");
    assert!(table.contains("wlan0"), "{table}");
    system.ok("ip link show lif0");
    let pid = property(&system, "flowmob-mn", "MainPID");
    assert_ne!(system.ok(&format!("stat -c %U /proc/{pid}")).trim(), "root");
    system.ok("systemctl stop flowmob-mn");
    assert_eq!(property(&system, "flowmob-mn", "Result"), "success");
    fails(&mut system.command("ip link show lif0"));
    system.ok("dpkg -P flowmob-mn");
    install_mobile_by_hand(&system);
}

/// What docs/operations.md says. The editor that is asked for knows what to write.
fn install(system: &Booted) {
    let [commands] = run_by(include_str!("../../docs/operations.md"), file!());
    let inside = |path: &str| system.system().path(path);
    fs::write(inside("root/lma1.toml"), LMA).unwrap();
    let editor = inside("usr/bin/editor");
    fs::write(&editor, "#!/bin/sh\ncp /root/lma1.toml \"$1\"\n").unwrap();
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).unwrap();
    for command in &commands {
        system.as_told(command);
    }
}

/// What docs/mobile-node.md says, with its configuration, beside the files of the project that it takes.
fn install_mobile_by_hand(system: &Booted) {
    let page = include_str!("../../docs/mobile-node.md");
    let [build, service] = run_by(page, file!());
    let there = |path: &str| {
        let path = system.system().path("root").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    let unit = "docker/debian/flowmob-mn.service";
    fs::copy(root().join(unit), there(unit)).unwrap();
    fs::write(there("mn.toml"), file(page, "mn.toml")).unwrap();
    for command in build.iter().chain(&service) {
        if command.text == "make mn" {
            fs::copy(kept().join("flowmob-mn"), there("target/mn/flowmob")).unwrap();
        } else {
            system.as_told(command);
        }
    }
    let table = system.ok("flowmob show mn");
    assert!(table.contains("wlan0"), "{table}");
    system.ok("systemctl disable --now flowmob-mn");
}
