use SelectorFaultKind::{EmptyRange, EndWithoutStart, TooLong, TooShort, UnknownFormat};

use super::*;

/// The size of each pair of fields, in the order of the flags (RFC 6088 §3.1, §3.2).
const IPV4_SIZES: [usize; 7] = [4, 4, 4, 2, 2, 1, 1];
const IPV6_SIZES: [usize; 8] = [16, 16, 4, 4, 2, 2, 1, 1];

/// A selector with the fields of these flag pairs: every start is 4, every end 8.
fn octets(format: u8, sizes: &[usize], pairs: impl Fn(usize) -> u32) -> Vec<u8> {
    let mut flags = 0;
    let mut fields = Vec::new();
    for (i, size) in sizes.iter().enumerate() {
        let pair = pairs(i);
        flags |= pair << (30 - 2 * i);
        for value in [(0b10, 4), (0b01, 8)] {
            if pair & value.0 != 0 {
                fields.resize(fields.len() + size - 1, 0);
                fields.push(value.1);
            }
        }
    }
    let mut octets = vec![format, 0];
    octets.extend(flags.to_be_bytes());
    octets.extend(fields);
    octets
}

fn fault<T>(kind: SelectorFaultKind, offset: usize) -> Result<T, SelectorFault> {
    Err(SelectorFault { kind, offset })
}

/// All of the 4^7 and 4^8 ways to set the flags.
#[test]
fn every_combination_of_flags_is_read_or_refused() {
    for (format, sizes) in [(IPV4, IPV4_SIZES.as_slice()), (IPV6, IPV6_SIZES.as_slice())] {
        for combination in 0..4_u32.pow(u32::try_from(sizes.len()).unwrap()) {
            let pairs = |i: usize| combination >> (2 * i) & 0b11;
            let octets = octets(format, sizes, pairs);
            let forbidden = (0..sizes.len()).any(|i| pairs(i) == 0b01);
            match decode(&octets) {
                Ok(selector) => {
                    assert!(!forbidden);
                    assert_eq!(encode(&selector).unwrap(), octets);
                    assert!(decode(&octets[..octets.len() - 1]).is_err());
                }
                Err(found) => {
                    assert!(forbidden, "{found}");
                    assert!(matches!(found.kind, EndWithoutStart(_)));
                    assert_eq!(found.offset, 2);
                }
            }
        }
    }
}

#[test]
fn the_ipv4_selector_of_rfc_6088_3_1() {
    // Flags A B C I J M.
    let octets = [
        0x01, 0x00, 0xe0, 0xc8, 0x00, 0x00, 0xc0, 0x00, 0x02, 0x00, 0xc0, 0x00, 0x02, 0xff, 0x0a,
        0x00, 0x00, 0x05, 0x13, 0x8c, 0x13, 0x8d, 0x11,
    ];
    let selector = TrafficSelector::Ipv4(Selector {
        source: Interval::new(Ipv4Addr::new(192, 0, 2, 0), Ipv4Addr::new(192, 0, 2, 255)),
        destination: Some(Interval::single(Ipv4Addr::new(10, 0, 0, 5))),
        destination_port: Interval::new(5004, 5005),
        next_header: Some(Interval::single(17)),
        ..Selector::default()
    });
    assert_eq!(decode(&octets), Ok(selector.clone()));
    assert_eq!(encode(&selector).unwrap(), octets);
}

#[test]
fn the_longest_selectors_have_42_and_98_octets_of_option_data() {
    assert_eq!(
        octets(IPV4, &IPV4_SIZES, |_| 0b11).len(),
        2 + 4 + 24 + 8 + 4
    );
    let longest = octets(IPV6, &IPV6_SIZES, |_| 0b11);
    assert_eq!(longest.len(), 2 + 4 + 64 + 16 + 8 + 4);
    let TrafficSelector::Ipv6(selector) = decode(&longest).unwrap() else {
        panic!("format 2 is IPv6");
    };
    let v6 = |n: u128| Ipv6Addr::from(n);
    assert_eq!(
        *selector,
        Selector {
            source: Interval::new(v6(4), v6(8)),
            destination: Interval::new(v6(4), v6(8)),
            spi: Interval::new(4, 8),
            flow_label: Interval::new(4, 8),
            source_port: Interval::new(4, 8),
            destination_port: Interval::new(4, 8),
            traffic_class: Interval::new(4, 8),
            next_header: Interval::new(4, 8),
        }
    );
}

#[test]
fn the_length_is_exactly_that_of_the_fields() {
    // Start of the destination port (flag K), then one octet too few and one too many.
    let octets = [2, 0, 0, 0x20, 0, 0, 0x13, 0x8c, 0];
    assert_eq!(decode(&octets[..7]), fault(TooShort, 7));
    assert!(decode(&octets[..8]).is_ok());
    assert_eq!(decode(&octets), fault(TooLong, 8));
    for len in 0..6 {
        assert_eq!(decode(&octets[..len]), fault(TooShort, len));
    }
    // One field of one octet: odd lengths are legal.
    let odd = [2, 0, 0, 2, 0, 0, 17];
    assert_eq!(encode(&decode(&odd).unwrap()).unwrap(), odd);
}

#[test]
fn formats_are_one_and_two() {
    for format in (0..=u8::MAX).filter(|f| ![IPV4, IPV6].contains(f)) {
        assert_eq!(
            decode(&[format, 0, 0, 0, 0, 0]),
            fault(UnknownFormat(format), 0)
        );
    }
}

#[test]
fn a_range_does_not_end_before_it_starts() {
    // Source port start and end (I and J) behind one source address (A).
    let mut octets = vec![2, 0, 0x80, 0xc0, 0, 0];
    octets.extend([0; 16]);
    octets.extend([0, 9, 0, 8]);
    assert_eq!(decode(&octets), fault(EmptyRange("source port"), 22));
    // The same twice is one value, and is sent as such.
    *octets.last_mut().unwrap() = 9;
    let one = encode(&decode(&octets).unwrap()).unwrap();
    assert_eq!(one[2..6], [0x80, 0x80, 0, 0]);
    assert_eq!(one.len(), octets.len() - 2);
}

#[test]
fn flow_labels_have_20_bits() {
    // Flags G and H: the octets above the label are not looked at, and not sent.
    let octets = [
        2, 0, 0x03, 0, 0, 0, 0xab, 0x51, 0x23, 0x45, 0xff, 0xf1, 0x23, 0x46,
    ];
    let selector = decode(&octets).unwrap();
    let label = selector.ipv6().unwrap().flow_label;
    assert_eq!(label, Interval::new(0x12345, 0x12346));
    let sent = encode(&selector).unwrap();
    assert_eq!(sent[6..], [0, 1, 0x23, 0x45, 0, 1, 0x23, 0x46]);

    let too_large = TrafficSelector::from(Selector {
        flow_label: Some(Interval::single(1 << 20)),
        ..Selector::default()
    });
    assert_eq!(encode(&too_large), Err(SelectorError::FlowLabel));
    let in_ipv4 = TrafficSelector::Ipv4(Selector {
        flow_label: Some(Interval::single(1)),
        ..Selector::default()
    });
    assert_eq!(encode(&in_ipv4), Err(SelectorError::FlowLabelInIpv4));
}

#[test]
fn ecn_bits_mean_nothing() {
    // Flags M and N: from 0xbb to 0xb8 is one DS value, not an empty range.
    let selector = decode(&[2, 0, 0, 0x0c, 0, 0, 0xbb, 0xb8]).unwrap();
    let class = selector.ipv6().unwrap().traffic_class;
    assert_eq!(class, Some(Interval::single(0xb8)));
    assert_eq!(encode(&selector).unwrap(), [2, 0, 0, 0x08, 0, 0, 0xb8]);
}

#[test]
fn reserved_bits_are_ignored() {
    // The sixteen flags after P of format 2 and the eighteen after N of format 1.
    let v6 = decode(&[2, 0xff, 0, 2, 0xff, 0xff, 17]).unwrap();
    assert_eq!(encode(&v6).unwrap(), [2, 0, 0, 2, 0, 0, 17]);
    let v4 = decode(&[1, 0xff, 0, 0x0b, 0xff, 0xff, 17]).unwrap();
    assert_eq!(encode(&v4).unwrap(), [1, 0, 0, 0x08, 0, 0, 17]);
}

#[test]
fn the_first_field_is_aligned() {
    let of = |octets: &[u8]| alignment(&decode(octets).unwrap());
    let one =
        |sizes: &[usize], format, field| of(&octets(format, sizes, |i| u32::from(i == field) << 1));
    for (field, size) in IPV4_SIZES.iter().enumerate() {
        assert_eq!(one(&IPV4_SIZES, IPV4, field), Alignment::new(*size, 0));
    }
    for (field, size) in IPV6_SIZES.iter().enumerate() {
        let multiple = (*size).min(8);
        assert_eq!(one(&IPV6_SIZES, IPV6, field), Alignment::new(multiple, 0));
    }
}
