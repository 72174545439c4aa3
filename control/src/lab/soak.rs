//! A flow that moves every second for a long time: nothing may be lost, nothing may grow, and what the appliances count has
//! to be what the applications counted.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use super::analysis::{Direction, Flow};
use super::network::Network;
use super::operation::Operation;
use super::ordeal::{Costs, Ordeal, in_a_lab, write};
use super::progress::Progress;
use super::scenario::Plan;
use super::topology::{Host, Mag};
use super::traffic::Outcome;
use crate::api::FlowRow;

/// How often it is looked at what processes use.
const LOOK: Duration = Duration::from_secs(3);
/// Moves before the first look: memory that is used once is used for good.
const WARM_UP: usize = 5;
/// What a process's memory may grow by from the first quarter of the time to the last one: a flight recorder that fills,
/// and pages of it that are touched for the first time.
const SLACK_KIB: u64 = 8 << 10;
/// Buffers that a burst may have at the moment of a look.
const SLACK_BUFFERS: u64 = 256;

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Soaked {
    /// Whether nothing was lost, nothing grew, and all counts agree.
    pub(crate) passed: bool,
    /// How long, in seconds.
    seconds: u64,
    /// Moves that were made.
    moves: usize,
    /// Packets sent in all flows and both directions.
    sent: u64,
    /// Of those, packets that never came.
    lost: u64,
    /// Packets that came twice, or that nobody sent.
    foreign: u64,
    /// What each process used at first and at last: medians of the first and the last quarter of the looks.
    processes: BTreeMap<String, [Usage; 2]>,
    /// Packets towards the mobile, flow by flow: received by the application, and counted by the LMA's workers.
    counted: BTreeMap<String, [u64; 2]>,
    /// What is not as it has to be.
    wrong: Vec<String>,
}

/// What a process uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
struct Usage {
    /// Memory, in KiB.
    resident_kib: u64,
    /// Open files and sockets.
    descriptors: u64,
    /// Packet buffers that are not free.
    buffers: u64,
}

/// Builds a lab, moves flow Y once a second, and writes what came of it to `out`.
///
/// # Errors
/// If it could not be done.
pub(crate) fn run(
    plan: Plan,
    time: Duration,
    out: &Path,
    progress: &Progress,
) -> anyhow::Result<Soaked> {
    let work = |network: &mut Network| measure(plan, time, network, progress);
    let soaked = in_a_lab(plan, out, progress, work)?;
    let json = serde_json::to_string_pretty(&soaked)?;
    write(out, "soak.json", json, progress)?;
    Ok(soaked)
}

fn measure(
    plan: Plan,
    time: Duration,
    network: &mut Network,
    progress: &Progress,
) -> anyhow::Result<Soaked> {
    let mut ordeal = Ordeal::begin(plan, network, progress)?;
    let start = Instant::now();
    let mut looks: Vec<BTreeMap<&'static str, Usage>> = Vec::new();
    let mut moves = 0;
    let mut looked = start;
    while start.elapsed() < time {
        // It begins at MAG1.
        let to = if moves % 2 == 0 { Mag::Mag2 } else { Mag::Mag1 };
        let well = ordeal.suffer(Operation::Move(Flow::Y, to))?;
        moves += 1;
        if !well {
            break;
        }
        if looked.elapsed() >= LOOK && moves >= WARM_UP {
            looked = Instant::now();
            looks.push(look(ordeal.network)?);
            progress.say(&format!(
                "{} of {} s, {moves} moves",
                start.elapsed().as_secs(),
                time.as_secs()
            ));
        }
    }
    let seconds = start.elapsed().as_secs();
    let (costs, outcomes, rows) =
        ordeal.finish_with(|network| network.read::<Vec<FlowRow>>(Host::Lma, "/v1/flows"))?;
    Ok(judge(seconds, moves, &costs, &outcomes, &rows, &looks))
}

fn judge(
    seconds: u64,
    moves: usize,
    costs: &Costs,
    outcomes: &[Outcome],
    rows: &[FlowRow],
    looks: &[BTreeMap<&'static str, Usage>],
) -> Soaked {
    let mut wrong: Vec<String> = costs
        .operations
        .iter()
        .flat_map(|cost| cost.wrong.clone())
        .collect();
    let sum = |of: fn(&Outcome) -> u64| -> u64 { outcomes.iter().map(of).sum() };
    let sent = sum(|outcome| outcome.accounting.sent);
    let lost = sum(|outcome| outcome.accounting.lost);
    let foreign = sum(|outcome| outcome.accounting.foreign + outcome.accounting.duplicated);
    if lost > 0 || foreign > 0 {
        wrong.push(format!(
            "{lost} packets of {sent} lost, {foreign} that were nobody's or came twice"
        ));
    }
    if wrong.is_empty() && !costs.passed {
        wrong.push("the capture was too slow to tell where packets went".to_owned());
    }
    let processes = growth(looks);
    for (name, [first, last]) in &processes {
        if last.resident_kib > first.resident_kib + SLACK_KIB {
            wrong.push(format!(
                "{name} grew from {} to {} KiB",
                first.resident_kib, last.resident_kib
            ));
        }
        if last.descriptors > first.descriptors {
            wrong.push(format!(
                "{name} had {} files open, and then {}",
                first.descriptors, last.descriptors
            ));
        }
        if last.buffers > first.buffers + SLACK_BUFFERS {
            wrong.push(format!(
                "{name} used {} packet buffers, and then {}",
                first.buffers, last.buffers
            ));
        }
    }
    if processes.is_empty() {
        wrong.push("too short: nobody could look at what processes use".to_owned());
    }
    let mut counted = BTreeMap::new();
    for outcome in outcomes
        .iter()
        .filter(|outcome| outcome.direction == Direction::Downlink)
    {
        let port = super::scenario::mn_port(outcome.flow);
        let row = rows
            .iter()
            .find(|row| row.selector_text.contains(&format!("dport {port}")));
        let packets = row.map_or(0, |row| row.packets);
        let received = outcome.accounting.received;
        if packets != received + outcome.accounting.lost {
            wrong.push(format!(
                "{received} packets of {:?} were received, and {packets} counted",
                outcome.flow
            ));
        }
        counted.insert(format!("{:?}", outcome.flow), [received, packets]);
    }
    Soaked {
        passed: wrong.is_empty(),
        seconds,
        moves,
        sent,
        lost,
        foreign,
        processes,
        counted,
        wrong,
    }
}

/// Each process's medians of the first and of the last quarter.
fn growth(looks: &[BTreeMap<&'static str, Usage>]) -> BTreeMap<String, [Usage; 2]> {
    let quarter = looks.len().div_ceil(4);
    let last = looks.len() - quarter;
    let mut out = BTreeMap::new();
    for name in looks.first().iter().flat_map(|look| look.keys()) {
        let usages = |looks: &[BTreeMap<&'static str, Usage>]| -> Vec<Usage> {
            looks
                .iter()
                .filter_map(|look| look.get(name))
                .copied()
                .collect()
        };
        let [first, last] = [looks.get(..quarter), looks.get(last..)]
            .map(|looks| median(&usages(looks.unwrap_or_default())));
        out.insert((*name).to_owned(), [first, last]);
    }
    out
}

fn median(usages: &[Usage]) -> Usage {
    let of = |value: fn(&Usage) -> u64| {
        let mut all: Vec<u64> = usages.iter().map(value).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    Usage {
        resident_kib: of(|usage| usage.resident_kib),
        descriptors: of(|usage| usage.descriptors),
        buffers: of(|usage| usage.buffers),
    }
}

fn look(network: &Network) -> anyhow::Result<BTreeMap<&'static str, Usage>> {
    let mut out = BTreeMap::new();
    for (name, pid) in network.pids() {
        let about = || format!("what {name} uses");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(about)?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|rest| rest.split_whitespace().next());
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))
            .with_context(about)?
            .count();
        // The mobile has no ports of its own.
        let buffers = if name == Host::Mn.name() {
            0
        } else {
            let used = network.gauge(name, "flowmob_packet_buffers_used")?;
            used.with_context(about)?
        };
        out.insert(
            name,
            Usage {
                resident_kib: resident
                    .and_then(|kib| kib.parse().ok())
                    .with_context(about)?,
                descriptors: u64::try_from(descriptors).unwrap_or(u64::MAX),
                buffers,
            },
        );
    }
    Ok(out)
}

/// As a table for people.
pub(crate) fn render(soaked: &Soaked) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["process", "memory", "files open", "packet buffers"]);
    for (name, [first, last]) in &soaked.processes {
        let both = |of: fn(&Usage) -> u64| format!("{} -> {}", of(first), of(last));
        table.add_row([
            name.clone(),
            both(|usage| usage.resident_kib) + " KiB",
            both(|usage| usage.descriptors),
            both(|usage| usage.buffers),
        ]);
    }
    let verdict = if soaked.wrong.is_empty() {
        "passed".to_owned()
    } else {
        format!("FAILED: {}", soaked.wrong.join("; "))
    };
    format!(
        "{table}\n{} moves in {} s, {} packets, {} lost\n{verdict}\n",
        soaked.moves, soaked.seconds, soaked.sent, soaked.lost
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(of: impl Fn(u64) -> Usage) -> Vec<BTreeMap<&'static str, Usage>> {
        (0..16).map(|n| BTreeMap::from([("lma", of(n))])).collect()
    }

    fn judged(of: impl Fn(u64) -> Usage) -> Soaked {
        let costs = Costs {
            rate: 1000,
            passed: true,
            operations: Vec::new(),
        };
        judge(60, 60, &costs, &[], &[], &looks(of))
    }

    #[test]
    fn what_grows_is_told() {
        let flat = |n: u64| Usage {
            resident_kib: 90_000 + 100 * (n % 3),
            descriptors: 40,
            buffers: 1000 + n % 5,
        };
        let soaked = judged(flat);
        assert!(soaked.passed, "{:?}", soaked.wrong);
        assert!(render(&soaked).ends_with("passed\n"));
        let leaks: [fn(u64, &mut Usage); 3] = [
            |n, usage| usage.resident_kib += 1000 * n,
            |n, usage| usage.descriptors += n / 8,
            |n, usage| usage.buffers += 40 * n,
        ];
        for leak in leaks {
            let soaked = judged(|n| {
                let mut usage = flat(n);
                leak(n, &mut usage);
                usage
            });
            assert_eq!(soaked.wrong.len(), 1, "{:?}", soaked.wrong);
        }
    }

    #[test]
    fn nothing_looked_at_is_nothing_shown() {
        let costs = Costs {
            rate: 1000,
            passed: true,
            operations: Vec::new(),
        };
        let soaked = judge(1, 1, &costs, &[], &[], &[]);
        assert!(!soaked.passed);
    }
}
