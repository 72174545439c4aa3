//! The release archive: unpacked on a minimal system, it runs there, without DPDK and whatever else is installed; and what
//! it says is in it, is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::base::base;
use crate::common::booted::System;
use crate::common::packages::{small_and_static, with_dpdk};
use crate::common::page::run_by;
use crate::common::{all_said, can_run, kept, ok};
use deploy::root;
use serde_json::Value;

const LMA: &str = r#"
name = "lma1"
port = [
  { name = "core", device = "tap:core0", addresses = ["2001:db8:f::1/64"] },
  { name = "net", device = "af_packet:net0", addresses = ["2001:db8:c::1/64"] },
  { name = "nothing", device = "null" },
]
[process]
memory_mib = 64
[lma]
address = "2001:db8:f::1"
pools = ["2001:db8:100::/48"]
peer = [{ name = "mag1", address = "2001:db8:f::a", protection = "none" }]
"#;

/// Runs an LMA until it serves, and says what of shared libraries it has in memory then.
const RUN: &str = "
    flowmob doctor -c lma1.toml
    flowmob run -c lma1.toml 2> lma1.log & lma=$!
    tries=0
    until flowmob -s /run/flowmob/lma1.sock health; do
        tries=$((tries + 1))
        if ! kill -0 $lma || [ $tries -gt 200 ]; then cat lma1.log; exit 1; fi
        sleep 0.1
    done 2> /dev/null
    flowmob -s /run/flowmob/lma1.sock show ports
    grep '[.]so' /proc/$lma/maps || echo no shared library
    kill $lma
    wait $lma
";

/// A network of its own, with an interface for a packet socket.
const NETWORK: &str = "ip link set lo up; ip link add net0 type veth peer name net1; ip link set net0 up; ip link set net1 up";

fn pack(out: &Path) -> PathBuf {
    let mut command = Command::new(root().join("docker/release"));
    ok(command.arg(out).args([with_dpdk(), small_and_static()]));
    let version = env!("CARGO_PKG_VERSION");
    out.join(format!("flowmob-{version}-x86_64-linux.tar.gz"))
}

#[test]
#[ignore = "it takes builds of its own, linked statically: cargo test -p deploy release -- --ignored"]
fn the_archive_runs_where_nothing_else_is_and_says_what_is_in_it() {
    if !can_run(&["mmdebstrap", "systemd-nspawn", "strip", "unshare", "ip"]) {
        return;
    }
    let directory = tempfile::tempdir_in(kept()).unwrap();
    let path = |inside: &str| directory.path().join(inside);
    let archive = pack(&path("first"));
    // Packed once more, it is the same.
    let again = pack(&path("second"));
    assert!(fs::read(&archive).unwrap() == fs::read(again).unwrap());
    let sums = |place: &Path| {
        let mut command = Command::new("sha256sum");
        ok(command
            .args(["--check", "--strict", "SHA256SUMS"])
            .current_dir(place))
    };
    assert_eq!(sums(&path("first")).lines().count(), 3);

    install(&path("first"));

    // A system as small as they come, with plugins of some other DPDK, which nobody may load.
    let system = path("system");
    let local = system.join("usr/local");
    fs::create_dir(&system).unwrap();
    let mut unpack = Command::new("tar");
    ok(unpack.arg("-xf").arg(base()).arg("-C").arg(&system));
    let mut unpack = Command::new("tar");
    unpack.args(["--strip-components=1", "-xf"]).arg(&archive);
    ok(unpack.arg("-C").arg(&local));
    let files = sums(&local);
    for file in [
        "bin/flowmob-mn: OK",
        "lib/systemd/system/flowmob@.service: OK",
        "share/man/man1/flowmob-flow-move.1: OK",
        "share/doc/flowmob/examples/reference.toml: OK",
    ] {
        assert!(files.lines().any(|line| line == file), "{file}");
    }
    assert!(
        !system
            .join("usr/lib/x86_64-linux-gnu/librte_eal.so.23")
            .exists()
    );
    let plugins = system.join("usr/lib/x86_64-linux-gnu/dpdk/pmds-23.0");
    fs::create_dir_all(&plugins).unwrap();
    fs::write(plugins.join("librte_net_null.so.23.0"), "no plugin").unwrap();

    fs::write(system.join("root/lma1.toml"), LMA).unwrap();
    let inside = format!(
        "{NETWORK}; mount --rbind /dev {system}/dev; mount -t sysfs none {system}/sys; mount -t proc none {system}/proc
         exec chroot {system} sh -ec \"$1\"",
        system = system.display()
    );
    let mut alone = Command::new("unshare");
    alone.args([
        "--net", "--mount", "--pid", "--fork", "sh", "-ec", &inside, "sh",
    ]);
    let said = all_said(alone.arg(format!(
        "cd /root; flowmob --version; flowmob-mn --version {RUN}"
    )));
    let drivers = check_run(&said);
    assert!(said.contains("\nwithout DPDK\n"), "{said}");

    // This machine has a DPDK with plugins.
    fs::write(path("lma1.toml"), LMA).unwrap();
    let mut here = Command::new("unshare");
    here.args([
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "sh",
        "-ec",
    ]);
    here.arg(format!(
        "{NETWORK}; mount -t sysfs none /sys; mount -t tmpfs none /run; flowmob --version {RUN}"
    ));
    let programs = format!(
        "{}:{}",
        local.join("bin").display(),
        std::env::var("PATH").unwrap()
    );
    let said = all_said(here.env("PATH", programs).current_dir(directory.path()));
    assert_eq!(check_run(&said), drivers);

    for (program, crates) in [("flowmob", "dpdk"), ("flowmob-mn", "netdev")] {
        let bom = local.join(format!("share/doc/flowmob/{program}.cdx.json"));
        let bom: Value = serde_json::from_slice(&fs::read(bom).unwrap()).unwrap();
        let components = components(&bom);
        assert!(components.contains_key(crates), "{program}");
        assert_eq!(components.contains_key("dpdk"), program == "flowmob");
        check_crates(&bom, &fs::read(local.join("bin").join(program)).unwrap());
        check_libraries(
            &components,
            if program == "flowmob" { &drivers } else { &[] },
        );
    }
    let terms = fs::read_to_string(local.join("share/doc/flowmob/THIRD-PARTY")).unwrap();
    for of in ["\ndpdk 2", "\ntokio ", "\nnumactl ", "/LGPL-2.1, of which"] {
        assert!(terms.contains(of), "{of}");
    }
}

/// What docs/operations.md says, in a system with systemd; what `make release` would have made is there.
fn install(release: &Path) {
    let [commands] = run_by(include_str!("../../docs/operations.md"), file!());
    let system = System::ready_for(&[]);
    let there = system.path("root/target/release-archive");
    fs::create_dir_all(&there).unwrap();
    for entry in fs::read_dir(release).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), there.join(entry.file_name())).unwrap();
    }
    let system = system.boot();
    for command in &commands {
        if command.text != "make release" {
            system.as_told(command);
        }
    }
    system.ok("id flowmob && systemctl cat flowmob@lma1 flowmob-mn");
}

/// What was printed by a program that says its version and runs; its drivers.
fn check_run(said: &str) -> Vec<String> {
    let drivers = said.lines().find_map(|line| {
        let (dpdk, drivers) = line.split_once(", linked in: ")?;
        dpdk.starts_with("DPDK ").then_some(drivers)
    });
    let drivers: Vec<_> = drivers.expect(said).split(' ').map(str::to_owned).collect();
    for text in [
        &format!("{} of DPDK's linked in", drivers.len()),
        "tap:core0",
        "af_packet:net0",
        "\nno shared library\n",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    drivers
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn components(bom: &Value) -> BTreeMap<&str, &Value> {
    let components = bom["components"].as_array().unwrap().iter();
    components.map(|it| (text(it, "name"), it)).collect()
}

/// The crates of the bill are in `Cargo.lock`, with these checksums; and those whose files the program names in it, for
/// its panics, are in the bill.
fn check_crates(bom: &Value, program: &[u8]) {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let field = |block: &str, name: &str| {
        let line = block
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} = ")));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    let locked: BTreeMap<_, _> = (lock.split("[[package]]").skip(1))
        .map(|block| {
            let crate_ = format!("{}-{}", field(block, "name"), field(block, "version"));
            (crate_, field(block, "checksum"))
        })
        .collect();
    let mut listed = BTreeSet::new();
    for it in bom["components"].as_array().unwrap() {
        if !text(it, "purl").starts_with("pkg:cargo/") {
            continue;
        }
        let crate_ = format!("{}-{}", text(it, "name"), text(it, "version"));
        assert_eq!(
            locked.get(&crate_).map(String::as_str),
            it["hashes"][0]["content"].as_str(),
            "{crate_}"
        );
        assert!(it["licenses"][0]["expression"].is_string(), "{crate_}");
        listed.insert(crate_);
    }

    // ".../registry/src/INDEX/NAME-VERSION/src/..."
    let place = b"/registry/src/";
    let named: BTreeSet<_> = (program.windows(place.len()).enumerate())
        .filter(|(_, window)| window == place)
        .map(|(at, _)| {
            let path = &program[at + place.len()..];
            let crate_ = path.split(|&octet| octet == b'/').nth(1).unwrap();
            String::from_utf8_lossy(crate_).into_owned()
        })
        .collect();
    assert!(named.len() > 20, "{named:?}");
    let missing: Vec<_> = named.difference(&listed).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The C libraries are Debian's, as they are here, and among them are the archives of these drivers.
fn check_libraries(components: &BTreeMap<&str, &Value>, drivers: &[String]) {
    let property = |it: &Value, name: &str| {
        let all = it["properties"].as_array().unwrap();
        let found = all.iter().find(|it| text(it, "name") == name).unwrap();
        text(found, "value").to_owned()
    };
    let mut names = vec!["libc6-dev"];
    if drivers.is_empty() {
        assert!(!components.contains_key("libdpdk-dev"));
    } else {
        let others = [
            "libdpdk-dev",
            "libnuma-dev",
            "libpcap0.8-dev",
            "libxdp-dev",
            "libbpf-dev",
            "libelf-dev",
            "zlib1g-dev",
        ];
        names.extend(others);
        let archives = property(components["libdpdk-dev"], "flowmob:archives");
        let archives: Vec<_> = archives.split(' ').collect();
        for driver in drivers {
            assert!(
                archives.contains(&&*format!("librte_{driver}.a")),
                "{driver}"
            );
        }
    }
    for name in names {
        let installed = ok(Command::new("dpkg-query").args(["-W", "-f", "${Version}", name]));
        assert_eq!(text(components[name], "version"), installed);
    }
}
