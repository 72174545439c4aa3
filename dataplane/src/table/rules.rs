//! Flow rules packed for comparison: no branch depends on which rule matches.
//!
//! Most selectors constrain a protocol and one of three small fields. Those pack into six octets of
//! a [`Lanes`] and need nothing else. Any other selector gets the part that packs as a necessary
//! condition, and a [`WideRule`] that confirms it; so a set of many rules is sifted by its lanes, and
//! only what remains is compared in full.

mod wide;

use flow::{Fid, FlowKey, Interval, Rule, TrafficSelector};

pub(crate) use wide::WideKey;
use wide::WideRule;

use crate::packet::header::{ETHERNET_LEN, IPV6_LEN, Ipv6, next_header};
use crate::packet::walk;
use crate::simd::Compare;
use crate::table::hash::halves32;
use crate::table::path::{NO_PATH, action_number};
use crate::table::prefetch::prefetch;

/// Which field a lane compares with its interval; its place in [`Fields`].
const DESTINATION_PORT: u8 = 0;
const SOURCE_PORT: u8 = 1;
const DS: u8 = 2;
/// The field that is for no lane: any value of it will do.
const NO_FIELD: u8 = 3;
/// Flag in a lane's kind: any next header will do.
pub(crate) const ANY_PROTOCOL: u8 = 0x80;
/// Flag in a lane's kind: the lane does not decide alone. Comparisons do not look at it.
const IN_DOUBT: u8 = 0x40;

/// What lanes look at in a packet: four fields of 16 bits, destination port in the lowest, source
/// port, DS, and one that is for no lane: the next header and whether there are no ports. One word, so
/// that it stays in a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fields(u64);

impl Fields {
    const NO_PORTS: u64 = 1 << 63;

    /// The fields of the IPv6 packet behind the Ethernet header of `frame`, whose header is `ip`.
    #[inline(always)]
    pub(crate) fn of(ip: &Ipv6, frame: &[u8]) -> Self {
        match Self::direct(ip, frame) {
            Some(fields) => fields,
            None => Self::behind_extensions(ip, frame),
        }
    }

    /// As [`Fields::of`]; `None` for packets with extension headers, which are odd ones.
    #[inline(always)]
    pub(crate) fn usual(ip: &Ipv6, frame: &[u8]) -> Option<Self> {
        match Self::direct(ip, frame) {
            // Nothing more to ask of nearly all packets.
            Some(fields) => Some(fields),
            None => Self::without_extensions(ip, frame),
        }
    }

    /// Those of a packet whose ports are behind its first header.
    #[inline(always)]
    fn direct(ip: &Ipv6, frame: &[u8]) -> Option<Self> {
        let ports = Self::ports_of(frame)?;
        let direct = matches!(ip.next_header, next_header::UDP | next_header::TCP);
        direct.then(|| Self::new(ip.next_header, Some(ports), ip.traffic_class()))
    }

    /// The [`Fields::entropy`] of those of [`Fields::usual`], where nothing else of them is asked for.
    #[inline(always)]
    pub(crate) fn usual_entropy(ip: &Ipv6, ports: u32, frame: &[u8]) -> Option<u32> {
        if matches!(ip.next_header, next_header::UDP | next_header::TCP) {
            return Some(ports ^ u32::from(ip.next_header));
        }
        Self::without_extensions(ip, frame).map(Self::entropy)
    }

    /// Both ports of a frame without extension headers as one number: the source's in the upper half. Without
    /// ports, whatever is there.
    #[inline(always)]
    pub(crate) fn ports_of(frame: &[u8]) -> Option<u32> {
        let ports = frame.get(ETHERNET_LEN + IPV6_LEN..)?.first_chunk()?;
        Some(u32::from_be_bytes(*ports))
    }

    #[cold]
    #[inline(never)]
    fn without_extensions(ip: &Ipv6, frame: &[u8]) -> Option<Self> {
        (!walk::is_extension(ip.next_header)).then(|| Self::behind_extensions(ip, frame))
    }

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
    pub(crate) fn new(next_header: u8, ports: Option<u32>, traffic_class: u8) -> Self {
        let (ports, none) = ports.map_or((0, Self::NO_PORTS), |ports| (ports, 0));
        let ds = u64::from(traffic_class >> 2) << 32;
        Self(u64::from(ports) | ds | u64::from(next_header) << 48 | none)
    }

    /// All of it.
    #[inline(always)]
    pub(crate) fn word(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub(crate) fn next_header(self) -> u8 {
        let [.., next_header, _] = self.0.to_le_bytes();
        next_header
    }

    #[inline(always)]
    pub(crate) fn has_ports(self) -> bool {
        self.0 & Self::NO_PORTS == 0
    }

    /// Something that differs between flows and not within one.
    #[inline(always)]
    pub(crate) fn entropy(self) -> u32 {
        let [ports, _] = halves32(self.0);
        ports ^ u32::from(self.next_header())
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
    /// The field, counted in 16 bits of [`Fields`], and [`ANY_PROTOCOL`].
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
    pub(crate) fn hits(&self, fields: Fields) -> u32 {
        let mut hits = 0;
        let lanes = self.low.iter().zip(&self.high);
        let lanes = lanes.zip(self.next_header.iter().zip(&self.kind));
        for (i, ((low, high), (protocol, kind))) in lanes.enumerate() {
            let field = kind & 3;
            let value = fields.word() >> (u32::from(field) * 16) & 0xffff;
            let present = (field >= DS) | fields.has_ports();
            let inside = (value >= u64::from(*low)) & (value <= u64::from(*high));
            let protocol = (*kind >= ANY_PROTOCOL) | (*protocol == fields.next_header());
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
        let anything = Interval {
            start: 0,
            end: u16::MAX,
        };
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

impl From<&FlowKey> for Fields {
    fn from(key: &FlowKey) -> Self {
        let ports = key.ports;
        let ports =
            ports.map(|(source, destination)| u32::from(source) << 16 | u32::from(destination));
        Self::new(key.next_header, ports, key.traffic_class)
    }
}

/// Rules in a [`Block`].
pub(crate) const GROUP: usize = 16;

/// Sixteen rules: two cache lines to compare, two to count in, one that packets do not need.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Block {
    lanes: Lanes<GROUP>,
    /// What each rule does: a path number or [`super::path::DISCARD`].
    actions: [u16; GROUP],
    /// Packets that each rule decided.
    hits: [u64; GROUP],
    /// The rules' flow identifiers.
    fids: [Option<Fid>; GROUP],
    /// One bit for each rule that lanes do not decide.
    wide: u16,
    /// Where the first of those is among [`RuleSet::wide`].
    first_wide: u16,
}

const _: () = assert!(size_of::<Block>() == 5 * 64);

impl Block {
    /// No rules.
    const EMPTY: Self = Self {
        lanes: Lanes::NONE,
        actions: [NO_PATH; GROUP],
        hits: [0; GROUP],
        fids: [None; GROUP],
        wide: 0,
        first_wide: 0,
    };

    /// Fetches what a comparison needs.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        prefetch(&self.lanes);
        prefetch(&self.actions);
    }

    /// The action of the first rule among those whose lanes match that is upheld, which is counted.
    #[inline(always)]
    fn settle(
        &mut self,
        mut hits: u16,
        wide: &[WideRule],
        key: &impl Fn() -> WideKey,
    ) -> Option<u16> {
        while hits != 0 {
            let place = hits.trailing_zeros() as usize;
            let doubtful = self.lanes.kind.get(place)? & IN_DOUBT != 0;
            if !doubtful || confirm(wide, self, place, &key()) {
                *self.hits.get_mut(place)? += 1;
                return self.actions.get(place).copied();
            }
            hits &= hits - 1;
        }
        None
    }
}

/// Any number of rules up to [`flow::Binding::MAX_RULES`], for prefixes whose rules do not fit their
/// record.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuleSet {
    pub(crate) blocks: Box<[Block]>,
    /// One for each rule that lanes do not decide.
    wide: Box<[WideRule]>,
}

impl RuleSet {
    /// Packs rules, first match first.
    pub(crate) fn pack(rules: &[Rule]) -> Self {
        let mut wide = Vec::new();
        let block = |group: &[Rule]| {
            let mut block = Block {
                lanes: Lanes::pack(group.iter().map(|rule| &rule.selector)),
                first_wide: u16::try_from(wide.len()).unwrap_or(u16::MAX),
                ..Block::EMPTY
            };
            let places = block.actions.iter_mut().zip(&mut block.fids);
            for (i, (rule, (action, fid))) in group.iter().zip(places).enumerate() {
                *action = action_number(rule.action);
                *fid = Some(rule.fid);
                if !is_exact(&rule.selector) {
                    block.wide |= 1 << i;
                    if let Some(kind) = block.lanes.kind.get_mut(i) {
                        *kind |= IN_DOUBT;
                    }
                    wide.push(WideRule::of(&rule.selector));
                }
            }
            block
        };
        let blocks = rules.chunks(GROUP).map(block).collect();
        Self {
            blocks,
            wide: wide.into(),
        }
    }

    /// Whether it has no rules.
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The action of the first rule that matches, which is counted; `key` is made only if lanes leave
    /// a doubt.
    #[inline(always)]
    pub(crate) fn decide(
        &mut self,
        fields: Fields,
        compare: impl Compare + Copy,
        key: impl Fn() -> WideKey,
    ) -> Option<u16> {
        if let [block] = &mut *self.blocks {
            let hits = compare.sixteen(&block.lanes, fields);
            return block.settle(low_half(hits), &self.wide, &key);
        }
        let mut hits: u64 = 0;
        for (i, block) in self.blocks.iter().enumerate() {
            hits |= u64::from(compare.sixteen(&block.lanes, fields)) << (i * GROUP);
        }
        while hits != 0 {
            let number = hits.trailing_zeros() as usize / GROUP;
            let [of_block, _] = halves32(hits >> (number * GROUP));
            let block = self.blocks.get_mut(number)?;
            let action = block.settle(low_half(of_block), &self.wide, &key);
            if action.is_some() {
                return action;
            }
            hits &= u64::MAX << GROUP << (number * GROUP);
        }
        None
    }

    /// Packets that each rule has decided.
    pub(crate) fn counters(&self) -> impl Iterator<Item = (Fid, u64)> {
        let blocks = self.blocks.iter();
        blocks.flat_map(|block| {
            let all = block.fids.iter().zip(&block.hits);
            all.filter_map(|(fid, hits)| Some(((*fid)?, *hits)))
        })
    }

    /// Sets the rules' counters, those of new ones to nothing.
    pub(crate) fn set_counters(&mut self, of: impl Fn(Fid) -> u64) {
        for block in &mut self.blocks {
            for (fid, hits) in block.fids.iter().zip(&mut block.hits) {
                *hits = fid.map_or(0, &of);
            }
        }
    }
}

/// One bit for each of a block's rules.
#[inline(always)]
fn low_half(hits: u32) -> u16 {
    let [a, b, ..] = hits.to_le_bytes();
    u16::from_le_bytes([a, b])
}

/// Whether a full comparison upholds the match of a block's rule.
#[cold]
#[inline(never)]
fn confirm(wide: &[WideRule], block: &Block, place: usize, key: &WideKey) -> bool {
    let before = block.wide & !(u16::MAX << place);
    let number = usize::from(block.first_wide) + before.count_ones() as usize;
    wide.get(number).is_some_and(|rule| rule.matches(key))
}

#[cfg(test)]
mod tests;
