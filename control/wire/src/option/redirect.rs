//! Runtime assignment of a local mobility anchor (RFC 6463 §4.1 to §4.3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::{OptionRef, WireOption, kind};
use crate::codec::{Alignment, Writer};
use crate::error::{DecodeError, DecodeErrorKind};

/// The K bit: an IPv6 address follows.
const IPV6: u16 = 0x8000;
/// The N bit: an IPv4 address follows.
const IPV4: u16 = 0x4000;

/// Where all three options want to stand.
const ALIGNMENT: Alignment = Alignment::new(4, 0);

/// Redirect-Capability, which says all by being there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RedirectCapability;

/// Redirect: the session is at the LMA of this address.
///
/// ```text
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// | Option Type   | Option Length |K|N|      Reserved             |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |          IPv6 address with K, IPv4 address with N             |
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Redirect(pub IpAddr);

/// Load Information: how much an LMA carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct LoadInformation {
    /// Among LMAs of one administration; the lower value is preferred.
    pub priority: u16,
    /// Sessions there are.
    pub sessions: u32,
    /// Sessions that it would take.
    pub max_sessions: u32,
    /// Kilobytes a second in use.
    pub capacity: u32,
    /// Kilobytes a second that it would take.
    pub max_capacity: u32,
}

impl WireOption for RedirectCapability {
    fn decode(option: &OptionRef<'_>) -> Result<Self, DecodeError> {
        option.fixed().map(|[_, _]: &[u8; 2]| Self)
    }

    fn encode(&self, writer: &mut Writer) {
        writer.option(kind::REDIRECT_CAPABILITY, ALIGNMENT, |w| w.u16(0));
    }
}

impl WireOption for Redirect {
    fn decode(option: &OptionRef<'_>) -> Result<Self, DecodeError> {
        let ([high, low], _) = option.prefixed()?;
        match u16::from_be_bytes([*high, *low]) & (IPV6 | IPV4) {
            IPV6 => {
                let [_, _, address @ ..] = option.fixed::<18>()?;
                Ok(Self(Ipv6Addr::from(*address).into()))
            }
            IPV4 => {
                let [_, _, address @ ..] = option.fixed::<6>()?;
                Ok(Self(Ipv4Addr::from(*address).into()))
            }
            _ => Err(option.fail(2, DecodeErrorKind::RedirectFamily)),
        }
    }

    fn encode(&self, writer: &mut Writer) {
        writer.option(kind::REDIRECT, ALIGNMENT, |w| match self.0 {
            IpAddr::V6(address) => {
                w.u16(IPV6);
                w.put(address.octets());
            }
            IpAddr::V4(address) => {
                w.u16(IPV4);
                w.put(address.octets());
            }
        });
    }
}

impl WireOption for LoadInformation {
    fn decode(option: &OptionRef<'_>) -> Result<Self, DecodeError> {
        let [p0, p1, figures @ ..] = option.fixed::<18>()?;
        let (figures, _) = figures.as_chunks::<4>();
        let figure = |at: usize| figures.get(at).map_or(0, |o| u32::from_be_bytes(*o));
        Ok(Self {
            priority: u16::from_be_bytes([*p0, *p1]),
            sessions: figure(0),
            max_sessions: figure(1),
            capacity: figure(2),
            max_capacity: figure(3),
        })
    }

    fn encode(&self, writer: &mut Writer) {
        writer.option(kind::LOAD_INFORMATION, ALIGNMENT, |w| {
            w.u16(self.priority);
            for figure in [
                self.sessions,
                self.max_sessions,
                self.capacity,
                self.max_capacity,
            ] {
                w.put(figure.to_be_bytes());
            }
        });
    }
}
