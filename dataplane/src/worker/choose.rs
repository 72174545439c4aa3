//! The second stage: from the address that decides to a record, and from that to a path.
//!
//! Records lie about in a large table, and a gateway's paths are as many as its mobiles: each loop asks for what the next one
//! reads.

use zerocopy::FromBytes;

use super::lanes::{self, Strays, is_stray};
use crate::classify;
use crate::ingress::{Lane, Passage};
use crate::io::Burst;
use crate::packet::PacketBuf;
use crate::packet::header::{FRAME_LEN, Frame, IPV6_LEN, Ipv6};
use crate::simd::{Compare, Stages};
use crate::table::{Bindings, Paths, Records, Table};

/// What is done with a burst before packets are rewritten, at an LMA and at a MAG.
pub(super) struct Choose<'a, P> {
    pub(super) lma: Option<&'a mut Table>,
    pub(super) mag: Option<&'a mut Table>,
    pub(super) burst: &'a mut Burst<P>,
    pub(super) passages: &'a mut [Passage],
    pub(super) strays: &'a mut Strays<P>,
    /// Whether packets are on different lanes, once the strays are out.
    pub(super) mixed: &'a mut bool,
}

impl<P: PacketBuf> Stages for Choose<'_, P> {
    #[inline(always)]
    fn run(self, compare: impl Compare + Copy) {
        let Self {
            mut lma,
            mut mag,
            burst,
            passages,
            strays,
            mixed,
        } = self;
        let mut found = Found {
            to_mobiles: false,
            mixed: false,
        };
        if let Some(table) = &lma {
            let (down, up) = (Lane::Forward, Lane::LmaExit);
            let at_lma = find(&table.bindings, down, up, burst, passages, compare);
            found.to_mobiles = at_lma.to_mobiles;
            found.mixed |= at_lma.mixed;
        }
        if let Some(table) = &mag {
            let (down, up) = (Lane::MagExit, Lane::Access);
            found.mixed |= find(&table.bindings, down, up, burst, passages, compare).mixed;
            if table.bindings.has_local() {
                found.mixed |= keep_local(&table.bindings, burst, passages);
            }
        }
        // Those that are all strays are all on one lane, too.
        found.mixed |= passages.first().is_some_and(is_stray);
        *mixed = found.mixed;
        if found.mixed {
            lanes::sort(burst, passages, strays);
        }
        let passages = passages.get_mut(..burst.len()).unwrap_or_default();
        if let Some(table) = &mut lma
            && found.to_mobiles
        {
            let (mut records, _) = table.parts();
            find_rules(&records, passages);
            choose(&mut records, burst, passages, compare);
        }
        if let Some(table) = &mut mag {
            find_links(table, burst, passages, compare);
        }
    }
}

/// What [`find`] came across.
struct Found {
    /// A binding on the first lane, which leads to mobiles.
    to_mobiles: bool,
    /// Packets that do not all go the same way.
    mixed: bool,
}

/// Finds the bindings of the packets on two lanes and fetches the records that they need.
#[inline(always)]
fn find<P: PacketBuf>(
    bindings: &Bindings,
    down: Lane,
    up: Lane,
    packets: &[P],
    passages: &mut [Passage],
    compare: impl Compare + Copy,
) -> Found {
    let mut found = Found {
        to_mobiles: false,
        mixed: false,
    };
    let (uniform, search) = (bindings.is_uniform(), bindings.search());
    let first = passages.first().map_or(down, |passage| passage.lane);
    for (packet, passage) in packets.iter().zip(&mut *passages) {
        let lane = passage.lane;
        found.mixed |= lane != first;
        if lane != down && lane != up {
            continue;
        }
        passage.slot = if uniform {
            search.find_64(passage.key, passage.home, compare)
        } else {
            let address = lane.wanted(packet.data());
            address.and_then(|address| bindings.lookup(address))
        };
        match passage.slot {
            Some(slot) if lane == down => {
                found.to_mobiles = true;
                search.prefetch_downlink(slot);
            }
            Some(slot) => search.prefetch_uplink(slot),
            None => found.mixed = true,
        }
    }
    found
}

/// Fetches the rules of packets whose mobiles have more than fit a record.
#[inline(always)]
fn find_rules(records: &Records<'_>, passages: &[Passage]) {
    if records.sets.is_empty() {
        return;
    }
    let forward = passages
        .iter()
        .filter(|passage| passage.lane == Lane::Forward);
    for slot in forward.filter_map(|passage| passage.slot) {
        records.prefetch_rules(slot);
    }
}

/// Chooses the paths of packets to mobiles at an LMA.
#[inline(always)]
fn choose<P: PacketBuf>(
    records: &mut Records<'_>,
    packets: &[P],
    passages: &mut [Passage],
    compare: impl Compare + Copy,
) {
    for (packet, passage) in packets.iter().zip(passages) {
        let data = packet.data();
        if passage.lane == Lane::Forward
            && let (Some(slot), Ok((frame, _))) = (passage.slot, Frame::ref_from_prefix(data))
        {
            passage.choice = classify::to_mobile(records, slot, &frame.ip, data, compare);
        }
    }
}

/// Takes packets between mobiles of this MAG off their lane, if they need not go by their LMA; says whether there are any.
#[cold]
#[inline(never)]
fn keep_local<P: PacketBuf>(bindings: &Bindings, packets: &[P], passages: &mut [Passage]) -> bool {
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

/// Finds the links of packets at a MAG and fetches their paths, which are as many as mobiles.
///
/// What left a tunnel must have left that of the session which owns the destination; what did not loses
/// its binding here, and is told apart later. What came on a link should have come on the first of
/// its mobile's.
#[inline(always)]
fn find_links<P: PacketBuf>(
    table: &mut Table,
    packets: &[P],
    passages: &mut [Passage],
    compare: impl Compare + Copy,
) {
    let (mut records, paths) = table.parts();
    // Most come through one tunnel, whose counters are in no hurry.
    let mut came = Came::default();
    for (packet, passage) in packets.iter().zip(passages) {
        if passage.lane == Lane::MagExit {
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
        } else if passage.lane == Lane::Access
            && let Some(slot) = passage.slot
            && let Some(record) = records.uplink.get(slot.index())
        {
            let [link, ..] = record.sources;
            passage.through = link;
            paths.prefetch(link);
        }
    }
    came.note(paths);
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
