//! The management server: HTTP/JSON on a Unix socket, in a thread and an async runtime of its own.
//!
//! Requests are read and checked here, and answered by whoever owns the state: a [`Call`] goes over
//! a channel to that thread, which answers when it can. Nothing here touches the packet path.

#[cfg(feature = "dpdk")]
mod appliance;
#[cfg(feature = "dpdk")]
mod capture;
mod dashboard;
mod doors;
mod forward;
mod health;
#[cfg(feature = "dpdk")]
mod recorder;
mod stream;
mod tcp;

use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use axum::extract::FromRef;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use config::Management;
use crossbeam::channel::Sender;
use serde_json::Value;
use tokio::sync::{oneshot, watch};

use crate::api::Problem;
use crate::api::config::Reload;
use crate::api::log::LogChange;
use crate::confinement::{Confinement, Thread};
use crate::feed::{Feed, Keeper};

#[cfg(feature = "dpdk")]
pub(crate) use appliance::ApplianceRequest;
pub(crate) use forward::{Page, page_address};

/// What can be asked of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// [`crate::api::Status`].
    Status,
    /// All [`crate::api::DropRow`]s.
    Drops,
    /// Whether the loops turn: answered when every worker has.
    Alive,
    /// [`crate::api::Readiness`].
    Ready,
    /// All counters, in the text format of Prometheus.
    Metrics,
    /// The state of a mobile node: [`crate::mn::status::MnStatus`].
    Mn,
    /// The configuration in force, in the words of its file.
    Config,
    /// Reads the configuration again.
    Reload(Reload),
    /// [`crate::api::log::LogState`].
    Log,
    /// Logs more or less.
    LogChange(LogChange),
    /// What only an LMA or MAG has.
    #[cfg(feature = "dpdk")]
    Appliance(ApplianceRequest),
}

/// The answer to a [`Request`].
pub(crate) type Answer = Result<Value, Problem>;

/// A request on its way to the thread that can answer it.
#[derive(Debug)]
pub(crate) struct Call {
    /// What is asked.
    pub(crate) request: Request,
    /// Takes the answer; the asker may have gone, which is its own business.
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// Longest time an answer may take: a flow move that is retransmitted to the end.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// A running management server. Dropping it ends the thread and removes the socket.
#[derive(Debug)]
pub(crate) struct Server {
    socket: PathBuf,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds the socket and starts to serve.
    ///
    /// # Errors
    /// If the socket's directory cannot be made, another process answers on it, or it cannot be bound.
    pub(crate) fn start(
        management: &Management,
        calls: Sender<Call>,
        events: Keeper,
        confinement: Confinement,
    ) -> anyhow::Result<Self> {
        let socket = &management.socket;
        let tcp = tcp::bind(management)?;
        let listener = bind(socket)?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = watch::channel(false);
        let (feed, keeping) = events.start();
        let calls = Calls {
            to: calls,
            stopped: stopped.clone(),
        };
        let api = Api {
            calls,
            feed,
            stopped: stopped.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("management".into())
            .spawn(move || {
                confinement.enter(Thread::Server);
                runtime.block_on(async move {
                    let listener = match tokio::net::UnixListener::from_std(listener) {
                        Ok(listener) => listener,
                        Err(error) => {
                            tracing::error!(%error, "the management socket cannot be served");
                            return;
                        }
                    };
                    tokio::spawn(keeping);
                    if let Some(tcp) = tcp {
                        tokio::spawn(tcp.serve(router(api.clone()), end(stopped.clone())));
                    }
                    let serving = axum::serve(listener, router(api));
                    let serving = serving.with_graceful_shutdown(end(stopped));
                    if let Err(error) = serving.await {
                        tracing::error!(%error, "the management server ended");
                    }
                });
            })?;
        Ok(Self {
            socket: socket.to_owned(),
            stop,
            thread: Some(thread),
        })
    }
}

/// Waits for the end of the process.
async fn end(mut stopped: watch::Receiver<bool>) {
    // An error means the sender is gone, which says the same.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

impl Drop for Server {
    fn drop(&mut self) {
        // The thread may have ended by itself.
        let _ = self.stop.send(true);
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the management thread panicked");
        }
        if let Err(error) = std::fs::remove_file(&self.socket) {
            tracing::warn!(%error, socket = %self.socket.display(), "socket not removed");
        }
    }
}

/// Binds the socket; one that a dead process left behind is replaced.
fn bind(socket: &Path) -> anyhow::Result<UnixListener> {
    let shown = socket.display();
    if let Some(directory) = socket.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    }
    match UnixStream::connect(socket) {
        Ok(_) => anyhow::bail!(
            "another process answers on {shown}; stop it, or give this one another [management] socket"
        ),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            // Connecting to a file of any other kind is refused too.
            let kind = std::fs::symlink_metadata(socket).map(|metadata| metadata.file_type());
            anyhow::ensure!(
                kind.is_ok_and(|kind| kind.is_socket()),
                "{shown} is there and is no socket; give this process another [management] socket"
            );
            std::fs::remove_file(socket)
                .with_context(|| format!("cannot replace the stale socket {shown}"))?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot use {shown} as a socket")),
    }
    let listener =
        UnixListener::bind(socket).with_context(|| format!("cannot bind the socket {shown}"))?;
    // Whoever may write to the socket rules the appliance.
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// What is said of a path that there is not.
#[cfg(feature = "dpdk")]
const NO_DOOR: &str = "this path is not part of the API";
/// Here, it may be that of a table of an LMA or MAG.
#[cfg(not(feature = "dpdk"))]
const NO_DOOR: &str = crate::mobile::WHAT_IT_HAS;

/// What handlers share.
#[derive(Clone, Debug)]
struct Api {
    calls: Calls,
    feed: Feed,
    /// Becomes true when the process ends: streams have to as well.
    stopped: watch::Receiver<bool>,
}

/// The way to the thread that owns the state.
#[derive(Clone, Debug)]
struct Calls {
    to: Sender<Call>,
    /// Becomes true when that thread has ended: what is still on its way then is answered by nobody.
    stopped: watch::Receiver<bool>,
}

impl FromRef<Api> for Calls {
    fn from_ref(api: &Api) -> Self {
        api.calls.clone()
    }
}

fn router(api: Api) -> Router {
    let (router, document) = doors::all();
    router
        .merge(dashboard::routes())
        .route(
            "/v1/openapi.json",
            get(async move || Json(document.clone())),
        )
        .fallback(async || problem(&Problem::not_found(NO_DOOR)))
        .with_state(api)
}

/// Hands a request to the thread that owns the state and waits for its answer.
async fn ask(calls: &Calls, request: Request) -> Response {
    match answer(calls, request, ANSWER_TIMEOUT).await {
        Ok(value) => Json(value).into_response(),
        Err(error) => problem(&error),
    }
}

/// As [`ask`], for whoever makes something of the answer.
async fn answer(calls: &Calls, request: Request, patience: Duration) -> Answer {
    let (reply, answer) = oneshot::channel();
    if calls.to.try_send(Call { request, reply }).is_err() {
        let why = "the process is stopping or overloaded; try again";
        return Err(Problem::unavailable(why));
    }
    let stopping = || Err(Problem::unavailable("the process is stopping"));
    let stopped = end(calls.stopped.clone());
    tokio::select! {
        // Who has an answer gives it.
        biased;
        answer = answer => answer.unwrap_or_else(|_| stopping()),
        () = stopped => stopping(),
        () = tokio::time::sleep(patience) => {
            let seconds = patience.as_secs();
            Err(Problem::unavailable(format!("no answer in {seconds} s")))
        }
    }
}

fn problem(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(problem)).into_response();
    let value = axum::http::HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(CONTENT_TYPE, value);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::feed::feed;

    fn start(socket: &Path, calls: Sender<Call>) -> anyhow::Result<Server> {
        let management = Management {
            socket: socket.to_owned(),
            tcp: None,
            token_file: None,
        };
        Server::start(&management, calls, feed().1, Confinement::default())
    }

    #[test]
    fn requests_reach_the_owner_and_errors_come_back_as_problems() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("deep/er/test.sock");
        let (calls, owner) = crossbeam::channel::bounded::<Call>(8);
        let server = start(&socket, calls.clone()).unwrap();
        let answering = std::thread::spawn(move || {
            for call in owner.iter().take(2) {
                let answer = if call.request == Request::Drops {
                    Ok(serde_json::json!(["row"]))
                } else {
                    assert!(matches!(call.request, Request::LogChange(_)));
                    Err(Problem::not_found("no mobile node mn9"))
                };
                call.reply.send(answer).unwrap();
            }
        });
        let client = Client::new(&socket);
        assert_eq!(client.get("/v1/drops").unwrap(), serde_json::json!(["row"]));
        let body = serde_json::json!({"mobile": {"mn": "mn9", "on": true}});
        let error = client.post("/v1/log", &body).unwrap_err();
        assert_eq!(error.to_string(), "no mobile node mn9");
        let error = client
            .post("/v1/log", &serde_json::json!({"mobile": 9}))
            .unwrap_err();
        assert!(error.to_string().contains("mobile"), "{error}");
        assert!(
            client
                .get("/v1/nothing")
                .unwrap_err()
                .to_string()
                .contains(NO_DOOR)
        );
        answering.join().unwrap();

        let second = start(&socket, calls).unwrap_err();
        assert!(
            second.to_string().contains("another process answers"),
            "{second}"
        );
        drop(server);
        assert!(!socket.exists());
        assert!(
            client
                .get("/v1/status")
                .unwrap_err()
                .to_string()
                .contains("is it running")
        );
    }

    #[test]
    fn who_still_waits_at_the_end_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("test.sock");
        let (calls, owner) = crossbeam::channel::bounded::<Call>(8);
        let server = start(&socket, calls).unwrap();
        let client = Client::new(&socket);
        let asked = std::thread::spawn(move || client.get("/v1/drops").unwrap_err());
        // It is taken by a thread that ends, or by none.
        let call = owner.recv().unwrap();
        drop(server);
        let error = asked.join().unwrap();
        assert_eq!(error.to_string(), "the process is stopping");
        drop(call);
    }

    /// Who asks while nobody answers any more is told at once, and fills nothing.
    #[test]
    fn requests_beyond_those_that_may_wait_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("test.sock");
        let (calls, owner) = crossbeam::channel::bounded::<Call>(1);
        let server = start(&socket, calls.clone()).unwrap();
        let (reply, _answer) = oneshot::channel();
        let request = Request::Drops;
        calls.send(Call { request, reply }).unwrap();
        let error = Client::new(&socket).get("/v1/drops").unwrap_err();
        assert!(error.to_string().contains("overloaded"), "{error}");
        assert_eq!(owner.len(), 1);
        drop(server);
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("test.sock");
        drop(UnixListener::bind(&socket).unwrap());
        assert!(socket.exists());
        let (calls, _owner) = crossbeam::channel::bounded(1);
        drop(start(&socket, calls).unwrap());
    }
}
