//! Events on their way from whoever makes them to whoever listens.
//!
//! The maker never waits: what a listener is too slow for, the listener misses, and is told how much.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender, channel};

use crate::api::event::{Event, What};

/// Events that a listener may be behind, and that are kept for those who come later.
const KEPT: usize = 1024;

/// Where events are made.
#[derive(Debug)]
pub(crate) struct EventMaker {
    to: Sender<Arc<Event>>,
    last: u64,
}

impl EventMaker {
    /// Tells everybody.
    pub(crate) fn tell(&mut self, warning: bool, what: What) {
        self.last += 1;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        let unix_ms = since_1970.unwrap_or_default().as_millis();
        let event = Event {
            id: self.last,
            unix_ms: u64::try_from(unix_ms).unwrap_or(u64::MAX),
            warning,
            text: what.to_string(),
            what,
        };
        // Nobody listens while the process ends.
        let _ = self.to.send(Arc::new(event));
    }
}

/// Where events are heard. Clones hear the same.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    from: Sender<Arc<Event>>,
    kept: Arc<Mutex<VecDeque<Arc<Event>>>>,
}

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The next event.
    Event(Arc<Event>),
    /// So many passed unheard.
    Missed(u64),
}

/// Hears everything from the first event on, so that those who come later hear it too.
#[derive(Debug)]
pub(crate) struct Keeper {
    feed: Feed,
    listener: Receiver<Arc<Event>>,
}

/// The two ends.
pub(crate) fn feed() -> (EventMaker, Keeper) {
    let (to, listener) = channel(KEPT);
    let feed = Feed {
        from: to.clone(),
        kept: Arc::default(),
    };
    (EventMaker { to, last: 0 }, Keeper { feed, listener })
}

impl Keeper {
    /// Where events are heard, and what has to run for that; it never ends.
    pub(crate) fn start(self) -> (Feed, impl Future<Output = ()> + use<>) {
        let Self { feed, mut listener } = self;
        let kept = Arc::clone(&feed.kept);
        let keeping = async move {
            loop {
                match listener.recv().await {
                    Ok(event) => {
                        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                        if kept.len() == KEPT {
                            kept.pop_front();
                        }
                        kept.push_back(event);
                    }
                    // The numbers of those that are kept tell that some are not.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        };
        (feed, keeping)
    }
}

impl Feed {
    /// The kept events after this one, oldest first.
    pub(crate) fn after(&self, id: u64) -> Vec<Arc<Event>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().filter(|event| event.id > id).cloned().collect()
    }

    /// Listens from now on, after the kept events that follow `id`.
    pub(crate) fn listen(&self, id: u64) -> Listener {
        let live = self.from.subscribe();
        let before = VecDeque::from(self.after(id));
        Listener {
            live,
            before,
            last: id,
        }
    }
}

/// Somebody who listens.
#[derive(Debug)]
pub(crate) struct Listener {
    live: Receiver<Arc<Event>>,
    before: VecDeque<Arc<Event>>,
    last: u64,
}

impl Listener {
    /// Waits for the next event; `None` if there will be no more.
    pub(crate) async fn next(&mut self) -> Option<Heard> {
        loop {
            let event = match self.before.pop_front() {
                Some(event) => event,
                None => match self.live.recv().await {
                    Ok(event) => event,
                    Err(RecvError::Lagged(missed)) => return Some(Heard::Missed(missed)),
                    Err(RecvError::Closed) => return None,
                },
            };
            // Some of the kept ones are heard once more.
            if event.id > self.last {
                self.last = event.id;
                return Some(Heard::Event(event));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(events: &[Arc<Event>]) -> Vec<u64> {
        events.iter().map(|event| event.id).collect()
    }

    #[test]
    fn listeners_hear_what_was_kept_and_what_comes_once_each() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut maker, keeper) = feed();
            maker.tell(false, What::ConfigurationApplied);
            let (feed, keeping) = keeper.start();
            tokio::spawn(keeping);
            for _ in 0..2 {
                maker.tell(false, What::ConfigurationApplied);
            }
            tokio::task::yield_now().await;
            assert_eq!(ids(&feed.after(1)), [2, 3]);
            let mut listener = feed.listen(1);
            maker.tell(true, What::ConfigurationApplied);
            for id in 2..=4 {
                let Some(Heard::Event(event)) = listener.next().await else {
                    panic!("no event {id}");
                };
                assert_eq!((event.id, event.warning), (id, id == 4));
                assert_eq!(event.text, "configuration applied");
            }
            for _ in 0..2 * KEPT {
                maker.tell(false, What::ConfigurationApplied);
            }
            let missed = listener.next().await;
            assert_eq!(missed, Some(Heard::Missed(u64::try_from(KEPT).unwrap())));
            // A task may do so much before others have their turn.
            for _ in 0..KEPT / 64 {
                tokio::task::yield_now().await;
            }
            assert_eq!(feed.after(0).len(), KEPT);
            drop((maker, feed));
        });
    }
}
