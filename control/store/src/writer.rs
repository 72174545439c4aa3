//! The thread that writes.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use crate::files::Files;
#[cfg(feature = "etcd")]
use crate::shared::Shared;
use crate::{Clocks, Progress, Space};

/// How long changes wait that nobody waits for.
const LAZY: Duration = Duration::from_secs(1);
/// When a disk that has refused is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// When etcd is tried again: it is back in no time when one of several nodes has gone.
#[cfg(feature = "etcd")]
const SOON: Duration = Duration::from_millis(50);
/// How often it is tried at the end of the process.
const LAST_TRIES: u32 = 3;
/// Changes in a group, more or less: what comes after is in the next one.
const MOST: usize = 65_536;

/// What is submitted at once.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) number: u64,
    pub(crate) clocks: Clocks,
    pub(crate) urgent: bool,
    pub(crate) changes: Vec<(Space, Vec<u8>, Option<Vec<u8>>)>,
}

/// A key in its part of the store.
pub(crate) type Key = (Space, Vec<u8>);

/// The last change of each key: its value, or that it has none any more.
pub(crate) type Changes = HashMap<Key, Option<Vec<u8>>>;

/// What is written to.
pub(crate) enum Engine {
    Files(Files),
    #[cfg(feature = "etcd")]
    Shared(Box<Shared>),
}

impl Engine {
    /// Does what nobody has to wait for.
    fn settle(&mut self) {
        match self {
            Self::Files(files) => files.settle(),
            #[cfg(feature = "etcd")]
            Self::Shared(_) => {}
        }
    }

    /// Writes a group; `false` if this process is not to write any more.
    fn write(&mut self, changes: &Changes, clocks: Clocks) -> io::Result<bool> {
        match self {
            Self::Files(files) => files.write(changes, clocks).map(|()| true),
            #[cfg(feature = "etcd")]
            Self::Shared(shared) => shared.write(changes, clocks),
        }
    }

    /// When one that has refused is tried again.
    fn again(&self) -> Duration {
        match self {
            Self::Files(_) => AGAIN,
            #[cfg(feature = "etcd")]
            Self::Shared(_) => SOON,
        }
    }
}

pub(crate) struct Writer {
    /// What is written to, for people.
    name: String,
    engine: Engine,
    progress: Arc<Progress>,
    /// What is not on disk.
    changes: Changes,
    clocks: Clocks,
    number: u64,
    /// By when it has to be written; `None` if nothing waits.
    due: Option<Instant>,
}

impl Writer {
    pub(crate) fn new(name: String, engine: Engine, progress: Arc<Progress>) -> Self {
        Self {
            name,
            engine,
            progress,
            changes: Changes::new(),
            clocks: Clocks::default(),
            number: 0,
            due: None,
        }
    }

    /// Until nobody can submit any more, and all is written.
    pub(crate) fn run(mut self, batches: &Receiver<Batch>) {
        self.engine.settle();
        loop {
            let next = match self.due {
                Some(due) => batches.recv_deadline(due),
                None => batches.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(batch) => {
                    self.take(batch);
                    while self.changes.len() < MOST
                        && let Ok(batch) = batches.try_recv()
                    {
                        self.take(batch);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.due.is_some_and(|due| due <= Instant::now()) {
                self.write();
            }
            if self.progress.is_over.load(Ordering::Relaxed) {
                return;
            }
        }
        for _ in 0..LAST_TRIES {
            if self.changes.is_empty() || self.write() {
                return;
            }
            if self.progress.is_over.load(Ordering::Relaxed) {
                break;
            }
            std::thread::sleep(AGAIN);
        }
        tracing::error!(
            changes = self.changes.len(),
            "what could not be written is lost with the process"
        );
    }

    fn take(&mut self, batch: Batch) {
        self.number = batch.number;
        self.clocks = batch.clocks;
        let changes = u64::try_from(batch.changes.len()).unwrap_or(u64::MAX);
        self.progress.taken.fetch_add(changes, Ordering::Relaxed);
        for (space, key, value) in batch.changes {
            self.changes.insert((space, key), value);
        }
        // A disk that refuses is not asked for every message.
        if self.progress.is_failing.load(Ordering::Relaxed) {
            return;
        }
        let now = Instant::now();
        let due = if batch.urgent { now } else { now + LAZY };
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// Writes all that waits as one group; whether it is on disk.
    fn write(&mut self) -> bool {
        let failed = match self.engine.write(&self.changes, self.clocks) {
            Ok(true) => None,
            Ok(false) => {
                tracing::error!(
                    "{}: another process leads, this one writes no more",
                    self.name
                );
                self.progress.is_over.store(true, Ordering::Relaxed);
                return false;
            }
            Err(error) => Some(error),
        };
        let was_failing = self
            .progress
            .is_failing
            .swap(failed.is_some(), Ordering::Relaxed);
        match failed {
            None => {
                let changes = u64::try_from(self.changes.len()).unwrap_or(u64::MAX);
                self.changes.clear();
                self.due = None;
                self.progress.groups.fetch_add(1, Ordering::Relaxed);
                self.progress.changes.fetch_add(changes, Ordering::Relaxed);
                self.progress.kept.store(self.number, Ordering::Release);
                if was_failing {
                    tracing::info!(
                        changes,
                        "the store is written again, and nothing is missing"
                    );
                }
                true
            }
            Some(error) => {
                self.progress.failures.fetch_add(1, Ordering::Relaxed);
                if !was_failing {
                    let name = &self.name;
                    tracing::error!(store = %name, %error, "the store cannot be written; it is tried again and again");
                }
                self.due = Some(Instant::now() + self.engine.again());
                false
            }
        }
    }
}
