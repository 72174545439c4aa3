//! Another configuration for a MAG that runs. Sessions stay as they are; what was asked of their LMA holds until
//! they are registered again.

use std::collections::BTreeSet;

use flow::{Lmaa, MobileId};

use super::Mag;
use super::bul::BuleState;
use crate::config::MagConfig;
use crate::heartbeat::Verdict;
use crate::time::Now;

/// Why a MAG that runs cannot take a configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MagConflict {
    /// An LMA that is to go has sessions.
    #[error("{sessions} sessions are with the LMA {lmaa}: detach them before it goes")]
    PeerInUse {
        /// The LMA.
        lmaa: Lmaa,
        /// Its sessions here.
        sessions: usize,
    },
    /// An LMA that is to signal in another way has sessions.
    #[error(
        "{sessions} sessions are with the LMA {lmaa}: detach them before it changes its dialect"
    )]
    DialectInUse {
        /// The LMA.
        lmaa: Lmaa,
        /// Its sessions here.
        sessions: usize,
    },
}

impl Mag {
    /// All that stands in the way of a configuration.
    pub fn conflicts(&self, new: &MagConfig) -> Vec<MagConflict> {
        let mut conflicts = Vec::new();
        for peer in &self.config.lmas {
            let (lmaa, mut lmas) = (peer.lmaa, new.lmas.iter());
            let dialect = lmas.find(|peer| peer.lmaa == lmaa).map(|peer| peer.dialect);
            let with_it = self.bul.sessions.values().filter(|bule| bule.lmaa == lmaa);
            let sessions = with_it.count();
            if dialect != Some(peer.dialect) && sessions > 0 {
                conflicts.push(match dialect {
                    Some(_) => MagConflict::DialectInUse { lmaa, sessions },
                    None => MagConflict::PeerInUse { lmaa, sessions },
                });
            }
        }
        conflicts
    }

    /// Takes another configuration, which must be without [`Mag::conflicts`]. The addresses stay.
    pub fn reconfigure(&mut self, now: Now, mut new: MagConfig) {
        (new.proxy_coa, new.link_local) = (self.config.proxy_coa, self.config.link_local);
        let known = |config: &MagConfig| -> BTreeSet<Lmaa> {
            config.lmas.iter().map(|peer| peer.lmaa).collect()
        };
        let (before, after) = (known(&self.config), known(&new));
        for lmaa in before.difference(&after) {
            self.heartbeats.forget(lmaa.0);
            self.learned_mtus.remove(lmaa);
        }
        for lmaa in &after {
            self.heartbeats
                .watch(lmaa.0, new.proxy_coa.0, &mut self.random);
        }
        let alive = self.heartbeats.reconfigure(now.monotonic, new.heartbeat);
        let mtus: Vec<_> = after
            .iter()
            .map(|lmaa| (*lmaa, self.tunnel_mtu(*lmaa)))
            .collect();
        let local_routing = new.local_routing != self.config.local_routing;
        let old = std::mem::replace(&mut self.config, new);
        self.routes.renew(&old, &self.config, &mut self.outbox);
        if local_routing {
            let mobiles: Vec<MobileId> = self.bul.mobiles.keys().copied().collect();
            for mobile in mobiles {
                self.update_routes(mobile);
            }
        }
        for (lmaa, mtu) in mtus {
            if self.tunnel_mtu(lmaa) != mtu {
                self.advertise_to_all(now.monotonic, lmaa);
            }
        }
        for address in alive {
            self.act_on(now.monotonic, Lmaa(address), Verdict::Up);
        }
        let bound = self
            .bul
            .sessions
            .values()
            .filter(|bule| bule.state == BuleState::Active);
        let bound: BTreeSet<Lmaa> = bound.map(|bule| bule.lmaa).collect();
        for lmaa in bound.into_iter().chain(self.config.pool.clone()) {
            self.heartbeats.wake_again(now.monotonic, lmaa.0);
        }
    }
}
