//! The wire of Proxy Mobile IPv6 flow mobility: Mobility Header messages, options, selectors.
//!
//! [`Message`] is the door: [`Message::decode`] checks and reads a Mobility Header,
//! [`Message::encode`] writes one. There is no state here, no clock and no socket; nothing panics
//! on any input, and every refusal says what is wrong and where ([`DecodeError`]).
//!
//! | Messages | Where they are from |
//! | --- | --- |
//! | [`Pbu`], [`Pba`] | RFC 5213 §8.1, §8.2 |
//! | [`BindingError`] | RFC 6275 §6.1.9 |
//! | [`Fmi`], [`Fma`] | draft-bernardos-netext-pmipv6-flowmob |
//! | [`Upn`], [`Upa`] | RFC 7077 §4, RFC 7864 §4 |
//! | [`Heartbeat`] | RFC 5847 §3.3 |
//! | [`Bri`], [`Bra`] | RFC 5846 §5 |
//!
//! A message is a struct of named fields. Options without a field are kept, in order, in its
//! `others`; reserved fields are ignored in and zero out. Messages are written in one canonical
//! form: options in the order of the fields, each where its alignment wants it.

mod code;
mod codec;
mod error;
mod frame;

pub mod checksum;
pub mod message;
pub mod option;
pub mod selector;

pub use error::{DecodeError, DecodeErrorKind, EncodeError, Reaction};
pub use message::{
    BindingError, BindingErrorStatus, BindingStatus, Bra, Bri, Fma, FmaStatus, Fmi, Heartbeat,
    HeartbeatKind, Message, NotificationReason, Pba, PbaFlags, Pbu, PbuFlags, RevocationFlags,
    RevocationStatus, RevocationTrigger, Upa, UpaStatus, Upn,
};
pub use option::{
    BidOption, BidPriority, BindingLifetime, FlowIdentification, FlowLifetime, FlowStatus,
    FlowSummary, HnpOption, LoadInformation, MnIdOption, RawOption, Redirect, RestartCounter,
    SelectorOption, Timestamp, UnreadableSelector,
};
pub use selector::{SelectorFault, SelectorFaultKind};
