//! What the workers of a MAG need to know, made from the binding update list.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use flow::{Binding, Hnp, Link, Lmaa, MacAddr, MobileId, Path, PathId, PortId};
use serde::{Deserialize, Serialize};

use super::bul::{Bul, Bule};
use crate::config::MagConfig;
use crate::event::MagEvent;
use crate::outbox::Outbox;
use crate::table::PathTable;

/// What tells paths of a MAG apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
enum PathKey {
    /// The tunnel to an LMA.
    Tunnel(Lmaa),
    /// The point-to-point link to a mobile.
    Link(PortId, MacAddr),
}

/// The routes of a MAG: prefixes to links, links to tunnels (RFC 5213 §6.10).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Routes {
    paths: PathTable<PathKey>,
    owners: BTreeMap<Hnp, MobileId>,
}

impl Routes {
    /// A prefix, with an address in common with `hnp`, that is routed to another mobile.
    pub(crate) fn conflict(&self, hnp: Hnp, mobile: MobileId) -> Option<(Hnp, MobileId)> {
        // Those inside `hnp` come at it and after it.
        let mut inside = self
            .owners
            .range(hnp..)
            .take_while(|(other, _)| other.overlaps(hnp));
        // Routes overlap only if they are one mobile's, so between a route around `hnp` and `hnp` all are
        // that mobile's.
        let mut before = self
            .owners
            .range((Bound::Unbounded, Bound::Excluded(hnp)))
            .rev()
            .peekable();
        let nearest = before.peek().map(|(_, owner)| **owner);
        let mut around = before
            .take_while(|(_, owner)| Some(**owner) == nearest)
            .filter(|_| nearest != Some(mobile));
        let other = inside
            .find(|(_, owner)| **owner != mobile)
            .or_else(|| around.find(|(other, _)| other.overlaps(hnp)))?;
        Some((*other.0, *other.1))
    }

    /// Prefixes that are not routed to the mobile yet.
    pub(crate) fn missing(&self, hnps: &[Hnp], mobile: MobileId) -> usize {
        let here = |hnp: &&Hnp| self.owners.get(hnp) == Some(&mobile);
        hnps.len() - hnps.iter().filter(here).count()
    }

    /// The mobile that a prefix is routed to.
    pub(crate) fn owner(&self, hnp: Hnp) -> Option<MobileId> {
        self.owners.get(&hnp).copied()
    }

    /// Prefixes routed.
    pub(crate) fn len(&self) -> usize {
        self.owners.len()
    }

    /// Brings what the workers know about a mobile up to date, and says no more than needed.
    pub(crate) fn update(
        &mut self,
        bul: &mut Bul,
        mobile: MobileId,
        config: &MagConfig,
        outbox: &mut Outbox<MagEvent>,
    ) {
        let ids = bul.sessions_of(mobile);
        let sessions = ids.iter().filter_map(|id| bul.sessions.get(id));
        let sessions: Vec<&Bule> = sessions.filter(|bule| bule.is_routed()).collect();
        let mut hnps: BTreeSet<Hnp> = BTreeSet::new();
        for bule in &sessions {
            hnps.extend(&bule.hnps);
            hnps.extend(bule.off_link());
        }
        let bindings: Vec<(Hnp, Option<Binding>)> = hnps
            .iter()
            .map(|hnp| (*hnp, self.binding(*hnp, &sessions, config, outbox)))
            .collect();
        let Some(entry) = bul.mobiles.get_mut(&mobile) else {
            return;
        };
        for (hnp, binding) in bindings {
            entry.installed.set(hnp, binding, &mut self.paths, outbox);
            self.owners.insert(hnp, mobile);
        }
        let gone: Vec<Hnp> = entry
            .installed
            .hnps()
            .filter(|h| !hnps.contains(h))
            .collect();
        for hnp in gone {
            entry.installed.set(hnp, None, &mut self.paths, outbox);
            self.owners.remove(&hnp);
        }
        self.paths.sweep(outbox);
    }

    /// All there is to know about one prefix.
    fn binding(
        &mut self,
        hnp: Hnp,
        sessions: &[&Bule],
        config: &MagConfig,
        outbox: &mut Outbox<MagEvent>,
    ) -> Option<Binding> {
        // Downlink packets take the interface whose prefix it is, or else the first that it was
        // granted to; uplink packets may come from any of them.
        let own = sessions.iter().filter(|bule| bule.hnps.contains(&hnp));
        let granted = sessions
            .iter()
            .filter(|bule| bule.off_link().contains(&hnp));
        let users: Vec<&&Bule> = own.chain(granted).collect();
        let first = users.first()?;
        // Of a prefix that was granted for some flows, the others are not for this access.
        let local = config.local_routing && first.hnps.contains(&hnp);
        let links = users.iter().map(|bule| self.link(bule, outbox));
        let links: Vec<PathId> = links.collect::<Option<_>>()?;
        let default_path = links.first().copied();
        let mut sources = links;
        sources.sort_unstable();
        sources.dedup();
        sources.truncate(Binding::MAX_SOURCES);
        Some(Binding {
            mobile: first.mobile,
            default_path,
            sources,
            uplink: Some(self.tunnel(first.lmaa, config, outbox)?),
            local,
            rules: Vec::new(),
        })
    }

    /// Tells the workers of tunnels to LMAs with other options than in `old`.
    pub(crate) fn renew(&self, old: &MagConfig, new: &MagConfig, outbox: &mut Outbox<MagEvent>) {
        let options = |config: &MagConfig, lmaa| {
            let peer = config.lmas.iter().find(|peer| peer.lmaa == lmaa);
            peer.map(|peer| peer.tunnel)
        };
        let changed = |key| match key {
            PathKey::Tunnel(lmaa) => {
                let now = options(new, lmaa)?;
                (options(old, lmaa) != Some(now)).then(|| now.path(new.proxy_coa.0, lmaa.0))
            }
            PathKey::Link(..) => None,
        };
        self.paths.renew(changed, outbox);
    }

    /// Whether the mobile's link has a path, or can be given one.
    pub(crate) fn has_room_for(&self, bule: &Bule) -> bool {
        let (port, mac) = bule.link();
        self.paths.has_room_for(PathKey::Link(port, mac))
    }

    fn link(&mut self, bule: &Bule, outbox: &mut Outbox<MagEvent>) -> Option<PathId> {
        let (port, mac) = bule.link();
        let path = || Path::Link(Link { port, mac });
        self.paths.resolve(PathKey::Link(port, mac), path, outbox)
    }

    fn tunnel(
        &mut self,
        lmaa: Lmaa,
        config: &MagConfig,
        outbox: &mut Outbox<MagEvent>,
    ) -> Option<PathId> {
        let peer = config.lmas.iter().find(|peer| peer.lmaa == lmaa)?;
        let path = || peer.tunnel.path(config.proxy_coa.0, lmaa.0);
        self.paths.resolve(PathKey::Tunnel(lmaa), path, outbox)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hnp(text: &str) -> Hnp {
        let (address, len) = text.split_once('/').unwrap();
        Hnp::new(address.parse().unwrap(), len.parse().unwrap()).unwrap()
    }

    #[test]
    fn routes_that_meet_another_mobiles_are_found_behind_its_others() {
        let mine = ["2000::/8", "2001:db8:1::/48", "2001:db8:1:2::/64"].map(hnp);
        let others = hnp("3000:db8::/64");
        let mut owners = BTreeMap::from(mine.map(|hnp| (hnp, MobileId(1))));
        owners.insert(others, MobileId(2));
        let routes = Routes {
            owners,
            ..Routes::default()
        };
        let met = |prefix: &str, mobile| {
            let met = routes.conflict(hnp(prefix), MobileId(mobile));
            met.map(|(hnp, _)| hnp)
        };
        // Around it, and not the nearest before it.
        assert_eq!(met("2001:db8:9::/64", 2), Some(mine[0]));
        assert_eq!(met("2001:db8:9::/64", 1), None);
        assert_eq!(met("2001:db8:1:2::1/128", 2), Some(mine[2]));
        // Inside it, and behind the mobile's own.
        assert_eq!(met("::/0", 1), Some(others));
        assert_eq!(met("::/0", 2), Some(mine[0]));
        assert_eq!(met("3000:db8:0:1::/64", 1), None);
    }
}
