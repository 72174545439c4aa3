//! Captured frames on their way from the control thread to whoever captures.
//!
//! What there is no room for is counted, and told with the next frame.

use crate::sink::Sink;

/// Frames that may wait for a slow reader.
pub(crate) const WAITING: usize = 4096;

/// Takes frames.
pub(crate) type FrameSink = Sink<Frame>;

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
