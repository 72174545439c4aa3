//! Update Notification (RFC 7077 §4.1), which is RFC 7864's Flow Mobility Initiate.

use flow::{AccessTechnology, MnLinkLayerId};
use serde::{Deserialize, Serialize};

use crate::code::code;
use crate::codec::Writer;
use crate::error::DecodeError;
use crate::frame::Frame;
use crate::option::{FlowIdentification, HnpOption, MnIdOption, RawOption, kind};

/// The A bit.
const ACKNOWLEDGE: u8 = 0x80;
/// The D bit.
const RETRANSMISSION: u8 = 0x40;

code! {
    /// Why a notification was sent (RFC 7077 §4.1).
    NotificationReason(u16) {
        /// The MAG is to send a Proxy Binding Update.
        FORCE_REREGISTRATION = 1 as "FORCE-REREGISTRATION",
        /// The session has new parameters.
        UPDATE_SESSION_PARAMETERS = 2 as "UPDATE-SESSION-PARAMETERS",
        /// A vendor's option says why.
        VENDOR_SPECIFIC = 3 as "VENDOR-SPECIFIC-REASON",
        /// The LMA wants to know about the access network.
        ANI_PARAMS_REQUESTED = 4 as "ANI-PARAMS-REQUESTED",
        /// The message is a Flow Mobility Initiate (RFC 7864 §4.2).
        FLOW_MOBILITY = 8 as "FLOW-MOBILITY",
    }
}

/// Update Notification: the LMA tells a MAG of a change.
///
/// ```text
///                                 +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///                                 |          Sequence #           |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |      Notification Reason      |A|D|         Reserved          |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Upn {
    /// Matches the acknowledgement to the request.
    pub sequence: u16,
    /// Why.
    pub reason: NotificationReason,
    /// The A bit: an answer is wanted.
    pub acknowledge: bool,
    /// The D bit: the message was sent before.
    pub retransmission: bool,
    /// Who.
    pub mn_id: Option<MnIdOption>,
    /// With reason FLOW-MOBILITY: all prefixes that the MAG is to route to the mobile besides those
    /// of its own sessions, which it names only when there are no others.
    pub hnps: Vec<HnpOption>,
    /// Which access of the mobile, if it has several at the MAG.
    pub access: Option<AccessTechnology>,
    /// Which interface of the mobile, if it has several at the MAG.
    pub ll_id: Option<MnLinkLayerId>,
    /// With reason FLOW-MOBILITY: all flows moved to the MAG.
    pub flows: Vec<FlowIdentification>,
    /// Options without a field.
    pub others: Vec<RawOption>,
}

impl Upn {
    pub(super) fn decode(frame: Frame<'_>) -> Result<Self, DecodeError> {
        let ([s0, s1, r0, r1, bits, _reserved], options) = frame.split()?;
        let mut upn = Self {
            sequence: u16::from_be_bytes([s0, s1]),
            reason: NotificationReason(u16::from_be_bytes([r0, r1])),
            acknowledge: bits & ACKNOWLEDGE != 0,
            retransmission: bits & RETRANSMISSION != 0,
            ..Self::default()
        };
        for option in options {
            let option = option?;
            match option.kind {
                kind::MN_ID => option.once(&mut upn.mn_id)?,
                kind::HNP => option.push(&mut upn.hnps)?,
                kind::ACCESS_TECHNOLOGY => option.once(&mut upn.access)?,
                kind::MN_LL_ID => option.once(&mut upn.ll_id)?,
                kind::FLOW_IDENTIFICATION => option.push(&mut upn.flows)?,
                _ => option.push(&mut upn.others)?,
            }
        }
        Ok(upn)
    }

    pub(super) fn encode(&self, writer: &mut Writer) {
        let bit = |set, bit| if set { bit } else { 0 };
        writer.u16(self.sequence);
        writer.u16(self.reason.0);
        writer.u8(bit(self.acknowledge, ACKNOWLEDGE) | bit(self.retransmission, RETRANSMISSION));
        writer.u8(0);
        writer.options(&self.mn_id);
        writer.options(&self.hnps);
        writer.options(&self.access);
        writer.options(&self.ll_id);
        writer.options(&self.flows);
        writer.options(&self.others);
    }
}
