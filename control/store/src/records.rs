//! What was found in the files of a store: which change of each key is the last one, and what it says.

use std::cmp::Ordering;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crossbeam::channel::bounded;
use hashbrown::HashSet;

use crate::Space;
use crate::frame::{self, Frame};

/// Records that are read in one go: few, as to give much memory back at once makes the C library tidy up.
const BATCH: usize = 512;
/// Most threads that read, files or records.
const READERS: usize = 4;

/// The records of one part of a store, ascending by key: whoever fills tables with them is quicker that way.
#[derive(Clone, Debug, Default)]
pub struct Records {
    catalogue: Arc<Catalogue>,
    own: Range<usize>,
}

impl Records {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.own.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty()
    }

    /// Their keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.between(self.own.clone())
    }

    fn between(&self, range: Range<usize>) -> impl Iterator<Item = (&[u8], &[u8])> {
        let entries = self.catalogue.entries.get(range).unwrap_or_default();
        entries.iter().filter_map(|entry| {
            let (_, key, value) = self.catalogue.record(entry)?;
            Some((key, value))
        })
    }

    /// Reads them on threads of their own while those before them are used; what is made of them stays in their order.
    ///
    /// # Errors
    /// If there can be no thread.
    ///
    /// # Panics
    /// If `read` does: records that nobody reads would be forgotten without a word.
    pub fn read_ahead<T: Send + 'static>(
        self,
        read: fn(&[u8], &[u8]) -> T,
    ) -> io::Result<impl Iterator<Item = T>> {
        let readers = readers();
        let batches = self.len().div_ceil(BATCH);
        let mut ends = Vec::new();
        for reader in 0..readers {
            let (to, end) = bounded(16);
            ends.push(end);
            let records = self.clone();
            let all = move || {
                let begins = records.own.clone().step_by(BATCH);
                for begin in begins.skip(reader).step_by(readers) {
                    let batch = begin..records.own.end.min(begin + BATCH);
                    let batch = records.between(batch);
                    let batch: Vec<T> = batch.map(|(key, value)| read(key, value)).collect();
                    if to.send(batch).is_err() {
                        return;
                    }
                }
            };
            // It ends with its records.
            std::thread::Builder::new()
                .name("records".into())
                .spawn(all)?;
        }
        let in_turn = ends.into_iter().cycle().take(batches);
        Ok(in_turn.flat_map(|end| end.recv().expect("a reader ends behind its records")))
    }
}

/// Threads that read at once.
pub(crate) fn readers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(READERS))
}

/// Where a change of a key is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// The number of the space and the first octets of the key, as a number that is ordered as they are: most keys are told
    /// apart by it, wherever they are in memory.
    beginning: u64,
    /// The frame's first octet.
    at: u64,
    /// Octets of the frame.
    length: u32,
    /// Which of the files.
    file: u32,
    /// Octets of the key.
    key: u32,
    is_put: bool,
}

impl Entry {
    /// The entry of a frame of so many octets in the first file; `None` if it changes nothing.
    pub(crate) fn new(frame: &Frame<'_>, at: u64, length: usize) -> Option<Self> {
        let (space, key, is_put) = match frame {
            Frame::Put(space, key, _) => (space, key, true),
            Frame::Delete(space, key) => (space, key, false),
            Frame::Commit(_) => return None,
        };
        let mut beginning = [0; 8];
        let octets = std::iter::once(space.number()).chain(key.iter().copied());
        for (to, from) in beginning.iter_mut().zip(octets) {
            *to = from;
        }
        Some(Self {
            beginning: u64::from_be_bytes(beginning),
            at,
            length: u32::try_from(length).ok()?,
            file: 0,
            key: u32::try_from(key.len()).ok()?,
            is_put,
        })
    }

    /// Whether all of the key is in its beginning.
    fn is_whole(&self) -> bool {
        self.key < 8
    }

    /// If so, its space, and the key behind an octet that is not of it.
    fn whole(&self) -> Option<(Space, [u8; 8])> {
        let octets = self.beginning.to_be_bytes();
        let space = Space::from_number(*octets.first()?)?;
        self.is_whole().then_some((space, octets))
    }
}

/// A file that was read.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) number: u64,
    pub(crate) octets: Vec<u8>,
}

impl Source {
    fn frame(&self, entry: &Entry) -> Option<Frame<'_>> {
        let begin = usize::try_from(entry.at).ok()?;
        let end = begin.checked_add(usize::try_from(entry.length).ok()?)?;
        self.octets.get(begin..end).and_then(frame::known)
    }
}

/// Files, and in which of them the last change of each key is.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    sources: Vec<Source>,
    /// Ascending by space and key.
    entries: Vec<Entry>,
}

impl Catalogue {
    /// Leaves the last change of each key of one file, in the order of the keys.
    pub(crate) fn of(source: Source, mut entries: Vec<Entry>) -> Self {
        let sources = vec![source];
        // Keys that have to be compared where they are are compared once: few things have long ones, and of these, peers change
        // with every group.
        let mut seen = HashSet::new();
        entries.reverse();
        entries.retain(|entry| {
            entry.is_whole() || seen.insert((entry.beginning, key(&sources, entry)))
        });
        drop(seen);
        entries.sort_unstable_by(|a, b| order(&sources, a, b).then(a.at.cmp(&b.at)));
        keep_last(&sources, &mut entries);
        Self { sources, entries }
    }

    /// What counts in all files, each of which is newer than those before it.
    pub(crate) fn join(all: Vec<Self>) -> Self {
        let mut joined = Self::default();
        let count = all.iter().map(|one| one.entries.len()).sum();
        joined.entries.reserve_exact(count);
        for (file, one) in (0..).zip(all) {
            joined.sources.extend(one.sources);
            let entries = one.entries.into_iter();
            joined
                .entries
                .extend(entries.map(|entry| Entry { file, ..entry }));
        }
        // Those of each file are in order already, which this makes use of; equal ones stay in the order of the files.
        joined.entries.sort_by(|a, b| order(&joined.sources, a, b));
        keep_last(&joined.sources, &mut joined.entries);
        joined.entries.retain(|entry| entry.is_put);
        joined
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tells of all records, with their places: the number of the file, the first octet, and how many.
    pub(crate) fn places(&self, mut note: impl FnMut(Space, &[u8], (u64, u64, u64))) {
        for entry in &self.entries {
            let Some(source) = self.source(entry) else {
                continue;
            };
            let place = (source.number, entry.at, entry.length.into());
            // Whatever need not be fetched from the files is not.
            if let Some((space, octets)) = entry.whole() {
                let length = usize::try_from(entry.key).unwrap_or_default();
                note(space, octets.get(1..=length).unwrap_or_default(), place);
            } else if let Some((space, key, _)) = self.record(entry) {
                note(space, key, place);
            }
        }
    }

    /// All records.
    pub(crate) fn records(&self) -> impl Iterator<Item = (Space, &[u8], &[u8])> {
        self.entries.iter().filter_map(|entry| self.record(entry))
    }

    /// The records of a part.
    pub(crate) fn part(self: &Arc<Self>, space: Space) -> Records {
        let number = |entry: &Entry| entry.beginning >> 56;
        let space = u64::from(space.number());
        let begin = self.entries.partition_point(|entry| number(entry) < space);
        let end = self.entries.partition_point(|entry| number(entry) <= space);
        if begin == end {
            // It must not keep the files in memory.
            return Records::default();
        }
        Records {
            catalogue: Arc::clone(self),
            own: begin..end,
        }
    }

    fn source(&self, entry: &Entry) -> Option<&Source> {
        self.sources.get(usize::try_from(entry.file).ok()?)
    }

    fn record(&self, entry: &Entry) -> Option<(Space, &[u8], &[u8])> {
        match self.source(entry)?.frame(entry)? {
            Frame::Put(space, key, value) => Some((space, key, value)),
            Frame::Delete(..) | Frame::Commit(_) => None,
        }
    }
}

fn order(sources: &[Source], a: &Entry, b: &Entry) -> Ordering {
    a.beginning.cmp(&b.beginning).then_with(|| {
        if a.is_whole() && b.is_whole() {
            // The longer one goes on with zeros.
            a.key.cmp(&b.key)
        } else {
            key(sources, a).cmp(&key(sources, b))
        }
    })
}

fn key<'a>(sources: &'a [Source], entry: &Entry) -> Option<&'a [u8]> {
    let source = sources.get(usize::try_from(entry.file).ok()?)?;
    match source.frame(entry)? {
        Frame::Put(_, key, _) | Frame::Delete(_, key) => Some(key),
        Frame::Commit(_) => None,
    }
}

/// Of neighbours with one key, keeps the last.
fn keep_last(sources: &[Source], entries: &mut Vec<Entry>) {
    entries.dedup_by(|later, kept| {
        let same = order(sources, later, kept).is_eq();
        if same {
            *kept = *later;
        }
        same
    });
}
