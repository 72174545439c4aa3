//! Binding Error (RFC 6275 §6.1.9).

use serde::{Deserialize, Serialize};
use std::net::Ipv6Addr;

use crate::code::code;
use crate::codec::Writer;
use crate::error::DecodeError;
use crate::frame::Frame;
use crate::option::RawOption;

code! {
    /// Why a Binding Error was sent.
    BindingErrorStatus(u8) {
        /// There is no binding for the Home Address destination option.
        UNKNOWN_BINDING = 1 as "Unknown binding for Home Address destination option",
        /// The receiver does not know the message.
        UNRECOGNIZED_MH_TYPE = 2 as "Unrecognized MH Type value",
    }
}

/// Binding Error: the peer could not make sense of a message. It does not say of which one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BindingError {
    /// Why.
    pub status: BindingErrorStatus,
    /// Address of the Home Address destination option; `::` as PMIPv6 does not use that.
    pub home_address: Ipv6Addr,
    /// Options; none is defined.
    pub others: Vec<RawOption>,
}

impl BindingError {
    /// The answer to a message of a type that is not known.
    pub const fn unrecognized() -> Self {
        Self {
            status: BindingErrorStatus::UNRECOGNIZED_MH_TYPE,
            home_address: Ipv6Addr::UNSPECIFIED,
            others: Vec::new(),
        }
    }

    pub(super) fn decode(frame: Frame<'_>) -> Result<Self, DecodeError> {
        let ([status, _reserved, home @ ..], options) = frame.split::<18>()?;
        let mut error = Self {
            status: BindingErrorStatus(status),
            home_address: Ipv6Addr::from(home),
            others: Vec::new(),
        };
        for option in options {
            option?.push(&mut error.others)?;
        }
        Ok(error)
    }

    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.put([self.status.0, 0]);
        writer.put(self.home_address.octets());
        writer.options(&self.others);
    }
}
