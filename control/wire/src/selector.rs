//! Traffic selectors on the wire (RFC 6088 §3, RFC 6089 §4.2.1.4).
//!
//! ```text
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |   TS Format   |   Reserved    | flags: one bit a field, first |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! | field in bit 31, last ones 0  | the fields that are there ...
//! ```
//!
//! Fields come in pairs of start and end, without padding. A start alone is one value.

use std::net::{Ipv4Addr, Ipv6Addr};

use flow::{FlowKey, Interval, Selector, SelectorError, TrafficSelector};

use crate::codec::{Alignment, Reader};

/// TS Format of IPv4 selectors.
const IPV4: u8 = 1;
/// TS Format of IPv6 selectors.
const IPV6: u8 = 2;
/// The bits of a traffic class that are compared; the others are ECN (RFC 6088 §3.1).
const DS_MASK: u8 = 0xfc;

/// Why octets are no traffic selector.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[error("{kind} at octet {offset} of the selector")]
pub struct SelectorFault {
    /// What is wrong.
    pub kind: SelectorFaultKind,
    /// Where: octets from the TS Format octet.
    pub offset: usize,
}

/// What is wrong with a traffic selector.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum SelectorFaultKind {
    /// A format other than binary IPv4 and IPv6.
    #[error("traffic selector format {0} is not supported")]
    UnknownFormat(u8),
    /// The octets end before the fields that the flags announce.
    #[error("missing octets")]
    TooShort,
    /// There are octets after the fields that the flags announce.
    #[error("octets left over")]
    TooLong,
    /// The flags announce the end of a range but not its start.
    #[error("the {0} range has an end without a start")]
    EndWithoutStart(&'static str),
    /// A range has its end before its start.
    #[error("the start of the {0} range is greater than its end")]
    EmptyRange(&'static str),
}

/// Reads a selector from its TS Format octet to the end of `octets`.
///
/// # Errors
/// [`SelectorFault`]: the format is unknown, or the length or a range is wrong.
pub fn decode(octets: &[u8]) -> Result<TrafficSelector, SelectorFault> {
    let mut reader = Reader::new(octets, 0);
    let [format, _reserved] = reader.array().ok_or(too_short(octets))?;
    let read_flags = |reader: &mut Reader<'_>| {
        reader
            .array()
            .map(u32::from_be_bytes)
            .ok_or(too_short(octets))
    };
    match format {
        IPV4 => {
            let flags = read_flags(&mut reader)?;
            fields(reader, flags, false).map(TrafficSelector::Ipv4)
        }
        IPV6 => {
            let flags = read_flags(&mut reader)?;
            fields(reader, flags, true).map(TrafficSelector::from)
        }
        other => Err(SelectorFault {
            kind: SelectorFaultKind::UnknownFormat(other),
            offset: 0,
        }),
    }
}

/// The octets of a selector from its TS Format on. Ranges of one value are sent as a start alone.
///
/// # Errors
/// [`SelectorError`] if the selector is not well formed.
pub fn encode(selector: &TrafficSelector) -> Result<Vec<u8>, SelectorError> {
    selector.validate()?;
    Ok(match selector {
        TrafficSelector::Ipv4(s) => FieldWriter::default().selector(IPV4, s, false),
        TrafficSelector::Ipv6(s) => FieldWriter::default().selector(IPV6, s, true),
    })
}

/// Where an option with this selector starts, so that its first field, eight octets on, is aligned
/// (RFC 6089 §4.2.1.4).
pub(crate) fn alignment(selector: &TrafficSelector) -> Alignment {
    fn of<A>(s: &Selector<A>, address: usize) -> usize {
        if s.source.is_some() || s.destination.is_some() {
            address
        } else if s.spi.is_some() || s.flow_label.is_some() {
            4
        } else if s.source_port.is_some() || s.destination_port.is_some() {
            2
        } else {
            1
        }
    }
    let multiple = match selector {
        TrafficSelector::Ipv4(s) => of(s, 4),
        TrafficSelector::Ipv6(s) => of(s, 8),
    };
    Alignment::new(multiple, 0)
}

fn too_short(octets: &[u8]) -> SelectorFault {
    SelectorFault {
        kind: SelectorFaultKind::TooShort,
        offset: octets.len(),
    }
}

/// Reads the fields after the flags; only IPv6 selectors have a flow label.
fn fields<A: Field>(
    reader: Reader<'_>,
    flags: u32,
    flow_label: bool,
) -> Result<Selector<A>, SelectorFault> {
    let mut fields = FieldReader { reader, flags };
    let selector = Selector {
        source: fields.range("source address", |a| a)?,
        destination: fields.range("destination address", |a| a)?,
        spi: fields.range("SPI", |spi| spi)?,
        flow_label: if flow_label {
            // RFC 6088 §3.2 took flow labels for 24 bits long, and ignores the eight before them.
            fields.range("flow label", |label| label & FlowKey::FLOW_LABEL_MASK)?
        } else {
            None
        },
        source_port: fields.range("source port", |port| port)?,
        destination_port: fields.range("destination port", |port| port)?,
        traffic_class: fields.range("traffic class", |class| class & DS_MASK)?,
        next_header: fields.range("next header", |protocol| protocol)?,
    };
    if fields.reader.rest().is_empty() {
        Ok(selector)
    } else {
        Err(SelectorFault {
            kind: SelectorFaultKind::TooLong,
            offset: fields.reader.offset(),
        })
    }
}

/// Offset of the flags in a selector.
const FLAGS: usize = 2;

struct FieldReader<'a> {
    reader: Reader<'a>,
    /// The flags of the fields to come, the next one in bit 31.
    flags: u32,
}

impl FieldReader<'_> {
    /// Reads the next pair of fields; `clean` removes bits that mean nothing.
    fn range<T: Field>(
        &mut self,
        name: &'static str,
        clean: impl Fn(T) -> T,
    ) -> Result<Option<Interval<T>>, SelectorFault> {
        let has_start = self.flags & 1 << 31 != 0;
        let has_end = self.flags & 1 << 30 != 0;
        self.flags <<= 2;
        let offset = self.reader.offset();
        let fault = |kind, offset| SelectorFault { kind, offset };
        let (start, end) = match (has_start, has_end) {
            (false, false) => return Ok(None),
            (false, true) => {
                return Err(fault(SelectorFaultKind::EndWithoutStart(name), FLAGS));
            }
            (true, false) => {
                let start = self.field()?;
                (start, start)
            }
            (true, true) => (self.field()?, self.field()?),
        };
        Interval::new(clean(start), clean(end))
            .map(Some)
            .ok_or(fault(SelectorFaultKind::EmptyRange(name), offset))
    }

    fn field<T: Field>(&mut self) -> Result<T, SelectorFault> {
        T::read(&mut self.reader).ok_or(SelectorFault {
            kind: SelectorFaultKind::TooShort,
            offset: self.reader.offset() + self.reader.rest().len(),
        })
    }
}

#[derive(Default)]
struct FieldWriter {
    octets: Vec<u8>,
    /// Flags of the fields so far, the last one in bit 0.
    flags: u32,
    /// Number of those flags.
    count: u32,
}

impl FieldWriter {
    fn selector<A: Field>(mut self, format: u8, s: &Selector<A>, flow_label: bool) -> Vec<u8> {
        self.range(s.source);
        self.range(s.destination);
        self.range(s.spi);
        if flow_label {
            self.range(s.flow_label);
        }
        self.range(s.source_port);
        self.range(s.destination_port);
        self.range(s.traffic_class.map(|class| Interval {
            start: class.start & DS_MASK,
            end: class.end & DS_MASK,
        }));
        self.range(s.next_header);
        let flags = self.flags << (u32::BITS - self.count);
        let mut octets = vec![format, 0];
        octets.extend(flags.to_be_bytes());
        octets.append(&mut self.octets);
        octets
    }

    fn range<T: Field>(&mut self, range: Option<Interval<T>>) {
        let bits = match range {
            None => 0b00,
            Some(range) => {
                range.start.write(&mut self.octets);
                if range.is_single() {
                    0b10
                } else {
                    range.end.write(&mut self.octets);
                    0b11
                }
            }
        };
        self.flags = self.flags << 2 | bits;
        self.count += 2;
    }
}

/// A value with a fixed number of octets.
trait Field: Copy + PartialOrd {
    fn read(reader: &mut Reader<'_>) -> Option<Self>;
    fn write(self, octets: &mut Vec<u8>);
}

macro_rules! field {
    ($type:ty, $from:path, $to:path) => {
        impl Field for $type {
            fn read(reader: &mut Reader<'_>) -> Option<Self> {
                reader.array().map($from)
            }

            fn write(self, octets: &mut Vec<u8>) {
                octets.extend($to(self));
            }
        }
    };
}

field!(u8, u8::from_be_bytes, u8::to_be_bytes);
field!(u16, u16::from_be_bytes, u16::to_be_bytes);
field!(u32, u32::from_be_bytes, u32::to_be_bytes);
field!(Ipv4Addr, Ipv4Addr::from_octets, octets_v4);
field!(Ipv6Addr, Ipv6Addr::from_octets, octets_v6);

fn octets_v4(address: Ipv4Addr) -> [u8; 4] {
    address.octets()
}

fn octets_v6(address: Ipv6Addr) -> [u8; 16] {
    address.octets()
}

#[cfg(test)]
mod tests;
