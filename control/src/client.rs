//! The client of the management API: what every command and the lab speak through.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::api::Problem;

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

    /// Asks for a change.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub(crate) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.request(hyper::Method::POST, path, serde_json::to_vec(body)?.into())
    }

    fn request(&self, method: hyper::Method, path: &str, body: Bytes) -> anyhow::Result<Value> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let stream = match tokio::net::UnixStream::connect(&self.socket).await {
                Ok(stream) => stream,
                Err(error) => return Err(self.no_answer(error)),
            };
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            // Ends with an error only when the exchange below does, which then says so.
            let driver = tokio::spawn(connection);
            let request = hyper::Request::builder()
                .method(method)
                .uri(path)
                .header(HOST, "flowmob")
                .header(CONTENT_TYPE, "application/json")
                .body(Full::new(body))?;
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            driver.abort();
            if status.is_success() {
                return serde_json::from_slice(&body).context("the answer is not JSON");
            }
            let problem: Problem = serde_json::from_slice(&body).with_context(|| {
                format!("HTTP status {status}: {}", String::from_utf8_lossy(&body))
            })?;
            Err(problem.into())
        })
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
