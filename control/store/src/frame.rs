//! What a file is made of: frames, each with a checksum of its own.
//!
//! ```text
//!  octets   4      4          4         length
//!         magic  CRC-32    length   kind ...          the CRC is over length and what follows it
//!
//!  kind 0   commit   both clocks, 16 octets each: nanoseconds, big-endian
//!  kind 1   put      space, length of the key in 2 octets, key, value
//!  kind 2   delete   space, key
//! ```
//!
//! Changes count from the next commit on. Where a frame is damaged, the next one is found by its magic.

use std::time::Duration;

use crate::{Clocks, Space};

/// What a file begins with.
pub(crate) const HEADER: &[u8] = b"flowmob records 1\n";

const MAGIC: [u8; 4] = [0xf1, b'm', b'o', b'b'];
const HEAD: usize = 12;
/// Larger than any record, and small enough to read.
const MOST: usize = 1 << 24;

const COMMIT: u8 = 0;
const PUT: u8 = 1;
const DELETE: u8 = 2;

/// What is in a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Frame<'a> {
    Commit(Clocks),
    Put(Space, &'a [u8], &'a [u8]),
    Delete(Space, &'a [u8]),
}

impl Frame<'_> {
    /// Appends the frame, and returns how long it is; `None`, and nothing is appended, if it is longer than any may be.
    pub(crate) fn write(self, to: &mut Vec<u8>) -> Option<usize> {
        let begin = to.len();
        to.extend(MAGIC);
        to.extend([0; 8]);
        match self {
            Self::Commit(clocks) => {
                to.push(COMMIT);
                for time in [clocks.monotonic, clocks.wall] {
                    to.extend(time.as_nanos().to_be_bytes());
                }
            }
            Self::Put(space, key, value) => {
                let Ok(length) = u16::try_from(key.len()) else {
                    to.truncate(begin);
                    return None;
                };
                to.extend([PUT, space.number()]);
                to.extend(length.to_be_bytes());
                to.extend(key);
                to.extend(value);
            }
            Self::Delete(space, key) => {
                to.extend([DELETE, space.number()]);
                to.extend(key);
            }
        }
        let length = to.len() - begin - HEAD;
        let fits = u32::try_from(length).ok().filter(|_| length <= MOST);
        let (Some(length), Some(frame)) = (fits, to.get_mut(begin..)) else {
            to.truncate(begin);
            return None;
        };
        let (head, body) = frame.split_at_mut(HEAD);
        let length = length.to_be_bytes();
        let sum = checksum(length, body).to_be_bytes();
        for (place, octet) in head.iter_mut().skip(4).zip(sum.into_iter().chain(length)) {
            *place = octet;
        }
        Some(to.len() - begin)
    }

    fn parse(body: &[u8]) -> Option<Frame<'_>> {
        let (kind, rest) = body.split_first()?;
        match *kind {
            COMMIT => {
                let (monotonic, wall) = rest.split_first_chunk()?;
                Some(Frame::Commit(Clocks {
                    monotonic: time(*monotonic)?,
                    wall: time(wall.try_into().ok()?)?,
                }))
            }
            PUT => {
                let (space, rest) = rest.split_first()?;
                let (length, rest) = rest.split_first_chunk()?;
                let (key, value) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
                Some(Frame::Put(Space::from_number(*space)?, key, value))
            }
            DELETE => {
                let (space, key) = rest.split_first()?;
                Some(Frame::Delete(Space::from_number(*space)?, key))
            }
            _ => None,
        }
    }
}

fn time(octets: [u8; 16]) -> Option<Duration> {
    let nanos = u64::try_from(u128::from_be_bytes(octets)).ok()?;
    Some(Duration::from_nanos(nanos))
}

fn checksum(length: [u8; 4], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(body);
    hasher.finalize()
}

/// What is at a place of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found<'a> {
    /// A frame of so many octets.
    Frame(Frame<'a>, usize),
    /// So many octets that are no frame, and then one.
    Damage(usize),
    /// So many octets that are no frame, up to the end.
    Torn(usize),
}

/// Reads what is at the beginning of `octets`; `None` if they are none.
pub(crate) fn read(octets: &[u8]) -> Option<Found<'_>> {
    if octets.is_empty() {
        return None;
    }
    if let Some((frame, length)) = frame_at(octets) {
        return Some(Found::Frame(frame, length));
    }
    let starts = octets.windows(MAGIC.len()).enumerate().skip(1);
    let next = starts
        .filter(|(_, window)| *window == MAGIC)
        .map(|(at, _)| at)
        .find(|at| octets.get(*at..).and_then(frame_at).is_some());
    Some(match next {
        Some(at) => Found::Damage(at),
        None => Found::Torn(octets.len()),
    })
}

/// Reads a frame that has been found to be one, and has not changed since.
pub(crate) fn known(octets: &[u8]) -> Option<Frame<'_>> {
    octets.get(HEAD..).and_then(Frame::parse)
}

fn frame_at(octets: &[u8]) -> Option<(Frame<'_>, usize)> {
    let (magic, rest) = octets.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    if *magic != MAGIC {
        return None;
    }
    let size = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let body = rest.get(..size).filter(|_| size <= MOST)?;
    if checksum(*length, body) != u32::from_be_bytes(*sum) {
        return None;
    }
    Some((Frame::parse(body)?, HEAD + size))
}
