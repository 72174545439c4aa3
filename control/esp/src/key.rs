//! What a security association is made of: its index and its secret.

use std::fmt;

use aes_gcm::aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes_gcm::aes::{Aes128, Aes256, Block};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Octets of the salt behind the AES key (RFC 4106 §4, §8.1).
const SALT_LEN: usize = 4;

/// A security parameters index that a packet may carry: 256 or more (RFC 4303 §2.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Spi(u32);

impl Spi {
    /// Least value: those below are reserved.
    pub const MIN: u32 = 256;

    /// An index; `None` if it is a reserved one.
    pub const fn new(value: u32) -> Option<Self> {
        if value >= Self::MIN {
            Some(Self(value))
        } else {
            None
        }
    }

    /// Its number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The index that a packet carries, which may be a reserved one; `None` if it has not even that.
    /// Nothing has been authenticated yet: good for finding the association, and for nothing else.
    pub fn peek(esp: &[u8]) -> Option<u32> {
        esp.first_chunk().map(|octets| u32::from_be_bytes(*octets))
    }
}

impl fmt::Display for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// Keying material: an AES key of 16 or 32 octets and four octets of salt (RFC 4106 §8.1). Wiped when
/// dropped, and never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Key {
    pub(crate) aes: Aes,
    pub(crate) salt: [u8; SALT_LEN],
}

#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub(crate) enum Aes {
    Bits128([u8; 16]),
    Bits256([u8; 32]),
}

/// Why octets or digits are no [`Key`]. Says nothing about their content.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// Neither of the two lengths.
    #[error(
        "a key has 20 octets (AES-128 and salt) or 36 (AES-256 and salt), as 40 or 72 hexadecimal digits"
    )]
    Length,
    /// A character that is no hexadecimal digit.
    #[error("a key consists of hexadecimal digits")]
    Digit,
    /// All octets are the same: a placeholder, not a key.
    #[error("all octets of the key are the same: this is a placeholder, not a key")]
    Placeholder,
}

impl Key {
    /// Octets of an AES-256 key with its salt.
    pub const LONG: usize = 36;

    /// A key from its octets, the salt last.
    ///
    /// # Errors
    /// If there are not 20 or 36 octets, or they are all the same.
    pub fn new(octets: &[u8]) -> Result<Self, KeyError> {
        let (aes, salt) = octets
            .split_last_chunk::<SALT_LEN>()
            .ok_or(KeyError::Length)?;
        let aes = match aes.len() {
            16 => aes.try_into().map(Aes::Bits128),
            32 => aes.try_into().map(Aes::Bits256),
            _ => return Err(KeyError::Length),
        };
        if octets.iter().all(|octet| Some(octet) == octets.first()) {
            return Err(KeyError::Placeholder);
        }
        Ok(Self {
            aes: aes.map_err(|_| KeyError::Length)?,
            salt: *salt,
        })
    }

    /// A key from hexadecimal digits.
    ///
    /// # Errors
    /// If there are not 40 or 72 of them, or they stand for no key.
    pub fn from_hex(digits: &str) -> Result<Self, KeyError> {
        let digits = digits.as_bytes();
        if digits.len() > 2 * Self::LONG || !digits.len().is_multiple_of(2) {
            return Err(KeyError::Length);
        }
        // Its full size at once: growing would leave copies behind.
        let mut octets = Zeroizing::new(Vec::with_capacity(Self::LONG));
        for pair in digits.chunks(2) {
            let mut octet = 0;
            for digit in pair {
                let value = char::from(*digit).to_digit(16).ok_or(KeyError::Digit)?;
                octet = octet << 4 | u8::try_from(value).map_err(|_| KeyError::Digit)?;
            }
            octets.push(octet);
        }
        Self::new(&octets)
    }

    /// What tells this key from others without giving anything of it away, for notes about it.
    pub fn check(&self) -> KeyCheck {
        // In GCM, the last four octets of each block that is encrypted count the blocks of a message,
        // and no message is long enough to count to this one: it is never part of a key stream.
        let mut block = Block::from([0xff; 16]);
        match &self.aes {
            Aes::Bits128(key) => Aes128::new(key.into()).encrypt_block(&mut block),
            Aes::Bits256(key) => Aes256::new(key.into()).encrypt_block(&mut block),
        }
        let [a, b, c, d, e, f, g, h, ..] = block.0;
        KeyCheck(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.aes {
            Aes::Bits128(_) => "Key(AES-128-GCM, ..)",
            Aes::Bits256(_) => "Key(AES-256-GCM, ..)",
        })
    }
}

/// A check value of a key (not of its salt): no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyCheck(pub u64);

impl fmt::Display for KeyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_digits() {
        let digits = "000102030405060708090a0b0c0d0e0f10111213";
        let octets: Vec<u8> = (0..20).collect();
        assert_eq!(Key::from_hex(digits), Key::new(&octets));
        assert_eq!(Key::from_hex(&digits.to_uppercase()), Key::new(&octets));
        let long: Vec<u8> = (0..36).collect();
        assert!(Key::new(&long).is_ok());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for len in [0, 3, 4, 16, 19, 21, 28, 32, 35, 37, 64] {
            let octets: Vec<u8> = (0..len).collect();
            assert_eq!(Key::new(&octets), Err(KeyError::Length), "{len}");
        }
        let digits = "0".repeat(40);
        assert_eq!(Key::from_hex(&digits), Err(KeyError::Placeholder));
        assert_eq!(Key::from_hex(&"ab".repeat(36)), Err(KeyError::Placeholder));
        assert_eq!(Key::from_hex(&"0".repeat(39)), Err(KeyError::Length));
        assert_eq!(Key::from_hex(&"0".repeat(400)), Err(KeyError::Length));
        for wrong in ["g", "ä", "+", " "] {
            let text = format!("{}{wrong}", "0".repeat(40 - wrong.len()));
            assert_eq!(Key::from_hex(&text), Err(KeyError::Digit), "{wrong}");
        }
    }

    #[test]
    fn keys_are_not_printed() {
        let key = Key::from_hex("0123456789abcdef0123456789abcdef01234567").unwrap();
        assert_eq!(format!("{key:?}"), "Key(AES-128-GCM, ..)");
    }

    /// FIPS 197 has no vector for this block; AES-128 of it under the key of its appendix C.1 is from an
    /// independent implementation.
    #[test]
    fn check_values_tell_keys_apart() {
        let key = |digits: &str| Key::from_hex(digits).unwrap();
        let first = key("000102030405060708090a0b0c0d0e0f10111213");
        assert_eq!(first.check().to_string(), "3c441f32ce078223");
        let salted = key("000102030405060708090a0b0c0d0e0f20212223");
        assert_eq!(first.check(), salted.check());
        let other = key("010102030405060708090a0b0c0d0e0f10111213");
        assert_ne!(first.check(), other.check());
    }

    #[test]
    fn reserved_indexes_are_none() {
        assert_eq!([Spi::new(0), Spi::new(255)], [None, None]);
        assert_eq!(Spi::new(256).map(Spi::get), Some(256));
        assert_eq!(Spi::peek(&[0, 0, 1, 0, 9]), Some(256));
        assert_eq!(Spi::peek(&[0, 0, 1]), None);
    }
}
