//! The files of a store: numbered, written at their end only, the oldest ones emptied and removed.
//!
//! The last change of each key is what counts; where it is, is remembered. When the files are more than twice as large as all that
//! counts, what still counts in the oldest one is written once more with the next groups, a bit at a time, until that
//! file can go. So nobody ever waits for a whole file to be copied.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hashbrown::HashMap;

use crate::frame::{self, Found, Frame, HEADER};
use crate::writer::{Changes, Key};
use crate::{Clocks, Contents, Space, StoreError};

/// Octets of a file before the next one begins.
pub(crate) const FULL: u64 = 64 << 20;
/// Octets of the oldest file that are looked at with a group, at least: twice as much as the group if that is more.
const CLEAN: u64 = 1 << 20;
/// The file that says whose the directory is.
const LOCK: &str = "lock";
const EXTENSION: &str = "records";

/// A key that is remembered for long.
type Owned = (Space, Box<[u8]>);

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
    /// Octets of all that counts.
    live: u64,
    cleaning: Option<Cleaning>,
    /// Whether old files are emptied: not any more once one could not be read.
    cleans: bool,
}

impl Files {
    /// Writes changes as one group: after a crash all of them count, or none.
    pub(crate) fn write(&mut self, changes: &Changes, clocks: Clocks) -> io::Result<()> {
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
            places.push(((space, Box::from(key)), place));
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
                        let key: Owned = (space, key.into());
                        let place = self.places.get(&key);
                        let counts = place.is_some_and(|p| (p.file, p.at) == (cleaning.number, at));
                        let key = (key.0, key.1.into_vec());
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

/// The first octets of a key as a number that is ordered as they are.
fn beginning(key: &[u8]) -> u128 {
    let mut first = [0; 16];
    for (to, from) in first.iter_mut().zip(key) {
        *to = *from;
    }
    u128::from_be_bytes(first)
}

fn size(octets: &[u8]) -> u64 {
    u64::try_from(octets.len()).unwrap_or(u64::MAX)
}

/// What a directory holds.
struct Loaded {
    files: Files,
    /// Keys and values are pieces of the files.
    values: HashMap<(Space, Bytes), (Bytes, Place)>,
    contents: Contents,
}

/// Opens the files of a directory and reads them. If any are damaged, all are put aside, and what is good is in new ones.
pub(crate) fn open(directory: &Path, full: u64) -> Result<(Files, Contents), StoreError> {
    let failed = |source| StoreError::Files {
        path: directory.to_owned(),
        source,
    };
    make(directory).map_err(failed)?;
    let lock = lock(directory)?;
    let mut loaded = load(directory, full, lock).map_err(failed)?;
    if !loaded.contents.damage.is_empty() {
        let aside = aside(directory, "damaged");
        fs::rename(directory, &aside).map_err(failed)?;
        make(directory).map_err(failed)?;
        let lock = self::lock(directory)?;
        loaded.files = Files::new(directory, full, lock);
        loaded.contents.put_aside = Some(aside);
        let copied = loaded.values.iter().map(|((space, key), (value, _))| {
            let key = (*space, key.to_vec());
            (key, Some(value.to_vec()))
        });
        let clocks = loaded.contents.clocks.unwrap_or_default();
        let copied = copied.collect();
        loaded.files.write(&copied, clocks).map_err(failed)?;
    }
    let is_damaged = loaded.contents.put_aside.is_some();
    loaded.files.places.reserve(loaded.values.len());
    let mut last = (Space::Lma, Vec::new());
    for ((space, key), (value, place)) in loaded.values {
        // Most of them are in one part.
        if space != last.0 {
            let records = loaded.contents.records.insert(last.0, last.1);
            debug_assert!(records.is_none_or(|records| records.is_empty()));
            last = (
                space,
                loaded.contents.records.remove(&space).unwrap_or_default(),
            );
        }
        let (_, records) = &mut last;
        // Of damaged files, the copies are somewhere else.
        if !is_damaged {
            loaded.files.note((space, Box::from(&*key)), Some(place));
        }
        records.push((key, value));
    }
    loaded.contents.records.insert(last.0, last.1);
    for records in loaded.contents.records.values_mut() {
        // What tells keys apart is at their beginning: where they are in memory need not be looked up again and again.
        records
            .sort_by_cached_key(|(key, _)| (beginning(key), key.get(16..).map(Box::<[u8]>::from)));
    }
    Ok((loaded.files, loaded.contents))
}

/// For this user only: who can read it knows which mobile is where.
fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let failed = |source| StoreError::Files {
        path: directory.to_owned(),
        source,
    };
    let file = File::create(directory.join(LOCK)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse(directory.to_owned())),
        Err(fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

impl Files {
    fn new(directory: &Path, full: u64, lock: File) -> Self {
        Self {
            directory: directory.to_owned(),
            full,
            _lock: lock,
            sizes: BTreeMap::new(),
            current: None,
            places: HashMap::new(),
            live: 0,
            cleaning: None,
            cleans: true,
        }
    }
}

/// The numbers of the files in a directory, ascending.
fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == EXTENSION) {
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            numbers.extend(stem.and_then(|stem| stem.parse::<u64>().ok()));
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A change that counts from the next commit on.
type Pending = ((Space, Bytes), Option<(Bytes, Place)>);

fn load(directory: &Path, full: u64, lock: File) -> io::Result<Loaded> {
    let mut loaded = Loaded {
        files: Files::new(directory, full, lock),
        values: HashMap::new(),
        contents: Contents::default(),
    };
    let numbers = numbers(directory)?;
    for (n, number) in numbers.iter().enumerate() {
        let path = path(directory, *number);
        let octets = Bytes::from(fs::read(&path)?);
        let is_last = n + 1 == numbers.len();
        loaded.take_file(*number, &path, &octets, is_last)?;
    }
    Ok(loaded)
}

impl Loaded {
    fn take_file(
        &mut self,
        number: u64,
        path: &Path,
        octets: &Bytes,
        is_last: bool,
    ) -> io::Result<()> {
        self.files.sizes.insert(number, size(octets));
        let damage = &mut self.contents.damage;
        let name = path.display();
        let mut at = HEADER.len();
        if !octets.starts_with(HEADER) {
            // One that was begun when the process ended, or the disk was full, has nothing in it.
            if HEADER.starts_with(octets) {
                self.files.sizes.remove(&number);
                return fs::remove_file(path);
            }
            damage.push(format!("{name}: its beginning is not that of such a file"));
            at = 0;
        }
        let mut committed = at;
        // Groups are in one file: what is left at its end never was whole.
        let mut pending = Vec::new();
        while let Some(found) = octets.get(at..).and_then(frame::read) {
            let place = size(octets.get(..at).unwrap_or_default());
            match found {
                Found::Frame(frame, length) => {
                    at += length;
                    let place = Place {
                        file: number,
                        at: place,
                        length: u64::try_from(length).unwrap_or(u64::MAX),
                    };
                    match frame {
                        Frame::Put(space, key, value) => {
                            let value = (octets.slice_ref(value), place);
                            pending.push(((space, octets.slice_ref(key)), Some(value)));
                        }
                        Frame::Delete(space, key) => {
                            pending.push(((space, octets.slice_ref(key)), None));
                        }
                        Frame::Commit(clocks) => {
                            self.commit(&mut pending, clocks);
                            committed = at;
                        }
                    }
                }
                Found::Damage(length) => {
                    let what = format!("{name}: {length} octets at {at} are not what was written");
                    self.contents.damage.push(what);
                    at += length;
                }
                Found::Torn(length) if is_last => {
                    self.contents.torn = length;
                    break;
                }
                Found::Torn(length) => {
                    let what = format!("{name}: its last {length} octets are not what was written");
                    self.contents.damage.push(what);
                    break;
                }
            }
        }
        if is_last {
            let end = size(octets.get(..committed).unwrap_or_default());
            if end < size(octets) && self.contents.damage.is_empty() {
                let file = File::options().write(true).open(path)?;
                file.set_len(end)?;
                file.sync_all()?;
                self.files.sizes.insert(number, end);
            }
        }
        Ok(())
    }

    fn commit(&mut self, pending: &mut Vec<Pending>, clocks: Clocks) {
        self.contents.clocks = Some(clocks);
        for (key, value) in pending.drain(..) {
            match value {
                Some(value) => self.values.insert(key, value),
                None => self.values.remove(&key),
            };
        }
    }
}

/// Puts a directory of files aside that are not to be used; where they are then, if there were any.
pub(crate) fn put_aside(directory: &Path) -> io::Result<Option<PathBuf>> {
    let aside = aside(directory, "unused");
    match fs::rename(directory, &aside) {
        Ok(()) => Ok(Some(aside)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A name beside the directory that nothing has.
fn aside(directory: &Path, why: &str) -> PathBuf {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.unwrap_or_default().as_secs();
    let name = |n: u64| directory.with_extension(format!("{why}-{n}"));
    let mut names = (seconds..=u64::MAX).map(name);
    let free = names.find(|path| !path.exists());
    free.unwrap_or_else(|| name(seconds))
}
