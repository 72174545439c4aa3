//! What is done to a lab, by an operator, by accident or by somebody who wishes it ill.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::analysis::Flow;
use super::model::Model;
use super::network::Network;
use super::pair::ToPair;
use super::progress::Progress;
use super::topology::{Host, Mag};
use crate::api::FlowMoved;
use crate::api::config::Reload;

/// How long a disk stays full: several attempts to write.
const FULL: Duration = Duration::from_millis(700);
/// More moves than have room in a page.
const MOVES_THAT_FIT: usize = 20;

/// One thing that is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    /// Nothing: the rate has to be one without loss.
    Nothing,
    /// `kill -9`, and a start at once.
    Kill(Vec<Host>),
    /// An end that is asked for, and a start.
    Restart(Host),
    /// Another process takes its place.
    TakeOver(Host),
    /// It is held up for so long: SIGSTOP, SIGCONT.
    Hold(Host, Duration),
    /// It is told to read a configuration that is none.
    BadReload(Host),
    /// A flow is moved.
    Move(Flow, Mag),
    /// Nothing passes between a host and the core for so long.
    Partition(Host, Duration),
    /// The mobile's link to a gateway is down for so long.
    LoseAccess(Mag, Duration),
    /// All guests attach to a gateway at once, or leave it.
    Storm(Mag),
    /// The same, and while it is under way a host is killed and started.
    StormAndKill(Mag, Host),
    /// The disk of a host takes nothing for a while.
    FillDisk(Host),
    /// An octet of what a host has kept is another one when it starts after a kill; the share of the file before it,
    /// in thousandths.
    Rot(Host, u16),
    /// The wall clock of a host is wrong by so many seconds, for so long.
    WrongClock(Host, i64, Duration),
    /// Likewise, and it is killed and started while it is.
    WrongClockAndKill(Host, i64),
    /// Something is done to a pair of LMAs.
    Pair(ToPair),
}

impl Operation {
    /// What is done, with all there is to say.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Hold(host, time) => format!("hold {} for {} ms", host.name(), time.as_millis()),
            Self::Move(flow, to) => format!("move {flow:?} to {}", to.name()),
            Self::Partition(host, time) => {
                format!("cut {} off for {} ms", host.name(), time.as_millis())
            }
            Self::LoseAccess(mag, time) => {
                format!(
                    "access link of {} down for {} ms",
                    mag.name(),
                    time.as_millis()
                )
            }
            Self::WrongClock(host, seconds, time) => format!(
                "clock of {} wrong by {seconds:+} s for {} ms",
                host.name(),
                time.as_millis()
            ),
            Self::WrongClockAndKill(host, seconds) => format!(
                "clock of {} wrong by {seconds:+} s, kill -9, start",
                host.name()
            ),
            Self::Nothing
            | Self::Kill(_)
            | Self::Restart(_)
            | Self::TakeOver(_)
            | Self::BadReload(_)
            | Self::Storm(_)
            | Self::StormAndKill(..)
            | Self::FillDisk(_)
            | Self::Rot(..) => self.kind(),
            Self::Pair(what) => what.title(),
        }
    }

    /// What is done, for sums over all that is alike.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Nothing => "nothing".to_owned(),
            Self::Kill(hosts) => {
                let names: Vec<&str> = hosts.iter().map(|host| host.name()).collect();
                format!("kill -9 {}, start", names.join(" "))
            }
            Self::Restart(host) => format!("end {}, start", host.name()),
            Self::TakeOver(host) => format!("take over from {}", host.name()),
            Self::Hold(host, _) => format!("hold {}", host.name()),
            Self::BadReload(host) => format!("reload {} with a bad file", host.name()),
            Self::Move(..) => "move a flow".to_owned(),
            Self::Partition(host, _) => format!("cut {} off", host.name()),
            Self::LoseAccess(mag, _) => format!("access link of {} down", mag.name()),
            Self::Storm(mag) => format!("storm at {}", mag.name()),
            Self::StormAndKill(mag, host) => {
                format!("storm at {}, kill -9 {}, start", mag.name(), host.name())
            }
            Self::FillDisk(host) => format!("disk of {} full", host.name()),
            Self::Rot(host, _) => format!("kill -9 {}, damage, start", host.name()),
            Self::WrongClock(host, ..) => format!("clock of {} wrong", host.name()),
            Self::WrongClockAndKill(host, _) => {
                format!("clock of {} wrong, kill -9, start", host.name())
            }
            Self::Pair(what) => what.kind(),
        }
    }

    /// Does it, and enters what has to be so afterwards into the model.
    ///
    /// # Errors
    /// If it cannot be done, or somebody did not answer as it must.
    pub(crate) fn carry_out(
        &self,
        network: &mut Network,
        model: &mut Model,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Kill(hosts) => {
                for host in hosts {
                    network.kill(*host);
                }
                network.start_all(hosts, progress)
            }
            Self::Restart(host) => {
                network.end(*host);
                network.start_all(&[*host], progress)
            }
            Self::TakeOver(host) => network.take_over(*host, progress),
            Self::Hold(host, time) => {
                network.signal(*host, Signal::SIGSTOP)?;
                let paused = progress.pause(*time);
                network.signal(*host, Signal::SIGCONT)?;
                paused
            }
            Self::BadReload(host) => bad_reload(network, *host),
            Self::Move(flow, to) => {
                let wanted = model.request_of_move(network, *flow, *to)?;
                let moved = network.post::<FlowMoved>(Host::Lma, "/v1/flows/move", &wanted);
                if model.other_mag(*flow) != *to {
                    let refusal = moved.err().map(|error| format!("{error:#}"));
                    let as_it_is = refusal.as_ref().is_some_and(|why| why.contains("already"));
                    anyhow::ensure!(as_it_is, "moved to where it was: {refusal:?}");
                    return Ok(());
                }
                let moved = moved?;
                anyhow::ensure!(moved.bid == wanted.bid, "flow {flow:?} is on {}", moved.bid);
                model.moved(*flow, *to);
                Ok(())
            }
            Self::Partition(host, time) => {
                network.core_link(*host, false)?;
                let paused = progress.pause(*time);
                network.core_link(*host, true)?;
                paused
            }
            Self::LoseAccess(mag, time) => {
                network.access_link(*mag, false)?;
                let paused = progress.pause(*time);
                network.access_link(*mag, true)?;
                paused
            }
            Self::Storm(mag) => model.storm(network, *mag),
            Self::StormAndKill(mag, host) => {
                model.storm(network, *mag)?;
                network.kill(*host);
                network.start_all(&[*host], progress)
            }
            Self::WrongClock(host, seconds, time) => {
                network.set_clock(*host, *seconds, progress)?;
                let paused = progress.pause(*time);
                network.set_clock(*host, 0, progress)?;
                paused
            }
            Self::WrongClockAndKill(host, seconds) => {
                network.set_clock(*host, *seconds, progress)?;
                network.kill(*host);
                network.start_all(&[*host], progress)?;
                network.set_clock(*host, 0, progress)
            }
            Self::Pair(what) => what.carry_out(network, model, progress),
            Self::FillDisk(host) => fill_disk(network, model, *host, progress),
            Self::Rot(host, share) => {
                network.kill(*host);
                let damaged = network.damage(*host, *share)?;
                network.start_all(&[*host], progress)?;
                anyhow::ensure!(
                    !damaged || network.log(*host)?.contains("damaged"),
                    "{} does not tell of its damaged records",
                    host.name()
                );
                model.repair(network, *host, progress)
            }
        }
    }
}

fn bad_reload(network: &Network, host: Host) -> anyhow::Result<()> {
    let path = network.config_path(host);
    let good = fs::read(&path).with_context(|| path.display().to_string())?;
    fs::write(&path, "[lma]\naddress = 7\n")?;
    let answer = network.post::<Value>(host, "/v1/reload", &Reload { dry_run: false });
    fs::write(&path, good)?;
    let Err(refusal) = answer else {
        anyhow::bail!("{} takes a bad file", host.name());
    };
    let refusal = format!("{refusal:#}");
    anyhow::ensure!(
        refusal.contains("address = 7"),
        "not for its fault: {refusal}"
    );
    Ok(())
}

/// While an LMA can write nothing down, it does not answer a move; it does when it can.
fn fill_disk(
    network: &Network,
    model: &mut Model,
    host: Host,
    progress: &Progress,
) -> anyhow::Result<()> {
    network.fill_disk(host)?;
    if host != Host::Lma {
        let paused = progress.pause(FULL);
        network.empty_disk(host)?;
        return paused;
    }
    // The last page of a file may take some more records.
    for _ in 0..MOVES_THAT_FIT {
        let (flow, to) = (Flow::Y, model.other_mag(Flow::Y));
        let wanted = model.request_of_move(network, flow, to)?;
        let (moved, answered) = std::thread::scope(|scope| {
            let mover = scope.spawn(|| network.post::<FlowMoved>(host, "/v1/flows/move", &wanted));
            let done = || {
                let done = mover.is_finished();
                Ok(done.then_some(()).ok_or_else(|| "no answer".to_owned()))
            };
            let answered = progress.wait_for("a move", FULL, done).is_ok();
            if !answered {
                network.empty_disk(host)?;
            }
            let Ok(moved) = mover.join() else {
                anyhow::bail!("the thread that moves has panicked");
            };
            Ok((moved?, answered))
        })?;
        anyhow::ensure!(moved.bid == wanted.bid, "flow {flow:?} is on {}", moved.bid);
        model.moved(flow, to);
        if !answered {
            return Ok(());
        }
        progress.check()?;
    }
    network.empty_disk(host)?;
    anyhow::bail!("an LMA whose disk is full answers moves")
}
