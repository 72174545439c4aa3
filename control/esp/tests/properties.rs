//! What holds of every payload, every altered octet and every order of arrival.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;

use pmip_esp::{InboundSa, Key, OpenError, Opened, OutboundSa, ReplayWindow, Spi};
use proptest::collection::vec;
use proptest::prelude::*;

const SPI: Spi = Spi::new(0x0102_0304).unwrap();

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![vec(any::<u8>(), 20), vec(any::<u8>(), 36)]
        .prop_filter_map("a placeholder", |octets| Key::new(&octets).ok())
}

/// Both ends of an association whose numbers up to `used` have passed.
fn pair(key: &Key, used: u32) -> (OutboundSa, InboundSa) {
    let mut sender = OutboundSa::new(SPI, key.clone(), 1_700_000_000, used);
    sender.reserve(u32::MAX);
    (sender, InboundSa::new(SPI, key.clone(), used))
}

/// The simplest thing that is right: every number that was received.
#[derive(Default)]
struct Seen(BTreeSet<u32>);

impl Seen {
    fn is_new(&self, number: u32) -> bool {
        let highest = self.0.last().copied().unwrap_or(0);
        let too_old = u64::from(number) + u64::from(ReplayWindow::SIZE) <= u64::from(highest);
        number != 0 && !too_old && !self.0.contains(&number)
    }
}

proptest! {
    #[test]
    fn what_is_sealed_is_opened(
        key in key(),
        used in 0..u32::MAX,
        next_header: u8,
        payload in vec(any::<u8>(), 0..600),
    ) {
        let (mut sender, mut receiver) = pair(&key, used);
        let sealed = sender.seal(next_header, &payload).unwrap();
        // RFC 4303 §2.4: the integrity check value begins at a multiple of four octets.
        prop_assert_eq!(sealed.len() % 4, 0);
        prop_assert_eq!(Spi::peek(&sealed), Some(SPI.get()));
        let opened = receiver.open(&sealed);
        prop_assert_eq!(opened, Ok(Opened { next_header, payload }));
        prop_assert_eq!(receiver.highest(), used + 1);
        prop_assert_eq!(receiver.open(&sealed), Err(OpenError::Replayed(used + 1)));
    }

    /// Each bit of the packet, one at a time; afterwards the receiver takes the packet as it was.
    #[test]
    fn no_flipped_bit_passes(key in key(), payload in vec(any::<u8>(), 0..60)) {
        let (mut sender, mut receiver) = pair(&key, 1 << 20);
        let sealed = sender.seal(135, &payload).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut altered = sealed.clone();
            altered[bit / 8] ^= 0x80 >> (bit % 8);
            let error = receiver.open(&altered).unwrap_err();
            match bit {
                0..32 => prop_assert_eq!(error, OpenError::OtherSpi),
                // A number below what was received is not even looked at.
                32..64 => prop_assert!(matches!(error, OpenError::Icv | OpenError::Replayed(_))),
                _ => prop_assert_eq!(error, OpenError::Icv),
            }
        }
        prop_assert_eq!(receiver.highest(), 1 << 20);
        prop_assert_eq!(receiver.open(&sealed).unwrap().payload, payload);
    }

    #[test]
    fn no_shortened_or_foreign_packet_passes(
        keys in (key(), key()),
        payload in vec(any::<u8>(), 0..60),
        junk in vec(any::<u8>(), 0..100),
    ) {
        prop_assume!(keys.0 != keys.1);
        let (mut sender, mut receiver) = pair(&keys.0, 0);
        let sealed = sender.seal(135, &payload).unwrap();
        for len in 0..sealed.len() {
            prop_assert!(receiver.open(&sealed[..len]).is_err());
        }
        prop_assert!(receiver.open(&junk).is_err());
        let (_, mut other) = pair(&keys.1, 0);
        prop_assert_eq!(other.open(&sealed), Err(OpenError::Icv));
    }

    #[test]
    fn no_iv_repeats(epochs in proptest::sample::subsequence(vec![3, 4, 5, 9], 2), count in 1..50u32) {
        let key = Key::new(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1, 2, 3, 4]);
        let mut ivs = BTreeSet::new();
        // The second one has lost its notes: it begins with the numbers of the first.
        for epoch in epochs {
            let mut sender = OutboundSa::new(SPI, key.clone().unwrap(), epoch, 0);
            sender.reserve(count);
            for _ in 0..count {
                let sealed = sender.seal(135, b"").unwrap();
                prop_assert!(ivs.insert(sealed[8..16].to_vec()));
            }
        }
    }

    /// Steps back and forth around a moving number, leaps included.
    #[test]
    fn the_window_is_exact(
        start in prop_oneof![Just(0), 1..400u32, Just(u32::MAX - 2000)],
        steps in vec((0..4u32, 0..300u32), 1..400),
    ) {
        let mut window = ReplayWindow::new();
        let mut seen = Seen::default();
        let mut at = start;
        for (ahead, back) in steps {
            at += ahead;
            let number = at.saturating_sub(back);
            prop_assert_eq!(window.is_new(number), seen.is_new(number), "{}", number);
            if window.is_new(number) {
                window.mark(number);
                seen.0.insert(number);
            }
            prop_assert_eq!(window.highest(), seen.0.last().copied().unwrap_or(0));
        }
    }

    /// Real packets in any order, some of them twice: each is opened once if it is not too late.
    #[test]
    fn packets_are_opened_once_in_any_order(
        order in vec(0..300u32, 1..400),
        key in key(),
    ) {
        let (mut sender, mut receiver) = pair(&key, 0);
        let sealed: Vec<_> = (0..300u32)
            .map(|n| sender.seal(135, &n.to_be_bytes()).unwrap())
            .collect();
        let mut seen = Seen::default();
        for n in order {
            let number = n + 1;
            let opened = receiver.open(&sealed[n as usize]);
            if seen.is_new(number) {
                prop_assert_eq!(opened.unwrap().payload, n.to_be_bytes());
                seen.0.insert(number);
            } else {
                prop_assert_eq!(opened, Err(OpenError::Replayed(number)));
            }
        }
    }

    #[test]
    fn a_resumed_window_takes_nothing_old(highest: u32, number: u32) {
        prop_assert_eq!(ReplayWindow::resumed(highest).is_new(number), number > highest);
    }
}
