//! Stands between memif's driver and the other end, as far as they only talk.
//!
//! The driver of DPDK 22.11 cannot be left alone with a peer. A client connects once, in its start. Whenever a
//! connection ends, its memory is unmapped at once, while workers may be in the midst of a burst in it. A ring that the
//! peer did not add is taken for the first one. So the driver gets a socket of our own, and a thread here passes the
//! messages on, with their descriptors. It dials again and again, and it has the workers out before anything reaches the
//! driver that may have it end the connection. Packets do not come by here.

use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, SockFlag, SockType, accept4, recvmsg,
    sendmsg, shutdown,
};
use nix::sys::stat::Mode;

use super::socket::{Address, listen, reach};
use crate::log::{self, Level};

/// Types of messages, and where in an `ADD_RING` the ring's direction is (`memif.h`).
const ADD_RING: u16 = 5;
const CONNECT: u16 = 6;
const CONNECTED: u16 = 7;
const RING_FLAGS: usize = 2;
const CLIENT_TO_SERVER: u16 = 1;
const LENGTH: usize = 128;

/// How often it is dialled, and looked whether it is over.
const STEP: Duration = Duration::from_millis(250);
/// How long the driver may take for what it does at once on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the thread asks of the port.
pub(super) trait Driver: Send + 'static {
    /// Whether the link is up.
    fn is_up(&self) -> bool;
    /// Has a client connect.
    fn restart(&mut self) -> Result<(), String>;
    /// Keeps the workers out of the driver.
    fn shut(&self);
    /// Lets them in.
    fn let_in(&self);
}

/// The other end's socket, and the driver's.
#[derive(Debug)]
pub(super) enum Sockets {
    /// We listen for the other end, and reach the driver where it listens.
    Server { public: OwnedFd, driver: OwnedFd },
    /// We dial the other end, and listen for the driver at this path.
    Client { public: PathBuf, driver: PathBuf },
}

impl Sockets {
    /// Takes the driver's socket out of its directory: it stays reachable here, and is not left behind.
    ///
    /// # Errors
    /// If it is not there.
    pub(super) fn server(public: OwnedFd, driver: &Path) -> nix::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let socket = open(driver, flags, Mode::empty())?;
        fs::remove_file(driver).map_err(|error| errno(&error))?;
        Ok(Self::Server {
            public,
            driver: socket,
        })
    }
}

/// The thread. Ends when dropped.
#[derive(Debug)]
pub(super) struct Relay {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts it for the port `name` with so many queue pairs.
    ///
    /// # Errors
    /// If there cannot be a thread.
    pub(super) fn start(
        name: String,
        queues: u16,
        sockets: Sockets,
        driver: impl Driver,
    ) -> std::io::Result<Self> {
        let ends = Arc::new(AtomicBool::new(false));
        let mut work = Work {
            name,
            queues,
            ends: Arc::clone(&ends),
            driver,
        };
        let thread = std::thread::Builder::new()
            .name("memif-relay".into())
            .spawn(move || work.run(&sockets))?;
        Ok(Self {
            ends,
            thread: Some(thread),
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

struct Work<D> {
    name: String,
    queues: u16,
    ends: Arc<AtomicBool>,
    driver: D,
}

/// A message, and what came with it.
struct Message {
    octets: [u8; LENGTH],
    descriptors: Vec<OwnedFd>,
}

impl<D: Driver> Work<D> {
    fn run(&mut self, sockets: &Sockets) {
        while !self.is_over() {
            let pair = match sockets {
                Sockets::Server { public, driver } => self.called(public, driver),
                Sockets::Client { public, driver } => self.call(public, driver),
            };
            if let Some((peer, driver, greeting)) = pair {
                let ended = self.pass_on(&peer, &driver, greeting);
                // Before the driver hears of it.
                self.driver.shut();
                hang_up(&driver);
                drop((peer, driver));
                if let Err(why) = ended {
                    log::say(Level::Warning, &format!("{}: {why}", self.name));
                    std::thread::sleep(STEP);
                }
            }
        }
        self.driver.shut();
    }

    fn is_over(&self) -> bool {
        self.ends.load(Ordering::Relaxed)
    }

    /// Waits a step for a call, and connects it to the driver.
    fn called(
        &self,
        public: &OwnedFd,
        driver: &OwnedFd,
    ) -> Option<(OwnedFd, OwnedFd, Option<Message>)> {
        readable([public.as_fd()])?;
        let peer = accept(public)?;
        // The socket has no name any more.
        let path = format!("/proc/self/fd/{}", driver.as_raw_fd());
        match reach(Address::Path(Path::new(&path)), SockType::SeqPacket) {
            Ok(driver) => Some((peer, driver, None)),
            Err(error) => {
                log::say(Level::Error, &format!("{}: its driver: {error}", self.name));
                std::thread::sleep(STEP);
                None
            }
        }
    }

    /// Calls, and has the driver call us when the other end has greeted. One that only accepts may be stopped.
    fn call(&mut self, public: &Path, path: &Path) -> Option<(OwnedFd, OwnedFd, Option<Message>)> {
        let Ok(peer) = reach(Address::of(public), SockType::SeqPacket) else {
            std::thread::sleep(STEP);
            return None;
        };
        let greeting = loop {
            if self.is_over() {
                return None;
            }
            if readable([peer.as_fd()]).is_some() {
                break receive(&peer).ok()?;
            }
        };
        let connected = listen(Address::Path(path), SockType::SeqPacket)
            .map_err(|error| error.to_string())
            .and_then(|listener| {
                self.driver.restart()?;
                accept(&listener).ok_or_else(|| "did not connect".to_owned())
            });
        // It may not have come to be.
        let _ = fs::remove_file(path);
        match connected {
            Ok(driver) => Some((peer, driver, Some(greeting))),
            Err(why) => {
                log::say(Level::Error, &format!("{}: its driver: {why}", self.name));
                std::thread::sleep(STEP);
                None
            }
        }
    }

    /// Passes messages on until one of the two ends. Says why, if the other end is wrong.
    fn pass_on(
        &self,
        peer: &OwnedFd,
        driver: &OwnedFd,
        greeting: Option<Message>,
    ) -> Result<(), String> {
        if let Some(greeting) = greeting
            && send(driver, &greeting).is_err()
        {
            return Ok(());
        }
        let (mut rings, mut is_connected) = ([0; 2], false);
        while !self.is_over() {
            let Some([from_peer, from_driver]) = readable([peer.as_fd(), driver.as_fd()]) else {
                continue;
            };
            if from_driver {
                let Ok(message) = receive(driver) else {
                    return Ok(());
                };
                if send(peer, &message).is_err() {
                    return Ok(());
                }
            }
            if !from_peer {
                continue;
            }
            if is_connected {
                // Whatever it is, nothing but an end is left to be said.
                return Ok(());
            }
            let Ok(message) = receive(peer) else {
                return Ok(());
            };
            match message.kind() {
                ADD_RING => {
                    let direction = usize::from(message.word(RING_FLAGS) & CLIENT_TO_SERVER);
                    if let Some(count) = rings.get_mut(direction) {
                        *count += 1;
                    }
                }
                CONNECT if rings != [self.queues; 2] => {
                    let [down, up] = rings;
                    return Err(format!(
                        "the other end has {up} queues towards us and {down} from us, we have {}: \
                         give both ends the same number",
                        self.queues
                    ));
                }
                _ => {}
            }
            if send(driver, &message).is_err() {
                return Ok(());
            }
            if [CONNECT, CONNECTED].contains(&message.kind()) {
                // No message is under way any more, so the driver keeps its memory until we are gone.
                if !self.comes_up() {
                    return Ok(());
                }
                is_connected = true;
                self.driver.let_in();
            }
        }
        Ok(())
    }

    fn comes_up(&self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !self.driver.is_up() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

impl Message {
    fn word(&self, at: usize) -> u16 {
        let octets = self.octets.get(at..at + 2);
        octets.map_or(0, |octets| {
            octets
                .iter()
                .rev()
                .fold(0, |word, octet| word << 8 | u16::from(*octet))
        })
    }

    fn kind(&self) -> u16 {
        self.word(0)
    }
}

/// Which of them have something to read, or have ended; waits a step for that.
fn readable<const N: usize>(fds: [std::os::fd::BorrowedFd<'_>; N]) -> Option<[bool; N]> {
    let mut fds = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    let step = PollTimeout::try_from(STEP).unwrap_or(PollTimeout::ZERO);
    match poll(&mut fds, step) {
        Ok(1..) => Some(fds.map(|fd| fd.any() == Some(true))),
        _ => None,
    }
}

/// Has the driver end the connection, and waits until it has: it closes its end when it has given its memory back. To
/// stop the device meanwhile would have two threads do so.
fn hang_up(driver: &OwnedFd) {
    if shutdown(driver.as_raw_fd(), Shutdown::Write).is_err() {
        return;
    }
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        // What it still says is of no use; an error is its end.
        if readable([driver.as_fd()]).is_some() && receive(driver).is_err() {
            return;
        }
    }
}

fn accept(listener: &OwnedFd) -> Option<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = accept4(listener.as_raw_fd(), flags).ok()?;
    // SAFETY: the kernel has just made it for us.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next message. An end, or what cannot be one, is an error.
fn receive(from: &OwnedFd) -> nix::Result<Message> {
    let mut octets = [0; LENGTH];
    let mut space = nix::cmsg_space!([RawFd; 4], nix::sys::socket::UnixCredentials);
    let mut slices = [IoSliceMut::new(&mut octets)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<()>(from.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
    let mut fds = Vec::new();
    for said in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(more) = said {
            fds.extend(more);
        }
    }
    let fds = fds.into_iter();
    // SAFETY: the kernel has just made them for us.
    let descriptors: Vec<_> = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect();
    if received.bytes != LENGTH || received.flags.contains(MsgFlags::MSG_TRUNC) {
        return Err(Errno::EPIPE);
    }
    Ok(Message {
        octets,
        descriptors,
    })
}

fn send(to: &OwnedFd, message: &Message) -> nix::Result<()> {
    let fds: Vec<RawFd> = message.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights };
    let slices = [IoSlice::new(&message.octets)];
    sendmsg::<()>(
        to.as_raw_fd(),
        &slices,
        rights,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map(|_| ())
}

fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
