//! Another configuration for an LMA that runs.
//!
//! Bindings stay as they are. What holds for them from their start, such as the lifetime granted, holds until
//! their next registration; a mobile that is no longer served keeps its bindings until then. What commands have said
//! about service holds on.

use std::collections::{BTreeMap, BTreeSet};

use flow::{Hnp, MnId, ProxyCoa};

use super::Lma;
use super::peers::Peer;
use crate::config::LmaConfig;
use crate::heartbeat::Verdict;
use crate::time::Now;

/// Why an LMA that runs cannot take a configuration.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LmaConflict {
    /// A MAG that is to go has bindings, or owes answers.
    #[error("{mobiles} mobiles are at the MAG {proxy_coa}: revoke them before it goes")]
    PeerInUse {
        /// The MAG.
        proxy_coa: ProxyCoa,
        /// Mobiles with a session there; none if it only owes answers.
        mobiles: usize,
    },
    /// A MAG that is to be signalled to in another way has bindings, or owes answers.
    #[error(
        "{mobiles} mobiles are at the MAG {proxy_coa}: revoke them before it changes its dialect"
    )]
    DialectInUse {
        /// The MAG.
        proxy_coa: ProxyCoa,
        /// As before.
        mobiles: usize,
    },
    /// Prefixes of a pool that is to come or to go are in use.
    #[error("prefixes of the pool {0} are in use: revoke their bindings before it comes or goes")]
    PoolInUse(Hnp),
    /// A prefix that is to be one mobile's is in use by another.
    #[error("the prefix {hnp} of {mn_id} is in use by another mobile")]
    PrefixInUse {
        /// The prefix.
        hnp: Hnp,
        /// Whose it is to be.
        mn_id: MnId,
    },
}

impl Lma {
    /// All that stands in the way of a configuration.
    pub fn conflicts(&self, new: &LmaConfig) -> Vec<LmaConflict> {
        let mut conflicts = Vec::new();
        let wanted: BTreeMap<_, _> = new.peers.iter().map(|p| (p.proxy_coa, p.dialect)).collect();
        for (proxy_coa, peer) in self.peers.iter() {
            let proxy_coa = *proxy_coa;
            let dialect = wanted.get(&proxy_coa);
            if dialect == Some(&peer.dialect) {
                continue;
            }
            let mobiles = self.mobiles_at(proxy_coa).len();
            if mobiles > 0 || peer.is_owing() {
                conflicts.push(match dialect {
                    Some(_) => LmaConflict::DialectInUse { proxy_coa, mobiles },
                    None => LmaConflict::PeerInUse { proxy_coa, mobiles },
                });
            }
        }
        let going = self
            .pools
            .iter()
            .filter(|old| !new.pools.iter().any(|p| p.is_same(old)));
        let used = going.filter(|pool| self.cache.overlaps(pool.range()));
        conflicts.extend(used.map(|pool| LmaConflict::PoolInUse(pool.range())));
        let profiles = || new.profiles.values().flat_map(|profile| &profile.prefixes);
        let coming = new
            .pools
            .iter()
            .filter(|pool| !self.pools.iter().any(|p| p.is_same(pool)));
        let used = coming.filter(|pool| {
            // As it goes at the start: profiles may have prefixes of pools.
            let mut used = self.cache.in_use(pool.range());
            used.any(|hnp| !profiles().any(|own| *own == hnp))
        });
        conflicts.extend(used.map(|pool| LmaConflict::PoolInUse(pool.range())));
        for (mn_id, profile) in &new.profiles {
            let its = self.cache.id_of(mn_id);
            let foreign = |hnp: &&Hnp| match self.cache.owner(**hnp) {
                Some(owner) => Some(owner) != its,
                None => self.cache.overlaps(**hnp),
            };
            let foreign = profile.prefixes.iter().filter(foreign);
            conflicts.extend(foreign.map(|hnp| LmaConflict::PrefixInUse {
                hnp: *hnp,
                mn_id: mn_id.clone(),
            }));
        }
        conflicts
    }

    /// Takes another configuration, which must be without [`Lma::conflicts`]. The addresses stay.
    pub fn reconfigure(&mut self, now: Now, mut new: LmaConfig) {
        new.lmaas.clone_from(&self.config.lmaas);
        for (mn_id, on) in self.service.iter() {
            let profile = new.profiles.entry(mn_id.clone());
            profile.or_default().enabled = *on;
        }
        self.replace_pools(&mut new);
        self.replace_peers(&new);
        let alive = self.heartbeats.reconfigure(now.monotonic, new.heartbeat);
        self.tunnels.reconfigure(&new.peers, &mut self.outbox);
        self.config = new;
        for address in alive {
            self.conclude(now.monotonic, ProxyCoa(address), Verdict::Up);
        }
        // Those with bindings are asked, if they were not.
        self.wake_members(now.monotonic);
        let bound = self.bound.iter().filter(|(_, count)| **count > 0);
        for (proxy_coa, _) in bound {
            self.heartbeats.wake_again(now.monotonic, proxy_coa.0);
        }
        self.use_windows(now.monotonic);
    }

    /// A pool that stays keeps what it has lent.
    fn replace_pools(&mut self, new: &mut LmaConfig) {
        let mut old = std::mem::take(&mut self.pools);
        self.pools = std::mem::take(&mut new.pools);
        for pool in &mut self.pools {
            if let Some(place) = old.iter().position(|old| old.is_same(pool)) {
                pool.go_on(old.swap_remove(place));
            }
        }
        let profiles = new.profiles.values();
        let reserved: BTreeSet<Hnp> = profiles.flat_map(|p| p.prefixes.clone()).collect();
        for pool in &mut self.pools {
            for hnp in self.reserved.difference(&reserved) {
                // One that is in use goes back when it no longer is.
                if self.cache.owner(*hnp).is_none() {
                    pool.put_back(*hnp);
                }
            }
            for hnp in &reserved {
                pool.take(*hnp);
            }
        }
        self.reserved = reserved;
    }

    fn replace_peers(&mut self, new: &LmaConfig) {
        for peer in &new.peers {
            let known = self.peers.get(&peer.proxy_coa);
            if known.is_none_or(|known| known.dialect != peer.dialect) {
                let state = Peer::new(peer, &mut self.random);
                self.peers.insert(peer.proxy_coa, state);
            }
        }
        let stays = |known: &&ProxyCoa| !new.peers.iter().any(|p| p.proxy_coa == **known);
        let gone: Vec<ProxyCoa> = self.peers.keys().filter(stays).copied().collect();
        for proxy_coa in gone {
            self.peers.remove(&proxy_coa);
            self.freed.remove(&proxy_coa);
            self.bound.remove(&proxy_coa);
            self.heartbeats.forget(proxy_coa.0);
        }
        let local = self.config.lmaas.first().map(|lmaa| lmaa.0);
        for (peer, local) in new.peers.iter().filter_map(|peer| Some((peer, local?))) {
            if self
                .heartbeats
                .watch(peer.proxy_coa.0, local, &mut self.random)
            {
                self.heartbeats.announce(peer.proxy_coa.0, &mut self.outbox);
            }
        }
    }
}
