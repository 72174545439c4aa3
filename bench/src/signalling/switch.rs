//! How long a flow move takes from its acknowledgement to the last worker.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use dataplane::ControlRings;
use dpdk::{EalHandle, Mempool};
use flow::{Bid, HandoffIndicator, Interval, Role, Selector, TableUpdate, Update};
use hdrhistogram::Histogram;
use pmip_proto::{FlowRequest, MoveStarted};

use super::{Anchor, Order, Percentiles, name};
use crate::case::{Case, Size, Work};
use crate::cell::pin;
use crate::clock::precise;
use crate::network;
use crate::report::rounded;
use crate::subject::Subject;

/// Two workers that forward in turn on one core, and the control ends of their rings.
struct Workers {
    rings: Vec<ControlRings>,
}

impl Workers {
    /// Tells every worker, waiting for room.
    fn tell(&mut self, updates: impl Iterator<Item = TableUpdate>) {
        for update in updates {
            for ring in &mut self.rings {
                let mut update = Update::Table(Role::Lma, update.clone());
                while let Err(back) = ring.push(update) {
                    update = back;
                    thread::yield_now();
                }
            }
        }
    }

    /// Waits until every worker has done what it was told.
    fn settle(&self) {
        while self.rings.iter().any(|ring| ring.applied() < ring.pushed()) {
            std::hint::spin_loop();
        }
    }
}

/// Moves flows between two MAGs while both workers forward.
pub(super) fn switch_times(order: &Order, eal: &EalHandle, pool: &Mempool) -> Result<Percentiles> {
    let (stop, ready) = (Arc::new(AtomicBool::new(false)), channel());
    let forwarding = {
        let (stop, ready, core) = (Arc::clone(&stop), ready.0, order.core);
        let (eal, pool) = (eal.clone(), pool.clone());
        thread::spawn(move || -> Result<()> {
            pin(core)?;
            let case = Case {
                work: Work::LmaDownlink,
                bindings: 1000,
                rules: 4,
                size: Size::Fixed(64),
            };
            let mut workers = Vec::new();
            for index in [1, 2] {
                workers.push(Subject::new(&eal, &pool, index, case)?);
            }
            let rings: Result<Vec<_>> = workers.iter_mut().map(Subject::take_control).collect();
            ready
                .send(rings?)
                .map_err(|_| anyhow!("nobody waits for the workers"))?;
            while !stop.load(Ordering::Relaxed) {
                for worker in &mut workers {
                    worker.forward_one();
                }
            }
            Ok(())
        })
    };
    let moved = ready
        .1
        .recv()
        .context("the workers did not start")
        .and_then(|rings| move_flows(order.moves, Workers { rings }));
    stop.store(true, Ordering::Relaxed);
    forwarding
        .join()
        .map_err(|_| anyhow!("the forwarding thread panicked"))??;
    let times = moved?;
    let microseconds = |nanoseconds: u64| rounded(precise(nanoseconds) / 1000.0, 1);
    let at = |quantile| microseconds(times.value_at_quantile(quantile));
    Ok(Percentiles {
        count: times.len(),
        p50_us: at(0.5),
        p99_us: at(0.99),
        p99_99_us: at(0.9999),
        max_us: microseconds(times.max()),
    })
}

/// Nanoseconds from the octets of an FMA until the last worker has switched.
fn move_flows(moves: u32, mut workers: Workers) -> Result<Histogram<u64>> {
    const MOBILES: u32 = 200;
    let mut anchor = Anchor::new()?;
    let mut flows = Vec::new();
    for mobile in 0..MOBILES {
        for interface in [0, 1] {
            let gateway = network::tunnel_of(mobile) / 2 * 2 + u16::from(interface);
            let handoff = HandoffIndicator::NEW_INTERFACE;
            let (from, octets) = anchor.pbu(mobile, interface, gateway, handoff)?;
            anchor.handle(from, &octets)?;
        }
        let selector = Selector::<Ipv6Addr> {
            destination_port: Some(Interval::single(network::FIRST_PORT)),
            ..Selector::default()
        };
        let mn_id = name(mobile)?;
        let request = FlowRequest {
            mn_id: mn_id.clone(),
            fid: None,
            priority: None,
            selector: selector.into(),
            bid: bid(0)?,
        };
        let fid = anchor.lma.add_flow(anchor.now, request)?;
        anchor.carry_out()?;
        anchor.acknowledge_all()?;
        flows.push((mn_id, fid));
    }
    workers.tell(anchor.updates.drain(..));
    let mut times = Histogram::new_with_bounds(1, 10_000_000_000, 3)?;
    let turns = (0u32..).zip(flows.iter().cycle());
    for (number, (mn_id, fid)) in turns.take(moves as usize) {
        // The MAG that a flow left is told in time to forget it.
        anchor.now.monotonic += Duration::from_secs(2);
        anchor.lma.handle_timeout(anchor.now);
        anchor.carry_out()?;
        anchor.acknowledge_all()?;
        let target = bid(u16::from((number / MOBILES).is_multiple_of(2)))?;
        let started = anchor.lma.move_flow(anchor.now, mn_id, *fid, target)?;
        anchor.carry_out()?;
        ensure!(
            started == MoveStarted::Signalling,
            "a move without signalling"
        );
        workers.tell(anchor.updates.drain(..));
        workers.settle();
        let (from, octets) = anchor.acknowledgement()?.context("no FMI")?;
        let start = Instant::now();
        anchor.handle(from, &octets)?;
        ensure!(!anchor.updates.is_empty(), "an FMA that switched nothing");
        workers.tell(anchor.updates.drain(..));
        workers.settle();
        let nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        times.saturating_record(nanoseconds);
    }
    Ok(times)
}

/// The number that the LMA gives a mobile's first or second access.
fn bid(interface: u16) -> Result<Bid> {
    Bid::new(interface + 1).context("a BID")
}
