//! Rules compared in every field, where lanes leave a doubt.

use flow::{FlowKey, Interval, Selector, TrafficSelector};
use zerocopy::FromBytes;

use crate::packet::header::{ETHERNET_LEN, Ipv6};
use crate::packet::walk;

/// Value of a field that the packet does not have: greater than any bound of an interval.
const ABSENT: u32 = 0x1_0000;

/// Every field of a selector as closed intervals of one layout: two cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct WideRule {
    low: WideKey,
    high: WideKey,
}

/// Every field of a packet in that layout.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct WideKey {
    addresses: [u128; 2],
    /// Flow label, source port, destination port, DS, next header, SPI, whether there is an SPI.
    words: [u32; 8],
}

impl WideKey {
    const MAX: Self = Self {
        addresses: [u128::MAX; 2],
        words: [u32::MAX; 8],
    };
    pub(super) const MIN: Self = Self {
        addresses: [0; 2],
        words: [0; 8],
    };

    /// The key of the IPv6 packet behind the Ethernet header of `frame`.
    pub(crate) fn of(frame: &[u8]) -> Self {
        let packet = frame.get(ETHERNET_LEN..).unwrap_or_default();
        Ipv6::ref_from_prefix(packet)
            .map_or(Self::MIN, |(ip, _)| Self::from(&walk::flow_key(ip, packet)))
    }
}

impl From<&FlowKey> for WideKey {
    fn from(key: &FlowKey) -> Self {
        let (source, destination) = key
            .ports
            .map_or((ABSENT, ABSENT), |(s, d)| (u32::from(s), u32::from(d)));
        Self {
            addresses: [key.source.to_bits(), key.destination.to_bits()],
            words: [
                key.flow_label,
                source,
                destination,
                u32::from(key.traffic_class >> 2),
                u32::from(key.next_header),
                key.spi.unwrap_or(0),
                u32::from(key.spi.is_some()),
                0,
            ],
        }
    }
}

impl WideRule {
    /// Matches no packet: no key has a value at or above these bounds.
    const NONE: Self = Self {
        low: WideKey::MAX,
        high: WideKey::MIN,
    };

    pub(super) fn of(selector: &TrafficSelector) -> Self {
        selector.ipv6().map_or(Self::NONE, Self::of_ipv6)
    }

    fn of_ipv6(s: &Selector<std::net::Ipv6Addr>) -> Self {
        fn word<T: Copy + Into<u32>>(range: Option<Interval<T>>) -> (u32, u32) {
            range.map_or((0, u32::MAX), |r| (r.start.into(), r.end.into()))
        }
        fn address(range: Option<Interval<std::net::Ipv6Addr>>) -> (u128, u128) {
            range.map_or((0, u128::MAX), |r| (r.start.to_bits(), r.end.to_bits()))
        }
        let ds = s.traffic_class.map(|r| Interval {
            start: r.start >> 2,
            end: r.end >> 2,
        });
        let with_spi = if s.spi.is_some() { (1, 1) } else { (0, 1) };
        let words = [
            word(s.flow_label),
            word(s.source_port),
            word(s.destination_port),
            word(ds),
            word(s.next_header),
            word(s.spi),
            with_spi,
            (0, 0),
        ];
        let addresses = [address(s.source), address(s.destination)];
        Self {
            low: WideKey {
                addresses: addresses.map(|(low, _)| low),
                words: words.map(|(low, _)| low),
            },
            high: WideKey {
                addresses: addresses.map(|(_, high)| high),
                words: words.map(|(_, high)| high),
            },
        }
    }

    #[inline(always)]
    #[expect(
        clippy::needless_bitwise_bool,
        reason = "a mispredicted branch costs more than the rest"
    )]
    pub(super) fn matches(&self, key: &WideKey) -> bool {
        let mut inside = true;
        let words = self.low.words.iter().zip(&self.high.words).zip(&key.words);
        for ((low, high), value) in words {
            inside &= (low <= value) & (value <= high);
        }
        let addresses = self.low.addresses.iter().zip(&self.high.addresses);
        for ((low, high), value) in addresses.zip(&key.addresses) {
            inside &= (low <= value) & (value <= high);
        }
        inside
    }
}
