//! Mobility Headers (RFC 6275 §6.1): decoded, encoded, decoded again.

use std::net::Ipv6Addr;

use pmip_wire::{DecodeError, EncodeError, Message, checksum};

/// Who sends and receives all messages here.
pub(crate) const SOURCE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1);
/// See [`SOURCE`].
pub(crate) const DESTINATION: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1);

/// Decodes octets as they are, and with the checksum that belongs to them: hardly anything else gets past
/// the first check.
pub fn run(data: &[u8]) {
    check(data, Message::decode(data, SOURCE, DESTINATION));
    let mut mended = data.to_vec();
    mend(&mut mended, SOURCE, DESTINATION);
    check(&mended, Message::decode(&mended, SOURCE, DESTINATION));
}

/// Makes the checksum right, and the length if there are fewer octets than it says.
pub(crate) fn mend(mh: &mut Vec<u8>, source: Ipv6Addr, destination: Ipv6Addr) {
    mh.truncate(2048);
    mh.resize(mh.len().next_multiple_of(8).max(8), 0);
    let last = mh.len() / 8 - 1;
    let units = usize::from(mh[1]).min(last);
    mh[1] = u8::try_from(units).expect("at most 2048 octets");
    let covered = &mh[..8 * (units + 1)];
    let sum = checksum::compute(covered, source, destination);
    mh[4..6].copy_from_slice(&sum.to_be_bytes());
}

fn check(octets: &[u8], decoded: Result<Message, DecodeError>) {
    match decoded {
        Ok(message) => round_trip(&message),
        Err(error) => {
            let _owed = error.reaction();
            assert!(error.offset <= octets.len(), "{error}");
        }
    }
}

/// What was decoded is encoded in one form, and that form means the same.
pub(crate) fn round_trip(message: &Message) {
    match message.encode(SOURCE, DESTINATION) {
        Ok(octets) => {
            assert!(octets.len().is_multiple_of(8));
            let again = Message::decode(&octets, SOURCE, DESTINATION);
            assert_eq!(again.as_ref(), Ok(message));
            assert_eq!(again.unwrap().encode(SOURCE, DESTINATION), Ok(octets));
        }
        // Padding of its own may make a message longer than it was.
        Err(EncodeError::TooLong(_) | EncodeError::OptionTooLong { .. }) => {}
        Err(EncodeError::Selector(error)) => panic!("decoded, but not well formed: {error}"),
    }
}
