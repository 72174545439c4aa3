//! Files as they are found: on all cores, each for itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{path, size};
use crate::Clocks;
use crate::frame::{self, Found, Frame, HEADER};
use crate::records::{Catalogue, Entry, Source, readers};

/// One file as it was found.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    /// What is in whole groups.
    pub(super) catalogue: Catalogue,
    /// Of the last group.
    pub(super) clocks: Option<Clocks>,
    /// Whether nothing was written to it: it was begun when the process ended, or the disk was full.
    pub(super) is_blank: bool,
    /// What is not as it was written, in words.
    pub(super) damage: Vec<String>,
    /// Octets at its end that are no frame.
    pub(super) torn: usize,
    /// Octets up to the end of its last group.
    pub(super) committed: u64,
    /// All its octets.
    pub(super) size: u64,
}

/// Reads the files of these numbers.
pub(super) fn read(directory: &Path, numbers: &[u64]) -> io::Result<Vec<Piece>> {
    let next = AtomicUsize::new(0);
    let some = || {
        let mut pieces = Vec::new();
        while let Some(number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
            pieces.push(piece(directory, *number)?);
        }
        Ok::<_, io::Error>(pieces)
    };
    let mut pieces = std::thread::scope(|scope| {
        let others = 1..readers().min(numbers.len());
        // Where there can be no thread, the others have more to do.
        let others: Vec<_> = others
            .map_while(|_| {
                let thread = std::thread::Builder::new().name("files".into());
                thread.spawn_scoped(scope, some).ok()
            })
            .collect();
        let mut pieces = some()?;
        for other in others {
            let other = other.join();
            pieces.extend(other.map_err(|_| io::Error::other("a thread that read has panicked"))??);
        }
        Ok::<_, io::Error>(pieces)
    })?;
    pieces.sort_unstable_by_key(|piece| piece.number);
    Ok(pieces)
}

fn piece(directory: &Path, number: u64) -> io::Result<Piece> {
    let path = path(directory, number);
    let octets = fs::read(&path)?;
    let mut damage = Vec::new();
    let mut at = HEADER.len();
    let mut is_blank = false;
    if !octets.starts_with(HEADER) {
        is_blank = HEADER.starts_with(&octets);
        if !is_blank {
            let name = path.display();
            damage.push(format!("{name}: its beginning is not that of such a file"));
            at = 0;
        }
    }
    let (mut committed, mut clocks, mut torn) = (at, None, 0);
    // A change counts from the next commit on. Groups are in one file: what is left at its end never was whole.
    let (mut entries, mut counts) = (Vec::new(), 0);
    while let Some(found) = octets.get(at..).and_then(frame::read) {
        match found {
            Found::Frame(Frame::Commit(read), length) => {
                at += length;
                (committed, clocks, counts) = (at, Some(read), entries.len());
            }
            Found::Frame(frame, length) => {
                let begin = size(octets.get(..at).unwrap_or_default());
                entries.extend(Entry::new(&frame, begin, length));
                at += length;
            }
            Found::Damage(length) => {
                let name = path.display();
                damage.push(format!(
                    "{name}: {length} octets at {at} are not what was written"
                ));
                at += length;
            }
            Found::Torn(length) => {
                torn = length;
                break;
            }
        }
    }
    entries.truncate(counts);
    Ok(Piece {
        number,
        size: size(&octets),
        committed: size(octets.get(..committed).unwrap_or_default()),
        catalogue: Catalogue::of(Source { number, octets }, entries),
        path,
        clocks,
        is_blank,
        damage,
        torn,
    })
}
