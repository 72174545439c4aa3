//! The dashboard of a process that has a Unix socket only: a page on a loopback address, whose questions are passed on.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::tcp::Tcp;
use super::{dashboard, end, problem};
use crate::api::Problem;

/// Reads the address for a [`Page`] from the command line.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(crate) fn page_address(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse();
    only_here(address.map_err(|_| "expected an address and a port, such as 127.0.0.1:8080")?)
}

fn only_here(address: SocketAddr) -> Result<SocketAddr, String> {
    if address.ip().is_loopback() {
        return Ok(address);
    }
    Err(format!(
        "{address} can be reached from elsewhere, and whoever does would rule the process: give a loopback \
         address, or the process a [management] tcp with a token_file"
    ))
}

/// A page that is served until it is dropped.
#[derive(Debug)]
pub(crate) struct Page {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Page {
    /// Serves the page of the process at `socket` on a loopback address; with port 0 on any that is free.
    ///
    /// # Errors
    /// If the address is no loopback address or cannot be bound.
    pub(crate) fn serve(address: SocketAddr, socket: &Path) -> anyhow::Result<Self> {
        only_here(address).map_err(anyhow::Error::msg)?;
        let tcp = Tcp::local(address)?;
        let address = tcp.address()?;
        let (stop, stopped) = watch::channel(false);
        let router = Router::new()
            .merge(dashboard::routes())
            .fallback(forward)
            .with_state(Arc::new(socket.to_owned()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new()
            .name("page".into())
            .spawn(move || {
                runtime.block_on(async {
                    // A stream of events has no end: nobody waits for it.
                    tokio::select! {
                        () = tcp.serve(router, std::future::pending()) => {}
                        () = end(stopped) => {}
                    }
                });
            })?;
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // The thread may have ended by itself.
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the page panicked");
        }
    }
}

/// Passes a request on as it is, and the answer back.
async fn forward(State(socket): State<Arc<PathBuf>>, request: Request) -> Response {
    match forwarded(&socket, request).await {
        Ok(response) => response,
        Err(error) => problem(&Problem::unavailable(format!(
            "no flowmob answers on {}: {error}",
            socket.display()
        ))),
    }
}

async fn forwarded(
    socket: &Path,
    request: Request,
) -> Result<Response, Box<dyn std::error::Error + Send + Sync>> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends when the answer has been read, or whoever reads it has gone.
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    Ok(response.map(Body::new).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_served() {
        let everywhere = "[::]:0".parse().unwrap();
        let error = Page::serve(everywhere, Path::new("/nowhere")).unwrap_err();
        assert!(error.to_string().contains("loopback"), "{error}");
        assert!(
            page_address("192.0.2.1:80")
                .unwrap_err()
                .contains("loopback")
        );
        assert!(page_address("8080").unwrap_err().contains("127.0.0.1:8080"));
        assert_eq!(page_address("[::1]:80"), Ok("[::1]:80".parse().unwrap()));
    }
}
