//! What disturbances cost: processes that are killed or held up, under traffic.
//!
//! For each operation the *effective blocked time* of each direction: packets lost, divided by the offered rate, which
//! is free of loss without the operation. Afterwards the tables have to be those of before.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::Signal;
use serde::Serialize;
use serde_json::Value;

use super::analysis::{Direction, Flow};
use super::network::Network;
use super::progress::Progress;
use super::scenario::{add_flow, ends};
use super::topology::{Host, Mag, Setting};
use super::traffic::{Ends, Outcome, Sites, UdpFlow};
use crate::api::config::Reload;

/// Traffic before an operation, and at least as long after it.
const STEADY: Duration = Duration::from_secs(1);
/// How long packets may take to get through again, and tables to be those of before.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is done to the lab.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    /// Nothing: the rate has to be one without loss.
    Nothing,
    /// `kill -9`, and a start at once.
    Kill(&'static [Host]),
    /// It is held up for so long: SIGSTOP, SIGCONT.
    Hold(Host, Duration),
    /// It is told to read a configuration that is none.
    BadReload(Host),
}

const OPERATIONS: [Operation; 7] = [
    Operation::Nothing,
    Operation::Kill(&[Host::Lma]),
    Operation::Kill(&[Host::Mag1]),
    Operation::Kill(&[Host::Mag2]),
    Operation::Kill(&[Host::Lma, Host::Mag1, Host::Mag2]),
    Operation::Hold(Host::Lma, Duration::from_millis(200)),
    Operation::BadReload(Host::Lma),
];

impl Operation {
    fn title(self) -> String {
        match self {
            Self::Nothing => "nothing".to_owned(),
            Self::Kill(hosts) => {
                let names: Vec<&str> = hosts.iter().map(|host| host.name()).collect();
                format!("kill -9 {}, start", names.join(" "))
            }
            Self::Hold(host, time) => format!("hold {} for {} ms", host.name(), time.as_millis()),
            Self::BadReload(host) => format!("reload {} with a bad file", host.name()),
        }
    }

    fn carry_out(self, network: &mut Network, progress: &Progress) -> anyhow::Result<()> {
        match self {
            Self::Nothing => {}
            Self::Kill(hosts) => {
                for host in hosts {
                    network.kill(*host);
                }
                for host in hosts {
                    network.start_again(*host, progress)?;
                }
            }
            Self::Hold(host, time) => {
                network.signal(host, Signal::SIGSTOP)?;
                std::thread::sleep(time);
                network.signal(host, Signal::SIGCONT)?;
            }
            Self::BadReload(host) => {
                let path = network.config_path(host);
                let good = fs::read(&path).with_context(|| path.display().to_string())?;
                fs::write(&path, "[lma]\naddress = 7\n")?;
                let answer = network.post::<Value>(host, "/v1/reload", &Reload { dry_run: false });
                fs::write(&path, good)?;
                let Err(refusal) = answer else {
                    anyhow::bail!("{} takes a bad file", host.name());
                };
                let refusal = format!("{refusal:#}");
                anyhow::ensure!(
                    refusal.contains("address = 7"),
                    "not for its fault: {refusal}"
                );
            }
        }
        Ok(())
    }
}

/// What an operation has cost.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cost {
    /// In words.
    operation: String,
    /// Packets sent in all flows and both directions.
    sent: u64,
    /// Of those, packets that never came.
    lost: u64,
    /// Effective blocked time of the flow that lost most, in milliseconds: towards the mobile.
    blocked_downlink_ms: f64,
    /// From the mobile.
    blocked_uplink_ms: f64,
    /// What was otherwise afterwards; empty if nothing was.
    wrong: Vec<String>,
}

/// All of them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Costs {
    /// Packets per second of each flow in each direction.
    rate: u32,
    /// Whether everything was as before after each operation, and nothing was lost where nothing was done.
    pub(crate) passed: bool,
    operations: Vec<Cost>,
}

/// Builds a lab, disturbs it, and writes what that cost to `out`.
///
/// # Errors
/// If it could not be done. A lab that is not what it was afterwards is in [`Costs::passed`].
pub(crate) fn run(
    setting: Setting,
    rate: u32,
    out: &Path,
    progress: &Progress,
) -> anyhow::Result<Costs> {
    let mut network = Network::up(setting, progress)?;
    let measured = measure(setting, rate, &mut network, progress);
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    network.copy_logs(out)?;
    let costs = measured?;
    let path = out.join("disturb.json");
    fs::write(&path, serde_json::to_string_pretty(&costs)?)
        .with_context(|| path.display().to_string())?;
    progress.say(&format!("written: {}", path.display()));
    Ok(costs)
}

fn measure(
    setting: Setting,
    rate: u32,
    network: &mut Network,
    progress: &Progress,
) -> anyhow::Result<Costs> {
    let prefixes = network.attach(setting.scenario, progress)?;
    let both = [ends(Flow::X, prefixes), ends(Flow::Y, prefixes)];
    let [x, y] = &both;
    // Neither where its prefix is: they go on as long as what was granted is remembered.
    add_flow(network, x, Mag::Mag2)?;
    add_flow(network, y, Mag::Mag1)?;
    progress.pause(STEADY)?;
    let before = known(network)?;
    let mut costs = Vec::new();
    for operation in OPERATIONS {
        let title = operation.title();
        progress.say(&title);
        let outcomes = under_traffic(operation, &both, rate, network, progress)?;
        let mut wrong = Vec::new();
        let settled = progress.wait_for("the tables of before", PATIENCE, || {
            let now = known(network)?;
            let other = before.symmetric_difference(&now);
            wrong = other.cloned().collect();
            Ok(wrong.is_empty().then_some(()).ok_or_else(String::new))
        });
        if let Err(error) = settled
            && wrong.is_empty()
        {
            return Err(error);
        }
        costs.push(cost(title, rate, &outcomes, wrong));
    }
    let whole = |cost: &Cost| cost.wrong.is_empty();
    let quiet = costs.first().is_some_and(|nothing| nothing.lost == 0);
    Ok(Costs {
        rate,
        passed: quiet && costs.iter().all(whole),
        operations: costs,
    })
}

/// Runs both flows, does what is to be done, and waits until packets get through again.
fn under_traffic(
    operation: Operation,
    flows: &[Ends],
    rate: u32,
    network: &mut Network,
    progress: &Progress,
) -> anyhow::Result<Vec<Outcome>> {
    let (cn, mn) = (network.namespace(Host::Cn), network.namespace(Host::Mn));
    let sites = Sites { cn: &cn, mn: &mn };
    let running: anyhow::Result<Vec<_>> = flows
        .iter()
        .map(|ends| UdpFlow::start(sites, *ends, rate))
        .collect();
    let running = running?;
    progress.pause(STEADY)?;
    operation.carry_out(network, progress)?;
    // More in every direction than there was, and then for as long as before.
    let received =
        |running: &[UdpFlow]| -> Vec<u64> { running.iter().flat_map(UdpFlow::received).collect() };
    let then = received(&running);
    progress.wait_for("packets in all directions", PATIENCE, || {
        network.check()?;
        let now = received(&running);
        let all = now.iter().zip(&then).all(|(now, then)| now > then);
        Ok(all
            .then_some(())
            .ok_or_else(|| format!("{then:?}, {now:?}")))
    })?;
    progress.pause(STEADY)?;
    running.iter().for_each(UdpFlow::stop_sending);
    let mut outcomes = Vec::new();
    for flow in running {
        outcomes.extend(flow.finish()?);
    }
    Ok(outcomes)
}

fn cost(operation: String, rate: u32, outcomes: &[Outcome], wrong: Vec<String>) -> Cost {
    let blocked = |direction: Direction| {
        let lost = outcomes
            .iter()
            .filter(|outcome| outcome.direction == direction)
            .map(|outcome| outcome.accounting.lost)
            .max()
            .unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 packets")]
        let lost = lost as f64;
        (lost * 10_000.0 / f64::from(rate)).round() / 10.0
    };
    let sum = |count: fn(&Outcome) -> u64| outcomes.iter().map(count).sum();
    Cost {
        operation,
        sent: sum(|outcome| outcome.accounting.sent),
        lost: sum(|outcome| outcome.accounting.lost),
        blocked_downlink_ms: blocked(Direction::Downlink),
        blocked_uplink_ms: blocked(Direction::Uplink),
        wrong,
    }
}

/// What LMA and MAGs know, but for times and counts.
fn known(network: &Network) -> anyhow::Result<BTreeSet<String>> {
    let mut known = BTreeSet::new();
    for host in [Host::Lma, Host::Mag1, Host::Mag2] {
        for table in ["bindings", "flows", "routes"] {
            let rows: Vec<Value> = network.read(host, &format!("/v1/{table}"))?;
            for mut row in rows {
                if let Some(row) = row.as_object_mut() {
                    for changing in ["remaining_seconds", "counters", "packets", "octets"] {
                        row.remove(changing);
                    }
                }
                known.insert(format!("{} {table} {row}", host.name()));
            }
        }
    }
    Ok(known)
}

/// As a table for people.
pub(crate) fn render(costs: &Costs) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "operation",
        "sent",
        "lost",
        "blocked down",
        "blocked up",
        "afterwards",
    ]);
    for cost in &costs.operations {
        let after = if cost.wrong.is_empty() {
            "as before".to_owned()
        } else {
            cost.wrong.join("\n")
        };
        table.add_row([
            cost.operation.clone(),
            cost.sent.to_string(),
            cost.lost.to_string(),
            format!("{:.1} ms", cost.blocked_downlink_ms),
            format!("{:.1} ms", cost.blocked_uplink_ms),
            after,
        ]);
    }
    let verdict = if costs.passed { "passed" } else { "FAILED" };
    format!(
        "{table}\n{verdict}: blocked time is packets lost divided by the rate of {} packets/s a flow and direction\n",
        costs.rate
    )
}
