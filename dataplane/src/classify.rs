//! From a packet to a mobile to its path: the first rule that matches, or the default path.

use flow::DropReason;

use crate::packet::header::Ipv6;
use crate::simd::Compare;
use crate::table::path::{DISCARD, NO_PATH};
use crate::table::record::NOT_EXTENDED;
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
}

/// Chooses and counts for a packet to the mobile at `slot`; its IPv6 header is `ip`, behind the 14
/// first octets of `frame`. The path may be none: see [`why_none`].
#[inline(always)]
pub(crate) fn to_mobile(
    records: &mut Records<'_>,
    slot: Slot,
    ip: &Ipv6,
    frame: &[u8],
    compare: impl Compare + Copy,
) -> Choice {
    let Some(record) = records.downlink.get_mut(slot.index()) else {
        return Choice::NONE;
    };
    let fields = Fields::of(ip, frame);
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
        set.and_then(|set| set.decide(fields, compare, || WideKey::of(frame)))
            .unwrap_or(default)
    };
    Choice {
        path,
        entropy: fields.entropy(),
    }
}

/// Why there is no path of this number.
#[cold]
pub(crate) fn why_none(path: u16) -> DropReason {
    match path {
        DISCARD => DropReason::Rule,
        NO_PATH => DropReason::BindingInactive,
        _ => DropReason::NoPath,
    }
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
