//! What the tests of the deployable forms share.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// The project's directory.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Says that a test is left out because something that it needs is missing.
///
/// # Panics
/// With `FLOWMOB_REQUIRE_TOOLS=1`, as `make test` has it: then nothing may be.
#[expect(clippy::print_stdout, reason = "for whoever runs the test")]
pub fn leave_out(reason: impl Display) {
    let required = std::env::var_os("FLOWMOB_REQUIRE_TOOLS").is_some_and(|value| value == "1");
    assert!(!required, "{reason}");
    println!("left out: {reason}");
}

/// A program below the project's directory, or `None` if it is not there and may be.
pub fn program(path: &str, how: &str) -> Option<PathBuf> {
    let program = root().join(path);
    if program.is_file() {
        return Some(program);
    }
    leave_out(format_args!("{path} is missing: {how}"));
    None
}

/// The appliance: what the variable `FLOWMOB` names, or else the one that was built last for tests.
pub fn flowmob() -> Option<PathBuf> {
    let named = std::env::var("FLOWMOB");
    program(
        named.as_deref().unwrap_or("target/debug/flowmob"),
        "cargo build -p flowmob, or name one in FLOWMOB",
    )
}

/// Runs a command to its end.
///
/// # Panics
/// If it cannot be run.
pub fn run(command: &mut Command) -> Output {
    match command.output() {
        Ok(output) => output,
        Err(error) => unreachable!("{command:?}: {error}"),
    }
}

/// What a command has printed on both its outputs.
pub fn said(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text += &String::from_utf8_lossy(&output.stderr);
    text
}

/// Waits until `look` finds something.
///
/// # Panics
/// If it does not within `patience`.
pub fn wait_for<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {patience:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
