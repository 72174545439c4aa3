//! Which access each flow's downlink came over: a bounded memory (RFC 7847 §5.2).

use std::collections::HashMap;

use super::AccessId;
use nd::packet::FiveTuple;

/// One flow, named by its uplink packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Flow {
    /// Where its last downlink packet arrived.
    pub(crate) access: AccessId,
    /// Downlink packets.
    pub(crate) downlink: u64,
    /// Uplink packets.
    pub(crate) uplink: u64,
    /// How often its downlink came to another access.
    pub(crate) moves: u32,
}

/// Flows with downlink history, at most `capacity`. When it is full, the half that has been silent
/// longest is forgotten: a flow in use is always in the younger half.
#[derive(Debug)]
pub(crate) struct FlowTable {
    young: HashMap<FiveTuple, Flow>,
    old: HashMap<FiveTuple, Flow>,
    half: usize,
}

impl FlowTable {
    /// An empty table for `capacity` flows, at least two.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            half: (capacity / 2).max(1),
        }
    }

    /// A downlink packet arrived on `access`; `flow` names it by its addresses as uplink packets
    /// have them. The result is the access of those before it, if that was another one.
    pub(crate) fn downlink(&mut self, flow: FiveTuple, access: AccessId) -> Option<AccessId> {
        let entry = self.touch(flow, access);
        entry.downlink += 1;
        let before = std::mem::replace(&mut entry.access, access);
        let moved = before != access;
        entry.moves += u32::from(moved);
        moved.then_some(before)
    }

    /// Where an uplink packet of `flow` should go, if it has history; counts the packet.
    pub(crate) fn uplink(&mut self, flow: &FiveTuple) -> Option<AccessId> {
        let known = self.young.get(flow).or_else(|| self.old.get(flow))?.access;
        let entry = self.touch(*flow, known);
        entry.uplink += 1;
        Some(entry.access)
    }

    /// All flows, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&FiveTuple, &Flow)> {
        self.young.iter().chain(&self.old)
    }

    /// Flows remembered.
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    fn touch(&mut self, flow: FiveTuple, access: AccessId) -> &mut Flow {
        if !self.young.contains_key(&flow) && self.young.len() >= self.half {
            let aged = std::mem::take(&mut self.young);
            let mut kept = std::mem::replace(&mut self.old, aged);
            // The flow at hand may be in the half that is being forgotten.
            if let Some(entry) = kept.remove(&flow) {
                self.young.insert(flow, entry);
            }
        }
        let old = &mut self.old;
        self.young.entry(flow).or_insert_with(|| {
            old.remove(&flow).unwrap_or(Flow {
                access,
                downlink: 0,
                uplink: 0,
                moves: 0,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv6Addr;

    fn flow(port: u16) -> FiveTuple {
        FiveTuple {
            source: Ipv6Addr::LOCALHOST,
            destination: Ipv6Addr::LOCALHOST,
            protocol: 17,
            ports: Some((port, 1)),
        }
    }

    #[test]
    fn uplink_follows_the_last_downlink() {
        let mut table = FlowTable::new(8);
        assert_eq!(table.uplink(&flow(1)), None);
        assert_eq!(table.downlink(flow(1), AccessId(1)), None);
        assert_eq!(table.uplink(&flow(1)), Some(AccessId(1)));
        assert_eq!(table.downlink(flow(1), AccessId(0)), Some(AccessId(1)));
        assert_eq!(table.uplink(&flow(1)), Some(AccessId(0)));
        let (_, entry) = table.iter().next().unwrap();
        assert_eq!((entry.downlink, entry.uplink, entry.moves), (2, 2, 1));
    }

    proptest! {
        #[test]
        fn the_table_is_bounded_and_keeps_the_newest(
            ports in prop::collection::vec(0_u16..100, 1..400), capacity in 2_usize..20,
        ) {
            let mut table = FlowTable::new(capacity);
            let mut recent: Vec<u16> = Vec::new();
            for port in ports {
                table.downlink(flow(port), AccessId(0));
                recent.retain(|p| *p != port);
                recent.push(port);
                prop_assert!(table.len() <= capacity);
                // As many as fit one half were used after anything that may be forgotten.
                for kept in recent.iter().rev().take(capacity / 2) {
                    prop_assert!(table.iter().any(|(f, _)| *f == flow(*kept)));
                }
            }
        }
    }
}
