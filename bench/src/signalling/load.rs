//! Forwarding while the tables change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use dataplane::ControlRings;
use dpdk::{EalHandle, Mempool};
use flow::{Role, TableUpdate, Update};

use super::Order;
use crate::case::{Case, Size, Work};
use crate::cell::pin;
use crate::clock::precise;
use crate::network;
use crate::report::median;
use crate::subject::Subject;

/// A worker forwards while bindings change under it: cycles alone and under updates, the drop in
/// per cent, and the rate of updates.
pub(super) fn under_load(
    order: &Order,
    eal: &EalHandle,
    pool: &Mempool,
) -> Result<(f64, f64, f64, f64)> {
    const RATE: f64 = 100_000.0;
    const ROUNDS: usize = 7;
    let case = Case {
        work: Work::LmaDownlink,
        bindings: order.mobiles,
        rules: 4,
        size: Size::Fixed(64),
    };
    pin(order.core)?;
    let mut subject = Subject::new(eal, pool, 0, case)?;
    let turns = subject.calibrate(Duration::from_millis(200))?;
    let control = subject.take_control()?;
    let stop = Arc::new(AtomicBool::new(false));
    let pause = Arc::new(AtomicBool::new(true));
    let updater = {
        let (stop, pause, core) = (Arc::clone(&stop), Arc::clone(&pause), order.control_core);
        thread::spawn(move || update_steadily(control, &case, RATE, core, &stop, &pause))
    };
    let (mut idle, mut loaded, mut drops) = (vec![], vec![], vec![]);
    let packets = precise(turns * dataplane::BURST as u64);
    for _ in 0..ROUNDS {
        let mut pair = [0.0; 2];
        for (cycles, quiet) in pair.iter_mut().zip([true, false]) {
            pause.store(quiet, Ordering::Relaxed);
            // Replaced bindings are given back to the heap by the worker.
            subject.forward_freely(turns / 10)?;
            let (took, _) = subject.forward_freely(turns)?;
            *cycles = took.as_secs_f64() * order.tsc_hz / packets;
        }
        let [alone, busy] = pair;
        idle.push(alone);
        loaded.push(busy);
        drops.push((1.0 - alone / busy) * 100.0);
    }
    stop.store(true, Ordering::Relaxed);
    let given = updater
        .join()
        .map_err(|_| anyhow!("the updating thread panicked"))??;
    Ok((median(&idle), median(&loaded), median(&drops), given))
}

/// Replaces bindings at a steady rate while not paused; returns the rate that was kept.
fn update_steadily(
    mut control: ControlRings,
    case: &Case,
    rate: f64,
    core: usize,
    stop: &AtomicBool,
    pause: &AtomicBool,
) -> Result<f64> {
    pin(core)?;
    let (mut sent, mut busy, mut mobile) = (0u64, Duration::ZERO, 0u32);
    while !stop.load(Ordering::Relaxed) {
        if pause.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_micros(200));
            continue;
        }
        let (start, mut here) = (Instant::now(), 0u64);
        while !pause.load(Ordering::Relaxed) && !stop.load(Ordering::Relaxed) {
            if precise(here) > start.elapsed().as_secs_f64() * rate {
                thread::sleep(Duration::from_micros(50));
                continue;
            }
            // A prime stride, so that the table is walked all over.
            mobile = (mobile + 7919) % case.bindings;
            let (hnp, mut binding) = network::binding(case, mobile)?;
            let source = usize::from(!here.is_multiple_of(2));
            binding.default_path = binding.sources.get(source).copied();
            let mut update = Update::Table(
                Role::Lma,
                TableUpdate::Binding {
                    hnp,
                    binding: Some(Box::new(binding)),
                },
            );
            while let Err(back) = control.push(update) {
                update = back;
                thread::yield_now();
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            here += 1;
        }
        sent += here;
        busy += start.elapsed();
    }
    Ok(precise(sent) / busy.as_secs_f64().max(1e-9))
}
