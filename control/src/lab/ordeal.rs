//! A lab under traffic to which one thing after another is done: what each costs, and whether all is as it has to be.
//!
//! For each operation the *effective blocked time* of each direction: packets lost from its begin to that of the next
//! one, divided by the rate, which is free of loss while nothing is done.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use flow::Hnp;
use serde::Serialize;

use super::analysis::{Direction, Flow, FlowMatch, Window};
use super::capture::Capture;
use super::listener::{Ear, Listener};
use super::model::Model;
use super::network::Network;
use super::operation::Operation;
use super::progress::Progress;
use super::scenario::{Plan, ends, flow_match, now};
use super::topology::{CAPTURE_PORT, Host, Mag, Setting};
use super::traffic::{Outcome, Sites, UdpFlow};

/// How long packets may take to get through again, and tables to be as they should.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the mobile may take to send a flow where it is received.
const WAY_PATIENCE: Duration = Duration::from_secs(5);
/// How long routes of former moves may stay behind.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);
/// Packets that were under way are past the capture by then.
const SETTLE: Duration = Duration::from_millis(100);

/// What an operation has cost.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cost {
    /// In words.
    pub(crate) operation: String,
    /// What it has in common with others.
    #[serde(skip)]
    pub(crate) kind: String,
    /// Packets sent in all flows and both directions.
    pub(crate) sent: u64,
    /// Of those, packets that never came.
    pub(crate) lost: u64,
    /// Effective blocked time of the flow that lost most, in milliseconds: towards the mobile.
    pub(crate) blocked_downlink_ms: f64,
    /// From the mobile.
    pub(crate) blocked_uplink_ms: f64,
    /// From its begin until all was as it should be, in milliseconds.
    pub(crate) settled_ms: u64,
    /// What was otherwise afterwards; empty if nothing was.
    pub(crate) wrong: Vec<String>,
}

/// All of them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Costs {
    /// Packets per second of each flow in each direction.
    pub(crate) rate: u32,
    /// Whether everything was as it should be after each operation, and nothing was lost where nothing was done.
    pub(crate) passed: bool,
    /// In the order in which they were done.
    pub(crate) operations: Vec<Cost>,
}

/// Builds a lab, lets `work` do to it what it will, and has in `out` what the processes said, however it ends.
///
/// # Errors
/// If there is no lab, or those of `work`.
pub(crate) fn in_a_lab<T>(
    plan: Plan,
    out: &Path,
    progress: &Progress,
    work: impl FnOnce(&mut Network) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut network = Network::up(plan.setting, progress)?;
    let done = work(&mut network);
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    network.copy_logs(out)?;
    done
}

/// Writes a result.
///
/// # Errors
/// The system's.
pub(crate) fn write(
    out: &Path,
    name: &str,
    text: String,
    progress: &Progress,
) -> anyhow::Result<()> {
    let path = out.join(name);
    fs::write(&path, text).with_context(|| path.display().to_string())?;
    progress.say(&format!("written: {}", path.display()));
    Ok(())
}

/// A lab under traffic.
pub(crate) struct Ordeal<'a> {
    plan: Plan,
    pub(crate) network: &'a mut Network,
    progress: &'a Progress,
    model: Model,
    flows: Vec<UdpFlow>,
    capture: Capture,
    /// Where there is another mobile.
    listener: Option<Listener>,
    done: Vec<Mark>,
}

/// An operation while its packets are not counted.
struct Mark {
    operation: Operation,
    /// The numbers of the next packets when it began, in all flows and directions.
    from: Vec<u64>,
    settled: Duration,
    wrong: Vec<String>,
}

impl<'a> Ordeal<'a> {
    /// Attaches the mobile and starts two flows, neither where its prefix is: they go on as long as what was granted is
    /// remembered.
    ///
    /// # Errors
    /// If that cannot be done.
    pub(crate) fn begin(
        plan: Plan,
        network: &'a mut Network,
        progress: &'a Progress,
    ) -> anyhow::Result<Self> {
        let Setting {
            scenario, guests, ..
        } = plan.setting;
        let prefixes = network.attach(scenario, progress)?;
        let bystander = if plan.setting.is_chaos() {
            Some(network.attach_bystander(progress)?)
        } else {
            None
        };
        let mut model = Model::new(scenario, prefixes, bystander, guests);
        let both = [(Flow::X, Mag::Mag2), (Flow::Y, Mag::Mag1)];
        let both = both.map(|(flow, mag)| (ends(flow, prefixes), mag));
        let other = bystander.map(|prefixes| ends(Flow::W, prefixes));
        let core = network.namespace(Host::Core);
        let capture = Capture::start(&core, CAPTURE_PORT, None)?;
        capture.set_flows(
            (both.iter().map(|(ends, _)| ends).chain(&other))
                .map(flow_match)
                .collect::<Vec<FlowMatch>>(),
        );
        let (cn, mn) = (network.namespace(Host::Cn), network.namespace(Host::Mn));
        let sites = Sites { cn: &cn, mn: &mn };
        let mn2 = network.namespace(Host::Mn2);
        let listener = bystander.map(|other| {
            let mobiles = [(Host::Mn, prefixes), (Host::Mn2, other)];
            Listener::start(ears(network, mobiles))
        });
        let listener = listener.transpose()?;
        for (ends, mag) in both {
            model.add(network, ends, mag)?;
        }
        let mut out = Self {
            plan,
            network,
            progress,
            model,
            flows: Vec::new(),
            capture,
            listener,
            done: Vec::new(),
        };
        // A packet that comes before its rule is counted nowhere.
        let wrong = out.settle(false)?;
        anyhow::ensure!(
            wrong.is_empty(),
            "not a lab to begin with: {}",
            wrong.join("; ")
        );
        progress.pause(SETTLE)?;
        for (ends, _) in both {
            out.flows.push(UdpFlow::start(sites, ends, plan.rate)?);
        }
        if let Some(ends) = other {
            let sites = Sites { cn: &cn, mn: &mn2 };
            out.flows.push(UdpFlow::start(sites, ends, plan.rate)?);
        }
        progress.pause(plan.steady)?;
        let wrong = out.settle(false)?;
        anyhow::ensure!(
            wrong.is_empty(),
            "not a lab to begin with: {}",
            wrong.join("; ")
        );
        Ok(out)
    }

    /// Does one thing, and waits until all is as it should be; whether it is.
    ///
    /// # Errors
    /// If somebody wants us to end. What goes wrong otherwise is what the operation is charged with.
    pub(crate) fn suffer(&mut self, operation: Operation) -> anyhow::Result<bool> {
        let from = self.sent();
        self.progress.pause(self.plan.steady)?;
        let begin = Instant::now();
        let result = operation.carry_out(self.network, &mut self.model, self.progress);
        let result = result.and_then(|()| self.settle(false));
        // An interrupt is nobody's fault.
        self.progress.check()?;
        let settled = begin.elapsed();
        let mut wrong = result.unwrap_or_else(|error| vec![format!("{error:#}")]);
        if wrong.is_empty() {
            wrong = self.stay()?;
        }
        wrong.extend(self.listener.iter().flat_map(Listener::strays));
        let well = wrong.is_empty();
        self.done.push(Mark {
            operation,
            from,
            settled,
            wrong,
        });
        Ok(well)
    }

    /// Ends the flows and counts. If all went well so far, nothing may be left of what was done.
    ///
    /// # Errors
    /// If somebody wants us to end, or the accounts cannot be made.
    pub(crate) fn finish(self) -> anyhow::Result<Costs> {
        Ok(self.finish_with(|_| Ok(()))?.0)
    }

    /// Likewise; `last` looks at the lab when no packet is under way any more.
    ///
    /// # Errors
    /// As [`Ordeal::finish`], and those of `last`.
    pub(crate) fn finish_with<T>(
        mut self,
        last: impl FnOnce(&Network) -> anyhow::Result<T>,
    ) -> anyhow::Result<(Costs, Vec<Outcome>, T)> {
        let well = |mark: &Mark| mark.wrong.is_empty();
        if self.done.iter().all(well) {
            let left = self.settle(true)?;
            if let Some(last) = self.done.last_mut() {
                last.wrong.extend(left);
            }
        }
        self.flows.iter().for_each(UdpFlow::stop_sending);
        let mut outcomes = Vec::new();
        for flow in self.flows {
            outcomes.extend(flow.finish()?);
        }
        let looked = last(self.network)?;
        if let Some(listener) = self.listener {
            listener.finish()?;
        }
        let (_, completeness) = self.capture.finish()?;
        let ends = outcomes.iter().map(|outcome| outcome.accounting.sent);
        let ends: Vec<u64> = ends.collect();
        let next = self.done.iter().skip(1).map(|mark| mark.from.clone());
        let next: Vec<Vec<u64>> = next.chain([ends]).collect();
        let rate = self.plan.rate;
        let operations = self.done.into_iter().zip(&next);
        let operations = operations.map(|(mark, to)| cost(mark, to, rate, &outcomes));
        let operations: Vec<Cost> = operations.collect();
        let whole = |cost: &Cost| {
            let quiet = cost.operation != Operation::Nothing.title() || cost.lost == 0;
            quiet && cost.wrong.is_empty()
        };
        let foreign = |outcome: &Outcome| outcome.accounting.foreign > 0;
        let costs = Costs {
            rate,
            passed: operations.iter().all(whole)
                && !outcomes.iter().any(foreign)
                && completeness.dropped == 0,
            operations,
        };
        Ok((costs, outcomes, looked))
    }

    fn sent(&self) -> Vec<u64> {
        self.flows.iter().flat_map(UdpFlow::sent).collect()
    }

    /// Waits until packets get through in all directions and the tables are as they should be; what is wrong if that
    /// does not come.
    fn settle(&mut self, exact: bool) -> anyhow::Result<Vec<String>> {
        let Self {
            network,
            progress,
            model,
            flows,
            ..
        } = self;
        let received =
            |flows: &[UdpFlow]| -> Vec<u64> { flows.iter().flat_map(UdpFlow::received).collect() };
        let then = received(flows);
        progress.wait_for("packets in all directions", PATIENCE, || {
            network.check()?;
            let now = received(flows);
            let all = now.iter().zip(&then).all(|(now, then)| now > then);
            Ok(all
                .then_some(())
                .ok_or_else(|| format!("{then:?}, {now:?}")))
        })?;
        let patience = if exact { DRAIN_PATIENCE } else { PATIENCE };
        let mut wrong = Vec::new();
        let settled = progress.wait_for("the tables that should be", patience, || {
            network.check()?;
            wrong = model.wrong(network, exact)?;
            Ok(wrong.is_empty().then_some(()).ok_or_else(String::new))
        });
        match settled {
            Err(error) if wrong.is_empty() => Err(error),
            Ok(()) | Err(_) => Ok(wrong),
        }
    }

    /// Lets the traffic run until all flows are on their way alone for a while; those that never are.
    fn stay(&mut self) -> anyhow::Result<Vec<String>> {
        self.progress.pause(SETTLE)?;
        let begin = Instant::now();
        loop {
            let from = now()?;
            self.progress.pause(self.plan.steady)?;
            self.network.check()?;
            let window = Window { from, to: now()? };
            // What is captured until then is seen a little later.
            self.progress.pause(SETTLE)?;
            let astray = self.capture.look(|watcher| {
                let astray = self.model.astray(watcher, window);
                watcher.forget_before(window.to);
                astray
            });
            // The mobile chooses where it sends by what it receives, and is not asked.
            if astray.is_empty() || begin.elapsed() > WAY_PATIENCE {
                return Ok(astray);
            }
        }
    }
}

/// The interfaces of mobiles with these prefixes.
fn ears(network: &Network, mobiles: [(Host, [Hnp; 2]); 2]) -> Vec<Ear> {
    let at = |(host, own): (Host, [Hnp; 2])| {
        Mag::ALL.map(|mag| Ear {
            title: format!("{} of {}", mag.mn_interface(), host.name()),
            namespace: network.namespace(host),
            interface: mag.mn_interface(),
            mac: mag.mac_of(host),
            own,
        })
    };
    mobiles.into_iter().flat_map(at).collect()
}

fn cost(mark: Mark, to: &[u64], rate: u32, outcomes: &[Outcome]) -> Cost {
    let parts = || outcomes.iter().zip(mark.from.iter().zip(to));
    let lost = |outcome: &Outcome, from: u64, to: u64| outcome.accounting.lost_between(from, to);
    let blocked = |direction: Direction| {
        let own = parts().filter(|(outcome, _)| outcome.direction == direction);
        let most = own
            .map(|(outcome, (from, to))| lost(outcome, *from, *to))
            .max();
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 packets")]
        let most = most.unwrap_or_default() as f64;
        (most * 10_000.0 / f64::from(rate)).round() / 10.0
    };
    Cost {
        operation: mark.operation.title(),
        kind: mark.operation.kind(),
        sent: parts()
            .map(|(_, (from, to))| to.saturating_sub(*from))
            .sum(),
        lost: parts()
            .map(|(outcome, (from, to))| lost(outcome, *from, *to))
            .sum(),
        blocked_downlink_ms: blocked(Direction::Downlink),
        blocked_uplink_ms: blocked(Direction::Uplink),
        settled_ms: u64::try_from(mark.settled.as_millis()).unwrap_or(u64::MAX),
        wrong: mark.wrong,
    }
}
