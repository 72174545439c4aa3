//! Flow Mobility Acknowledge (draft-bernardos-netext-pmipv6-flowmob).

use serde::{Deserialize, Serialize};

use crate::code::code;
use crate::codec::Writer;
use crate::error::DecodeError;
use crate::frame::Frame;
use crate::option::{FlowLifetime, HnpOption, MnIdOption, RawOption, kind};

code! {
    /// What became of a Flow Mobility Initiate; below 128 is success. The draft has no list: 128 and
    /// 129 are those of the sibling message in RFC 6705 §10.2.
    FmaStatus(u8) {
        /// The MAG routes as asked.
        SUCCESS = 0 as "Success",
        /// Rejected without a reason.
        UNSPECIFIED = 128 as "Reason unspecified",
        /// The mobile is not attached to the MAG.
        NOT_ATTACHED = 129 as "Mobile node not attached",
        /// The sequence number is not newer than the last one.
        SEQUENCE_OUT_OF_WINDOW = 130 as "Sequence number out of window",
        /// The selector's format is not supported.
        SELECTOR_FORMAT = 131 as "Traffic selector format not supported",
        /// There is no such flow to delete.
        UNKNOWN_FLOW = 132 as "No such flow",
    }
}

impl FmaStatus {
    /// Whether the request was carried out.
    pub const fn is_success(self) -> bool {
        self.0 < 128
    }
}

/// Flow Mobility Acknowledge: the MAG's answer to an [`Fmi`](super::Fmi).
///
/// ```text
///                                 +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///                                 |          Sequence #           |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |I|  Reserved   |    Status     |         Lifetime (s)          |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Fma {
    /// That of the request.
    pub sequence: u16,
    /// What became of the request.
    pub status: FmaStatus,
    /// Lifetime granted, at most what was asked for; zero after deletion or failure.
    pub lifetime: FlowLifetime,
    /// Who: repeated from the request.
    pub mn_id: Option<MnIdOption>,
    /// On success, the prefixes of the request.
    pub hnps: Vec<HnpOption>,
    /// Options without a field.
    pub others: Vec<RawOption>,
}

impl Fma {
    pub(super) fn decode(frame: Frame<'_>) -> Result<Self, DecodeError> {
        let ([s0, s1, _bits, status, l0, l1], options) = frame.split()?;
        let mut fma = Self {
            sequence: u16::from_be_bytes([s0, s1]),
            status: FmaStatus(status),
            lifetime: FlowLifetime::from_seconds(u16::from_be_bytes([l0, l1])),
            ..Self::default()
        };
        for option in options {
            let option = option?;
            match option.kind {
                kind::MN_ID => option.once(&mut fma.mn_id)?,
                kind::HNP => option.push(&mut fma.hnps)?,
                _ => option.push(&mut fma.others)?,
            }
        }
        Ok(fma)
    }

    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.u16(self.sequence);
        writer.put([0, self.status.0]);
        writer.u16(self.lifetime.seconds());
        writer.options(&self.mn_id);
        writer.options(&self.hnps);
        writer.options(&self.others);
    }
}
