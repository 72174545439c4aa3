//! The commands that only the build with an appliance has: those that look at packets, recordings and keys, or
//! build a network.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::client::Client;
use crate::{capture, doctor, keys, lab, recording, say, show};

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Capture packets as they come in and leave, each with what was decided about it: into a file for Wireshark, or a
    /// line for each, until interrupted. One capture at a time; the packets of others do not notice.
    Capture(Box<CaptureArgs>),
    /// Hand over what the flight recorder of an LMA or MAG has kept: its last signalling messages and decisions.
    #[command(subcommand)]
    Recorder(Recorder),
    /// Put a recording through the state machines again and say whether they decide the same; fails if not. Speaks to no
    /// process.
    Replay {
        /// The recording.
        file: PathBuf,
        /// Print what went in and came out instead, a line each.
        #[arg(long)]
        list: bool,
        /// Print only lines with this text in them: a mobile's identifier, or an address.
        #[arg(long, value_name = "TEXT", requires = "list")]
        about: Option<String>,
    },
    /// Make the keys that protect signalling, or read them again.
    #[command(subcommand)]
    Keys(Keys),
    /// Look at this machine: what hurts an appliance here, and how to mend it. Fails if something will not work.
    Doctor {
        /// The configuration whose ports and cores are looked at [default: the machine alone].
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// A whole network in network namespaces on this machine: CN, LMA, two MAGs and a mobile node.
    #[command(subcommand)]
    Lab(lab::LabCommand),
}

/// `flowmob recorder ...`
#[derive(Debug, Subcommand)]
pub(crate) enum Recorder {
    /// Write it to a file, for `flowmob replay`. It names mobiles and their addresses.
    Dump {
        /// The file.
        file: PathBuf,
    },
}

/// `flowmob keys ...`
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Write a matching pair of key files, for an LMA and a MAG. Speaks to no process.
    Generate(keys::GenerateArgs),
    /// Have a process read its key files again; what is in force stays if anything is wrong with them.
    Reload,
}

/// Arguments of `flowmob capture`.
#[derive(Debug, Args)]
pub(crate) struct CaptureArgs {
    /// File of pcapng to write; - is standard output [default: a line of text for each frame].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
    /// Packets from or to this mobile node, attached now or later, in or out of a tunnel.
    #[arg(long, value_name = "ID")]
    pub(crate) mn: Option<flow::MnId>,
    /// Packets that go to or come from this MAG or LMA, by name or address: tunnelled ones, and signalling.
    #[arg(long, visible_aliases = ["mag", "lma"], value_name = "PEER")]
    pub(crate) peer: Option<String>,
    /// Packets that the rule of this flow decided.
    #[arg(long, value_name = "FID")]
    pub(crate) fid: Option<u16>,
    /// Packets dropped, for any reason or one of these (`any`, or names as in `flowmob show drops`).
    #[arg(long, value_name = "REASON", num_args = 0.., value_delimiter = ',', default_missing_value = "any")]
    pub(crate) drop: Vec<String>,
    /// Frames on this port.
    #[arg(long, value_name = "NAME")]
    pub(crate) port: Option<String>,
    /// Frames that come in, or those that leave.
    #[arg(long)]
    pub(crate) direction: Option<crate::api::capture::FrameDirection>,
    /// Octets kept of each frame [default: all].
    #[arg(long, value_name = "OCTETS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) octets: Option<u32>,
    /// Stop after so many frames.
    #[arg(short, long, value_name = "FRAMES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Stop after so many seconds.
    #[arg(short, long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) time: Option<u64>,
    /// Stop before it is larger [default: 1024 for a file].
    #[arg(long, value_name = "MIB")]
    pub(crate) size: Option<u64>,
}

/// Carries a command out; `client` speaks to the process that was named.
pub(crate) fn execute(
    command: Command,
    client: impl Fn() -> anyhow::Result<Client>,
) -> anyhow::Result<ExitCode> {
    match command {
        Command::Capture(arguments) => {
            let said = capture::capture(&client()?, &arguments)?;
            writeln!(std::io::stderr(), "{said}")?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Recorder(Recorder::Dump { file }) => say(&recording::dump(&client()?, &file)?),
        Command::Replay { file, list, about } => replay(&file, list, about.as_deref()),
        Command::Keys(Keys::Generate(arguments)) => say(&keys::generate(&arguments)?),
        Command::Keys(Keys::Reload) => say(&show::reload_keys(&client()?)?),
        Command::Doctor { config, json } => examine(config.as_deref(), json),
        Command::Lab(command) => lab::run(command),
    }
}

/// Prints what a recording decides now; fails if that is something else.
fn replay(path: &Path, list: bool, about: Option<&str>) -> anyhow::Result<ExitCode> {
    let octets = std::fs::read(path);
    let octets = octets.with_context(|| format!("cannot read {}", path.display()))?;
    let recording = recording::FlightRecording::read(&octets);
    let recording = recording.with_context(|| path.display().to_string())?;
    if list {
        return say(&recording::list(&recording, about));
    }
    let (text, same) = recording::replay(&recording);
    let said = say(&text)?;
    Ok(if same { said } else { ExitCode::FAILURE })
}

/// Looks at the machine; fails if something will not work.
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
