//! Reading and writing octets at known offsets.

use serde::{Deserialize, Serialize};
use std::net::Ipv6Addr;

use crate::checksum;
use crate::error::EncodeError;
use crate::option::kind;

/// Payload Proto of a Mobility Header that nothing follows, the only legal value (RFC 6275 §6.1.1).
pub(crate) const NO_NEXT_HEADER: u8 = 59;

/// A place in the message: the next octet and how far it is from the first one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Starts at `octets`, whose first is `offset` octets into the message.
    pub(crate) fn new(octets: &'a [u8], offset: usize) -> Self {
        Self {
            rest: octets,
            offset,
        }
    }

    /// Octets from the message's first to the next one to read.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `N` octets; `None`, and nothing is read, if there are fewer.
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        self.offset += N;
        Some(*head)
    }

    /// The next `len` octets; `None`, and nothing is read, if there are fewer.
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        self.offset += len;
        Some(head)
    }
}

/// Where an option may start: `multiple`·n + `residue` octets into the message (RFC 6275 §6.2.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Alignment {
    multiple: usize,
    residue: usize,
}

impl Alignment {
    /// Anywhere.
    pub(crate) const ANY: Self = Self::new(1, 0);

    /// `multiple`·n + `residue`; `multiple` is a power of two.
    pub(crate) const fn new(multiple: usize, residue: usize) -> Self {
        assert!(multiple.is_power_of_two());
        Self {
            multiple,
            residue: residue % multiple,
        }
    }

    /// Where something `ahead` octets earlier has to start.
    pub(crate) const fn before(self, ahead: usize) -> Self {
        let back = ahead % self.multiple;
        Self::new(self.multiple, self.residue + self.multiple - back)
    }

    /// The same or, if that is anywhere, 2n.
    pub(crate) const fn at_least_even(self) -> Self {
        if self.multiple > 1 {
            self
        } else {
            Self::new(2, 0)
        }
    }

    /// Octets to pad at `offset`.
    fn gap(self, offset: usize) -> usize {
        (self.residue + self.multiple - offset % self.multiple) % self.multiple
    }
}

/// A Mobility Header under construction.
pub(crate) struct Writer {
    octets: Vec<u8>,
    fault: Option<EncodeError>,
}

impl Writer {
    /// Starts a message of this MH type.
    pub(crate) fn new(mh_type: u8) -> Self {
        let mut octets = Vec::with_capacity(128);
        octets.extend([NO_NEXT_HEADER, 0, mh_type, 0, 0, 0]);
        Self {
            octets,
            fault: None,
        }
    }

    /// Appends octets.
    pub(crate) fn put(&mut self, octets: impl AsRef<[u8]>) {
        self.octets.extend_from_slice(octets.as_ref());
    }

    /// Appends an octet.
    pub(crate) fn u8(&mut self, value: u8) {
        self.octets.push(value);
    }

    /// Appends an integer.
    pub(crate) fn u16(&mut self, value: u16) {
        self.put(value.to_be_bytes());
    }

    /// Pads to where `alignment` allows an option to start.
    pub(crate) fn align(&mut self, alignment: Alignment) {
        match alignment.gap(self.octets.len()) {
            0 => {}
            1 => self.u8(kind::PAD1),
            gap => {
                // A multiple is at most 8, so the gap fits an octet.
                let zeros = gap - 2;
                self.u8(kind::PADN);
                self.u8(u8::try_from(zeros).unwrap_or(u8::MAX));
                self.octets.resize(self.octets.len() + zeros, 0);
            }
        }
    }

    /// Appends an option or sub-option with what `body` writes as its data.
    pub(crate) fn option(&mut self, kind: u8, alignment: Alignment, body: impl FnOnce(&mut Self)) {
        self.align(alignment);
        self.put([kind, 0]);
        let start = self.octets.len();
        body(self);
        let length = self.octets.len() - start;
        match (u8::try_from(length), self.octets.get_mut(start - 1)) {
            (Ok(length), Some(slot)) => *slot = length,
            _ => self.fail(EncodeError::OptionTooLong { kind, length }),
        }
    }

    /// Remembers why the message cannot be written; the first reason counts.
    pub(crate) fn fail(&mut self, fault: EncodeError) {
        self.fault.get_or_insert(fault);
    }

    /// Pads the message and fills in its length and checksum.
    pub(crate) fn finish(
        mut self,
        source: Ipv6Addr,
        destination: Ipv6Addr,
    ) -> Result<Vec<u8>, EncodeError> {
        self.align(Alignment::new(8, 0));
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let len = self.octets.len();
        // Counts units of eight octets after the first, so 2048 octets are the most.
        let units = u8::try_from(len / 8 - 1).map_err(|_| EncodeError::TooLong(len))?;
        if let Some(slot) = self.octets.get_mut(1) {
            *slot = units;
        }
        let checksum = checksum::compute(&self.octets, source, destination);
        if let Some(slot) = self.octets.get_mut(4..6) {
            slot.copy_from_slice(&checksum.to_be_bytes());
        }
        Ok(self.octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_reaches_every_alignment_from_every_offset() {
        for multiple in [1, 2, 4, 8] {
            for residue in 0..multiple {
                for offset in 0..16 {
                    let alignment = Alignment::new(multiple, residue);
                    let mut writer = Writer::new(5);
                    writer.octets.resize(6 + offset, 0xff);
                    let start = writer.octets.len();
                    writer.align(alignment);
                    let end = writer.octets.len();
                    assert!(end - start < multiple);
                    assert_eq!(end % multiple, residue);
                    match writer.octets[start..] {
                        [] | [kind::PAD1] => {}
                        [kind::PADN, zeros, ref rest @ ..] => {
                            assert_eq!(usize::from(zeros), rest.len());
                            assert!(rest.iter().all(|o| *o == 0));
                        }
                        ref other => panic!("{other:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn an_alignment_moves_with_what_comes_before() {
        // A selector at 8n behind a 12-octet head: the head starts at 8n+4.
        assert_eq!(Alignment::new(8, 0).before(12), Alignment::new(8, 4));
        assert_eq!(Alignment::new(8, 4).before(4), Alignment::new(8, 0));
        assert_eq!(Alignment::ANY.before(3), Alignment::ANY);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        const MAX_LEN: usize = 2048;
        let here = Ipv6Addr::LOCALHOST;
        let mut writer = Writer::new(5);
        writer.option(200, Alignment::ANY, |w| w.put([0; 256]));
        assert_eq!(
            writer.finish(here, here),
            Err(EncodeError::OptionTooLong {
                kind: 200,
                length: 256
            })
        );
        for (total, fits) in [(MAX_LEN, true), (MAX_LEN + 1, false)] {
            let mut writer = Writer::new(5);
            writer.put(vec![0; total - 6]);
            let result = writer.finish(here, here);
            assert_eq!(result.is_ok(), fits);
            assert!(fits || result == Err(EncodeError::TooLong(MAX_LEN + 8)));
        }
    }
}
