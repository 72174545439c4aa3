//! What a restarted process has to know of the sequence numbers before it.
//!
//! A text file, one line for each key and direction: `out` with the highest number that may have been used, `in`
//! with one up to which numbers have been received. Keys are named by their check values. Lines outlive
//! their keys: whoever brings a key back goes on where it was left.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use pmip_esp::KeyCheck;
use store::{Clocks, Space, Store};

use crate::appliance::pair::SEQUENCE_NUMBERS;

/// Which numbers of an association a mark is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Way {
    /// Those that were received.
    In,
    /// Those that may have been used.
    Out,
}

impl Way {
    const fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// The marks of one process.
#[derive(Debug)]
pub(super) struct Marks {
    place: Place,
    noted: BTreeMap<(Way, KeyCheck), u32>,
    /// Whether the last save failed, which has been said.
    failed: bool,
}

/// Where they are.
#[derive(Debug)]
enum Place {
    Directory {
        path: PathBuf,
        /// Held as long as the process lives: two that noted over each other would use numbers twice.
        _lock: File,
    },
    /// With the records of a pair: only who leads can note anything.
    Shared(Box<Store>),
}

/// How long a shared store may take.
const PATIENCE: Duration = Duration::from_secs(1);

impl Marks {
    /// Reads the marks in `directory`, which is made if it is not there.
    ///
    /// # Errors
    /// If the directory cannot be used, another process does, or the marks cannot be understood.
    pub(super) fn open(directory: &Path) -> anyhow::Result<Self> {
        let shown = directory.display();
        let remedy =
            "[process] `state_directory` names a directory of this process's own that outlives it";
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("cannot make the directory {shown}; {remedy}"))?;
        let lock = private(&directory.join("lock"), false)
            .with_context(|| format!("cannot write in {shown}; {remedy}"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                anyhow::bail!("another process notes its sequence numbers in {shown}; {remedy}")
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {shown}"));
            }
        }
        let path = directory.join(NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("{}", path.display())),
        };
        let noted = parse(&text).ok_or_else(|| {
            let path = path.display();
            anyhow::anyhow!(
                "{path} cannot be understood: give all peers new keys, remove it and start again"
            )
        })?;
        Ok(Self {
            place: Place::Directory {
                path: directory.to_owned(),
                _lock: lock,
            },
            noted,
            failed: false,
        })
    }

    /// The marks of a pair: `used` is what the process has noted that led before, if any has.
    ///
    /// # Errors
    /// If they cannot be understood.
    pub(super) fn shared(store: Store, used: Option<&[u8]>) -> anyhow::Result<Self> {
        let noted = str::from_utf8(used.unwrap_or_default())
            .ok()
            .and_then(parse);
        let noted = noted.context(
            "the sequence numbers in the store cannot be understood: give all peers new keys, and remove them",
        )?;
        Ok(Self {
            place: Place::Shared(Box::new(store)),
            noted,
            failed: false,
        })
    }

    /// The mark of a key; 0 if there is none.
    pub(super) fn get(&self, way: Way, key: KeyCheck) -> u32 {
        self.noted.get(&(way, key)).copied().unwrap_or(0)
    }

    /// Changes a mark, which is durable after the next [`Self::save`]. `Out` marks only rise while a process
    /// runs.
    pub(super) fn set(&mut self, way: Way, key: KeyCheck, number: u32) {
        self.noted.insert((way, key), number);
    }

    /// Makes the marks durable: when this returns, a crash of the machine does not undo them.
    ///
    /// # Errors
    /// If they could not be written. The old ones are then still there.
    pub(super) fn save(&mut self) -> anyhow::Result<()> {
        let mut text = String::new();
        for ((way, key), number) in &self.noted {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{} {key} {number}", way.word());
        }
        let directory = match &mut self.place {
            Place::Directory { path, .. } => path,
            Place::Shared(store) => {
                let note = (
                    Space::Process,
                    SEQUENCE_NUMBERS.to_vec(),
                    Some(text.into_bytes()),
                );
                let clocks = Clocks::default();
                let kept = store.put_now(note, clocks, PATIENCE);
                anyhow::ensure!(kept, "the store does not take them");
                return Ok(());
            }
        };
        let (path, new) = (directory.join(NAME), directory.join("new"));
        let replace = || {
            let mut file = private(&new, true)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            File::open(directory)?.sync_all()
        };
        replace().with_context(|| format!("cannot write {}", path.display()))
    }

    /// As [`Self::save`], where nobody waits for an answer: the first of several failures is logged. Whether it
    /// was written.
    pub(super) fn save_or_log(&mut self) -> bool {
        let saved = self.save();
        match &saved {
            Ok(()) if self.failed => tracing::info!("sequence numbers are noted again"),
            Err(error) if !self.failed => {
                tracing::error!(
                    "sequence numbers are not noted, and soon no message is sent: {error:#}"
                );
            }
            Ok(()) | Err(_) => {}
        }
        self.failed = saved.is_err();
        saved.is_ok()
    }
}

/// The file's name in its directory.
const NAME: &str = "sequence-numbers";

/// A file that only its owner may read.
fn private(path: &Path, truncate: bool) -> std::io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(truncate)
        .mode(0o600)
        .open(path)
}

fn parse(text: &str) -> Option<BTreeMap<(Way, KeyCheck), u32>> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let way = match words.next()? {
            "in" => Way::In,
            "out" => Way::Out,
            _ => return None,
        };
        let key = KeyCheck(u64::from_str_radix(words.next()?, 16).ok()?);
        let number = words.next()?.parse().ok()?;
        words.next().is_none().then_some(((way, key), number))
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_outlive_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("deep/er");
        let (key, other) = (KeyCheck(7), KeyCheck(u64::MAX));
        let mut marks = Marks::open(&directory).unwrap();
        assert_eq!(marks.get(Way::Out, key), 0);
        marks.set(Way::Out, key, 16_384);
        marks.set(Way::In, key, 12);
        marks.set(Way::In, other, u32::MAX);
        marks.save().unwrap();
        marks.set(Way::In, key, 99);
        drop(marks);
        let marks = Marks::open(&directory).unwrap();
        assert_eq!(marks.get(Way::Out, key), 16_384);
        assert_eq!(marks.get(Way::In, key), 12);
        assert_eq!(marks.get(Way::In, other), u32::MAX);
        assert_eq!(marks.get(Way::Out, other), 0);
    }

    #[test]
    fn one_process_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = Marks::open(directory.path()).unwrap();
        let error = Marks::open(directory.path()).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
        drop(first);
        assert!(Marks::open(directory.path()).is_ok());
    }

    #[test]
    fn what_cannot_be_understood_is_not_taken_for_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        for text in [
            "out 7",
            "up 7 1",
            "out x 1",
            "out 7 4294967296",
            "in 7 1 2",
            "\n",
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Marks::open(directory.path()).unwrap_err();
            assert!(error.to_string().contains("new keys"), "{text}: {error}");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let error = Marks::open(Path::new("/proc/flowmob")).unwrap_err();
        assert!(
            format!("{error:#}").contains("/proc/flowmob; [process]"),
            "{error:#}"
        );
    }
}
