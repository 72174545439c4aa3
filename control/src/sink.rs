//! Where something is handed over to whoever asked for it, by a thread that never waits.

use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Takes things. Two are the same if they lead to the same reader.
#[derive(Debug)]
pub(crate) struct Sink<T>(Sender<T>);

/// A sink with room for so many, and where they arrive.
pub(crate) fn sink<T>(room: usize) -> (Sink<T>, Receiver<T>) {
    let (to, from) = channel(room);
    (Sink(to), from)
}

impl<T> Sink<T> {
    /// Whether nobody reads any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Hands something over; `false` if there is no room for it.
    pub(crate) fn offer(&self, thing: T) -> bool {
        self.0.try_send(thing).is_ok()
    }
}

impl<T> Clone for Sink<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> PartialEq for Sink<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }
}

impl<T> Eq for Sink<T> {}
