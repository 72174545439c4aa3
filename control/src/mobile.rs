//! A mobile node process: the logical interface and its management.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use config::Config;
use crossbeam::channel::{Receiver, RecvTimeoutError};
use serde_json::json;

use crate::Signals;
use crate::api::config::{ConfigChange, Reload, Reloaded};
use crate::api::{Problem, Status};
use crate::confinement::Confinement;
use crate::feed::feed;
use crate::log::Logging;
use crate::mn::status::MnStatus;
use crate::mn::{self, AccessSettings, MnSettings, StatusHandle, report};
use crate::server::{Answer, Call, Request, Server};
use crate::service;

/// Requests that may wait.
const MAX_CALLS: usize = 64;
/// How long the interface may take to tell its state.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is said to those who ask for more.
pub(crate) const WHAT_IT_HAS: &str = "this process is a mobile node: it has a status, `show mn`, `show drops`, events, \
                                      a configuration and a log";

/// Runs a mobile node until it is to stop.
///
/// # Errors
/// If the interface cannot be made or fails.
pub(crate) fn run(
    file: &Path,
    config: &Config,
    mn: &config::Mn,
    logging: Logging,
    signals: &Signals,
) -> anyhow::Result<()> {
    let stop = &signals.stop;
    let settings = MnSettings {
        interface: mn.interface.to_string(),
        interface_id: mn.interface_id.0.to_be_bytes(),
        accesses: mn.accesses.iter().map(access).collect(),
    };
    let (status, requests) = mn::status_channel();
    let (calls, queue) = crossbeam::channel::bounded::<Call>(MAX_CALLS);
    let (events, listeners) = feed();
    let _server = Server::start(
        &config.management,
        calls.clone(),
        listeners,
        Confinement::of(config),
    )?;
    let process = Process {
        file: file.to_owned(),
        running: config.clone(),
        logging,
        status,
        start: Instant::now(),
    };
    let flags = signals.clone();
    let answering = std::thread::Builder::new()
        .name("answers".into())
        .spawn(move || {
            process.answer_all(&queue, &flags);
        })?;
    let up = || {
        service::ready(config);
        service::feed_watchdog(calls);
    };
    let note = config.management.socket.with_extension("ipv6");
    let result = mn::run(&settings, &note, stop, requests, events, up);
    service::stopping();
    stop.store(true, Ordering::Relaxed);
    anyhow::ensure!(answering.join().is_ok(), "the management thread panicked");
    result
}

fn access(access: &config::MnAccess) -> AccessSettings {
    AccessSettings {
        name: access.name.clone(),
        interface: access.interface.to_string(),
    }
}

/// What there is to know of the process.
struct Process {
    file: PathBuf,
    running: Config,
    logging: Logging,
    status: StatusHandle,
    start: Instant,
}

impl Process {
    fn answer_all(mut self, queue: &Receiver<Call>, signals: &Signals) {
        while !signals.stop.load(Ordering::Relaxed) {
            if signals.reload.swap(false, Ordering::Relaxed)
                && let Err(problem) = self.reload(Reload::default())
            {
                tracing::error!("configuration not applied: {}", problem.detail);
            }
            match queue.recv_timeout(Duration::from_millis(100)) {
                Ok(Call { request, reply }) => {
                    // Whoever asked may have gone.
                    let _ = reply.send(self.answer(&request));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Reads the configuration again: of a mobile node's, only what is logged may be another.
    fn reload(&mut self, request: Reload) -> Answer {
        let new = config::load(&self.file).map_err(|e| Problem::refused(e.to_string()))?;
        let changes = config::differences(&self.running, &new);
        let fixed = changes.iter().filter(|change| !change.live);
        let refused: Vec<_> = fixed
            .map(|c| format!("{}: needs a restart", c.path))
            .collect();
        let mut answer = Reloaded {
            applied: false,
            changes: changes.iter().map(ConfigChange::from).collect(),
            refused,
            warnings: Vec::new(),
        };
        if !request.dry_run {
            if !answer.refused.is_empty() {
                return Err(Problem::refused(answer.refused.join("\n")));
            }
            self.logging.reload(&self.running.log, &new.log);
            self.running = new;
            answer.applied = true;
            tracing::info!(changes = changes.len(), "configuration applied");
        }
        Ok(json!(answer))
    }

    /// The state of the logical interface, without flows.
    fn state(&self) -> Result<MnStatus, Problem> {
        self.status.summary(PATIENCE).ok_or_else(silent)
    }

    fn answer(&mut self, request: &Request) -> Answer {
        match request {
            Request::Status => Ok(json!(Status {
                name: self.running.name.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                roles: vec!["mn".to_owned()],
                // It may not be up yet, or not any more.
                ready: self
                    .state()
                    .is_ok_and(|state| report::readiness(&state).ready),
                uptime_seconds: self.start.elapsed().as_secs(),
                workers: 0,
                leads: None,
                draining: false,
                sessions: None,
            })),
            Request::Alive => self.state().map(|_| json!(null)),
            Request::Config => Ok(json!(self.running.to_table())),
            Request::Reload(request) => self.reload(*request),
            Request::Log => Ok(json!(self.logging.state())),
            Request::LogChange(change) => Ok(json!(self.logging.change(change, false)?)),
            Request::Ready => Ok(json!(report::readiness(&self.state()?))),
            Request::Mn => Ok(json!(self.status.get(PATIENCE).ok_or_else(silent)?)),
            Request::Drops => Ok(json!(report::drops(&self.state()?))),
            Request::Metrics => {
                let (name, uptime) = (&self.running.name, self.start.elapsed());
                Ok(json!(report::metrics(name, uptime, &self.state()?)))
            }
            #[cfg(feature = "dpdk")]
            Request::Appliance(_) => Err(Problem::refused(WHAT_IT_HAS)),
        }
    }
}

fn silent() -> Problem {
    Problem::unavailable("the logical interface does not answer")
}
