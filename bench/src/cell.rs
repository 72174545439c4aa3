//! A process of its own for one work and one kind of memory: DPDK's environment starts once in a
//! process.

use std::time::Duration;

use anyhow::{Context, Result};
use dpdk::{Eal, EalConfig, EalHandle, Mempool, MempoolConfig};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::case::{Case, Memory};
use crate::clock;
use crate::subject::Subject;

/// What a child process is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Where everything lives.
    pub(crate) memory: Memory,
    /// What to measure.
    pub(crate) cases: Vec<Case>,
    /// Rounds, through all cases each.
    pub(crate) rounds: u32,
    /// How long one case takes in one round, in milliseconds.
    pub(crate) milliseconds: u64,
    /// The core to run on.
    pub(crate) core: usize,
    /// The frequency of the time stamp counter.
    pub(crate) tsc_hz: f64,
}

/// What a child process answers, one for each case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The case.
    pub(crate) case: Case,
    /// Cycles per packet in each round.
    pub(crate) cycles: Vec<f64>,
    /// The floor's in the same rounds; none where there is no floor of its own.
    pub(crate) floor: Vec<f64>,
}

/// Runs the rest of the calling thread on this core only.
///
/// # Errors
/// The kernel's, if there is no such core.
pub(crate) fn pin(core: usize) -> Result<()> {
    pin_to(&[core])
}

/// Likewise on any of these cores.
///
/// # Errors
/// The kernel's, if there is none of them.
pub(crate) fn pin_to(cores: &[usize]) -> Result<()> {
    let mut cpus = CpuSet::new();
    for core in cores {
        cpus.set(*core)?;
    }
    sched_setaffinity(Pid::from_raw(0), &cpus).with_context(|| format!("running on {cores:?}"))
}

/// DPDK's environment on this kind of memory.
///
/// # Errors
/// DPDK's.
pub(crate) fn start(memory: Memory) -> Result<Eal> {
    Ok(Eal::init(&EalConfig {
        memory: match memory {
            Memory::Hugepages => dpdk::Memory::Hugepages,
            Memory::Anonymous => dpdk::Memory::Anonymous,
        },
        memory_mib: 64,
        file_prefix: "flowmob-bench".into(),
        ..EalConfig::default()
    })?)
}

/// DPDK's environment on this kind of memory, and the pool: 8191 buffers and no caches, so that
/// they are used in turn.
///
/// # Errors
/// DPDK's.
pub(crate) fn environment(memory: Memory) -> Result<(Eal, Mempool)> {
    let eal = start(memory)?;
    let pool = Mempool::new(
        &eal,
        &MempoolConfig {
            cache: 0,
            ..MempoolConfig::default()
        },
    )?;
    Ok((eal, pool))
}

/// Measures; calls `progress` after every case of every round.
///
/// # Errors
/// Whatever makes a result void.
pub(crate) fn measure(order: &Order, progress: impl FnMut()) -> Result<Vec<Outcome>> {
    let (eal, pool) = environment(order.memory)?;
    measure_in(&eal, &pool, order, progress)
}

fn measure_in(
    eal: &EalHandle,
    pool: &Mempool,
    order: &Order,
    mut progress: impl FnMut(),
) -> Result<Vec<Outcome>> {
    pin(order.core)?;
    let mut subjects = Vec::new();
    let mut floors = std::collections::HashSet::new();
    for (index, case) in (0..).zip(&order.cases) {
        let mut subject =
            Subject::new(eal, pool, index, *case).with_context(|| case.to_string())?;
        subject.verify()?;
        // One floor for all numbers of rules: it has four selectors.
        if floors.insert((case.work, case.bindings, case.size)) {
            subject.add_floor(order.memory)?;
        }
        subjects.push(subject);
    }
    let length = Duration::from_millis(order.milliseconds);
    let mut turns = Vec::new();
    for subject in &mut subjects {
        turns.push(subject.calibrate(length)?);
    }
    let outcome = |subject: &Subject| Outcome {
        case: subject.case,
        cycles: vec![],
        floor: vec![],
    };
    let mut outcomes: Vec<Outcome> = subjects.iter().map(outcome).collect();
    for _ in 0..order.rounds {
        for ((subject, outcome), turns) in subjects.iter_mut().zip(&mut outcomes).zip(&turns) {
            let cycles = |took: Duration| {
                let packets = clock::precise(turns * dataplane::BURST as u64);
                took.as_secs_f64() * order.tsc_hz / packets
            };
            // What others left in the caches is not to be measured.
            let warm = turns / 10;
            if subject.has_floor() {
                subject.floor(warm)?;
                outcome.floor.push(cycles(subject.floor(*turns)?));
            }
            subject.forward(warm)?;
            outcome.cycles.push(cycles(subject.forward(*turns)?));
            progress();
        }
    }
    Ok(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Size, Work};
    use crate::hostile::{self, Attack};

    /// Every work in one environment, with everything that voids a run armed: octets compared,
    /// drops and counters checked, and the same of the floor.
    #[test]
    fn every_work_forwards_what_it_is_given() {
        let case = |work: Work, size| Case {
            work,
            bindings: 500,
            rules: if work == Work::LmaDownlink { 4 } else { 0 },
            size,
        };
        let mut cases = Vec::new();
        for work in Work::ALL {
            for size in [Size::Fixed(64), Size::Fixed(1024), Size::Imix] {
                cases.push(case(work, size));
            }
        }
        cases.extend([0, 1, 16, 64].map(|rules| Case {
            rules,
            ..case(Work::LmaDownlink, Size::Fixed(64))
        }));
        let order = Order {
            memory: Memory::Anonymous,
            rounds: 2,
            milliseconds: 1,
            core: 0,
            tsc_hz: 1e9,
            cases: cases.clone(),
        };
        let mut steps = 0;
        let (eal, pool) = environment(order.memory).unwrap();
        let outcomes = measure_in(&eal, &pool, &order, || steps += 1).unwrap();
        assert_eq!(steps, 2 * cases.len());
        for (outcome, case) in outcomes.iter().zip(&cases) {
            assert_eq!(outcome.case, *case);
            assert_eq!(outcome.cycles.len(), 2);
            assert!(outcome.cycles.iter().all(|cycles| *cycles > 1.0), "{case}");
        }
        // The floor is shared by the numbers of rules, and by nothing else.
        let floors = outcomes.iter().filter(|o| o.floor.len() == 2).count();
        assert_eq!(floors, 4 * 3);
        nobody_loses_a_packet_to_any_attack(&eal, &pool);
    }

    /// All attacks, likewise: every packet of the others on its path, every hostile one ended here.
    fn nobody_loses_a_packet_to_any_attack(eal: &EalHandle, pool: &Mempool) {
        let order = hostile::Order {
            memory: Memory::Anonymous,
            rounds: 2,
            milliseconds: 1,
            core: 0,
            // More than there are: a test may wait longer for its core than a measurement.
            tsc_hz: 1e10,
        };
        let mut told = 0;
        let rows = hostile::measure_in(eal, pool, &order, || told += 1).unwrap();
        assert_eq!(told, hostile::steps(&order));
        assert!(rows.iter().map(|row| row.attack).eq(Attack::ALL));
        for row in rows {
            let loads = row.within.iter().map(|within| within.load_percent);
            assert!(loads.eq([50, 90]), "{}", row.attack);
            let mut losses = row.within.iter().flat_map(|within| &within.losses);
            assert!(losses.all(|loss| loss.packets > 0 && loss.lost <= loss.packets));
        }
    }
}
