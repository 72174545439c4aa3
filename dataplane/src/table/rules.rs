//! Flow rules packed for comparison: no branch depends on which rule matches.
//!
//! Most selectors constrain a protocol and one of three small fields. Those pack into six octets of
//! a [`Lanes`] and need nothing else. Any other selector gets the part that packs as a necessary
//! condition, and a [`WideRule`] that confirms it; so a set of many rules is sifted by its lanes, and
//! only what remains is compared in full.

use flow::{FlowKey, Interval, Selector, TrafficSelector};
use zerocopy::FromBytes;

use crate::packet::header::{ETHERNET_LEN, IPV6_LEN, Ipv6, next_header};
use crate::packet::walk;

/// Value of a field that the packet does not have: greater than any bound of an interval.
const ABSENT: u32 = 0x1_0000;

/// Which field a lane compares with its interval; its place in [`Fields::values`].
const DESTINATION_PORT: u8 = 0;
const SOURCE_PORT: u8 = 1;
const DS: u8 = 2;
/// The field that is always 0: the lane has no interval.
const NO_FIELD: u8 = 3;
/// Flag in a lane's kind: any next header will do.
pub(crate) const ANY_PROTOCOL: u8 = 0x80;

/// What lanes look at in a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields {
    /// Four fields of 16 bits: destination port in the lowest, source port, DS, and 0.
    pub(crate) values: u64,
    /// All ones for each field that the packet has, 0 for one it has not.
    pub(crate) present: u64,
    pub(crate) next_header: u8,
}

impl Fields {
    /// The fields of the IPv6 packet behind the Ethernet header of `frame`, whose header is `ip`.
    #[inline(always)]
    pub(crate) fn of(ip: &Ipv6, frame: &[u8]) -> Self {
        let direct = matches!(ip.next_header, next_header::UDP | next_header::TCP);
        let ports = frame.get(ETHERNET_LEN + IPV6_LEN..).unwrap_or_default();
        match ports.first_chunk::<4>() {
            Some(ports) if direct => {
                // Both ports as one number: the source's in the upper half.
                let ports = u32::from_be_bytes(*ports);
                Self::new(ip.next_header, Some(ports), ip.traffic_class())
            }
            Some(_) | None => Self::behind_extensions(ip, frame),
        }
    }

    #[cold]
    #[inline(never)]
    fn behind_extensions(ip: &Ipv6, frame: &[u8]) -> Self {
        let packet = frame.get(ETHERNET_LEN..).unwrap_or_default();
        let upper = walk::upper(ip, packet);
        let (ports, _) = walk::ports_and_spi(&upper, packet);
        let ports =
            ports.map(|(source, destination)| u32::from(source) << 16 | u32::from(destination));
        Self::new(upper.next_header, ports, ip.traffic_class())
    }

    #[inline(always)]
    fn new(next_header: u8, ports: Option<u32>, traffic_class: u8) -> Self {
        let (ports, absent) = ports.map_or((0, u64::from(u32::MAX)), |ports| (ports, 0));
        Self {
            values: u64::from(traffic_class >> 2) << 32 | u64::from(ports),
            present: !absent,
            next_header,
        }
    }

    /// Something that differs between flows and not within one.
    #[inline(always)]
    pub(crate) fn entropy(&self) -> u64 {
        self.values << 32 ^ u64::from(self.next_header)
    }
}

/// `N` packed selectors, field by field.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Lanes<const N: usize> {
    /// Least and greatest value of the lane's field.
    pub(crate) low: [u16; N],
    pub(crate) high: [u16; N],
    pub(crate) next_header: [u8; N],
    /// The field, counted in 16 bits of [`Fields::values`], and [`ANY_PROTOCOL`].
    pub(crate) kind: [u8; N],
}

impl<const N: usize> Lanes<N> {
    /// Lanes that match nothing.
    pub(crate) const NONE: Self = Self {
        low: [1; N],
        high: [0; N],
        next_header: [0; N],
        kind: [NO_FIELD | ANY_PROTOCOL; N],
    };

    /// Packs up to `N` selectors; those past the last lane are ignored.
    pub(crate) fn pack<'a>(selectors: impl Iterator<Item = &'a TrafficSelector>) -> Self {
        let mut lanes = Self::NONE;
        let slots = lanes
            .low
            .iter_mut()
            .zip(&mut lanes.high)
            .zip(&mut lanes.next_header)
            .zip(&mut lanes.kind);
        for ((((low, high), next_header), kind), selector) in slots.zip(selectors) {
            let lane = Lane::of(selector);
            (*low, *high) = (lane.interval.start, lane.interval.end);
            *kind = lane.field
                | if lane.protocol.is_some() {
                    0
                } else {
                    ANY_PROTOCOL
                };
            *next_header = lane.protocol.unwrap_or(0);
        }
        lanes
    }

    /// One bit for each lane that matches, the first lane's the lowest.
    #[inline(always)]
    #[expect(
        clippy::needless_bitwise_bool,
        reason = "a mispredicted branch costs more than the rest"
    )]
    pub(crate) fn hits(&self, fields: &Fields) -> u32 {
        let mut hits = 0;
        let lanes = self.low.iter().zip(&self.high);
        let lanes = lanes.zip(self.next_header.iter().zip(&self.kind));
        for (i, ((low, high), (protocol, kind))) in lanes.enumerate() {
            let shift = u32::from(kind & 3) * 16;
            let value = fields.values >> shift & 0xffff;
            let present = fields.present >> shift & 1 != 0;
            let inside = (value >= u64::from(*low)) & (value <= u64::from(*high));
            let protocol = (*kind >= ANY_PROTOCOL) | (*protocol == fields.next_header);
            hits |= u32::from(present & inside & protocol) << i;
        }
        hits
    }
}

/// One selector's packed part.
struct Lane {
    field: u8,
    interval: Interval<u16>,
    protocol: Option<u8>,
    /// The packed part says everything.
    exact: bool,
}

impl Lane {
    fn of(selector: &TrafficSelector) -> Self {
        let nothing = Interval { start: 1, end: 0 };
        let anything = Interval::single(0);
        let Some(s) = selector.ipv6() else {
            return Self {
                field: NO_FIELD,
                interval: nothing,
                protocol: None,
                exact: true,
            };
        };
        let ds = s.traffic_class.map(|class| Interval {
            start: u16::from(class.start >> 2),
            end: u16::from(class.end >> 2),
        });
        let candidates = [
            (DESTINATION_PORT, s.destination_port),
            (SOURCE_PORT, s.source_port),
            (DS, ds),
        ];
        let present = candidates.iter().filter(|(_, i)| i.is_some()).count();
        let (field, interval) = candidates
            .iter()
            .find_map(|(field, interval)| Some((*field, (*interval)?)))
            .unwrap_or((NO_FIELD, anything));
        let protocol = s
            .next_header
            .filter(Interval::is_single)
            .map(|range| range.start);
        let packed = present <= 1 && (s.next_header.is_none() || protocol.is_some());
        let others = s.source.is_some()
            || s.destination.is_some()
            || s.spi.is_some()
            || s.flow_label.is_some();
        Self {
            field,
            interval,
            protocol,
            exact: packed && !others,
        }
    }
}

/// Whether lanes alone decide this selector.
pub(crate) fn is_exact(selector: &TrafficSelector) -> bool {
    Lane::of(selector).exact
}

/// Every field of a selector as closed intervals of one layout: two cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct WideRule {
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
    const MIN: Self = Self {
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

    fn of(selector: &TrafficSelector) -> Self {
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
    fn matches(&self, key: &WideKey) -> bool {
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

/// Lanes in one group of a [`RuleSet`].
const GROUP: usize = 8;

/// Any number of rules up to [`flow::Binding::MAX_RULES`], for prefixes whose rules do not fit their
/// record.
#[derive(Debug, Default)]
pub(crate) struct RuleSet {
    lanes: Vec<Lanes<GROUP>>,
    /// One for each rule that lanes do not decide; its bit is set in `wide`.
    wide_rules: Vec<WideRule>,
    wide: u64,
    /// What each rule does: a path number or [`super::path::DISCARD`].
    pub(crate) actions: Vec<u16>,
    /// The rules' flow identifiers.
    pub(crate) fids: Vec<flow::Fid>,
    /// Packets that each rule decided.
    pub(crate) hits: Vec<u64>,
}

impl RuleSet {
    /// Packs rules, first match first.
    pub(crate) fn pack(rules: &[flow::Rule]) -> Self {
        let mut set = Self::default();
        for group in rules.chunks(GROUP) {
            set.lanes
                .push(Lanes::pack(group.iter().map(|rule| &rule.selector)));
        }
        for (i, rule) in rules.iter().enumerate() {
            if !is_exact(&rule.selector) {
                set.wide |= 1 << i;
                set.wide_rules.push(WideRule::of(&rule.selector));
            }
            set.actions.push(super::path::action_number(rule.action));
            set.fids.push(rule.fid);
            set.hits.push(0);
        }
        set
    }

    /// The first rule that matches; `key` is made only if lanes leave a doubt.
    #[inline(always)]
    pub(crate) fn first(&self, fields: &Fields, key: impl FnOnce() -> WideKey) -> Option<usize> {
        let mut hits: u64 = 0;
        for (i, lanes) in self.lanes.iter().enumerate() {
            hits |= u64::from(lanes.hits(fields)) << (i * GROUP);
        }
        let first = hits.trailing_zeros();
        // Nothing matched, or the first match needs no confirmation.
        if hits == 0 || self.wide >> first & 1 == 0 {
            return (hits != 0).then_some(first as usize);
        }
        self.confirm(hits, &key())
    }

    /// The first of the rules in `hits` that a full comparison upholds.
    fn confirm(&self, mut hits: u64, key: &WideKey) -> Option<usize> {
        while hits != 0 {
            let rule = hits.trailing_zeros();
            let rank = (self.wide & !(u64::MAX << rule)).count_ones() as usize;
            let decided = self.wide >> rule & 1 == 0;
            if decided || self.wide_rules.get(rank).is_some_and(|w| w.matches(key)) {
                return Some(rule as usize);
            }
            hits &= hits - 1;
        }
        None
    }
}

#[cfg(test)]
mod tests;
