//! What a service manager hears of this process (systemd's `sd_notify` protocol), and the log with it.
//!
//! Without such a manager, `NOTIFY_SOCKET` is not set and nothing is sent.

use config::Config;
use crossbeam::channel::Sender;
use sd_notify::NotifyState;

use crate::server::{Call, Request};

/// The process serves from now on.
pub(crate) fn ready(config: &Config) {
    let socket = config.management.socket.display();
    tracing::info!(name = %config.name, %socket, "ready");
    let status = format!("{} serves; ask it on {socket}", config.name);
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// The process has begun to end.
pub(crate) fn stopping() {
    tracing::info!("stopping");
    tell(&[NotifyState::Stopping]);
}

/// Lets the manager know that all loops turn, as often as it wants to hear that (`WatchdogSec=`). It hears nothing while
/// one does not answer, and then starts the process again.
pub(crate) fn feed_watchdog(calls: Sender<Call>) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let body = move || {
        loop {
            let (reply, answer) = tokio::sync::oneshot::channel();
            let request = Request::Alive;
            // Either way the process ends.
            if calls.send(Call { request, reply }).is_err() {
                return;
            }
            let Ok(answer) = answer.blocking_recv() else {
                return;
            };
            if answer.is_ok() {
                tell(&[NotifyState::Watchdog]);
            }
            std::thread::sleep(limit / 3);
        }
    };
    // Not joined: it may wait for an answer that never comes.
    let thread = std::thread::Builder::new().name("watchdog".into());
    if let Err(error) = thread.spawn(body) {
        tracing::warn!(%error, "the watchdog is not fed: no thread for it");
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager does not hear");
    }
}
