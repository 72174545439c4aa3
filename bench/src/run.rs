//! A whole run: children one after the other, their answers put together.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::case::{Case, Memory, Work, cases};
use crate::cell::{Order, Outcome};
use crate::clock;
use crate::compare;
use crate::hostile;
use crate::kernel;
use crate::latency;
use crate::machine::{Machine, Reservation};
use crate::page;
use crate::report::{self, Report, Rounds, Yardstick, median, rounded};
use crate::signalling;
use crate::spread;
use crate::tables;
use crate::testpmd;

/// What a run is to be.
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct Options {
    /// Directory for report.json, report.html and the figures
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// An older report.json to compare ratios to the floor, latencies and the control plane with
    #[arg(long)]
    compare: Option<PathBuf>,
    /// Fewer cases and shorter rounds: a minute or two
    #[arg(long)]
    quick: bool,
    /// Rounds of each case, interleaved
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// The core to measure on; the last one by default
    #[arg(long)]
    core: Option<usize>,
    /// Only these works
    #[arg(long, value_enum)]
    work: Vec<Work>,
    /// Only these kinds of memory
    #[arg(long, value_enum)]
    memory: Vec<Memory>,
    /// Leave out the latencies
    #[arg(long)]
    no_latency: bool,
    /// Leave out the control plane
    #[arg(long)]
    no_control: bool,
    /// Leave out the memory of tables
    #[arg(long)]
    no_tables: bool,
    /// Leave out what hostile packets cost
    #[arg(long)]
    no_hostile: bool,
    /// Leave out two workers with one tunnel
    #[arg(long)]
    no_spread: bool,
    /// Leave out the kernel beside us
    #[arg(long)]
    no_kernel: bool,
}

/// Runs and reports.
///
/// # Errors
/// Whatever makes a result void.
#[expect(clippy::print_stdout, reason = "the report is what it is for")]
pub(crate) fn run(options: &Options) -> Result<()> {
    let old = options.compare.as_ref().map(|path| {
        let text = fs::read(path).with_context(|| path.display().to_string())?;
        serde_json::from_slice::<Report>(&text).with_context(|| path.display().to_string())
    });
    let old = old.transpose()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let core = options.core.unwrap_or(cores - 1);
    ensure!(
        core < cores,
        "there is no core {core}: --core takes 0 to {}",
        cores - 1
    );
    let tsc_hz = clock::tsc_hz();
    let (reservation, said) = Reservation::make();
    println!("{said}");
    let hugepages = Reservation::free() >= 512;
    let memories: Vec<Memory> = [Memory::Hugepages, Memory::Anonymous]
        .into_iter()
        .filter(|memory| options.memory.is_empty() || options.memory.contains(memory))
        .filter(|memory| hugepages || *memory == Memory::Anonymous)
        .collect();
    let Some(first) = memories.first().copied() else {
        bail!("too few hugepages are free, and no other memory is asked for");
    };
    let machine = Machine::look(first, tsc_hz);
    println!(
        "{}, {} cores, TSC {} MHz, kernel {}, {}, commit {}, load {}",
        machine.cpu,
        machine.cores,
        machine.tsc_mhz,
        machine.kernel,
        machine.dpdk,
        machine.commit,
        machine.load
    );
    let mut all = Run {
        options,
        core,
        tsc_hz,
        report: Report::of(machine),
    };
    for memory in memories {
        all.memory(memory)?;
    }
    if !options.no_latency {
        all.latency()?;
    }
    if !options.no_control {
        all.control()?;
    }
    if !options.no_tables {
        all.tables()?;
    }
    if !options.no_hostile {
        all.hostile()?;
    }
    if !options.no_spread && cores > 1 {
        all.spread()?;
    }
    if !options.no_kernel {
        all.kernel();
    }
    drop(reservation);
    let report = all.report;
    fs::create_dir_all(&options.out)?;
    let path = options.out.join("report.json");
    fs::write(&path, serde_json::to_vec_pretty(&report)?)?;
    println!("{}", report::table(&report, old.as_ref()));
    let Yardstick {
        hugepages,
        anonymous,
        ..
    } = report.testpmd;
    for (memory, cycles) in [
        (Memory::Hugepages, hugepages),
        (Memory::Anonymous, anonymous),
    ] {
        if let Some(cycles) = cycles {
            println!("testpmd, mac forwarding, {memory}: {cycles:.1} cycles per packet");
        }
    }
    show_rest(&report, old.as_ref())?;
    kernel::print(&report.kernel, &report.kernel_left_out);
    println!("{}", path.display());
    let page = page::write(&serde_json::to_value(&report)?, &options.out)?;
    println!("{}", page.display());
    Ok(())
}

/// What has no place in the table of cases.
#[expect(clippy::print_stdout, reason = "the report is what it is for")]
fn show_rest(report: &Report, old: Option<&Report>) -> Result<()> {
    if !report.latency.is_empty() {
        let old = old.map(|old| old.latency.as_slice());
        println!("{}", latency::table(&report.latency, old));
        if let Some(warning) = latency::warning(&report.latency) {
            println!("{warning}");
        }
    }
    if let Some(control) = &report.control {
        match old.and_then(|old| old.control.as_ref()) {
            Some(old) => println!("{}", compare::control(control, old)?),
            None => println!("{}", serde_json::to_string_pretty(control)?),
        }
        if let Some(warning) = control.under_load.and_then(|paced| paced.warning()) {
            println!("{warning}");
        }
    }
    if !report.tables.is_empty() {
        println!("{}", tables::table(&report.tables));
    }
    if !report.hostile.is_empty() {
        println!("{}", hostile::table(&report.hostile));
        if let Some(table) = hostile::within::table(&report.hostile) {
            println!("{table}");
        }
        if let Some(warning) = hostile::within::warning(&report.hostile) {
            println!("{warning}");
        }
    }
    if let Some(spread) = &report.spread {
        println!("{}", spread::line(spread));
    }
    Ok(())
}

struct Run<'a> {
    options: &'a Options,
    core: usize,
    tsc_hz: f64,
    report: Report,
}

impl Run<'_> {
    /// Everything on one kind of memory, between two halves of the yardstick.
    fn memory(&mut self, memory: Memory) -> Result<()> {
        let mut yardstick = self.testpmd(memory)?;
        let mut outcomes = Vec::new();
        for work in Work::ALL {
            if self.options.work.is_empty() || self.options.work.contains(&work) {
                outcomes.extend(self.cell(work, memory)?);
            }
        }
        yardstick.extend(self.testpmd(memory)?);
        let cycles = rounded(median(&yardstick), 1);
        match memory {
            Memory::Hugepages => self.report.testpmd.hugepages = Some(cycles),
            Memory::Anonymous => self.report.testpmd.anonymous = Some(cycles),
        }
        if memory == self.report.machine.memory {
            self.report.testpmd.cycles_per_packet = cycles;
        }
        let rows = report::rows(&outcomes, memory, cycles, self.tsc_hz);
        self.report.results.extend(rows);
        let rounds = |outcome| Rounds { memory, outcome };
        self.report.rounds.extend(outcomes.into_iter().map(rounds));
        Ok(())
    }

    fn testpmd(&self, memory: Memory) -> Result<Vec<f64>> {
        let length = Duration::from_millis(if self.options.quick { 200 } else { 400 });
        testpmd::measure(memory, self.core, 4, length, self.tsc_hz)
    }

    fn cell(&self, work: Work, memory: Memory) -> Result<Vec<Outcome>> {
        let quick = self.options.quick;
        let cases = cases(work, memory, quick);
        let order = Order {
            memory,
            rounds: if quick { 5 } else { self.options.rounds },
            milliseconds: if quick { 50 } else { 200 },
            core: self.core,
            tsc_hz: self.tsc_hz,
            cases,
        };
        let steps = u64::from(order.rounds) * order.cases.len() as u64;
        child("cell", &order, steps, &format!("{work}, {memory}"))
    }

    fn latency(&mut self) -> Result<()> {
        let asked =
            |case: &Case| self.options.work.is_empty() || self.options.work.contains(&case.work);
        for case in latency::cases().filter(asked) {
            let order = latency::Order {
                memory: self.report.machine.memory,
                case,
                milliseconds: if self.options.quick { 300 } else { 2_000 },
                core: self.core,
                tsc_hz: self.tsc_hz,
            };
            let title = format!("{}, latency", case.work);
            let rows: Vec<latency::Row> = child("latency", &order, latency::STEPS, &title)?;
            self.report.latency.extend(rows);
        }
        Ok(())
    }

    fn control(&mut self) -> Result<()> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let quick = self.options.quick;
        let order = signalling::Order {
            memory: self.report.machine.memory,
            mobiles: if quick { 100_000 } else { 1_000_000 },
            core: self.core,
            control_core: (self.core + 1) % cores,
            milliseconds: if quick { 200 } else { 1_000 },
            moves: if quick { 2_000 } else { 20_000 },
            tsc_hz: self.tsc_hz,
        };
        let outcome = child("control", &order, signalling::STEPS, "control plane")?;
        self.report.control = Some(outcome);
        Ok(())
    }

    fn tables(&mut self) -> Result<()> {
        for bindings in tables::sizes(self.options.quick).iter().copied() {
            let order = tables::Order {
                bindings,
                milliseconds: if self.options.quick { 50 } else { 200 },
                core: self.core,
                tsc_hz: self.tsc_hz,
            };
            let title = format!("a table of {bindings}");
            let row = child("tables", &order, tables::STEPS, &title)?;
            self.report.tables.push(row);
        }
        Ok(())
    }

    fn hostile(&mut self) -> Result<()> {
        let quick = self.options.quick;
        let order = hostile::Order {
            memory: self.report.machine.memory,
            rounds: if quick { 5 } else { self.options.rounds },
            milliseconds: if quick { 50 } else { 200 },
            core: self.core,
            tsc_hz: self.tsc_hz,
        };
        let title = "hostile packets";
        self.report.hostile = child("hostile", &order, hostile::steps(&order), title)?;
        Ok(())
    }

    fn spread(&mut self) -> Result<()> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let quick = self.options.quick;
        let order = spread::Order {
            memory: self.report.machine.memory,
            cache: 0,
            rounds: if quick { 5 } else { self.options.rounds },
            milliseconds: if quick { 50 } else { 200 },
            cores: [self.core, (self.core + 1) % cores],
        };
        let title = "two workers, one tunnel";
        self.report.spread = Some(child("spread", &order, spread::steps(&order), title)?);
        Ok(())
    }

    /// Never an error: a machine that has nothing for it has all the rest.
    fn kernel(&mut self) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let order = kernel::Order::new(
            self.report.machine.memory,
            self.core,
            cores,
            self.options.quick,
        );
        let outcome = child("kernel", &order, order.steps(), "the kernel beside us");
        let outcome = outcome.unwrap_or_else(|error| kernel::Outcome::none(&error));
        self.report.kernel = outcome.rows;
        self.report.kernel_left_out = outcome.left_out;
    }
}

/// Runs this program again for one task: the order goes in, the answer comes out, and every line
/// on its standard error that is a dot is a step of the way.
fn child<Order: Serialize, Answer: DeserializeOwned>(
    command: &str,
    order: &Order,
    steps: u64,
    title: &str,
) -> Result<Answer> {
    let bar = ProgressBar::new(steps).with_style(ProgressStyle::with_template(
        "{msg:32} {bar:32} {pos}/{len} {elapsed}",
    )?);
    bar.set_message(title.to_owned());
    bar.enable_steady_tick(Duration::from_millis(500));
    let mut child = Command::new(std::env::current_exe()?)
        .arg(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let order = serde_json::to_vec(order)?;
    // Dropping the input tells the child that the order is complete.
    child.stdin.take().context("input")?.write_all(&order)?;
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().context("errors")?).lines() {
        match line?.as_str() {
            "." => bar.inc(1),
            other => {
                said += other;
                said.push('\n');
            }
        }
    }
    let mut answer = Vec::new();
    child
        .stdout
        .take()
        .context("output")?
        .read_to_end(&mut answer)?;
    let status = child.wait()?;
    bar.finish_and_clear();
    ensure!(status.success(), "{title}: {}", said.trim());
    serde_json::from_slice(&answer).with_context(|| format!("{title}: {said}"))
}
