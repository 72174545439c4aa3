//! Two workers and one tunnel: the one that receives hands half of the flows to the other.

mod flows;

use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use dataplane::io::dpdk::DpdkIo;
use dataplane::{
    BURST, Burst, PacketIo, Peers, PortShare, RingSizes, Spread, Worker, WorkerConfig, peers, rings,
};
use dpdk::{
    Device, EalHandle, Mbuf, Mempool, MempoolConfig, Port, PortConfig, RegisteredThread, RxQueue,
    TxQueue,
};
use flow::{Counters, DropReason, WorkerId};
use serde::{Deserialize, Serialize};

pub(crate) use self::flows::Flows;
use crate::alloc;
use crate::case::{Case, Memory, Size, Work};
use crate::cell::{self, pin};
use crate::clock::{precise, thread_time, tsc};
use crate::generator::GeneratorIo;
use crate::network;
use crate::report::{median, rounded};
use crate::subject::fill;

/// What a child process is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Where packets live.
    pub(crate) memory: Memory,
    /// Buffers that each core keeps of the pool.
    pub(crate) cache: u32,
    /// Rounds, of one worker and of both.
    pub(crate) rounds: u32,
    /// How long each takes, in milliseconds.
    pub(crate) milliseconds: u64,
    /// The core that receives, and the other.
    pub(crate) cores: [usize; 2],
}

/// What was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Workers that share the tunnel.
    pub(crate) workers: u16,
    /// Flows in it, drawn uniformly.
    pub(crate) flows: u16,
    /// Million packets per second that one worker forwards alone.
    pub(crate) mpps_one: f64,
    /// That worker's core receives and writes if nothing else is done with them.
    pub(crate) mpps_received: f64,
    /// That both forward.
    pub(crate) mpps_all: f64,
    /// What each worker handled, of all.
    pub(crate) shares: Vec<f64>,
    /// Packets that left after a later one of their flow.
    pub(crate) reordered: u64,
    /// Of a million packets, how many found the ring to the other worker full.
    pub(crate) dropped_ppm: f64,
    /// What the second worker had something to do of the time; the first always has.
    pub(crate) second_busy_percent: f64,
}

/// What the second worker does.
const WAIT: u8 = 0;
const TIMED: u8 = 1;
const STOP: u8 = 2;

const WORKERS: u16 = 2;

/// Places of a ring between two workers, as in the appliance.
const PLACES: usize = 1024;

const CASE: Case = Case {
    work: Work::LmaUplink,
    bindings: flows::BINDINGS,
    rules: 0,
    size: Size::Fixed(64),
};

/// How often [`measure`] tells of progress.
pub(crate) fn steps(order: &Order) -> u64 {
    order.rounds.into()
}

/// Measures; calls `progress` after every round.
///
/// # Errors
/// A packet that is neither sent nor dropped for a full ring, a flow that left by both workers, a heap
/// call, and whatever DPDK refuses.
pub(crate) fn measure(order: &Order, progress: impl FnMut() + Send) -> Result<Outcome> {
    let eal = cell::start(order.memory)?;
    let pool = Mempool::new(
        &eal,
        &MempoolConfig {
            cache: order.cache,
            ..MempoolConfig::default()
        },
    )?;
    let size = GeneratorIo::frame_len(CASE.work, CASE.size);
    let config = PortConfig {
        queues: 1 + WORKERS,
        mtu: network::MTU,
        ..PortConfig::default()
    };
    let mut port = Port::open(&eal, &Device::Null { size }, 0, &config, &pool)?;
    let mut queues = port.start()?.into_iter();
    let mut next = |id, peers| worker(&pool, queues.next(), id, peers);
    let alone = next(0, None)?;
    let shares = [
        PortShare {
            queues: 1,
            spread: Spread::All,
        },
        PortShare {
            queues: WORKERS,
            spread: Spread::Nothing,
        },
    ];
    let mut peers = peers(WORKERS, &shares, PLACES).into_iter();
    let team = [next(0, peers.next())?, next(1, peers.next())?];
    run(order, &eal.handle(), alone, team, progress)
}

type BenchWorker = Worker<GeneratorIo>;

/// A worker that knows all mobiles, with its peers if it has any.
fn worker(
    pool: &Mempool,
    queues: Option<(RxQueue, TxQueue)>,
    id: u16,
    peers: Option<Peers<Mbuf>>,
) -> Result<BenchWorker> {
    let (rx, tx) = queues.context("a port with too few queues")?;
    let mut io = DpdkIo::new(pool.clone());
    io.add_port(rx, tx);
    let mut io = GeneratorIo::new(io, CASE.work, CASE.bindings, CASE.rules, CASE.size);
    io.set_flows(Flows::new());
    let (worker_end, mut control) = rings(RingSizes::default());
    let config = WorkerConfig {
        id: WorkerId(id),
        ..network::config(&CASE)?
    };
    let mut worker = Worker::new(config, io, worker_end)?;
    fill(&mut worker, &mut control, &CASE)?;
    Ok(match peers {
        Some(peers) => worker.with_peers(peers),
        None => worker,
    })
}

/// What the second worker says of itself.
struct Second {
    worker: BenchWorker,
    busy: u64,
    all: u64,
    heap_calls: u64,
}

fn run(
    order: &Order,
    eal: &EalHandle,
    alone: BenchWorker,
    team: [BenchWorker; 2],
    progress: impl FnMut() + Send,
) -> Result<Outcome> {
    let [first, second] = team;
    let state = &AtomicU8::new(WAIT);
    let [core, other_core] = order.cores;
    let (lead, second) = thread::scope(|scope| {
        let second = scope.spawn(move || -> Result<Second> {
            let _registered = RegisteredThread::new(eal)?;
            pin(other_core)?;
            Ok(follow(second, state))
        });
        let lead = scope.spawn(move || -> Result<Lead> {
            let _registered = RegisteredThread::new(eal)?;
            pin(core)?;
            Lead::new(order, alone, first)?.run(order, state, progress)
        });
        let lead = lead.join();
        state.store(STOP, Ordering::Release);
        (lead, second.join())
    });
    let panicked = |_| anyhow!("a worker panicked");
    outcome(&lead.map_err(panicked)??, &second.map_err(panicked)??)
}

/// Turns until it is told to stop and has nothing left.
fn follow(mut worker: BenchWorker, state: &AtomicU8) -> Second {
    let (mut busy, mut all, before) = (0, 0, alloc::calls());
    loop {
        let start = tsc();
        let got = worker.turn();
        let took = tsc().saturating_sub(start);
        match state.load(Ordering::Acquire) {
            TIMED => {
                all += took;
                busy += if got > 0 { took } else { 0 };
            }
            STOP if got == 0 => break,
            _ => {}
        }
    }
    Second {
        worker,
        busy,
        all,
        heap_calls: alloc::calls() - before,
    }
}

/// The thread that receives: one worker alone and the first of two, in turn.
struct Lead {
    alone: BenchWorker,
    first: BenchWorker,
    turns: u64,
    received: Vec<f64>,
    one: Vec<f64>,
    all: Vec<f64>,
}

impl Lead {
    fn new(order: &Order, mut alone: BenchWorker, first: BenchWorker) -> Result<Self> {
        const TURNS: u64 = 4096;
        flood(&mut alone, TURNS)?;
        let took = flood(&mut alone, TURNS)?;
        let length = Duration::from_millis(order.milliseconds);
        let times = length.as_nanos() / took.as_nanos().max(1);
        Ok(Self {
            alone,
            first,
            turns: TURNS * u64::try_from(times)?.max(1),
            received: vec![],
            one: vec![],
            all: vec![],
        })
    }

    fn run(mut self, order: &Order, state: &AtomicU8, mut progress: impl FnMut()) -> Result<Self> {
        let packets = precise(self.turns * BURST as u64);
        for _ in 0..order.rounds {
            let took = receive(self.alone.io_mut(), self.turns)?;
            self.received.push(packets / took.as_secs_f64());
            flood(&mut self.alone, self.turns / 10)?;
            let took = flood(&mut self.alone, self.turns)?;
            self.one.push(packets / took.as_secs_f64());
            flood(&mut self.first, self.turns / 10)?;
            state.store(TIMED, Ordering::Release);
            let before = ring_drops(&self.first.counters());
            let took = flood(&mut self.first, self.turns)?;
            let dropped = ring_drops(&self.first.counters()) - before;
            state.store(WAIT, Ordering::Release);
            self.all
                .push((packets - precise(dropped)) / took.as_secs_f64());
            progress();
        }
        Ok(self)
    }
}

/// Forwards so many bursts as they come; returns how long the thread ran.
fn flood(worker: &mut BenchWorker, turns: u64) -> Result<Duration> {
    worker.io_mut().switch(true);
    let (calls, start, mut received) = (alloc::calls(), thread_time(), 0);
    for _ in 0..turns {
        received += worker.turn();
    }
    let took = thread_time().saturating_sub(start);
    let calls = alloc::calls() - calls;
    worker.io_mut().switch(false);
    let packets = turns * BURST as u64;
    ensure!(calls == 0, "{calls} heap calls of a worker that spreads");
    ensure!(
        received as u64 == packets,
        "{received} packets came in, not {packets}"
    );
    Ok(took)
}

/// Receives so many bursts and gives them back; returns how long the thread ran.
fn receive(io: &mut GeneratorIo, turns: u64) -> Result<Duration> {
    io.switch(true);
    let (start, mut received, mut burst) = (thread_time(), 0, Burst::new());
    for _ in 0..turns {
        io.rx(network::arrival_port(CASE.work), &mut burst);
        received += burst.len() as u64;
        burst.clear();
    }
    let took = thread_time().saturating_sub(start);
    io.switch(false);
    let packets = turns * BURST as u64;
    ensure!(
        received == packets,
        "{received} packets came in, not {packets}"
    );
    Ok(took)
}

fn ring_drops(counters: &Counters) -> u64 {
    counters.dropped(DropReason::SpreadRing)
}

fn outcome(lead: &Lead, second: &Second) -> Result<Outcome> {
    ensure!(
        second.heap_calls == 0,
        "{} heap calls of the second worker",
        second.heap_calls
    );
    let team = [&lead.first, &second.worker];
    let counters = team.map(Worker::counters);
    let received: u64 = counters
        .iter()
        .flat_map(|c| &c.ports)
        .map(|port| port.rx_packets)
        .sum();
    let sent = counters.each_ref().map(|counters| {
        let ports = counters.ports.iter();
        ports.map(|port| port.tx_packets).sum::<u64>()
    });
    let dropped: u64 = counters.iter().map(ring_drops).sum();
    let delivered: u64 = sent.iter().sum();
    ensure!(
        received == delivered + dropped,
        "{received} packets came in, {delivered} were sent and {dropped} found a full ring"
    );
    let [first, second_flows] = team.map(|worker| worker.io().flows().context("no flows"));
    let (first, second_flows) = (first?, second_flows?);
    let shared = first.shared(second_flows);
    ensure!(shared == 0, "{shared} flows left by both workers");
    let share = |sent: u64| rounded(precise(sent) / precise(delivered.max(1)), 4);
    Ok(Outcome {
        workers: WORKERS,
        flows: flows::FLOWS,
        mpps_one: rounded(median(&lead.one) / 1e6, 2),
        mpps_received: rounded(median(&lead.received) / 1e6, 2),
        mpps_all: rounded(median(&lead.all) / 1e6, 2),
        shares: sent.map(share).to_vec(),
        reordered: first.reordered() + second_flows.reordered(),
        dropped_ppm: rounded(precise(dropped) / precise(received.max(1)) * 1e6, 1),
        second_busy_percent: rounded(precise(second.busy) / precise(second.all.max(1)) * 100.0, 1),
    })
}

/// A line for the terminal.
pub(crate) fn line(outcome: &Outcome) -> String {
    let shares = outcome.shares.iter().map(|share| share * 100.0);
    let shares: Vec<String> = shares.map(|percent| format!("{percent:.1} %")).collect();
    format!(
        "one tunnel, {} workers: {:.2} Mpps, one alone {:.2} ({:.2} x), {:.2} only received; shares {}; {} reordered, {:.1} ppm \
         dropped for a full ring; the second was busy {:.0} % of the time",
        outcome.workers,
        outcome.mpps_all,
        outcome.mpps_one,
        outcome.mpps_all / outcome.mpps_one,
        outcome.mpps_received,
        shares.join(" and "),
        outcome.reordered,
        outcome.dropped_ppm,
        outcome.second_busy_percent
    )
}
