//! Where packets come from, and how it is known how many arrived.

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use netdev::{Options, PacketSocket};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, sendmmsg};

use super::netns::Netns;
use crate::clock::thread_time;

/// Frames given to the kernel at a time.
const BATCH: usize = 32;
/// Frames under way at most: half the smallest of all rings on the way, veth's own under XDP and
/// `net_af_packet`'s.
const WINDOW: u64 = 256;
/// Frames of which none arrived for so long are lost.
const GIVE_UP: Duration = Duration::from_millis(100);

/// How a packet socket of the benchmark is.
pub(super) const SOCKET: Options = Options {
    all_multicast: false,
    outgoing: false,
    timestamps: false,
    buffer: 4 << 20,
};

/// What is counted on an interface, read with the calling thread wherever it is.
#[derive(Debug)]
pub(super) struct Counter {
    file: File,
    interface: String,
}

impl Counter {
    /// Of the frames that arrive at an interface.
    ///
    /// # Errors
    /// If the namespace cannot be entered.
    pub(super) fn new(netns: &Netns, interface: &str) -> Result<Self> {
        // An open file stays with the namespace that it was opened in.
        let file = netns.enter(|| Ok(File::open("/proc/thread-self/net/dev")?))?;
        let interface = format!("{interface}:");
        Ok(Self { file, interface })
    }

    /// Frames so far.
    ///
    /// # Errors
    /// If the interface is gone.
    pub(super) fn read(&self) -> Result<u64> {
        let mut buffer = [0; 4096];
        let len = self.file.read_at(&mut buffer, 0)?;
        let text = str::from_utf8(buffer.get(..len).unwrap_or_default())?;
        packets(text, &self.interface).context("no counters of the interface")
    }
}

/// Packets received, the second column behind the name.
fn packets(text: &str, interface: &str) -> Option<u64> {
    let line = |line: &'_ str| line.trim_start().strip_prefix(interface).map(str::to_owned);
    let line = text.lines().find_map(line)?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// What became of what was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// Frames that had been sent at the end of the time.
    pub(super) offered: u64,
    /// Frames that had arrived then.
    pub(super) delivered: u64,
    /// Frames that never did.
    pub(super) lost: u64,
    /// The time.
    pub(super) elapsed: Duration,
    /// Processor time of the sender in the calls that send, softirqs in them included.
    pub(super) sending: Duration,
}

/// Sends prepared frames, in turn and for ever.
#[derive(Debug)]
pub(super) struct Sender {
    socket: PacketSocket,
    frames: Vec<Vec<u8>>,
    next: usize,
}

impl Sender {
    /// Sends on an interface.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn new(netns: &Netns, interface: &str, frames: Vec<Vec<u8>>) -> Result<Self> {
        ensure!(frames.len() >= BATCH, "{} frames", frames.len());
        let socket = netns.enter(|| Ok(PacketSocket::open(interface, SOCKET)?))?;
        Ok(Self {
            socket,
            frames,
            next: 0,
        })
    }

    /// Sends until a limit, and never has more than a window of frames under way. `ended` is called
    /// at the limit, before what is under way has arrived.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn send(
        &mut self,
        arrived: &Counter,
        limit: Limit,
        ended: impl FnOnce() -> Result<()>,
    ) -> Result<Sent> {
        let fd = self.socket.as_fd().as_raw_fd();
        let slices: Vec<[IoSlice<'_>; 1]> = self.frames.iter().map(|f| [IoSlice::new(f)]).collect();
        let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
        let before = arrived.read()?;
        let mut flight = Flight::default();
        let (start, mut sending) = (Instant::now(), Duration::ZERO);
        while !limit.is_reached(flight.offered, start) {
            if !flight.has_room() && !flight.look(arrived.read()?.saturating_sub(before)) {
                thread::sleep(PAUSE);
                continue;
            }
            let batch = slices.get(self.next..).unwrap_or_default();
            let batch = batch.get(..BATCH).unwrap_or(batch);
            let began = thread_time();
            let sent = sendmmsg(
                fd,
                &mut headers,
                batch,
                [None; BATCH],
                [],
                MsgFlags::empty(),
            );
            sending += thread_time().saturating_sub(began);
            let sent = match sent.map(Iterator::count) {
                Ok(sent) => sent,
                // There was no room at the other end of the wire for one: it is lost.
                Err(Errno::ENOBUFS) => 1,
                Err(Errno::EAGAIN) => 0,
                Err(error) => bail!("sending: {error}"),
            };
            flight.offered += sent as u64;
            self.next = (self.next + sent) % slices.len();
        }
        let elapsed = start.elapsed();
        let delivered = arrived.read()?.saturating_sub(before);
        ended()?;
        let offered = flight.offered;
        let lost = offered.saturating_sub(settled(arrived)?.saturating_sub(before));
        Ok(Sent {
            offered,
            delivered,
            lost,
            elapsed,
            sending,
        })
    }
}

/// Frames that are under way.
#[derive(Debug, Default)]
struct Flight {
    offered: u64,
    delivered: u64,
    /// Frames taken for lost.
    given_up: u64,
    /// When something arrived last.
    progress: Option<Instant>,
}

impl Flight {
    /// Whether a batch may be sent, as far as is known.
    fn has_room(&self) -> bool {
        let under_way = self.offered.saturating_sub(self.delivered + self.given_up);
        under_way + BATCH as u64 <= WINDOW
    }

    /// As [`Flight::has_room`], knowing how many have been delivered.
    fn look(&mut self, delivered: u64) -> bool {
        let progress = *self.progress.get_or_insert_with(Instant::now);
        if delivered > self.delivered {
            (self.delivered, self.progress) = (delivered, Some(Instant::now()));
        } else if progress.elapsed() > GIVE_UP {
            self.given_up = self.offered.saturating_sub(delivered);
        }
        self.has_room()
    }
}

/// How long the sender sleeps when it may not send.
const PAUSE: Duration = Duration::from_micros(20);

/// What a counter says when it has not changed for a while.
fn settled(arrived: &Counter) -> Result<u64> {
    let mut last = arrived.read()?;
    loop {
        thread::sleep(Duration::from_millis(20));
        match arrived.read()? {
            now if now == last => return Ok(now),
            now => last = now,
        }
    }
}

/// When to end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    /// After a time.
    Time(Duration),
    /// After so many frames.
    Frames(u64),
}

impl Limit {
    fn is_reached(self, frames: u64, start: Instant) -> bool {
        match self {
            Self::Time(time) => start.elapsed() >= time,
            Self::Frames(limit) => frames >= limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_the_second_column_of_their_interface() {
        let text = "Inter-|   Receive\n face |bytes    packets errs drop\n\
                    \u{20}   lo:       0       1    0    0\n  sink: 1234567 890 0 0\n";
        assert_eq!(packets(text, "sink:"), Some(890));
        assert_eq!(packets(text, "source:"), None);
    }
}
