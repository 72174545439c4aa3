//! The control plane without a network card: octets of signalling in, octets and table updates out.

use std::collections::VecDeque;
use std::fs;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use dataplane::ControlRings;
use dpdk::{EalHandle, Mempool};
use flow::{
    AccessTechnology, Bid, HandoffIndicator, Hnp, Interval, Lmaa, MacAddr, MnId, ProxyCoa, Role,
    Selector, TableUpdate, Update,
};
use hdrhistogram::Histogram;
use pmip_proto::{
    Command, FlowRequest, Lma, LmaConfig, MagPeer, MoveStarted, Now, PrefixPool, Receiver,
};
use pmip_wire::{BindingLifetime, Fma, Fmi, HnpOption, Message, Pbu, PbuFlags};
use serde::{Deserialize, Serialize};

use crate::case::{Case, Memory, Size, Work};
use crate::cell::{environment, pin};
use crate::clock::{precise, thread_time};
use crate::network;
use crate::report::{median, rounded};
use crate::subject::Subject;

/// What the child is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Where the workers' packets and tables live.
    pub(crate) memory: Memory,
    /// Mobiles to attach.
    pub(crate) mobiles: u32,
    /// The core of the workers.
    pub(crate) core: usize,
    /// The core of the control plane.
    pub(crate) control_core: usize,
    /// Flow moves to time.
    pub(crate) moves: u32,
    /// The frequency of the time stamp counter.
    pub(crate) tsc_hz: f64,
}

/// What was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Mobiles attached.
    pub(crate) mobiles: u32,
    /// PBUs that moved a mobile to another MAG, per second of one core: each decoded, decided,
    /// answered with an encoded PBA and made a table update.
    pub(crate) updates_per_second: f64,
    /// PBUs that only prolonged a binding, likewise.
    pub(crate) refreshes_per_second: f64,
    /// From an empty LMA until all mobiles had a binding, with the PBAs encoded.
    pub(crate) attach_seconds: f64,
    /// Resident memory of the LMA for one mobile, without flows, workers' tables not included.
    pub(crate) bytes_per_mobile: f64,
    /// Updates per second that a forwarding worker was given, in `loaded_cycles`.
    pub(crate) load_updates_per_second: f64,
    /// Cycles per packet of a worker with a table of that many mobiles, left alone.
    pub(crate) idle_cycles: f64,
    /// Under updates.
    pub(crate) loaded_cycles: f64,
    /// What the updates took of the forwarding rate, in per cent: the median of neighbouring rounds.
    pub(crate) rate_drop_percent: f64,
    /// From an FMA's octets until both workers forward by it.
    pub(crate) switch: Percentiles,
}

/// Of times, in microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    /// Times taken.
    pub(crate) count: u64,
    /// Half are below.
    pub(crate) p50_us: f64,
    /// 99 in a hundred.
    pub(crate) p99_us: f64,
    /// 9999 in ten thousand.
    pub(crate) p99_99_us: f64,
    /// The longest.
    pub(crate) max_us: f64,
}

/// Long enough for all of this.
const LIFETIME: BindingLifetime = BindingLifetime::MAX;

/// An LMA with its door for octets.
struct Anchor {
    lma: Lma,
    receiver: Receiver,
    now: Now,
    /// Of the PBUs of a pass: each session gets one of them.
    sequence: u16,
    sent: u64,
    updates: Vec<TableUpdate>,
    /// FMIs that no one has answered yet, with the MAG each is for.
    initiated: VecDeque<(Ipv6Addr, Fmi)>,
}

impl Anchor {
    fn new() -> Result<Self> {
        let peers = (0..network::TUNNELS)
            .map(|number| MagPeer::new(ProxyCoa(network::gateway(number))))
            .collect();
        // Beside the pool of the workers' own mobiles.
        let range = Hnp::new(Ipv6Addr::new(0x2001, 0xdb8, 0x200, 0, 0, 0, 0, 0), 40)?;
        let pool = PrefixPool::new(range, 64, Duration::from_secs(2))?;
        let config = LmaConfig {
            max_lifetime: LIFETIME.duration(),
            ..LmaConfig::new(Lmaa(network::anchor()), peers, vec![pool])
        };
        Ok(Self {
            lma: Lma::new(config, 1),
            receiver: Receiver::new(10),
            now: Now::default(),
            sequence: 0,
            sent: 0,
            updates: Vec::new(),
            initiated: VecDeque::new(),
        })
    }

    /// Takes in the octets of a message and carries out what follows, as far as there is no network.
    fn handle(&mut self, from: Ipv6Addr, octets: &[u8]) -> Result<()> {
        let to = network::anchor();
        let message = self.receiver.receive(self.now, from, to, octets)?;
        self.lma.handle_message(self.now, from, to, &message);
        self.carry_out()
    }

    fn carry_out(&mut self) -> Result<()> {
        while let Some(command) = self.lma.poll_command() {
            match command {
                Command::Send { from, to, message } => {
                    std::hint::black_box(message.encode(from, to)?);
                    self.sent += 1;
                    match message {
                        Message::Pba(pba) => {
                            ensure!(
                                pba.status.is_accepted(),
                                "a PBU was refused: {:?}",
                                pba.status
                            );
                        }
                        Message::Fmi(fmi) => self.initiated.push_back((to, fmi)),
                        Message::Pbu(_)
                        | Message::BindingError(_)
                        | Message::Fma(_)
                        | Message::Heartbeat(_)
                        | Message::Bri(_)
                        | Message::Bra(_)
                        | Message::Upn(_)
                        | Message::Upa(_) => bail!("an LMA does not send this"),
                    }
                }
                Command::Table(update) => self.updates.push(update),
                Command::Advertise(_) => bail!("an LMA does not advertise"),
            }
        }
        while let Some(event) = self.lma.poll_event() {
            std::hint::black_box(event);
        }
        Ok(())
    }

    /// The octets of the FMA to the FMI that has waited longest, and who sends them.
    fn acknowledgement(&mut self) -> Result<Option<(Ipv6Addr, Vec<u8>)>> {
        let Some((mag, fmi)) = self.initiated.pop_front() else {
            return Ok(None);
        };
        let fma = Fma {
            sequence: fmi.sequence,
            lifetime: fmi.lifetime,
            mn_id: fmi.mn_id,
            hnps: fmi.hnps,
            ..Fma::default()
        };
        let octets = Message::from(fma).encode(mag, network::anchor())?;
        Ok(Some((mag, octets)))
    }

    /// Answers every FMI.
    fn acknowledge_all(&mut self) -> Result<()> {
        while let Some((mag, octets)) = self.acknowledgement()? {
            self.handle(mag, &octets)?;
        }
        Ok(())
    }

    /// Handles a batch; returns how long that took and how many table updates came of it.
    fn batch(&mut self, pbus: &[(Ipv6Addr, Vec<u8>)]) -> Result<(Duration, usize)> {
        let (start, sent) = (thread_time(), self.sent);
        for (from, octets) in pbus {
            self.handle(*from, octets)?;
        }
        let updates = self.updates.len();
        self.updates.clear();
        let took = thread_time().saturating_sub(start);
        ensure!(
            self.sent - sent == pbus.len() as u64,
            "not every PBU was answered"
        );
        self.now.monotonic += Duration::from_millis(1);
        Ok((took, updates))
    }

    /// The PBU of a mobile's interface at a gateway.
    fn pbu(
        &self,
        mobile: u32,
        interface: u8,
        gateway: u16,
        handoff: HandoffIndicator,
    ) -> Result<(Ipv6Addr, Vec<u8>)> {
        let from = network::gateway(gateway);
        let [a, b, c, d] = mobile.to_be_bytes();
        let pbu = Pbu {
            sequence: self.sequence,
            flags: PbuFlags::REQUEST,
            lifetime: LIFETIME,
            mn_id: Some(name(mobile)?.into()),
            hnps: vec![HnpOption::ALL_ZERO],
            handoff: Some(handoff),
            access: Some(AccessTechnology(4 + interface)),
            ll_id: Some(MacAddr([2, interface, a, b, c, d]).into()),
            ..Pbu::default()
        };
        Ok((from, Message::from(pbu).encode(from, network::anchor())?))
    }
}

fn name(mobile: u32) -> Result<MnId> {
    Ok(MnId::new(&format!("mn{mobile}@example.net"))?)
}

/// Resident octets of this process.
fn resident() -> Result<f64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split_whitespace().nth(1).context("statm")?;
    Ok(precise(pages.parse::<u64>()? * 4096))
}

/// Measures; calls `progress` at each of [`STEPS`] steps.
///
/// # Errors
/// Any refusal, and whatever DPDK refuses.
pub(crate) fn measure(order: &Order, mut progress: impl FnMut()) -> Result<Outcome> {
    pin(order.control_core)?;
    let mut anchor = Anchor::new()?;
    let before = resident()?;
    let all = 0..order.mobiles;
    let attach = pass(
        &mut anchor,
        all.clone(),
        0,
        HandoffIndicator::NEW_INTERFACE,
        1,
    )?;
    let bytes = (resident()? - before) / f64::from(order.mobiles);
    progress();
    let moved = pass(
        &mut anchor,
        all.clone(),
        1,
        HandoffIndicator::BETWEEN_MAGS,
        1,
    )?;
    progress();
    let refreshed = pass(&mut anchor, all, 1, HandoffIndicator::NO_CHANGE, 0)?;
    progress();
    drop(anchor);
    let (eal, pool) = environment(order.memory)?;
    let (idle, loaded, drop, given) = under_load(order, &eal, &pool)?;
    progress();
    pin(order.control_core)?;
    let switch = switch_times(order, &eal, &pool)?;
    progress();
    let mobiles = f64::from(order.mobiles);
    Ok(Outcome {
        mobiles: order.mobiles,
        updates_per_second: rounded(mobiles / moved.as_secs_f64(), 0),
        refreshes_per_second: rounded(mobiles / refreshed.as_secs_f64(), 0),
        attach_seconds: rounded(attach.as_secs_f64(), 2),
        bytes_per_mobile: rounded(bytes, 0),
        load_updates_per_second: rounded(given, 0),
        idle_cycles: rounded(idle, 1),
        loaded_cycles: rounded(loaded, 1),
        rate_drop_percent: rounded(drop, 1),
        switch,
    })
}

/// How often [`measure`] tells of progress.
pub(crate) const STEPS: u64 = 5;

/// One PBU for every mobile, `shift` gateways on from its first. The octets are made between the
/// timed batches. Each makes at least `updates` table updates.
fn pass(
    anchor: &mut Anchor,
    mobiles: std::ops::Range<u32>,
    shift: u16,
    handoff: HandoffIndicator,
    updates: usize,
) -> Result<Duration> {
    const BATCH: u32 = 5000;
    anchor.sequence += 1;
    let mut took = Duration::ZERO;
    let mut first = mobiles.start;
    while first < mobiles.end {
        let last = (first + BATCH).min(mobiles.end);
        let pbus: Result<Vec<_>> = (first..last)
            .map(|mobile| {
                let gateway = (network::tunnel_of(mobile) + shift) % network::TUNNELS;
                anchor.pbu(mobile, 0, gateway, handoff)
            })
            .collect();
        let (time, made) = anchor.batch(&pbus?)?;
        ensure!(
            made >= updates * (last - first) as usize,
            "{made} table updates of {} PBUs",
            last - first
        );
        took += time;
        first = last;
    }
    Ok(took)
}

/// A worker forwards while bindings change under it: cycles alone and under updates, the drop in
/// per cent, and the rate of updates.
fn under_load(order: &Order, eal: &EalHandle, pool: &Mempool) -> Result<(f64, f64, f64, f64)> {
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
            subject.forward(turns / 10)?;
            let took = subject.forward(turns)?;
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
fn switch_times(order: &Order, eal: &EalHandle, pool: &Mempool) -> Result<Percentiles> {
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
            ready.send(rings?)?;
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
