//! A process that takes the place of another one: it gets ready while that one forwards, has it end, and goes on from what it
//! knew.
//!
//! ```text
//!   new:  configuration, keys, DPDK, memory -> SIGUSR1 ---------------> records -> ports -> serves
//!   old:  forwards ------------------------------|-> last messages, disk, ends |
//! ```
//!
//! Nobody forwards from the end of the old one to the ports of the new one. What takes long is done before.

use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use config::Config;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::api::Status;
use crate::client::Client;

/// How long the other process may take to end: peers that do not answer are waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// Has the process end that serves the socket of this configuration, and waits until it has. If nobody serves it, there
/// is nothing to take over.
///
/// # Errors
/// If it is another process than one of this name, or does not end. Then nothing was asked of it, or it goes on ending.
pub(super) fn take_over(config: &Config) -> anyhow::Result<()> {
    let socket = &config.management.socket;
    let Some(former) = who_serves(socket)? else {
        let socket = socket.display();
        tracing::info!(%socket, "nobody serves there: this is a start like any other");
        return Ok(());
    };
    let about = || format!("process {}", former.as_raw_nonzero());
    // By this, nobody else is meant, should its number be given away.
    let process = pidfd_open(former, PidfdFlags::empty()).with_context(about)?;
    let status = Client::new(socket).get("/v1/status").with_context(about)?;
    let status: Status = serde_json::from_value(status).with_context(about)?;
    anyhow::ensure!(
        status.name == config.name,
        "{} serves {} and is {}, not {}: two processes must not have one socket",
        about(),
        socket.display(),
        status.name,
        config.name
    );
    tracing::info!(pid = %former.as_raw_nonzero(), version = %status.version, "taking over");
    pidfd_send_signal(&process, Signal::USR1)
        .with_context(|| format!("{} cannot be told to end", about()))?;
    let mut ended = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(PATIENCE)?;
    loop {
        match poll(&mut ended, patience) {
            Err(Errno::EINTR) => {}
            Ok(0) => anyhow::bail!("{} does not end within {PATIENCE:?}", about()),
            done => {
                done.with_context(about)?;
                return Ok(());
            }
        }
    }
}

/// The process at the other end of a socket; `None` if there is none.
fn who_serves(socket: &Path) -> anyhow::Result<Option<Pid>> {
    let about = || socket.display().to_string();
    let stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        // It is not there, or nobody listens at it.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(about),
    };
    let peer = getsockopt(&stream, PeerCredentials).with_context(about)?;
    let pid = Pid::from_raw(peer.pid());
    pid.with_context(|| {
        format!(
            "who serves {} is in another PID namespace, and cannot be told to end from here",
            socket.display()
        )
    })
    .map(Some)
}
