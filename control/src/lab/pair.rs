//! What is done to two LMAs of which one serves, and to what they share.

use std::time::Duration;

use anyhow::{Context, anyhow};

use super::analysis::Flow;
use super::model::Model;
use super::network::{Network, other_lma};
use super::nodes::Node;
use super::progress::Progress;
use super::topology::{Host, Mag};
use crate::client::Client;

/// One thing that is done to a pair.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ToPair {
    /// `kill -9` of the LMA that leads; then it is started, and stands by.
    Kill,
    /// The same, while all guests attach to a gateway at once, or leave it.
    StormAndKill(Mag),
    /// The LMA that leads is asked to end.
    End,
    /// The LMA that stands by is killed and started.
    KillStandby,
    /// The LMA that leads is cut off from etcd and the other one, for long enough, and for so long after another leads.
    CutOff(Duration),
    /// A node of etcd is killed, and started after so long.
    KillNode(Node, Duration),
}

impl ToPair {
    /// What is done, for sums over all that is alike.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Kill => "kill -9 the LMA that leads".to_owned(),
            Self::StormAndKill(mag) => {
                format!("storm at {}, kill -9 the LMA that leads", mag.name())
            }
            Self::End => "end the LMA that leads".to_owned(),
            Self::KillStandby => "kill -9 the LMA that stands by".to_owned(),
            Self::CutOff(_) => "cut the LMA that leads off from etcd".to_owned(),
            Self::KillNode(..) => "kill -9 a node of etcd, start".to_owned(),
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
        if let Self::KillNode(node, time) = self {
            network.cluster()?.kill_node(*node);
            let paused = progress.pause(*time);
            network.cluster()?.start_node(*node)?;
            paused?;
            return network.cluster()?.wait(progress);
        }
        let leads = network.anchor().context("no LMA leads")?;
        let other = other_lma(leads);
        match self {
            Self::KillStandby => {
                network.kill(other);
                return network.start_all(&[other], progress);
            }
            Self::CutOff(time) => {
                let move_y = model.request_of_move(network, Flow::Y, model.other_mag(Flow::Y))?;
                network.store_link(leads, false)?;
                let socket = network.socket(leads);
                let asked = std::thread::spawn(move || {
                    let body = serde_json::to_value(move_y)?;
                    Client::new(&socket).post("/v1/flows/move", &body)
                });
                let taken = network.wait_leads(other, progress);
                let paused = taken.and_then(|()| progress.pause(*time));
                network.store_link(leads, true)?;
                paused?;
                // It hears that it leads no more, and must not go on with what it knew.
                network.wait_ended(leads, progress)?;
                let answer = asked.join().map_err(|_| anyhow!("a thread panicked"))?;
                anyhow::ensure!(
                    answer.is_err(),
                    "{} was cut off, and has moved a flow: {answer:?}",
                    leads.name()
                );
            }
            Self::Kill => network.kill(leads),
            Self::StormAndKill(mag) => {
                model.storm(network, *mag)?;
                network.kill(leads);
            }
            Self::End => network.end(leads),
            // Done before.
            Self::KillNode(..) => {}
        }
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
}

/// The appliances of a lab with a pair that are not of it.
pub(crate) const OTHERS: [Host; 2] = [Host::Mag1, Host::Mag2];
