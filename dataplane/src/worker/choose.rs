//! From the address that decides to a record, and from that to a path.
//!
//! Records lie about in a large table, and a gateway's paths are as many as its mobiles: each loop asks for what the next one
//! reads.

use zerocopy::FromBytes;

use crate::classify;
use crate::ingress::{Lane, Passage};
use crate::packet::PacketBuf;
use crate::packet::header::{FRAME_LEN, Frame, IPV6_LEN, Ipv6};
use crate::simd::{Compare, Stages};
use crate::table::binding::Search;
use crate::table::{Bindings, Paths, Records, Slot, Table};

/// Finds the bindings of packets on a role's two lanes, and fetches the records that they need.
pub(super) struct Find<'a, P> {
    pub(super) bindings: &'a Bindings,
    /// The lanes that lead to mobiles and from them.
    pub(super) lanes: [Lane; 2],
    pub(super) packets: &'a [P],
    pub(super) passages: &'a mut [Passage],
    /// Set if packets do not all go the same way.
    pub(super) mixed: &'a mut bool,
}

impl<P: PacketBuf> Stages for Find<'_, P> {
    #[inline(always)]
    fn run(self, compare: impl Compare + Copy) {
        let Self {
            bindings,
            lanes: [down, up],
            packets,
            passages,
            mixed,
        } = self;
        let Some(first) = passages.first().map(|passage| passage.lane) else {
            return;
        };
        if !bindings.is_uniform() {
            *mixed |= find_any(bindings, [down, up], packets, passages);
            return;
        }
        let search = bindings.search();
        let fetch_down = move |slot| search.prefetch_downlink(slot);
        let fetch_up = move |slot| search.prefetch_uplink(slot);
        // Most bursts are on one lane.
        let apart = if first == down {
            find(down, search, fetch_down, passages, compare)
        } else if first == up {
            find(up, search, fetch_up, passages, compare)
        } else {
            passages.iter().any(|passage| passage.lane != first)
        };
        if !apart {
            return;
        }
        *mixed = true;
        if first != down {
            find(down, search, fetch_down, passages, compare);
        }
        if first != up {
            find(up, search, fetch_up, passages, compare);
        }
    }
}

/// Finds the bindings of the packets on one lane and fetches what they need of each; says whether there are others, or packets
/// without a binding.
#[inline(always)]
fn find(
    lane: Lane,
    search: Search<'_>,
    fetch: impl Fn(Slot),
    passages: &mut [Passage],
    compare: impl Compare + Copy,
) -> bool {
    let mut apart = false;
    for passage in passages {
        if passage.lane != lane {
            apart = true;
            continue;
        }
        passage.slot = search.find_64(passage.key, passage.home, compare);
        match passage.slot {
            Some(slot) => fetch(slot),
            None => apart = true,
        }
    }
    apart
}

/// As [`Find`] where prefixes are of any length.
#[cold]
#[inline(never)]
fn find_any<P: PacketBuf>(
    bindings: &Bindings,
    [down, up]: [Lane; 2],
    packets: &[P],
    passages: &mut [Passage],
) -> bool {
    let first = passages.first().map(|passage| passage.lane);
    let (search, mut apart) = (bindings.search(), false);
    for (packet, passage) in packets.iter().zip(passages) {
        let lane = passage.lane;
        apart |= Some(lane) != first;
        if lane != down && lane != up {
            continue;
        }
        let address = lane.wanted(packet.data());
        passage.slot = address.and_then(|address| bindings.lookup(address));
        match passage.slot {
            Some(slot) if lane == down => search.prefetch_downlink(slot),
            Some(slot) => search.prefetch_uplink(slot),
            None => apart = true,
        }
    }
    apart
}

/// Fetches the rules of packets whose mobiles have more than fit a record.
#[inline(always)]
fn find_rules(records: &Records<'_>, passages: &[Passage]) {
    if records.sets.is_empty() {
        return;
    }
    for slot in passages.iter().filter_map(|passage| passage.slot) {
        records.prefetch_rules(slot);
    }
}

/// Chooses the paths of packets to mobiles at an LMA.
pub(super) struct ChooseToMobiles<'a, P> {
    pub(super) table: &'a mut Table,
    pub(super) packets: &'a [P],
    pub(super) passages: &'a mut [Passage],
}

impl<P: PacketBuf> Stages for ChooseToMobiles<'_, P> {
    #[inline(always)]
    fn run(self, compare: impl Compare + Copy) {
        let (mut records, _) = self.table.parts();
        find_rules(&records, self.passages);
        for (packet, passage) in self.packets.iter().zip(self.passages) {
            let data = packet.data();
            if let (Some(slot), Ok((frame, _))) = (passage.slot, Frame::ref_from_prefix(data)) {
                passage.choice = classify::to_mobile(&mut records, slot, &frame.ip, data, compare);
            }
        }
    }
}

/// Takes packets between mobiles of this MAG off their lane, if they need not go by their LMA; says whether there are any.
#[cold]
#[inline(never)]
pub(super) fn keep_local<P: PacketBuf>(
    bindings: &Bindings,
    packets: &[P],
    passages: &mut [Passage],
) -> bool {
    let mut any = false;
    for (packet, passage) in packets.iter().zip(passages) {
        if passage.lane == Lane::Access
            && let Some(frame) = Frame::of(packet)
            && bindings.lookup_local(frame.ip.destination.get()).is_some()
        {
            passage.lane = Lane::Stranger;
            any = true;
        }
    }
    any
}

/// Chooses the links of packets out of a MAG's tunnels and fetches their paths, which are as many as mobiles.
///
/// What left a tunnel must have left that of the session which owns the destination; what did not loses
/// its binding here, and is told apart later.
pub(super) struct ChooseToLinks<'a, P> {
    pub(super) table: &'a mut Table,
    pub(super) packets: &'a [P],
    pub(super) passages: &'a mut [Passage],
}

impl<P: PacketBuf> Stages for ChooseToLinks<'_, P> {
    #[inline(always)]
    fn run(self, compare: impl Compare + Copy) {
        let (mut records, paths) = self.table.parts();
        // Most come through one tunnel, whose counters are in no hurry.
        let mut came = Came::default();
        for (packet, passage) in self.packets.iter().zip(self.passages) {
            if let Some(ip) = inner(packet)
                && let Some(slot) = passage.slot
                && let Some(record) = records.downlink.get_mut(slot.index())
                && record.from == passage.through
            {
                let octets = ip.total_len() as u64;
                came.count(paths, passage.through, octets);
                if let Some(path) = classify::to_link(record, octets) {
                    passage.choice.path = path;
                } else if let Some(data) = packet.data().get(IPV6_LEN..) {
                    passage.choice =
                        classify::to_link_by_rules(&mut records, slot, ip, data, compare);
                }
                paths.prefetch(passage.choice.path);
            } else {
                passage.slot = None;
            }
        }
        came.note(paths);
    }
}

/// Finds the links of packets from mobiles at a MAG, and fetches their paths: they should have come on the first of their
/// mobile's.
#[inline(always)]
pub(super) fn find_links(table: &mut Table, passages: &mut [Passage]) {
    let (records, paths) = table.parts();
    for passage in passages {
        if let Some(slot) = passage.slot
            && let Some(record) = records.uplink.get(slot.index())
        {
            let [link, ..] = record.sources;
            passage.through = link;
            paths.prefetch(link);
        }
    }
}

/// Packets that have come through one tunnel after the other, and are not counted there yet.
#[derive(Default)]
struct Came {
    through: u16,
    packets: u64,
    octets: u64,
}

impl Came {
    #[inline(always)]
    fn count(&mut self, paths: &mut Paths, through: u16, octets: u64) {
        if through != self.through {
            self.note(paths);
            *self = Self {
                through,
                ..Self::default()
            };
        }
        self.packets += 1;
        self.octets += octets;
    }

    fn note(&self, paths: &mut Paths) {
        paths.count_all_in(self.through, self.packets, self.octets);
    }
}

/// The header behind the outer one.
#[inline(always)]
fn inner<P: PacketBuf>(packet: &P) -> Option<&Ipv6> {
    let (inner, _) = Ipv6::ref_from_prefix(packet.data().get(FRAME_LEN..)?).ok()?;
    Some(inner)
}
