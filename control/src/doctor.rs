//! `flowmob doctor`: what of this machine hurts an appliance, and how to mend it.
//!
//! Everything is read from files of the kernel under a root that tests may choose, but for the clock. Nothing is
//! changed.

mod confinement;
mod cores;
mod devices;
mod memory;

use std::fmt;
use std::path::{Path, PathBuf};

use config::Config;
use serde::{Deserialize, Serialize};

/// What was found about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// What was looked at.
    pub(crate) check: String,
    /// How bad it is.
    pub(crate) state: State,
    /// What there is.
    pub(crate) found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fix: Option<String>,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it should be, or of no matter here.
    Ok,
    /// It works, but slower, or with surprises.
    Warn,
    /// It will not work.
    Fail,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        })
    }
}

impl Finding {
    fn ok(check: &str, found: impl Into<String>) -> Self {
        Self::new(check, State::Ok, found, None)
    }

    fn warn(check: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(check, State::Warn, found, Some(fix.into()))
    }

    fn fail(check: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(check, State::Fail, found, Some(fix.into()))
    }

    fn new(check: &str, state: State, found: impl Into<String>, fix: Option<String>) -> Self {
        Self {
            check: check.to_owned(),
            state,
            found: found.into(),
            fix,
        }
    }
}

/// The machine: files of the kernel, what drivers this program has in it, if any, and whether the clock is kept in step.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    root: PathBuf,
    linked: Option<&'static [&'static str]>,
    clock: Option<bool>,
}

impl Machine {
    /// The one this runs on.
    pub(crate) fn this() -> Self {
        Self {
            root: PathBuf::from("/"),
            linked: dpdk::linked_drivers(),
            clock: netdev::clock::is_synchronised().ok(),
        }
    }

    /// A file's text without the space around it.
    fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = std::fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// The names in a directory, in their order.
    fn list(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(path)).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn has(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// Looks at everything; at what a configuration asks for, if there is one.
    pub(crate) fn look(&self, config: Option<&Config>) -> Vec<Finding> {
        let mut findings = self.memory(config);
        findings.extend(self.cores(config));
        findings.extend(self.devices(config));
        findings.extend(self.confinement(config));
        findings.push(self.clock());
        findings
    }

    /// PBUs carry the time, and an LMA refuses those that are off by more than a moment.
    fn clock(&self) -> Finding {
        match self.clock {
            Some(true) => Finding::ok("clock", "kept in step"),
            Some(false) => Finding::warn(
                "clock",
                "nobody keeps it in step with others",
                "run chrony or systemd-timesyncd: LMAs refuse PBUs whose timestamps are off by 300 ms \
                 (or set timestamps = false in [mag] at all MAGs)",
            ),
            None => Finding::ok("clock", "unknown: the kernel may not be asked here"),
        }
    }
}

/// Whether something will not work.
pub(crate) fn fails(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.state == State::Fail)
}

/// Puts into the log what hurts: at every start.
pub(crate) fn log(config: &Config) {
    for finding in Machine::this().look(Some(config)) {
        let Finding { check, found, .. } = &finding;
        let fix = finding.fix.as_deref().unwrap_or_default();
        match finding.state {
            State::Ok => {}
            State::Warn => tracing::warn!("{check}: {found}; {fix}"),
            State::Fail => tracing::error!("{check}: {found}; {fix}"),
        }
    }
}

#[cfg(test)]
mod tests;
