//! Flow Mobility Initiate (draft-bernardos-netext-pmipv6-flowmob).

use flow::{AccessTechnology, MnLinkLayerId};
use serde::{Deserialize, Serialize};

use crate::codec::Writer;
use crate::error::DecodeError;
use crate::frame::Frame;
use crate::option::{FlowLifetime, HnpOption, MnIdOption, RawOption, SelectorOption, kind};

/// The I bit, which tells the two messages of the type apart.
const INITIATE: u8 = 0x80;
/// The C bit.
const CANCEL: u8 = 0x40;
/// The R bit.
const REFRESH: u8 = 0x20;

/// Whether an experimental message is an FMI; else it is an FMA.
pub(super) fn is_fmi(frame: Frame<'_>) -> Result<bool, DecodeError> {
    let ([_, _, bits, _, _, _], _) = frame.split()?;
    Ok(bits & INITIATE != 0)
}

/// Flow Mobility Initiate: the LMA has a MAG route flows of a mobile, or stop doing so.
///
/// ```text
///                                 +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///                                 |          Sequence #           |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |I|C|R|        Reserved         |         Lifetime (s)          |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
///
/// The lifetime alone says what to do: zero deletes, anything else adds or refreshes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Fmi {
    /// Matches the acknowledgement to the request.
    pub sequence: u16,
    /// The C bit: set by us in deletions, not relied on.
    pub cancel: bool,
    /// The R bit: set by us in refreshes, not relied on.
    pub refresh: bool,
    /// How long the MAG keeps the state.
    pub lifetime: FlowLifetime,
    /// Who.
    pub mn_id: Option<MnIdOption>,
    /// The prefixes that the flows go to; off-link if another MAG hosts them.
    pub hnps: Vec<HnpOption>,
    /// Which access of the mobile, if it has several at the MAG.
    pub access: Option<AccessTechnology>,
    /// Which interface of the mobile, if it has several at the MAG.
    pub ll_id: Option<MnLinkLayerId>,
    /// The packets of the flows.
    pub selectors: Vec<SelectorOption>,
    /// Options without a field.
    pub others: Vec<RawOption>,
}

impl Fmi {
    /// Whether the flow state is to be deleted.
    pub fn is_deletion(&self) -> bool {
        self.lifetime.is_zero()
    }

    pub(super) fn decode(frame: Frame<'_>) -> Result<Self, DecodeError> {
        let ([s0, s1, bits, _reserved, l0, l1], options) = frame.split()?;
        let mut fmi = Self {
            sequence: u16::from_be_bytes([s0, s1]),
            cancel: bits & CANCEL != 0,
            refresh: bits & REFRESH != 0,
            lifetime: FlowLifetime::from_seconds(u16::from_be_bytes([l0, l1])),
            ..Self::default()
        };
        for option in options {
            let option = option?;
            match option.kind {
                kind::MN_ID => option.once(&mut fmi.mn_id)?,
                kind::HNP => option.push(&mut fmi.hnps)?,
                kind::ACCESS_TECHNOLOGY => option.once(&mut fmi.access)?,
                kind::MN_LL_ID => option.once(&mut fmi.ll_id)?,
                kind::EXPERIMENTAL => option.push(&mut fmi.selectors)?,
                _ => option.push(&mut fmi.others)?,
            }
        }
        Ok(fmi)
    }

    pub(super) fn encode(&self, writer: &mut Writer) {
        let bit = |set, bit| if set { bit } else { 0 };
        writer.u16(self.sequence);
        writer.u8(INITIATE | bit(self.cancel, CANCEL) | bit(self.refresh, REFRESH));
        writer.u8(0);
        writer.u16(self.lifetime.seconds());
        writer.options(&self.mn_id);
        writer.options(&self.hnps);
        writer.options(&self.access);
        writer.options(&self.ll_id);
        writer.options(&self.selectors);
        writer.options(&self.others);
    }
}
