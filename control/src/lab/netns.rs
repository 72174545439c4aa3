//! Network namespaces: making and removing them, running `ip` and closures in them.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, bail};
use nix::sched::{CloneFlags, setns};

/// Makes a namespace.
///
/// # Errors
/// If `ip` does not run or refuses: no rights, or the name is taken.
pub(crate) fn add(name: &str) -> anyhow::Result<()> {
    run(Command::new("ip").args(["netns", "add", name]), "")
}

/// Removes a namespace, with the interfaces in it.
///
/// # Errors
/// If `ip` does not run or refuses.
pub(crate) fn remove(name: &str) -> anyhow::Result<()> {
    run(Command::new("ip").args(["netns", "del", name]), "")
}

/// Processes in a namespace.
///
/// # Errors
/// If `ip` does not run or there is no such namespace.
pub(crate) fn pids(name: &str) -> anyhow::Result<Vec<i32>> {
    let text = output(Command::new("ip").args(["netns", "pids", name]), "")?;
    Ok(text.lines().filter_map(|l| l.trim().parse().ok()).collect())
}

/// Where a namespace is in the file system.
pub(crate) fn path(name: &str) -> PathBuf {
    ["/run/netns", name].iter().collect()
}

/// Runs `ip` commands, one a line, in a namespace; the first that fails ends it.
///
/// # Errors
/// What `ip` says about the line that failed.
pub(crate) fn ip(name: &str, commands: &str) -> anyhow::Result<()> {
    run(
        Command::new("ip").args(["-n", name, "-batch", "-"]),
        commands,
    )
}

/// What one `ip` command in a namespace prints.
///
/// # Errors
/// If `ip` does not run or refuses.
pub(crate) fn ip_output(name: &str, args: &[&str]) -> anyhow::Result<String> {
    output(Command::new("ip").args(["-n", name]).args(args), "")
}

/// Runs `work` on a thread that is in a namespace, and waits for it. Sockets it opens stay there.
///
/// # Errors
/// If the namespace cannot be entered, or the error of `work`.
pub(crate) fn enter<T: Send>(
    name: &str,
    work: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let path = path(name);
            let file = File::open(&path).with_context(|| path.display().to_string())?;
            setns(file, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("cannot enter the network namespace {name}"))?;
            work()
        });
        let result = inside.join();
        result.unwrap_or_else(|_| bail!("the thread in network namespace {name} panicked"))
    })
}

fn run(command: &mut Command, input: &str) -> anyhow::Result<()> {
    output(command, input).map(drop)
}

fn output(command: &mut Command, input: &str) -> anyhow::Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run ip: install iproute2")?;
    if let Some(mut stdin) = child.stdin.take() {
        // `ip` may refuse a line and close its end; what it says about that is below.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().context("cannot wait for ip")?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = failed_line(&said).and_then(|n| input.lines().nth(n.checked_sub(1)?));
    let args: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
    match line {
        Some(line) => bail!("ip {} \"{line}\": {}", args.join(" "), said.trim()),
        None => bail!("ip {}: {}", args.join(" "), said.trim()),
    }
}

/// The number in `Command failed -:3`, which `ip -batch` prints.
fn failed_line(said: &str) -> Option<usize> {
    let (_, number) = said.trim().rsplit_once(':')?;
    number.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failed_line_is_found() {
        let said = "Cannot find device \"x\"\nCommand failed -:3\n";
        assert_eq!(failed_line(said), Some(3));
        assert_eq!(failed_line("Cannot open network namespace"), None);
    }
}
