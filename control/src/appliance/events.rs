//! What the state machines report: events and log lines, and answers to commands that wait for it.

use flow::{Bid, Fid, Lmaa, MnId, ProxyCoa, Role};
use pmip_proto::{LmaEvent, MagEvent, MoveTimes, Now};
use pmip_wire::BindingStatus;
use tracing::field::display;

use super::calls::Waiting;
use super::control::Control;
use super::setup::Setup;
use crate::api::event::{Peer, What};

impl Control {
    pub(super) fn lma_event(&mut self, event: &LmaEvent, now: Now) {
        let waiting = |mn_id: &MnId, fid: &Fid, to: &Bid| Waiting {
            mn_id: mn_id.clone(),
            fid: *fid,
            to: *to,
        };
        if let LmaEvent::FlowMoved {
            mn_id,
            fid,
            to,
            times,
            ..
        } = event
        {
            let mark = self.workers.mark();
            let kept = self.keeping.mark();
            self.moves
                .moved(&waiting(mn_id, fid, to), *times, &mark, kept);
        } else if let LmaEvent::FlowMoveFailed {
            mn_id,
            fid,
            to,
            reason,
            ..
        } = event
        {
            self.moves.failed(&waiting(mn_id, fid, to), *reason);
        }
        self.times.note(event);
        let (warning, what) = of_lma(&self.setup, event);
        self.tell(warning, what, now);
    }

    pub(super) fn mag_event(&mut self, event: &MagEvent, now: Now) {
        let (warning, what) = of_mag(&self.setup, event);
        self.tell(warning, what, now);
    }

    /// Tells the log and whoever listens. Peers make most of what happens, so there is a rate.
    fn tell(&mut self, warning: bool, what: What, now: Now) {
        if !self.log_rate.allow(now.monotonic) {
            return;
        }
        let mn = what.mobile().map(display);
        if warning {
            tracing::warn!(mn, "{what}");
        } else {
            tracing::info!(mn, "{what}");
        }
        self.events.tell(warning, what);
    }
}

const NEWS: bool = false;
const WARNING: bool = true;

#[expect(clippy::too_many_lines, reason = "one arm for each kind")]
fn of_lma(setup: &Setup, event: &LmaEvent) -> (bool, What) {
    let name = |mag: &ProxyCoa| setup.peer_name(Role::Lma, mag.0);
    let peer = |mag: &ProxyCoa, sessions| Peer {
        role: Role::Lma,
        name: name(mag),
        address: mag.0,
        sessions,
    };
    let (bid_of, fid_of) = (|bid: &Bid| bid.0.get(), |fid: &Fid| fid.0.get());
    match event {
        LmaEvent::BindingCreated {
            mn_id,
            bid,
            proxy_coa,
            hnps,
        } => {
            let what = What::Attached {
                role: Role::Lma,
                mn: mn_id.clone(),
                bid: Some(bid_of(bid)),
                peer: Some(name(proxy_coa)),
                prefixes: hnps.clone(),
            };
            (NEWS, what)
        }
        LmaEvent::Handoff {
            mn_id,
            bid,
            from,
            to,
        } => {
            let (mn, bid) = (mn_id.clone(), bid_of(bid));
            let (from, to) = (name(from), name(to));
            (NEWS, What::Handoff { mn, bid, from, to })
        }
        LmaEvent::BindingRenewed { mn_id, bid } => {
            let (mn, bid) = (mn_id.clone(), bid_of(bid));
            (NEWS, What::Renewed { mn, bid })
        }
        LmaEvent::BindingDeregistered { mn_id, bid } => {
            let (mn, bid) = (mn_id.clone(), bid_of(bid));
            (NEWS, What::Detaching { mn, bid })
        }
        LmaEvent::BindingDeleted { mn_id, bid, reason } => {
            let what = What::Detached {
                role: Role::Lma,
                mn: mn_id.clone(),
                bid: Some(bid_of(bid)),
                reason: reason.to_string(),
            };
            (NEWS, what)
        }
        LmaEvent::PbuRefused {
            from,
            mn_id,
            status,
        } => {
            let what = What::Refused {
                role: Role::Lma,
                mn: mn_id.clone(),
                peer: Some(setup.peer_name(Role::Lma, *from)),
                status: *status,
                reason: BindingStatus(*status).to_string(),
            };
            (WARNING, what)
        }
        LmaEvent::FlowMoved {
            mn_id,
            fid,
            from,
            to,
            times,
        } => {
            let what = What::FlowMoved {
                mn: mn_id.clone(),
                fid: fid_of(fid),
                from: bid_of(from),
                to: bid_of(to),
                microseconds: took(times),
            };
            (NEWS, what)
        }
        LmaEvent::FlowMoveFailed {
            mn_id,
            fid,
            to,
            reason,
            ..
        } => {
            let what = What::FlowNotMoved {
                mn: mn_id.clone(),
                fid: fid_of(fid),
                to: bid_of(to),
                reason: reason.to_string(),
            };
            (WARNING, what)
        }
        LmaEvent::FlowReleased {
            mn_id,
            fid,
            bid,
            acknowledged,
        } => {
            let what = What::FlowReleased {
                mn: mn_id.clone(),
                fid: fid_of(fid),
                bid: bid_of(bid),
                acknowledged: *acknowledged,
            };
            (!acknowledged, what)
        }
        LmaEvent::FlowNotInstalled {
            mn_id,
            fid,
            bid,
            reason,
        } => {
            let what = What::FlowNotInstalled {
                mn: mn_id.clone(),
                fid: fid_of(fid),
                bid: bid_of(bid),
                reason: reason.to_string(),
            };
            (WARNING, what)
        }
        LmaEvent::FlowFellBack {
            mn_id,
            fid,
            bid,
            to,
        } => {
            let what = What::FlowFellBack {
                mn: mn_id.clone(),
                fid: fid_of(fid),
                bid: bid_of(bid),
                to: to.as_ref().map(bid_of),
            };
            (WARNING, what)
        }
        LmaEvent::FlowReturned { mn_id, fid, bid } => {
            let what = What::FlowReturned {
                mn: mn_id.clone(),
                fid: fid_of(fid),
                bid: bid_of(bid),
            };
            (NEWS, what)
        }
        LmaEvent::PeerDown {
            proxy_coa,
            bindings,
        } => (WARNING, What::PeerDown(peer(proxy_coa, Some(*bindings)))),
        LmaEvent::PeerUp {
            proxy_coa,
            bindings,
        } => (NEWS, What::PeerUp(peer(proxy_coa, Some(*bindings)))),
        LmaEvent::PeerRestarted {
            proxy_coa, lost, ..
        } => (WARNING, What::PeerRestarted(peer(proxy_coa, Some(*lost)))),
        LmaEvent::SignallingRefused { proxy_coa } => {
            let peer = peer(proxy_coa, None);
            (WARNING, limited(peer, "flow mobility messages"))
        }
        LmaEvent::HeartbeatRefused { proxy_coa } => {
            let peer = peer(proxy_coa, None);
            (WARNING, limited(peer, "heartbeats"))
        }
        LmaEvent::RevocationEnded {
            proxy_coa,
            mn_id,
            outcome,
        } => {
            let what = What::Revoked {
                mn: mn_id.clone(),
                peer: Some(name(proxy_coa)),
                reason: outcome.to_string(),
            };
            (NEWS, what)
        }
        LmaEvent::ReregistrationEnded {
            proxy_coa,
            mn_id,
            outcome,
        } => {
            let what = What::Reregistration {
                mn: mn_id.clone(),
                peer: Some(name(proxy_coa)),
                reason: outcome.to_string(),
            };
            (NEWS, what)
        }
    }
}

fn of_mag(setup: &Setup, event: &MagEvent) -> (bool, What) {
    let peer = |lma: &Lmaa| Peer {
        role: Role::Mag,
        name: setup.peer_name(Role::Mag, lma.0),
        address: lma.0,
        sessions: None,
    };
    let in_doubt = |mn_id: &MnId, reason: String| {
        let mn = mn_id.clone();
        (WARNING, What::RegistrationInDoubt { mn, reason })
    };
    match event {
        MagEvent::Registered { mn_id, hnps, .. } => {
            let what = What::Attached {
                role: Role::Mag,
                mn: mn_id.clone(),
                bid: None,
                peer: None,
                prefixes: hnps.clone(),
            };
            (NEWS, what)
        }
        MagEvent::Refused { mn_id, status, .. } => {
            let what = What::Refused {
                role: Role::Mag,
                mn: Some(mn_id.clone()),
                peer: None,
                status: *status,
                reason: BindingStatus(*status).to_string(),
            };
            (WARNING, what)
        }
        MagEvent::PbaMismatch { mn_id } => in_doubt(
            mn_id,
            "the LMA's answer has other identifiers than our request".to_owned(),
        ),
        MagEvent::RegistrationExpired { mn_id } => in_doubt(
            mn_id,
            "the LMA has not confirmed the registration in time".to_owned(),
        ),
        MagEvent::PrefixReassigned { mn_id, hnp } => {
            in_doubt(mn_id, format!("{hnp} belongs to another mobile now"))
        }
        MagEvent::Vanished { mn_id } => (NEWS, detached(mn_id, "no longer answers on its link")),
        MagEvent::Detached {
            mn_id,
            acknowledged,
        } => {
            let reason = if *acknowledged {
                "acknowledged by the LMA"
            } else {
                "not acknowledged by the LMA"
            };
            (NEWS, detached(mn_id, reason))
        }
        MagEvent::FlowMobility {
            mn_id,
            status,
            off_link,
        } => {
            let what = What::FlowState {
                mn: mn_id.clone(),
                status: *status,
                granted: off_link.clone(),
            };
            (NEWS, what)
        }
        MagEvent::FlowExpired { mn_id } => {
            let mn = mn_id.clone();
            (NEWS, What::FlowExpired { mn })
        }
        MagEvent::PeerDown { lmaa } => (WARNING, What::PeerDown(peer(lmaa))),
        MagEvent::PeerUp { lmaa } => (NEWS, What::PeerUp(peer(lmaa))),
        MagEvent::PeerRestarted { lmaa, .. } => (WARNING, What::PeerRestarted(peer(lmaa))),
        MagEvent::HeartbeatRefused { lmaa } => (WARNING, limited(peer(lmaa), "heartbeats")),
        MagEvent::Revoked { mn_id, trigger } => {
            let what = What::Revoked {
                mn: Some(mn_id.clone()),
                peer: None,
                reason: format!("trigger {trigger}"),
            };
            (WARNING, what)
        }
        MagEvent::ReregistrationAsked { mn_id } => {
            let what = What::Reregistration {
                mn: mn_id.clone(),
                peer: None,
                reason: "the LMA asks".to_owned(),
            };
            (NEWS, what)
        }
    }
}

fn detached(mn_id: &MnId, reason: &str) -> What {
    What::Detached {
        role: Role::Mag,
        mn: mn_id.clone(),
        bid: None,
        reason: reason.to_owned(),
    }
}

fn limited(peer: Peer, message: &str) -> What {
    let message = message.to_owned();
    What::PeerLimited { peer, message }
}

/// From the request to the decision, in microseconds.
fn took(times: &MoveTimes) -> u64 {
    let took = times.completed.saturating_sub(times.requested);
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
