//! What the workers were told: bindings by prefix, and the paths they name.

use std::collections::{BTreeMap, BTreeSet};

use arrayvec::ArrayVec;
use flow::{Binding, Hnp, MobileId, Path, PathId, Rule, RuleAction, TableUpdate};
use serde::{Deserialize, Serialize};

use crate::exact;
use crate::outbox::Outbox;

/// Numbers for paths. A path exists as long as a binding names it: it is created before the first
/// such binding and removed after the last, and only then is its number given to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(deserialize = "K: Ord + Deserialize<'de>"))]
pub(crate) struct PathTable<K> {
    ids: BTreeMap<K, PathId>,
    /// By number: whose it is, and how often bindings name it.
    slots: Vec<Option<(K, u32)>>,
    free: BTreeSet<PathId>,
    /// Numbers that nothing names any more, as far as is known.
    idle: BTreeSet<PathId>,
}

impl<K> Default for PathTable<K> {
    fn default() -> Self {
        Self {
            ids: BTreeMap::new(),
            slots: Vec::new(),
            free: BTreeSet::new(),
            idle: BTreeSet::new(),
        }
    }
}

impl<K: Copy + Ord> PathTable<K> {
    /// The number of a path, which is created if it has none; `None` if all numbers are taken.
    pub(crate) fn resolve<E>(
        &mut self,
        key: K,
        path: impl FnOnce() -> Path,
        outbox: &mut Outbox<E>,
    ) -> Option<PathId> {
        if let Some(id) = self.ids.get(&key) {
            return Some(*id);
        }
        let id = if let Some(id) = self.free.pop_first() {
            id
        } else {
            let id = PathId(u16::try_from(self.slots.len()).ok()?);
            if id > PathId::LAST {
                return None;
            }
            self.slots.push(None);
            id
        };
        *self.slots.get_mut(usize::from(id.0))? = Some((key, 0));
        self.ids.insert(key, id);
        self.idle.insert(id);
        let path = Some(path());
        outbox.table(TableUpdate::Path { id, path });
        Some(id)
    }

    /// Tells the workers of paths that have changed; `path` makes them, and is only asked about those there are.
    pub(crate) fn renew<E>(&self, path: impl Fn(K) -> Option<Path>, outbox: &mut Outbox<E>) {
        for (key, id) in &self.ids {
            if let Some(path) = path(*key) {
                outbox.table(TableUpdate::Path {
                    id: *id,
                    path: Some(path),
                });
            }
        }
    }

    /// Whether a path has a number, or can be given one.
    pub(crate) fn has_room_for(&self, key: K) -> bool {
        self.ids.contains_key(&key) || self.ids.len() <= usize::from(PathId::LAST.0)
    }

    /// How many paths there are.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whose path a number is.
    pub(crate) fn key(&self, id: PathId) -> Option<K> {
        let slot = self.slots.get(usize::from(id.0))?.as_ref()?;
        Some(slot.0)
    }

    fn count(&mut self, told: &Told, change: impl Fn(u32) -> u32) {
        for id in told.paths() {
            if let Some(Some((_, count))) = self.slots.get_mut(usize::from(id.0)) {
                *count = change(*count);
                if *count == 0 {
                    self.idle.insert(id);
                } else {
                    self.idle.remove(&id);
                }
            }
        }
    }

    /// Removes the paths that no binding names.
    pub(crate) fn sweep<E>(&mut self, outbox: &mut Outbox<E>) {
        while let Some(id) = self.idle.pop_first() {
            if let Some(slot) = self.slots.get_mut(usize::from(id.0))
                && let Some((key, _)) = slot.take()
            {
                self.ids.remove(&key);
                self.free.insert(id);
                outbox.table(TableUpdate::Path { id, path: None });
            }
        }
    }
}

/// The bindings in force for some prefixes, in ascending order of prefix.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Installed(Vec<Told>);

/// A binding as the workers were told it, in little room: there is one for every prefix.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Told {
    hnp: Hnp,
    mobile: MobileId,
    default_path: Option<PathId>,
    sources: ArrayVec<PathId, { Binding::MAX_SOURCES }>,
    uplink: Option<PathId>,
    local: bool,
    rules: Box<[Rule]>,
}

impl Installed {
    /// All prefixes that have a binding.
    pub(crate) fn hnps(&self) -> impl Iterator<Item = Hnp> {
        self.0.iter().map(|told| told.hnp)
    }

    /// The binding of a prefix, as the workers were told it.
    pub(crate) fn get(&self, hnp: Hnp) -> Option<Binding> {
        let told = self.0.iter().find(|told| told.hnp == hnp)?;
        Some(Binding {
            mobile: told.mobile,
            default_path: told.default_path,
            sources: told.sources.to_vec(),
            uplink: told.uplink,
            local: told.local,
            rules: told.rules.to_vec(),
        })
    }

    /// A prefix is another mobile's, whose binding is in force: nothing has to be taken out for this one any more.
    pub(crate) fn forget<K: Copy + Ord>(&mut self, hnp: Hnp, paths: &mut PathTable<K>) {
        if let Some(at) = self.0.iter().position(|told| told.hnp == hnp) {
            let old = exact::remove(&mut self.0, at);
            paths.count(&old, |n| n - 1);
        }
    }

    /// Puts a binding in force, or takes one out; says nothing if it is so already.
    pub(crate) fn set<K: Copy + Ord, E>(
        &mut self,
        hnp: Hnp,
        binding: Option<Binding>,
        paths: &mut PathTable<K>,
        outbox: &mut Outbox<E>,
    ) {
        let at = self.0.partition_point(|told| told.hnp < hnp);
        let known = self.0.get_mut(at).filter(|told| told.hnp == hnp);
        let old = match (known, &binding) {
            (None, None) => return,
            (Some(told), Some(binding)) if told.says(binding) => return,
            (None, Some(binding)) => {
                let new = Told::new(hnp, binding);
                paths.count(&new, |n| n + 1);
                exact::insert(&mut self.0, at, new);
                None
            }
            (Some(told), Some(binding)) => {
                let new = Told::new(hnp, binding);
                paths.count(&new, |n| n + 1);
                Some(std::mem::replace(told, new))
            }
            (Some(_), None) => Some(exact::remove(&mut self.0, at)),
        };
        let binding = binding.map(Box::new);
        outbox.table(TableUpdate::Binding { hnp, binding });
        if let Some(old) = old {
            paths.count(&old, |n| n - 1);
        }
    }
}

impl Told {
    fn new(hnp: Hnp, binding: &Binding) -> Self {
        let sources = binding.sources.iter().copied();
        Self {
            hnp,
            mobile: binding.mobile,
            default_path: binding.default_path,
            // Neither role names more.
            sources: sources.take(Binding::MAX_SOURCES).collect(),
            uplink: binding.uplink,
            local: binding.local,
            rules: binding.rules.as_slice().into(),
        }
    }

    /// Whether this is the binding.
    fn says(&self, binding: &Binding) -> bool {
        // By name, so that a new field cannot be forgotten: what is not compared is not told.
        let Binding {
            mobile,
            default_path,
            sources,
            uplink,
            local,
            rules,
        } = binding;
        self.mobile == *mobile
            && self.default_path == *default_path
            && self.sources.as_slice() == sources.as_slice()
            && self.uplink == *uplink
            && self.local == *local
            && *self.rules == **rules
    }

    /// The paths that the binding names, some of them more than once.
    fn paths(&self) -> impl Iterator<Item = PathId> {
        let rules = self.rules.iter().filter_map(|rule| match rule.action {
            RuleAction::Forward(id) => Some(id),
            RuleAction::Drop => None,
        });
        self.default_path
            .into_iter()
            .chain(self.uplink)
            .chain(self.sources.iter().copied())
            .chain(rules)
    }
}

#[cfg(test)]
mod tests {
    use flow::{Link, MacAddr, MobileId, PortId};

    use super::*;
    use crate::command::Command;

    fn link(port: u16) -> Path {
        Path::Link(Link {
            port: PortId(port),
            mac: MacAddr([2; 6]),
        })
    }

    fn binding(path: PathId) -> Binding {
        Binding {
            mobile: MobileId(1),
            default_path: Some(path),
            sources: vec![path],
            uplink: None,
            local: false,
            rules: vec![],
        }
    }

    #[test]
    fn numbers_end_where_those_of_the_workers_do() {
        let mut outbox = Outbox::<()>::default();
        let mut paths = PathTable::default();
        for key in 0..=u32::from(PathId::LAST.0) {
            assert!(paths.has_room_for(key));
            let id = paths.resolve(key, || link(1), &mut outbox).unwrap();
            assert_eq!(u32::from(id.0), key);
        }
        assert!(!paths.has_room_for(u32::MAX));
        assert_eq!(paths.resolve(u32::MAX, || link(1), &mut outbox), None);
        assert!(paths.has_room_for(7));
        assert_eq!(
            paths.resolve(7, || link(1), &mut outbox),
            Some(PathId(7)),
            "it is there"
        );
        // Nothing names any of them.
        paths.sweep(&mut outbox);
        assert!(paths.has_room_for(u32::MAX));
    }

    #[test]
    fn paths_live_as_long_as_they_are_named() {
        let mut outbox = Outbox::<()>::default();
        let mut paths = PathTable::default();
        let mut installed = Installed::default();
        let hnp = Hnp::new("2001:db8::".parse().unwrap(), 64).unwrap();

        let one = paths.resolve(1, || link(1), &mut outbox).unwrap();
        installed.set(hnp, Some(binding(one)), &mut paths, &mut outbox);
        installed.set(hnp, Some(binding(one)), &mut paths, &mut outbox);
        let two = paths.resolve(2, || link(2), &mut outbox).unwrap();
        installed.set(hnp, Some(binding(two)), &mut paths, &mut outbox);
        assert_eq!(installed.get(hnp), Some(binding(two)));
        paths.sweep(&mut outbox);
        let again = paths.resolve(3, || link(3), &mut outbox).unwrap();
        assert_eq!((one, two, again), (PathId(0), PathId(1), PathId(0)));
        installed.set(hnp, None, &mut paths, &mut outbox);
        paths.sweep(&mut outbox);
        assert_eq!(paths.len(), 0);

        let path = |id, path| Command::Table(TableUpdate::Path { id, path });
        let bound = |b: Option<PathId>| {
            let binding = b.map(|id| Box::new(binding(id)));
            Command::Table(TableUpdate::Binding { hnp, binding })
        };
        let said: Vec<_> = std::iter::from_fn(|| outbox.poll_command()).collect();
        assert_eq!(
            said,
            [
                path(one, Some(link(1))),
                bound(Some(one)),
                path(two, Some(link(2))),
                bound(Some(two)),
                path(one, None),
                path(again, Some(link(3))),
                bound(None),
                path(again, None),
                path(two, None),
            ]
        );
    }
}
