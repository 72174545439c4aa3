//! What of the state machines outlives the process: records in a [`Store`], and what waits until they are on disk.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use config::{Config, Durability};
use pmip_proto::{Now, Record};
use store::{Clocks, Contents, Mark, Space, Store};
use tokio::sync::oneshot;

use super::calls::answered;
use super::control::Control;
use super::recorder::{RecordedLma, RecordedMag};
use crate::server::Answer;

/// The directory in the state directory.
const DIRECTORY: &str = "records";
/// Lines about records that cannot be used: the first ones tell what is wrong.
pub(super) const LINES: usize = 20;

/// How often whoever leads a pair writes what time it is, also if nothing else changes.
const BEAT: Duration = Duration::from_secs(1);
/// The key of that: who stands by hears the clocks that come with every change.
const CLOCK: &[u8] = b"clock";

/// Answers that may wait for the disk: what comes then is not begun.
pub(super) const MOST_ANSWERS: usize = 1024;

/// An answer to somebody, and after which change it may be given.
struct Promise {
    /// `None` before the changes that follow from the request have been submitted.
    mark: Option<Mark>,
    reply: oneshot::Sender<Answer>,
    answer: Answer,
}

/// The store of a process, if it has one.
#[derive(Default)]
pub(super) struct Keeping {
    store: Option<Store>,
    /// Whether messages wait for the disk.
    waits: bool,
    /// When it is to be written next what time it is, if somebody wants to know.
    next_beat: Option<Duration>,
    promises: VecDeque<Promise>,
}

/// How the store does, for metrics.
pub(super) struct Kept {
    /// Groups that are not on disk yet.
    pub(super) waiting: u64,
    /// Groups written.
    pub(super) groups: u64,
    /// Changes in them.
    pub(super) changes: u64,
    /// How often the disk refused.
    pub(super) failures: u64,
}

impl Keeping {
    /// Opens the store that a configuration asks for, with what is in it.
    ///
    /// # Errors
    /// If its files cannot be used. Damaged ones are reported and put aside.
    pub(super) fn open(config: &Config) -> anyhow::Result<(Self, Contents)> {
        let durability = config.process.durability;
        let Some(directory) = config.state_directory() else {
            return Ok((Self::default(), Contents::default()));
        };
        let directory = directory.join(DIRECTORY);
        if durability == Durability::None {
            // Who keeps records again later must not take them for what was.
            if let Some(aside) = Store::put_aside(&directory)? {
                let aside = aside.display();
                tracing::warn!("nothing is kept: what was kept before is put aside, in {aside}");
            }
            return Ok((Self::default(), Contents::default()));
        }
        let (store, contents) = Store::open(&directory).context(
            "sessions and flows of before cannot be read; [process] state_directory says where they are, and with \
             `durability = \"none\"` there are none",
        )?;
        report(&directory, &contents);
        let keeping = Self {
            store: Some(store),
            waits: durability == Durability::AcknowledgeAfterCommit,
            next_beat: None,
            promises: VecDeque::new(),
        };
        Ok((keeping, contents))
    }

    /// Goes on with a store that this process may write from now on.
    pub(super) fn shared(store: Store) -> Self {
        Self {
            store: Some(store),
            waits: true,
            next_beat: Some(Duration::ZERO),
            promises: VecDeque::new(),
        }
    }

    /// Whether nothing will be kept any more.
    pub(super) fn is_over(&self) -> bool {
        self.store.as_ref().is_some_and(Store::has_ended)
    }

    /// Whether there is a store.
    pub(super) fn is_on(&self) -> bool {
        self.store.is_some()
    }

    /// What has to be on disk before a message that is issued now may leave.
    pub(super) fn mark(&self) -> Mark {
        match &self.store {
            Some(store) if self.waits => store.mark(),
            Some(_) | None => Mark::default(),
        }
    }

    /// Whether that is so.
    pub(super) fn has_kept(&self, mark: Mark) -> bool {
        self.store.as_ref().is_none_or(|store| store.has_kept(mark))
    }

    /// Whether all that was submitted is on disk.
    pub(super) fn is_settled(&self) -> bool {
        self.has_kept(self.mark()) && self.promises.is_empty()
    }

    /// Whether the disk refuses what is to be kept.
    pub(super) fn is_failing(&self) -> bool {
        let store = self.store.as_ref();
        store.is_some_and(|store| store.progress().is_failing.load(Ordering::Relaxed))
    }

    /// How the store does.
    pub(super) fn progress(&self) -> Option<Kept> {
        let store = self.store.as_ref()?;
        let progress = store.progress();
        Some(Kept {
            waiting: store.waiting(),
            groups: progress.groups.load(Ordering::Relaxed),
            changes: progress.changes.load(Ordering::Relaxed),
            failures: progress.failures.load(Ordering::Relaxed),
        })
    }

    /// Changes that the store has not taken up.
    pub(super) fn queued(&self) -> u64 {
        self.store.as_ref().map_or(0, Store::queued)
    }

    /// Whether as many answers wait as may. Who has lost patience is not waited for.
    pub(super) fn is_full(&mut self) -> bool {
        if self.promises.len() >= MOST_ANSWERS {
            self.promises.retain(|promise| !promise.reply.is_closed());
        }
        self.promises.len() >= MOST_ANSWERS
    }

    /// Answers a request once what it has changed is on disk.
    pub(super) fn promise(&mut self, reply: oneshot::Sender<Answer>, answer: Answer) {
        if self.waits && answer.is_ok() {
            self.promises.push_back(Promise {
                mark: None,
                reply,
                answer,
            });
        } else {
            answered(reply, answer);
        }
    }

    /// Hands over what has changed.
    fn submit(&mut self, now: Now) {
        if let Some(store) = &mut self.store {
            if self.next_beat.is_some_and(|next| next <= now.monotonic) {
                let micros = u64::try_from(now.monotonic.as_micros()).unwrap_or(u64::MAX);
                let value = Some(micros.to_be_bytes().to_vec());
                // No message waits for that.
                store.put(Space::Process, CLOCK.to_vec(), value, false);
                self.next_beat = Some(now.monotonic + BEAT);
            }
            store.submit(clocks(now));
        }
        let mark = self.mark();
        for promise in self.promises.iter_mut().rev() {
            if promise.mark.is_some() {
                break;
            }
            promise.mark = Some(mark);
        }
    }

    /// Gives the answers whose time has come.
    pub(super) fn fulfil(&mut self) {
        while let Some(promise) = self.promises.front()
            && promise.mark.is_some_and(|mark| self.has_kept(mark))
            && let Some(Promise { reply, answer, .. }) = self.promises.pop_front()
        {
            answered(reply, answer);
        }
    }

    /// Writes what is left.
    pub(super) fn close(&mut self) {
        if let Some(store) = self.store.take()
            && !store.close()
        {
            tracing::error!("not all of what has changed last could be written");
        }
    }

    /// Keeps something of the process as a whole, or nothing any more.
    pub(super) fn keep(&mut self, space: Space, key: Vec<u8>, value: Option<Vec<u8>>) {
        if let Some(store) = &mut self.store {
            store.put(space, key, value, true);
        }
    }

    fn put(&mut self, space: Space, record: Record) {
        if let Some(store) = &mut self.store {
            store.put(space, record.key, record.value, record.urgent);
        }
    }
}

impl Control {
    /// Writes down what has changed, before any command that follows from it is carried out.
    pub(super) fn keep(&mut self, now: Now) {
        if !self.keeping.is_on() {
            return;
        }
        while let Some(record) = self.lma.as_mut().and_then(RecordedLma::poll_record) {
            self.keeping.put(Space::Lma, record);
        }
        while let Some(record) = self.mag.as_mut().and_then(RecordedMag::poll_record) {
            self.keeping.put(Space::Mag, record);
        }
        self.keeping.submit(now);
    }
}

fn clocks(now: Now) -> Clocks {
    Clocks {
        monotonic: now.monotonic,
        wall: now.wall,
    }
}

/// Says what was not as it should be.
fn report(directory: &Path, contents: &Contents) {
    let directory = directory.display();
    if contents.torn > 0 {
        let octets = contents.torn;
        tracing::info!(%directory, octets, "the process ended while it wrote: what it had not finished is left out");
    }
    for what in contents.damage.iter().take(LINES) {
        tracing::error!("damaged: {what}");
    }
    if let Some(aside) = &contents.put_aside {
        let (aside, places) = (aside.display(), contents.damage.len());
        tracing::error!(
            places,
            "files were damaged; they are in {aside}, and what was good in them is used"
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn answers_that_wait_are_bounded_and_who_has_gone_makes_room() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(directory.path()).unwrap();
        let mut keeping = Keeping::shared(store);
        let mut listening = Vec::new();
        for _ in 0..MOST_ANSWERS {
            assert!(!keeping.is_full());
            let (reply, answer) = oneshot::channel();
            keeping.promise(reply, Ok(Value::Null));
            listening.push(answer);
        }
        assert!(keeping.is_full());
        listening.pop();
        assert!(!keeping.is_full());
    }
}
