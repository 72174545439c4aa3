//! Home Network Prefix option (RFC 5213 §8.3, RFC 7864 §4.1).

use std::net::Ipv6Addr;

use flow::Hnp;
use serde::{Deserialize, Serialize};

use super::{OptionRef, WireOption, kind};
use crate::codec::{Alignment, Writer};
use crate::error::{DecodeError, DecodeErrorKind};

/// The L bit.
const OFF_LINK: u8 = 0x80;

/// A home network prefix as a message gives it:
///
/// ```text
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |      Type     |   Length      |L|  Reserved   | Prefix Length |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                 Home Network Prefix, 16 octets                |
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct HnpOption {
    /// The prefix.
    pub prefix: Hnp,
    /// The L bit: the prefix is not hosted on the link between MAG and mobile, the MAG only has a
    /// route for it (RFC 7864 §4.1).
    pub off_link: bool,
}

impl HnpOption {
    /// With which a MAG asks for any prefix (RFC 5213 §6.9.1.1); sent with length 0.
    pub const ALL_ZERO: Self = Self::on_link(Hnp::ALL_ZERO);

    /// A prefix of the mobile's own session at a MAG.
    pub const fn on_link(prefix: Hnp) -> Self {
        Self {
            prefix,
            off_link: false,
        }
    }

    /// A prefix that is anchored at another MAG's session and routed to this one.
    pub const fn off_link(prefix: Hnp) -> Self {
        Self {
            prefix,
            off_link: true,
        }
    }

    /// Whether the prefix is ALL_ZERO, with whatever length.
    pub fn is_all_zero(&self) -> bool {
        self.prefix.addr().is_unspecified()
    }
}

impl WireOption for HnpOption {
    fn decode(option: &OptionRef<'_>) -> Result<Self, DecodeError> {
        let [bits, length, octets @ ..] = option.fixed::<18>()?;
        let address = Ipv6Addr::from(*octets);
        // A prefix of no bits is meant as ALL_ZERO, and then the octets say so too.
        let usable = *length > 0 || address.is_unspecified();
        let prefix = Hnp::new(address, *length)
            .ok()
            .filter(|_| usable)
            .ok_or(option.fail(3, DecodeErrorKind::PrefixLength(*length)))?;
        Ok(Self {
            prefix,
            off_link: bits & OFF_LINK != 0,
        })
    }

    fn encode(&self, writer: &mut Writer) {
        writer.option(kind::HNP, Alignment::new(8, 4), |w| {
            w.u8(if self.off_link { OFF_LINK } else { 0 });
            w.u8(self.prefix.len());
            w.put(self.prefix.addr().octets());
        });
    }
}
