//! Update Notification Acknowledgement (RFC 7077 §4.2), which is RFC 7864's Flow Mobility
//! Acknowledge.

use serde::{Deserialize, Serialize};

use crate::code::code;
use crate::codec::Writer;
use crate::error::DecodeError;
use crate::frame::Frame;
use crate::option::{FlowIdentification, HnpOption, MnIdOption, RawOption, kind};

code! {
    /// What became of a notification (RFC 7077 §4.2, RFC 7864 §4.3); below 128 is success.
    UpaStatus(u8) {
        /// Done.
        SUCCESS = 0 as "SUCCESS",
        /// The session cannot have those parameters.
        FAILED_TO_UPDATE_SESSION_PARAMETERS = 128 as "FAILED-TO-UPDATE-SESSION-PARAMETERS",
        /// The reason is a vendor's but there is no vendor's option.
        MISSING_VENDOR_SPECIFIC_OPTION = 129 as "MISSING-VENDOR-SPECIFIC-OPTION",
        /// Rejected without a reason.
        UNSPECIFIED = 131 as "Reason unspecified",
        /// The mobile is not attached to the MAG.
        NOT_ATTACHED = 132 as "MN not attached",
    }
}

impl UpaStatus {
    /// Whether the notification was acted on.
    pub const fn is_success(self) -> bool {
        self.0 < 128
    }
}

/// Update Notification Acknowledgement: the MAG's answer to a [`Upn`](super::Upn).
///
/// ```text
///                                 +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///                                 |          Sequence #           |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |  Status Code  |                    Reserved                   |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Upa {
    /// That of the notification.
    pub sequence: u16,
    /// What became of the notification.
    pub status: UpaStatus,
    /// Who: repeated from the notification.
    pub mn_id: Option<MnIdOption>,
    /// On success, the prefixes of the notification.
    pub hnps: Vec<HnpOption>,
    /// Flows that were refused, with their status.
    pub flows: Vec<FlowIdentification>,
    /// Options without a field.
    pub others: Vec<RawOption>,
}

impl Upa {
    pub(super) fn decode(frame: Frame<'_>) -> Result<Self, DecodeError> {
        let ([s0, s1, status, _, _, _], options) = frame.split()?;
        let mut upa = Self {
            sequence: u16::from_be_bytes([s0, s1]),
            status: UpaStatus(status),
            ..Self::default()
        };
        for option in options {
            let option = option?;
            match option.kind {
                kind::MN_ID => option.once(&mut upa.mn_id)?,
                kind::HNP => option.push(&mut upa.hnps)?,
                kind::FLOW_IDENTIFICATION => option.push(&mut upa.flows)?,
                _ => option.push(&mut upa.others)?,
            }
        }
        Ok(upa)
    }

    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.u16(self.sequence);
        writer.put([self.status.0, 0, 0, 0]);
        writer.options(&self.mn_id);
        writer.options(&self.hnps);
        writer.options(&self.flows);
        writer.options(&self.others);
    }
}
