//! The file: a line that says what it is and by which version, and then CBOR (RFC 8949).

use std::time::Duration;

use anyhow::{Context, bail};
use pmip_proto::recording::Recording;
use pmip_proto::{Lma, Mag};
use serde::{Deserialize, Serialize};

/// What the first line begins with.
const MAGIC: &str = "flowmob recording ";
/// The state machines' own form is in it, which may be another in another version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The last turns of a process's state machines.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FlightRecording {
    /// The process.
    pub(crate) name: String,
    /// When it was made, since 1970.
    pub(crate) time: Duration,
    /// Why.
    pub(crate) why: String,
    /// Why it ends before that, if it does.
    pub(crate) ended: Option<String>,
    /// Messages that did not get as far as a state machine.
    pub(crate) remarks: Vec<Remark>,
    pub(crate) lma: Option<Recording<Lma>>,
    pub(crate) mag: Option<Recording<Mag>>,
}

/// Something that is in no machine's turns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remark {
    /// Since 1970.
    pub(crate) time: Duration,
    pub(crate) text: String,
}

impl FlightRecording {
    /// Reads a file.
    ///
    /// # Errors
    /// If it is none, or another version's.
    pub(crate) fn read(octets: &[u8]) -> anyhow::Result<Self> {
        let end = octets.iter().position(|octet| *octet == b'\n');
        let (line, rest) = octets.split_at(end.unwrap_or(0));
        let version = std::str::from_utf8(line).ok();
        let version = version.and_then(|line| line.strip_prefix(MAGIC));
        match version {
            None => bail!("this is no recording of flowmob's"),
            Some(VERSION) => {}
            Some(other) => bail!("made by flowmob {other}: only that version can read it"),
        }
        let body = rest.get(1..).unwrap_or_default();
        ciborium::from_reader(body).context("the recording is damaged, or of another build")
    }

    /// As a file.
    ///
    /// # Errors
    /// If something in it cannot be written.
    pub(crate) fn write(&self) -> anyhow::Result<Vec<u8>> {
        let mut octets = format!("{MAGIC}{VERSION}\n").into_bytes();
        ciborium::into_writer(self, &mut octets).context("the recording cannot be written")?;
        Ok(octets)
    }

    /// How much is in it.
    pub(crate) fn summary(&self) -> String {
        let lma = self
            .lma
            .as_ref()
            .map(|lma| format!("{} turns of the LMA", lma.turns.len()));
        let mag = self
            .mag
            .as_ref()
            .map(|mag| format!("{} turns of the MAG", mag.turns.len()));
        let parts: Vec<_> = lma.into_iter().chain(mag).collect();
        parts.join(", ")
    }
}
