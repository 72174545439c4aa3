//! The door for octets: decoding, and what is owed to the sender of a broken message.

use std::net::Ipv6Addr;
use std::time::Duration;

use pmip_wire::{BindingError, DecodeError, Message, Reaction};
use serde::{Deserialize, Serialize};

use crate::rate::RateLimit;
use crate::time::Now;

/// Octets before a Mobility Header that follows the IPv6 header at once.
const IPV6_HEADER: usize = 40;

/// Decodes Mobility Header packets for whatever roles a process has, and answers what cannot be
/// decoded, at a limited rate (RFC 6275 §9.2, §9.3.3).
///
/// PBU and FMA are for the [`Lma`](crate::Lma), PBA and FMI for the [`Mag`](crate::Mag).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Receiver {
    limit: RateLimit,
    counters: ReceiverCounters,
}

/// What a receiver has counted since it began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ReceiverCounters {
    /// Messages decoded.
    pub decoded: u64,
    /// Packets with a wrong checksum, or shorter than they claim: dropped silently.
    pub damaged: u64,
    /// Messages of unknown types.
    pub unknown_type: u64,
    /// Messages with a bad Payload Proto or Header Len.
    pub bad_header: u64,
    /// Messages with options that make no sense: dropped without an answer.
    pub malformed: u64,
    /// Answers that were not sent, because of the rate or because the sender cannot be answered.
    pub suppressed: u64,
}

/// What is owed to the sender of a message that could not be decoded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// Send a Binding Error.
    BindingError {
        /// Source address.
        from: Ipv6Addr,
        /// Destination address.
        to: Ipv6Addr,
        /// The message.
        error: BindingError,
    },
    /// Send an ICMPv6 Parameter Problem, code 0, about the offending packet (RFC 4443 §3.4).
    ParameterProblem {
        /// Octets from the beginning of the packet to the field in error.
        pointer: u32,
    },
}

/// A packet that is not a message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{error}")]
pub struct Rejected {
    /// What is wrong with it.
    pub error: DecodeError,
    /// What is owed to its sender.
    pub reply: Option<Reply>,
}

impl Receiver {
    /// A receiver that sends at most this many answers per second, and as many at once.
    pub fn new(answers_per_second: u32) -> Self {
        Self {
            limit: RateLimit::new(answers_per_second, answers_per_second),
            counters: ReceiverCounters::default(),
        }
    }

    /// Decodes a Mobility Header that came in an IPv6 packet from `from` to `to`, with no other
    /// extension headers before it.
    ///
    /// # Errors
    /// [`Rejected`] with what is wrong and the answer to send, if one is owed.
    pub fn receive(
        &mut self,
        now: Now,
        from: Ipv6Addr,
        to: Ipv6Addr,
        mh: &[u8],
    ) -> Result<Message, Rejected> {
        match Message::decode(mh, from, to) {
            Ok(message) => {
                self.counters.decoded += 1;
                Ok(message)
            }
            Err(error) => {
                let reply = self.reply(now.monotonic, from, to, &error);
                Err(Rejected { error, reply })
            }
        }
    }

    /// What has been counted.
    pub fn counters(&self) -> ReceiverCounters {
        self.counters
    }

    fn reply(
        &mut self,
        now: Duration,
        from: Ipv6Addr,
        to: Ipv6Addr,
        error: &DecodeError,
    ) -> Option<Reply> {
        let reply = match error.reaction() {
            Reaction::DropSilently => {
                self.counters.damaged += 1;
                return None;
            }
            Reaction::DropMalformed => {
                self.counters.malformed += 1;
                return None;
            }
            // A Binding Error is a known type, so this never answers one.
            Reaction::BindingError(status) => {
                self.counters.unknown_type += 1;
                let error = BindingError {
                    status,
                    ..BindingError::unrecognized()
                };
                Reply::BindingError {
                    from: to,
                    to: from,
                    error,
                }
            }
            Reaction::ParameterProblem => {
                self.counters.bad_header += 1;
                let pointer = u32::try_from(IPV6_HEADER + error.offset).unwrap_or(u32::MAX);
                Reply::ParameterProblem { pointer }
            }
        };
        let answerable = !from.is_multicast() && !from.is_unspecified() && !to.is_multicast();
        if answerable && self.limit.allow(now) {
            Some(reply)
        } else {
            self.counters.suppressed += 1;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pmip_wire::{Pbu, checksum};

    use super::*;

    const MAG: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1);
    const LMA: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1);

    fn sealed(mut mh: Vec<u8>, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
        let sum = checksum::compute(&mh, from, to);
        mh[4..6].copy_from_slice(&sum.to_be_bytes());
        mh
    }

    fn reply(mh: &[u8], from: Ipv6Addr) -> Option<Reply> {
        let mut receiver = Receiver::new(1);
        receiver
            .receive(Now::default(), from, LMA, mh)
            .unwrap_err()
            .reply
    }

    #[test]
    fn messages_pass() {
        let message = Message::from(Pbu::default());
        let mh = message.encode(MAG, LMA).unwrap();
        let mut receiver = Receiver::new(1);
        assert_eq!(receiver.receive(Now::default(), MAG, LMA, &mh), Ok(message));
        assert_eq!(receiver.counters().decoded, 1);
    }

    #[test]
    fn every_fault_has_its_answer() {
        let unknown = sealed(vec![59, 0, 99, 0, 0, 0, 0, 0], MAG, LMA);
        let expected = Reply::BindingError {
            from: LMA,
            to: MAG,
            error: BindingError::unrecognized(),
        };
        assert_eq!(reply(&unknown, MAG), Some(expected));

        let proto = sealed(
            vec![6, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            MAG,
            LMA,
        );
        assert_eq!(
            reply(&proto, MAG),
            Some(Reply::ParameterProblem { pointer: 40 })
        );
        let short = sealed(vec![59, 0, 5, 0, 0, 0, 0, 0], MAG, LMA);
        assert_eq!(
            reply(&short, MAG),
            Some(Reply::ParameterProblem { pointer: 41 })
        );

        let mut damaged = unknown.clone();
        damaged[7] = 1;
        assert_eq!(reply(&damaged, MAG), None);
        let short_be = sealed(vec![59, 0, 7, 0, 0, 0, 1, 0], MAG, LMA);
        assert_eq!(
            reply(&short_be, MAG),
            Some(Reply::ParameterProblem { pointer: 41 })
        );
        let group: Ipv6Addr = "ff02::1".parse().unwrap();
        assert_eq!(reply(&sealed(unknown, group, LMA), group), None);
    }

    #[test]
    fn answers_are_limited() {
        let unknown = sealed(vec![59, 0, 99, 0, 0, 0, 0, 0], MAG, LMA);
        let mut receiver = Receiver::new(2);
        let mut at = |ms| {
            let now = Now {
                monotonic: Duration::from_millis(ms),
                wall: Duration::ZERO,
            };
            let rejected = receiver.receive(now, MAG, LMA, &unknown).unwrap_err();
            rejected.reply.is_some()
        };
        assert_eq!([at(0), at(1), at(2), at(600)], [true, true, false, true]);
        assert_eq!(receiver.counters().suppressed, 1);
        assert_eq!(receiver.counters().unknown_type, 4);
    }
}
