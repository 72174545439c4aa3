//! A lab with two LMAs of which one serves.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::Context;

use super::{Network, READY_PATIENCE};
use crate::api::Status;
use crate::client::Client;
use crate::lab::netns;
use crate::lab::nodes::Cluster;
use crate::lab::progress::Progress;
use crate::lab::topology::{self, Host};

impl Network {
    /// Where a host's process answers. The LMA is whichever serves: of a pair, the first is only a name for it.
    pub(super) fn answers_at(&self, host: Host) -> PathBuf {
        if host == Host::Lma && self.cluster.is_some() {
            // While none does, the one that did is asked.
            self.socket(self.anchor().unwrap_or_else(|| self.last_anchor()))
        } else {
            self.socket(host)
        }
    }

    /// The LMA of a pair that serves.
    pub(crate) fn anchor(&self) -> Option<Host> {
        let known = self.last_anchor();
        let leads = |host: &Host| {
            let status = Client::new(&self.socket(*host)).get("/v1/status").ok();
            let status: Option<Status> = status.and_then(|it| serde_json::from_value(it).ok());
            status.is_some_and(|status| status.leads == Some(true))
        };
        let leads = [known, other_lma(known)].into_iter().find(leads)?;
        self.second_leads
            .store(leads == Host::Lma2, Ordering::Relaxed);
        Some(leads)
    }

    fn last_anchor(&self) -> Host {
        if self.second_leads.load(Ordering::Relaxed) {
            Host::Lma2
        } else {
            Host::Lma
        }
    }

    /// Waits until an LMA of a pair serves, and no other.
    ///
    /// # Errors
    /// If it does not.
    pub(crate) fn wait_leads(&self, to: Host, progress: &Progress) -> anyhow::Result<()> {
        self.second_leads.store(to == Host::Lma2, Ordering::Relaxed);
        progress.wait_for("another LMA that leads", READY_PATIENCE, || {
            let leads = self.anchor().filter(|leads| *leads == to);
            Ok(leads.map(drop).ok_or_else(|| "it does not".to_owned()))
        })
    }

    /// Cuts an LMA of a pair off from etcd and the other one, or joins it.
    ///
    /// # Errors
    /// What `ip` says.
    pub(crate) fn store_link(&self, host: Host, up: bool) -> anyhow::Result<()> {
        netns::ip(&self.namespace(host), &topology::store_link_command(up))
    }

    /// The etcd of a pair.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn cluster(&mut self) -> anyhow::Result<&mut Cluster> {
        let cluster = self.cluster.as_mut();
        cluster.context("a lab without a pair has no etcd")
    }

    /// Waits until a process has ended by itself.
    ///
    /// # Errors
    /// If it does not.
    pub(crate) fn wait_ended(&mut self, host: Host, progress: &Progress) -> anyhow::Result<()> {
        let mut process = self.processes.remove(host.name());
        let process = process.as_mut().context("it does not run")?;
        progress.wait_for("the end of a process", READY_PATIENCE, || {
            let ended = process.has_ended();
            Ok(ended.then_some(()).ok_or_else(|| "it goes on".to_owned()))
        })
    }
}

/// The other LMA of a pair.
pub(crate) fn other_lma(host: Host) -> Host {
    if host == Host::Lma {
        Host::Lma2
    } else {
        Host::Lma
    }
}
