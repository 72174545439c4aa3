//! One role of the process: its tunnel ends, its prefix pools, its tables.

use std::net::Ipv6Addr;

use flow::{Binding, Hnp};
use ipnet::Ipv6Net;

use crate::config::{LmaConfig, MagConfig};
use crate::table::other::mask;
use crate::table::{Slot, Table, TableError};

/// An anchor or a gateway.
#[derive(Debug)]
pub(crate) struct RoleState {
    pub(crate) table: Table,
    /// Our ends of tunnels.
    pub(crate) addresses: Vec<u128>,
    /// First address and mask of each pool.
    pools: Vec<(u128, u128)>,
    /// Prefixes held that lie in no pool: while there are none, an address outside the pools needs
    /// no lookup.
    outside_pools: usize,
}

impl RoleState {
    pub(crate) fn lma(config: &LmaConfig) -> Self {
        Self::new(&config.addresses, &config.pools, config.expected_bindings)
    }

    pub(crate) fn mag(config: &MagConfig) -> Self {
        Self::new(&config.addresses, &[], config.expected_bindings)
    }

    fn new(addresses: &[Ipv6Addr], pools: &[Ipv6Net], expected: usize) -> Self {
        Self {
            table: Table::new(expected),
            addresses: addresses.iter().map(|a| a.to_bits()).collect(),
            pools: pools
                .iter()
                .map(|pool| (pool.network().to_bits(), mask(pool.prefix_len())))
                .collect(),
            outside_pools: 0,
        }
    }

    #[inline(always)]
    pub(crate) fn in_pool(&self, address: u128) -> bool {
        self.pools
            .iter()
            .any(|(network, mask)| address & mask == *network)
    }

    /// Whether a binding could cover `address`.
    #[inline(always)]
    pub(crate) fn may_hold(&self, address: u128) -> bool {
        self.outside_pools > 0 || self.in_pool(address)
    }

    /// The binding that covers `address`.
    pub(crate) fn lookup(&self, address: u128) -> Option<Slot> {
        self.may_hold(address)
            .then(|| self.table.bindings.lookup(address))
            .flatten()
    }

    /// Creates, replaces or removes a prefix.
    pub(crate) fn set(&mut self, hnp: Hnp, binding: Option<&Binding>) -> Result<(), TableError> {
        let before = self.table.bindings.len();
        match binding {
            Some(binding) => self.table.bindings.set(hnp, binding)?,
            None => {
                self.table.bindings.remove(hnp);
            }
        }
        let whole = |(network, pool): &(u128, u128)| {
            hnp.addr().to_bits() & pool == *network && mask(hnp.len()) & pool == *pool
        };
        if !self.pools.iter().any(whole) {
            self.outside_pools = self.outside_pools + self.table.bindings.len() - before;
        }
        Ok(())
    }
}
