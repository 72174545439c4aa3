//! What the tests of the whole program share.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    missing_docs,
    clippy::print_stdout,
    reason = "each test file uses its share of this, and none of it is an interface"
)]

pub mod appliances;
pub mod browser;
pub mod kernel;
pub mod process;
pub mod terminal;

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Everything in this process's tests that has a name outside it is named so.
pub fn unique(name: &str) -> String {
    format!("fmt{}-{name}", std::process::id())
}

/// Whether a test may be left out where something it needs is missing: then says so. With
/// `FLOWMOB_REQUIRE_TOOLS=1` it may not.
pub fn leave_out(reason: impl Display) {
    let required = std::env::var_os("FLOWMOB_REQUIRE_TOOLS").is_some_and(|value| value == "1");
    assert!(!required, "{reason}");
    println!("left out: {reason}");
}

/// Whether this process is root; says so if it is not.
pub fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        leave_out("network namespaces and TAP ports need root");
    }
    root
}

/// Whether a program runs; says so if it does not.
pub fn has_tool(program: &str) -> bool {
    let runs = Command::new(program).arg("--version").output();
    let runs = runs.is_ok_and(|output| output.status.success());
    if !runs {
        leave_out(format_args!("{program} is not installed"));
    }
    runs
}

/// Waits until `look` finds something.
pub fn wait_for<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {patience:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Command lines of processes that mention `text`.
pub fn processes_about(text: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| {
        let octets = fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&octets).replace('\0', " "))
    });
    lines.filter(|line| line.contains(text)).collect()
}

/// Names in a directory that begin with `prefix`; none if there is no directory.
pub fn names(directory: impl AsRef<Path>, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// The program where a user without rights may run it: build directories need not be open to all.
pub fn program_for_anybody(directory: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let open = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let path = directory.join("flowmob");
    // Not by ourselves: what another test starts meanwhile would have the copy open for writing, and a program that
    // is written is not run.
    let copied = Command::new("cp").arg(process::FLOWMOB).arg(&path).status();
    assert!(copied.unwrap().success());
    open(directory);
    open(&path);
    path
}
