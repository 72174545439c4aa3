//! What the tests share that start packages, containers and machines.
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

pub mod base;
pub mod booted;
pub mod engine;
pub mod machine;
pub mod namespace;
pub mod packages;
#[path = "../../../control/tests/docs/page.rs"]
pub mod page;
pub mod traffic;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use deploy::{leave_out, root, said};

/// What tests make and keep for the next time.
pub fn kept() -> PathBuf {
    let directory = root().join("target/deploy");
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// Whether this test can be run here: as root, with these programs.
pub fn can_run(programs: &[&str]) -> bool {
    if !nix::unistd::geteuid().is_root() {
        leave_out("containers need root");
        return false;
    }
    let missing = |program: &&&str| !runs(program);
    let missing = programs.iter().find(missing);
    if let Some(program) = missing {
        leave_out(format_args!("{program} is not installed: .ci/setup"));
    }
    missing.is_none()
}

fn runs(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output();
    found.is_ok_and(|output| output.status.success())
}

/// Runs a command that has to succeed; what it printed.
#[track_caller]
pub fn ok(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that has to fail; what it printed.
#[track_caller]
pub fn fails(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?}: {}", said(&output));
    said(&output)
}

/// Has a command of a document run, which has to end and print as that says. Whatever there is to be done for it first, or
/// by somebody who is asked, is in `shell`.
#[track_caller]
pub fn as_told(command: &page::Command, shell: &mut Command) {
    shell.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = shell.stdin(Stdio::piped()).spawn().unwrap();
    // Nobody types anything, but the keyboard stays where it is.
    let keyboard = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(keyboard);
    command.check(output.status.success(), &said(&output));
}

/// As [`ok`], with everything that it printed.
#[track_caller]
pub fn all_said(command: &mut Command) -> String {
    let output: Output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    said(&output)
}

/// Whether a file is newer than all of these.
pub fn is_newer(file: &Path, than: &[PathBuf]) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|it| it.modified()).ok();
    let Some(time) = changed(file) else {
        return false;
    };
    than.iter()
        .all(|path| changed(path).is_some_and(|other| other < time))
}
