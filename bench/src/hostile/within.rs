//! What others bear: they are offered a share of their rate without loss, by a schedule that waits for nobody, and
//! hostile packets come besides.
//!
//! Both come as Poisson processes, and so both together are one: its packets are hostile with the probability that is
//! the hostile ones' share of the sum, whatever came before. So one schedule has the rate of both, and whose a
//! packet is gets drawn when it leaves the ring. Of those that find the ring full, each has its share.

use std::time::Duration;

use anyhow::{Context, Result};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde::{Deserialize, Serialize};

use super::{Attack, Intruder, Order, Row, Target};
use crate::case::Work;
use crate::clock::precise;
use crate::latency::{Clock, highest, no_loss_rate, whole};
use crate::paced::Course;
use crate::report::{median, rounded};
use crate::subject::Subject;

/// What others are offered, in per cent of their rate without loss.
const LOADS: [u32; 2] = [50, 90];

/// Hostile packets a second that come in any case.
const RATES: [u32; 4] = [0, 10_000, 100_000, 1_000_000];

/// What others may lose, of all that is offered to them.
const BORNE: f64 = 0.01;

/// In a stretch with more of its packets in stalls, nobody could tell what else was lost.
const SPOILED: f64 = 0.1;

/// How often [`measure`] tells of progress for each attack.
pub(super) const STEPS: u64 = 1 + LOADS.len() as u64;

/// Others at one load, with hostile packets besides.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Within {
    /// The highest offered rate at which most stretches of a tenth of a second lost nothing, when nobody attacks: the median of
    /// the workers of that work.
    pub(crate) no_loss_mpps: f64,
    /// The share of it that the others are offered.
    pub(crate) load_percent: u32,
    /// What that is.
    pub(crate) offered_mpps: f64,
    /// Million hostile packets a second beside which the others get 99 % of theirs through, at most: the median of
    /// several searches.
    pub(crate) borne_mpps: f64,
    /// The same, in per cent of what the others are offered.
    pub(crate) borne_percent: f64,
    /// What they lose at some rates.
    pub(crate) losses: Vec<Loss>,
}

/// What others lose beside so many hostile packets; counts are of all stretches.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Loss {
    /// Hostile packets a second.
    pub(crate) hostile_pps: u32,
    /// The others' packets offered.
    pub(crate) packets: u64,
    /// Of those, packets that found the ring full.
    pub(crate) lost: u64,
    /// Of those, packets that did after a stall, before the ring was empty again, and no more than came while the
    /// worker stalled.
    pub(crate) lost_to_stalls: u64,
    /// Lost of those offered, in per cent: the median of the stretches.
    pub(crate) lost_percent: f64,
}

impl Loss {
    /// Of all stretches' packets those that no stall explains, in per cent.
    pub(crate) fn own_percent(&self) -> f64 {
        precise(self.lost - self.lost_to_stalls) / precise(self.packets.max(1)) * 100.0
    }
}

/// What became of the others' packets in one stretch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Fate {
    offered: u64,
    lost: u64,
    /// After a stall, before the ring was empty again; but no more than came while the worker stalled, as the ring is
    /// never empty again if there are more packets than it can take.
    lost_to_stalls: u64,
    /// In the ring when the last packet had come.
    waiting: u64,
    /// Came while the worker stalled.
    in_stalls: u64,
}

impl Fate {
    /// Of a stretch in which so many hostile packets left the ring, which are that share of all; `gap` is the mean
    /// distance between packets.
    fn of(course: &Course, hostile: u64, share: f64, gap: f64) -> Self {
        let others = |all: f64| whole(all * (1.0 - share));
        let lost = others(precise(course.lost)).min(course.lost);
        let in_stalls = others(precise(course.stalled) / gap);
        let lost_to_stalls = others(precise(course.lost_to_stalls));
        Self {
            offered: course.handed - hostile + lost,
            lost,
            lost_to_stalls: lost_to_stalls.min(in_stalls).min(lost),
            waiting: others(precise(course.waiting)),
            in_stalls,
        }
    }

    fn lost_percent(&self) -> f64 {
        precise(self.lost) / precise(self.offered.max(1)) * 100.0
    }

    /// Whether so much of the time was lost to stalls that the stretch says little.
    fn is_spoiled(&self) -> bool {
        precise(self.in_stalls) > SPOILED * precise(self.offered)
    }

    /// Whether 99 % got through, but for those that the machine kept from it. A ring that fills while packets come
    /// is no way through, and holds half a per cent of a short stretch: what is in it at the end counts as lost.
    fn is_borne(&self) -> bool {
        let offered = precise(self.offered);
        let kept_away = precise(self.in_stalls).min(SPOILED * offered);
        precise(self.lost + self.waiting) - kept_away <= BORNE * offered
    }
}

/// A worker that somebody attacks.
struct Attacked<'a> {
    subject: &'a mut Subject,
    /// Until it forwards.
    intruder: Option<Intruder>,
    tsc_hz: f64,
    /// Packets per second of the flood.
    flood: f64,
    /// What a hostile packet costs, in packets of the others.
    ratio: f64,
}

impl Attacked<'_> {
    /// Offers it others' packets and hostile ones at these rates for so long.
    fn stretch(&mut self, others: f64, hostile: f64, length: Duration) -> Result<Fate> {
        let share = hostile / (others + hostile);
        // A burst of such packets takes longer, without any stall.
        let mixed = self.flood / (1.0 + share * (self.ratio - 1.0));
        let clock = Clock::of_flood(self.tsc_hz, mixed);
        let mut intruder = self.intruder.take().context("no intruder")?;
        intruder.set_share(share);
        let before = intruder.sent();
        let rate = others + hostile;
        let pace = clock.pace(rate, length)?;
        let (course, intruder) = self.subject.forward_paced_beside(intruder, pace)?;
        let hostile = intruder.sent() - before;
        let fate = Fate::of(&course, hostile, share, self.tsc_hz / rate);
        self.intruder = Some(intruder);
        Ok(fate)
    }

    /// Others at so many per cent of their rate without loss.
    fn within(&mut self, no_loss: f64, load_percent: u32, length: Duration) -> Result<Within> {
        const SEARCHES: usize = 3;
        let others = no_loss * f64::from(load_percent) / 100.0;
        let losses = self.losses(others, length)?;
        let mut found = Vec::new();
        for _ in 0..SEARCHES {
            found.push(self.borne(others, length)?);
        }
        let borne = median(&found);
        Ok(Within {
            no_loss_mpps: rounded(no_loss / 1e6, 2),
            load_percent,
            offered_mpps: rounded(others / 1e6, 2),
            borne_mpps: rounded(borne / 1e6, 2),
            borne_percent: rounded(borne / others * 100.0, 1),
            losses,
        })
    }

    /// The highest rate of hostile packets that the others bear.
    fn borne(&mut self, others: f64, length: Duration) -> Result<f64> {
        const HALVINGS: u32 = 9;
        const TRIES: u32 = 3;
        // Nothing but hostile packets.
        let limit = self.flood / self.ratio;
        // Of the root, so that low rates are found nearly as exactly as high ones.
        let root = highest(limit.sqrt(), HALVINGS, |root| {
            for _ in 0..TRIES {
                let fate = self.stretch(others, root * root, length)?;
                if fate.is_borne() || !fate.is_spoiled() {
                    return Ok(fate.is_borne());
                }
            }
            Ok(false)
        })?;
        Ok(root * root)
    }

    /// What the others lose, stretch by stretch, all rates in turn.
    fn losses(&mut self, others: f64, length: Duration) -> Result<Vec<Loss>> {
        const ROUNDS: usize = 5;
        let mut fates: [Vec<Fate>; RATES.len()] = Default::default();
        for _ in 0..ROUNDS {
            for (rate, fates) in RATES.iter().zip(&mut fates) {
                fates.push(self.stretch(others, f64::from(*rate), length)?);
            }
        }
        let rates = RATES.iter().zip(&fates);
        Ok(rates.map(|(rate, fates)| loss(*rate, fates)).collect())
    }
}

fn loss(hostile_pps: u32, fates: &[Fate]) -> Loss {
    let sum = |of: fn(&Fate) -> u64| fates.iter().map(of).sum();
    let shares: Vec<f64> = fates.iter().map(Fate::lost_percent).collect();
    Loss {
        hostile_pps,
        packets: sum(|fate| fate.offered),
        lost: sum(|fate| fate.lost),
        lost_to_stalls: sum(|fate| fate.lost_to_stalls),
        lost_percent: rounded(median(&shares), 3),
    }
}

/// How fast a worker is that nobody attacks, in packets per second.
#[derive(Clone, Copy)]
struct Speed {
    flood: f64,
    no_loss: f64,
}

impl Speed {
    /// Of a worker of which `turns` bursts are a stretch of the flood.
    fn of(order: &Order, subject: &mut Subject, turns: u64) -> Result<Self> {
        let turns = turns.div_ceil(4);
        let took = subject.forward(turns)?;
        let flood = precise(turns * dataplane::BURST as u64) / took.as_secs_f64();
        let clock = Clock::of_flood(order.tsc_hz, flood);
        let no_loss = no_loss_rate(subject, flood, clock)?;
        Ok(Self { flood, no_loss })
    }
}

/// Measures each attack; calls `progress` [`STEPS`] times for each.
///
/// # Errors
/// As [`Subject::forward_paced_beside`]; a worker that loses packets at every rate.
pub(super) fn measure(
    order: &Order,
    targets: &mut [Target],
    mut progress: impl FnMut(),
) -> Result<Vec<Vec<Within>>> {
    let mut speeds = Vec::new();
    for target in &mut *targets {
        speeds.push(Speed::of(order, &mut target.subject, target.turns)?);
        progress();
    }
    // Workers of one work differ by nothing but what the machine did when they were asked.
    let works: Vec<Work> = targets
        .iter()
        .map(|target| target.attack.beside())
        .collect();
    let no_loss = |work: Work| {
        let same = (works.iter().zip(&speeds)).filter(|(other, _)| **other == work);
        let rates: Vec<f64> = same.map(|(_, speed)| speed.no_loss).collect();
        median(&rates)
    };
    let mut all = Vec::new();
    for (target, speed) in targets.iter_mut().zip(&speeds) {
        let no_loss = no_loss(target.attack.beside());
        let mut attacked = Attacked {
            intruder: Some(Intruder::new(target.attack, 0.0)),
            tsc_hz: order.tsc_hz,
            flood: speed.flood,
            ratio: median(&target.rounds.ratio).max(1.0),
            subject: &mut target.subject,
        };
        // Short ones, so that most have no stall.
        let length = Duration::from_millis((order.milliseconds / 10).max(1));
        let mut loads = Vec::new();
        for load in LOADS {
            let within = attacked.within(no_loss, load, length);
            loads.push(within.with_context(|| target.attack.to_string())?);
            progress();
        }
        all.push(loads);
    }
    Ok(all)
}

/// What [`cells`] holds: of every rate its loss.
pub(crate) fn columns() -> Vec<String> {
    let first = ["attack", "load", "offered Mpps", "borne Mpps", "borne"];
    let rates = RATES.map(|rate| match rate {
        0 => "% lost at none".to_owned(),
        1_000_000.. => format!("at {}M/s", rate / 1_000_000),
        _ => format!("at {}k/s", rate / 1_000),
    });
    first.map(String::from).into_iter().chain(rates).collect()
}

/// A line for every attack and load, for terminal and page.
pub(crate) fn cells(rows: &[Row]) -> Vec<Vec<String>> {
    let of = |row: &Row| -> Vec<Vec<String>> {
        let lines = row.within.iter();
        lines.map(|within| line(row.attack, within)).collect()
    };
    rows.iter().flat_map(of).collect()
}

fn line(attack: Attack, within: &Within) -> Vec<String> {
    let mut cells = vec![
        attack.to_string(),
        format!("{} %", within.load_percent),
        format!("{:.2}", within.offered_mpps),
        format!("{:.2}", within.borne_mpps),
        format!("{:.0} %", within.borne_percent),
    ];
    let shown = |loss: &Loss| format!("{:.2} ({:.2})", loss.lost_percent, loss.own_percent());
    let at = |rate| within.losses.iter().find(|loss| loss.hostile_pps == rate);
    cells.extend(RATES.map(|rate| at(rate).map_or("-".into(), shown)));
    cells
}

/// What to say if a busy machine has spoiled it.
pub(crate) fn warning(rows: &[Row]) -> Option<String> {
    let loads: Vec<&Within> = rows.iter().flat_map(|row| &row.within).collect();
    let alone = |within: &&&Within| {
        let mut losses = within.losses.iter();
        losses.any(|loss| loss.hostile_pps == 0 && loss.lost_percent > BORNE * 100.0)
    };
    let spoiled = loads.iter().filter(alone).count();
    (spoiled > 0).then(|| {
        format!(
            "hostile: in {spoiled} of {} lines the others lost over 1 % beside nobody: somebody else had the core or \
             its caches, so that there is less to bear with.",
            loads.len()
        )
    })
}

/// The table for the terminal; none of a report that has nothing of it.
pub(crate) fn table(rows: &[Row]) -> Option<Table> {
    let lines = cells(rows);
    if lines.is_empty() {
        return None;
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(columns());
    table.add_rows(lines);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    Some(table)
}

#[cfg(test)]
mod tests;
