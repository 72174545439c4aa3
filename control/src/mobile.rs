//! A mobile node process: the logical interface and its management.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use config::Config;
use crossbeam::channel::{Receiver, RecvTimeoutError};
use serde_json::json;

use crate::api::event::What;
use crate::api::{Problem, Readiness, Status};
use crate::feed::feed;
use crate::mn::{self, AccessSettings, MnSettings, StatusHandle};
use crate::server::{Answer, Call, Request, Server};

/// Requests that may wait.
const MAX_CALLS: usize = 64;
/// How long the interface may take to tell its state.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs a mobile node until `stop` is set.
///
/// # Errors
/// If the interface cannot be made or fails.
pub(crate) fn run(config: &Config, mn: &config::Mn, stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let settings = MnSettings {
        interface: mn.interface.to_string(),
        interface_id: mn.interface_id.0.to_be_bytes(),
        accesses: mn.accesses.iter().map(access).collect(),
    };
    let (status, requests) = mn::status_channel();
    let (calls, queue) = crossbeam::channel::bounded::<Call>(MAX_CALLS);
    let (mut events, listeners) = feed();
    let _server = Server::start(&config.management, calls, listeners)?;
    let name = config.name.clone();
    let stopped = Arc::clone(stop);
    let answering = std::thread::Builder::new()
        .name("answers".into())
        .spawn(move || {
            answer_all(&name, &queue, &status, &stopped);
        })?;
    tracing::info!(name = %config.name, socket = %config.management.socket.display(), "ready");
    events.tell(false, What::ConfigurationApplied);
    let result = mn::run(&settings, stop, requests);
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

fn answer_all(name: &str, queue: &Receiver<Call>, status: &StatusHandle, stop: &AtomicBool) {
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        match queue.recv_timeout(Duration::from_millis(100)) {
            Ok(Call { request, reply }) => {
                // Whoever asked may have gone.
                let _ = reply.send(answer(name, &request, status, start));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn answer(name: &str, request: &Request, status: &StatusHandle, start: Instant) -> Answer {
    match request {
        Request::Status => Ok(json!(Status {
            name: name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            roles: vec!["mn".to_owned()],
            ready: true,
            uptime_seconds: start.elapsed().as_secs(),
            workers: 0,
        })),
        Request::Alive => Ok(json!(null)),
        Request::Ready => Ok(json!(Readiness {
            ready: true,
            ports_down: vec![],
        })),
        Request::Mn => status
            .get(PATIENCE)
            .map(|status| json!(status))
            .ok_or_else(|| Problem::unavailable("the logical interface does not answer")),
        Request::Bindings
        | Request::Flows
        | Request::Paths
        | Request::Routes
        | Request::Peers
        | Request::Ports
        | Request::Workers
        | Request::Drops
        | Request::Metrics
        | Request::Explain(_)
        | Request::FlowAdd(_)
        | Request::FlowMove(_)
        | Request::FlowDelete(_)
        | Request::KeysReload(_)
        | Request::Revoke(_)
        | Request::Service(_)
        | Request::Reregister(_)
        | Request::Attach(_)
        | Request::Detach(_) => Err(Problem::refused(
            "this process is a mobile node: it has a status and `show mn`, nothing else",
        )),
    }
}
