//! What the flight recorder has kept: the file, and the commands about it.

mod file;
mod replay;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::Context;

use crate::client::Client;

pub(crate) use file::FlightRecording;
#[cfg(feature = "dpdk")]
pub(crate) use file::Remark;
pub(crate) use replay::{list, replay};

/// Fetches what a process has kept and writes it to a file; says what it was.
///
/// # Errors
/// If the process keeps nothing, or the file cannot be written.
pub(crate) fn dump(client: &Client, path: &Path) -> anyhow::Result<String> {
    let mut octets = Vec::new();
    let never = AtomicBool::new(false);
    client.download("/v1/recorder", &never, |piece| {
        octets.extend_from_slice(piece);
        Ok(true)
    })?;
    let recording = FlightRecording::read(&octets).context("what the process sent")?;
    save(path, &octets)?;
    Ok(format!("{}: {}", path.display(), recording.summary()))
}

/// Writes a recording for its owner alone: it names mobiles and their addresses.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn save(path: &Path, octets: &[u8]) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(path);
    file.and_then(|mut file| file.write_all(octets))
        .with_context(|| format!("cannot write {}", path.display()))
}
