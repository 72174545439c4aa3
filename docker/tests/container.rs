//! The container images, and the lab as five containers: a flow moves from one access to the other and nothing is lost.

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::common::engine::{Engine, Networks};
use crate::common::packages::packages;
use crate::common::page::{Command, run_by};
use crate::common::traffic::Echo;
use crate::common::{can_run, kept, ok};
use deploy::{root, wait_for};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_mins(1);
const CN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 5);
const MN: &str = "mn1@example.net";

/// Builds the images of the packages that are tested: as the page says, but that these are there already.
fn build(commands: &[Command]) {
    let packages = packages();
    let engine = Engine::start(Networks::Here);
    engine.import_base();
    // The build's context: what is tested, and nothing that was released before.
    let directory = tempfile::tempdir_in(kept()).unwrap();
    let context = directory.path();
    let there = context.join("target/package");
    std::fs::create_dir_all(&there).unwrap();
    for package in [&packages.appliance, &packages.mobile] {
        std::fs::copy(package, there.join(package.file_name().unwrap())).unwrap();
    }
    for file in [
        "Makefile",
        "docker/Dockerfile",
        "docker/Dockerfile.dockerignore",
    ] {
        let to = context.join(file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(root().join(file), to).unwrap();
    }
    for command in commands {
        let mut command = command.clone();
        if command.text == "make image" {
            // Drivers of cards are for those who have them.
            command.text += " -o deb IMAGE_FLAGS='--quiet --network=host --build-arg=DRIVERS='";
        }
        engine.as_told(&command, context);
    }
}

const LMA: &str = r#"
name = "lma1"
process = { memory_mib = 64 }
[[port]]
name = "core"
device = "af_packet:eth0"
addresses = ["2001:db8:f::1/64"]
[lma]
address = "2001:db8:f::1"
pools = ["2001:db8:100::/48"]
[[lma.peer]]
name = "mag1"
address = "2001:db8:f::11"
protection = "none"
"#;

/// Runs one appliance as the page does, with a configuration where it says.
fn run_one(engine: &Engine, commands: &[Command]) {
    let away = || {
        // What is not there need not go.
        for what in [
            ["rm", "-f", "lma1"],
            ["network", "rm", "core"],
            ["volume", "rm", "lma1"],
        ] {
            let _ = engine.docker(&what).output();
        }
    };
    away();
    let directory = tempfile::tempdir_in(kept()).unwrap();
    let volume = directory.path().join("lma1");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("flowmob.toml"), LMA).unwrap();
    let [network, run, show] = commands else {
        panic!("{commands:?}");
    };
    engine.as_told(network, directory.path());
    engine.as_told(run, directory.path());
    wait_for("an appliance in health", PATIENCE, || {
        (engine.state("lma1", "Health.Status") == "healthy").then_some(())
    });
    engine.as_told(show, directory.path());
    away();
}

/// The lab's containers; removed when dropped.
struct Lab<'a> {
    engine: &'a Engine,
}

impl<'a> Lab<'a> {
    fn up(engine: &'a Engine, command: &Command) -> Self {
        let lab = Self { engine };
        lab.down();
        lab.as_told(command);
        lab
    }

    #[track_caller]
    fn as_told(&self, command: &Command) {
        self.engine.as_told(command, &root());
    }

    fn down(&self) {
        ok(&mut self.engine.compose(&["down", "-v", "--timeout=10"]));
    }

    fn name(host: &str) -> String {
        format!("flowmob-test_{host}_1")
    }

    /// A command of flowmob in a container.
    fn flowmob(&self, host: &str, arguments: &[&str]) -> String {
        let name = Self::name(host);
        let exec = ["exec", &name, "flowmob"];
        ok(&mut self.engine.docker(&[&exec, arguments].concat()))
    }

    fn show(&self, host: &str, table: &str) -> Value {
        serde_json::from_str(&self.flowmob(host, &["show", table, "--json"])).unwrap()
    }

    /// Packets that have come to a gateway, from its tunnel and its access.
    fn carried(&self, mag: &str) -> u64 {
        let paths = self.show(mag, "paths");
        let rows = paths.as_array().unwrap().iter();
        let count = |row: &Value| row["counters"]["in_packets"].as_u64().unwrap();
        rows.map(count).sum()
    }
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self
                .engine
                .compose(&["logs", "--no-color", "--tail=100"])
                .output();
            println!("{}", String::from_utf8_lossy(&logs.unwrap().stdout));
        }
        self.down();
    }
}

#[test]
fn a_flow_moves_between_containers_and_nothing_is_lost() {
    if !can_run(&["dh", "mmdebstrap", "dockerd", "docker-compose"]) {
        return;
    }
    let page = include_str!("../../docs/containers.md");
    let [to_build, to_run, to_move] = run_by(page, file!());
    build(&to_build);
    let engine = Engine::start(Networks::Apart);
    run_one(&engine, &to_run);
    let [up, show, add_flow, ping, move_flow, down] = &to_move[..] else {
        panic!("{to_move:?}");
    };
    let lab = Lab::up(&engine, up);
    for host in ["lma", "mag1", "mag2", "mn"] {
        let name = Lab::name(host);
        wait_for(&format!("{name} in health"), PATIENCE, || {
            (engine.state(&name, "Health.Status") == "healthy").then_some(())
        });
    }
    // Not root, and no more rights than the ports need.
    let process = engine.process(&Lab::name("lma"));
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    assert!(status.contains("Uid:\t10001\t10001"), "{status}");
    assert!(status.contains("CapBnd:\t0000000000003000"), "{status}");

    wait_for("both accesses", PATIENCE, || {
        let bindings = lab.show("lma", "bindings");
        let active = bindings.as_array().unwrap().iter();
        (active.filter(|row| row["state"] == "active").count() == 2).then_some(())
    });
    lab.as_told(show);
    let bindings = lab.show("lma", "bindings");
    // Which access came first is chance.
    let at = |mag: &str| {
        let mut rows = bindings.as_array().unwrap().iter();
        rows.find(|row| row["peer"].to_string().contains(mag))
            .unwrap()
    };
    let bid = |mag: &str| at(mag)["bid"].to_string();
    let prefix = at("mag1")["prefixes"][0].as_str().unwrap();
    let prefix: ipnet::Ipv6Net = prefix.parse().unwrap();
    let address = Ipv6Addr::from(u128::from(prefix.addr()) | 0x100);
    wait_for("an address", PATIENCE, || {
        let addresses = lab.show("mn", "mn")["prefixes"].to_string();
        addresses.contains(&address.to_string()).then_some(())
    });
    for command in [add_flow, ping, move_flow] {
        lab.as_told(command);
    }

    let rule = ["--proto", "udp", "--sport", "7000"];
    let first = bid("mag1");
    let add = ["flow", "add", "--mn", MN, "--bid", &first];
    lab.flowmob("lma", &[&add[..], &rule].concat());
    let (mn, cn) = (
        engine.process(&Lab::name("mn")),
        engine.process(&Lab::name("cn")),
    );
    let echo = Echo::start((mn, address, 7001), (cn, CN, 7000));
    let carried = |mag: &str, than: u64| {
        wait_for(&format!("the flow at {mag}"), PATIENCE, || {
            (lab.carried(mag) > than + 500).then_some(())
        });
    };
    for (mag, other) in [("mag2", "mag1"), ("mag1", "mag2")] {
        carried(other, lab.carried(other));
        let before = lab.carried(mag);
        lab.flowmob(
            "lma",
            &["flow", "move", "--mn", MN, "--fid", "2", "--to", &bid(mag)],
        );
        carried(mag, before);
    }
    let account = echo.finish();
    assert!(account.sent > 1000, "{account:?}");
    assert!(account.lost.is_empty(), "{account:?}");

    // Told to stop, all of them end by themselves, and say so.
    ok(&mut engine.compose(&["stop", "--timeout=10"]));
    for host in ["lma", "mag1", "mag2", "mn"] {
        assert_eq!(engine.state(&Lab::name(host), "ExitCode"), "0", "{host}");
    }
    lab.as_told(down);
}
