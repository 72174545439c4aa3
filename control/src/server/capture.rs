//! A capture, as a file of pcapng that is written while it is read (draft-ietf-opsawg-pcapng).

use std::borrow::Cow;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{ANSWER_TIMEOUT, Api, ApplianceRequest, answer, problem};
use crate::api::Problem;
use crate::api::capture::{CaptureQuery, CaptureStarted};
use crate::frames::{Frame, WAITING};
use crate::sink::sink;

/// The type of what is answered.
pub(super) const PCAPNG: &str = "application/x-pcapng";

/// Frames that are written at once.
const TOGETHER: usize = 256;
/// In the flags of a frame: it came in, or left.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// A capture that is being read.
struct Reading {
    from: Receiver<Frame>,
    writer: PcapNgWriter<Vec<u8>>,
    /// Frames still wanted.
    left: u64,
    end: Option<Instant>,
    stopped: watch::Receiver<bool>,
}

/// `GET /v1/capture`.
pub(super) async fn capture(
    State(api): State<Api>,
    query: Result<Query<CaptureQuery>, QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return problem(&Problem::bad_request(rejection.body_text())),
    };
    let (left, seconds) = (query.packets.unwrap_or(u64::MAX), query.seconds);
    let (to, from) = sink(WAITING);
    let request = ApplianceRequest::Capture(Box::new(query), to).into();
    let started = match answer(&api.calls, request, ANSWER_TIMEOUT).await {
        Ok(started) => {
            serde_json::from_value(started).map_err(|e| Problem::unavailable(e.to_string()))
        }
        Err(error) => Err(error),
    };
    let end = seconds.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
    let begun = started.and_then(|started: CaptureStarted| {
        begin(&started).map_err(|error| Problem::unavailable(error.to_string()))
    });
    match begun {
        Ok(writer) => {
            let reading = Reading {
                from,
                writer,
                left,
                end,
                stopped: api.stopped,
            };
            let pieces = unfold(reading, Reading::next);
            ([(CONTENT_TYPE, PCAPNG)], Body::from_stream(pieces)).into_response()
        }
        Err(error) => problem(&error),
    }
}

impl Reading {
    /// The next piece of the file, which ends between two frames.
    async fn next(mut self) -> Option<(std::io::Result<Bytes>, Self)> {
        let mut frames = Vec::new();
        // The first piece holds no frame, so that a reader sees at once that the capture runs.
        if self.writer.get_ref().is_empty() {
            let most = usize::try_from(self.left).unwrap_or(TOGETHER).min(TOGETHER);
            let Self {
                from, end, stopped, ..
            } = &mut self;
            let count = tokio::select! {
                count = from.recv_many(&mut frames, most) => count,
                () = at(*end) => 0,
                // An error means that the server is gone, which says the same.
                _ = stopped.wait_for(|stopped| *stopped) => 0,
            };
            if count == 0 {
                return None;
            }
            self.left -= count as u64;
        }
        let written = frames
            .iter()
            .try_for_each(|frame| write(&mut self.writer, frame));
        let piece = std::mem::take(self.writer.get_mut());
        let piece = written
            .map(|()| piece.into())
            .map_err(std::io::Error::other);
        Some((piece, self))
    }
}

/// Waits for a time; for ever if there is none.
async fn at(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// The beginning of a file.
fn begin(started: &CaptureStarted) -> Result<PcapNgWriter<Vec<u8>>, pcap_file::PcapError> {
    let mut writer = PcapNgWriter::new(Vec::new())?;
    for name in &started.interfaces {
        let description = format!("{name} of {}", started.name);
        writer.write_pcapng_block(InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: 0,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                InterfaceDescriptionOption::IfDescription(Cow::Borrowed(&description)),
                // Timestamps count nanoseconds.
                InterfaceDescriptionOption::IfTsResol(9),
            ],
        })?;
    }
    Ok(writer)
}

fn write(writer: &mut PcapNgWriter<Vec<u8>>, frame: &Frame) -> Result<(), pcap_file::PcapError> {
    let mut options = vec![
        EnhancedPacketOption::Comment(Cow::Borrowed(&frame.comment)),
        EnhancedPacketOption::Flags(if frame.came { INBOUND } else { OUTBOUND }),
    ];
    if frame.missed > 0 {
        options.push(EnhancedPacketOption::DropCount(frame.missed));
    }
    writer.write_pcapng_block(EnhancedPacketBlock {
        interface_id: frame.interface,
        timestamp: frame.time,
        original_len: frame.len,
        data: Cow::Borrowed(&frame.octets),
        options,
    })?;
    Ok(())
}
