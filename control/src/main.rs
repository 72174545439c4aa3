//! flowmob: network-based flow mobility.
//!
//! One program: `run` is an LMA, a MAG or a mobile node, by its configuration; the other commands ask or
//! tell a running one, or build a whole network of them (`lab`).

mod api;
#[cfg(feature = "dpdk")]
mod appliance;
mod capabilities;
#[cfg(feature = "dpdk")]
mod capture;
#[cfg(feature = "dpdk")]
mod certificates;
mod cli;
mod client;
mod confinement;
#[cfg(feature = "dpdk")]
mod doctor;
mod feed;
#[cfg(feature = "dpdk")]
mod frames;
#[cfg(feature = "dpdk")]
mod keys;
#[cfg(feature = "dpdk")]
mod lab;
mod log;
mod mn;
mod mobile;
#[cfg(feature = "dpdk")]
mod recording;
mod secret;
#[cfg(feature = "dpdk")]
mod selector_text;
mod server;
mod service;
mod show;
#[cfg(feature = "dpdk")]
mod sink;
mod top;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::{CommandFactory, Parser};
use config::Config;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use crate::cli::{Cli, Command, ConfigCommand};
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
    let socket = || match cli.socket.clone() {
        Some(socket) => Ok(socket),
        None => client::default_socket(),
    };
    let client = || socket().map(|socket| Client::new(&socket));
    match cli.command {
        #[cfg(feature = "dpdk")]
        Command::Run { config, take_over } => run(&config, take_over),
        #[cfg(not(feature = "dpdk"))]
        Command::Run { config } => run(&config, false),
        Command::Check { config } => check(&config),
        Command::Dashboard { listen } => dashboard(listen, &socket()?),
        Command::Health { live } => health(&client()?, live),
        Command::Show {
            what,
            json,
            watch: Some(interval),
        } => {
            show::watch(&client()?, what, json, interval)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Show { what, json, .. } => say(&show::show(&client()?, what, json)?),
        Command::Top { interval } => {
            top::run(&client()?, &socket()?, interval)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Explain(arguments) => say(&show::explain(&client()?, *arguments)?),
        Command::Events { follow, json } => events(&client()?, follow, json),
        Command::Flow(command) => say(&show::flow(&client()?, command)?),
        Command::Revoke(request) => say(&show::revoke(&client()?, request)?),
        Command::Service { mn, switch } => say(&show::service(&client()?, mn, switch)?),
        Command::Drain { off, wait } => {
            let client = client()?;
            say(&show::drain(&client, !off)?)?;
            if wait {
                say(&show::drained(&client)?)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Reregister(request) => say(&show::reregister(&client()?, request)?),
        Command::Reload { json } => reload(&client()?, false, json),
        Command::Config(ConfigCommand::Show { json }) => say(&show::config(&client()?, json)?),
        Command::Config(ConfigCommand::Diff { json }) => reload(&client()?, true, json),
        Command::Log { change, json } => say(&show::log(&client()?, change, json)?),
        Command::Attach { mobile, handoff } => {
            say(&show::mobile(&client()?, "attach", mobile, handoff)?)
        }
        Command::Detach(mobile) => say(&show::mobile(&client()?, "detach", mobile, None)?),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "flowmob", &mut script);
            say(String::from_utf8_lossy(&script).trim_end())
        }
        Command::Man { directory } => manual(&directory),
        #[cfg(feature = "dpdk")]
        Command::Appliance(command) => cli::appliance::execute(command, client),
    }
}

/// Prints an answer. A reader that has gone, as `head` does, is no failure.
pub(crate) fn say(text: &str) -> anyhow::Result<ExitCode> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Asks a process how it is; fails if it is not well, or does not answer.
fn health(client: &Client, live: bool) -> anyhow::Result<ExitCode> {
    if live {
        client.probe("/livez")?;
        return say("its loops turn");
    }
    client.probe("/readyz")?;
    say("ready")
}

/// Writes the manual pages.
fn manual(directory: &Path) -> anyhow::Result<ExitCode> {
    let what = || format!("cannot write manual pages to {}", directory.display());
    std::fs::create_dir_all(directory).with_context(what)?;
    clap_mangen::generate_to(Cli::command(), directory).with_context(what)?;
    Ok(ExitCode::SUCCESS)
}

/// Serves a process's page until it is to end.
fn dashboard(address: std::net::SocketAddr, socket: &Path) -> anyhow::Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("no signal handler")?;
    }
    // Says now what the page would say later.
    Client::new(socket).get("/v1/status")?;
    let page = server::Page::serve(address, socket)?;
    say(&format!("http://{}/", page.address()))?;
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what another configuration changes; fails if it cannot be put into force.
fn reload(client: &Client, dry_run: bool, json: bool) -> anyhow::Result<ExitCode> {
    let (text, fine) = show::reload(client, dry_run, json)?;
    let said = say(&text)?;
    Ok(if fine { said } else { ExitCode::FAILURE })
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
    let seen = confinement::user::see_as_configured(&config, path);
    let mut errors: Vec<_> = seen
        .err()
        .iter()
        .map(|error| format!("{error:#}"))
        .collect();
    let token = config.management.token_file.as_deref();
    let secrets = wrong_keys(&config).into_iter();
    let secrets = secrets.chain(token.and_then(|file| secret::token(file).err()));
    errors.extend(secrets.map(|error| error.to_string()));
    if !errors.is_empty() {
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

/// What is wrong with the files of keys and certificates.
#[cfg(feature = "dpdk")]
fn wrong_keys(config: &Config) -> Vec<secret::SecretError> {
    let keys = keys::load_all(&keys::Source::all(config));
    let mut wrong = keys.err().unwrap_or_default();
    wrong.extend(certificates::load(config).err());
    wrong
}

/// Of an LMA or MAG; a mobile node has none.
#[cfg(not(feature = "dpdk"))]
fn wrong_keys(_: &Config) -> Vec<secret::SecretError> {
    Vec::new()
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

/// What signals have asked for.
#[derive(Clone, Debug, Default)]
struct Signals {
    /// To end.
    stop: Arc<AtomicBool>,
    /// To read the configuration again.
    reload: Arc<AtomicBool>,
    /// To end, as another process takes over.
    hand_over: Arc<AtomicBool>,
}

fn run(path: &Path, take_over: bool) -> anyhow::Result<ExitCode> {
    capabilities::raise()?;
    let config = match config::load(path) {
        Ok(config) => config,
        Err(errors) => anyhow::bail!("{} cannot be run:\n\n{errors}", path.display()),
    };
    let logging = log::Logging::start(&config.log);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let signals = Signals::default();
    let Signals {
        stop,
        reload,
        hand_over,
    } = &signals;
    for (signal, flag) in [
        (SIGINT, stop),
        (SIGTERM, stop),
        (SIGHUP, reload),
        // In this order: who sees that it has to end knows why.
        (SIGUSR1, hand_over),
        (SIGUSR1, stop),
    ] {
        signal_hook::flag::register(signal, Arc::clone(flag)).context("no signal handler")?;
    }
    confinement::user::become_configured(&config, path)?;
    if let Some(mn) = &config.mn {
        anyhow::ensure!(
            !take_over,
            "a mobile node is taken over by nobody: end it, and start it again"
        );
        mobile::run(path, &config, mn, logging, &signals)?;
    } else {
        #[cfg(feature = "dpdk")]
        {
            doctor::log(&config);
            appliance::run(path, &config, logging, &signals, take_over)?;
        }
        #[cfg(not(feature = "dpdk"))]
        anyhow::bail!("this build has no DPDK: it runs [mn] only");
    }
    Ok(ExitCode::SUCCESS)
}
