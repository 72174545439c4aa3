//! Proxy Binding Update (RFC 5213 §8.1).

use std::net::Ipv6Addr;

use flow::{AccessTechnology, HandoffIndicator, MnLinkLayerId, ProxyCoa};
use serde::{Deserialize, Serialize};

use crate::code::flags;
use crate::codec::Writer;
use crate::error::DecodeError;
use crate::frame::Frame;
use crate::option::{
    BidOption, BindingLifetime, FlowIdentification, FlowSummary, HnpOption, MnIdOption, RawOption,
    RedirectCapability, Timestamp, kind,
};

flags! {
    /// Flags of a Proxy Binding Update.
    PbuFlags(u16) {
        /// A: an acknowledgement is wanted; always set (RFC 5213 §6.9.1.5).
        ACKNOWLEDGE = 0x8000,
        /// H: home registration of Mobile IPv6 (RFC 6275 §6.1.7).
        HOME_REGISTRATION = 0x4000,
        /// L: link-local address compatibility (RFC 6275 §6.1.7).
        LINK_LOCAL = 0x2000,
        /// K: key management mobility (RFC 6275 §6.1.7).
        KEY_MANAGEMENT = 0x1000,
        /// M: registration at a mobility anchor point (RFC 5380).
        MAP_REGISTRATION = 0x0800,
        /// R: mobile router (RFC 3963 §4.1).
        MOBILE_ROUTER = 0x0400,
        /// P: proxy registration; without it the message is a mobile's own Binding Update
        /// (RFC 5213 §8.1).
        PROXY = 0x0200,
        /// F: force UDP encapsulation (RFC 5844 §4.1.3.1).
        FORCE_UDP = 0x0100,
        /// T: TLV header format (RFC 5845 §6.2).
        TLV_HEADER = 0x0080,
        /// B: bulk binding update (RFC 6602 §4.1).
        BULK = 0x0040,
        /// What a MAG sets in every request: A and P.
        REQUEST = 0x8200,
    }
}

/// Proxy Binding Update: a MAG registers, refreshes or ends a mobile's session at the LMA.
///
/// ```text
///                                 +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///                                 |          Sequence #           |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |A|H|L|K|M|R|P|F|T|B| Reserved  |        Lifetime (4 s)         |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Pbu {
    /// Matches the acknowledgement to the request; also their order when timestamps are not used.
    pub sequence: u16,
    /// Flags, unknown ones included.
    pub flags: PbuFlags,
    /// Lifetime asked for; zero de-registers.
    pub lifetime: BindingLifetime,
    /// Who.
    pub mn_id: Option<MnIdOption>,
    /// Prefixes asked for, or one [`HnpOption::ALL_ZERO`].
    pub hnps: Vec<HnpOption>,
    /// Why the session is registered here.
    pub handoff: Option<HandoffIndicator>,
    /// What the mobile is attached by.
    pub access: Option<AccessTechnology>,
    /// Which interface of the mobile is attached.
    pub ll_id: Option<MnLinkLayerId>,
    /// The MAG's address on the mobile's link, or `::` for the LMA to give one.
    pub link_local: Option<Ipv6Addr>,
    /// When the request was made.
    pub timestamp: Option<Timestamp>,
    /// The Proxy-CoA, if it is not the packet's source.
    pub alt_coa: Option<ProxyCoa>,
    /// Bindings by number, from peers that number them (RFC 5648 §4.3).
    pub bids: Vec<BidOption>,
    /// Flows (RFC 6089 §4.2).
    pub flows: Vec<FlowIdentification>,
    /// Flows that stay as they are (RFC 6089 §4.2.2).
    pub flow_summary: Option<FlowSummary>,
    /// Whether the answer may name another LMA (RFC 6463 §4.1).
    pub redirect_capability: bool,
    /// Options without a field.
    pub others: Vec<RawOption>,
}

impl Pbu {
    /// Whether this is a proxy registration and not a mobile's own.
    pub fn is_proxy(&self) -> bool {
        self.flags.contains(PbuFlags::PROXY)
    }

    pub(super) fn decode(frame: Frame<'_>) -> Result<Self, DecodeError> {
        let ([s0, s1, f0, f1, l0, l1], options) = frame.split()?;
        let mut pbu = Self {
            sequence: u16::from_be_bytes([s0, s1]),
            flags: PbuFlags(u16::from_be_bytes([f0, f1])),
            lifetime: BindingLifetime::from_units(u16::from_be_bytes([l0, l1])),
            ..Self::default()
        };
        let mut capability: Option<RedirectCapability> = None;
        for option in options {
            let option = option?;
            match option.kind {
                kind::MN_ID => option.once(&mut pbu.mn_id)?,
                kind::HNP => option.push(&mut pbu.hnps)?,
                kind::HANDOFF_INDICATOR => option.once(&mut pbu.handoff)?,
                kind::ACCESS_TECHNOLOGY => option.once(&mut pbu.access)?,
                kind::MN_LL_ID => option.once(&mut pbu.ll_id)?,
                kind::LINK_LOCAL => option.once(&mut pbu.link_local)?,
                kind::TIMESTAMP => option.once(&mut pbu.timestamp)?,
                kind::ALTERNATE_COA => option.once(&mut pbu.alt_coa)?,
                kind::BID => option.push(&mut pbu.bids)?,
                kind::FLOW_IDENTIFICATION => option.push(&mut pbu.flows)?,
                kind::FLOW_SUMMARY => option.once(&mut pbu.flow_summary)?,
                kind::REDIRECT_CAPABILITY => option.once(&mut capability)?,
                _ => option.push(&mut pbu.others)?,
            }
        }
        pbu.redirect_capability = capability.is_some();
        Ok(pbu)
    }

    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.u16(self.sequence);
        writer.u16(self.flags.0);
        writer.u16(self.lifetime.units());
        writer.options(&self.mn_id);
        writer.options(&self.hnps);
        writer.options(&self.handoff);
        writer.options(&self.access);
        writer.options(&self.ll_id);
        writer.options(&self.link_local);
        writer.options(&self.timestamp);
        writer.options(&self.alt_coa);
        writer.options(&self.bids);
        writer.options(&self.flows);
        writer.options(&self.flow_summary);
        writer.options(&self.redirect_capability.then_some(RedirectCapability));
        writer.options(&self.others);
    }
}
