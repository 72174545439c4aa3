//! What is written is read back, and nothing that is read does harm.

use std::net::Ipv6Addr;

use pmip_wire::{EncodeError, Message};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::fix_checksum;
use crate::generate::{address, message};

/// Reads a Mobility Header whose checksum is made right first, as a hostile peer would.
fn decode_fixed(mh: &mut [u8], source: Ipv6Addr, destination: Ipv6Addr) -> Option<Message> {
    if let Some([_, units]) = mh.first_chunk() {
        let len = (usize::from(*units) + 1) * 8;
        if let Some(mh) = mh.get_mut(..len) {
            fix_checksum(mh, source, destination);
        }
    }
    match Message::decode(mh, source, destination) {
        Ok(message) => Some(message),
        Err(error) => {
            assert!(error.offset <= mh.len(), "{error}");
            None
        }
    }
}

/// What was read is written and read again as the same message.
fn check_normal_form(message: &Message, source: Ipv6Addr, destination: Ipv6Addr) {
    match message.encode(source, destination) {
        Ok(written) => {
            let again = Message::decode(&written, source, destination);
            assert_eq!(again.as_ref(), Ok(message));
        }
        // Alignment can take more room than the sender did.
        Err(EncodeError::TooLong(_)) => {}
        Err(error) => panic!("{error}: {message:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn messages_survive_the_wire(
        message in message(),
        source in address(),
        destination in address(),
    ) {
        let written = message.encode(source, destination).unwrap();
        prop_assert_eq!(written.len() % 8, 0);
        prop_assert_eq!(written[0], 59);
        prop_assert_eq!(written[2], message.mh_type());
        let read = Message::decode(&written, source, destination);
        prop_assert_eq!(read, Ok(message));
    }

    #[test]
    fn arbitrary_octets_do_no_harm(
        mut octets in vec(any::<u8>(), 0..300),
        source in address(),
        destination in address(),
    ) {
        let _ = Message::decode(&octets, source, destination);
        decode_fixed(&mut octets, source, destination);
    }

    /// Octets that get past the frame, and often are options.
    #[test]
    fn arbitrary_options_do_no_harm(
        mh_type in prop_oneof![5..=7_u8, Just(11), Just(13), Just(16), 19..=20_u8],
        fixed: [u8; 6],
        options in vec((prop_oneof![0..=50_u8, any::<u8>()], vec(any::<u8>(), 0..24)), 0..20),
        lie in prop::option::weighted(0.2, any::<(prop::sample::Index, u8)>()),
    ) {
        let mut mh = vec![59, 0, mh_type, 0, 0, 0];
        mh.extend(fixed);
        for (kind, data) in options {
            mh.push(kind);
            mh.push(u8::try_from(data.len()).unwrap());
            mh.extend(data);
        }
        mh.resize(mh.len().next_multiple_of(8), 0);
        mh[1] = u8::try_from(mh.len() / 8 - 1).unwrap();
        if let Some((index, octet)) = lie {
            let at = 6 + index.index(mh.len() - 6);
            mh[at] = octet;
        }
        let here = Ipv6Addr::LOCALHOST;
        if let Some(message) = decode_fixed(&mut mh, here, here) {
            check_normal_form(&message, here, here);
        }
    }

    #[test]
    fn damaged_messages_do_no_harm(
        message in message(),
        damage in vec(any::<(prop::sample::Index, u8)>(), 1..6),
        cut: prop::sample::Index,
    ) {
        let here = Ipv6Addr::LOCALHOST;
        let mut mh = message.encode(here, here).unwrap();
        for (index, octet) in damage {
            let at = index.index(mh.len());
            mh[at] = octet;
        }
        if let Some(message) = decode_fixed(&mut mh, here, here) {
            check_normal_form(&message, here, here);
        }
        let end = cut.index(mh.len());
        decode_fixed(&mut mh[..end], here, here);
    }

    #[test]
    fn a_wrong_octet_anywhere_is_noticed(message in message(), at: prop::sample::Index, bit in 0..8) {
        let here = Ipv6Addr::LOCALHOST;
        let mut mh = message.encode(here, here).unwrap();
        let at = at.index(mh.len());
        mh[at] ^= 1_u8 << bit;
        prop_assert!(Message::decode(&mh, here, here).is_err());
    }
}
