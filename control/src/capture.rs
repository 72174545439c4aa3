//! `flowmob capture`: packets into a file, or a line for each.

mod line;
mod pieces;

use std::io::{ErrorKind, Write, stdout};
use std::path::Path;

use anyhow::Context;

use self::pieces::Pieces;
use crate::api::capture::CaptureQuery;
use crate::cli::appliance::CaptureArgs;
use crate::client::Client;
use crate::recording::private;
use crate::top::told_to_end;

/// Octets in a mebibyte.
const MIB: u64 = 1 << 20;
/// How large a file becomes if nothing is said.
const FILE_MIB: u64 = 1024;

/// Captures until told to end, or as long as the arguments say, and says how much it was.
///
/// # Errors
/// If the process refuses, or nothing can be written though somebody reads it.
pub(crate) fn capture(client: &Client, arguments: &CaptureArgs) -> anyhow::Result<String> {
    let query = serde_urlencoded::to_string(query(arguments))?;
    let told = told_to_end()?;
    let mut out = Out::Nowhere;
    let to_file = arguments.write.as_deref().is_some_and(|file| file != "-");
    let most = arguments.size.or_else(|| to_file.then_some(FILE_MIB));
    let mut pieces = Pieces::new(most.map_or(u64::MAX, |most| most.saturating_mul(MIB)));
    let mut more = true;
    client.download(&format!("/v1/capture?{query}"), &told, |octets| {
        if matches!(out, Out::Nowhere) {
            // Not before it is clear that there will be a capture.
            out = Out::open(arguments.write.as_deref())?;
        }
        let written = pieces.take(octets, |block| out.write(block));
        match written.and_then(|whole| out.flush().map(|()| whole)) {
            // A reader that has gone, as `head` does, is no failure.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => more = false,
            written => more = written.context("the capture cannot be written")?,
        }
        Ok(more)
    })?;
    let full = if pieces.is_full() {
        format!("; {} MiB are full (--size)", most.unwrap_or(0))
    } else {
        String::new()
    };
    let frames = if pieces.frames == 1 {
        "frame"
    } else {
        "frames"
    };
    let (count, missed) = (pieces.frames, pieces.missed);
    Ok(format!("{count} {frames}, {missed} missed{full}"))
}

fn query(arguments: &CaptureArgs) -> CaptureQuery {
    let drop = &arguments.drop;
    CaptureQuery {
        mn: arguments.mn.clone(),
        peer: arguments.peer.clone(),
        fid: arguments.fid,
        drop: (!drop.is_empty()).then(|| drop.join(",")),
        port: arguments.port.clone(),
        direction: arguments.direction,
        octets: arguments.octets,
        packets: arguments.count,
        seconds: arguments.time,
    }
}

/// Where the capture goes.
enum Out {
    Nowhere,
    /// As it is.
    File(Box<dyn Write>),
    /// A line for each frame.
    Lines,
}

impl Out {
    fn open(file: Option<&Path>) -> anyhow::Result<Self> {
        Ok(match file {
            None => Self::Lines,
            Some(file) if file == "-" => Self::File(Box::new(stdout())),
            Some(file) => Self::File(Box::new(private(file)?)),
        })
    }

    fn write(&mut self, block: &pieces::Block<'_>) -> std::io::Result<()> {
        match (self, &block.frame) {
            (Self::File(file), _) => file.write_all(block.octets),
            (Self::Lines, Some(frame)) => writeln!(stdout(), "{}", line::line(frame)),
            (Self::Lines | Self::Nowhere, _) => Ok(()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Lines => stdout().flush(),
            Self::Nowhere => Ok(()),
        }
    }
}
