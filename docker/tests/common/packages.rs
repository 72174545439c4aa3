//! Debian packages of the programs that are tested.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use deploy::root;

use super::{is_newer, kept, ok};

/// Where the packages are.
#[derive(Debug)]
pub struct Packages {
    /// `flowmob`.
    pub appliance: PathBuf,
    /// `flowmob-mn`.
    pub mobile: PathBuf,
}

/// The appliance that is tested; `None` if there is none and need not be.
///
/// A copy: where it was, [`small`] has another one for a while.
pub fn appliance() -> Option<PathBuf> {
    static APPLIANCE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let appliance = APPLIANCE.get_or_init(|| {
        let copy = kept().join("flowmob");
        copy_if_other(&deploy::flowmob()?, &copy);
        Some(copy)
    });
    appliance.clone()
}

/// Packages of the programs as they are now. What is compiled is what `cargo test` compiles, quick and large.
pub fn packages() -> &'static Packages {
    static PACKAGES: OnceLock<Packages> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let (full, small) = (appliance().unwrap(), small().to_owned());
        let out = kept().join("packages");
        let package =
            |name: &str| out.join(format!("{name}_{}_amd64.deb", env!("CARGO_PKG_VERSION")));
        let packages = Packages {
            appliance: package("flowmob"),
            mobile: package("flowmob-mn"),
        };
        let mut from = vec![small.clone(), full.clone(), root().join("docker/package")];
        let debian = std::fs::read_dir(root().join("docker/debian")).unwrap();
        from.extend(debian.map(|entry| entry.unwrap().path()));
        if !is_newer(&packages.appliance, &from) || !is_newer(&packages.mobile, &from) {
            let mut command = Command::new(root().join("docker/package"));
            command.env("COMPRESSION", "gzip").arg(&out);
            ok(command.args([&full, &small]));
        }
        packages
    })
}

/// The mobile node's build, compiled with what the other tests have compiled.
pub fn small() -> &'static Path {
    static SMALL: OnceLock<PathBuf> = OnceLock::new();
    SMALL.get_or_init(build_small)
}

fn build_small() -> PathBuf {
    // Whoever asks for that one from now on has a copy.
    appliance();
    // Cargo has one name for both builds, and others want the other one there.
    let shared = root().join("target/debug/flowmob");
    let aside = root().join("target/debug/flowmob.aside");
    let _ = std::fs::remove_file(&aside);
    let is_aside = std::fs::hard_link(&shared, &aside).is_ok();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--locked", "-p", "flowmob"]);
    command.args(["--no-default-features", "--target-dir", "target"]);
    // What cargo says of the crate under test is not for another one.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG_")) {
        command.env_remove(name);
    }
    let built = command.current_dir(root()).output().unwrap();
    let program = kept().join("flowmob-mn");
    if built.status.success() {
        copy_if_other(&shared, &program);
    }
    if is_aside {
        std::fs::rename(&aside, &shared).unwrap();
    }
    assert!(built.status.success(), "{}", deploy::said(&built));
    program
}

/// The mobile node's build as it is released.
pub fn small_and_static() -> PathBuf {
    linked_statically("flowmob-mn-static", "--no-default-features")
}

/// The appliance with DPDK linked in.
pub fn with_dpdk() -> PathBuf {
    linked_statically("flowmob-static", "--features=static")
}

/// A program as it is released, but quick to build; and the linker's map, beside it. What is compiled for it stays in a
/// directory of its own: there, all of them have the appliance's name.
fn linked_statically(name: &str, features: &str) -> PathBuf {
    let program = kept().join(name);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["rustc", "--quiet", "--locked", "--target-dir=target/mobile"]);
    command.args(["-p", "flowmob", "--bin=flowmob", features]);
    command.args(["--", "-Ctarget-feature=+crt-static"]);
    command.arg(format!("-Clink-arg=-Wl,-Map={}.map", program.display()));
    // What cargo says of the crate under test is not for another one.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG_")) {
        command.env_remove(name);
    }
    ok(command.current_dir(root()));
    copy_if_other(&root().join("target/mobile/debug/flowmob"), &program);
    program
}

/// Leaves a copy alone, with its time, that is the same.
fn copy_if_other(from: &Path, to: &Path) {
    let (new, old) = (std::fs::read(from).unwrap(), std::fs::read(to));
    if old.is_ok_and(|old| old == new) {
        return;
    }
    // By another process: what this one has open to be written, a child of another thread may still have when the copy is run.
    ok(Command::new("cp").arg(from).arg(to));
}
