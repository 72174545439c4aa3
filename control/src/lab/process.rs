//! The lab's child processes: each in its namespace, each dying with the lab.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::netns;
use super::progress::say_plainly;

/// How long a process may take to end.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// How much of a log an error shows.
const LOG_LINES: usize = 15;

/// How a process begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    /// Nobody is in its place.
    Alone,
    /// One of its name runs, and is to end for it; both write one log.
    TakingOver,
}

/// A `flowmob run` in a namespace; ended when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts this program's `run` with a configuration, and these variables besides those that this process has.
    ///
    /// # Errors
    /// If the log cannot be made or `nsenter` and `setpriv` (util-linux) do not run.
    pub(crate) fn start(
        name: &'static str,
        namespace: &str,
        config: &Path,
        log: PathBuf,
        how: Start,
        environment: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's file")?;
        let mut file = File::options();
        match how {
            Start::Alone => file.write(true).create(true).truncate(true),
            Start::TakingOver => file.append(true),
        };
        let file = file.open(&log).with_context(|| log.display().to_string())?;
        let netns = netns::path(namespace);
        // Each of the two replaces itself by the next, so the child is the appliance. It must not
        // outlive us, whatever ends us; and a Ctrl-C is for us alone.
        let child = Command::new("nsenter")
            .arg(format!("--net={}", netns.display()))
            .args(["setpriv", "--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(["run", "--config"])
            .arg(config)
            .args((how == Start::TakingOver).then_some("--take-over"))
            // DPDK makes a directory there, which so goes with the lab.
            .env("RUNTIME_DIRECTORY", log.with_file_name(""))
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("cannot share the log")?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .context("cannot run nsenter: install util-linux")?;
        Ok(Self { name, child, log })
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// If it does not, or ends with a failure.
    pub(crate) fn wait(mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + STOP_PATIENCE;
        loop {
            match self.child.try_wait().context("cannot look at a child")? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{} ended: {status}\n{}", self.name, self.last_words()),
                None if Instant::now() > deadline => bail!("{} goes on", self.name),
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Fails if the process has ended, with what it said last.
    ///
    /// # Errors
    /// Its exit status and the end of its log.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        let status = self.child.try_wait().context("cannot look at a child")?;
        let Some(status) = status else { return Ok(()) };
        bail!(
            "{} ended ({status}); its last words:\n{}",
            self.name,
            self.last_words()
        )
    }

    /// Ends it by force, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it is gone.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = i32::try_from(self.child.id()).context("no process has such a number")?;
        kill(Pid::from_raw(id), signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it writes what it has to say.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES);
        let end = lines.get(from..).unwrap_or_default();
        end.iter().flat_map(|line| ["    ", *line, "\n"]).collect()
    }

    /// Asks it to end, waits, and ends it by force if it does not.
    pub(crate) fn stop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        if let Ok(id) = i32::try_from(self.child.id()) {
            // It may have ended in between, which is what we want.
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        let deadline = Instant::now() + STOP_PATIENCE;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        say_plainly(&format!("{} did not end when asked", self.name));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}
