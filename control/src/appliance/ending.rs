//! How a process ends that is told to stop: what it has begun comes to its end while packets go on.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use flow::{MacAddr, PortId};
use pmip_proto::lma::Bce;
use pmip_proto::mag::BuleState;

use super::control::{Control, NAP};

/// How long that may take: service managers and container engines kill after ten seconds.
const PATIENCE: Duration = Duration::from_secs(5);

impl Control {
    /// Waits for the answers of MAGs about flows, and, where the configuration asks for it, for those of LMAs about
    /// sessions, which end then. Peers that do not answer are waited for in vain, and not for long.
    pub(super) fn wind_up(&mut self) {
        self.is_ending = true;
        // Who takes over goes on with all sessions.
        let is_over = !self.hand_over.load(Ordering::Relaxed);
        if is_over && self.reloads.deregisters_on_stop() {
            self.deregister_all();
        }
        let end = Instant::now() + PATIENCE;
        while self.is_waiting() {
            if Instant::now() > end {
                tracing::warn!("stopped, although peers have not answered all messages yet");
                return;
            }
            if !self.turn() {
                std::thread::sleep(NAP);
            }
        }
    }

    fn deregister_all(&mut self) {
        let now = self.now();
        let Some(mag) = &mut self.mag else { return };
        let links = mag
            .bul()
            .map(|bule| (bule.attachment.port, bule.attachment.mac));
        let links: Vec<(PortId, MacAddr)> = links.collect();
        for (port, mac) in links {
            mag.detach(now, port, mac);
        }
    }

    fn is_waiting(&self) -> bool {
        let moving = |lma: &super::recorder::RecordedLma| {
            lma.bindings()
                .any(|(_, bce): (_, &Bce)| bce.is_signalling())
        };
        let leaving = |mag: &super::recorder::RecordedMag| {
            mag.bul().any(|bule| bule.state == BuleState::Deregistering)
        };
        let peers = self.lma.as_ref().is_some_and(moving) || self.mag.as_ref().is_some_and(leaving);
        peers || !self.keeping.is_settled() || !self.outbox.is_empty()
    }
}
