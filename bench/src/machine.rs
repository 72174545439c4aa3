//! The machine: what it is, and hugepages for the time of the run.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::case::Memory;
use crate::clock::precise;

/// Where a report was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The processor's name.
    pub(crate) cpu: String,
    /// Processors that the system has.
    pub(crate) cores: usize,
    /// The time stamp counter's frequency: the unit of all cycles.
    pub(crate) tsc_mhz: f64,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// DPDK's version.
    pub(crate) dpdk: String,
    /// The kind of memory that the figures of merit are for.
    pub(crate) memory: Memory,
    /// Whether the kernel gives ordinary memory in large pages: `always`, `madvise` or `never`.
    pub(crate) transparent_hugepages: String,
    /// Who sets the core's clock, if anyone.
    pub(crate) governor: String,
    /// The commit that was built, with `+` if files had been changed.
    pub(crate) commit: String,
    /// Processes that wanted a core when the run began: above 1 the figures are disturbed.
    pub(crate) load: f64,
}

impl Machine {
    /// Looks around.
    pub(crate) fn look(memory: Memory, tsc_hz: f64) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let name = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown", |(_, name)| name);
        let pages = read("/sys/kernel/mm/transparent_hugepage/enabled");
        let chosen = pages.split(['[', ']']).nth(1).unwrap_or("unknown");
        let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        let load = read("/proc/loadavg");
        Self {
            cpu: name.into(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            tsc_mhz: (tsc_hz / 1e4).round() / 100.0,
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            dpdk: dpdk::version(),
            memory,
            transparent_hugepages: chosen.into(),
            governor: match governor.trim() {
                "" => "none".into(),
                some => some.into(),
            },
            commit: commit(),
            load: load
                .split_whitespace()
                .next()
                .and_then(|first| first.parse().ok())
                .unwrap_or(0.0),
        }
    }
}

fn commit() -> String {
    let git = |arguments: &[&str]| -> Option<String> {
        let output = Command::new("git")
            .args(["-C", env!("CARGO_MANIFEST_DIR")])
            .args(arguments)
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let Some(head) = git(&["rev-parse", "--short", "HEAD"]) else {
        return "unknown".into();
    };
    let changed = git(&["status", "--porcelain"]).is_some_and(|files| !files.is_empty());
    if changed { head + "+" } else { head }
}

/// Resident octets of this process.
///
/// # Errors
/// None on Linux.
pub(crate) fn resident() -> Result<f64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split_whitespace().nth(1).context("statm")?;
    Ok(precise(pages.parse::<u64>()? * 4096))
}

const RESERVED: &str = "/proc/sys/vm/nr_hugepages";
/// Pages of 2 MiB: the tables of four million bindings and their floor.
const WANTED: u64 = 1024;

/// Hugepages reserved for the run; dropping it gives back what was not there before.
#[derive(Debug)]
pub(crate) struct Reservation {
    before: Option<u64>,
}

impl Reservation {
    /// Reserves, if that is allowed and needed. The second value says what was done.
    pub(crate) fn make() -> (Self, String) {
        let reserved = || -> Option<u64> { fs::read_to_string(RESERVED).ok()?.trim().parse().ok() };
        let Some(before) = reserved() else {
            return (Self { before: None }, "no hugepages in this kernel".into());
        };
        if before >= WANTED {
            let said = format!("{before} hugepages are reserved already");
            return (Self { before: None }, said);
        }
        if fs::write(RESERVED, WANTED.to_string()).is_err() {
            let said = format!("{before} hugepages are reserved, more are not allowed");
            return (Self { before: None }, said);
        }
        let now = reserved().unwrap_or(before);
        let said = format!("{now} hugepages reserved for the run, {before} before");
        let before = Some(before);
        (Self { before }, said)
    }

    /// Free hugepages of 2 MiB.
    pub(crate) fn free() -> u64 {
        fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(before) = self.before
            && let Err(error) = fs::write(RESERVED, before.to_string())
        {
            eprintln!("vm.nr_hugepages is not back at {before}: {error}");
        }
    }
}
