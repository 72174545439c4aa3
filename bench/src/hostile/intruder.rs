//! Who sends what he is not entitled to.

use dpdk::Mbuf;

use super::Attack;
use crate::network::{self, HostileFrame};

/// Hostile packets among those of a generator.
#[derive(Debug)]
pub(crate) struct Intruder {
    frame: HostileFrame,
    random: u64,
    /// The share of all packets that are his, in parts of 2^64.
    share: u64,
    /// Packets so far.
    sent: u64,
}

impl Intruder {
    /// One who sends this, so many of all packets.
    pub(crate) fn new(attack: Attack, share: f64) -> Self {
        Self {
            frame: network::hostile(attack),
            random: 0x6a09_e667_f3bc_c909,
            share: parts(share),
            sent: 0,
        }
    }

    /// Makes him send more or less from now on.
    pub(crate) fn set_share(&mut self, share: f64) {
        self.share = parts(share);
    }

    /// Packets so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Writes his own over his share of them.
    #[inline]
    pub(crate) fn intrude(&mut self, burst: &mut [Mbuf]) {
        let mut met = self.meet(burst.len());
        while met != 0 {
            let place = met.trailing_zeros() as usize;
            met &= met - 1;
            let Some(packet) = burst.get_mut(place) else {
                return;
            };
            let random = self.draw();
            let template = &self.frame.template;
            packet.extend_back(template.len() - packet.data().len());
            let frame = packet.data_mut();
            frame.copy_from_slice(template);
            (self.frame.vary)(frame, random);
            self.sent += 1;
        }
    }

    /// Which of the first `among` packets are his, of at most 64: bit by bit, each with the probability
    /// that is his share.
    ///
    /// Whom he meets must not be predictable, and finding out must cost little beside what is measured. So a
    /// random number is compared with the share for all packets at once, one digit of each in a draw,
    /// from the first on, until all are decided: two draws for one in four, and some six for 32 packets
    /// and any share at all.
    #[inline]
    fn meet(&mut self, among: usize) -> u64 {
        let (mut met, mut share) = (0, self.share);
        let mut open = first(among);
        while open != 0 && share != 0 {
            let random = self.draw();
            if share >> 63 == 0 {
                open &= random;
            } else {
                met |= open & random;
                open &= !random;
            }
            share <<= 1;
        }
        met
    }

    /// A random number (xorshift64).
    #[inline]
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// The lowest `count` bits.
#[inline]
fn first(count: usize) -> u64 {
    let count = u32::try_from(count).unwrap_or(u64::BITS);
    u64::MAX.unbounded_shr(u64::BITS.saturating_sub(count))
}

/// A share in parts of 2^64.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and a cast saturates"
)]
fn parts(share: f64) -> u64 {
    (share * 2f64.powi(64)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::precise;

    #[test]
    fn he_meets_his_share_in_bursts_of_any_length() {
        for share in [0.001, 0.013, 0.25, 1.0 / 3.0, 0.5, 0.9] {
            for among in [1, 7, 32, 64] {
                let mut intruder = Intruder::new(Attack::PoolScan, share);
                let bursts = 400_000 / among as u64;
                let (mut met, mut at_ends) = (0, [0; 2]);
                for _ in 0..bursts {
                    let places = intruder.meet(among);
                    assert_eq!(places & !first(among), 0);
                    met += u64::from(places.count_ones());
                    at_ends[0] += places & 1;
                    at_ends[1] += places >> (among - 1) & 1;
                }
                for (count, of) in [
                    (met, bursts * among as u64),
                    (at_ends[0], bursts),
                    (at_ends[1], bursts),
                ] {
                    let deviation = (share * (1.0 - share) / precise(of)).sqrt();
                    let missed = (precise(count) / precise(of) - share).abs() / deviation;
                    assert!(missed < 5.0, "{share} of {among}: {missed} deviations off");
                }
            }
        }
    }

    #[test]
    fn he_meets_nobody_or_all() {
        let mut intruder = Intruder::new(Attack::PoolScan, 0.0);
        assert_eq!(intruder.meet(32), 0);
        intruder.set_share(1.0);
        assert!((0..1000).all(|_| intruder.meet(32) == u64::from(u32::MAX)));
        assert_eq!(intruder.meet(0), 0);
    }

    #[test]
    fn one_in_four_takes_two_draws() {
        let mut intruder = Intruder::new(Attack::PoolScan, 0.25);
        let mut other = Intruder::new(Attack::PoolScan, 0.25);
        for _ in 0..1000 {
            let both = other.draw() & other.draw();
            assert_eq!(intruder.meet(32), both & u64::from(u32::MAX));
            assert_eq!(intruder.random, other.random);
        }
    }
}
