//! Bindings on their way to a worker.

use flow::{Binding, Fid, Hnp, Role};

use super::TableError;
use super::path::{MAX_PATH, NO_PATH};
use super::prefetch::prefetch;
use super::record::{self, Downlink, Uplink};
use super::rules::RuleSet;

/// A binding as the tables hold it. The control thread makes it, so that a worker only copies.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    pub(super) down: Downlink,
    pub(super) up: Uplink,
    /// Those that do not fit the record.
    pub(super) rules: RuleSet,
    pub(crate) hnp: Hnp,
    pub(crate) role: Role,
}

impl Packed {
    /// Packs the binding of a prefix.
    ///
    /// # Errors
    /// [`TableError`] if it is not well formed.
    pub(crate) fn of(role: Role, hnp: Hnp, binding: &Binding) -> Result<Self, TableError> {
        check(binding)?;
        Ok(Self {
            role,
            hnp,
            down: Downlink::of(binding),
            up: Uplink::of(binding),
            rules: if Downlink::fits(binding) {
                RuleSet::default()
            } else {
                RuleSet::pack(&binding.rules)
            },
        })
    }

    /// Lets nobody send from the prefix, nor, out of a tunnel, to it.
    pub(crate) fn admit_none(&mut self) {
        self.up.sources = [NO_PATH; Binding::MAX_SOURCES];
        self.down.from = NO_PATH;
    }

    /// Takes out rules that do not fit the record; after [`Bindings::set`](super::Bindings::set), those that were replaced.
    pub(crate) fn take_rules(&mut self) -> Option<RuleSet> {
        (!self.rules.is_empty()).then(|| std::mem::take(&mut self.rules))
    }

    /// Fetches from the core that made it what the other fields do not lie beside.
    pub(crate) fn prefetch(&self) {
        prefetch(&self.down);
        prefetch(&self.up);
    }

    /// The records to put in the place of a prefix's, whose counters they take over.
    ///
    /// Those on their way are usually only read: to be written they would have to be fetched once more.
    pub(super) fn instead_of(
        &mut self,
        down: &Downlink,
        up: &Uplink,
        rules: Option<&RuleSet>,
    ) -> (Downlink, Uplink) {
        let (mut new_down, mut new_up) = (self.down, self.up);
        (new_down.packets, new_down.octets) = (down.packets, down.octets);
        (new_up.packets, new_up.octets) = (up.packets, up.octets);
        if rules.is_none()
            && self.rules.is_empty()
            && record::keep_rule_hits(&mut new_down, &mut new_up, down, up)
        {
            return (new_down, new_up);
        }
        let of = |fid: Fid| {
            let mut inline = record::rule_hits(down, up);
            let hits = match rules {
                Some(rules) => rules.counters().find(|(held, _)| *held == fid),
                None => inline.find(|(held, _)| *held == fid),
            };
            hits.map_or(0, |(_, hits)| hits)
        };
        record::set_rule_hits(&mut new_down, &mut new_up, of);
        self.rules.set_counters(of);
        (new_down, new_up)
    }
}

fn check(binding: &Binding) -> Result<(), TableError> {
    if binding.rules.len() > Binding::MAX_RULES {
        return Err(TableError::Rules(binding.rules.len()));
    }
    if binding.sources.len() > Binding::MAX_SOURCES {
        return Err(TableError::Sources(binding.sources.len()));
    }
    let rules = binding.rules.iter().filter_map(|rule| match rule.action {
        flow::RuleAction::Forward(path) => Some(path),
        flow::RuleAction::Drop => None,
    });
    let named = binding.default_path.into_iter().chain(binding.uplink);
    let mut named = named.chain(binding.sources.iter().copied()).chain(rules);
    match named.find(|path| path.0 > MAX_PATH) {
        Some(path) => Err(TableError::PathNumber(path.0)),
        None => Ok(()),
    }
}
