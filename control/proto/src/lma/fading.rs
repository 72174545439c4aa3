//! What is remembered of a mobile at a MAG for a while, and not for ever.

use std::time::Duration;

use flow::{MnId, ProxyCoa};
use serde::{Deserialize, Serialize};

use crate::kept::Kept;

/// Most that is remembered; then what is over gives way, and if nothing is, what is new.
const MOST: usize = 1 << 16;

/// How often what is over is looked for when there is too much.
const SWEEP: Duration = Duration::from_secs(1);

/// Notes about mobiles at MAGs, each with a time at which it is void.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub(crate) struct Fading<T> {
    notes: Kept<(ProxyCoa, MnId), (Duration, T)>,
    next_sweep: Duration,
}

impl<T> Default for Fading<T> {
    fn default() -> Self {
        Self {
            notes: Kept::default(),
            next_sweep: Duration::ZERO,
        }
    }
}

impl<T> Fading<T> {
    /// Notes something in place of what was noted before, if there is room.
    pub(super) fn note(&mut self, now: Duration, key: (ProxyCoa, MnId), until: Duration, note: T) {
        if self.notes.len() >= MOST && self.next_sweep <= now {
            self.notes.retain(|_, (until, _)| *until > now);
            self.next_sweep = now + SWEEP;
        }
        if self.notes.len() < MOST || self.notes.contains_key(&key) {
            self.notes.insert(key, (until, note));
        }
    }

    /// The notes, for whoever writes them down or has them from there.
    pub(super) fn notes(&mut self) -> &mut Kept<(ProxyCoa, MnId), (Duration, T)> {
        &mut self.notes
    }

    /// What is noted and until when, unless it is void.
    pub(super) fn get(&self, now: Duration, key: &(ProxyCoa, MnId)) -> Option<(Duration, &T)> {
        let (until, note) = self.notes.get(key)?;
        (*until > now).then_some((*until, note))
    }

    /// Takes a note away, and returns it with its time unless it is void.
    pub(super) fn take(&mut self, now: Duration, key: &(ProxyCoa, MnId)) -> Option<(Duration, T)> {
        self.notes.remove(key).filter(|(until, _)| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    fn key(n: u32) -> (ProxyCoa, MnId) {
        let name = MnId::new(&format!("mn{n}")).unwrap();
        (ProxyCoa(Ipv6Addr::LOCALHOST), name)
    }

    #[test]
    fn what_is_void_is_not_there() {
        let mut fading = Fading::default();
        let s = Duration::from_secs;
        fading.note(s(0), key(1), s(2), 'a');
        assert_eq!(fading.get(s(1), &key(1)), Some((s(2), &'a')));
        assert_eq!(fading.get(s(2), &key(1)), None);
        assert_eq!(fading.take(s(2), &key(1)), None);
        fading.note(s(2), key(1), s(4), 'b');
        assert_eq!(fading.take(s(3), &key(1)), Some((s(4), 'b')));
        assert_eq!(fading.take(s(3), &key(1)), None);
    }

    #[test]
    fn it_holds_no_more_than_it_may() {
        let mut fading = Fading::default();
        let s = Duration::from_secs;
        let most = u32::try_from(MOST).unwrap();
        for n in 0..most {
            fading.note(s(0), key(n), s(u64::from(n % 2) + 1), n);
        }
        fading.note(s(0), key(most), s(9), most);
        assert_eq!(fading.get(s(0), &key(most)), None, "there is no room");
        fading.note(s(0), key(1), s(9), 7);
        assert_eq!(fading.get(s(0), &key(1)), Some((s(9), &7)), "but for news");
        fading.note(s(1), key(most), s(9), most);
        assert_eq!(fading.get(s(1), &key(most)), Some((s(9), &most)));
        assert_eq!(fading.notes.len(), MOST / 2 + 1);
    }
}
