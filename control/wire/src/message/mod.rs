//! Mobility Header messages, one file each.

use serde::{Deserialize, Serialize};
use std::net::Ipv6Addr;

use flow::MnId;

use crate::codec::Writer;
use crate::error::{DecodeError, DecodeErrorKind, EncodeError};
use crate::frame::Frame;
use crate::option::MnIdOption;

mod binding_error;
mod fma;
mod fmi;
mod heartbeat;
mod pba;
mod pbu;
mod revocation;
mod upa;
mod upn;

pub use binding_error::{BindingError, BindingErrorStatus};
pub use fma::{Fma, FmaStatus};
pub use fmi::Fmi;
pub use heartbeat::{Heartbeat, HeartbeatKind};
pub use pba::{BindingStatus, Pba, PbaFlags};
pub use pbu::{Pbu, PbuFlags};
pub use revocation::{Bra, Bri, RevocationFlags, RevocationStatus, RevocationTrigger};
pub use upa::{Upa, UpaStatus};
pub use upn::{NotificationReason, Upn};

/// MH types.
pub mod mh_type {
    /// Binding Update, and so Proxy Binding Update (RFC 6275 §6.1.7).
    pub const BINDING_UPDATE: u8 = 5;
    /// Binding Acknowledgement, and so Proxy Binding Acknowledgement (RFC 6275 §6.1.8).
    pub const BINDING_ACK: u8 = 6;
    /// Binding Error (RFC 6275 §6.1.9).
    pub const BINDING_ERROR: u8 = 7;
    /// For experiments (RFC 5096 §3); here FMI and FMA of draft-bernardos-netext-pmipv6-flowmob,
    /// which has no number of its own.
    pub const EXPERIMENTAL: u8 = 11;
    /// Heartbeat (RFC 5847 §3.3).
    pub const HEARTBEAT: u8 = 13;
    /// Binding Revocation Indication and Acknowledgement (RFC 5846 §5).
    pub const BINDING_REVOCATION: u8 = 16;
    /// Update Notification (RFC 7077 §4.1).
    pub const UPDATE_NOTIFICATION: u8 = 19;
    /// Update Notification Acknowledgement (RFC 7077 §4.2).
    pub const UPDATE_NOTIFICATION_ACK: u8 = 20;
}

/// A message of any type.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Proxy Binding Update.
    Pbu(Pbu),
    /// Proxy Binding Acknowledgement.
    Pba(Pba),
    /// Binding Error.
    BindingError(BindingError),
    /// Flow Mobility Initiate of the draft.
    Fmi(Fmi),
    /// Flow Mobility Acknowledge of the draft.
    Fma(Fma),
    /// Heartbeat.
    Heartbeat(Heartbeat),
    /// Binding Revocation Indication.
    Bri(Bri),
    /// Binding Revocation Acknowledgement.
    Bra(Bra),
    /// Update Notification, which carries the Flow Mobility Initiate of RFC 7864.
    Upn(Upn),
    /// Update Notification Acknowledgement, which carries the Flow Mobility Acknowledge of RFC 7864.
    Upa(Upa),
}

impl Message {
    /// Reads the Mobility Header that `mh` begins with, checking it in the order of RFC 6275 §9.2.
    ///
    /// `source` and `destination` are those of the IPv6 header that carries it; they are part of
    /// the checksum. Octets after the end of the Mobility Header are ignored.
    ///
    /// # Errors
    /// [`DecodeError`], which also says what is owed to the sender: [`DecodeError::reaction`].
    pub fn decode(mh: &[u8], source: Ipv6Addr, destination: Ipv6Addr) -> Result<Self, DecodeError> {
        let frame = Frame::check(mh, source, destination)?;
        match frame.mh_type {
            mh_type::BINDING_UPDATE => Pbu::decode(frame).map(Self::Pbu),
            mh_type::BINDING_ACK => Pba::decode(frame).map(Self::Pba),
            mh_type::BINDING_ERROR => BindingError::decode(frame).map(Self::BindingError),
            mh_type::EXPERIMENTAL if fmi::is_fmi(frame)? => Fmi::decode(frame).map(Self::Fmi),
            mh_type::EXPERIMENTAL => Fma::decode(frame).map(Self::Fma),
            mh_type::HEARTBEAT => Heartbeat::decode(frame).map(Self::Heartbeat),
            mh_type::BINDING_REVOCATION => revocation::decode(frame),
            mh_type::UPDATE_NOTIFICATION => Upn::decode(frame).map(Self::Upn),
            mh_type::UPDATE_NOTIFICATION_ACK => Upa::decode(frame).map(Self::Upa),
            other => Err(DecodeError {
                kind: DecodeErrorKind::UnknownType(other),
                offset: 2,
            }),
        }
    }

    /// The message as a Mobility Header between two addresses, padded, with its checksum.
    ///
    /// # Errors
    /// [`EncodeError`] if it does not fit, or holds a selector that is not well formed.
    pub fn encode(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::new(self.mh_type());
        match self {
            Self::Pbu(message) => message.encode(&mut writer),
            Self::Pba(message) => message.encode(&mut writer),
            Self::BindingError(message) => message.encode(&mut writer),
            Self::Fmi(message) => message.encode(&mut writer),
            Self::Fma(message) => message.encode(&mut writer),
            Self::Heartbeat(message) => message.encode(&mut writer),
            Self::Bri(message) => message.encode(&mut writer),
            Self::Bra(message) => message.encode(&mut writer),
            Self::Upn(message) => message.encode(&mut writer),
            Self::Upa(message) => message.encode(&mut writer),
        }
        writer.finish(source, destination)
    }

    /// The message's MH type, see [`mh_type`].
    pub const fn mh_type(&self) -> u8 {
        match self {
            Self::Pbu(_) => mh_type::BINDING_UPDATE,
            Self::Pba(_) => mh_type::BINDING_ACK,
            Self::BindingError(_) => mh_type::BINDING_ERROR,
            Self::Fmi(_) | Self::Fma(_) => mh_type::EXPERIMENTAL,
            Self::Heartbeat(_) => mh_type::HEARTBEAT,
            Self::Bri(_) | Self::Bra(_) => mh_type::BINDING_REVOCATION,
            Self::Upn(_) => mh_type::UPDATE_NOTIFICATION,
            Self::Upa(_) => mh_type::UPDATE_NOTIFICATION_ACK,
        }
    }

    /// The mobile that the message is about; `None` if it names none, or one that no mobile here can be.
    pub fn mn_id(&self) -> Option<&MnId> {
        let option = match self {
            Self::Pbu(message) => &message.mn_id,
            Self::Pba(message) => &message.mn_id,
            Self::Fmi(message) => &message.mn_id,
            Self::Fma(message) => &message.mn_id,
            Self::Bri(message) => &message.mn_id,
            Self::Bra(message) => &message.mn_id,
            Self::Upn(message) => &message.mn_id,
            Self::Upa(message) => &message.mn_id,
            Self::BindingError(_) | Self::Heartbeat(_) => return None,
        };
        option.as_ref().and_then(MnIdOption::nai)
    }

    /// The message's short name, for logs and counters.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pbu(_) => "PBU",
            Self::Pba(_) => "PBA",
            Self::BindingError(_) => "BE",
            Self::Fmi(_) => "FMI",
            Self::Fma(_) => "FMA",
            Self::Heartbeat(_) => "Heartbeat",
            Self::Bri(_) => "BRI",
            Self::Bra(_) => "BRA",
            Self::Upn(_) => "UPN",
            Self::Upa(_) => "UPA",
        }
    }
}

macro_rules! from {
    ($($name:ident)+) => {$(
        impl From<$name> for Message {
            fn from(message: $name) -> Self {
                Self::$name(message)
            }
        }
    )+};
}

from!(Pbu Pba BindingError Fmi Fma Heartbeat Bri Bra Upn Upa);
