//! The client of the management API: what every command and the lab speak through.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::api::Problem;

/// Where processes have their sockets, unless their configurations name others.
const SOCKETS: &str = "/run/flowmob";

/// The socket of the process that is meant where none is named: the only one in `/run/flowmob`.
///
/// # Errors
/// If there are several.
pub(crate) fn default_socket() -> anyhow::Result<PathBuf> {
    only_socket(Path::new(SOCKETS))
}

fn only_socket(directory: &Path) -> anyhow::Result<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let sockets = entries.map(|entry| entry.path());
    let mut sockets: Vec<_> = sockets
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "sock")
        })
        .collect();
    sockets.sort();
    let default = directory.join("flowmob.sock");
    match sockets.as_slice() {
        // Then that is where nobody answers.
        [] => Ok(default),
        [only] => Ok(only.clone()),
        several => {
            let names: Vec<_> = several.iter().map(|it| it.display().to_string()).collect();
            anyhow::bail!(
                "there are several processes here: name one by --socket or FLOWMOB_SOCKET: {}",
                names.join(", ")
            )
        }
    }
}

/// A blocking client; each request is a connection of its own.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the process that serves this socket.
    pub(crate) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Reads a resource.
    ///
    /// # Errors
    /// If nothing answers, or the answer is a [`Problem`], which is then the error.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.request(hyper::Method::GET, path, Bytes::new())
    }

    /// Asks how the process is.
    ///
    /// # Errors
    /// As for [`Client::get`], or if it is not well: then what it says.
    pub(crate) fn probe(&self, path: &str) -> anyhow::Result<()> {
        /// A process that is well answers in less, whatever else it does.
        const PATIENCE: Duration = Duration::from_secs(4);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let answer = async {
                let response = self.send(hyper::Method::GET, path, Bytes::new()).await?;
                let status = response.status();
                let body = response.into_body().collect().await?.to_bytes();
                anyhow::ensure!(
                    status.is_success(),
                    "not well: {}",
                    String::from_utf8_lossy(&body).trim()
                );
                Ok(())
            };
            let answer = tokio::time::timeout(PATIENCE, answer).await;
            answer.unwrap_or_else(|_| anyhow::bail!("no answer in {PATIENCE:?}"))
        })
    }

    /// Asks for a change.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub(crate) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.request(hyper::Method::POST, path, serde_json::to_vec(body)?.into())
    }

    /// Reads server-sent events: their kinds and data, until `each` says `false` or the process ends the stream.
    ///
    /// # Errors
    /// As for [`Client::get`], and those of `each`.
    pub(crate) fn follow(
        &self,
        path: &str,
        mut each: impl FnMut(&str, &str) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let mut lines = SseLines::default();
        self.download(path, &AtomicBool::new(false), |octets| {
            for (kind, data) in lines.feed(octets) {
                if !each(&kind, &data)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Reads whatever it is, in pieces, until `each` says `false`, the process ends it, or this one is told to end.
    ///
    /// # Errors
    /// As for [`Client::get`], and those of `each`.
    pub(crate) fn download(
        &self,
        path: &str,
        told: &AtomicBool,
        mut each: impl FnMut(&[u8]) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        /// How often to see whether this process is told to end.
        const LOOK: Duration = Duration::from_millis(20);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let response = self.send(hyper::Method::GET, path, Bytes::new()).await?;
            let mut body = read_if_well(response).await?;
            while !told.load(Ordering::Relaxed) {
                let Ok(frame) = tokio::time::timeout(LOOK, body.frame()).await else {
                    continue;
                };
                let Some(frame) = frame else {
                    break;
                };
                let Ok(octets) = frame.context("the stream was cut off")?.into_data() else {
                    continue;
                };
                if !each(&octets)? {
                    break;
                }
            }
            Ok(())
        })
    }

    fn request(&self, method: hyper::Method, path: &str, body: Bytes) -> anyhow::Result<Value> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let response = self.send(method, path, body).await?;
            let body = read_if_well(response).await?.collect().await?.to_bytes();
            serde_json::from_slice(&body).context("the answer is not JSON")
        })
    }

    /// Sends a request and waits for the head of the answer. The connection lives as long as the runtime.
    async fn send(
        &self,
        method: hyper::Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<hyper::Response<Incoming>> {
        let stream = match tokio::net::UnixStream::connect(&self.socket).await {
            Ok(stream) => stream,
            Err(error) => return Err(self.no_answer(error)),
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with an error only when the exchange below does, which then says so.
        tokio::spawn(connection);
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "flowmob")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        Ok(sender.send_request(request).await?)
    }

    fn no_answer(&self, error: std::io::Error) -> anyhow::Error {
        let socket = self.socket.display();
        let kind = error.kind();
        let hint = if matches!(kind, ErrorKind::NotFound | ErrorKind::ConnectionRefused) {
            "; is it running (flowmob run -c FILE), and is this its [management] socket \
             (--socket, FLOWMOB_SOCKET)?"
        } else if kind == ErrorKind::PermissionDenied {
            "; try as root, or as the socket's owner"
        } else {
            ""
        };
        anyhow::Error::new(error).context(format!("no flowmob answers on {socket}{hint}"))
    }
}

/// The body of a good answer; a bad one is the error.
async fn read_if_well(response: hyper::Response<Incoming>) -> anyhow::Result<Incoming> {
    let status = response.status();
    let body = response.into_body();
    if status.is_success() {
        return Ok(body);
    }
    let body = body.collect().await?.to_bytes();
    let problem: Problem = serde_json::from_slice(&body)
        .with_context(|| format!("HTTP status {status}: {}", String::from_utf8_lossy(&body)))?;
    Err(problem.into())
}

/// Server-sent events out of octets that come in pieces.
#[derive(Debug, Default)]
struct SseLines {
    rest: Vec<u8>,
    kind: Option<String>,
    data: Vec<String>,
}

impl SseLines {
    /// The events that are complete with these octets: kind and data.
    fn feed(&mut self, octets: &[u8]) -> Vec<(String, String)> {
        self.rest.extend(octets);
        let mut events = Vec::new();
        while let Some(end) = self.rest.iter().position(|octet| *octet == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                if !self.data.is_empty() {
                    let kind = self.kind.take().unwrap_or_else(|| "message".to_owned());
                    events.push((kind, self.data.join("\n")));
                }
                self.kind = None;
                self.data.clear();
            } else if let Some(data) = line.strip_prefix("data:") {
                self.data.push(data.trim_start().to_owned());
            } else if let Some(kind) = line.strip_prefix("event:") {
                self.kind = Some(kind.trim().to_owned());
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_socket_is_meant_and_of_several_none() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        assert_eq!(only_socket(directory.path()).unwrap(), at("flowmob.sock"));
        std::fs::write(at("dpdk"), "").unwrap();
        std::fs::write(at("lma1.sock"), "").unwrap();
        assert_eq!(only_socket(directory.path()).unwrap(), at("lma1.sock"));
        std::fs::write(at("flowmob.sock"), "").unwrap();
        let error = only_socket(directory.path()).unwrap_err().to_string();
        assert!(
            error.contains("lma1.sock") && error.contains("flowmob.sock"),
            "{error}"
        );
        assert_eq!(
            only_socket(Path::new("/nowhere")).unwrap(),
            Path::new("/nowhere/flowmob.sock")
        );
    }

    #[test]
    fn server_sent_events_are_read_in_any_pieces() {
        let stream = b": hello\n\nid: 7\ndata: {\"a\":1}\n\nevent: missed\r\ndata: 3\r\n\r\ndata: one\ndata:two\n\n";
        let expected = [
            ("message", "{\"a\":1}"),
            ("missed", "3"),
            ("message", "one\ntwo"),
        ]
        .map(|(kind, data)| (kind.to_owned(), data.to_owned()));
        for size in [1, 2, 7, 1000] {
            let mut lines = SseLines::default();
            let events: Vec<_> = stream
                .chunks(size)
                .flat_map(|piece| lines.feed(piece))
                .collect();
            assert_eq!(events, expected);
        }
    }
}
