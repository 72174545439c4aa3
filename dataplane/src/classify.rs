//! From a packet to a mobile to its path: the first rule that matches, or the default path.

use flow::{DropReason, FlowKey};

use crate::fate::Fate;
use crate::packet::header::Ipv6;
use crate::simd::{Compare, Scalar};
use crate::table::path::{ASIDE, DISCARD, NO_PATH};
use crate::table::record::{Downlink, NOT_EXTENDED};
use crate::table::rules::{Fields, WideKey};
use crate::table::{Records, Slot};

/// Which path a packet takes, and what tells its flow from others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Choice {
    pub(crate) path: u16,
    pub(crate) entropy: u32,
}

impl Choice {
    /// No path.
    pub(crate) const NONE: Self = Self {
        path: NO_PATH,
        entropy: 0,
    };

    /// Not here: there is something odd about the packet.
    pub(crate) const ASIDE: Self = Self {
        path: ASIDE,
        entropy: 0,
    };
}

/// Chooses and counts for a packet to the mobile at `slot`; its IPv6 header is `ip`, behind the 14
/// first octets of `frame`. The path may be none: see [`no_path`]. Packets with extension headers are
/// left for [`by_key`]: they may be fragments, or limit their encapsulation.
#[inline(always)]
pub(crate) fn to_mobile(
    records: &mut Records<'_>,
    slot: Slot,
    ip: &Ipv6,
    frame: &[u8],
    compare: impl Compare + Copy,
) -> Choice {
    match Fields::usual(ip, frame) {
        Some(fields) => by_fields(records, slot, ip, fields, compare, || WideKey::of(frame)),
        None => Choice::ASIDE,
    }
}

/// As [`to_mobile`] at a MAG, where no tunnel is entered and usually no rules are: all packets of `record` are alike then,
/// and take this path.
#[inline(always)]
pub(crate) fn to_link(record: &mut Downlink, octets: u64) -> Option<u16> {
    if !record.has_no_rules() {
        return None;
    }
    record.packets += 1;
    record.octets += octets;
    Some(record.default_action())
}

/// As [`to_mobile`] at a MAG for a mobile with rules. By itself, so that the loop around [`to_link`] has the registers.
#[inline(never)]
pub(crate) fn to_link_by_rules(
    records: &mut Records<'_>,
    slot: Slot,
    ip: &Ipv6,
    frame: &[u8],
    compare: impl Compare + Copy,
) -> Choice {
    let fields = Fields::of(ip, frame);
    by_fields(records, slot, ip, fields, compare, || WideKey::of(frame))
}

/// As [`to_mobile`] for a packet whose flow is known by its key.
pub(crate) fn by_key(records: &mut Records<'_>, slot: Slot, ip: &Ipv6, key: &FlowKey) -> Choice {
    let fields = Fields::from(key);
    by_fields(records, slot, ip, fields, Scalar, || WideKey::from(key))
}

#[inline(always)]
fn by_fields(
    records: &mut Records<'_>,
    slot: Slot,
    ip: &Ipv6,
    fields: Fields,
    compare: impl Compare + Copy,
    key: impl Fn() -> WideKey,
) -> Choice {
    let Some(record) = records.downlink.get_mut(slot.index()) else {
        return Choice::NONE;
    };
    record.packets += 1;
    record.octets += ip.total_len() as u64;
    let path = if record.extended == NOT_EXTENDED {
        let (action, rule, carry) = record.select(fields, compare);
        if carry {
            records.carry(slot, rule);
        }
        action
    } else {
        let (set, default) = (record.extended, record.default_action());
        let set = records.sets.get_mut(set as usize);
        set.and_then(|set| set.decide(fields, compare, key))
            .unwrap_or(default)
    };
    Choice {
        path,
        entropy: fields.entropy(),
    }
}

/// What becomes of a packet for which there is no path of this number.
#[cold]
pub(crate) fn no_path(path: u16) -> Fate {
    Fate::Drop(match path {
        ASIDE => return Fate::Aside,
        DISCARD => DropReason::Rule,
        NO_PATH => DropReason::BindingInactive,
        _ => DropReason::NoPath,
    })
}

/// The default path of the mobile at `slot`, for packets of our own: flow rules are for the flows of
/// correspondent nodes (RFC 6089 §4.3).
pub(crate) fn by_default(records: &Records<'_>, slot: Slot) -> Choice {
    let record = records.downlink.get(slot.index());
    record.map_or(Choice::NONE, |record| Choice {
        path: record.default_action(),
        entropy: 0,
    })
}
