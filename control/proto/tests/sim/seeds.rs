//! Random schedules by seed: how many, and which one again.
//!
//! `FLOWMOB_SIM_RUNS=n` runs n schedules of every kind, `FLOWMOB_SIM_FROM=m` begins with the m-th, and
//! `FLOWMOB_SIM_SEED=n` replays one and prints every message in it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// A number from the environment.
///
/// # Panics
/// If it is none: a replay of another schedule would prove nothing.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is `{text}`, not a number")))
}

/// Whether one schedule is replayed, for somebody to look at.
pub(crate) fn replaying() -> bool {
    std::env::var_os("FLOWMOB_SIM_SEED").is_some()
}

/// Failures after which there is enough to look at.
const ENOUGH: usize = 5;

/// Runs a schedule for every seed, and says how to replay those that fail.
pub(crate) fn for_seeds(runs: u64, schedule: fn(u64)) {
    if let Some(seed) = number("FLOWMOB_SIM_SEED") {
        return schedule(seed);
    }
    let from = number("FLOWMOB_SIM_FROM").unwrap_or(0);
    let runs = number("FLOWMOB_SIM_RUNS").unwrap_or(runs);
    let mut causes = Vec::new();
    for seed in from..from + runs {
        if let Err(cause) = catch_unwind(AssertUnwindSafe(|| schedule(seed))) {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or_default();
            eprintln!(
                "replay with FLOWMOB_SIM_SEED={seed} cargo test -p pmip-proto --test sim {test}"
            );
            causes.push(cause);
            if causes.len() == ENOUGH {
                break;
            }
        }
    }
    if let Some(first) = causes.into_iter().next() {
        resume_unwind(first);
    }
}
