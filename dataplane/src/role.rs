//! One role of the process: its tunnel ends, its prefix pools, its tables.

use std::net::Ipv6Addr;

use flow::Hnp;
use ipnet::Ipv6Net;

use crate::config::{LmaConfig, MagConfig};
use crate::packet::header::scope;
use crate::table::hash::halves;
use crate::table::other::mask;
use crate::table::{Packed, Slot, Table, TableError};

/// No upper half that may be forwarded to is in this pool.
const NO_POOL: (u64, u64) = (0, u64::MAX);

/// An anchor or a gateway.
#[derive(Debug)]
pub(crate) struct RoleState {
    pub(crate) table: Table,
    /// Our ends of tunnels.
    pub(crate) addresses: Vec<u128>,
    /// First address and mask of each pool.
    pools: Vec<(u128, u128)>,
    /// The upper halves of one of them, in which all addresses are mobiles'.
    plain_pool: (u64, u64),
    /// Prefixes held that lie in no pool: while there are none, an address outside the pools needs
    /// no lookup.
    outside_pools: usize,
    /// Whether a prefix may be held that is not in the plain pool.
    elsewhere: bool,
}

impl RoleState {
    pub(crate) fn lma(config: &LmaConfig) -> Self {
        let table = Table::new(config.expected_bindings, config.other_lengths);
        Self::new(&config.addresses, &config.pools, table)
    }

    pub(crate) fn mag(config: &MagConfig) -> Self {
        let table = Table::new(config.expected_bindings, config.other_lengths);
        Self::new(&config.addresses, &[], table)
    }

    fn new(addresses: &[Ipv6Addr], pools: &[Ipv6Net], table: Table) -> Self {
        let mut role = Self {
            table,
            addresses: addresses.iter().map(|a| a.to_bits()).collect(),
            pools: Vec::new(),
            plain_pool: NO_POOL,
            outside_pools: 0,
            elsewhere: true,
        };
        role.set_pools(pools);
        role
    }

    /// Replaces the pools. No prefix in the table may be in one that goes; those that were in none stay
    /// counted as such, which costs lookups and nothing else.
    pub(crate) fn set_pools(&mut self, pools: &[Ipv6Net]) {
        let pool = |pool: &Ipv6Net| (pool.network().to_bits(), mask(pool.prefix_len()));
        self.pools = pools.iter().map(pool).collect();
    }

    /// Looks for a pool that can be told by the upper half of an address, and whose addresses are
    /// neither special nor `own`.
    pub(crate) fn choose_plain_pool(&mut self, own: impl Fn(u128, u128) -> bool) {
        let plain = self.pools.iter().find(|(network, mask)| {
            let [lower, _] = halves(*mask);
            let last = *network | !*mask;
            lower == 0
                && scope::is_plain(*network)
                && scope::is_plain(last)
                && !own(*network, *mask)
        });
        self.plain_pool = plain.map_or(NO_POOL, |(network, mask)| {
            let ([_, network], [_, mask]) = (halves(*network), halves(*mask));
            (network, mask)
        });
        self.note_elsewhere();
    }

    fn note_elsewhere(&mut self) {
        let plain = usize::from(self.plain_pool != NO_POOL);
        self.elsewhere = self.outside_pools > 0 || self.pools.len() > plain;
    }

    /// Upper half and mask of a pool all of whose addresses are mobiles' and may be forwarded to: most
    /// packets are told apart by this alone.
    pub(crate) fn plain_pool(&self) -> Option<(u64, u64)> {
        (self.plain_pool != NO_POOL).then_some(self.plain_pool)
    }

    /// Whether `address` is in that pool.
    #[inline(always)]
    fn in_plain_pool(&self, address: u128) -> bool {
        let [_, upper] = halves(address);
        let (network, mask) = self.plain_pool;
        upper & mask == network
    }

    /// The first addresses of the pools, if all prefixes that are held lie in these.
    pub(crate) fn pools(&self) -> Option<impl Iterator<Item = u128>> {
        let pools = self.pools.iter().map(|(network, _)| *network);
        (self.outside_pools == 0).then_some(pools)
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
        self.in_plain_pool(address) || (self.elsewhere && self.may_hold_elsewhere(address))
    }

    #[inline(never)]
    fn may_hold_elsewhere(&self, address: u128) -> bool {
        self.outside_pools > 0 || self.in_pool(address)
    }

    /// The binding that covers `address`.
    pub(crate) fn lookup(&self, address: u128) -> Option<Slot> {
        self.may_hold(address)
            .then(|| self.table.bindings.lookup(address))
            .flatten()
    }

    /// Creates or replaces a prefix.
    ///
    /// # Errors
    /// As [`Bindings::set`](crate::table::Bindings::set).
    pub(crate) fn set(&mut self, packed: &mut Packed) -> Result<(), TableError> {
        // Special addresses are no mobile's, and whoever looks up an inner address, or a source on an access link, relies on
        // that.
        if scope::has_special(packed.hnp) {
            packed.admit_none();
        }
        let before = self.table.bindings.len();
        self.table.bindings.set(packed)?;
        self.note_outside(packed.hnp, before);
        Ok(())
    }

    /// Removes a prefix, if it is there.
    pub(crate) fn remove(&mut self, hnp: Hnp) {
        let before = self.table.bindings.len();
        self.table.bindings.remove(hnp);
        self.note_outside(hnp, before);
    }

    /// Notes that there were so many prefixes before one came or went that may be in no pool.
    fn note_outside(&mut self, hnp: Hnp, before: usize) {
        let whole = |(network, pool): &(u128, u128)| {
            hnp.addr().to_bits() & pool == *network && mask(hnp.len()) & pool == *pool
        };
        if !self.pools.iter().any(whole) {
            let now = self.outside_pools + self.table.bindings.len();
            self.outside_pools = now.saturating_sub(before);
            self.note_elsewhere();
        }
    }
}
