//! One run of the lab: attach, start the flows, move flow Y there and back, account for all.

use std::fs;
use std::net::Ipv6Addr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use flow::Hnp;
use serde::{Serialize, Serializer};

use crate::api::{BindingRow, FlowAdd, FlowAdded, FlowMove, FlowMoved, FlowRow, RouteRow};
use nd::packet::next_header;

use super::analysis::{Flow, FlowMatch, Window};
use super::capture::{Capture, Completeness};
use super::moves::{Marks, Move};
use super::network::Network;
use super::progress::Progress;
use super::signalling::Heard;
use super::tables::{Fids, Stage, Tables};
use super::timeline::Timeline;
use super::topology::{CAPTURE_PORT, CN_ADDRESS, Dialect, Host, MN_ID, Mag, Scenario, Setting};
use super::traffic::{Digest, Ends, Outcome, Sites, TcpFlow, UdpFlow};
use super::verdict::{Criterion, Evidence, judge};

/// Traffic before the first table is read, so that nothing is measured that is still beginning.
const WARM_UP: Duration = Duration::from_millis(500);
/// Packets that were under way at a move are past the capture by then.
const SETTLE: Duration = Duration::from_millis(200);
/// How long tables may take to be as expected: the old path is drained before it is removed.
const TABLE_PATIENCE: Duration = Duration::from_secs(6);
/// Octets per second of the TCP transfer.
const TCP_RATE: u32 = 1_000_000;

/// How a run is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    /// What the lab is built for.
    pub(crate) setting: Setting,
    /// Packets per second of each UDP flow in each direction.
    pub(crate) rate: u32,
    /// How long each steady stretch lasts.
    pub(crate) steady: Duration,
}

/// All that a run has shown; what is written as JSON.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Which scenario.
    pub(crate) scenario: Scenario,
    /// What was spoken about flows.
    pub(crate) dialect: Dialect,
    /// Version of the program.
    pub(crate) version: &'static str,
    /// Workers of each appliance.
    pub(crate) workers: u16,
    /// Packets per second of each UDP flow in each direction.
    pub(crate) rate: u32,
    /// Whether every criterion is met.
    pub(crate) passed: bool,
    /// The criteria.
    pub(crate) criteria: Vec<Criterion>,
    /// The prefixes of the sessions at MAG1 and MAG2.
    pub(crate) prefixes: [Hnp; 2],
    /// The tables at each stage.
    #[serde(serialize_with = "by_stage")]
    pub(crate) tables: Vec<(Stage, Tables)>,
    /// The UDP flows.
    pub(crate) flows: Vec<Outcome>,
    /// The TCP transfer: sent and received, or why it broke.
    #[serde(serialize_with = "tcp")]
    pub(crate) tcp: Result<(Digest, Digest), String>,
    /// The moves.
    pub(crate) moves: Vec<Move>,
    /// When the first frame could be captured, in seconds since 1970.
    #[serde(serialize_with = "super::seconds")]
    pub(crate) started: Duration,
    /// The signalling on the core link.
    pub(crate) signalling: Vec<Heard>,
    /// Packets per tunnel over time. It has a file of its own.
    #[serde(skip)]
    pub(crate) timeline: Timeline,
    /// How complete the capture is.
    pub(crate) capture: Completeness,
}

/// Tables as an object with a member for each stage.
fn by_stage<S: Serializer>(tables: &[(Stage, Tables)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(tables.iter().map(|(stage, tables)| (stage.name(), tables)))
}

/// A transfer as an object: `sent` and `received`, or `error`.
fn tcp<S: Serializer>(
    result: &Result<(Digest, Digest), String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match result {
        Ok((sent, received)) => serializer.collect_map([("sent", sent), ("received", received)]),
        Err(error) => serializer.collect_map([("error", error)]),
    }
}

/// Runs one scenario; files go to `directory`.
///
/// # Errors
/// If the run could not be made. One that was made and went wrong is a [`Report`] that says so.
pub(crate) fn run(plan: Plan, directory: &Path, progress: &Progress) -> anyhow::Result<Report> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let mut network = Network::up(plan.setting, progress)?;
    let result = measure(plan, &mut network, directory, progress);
    // The logs matter most when it failed.
    let copied = network.copy_logs(directory);
    let report = result?;
    copied?;
    Ok(report)
}

fn measure(
    plan: Plan,
    network: &mut Network,
    directory: &Path,
    progress: &Progress,
) -> anyhow::Result<Report> {
    let started = now()?;
    let core = network.namespace(Host::Core);
    let capture = Capture::start(&core, CAPTURE_PORT, Some(&directory.join("core.pcapng")))?;
    let prefixes = network.attach(plan.setting.scenario, progress)?;
    let ends = Flow::ALL.map(|flow| ends(flow, prefixes));
    capture.set_flows(ends.iter().map(flow_match).collect());

    let (cn, mn) = (network.namespace(Host::Cn), network.namespace(Host::Mn));
    let sites = Sites { cn: &cn, mn: &mn };
    let [x, y, z] = ends;
    let tcp = TcpFlow::start(sites, z, TCP_RATE)?;
    let fids = [
        (Flow::X, add_flow(network, &x, Mag::Mag1.bid())?),
        (Flow::Y, add_flow(network, &y, Mag::Mag2.bid())?),
    ];
    progress.say(&format!(
        "flows X, Y (UDP, {} packets/s each way) and Z (TCP) are running",
        plan.rate
    ));
    let udp = [
        UdpFlow::start(sites, x, plan.rate)?,
        UdpFlow::start(sites, y, plan.rate)?,
    ];
    progress.pause(WARM_UP)?;

    let mut stage = Stages {
        plan,
        network,
        progress,
        prefixes,
        fids,
        tables: Vec::new(),
        differences: Vec::new(),
    };
    let first = stage.steady(now()?)?;
    stage.read_tables(Stage::Before)?;
    let there = stage.move_y(Mag::Mag1, first)?;
    stage.read_tables(Stage::After)?;
    let back = stage.move_y(Mag::Mag2, there.after)?;
    stage.read_tables(Stage::Back)?;

    progress.say("stopping the flows and counting");
    let mut outcomes = Vec::new();
    udp.iter().for_each(UdpFlow::stop_sending);
    for flow in udp {
        outcomes.extend(flow.finish()?);
    }
    let tcp = tcp.finish().map_err(|e| format!("{e:#}"));
    let Stages {
        tables,
        differences,
        ..
    } = stage;
    let (watcher, completeness) = capture.finish()?;
    let moves = vec![
        Move::new(&watcher, Mag::Mag1, there),
        Move::new(&watcher, Mag::Mag2, back),
    ];
    let criteria = judge(&Evidence {
        outcomes: &outcomes,
        tcp: &tcp,
        differences: &differences,
        moves: &moves,
        capture: completeness,
    });
    Ok(Report {
        scenario: plan.setting.scenario,
        dialect: plan.setting.dialect,
        version: env!("CARGO_PKG_VERSION"),
        workers: plan.setting.workers,
        rate: plan.rate,
        passed: criteria.iter().all(|c| c.passed),
        criteria,
        prefixes,
        tables,
        flows: outcomes,
        tcp,
        moves,
        started,
        signalling: watcher.heard().to_vec(),
        timeline: Timeline::new(&watcher, &[there.command, back.command]),
        capture: completeness,
    })
}

/// The part of a run between the start and the end of the traffic.
struct Stages<'a> {
    plan: Plan,
    network: &'a mut Network,
    progress: &'a Progress,
    prefixes: [Hnp; 2],
    fids: Fids,
    tables: Vec<(Stage, Tables)>,
    differences: Vec<(Stage, Vec<String>)>,
}

impl Stages<'_> {
    /// Lets the traffic run and nothing else happen.
    fn steady(&mut self, from: Duration) -> anyhow::Result<Window> {
        self.progress.pause(self.plan.steady)?;
        self.network.check()?;
        Ok(Window { from, to: now()? })
    }

    /// Moves flow Y, and lets the traffic run.
    fn move_y(&mut self, to: Mag, before: Window) -> anyhow::Result<Marks> {
        let fid = self.fids.iter().find(|(flow, _)| *flow == Flow::Y);
        let (_, fid) = fid.context("flow Y was not added")?;
        let request = FlowMove {
            mn: MN_ID.to_owned(),
            fid: *fid,
            bid: to.bid(),
        };
        let command = now()?;
        let moved: FlowMoved = self.network.post(Host::Lma, "/v1/flows/move", &request)?;
        let answer = now()?;
        self.progress.say(&format!(
            "flow Y moved to {} in {} us",
            to.title(),
            (answer.saturating_sub(command)).as_micros()
        ));
        anyhow::ensure!(
            moved.bid == to.bid(),
            "the LMA moved flow Y to BID {} instead of {}",
            moved.bid,
            to.bid()
        );
        let after = self.steady(answer + SETTLE)?;
        let before = Window {
            to: command,
            ..before
        };
        Ok(Marks {
            before,
            command,
            answer,
            after,
        })
    }

    fn read_tables(&mut self, stage: Stage) -> anyhow::Result<()> {
        let expected = Tables::expected(self.plan.setting.scenario, stage, self.prefixes);
        let mut last = None;
        let settled = self
            .progress
            .wait_for("the tables of the slides", TABLE_PATIENCE, || {
                self.network.check()?;
                let tables = tables(self.network, self.fids)?;
                let wrong = tables.differences(&expected);
                let settled = wrong.is_empty();
                last = Some((tables, wrong));
                Ok(settled.then_some(()).ok_or_else(String::new))
            });
        let (tables, wrong) = match (last, settled) {
            // Wrong tables are for the verdict; what else failed is for the caller.
            (Some(last), Ok(())) => last,
            (Some(last), Err(_)) if !last.1.is_empty() && self.progress.check().is_ok() => last,
            (_, Err(error)) => return Err(error),
            (None, Ok(())) => anyhow::bail!("no tables were read"),
        };
        self.tables.push((stage, tables));
        self.differences.push((stage, wrong));
        Ok(())
    }
}

fn tables(network: &Network, fids: Fids) -> anyhow::Result<Tables> {
    let bindings: Vec<BindingRow> = network.read(Host::Lma, "/v1/bindings")?;
    let flows: Vec<FlowRow> = network.read(Host::Lma, "/v1/flows")?;
    let one: Vec<RouteRow> = network.read(Host::Mag1, "/v1/routes")?;
    let two: Vec<RouteRow> = network.read(Host::Mag2, "/v1/routes")?;
    Ok(Tables::read(&bindings, &flows, [&one, &two], fids))
}

/// Puts a flow on one of the accesses. Returns its identifier.
pub(super) fn add_flow(network: &Network, ends: &Ends, bid: u16) -> anyhow::Result<u16> {
    let request = FlowAdd {
        mn: MN_ID.to_owned(),
        bid,
        src: Some(ends.cn.0.to_string()),
        dst: Some(ends.mn.0.to_string()),
        proto: Some("udp".to_owned()),
        dport: Some(ends.mn.1.to_string()),
        ..FlowAdd::default()
    };
    let added: FlowAdded = network.post(Host::Lma, "/v1/flows", &request)?;
    Ok(added.fid)
}

/// X and Z are for the prefix of MAG1, Y is for that of MAG2; W for another mobile's prefix of MAG1.
pub(super) fn ends(flow: Flow, prefixes: [Hnp; 2]) -> Ends {
    let [one, two] = prefixes;
    let (prefix, host) = match flow {
        Flow::X | Flow::Z => (one, 0x100),
        Flow::Y => (two, 0x100),
        Flow::W => (one, 0x200),
    };
    let mn = Ipv6Addr::from(u128::from(prefix.addr()) | host);
    Ends {
        flow,
        cn: (CN_ADDRESS, mn_port(flow) - 1000),
        mn: (mn, mn_port(flow)),
    }
}

/// The mobile's port of a flow.
pub(super) fn mn_port(flow: Flow) -> u16 {
    match flow {
        Flow::X => 5001,
        Flow::Y => 5002,
        Flow::Z => 5003,
        Flow::W => 5004,
    }
}

/// How a flow is known in a capture.
pub(super) fn flow_match(ends: &Ends) -> FlowMatch {
    FlowMatch {
        flow: ends.flow,
        cn: ends.cn.0,
        mn: ends.mn.0,
        protocol: match ends.flow {
            Flow::X | Flow::Y | Flow::W => next_header::UDP,
            Flow::Z => next_header::TCP,
        },
        mn_port: ends.mn.1,
    }
}

/// Time since 1970.
pub(super) fn now() -> anyhow::Result<Duration> {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("the clock is before 1970")
}
