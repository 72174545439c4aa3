//! Choices read from octets.

use std::time::Duration;

use arbitrary::{Result, Unstructured};

/// Octets as a sequence of choices. Where they end, every read ends the sequence.
pub(crate) struct Choice<'a>(Unstructured<'a>);

impl<'a> Choice<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(Unstructured::new(data))
    }

    /// The next octet; an error at the end, unlike `arbitrary`'s, so that no sequence has a tail of
    /// zeros.
    pub(crate) fn octet(&mut self) -> Result<u8> {
        match self.0.bytes(1)? {
            [octet] => Ok(*octet),
            _ => Err(arbitrary::Error::NotEnoughData),
        }
    }

    /// A number below `n`, which is at most 256.
    pub(crate) fn below(&mut self, n: usize) -> Result<usize> {
        Ok(usize::from(self.octet()?) % n)
    }

    pub(crate) fn flag(&mut self) -> Result<bool> {
        Ok(self.octet()? & 1 == 1)
    }

    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> Result<T> {
        let index = self.below(of.len())?;
        Ok(of[index].clone())
    }

    /// One of these three times out of four, else nothing.
    pub(crate) fn perhaps<T: Clone>(&mut self, of: &[T]) -> Result<Option<T>> {
        let octet = usize::from(self.octet()?);
        Ok((octet % 4 != 0).then(|| of[octet / 4 % of.len()].clone()))
    }

    /// Up to `most` things.
    pub(crate) fn some<T>(
        &mut self,
        most: usize,
        mut one: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let count = self.below(most + 1)?;
        (0..count).map(|_| one(self)).collect()
    }

    /// Octets, at most 255 and no more than there are.
    pub(crate) fn octets(&mut self) -> Result<&'a [u8]> {
        let len = usize::from(self.octet()?).min(self.0.len());
        self.0.bytes(len)
    }

    /// A time from nothing to an hour, short ones as likely as long ones.
    pub(crate) fn time(&mut self) -> Result<Duration> {
        let times = [0, 1, 100, 999, 1000, 1001, 3000, 10_000, 60_000, 3_600_000];
        self.pick(&times).map(Duration::from_millis)
    }
}
