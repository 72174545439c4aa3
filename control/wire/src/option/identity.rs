//! Mobile Node Identifier option (RFC 4283 §3).

use std::fmt;

use flow::MnId;
use serde::{Deserialize, Serialize};

use super::{OptionRef, WireOption, kind};
use crate::codec::{Alignment, Writer};
use crate::error::DecodeError;

/// Subtype of a network access identifier (RFC 4283 §3.1).
const NAI: u8 = 1;

/// A mobile's identity as a message gives it.
///
/// An identifier of another kind is no reason to drop a message: a PBA has to repeat what its PBU
/// had (RFC 5213 §5.3.6), and no such mobile being known, that PBA is a refusal.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum MnIdOption {
    /// A network access identifier that is text.
    Nai(MnId),
    /// No octets: the answer to a PBU without the option (RFC 5213 §5.3.6).
    Empty,
    /// Anything else: another subtype, or a network access identifier that is not text.
    Other {
        /// Kind of identifier.
        subtype: u8,
        /// The identifier, at most 254 octets.
        octets: Box<[u8]>,
    },
}

impl MnIdOption {
    /// The identifier, if it is one that a mobile here can have.
    pub fn nai(&self) -> Option<&MnId> {
        match self {
            Self::Nai(id) => Some(id),
            Self::Empty | Self::Other { .. } => None,
        }
    }
}

impl From<MnId> for MnIdOption {
    fn from(id: MnId) -> Self {
        Self::Nai(id)
    }
}

impl fmt::Display for MnIdOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nai(id) => fmt::Display::fmt(id, f),
            Self::Empty => f.write_str("(empty)"),
            Self::Other { subtype, octets } => {
                write!(f, "(subtype {subtype}) ")?;
                octets.iter().try_for_each(|o| write!(f, "{o:02x}"))
            }
        }
    }
}

impl WireOption for MnIdOption {
    fn decode(option: &OptionRef<'_>) -> Result<Self, DecodeError> {
        let ([subtype], octets) = option.prefixed()?;
        let other = || Self::Other {
            subtype: *subtype,
            octets: octets.into(),
        };
        Ok(match *subtype {
            NAI if octets.is_empty() => Self::Empty,
            NAI => MnId::from_octets(octets).map_or_else(|_| other(), Self::Nai),
            _ => other(),
        })
    }

    fn encode(&self, writer: &mut Writer) {
        let (subtype, octets) = match self {
            Self::Nai(id) => (NAI, id.as_str().as_bytes()),
            Self::Empty => (NAI, [].as_slice()),
            Self::Other { subtype, octets } => (*subtype, octets.as_ref()),
        };
        writer.option(kind::MN_ID, Alignment::ANY, |w| {
            w.u8(subtype);
            w.put(octets);
        });
    }
}
