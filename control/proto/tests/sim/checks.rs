//! What must hold at every instant, and in the end.

use std::collections::{BTreeMap, BTreeSet};

use flow::{Hnp, MnId};
use pmip_proto::lma::FlowState;
use pmip_proto::mag::BuleState;

use crate::world::{COAS, World, mac, packet};

impl World {
    /// What must hold at every instant.
    pub(crate) fn check(&self) {
        let mut owners: BTreeMap<Hnp, MnId> = BTreeMap::new();
        for (mn_id, bce) in self.lma.bindings() {
            for hnp in &bce.hnps {
                let other = owners.insert(*hnp, mn_id.clone());
                assert!(other.is_none_or(|o| o == *mn_id), "{hnp} has two mobiles");
            }
        }
        let bound: BTreeSet<Hnp> = self.lma_tables.bindings.keys().copied().collect();
        assert_eq!(
            bound,
            owners.keys().copied().collect(),
            "bindings are the sessions' prefixes"
        );
        self.check_flows(&owners);
        for mag in 0..self.mags.len() {
            self.check_mag(mag, &owners);
        }
    }

    /// A flow's packets go to a MAG that hosts the prefix or has acknowledged the flow, and the
    /// mobile may answer from there.
    fn check_flows(&self, owners: &BTreeMap<Hnp, MnId>) {
        for (hnp, name) in owners {
            let view = self.lma.binding(name).unwrap();
            for coa in COAS {
                let there = view.sessions.iter().filter(|s| s.proxy_coa == coa);
                let signalling = there.filter(|s| s.is_signalling()).count();
                assert!(signalling <= 1, "two FMIs to {coa} for {name}");
            }
            for flow in view.flows {
                let port = flow
                    .selector
                    .ipv6()
                    .unwrap()
                    .destination_port
                    .unwrap()
                    .start;
                let key = packet(*hnp, port);
                // Another flow, or none, may have the packet.
                if self.lma_tables.rule(*hnp, &key) != Some(flow.fid) {
                    continue;
                }
                let Some(path) = self.lma_tables.downlink(*hnp, &key) else {
                    continue;
                };
                let mag = Self::mag_at(path).unwrap();
                assert!(
                    self.lma_tables.sources(*hnp).contains(&path),
                    "{name} may not answer from where {hnp} is sent to"
                );
                let hosts = view
                    .sessions
                    .iter()
                    .any(|s| s.is_active() && s.proxy_coa == COAS[mag] && s.owns(*hnp));
                assert!(
                    hosts || self.has_acknowledged(mag, name, &flow.selector, *hnp),
                    "flow {} of {name} to {hnp} goes to MAG {mag}, which has not acknowledged it: \
                     {:?}",
                    flow.fid,
                    flow.selector
                );
            }
        }
    }

    /// A MAG routes a prefix to nobody but the mobile that the LMA says it is.
    fn check_mag(&self, mag: usize, owners: &BTreeMap<Hnp, MnId>) {
        for route in self.mags[mag].routes() {
            assert!(self.mag_tables[mag].bindings.contains_key(&route.hnp));
            let owner = owners.get(&route.hnp);
            assert!(
                owner.is_none_or(|owner| owner == route.mn_id),
                "MAG {mag} routes {} to {} and the LMA says it is of {owner:?}",
                route.hnp,
                route.mn_id
            );
        }
        for hnp in self.mag_tables[mag].bindings.keys() {
            assert!(
                self.mags[mag].routes().any(|r| r.hnp == *hnp),
                "{hnp} is a ghost"
            );
        }
    }

    /// What must hold once nothing happens any more: everybody believes the same.
    pub(crate) fn check_agreement(&self) {
        let mut lma = BTreeSet::new();
        let mut grants = BTreeSet::new();
        for (mn_id, bce) in self.lma.bindings() {
            assert!(bce.is_active(), "{mn_id} is still being deregistered");
            let mag = COAS.iter().position(|coa| *coa == bce.proxy_coa).unwrap();
            let interface = bce.ll_id.clone().unwrap();
            for hnp in bce.granted() {
                grants.insert((mag, mn_id.clone(), interface.clone(), hnp));
            }
            lma.insert((mag, mn_id.clone(), interface, bce.hnps.clone()));
        }
        let mut mags = BTreeSet::new();
        let mut routes = BTreeSet::new();
        for (mag, state) in self.mags.iter().enumerate() {
            for bule in state.bul() {
                assert_eq!(bule.state, BuleState::Active, "{:?}", bule.attachment);
                let name = bule.attachment.mn_id.clone();
                let interface = bule.attachment.ll_id.clone().unwrap();
                for hnp in bule.off_link() {
                    routes.insert((mag, name.clone(), interface.clone(), hnp));
                }
                mags.insert((mag, name, interface, bule.hnps.clone()));
            }
        }
        assert_eq!(lma, mags, "binding cache and binding update lists");
        assert!(
            grants.is_subset(&routes),
            "{grants:?} granted, {routes:?} routed"
        );
        let known = |(_, mn_id, _, _): &&(_, _, _, _)| !self.contested.contains(mn_id);
        let grants: BTreeSet<_> = grants.iter().filter(known).collect();
        let routes: BTreeSet<_> = routes.iter().filter(known).collect();
        assert_eq!(grants, routes, "granted prefixes and off-link routes");
        let real = self
            .attached
            .iter()
            .map(|((mn_id, i), mag)| (*mag, mn_id.clone(), mac(mn_id, *i)));
        let known = lma
            .iter()
            .map(|(mag, mn_id, ll, _)| (*mag, mn_id.clone(), ll.mac().unwrap()));
        assert_eq!(
            real.collect::<BTreeSet<_>>(),
            known.collect(),
            "who is attached"
        );
        for (mn_id, flow, state) in self.lma.flows() {
            assert!(
                flow.moving.is_none(),
                "{mn_id} {} is still moving",
                flow.fid
            );
            assert_ne!(state, FlowState::Pending, "{mn_id} {} waits", flow.fid);
        }
    }
}
