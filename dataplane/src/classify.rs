//! From a packet to a mobile to its path: the first rule that matches, or the default path.

use flow::DropReason;

use crate::packet::PacketBuf;
use crate::packet::header::Frame;
use crate::simd::Compare;
use crate::table::path::{DISCARD, NO_PATH};
use crate::table::record::NOT_EXTENDED;
use crate::table::rules::{Fields, WideKey};
use crate::table::{Bindings, Slot};

/// Which path a packet takes, and what tells its flow from others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Choice {
    pub(crate) path: u16,
    pub(crate) entropy: u64,
}

/// Chooses and counts for a packet to the mobile at `slot`.
#[inline(always)]
pub(crate) fn to_mobile<P: PacketBuf>(
    bindings: &mut Bindings,
    slot: Slot,
    packet: &P,
    compare: impl Compare,
) -> Result<Choice, DropReason> {
    let (Some(frame), Some(record)) = (Frame::of(packet), bindings.downlink(slot)) else {
        return Err(DropReason::Malformed);
    };
    let fields = Fields::of(&frame.ip, packet.data());
    record.packets += 1;
    record.octets += frame.ip.total_len() as u64;
    let action = if record.extended == NOT_EXTENDED {
        let (action, rule, carry) = record.select(&fields, compare);
        if carry && let Some(uplink) = bindings.uplink(slot) {
            uplink.carry(rule);
        }
        action
    } else {
        by_rule_set(bindings, slot, &fields, packet.data())
    };
    match action {
        DISCARD => Err(DropReason::Rule),
        NO_PATH => Err(DropReason::BindingInactive),
        path => Ok(Choice {
            path,
            entropy: fields.entropy(),
        }),
    }
}

/// The action for a packet whose mobile has more rules than fit a record.
#[inline(never)]
fn by_rule_set(bindings: &mut Bindings, slot: Slot, fields: &Fields, frame: &[u8]) -> u16 {
    let Some((default, number)) = bindings
        .downlink(slot)
        .map(|record| (record.default_action(), record.extended))
    else {
        return NO_PATH;
    };
    bindings
        .extended(number)
        .and_then(|set| {
            let rule = set.first(fields, || WideKey::of(frame))?;
            *set.hits.get_mut(rule)? += 1;
            set.actions.get(rule).copied()
        })
        .unwrap_or(default)
}

/// The default path of the mobile at `slot`, for packets of our own: flow rules are for the flows of
/// correspondent nodes (RFC 6089 §4.3).
pub(crate) fn by_default(bindings: &mut Bindings, slot: Slot) -> Result<Choice, DropReason> {
    match bindings
        .downlink(slot)
        .map(|record| record.default_action())
    {
        Some(path) if path != NO_PATH => Ok(Choice { path, entropy: 0 }),
        Some(_) | None => Err(DropReason::BindingInactive),
    }
}
