//! What somebody costs the others who sends what he is not entitled to.
//!
//! One packet in four is hostile, anywhere in a burst; the others are an ordinary work's. The same worker
//! does the work without them in the same round. All that it takes longer is charged to the hostile ones,
//! also what they do to the bursts, the caches and the branches of the others. [`within`] says how many of
//! them the others bear.

mod intruder;
pub(crate) mod within;

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use dataplane::BURST;
use dpdk::{EalHandle, Mempool};
use serde::{Deserialize, Serialize};

pub(crate) use self::intruder::Intruder;
use self::within::Within;
use crate::case::{Case, Memory, Size, Work};
use crate::cell::{environment, pin};
use crate::clock::precise;
use crate::report::{median, rounded};
use crate::subject::Subject;

/// What somebody sends who means harm.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Attack {
    /// Mobility Headers to an anchor, each from another address that is no gateway's.
    StrangersSignalling,
    /// Mobility Headers to an anchor in the name of one of its gateways.
    PeersSignalling,
    /// Neighbor Advertisements, each from another station.
    Discovery,
    /// Packets into the anchor's own network, each to another address that nobody has.
    NeighbourScan,
    /// Packets to prefixes of the pool that no mobile has.
    PoolScan,
    /// Packets out of tunnels that there are none, each from another gateway.
    ForgedTunnel,
    /// At a gateway, packets of mobiles from stations that are not theirs and that nobody knows.
    UnknownStation,
    /// At a gateway, a mobile's packets with sources that are nobody's.
    ForgedSource,
}

impl Attack {
    /// All of them, in the order of reports.
    pub(crate) const ALL: [Self; 8] = [
        Self::StrangersSignalling,
        Self::PeersSignalling,
        Self::Discovery,
        Self::NeighbourScan,
        Self::PoolScan,
        Self::ForgedTunnel,
        Self::UnknownStation,
        Self::ForgedSource,
    ];

    /// The work of those beside it.
    pub(crate) fn beside(self) -> Work {
        match self {
            Self::StrangersSignalling
            | Self::PeersSignalling
            | Self::Discovery
            | Self::NeighbourScan
            | Self::PoolScan
            | Self::ForgedTunnel => Work::LmaDownlink,
            Self::UnknownStation | Self::ForgedSource => Work::MagUplink,
        }
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::StrangersSignalling => "strangers-signalling",
            Self::PeersSignalling => "peers-signalling",
            Self::Discovery => "discovery",
            Self::NeighbourScan => "neighbour-scan",
            Self::PoolScan => "pool-scan",
            Self::ForgedTunnel => "forged-tunnel",
            Self::UnknownStation => "unknown-station",
            Self::ForgedSource => "forged-source",
        })
    }
}

/// The share of hostile packets in the flood.
const ONE_IN_FOUR: f64 = 0.25;

/// The number of the first port: those below may be others'.
const FIRST_PORT: u16 = 100;

/// What a child process is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Where packets and tables live.
    pub(crate) memory: Memory,
    /// Rounds, through all attacks each.
    pub(crate) rounds: u32,
    /// How long a stretch takes, in milliseconds.
    pub(crate) milliseconds: u64,
    /// The core to run on.
    pub(crate) core: usize,
    /// The frequency of the time stamp counter.
    pub(crate) tsc_hz: f64,
}

/// What one attack costs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// What is sent.
    pub(crate) attack: Attack,
    /// The work of those beside it.
    pub(crate) beside: Work,
    /// Prefixes in its table.
    pub(crate) bindings: u32,
    /// Cycles of a packet of that work, when nobody attacks.
    pub(crate) forwarded_cycles: f64,
    /// Cycles that one hostile packet adds to a burst.
    pub(crate) hostile_cycles: f64,
    /// The second over the first: the median of the rounds'.
    pub(crate) ratio: f64,
    /// Of a million hostile packets, how many went to the control plane or were answered.
    pub(crate) heard_ppm: f64,
    /// What the others bear of it, at each of their loads; none in a report of before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) within: Vec<Within>,
}

/// How often [`measure`] tells of progress.
pub(crate) fn steps(order: &Order) -> u64 {
    (u64::from(order.rounds) + within::STEPS) * Attack::ALL.len() as u64
}

/// Measures; calls `progress` after every attack of every round, and after every load beside it.
///
/// # Errors
/// A packet of those beside it that was not forwarded, or one of the attack that was.
pub(crate) fn measure(order: &Order, progress: impl FnMut()) -> Result<Vec<Row>> {
    let (eal, pool) = environment(order.memory)?;
    measure_in(&eal, &pool, order, progress)
}

/// As [`measure`], on a pool of buffers that is there.
///
/// # Errors
/// As [`measure`].
pub(crate) fn measure_in(
    eal: &EalHandle,
    pool: &Mempool,
    order: &Order,
    mut progress: impl FnMut(),
) -> Result<Vec<Row>> {
    pin(order.core)?;
    let mut targets = Vec::new();
    for (index, attack) in (0..).zip(Attack::ALL) {
        let case = case(attack.beside());
        let mut subject = Subject::new(eal, pool, FIRST_PORT + index, case)
            .with_context(|| attack.to_string())?;
        let turns = subject.calibrate(Duration::from_millis(order.milliseconds))?;
        targets.push(Target {
            attack,
            subject,
            turns,
            rounds: Rounds::default(),
        });
    }
    for _ in 0..order.rounds {
        for target in &mut targets {
            target
                .flood(order.tsc_hz)
                .with_context(|| target.attack.to_string())?;
            progress();
        }
    }
    let within = within::measure(order, &mut targets, progress)?;
    let rows = targets.iter().zip(within);
    Ok(rows.map(|(target, within)| target.row(within)).collect())
}

/// A worker that somebody attacks.
struct Target {
    attack: Attack,
    subject: Subject,
    /// Bursts of a stretch.
    turns: u64,
    rounds: Rounds,
}

impl Target {
    /// One round, without hostile packets and with them.
    fn flood(&mut self, tsc_hz: f64) -> Result<()> {
        let Self {
            attack,
            subject,
            turns,
            rounds,
        } = self;
        let cycles = |took: Duration| took.as_secs_f64() * tsc_hz;
        let packets = precise(*turns * BURST as u64);
        subject.forward(*turns / 10)?;
        let alone = cycles(subject.forward(*turns)?) / packets;
        let intruder = Intruder::new(*attack, ONE_IN_FOUR);
        let (_, intruder, _) = subject.forward_beside(intruder, *turns / 10)?;
        let before = intruder.sent();
        let (took, intruder, heard) = subject.forward_beside(intruder, *turns)?;
        let hostile = precise(intruder.sent() - before);
        let added = cycles(took) - alone * (packets - hostile);
        rounds.alone.push(alone);
        rounds.hostile.push(added / hostile);
        rounds.ratio.push(added / hostile / alone);
        rounds.heard.push(precise(heard) / hostile * 1e6);
        Ok(())
    }

    fn row(&self, within: Vec<Within>) -> Row {
        let rounds = &self.rounds;
        Row {
            attack: self.attack,
            beside: self.attack.beside(),
            bindings: self.subject.case.bindings,
            forwarded_cycles: rounded(median(&rounds.alone), 1),
            hostile_cycles: rounded(median(&rounds.hostile), 1),
            ratio: rounded(median(&rounds.ratio), 2),
            heard_ppm: rounded(median(&rounds.heard), 1),
            within,
        }
    }
}

/// What the others do.
fn case(work: Work) -> Case {
    let (bindings, rules) = match work {
        Work::LmaDownlink | Work::LmaUplink => (100_000, 4),
        Work::MagDownlink | Work::MagUplink => (10_000, 0),
    };
    Case {
        work,
        bindings,
        rules,
        size: Size::Fixed(64),
    }
}

/// One attack, round by round.
#[derive(Default)]
struct Rounds {
    alone: Vec<f64>,
    hostile: Vec<f64>,
    ratio: Vec<f64>,
    heard: Vec<f64>,
}

/// The table for the terminal.
pub(crate) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "hostile",
        "beside",
        "cycles each",
        "a forwarded packet",
        "ratio",
        "heard/million",
    ]);
    for row in rows {
        table.add_row([
            row.attack.to_string(),
            format!("{}, {} bindings", row.beside, row.bindings),
            format!("{:.1}", row.hostile_cycles),
            format!("{:.1}", row.forwarded_cycles),
            format!("{:.2}", row.ratio),
            format!("{:.1}", row.heard_ppm),
        ]);
    }
    for (number, column) in table.column_iter_mut().enumerate() {
        if number > 1 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
