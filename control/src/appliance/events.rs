//! What the state machines report: log lines, and answers to commands that wait for it.

use pmip_proto::{LmaEvent, MagEvent, Now};

use super::calls::Waiting;
use super::control::Control;

impl Control {
    pub(super) fn lma_event(&mut self, event: &LmaEvent, now: Now) {
        let logged = self.log_rate.allow(now.monotonic);
        match event {
            LmaEvent::FlowMoved {
                mn_id,
                fid,
                to,
                times,
                ..
            } => {
                if logged {
                    tracing::info!(%mn_id, %fid, bid = %to, "flow moved");
                }
                let waiting = Waiting {
                    mn_id: mn_id.clone(),
                    fid: *fid,
                    to: *to,
                };
                self.moves.moved(&waiting, *times, &self.workers.mark());
            }
            LmaEvent::FlowMoveFailed {
                mn_id,
                fid,
                to,
                reason,
                ..
            } => {
                if logged {
                    tracing::warn!(%mn_id, %fid, bid = %to, %reason, "flow not moved");
                }
                let waiting = Waiting {
                    mn_id: mn_id.clone(),
                    fid: *fid,
                    to: *to,
                };
                self.moves.failed(&waiting, *reason);
            }
            LmaEvent::FlowFellBack {
                mn_id,
                fid,
                bid,
                to,
            } => {
                let to = to.map(|bid| bid.0.get());
                tracing::warn!(%mn_id, %fid, %bid, ?to, "flow fell back");
            }
            LmaEvent::FlowReturned { mn_id, fid, bid } => {
                tracing::info!(%mn_id, %fid, %bid, "flow returned");
            }
            LmaEvent::PeerDown {
                proxy_coa,
                bindings,
            } => tracing::warn!(mag = %proxy_coa.0, bindings, "peer down"),
            LmaEvent::PeerUp {
                proxy_coa,
                bindings,
            } => tracing::info!(mag = %proxy_coa.0, bindings, "peer up"),
            LmaEvent::PeerRestarted {
                proxy_coa,
                counter,
                lost,
            } => tracing::warn!(mag = %proxy_coa.0, counter, lost, "peer restarted"),
            LmaEvent::PbuRefused { .. }
            | LmaEvent::FlowNotInstalled { .. }
            | LmaEvent::SignallingRefused { .. }
            | LmaEvent::HeartbeatRefused { .. } => {
                if logged {
                    tracing::warn!(?event, "lma");
                }
            }
            LmaEvent::BindingCreated { .. }
            | LmaEvent::Handoff { .. }
            | LmaEvent::BindingRenewed { .. }
            | LmaEvent::BindingDeregistered { .. }
            | LmaEvent::BindingDeleted { .. }
            | LmaEvent::RevocationEnded { .. }
            | LmaEvent::ReregistrationEnded { .. }
            | LmaEvent::FlowReleased { .. } => {
                if logged {
                    tracing::info!(?event, "lma");
                }
            }
        }
    }

    pub(super) fn mag_event(&mut self, event: &MagEvent, now: Now) {
        if !self.log_rate.allow(now.monotonic) {
            return;
        }
        match event {
            MagEvent::Refused { .. }
            | MagEvent::PbaMismatch { .. }
            | MagEvent::RegistrationExpired { .. }
            | MagEvent::PrefixReassigned { .. }
            | MagEvent::HeartbeatRefused { .. }
            | MagEvent::Revoked { .. } => tracing::warn!(?event, "mag"),
            MagEvent::PeerDown { lmaa } => tracing::warn!(lma = %lmaa.0, "peer down"),
            MagEvent::PeerUp { lmaa } => tracing::info!(lma = %lmaa.0, "peer up"),
            MagEvent::PeerRestarted { lmaa, counter } => {
                tracing::warn!(lma = %lmaa.0, counter, "peer restarted");
            }
            MagEvent::Registered { .. }
            | MagEvent::Vanished { .. }
            | MagEvent::Detached { .. }
            | MagEvent::FlowMobility { .. }
            | MagEvent::ReregistrationAsked { .. }
            | MagEvent::FlowExpired { .. } => tracing::info!(?event, "mag"),
        }
    }
}
