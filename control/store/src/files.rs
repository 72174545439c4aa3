//! The files of a store: numbered, written at their end only, the oldest ones emptied and removed.
//!
//! The last change of each key is what counts; where it is, is remembered. When the files are more than twice as large as all that
//! counts, what still counts in the oldest one is written once more with the next groups, a bit at a time, until that
//! file can go. So nobody ever waits for a whole file to be copied.

mod opening;
mod reading;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::frame::{self, Found, Frame, HEADER};
use crate::records::Catalogue;
use crate::writer::{Changes, Key};
use crate::{Clocks, Space};

pub(crate) use opening::{open, put_aside};

/// Octets of a file before the next one begins.
pub(crate) const FULL: u64 = 64 << 20;
/// Octets of the oldest file that are looked at with a group, at least: twice as much as the group if that is more.
const CLEAN: u64 = 1 << 20;
/// The file that says whose the directory is.
const LOCK: &str = "lock";
const EXTENSION: &str = "records";

/// A key that is remembered for long, in little room: there is one for each record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Owned {
    /// The number of the space and the octets of the key, and how many these are.
    Short([u8; SHORT + 1], u8),
    Long(Space, Box<[u8]>),
}

/// Octets of a key that need no memory of their own.
const SHORT: usize = 14;

impl Owned {
    fn new(space: Space, key: &[u8]) -> Self {
        let length = u8::try_from(key.len()).ok().filter(|_| key.len() <= SHORT);
        let Some(length) = length else {
            return Self::Long(space, key.into());
        };
        let mut octets = [0; SHORT + 1];
        let (first, rest) = octets.split_at_mut(1);
        first.fill(space.number());
        for (to, from) in rest.iter_mut().zip(key) {
            *to = *from;
        }
        Self::Short(octets, length)
    }
}

/// Where the last change of a key is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    file: u64,
    at: u64,
    length: u64,
}

/// An old file that is being emptied.
#[derive(Debug)]
struct Cleaning {
    number: u64,
    octets: Vec<u8>,
    at: usize,
}

/// The files, open for writing.
#[derive(Debug)]
pub(crate) struct Files {
    directory: PathBuf,
    /// Octets of a file before the next one begins.
    full: u64,
    /// Held as long as this process has the directory.
    _lock: File,
    /// Octets of each file.
    sizes: BTreeMap<u64, u64>,
    /// The one that is written; `None` if the next group begins another.
    current: Option<(u64, File)>,
    places: HashMap<Owned, Place>,
    /// What was in them when they were opened, until its places are noted.
    found: Option<Arc<Catalogue>>,
    /// Octets of all that counts.
    live: u64,
    cleaning: Option<Cleaning>,
    /// Whether old files are emptied: not any more once one could not be read.
    cleans: bool,
}

impl Files {
    /// Notes where all is that was there when the files were opened. Whoever opens them need not wait for it: it is done
    /// before anything is written.
    pub(crate) fn settle(&mut self) {
        let Some(found) = self.found.take() else {
            return;
        };
        self.places.reserve(found.len());
        found.places(|space, key, (file, at, length)| {
            let place = Place { file, at, length };
            self.note(Owned::new(space, key), Some(place));
        });
    }

    /// Writes changes as one group: after a crash all of them count, or none.
    pub(crate) fn write(&mut self, changes: &Changes, clocks: Clocks) -> io::Result<()> {
        self.settle();
        let (number, mut file) = match self.current.take() {
            Some(current) => current,
            None => self.begin()?,
        };
        let begin = self.sizes.get(&number).copied().unwrap_or_default();
        let mut octets = Vec::new();
        let mut places = Vec::new();
        let mut put = |octets: &mut Vec<u8>, space: Space, key: &[u8], value: &Option<Vec<u8>>| {
            let at = begin + size(octets);
            let frame = match value {
                Some(value) => Frame::Put(space, key, value),
                None => Frame::Delete(space, key),
            };
            let length = frame.write(octets);
            let length = length.ok_or_else(|| io::Error::other("a record is too large"))?;
            let file = number;
            let length = u64::try_from(length).unwrap_or(u64::MAX);
            let place = value.as_ref().map(|_| Place { file, at, length });
            places.push((Owned::new(space, key), place));
            Ok::<_, io::Error>(())
        };
        for ((space, key), value) in changes {
            put(&mut octets, *space, key, value)?;
        }
        let cleaned = self.clean(number, changes, CLEAN.min(self.full).max(2 * size(&octets)));
        for ((space, key), value) in &cleaned.copies {
            put(&mut octets, *space, key, &Some(value.clone()))?;
        }
        let _ = Frame::Commit(clocks).write(&mut octets);
        let written = file.write_all(&octets).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // What is there of the group is torn, unless it can be cut off. Another file is begun in any case: of this one
            // nobody knows what the disk has. If it had nothing else, it goes: a disk may refuse for long.
            let _ = file.set_len(begin);
            if begin == size(HEADER) {
                self.discard(number);
            }
            self.cleaning = None;
            return Err(error);
        }
        let end = begin + size(&octets);
        self.sizes.insert(number, end);
        for (key, place) in places {
            self.note(key, place);
        }
        if end < self.full {
            self.current = Some((number, file));
        }
        if let Some(done) = cleaned.done {
            self.remove(done);
        }
        Ok(())
    }

    /// Removes a file that nothing counts of any more. Those behind it stay as long as it does: it may have what they say
    /// is gone.
    fn remove(&mut self, number: u64) {
        let removed = match fs::remove_file(self.path(number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => self.sync_directory(),
        };
        match removed {
            Ok(()) => {
                self.sizes.remove(&number);
                self.cleaning = None;
            }
            // With the next group it is tried again.
            Err(error) => {
                let file = self.path(number);
                tracing::warn!(file = %file.display(), %error, "an old file cannot be removed");
            }
        }
    }

    /// Has the disk know which files there are.
    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    fn note(&mut self, key: Owned, place: Option<Place>) {
        let old = match place {
            Some(place) => {
                self.live += place.length;
                self.places.insert(key, place)
            }
            None => self.places.remove(&key),
        };
        self.live -= old.map_or(0, |old| old.length);
    }

    /// Begins a file behind all others.
    fn begin(&mut self) -> io::Result<(u64, File)> {
        let last = self.sizes.keys().next_back();
        let number = last.map_or(1, |last| last + 1);
        let mut file = File::create_new(self.path(number))?;
        self.sizes.insert(number, size(HEADER));
        let begun = file
            .write_all(HEADER)
            .and_then(|()| file.sync_data())
            .and_then(|()| self.sync_directory());
        if begun.is_err() {
            self.discard(number);
        }
        begun.map(|()| (number, file))
    }

    /// Removes a file that has nothing in it; if that cannot be, its number is not used again.
    fn discard(&mut self, number: u64) {
        if fs::remove_file(self.path(number)).is_ok() {
            self.sizes.remove(&number);
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        path(&self.directory, number)
    }

    /// What still counts in the next octets of the oldest file, if that is worth being emptied.
    fn clean(&mut self, current: u64, changes: &Changes, most: u64) -> Cleaned {
        let mut cleaned = Cleaned::default();
        if self.cleaning.is_none() {
            let total: u64 = self.sizes.values().sum();
            let oldest = self.sizes.keys().next().copied();
            match oldest.filter(|oldest| *oldest != current) {
                Some(number) if self.cleans && total > 2 * self.live + self.full => {
                    match fs::read(self.path(number)) {
                        Ok(octets) => {
                            self.cleaning = Some(Cleaning {
                                number,
                                octets,
                                at: HEADER.len(),
                            });
                        }
                        // What counts is there still, and can be written on.
                        Err(error) => {
                            let file = self.path(number);
                            tracing::error!(file = %file.display(), %error, "cannot be read: old files stay until the next start");
                            self.cleans = false;
                        }
                    }
                }
                Some(_) | None => {}
            }
        }
        let Some(cleaning) = &mut self.cleaning else {
            return cleaned;
        };
        let end = cleaning.at + usize::try_from(most).unwrap_or(usize::MAX);
        while cleaning.at < end {
            let rest = cleaning.octets.get(cleaning.at..).unwrap_or_default();
            let Some(found) = frame::read(rest) else {
                cleaned.done = Some(cleaning.number);
                break;
            };
            let at = u64::try_from(cleaning.at).unwrap_or(u64::MAX);
            cleaning.at += match found {
                Found::Frame(frame, length) => {
                    if let Frame::Put(space, key, value) = frame {
                        let place = self.places.get(&Owned::new(space, key));
                        let counts = place.is_some_and(|p| (p.file, p.at) == (cleaning.number, at));
                        let key = (space, key.to_vec());
                        if counts && !changes.contains_key(&key) {
                            cleaned.copies.push((key, value.to_vec()));
                        }
                    }
                    length
                }
                Found::Damage(length) | Found::Torn(length) => length,
            };
        }
        cleaned
    }
}

#[derive(Debug, Default)]
struct Cleaned {
    copies: Vec<(Key, Vec<u8>)>,
    /// The file that nothing counts of any more once the copies are written.
    done: Option<u64>,
}

fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:010}.{EXTENSION}"))
}

fn size(octets: &[u8]) -> u64 {
    u64::try_from(octets.len()).unwrap_or(u64::MAX)
}
