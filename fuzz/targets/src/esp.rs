//! Protected signalling: octets from a link opened, altered and repeated, against the set of numbers received.

use std::collections::BTreeSet;

use pmip_esp::{InboundSa, Key, OpenError, OutboundSa, ReplayWindow, Spi};

use crate::choice::Choice;

const SPI: Spi = Spi::new(0x1000).expect("it is none of the reserved ones");

/// Opens the octets as they are, then plays sender, receiver and whoever is between them.
pub fn run(data: &[u8]) {
    let octets: Vec<u8> = (0..20).collect();
    let key = Key::new(&octets).expect("it has the right length");
    let mut receiver = InboundSa::new(SPI, key.clone(), 0);
    // Nobody can forge 128 bits by chance.
    assert!(receiver.open(data).is_err());
    assert_eq!(receiver.highest(), 0);
    let _end = play(&mut Choice::new(data), &key, &mut receiver);
}

/// Packet `number` of the sender, which has sent those before it as well.
fn sealed(key: &Key, number: u32, payload: &[u8]) -> Vec<u8> {
    let mut sender = OutboundSa::new(SPI, key.clone(), 1, number - 1);
    sender.reserve(number);
    sender.seal(135, payload).expect("numbers are left")
}

fn play(choice: &mut Choice<'_>, key: &Key, receiver: &mut InboundSa) -> arbitrary::Result<()> {
    let mut sent = 0;
    let mut seen = BTreeSet::new();
    loop {
        let payload = vec![choice.octet()?; choice.below(64)?];
        sent += 1 + u32::try_from(choice.below(200)?).expect("there are few");
        let behind = choice.below(256)?;
        let number = sent - u32::try_from(behind).expect("there are few").min(sent - 1);
        let mut packet = sealed(key, number, &payload);
        if choice.flag()? {
            let at = choice.below(packet.len().min(256))?;
            packet[at] ^= 1 << choice.below(8)?;
            assert!(receiver.open(&packet).is_err());
            continue;
        }
        let highest = receiver.highest();
        let is_old = number + ReplayWindow::SIZE <= highest || seen.contains(&number);
        match receiver.open(&packet) {
            Ok(opened) => {
                assert!(!is_old && seen.insert(number), "{number} after {highest}");
                assert_eq!(opened.next_header, 135);
            }
            Err(error) => {
                assert!(is_old, "{number} after {highest}: {error}");
                assert_eq!(error, OpenError::Replayed(number));
            }
        }
    }
}
