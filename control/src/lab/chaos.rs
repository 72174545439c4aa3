//! Hundreds of things done to a lab, drawn from a seed: what each kind costs, and whether anything ever is what it must not be.

mod page;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::analysis::Flow;
use super::network::Network;
use super::nodes::NODES;
use super::operation::Operation;
use super::ordeal::{Cost, Costs, Ordeal, in_a_lab, write};
use super::pair::ToPair;
use super::progress::Progress;
use super::scenario::Plan;
use super::topology::{Host, Mag};

/// The hosts whose processes are done something to.
const APPLIANCES: [Host; 3] = [Host::Lma, Host::Mag1, Host::Mag2];
/// Those of a pair.
const LMAS: [Host; 2] = [Host::Lma, Host::Lma2];
/// Shorter than it takes to notice, and longer: heartbeats are missed.
const ABSENCES_MS: [u64; 4] = [50, 300, 1000, 5000];
/// How wrong clocks are, in seconds: a little more than what is put up with, a time zone, and more than any lifetime.
const WRONG_S: [i64; 5] = [-86_400, -3600, 3, 3600, 86_400];

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Chaos {
    /// What it was drawn from: with the same one, the same is done again.
    pub(crate) seed: u64,
    /// How much was to be done.
    pub(crate) events: u32,
    /// By what is alike, in the order of names.
    pub(crate) kinds: Vec<Kind>,
    /// Each for itself.
    #[serde(flatten)]
    pub(crate) costs: Costs,
}

/// What operations that are alike have cost: the median and the highest of their blocked times.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Kind {
    /// What they are.
    pub(crate) operations: String,
    /// How many there were.
    pub(crate) times: usize,
    /// Packets that never came.
    pub(crate) lost: u64,
    /// Towards the mobile: median and highest, in milliseconds.
    pub(crate) blocked_downlink_ms: [f64; 2],
    /// From the mobile.
    pub(crate) blocked_uplink_ms: [f64; 2],
    /// Until all was as it should be.
    pub(crate) settled_ms: [f64; 2],
}

/// Builds a lab, does `events` things to it, and writes what came of it to `out`. It ends with the first after which
/// something is wrong.
///
/// # Errors
/// If it could not be done.
pub(crate) fn run(
    plan: Plan,
    seed: u64,
    events: u32,
    out: &Path,
    progress: &Progress,
) -> anyhow::Result<Chaos> {
    progress.say(&format!("seed {seed}, {events} events"));
    let work = |network: &mut Network| measure(plan, seed, events, network, progress);
    let costs = in_a_lab(plan, out, progress, work)?;
    let chaos = Chaos {
        seed,
        events,
        kinds: kinds(&costs.operations),
        costs,
    };
    let json = serde_json::to_string_pretty(&chaos)?;
    write(out, "chaos.json", json, progress)?;
    write(out, "chaos.html", page::page(&chaos, plan), progress)?;
    Ok(chaos)
}

fn measure(
    plan: Plan,
    seed: u64,
    events: u32,
    network: &mut Network,
    progress: &Progress,
) -> anyhow::Result<Costs> {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let mut ordeal = Ordeal::begin(plan, network, progress)?;
    // First of all, that the rate is one without loss.
    let pair = plan.setting.pair;
    let draw = if pair { draw_for_pair } else { draw };
    let drawn = (1..events).map(|_| draw(&mut dice));
    for (number, operation) in (1..).zip([Operation::Nothing].into_iter().chain(drawn)) {
        progress.say(&format!("{number}/{events}: {}", operation.title()));
        if !ordeal.suffer(operation)? {
            break;
        }
    }
    ordeal.finish()
}

/// What is done next.
fn draw(dice: &mut ChaCha8Rng) -> Operation {
    match dice.random_range(0..100) {
        0..15 => Operation::Move(flow(dice), mag(dice)),
        15..18 => Operation::WrongClock(host(dice), wrong(dice), absence(dice)),
        18..20 => Operation::WrongClockAndKill(host(dice), wrong(dice)),
        20..30 => Operation::Storm(mag(dice)),
        30..38 => Operation::StormAndKill(mag(dice), host(dice)),
        38..52 => Operation::Kill(vec![host(dice)]),
        52..56 => {
            let mut hosts = APPLIANCES.to_vec();
            if dice.random() {
                hosts.retain(|host| *host != Host::Mag1);
            }
            Operation::Kill(hosts)
        }
        56..59 => Operation::Restart(host(dice)),
        59..62 => Operation::TakeOver(host(dice)),
        62..70 => Operation::Hold(host(dice), absence(dice)),
        70..78 => Operation::Partition(host(dice), absence(dice)),
        78..84 => Operation::LoseAccess(mag(dice), absence(dice)),
        84..90 => Operation::FillDisk(host(dice)),
        90..95 => Operation::Rot(host(dice), dice.random_range(0..1000)),
        _ => Operation::BadReload(host(dice)),
    }
}

/// What is done next where there is a pair: most of it to the LMAs and their etcd.
fn draw_for_pair(dice: &mut ChaCha8Rng) -> Operation {
    let to_pair = match dice.random_range(0..100) {
        0..17 => return Operation::Move(flow(dice), mag(dice)),
        17..20 => {
            let host = *LMAS.choose(dice).unwrap_or(&Host::Lma);
            return Operation::WrongClock(host, wrong(dice), absence(dice));
        }
        20..28 => return Operation::Storm(mag(dice)),
        28..34 => return Operation::Kill(vec![mag(dice).host()]),
        34..38 => return Operation::Partition(mag(dice).host(), absence(dice)),
        38..42 => return Operation::LoseAccess(mag(dice), absence(dice)),
        42..55 => ToPair::Kill,
        55..60 => ToPair::KillForWrongClock(wrong(dice)),
        60..74 => ToPair::StormAndKill(mag(dice)),
        74..82 => ToPair::End,
        82..88 => ToPair::CutOff(absence(dice)),
        88..93 => ToPair::KillStandby,
        93..97 => {
            let node = *NODES.choose(dice).unwrap_or(&NODES[0]);
            ToPair::KillNode(node, absence(dice))
        }
        _ => ToPair::KillStore(absence(dice)),
    };
    Operation::Pair(to_pair)
}

fn host(dice: &mut ChaCha8Rng) -> Host {
    *APPLIANCES.choose(dice).unwrap_or(&Host::Lma)
}

fn flow(dice: &mut ChaCha8Rng) -> Flow {
    *[Flow::X, Flow::Y].choose(dice).unwrap_or(&Flow::Y)
}

fn mag(dice: &mut ChaCha8Rng) -> Mag {
    *Mag::ALL.choose(dice).unwrap_or(&Mag::Mag1)
}

fn absence(dice: &mut ChaCha8Rng) -> Duration {
    Duration::from_millis(*ABSENCES_MS.choose(dice).unwrap_or(&50))
}

fn wrong(dice: &mut ChaCha8Rng) -> i64 {
    *WRONG_S.choose(dice).unwrap_or(&3600)
}

fn kinds(costs: &[Cost]) -> Vec<Kind> {
    let mut alike: BTreeMap<&str, Vec<&Cost>> = BTreeMap::new();
    for cost in costs {
        alike.entry(&cost.kind).or_default().push(cost);
    }
    let kinds = alike.into_iter().map(|(kind, costs)| {
        let both = |of: fn(&Cost) -> f64| {
            let mut all: Vec<f64> = costs.iter().map(|cost| of(cost)).collect();
            all.sort_by(f64::total_cmp);
            let at = |place: usize| all.get(place).copied().unwrap_or_default();
            [at(all.len() / 2), at(all.len() - 1)]
        };
        Kind {
            operations: kind.to_owned(),
            times: costs.len(),
            lost: costs.iter().map(|cost| cost.lost).sum(),
            blocked_downlink_ms: both(|cost| cost.blocked_downlink_ms),
            blocked_uplink_ms: both(|cost| cost.blocked_uplink_ms),
            settled_ms: both(|cost| {
                #[expect(clippy::cast_precision_loss, reason = "minutes at most")]
                let time = cost.settled_ms as f64;
                time
            }),
        }
    });
    kinds.collect()
}

/// The columns of the table by kind.
const COLUMNS: [&str; 6] = [
    "what was done",
    "times",
    "lost",
    "blocked down",
    "blocked up",
    "all well after",
];

fn rows(chaos: &Chaos) -> Vec<[String; 6]> {
    let both = |[median, most]: [f64; 2]| format!("{median:.0} / {most:.0}");
    let rows = chaos.kinds.iter().map(|kind| {
        [
            kind.operations.clone(),
            kind.times.to_string(),
            kind.lost.to_string(),
            both(kind.blocked_downlink_ms),
            both(kind.blocked_uplink_ms),
            both(kind.settled_ms),
        ]
    });
    rows.collect()
}

fn verdict(chaos: &Chaos) -> String {
    let done = chaos.costs.operations.len();
    let wrong = chaos
        .costs
        .operations
        .iter()
        .find(|cost| !cost.wrong.is_empty());
    match wrong {
        None if chaos.costs.passed => format!(
            "passed: {done} events, and each time every flow had one path, every prefix one owner, and nothing was \
             forgotten"
        ),
        None => "FAILED: packets were lost where nothing was done, or came that were nobody's, or the capture was too \
                 slow"
            .to_owned(),
        Some(cost) => format!(
            "FAILED after event {done}, {}: {}\n`--seed {}` does the same again",
            cost.operation,
            cost.wrong.join("; "),
            chaos.seed
        ),
    }
}

/// As a table for people.
pub(crate) fn render(chaos: &Chaos) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(COLUMNS);
    for row in rows(chaos) {
        table.add_row(row);
    }
    format!(
        "{table}\nblocked and all well: median / most, in ms; blocked time is packets lost divided by the rate of {} \
         packets/s a flow and direction\n{}\n",
        chaos.costs.rate,
        verdict(chaos)
    )
}

#[cfg(test)]
mod tests;
