//! Mobiles with the traffic of their prefixes: `GET /v1/mobiles`.

use std::collections::{BTreeMap, BTreeSet};

use flow::{BindingCounters, Hnp, MnId, Role};
use pmip_proto::{Lma, Mag};

use super::control::Control;
use super::reports::Complete;
use super::rows::MAX_COUNTED_PREFIXES;
use crate::api::mobiles::{MobileRow, MobileTraffic};

/// What the tables have of one mobile.
#[derive(Debug, Default)]
struct Held {
    accesses: usize,
    flows: usize,
    prefixes: BTreeSet<Hnp>,
}

impl Control {
    fn mobiles(&self) -> BTreeMap<(Role, MnId), Held> {
        let mut mobiles: BTreeMap<(Role, MnId), Held> = BTreeMap::new();
        for (mn_id, bce) in self.lma.as_deref().into_iter().flat_map(Lma::bindings) {
            let held = mobiles.entry((Role::Lma, mn_id.clone())).or_default();
            held.accesses += 1;
            held.prefixes.extend(&bce.hnps);
        }
        for (mn_id, ..) in self.lma.as_deref().into_iter().flat_map(Lma::flows) {
            let held = mobiles.entry((Role::Lma, mn_id.clone())).or_default();
            held.flows += 1;
        }
        for bule in self.mag.as_deref().into_iter().flat_map(Mag::bul) {
            let mn_id = bule.attachment.mn_id.clone();
            let held = mobiles.entry((Role::Mag, mn_id)).or_default();
            held.accesses += 1;
            held.flows += bule.flows.len();
            held.prefixes.extend(&bule.hnps);
            held.prefixes.extend(bule.off_link());
        }
        mobiles
    }

    /// The prefixes whose counters are asked for; those of the first mobiles, if there are many.
    pub(super) fn mobile_prefixes(&self) -> Vec<(Role, Hnp)> {
        let mobiles = self.mobiles();
        let all = mobiles
            .iter()
            .flat_map(|((role, _), held)| held.prefixes.iter().map(|hnp| (*role, *hnp)));
        all.take(MAX_COUNTED_PREFIXES).collect()
    }

    pub(super) fn mobile_rows(&self, complete: &Complete) -> Vec<MobileRow> {
        let row = |((role, mn), held): ((Role, MnId), Held)| {
            let of = |hnp| complete.bindings.get(&(role, hnp));
            let counters: Option<Vec<&BindingCounters>> =
                held.prefixes.iter().copied().map(of).collect();
            MobileRow {
                role,
                mn,
                accesses: held.accesses,
                flows: held.flows,
                traffic: counters.map(|counters| sum(&counters)),
            }
        };
        self.mobiles().into_iter().map(row).collect()
    }
}

fn sum(counters: &[&BindingCounters]) -> MobileTraffic {
    let all = |of: fn(&BindingCounters) -> u64| counters.iter().map(|counters| of(counters)).sum();
    MobileTraffic {
        downlink_packets: all(|c| c.downlink_packets),
        downlink_octets: all(|c| c.downlink_octets),
        uplink_packets: all(|c| c.uplink_packets),
        uplink_octets: all(|c| c.uplink_octets),
    }
}
