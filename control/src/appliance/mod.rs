//! An LMA or MAG process: ports, workers, control thread and management, started and stopped in order.

mod beginning;
mod bindings;
mod calls;
mod capture;
mod clock;
mod control;
mod ending;
mod events;
mod explain;
mod ignored;
mod keeping;
mod left_behind;
mod links;
mod metrics;
mod mobiles;
mod outbox;
mod overload;
mod pair;
mod ports;
mod protection;
mod recorder;
mod reload;
mod reports;
mod restart_counter;
mod rows;
mod setup;
mod take_over;
mod traffic;
mod ways;
mod wiring;
mod workers;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use config::{Config, Idle};
use crossbeam::channel::Sender;
use dataplane::Worker;
use dataplane::io::dpdk::DpdkIo;
use dataplane::{ControlRings, RingSizes, WorkerRings, rings};
use dataplane::{FragmentLimits, LmaConfig, MagConfig, WorkerConfig, WorkerError};
use dpdk::{Eal, EalHandle, Mempool, RegisteredThread};
use flow::{RouteNext, WorkerId};
use nd::{NdPort, NeighbourDiscovery};
use pmip_proto::recording::Recorded;
use pmip_proto::{Lma, Mag, Receiver};

use self::beginning::Beginning;
use self::capture::Captures;
use self::control::Control;
use self::links::Links;
use self::metrics::Times;
use self::mobiles::MobileTable;
use self::outbox::Outbox;
use self::overload::{Load, Overload};
use self::pair::Pair;
use self::ports::OpenPorts;
use self::protection::Protection;
use self::reload::Reloads;
use self::reports::Reports;
use self::setup::Setup;
use self::workers::WorkerSet;
use crate::Signals;
use crate::api::config::Reload;
use crate::certificates;
use crate::confinement::{Confinement, Thread};
use crate::feed::{EventMaker, feed};
use crate::keys::Source;
use crate::log::{LogRate, Logging};
use crate::server::{Call, Request, Server};
use crate::service;

use ways::Ways;

/// Empty turns before a worker on a shared core sleeps, and how long.
const SHARED_CORE: dataplane::Idle = dataplane::Idle::Adaptive {
    spins: 128,
    sleep: Duration::from_micros(50),
};

/// How often it is looked whether to end.
const TURN: Duration = Duration::from_millis(10);

/// Requests that may wait for the control thread.
const MAX_CALLS: usize = 1024;

/// Lines a second that are logged about events: peers make most of them.
const EVENT_LINES: u32 = 100;

/// Most errors sent per second about messages that cannot be read (RFC 6275 §9.3.3).
const ANSWERS_PER_SECOND: u32 = 10;

/// Runs an appliance until it is to stop. `file` is where its configuration is from; `takes_over` is whether it takes the
/// place of one that runs.
///
/// # Errors
/// If it cannot start: the error says which part, and what to do about it.
pub(crate) fn run(
    file: &Path,
    config: &Config,
    logging: Logging,
    signals: &Signals,
    takes_over: bool,
) -> anyhow::Result<()> {
    let stop = &signals.stop;
    let cores = worker_cores(config)?;
    let start = Instant::now();
    // Only processes with keys, which always have one, need the directory this early.
    let state = config.state_directory().unwrap_or_default();
    let keys =
        || Protection::new(Source::all(config), &state).context("the keys of the signalling");
    // What is wrong with a file is said before anything is taken from another process.
    let certificates = certificates::load(config).context("[process.pair.tls]")?;
    // Numbers that were used with them are the other process's until it ends, or until this one leads.
    let early = if takes_over || config.is_paired() {
        protection::load(&Source::all(config)).context("the keys of the signalling")?;
        None
    } else {
        Some(keys()?)
    };
    let eal = Eal::init(&ports::eal_config(config)).context("DPDK did not start")?;
    left_behind::remove(&eal.runtime_directory());
    let pool = ports::pool(&eal, config)?;
    if takes_over {
        take_over::take_over(config)?;
    }
    let protection = match early {
        Some(protection) => protection,
        None if config.is_paired() => Protection::closed(),
        None => keys()?,
    };
    let OpenPorts {
        infos,
        workers: queues,
        peers,
    } = ports::open(&eal, config, &pool)?;

    let workers: Vec<_> = (0..config.process.workers).map(WorkerId).collect();
    let (worker_rings, control_rings): (Vec<WorkerRings>, Vec<ControlRings>) =
        workers.iter().map(|_| rings(RingSizes::default())).unzip();
    let mut threads = Vec::new();
    let ends = queues.into_iter().zip(peers).zip(worker_rings);
    let confinement = Confinement::of(config);
    for ((id, ((io, peers), rings)), core) in workers.iter().zip(ends).zip(&cores) {
        let config = worker_config(config, &infos, *id);
        let make = move || {
            let worker = Worker::new(config, io, rings)?;
            Ok(match peers {
                Some(peers) => worker.with_peers(peers),
                None => worker,
            })
        };
        threads.push(spawn_worker(eal.handle(), *id, *core, confinement, make)?);
    }

    let (events, listeners) = feed();
    let (calls, requests) = crossbeam::channel::bounded::<Call>(MAX_CALLS);
    let pair = Pair::join(config, certificates)?;
    let fixed = Fixed {
        pair,
        infos,
        pool,
        cores,
        protection,
        start,
        events,
        file: file.to_owned(),
        logging,
        hand_over: Arc::clone(&signals.hand_over),
    };
    let control = build_control(config, fixed, control_rings, requests)?;
    let control = spawn_control(config, control, stop)?;
    let management = &config.management;
    let server = Server::start(management, calls.clone(), listeners, confinement)?;
    service::ready(config);
    service::feed_watchdog(calls.clone());

    let ended = || threads.iter().any(JoinHandle::is_finished) || control.is_finished();
    while !stop.load(Ordering::Relaxed) && !ended() {
        if signals.reload.swap(false, Ordering::Relaxed) {
            ask_for_reload(&calls);
        }
        std::thread::sleep(TURN);
    }
    // Nobody has asked for an end, so a thread came to one by itself: the log says why.
    let failed = !stop.swap(true, Ordering::Relaxed);
    service::stopping();
    // It says that nothing more is to be sent here until what was begun has ended.
    let ports = join(control, "control")?;
    drop(server);
    for thread in threads {
        join(thread, "worker")?;
    }
    // Only this thread still has what it takes to close them.
    drop(ports);
    anyhow::ensure!(
        !failed,
        "a thread ended by itself: the process could not go on"
    );
    Ok(())
}

/// On SIGHUP. What comes of it is logged.
fn ask_for_reload(calls: &Sender<Call>) {
    let (reply, _) = tokio::sync::oneshot::channel();
    let request = Request::Reload(Reload::default());
    if calls.try_send(Call { request, reply }).is_err() {
        tracing::error!("configuration not read: too many requests wait");
    }
}

fn join<T>(thread: JoinHandle<T>, name: &str) -> anyhow::Result<T> {
    thread
        .join()
        .map_err(|_| anyhow::anyhow!("a {name} thread panicked"))
}

/// The core of each worker, where the configuration names cores.
fn worker_cores(config: &Config) -> anyhow::Result<Vec<Option<usize>>> {
    let process = &config.process;
    if process.cores.is_empty() {
        return Ok(vec![None; usize::from(process.workers)]);
    }
    anyhow::ensure!(
        process.cores.len() == usize::from(process.workers),
        "[process] names {} cores for {} workers",
        process.cores.len(),
        process.workers
    );
    Ok(process
        .cores
        .iter()
        .map(|core| Some(usize::from(*core)))
        .collect())
}

fn pin(core: Option<usize>) {
    if let Some(id) = core
        && !core_affinity::set_for_current(core_affinity::CoreId { id })
    {
        tracing::warn!(
            core = id,
            "not pinned: the core may have gone offline since the check"
        );
    }
}

fn spawn_worker(
    eal: EalHandle,
    id: WorkerId,
    core: Option<usize>,
    confinement: Confinement,
    make: impl FnOnce() -> Result<Worker<DpdkIo>, WorkerError> + Send + 'static,
) -> anyhow::Result<JoinHandle<()>> {
    let name = format!("worker-{}", id.0);
    let body = move || {
        pin(core);
        // Without it the thread works, but has no cache of packets of its own.
        let registered = RegisteredThread::new(&eal);
        if let Err(error) = &registered {
            tracing::warn!(%error, "worker not registered with DPDK: slower");
        }
        // Made here, so that its tables are in memory near its core.
        match make() {
            Ok(mut worker) => {
                confinement.enter(Thread::Worker);
                worker.run();
            }
            Err(error) => tracing::error!(%error, "worker not started"),
        }
    };
    std::thread::Builder::new()
        .name(name)
        .spawn(body)
        .context("no worker thread")
}

fn spawn_control(
    config: &Config,
    control: Control,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<JoinHandle<Vec<setup::PortInfo>>> {
    let stop = Arc::clone(stop);
    let core = config.process.control_core.map(usize::from);
    let confinement = Confinement::of(config);
    let body = move || {
        pin(core);
        confinement.enter(Thread::Control);
        control.run(&stop)
    };
    std::thread::Builder::new()
        .name("control".into())
        .spawn(body)
        .context("no control thread")
}

fn worker_config(config: &Config, infos: &[setup::PortInfo], id: WorkerId) -> WorkerConfig {
    let ports = (0..)
        .map(flow::PortId)
        .zip(infos)
        .map(|(id, info)| dataplane::PortConfig {
            id,
            mac: info.mac,
            mtu: info.mtu,
            addresses: wiring::addresses(config, id),
            access: info.access,
        });
    let mut worker = WorkerConfig::new(id, ports.collect());
    worker.lma = config.lma.as_ref().map(|lma| {
        let (expected_bindings, other_lengths) = wiring::lma_prefixes(lma);
        LmaConfig {
            addresses: vec![lma.address.0],
            pools: lma.pools.iter().map(|pool| pool.net()).collect(),
            expected_bindings,
            other_lengths,
        }
    });
    worker.mag = config.mag.as_ref().map(|mag| {
        // It is for LMAs to say how long prefixes are.
        let room = usize::try_from(mag.max_prefixes).unwrap_or(usize::MAX);
        MagConfig {
            addresses: vec![mag.address.0],
            expected_bindings: room,
            other_lengths: room,
        }
    });
    let next = |route: &config::Route| match route.via {
        Some(via) => RouteNext::Via(route.port, via),
        None => RouteNext::OnLink(route.port),
    };
    worker.routes = config
        .routes
        .iter()
        .map(|route| (route.to, next(route)))
        .collect();
    let lmas = config.mag.iter().flat_map(|mag| &mag.peers);
    let mags = config.lma.iter().flat_map(|lma| &lma.peers);
    worker.peers = lmas
        .map(|peer| peer.address.0)
        .chain(mags.map(|peer| peer.address.0))
        .collect();
    let shared = wiring::shared_addresses(config);
    worker.unclaimed = shared.iter().map(|(_, net)| net.addr()).collect();
    worker.idle = match config.process.idle {
        Idle::Adaptive => SHARED_CORE,
        Idle::Poll => dataplane::Idle::Poll,
    };
    worker.path_mtu_lifetime = config.process.path_mtu_lifetime;
    let fragments = &config.process.fragments;
    let places = |count| usize::try_from(count).unwrap_or(usize::MAX);
    worker.fragments = FragmentLimits {
        packets: places(fragments.packets),
        fragments: places(fragments.held),
        remembered: places(fragments.remembered),
        time: fragments.time,
    };
    worker
}

/// What was made before the control thread.
struct Fixed {
    pair: Option<Pair>,
    infos: Vec<setup::PortInfo>,
    pool: Mempool,
    cores: Vec<Option<usize>>,
    protection: Protection,
    start: Instant,
    events: EventMaker,
    file: PathBuf,
    logging: Logging,
    hand_over: Arc<AtomicBool>,
}

fn build_control(
    config: &Config,
    fixed: Fixed,
    rings: Vec<ControlRings>,
    calls: crossbeam::channel::Receiver<Call>,
) -> anyhow::Result<Control> {
    let Fixed {
        pair,
        infos,
        pool,
        cores,
        protection,
        start,
        events,
        file,
        logging,
        hand_over,
    } = fixed;
    let Beginning {
        keeping,
        clock,
        restart_counter,
        lma,
        mag,
    } = match &pair {
        Some(_) => Beginning::standing_by(start),
        None => beginning::begin(config, start, random_seed())?,
    };
    let shared = wiring::shared_addresses(config);
    let nd_ports = (0..)
        .map(flow::PortId)
        .zip(&infos)
        .map(|(id, info)| NdPort {
            mac: info.mac,
            addresses: {
                let own = wiring::addresses(config, id).into_iter();
                own.filter(|net| !shared.contains(&(id, *net))).collect()
            },
            access: info.access,
        });
    let nd = NeighbourDiscovery::new(nd_ports.collect());
    let worker = worker_config(config, &infos, WorkerId(0));
    // One that stands by begins to record when it leads.
    let recorder = if pair.is_some() {
        None
    } else {
        let machines = (lma.as_ref(), mag.as_ref());
        recorder::begin(config, machines, Some(Confinement::of(config)))?
    };
    let mut lma = lma.map(|lma| Recorded::new(lma, recorder.clone()));
    let mut mag = mag.map(|mag| Recorded::new(mag, recorder.clone()));
    if keeping.is_on() {
        lma.iter_mut().for_each(Recorded::<Lma, _>::keep_records);
        mag.iter_mut().for_each(Recorded::<Mag, _>::keep_records);
    }
    Ok(Control {
        protection,
        receiver: Receiver::new(ANSWERS_PER_SECOND),
        lma,
        mag,
        recorder,
        mobiles: MobileTable::new(config.mag.iter().flat_map(wiring::mobiles)),
        nd,
        links: Links::default(),
        workers: WorkerSet::new(rings),
        outbox: Outbox::default(),
        load: Load::default(),
        overload: Overload::default(),
        reports: Reports::default(),
        ways: Ways::new(config.process.path_mtu_lifetime),
        moves: calls::WaitingMoves::default(),
        captures: Captures::default(),
        reloads: Reloads::new(file, config.clone(), restart_counter, logging),
        log_rate: LogRate::new(EVENT_LINES),
        events,
        times: Times::default(),
        calls,
        clock,
        keeping,
        pair,
        oddities: control::Oddities::default(),
        is_ending: false,
        hand_over,
        worker,
        setup: Setup::new(config, infos, pool, cores),
    })
}

/// Sequence numbers and identifiers start anywhere, so that a restarted process is not taken for its former self.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let state = std::collections::hash_map::RandomState::new();
    state.build_hasher().finish()
}
