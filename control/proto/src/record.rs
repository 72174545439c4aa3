//! What a state machine has written down, so that another one can go on where it was.
//!
//! A record is one thing that it knows (a mobile, a peer) under a key of its own. Whoever keeps the last record of
//! each key has all that is worth keeping; what follows from it is made anew. Times in records are on the monotonic
//! clock, which therefore has to go on as well.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// One thing that a machine knows, or knows no longer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// What it is about; opaque.
    pub key: Vec<u8>,
    /// What is known of it now; opaque. `None` if nothing is.
    pub value: Option<Vec<u8>>,
    /// Whether commands that follow from it have to wait until it is on disk.
    pub urgent: bool,
}

impl Record {
    pub(crate) fn new<K: Serialize, V: Serialize>(key: &K, value: Option<&V>) -> Self {
        Self {
            key: encode(key, Vec::with_capacity(KEY)),
            value: value.map(|value| {
                let mut octets = Vec::with_capacity(VALUE);
                octets.push(LAYOUT);
                encode(value, octets)
            }),
            urgent: true,
        }
    }

    /// A record that nobody is promised.
    pub(crate) fn lazy<K: Serialize, V: Serialize>(key: &K, value: Option<&V>) -> Self {
        Self {
            urgent: false,
            ..Self::new(key, value)
        }
    }
}

/// What became of the records that a machine began with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Restored {
    /// Mobiles that are known again.
    pub mobiles: usize,
    /// Their sessions.
    pub sessions: usize,
    /// What could not be used.
    pub spoilt: Vec<Spoilt>,
    /// Of that, records that could not be read: of what they told, nothing is known any more.
    pub unreadable: usize,
}

/// A record, or a part of one, that a machine cannot use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spoilt {
    /// What it is about, as far as that can be read.
    pub what: String,
    /// Why.
    pub why: String,
}

impl Restored {
    /// A record that could not be read.
    pub(crate) fn lose(&mut self, spoilt: Spoilt) {
        self.unreadable += 1;
        self.spoilt.push(spoilt);
    }

    pub(crate) fn spoil(&mut self, what: &impl ToString, why: &(impl ToString + ?Sized)) {
        self.spoilt.push(Spoilt {
            what: what.to_string(),
            why: why.to_string(),
        });
    }
}

/// How records are laid out, the first octet of each value. Values have no names in them, which would be two thirds of what is
/// written and most of the time that a start takes: whenever a type that is written changes, so does this number, and
/// the former layout has to be read in another way or not at all.
const LAYOUT: u8 = 1;
/// Octets of most keys.
const KEY: usize = 32;
/// Octets of a mobile with one session.
const VALUE: usize = 256;

/// # Panics
/// Never: what is encoded are plain values, and memory takes them all.
fn encode<T: Serialize>(value: &T, octets: Vec<u8>) -> Vec<u8> {
    postcard::to_extend(value, octets).expect("plain values can be encoded")
}

/// Reads a key.
pub(crate) fn decode_key<T: DeserializeOwned>(octets: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(octets) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(format!("{} octets too many", rest.len())),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads a value.
pub(crate) fn decode<T: DeserializeOwned>(octets: &[u8]) -> Result<T, String> {
    match octets.split_first() {
        Some((&LAYOUT, octets)) => decode_key(octets),
        Some((layout, _)) => Err(format!(
            "its layout is number {layout}, which is another version's: this one has number {LAYOUT}"
        )),
        None => Err("it is empty".to_owned()),
    }
}
