//! What can be wrong with a message, where, and what a receiver owes its sender.

use flow::SelectorError;

use crate::message::BindingErrorStatus;

/// Why octets are no message of this crate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{kind} at octet {offset}")]
pub struct DecodeError {
    /// What is wrong.
    pub kind: DecodeErrorKind,
    /// Where: octets from the first octet of the Mobility Header.
    pub offset: usize,
}

/// What is wrong with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeErrorKind {
    /// The packet ends before the message does.
    #[error("the message has {claimed} octets but the packet ends after {available}")]
    Truncated {
        /// Octets that the Header Len field stands for, or those of the smallest message.
        claimed: usize,
        /// Octets there are.
        available: usize,
    },
    /// The checksum does not match message and addresses.
    #[error("wrong checksum")]
    Checksum,
    /// No message that this crate knows.
    #[error("unknown Mobility Header type {0}")]
    UnknownType(u8),
    /// The Mobility Header announces another header after it.
    #[error("Payload Proto is {0} instead of 59")]
    PayloadProto(u8),
    /// The message is too short for its type.
    #[error("Header Len is {found}, and this message needs at least {minimum}")]
    HeaderLen {
        /// Value of the field.
        found: u8,
        /// The least that the message's type allows.
        minimum: u8,
    },
    /// An experimental message too short for a flow mobility one: another experiment's (RFC 5096 §3).
    #[error("an experimental message without content")]
    EmptyExperiment,
    /// A binding revocation message that is neither indication nor acknowledgement.
    #[error("unknown binding revocation type {0}")]
    RevocationType(u8),
    /// An option or sub-option runs past the end of what holds it.
    #[error("option {0} runs past the end")]
    OptionOverrun(u8),
    /// An option or sub-option has a length that it cannot have.
    #[error("option {option} must not have length {length}")]
    OptionLength {
        /// The option's type.
        option: u8,
        /// The option's length field.
        length: usize,
    },
    /// A second instance of an option or sub-option that may be there once.
    #[error("option {0} is there twice")]
    DuplicateOption(u8),
    /// The length of a prefix is above 128, or 0 for a prefix that is not all zero.
    #[error("a home network prefix cannot have length {0}")]
    PrefixLength(u8),
    /// A link-layer identifier that is empty, all zero or too long (RFC 5213 §8.6).
    #[error("a link-layer identifier must be 1 to 250 octets, not all zero")]
    LinkLayerId,
    /// A BID, FID or FID-PRI of 0 (RFC 5648 §4.3, RFC 6089 §4.2).
    #[error("option {0} holds the reserved number 0")]
    ReservedNumber(u8),
    /// A Redirect for both address families or none (RFC 6463 §4.2).
    #[error("a Redirect must have exactly one of its two flags")]
    RedirectFamily,
}

/// What a receiver does about a message that it could not decode (RFC 6275 §9.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reaction {
    /// Drop and say nothing: nothing in the message can be relied on.
    DropSilently,
    /// Drop and answer with a Binding Error message of this status, at a limited rate (RFC 6275
    /// §9.3.3).
    BindingError(BindingErrorStatus),
    /// Drop and answer with an ICMPv6 Parameter Problem, code 0, that points at
    /// [`DecodeError::offset`]: the pointer is that plus the octets before the Mobility Header, 40
    /// when there are no extension headers.
    ParameterProblem,
    /// Drop as malformed: the peer is known but broken, and there is no answer for that.
    DropMalformed,
}

impl DecodeError {
    /// What to do about it.
    pub fn reaction(&self) -> Reaction {
        match self.kind {
            DecodeErrorKind::Truncated { .. } | DecodeErrorKind::Checksum => Reaction::DropSilently,
            DecodeErrorKind::UnknownType(_) => {
                Reaction::BindingError(BindingErrorStatus::UNRECOGNIZED_MH_TYPE)
            }
            DecodeErrorKind::PayloadProto(_) | DecodeErrorKind::HeaderLen { .. } => {
                Reaction::ParameterProblem
            }
            DecodeErrorKind::EmptyExperiment
            | DecodeErrorKind::RevocationType(_)
            | DecodeErrorKind::OptionOverrun(_)
            | DecodeErrorKind::OptionLength { .. }
            | DecodeErrorKind::DuplicateOption(_)
            | DecodeErrorKind::PrefixLength(_)
            | DecodeErrorKind::LinkLayerId
            | DecodeErrorKind::ReservedNumber(_)
            | DecodeErrorKind::RedirectFamily => Reaction::DropMalformed,
        }
    }
}

/// Why a message cannot be put on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EncodeError {
    /// The message does not fit a Mobility Header: it should name fewer prefixes or flows.
    #[error("the message has {0} octets, and a Mobility Header holds 2048")]
    TooLong(usize),
    /// An option does not fit its length octet.
    #[error("option {kind} has {length} octets of data, and an option holds 255")]
    OptionTooLong {
        /// The option's type.
        kind: u8,
        /// Octets of data.
        length: usize,
    },
    /// A traffic selector that is not well formed.
    #[error(transparent)]
    Selector(#[from] SelectorError),
}
