//! What a binding costs a packet: one cache line for each direction.

use flow::{Binding, Fid, MobileId};

use super::path::{NO_PATH, action_number};
use super::rules::{Fields, Lanes, is_exact};
use crate::simd::Compare;

/// Rules that fit a record.
pub(crate) const INLINE: usize = 4;
/// Value of [`Downlink::extended`] while the rules are in the record.
pub(crate) const NOT_EXTENDED: u32 = u32::MAX;

/// What a packet *to* the prefix needs.
///
/// ```text
///  0        24              34           42     44      48        56       64
/// | 4 lanes | 5 actions u16 | 4 hits u16 | from | rules | packets | octets |
/// ```
///
/// The fifth action is the default path: an unmatched packet takes it without a branch.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Downlink {
    lanes: Lanes<INLINE>,
    actions: [u16; INLINE + 1],
    /// Low halves of the rules' counters; the high ones are in [`Uplink::spilled`].
    hits: [u16; INLINE],
    /// [`Uplink::forward`] again: at a MAG, the path the packet must have come on.
    pub(crate) from: u16,
    /// Number of the prefix's [`super::rules::RuleSet`], or [`NOT_EXTENDED`].
    pub(crate) extended: u32,
    pub(crate) packets: u64,
    pub(crate) octets: u64,
}

/// What a packet *from* the prefix needs, and what is seldom touched.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Uplink {
    pub(crate) packets: u64,
    pub(crate) octets: u64,
    /// Paths the packet may have come on; unused places hold [`NO_PATH`].
    pub(crate) sources: [u16; Binding::MAX_SOURCES],
    /// Where it goes, or [`NO_PATH`].
    pub(crate) forward: u16,
    /// [`Binding::local`].
    pub(crate) local: bool,
    pub(crate) mobile: MobileId,
    spilled: [u32; INLINE],
    fids: [Option<Fid>; INLINE],
}

const _: () = assert!(size_of::<Downlink>() == 64 && size_of::<Uplink>() == 64);

impl Downlink {
    /// A record that sends nothing anywhere.
    pub(crate) const EMPTY: Self = Self {
        lanes: Lanes::NONE,
        actions: [NO_PATH; INLINE + 1],
        hits: [0; INLINE],
        from: NO_PATH,
        extended: NOT_EXTENDED,
        packets: 0,
        octets: 0,
    };

    /// Whether the rules of `binding` fit a record.
    pub(crate) fn fits(binding: &Binding) -> bool {
        binding.rules.len() <= INLINE && binding.rules.iter().all(|r| is_exact(&r.selector))
    }

    /// The record of `binding`; without its rules if they do not fit.
    pub(crate) fn of(binding: &Binding) -> Self {
        let mut record = Self::EMPTY;
        record.from = binding.uplink.map_or(NO_PATH, |path| path.0);
        let [.., default] = &mut record.actions;
        *default = binding.default_path.map_or(NO_PATH, |path| path.0);
        if Self::fits(binding) {
            record.lanes = Lanes::pack(binding.rules.iter().map(|rule| &rule.selector));
            for (action, rule) in record.actions.iter_mut().zip(&binding.rules) {
                *action = action_number(rule.action);
            }
        }
        record
    }

    /// Where a packet goes by the rules in the record, which rule said so (or [`INLINE`]: none), and
    /// whether that rule's counter must be carried over with [`Uplink::carry`].
    #[inline(always)]
    pub(crate) fn select(&mut self, fields: Fields, compare: impl Compare) -> (u16, usize, bool) {
        let rule = (compare.four(&self.lanes, fields) | 1 << INLINE).trailing_zeros() as usize;
        let action = self.actions.get(rule).copied().unwrap_or(NO_PATH);
        // Without a branch, an unmatched packet adds nothing to the first rule's counter.
        let (place, counts) = (rule % INLINE, u16::from(rule < INLINE));
        let carry = self.hits.get_mut(place).is_some_and(|hits| {
            *hits = hits.wrapping_add(counts);
            *hits < counts
        });
        (action, rule, carry)
    }

    /// Whether there are no rules at all.
    #[inline(always)]
    pub(crate) fn has_no_rules(&self) -> bool {
        let [first, ..] = self.actions;
        // A rule has another action, were it to discard.
        first == NO_PATH && self.extended == NOT_EXTENDED
    }

    /// Where packets go that match no rule.
    #[inline(always)]
    pub(crate) fn default_action(&self) -> u16 {
        let [.., default] = self.actions;
        default
    }
}

impl Uplink {
    /// A record that accepts nothing.
    pub(crate) const EMPTY: Self = Self {
        packets: 0,
        octets: 0,
        sources: [NO_PATH; Binding::MAX_SOURCES],
        forward: NO_PATH,
        local: false,
        mobile: MobileId(0),
        spilled: [0; INLINE],
        fids: [None; INLINE],
    };

    /// The record of `binding`.
    pub(crate) fn of(binding: &Binding) -> Self {
        let mut record = Self::EMPTY;
        (record.mobile, record.local) = (binding.mobile, binding.local);
        record.forward = binding.uplink.map_or(NO_PATH, |path| path.0);
        for (place, source) in record.sources.iter_mut().zip(&binding.sources) {
            *place = source.0;
        }
        if Downlink::fits(binding) {
            for (fid, rule) in record.fids.iter_mut().zip(&binding.rules) {
                *fid = Some(rule.fid);
            }
        }
        record
    }

    /// Adds the 65536 packets that the low half of a rule's counter has just forgotten.
    #[cold]
    pub(crate) fn carry(&mut self, rule: usize) {
        if let Some(spilled) = self.spilled.get_mut(rule) {
            *spilled = spilled.wrapping_add(1);
        }
    }

    /// Whether packets may come on the path `through`: without a branch, as no one can tell which of
    /// a mobile's paths the next one has taken.
    #[inline(always)]
    #[expect(clippy::needless_bitwise_bool, reason = "no branch, as said above")]
    pub(crate) fn admits(&self, through: u16) -> bool {
        self.sources
            .iter()
            .fold(false, |any, source| any | (*source == through))
    }

    /// Whether no path is left that packets may come on.
    #[inline(always)]
    pub(crate) fn is_inactive(&self) -> bool {
        self.sources == [NO_PATH; Binding::MAX_SOURCES]
    }
}

/// The packets that each rule in the record pair has decided.
pub(crate) fn rule_hits(down: &Downlink, up: &Uplink) -> impl Iterator<Item = (Fid, u64)> + use<> {
    let (fids, hits, spilled) = (up.fids, down.hits, up.spilled);
    fids.into_iter()
        .zip(hits.into_iter().zip(spilled))
        .filter_map(|(fid, (low, high))| Some((fid?, u64::from(low) | u64::from(high) << 16)))
}

/// Takes over the counters of the rules in an older record pair, if the same ones are in the same places, as after most
/// changes; `false`, and nothing done, if they are not.
pub(crate) fn keep_rule_hits(
    down: &mut Downlink,
    up: &mut Uplink,
    old_down: &Downlink,
    old_up: &Uplink,
) -> bool {
    let same = up.fids == old_up.fids;
    if same {
        (down.hits, up.spilled) = (old_down.hits, old_up.spilled);
    }
    same
}

/// Sets the counters of the rules in the record pair.
pub(crate) fn set_rule_hits(down: &mut Downlink, up: &mut Uplink, of: impl Fn(Fid) -> u64) {
    let counters = down.hits.iter_mut().zip(&mut up.spilled);
    for (fid, (low, high)) in up.fids.iter().zip(counters) {
        let [a, b, c, d, e, f, ..] = fid.map_or(0, &of).to_le_bytes();
        *low = u16::from_le_bytes([a, b]);
        *high = u32::from_le_bytes([c, d, e, f]);
    }
}
