//! What the flight recorder has kept: the file, and the commands about it.

mod file;
mod replay;

use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::Context;

use crate::client::Client;

pub(crate) use file::{FlightRecording, Remark};
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

/// Writes a recording.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn save(path: &Path, octets: &[u8]) -> anyhow::Result<()> {
    let written = private(path)?.write_all(octets);
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Makes a file for its owner alone: what is in it names mobiles, and may hold their packets.
///
/// # Errors
/// If it cannot be made.
pub(crate) fn private(path: &Path) -> anyhow::Result<File> {
    let what = || format!("cannot make {}", path.display());
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(path).with_context(what)?;
    // One that was there may have been for others, too. A device or pipe is left as it is.
    if file.metadata().with_context(what)?.is_file() {
        file.set_permissions(Permissions::from_mode(0o600))
            .with_context(what)?;
    }
    Ok(file)
}
