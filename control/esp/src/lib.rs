//! ESP (RFC 4303) with AES-GCM (RFC 4106), as it protects the signalling between LMA and MAG
//! (RFC 5213 §4): what goes behind the IPv6 header, without the header, sockets or a clock.
//!
//! A security association is one-way: an [`OutboundSa`] seals, an [`InboundSa`] opens. Both are made of a
//! [`Spi`] and a [`Key`].
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ ---
//! |               Security Parameters Index (SPI)                 |  authenticated
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                      Sequence Number                          |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ ---
//! |                            IV (8)                             |
//! |                                                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ ---
//! |                         Payload                               |  encrypted and
//! +               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+  authenticated
//! |               |  Padding 1, 2, ..  |  Pad Length | Next Header |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ ---
//! |                Integrity Check Value (16)                     |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! **No nonce twice.** Under one key, AES-GCM loses everything with the first repeated IV. Here an IV is
//! four octets of *epoch* and the four of the sequence number, and the two are kept from repeating in two
//! ways that would both have to fail. Sequence numbers are taken from what the caller has *reserved*, that
//! is, noted down durably, before ([`OutboundSa::reserve`]); a restarted process begins above
//! its note. The epoch is the time of the start in seconds, so that a process that lost its notes still makes
//! other IVs. RFC 4106 §10 asks for automated key management for this reason; with keys from files, this is what
//! takes its place.
//!
//! Sequence numbers have 32 bits and do not wrap (RFC 4303 §3.3.3): when they end, so does the association.

mod cipher;
mod inbound;
mod key;
mod outbound;
#[cfg(test)]
mod vectors;
mod window;

pub use crate::inbound::{InboundSa, OpenError, Opened};
pub use crate::key::{Key, KeyCheck, KeyError, Spi};
pub use crate::outbound::{OutboundSa, SealError};
pub use crate::window::ReplayWindow;

/// Octets of SPI and sequence number, which are authenticated in the clear (RFC 4106 §5).
const HEADER_LEN: usize = 8;
/// Octets of the explicit IV (RFC 4106 §3.1).
const IV_LEN: usize = 8;
/// Octets of the integrity check value; shorter ones are not used (RFC 4106 §6).
const ICV_LEN: usize = 16;
/// What the encrypted part is padded to a multiple of (RFC 4303 §2.4).
const ALIGNMENT: usize = 4;
