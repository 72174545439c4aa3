//! One worker under measurement, with its floor beside it.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dataplane::io::dpdk::DpdkIo;
use dataplane::{BURST, ControlRings, PacketIo, RingSizes, Worker, rings};
use dpdk::{Device, EalHandle, Mempool, Port, PortConfig, RxQueue, TxQueue};
use flow::{Counters, DropReason, Report, ReportRequest, Role, Update};

use crate::alloc;
use crate::case::{Case, Memory, Work};
use crate::clock::{precise, thread_time, tsc};
use crate::floor::Floor;
use crate::generator::{GeneratorIo, Sample};
use crate::hostile::Intruder;
use crate::network;
use crate::paced::{Course, Pace};

const TAKEN: &str = "someone else has the control end of the rings";

/// A worker with filled tables on a port of its own.
pub(crate) struct Subject {
    /// What it is measured at.
    pub(crate) case: Case,
    worker: Worker<GeneratorIo>,
    /// Until someone else takes it.
    control: Option<ControlRings>,
    floor: Option<Floor>,
    /// Queues for the floor, until it takes them.
    spare: Option<(RxQueue, TxQueue)>,
    _port: Port,
}

impl Subject {
    /// Makes the worker and tells it all it has to know. `index` is unique in the process.
    ///
    /// # Errors
    /// What DPDK refuses, and updates that the worker refuses.
    pub(crate) fn new(eal: &EalHandle, pool: &Mempool, index: u16, case: Case) -> Result<Self> {
        let size = GeneratorIo::frame_len(case.work, case.size);
        let config = PortConfig {
            queues: 2,
            mtu: network::MTU,
            ..PortConfig::default()
        };
        let mut port = Port::open(eal, &Device::Null { size }, index, &config, pool)?;
        let mut queues = port.start()?.into_iter();
        let (rx, tx) = queues.next().context("a port without queues")?;
        let mut io = DpdkIo::new(pool.clone());
        io.add_port(rx, tx);
        let io = GeneratorIo::new(io, case.work, case.bindings, case.rules, case.size);
        let (worker_end, mut control) = rings(RingSizes::default());
        let mut worker = Worker::new(network::config(&case)?, io, worker_end)?;
        fill(&mut worker, &mut control, &case)?;
        Ok(Self {
            case,
            worker,
            control: Some(control),
            floor: None,
            spare: queues.next(),
            _port: port,
        })
    }

    /// Puts a floor with as many prefixes beside it.
    ///
    /// # Errors
    /// Too little memory of this kind, or a second floor.
    pub(crate) fn add_floor(&mut self, memory: Memory) -> Result<()> {
        let Case { work, bindings, .. } = self.case;
        let queues = self.spare.take().context("a floor is there already")?;
        let floor = Floor::new(work, bindings, memory, queues)
            .with_context(|| format!("memory for the floor of {}", self.case))?;
        self.floor = Some(floor);
        Ok(())
    }

    /// Whether it has a floor.
    pub(crate) fn has_floor(&self) -> bool {
        self.floor.is_some()
    }

    /// Whether every update so far was one that the worker could take.
    ///
    /// # Errors
    /// If not.
    pub(crate) fn accepted(&self) -> Result<()> {
        accepted(&self.worker)
    }

    /// Sends a few thousand packets and compares every octet of what comes out.
    ///
    /// # Errors
    /// The first packet that is not as it should be.
    pub(crate) fn verify(&mut self) -> Result<()> {
        const TURNS: u64 = 64;
        self.worker.io_mut().record();
        self.forward_freely(TURNS)?;
        let recording = self.worker.io_mut().recorded();
        let (generated, sent) = (recording.generated, recording.sent);
        ensure!(
            generated.len() == sent.len() && sent.len() as u64 == TURNS * BURST as u64,
            "{} generated, {} sent",
            generated.len(),
            sent.len()
        );
        let mut sent = sent.into_iter();
        for burst in generated.chunks(BURST) {
            self.compare(burst, sent.by_ref().take(BURST).collect())?;
        }
        self.verify_rules(&generated)
    }

    /// What must become of each packet of a burst is among what was sent, and in order.
    fn compare(&self, burst: &[Sample], mut sent: Vec<Vec<u8>>) -> Result<()> {
        let work = self.case.work;
        for out in sent.iter_mut().filter(|_| !work.is_tunnelled()) {
            let label = out.get_mut(15..18).context("a truncated packet")?;
            ensure!(label != [0; 3], "a packet without a flow label");
            for (octet, mask) in label.iter_mut().zip([0xf0, 0, 0]) {
                *octet &= mask;
            }
        }
        for sample in burst {
            let rule = (self.case.rules > 0).then_some(sample.rule);
            let expected = network::expected(work, &sample.frame, sample.mobile, rule)
                .context("a frame was cut short")?;
            let place = sent.iter().position(|out| *out == expected);
            // What is for an address that might be the worker's own leaves after its burst's others.
            let place = place.filter(|place| *place == 0 || work == Work::LmaUplink);
            let Some(place) = place else {
                bail!(
                    "{}: mobile {}: {:02x?} became {:02x?} instead of {expected:02x?}",
                    self.case,
                    sample.mobile,
                    sample.frame,
                    sent.first()
                );
            };
            sent.remove(place);
        }
        Ok(())
    }

    /// Every packet of one mobile was counted under the rule it matched.
    fn verify_rules(&mut self, generated: &[Sample]) -> Result<()> {
        let Some(first) = generated.first() else {
            bail!("nothing was generated");
        };
        if self.case.work == Work::LmaUplink {
            return both_tunnels(generated);
        }
        if self.case.work != Work::LmaDownlink {
            return Ok(());
        }
        let (hnp, _) = network::binding(&self.case, first.mobile)?;
        let request = ReportRequest::Binding {
            token: 1,
            role: Role::Lma,
            hnp,
        };
        let control = self.control.as_mut().context(TAKEN)?;
        ensure!(control.push(Update::Report(request)).is_ok(), "a full ring");
        self.worker.turn();
        let Some(Report::Binding {
            counters: Some(counters),
            ..
        }) = control.pop_report()
        else {
            bail!("no report on {hnp}");
        };
        let of_mobile = generated.iter().filter(|s| s.mobile == first.mobile);
        let packets = of_mobile.clone().count() as u64;
        ensure!(
            counters.downlink_packets == packets,
            "{hnp} counts {} packets of {packets}",
            counters.downlink_packets
        );
        for (number, (fid, hits)) in counters.rules.iter().enumerate() {
            let of_rule = of_mobile.clone().filter(|s| usize::from(s.rule) == number);
            let expected = of_rule.count() as u64;
            ensure!(*hits == expected, "flow {fid} counts {hits} of {expected}");
        }
        Ok(())
    }

    /// Gives out the control end of the worker's rings.
    ///
    /// # Errors
    /// If it is gone.
    pub(crate) fn take_control(&mut self) -> Result<ControlRings> {
        self.control.take().context(TAKEN)
    }

    /// Forwards one burst, unobserved.
    pub(crate) fn forward_one(&mut self) {
        self.worker.io_mut().switch(true);
        self.worker.turn();
    }

    /// Forwards so many bursts; returns how long the thread ran.
    ///
    /// # Errors
    /// Any packet that was not sent and counted where it belongs, and any call of the heap.
    pub(crate) fn forward(&mut self, turns: u64) -> Result<Duration> {
        let (took, calls) = self.forward_freely(turns)?;
        ensure!(
            calls == 0,
            "{}: {calls} heap calls in {turns} bursts",
            self.case
        );
        Ok(took)
    }

    /// As [`Subject::forward`], with calls of the heap allowed and counted: for a loop that also
    /// records.
    fn forward_freely(&mut self, turns: u64) -> Result<(Duration, u64)> {
        let before = self.worker.counters();
        self.worker.io_mut().switch(true);
        let (calls, start, mut received) = (alloc::calls(), thread_time(), 0);
        for _ in 0..turns {
            received += self.worker.turn();
        }
        let took = thread_time().saturating_sub(start);
        let calls = alloc::calls() - calls;
        self.worker.io_mut().switch(false);
        let packets = turns * BURST as u64;
        ensure!(received as u64 == packets, "{received} packets came in");
        check(&self.case, &before, &self.worker.counters(), packets)?;
        Ok((took, calls))
    }

    /// As [`Subject::forward`], with somebody's packets among the others. Returns also how many of those went to
    /// the control plane or were answered.
    ///
    /// # Errors
    /// A packet of the others that was not sent, or one of the intruder's that was.
    pub(crate) fn forward_beside(
        &mut self,
        intruder: Intruder,
        turns: u64,
    ) -> Result<(Duration, Intruder, u64)> {
        let (before, earlier) = (self.worker.counters(), intruder.sent());
        self.worker.io_mut().set_intruder(intruder);
        self.worker.io_mut().switch(true);
        let start = thread_time();
        for _ in 0..turns {
            self.worker.turn();
        }
        let took = thread_time().saturating_sub(start);
        self.worker.io_mut().switch(false);
        let intruder = self
            .worker
            .io_mut()
            .take_intruder()
            .context("no intruder")?;
        let hostile = intruder.sent() - earlier;
        let others = turns * BURST as u64 - hostile;
        let heard = self.check_beside(&before, others, hostile)?;
        Ok((took, intruder, heard))
    }

    /// As [`Subject::forward_paced`], with somebody's packets among those of the schedule; the latencies are of no
    /// use, as nobody notes whose arrival is whose.
    ///
    /// # Errors
    /// As [`Subject::forward_beside`]; a packet that the schedule itself lost is none of the worker's.
    pub(crate) fn forward_paced_beside(
        &mut self,
        intruder: Intruder,
        mut pace: Pace,
    ) -> Result<(Course, Intruder)> {
        let (before, earlier) = (self.worker.counters(), intruder.sent());
        self.worker.io_mut().set_intruder(intruder);
        pace.begin(tsc());
        self.worker.io_mut().set_pace(pace);
        self.worker.io_mut().switch(true);
        let mut received = 0;
        while !self.worker.io().is_over() {
            received += self.worker.turn();
        }
        self.worker.io_mut().switch(false);
        let pace = self.worker.io_mut().take_pace().context("no schedule")?;
        let intruder = self.worker.io_mut().take_intruder();
        let intruder = intruder.context("no intruder")?;
        let course = pace.course()?;
        ensure!(
            course.handed == received as u64,
            "{}: {} packets handed out, {received} came in",
            self.case,
            course.handed
        );
        let hostile = intruder.sent() - earlier;
        let others = course.handed - hostile;
        self.check_beside(&before, others, hostile)?;
        let originated = self.worker.counters().originated - before.originated;
        ensure!(
            course.sent == others + originated,
            "{}: {} packets left, not {others} and {originated} of its own",
            self.case,
            course.sent
        );
        Ok((course, intruder))
    }

    /// So many packets of others went on a path since `before`, and so many hostile ones ended here. Returns how
    /// many went to the control plane, whose part it plays, or were answered.
    fn check_beside(&mut self, before: &Counters, others: u64, hostile: u64) -> Result<u64> {
        // As the control thread would.
        let control = self.control.as_mut().context(TAKEN)?;
        while control.pop_punt().is_some() {}
        let after = self.worker.counters();
        let out = sum_of_paths(&after, |path| path.out_packets)
            - sum_of_paths(before, |path| path.out_packets);
        ensure!(
            out == others,
            "{}: {out} packets went on a path, not {others} beside {hostile} hostile ones",
            self.case
        );
        let ended = |c: &Counters| c.drops.iter().sum::<u64>() + c.punted + c.consumed + c.held;
        let ended = ended(&after) - ended(before);
        ensure!(
            ended == hostile,
            "{}: {ended} of {hostile} hostile packets ended here",
            self.case
        );
        let heard = |c: &Counters| c.punted + c.originated;
        Ok(heard(&after) - heard(before))
    }

    /// Forwards what comes by a schedule, to its end.
    ///
    /// # Errors
    /// As [`Subject::forward`]; a packet that the schedule itself lost is none of the worker's.
    pub(crate) fn forward_paced(&mut self, mut pace: Pace) -> Result<Course> {
        let before = self.worker.counters();
        pace.begin(tsc());
        self.worker.io_mut().set_pace(pace);
        self.worker.io_mut().switch(true);
        let (calls, mut received) = (alloc::calls(), 0);
        while !self.worker.io().is_over() {
            received += self.worker.turn();
        }
        let calls = alloc::calls() - calls;
        self.worker.io_mut().switch(false);
        let pace = self.worker.io_mut().take_pace().context("no schedule")?;
        let course = pace.course()?;
        let (case, packets) = (&self.case, received as u64);
        ensure!(calls == 0, "{case}: {calls} heap calls under a schedule");
        ensure!(
            (course.handed, course.sent) == (packets, packets),
            "{case}: {} packets handed out, {packets} came in, {} sent",
            course.handed,
            course.sent
        );
        check(case, &before, &self.worker.counters(), packets)?;
        Ok(course)
    }

    /// As many packets through the floor.
    ///
    /// # Errors
    /// Any packet that was not as expected, or no floor.
    pub(crate) fn floor(&mut self, turns: u64) -> Result<Duration> {
        let floor = self.floor.as_mut().context("no floor")?;
        let generator = self.worker.io_mut();
        let packets = turns * BURST as u64;
        let (start, mut received) = (thread_time(), 0);
        while received < packets {
            received += floor.turn(generator) as u64;
        }
        let took = thread_time().saturating_sub(start);
        ensure!(received == packets, "{received} packets came in");
        let lost = floor.lost();
        ensure!(lost == 0, "the floor lost {lost} packets");
        Ok(took)
    }

    /// How many bursts take about `length`.
    ///
    /// # Errors
    /// As [`Subject::forward`].
    pub(crate) fn calibrate(&mut self, length: Duration) -> Result<u64> {
        const TURNS: u64 = 4096;
        self.forward(TURNS)?;
        let took = self.forward(TURNS)?;
        let times = length.as_secs_f64() / took.as_secs_f64().max(1e-9);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number of bursts"
        )]
        Ok(((precise(TURNS) * times) as u64).max(64))
    }
}

/// Tells a worker all that it has to know through its ring, as the control thread would.
///
/// # Errors
/// Any update that it refuses.
pub(crate) fn fill<Io: PacketIo>(
    worker: &mut Worker<Io>,
    control: &mut ControlRings,
    case: &Case,
) -> Result<()> {
    for update in network::updates(case) {
        let mut update = update?;
        while let Err(back) = control.push(update) {
            update = back;
            worker.turn();
        }
    }
    while control.applied() < control.pushed() {
        worker.turn();
    }
    accepted(worker)
}

fn accepted<Io: PacketIo>(worker: &Worker<Io>) -> Result<()> {
    let refused = worker.counters().updates_refused;
    ensure!(refused == 0, "{refused} updates were refused");
    Ok(())
}

/// About half of the packets came through their mobile's second tunnel.
fn both_tunnels(generated: &[Sample]) -> Result<()> {
    let second = generated.iter().filter(|sample| {
        let first = network::gateway_host(network::tunnel_of(sample.mobile));
        sample.frame.get(36..38) != Some(first.to_be_bytes().as_slice())
    });
    let (second, all) = (second.count(), generated.len());
    ensure!(
        (all / 3..all * 2 / 3).contains(&second),
        "{second} of {all} packets came through a second tunnel"
    );
    Ok(())
}

/// Every packet in came out, and was counted on a path.
fn check(case: &Case, before: &Counters, after: &Counters, packets: u64) -> Result<()> {
    for reason in DropReason::ALL.iter().copied() {
        let dropped = after.dropped(reason) - before.dropped(reason);
        ensure!(dropped == 0, "{case}: {dropped} packets dropped: {reason}");
    }
    let ports = |of: fn(&flow::PortCounters) -> u64| {
        let sum = |c: &Counters| -> u64 { c.ports.iter().map(of).sum() };
        sum(after) - sum(before)
    };
    let (rx, tx) = (ports(|p| p.rx_packets), ports(|p| p.tx_packets));
    ensure!(
        (rx, tx) == (packets, packets),
        "{case}: {rx} packets in and {tx} out, not {packets}"
    );
    let other = |c: &Counters| c.punted + c.consumed + c.originated + c.held;
    let other = other(after).abs_diff(other(before));
    ensure!(other == 0, "{case}: {other} packets went another way");
    let paths =
        |of: fn(&flow::PathCounters) -> u64| sum_of_paths(after, of) - sum_of_paths(before, of);
    let (into, out_of) = (paths(|p| p.out_packets), paths(|p| p.in_packets));
    let expected = match case.work {
        Work::LmaDownlink => (packets, 0),
        Work::LmaUplink => (0, packets),
        Work::MagDownlink | Work::MagUplink => (packets, packets),
    };
    ensure!(
        (into, out_of) == expected,
        "{case}: paths count {into} out and {out_of} in"
    );
    Ok(())
}

fn sum_of_paths(counters: &Counters, of: fn(&flow::PathCounters) -> u64) -> u64 {
    let paths = counters.lma_paths.iter().chain(&counters.mag_paths);
    paths.map(of).sum()
}
