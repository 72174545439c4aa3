//! What all frames on one lane have in common.

use crate::packet::header::FRAME_LEN;

/// The bits of an Ethernet and an IPv6 header that must have certain values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(64))]
pub(crate) struct Shape {
    pub(crate) expected: [u8; 64],
    pub(crate) mask: [u8; 64],
}

impl Shape {
    /// Any frame.
    pub(crate) const ANY: Self = Self {
        expected: [0; 64],
        mask: [0; 64],
    };

    /// The same, and what stands at `at` must be `octets` where `mask` has bits.
    #[must_use]
    pub(crate) const fn with<const N: usize>(
        mut self,
        at: usize,
        octets: &[u8; N],
        mask: &[u8; N],
    ) -> Self {
        let (mut expected, mut masks) = (octets.as_slice(), mask.as_slice());
        let (_, mut to) = self.expected.split_at_mut(at);
        let (_, mut to_mask) = self.mask.split_at_mut(at);
        while let (
            [octet, later @ ..],
            [bits, later_bits @ ..],
            [place, rest @ ..],
            [place_mask, rest_mask @ ..],
        ) = (expected, masks, to, to_mask)
        {
            *place = *octet & *bits;
            *place_mask = *bits;
            (expected, masks, to, to_mask) = (later, later_bits, rest, rest_mask);
        }
        self
    }

    /// Whether a frame is like this.
    #[inline(always)]
    pub(crate) fn fits(&self, frame: &[u8; FRAME_LEN]) -> bool {
        let (Some(words), Some(last)) = (frame.first_chunk::<48>(), frame.last_chunk::<8>()) else {
            return false;
        };
        let differ = |frame: &[u8; 8], at: usize| {
            let of = |octets: &[u8; 64]| {
                let word = octets.get(at..).and_then(<[u8]>::first_chunk);
                word.map_or(0, |word| u64::from_le_bytes(*word))
            };
            (u64::from_le_bytes(*frame) ^ of(&self.expected)) & of(&self.mask)
        };
        let (words, _) = words.as_chunks();
        let mut wrong = differ(last, FRAME_LEN - 8);
        for (number, word) in words.iter().enumerate() {
            wrong |= differ(word, number * 8);
        }
        wrong == 0
    }
}
