//! AES-GCM under the nonce and the associated data of RFC 4106.

use std::fmt;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes128Gcm, Aes256Gcm, KeyInit, Nonce, Tag};

use crate::key::{Aes, Key, KeyCheck};
use crate::{HEADER_LEN, ICV_LEN, IV_LEN};

/// An expanded key with its salt. The expanded key wipes itself when dropped.
pub(crate) struct Cipher {
    gcm: Gcm,
    key: Key,
    check: KeyCheck,
}

enum Gcm {
    Aes128(Box<Aes128Gcm>),
    Aes256(Box<Aes256Gcm>),
}

/// The cipher did not do it: to a message being opened, that it is not authentic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Failed;

impl Cipher {
    pub(crate) fn new(key: Key) -> Self {
        let gcm = match &key.aes {
            Aes::Bits128(aes) => Gcm::Aes128(Box::new(Aes128Gcm::new(aes.into()))),
            Aes::Bits256(aes) => Gcm::Aes256(Box::new(Aes256Gcm::new(aes.into()))),
        };
        Self {
            gcm,
            check: key.check(),
            key,
        }
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) fn check(&self) -> KeyCheck {
        self.check
    }

    /// Salt and IV (RFC 4106 §4).
    fn nonce(&self, iv: [u8; IV_LEN]) -> [u8; 12] {
        let [s0, s1, s2, s3] = self.key.salt;
        let [i0, i1, i2, i3, i4, i5, i6, i7] = iv;
        [s0, s1, s2, s3, i0, i1, i2, i3, i4, i5, i6, i7]
    }

    /// Encrypts `text` in place; returns the integrity check value over it and the header.
    pub(crate) fn encrypt(
        &self,
        header: [u8; HEADER_LEN],
        iv: [u8; IV_LEN],
        text: &mut [u8],
    ) -> Result<[u8; ICV_LEN], Failed> {
        let nonce = Nonce::from(self.nonce(iv));
        let icv = match &self.gcm {
            Gcm::Aes128(gcm) => gcm.encrypt_inout_detached(&nonce, &header, text.into()),
            Gcm::Aes256(gcm) => gcm.encrypt_inout_detached(&nonce, &header, text.into()),
        };
        icv.map(Into::into).map_err(|_| Failed)
    }

    /// Decrypts `text` in place if it and the header are authentic; otherwise its content is of no use.
    pub(crate) fn decrypt(
        &self,
        header: [u8; HEADER_LEN],
        iv: [u8; IV_LEN],
        text: &mut [u8],
        icv: [u8; ICV_LEN],
    ) -> Result<(), Failed> {
        let (nonce, icv) = (Nonce::from(self.nonce(iv)), Tag::from(icv));
        let done = match &self.gcm {
            Gcm::Aes128(gcm) => gcm.decrypt_inout_detached(&nonce, &header, text.into(), &icv),
            Gcm::Aes256(gcm) => gcm.decrypt_inout_detached(&nonce, &header, text.into(), &icv),
        };
        done.map_err(|_| Failed)
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}
