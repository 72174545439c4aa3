//! flowmob: network-based flow mobility.
//!
//! One program: `run` is an LMA, a MAG or a mobile node, by its configuration; the other commands ask or
//! tell a running one, or build a whole network of them (`lab`).

mod api;
#[cfg(feature = "dpdk")]
mod appliance;
mod cli;
mod client;
#[cfg(feature = "dpdk")]
mod doctor;
mod feed;
mod keys;
#[cfg(feature = "dpdk")]
mod lab;
mod mn;
mod mobile;
#[cfg(feature = "dpdk")]
mod selector_text;
mod server;
mod show;

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use clap::Parser;
use config::{Config, LogFormat, LogLevel};
use signal_hook::consts::{SIGINT, SIGTERM};
use tracing_subscriber::filter::LevelFilter;

use crate::cli::{Cli, Command, Keys};
use crate::client::Client;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match execute(cli) {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

fn execute(cli: Cli) -> anyhow::Result<ExitCode> {
    let client = Client::new(&cli.socket);
    match cli.command {
        Command::Run { config } => run(&config),
        Command::Check { config } => check(&config),
        Command::Show { what, json } => say(&show::show(&client, what, json)?),
        Command::Explain(arguments) => say(&show::explain(&client, *arguments)?),
        Command::Events { follow, json } => events(&client, follow, json),
        Command::Flow(command) => say(&show::flow(&client, command)?),
        Command::Revoke(request) => say(&show::revoke(&client, request)?),
        Command::Service { mn, switch } => say(&show::service(&client, mn, switch)?),
        Command::Reregister(request) => say(&show::reregister(&client, request)?),
        Command::Keys(Keys::Generate(arguments)) => say(&keys::generate(&arguments)?),
        Command::Keys(Keys::Reload) => say(&show::reload_keys(&client)?),
        Command::Attach { mobile, handoff } => {
            say(&show::mobile(&client, "attach", mobile, handoff)?)
        }
        Command::Detach(mobile) => say(&show::mobile(&client, "detach", mobile, None)?),
        #[cfg(feature = "dpdk")]
        Command::Doctor { config, json } => examine(config.as_deref(), json),
        #[cfg(feature = "dpdk")]
        Command::Lab(command) => lab::run(command),
    }
}

/// Prints an answer. A reader that has gone, as `head` does, is no failure.
fn say(text: &str) -> anyhow::Result<ExitCode> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Prints events as they come. A reader that has gone ends it.
fn events(client: &Client, follow: bool, json: bool) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    show::events(client, follow, json, |line| writeln!(out, "{line}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what went wrong, with its causes.
fn report(error: &anyhow::Error) {
    // Nobody is left to tell if this fails.
    let _ = writeln!(std::io::stderr(), "flowmob: {error:#}");
}

fn check(path: &Path) -> anyhow::Result<ExitCode> {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(errors) => {
            writeln!(std::io::stderr(), "{errors}")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    if let Err(errors) = keys::load_all(&keys::Source::all(&config)) {
        let mut said = std::io::stderr();
        write!(said, "{}", warnings(&config))?;
        for error in errors {
            writeln!(said, "error: {error}")?;
        }
        return Ok(ExitCode::FAILURE);
    }
    say(&format!(
        "{}{} is a valid configuration",
        warnings(&config),
        path.display()
    ))
}

/// Looks at the machine; fails if something will not work.
#[cfg(feature = "dpdk")]
fn examine(path: Option<&Path>, json: bool) -> anyhow::Result<ExitCode> {
    let config = match path.map(config::load).transpose() {
        Ok(config) => config,
        Err(errors) => {
            writeln!(std::io::stderr(), "{errors}")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let findings = doctor::Machine::this().look(config.as_ref());
    let text = if json {
        serde_json::to_string_pretty(&findings)?
    } else {
        show::findings(&findings)?
    };
    let said = say(&text)?;
    Ok(if doctor::fails(&findings) {
        ExitCode::FAILURE
    } else {
        said
    })
}

fn warnings(config: &Config) -> String {
    let mut text = String::new();
    for warning in &config.warnings {
        text += &warning.to_string();
        text += "

";
    }
    text
}

fn run(path: &Path) -> anyhow::Result<ExitCode> {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(errors) => anyhow::bail!("{} cannot be run:\n\n{errors}", path.display()),
    };
    log(&config);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("no signal handler")?;
    }
    if let Some(mn) = &config.mn {
        mobile::run(&config, mn, &stop)?;
    } else {
        #[cfg(feature = "dpdk")]
        {
            doctor::log(&config);
            appliance::run(&config, &stop)?;
        }
        #[cfg(not(feature = "dpdk"))]
        anyhow::bail!("this build has no DPDK: it runs [mn] only");
    }
    Ok(ExitCode::SUCCESS)
}

/// Sends log lines to standard error, as the configuration wants them.
fn log(config: &Config) {
    let level = match config.log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let lines = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.log.format {
        LogFormat::Text => lines.with_target(false).init(),
        LogFormat::Json => lines.json().init(),
    }
}
