//! The receiving end.

use crate::cipher::Cipher;
use crate::key::{Key, KeyCheck, Spi};
use crate::window::ReplayWindow;
use crate::{ALIGNMENT, HEADER_LEN, ICV_LEN, IV_LEN};

/// A security association from a peer.
#[derive(Debug)]
pub struct InboundSa {
    spi: Spi,
    cipher: Cipher,
    window: ReplayWindow,
}

/// What was in a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// The protocol of the payload.
    pub next_header: u8,
    /// The payload.
    pub payload: Vec<u8>,
}

/// Why a packet was not opened. It has changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// Too short for its parts, or not a multiple of four octets.
    #[error("no ESP packet")]
    Malformed,
    /// For another association.
    #[error("for another security association")]
    OtherSpi,
    /// Its sequence number was received before, or is too old to tell (RFC 4303 §3.4.3).
    #[error("sequence number {0} was received before, or is too old")]
    Replayed(u32),
    /// It is not authentic: altered, or made with another key.
    #[error("the integrity check failed")]
    Icv,
    /// Authentic, but its padding is not as RFC 4303 §2.4 says.
    #[error("bad padding")]
    Padding,
}

impl InboundSa {
    /// An association that takes sequence numbers up to `received` for received already: 0 for a new one.
    pub fn new(spi: Spi, key: Key, received: u32) -> Self {
        Self {
            spi,
            cipher: Cipher::new(key),
            window: ReplayWindow::resumed(received),
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

    /// The highest sequence number of an authentic packet.
    pub fn highest(&self) -> u32 {
        self.window.highest()
    }

    /// Checks and decrypts what followed an IPv6 header with next header 50.
    ///
    /// # Errors
    /// If it is not authentic, not new, or not ESP: then nothing has changed.
    pub fn open(&mut self, esp: &[u8]) -> Result<Opened, OpenError> {
        let (header, rest) = esp
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(OpenError::Malformed)?;
        let (iv, rest) = rest
            .split_first_chunk::<IV_LEN>()
            .ok_or(OpenError::Malformed)?;
        let (text, icv) = rest
            .split_last_chunk::<ICV_LEN>()
            .ok_or(OpenError::Malformed)?;
        if text.is_empty() || !text.len().is_multiple_of(ALIGNMENT) {
            return Err(OpenError::Malformed);
        }
        let [s0, s1, s2, s3, n0, n1, n2, n3] = *header;
        if u32::from_be_bytes([s0, s1, s2, s3]) != self.spi.get() {
            return Err(OpenError::OtherSpi);
        }
        let number = u32::from_be_bytes([n0, n1, n2, n3]);
        if !self.window.is_new(number) {
            return Err(OpenError::Replayed(number));
        }
        let mut payload = text.to_vec();
        self.cipher
            .decrypt(*header, *iv, &mut payload, *icv)
            .map_err(|_| OpenError::Icv)?;
        // The peer has used the number up, whatever is inside.
        self.window.mark(number);
        let next_header = unpad(&mut payload).ok_or(OpenError::Padding)?;
        Ok(Opened {
            next_header,
            payload,
        })
    }
}

/// Removes what is behind the payload; returns its protocol.
fn unpad(text: &mut Vec<u8>) -> Option<u8> {
    let next_header = text.pop()?;
    let len = usize::from(text.pop()?);
    let payload = text.len().checked_sub(len)?;
    let padding = text.get(payload..)?;
    if !(1..=u8::MAX)
        .zip(padding)
        .all(|(expected, octet)| *octet == expected)
    {
        return None;
    }
    text.truncate(payload);
    Some(next_header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors;

    #[test]
    fn published_packets_are_opened() {
        for vector in vectors::all() {
            let (spi, number, _) = vectors::head(&vector.packet);
            let mut sa = InboundSa::new(spi, vector.key(), 0);
            let opened = sa.open(&vector.packet).unwrap();
            assert_eq!(opened.next_header, vector.next_header, "{spi}");
            assert_eq!(opened.payload, vector.payload, "{spi}");
            assert_eq!(sa.open(&vector.packet), Err(OpenError::Replayed(number)));
        }
    }

    #[test]
    fn padding_is_checked() {
        let unpadded = |text: &[u8]| {
            let mut text = text.to_vec();
            unpad(&mut text).map(|next_header| (next_header, text))
        };
        assert_eq!(unpadded(&[7, 8, 0, 135]), Some((135, vec![7, 8])));
        assert_eq!(unpadded(&[7, 1, 1, 135]), Some((135, vec![7])));
        assert_eq!(unpadded(&[1, 2, 2, 59]), Some((59, vec![])));
        for wrong in [&[7, 8, 3, 135][..], &[7, 2, 1, 135], &[2, 1, 2, 135], &[0]] {
            assert_eq!(unpadded(wrong), None, "{wrong:?}");
        }
        let long: Vec<u8> = (0..=255).chain([255, 135]).collect();
        assert_eq!(unpadded(&long), Some((135, vec![0])));
    }
}
