//! Another configuration while the process runs: all of it, or nothing.
//!
//! The file is read by a thread of its own, as it may be long. The control thread then compares it with what is in
//! force, asks every part whether it can take it, and only when all can tells them. Bindings, flows and packets
//! on their way are not touched.

use std::collections::BTreeMap;
use std::path::PathBuf;

use config::{Change, Config, Report};
use crossbeam::channel::{Receiver, Sender};
use dataplane::WorkerConfig;
use flow::{RouteNext, Update, WorkerId};
use ipnet::Ipv6Net;
use pmip_proto::{LmaConfig, MagConfig, Now};
use serde_json::json;
use tokio::sync::oneshot;

use super::control::Control;
use super::{setup, wiring, worker_config};
use crate::api::Problem;
use crate::api::config::{ConfigChange, Reload, Reloaded};
use crate::api::event::What;
use crate::keys::{PeerKeys, Source};
use crate::log::Logging;
use crate::server::Answer;

/// What it takes to read the configuration again.
pub(super) struct Reloads {
    file: PathBuf,
    /// What is in force.
    running: Config,
    restart_counter: u32,
    logging: Logging,
    to: Sender<Read>,
    from: Receiver<Read>,
}

/// A file that was read.
struct Read {
    loaded: Result<Config, String>,
    dry_run: bool,
    reply: oneshot::Sender<Answer>,
}

/// A configuration that every part can take, in the forms that they want it in.
struct Ready {
    new: Config,
    lma: Option<LmaConfig>,
    mag: Option<MagConfig>,
    sources: Vec<Source>,
    keys: Vec<PeerKeys>,
}

impl Reloads {
    /// Whether the configuration in force has a MAG end its sessions when it stops.
    pub(super) fn deregisters_on_stop(&self) -> bool {
        let mag = self.running.mag.as_ref();
        mag.is_some_and(|mag| mag.deregister_on_stop)
    }

    pub(super) fn new(
        file: PathBuf,
        running: Config,
        restart_counter: u32,
        logging: Logging,
    ) -> Self {
        // As many as may be asked for at once, which the thread that reads them waits for.
        let (to, from) = crossbeam::channel::bounded(1);
        Self {
            file,
            running,
            restart_counter,
            logging,
            to,
            from,
        }
    }

    /// What is in force.
    pub(super) fn running(&self) -> &Config {
        &self.running
    }

    /// Another counter is this process's.
    pub(super) fn set_restart_counter(&mut self, counter: u32) {
        self.restart_counter = counter;
    }

    /// What is logged.
    pub(super) fn logging(&self) -> &Logging {
        &self.logging
    }

    /// Has the file read; the answer comes when it is.
    pub(super) fn read(&self, request: Reload, reply: oneshot::Sender<Answer>) {
        let (file, to) = (self.file.clone(), self.to.clone());
        let read = move || {
            let loaded = config::load(&file).map_err(|errors| errors.to_string());
            // Nobody waits for it while the process ends.
            let _ = to.send(Read {
                loaded,
                dry_run: request.dry_run,
                reply,
            });
        };
        if let Err(error) = std::thread::Builder::new()
            .name("reload".into())
            .spawn(read)
        {
            tracing::error!(%error, "configuration not read");
        }
    }
}

impl Control {
    /// Takes the files that were read.
    pub(super) fn take_reads(&mut self, now: Now) -> bool {
        let Ok(read) = self.reloads.from.try_recv() else {
            return false;
        };
        let answer = match read.loaded {
            Ok(new) => self.reload(now, new, read.dry_run),
            Err(errors) => Err(Problem::refused(errors)),
        };
        if let (Err(problem), false) = (&answer, read.dry_run) {
            tracing::error!("configuration not applied:\n{}", problem.detail);
        }
        // Whoever asked may have gone; a signal does not wait.
        let _ = read.reply.send(answer);
        true
    }

    fn reload(&mut self, now: Now, new: Config, dry_run: bool) -> Answer {
        let changes = config::differences(&self.reloads.running, &new);
        let heard = |warning: &&Report| {
            let mut known = self.reloads.running.warnings.iter();
            known.any(|w| (&w.key, &w.message) == (&warning.key, &warning.message))
        };
        let warnings = new.warnings.iter().filter(|warning| !heard(warning));
        let warnings: Vec<_> = warnings.map(ToString::to_string).collect();
        let ready = self.ready_for(new, &changes);
        let refused = ready.as_ref().err().cloned().unwrap_or_default();
        let mut answer = Reloaded {
            applied: false,
            changes: changes.iter().map(ConfigChange::from).collect(),
            refused,
            warnings,
        };
        match ready {
            _ if dry_run => {}
            Err(refused) => {
                return Err(Problem::refused(format!(
                    "nothing was changed:\n  {}",
                    refused.join("\n  ")
                )));
            }
            Ok(ready) => {
                self.apply(now, ready)
                    .map_err(|error| Problem::refused(format!("nothing was changed: {error:#}")))?;
                answer.applied = true;
                tracing::info!(changes = changes.len(), "configuration applied");
                for warning in &answer.warnings {
                    tracing::warn!("{warning}");
                }
                for change in &changes {
                    tracing::info!("{change}");
                }
                self.events.tell(false, What::ConfigurationApplied);
            }
        }
        Ok(json!(answer))
    }

    /// A configuration in the forms that the parts want, or everything that stands in its way.
    fn ready_for(&self, new: Config, changes: &[Change]) -> Result<Ready, Vec<String>> {
        let fixed = changes.iter().filter(|change| !change.live);
        let mut refused: Vec<_> = fixed
            .map(|c| format!("{}: needs a restart", c.path))
            .collect();
        if !refused.is_empty() {
            return Err(refused);
        }
        refused.extend(self.too_large(&new));
        let counter = self.reloads.restart_counter;
        let lma = new
            .lma
            .as_ref()
            .map(|lma| wiring::lma(&new, lma, counter))
            .transpose();
        let lma = lma.unwrap_or_else(|error| {
            refused.push(format!("{error:#}"));
            None
        });
        let mag = new.mag.as_ref().map(|mag| wiring::mag(&new, mag, counter));
        if let (Some(running), Some(new)) = (&self.lma, &lma) {
            refused.extend(running.conflicts(new).iter().map(ToString::to_string));
        }
        if let (Some(running), Some(new)) = (&self.mag, &mag) {
            refused.extend(running.conflicts(new).iter().map(ToString::to_string));
        }
        let sources = Source::all(&new);
        let keys = self.protection.read(&sources).unwrap_or_else(|error| {
            refused.push(format!("{error:#}"));
            Vec::new()
        });
        if !refused.is_empty() {
            return Err(refused);
        }
        Ok(Ready {
            new,
            lma,
            mag,
            sources,
            keys,
        })
    }

    /// What the workers' tables, which are made at the start, have no room for.
    fn too_large(&self, new: &Config) -> Option<String> {
        if let (Some(made), Some(lma)) = (&self.worker.lma, &new.lma) {
            let (room, others) = wiring::lma_prefixes(lma);
            if room > made.expected_bindings || others > made.other_lengths {
                let made = made.expected_bindings + made.other_lengths;
                return Some(format!(
                    "[lma]: the tables were made for {made} prefixes, this is {}: needs a restart (max_mobiles, \
                     max_sessions_per_mobile and prefixes_per_session decide)",
                    room + others
                ));
            }
        }
        if let (Some(made), Some(mag)) = (&self.worker.mag, &new.mag)
            && usize::try_from(mag.max_prefixes).is_ok_and(|room| room > made.expected_bindings)
        {
            return Some(
                "mag.max_prefixes: the tables were made for fewer: needs a restart".into(),
            );
        }
        None
    }

    /// Puts a configuration into force. What can fail comes first; then nothing has changed.
    fn apply(&mut self, now: Now, ready: Ready) -> anyhow::Result<()> {
        let Ready {
            new,
            lma,
            mag,
            sources,
            keys,
        } = ready;
        // Who stands by has no use for keys, and reads them when it leads.
        if !self.stands_by() {
            let state = new.state_directory().unwrap_or_default();
            self.protection.replace_all(sources, keys, &state)?;
        }
        let told = self.told(&new);
        for update in told {
            self.workers.broadcast(&update);
        }
        if let (Some(pair), Some(new)) = (&mut self.pair, &lma) {
            pair.reconfigure(new);
        }
        if let (Some(running), Some(new)) = (&mut self.lma, lma) {
            running.reconfigure(now, new);
        }
        if let (Some(running), Some(new)) = (&mut self.mag, mag) {
            running.reconfigure(now, new);
        }
        self.mobiles
            .replace(new.mag.iter().flat_map(wiring::mobiles));
        (self.setup.peers, self.setup.routes) = setup::peers_and_routes(&new);
        let made = (self.worker.lma.take(), self.worker.mag.take());
        self.worker = worker_config(&new, &self.setup.ports, WorkerId(0));
        if !self.stands_by() {
            self.worker.unclaimed.clear();
        }
        // Tables stay as large as they are.
        if let (Some(lma), (Some(made), _)) = (&mut self.worker.lma, &made) {
            lma.expected_bindings = made.expected_bindings;
            lma.other_lengths = made.other_lengths;
        }
        if let (Some(mag), (_, Some(made))) = (&mut self.worker.mag, &made) {
            mag.expected_bindings = made.expected_bindings;
            mag.other_lengths = made.other_lengths;
        }
        let running = &self.reloads.running;
        self.reloads.logging.reload(&running.log, &new.log);
        self.reloads.running = new;
        Ok(())
    }

    /// What the workers are told first: peers, pools and routes that are different.
    fn told(&self, new: &Config) -> Vec<Update> {
        let now = worker_config(new, &self.setup.ports, WorkerId(0));
        let mut told = Vec::new();
        if now.peers != self.worker.peers {
            told.push(Update::Peers(now.peers.clone()));
        }
        if let (Some(old), Some(new)) = (&self.worker.lma, &now.lma)
            && old.pools != new.pools
        {
            told.push(Update::Pools(new.pools.clone()));
        }
        let of = |config: &WorkerConfig| -> BTreeMap<Ipv6Net, RouteNext> {
            config.routes.iter().copied().collect()
        };
        let (old, new) = (of(&self.worker), of(&now));
        let gone = old.keys().filter(|prefix| !new.contains_key(prefix));
        told.extend(gone.map(|prefix| Update::Route {
            prefix: *prefix,
            next: None,
        }));
        let set = new
            .iter()
            .filter(|(prefix, next)| old.get(prefix) != Some(next));
        told.extend(set.map(|(prefix, next)| Update::Route {
            prefix: *prefix,
            next: Some(*next),
        }));
        told
    }
}
