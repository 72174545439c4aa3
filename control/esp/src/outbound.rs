//! The sending end.

use crate::cipher::Cipher;
use crate::key::{Key, KeyCheck, Spi};
use crate::{ALIGNMENT, HEADER_LEN, ICV_LEN, IV_LEN};

/// A security association towards a peer. What it needs from its owner is to be told which sequence numbers it
/// may use: see [`Self::reserve`].
#[derive(Debug)]
pub struct OutboundSa {
    spi: Spi,
    cipher: Cipher,
    /// The first half of every IV.
    epoch: u32,
    /// The last sequence number used; 0 before the first.
    last: u32,
    /// The highest that may be used.
    reserved: u32,
}

/// Why a payload was not sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SealError {
    /// No sequence number is reserved: after [`OutboundSa::reserve`] it works again.
    #[error("no sequence number is reserved")]
    NotReserved,
    /// Sequence numbers do not wrap (RFC 4303 §3.3.3): the keys have to be changed.
    #[error("the sequence numbers of {0} are used up: change the keys")]
    Exhausted(Spi),
    /// More than AES-GCM can encrypt at once: 64 GiB.
    #[error("the payload is too long")]
    TooLong,
}

impl OutboundSa {
    /// An association whose sequence numbers up to `used` are, or may be, used already; none above is reserved
    /// yet.
    ///
    /// `epoch` is to differ from every earlier one of this key: seconds since 1970, say.
    pub fn new(spi: Spi, key: Key, epoch: u32, used: u32) -> Self {
        Self {
            spi,
            cipher: Cipher::new(key),
            epoch,
            last: used,
            reserved: used,
        }
    }

    /// Its index.
    pub fn spi(&self) -> Spi {
        self.spi
    }

    /// Whether it was made of this key.
    pub fn has_key(&self, key: &Key) -> bool {
        self.cipher.key() == key
    }

    /// The check value of its key.
    pub fn key_check(&self) -> KeyCheck {
        self.cipher.check()
    }

    /// The last sequence number used.
    pub fn last(&self) -> u32 {
        self.last
    }

    /// Sequence numbers that may be used before the next call of [`Self::reserve`].
    pub fn left(&self) -> u32 {
        self.reserved - self.last
    }

    /// Allows sequence numbers up to `highest`. The caller has noted that number where a restart finds it,
    /// for the next [`Self::new`] to begin above.
    pub fn reserve(&mut self, highest: u32) {
        self.reserved = self.reserved.max(highest);
    }

    /// Encrypts and authenticates `payload`, whose protocol is `next_header`: what follows the IPv6 header, whose
    /// next header is then 50.
    ///
    /// # Errors
    /// If there is no sequence number for it: nothing has been used up then.
    pub fn seal(&mut self, next_header: u8, payload: &[u8]) -> Result<Vec<u8>, SealError> {
        let number = self
            .last
            .checked_add(1)
            .ok_or(SealError::Exhausted(self.spi))?;
        if number > self.reserved {
            return Err(SealError::NotReserved);
        }
        let sealed = self.seal_as(number, self.iv(number), next_header, payload)?;
        self.last = number;
        Ok(sealed)
    }

    fn iv(&self, number: u32) -> [u8; IV_LEN] {
        (u64::from(self.epoch) << 32 | u64::from(number)).to_be_bytes()
    }

    fn seal_as(
        &self,
        number: u32,
        iv: [u8; IV_LEN],
        next_header: u8,
        payload: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let header = (u64::from(self.spi.get()) << 32 | u64::from(number)).to_be_bytes();
        let padding = padding(payload.len());
        let len = HEADER_LEN + IV_LEN + payload.len() + padding.len() + 1 + ICV_LEN;
        let mut sealed = Vec::with_capacity(len);
        sealed.extend(header);
        sealed.extend(iv);
        sealed.extend(payload);
        sealed.extend(padding);
        sealed.push(next_header);
        let text = sealed.get_mut(HEADER_LEN + IV_LEN..).unwrap_or_default();
        let icv = self
            .cipher
            .encrypt(header, iv, text)
            .map_err(|_| SealError::TooLong)?;
        sealed.extend(icv);
        Ok(sealed)
    }
}

/// Padding to a multiple of four octets, with the length of the padding last (RFC 4303 §2.4).
fn padding(len: usize) -> &'static [u8] {
    match (len + 2) % ALIGNMENT {
        0 => &[0],
        1 => &[1, 2, 3, 3],
        2 => &[1, 2, 2],
        _ => &[1, 1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbound::InboundSa;
    use crate::vectors;

    /// The published packets, made from the same parts.
    #[test]
    fn published_packets_are_made() {
        for vector in vectors::all() {
            let (spi, number, iv) = vectors::head(&vector.packet);
            let sa = OutboundSa::new(spi, vector.key(), 0, 0);
            let made = sa.seal_as(number, iv, vector.next_header, &vector.payload);
            assert_eq!(made, Ok(vector.packet), "{spi}");
        }
    }

    #[test]
    fn only_reserved_numbers_are_used() {
        let mut sa = OutboundSa::new(vectors::SPI, vectors::key(1), 7, 40);
        assert_eq!(sa.seal(135, b""), Err(SealError::NotReserved));
        sa.reserve(42);
        let [first, second] = [sa.seal(135, b"").unwrap(), sa.seal(135, b"").unwrap()];
        assert_eq!(first[4..16], [0, 0, 0, 41, 0, 0, 0, 7, 0, 0, 0, 41]);
        assert_eq!(second[4..16], [0, 0, 0, 42, 0, 0, 0, 7, 0, 0, 0, 42]);
        assert_eq!((sa.last(), sa.left()), (42, 0));
        assert_eq!(sa.seal(135, b""), Err(SealError::NotReserved));
        // A reservation is never taken back.
        sa.reserve(1);
        sa.reserve(43);
        assert!(sa.seal(135, b"").is_ok());
    }

    #[test]
    fn numbers_end_without_wrapping() {
        let mut sa = OutboundSa::new(vectors::SPI, vectors::key(1), 7, u32::MAX - 1);
        sa.reserve(u32::MAX);
        let last = sa.seal(135, b"the last").unwrap();
        assert_eq!(sa.seal(135, b""), Err(SealError::Exhausted(vectors::SPI)));
        let mut peer = InboundSa::new(vectors::SPI, vectors::key(1), u32::MAX - 1);
        assert_eq!(peer.open(&last).unwrap().payload, b"the last");
    }
}
