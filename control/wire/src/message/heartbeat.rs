//! Heartbeat (RFC 5847 §3.3).

use serde::{Deserialize, Serialize};

use crate::codec::Writer;
use crate::error::DecodeError;
use crate::frame::Frame;
use crate::option::{RawOption, RestartCounter, kind};

/// The U bit.
const UNSOLICITED: u8 = 0x02;
/// The R bit.
const RESPONSE: u8 = 0x01;

/// What a heartbeat is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum HeartbeatKind {
    /// Is the peer alive? Always answered.
    Request,
    /// It is; the sequence number is that of the request.
    Response,
    /// The peer says so unasked, after a restart; the sequence number means nothing.
    Unsolicited,
}

/// Heartbeat: shows that a peer is alive, and whether it lost its sessions.
///
/// ```text
///                                 +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///                                 |           Reserved        |U|R|
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                        Sequence Number                        |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Request or response.
    pub kind: HeartbeatKind,
    /// Matches the response to the request.
    pub sequence: u32,
    /// In responses: differs from the last one if the sender lost its sessions since.
    pub restart_counter: Option<RestartCounter>,
    /// Options without a field.
    pub others: Vec<RawOption>,
}

impl Heartbeat {
    pub(super) fn decode(frame: Frame<'_>) -> Result<Self, DecodeError> {
        let ([_reserved, bits, sequence @ ..], options) = frame.split::<6>()?;
        let mut heartbeat = Self {
            kind: match (bits & RESPONSE != 0, bits & UNSOLICITED != 0) {
                (false, _) => HeartbeatKind::Request,
                (true, false) => HeartbeatKind::Response,
                (true, true) => HeartbeatKind::Unsolicited,
            },
            sequence: u32::from_be_bytes(sequence),
            restart_counter: None,
            others: Vec::new(),
        };
        for option in options {
            let option = option?;
            match option.kind {
                kind::RESTART_COUNTER => option.once(&mut heartbeat.restart_counter)?,
                _ => option.push(&mut heartbeat.others)?,
            }
        }
        Ok(heartbeat)
    }

    pub(super) fn encode(&self, writer: &mut Writer) {
        let bits = match self.kind {
            HeartbeatKind::Request => 0,
            HeartbeatKind::Response => RESPONSE,
            HeartbeatKind::Unsolicited => RESPONSE | UNSOLICITED,
        };
        writer.put([0, bits]);
        writer.put(self.sequence.to_be_bytes());
        writer.options(&self.restart_counter);
        writer.options(&self.others);
    }
}
