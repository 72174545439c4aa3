//! Binding Identifier option (RFC 5648 §4.3, RFC 6089 §4.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flow::Bid;
use serde::{Deserialize, Serialize};

use super::{OptionRef, WireOption, kind};
use crate::codec::{Alignment, Writer};
use crate::error::{DecodeError, DecodeErrorKind};
use crate::message::BindingStatus;

/// The H bit: simultaneous home and foreign binding.
const HOME: u8 = 0x80;

/// Priority of a binding among those of a mobile, 1 to 127; the lowest is preferred. 0 is what
/// senders without RFC 6089 leave there.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct BidPriority(u8);

impl BidPriority {
    /// A priority; `None` above 127.
    pub const fn new(value: u8) -> Option<Self> {
        if value < HOME {
            Some(Self(value))
        } else {
            None
        }
    }

    /// The priority's value.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// A binding among several of a mobile. RFC 7864 §5.1 keeps these numbers inside the LMA; the
/// option is for peers that send them anyway.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct BidOption {
    /// The binding's number.
    pub bid: Bid,
    /// What became of it, in a PBA.
    pub status: BindingStatus,
    /// The H bit.
    pub home: bool,
    /// The binding's priority.
    pub priority: BidPriority,
    /// The binding's care-of address.
    pub care_of: Option<IpAddr>,
}

impl WireOption for BidOption {
    fn decode(option: &OptionRef<'_>) -> Result<Self, DecodeError> {
        let ([high, low, status, bits], address) = option.prefixed()?;
        let care_of = match *address {
            [] => None,
            [a, b, c, d] => Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d))),
            _ => Some(IpAddr::V6(Ipv6Addr::from(
                *option
                    .fixed::<20>()?
                    .last_chunk::<16>()
                    .ok_or(option.wrong_length())?,
            ))),
        };
        Ok(Self {
            bid: Bid::new(u16::from_be_bytes([*high, *low]))
                .ok_or(option.fail(2, DecodeErrorKind::ReservedNumber(kind::BID)))?,
            status: BindingStatus(*status),
            home: bits & HOME != 0,
            priority: BidPriority(bits & !HOME),
            care_of,
        })
    }

    fn encode(&self, writer: &mut Writer) {
        let alignment = match self.care_of {
            Some(_) => Alignment::new(8, 2),
            None => Alignment::new(2, 0),
        };
        writer.option(kind::BID, alignment, |w| {
            w.u16(self.bid.0.get());
            w.u8(self.status.0);
            w.u8(self.priority.0 | if self.home { HOME } else { 0 });
            match self.care_of {
                Some(IpAddr::V4(address)) => w.put(address.octets()),
                Some(IpAddr::V6(address)) => w.put(address.octets()),
                None => {}
            }
        });
    }
}
