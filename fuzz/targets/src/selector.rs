//! Traffic selectors (RFC 6088 §3): decoded, encoded, decoded again, matched.

use std::net::Ipv6Addr;

use flow::{FlowKey, TrafficSelector};
use pmip_wire::selector;

/// Decodes a selector and matches it against a packet that its own bounds describe.
pub fn run(data: &[u8]) {
    let selector = match selector::decode(data) {
        Ok(selector) => selector,
        Err(fault) => {
            assert!(fault.offset <= data.len(), "{fault}");
            return;
        }
    };
    assert_eq!(selector.validate(), Ok(()));
    let octets = selector::encode(&selector).expect("it is well formed");
    assert!(octets.len() <= data.len());
    let again = selector::decode(&octets);
    assert_eq!(again.as_ref(), Ok(&selector));
    assert_eq!(selector::encode(&again.unwrap()), Ok(octets));
    let _text = selector.to_string();
    if let TrafficSelector::Ipv6(fields) = &selector {
        let address = |range: Option<flow::Interval<Ipv6Addr>>, default| {
            range.map_or(default, |range| range.end)
        };
        let port = |range: Option<flow::Interval<u16>>| range.map_or(7, |range| range.end);
        let inside = FlowKey {
            source: address(fields.source, Ipv6Addr::LOCALHOST),
            destination: address(fields.destination, Ipv6Addr::LOCALHOST),
            next_header: fields.next_header.map_or(17, |range| range.end),
            traffic_class: fields.traffic_class.map_or(0, |range| range.end | 3),
            flow_label: fields.flow_label.map_or(0, |range| range.end),
            ports: Some((port(fields.source_port), port(fields.destination_port))),
            spi: Some(fields.spi.map_or(0, |range| range.end)),
        };
        assert!(selector.matches(&inside), "{selector}");
        let portless = FlowKey {
            ports: None,
            ..inside
        };
        let wants_ports = fields.source_port.is_some() || fields.destination_port.is_some();
        assert_eq!(selector.matches(&portless), !wants_ports);
    }
}
