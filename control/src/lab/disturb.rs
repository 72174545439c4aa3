//! What it costs when processes are killed, held up, or given a bad file: one of each.

use std::path::Path;
use std::time::Duration;

use super::network::Network;
use super::operation::Operation;
use super::ordeal::{Costs, Ordeal, in_a_lab, write};
use super::progress::Progress;
use super::scenario::Plan;
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
    let work = |network: &mut Network| measure(plan, network, progress);
    let costs = in_a_lab(plan, out, progress, work)?;
    let json = serde_json::to_string_pretty(&costs)?;
    write(out, "disturb.json", json, progress)?;
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
