//! A capture on a link of the lab: to a pcapng file and to the [`Watcher`] at once.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use anyhow::{Context, bail};
use netdev::{Options, PacketSocket};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use serde::Serialize;

use super::analysis::{FlowMatch, Watcher};
use super::netns;

/// Octets of socket buffer: seconds of all the lab's traffic.
const BUFFER: usize = 64 << 20;
/// Longest frame: what segmentation offload may leave whole.
const MAX_FRAME: usize = 65_536 + 14;
/// Milliseconds between looks at whether to end.
const TURN_MS: u16 = 50;

/// How complete a capture is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub(crate) struct Completeness {
    /// Frames seen, and written if there is a file.
    pub(crate) frames: u64,
    /// Frames the kernel dropped because we were slow.
    pub(crate) dropped: u64,
}

/// A running capture.
#[derive(Debug)]
pub(crate) struct Capture {
    stop: Arc<AtomicBool>,
    watcher: Arc<Mutex<Watcher>>,
    thread: Option<JoinHandle<anyhow::Result<Completeness>>>,
}

impl Capture {
    /// Begins to capture on an interface of a namespace, to a file if there is one.
    ///
    /// # Errors
    /// If the socket cannot be opened there or the file cannot be written.
    pub(crate) fn start(
        namespace: &str,
        interface: &str,
        file: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let options = Options {
            all_multicast: false,
            outgoing: true,
            timestamps: true,
            buffer: BUFFER,
        };
        let socket = netns::enter(namespace, || {
            PacketSocket::open(interface, options)
                .with_context(|| format!("cannot capture on {interface} in {namespace}"))
        })?;
        let writer = file.map(|file| open_file(file, interface)).transpose()?;
        let stop = Arc::new(AtomicBool::new(false));
        let watcher = Arc::new(Mutex::new(Watcher::default()));
        let (stopped, watching) = (Arc::clone(&stop), Arc::clone(&watcher));
        let thread = std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || capture(&socket, writer, &stopped, &watching))
            .context("cannot start a thread")?;
        Ok(Self {
            stop,
            watcher,
            thread: Some(thread),
        })
    }

    /// Says which flows are to be told apart from now on.
    pub(crate) fn set_flows(&self, flows: Vec<FlowMatch>) {
        lock(&self.watcher).set_flows(flows);
    }

    /// Looks at what was seen so far.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&mut Watcher) -> T) -> T {
        at(&mut lock(&self.watcher))
    }

    /// Ends the capture after what has already arrived.
    ///
    /// # Errors
    /// If the file could not be written.
    pub(crate) fn finish(mut self) -> anyhow::Result<(Watcher, Completeness)> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else {
            bail!("the capture has ended before");
        };
        let Ok(result) = thread.join() else {
            bail!("the capture thread panicked");
        };
        let completeness = result?;
        let watcher = std::mem::take(&mut *lock(&self.watcher));
        Ok((watcher, completeness))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A thread that panicked while it held the lock left whole sightings behind: each is one push.
fn lock(watcher: &Mutex<Watcher>) -> std::sync::MutexGuard<'_, Watcher> {
    watcher.lock().unwrap_or_else(PoisonError::into_inner)
}

type Writer = PcapNgWriter<BufWriter<File>>;

fn open_file(path: &Path, interface: &str) -> anyhow::Result<Writer> {
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut writer = PcapNgWriter::new(BufWriter::new(file))?;
    writer.write_pcapng_block(InterfaceDescriptionBlock {
        linktype: DataLink::ETHERNET,
        snaplen: 0,
        options: vec![
            InterfaceDescriptionOption::IfName(Cow::Borrowed(interface)),
            // Timestamps count nanoseconds.
            InterfaceDescriptionOption::IfTsResol(9),
        ],
    })?;
    Ok(writer)
}

fn capture(
    socket: &PacketSocket,
    mut writer: Option<Writer>,
    stop: &AtomicBool,
    watcher: &Mutex<Watcher>,
) -> anyhow::Result<Completeness> {
    let mut out = Completeness::default();
    let mut buffer = vec![0; MAX_FRAME];
    loop {
        let last = stop.load(Ordering::Relaxed);
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(TURN_MS)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for frames"),
        }
        out.frames += drain(socket, &mut writer, &mut buffer, watcher)?;
        // Each look resets the kernel's counters.
        out.dropped += u64::from(socket.statistics()?.drops);
        if last {
            if let Some(writer) = &mut writer {
                let flushed = writer.get_mut().flush();
                flushed.context("cannot write the capture")?;
            }
            return Ok(out);
        }
    }
}

/// Takes all that has arrived.
fn drain(
    socket: &PacketSocket,
    writer: &mut Option<Writer>,
    buffer: &mut [u8],
    watcher: &Mutex<Watcher>,
) -> anyhow::Result<u64> {
    let mut frames = 0;
    loop {
        let (len, time) = match socket.recv_stamped(buffer) {
            Ok(received) => received,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(frames);
            }
            Err(e) => return Err(e).context("cannot capture"),
        };
        let time = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .context("the clock is before 1970")?;
        let frame = buffer.get(..len).unwrap_or_default();
        if let Some(writer) = writer {
            writer.write_pcapng_block(EnhancedPacketBlock {
                interface_id: 0,
                timestamp: time,
                original_len: u32::try_from(len).unwrap_or(u32::MAX),
                data: Cow::Borrowed(frame),
                options: Vec::new(),
            })?;
        }
        lock(watcher).watch(time, frame);
        frames += 1;
    }
}
