//! Binding Errors that say that a message is not known (RFC 6275 §9.3.3), but not which one.
//!
//! Every MAG knows PBAs; all else that an LMA sends, a MAG of RFC 5213 may not know. Of the messages
//! without answer, one of a kind that the peer has never answered is meant, and of several the latest.

use std::time::Duration;

use flow::ProxyCoa;
use serde::{Deserialize, Serialize};

use super::Lma;
use crate::config::Dialect;
use crate::event::LmaEvent;
use crate::heartbeat::Suspect;

/// The kinds of messages that a MAG may not know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
enum Optional {
    Fmi,
    Reregistration,
    Revocation,
    Heartbeat,
}

impl Lma {
    /// A MAG does not know the type of a message: it gets no more of that kind.
    pub(super) fn handle_unknown_type(&mut self, now: Duration, from: ProxyCoa) {
        let Some(peer) = self.peers.get(&from) else {
            self.counters.unknown_peer += 1;
            return;
        };
        let dialect = peer.dialect;
        let suspects: [(Option<Suspect>, Optional); 4] = [
            (peer.suspect(), Optional::Fmi),
            (self.notifications.suspect(from), Optional::Reregistration),
            (self.revocations.suspect(from), Optional::Revocation),
            (self.heartbeats.suspect(from.0), Optional::Heartbeat),
        ];
        let suspects = suspects.into_iter();
        let meant = suspects.filter_map(|(suspect, kind)| Some((suspect?, kind)));
        match meant.max().map(|(_, kind)| kind) {
            None => self.counters.unexpected += 1,
            Some(Optional::Fmi) => self.handle_unrecognized(now, from),
            Some(Optional::Reregistration) => {
                self.handle_notification_unknown(now, from);
                // To such a MAG, FMIs are messages of the same type.
                if dialect == Dialect::Rfc7864 {
                    self.handle_unrecognized(now, from);
                }
            }
            Some(Optional::Revocation) => self.handle_revocation_unknown(now, from),
            Some(Optional::Heartbeat) => {
                let verdict = self.heartbeats.refused(from.0);
                let proxy_coa = from;
                self.outbox.event(LmaEvent::HeartbeatRefused { proxy_coa });
                if let Some(verdict) = verdict {
                    self.conclude(now, from, verdict);
                }
            }
        }
    }
}
