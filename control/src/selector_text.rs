//! Traffic selectors as people write them.

use std::net::Ipv6Addr;
use std::str::FromStr;

use flow::{Interval, Selector, TrafficSelector};
use ipnet::Ipv6Net;

use crate::api::{FlowAdd, Problem};

/// Upper-layer protocols that have a name here.
const PROTOCOLS: [(&str, u8); 8] = [
    ("tcp", 6),
    ("udp", 17),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("sctp", 132),
    ("dccp", 33),
    ("udplite", 136),
];

/// The selector a request describes.
///
/// # Errors
/// The first field that cannot be read, with what it should look like.
pub(crate) fn parse(request: &FlowAdd) -> Result<TrafficSelector, Problem> {
    let selector = Selector {
        source: field("src", request.src.as_deref(), addresses)?,
        destination: field("dst", request.dst.as_deref(), addresses)?,
        spi: field("spi", request.spi.as_deref(), numbers)?,
        flow_label: field("flow-label", request.flow_label.as_deref(), numbers)?,
        source_port: field("sport", request.sport.as_deref(), numbers)?,
        destination_port: field("dport", request.dport.as_deref(), numbers)?,
        traffic_class: field("tc", request.tc.as_deref(), numbers)?,
        next_header: field("proto", request.proto.as_deref(), protocol)?,
    };
    let selector = TrafficSelector::from(selector);
    selector
        .validate()
        .map_err(|error| Problem::bad_request(error.to_string()))?;
    Ok(selector)
}

fn field<T>(
    name: &str,
    text: Option<&str>,
    parse: fn(&str) -> Result<T, String>,
) -> Result<Option<T>, Problem> {
    let wrong = |expected| {
        Problem::bad_request(format!(
            "{name}: {:?}: {expected}",
            text.unwrap_or_default()
        ))
    };
    text.map(parse).transpose().map_err(wrong)
}

fn addresses(text: &str) -> Result<Interval<Ipv6Addr>, String> {
    const EXPECTED: &str =
        "expected an IPv6 address, a prefix such as 2001:db8::/64, or two addresses with a '-'";
    if let Ok(net) = text.parse::<Ipv6Net>() {
        return Interval::new(net.network(), net.broadcast()).ok_or_else(|| EXPECTED.into());
    }
    range(text, EXPECTED)
}

/// Decimal or 0x numbers, one or two with a '-'.
fn numbers<T: TryFrom<u32> + PartialOrd + Copy>(text: &str) -> Result<Interval<T>, String> {
    let expected = format!(
        "expected a number of at most {} bits, or two with a '-'",
        size_of::<T>() * 8
    );
    let parsed: Interval<Number> = range(text, &expected)?;
    let narrow = |number: Number| T::try_from(number.0).map_err(|_| expected.clone());
    Interval::new(narrow(parsed.start)?, narrow(parsed.end)?).ok_or(expected)
}

fn protocol(text: &str) -> Result<Interval<u8>, String> {
    let known = PROTOCOLS
        .iter()
        .find(|(name, _)| text.eq_ignore_ascii_case(name));
    known.map_or_else(
        || {
            numbers(text).map_err(|_| {
                let names: Vec<_> = PROTOCOLS.iter().map(|(name, _)| *name).collect();
                format!(
                    "expected one of {} or a number from 0 to 255",
                    names.join(", ")
                )
            })
        },
        |(_, number)| Ok(Interval::single(*number)),
    )
}

/// The number of an upper-layer protocol.
///
/// # Errors
/// If the text is neither a name nor a number of one.
pub(crate) fn protocol_number(text: &str) -> Result<u8, Problem> {
    let wrong = |why| Problem::bad_request(format!("proto: {text:?}: {why}"));
    let interval = protocol(text).map_err(wrong)?;
    let single = interval.is_single().then_some(interval.start);
    single.ok_or_else(|| wrong("one protocol, not a range".to_owned()))
}

fn range<T: FromStr + PartialOrd + Copy>(
    text: &str,
    expected: &str,
) -> Result<Interval<T>, String> {
    let value = |part: &str| part.trim().parse().map_err(|_| expected.to_owned());
    match text.split_once('-') {
        None => Ok(Interval::single(value(text)?)),
        Some((start, end)) => Interval::new(value(start)?, value(end)?)
            .ok_or_else(|| "the range's start is greater than its end".to_owned()),
    }
}

#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct Number(u32);

impl FromStr for Number {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix("0x")
            .map_or_else(|| text.parse(), |hex| u32::from_str_radix(hex, 16))
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_read() {
        let request = FlowAdd {
            src: Some("2001:db8:c::5".into()),
            dst: Some("2001:db8:2::/64".into()),
            proto: Some("UDP".into()),
            sport: Some("4000-4010".into()),
            dport: Some("5004".into()),
            flow_label: Some("0x12345".into()),
            tc: Some("0xb8".into()),
            spi: Some("1-4294967295".into()),
            ..FlowAdd::default()
        };
        let selector = parse(&request).unwrap();
        assert_eq!(
            selector.to_string(),
            "src 2001:db8:c::5 dst 2001:db8:2::-2001:db8:2:0:ffff:ffff:ffff:ffff spi 1-4294967295 \
             label 74565 sport 4000-4010 dport 5004 tc 184 proto 17"
        );
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = |request: FlowAdd| parse(&request).unwrap_err().detail;
        let cases = [
            (
                FlowAdd {
                    src: Some("10.0.0.1".into()),
                    ..FlowAdd::default()
                },
                "src: \"10.0.0.1\"",
            ),
            (
                FlowAdd {
                    dport: Some("65536".into()),
                    ..FlowAdd::default()
                },
                "at most 16 bits",
            ),
            (
                FlowAdd {
                    dport: Some("9-1".into()),
                    ..FlowAdd::default()
                },
                "greater than its end",
            ),
            (
                FlowAdd {
                    proto: Some("upd".into()),
                    ..FlowAdd::default()
                },
                "tcp, udp",
            ),
            (
                FlowAdd {
                    flow_label: Some("0x100000".into()),
                    ..FlowAdd::default()
                },
                "20 bits",
            ),
        ];
        for (request, expected) in cases {
            let detail = wrong(request);
            assert!(detail.contains(expected), "{detail}");
        }
    }
}
