//! Bindings on their way to a worker.

use flow::{Binding, Fid};

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
}

impl Packed {
    /// Packs a binding.
    ///
    /// # Errors
    /// [`TableError`] if it is not well formed.
    pub(crate) fn of(binding: &Binding) -> Result<Self, TableError> {
        check(binding)?;
        Ok(Self {
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

    /// Fetches it from the core that made it.
    pub(crate) fn prefetch(&self) {
        prefetch(&self.down);
        prefetch(&self.up);
        prefetch(&self.rules);
    }

    /// Takes over the counters of what it replaces.
    pub(super) fn carry_over(&mut self, down: &Downlink, up: &Uplink, rules: Option<&RuleSet>) {
        (self.down.packets, self.down.octets) = (down.packets, down.octets);
        (self.up.packets, self.up.octets) = (up.packets, up.octets);
        let of = |fid: Fid| {
            let mut inline = record::rule_hits(down, up);
            let hits = match rules {
                Some(rules) => rules.counters().find(|(held, _)| *held == fid),
                None => inline.find(|(held, _)| *held == fid),
            };
            hits.map_or(0, |(_, hits)| hits)
        };
        record::set_rule_hits(&mut self.down, &mut self.up, of);
        self.rules.set_counters(of);
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
