//! The lab: a whole network on one machine, and the draft's two scenarios on it.
//!
//! Five hosts and the core network are network namespaces; the LMA and the MAGs are this program on
//! DPDK TAP ports, the mobile node is this program's logical interface, the correspondent node is
//! the kernel. What happens is judged by captures and by the applications, not by what the
//! appliances say about themselves; only their tables are asked of them.
//!
//! | | |
//! | --- | --- |
//! | [`topology`], [`configuration`] | hosts, links, addresses; what each process is told: data |
//! | [`instance`], [`netns`], [`process`], [`network`] | making and unmaking it |
//! | [`traffic`], [`sequence`] | the applications and their accounts |
//! | [`capture`], [`analysis`], [`signalling`], [`moves`] | what the core link shows |
//! | [`tables`], [`verdict`], [`report`] | what must be so, whether it is, and saying it |
//! | [`timeline`], [`page`] | the same as a page with figures |
//! | [`scenario`] | a run from beginning to end |
//! | [`operation`] | what is done to a lab: kills, partitions, full disks, storms |
//! | [`model`] | what has to be so whatever is done to it |
//! | [`ordeal`] | a lab under traffic to which one thing after another is done |
//! | [`disturb`], [`chaos`], [`soak`] | one of each; hundreds drawn from a seed; moves for an hour |
//! | [`show`] | a lab to look at |

mod analysis;
mod capture;
mod chaos;
mod clocks;
mod configuration;
mod disturb;
mod instance;
mod listener;
mod model;
mod moves;
mod netns;
mod network;
mod nodes;
mod operation;
mod ordeal;
mod page;
mod pair;
mod process;
mod progress;
mod report;
mod scenario;
mod sequence;
mod show;
mod signalling;
mod soak;
mod tables;
mod timeline;
mod topology;
mod traffic;
mod verdict;

use std::fs;
use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serializer;

use self::network::Network;
use self::progress::{Progress, say_plainly};
use self::scenario::Plan;
use self::show::Show;
use self::topology::{Dialect, Host, Scenario, Setting};

/// `flowmob lab ...`
#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Build the network, attach the mobile node, and keep everything until Ctrl-C or `lab down`.
    Up(UpArgs),
    /// Move a flow from one access to another and back under traffic, and judge what happened.
    Run(RunArgs),
    /// Kill and hold up processes under traffic: packets lost as blocked time, and whether all is as before.
    Disturb(OrdealArgs),
    /// Do to a lab under traffic what is drawn from a seed: kills, partitions, full disks, damage, storms.
    Chaos(ChaosArgs),
    /// Move a flow every second for minutes or hours: nothing may be lost, and nothing may grow.
    Soak(SoakArgs),
    /// End running labs and remove what killed ones have left behind.
    Down,
}

/// What every lab is built by.
#[derive(Clone, Copy, Debug, Args)]
struct BuildArgs {
    /// What the LMA and the gateways speak about flows.
    #[arg(long, value_enum, default_value_t = DialectChoice::Draft)]
    dialect: DialectChoice,
    /// Workers of each appliance.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    workers: u16,
}

impl BuildArgs {
    /// The one network of a command that does not build several.
    fn one(self, command: &str, scenario: Scenario) -> anyhow::Result<Setting> {
        let [dialect] = self.dialect.dialects() else {
            bail!("`lab {command}` builds one network: --dialect draft, rfc7864 or mixed");
        };
        Ok(Setting {
            scenario,
            dialect: *dialect,
            workers: self.workers,
            guests: 0,
            pair: false,
        })
    }
}

/// Arguments of `lab up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Whether each interface has a prefix of its own or both share one.
    #[arg(long, value_enum, default_value_t = Choice::Unique)]
    scenario: Choice,
    #[command(flatten)]
    build: BuildArgs,
    /// Also run flows X and Y, and serve the LMA's dashboard to browsers on this machine.
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:8080", value_parser = crate::server::page_address)]
    dashboard: Option<SocketAddr>,
}

/// Arguments of `lab run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Which scenario.
    #[arg(long, value_enum, default_value_t = Choice::Both)]
    scenario: Choice,
    #[command(flatten)]
    build: BuildArgs,
    /// Directory of the results.
    #[arg(long, value_name = "DIR", default_value = "target/lab")]
    out: PathBuf,
    /// Packets per second of each UDP flow in each direction.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Seconds of steady traffic before, between and after the moves.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

/// What each lab is built by to which something is done under traffic.
#[derive(Debug, Args)]
pub(crate) struct OrdealArgs {
    #[command(flatten)]
    build: BuildArgs,
    /// Directory of the results.
    #[arg(long, value_name = "DIR", default_value = "target/lab")]
    out: PathBuf,
    /// Packets per second of each of two flows in each direction: so many that none is lost if nothing happens.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
}

impl OrdealArgs {
    /// With so much time in which nothing is done, before and after each thing that is.
    fn plan(&self, command: &str, scenario: Scenario, steady: Duration) -> anyhow::Result<Plan> {
        Ok(Plan {
            setting: self.build.one(command, scenario)?,
            rate: self.rate,
            steady,
        })
    }
}

/// Arguments of `lab chaos`.
#[derive(Debug, Args)]
pub(crate) struct ChaosArgs {
    /// Whether each interface has a prefix of its own or both share one.
    #[arg(long, value_enum, default_value_t = Choice::Unique)]
    scenario: Choice,
    #[command(flatten)]
    ordeal: OrdealArgs,
    /// What is drawn from; another one each time if left out.
    #[arg(long)]
    seed: Option<u64>,
    /// How many things are done.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    events: u32,
    /// Two LMAs that share an etcd of three nodes: whichever leads is killed, ended and cut off.
    #[arg(long)]
    pair: bool,
    /// Mobiles that attach and leave all at once.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=1000))]
    guests: u16,
}

/// Arguments of `lab soak`.
#[derive(Debug, Args)]
pub(crate) struct SoakArgs {
    #[command(flatten)]
    ordeal: OrdealArgs,
    /// How long; an hour is 3600.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seconds: u64,
}

/// A choice of scenarios.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Choice {
    /// A prefix for each interface.
    Unique,
    /// One prefix shared by both interfaces.
    Shared,
    /// First the one, then the other.
    Both,
}

impl Choice {
    fn scenarios(self) -> &'static [Scenario] {
        match self {
            Self::Unique => &[Scenario::Unique],
            Self::Shared => &[Scenario::Shared],
            Self::Both => &[Scenario::Unique, Scenario::Shared],
        }
    }
}

/// A choice of dialects.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum DialectChoice {
    /// FMI and FMA of the draft.
    Draft,
    /// Update notifications of RFC 7864.
    Rfc7864,
    /// The draft's at MAG1, those of RFC 7864 at MAG2.
    Mixed,
    /// One after the other.
    All,
}

impl DialectChoice {
    fn dialects(self) -> &'static [Dialect] {
        match self {
            Self::Draft => &[Dialect::Draft],
            Self::Rfc7864 => &[Dialect::Rfc7864],
            Self::Mixed => &[Dialect::Mixed],
            Self::All => &[Dialect::Draft, Dialect::Rfc7864, Dialect::Mixed],
        }
    }
}

/// Does what the command says. The exit code is a failure if a run did not meet every criterion.
///
/// # Errors
/// If it could not be done: no rights, a missing tool, or a process that failed.
pub(crate) fn run(command: LabCommand) -> anyhow::Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the lab makes network namespaces and needs root: try `sudo flowmob lab ...`");
    }
    match command {
        LabCommand::Up(args) => up(&args),
        LabCommand::Run(args) => run_all(&args),
        LabCommand::Disturb(args) => measure_disturbances(&args),
        LabCommand::Chaos(args) => bring_chaos(&args),
        LabCommand::Soak(args) => let_it_soak(&args),
        LabCommand::Down => {
            let swept = instance::clean(true)?;
            say_plainly(&format!(
                "ended {} running labs, removed the remains of {}",
                swept.stopped, swept.removed
            ));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn up(args: &UpArgs) -> anyhow::Result<ExitCode> {
    let [scenario] = args.scenario.scenarios() else {
        bail!("`lab up` builds one network: --scenario unique or --scenario shared");
    };
    let setting = args.build.one("up", *scenario)?;
    let progress = Progress::new()?;
    instance::clean(false)?;
    let mut network = Network::up(setting, &progress)?;
    let prefixes = network.attach(*scenario, &progress)?;
    let show = args
        .dashboard
        .map(|address| Show::begin(&network, prefixes, address));
    let show = show.transpose()?;
    progress.say(&manual(&network));
    if let Some(show) = &show {
        progress.say(&show.invitation());
    }
    loop {
        if progress.pause(Duration::from_millis(500)).is_err() {
            return Ok(ExitCode::SUCCESS);
        }
        network.check()?;
    }
}

fn manual(network: &Network) -> String {
    let (core, mn) = (network.namespace(Host::Core), network.namespace(Host::Mn));
    let lma = network.socket(Host::Lma);
    format!(
        "the lab is up; Ctrl-C or `flowmob lab down` ends it. Try:\n\
         \x20   flowmob --socket {lma} show bindings\n\
         \x20   ip netns exec {core} tcpdump -n -i core\n\
         \x20   ip netns exec {mn} ping {cn}\n\
         configurations, sockets and logs are in {directory}",
        lma = lma.display(),
        cn = topology::CN_ADDRESS,
        directory = network.directory().display(),
    )
}

fn run_all(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let progress = Progress::new()?;
    instance::clean(false)?;
    let mut passed = true;
    let dialects = args.build.dialect.dialects().iter();
    let settings = dialects.flat_map(|dialect| {
        let scenarios = args.scenario.scenarios().iter();
        scenarios.map(|scenario| Setting {
            scenario: *scenario,
            dialect: *dialect,
            workers: args.build.workers,
            guests: 0,
            pair: false,
        })
    });
    for setting in settings {
        progress.say(&format!(
            "scenario \"{}\": {}; {}",
            setting.scenario.name(),
            setting.scenario.title(),
            setting.dialect.title()
        ));
        let plan = Plan {
            setting,
            rate: args.rate,
            steady: Duration::from_secs(args.seconds),
        };
        let directory = args.out.join(setting.name());
        let report = scenario::run(plan, &directory, &progress)?;
        let path = args.out.join(format!("{}.json", setting.name()));
        let json = serde_json::to_string_pretty(&report)?;
        fs::write(&path, json).with_context(|| path.display().to_string())?;
        let page = page::write(&report, &directory)?;
        print(&report::render(&report))?;
        passed &= report.passed;
        progress.say(&files(&path, &page, &directory));
    }
    Ok(exit_code(passed))
}

fn measure_disturbances(args: &OrdealArgs) -> anyhow::Result<ExitCode> {
    let plan = args.plan("disturb", Scenario::Unique, Duration::from_secs(1))?;
    let progress = Progress::new()?;
    instance::clean(false)?;
    let costs = disturb::run(plan, &args.out, &progress)?;
    print(&disturb::render(&costs))?;
    Ok(exit_code(costs.passed))
}

fn bring_chaos(args: &ChaosArgs) -> anyhow::Result<ExitCode> {
    let [scenario] = args.scenario.scenarios() else {
        bail!("`lab chaos` builds one network: --scenario unique or --scenario shared");
    };
    let ordeal = &args.ordeal;
    let mut plan = ordeal.plan("chaos", *scenario, Duration::from_millis(250))?;
    plan.setting.guests = args.guests;
    plan.setting.pair = args.pair;
    let progress = Progress::new()?;
    instance::clean(false)?;
    let seed = match args.seed {
        Some(seed) => seed,
        None => getrandom::u64().context("no seed; name one with --seed")?,
    };
    let chaos = chaos::run(plan, seed, args.events, &ordeal.out, &progress)?;
    print(&chaos::render(&chaos))?;
    Ok(exit_code(chaos.costs.passed))
}

fn let_it_soak(args: &SoakArgs) -> anyhow::Result<ExitCode> {
    let ordeal = &args.ordeal;
    let plan = ordeal.plan("soak", Scenario::Unique, Duration::from_millis(350))?;
    let progress = Progress::new()?;
    instance::clean(false)?;
    let time = Duration::from_secs(args.seconds);
    let soaked = soak::run(plan, time, &ordeal.out, &progress)?;
    print(&soak::render(&soaked))?;
    Ok(exit_code(soaked.passed))
}

fn exit_code(passed: bool) -> ExitCode {
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn files(json: &Path, page: &Path, directory: &Path) -> String {
    format!(
        "written: {} (figures and data beside it), {}, {}",
        page.display(),
        json.display(),
        directory.join("core.pcapng").display()
    )
}

/// Prints a report. A reader that has gone, as `head` does, is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A time as seconds, for JSON.
fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}
