//! What is done to two LMAs of which one serves, and to what they share.

use std::time::Duration;

use anyhow::{Context, anyhow};

use super::analysis::Flow;
use super::model::Model;
use super::network::{Network, other_lma};
use super::nodes::{NODES, Node};
use super::progress::Progress;
use super::topology::{Host, Mag};
use crate::client::Client;

/// One thing that is done to a pair.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ToPair {
    /// `kill -9` of the LMA that leads; then it is started, and stands by.
    Kill,
    /// The same, while the clock of the one that stands by is wrong by so many seconds; set right when that one leads.
    KillForWrongClock(i64),
    /// The same as the first, while all guests attach to a gateway at once, or leave it.
    StormAndKill(Mag),
    /// The LMA that leads is asked to end.
    End,
    /// The LMA that stands by is killed and started.
    KillStandby,
    /// The LMA that leads is cut off from etcd and the other one, for long enough, and for so long after another leads.
    CutOff(Duration),
    /// A node of etcd is killed, and started after so long.
    KillNode(Node, Duration),
    /// All of them: nobody can lead, and whoever does goes on.
    KillStore(Duration),
}

impl ToPair {
    /// What is done, for sums over all that is alike.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Kill => "kill -9 the LMA that leads".to_owned(),
            Self::KillForWrongClock(_) => {
                "clock of the LMA that stands by wrong, kill -9 the LMA that leads".to_owned()
            }
            Self::StormAndKill(mag) => {
                format!("storm at {}, kill -9 the LMA that leads", mag.name())
            }
            Self::End => "end the LMA that leads".to_owned(),
            Self::KillStandby => "kill -9 the LMA that stands by".to_owned(),
            Self::CutOff(_) => "cut the LMA that leads off from etcd".to_owned(),
            Self::KillNode(..) => "kill -9 a node of etcd, start".to_owned(),
            Self::KillStore(_) => "kill -9 all nodes of etcd, start".to_owned(),
        }
    }

    /// What is done, exactly.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::KillForWrongClock(seconds) => format!(
                "clock of the LMA that stands by wrong by {seconds:+} s, kill -9 the LMA that leads"
            ),
            Self::Kill
            | Self::StormAndKill(_)
            | Self::End
            | Self::KillStandby
            | Self::CutOff(_)
            | Self::KillNode(..)
            | Self::KillStore(_) => self.kind(),
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// If it cannot be done, or the other LMA does not take over.
    pub(crate) fn carry_out(
        &self,
        network: &mut Network,
        model: &mut Model,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        match self {
            Self::Kill => succeed(network, progress, |network, leads| {
                network.kill(leads);
                Ok(())
            }),
            Self::KillForWrongClock(seconds) => {
                let other = other_lma(network.anchor().context("no LMA leads")?);
                network.set_clock(other, *seconds, progress)?;
                let killed = Self::Kill.carry_out(network, model, progress);
                network.set_clock(other, 0, progress)?;
                killed
            }
            Self::StormAndKill(mag) => {
                model.storm(network, *mag)?;
                Self::Kill.carry_out(network, model, progress)
            }
            Self::End => succeed(network, progress, |network, leads| {
                network.end(leads);
                Ok(())
            }),
            Self::CutOff(time) => succeed(network, progress, |network, leads| {
                cut_off(network, model, leads, *time, progress)
            }),
            Self::KillStandby => {
                let other = other_lma(network.anchor().context("no LMA leads")?);
                network.kill(other);
                network.start_all(&[other], progress)
            }
            Self::KillNode(node, time) => kill_nodes(network, &[*node], *time, progress),
            Self::KillStore(time) => kill_nodes(network, &NODES, *time, progress),
        }
    }
}

/// The LMA that leads comes to an end, another one leads, and the first stands by.
fn succeed(
    network: &mut Network,
    progress: &Progress,
    end: impl FnOnce(&mut Network, Host) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let leads = network.anchor().context("no LMA leads")?;
    let other = other_lma(leads);
    end(network, leads)?;
    network.wait_leads(other, progress)?;
    network.start_all(&[leads], progress)?;
    anyhow::ensure!(
        network.anchor() == Some(other),
        "{} was started and leads, though {} did",
        leads.name(),
        other.name()
    );
    Ok(())
}

/// The LMA that leads is cut off, is asked to move a flow, which it must not say that it did, and ends when it hears that another
/// one leads.
fn cut_off(
    network: &mut Network,
    model: &Model,
    leads: Host,
    time: Duration,
    progress: &Progress,
) -> anyhow::Result<()> {
    let move_y = model.request_of_move(network, Flow::Y, model.other_mag(Flow::Y))?;
    let socket = network.socket(leads);
    network.store_link(leads, false)?;
    let asked = std::thread::spawn(move || {
        let body = serde_json::to_value(move_y)?;
        Client::new(&socket).post("/v1/flows/move", &body)
    });
    let taken = network.wait_leads(other_lma(leads), progress);
    let paused = taken.and_then(|()| progress.pause(time));
    network.store_link(leads, true)?;
    paused?;
    network.wait_ended(leads, progress)?;
    let answer = asked.join().map_err(|_| anyhow!("a thread panicked"))?;
    anyhow::ensure!(
        answer.is_err(),
        "{} was cut off, and has moved a flow: {answer:?}",
        leads.name()
    );
    Ok(())
}

/// Nodes of etcd are killed, and started after so long.
fn kill_nodes(
    network: &mut Network,
    nodes: &[Node],
    time: Duration,
    progress: &Progress,
) -> anyhow::Result<()> {
    let cluster = network.cluster()?;
    for node in nodes {
        cluster.kill_node(*node);
    }
    let paused = progress.pause(time);
    for node in nodes {
        cluster.start_node(*node)?;
    }
    paused?;
    cluster.wait(progress)
}
