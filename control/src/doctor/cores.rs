//! Processors: which cores threads are on, what else is on them, how fast they run.

use std::collections::BTreeSet;

use config::{Config, cpu_list};

use super::{Finding, Machine};

const CPU: &str = "/sys/devices/system/cpu";

impl Machine {
    pub(super) fn cores(&self, config: Option<&Config>) -> Vec<Finding> {
        let Some(config) = config else {
            return vec![self.governor(&self.online())];
        };
        let process = &config.process;
        let workers: Vec<u16> = process.cores.clone();
        if workers.is_empty() {
            let pinned = Finding::warn(
                "cores",
                "workers are on no cores of their own",
                "name one for each in [process] cores, and one in control_core",
            );
            return vec![pinned, self.governor(&self.online())];
        }
        let named: BTreeSet<u16> = workers
            .iter()
            .copied()
            .chain(process.control_core)
            .collect();
        vec![
            self.isolation(&workers.iter().copied().collect()),
            self.siblings(&workers, process.control_core),
            self.governor(&named),
        ]
    }

    fn online(&self) -> BTreeSet<u16> {
        let online = self.read(format!("{CPU}/online"));
        online.and_then(|list| cpu_list(&list)).unwrap_or_default()
    }

    /// Others' threads, and the timer, should not run where workers do.
    fn isolation(&self, workers: &BTreeSet<u16>) -> Finding {
        let list = |name: &str| {
            let list = self.read(format!("{CPU}/{name}"));
            list.and_then(|list| cpu_list(&list)).unwrap_or_default()
        };
        let missing = |name: &str| {
            let there = list(name);
            workers.difference(&there).copied().collect::<Vec<_>>()
        };
        let (shared, ticking) = (missing("isolated"), missing("nohz_full"));
        if shared.is_empty() && ticking.is_empty() {
            return Finding::ok("isolation", "workers' cores are isolated and without ticks");
        }
        let mut found = Vec::new();
        if !shared.is_empty() {
            found.push(format!("others may run on cores {}", numbers(&shared)));
        }
        if !ticking.is_empty() {
            found.push(format!("the timer ticks on cores {}", numbers(&ticking)));
        }
        let all: Vec<u16> = workers.iter().copied().collect();
        let all = numbers(&all);
        Finding::warn(
            "isolation",
            found.join("; "),
            format!(
                "boot with isolcpus={all} nohz_full={all} rcu_nocbs={all}: latency and losses are at stake"
            ),
        )
    }

    /// Two busy threads on one core's halves share its caches and its execution units.
    fn siblings(&self, workers: &[u16], control: Option<u16>) -> Finding {
        let siblings = |core: u16| {
            let list = self.read(format!("{CPU}/cpu{core}/topology/thread_siblings_list"));
            list.and_then(|list| cpu_list(&list)).unwrap_or_default()
        };
        let others: BTreeSet<u16> = workers.iter().copied().chain(control).collect();
        let shared = workers.iter().find_map(|core| {
            let mut siblings = siblings(*core).into_iter();
            let other = siblings.find(|other| other != core && others.contains(other))?;
            Some((*core, other))
        });
        match shared {
            Some((core, other)) => Finding::warn(
                "hyperthreads",
                format!("cores {core} and {other} are halves of one, and threads are busy on both"),
                "give them cores whose thread_siblings_list names no other of them",
            ),
            None => Finding::ok("hyperthreads", "no two busy threads share a core"),
        }
    }

    fn governor(&self, cores: &BTreeSet<u16>) -> Finding {
        let slow: Vec<u16> = (cores.iter().copied())
            .filter(|core| {
                let governor = self.read(format!("{CPU}/cpu{core}/cpufreq/scaling_governor"));
                governor.is_some_and(|governor| governor != "performance")
            })
            .collect();
        if slow.is_empty() {
            return Finding::ok("governor", "performance, or not this machine's to choose");
        }
        Finding::warn(
            "governor",
            format!(
                "cores {} run as slow as the system thinks fit",
                numbers(&slow)
            ),
            "cpupower frequency-set -g performance",
        )
    }
}

fn numbers(cores: &[u16]) -> String {
    let texts: Vec<String> = cores.iter().map(ToString::to_string).collect();
    texts.join(",")
}
