//! What a worker would do with the table updates it is told, and complaints if they make no sense.

use std::collections::BTreeMap;

use flow::{Binding, Fid, FlowKey, Hnp, Path, PathId, RuleAction, TableUpdate};

#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) paths: BTreeMap<PathId, Path>,
    pub(crate) bindings: BTreeMap<Hnp, Binding>,
}

impl Tables {
    /// Applies an update, and checks what the data plane relies on.
    pub(crate) fn apply(&mut self, update: TableUpdate) {
        match update {
            TableUpdate::Path {
                id,
                path: Some(path),
            } => {
                assert!(
                    !self.paths.contains_key(&id),
                    "path {id} is given out twice"
                );
                self.paths.insert(id, path);
            }
            TableUpdate::Path { id, path: None } => {
                assert!(self.paths.remove(&id).is_some(), "path {id} is not there");
                let named = self.bindings.iter().find(|(_, b)| names(b).contains(&id));
                assert!(
                    named.is_none(),
                    "path {id} is removed but named by {named:?}"
                );
            }
            TableUpdate::Binding {
                hnp,
                binding: Some(binding),
            } => {
                for id in names(&binding) {
                    assert!(
                        self.paths.contains_key(&id),
                        "{hnp} names missing path {id}"
                    );
                }
                assert!(binding.sources.len() <= Binding::MAX_SOURCES);
                assert!(binding.rules.is_sorted_by_key(|r| r.priority));
                let old = self.bindings.insert(hnp, *binding.clone());
                assert_ne!(
                    old.as_ref(),
                    Some(&*binding),
                    "{hnp}: an update that changes nothing"
                );
            }
            TableUpdate::Binding { hnp, binding: None } => {
                assert!(self.bindings.remove(&hnp).is_some(), "{hnp} has no binding");
            }
        }
    }

    /// Where a packet to the mobile goes.
    pub(crate) fn downlink(&self, hnp: Hnp, key: &FlowKey) -> Option<Path> {
        let binding = self.bindings.get(&hnp)?;
        let rule = binding.rules.iter().find(|r| r.selector.matches(key));
        let id = match rule.map(|r| r.action) {
            Some(RuleAction::Forward(id)) => Some(id),
            Some(RuleAction::Drop) => None,
            None => binding.default_path,
        };
        id.map(|id| self.paths[&id])
    }

    /// The flow that a packet belongs to.
    pub(crate) fn rule(&self, hnp: Hnp, key: &FlowKey) -> Option<Fid> {
        let rules = &self.bindings.get(&hnp)?.rules;
        rules
            .iter()
            .find(|r| r.selector.matches(key))
            .map(|r| r.fid)
    }

    /// All bindings with what their paths lead to in place of numbers, in words.
    pub(crate) fn resolved(&self) -> Vec<String> {
        let path = |id: PathId| self.paths[&id];
        let bindings = self.bindings.iter().map(|(hnp, binding)| {
            let Binding {
                mobile,
                default_path,
                sources,
                uplink,
                local,
                rules,
            } = binding;
            let mut sources: Vec<_> = sources
                .iter()
                .map(|id| format!("{:?}", path(*id)))
                .collect();
            sources.sort();
            let rules = rules.iter().map(|rule| {
                let to = match rule.action {
                    RuleAction::Forward(id) => Some(path(id)),
                    RuleAction::Drop => None,
                };
                (rule.fid, rule.priority, &rule.selector, to)
            });
            let rules: Vec<_> = rules.collect();
            let ways = (default_path.map(path), uplink.map(path), sources, rules);
            format!("{hnp} {mobile} {local} {ways:?}")
        });
        bindings.collect()
    }

    /// Where packets from a prefix may come from.
    pub(crate) fn sources(&self, hnp: Hnp) -> Vec<Path> {
        let binding = self.bindings.get(&hnp);
        let sources = binding.map(|b| b.sources.clone()).unwrap_or_default();
        sources.iter().map(|id| self.paths[id]).collect()
    }
}

fn names(binding: &Binding) -> Vec<PathId> {
    let rules = binding.rules.iter().filter_map(|r| match r.action {
        RuleAction::Forward(id) => Some(id),
        RuleAction::Drop => None,
    });
    let paths = binding.default_path.into_iter().chain(binding.uplink);
    paths
        .chain(binding.sources.iter().copied())
        .chain(rules)
        .collect()
}
