//! Captured frames on their way from the control thread to whoever captures.
//!
//! The control thread never waits: what there is no room for is counted, and told with the next frame.

use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Frames that may wait for a slow reader.
const WAITING: usize = 4096;

/// A frame, and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Place of the port among the interfaces.
    pub(crate) interface: u32,
    /// When it was seen, since 1970.
    pub(crate) time: std::time::Duration,
    /// Whether it came in.
    pub(crate) came: bool,
    /// Frames before it that are missing.
    pub(crate) missed: u64,
    /// Its octets, or the first of them.
    pub(crate) octets: Vec<u8>,
    /// How many it had.
    pub(crate) len: u32,
    /// Whose it is and what became of it, in words.
    pub(crate) comment: String,
}

/// Takes frames. Two are the same if they lead to the same reader.
#[derive(Clone, Debug)]
pub(crate) struct FrameSink(Sender<Frame>);

/// A sink, and where its frames arrive.
pub(crate) fn frames() -> (FrameSink, Receiver<Frame>) {
    let (to, from) = channel(WAITING);
    (FrameSink(to), from)
}

impl FrameSink {
    /// Whether nobody reads any more.
    #[cfg(feature = "dpdk")]
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Hands a frame over; `false` if there is no room for it.
    #[cfg(feature = "dpdk")]
    pub(crate) fn offer(&self, frame: Frame) -> bool {
        self.0.try_send(frame).is_ok()
    }
}

impl PartialEq for FrameSink {
    fn eq(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }
}

impl Eq for FrameSink {}
