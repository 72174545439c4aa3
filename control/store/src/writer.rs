//! The thread that writes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use crate::files::Files;
use crate::{Clocks, Progress, Space};

/// How long changes wait that nobody waits for.
const LAZY: Duration = Duration::from_secs(1);
/// When a disk that has refused is tried again.
const AGAIN: Duration = Duration::from_secs(1);
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

pub(crate) struct Writer {
    directory: PathBuf,
    files: Files,
    progress: Arc<Progress>,
    /// What is not on disk.
    changes: Changes,
    clocks: Clocks,
    number: u64,
    /// By when it has to be written; `None` if nothing waits.
    due: Option<Instant>,
}

impl Writer {
    pub(crate) fn new(directory: PathBuf, files: Files, progress: Arc<Progress>) -> Self {
        Self {
            directory,
            files,
            progress,
            changes: Changes::new(),
            clocks: Clocks::default(),
            number: 0,
            due: None,
        }
    }

    /// Until nobody can submit any more, and all is written.
    pub(crate) fn run(mut self, batches: &Receiver<Batch>) {
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
        }
        for _ in 0..LAST_TRIES {
            if self.changes.is_empty() || self.write() {
                return;
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
        let failed = self.files.write(&self.changes, self.clocks).err();
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
                    let directory = self.directory.display();
                    tracing::error!(%directory, %error, "the store cannot be written; it is tried again every second");
                }
                self.due = Some(Instant::now() + AGAIN);
                false
            }
        }
    }
}
