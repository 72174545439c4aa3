//! Whether a mobile is still there (RFC 5213 §6.9.4, §6.13): it is asked by neighbour discovery before
//! its registration is refreshed or repeated, unless it was heard of a moment ago.
//!
//! Only a mobile that has shown an address of its own can be asked; of others, link events alone tell.

use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{MacAddr, PortId};
use serde::{Deserialize, Serialize};

use super::bul::{BuleState, SessionId};
use super::{Mag, Timer};
use crate::event::MagEvent;
use crate::time::Now;

/// REACHABLE_TIME, RETRANS_TIMER, MAX_UNICAST_SOLICIT (RFC 4861 §10).
const REACHABLE: Duration = Duration::from_secs(30);
const RETRANSMIT: Duration = Duration::from_secs(1);
const PROBES: u32 = 3;

/// A Neighbour Solicitation to a mobile that may have left. Sent to the address itself, and to `mac`
/// alone on the link (RFC 4861 §7.3.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Probe {
    /// The access port.
    pub port: PortId,
    /// The mobile's link-layer address.
    pub mac: MacAddr,
    /// Source address: the MAG's link-local address on this link.
    pub source: Ipv6Addr,
    /// An address of the mobile.
    pub target: Ipv6Addr,
}

impl Mag {
    /// The next probe to send; nothing is fed back but [`Mag::handle_sign_of_life`].
    pub fn poll_probe(&mut self) -> Option<Probe> {
        self.probes.pop_front()
    }

    /// A station sent a neighbour discovery message with an address of its own. One that is attached
    /// is still there.
    pub fn handle_sign_of_life(&mut self, now: Now, port: PortId, mac: MacAddr, address: Ipv6Addr) {
        let Some(id) = self.bul.by_link((port, mac)).map(|bule| bule.id) else {
            return;
        };
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            return;
        }
        let Some(bule) = self.bul.sessions.get_mut(&id) else {
            return;
        };
        bule.presence.heard = now.monotonic;
        // A link-local address stays; others may be given up for new ones.
        let stays = |known: &Ipv6Addr| known.is_unicast_link_local();
        if address.is_unicast_link_local() || !bule.presence.address.as_ref().is_some_and(stays) {
            bule.presence.address = Some(address);
        }
        if std::mem::take(&mut bule.presence.probes) > 0 {
            self.timers.cancel(Timer::Probe(id));
            self.go_on(now, id);
        }
    }

    /// Whether a mobile is there, as far as can be known; if not, it is asked, and the registration
    /// goes on when it answers.
    pub(super) fn is_there(&mut self, now: Now, id: SessionId) -> bool {
        let Some(bule) = self.bul.sessions.get(&id) else {
            return false;
        };
        let recently = bule.presence.heard + REACHABLE > now.monotonic;
        if !self.config.probe || bule.presence.address.is_none() || recently {
            return true;
        }
        if bule.presence.probes == 0 {
            self.probe(now, id);
        }
        false
    }

    /// A probe was not answered in time.
    pub(super) fn handle_no_sign(&mut self, now: Now, id: SessionId) {
        let Some(bule) = self.bul.sessions.get_mut(&id) else {
            return;
        };
        match bule.presence.probes {
            // It has appeared again since.
            0 => return,
            sent if sent < PROBES => return self.probe(now, id),
            _ => {}
        }
        bule.presence = Presence::default();
        match bule.state {
            BuleState::Registering | BuleState::Active => {
                let mn_id = bule.attachment.mn_id.clone();
                self.outbox.event(MagEvent::Vanished { mn_id });
                self.deregister(now, id);
            }
            BuleState::Deregistering | BuleState::Refused(_) | BuleState::Revoked => {}
        }
    }

    fn probe(&mut self, now: Now, id: SessionId) {
        let Some(bule) = self.bul.sessions.get_mut(&id) else {
            return;
        };
        let (port, mac) = bule.link();
        let source = bule.link_local;
        let Some(target) = bule.presence.address else {
            return;
        };
        bule.presence.probes += 1;
        self.probes.push_back(Probe {
            port,
            mac,
            source,
            target,
        });
        self.timers
            .set(Timer::Probe(id), now.monotonic + RETRANSMIT);
    }
}

/// What is known about a mobile's presence on its link.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Presence {
    /// When it appeared or was last heard of.
    heard: Duration,
    /// An address that it answers for.
    address: Option<Ipv6Addr>,
    /// Probes without answer.
    probes: u32,
}

impl Presence {
    /// The mobile appeared: whatever it was asked before, it is there.
    pub(super) fn appear(&mut self, now: Duration) {
        self.heard = now;
        self.probes = 0;
    }
}
