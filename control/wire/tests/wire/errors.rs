//! Bad messages: what is wrong, where, and what is owed to the sender.

use std::net::Ipv6Addr;

use flow::{Hnp, Interval, Selector, SelectorError, TrafficSelector};
use pmip_wire::DecodeErrorKind as Kind;
use pmip_wire::{
    BindingErrorStatus, DecodeError, EncodeError, Fmi, HnpOption, Message, MnIdOption, Pba, Pbu,
    RawOption, Reaction, SelectorFault, SelectorFaultKind, SelectorOption,
};

use crate::fix_checksum;
use crate::vectors::vectors;

const HERE: Ipv6Addr = Ipv6Addr::LOCALHOST;

/// MH type, fixed part zero, and these options, padded with Pad1.
fn mh(mh_type: u8, options: &[u8]) -> Vec<u8> {
    let mut mh = vec![59, 0, mh_type, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    if mh_type == 11 {
        mh[8] = 0x80;
    }
    if mh_type == 16 {
        mh[6] = 1;
    }
    if mh_type == 7 {
        mh.resize(24, 0);
    }
    mh.extend(options);
    mh.resize(mh.len().next_multiple_of(8), 0);
    mh[1] = u8::try_from(mh.len() / 8 - 1).unwrap();
    fix_checksum(&mut mh, HERE, HERE);
    mh
}

fn decode(mh: &[u8]) -> Result<Message, DecodeError> {
    Message::decode(mh, HERE, HERE)
}

fn pbu(options: &[u8]) -> Result<Pbu, DecodeError> {
    decode(&mh(5, options)).map(|message| {
        let Message::Pbu(pbu) = message else {
            panic!("{message:?}");
        };
        pbu
    })
}

fn pba(options: &[u8]) -> Result<Pba, DecodeError> {
    decode(&mh(6, options)).map(|message| {
        let Message::Pba(pba) = message else {
            panic!("{message:?}");
        };
        pba
    })
}

fn fmi(options: &[u8]) -> Result<Fmi, DecodeError> {
    decode(&mh(11, options)).map(|message| {
        let Message::Fmi(fmi) = message else {
            panic!("{message:?}");
        };
        fmi
    })
}

fn error<T>(kind: Kind, offset: usize) -> Result<T, DecodeError> {
    Err(DecodeError { kind, offset })
}

#[test]
fn the_frame_is_checked_in_the_order_of_rfc_6275_9_2() {
    // Everything is wrong; each step puts right what was found.
    let mut bad = mh(8, &[]);
    bad.resize(16, 0);
    (bad[0], bad[1], bad[5]) = (6, 2, !bad[5]);
    let found = decode(&bad).unwrap_err();
    let (claimed, available) = (24, 16);
    assert_eq!(found.kind, Kind::Truncated { claimed, available });
    assert_eq!(
        (found.offset, found.reaction()),
        (16, Reaction::DropSilently)
    );

    bad[1] = 1;
    let found = decode(&bad).unwrap_err();
    assert_eq!((found.kind, found.offset), (Kind::Checksum, 4));
    assert_eq!(found.reaction(), Reaction::DropSilently);

    fix_checksum(&mut bad, HERE, HERE);
    let found = decode(&bad).unwrap_err();
    assert_eq!((found.kind, found.offset), (Kind::UnknownType(8), 2));
    let answer = BindingErrorStatus::UNRECOGNIZED_MH_TYPE;
    assert_eq!(found.reaction(), Reaction::BindingError(answer));

    bad[2] = 7;
    fix_checksum(&mut bad, HERE, HERE);
    let found = decode(&bad).unwrap_err();
    assert_eq!((found.kind, found.offset), (Kind::PayloadProto(6), 0));
    assert_eq!(found.reaction(), Reaction::ParameterProblem);

    bad[0] = 59;
    fix_checksum(&mut bad, HERE, HERE);
    let found = decode(&bad).unwrap_err();
    let (found_units, minimum) = (1, 2);
    let kind = Kind::HeaderLen {
        found: found_units,
        minimum,
    };
    assert_eq!((found.kind, found.offset), (kind, 1));
    assert_eq!(found.reaction(), Reaction::ParameterProblem);
}

#[test]
fn every_type_has_a_minimum_length() {
    for mh_type in [5, 6, 13, 16, 19, 20] {
        let mut short = vec![59, 0, mh_type, 0, 0, 0, 0, 0];
        fix_checksum(&mut short, HERE, HERE);
        let kind = Kind::HeaderLen {
            found: 0,
            minimum: 1,
        };
        assert_eq!(decode(&short), error(kind, 1), "{mh_type}");
    }
    // RFC 5096 §3 allows this one, though it is no message of ours.
    let mut short = vec![59, 0, 11, 0, 0, 0, 0, 0];
    fix_checksum(&mut short, HERE, HERE);
    let found = decode(&short).unwrap_err();
    assert_eq!((found.kind, found.offset), (Kind::EmptyExperiment, 6));
    assert_eq!(found.reaction(), Reaction::DropMalformed);
}

#[test]
fn messages_cut_anywhere_are_truncated() {
    for vector in vectors() {
        for len in 0..vector.octets.len() {
            let found = Message::decode(&vector.octets[..len], vector.source, vector.destination);
            let claimed = if len < 8 { 8 } else { vector.octets.len() };
            let kind = Kind::Truncated {
                claimed,
                available: len,
            };
            assert_eq!(found, error(kind, len), "{}", vector.name);
        }
    }
}

#[test]
fn the_addresses_belong_to_the_checksum() {
    for vector in vectors() {
        let other = Ipv6Addr::LOCALHOST;
        let found = Message::decode(&vector.octets, other, vector.destination);
        assert_eq!(found, error(Kind::Checksum, 4));
        let found = Message::decode(&vector.octets, vector.source, other);
        assert_eq!(found, error(Kind::Checksum, 4));
    }
}

#[test]
fn types_that_are_not_handled_are_unknown() {
    for mh_type in 0..=u8::MAX {
        let known = [5, 6, 7, 11, 13, 16, 19, 20].contains(&mh_type);
        let found = decode(&mh(mh_type, &[]));
        if known {
            assert!(found.is_ok(), "{mh_type}: {found:?}");
        } else {
            assert_eq!(found, error(Kind::UnknownType(mh_type), 2));
        }
    }
}

#[test]
fn a_revocation_is_an_indication_or_an_acknowledgement() {
    let mut bad = mh(16, &[]);
    bad[6] = 3;
    fix_checksum(&mut bad, HERE, HERE);
    assert_eq!(decode(&bad), error(Kind::RevocationType(3), 6));
}

#[test]
fn options_that_run_past_the_end_are_found() {
    // The message has 16 octets; options start at 12.
    assert_eq!(pbu(&[200, 3, 0, 0]), error(Kind::OptionOverrun(200), 12));
    assert_eq!(pbu(&[0, 0, 0, 200]), error(Kind::OptionOverrun(200), 15));
    assert_eq!(pbu(&[0, 1, 9, 0]), error(Kind::OptionOverrun(1), 13));
    assert!(pbu(&[200, 2, 0, 0]).is_ok());
    // An overrun after good options, in every message that has options at 12.
    for mh_type in [5, 6, 11, 13, 16, 19, 20] {
        let found = decode(&mh(mh_type, &[200, 0, 0, 201, 0, 8, 10, 1]));
        assert_eq!(found, error(Kind::OptionOverrun(8), 17), "{mh_type}");
    }
    let found = decode(&mh(7, &[200, 0, 0, 201, 0, 8, 10, 1]));
    assert_eq!(found, error(Kind::OptionOverrun(8), 29));
}

#[test]
fn options_of_fixed_length_have_no_other() {
    // Alternate CoA, HNP, HI, ATT, link-local, timestamp, redirect capability.
    let fixed = [
        (3, 16),
        (22, 18),
        (23, 2),
        (24, 2),
        (26, 16),
        (27, 8),
        (46, 2),
    ];
    for (option, right) in fixed {
        for length in 0..32 {
            let data = vec![0_u8; length];
            let options = [&[option, u8::try_from(length).unwrap()], data.as_slice()].concat();
            let found = pbu(&options);
            if length == right {
                assert!(found.is_ok(), "{option}: {found:?}");
            } else {
                assert_eq!(found, error(Kind::OptionLength { option, length }, 13));
            }
        }
    }
    let wrong = |option, length| Kind::OptionLength { option, length };
    let found = decode(&mh(13, &[28, 3, 0, 0, 0, 0, 0, 0]));
    assert_eq!(found, error(wrong(28, 3), 13), "restart counter");
    assert_eq!(
        pbu(&[8, 0]),
        error(wrong(8, 0), 13),
        "identifier without subtype"
    );
    assert_eq!(pbu(&[25, 1, 0]), error(wrong(25, 1), 13));
    assert_eq!(pbu(&[35, 5, 0, 1, 0, 0, 0]), error(wrong(35, 5), 13));
    assert_eq!(pbu(&[44, 3, 0, 1, 0]), error(wrong(44, 3), 13));
    assert_eq!(pbu(&[45, 5, 0, 1, 0, 1, 0]), error(wrong(45, 5), 13));
    assert_eq!(fmi(&[18, 1, 2, 0]), error(wrong(18, 1), 13));
    assert_eq!(pba(&[48, 4, 0, 0, 0, 0]), error(wrong(48, 4), 13));
}

#[test]
fn a_redirect_has_one_address_of_one_family() {
    let redirect = |flags: u8, octets: usize| {
        let length = u8::try_from(octets + 2).unwrap();
        let options = [[47, length, flags, 0].as_slice(), &vec![1; octets]].concat();
        pba(&options).map(|pba| pba.redirect.unwrap().0)
    };
    let wrong = |length| error(Kind::OptionLength { option: 47, length }, 13);
    assert_eq!(redirect(0x80, 16), Ok([1_u8; 16].into()));
    assert_eq!(redirect(0x40, 4), Ok([1_u8; 4].into()));
    // Reserved bits are ignored.
    assert_eq!(redirect(0xbf, 16), Ok([1_u8; 16].into()));
    for octets in [0, 4, 15, 17, 20] {
        assert_eq!(redirect(0x80, octets), wrong(octets + 2));
    }
    for octets in [0, 3, 5, 16] {
        assert_eq!(redirect(0x40, octets), wrong(octets + 2));
    }
    for (flags, octets) in [(0xc0, 16), (0xc0, 20), (0, 16), (0x3f, 4)] {
        assert_eq!(redirect(flags, octets), error(Kind::RedirectFamily, 14));
    }
    let short = Kind::OptionLength {
        option: 47,
        length: 1,
    };
    assert_eq!(pba(&[47, 1, 0]), error(short, 13));
}

#[test]
fn single_options_are_single() {
    let identifier = [8, 3, 1, b'a', b'b'].as_slice();
    let handoff = [23, 2, 0, 1].as_slice();
    let access = [24, 2, 0, 4].as_slice();
    let link_layer = [25, 4, 0, 0, 1, 2].as_slice();
    let link_local = [[26, 16].as_slice(), &[0; 16]].concat();
    let timestamp = [[27, 8].as_slice(), &[0; 8]].concat();
    let alternate = [[3, 16].as_slice(), &[1; 16]].concat();
    let summary = [44, 2, 0, 1].as_slice();
    let redirectable = [46, 2, 0, 0].as_slice();
    for option in [
        identifier,
        handoff,
        access,
        link_layer,
        &link_local,
        &timestamp,
        &alternate,
        summary,
        redirectable,
    ] {
        assert!(pbu(option).is_ok());
        let found = pbu(&[option, option].concat());
        assert_eq!(
            found,
            error(Kind::DuplicateOption(option[0]), 12 + option.len())
        );
    }
    for mh_type in [6, 11, 16, 19, 20] {
        let found = decode(&mh(mh_type, &[identifier, identifier].concat()));
        assert_eq!(found, error(Kind::DuplicateOption(8), 17), "{mh_type}");
    }
    let redirect = [47, 6, 0x40, 0, 1, 2, 3, 4].as_slice();
    let load = [[48, 18].as_slice(), &[0; 18]].concat();
    for option in [redirect, &load] {
        let found = pba(&[option, option].concat());
        let twice = Kind::DuplicateOption(option[0]);
        assert_eq!(found, error(twice, 12 + option.len()));
    }
    let counter = [28, 4, 0, 0, 0, 1];
    let found = decode(&mh(13, &[counter, counter].concat()));
    assert_eq!(found, error(Kind::DuplicateOption(28), 18));

    // RFC 5213 §8.1 allows several of these.
    let prefix = [[22, 18, 0, 64].as_slice(), &[0x20; 16]].concat();
    assert_eq!(pbu(&prefix.repeat(3)).unwrap().hnps.len(), 3);
    assert_eq!(pbu(&[19, 4, 0, 0, 0, 9].repeat(2)).unwrap().others.len(), 2);
}

#[test]
fn unknown_options_are_skipped_but_kept() {
    let found = pbu(&[
        200, 3, 1, 2, 3, 8, 3, 1, b'm', b'n', 201, 0, 23, 2, 0, 1, 19, 1, 7,
    ])
    .unwrap();
    assert_eq!(found.mn_id.unwrap().nai().unwrap().as_str(), "mn");
    assert_eq!(found.handoff.unwrap().0, 1);
    let raw = |kind, data: &[u8]| RawOption::new(kind, data).unwrap();
    assert_eq!(
        found.others,
        [raw(200, &[1, 2, 3]), raw(201, &[]), raw(19, &[7])]
    );
    assert_eq!(RawOption::new(0, &[]), None);
    assert_eq!(RawOption::new(1, &[]), None);
    assert_eq!(RawOption::new(2, &[0; 256]), None);
}

#[test]
fn padding_may_hold_anything_and_be_anywhere() {
    let found = pbu(&[1, 3, 0xff, 8, 200, 0, 0, 23, 2, 0xff, 5, 1, 0, 1, 1, 9]).unwrap();
    assert_eq!(found.handoff.unwrap().0, 5);
    assert!(found.others.is_empty());
}

#[test]
fn an_identifier_of_another_kind_is_kept() {
    let id = |data: &[u8]| {
        let length = u8::try_from(data.len()).unwrap();
        pbu(&[&[8, length], data].concat()).unwrap().mn_id.unwrap()
    };
    assert_eq!(id(&[1]), MnIdOption::Empty);
    for (subtype, octets) in [(1, b"\xff".as_slice()), (1, b"a\nb"), (2, b"mn"), (2, b"")] {
        let found = id(&[&[subtype], octets].concat());
        let octets = octets.into();
        assert_eq!(found, MnIdOption::Other { subtype, octets });
        assert_eq!(found.nai(), None);
    }
    assert_eq!(id(b"\x01a\nb").to_string(), "(subtype 1) 610a62");
}

#[test]
fn a_prefix_has_at_most_128_bits() {
    let prefix = |length: u8, octet: u8| [&[22, 18, 0, length], [octet; 16].as_slice()].concat();
    assert_eq!(pbu(&prefix(129, 1)), error(Kind::PrefixLength(129), 15));
    assert_eq!(pbu(&prefix(0, 1)), error(Kind::PrefixLength(0), 15));
    // ALL_ZERO may have any length, and reads as that prefix.
    for length in 0..=128 {
        let found = pbu(&prefix(length, 0)).unwrap().hnps;
        assert!(found[0].is_all_zero());
        assert_eq!(
            found[0].prefix,
            Hnp::new(Ipv6Addr::UNSPECIFIED, length).unwrap()
        );
    }
    // The L bit is one bit, the rest of its octet is reserved.
    let l_bit = |octet: u8| {
        let option = [&[22, 18, octet, 64], [1; 16].as_slice()].concat();
        pbu(&option).unwrap().hnps[0].off_link
    };
    assert!(l_bit(0x80) && l_bit(0xff) && !l_bit(0x7f));
}

#[test]
fn a_link_layer_identifier_is_not_all_zero() {
    assert_eq!(pbu(&[25, 2, 0, 0]), error(Kind::LinkLayerId, 16));
    assert_eq!(pbu(&[25, 4, 0, 0, 0, 0]), error(Kind::LinkLayerId, 16));
    assert!(pbu(&[25, 4, 0, 0, 0, 1]).is_ok());
}

#[test]
fn numbers_of_flows_and_bindings_are_not_zero() {
    let zero = Kind::ReservedNumber;
    assert_eq!(pbu(&[35, 4, 0, 0, 0, 0]), error(zero(35), 14));
    assert_eq!(pbu(&[44, 4, 0, 1, 0, 0]), error(zero(44), 16));
    assert_eq!(pbu(&[45, 6, 0, 0, 0, 1, 0, 0]), error(zero(45), 14));
    assert_eq!(pbu(&[45, 6, 0, 1, 0, 0, 0, 0]), error(zero(45), 16));
    let reference = [45, 12, 0, 1, 0, 1, 0, 0, 2, 4, 0, 1, 0, 0];
    assert_eq!(pbu(&reference), error(zero(2), 24));
}

#[test]
fn sub_options_are_checked_like_options() {
    let flow = |sub: &[u8]| {
        let length = u8::try_from(6 + sub.len()).unwrap();
        [&[45, length, 0, 1, 0, 1, 0, 0], sub].concat()
    };
    // Sub-options start at 20.
    assert_eq!(pbu(&flow(&[2, 3, 0])), error(Kind::OptionOverrun(2), 20));
    assert_eq!(pbu(&flow(&[0, 9])), error(Kind::OptionOverrun(9), 21));
    let twice = flow(&[2, 2, 0, 1, 2, 2, 0, 1]);
    assert_eq!(pbu(&twice), error(Kind::DuplicateOption(2), 24));
    let selector = [3, 6, 2, 0, 0, 0, 0, 0].as_slice();
    let twice = flow(&[selector, selector].concat());
    assert_eq!(pbu(&twice), error(Kind::DuplicateOption(3), 28));
    let found = pbu(&flow(&[&[1, 1, 7, 0, 200, 1, 9], selector].concat())).unwrap();
    let any = TrafficSelector::from(Selector::default());
    assert_eq!(found.flows[0].selector, Some(any.into()));
    assert_eq!(found.flows[0].others, [RawOption::new(200, &[9]).unwrap()]);
}

/// A request with a selector that cannot be read is a request all the same: it can be refused.
#[test]
fn an_unreadable_selector_leaves_the_message_readable() {
    let cases: [(&[u8], _, _); 3] = [
        (&[9, 0, 1, 2, 3], SelectorFaultKind::UnknownFormat(9), 0),
        (&[2, 0, 0, 0], SelectorFaultKind::TooShort, 4),
        (&[1, 0, 0, 1, 0, 0, 6], SelectorFaultKind::TooLong, 6),
    ];
    for (octets, kind, offset) in cases {
        let length = u8::try_from(octets.len()).unwrap();
        let read = fmi(&[&[18, length], octets, &[8, 2, 1, b'm']].concat()).unwrap();
        assert!(read.mn_id.is_some());
        let [SelectorOption::Unreadable(unreadable)] = read.selectors.as_slice() else {
            panic!("{:?}", read.selectors);
        };
        assert_eq!(unreadable.fault(), SelectorFault { kind, offset });
        assert_eq!(unreadable.octets(), octets);
        // It can be sent back as it came.
        let message = Message::Fmi(read);
        let again = decode(&message.encode(HERE, HERE).unwrap());
        assert_eq!(again, Ok(message));
    }
}

#[test]
fn reserved_fields_are_ignored_and_not_sent() {
    for vector in vectors() {
        let mut octets = vector.octets.clone();
        octets[3] = 0xff;
        if octets[2] == 20 {
            octets[9..12].fill(0xff);
        }
        fix_checksum(&mut octets, vector.source, vector.destination);
        let read = Message::decode(&octets, vector.source, vector.destination).unwrap();
        assert_eq!(read, vector.message);
        let written = read.encode(vector.source, vector.destination).unwrap();
        assert_eq!(written, vector.octets);
    }
}

#[test]
fn a_message_that_does_not_fit_is_not_written() {
    let hnp = HnpOption::off_link(Hnp::new(Ipv6Addr::LOCALHOST, 128).unwrap());
    // Each takes 24 octets, but the last: 12 + 84 · 24 + 20 = 2048.
    let fits = Pbu {
        hnps: vec![hnp; 85],
        ..Pbu::default()
    };
    assert_eq!(Message::from(fits).encode(HERE, HERE).unwrap().len(), 2048);
    let too_long = Pbu {
        hnps: vec![hnp; 86],
        ..Pbu::default()
    };
    let found = Message::from(too_long).encode(HERE, HERE);
    assert_eq!(found, Err(EncodeError::TooLong(2072)));

    let too_long = Pbu {
        mn_id: Some(MnIdOption::Other {
            subtype: 2,
            octets: [0; 255].into(),
        }),
        ..Pbu::default()
    };
    let found = Message::from(too_long).encode(HERE, HERE);
    let (kind, length) = (8, 256);
    assert_eq!(found, Err(EncodeError::OptionTooLong { kind, length }));
}

#[test]
fn a_bad_selector_is_not_written() {
    let selector = TrafficSelector::from(Selector {
        source_port: Some(Interval { start: 2, end: 1 }),
        ..Selector::default()
    });
    let fmi = Fmi {
        selectors: vec![selector.into()],
        ..Fmi::default()
    };
    let found = Message::from(fmi).encode(HERE, HERE);
    let fault = SelectorError::EmptyRange("source port");
    assert_eq!(found, Err(EncodeError::Selector(fault)));
}
