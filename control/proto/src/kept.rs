//! A map that knows which of its entries may have changed, so that they can be written down.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// Keys of what may have changed; nothing is noted before somebody asks for it. A copy notes nothing either: who asked
/// has asked the original.
#[derive(Debug)]
pub(crate) struct Changes<K>(Option<BTreeSet<K>>);

impl<K> Clone for Changes<K> {
    fn clone(&self) -> Self {
        Self(None)
    }
}

impl<K> Default for Changes<K> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K: Ord> Changes<K> {
    /// From now on changes are noted.
    pub(crate) fn begin(&mut self) {
        self.0.get_or_insert_default();
    }

    pub(crate) fn note(&mut self, key: K) {
        if let Some(keys) = &mut self.0 {
            keys.insert(key);
        }
    }

    /// Whether somebody wants to know.
    pub(crate) fn is_noting(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn pop(&mut self) -> Option<K> {
        self.0.as_mut()?.pop_first()
    }
}

/// Read like the map that it is. What changes it notes the key; whoever asks for an entry to change it is taken to
/// have done so.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(
    transparent,
    bound(deserialize = "K: Ord + Deserialize<'de>, V: Deserialize<'de>")
)]
pub(crate) struct Kept<K, V> {
    map: BTreeMap<K, V>,
    #[serde(skip)]
    changes: Changes<K>,
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self {
            map: BTreeMap::new(),
            changes: Changes::default(),
        }
    }
}

impl<K, V> Deref for Kept<K, V> {
    type Target = BTreeMap<K, V>;

    fn deref(&self) -> &BTreeMap<K, V> {
        &self.map
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Kept<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        Self {
            map: entries.into_iter().collect(),
            changes: Changes::default(),
        }
    }
}

impl<K: Clone + Ord, V> Kept<K, V> {
    /// From now on changes are noted.
    pub(crate) fn keep(&mut self) {
        self.changes.begin();
    }

    /// The next key of an entry that may have changed, or be gone.
    pub(crate) fn pop_changed(&mut self) -> Option<K> {
        self.changes.pop()
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let value = self.map.get_mut(key);
        if value.is_some() && self.changes.is_noting() {
            self.changes.note(key.clone());
        }
        value
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.changes.is_noting() {
            self.changes.note(key.clone());
        }
        self.map.insert(key, value)
    }

    /// Brings an entry back as it was written down.
    pub(crate) fn restore(&mut self, key: K, value: V) {
        self.map.insert(key, value);
    }

    pub(crate) fn or_insert(&mut self, key: K, value: V) -> &mut V {
        if self.changes.is_noting() {
            self.changes.note(key.clone());
        }
        self.map.entry(key).or_insert(value)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let (key, value) = self.map.remove_entry(key)?;
        self.changes.note(key);
        Some(value)
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        let changes = &mut self.changes;
        self.map.retain(|key, value| {
            let stays = keep(key, value);
            if !stays && changes.is_noting() {
                changes.note(key.clone());
            }
            stays
        });
    }

    /// All entries, to be changed.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        if self.changes.is_noting() {
            for key in self.map.keys() {
                self.changes.note(key.clone());
            }
        }
        self.map.values_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_changed_is_told_once() {
        let mut kept: Kept<u8, char> = [(1, 'a'), (2, 'b'), (3, 'c')].into_iter().collect();
        kept.insert(1, 'x');
        assert_eq!(kept.pop_changed(), None, "nobody asked before");
        kept.keep();
        kept.get_mut(&2);
        kept.get_mut(&9);
        kept.remove(&3);
        kept.remove(&3);
        *kept.or_insert(4, 'd') = 'e';
        let told: Vec<u8> = std::iter::from_fn(|| kept.pop_changed()).collect();
        assert_eq!(told, [2, 3, 4]);
        kept.retain(|key, _| *key != 1);
        for value in kept.values_mut() {
            value.make_ascii_uppercase();
        }
        let told: Vec<u8> = std::iter::from_fn(|| kept.pop_changed()).collect();
        assert_eq!(told, [1, 2, 4]);
        assert_eq!(kept.iter().collect::<Vec<_>>(), [(&2, &'B'), (&4, &'E')]);
    }
}
