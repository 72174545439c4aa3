//! What the workers of an LMA need to know, made from the binding cache and the flow mobility cache.

use std::collections::{BTreeMap, BTreeSet};

use flow::{Binding, Hnp, Lmaa, Path, PathId, ProxyCoa, Rule, RuleAction};
use serde::{Deserialize, Serialize};

use super::binding_cache::{Bce, Mobile};
use crate::config::{MagPeer, TunnelConfig};
use crate::event::LmaEvent;
use crate::outbox::Outbox;
use crate::selector::can_match;
use crate::table::{Installed, PathTable};

/// The tunnels of an LMA, shared by all mobiles (RFC 5213 §5.6.1).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tunnels {
    paths: PathTable<(Lmaa, ProxyCoa)>,
    configs: BTreeMap<ProxyCoa, TunnelConfig>,
}

impl Tunnels {
    pub(crate) fn new(configs: BTreeMap<ProxyCoa, TunnelConfig>) -> Self {
        Self {
            paths: PathTable::default(),
            configs,
        }
    }

    /// Takes other options; the workers are told of tunnels in use that they change.
    pub(crate) fn reconfigure(&mut self, peers: &[MagPeer], outbox: &mut Outbox<LmaEvent>) {
        let new = peers.iter().map(|peer| (peer.proxy_coa, peer.tunnel));
        let old = std::mem::replace(&mut self.configs, new.collect());
        let changed = |(lmaa, proxy_coa): (Lmaa, ProxyCoa)| {
            let options = self.configs.get(&proxy_coa)?;
            (old.get(&proxy_coa) != Some(options)).then(|| tunnel(&self.configs, (lmaa, proxy_coa)))
        };
        self.paths.renew(changed, outbox);
    }

    /// Tunnels in use.
    pub(crate) fn len(&self) -> usize {
        self.paths.len()
    }

    /// The ends of a tunnel in use.
    pub(crate) fn ends(&self, id: PathId) -> Option<(Lmaa, ProxyCoa)> {
        self.paths.key(id)
    }

    /// Brings what the workers know about a mobile's prefixes up to date, and says no more than needed.
    pub(crate) fn update(&mut self, mobile: &mut Mobile, outbox: &mut Outbox<LmaEvent>) {
        let mut installed = std::mem::take(&mut mobile.installed);
        let hnps = mobile.hnps();
        for hnp in hnps.iter() {
            let binding = self.binding(mobile, *hnp, outbox);
            installed.set(*hnp, Some(binding), &mut self.paths, outbox);
        }
        let gone: Vec<Hnp> = installed.hnps().filter(|h| !hnps.contains(h)).collect();
        drop(hnps);
        for hnp in gone {
            installed.set(hnp, None, &mut self.paths, outbox);
        }
        mobile.installed = installed;
        self.paths.sweep(outbox);
    }

    /// A prefix that this was told of is another mobile's.
    pub(crate) fn forget(&mut self, installed: &mut Installed, hnp: Hnp) {
        installed.forget(hnp, &mut self.paths);
    }

    /// Takes all bindings of a mobile out of force.
    pub(crate) fn withdraw(&mut self, installed: &mut Installed, outbox: &mut Outbox<LmaEvent>) {
        let all: Vec<Hnp> = installed.hnps().collect();
        for hnp in all {
            installed.set(hnp, None, &mut self.paths, outbox);
        }
        self.paths.sweep(outbox);
    }

    /// All there is to know about one prefix.
    pub(crate) fn binding(
        &mut self,
        mobile: &Mobile,
        hnp: Hnp,
        outbox: &mut Outbox<LmaEvent>,
    ) -> Binding {
        let owners = || mobile.active().filter(|s| s.owns(hnp));
        let default = mobile.default_access(hnp);
        let default_path = default.and_then(|s| self.path(s, outbox));

        // After a move, packets *from* a prefix come through a MAG whose session does not own it.
        let granted = mobile.active().filter(|s| s.sync.has_granted(hnp));
        let mut sources = Vec::new();
        for session in owners().chain(granted) {
            let path = self.path(session, outbox);
            sources.extend(path.filter(|path| !sources.contains(path)));
        }
        sources.sort_unstable();
        sources.truncate(Binding::MAX_SOURCES);

        let mut rules = Vec::new();
        for flow in &mobile.flows {
            let at = mobile.active_session(flow.bid);
            let at =
                at.filter(|at| can_match(&flow.selector, hnp) && mobile.may_use(flow, at, hnp));
            if let Some(path) = at.and_then(|at| self.path(at, outbox)) {
                rules.push(Rule {
                    fid: flow.fid,
                    priority: flow.priority,
                    selector: flow.selector.clone(),
                    action: RuleAction::Forward(path),
                });
            }
        }
        rules.truncate(Binding::MAX_RULES);
        Binding {
            mobile: mobile.id,
            default_path,
            sources,
            uplink: None,
            local: false,
            rules,
        }
    }

    fn path(&mut self, session: &Bce, outbox: &mut Outbox<LmaEvent>) -> Option<PathId> {
        let key = (session.lmaa, session.proxy_coa);
        self.paths
            .resolve(key, || tunnel(&self.configs, key), outbox)
    }
}

fn tunnel(configs: &BTreeMap<ProxyCoa, TunnelConfig>, (lmaa, proxy_coa): (Lmaa, ProxyCoa)) -> Path {
    let options = configs.get(&proxy_coa).copied();
    options.unwrap_or_default().path(lmaa.0, proxy_coa.0)
}

/// The prefixes that may go back to their pool: nobody owns them, and no MAG may still route them to
/// this mobile.
pub(crate) fn retired(mobile: &Mobile) -> BTreeSet<Hnp> {
    let routed = |hnp: Hnp| mobile.sessions.iter().any(|s| s.sync.may_hold(hnp));
    let retiring = mobile.retiring.iter().copied();
    retiring.filter(|hnp| !routed(*hnp)).collect()
}
