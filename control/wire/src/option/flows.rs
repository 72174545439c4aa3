//! Flow Identification and Flow Summary options (RFC 6089 §4.2).

use flow::{Bid, Fid, FidPriority};
use serde::{Deserialize, Serialize};

use super::{OptionRef, Options, RawOption, SelectorOption, WireOption, kind};
use crate::code::code;
use crate::codec::{Alignment, Reader, Writer};
use crate::error::{DecodeError, DecodeErrorKind};

/// Sub-option types of Flow Identification.
mod sub_kind {
    /// Binding Reference (RFC 6089 §4.2.1.3).
    pub(super) const BINDING_REFERENCE: u8 = 2;
    /// Traffic Selector (RFC 6089 §4.2.1.4).
    pub(super) const TRAFFIC_SELECTOR: u8 = 3;
}

code! {
    /// What became of a flow (RFC 6089 §4.2); below 128 is success.
    FlowStatus(u8) {
        /// The flow binding was accepted.
        SUCCESS = 0 as "Flow binding successful",
        /// Administratively prohibited.
        PROHIBITED = 128 as "Administratively prohibited",
        /// Rejected without a reason.
        UNSPECIFIED = 129 as "Flow binding rejected, reason unspecified",
        /// The option is malformed.
        MALFORMED = 130 as "Flow identification mobility option malformed",
        /// No binding has the BID.
        BID_NOT_FOUND = 131 as "BID not found",
        /// No flow has the FID.
        FID_NOT_FOUND = 132 as "FID not found",
        /// The selector's format is not supported.
        SELECTOR_FORMAT = 133 as "Traffic selector format not supported",
    }
}

impl FlowStatus {
    /// Whether the flow was accepted.
    pub const fn is_success(self) -> bool {
        self.0 < 128
    }
}

/// A flow and, where the message says so, its packets and its bindings:
///
/// ```text
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |      Type     |   Length      |              FID              |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |             FID-PRI           |   Reserved    |    Status     |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |     Sub-options (optional) ...
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct FlowIdentification {
    /// The flow's number.
    pub fid: Fid,
    /// The flow's place among those of the mobile.
    pub priority: FidPriority,
    /// What became of it, in an answer; success in a request.
    pub status: FlowStatus,
    /// Bindings the flow goes to; empty in messages to a MAG, which knows no BIDs (RFC 7864 §5.1).
    pub bindings: Vec<Bid>,
    /// The packets of the flow.
    pub selector: Option<SelectorOption>,
    /// Sub-options without a field.
    pub others: Vec<RawOption>,
}

impl WireOption for FlowIdentification {
    fn decode(option: &OptionRef<'_>) -> Result<Self, DecodeError> {
        let ([fid_high, fid_low, high, low, _reserved, status], _) = option.prefixed()?;
        let reserved = |within| option.fail(within, DecodeErrorKind::ReservedNumber(option.kind));
        let mut flow = Self {
            fid: Fid::new(u16::from_be_bytes([*fid_high, *fid_low])).ok_or(reserved(2))?,
            priority: FidPriority::new(u16::from_be_bytes([*high, *low])).ok_or(reserved(4))?,
            status: FlowStatus(*status),
            bindings: Vec::new(),
            selector: None,
            others: Vec::new(),
        };
        let mut reader = Reader::new(option.data, option.offset + 2);
        reader.take(6);
        let mut bindings = None;
        // Sub-options have the framing of options. RFC 6089 §4.2.1.2 would have a PadN count its
        // own first two octets, against the general rule of §4.2.1; senders follow the latter.
        for sub in Options::new(reader) {
            let sub = sub?;
            match sub.kind {
                sub_kind::BINDING_REFERENCE => {
                    sub.once_with(&mut bindings, |sub| numbers(sub, Bid::new))?;
                }
                // The sub-option has the body of the draft's option, which is the selector's own.
                sub_kind::TRAFFIC_SELECTOR => sub.once(&mut flow.selector)?,
                _ => sub.push(&mut flow.others)?,
            }
        }
        flow.bindings = bindings.unwrap_or_default();
        Ok(flow)
    }

    fn encode(&self, writer: &mut Writer) {
        // Some receivers misread padding between sub-options (see above), so the option itself is
        // put where its selector needs no padding.
        let references = match self.bindings.len() {
            0 => 0,
            n => 2 + 2 * n,
        };
        let alignment = self
            .selector
            .as_ref()
            .map_or(Alignment::ANY, SelectorOption::alignment)
            .before(8 + references)
            .at_least_even();
        writer.option(kind::FLOW_IDENTIFICATION, alignment, |w| {
            w.u16(self.fid.0.get());
            w.u16(self.priority.0.get());
            w.put([0, self.status.0]);
            if !self.bindings.is_empty() {
                w.option(sub_kind::BINDING_REFERENCE, Alignment::ANY, |w| {
                    self.bindings.iter().for_each(|bid| w.u16(bid.0.get()));
                });
            }
            if let Some(selector) = &self.selector {
                selector.encode_as(sub_kind::TRAFFIC_SELECTOR, w);
            }
            for other in &self.others {
                w.option(other.kind(), Alignment::ANY, |w| w.put(other.data()));
            }
        });
    }
}

/// Flows of earlier messages that stay as they are, at most 127 (RFC 6089 §4.2.2).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct FlowSummary(pub Vec<Fid>);

impl WireOption for FlowSummary {
    fn decode(option: &OptionRef<'_>) -> Result<Self, DecodeError> {
        numbers(option, Fid::new).map(Self)
    }

    fn encode(&self, writer: &mut Writer) {
        writer.option(kind::FLOW_SUMMARY, Alignment::new(2, 0), |w| {
            self.0.iter().for_each(|fid| w.u16(fid.0.get()));
        });
    }
}

/// Reads data that is a list of 16-bit numbers, none of them 0.
fn numbers<T>(
    option: &OptionRef<'_>,
    new: impl Fn(u16) -> Option<T>,
) -> Result<Vec<T>, DecodeError> {
    let (pairs, []) = option.data.as_chunks::<2>() else {
        return Err(option.wrong_length());
    };
    pairs
        .iter()
        .enumerate()
        .map(|(i, pair)| {
            new(u16::from_be_bytes(*pair))
                .ok_or_else(|| option.fail(2 + 2 * i, DecodeErrorKind::ReservedNumber(option.kind)))
        })
        .collect()
}
