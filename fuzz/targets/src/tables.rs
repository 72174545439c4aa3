//! A worker's tables as the state machines' commands describe them, and what must hold of those.

use std::collections::{BTreeMap, BTreeSet};

use flow::{Binding, Hnp, Path, PathId, RuleAction, TableUpdate};

/// Paths and bindings in force.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    paths: BTreeMap<PathId, Path>,
    bindings: BTreeMap<Hnp, Binding>,
}

impl Tables {
    /// Applies an update after checking that a worker could.
    pub(crate) fn apply(&mut self, update: TableUpdate) {
        match update {
            TableUpdate::Path {
                id,
                path: Some(path),
            } => {
                self.paths.insert(id, path);
            }
            TableUpdate::Path { id, path: None } => {
                assert!(self.paths.remove(&id).is_some(), "{id:?} was there");
                let named = self.bindings.values().any(|b| names(b).contains(&id));
                assert!(!named, "{id:?} is removed and still named");
            }
            TableUpdate::Binding {
                hnp,
                binding: Some(binding),
            } => {
                self.check(&binding);
                self.bindings.insert(hnp, *binding);
            }
            TableUpdate::Binding { hnp, binding: None } => {
                assert!(self.bindings.remove(&hnp).is_some(), "{hnp} was there");
            }
        }
    }

    fn check(&self, binding: &Binding) {
        let unknown = names(binding)
            .into_iter()
            .find(|id| !self.paths.contains_key(id));
        assert_eq!(unknown, None);
        assert!(binding.sources.len() <= Binding::MAX_SOURCES);
        assert!(binding.sources.is_sorted_by(|a, b| a < b), "{binding:?}");
        let default = binding.default_path;
        assert!(default.is_none_or(|path| binding.sources.contains(&path)));
        assert!(binding.rules.len() <= Binding::MAX_RULES);
        assert!(binding.rules.is_sorted_by(|a, b| a.priority < b.priority));
        for rule in &binding.rules {
            assert_eq!(rule.selector.validate(), Ok(()));
        }
    }

    /// The prefixes that have a binding.
    pub(crate) fn hnps(&self) -> BTreeSet<Hnp> {
        self.bindings.keys().copied().collect()
    }

    /// Every path is there for a binding's sake.
    pub(crate) fn check_swept(&self) {
        let named: BTreeSet<PathId> = self.bindings.values().flat_map(names).collect();
        let unnamed = self.paths.keys().find(|id| !named.contains(id));
        assert_eq!(unnamed, None);
    }

    /// How many paths there are.
    pub(crate) fn paths(&self) -> usize {
        self.paths.len()
    }
}

/// The paths that a binding names.
fn names(binding: &Binding) -> BTreeSet<PathId> {
    let rules = binding.rules.iter().filter_map(|rule| match rule.action {
        RuleAction::Forward(id) => Some(id),
        RuleAction::Drop => None,
    });
    let sources = binding.sources.iter().copied();
    let others = binding.default_path.into_iter().chain(binding.uplink);
    sources.chain(others).chain(rules).collect()
}
