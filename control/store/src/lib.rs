//! Records that outlive the process: keys and values, written in groups by a thread of their own.
//!
//! ```text
//!  put, put ... submit --> channel --> writer: all that waits in one batch, fsync --> kept
//!        Mark <---'                                                                   |
//!        `--------------------------- has_kept(mark)? <-------------------------------'
//! ```
//!
//! The thread that submits never waits. What must not be said before it is on disk waits for its [`Mark`]. While
//! the disk refuses, everything is kept in memory, the last value of each key once, and tried again.
//!
//! The files are logs, written at their end only: a hundred thousand changes a second at keys far apart are too many
//! for trees on disk, which write a page for each. A torn end is what a crash leaves, and nothing that was
//! reported as kept is lost with it. Where files are damaged otherwise, only the records there are lost; that is
//! reported, and the files are put aside.

mod files;
mod frame;
mod records;
#[cfg(feature = "etcd")]
mod shared;
mod writer;

#[cfg(feature = "etcd")]
pub use shared::{Change, Member, Membership, News, Place, Standing, Term, Tls};

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, unbounded};

pub use records::Records;

use writer::{Batch, Engine, Writer};

/// A part of the store with keys of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Space {
    /// What an LMA knows.
    Lma,
    /// What a MAG knows.
    Mag,
    /// What holds for the process as a whole.
    Process,
}

impl Space {
    const ALL: [Self; 3] = [Self::Lma, Self::Mag, Self::Process];

    fn number(self) -> u8 {
        match self {
            Self::Lma => 1,
            Self::Mag => 2,
            Self::Process => 3,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Lma),
            2 => Some(Self::Mag),
            3 => Some(Self::Process),
            _ => None,
        }
    }
}

/// A reading of both clocks, written with every group. The monotonic clock of the next process goes on from here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Clocks {
    /// The process's monotonic clock.
    pub monotonic: Duration,
    /// Since 1970-01-01 UTC.
    pub wall: Duration,
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The files cannot be made, read or put aside.
    #[error("{path}")]
    Files {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process has them open.
    #[error("{0} is in use by another process: two must not have one state directory")]
    InUse(PathBuf),
    /// There can be no thread.
    #[error("no thread that writes: {0}")]
    Thread(io::Error),
}

/// A point in the stream of changes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Mark(u64);

/// What was in the store when it was opened.
#[derive(Debug, Default)]
pub struct Contents {
    /// The clocks when something was last written; `None` if nothing ever was.
    pub clocks: Option<Clocks>,
    /// What each part has.
    pub records: BTreeMap<Space, Records>,
    /// Octets at the end that are no whole group: the process ended while it wrote them.
    pub torn: usize,
    /// What could not be read, in words; then the files were put aside, and what could be read is in new ones.
    pub damage: Vec<String>,
    /// Where the damaged files are.
    pub put_aside: Option<PathBuf>,
}

impl Contents {
    /// The records of a part.
    pub fn take(&mut self, space: Space) -> Records {
        self.records.remove(&space).unwrap_or_default()
    }
}

/// What the writer has done, for whoever asks.
#[derive(Debug, Default)]
pub struct Progress {
    kept: AtomicU64,
    /// Changes that were taken up, to be written.
    taken: AtomicU64,
    /// Groups written.
    pub groups: AtomicU64,
    /// Changes in them.
    pub changes: AtomicU64,
    /// Groups that could not be written when they were tried.
    pub failures: AtomicU64,
    /// Whether the last one could not.
    pub is_failing: AtomicBool,
    /// Whether another process leads: nothing is written any more.
    pub is_over: AtomicBool,
}

/// The end of the thread that submits.
#[derive(Debug)]
pub struct Store {
    to: Option<Sender<Batch>>,
    batch: Batch,
    /// The last change that something may wait for.
    mark: Mark,
    submitted: u64,
    /// Changes in what was submitted.
    changes: u64,
    progress: Arc<Progress>,
    /// The term in which a shared store is written; 0 before.
    #[cfg(feature = "etcd")]
    term: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens the files in a directory, which is made if it is missing, and reads what is there.
    ///
    /// # Errors
    /// [`StoreError`]. Damaged files are no error: see [`Contents::damage`].
    pub fn open(directory: &Path) -> Result<(Self, Contents), StoreError> {
        let (files, contents) = files::open(directory, files::FULL)?;
        let store = Self::write_to(Engine::Files(files), directory.display().to_string())?;
        Ok((store, contents))
    }

    /// Will write to what a pair shares, from [`Store::lead`] on.
    ///
    /// # Errors
    /// If there can be no thread.
    #[cfg(feature = "etcd")]
    pub fn stand_by(place: Place) -> Result<Self, StoreError> {
        let term = Arc::<AtomicU64>::default();
        let shared = shared::Shared::new(place, Arc::clone(&term)).map_err(StoreError::Thread)?;
        let name = shared.name();
        let mut store = Self::write_to(Engine::Shared(Box::new(shared)), name)?;
        store.term = term;
        Ok(store)
    }

    /// This process leads in a term, and knows what is there.
    #[cfg(feature = "etcd")]
    pub fn lead(&self, term: Term) {
        self.term.store(term.number, Ordering::Release);
    }

    /// Writes one change, and waits for it; whether it is kept.
    pub fn put_now(
        &mut self,
        (space, key, value): (Space, Vec<u8>, Option<Vec<u8>>),
        clocks: Clocks,
        patience: Duration,
    ) -> bool {
        const TURN: Duration = Duration::from_micros(200);
        self.put(space, key, value, true);
        self.submit(clocks);
        let end = Instant::now() + patience;
        while !self.has_kept(self.mark) {
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(TURN);
        }
        true
    }

    fn write_to(engine: Engine, name: String) -> Result<Self, StoreError> {
        let (to, batches) = unbounded();
        let progress = Arc::new(Progress::default());
        let writer = Writer::new(name, engine, Arc::clone(&progress));
        let writer = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run(&batches))
            .map_err(StoreError::Thread)?;
        Ok(Self {
            to: Some(to),
            batch: Batch::default(),
            mark: Mark(0),
            submitted: 0,
            changes: 0,
            progress,
            #[cfg(feature = "etcd")]
            term: Arc::default(),
            writer: Some(writer),
        })
    }

    /// Puts files aside that nobody goes on with: what they tell would be wrong later. Where they are then, if there were
    /// any.
    ///
    /// # Errors
    /// If they are there and cannot be renamed.
    pub fn put_aside(directory: &Path) -> Result<Option<PathBuf>, StoreError> {
        files::put_aside(directory).map_err(|source| StoreError::Files {
            path: directory.to_owned(),
            source,
        })
    }

    /// Adds a change to those that are submitted next. One that is urgent is written at once; others may wait for a
    /// second, or for one that is.
    pub fn put(&mut self, space: Space, key: Vec<u8>, value: Option<Vec<u8>>, urgent: bool) {
        self.batch.changes.push((space, key, value));
        self.batch.urgent |= urgent;
    }

    /// Hands over what was put since the last time.
    pub fn submit(&mut self, clocks: Clocks) {
        if self.batch.changes.is_empty() {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        self.submitted += 1;
        self.changes += u64::try_from(batch.changes.len()).unwrap_or(u64::MAX);
        batch.number = self.submitted;
        batch.clocks = clocks;
        if batch.urgent {
            self.mark = Mark(self.submitted);
        }
        if let Some(to) = &self.to {
            // The writer ends after this end.
            let _ = to.send(batch);
        }
    }

    /// The point after the last urgent change that was submitted.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Whether everything before a mark is on disk.
    pub fn has_kept(&self, mark: Mark) -> bool {
        self.progress.kept.load(Ordering::Acquire) >= mark.0
    }

    /// Whether nothing can be written any more: the thread has ended, or another process leads.
    pub fn has_ended(&self) -> bool {
        let writer = self.writer.as_ref();
        writer.is_some_and(JoinHandle::is_finished) || self.progress.is_over.load(Ordering::Relaxed)
    }

    /// What the writer has done.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Groups that were submitted and are not on disk.
    pub fn waiting(&self) -> u64 {
        let kept = self.progress.kept.load(Ordering::Acquire);
        self.submitted.saturating_sub(kept)
    }

    /// Changes that were submitted and not taken up yet: one by one they are in memory, however often a key is among them. What was
    /// taken up and is not on disk is there once for each key.
    pub fn queued(&self) -> u64 {
        let taken = self.progress.taken.load(Ordering::Relaxed);
        self.changes.saturating_sub(taken)
    }

    /// Writes what is left, and ends; `false` if some of it is not on disk.
    pub fn close(mut self) -> bool {
        self.end();
        self.waiting() == 0
    }

    fn end(&mut self) {
        drop(self.to.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the thread that writes the store has panicked");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests;
