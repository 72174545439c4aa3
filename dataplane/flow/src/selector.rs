//! Traffic selectors (RFC 6088) and the packet key they are matched against.
//!
//! Source and destination are those of *downlink* packets, from the correspondent node to the
//! mobile, as the LMA sees them. The match here is the plain reading of the RFC: the workers match
//! faster, and their tests hold them to this one.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

/// A closed interval; a selector field without an end is one with equal bounds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Interval<T> {
    /// First value inside.
    pub start: T,
    /// Last value inside.
    pub end: T,
}

impl<T: PartialOrd + Copy> Interval<T> {
    /// The interval from `start` to `end`; `None` if it would be empty.
    pub fn new(start: T, end: T) -> Option<Self> {
        (start <= end).then_some(Self { start, end })
    }

    /// The interval that holds one value.
    pub fn single(value: T) -> Self {
        Self {
            start: value,
            end: value,
        }
    }

    /// Whether `value` lies inside, bounds included.
    pub fn contains(&self, value: T) -> bool {
        self.start <= value && value <= self.end
    }

    /// Whether the bounds are equal.
    pub fn is_single(&self) -> bool {
        self.start == self.end
    }
}

/// The fields of a selector, in the order of the wire; an absent field matches every packet
/// (RFC 6088 §3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Deserialize)]
pub struct Selector<A> {
    /// Source address of the downlink packet.
    pub source: Option<Interval<A>>,
    /// Destination address of the downlink packet.
    pub destination: Option<Interval<A>>,
    /// IPsec security parameter index; packets without one do not match.
    pub spi: Option<Interval<u32>>,
    /// Flow label, 20 bits; IPv6 only (RFC 8200 §3).
    pub flow_label: Option<Interval<u32>>,
    /// Source port; packets without ports do not match.
    pub source_port: Option<Interval<u16>>,
    /// Destination port; packets without ports do not match.
    pub destination_port: Option<Interval<u16>>,
    /// Traffic class or DS octet; only its upper six bits are compared.
    pub traffic_class: Option<Interval<u8>>,
    /// Upper-layer protocol, after any extension headers.
    pub next_header: Option<Interval<u8>>,
}

/// For people, only what is there; for machines, which may not name fields, all of them.
impl<A: Serialize> Serialize for Selector<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fn put<S: SerializeStruct, T: Serialize>(
            to: &mut S,
            all: bool,
            name: &'static str,
            field: Option<&T>,
        ) -> Result<(), S::Error> {
            if all || field.is_some() {
                to.serialize_field(name, &field)
            } else {
                to.skip_field(name)
            }
        }
        let all = !serializer.is_human_readable();
        let there = usize::from(self.source.is_some())
            + usize::from(self.destination.is_some())
            + usize::from(self.spi.is_some())
            + usize::from(self.flow_label.is_some())
            + usize::from(self.source_port.is_some())
            + usize::from(self.destination_port.is_some())
            + usize::from(self.traffic_class.is_some())
            + usize::from(self.next_header.is_some());
        let mut to = serializer.serialize_struct("Selector", if all { 8 } else { there })?;
        put(&mut to, all, "source", self.source.as_ref())?;
        put(&mut to, all, "destination", self.destination.as_ref())?;
        put(&mut to, all, "spi", self.spi.as_ref())?;
        put(&mut to, all, "flow_label", self.flow_label.as_ref())?;
        put(&mut to, all, "source_port", self.source_port.as_ref())?;
        put(
            &mut to,
            all,
            "destination_port",
            self.destination_port.as_ref(),
        )?;
        put(&mut to, all, "traffic_class", self.traffic_class.as_ref())?;
        put(&mut to, all, "next_header", self.next_header.as_ref())?;
        to.end()
    }
}

impl<A> Default for Selector<A> {
    fn default() -> Self {
        Self {
            source: None,
            destination: None,
            spi: None,
            flow_label: None,
            source_port: None,
            destination_port: None,
            traffic_class: None,
            next_header: None,
        }
    }
}

/// A traffic selector of either format (RFC 6088 §3.1, §3.2).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrafficSelector {
    /// Format 1. Matches no IPv6 packet.
    Ipv4(Selector<Ipv4Addr>),
    /// Format 2.
    Ipv6(Box<Selector<Ipv6Addr>>),
}

/// Why a selector is not well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// The interval of a field is empty.
    #[error("the start of the {0} range is greater than its end")]
    EmptyRange(&'static str),
    /// A flow label of more than 20 bits.
    #[error("a flow label has 20 bits")]
    FlowLabel,
    /// A flow label in an IPv4 selector.
    #[error("IPv4 packets have no flow label")]
    FlowLabelInIpv4,
}

impl<A: PartialOrd> Selector<A> {
    /// Checks that every interval holds something and the flow label fits.
    ///
    /// # Errors
    /// The first field that does not, in the order of the wire.
    pub fn validate(&self) -> Result<(), SelectorError> {
        fn filled<T: PartialOrd>(
            range: Option<&Interval<T>>,
            name: &'static str,
        ) -> Result<(), SelectorError> {
            match range {
                Some(r) if r.start > r.end => Err(SelectorError::EmptyRange(name)),
                Some(_) | None => Ok(()),
            }
        }
        filled(self.source.as_ref(), "source address")?;
        filled(self.destination.as_ref(), "destination address")?;
        filled(self.spi.as_ref(), "SPI")?;
        filled(self.flow_label.as_ref(), "flow label")?;
        filled(self.source_port.as_ref(), "source port")?;
        filled(self.destination_port.as_ref(), "destination port")?;
        filled(self.traffic_class.as_ref(), "traffic class")?;
        filled(self.next_header.as_ref(), "next header")?;
        match self.flow_label {
            Some(label) if label.end > FlowKey::FLOW_LABEL_MASK => Err(SelectorError::FlowLabel),
            Some(_) | None => Ok(()),
        }
    }
}

impl TrafficSelector {
    /// Checks the selector's fields.
    ///
    /// # Errors
    /// The first field that is not well formed.
    pub fn validate(&self) -> Result<(), SelectorError> {
        match self {
            Self::Ipv4(s) if s.flow_label.is_some() => Err(SelectorError::FlowLabelInIpv4),
            Self::Ipv4(s) => s.validate(),
            Self::Ipv6(s) => s.validate(),
        }
    }

    /// Whether a downlink packet with this key belongs to the flow.
    pub fn matches(&self, key: &FlowKey) -> bool {
        match self {
            Self::Ipv4(_) => false,
            Self::Ipv6(s) => s.matches(key),
        }
    }

    /// The IPv6 selector, if it is one.
    pub fn ipv6(&self) -> Option<&Selector<Ipv6Addr>> {
        match self {
            Self::Ipv4(_) => None,
            Self::Ipv6(s) => Some(s),
        }
    }
}

impl From<Selector<Ipv6Addr>> for TrafficSelector {
    fn from(selector: Selector<Ipv6Addr>) -> Self {
        Self::Ipv6(Box::new(selector))
    }
}

impl Selector<Ipv6Addr> {
    /// Whether a downlink packet with this key belongs to the flow.
    pub fn matches(&self, key: &FlowKey) -> bool {
        /// An absent field matches all; an absent value matches no present field.
        fn field<T: PartialOrd + Copy>(range: Option<Interval<T>>, value: Option<T>) -> bool {
            range.is_none_or(|r| value.is_some_and(|v| r.contains(v)))
        }
        // The two ECN bits are not part of the comparison (RFC 6088 §3.1).
        let ds = self.traffic_class.map(|r| Interval {
            start: r.start >> 2,
            end: r.end >> 2,
        });
        field(self.source, Some(key.source))
            && field(self.destination, Some(key.destination))
            && field(self.spi, key.spi)
            && field(self.flow_label, Some(key.flow_label))
            && field(self.source_port, key.ports.map(|(source, _)| source))
            && field(
                self.destination_port,
                key.ports.map(|(_, destination)| destination),
            )
            && field(ds, Some(key.traffic_class >> 2))
            && field(self.next_header, Some(key.next_header))
    }
}

impl<A: fmt::Display + PartialEq> fmt::Display for Selector<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        let mut field = |f: &mut fmt::Formatter<'_>, name: &str, text: Option<String>| {
            let Some(text) = text else { return Ok(()) };
            let space = if std::mem::take(&mut first) { "" } else { " " };
            write!(f, "{space}{name} {text}")
        };
        field(f, "src", self.source.as_ref().map(ToString::to_string))?;
        field(f, "dst", self.destination.as_ref().map(ToString::to_string))?;
        field(f, "spi", self.spi.as_ref().map(ToString::to_string))?;
        field(
            f,
            "label",
            self.flow_label.as_ref().map(ToString::to_string),
        )?;
        field(
            f,
            "sport",
            self.source_port.as_ref().map(ToString::to_string),
        )?;
        field(
            f,
            "dport",
            self.destination_port.as_ref().map(ToString::to_string),
        )?;
        field(
            f,
            "tc",
            self.traffic_class.as_ref().map(ToString::to_string),
        )?;
        field(
            f,
            "proto",
            self.next_header.as_ref().map(ToString::to_string),
        )?;
        if first { f.write_str("any") } else { Ok(()) }
    }
}

impl<T: fmt::Display + PartialEq> fmt::Display for Interval<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.start == self.end {
            write!(f, "{}", self.start)
        } else {
            write!(f, "{}-{}", self.start, self.end)
        }
    }
}

impl fmt::Display for TrafficSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(s) => write!(f, "ipv4 {s}"),
            Self::Ipv6(s) => write!(f, "{s}"),
        }
    }
}

/// What a selector looks at in a downlink IPv6 packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowKey {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// Upper-layer protocol, after the extension headers that could be walked.
    pub next_header: u8,
    /// Traffic class, all eight bits.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Source and destination port, if the packet carries them: TCP, UDP, UDP-Lite, SCTP or DCCP,
    /// and not a later fragment.
    pub ports: Option<(u16, u16)>,
    /// Security parameter index, if the upper layer is ESP or AH.
    pub spi: Option<u32>,
}

impl FlowKey {
    /// The bits of a flow label.
    pub const FLOW_LABEL_MASK: u32 = 0x000f_ffff;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> FlowKey {
        FlowKey {
            source: "2001:db8:c::5".parse().unwrap(),
            destination: "2001:db8:2::100".parse().unwrap(),
            next_header: 17,
            traffic_class: 0b1011_1001,
            flow_label: 0x12345,
            ports: Some((4000, 5004)),
            spi: None,
        }
    }

    #[test]
    fn an_empty_selector_matches_everything() {
        assert!(Selector::default().matches(&key()));
        assert_eq!(Selector::<Ipv6Addr>::default().to_string(), "any");
    }

    #[test]
    fn ecn_bits_are_not_compared() {
        let selector = Selector {
            traffic_class: Some(Interval::single(0b1011_1000)),
            ..Selector::default()
        };
        assert!(selector.matches(&key()));
        assert!(!selector.matches(&FlowKey {
            traffic_class: 0b1011_1100,
            ..key()
        }));
    }

    #[test]
    fn a_packet_without_the_field_does_not_match() {
        let selector = Selector {
            source_port: Interval::new(0, u16::MAX),
            ..Selector::default()
        };
        assert!(selector.matches(&key()));
        assert!(!selector.matches(&FlowKey {
            ports: None,
            ..key()
        }));
        let selector = Selector {
            spi: Interval::new(0, u32::MAX),
            ..Selector::default()
        };
        assert!(!selector.matches(&key()));
    }

    #[test]
    fn bad_selectors_are_refused() {
        let range = Some(Interval { start: 2, end: 1 });
        let selector: Selector<Ipv6Addr> = Selector {
            source_port: range,
            ..Selector::default()
        };
        assert_eq!(
            selector.validate(),
            Err(SelectorError::EmptyRange("source port"))
        );
        let label = Some(Interval::single(1 << 20));
        let selector: Selector<Ipv6Addr> = Selector {
            flow_label: label,
            ..Selector::default()
        };
        assert_eq!(selector.validate(), Err(SelectorError::FlowLabel));
        let selector = Selector {
            flow_label: Some(Interval::single(1)),
            ..Selector::default()
        };
        assert_eq!(
            TrafficSelector::Ipv4(selector).validate(),
            Err(SelectorError::FlowLabelInIpv4)
        );
    }
}
