//! Mobility options: the framing they share, and one type for each that is understood.

use std::net::Ipv6Addr;

use flow::{AccessTechnology, HandoffIndicator, MnLinkLayerId, ProxyCoa};
use serde::{Deserialize, Serialize};

use crate::codec::{Alignment, Reader, Writer};
use crate::error::{DecodeError, DecodeErrorKind};

mod binding;
mod flows;
mod identity;
mod prefix;
mod redirect;
mod selector;
mod time;

pub use binding::{BidOption, BidPriority};
pub use flows::{FlowIdentification, FlowStatus, FlowSummary};
pub use identity::MnIdOption;
pub use prefix::HnpOption;
pub(crate) use redirect::RedirectCapability;
pub use redirect::{LoadInformation, Redirect};
pub use selector::{SelectorOption, UnreadableSelector};
pub use time::{BindingLifetime, FlowLifetime, RestartCounter, Timestamp};

/// Option types.
pub mod kind {
    /// One octet of padding, without a length (RFC 6275 §6.2.2).
    pub const PAD1: u8 = 0;
    /// Two or more octets of padding (RFC 6275 §6.2.3).
    pub const PADN: u8 = 1;
    /// Alternate Care-of Address (RFC 6275 §6.2.5).
    pub const ALTERNATE_COA: u8 = 3;
    /// Mobile Node Identifier (RFC 4283 §3).
    pub const MN_ID: u8 = 8;
    /// Experimental Mobility Option (RFC 5096 §4); here the draft's Traffic Selector.
    pub const EXPERIMENTAL: u8 = 18;
    /// Vendor Specific (RFC 5094).
    pub const VENDOR_SPECIFIC: u8 = 19;
    /// Home Network Prefix (RFC 5213 §8.3, RFC 7864 §4.1).
    pub const HNP: u8 = 22;
    /// Handoff Indicator (RFC 5213 §8.4).
    pub const HANDOFF_INDICATOR: u8 = 23;
    /// Access Technology Type (RFC 5213 §8.5).
    pub const ACCESS_TECHNOLOGY: u8 = 24;
    /// Mobile Node Link-layer Identifier (RFC 5213 §8.6).
    pub const MN_LL_ID: u8 = 25;
    /// Link-local Address (RFC 5213 §8.7).
    pub const LINK_LOCAL: u8 = 26;
    /// Timestamp (RFC 5213 §8.8).
    pub const TIMESTAMP: u8 = 27;
    /// Restart Counter (RFC 5847 §3.4).
    pub const RESTART_COUNTER: u8 = 28;
    /// GRE Key (RFC 5845 §6.1).
    pub const GRE_KEY: u8 = 33;
    /// Binding Identifier (RFC 5648 §4.3, RFC 6089 §4.1).
    pub const BID: u8 = 35;
    /// IPv4 Home Address Request (RFC 5844 §3.3.1).
    pub const IPV4_HOME_ADDRESS_REQUEST: u8 = 36;
    /// IPv4 Home Address Reply (RFC 5844 §3.3.2).
    pub const IPV4_HOME_ADDRESS_REPLY: u8 = 37;
    /// IPv4 Default-Router Address (RFC 5844 §3.3.3).
    pub const IPV4_DEFAULT_ROUTER: u8 = 38;
    /// Flow Summary; the figures of RFC 6089 §4.2.2 and the registry, not RFC 6089 §8.
    pub const FLOW_SUMMARY: u8 = 44;
    /// Flow Identification; the figures of RFC 6089 §4.2 and the registry, not RFC 6089 §8.
    pub const FLOW_IDENTIFICATION: u8 = 45;
    /// Redirect-Capability (RFC 6463 §4.1).
    pub const REDIRECT_CAPABILITY: u8 = 46;
    /// Redirect (RFC 6463 §4.2).
    pub const REDIRECT: u8 = 47;
    /// Load Information (RFC 6463 §4.3).
    pub const LOAD_INFORMATION: u8 = 48;
    /// Alternate IPv4 Care-of Address (RFC 6463 §4.4).
    pub const ALTERNATE_IPV4_COA: u8 = 49;
    /// MAG IPv6 Address (RFC 6705 §11.1).
    pub const MAG_IPV6_ADDRESS: u8 = 51;
}

/// An option as it is on the wire: how those are kept that this crate or the message that carries
/// them has no field for.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct RawOption {
    kind: u8,
    data: Box<[u8]>,
}

impl RawOption {
    /// An option of a type, see [`kind`], and its octets after the length; `None` if `kind` is
    /// padding or `data` has more than 255 octets.
    pub fn new(kind: u8, data: &[u8]) -> Option<Self> {
        let fits = kind > kind::PADN && u8::try_from(data.len()).is_ok();
        fits.then(|| Self {
            kind,
            data: data.into(),
        })
    }

    /// The option's type.
    pub fn kind(&self) -> u8 {
        self.kind
    }

    /// The option's octets after the length.
    pub fn data(&self) -> &[u8] {
        &self.data
    }
}

/// A value with an option of its own.
pub(crate) trait WireOption: Sized {
    /// Reads it from an option of its type.
    fn decode(option: &OptionRef<'_>) -> Result<Self, DecodeError>;
    /// Appends it, padding included.
    fn encode(&self, writer: &mut Writer);
}

impl Writer {
    /// Appends an option for each value.
    pub(crate) fn options<'o, T: WireOption + 'o>(
        &mut self,
        values: impl IntoIterator<Item = &'o T>,
    ) {
        for value in values {
            value.encode(self);
        }
    }
}

/// The options of a message, or the sub-options of an option; padding is skipped, whatever it holds.
#[derive(Clone, Debug)]
pub(crate) struct Options<'a>(Reader<'a>);

/// An option where it stands in the message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OptionRef<'a> {
    /// Type.
    pub(crate) kind: u8,
    /// Octets from the message's first to the option's type.
    pub(crate) offset: usize,
    /// Octets after the length.
    pub(crate) data: &'a [u8],
}

impl<'a> Options<'a> {
    /// Reads options from here to the end.
    pub(crate) fn new(reader: Reader<'a>) -> Self {
        Self(reader)
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<OptionRef<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let offset = self.0.offset();
            let [kind] = self.0.array()?;
            if kind == kind::PAD1 {
                continue;
            }
            let data = self.0.array().and_then(|[len]| self.0.take(len.into()));
            match data {
                Some(_) if kind == kind::PADN => {}
                Some(data) => return Some(Ok(OptionRef { kind, offset, data })),
                None => {
                    // Nothing after it can be found.
                    self.0 = Reader::new(&[], offset);
                    let kind = DecodeErrorKind::OptionOverrun(kind);
                    return Some(Err(DecodeError { kind, offset }));
                }
            }
        }
    }
}

impl<'a> OptionRef<'a> {
    /// Reads the option into a field that may be there once.
    pub(crate) fn once<T: WireOption>(&self, slot: &mut Option<T>) -> Result<(), DecodeError> {
        self.once_with(slot, T::decode)
    }

    /// Reads the option with `decode` into a field that may be there once.
    fn once_with<T>(
        &self,
        slot: &mut Option<T>,
        decode: impl FnOnce(&Self) -> Result<T, DecodeError>,
    ) -> Result<(), DecodeError> {
        if slot.is_some() {
            return Err(self.fail(0, DecodeErrorKind::DuplicateOption(self.kind)));
        }
        *slot = Some(decode(self)?);
        Ok(())
    }

    /// Reads the option into a list.
    pub(crate) fn push<T: WireOption>(&self, list: &mut Vec<T>) -> Result<(), DecodeError> {
        list.push(T::decode(self)?);
        Ok(())
    }

    /// The data of an option that always has `N` octets.
    fn fixed<const N: usize>(&self) -> Result<&'a [u8; N], DecodeError> {
        self.data.try_into().map_err(|_| self.wrong_length())
    }

    /// The first `N` octets of the data, and what follows them.
    fn prefixed<const N: usize>(&self) -> Result<(&'a [u8; N], &'a [u8]), DecodeError> {
        self.data
            .split_first_chunk()
            .ok_or_else(|| self.wrong_length())
    }

    fn wrong_length(&self) -> DecodeError {
        let kind = DecodeErrorKind::OptionLength {
            option: self.kind,
            length: self.data.len(),
        };
        self.fail(1, kind)
    }

    /// An error `within` octets into the option, its type octet being 0.
    fn fail(&self, within: usize, kind: DecodeErrorKind) -> DecodeError {
        DecodeError {
            kind,
            offset: self.offset + within,
        }
    }
}

impl WireOption for RawOption {
    fn decode(option: &OptionRef<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            kind: option.kind,
            data: option.data.into(),
        })
    }

    fn encode(&self, writer: &mut Writer) {
        writer.option(self.kind, self.alignment(), |w| w.put(&self.data));
    }
}

impl RawOption {
    /// Where senders must put an option of this type; anywhere for unknown ones.
    fn alignment(&self) -> Alignment {
        match self.kind {
            kind::HNP | kind::MAG_IPV6_ADDRESS => Alignment::new(8, 4),
            kind::ALTERNATE_COA | kind::LINK_LOCAL => Alignment::new(8, 6),
            kind::TIMESTAMP => Alignment::new(8, 2),
            kind::MN_LL_ID => Alignment::new(8, 0),
            kind::RESTART_COUNTER | kind::ALTERNATE_IPV4_COA => Alignment::new(4, 2),
            kind::GRE_KEY
            | kind::IPV4_HOME_ADDRESS_REQUEST
            | kind::IPV4_HOME_ADDRESS_REPLY
            | kind::IPV4_DEFAULT_ROUTER
            | kind::REDIRECT_CAPABILITY
            | kind::REDIRECT
            | kind::LOAD_INFORMATION => Alignment::new(4, 0),
            kind::BID | kind::FLOW_SUMMARY | kind::FLOW_IDENTIFICATION => Alignment::new(2, 0),
            _ => Alignment::ANY,
        }
    }
}

/// Alternate Care-of Address: the Proxy-CoA where it is not the packet's source.
impl WireOption for ProxyCoa {
    fn decode(option: &OptionRef<'_>) -> Result<Self, DecodeError> {
        option.fixed().map(|o| Self(Ipv6Addr::from(*o)))
    }

    fn encode(&self, writer: &mut Writer) {
        writer.option(kind::ALTERNATE_COA, Alignment::new(8, 6), |w| {
            w.put(self.0.octets());
        });
    }
}

/// Link-local Address.
impl WireOption for Ipv6Addr {
    fn decode(option: &OptionRef<'_>) -> Result<Self, DecodeError> {
        option.fixed::<16>().map(|o| Self::from(*o))
    }

    fn encode(&self, writer: &mut Writer) {
        writer.option(kind::LINK_LOCAL, Alignment::new(8, 6), |w| {
            w.put(self.octets());
        });
    }
}

impl WireOption for HandoffIndicator {
    fn decode(option: &OptionRef<'_>) -> Result<Self, DecodeError> {
        option.fixed().map(|[_reserved, value]| Self(*value))
    }

    fn encode(&self, writer: &mut Writer) {
        writer.option(kind::HANDOFF_INDICATOR, Alignment::ANY, |w| {
            w.put([0, self.0]);
        });
    }
}

impl WireOption for AccessTechnology {
    fn decode(option: &OptionRef<'_>) -> Result<Self, DecodeError> {
        option.fixed().map(|[_reserved, value]| Self(*value))
    }

    fn encode(&self, writer: &mut Writer) {
        writer.option(kind::ACCESS_TECHNOLOGY, Alignment::ANY, |w| {
            w.put([0, self.0]);
        });
    }
}

impl WireOption for MnLinkLayerId {
    fn decode(option: &OptionRef<'_>) -> Result<Self, DecodeError> {
        let ([_, _], octets) = option.prefixed()?;
        Self::new(octets).ok_or(option.fail(4, DecodeErrorKind::LinkLayerId))
    }

    fn encode(&self, writer: &mut Writer) {
        writer.option(kind::MN_LL_ID, Alignment::new(8, 0), |w| {
            w.u16(0);
            w.put(self.octets());
        });
    }
}
