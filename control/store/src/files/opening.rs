//! The files of a directory as a process finds them: what counts, what is torn, what is damaged.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hashbrown::HashMap;

use super::{EXTENSION, Files, LOCK, Place, path, size};
use crate::frame::{self, Found, Frame, HEADER};
use crate::{Clocks, Contents, Space, StoreError};

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
    for ((space, key), (value, place)) in loaded.values {
        let records = loaded.contents.records.entry(space).or_default();
        // Of damaged files, the copies are somewhere else.
        if !is_damaged {
            loaded.files.note((space, Box::from(&*key)), Some(place));
        }
        records.push((key, value));
    }
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

/// The first octets of a key as a number that is ordered as they are.
fn beginning(key: &[u8]) -> u128 {
    let mut first = [0; 16];
    for (to, from) in first.iter_mut().zip(key) {
        *to = *from;
    }
    u128::from_be_bytes(first)
}
