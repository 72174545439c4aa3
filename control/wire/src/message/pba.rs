//! Proxy Binding Acknowledgement (RFC 5213 §8.2).

use std::net::Ipv6Addr;

use flow::{AccessTechnology, HandoffIndicator, MnLinkLayerId};
use serde::{Deserialize, Serialize};

use crate::code::{code, flags};
use crate::codec::Writer;
use crate::error::DecodeError;
use crate::frame::Frame;
use crate::option::{
    BidOption, BindingLifetime, FlowIdentification, HnpOption, LoadInformation, MnIdOption,
    RawOption, Redirect, Timestamp, kind,
};

code! {
    /// What became of a request (RFC 6275 §6.1.8, RFC 5213 §8.9); below 128 is accepted.
    BindingStatus(u8) {
        /// Accepted.
        ACCEPTED = 0 as "Proxy Binding Update accepted",
        /// Rejected without a reason.
        UNSPECIFIED = 128 as "Reason unspecified",
        /// Administratively prohibited.
        PROHIBITED = 129 as "Administratively prohibited",
        /// No prefix, or no room.
        INSUFFICIENT_RESOURCES = 130 as "Insufficient resources",
        /// The sequence number is not newer than the last one.
        SEQUENCE_OUT_OF_WINDOW = 135 as "Sequence number out of window",
        /// The mobile is not entitled to the service.
        PROXY_REG_NOT_ENABLED = 152 as "PROXY_REG_NOT_ENABLED",
        /// The mobile is not one of this LMA's.
        NOT_LMA_FOR_THIS_MOBILE_NODE = 153 as "NOT_LMA_FOR_THIS_MOBILE_NODE",
        /// The MAG may not register this mobile.
        MAG_NOT_AUTHORIZED_FOR_PROXY_REG = 154 as "MAG_NOT_AUTHORIZED_FOR_PROXY_REG",
        /// The prefix is another mobile's.
        NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX = 155 as "NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX",
        /// The timestamp is too far from the LMA's time.
        TIMESTAMP_MISMATCH = 156 as "TIMESTAMP_MISMATCH",
        /// The timestamp is not newer than the last one.
        TIMESTAMP_LOWER_THAN_PREV_ACCEPTED = 157 as "TIMESTAMP_LOWER_THAN_PREV_ACCEPTED",
        /// There is no Home Network Prefix option.
        MISSING_HOME_NETWORK_PREFIX_OPTION = 158 as "MISSING_HOME_NETWORK_PREFIX_OPTION",
        /// The prefixes are not those of the session.
        BCE_PBU_PREFIX_SET_DO_NOT_MATCH = 159 as "BCE_PBU_PREFIX_SET_DO_NOT_MATCH",
        /// There is no Mobile Node Identifier option.
        MISSING_MN_IDENTIFIER_OPTION = 160 as "MISSING_MN_IDENTIFIER_OPTION",
        /// There is no Handoff Indicator option.
        MISSING_HANDOFF_INDICATOR_OPTION = 161 as "MISSING_HANDOFF_INDICATOR_OPTION",
        /// There is no Access Technology Type option.
        MISSING_ACCESS_TECH_TYPE_OPTION = 162 as "MISSING_ACCESS_TECH_TYPE_OPTION",
        /// The care-of address cannot be one.
        INVALID_CARE_OF_ADDRESS = 174 as "Invalid Care-of Address",
    }
}

impl BindingStatus {
    /// Whether the request was accepted.
    pub const fn is_accepted(self) -> bool {
        self.0 < 128
    }
}

flags! {
    /// Flags of a Proxy Binding Acknowledgement.
    PbaFlags(u8) {
        /// K: key management mobility (RFC 6275 §6.1.8).
        KEY_MANAGEMENT = 0x80,
        /// R: mobile router (RFC 3963 §4.2).
        MOBILE_ROUTER = 0x40,
        /// P: the request had it (RFC 5213 §8.2).
        PROXY = 0x20,
        /// T: TLV header format (RFC 5845 §6.3).
        TLV_HEADER = 0x10,
        /// B: bulk binding update (RFC 6602 §4.2).
        BULK = 0x08,
    }
}

/// Proxy Binding Acknowledgement: the LMA's answer to a [`Pbu`](super::Pbu).
///
/// ```text
///                                 +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///                                 |   Status      |K|R|P|T|B| Res |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |          Sequence #           |        Lifetime (4 s)         |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Pba {
    /// What became of the request.
    pub status: BindingStatus,
    /// Flags, unknown ones included.
    pub flags: PbaFlags,
    /// That of the request.
    pub sequence: u16,
    /// Lifetime granted; means nothing in a rejection.
    pub lifetime: BindingLifetime,
    /// Who: repeated from the request, or [`MnIdOption::Empty`] if it had none.
    pub mn_id: Option<MnIdOption>,
    /// The prefixes of the session; off-link ones are those of flows moved here (RFC 7864 §3.3).
    pub hnps: Vec<HnpOption>,
    /// Repeated from the request, or 0.
    pub handoff: Option<HandoffIndicator>,
    /// Repeated from the request, or 0.
    pub access: Option<AccessTechnology>,
    /// Repeated from the request.
    pub ll_id: Option<MnLinkLayerId>,
    /// The MAG's address on the mobile's link.
    pub link_local: Option<Ipv6Addr>,
    /// Repeated from the request; the LMA's time in a TIMESTAMP_MISMATCH.
    pub timestamp: Option<Timestamp>,
    /// Bindings by number (RFC 5648 §4.3).
    pub bids: Vec<BidOption>,
    /// Flows moved here (RFC 7864 §3.3), or answers to those of the request (RFC 6089 §4.2).
    pub flows: Vec<FlowIdentification>,
    /// The LMA that the session is at, if it is not the one that answers (RFC 6463 §4.2).
    pub redirect: Option<Redirect>,
    /// What the LMA carries (RFC 6463 §4.3).
    pub load: Option<LoadInformation>,
    /// Options without a field.
    pub others: Vec<RawOption>,
}

impl Pba {
    /// Whether this answers a proxy registration.
    pub fn is_proxy(&self) -> bool {
        self.flags.contains(PbaFlags::PROXY)
    }

    pub(super) fn decode(frame: Frame<'_>) -> Result<Self, DecodeError> {
        let ([status, flags, s0, s1, l0, l1], options) = frame.split()?;
        let mut pba = Self {
            status: BindingStatus(status),
            flags: PbaFlags(flags),
            sequence: u16::from_be_bytes([s0, s1]),
            lifetime: BindingLifetime::from_units(u16::from_be_bytes([l0, l1])),
            ..Self::default()
        };
        for option in options {
            let option = option?;
            match option.kind {
                kind::MN_ID => option.once(&mut pba.mn_id)?,
                kind::HNP => option.push(&mut pba.hnps)?,
                kind::HANDOFF_INDICATOR => option.once(&mut pba.handoff)?,
                kind::ACCESS_TECHNOLOGY => option.once(&mut pba.access)?,
                kind::MN_LL_ID => option.once(&mut pba.ll_id)?,
                kind::LINK_LOCAL => option.once(&mut pba.link_local)?,
                kind::TIMESTAMP => option.once(&mut pba.timestamp)?,
                kind::BID => option.push(&mut pba.bids)?,
                kind::FLOW_IDENTIFICATION => option.push(&mut pba.flows)?,
                kind::REDIRECT => option.once(&mut pba.redirect)?,
                kind::LOAD_INFORMATION => option.once(&mut pba.load)?,
                _ => option.push(&mut pba.others)?,
            }
        }
        Ok(pba)
    }

    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.put([self.status.0, self.flags.0]);
        writer.u16(self.sequence);
        writer.u16(self.lifetime.units());
        writer.options(&self.mn_id);
        writer.options(&self.hnps);
        writer.options(&self.handoff);
        writer.options(&self.access);
        writer.options(&self.ll_id);
        writer.options(&self.link_local);
        writer.options(&self.timestamp);
        writer.options(&self.bids);
        writer.options(&self.flows);
        writer.options(&self.redirect);
        writer.options(&self.load);
        writer.options(&self.others);
    }
}
