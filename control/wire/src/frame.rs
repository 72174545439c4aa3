//! What all messages have in common: the first six octets and the rules to trust the rest.

use std::net::Ipv6Addr;

use crate::checksum;
use crate::codec::{NO_NEXT_HEADER, Reader};
use crate::error::{DecodeError, DecodeErrorKind};
use crate::message::mh_type;
use crate::option::Options;

/// Octets before the part that depends on the type.
const HEADER: usize = 6;

/// A Mobility Header that passed all checks which do not depend on its content:
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// | Payload Proto |  Header Len   |   MH Type     |   Reserved    |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |           Checksum            |  message data and options ... |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    /// MH Type.
    pub(crate) mh_type: u8,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Checks a Mobility Header in the order of RFC 6275 §9.2. Octets after its end are no part of
    /// it, as its Payload Proto says, and are not looked at.
    pub(crate) fn check(
        packet: &'a [u8],
        source: Ipv6Addr,
        destination: Ipv6Addr,
    ) -> Result<Self, DecodeError> {
        let fail = |kind, offset| Err(DecodeError { kind, offset });
        let truncated = |claimed| DecodeErrorKind::Truncated {
            claimed,
            available: packet.len(),
        };
        // Without its length a message has no checksum, so this comes first.
        let Some([proto, units, mh_type, ..]) = packet.first_chunk::<8>() else {
            return fail(truncated(8), packet.len());
        };
        let claimed = (usize::from(*units) + 1) * 8;
        let Some(mh) = packet.get(..claimed) else {
            return fail(truncated(claimed), packet.len());
        };
        if !checksum::verify(mh, source, destination) {
            return fail(DecodeErrorKind::Checksum, 4);
        }
        let Some(minimum) = minimum_units(*mh_type) else {
            return fail(DecodeErrorKind::UnknownType(*mh_type), 2);
        };
        if *proto != NO_NEXT_HEADER {
            return fail(DecodeErrorKind::PayloadProto(*proto), 0);
        }
        if *units < minimum {
            let found = *units;
            return fail(DecodeErrorKind::HeaderLen { found, minimum }, 1);
        }
        Ok(Self {
            mh_type: *mh_type,
            body: mh.get(HEADER..).unwrap_or_default(),
        })
    }

    /// The `N` octets after the checksum and the options behind them.
    ///
    /// Fails only for experimental messages: the others have a minimum length that covers them.
    pub(crate) fn split<const N: usize>(self) -> Result<([u8; N], Options<'a>), DecodeError> {
        let mut reader = Reader::new(self.body, HEADER);
        let fixed = reader.array().ok_or(DecodeError {
            kind: DecodeErrorKind::EmptyExperiment,
            offset: HEADER,
        })?;
        Ok((fixed, Options::new(reader)))
    }
}

/// The least Header Len of a type; `None` for types that are not handled.
fn minimum_units(mh_type: u8) -> Option<u8> {
    match mh_type {
        // RFC 5096 §3 allows experimental messages without content.
        mh_type::EXPERIMENTAL => Some(0),
        mh_type::BINDING_UPDATE
        | mh_type::BINDING_ACK
        | mh_type::HEARTBEAT
        | mh_type::BINDING_REVOCATION
        | mh_type::UPDATE_NOTIFICATION
        | mh_type::UPDATE_NOTIFICATION_ACK => Some(1),
        mh_type::BINDING_ERROR => Some(2),
        _ => None,
    }
}
