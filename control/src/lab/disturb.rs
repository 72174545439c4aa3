//! What it costs when processes are killed, held up, or given a bad file: one of each.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::network::Network;
use super::operation::Operation;
use super::ordeal::{Costs, Ordeal, Plan};
use super::progress::Progress;
use super::topology::Host;

fn operations() -> [Operation; 10] {
    [
        Operation::Nothing,
        Operation::Kill(vec![Host::Lma]),
        Operation::Kill(vec![Host::Mag1]),
        Operation::Kill(vec![Host::Mag2]),
        Operation::Kill(vec![Host::Lma, Host::Mag1, Host::Mag2]),
        Operation::Restart(Host::Lma),
        Operation::TakeOver(Host::Lma),
        Operation::TakeOver(Host::Mag1),
        Operation::Hold(Host::Lma, Duration::from_millis(200)),
        Operation::BadReload(Host::Lma),
    ]
}

/// Builds a lab, disturbs it, and writes what that cost to `out`.
///
/// # Errors
/// If it could not be done. A lab that is not what it was afterwards is in [`Costs::passed`].
pub(crate) fn run(plan: Plan, out: &Path, progress: &Progress) -> anyhow::Result<Costs> {
    let mut network = Network::up(plan.setting, progress)?;
    let measured = measure(plan, &mut network, progress);
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    network.copy_logs(out)?;
    let costs = measured?;
    let path = out.join("disturb.json");
    fs::write(&path, serde_json::to_string_pretty(&costs)?)
        .with_context(|| path.display().to_string())?;
    progress.say(&format!("written: {}", path.display()));
    Ok(costs)
}

fn measure(plan: Plan, network: &mut Network, progress: &Progress) -> anyhow::Result<Costs> {
    let mut ordeal = Ordeal::begin(plan, network, progress)?;
    for operation in operations() {
        progress.say(&operation.title());
        ordeal.suffer(operation)?;
    }
    ordeal.finish()
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
