//! flowmob's worker between two interfaces of the kernel, in a process of its own: DPDK's
//! environment starts once in a process.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use dataplane::io::dpdk::DpdkIo;
use dataplane::{RingSizes, Worker, rings};
use dpdk::{Device, Eal, EalConfig, EalHandle, Mempool, MempoolConfig, Port, RegisteredThread};
use flow::{Counters, DropReason};
use serde::{Deserialize, Serialize};

use super::Forwarder;
use super::netns::Netns;
use super::wires::{CORE, EDGE};
use crate::case::{Case, Memory};
use crate::cell::pin;
use crate::clock::{precise, thread_time};
use crate::network;
use crate::subject::fill;

/// What the process is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Where packets live.
    pub(super) memory: Memory,
    /// The worker's core.
    pub(super) core: usize,
    /// The kind of its ports; the kernel itself needs no worker.
    pub(super) forwarder: Forwarder,
    /// What it has in its tables.
    pub(super) case: Case,
}

/// What it answers: once when it is ready, and after every stretch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Answer {
    /// Why there will be no more answers.
    error: Option<String>,
    /// How long the worker's thread has had a processor, softirqs on its time included.
    thread_ns: u64,
    /// Packets that came in.
    received: u64,
    /// Turns in which some did.
    turns: u64,
    /// Packets handed to a port, which may lose them.
    sent: u64,
    /// Packets dropped by the worker.
    dropped: u64,
}

/// What the worker did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    /// Nanoseconds its thread had a processor for each packet.
    pub(super) thread_ns: f64,
    /// Packets in a turn that found any.
    pub(super) burst: f64,
}

/// The process, from outside.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    before: Answer,
}

impl Process {
    /// Starts it in a namespace and waits until the worker has all its tables.
    ///
    /// # Errors
    /// Why its ports or its tables do not come up.
    pub(super) fn start(netns: &Netns, order: &Order) -> Result<Self> {
        let mut child = netns.enter(|| {
            let mut command = Command::new(std::env::current_exe()?);
            let command = command.arg("worker").stdin(Stdio::piped());
            Ok(command.stdout(Stdio::piped()).spawn()?)
        })?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("output")?);
        let mut process = Self {
            child,
            input,
            output,
            before: Answer::default(),
        };
        process.tell(&serde_json::to_string(order)?)?;
        process.before = process.answer()?;
        Ok(process)
    }

    /// Has it poll its ports.
    ///
    /// # Errors
    /// If it is gone.
    pub(super) fn go(&mut self) -> Result<()> {
        self.tell("go")
    }

    /// Has it stop, and say what it did since [`Process::go`].
    ///
    /// # Errors
    /// If it is gone, or dropped a packet itself.
    pub(super) fn stop(&mut self) -> Result<Work> {
        self.tell("stop")?;
        let after = self.answer()?;
        let before = std::mem::replace(&mut self.before, after.clone());
        let (received, sent) = (after.received - before.received, after.sent - before.sent);
        let dropped = after.dropped - before.dropped;
        ensure!(
            dropped == 0,
            "the worker dropped {dropped} of {received} packets and sent {sent}"
        );
        let (thread_ns, turns) = (
            after.thread_ns - before.thread_ns,
            after.turns - before.turns,
        );
        Ok(Work {
            thread_ns: precise(thread_ns) / precise(received.max(1)),
            burst: precise(received) / precise(turns.max(1)),
        })
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().context("input")?;
        Ok(writeln!(input, "{line}")?)
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let answer: Answer = serde_json::from_str(&line).context("the worker's process died")?;
        match answer.error {
            Some(error) => bail!("{error}"),
            None => Ok(answer),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It ends where its orders do.
        self.input = None;
        let _ = self.child.wait();
    }
}

/// The process, from inside: an order on the first line of standard input, then `go` and `stop`.
///
/// # Errors
/// Standard input or output is closed.
pub(crate) fn serve() -> Result<()> {
    let mut lines = io::stdin().lines();
    let order = lines.next().context("no order")??;
    let order: Order = serde_json::from_str(&order)?;
    if let Err(error) = work(&order, lines) {
        let error = Some(format!("{error:#}"));
        let answer = Answer {
            error,
            ..Answer::default()
        };
        say(&answer)?;
    }
    Ok(())
}

fn say(answer: &Answer) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

fn work(order: &Order, lines: impl Iterator<Item = io::Result<String>>) -> Result<()> {
    let eal = Eal::init(&EalConfig {
        memory: match order.memory {
            Memory::Hugepages => dpdk::Memory::Hugepages,
            Memory::Anonymous => dpdk::Memory::Anonymous,
        },
        memory_mib: 64,
        file_prefix: format!("flowmob-bench-{}", std::process::id()),
        ..EalConfig::default()
    })?;
    let pool = Mempool::new(&eal, &MempoolConfig::default())?;
    let mut ports = open(&eal, &pool, order)?;
    let mut io = DpdkIo::new(pool);
    for port in &mut ports {
        let (rx, tx) = port.start()?.pop().context("a port without queues")?;
        io.add_port(rx, tx);
    }
    let (worker_end, mut control) = rings(RingSizes::default());
    let mut worker = Worker::new(network::config(&order.case)?, io, worker_end)?;
    fill(&mut worker, &mut control, &order.case)?;
    let running = &AtomicBool::new(false);
    let (starts, started) = mpsc::channel();
    let (answers, answered) = mpsc::channel();
    let handle = eal.handle();
    thread::scope(|scope| {
        let thread = scope.spawn(move || -> Result<()> {
            pin(order.core)?;
            let _registered = RegisteredThread::new(&handle)?;
            answers.send(answer(&worker.counters()))?;
            for () in started {
                poll(&mut worker, running);
                answers.send(answer(&worker.counters()))?;
            }
            Ok(())
        });
        let orders = || -> Result<()> {
            say(&answered.recv()?)?;
            for line in lines {
                let go = line? == "go";
                running.store(go, Ordering::Relaxed);
                if go {
                    starts.send(())?;
                } else {
                    say(&answered.recv()?)?;
                }
            }
            Ok(())
        };
        let result = orders();
        running.store(false, Ordering::Relaxed);
        drop((starts, answered));
        let joined = thread.join().map_err(|_| anyhow!("the worker panicked"))?;
        joined.and(result)
    })
}

/// Turns, and sleeps when nothing comes, as the appliance does if it is not told otherwise.
fn poll(worker: &mut Worker<DpdkIo>, running: &AtomicBool) {
    const SPINS: u32 = 128;
    const SLEEP: Duration = Duration::from_micros(50);
    let mut empty: u32 = 0;
    while running.load(Ordering::Relaxed) {
        empty = match worker.turn() {
            0 => empty + 1,
            _ => 0,
        };
        if empty > SPINS {
            thread::sleep(SLEEP);
        }
    }
}

fn open(eal: &EalHandle, pool: &Mempool, order: &Order) -> Result<Vec<Port>> {
    // 1500 octets are the most that net_af_packet takes.
    let config = dpdk::PortConfig::default();
    let open = |(index, name): (u16, &str)| {
        let iface = name.to_owned();
        let device = match order.forwarder {
            Forwarder::AfPacket => Device::AfPacket { iface },
            Forwarder::AfXdp => Device::AfXdp { iface },
            Forwarder::LinuxSeg6 => bail!("the kernel needs no worker"),
        };
        Ok(Port::open(eal, &device, index, &config, pool)?)
    };
    (0..).zip([CORE, EDGE]).map(open).collect()
}

fn answer(counters: &Counters) -> Answer {
    let sum = |of: fn(&flow::PortCounters) -> u64| counters.ports.iter().map(of).sum();
    let dropped = DropReason::ALL.iter().copied();
    Answer {
        error: None,
        thread_ns: u64::try_from(thread_time().as_nanos()).unwrap_or(u64::MAX),
        received: sum(|port| port.rx_packets),
        turns: counters.busy_turns,
        sent: sum(|port| port.tx_packets),
        dropped: dropped.map(|reason| counters.dropped(reason)).sum(),
    }
}
