//! Which addresses are ours.

use flow::PortId;

use crate::packet::header::scope;
use crate::table::hash::halves;

/// The appliance's own addresses.
#[derive(Debug, Default)]
pub(crate) struct OwnAddresses {
    /// Each with its port, unless it is a tunnel end that no port has.
    list: Vec<(u128, Option<PortId>)>,
    /// One bit for each address: nearly all packets are told apart by it alone.
    filter: [u64; 16],
    /// Upper half and mask of the longest prefix that holds all plain ones: packets to mobiles and from them are
    /// mostly told apart by this.
    plain: (u64, u64),
}

impl OwnAddresses {
    /// Adds an address.
    pub(crate) fn add(&mut self, address: u128, port: Option<PortId>) {
        if !self.list.contains(&(address, port)) {
            self.list.push((address, port));
            let (word, bit) = Self::place(address);
            if let Some(word) = self.filter.get_mut(word) {
                *word |= bit;
            }
            let all = self.list.iter().map(|(own, _)| *own);
            let mut plain = all.filter(|own| scope::is_plain(*own));
            if let Some(first) = plain.next() {
                let apart = plain.fold(0, |apart, own| apart | (first ^ own));
                let ([_, upper], [_, apart]) = (halves(first), halves(apart));
                let mask = !u64::MAX.unbounded_shr(apart.leading_zeros());
                self.plain = (upper & mask, mask);
            }
        }
    }

    /// The word of the filter and the bit in it that an address has.
    #[inline(always)]
    fn place(address: u128) -> (usize, u64) {
        let [low, high] = halves(address);
        let mixed = (low ^ high).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed >> 60) as usize, 1 << (mixed >> 54 & 63))
    }

    /// Whether `address` might be ours.
    #[inline(always)]
    pub(crate) fn may_contain(&self, address: u128) -> bool {
        let (word, bit) = Self::place(address);
        self.filter.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Whether `address`, which is plain, might be ours.
    #[inline(always)]
    pub(crate) fn may_contain_plain(&self, address: u128) -> bool {
        let ([_, upper], (network, mask)) = (halves(address), self.plain);
        upper & mask == network && self.may_contain(address)
    }

    /// Whether packets to `address` that come in on `port` are for us: any address of ours on any
    /// port, but a link-local one only on its own.
    #[inline(always)]
    pub(crate) fn contains(&self, address: u128, port: PortId) -> bool {
        self.may_contain(address)
            && self.list.iter().any(|(own, on)| {
                *own == address && (!scope::is_link_local(address) || *on == Some(port))
            })
    }

    /// Whether `address` is ours on any port.
    pub(crate) fn is_ours(&self, address: u128) -> bool {
        self.list.iter().any(|(own, _)| *own == address)
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = u128> {
        self.list.iter().map(|(own, _)| *own)
    }

    /// Whether any of our addresses lies in a prefix.
    pub(crate) fn any_in(&self, network: u128, mask: u128) -> bool {
        self.list.iter().any(|(own, _)| own & mask == network)
    }

    /// Whether `address` is ours on this very port.
    pub(crate) fn is_on(&self, address: u128, port: PortId) -> bool {
        self.list.contains(&(address, Some(port)))
    }

    /// Whether `address` is a tunnel end that no port has.
    pub(crate) fn is_portless(&self, address: u128) -> bool {
        self.list.contains(&(address, None))
    }

    /// Whether we hear `group` on `port` (RFC 4291 §2.8).
    pub(super) fn listens(&self, group: u128, port: PortId) -> bool {
        group == scope::ALL_NODES
            || group == scope::ALL_ROUTERS
            || self.list.iter().any(|(own, on)| {
                on.is_none_or(|on| on == port) && scope::solicited_node(*own) == group
            })
    }

    /// An address to send from on `port` to a destination of this scope.
    pub(crate) fn source(&self, port: PortId, link_local: bool) -> Option<u128> {
        let mut on_port = self.list.iter().filter(|(_, on)| *on == Some(port));
        let of_scope =
            |(own, _): &&(u128, Option<PortId>)| scope::is_link_local(*own) == link_local;
        let any = || {
            let mut all = self.list.iter().filter(|_| !link_local);
            all.find(of_scope)
        };
        on_port.find(of_scope).or_else(any).map(|(own, _)| *own)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_plain_address_of_ours_is_missed(
            all in prop::collection::vec((any::<u128>(), 0..70_u32), 1..8),
        ) {
            // Those with many bits in common, too.
            let base = 0x2001_0db8_u128 << 96;
            let mut own = OwnAddresses::default();
            for (bits, shift) in &all {
                own.add(base ^ (bits >> shift), None);
            }
            for (bits, shift) in all {
                let address = base ^ (bits >> shift);
                prop_assert!(own.contains(address, PortId(0)) || scope::is_link_local(address));
                prop_assert!(own.may_contain_plain(address) || !scope::is_plain(address));
            }
        }
    }
}
