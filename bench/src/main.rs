//! What flowmob does on this machine, each figure beside a bare loop and testpmd's in the same run.
//! README.md says how each is taken.

mod alloc;
mod case;
mod cell;
mod clock;
mod compare;
mod floor;
mod generator;
mod hostile;
mod kernel;
mod latency;
mod machine;
mod network;
mod paced;
mod page;
mod pages;
mod report;
mod run;
mod signalling;
mod spread;
mod subject;
mod tables;
mod testpmd;

use std::io;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "flowmob-bench", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures and reports
    Run(run::Options),
    /// Renders a stored report.json as a page again
    Report(page::Options),
    /// One work on one kind of memory: the order comes as JSON on standard input
    #[command(hide = true)]
    Cell,
    /// Latencies of one work, likewise
    #[command(hide = true)]
    Latency,
    /// The control plane, likewise
    #[command(hide = true)]
    Control,
    /// Two workers and one tunnel, likewise
    #[command(hide = true)]
    Spread,
    /// What hostile packets cost the others, likewise
    #[command(hide = true)]
    Hostile,
    /// The memory of tables, likewise
    #[command(hide = true)]
    Tables,
    /// The kernel beside us, likewise
    #[command(hide = true)]
    Kernel,
    /// A worker between two interfaces of the kernel
    #[command(hide = true)]
    Worker,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Report(options) => page::again(&options),
        Command::Cell => {
            let order = serde_json::from_reader(io::stdin())?;
            let outcomes = cell::measure(&order, step)?;
            Ok(serde_json::to_writer(io::stdout(), &outcomes)?)
        }
        Command::Latency => {
            let order = serde_json::from_reader(io::stdin())?;
            let rows = latency::measure(&order, step)?;
            Ok(serde_json::to_writer(io::stdout(), &rows)?)
        }
        Command::Control => {
            let order = serde_json::from_reader(io::stdin())?;
            let outcome = signalling::measure(&order, step)?;
            Ok(serde_json::to_writer(io::stdout(), &outcome)?)
        }
        Command::Spread => {
            let order = serde_json::from_reader(io::stdin())?;
            let outcome = spread::measure(&order, step)?;
            Ok(serde_json::to_writer(io::stdout(), &outcome)?)
        }
        Command::Hostile => {
            let order = serde_json::from_reader(io::stdin())?;
            let rows = hostile::measure(&order, step)?;
            Ok(serde_json::to_writer(io::stdout(), &rows)?)
        }
        Command::Tables => {
            let order = serde_json::from_reader(io::stdin())?;
            let row = tables::measure(&order, step)?;
            Ok(serde_json::to_writer(io::stdout(), &row)?)
        }
        Command::Kernel => {
            let order = serde_json::from_reader(io::stdin())?;
            let outcome = kernel::measure(&order, step);
            Ok(serde_json::to_writer(io::stdout(), &outcome)?)
        }
        Command::Worker => kernel::serve(),
    }
}

/// Tells the parent of a step done.
fn step() {
    eprintln!(".");
}
