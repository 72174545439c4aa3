//! The files of a directory as a process finds them: what counts, what is torn, what is damaged.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hashbrown::HashMap;

use super::reading::{self, Piece};
use super::{EXTENSION, Files, LOCK};
use crate::records::Catalogue;
use crate::{Contents, Space, StoreError};

/// Opens the files of a directory and reads them. If any are damaged, all are put aside, and what is good is in new ones.
pub(crate) fn open(directory: &Path, full: u64) -> Result<(Files, Contents), StoreError> {
    let failed = |source| StoreError::Files {
        path: directory.to_owned(),
        source,
    };
    make(directory).map_err(failed)?;
    let lock = lock(directory)?;
    let mut files = Files::new(directory, full, lock);
    let numbers = numbers(directory).map_err(failed)?;
    let pieces = reading::read(directory, &numbers).map_err(failed)?;
    let (catalogue, mut contents) = files.take(pieces).map_err(failed)?;
    if contents.damage.is_empty() {
        files.found = Some(Arc::clone(&catalogue));
    } else {
        let aside = aside(directory, "damaged");
        fs::rename(directory, &aside).map_err(failed)?;
        make(directory).map_err(failed)?;
        let lock = self::lock(directory)?;
        files = Files::new(directory, full, lock);
        contents.put_aside = Some(aside);
        let copied = catalogue.records().map(|(space, key, value)| {
            let key = (space, key.to_vec());
            (key, Some(value.to_vec()))
        });
        let copied = copied.collect();
        let clocks = contents.clocks.unwrap_or_default();
        files.write(&copied, clocks).map_err(failed)?;
    }
    for space in Space::ALL {
        contents.records.insert(space, catalogue.part(space));
    }
    Ok((files, contents))
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
            found: None,
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

impl Files {
    /// Takes what was found, oldest first. A torn end is cut off, unless other things are wrong as well.
    fn take(&mut self, pieces: Vec<Piece>) -> io::Result<(Arc<Catalogue>, Contents)> {
        let mut contents = Contents::default();
        let mut catalogues = Vec::with_capacity(pieces.len());
        let last = pieces.last().map(|piece| piece.number);
        for piece in pieces {
            let is_last = last == Some(piece.number);
            if piece.is_blank {
                fs::remove_file(&piece.path)?;
                continue;
            }
            self.sizes.insert(piece.number, piece.size);
            contents.damage.extend(piece.damage);
            contents.clocks = piece.clocks.or(contents.clocks);
            catalogues.push(piece.catalogue);
            if is_last {
                contents.torn = piece.torn;
                if piece.committed < piece.size && contents.damage.is_empty() {
                    let file = File::options().write(true).open(&piece.path)?;
                    file.set_len(piece.committed)?;
                    file.sync_all()?;
                    self.sizes.insert(piece.number, piece.committed);
                }
            } else if piece.torn > 0 {
                let (name, octets) = (piece.path.display(), piece.torn);
                let what = format!("{name}: its last {octets} octets are not what was written");
                contents.damage.push(what);
            }
        }
        Ok((Arc::new(Catalogue::join(catalogues)), contents))
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
