//! The lab's applications: numbered UDP both ways, and one TCP transfer.
//!
//! They are ordinary programs on ordinary sockets: neither knows of tunnels or accesses.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use nix::sys::socket::{SetSockOpt, sockopt};
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};

use super::analysis::{Direction, Flow};
use super::netns;
use super::sequence::{Accounting, Arrival, Tally};

/// Octets of each datagram.
const DATAGRAM: usize = 200;
/// Octets of buffer per socket and direction.
const BUFFER: usize = 16 << 20;
/// First octets of each datagram.
const MAGIC: [u8; 8] = *b"flowmob\x01";
/// How long a receiver waits before it looks whether to end.
const TURN: Duration = Duration::from_millis(100);
/// How long packets may take that are still under way when the senders stop.
const STRAGGLERS: Duration = Duration::from_secs(3);
/// Octets of one write of the TCP sender.
const CHUNK: usize = 8 << 10;
/// How long TCP may take for its last octets.
const TCP_PATIENCE: Duration = Duration::from_secs(10);

/// The two ends of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ends {
    /// Which flow.
    pub(crate) flow: Flow,
    /// At the correspondent node.
    pub(crate) cn: (Ipv6Addr, u16),
    /// At the mobile.
    pub(crate) mn: (Ipv6Addr, u16),
}

/// Where the applications run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sites<'a> {
    /// The correspondent node's namespace.
    pub(crate) cn: &'a str,
    /// The mobile's namespace.
    pub(crate) mn: &'a str,
}

/// Numbered UDP datagrams in both directions.
#[derive(Debug)]
pub(crate) struct UdpFlow {
    /// Which flow.
    pub(crate) flow: Flow,
    halves: Vec<Half>,
    senders_stop: Arc<AtomicBool>,
    receivers_stop: Arc<AtomicBool>,
}

/// One direction.
#[derive(Debug)]
struct Half {
    direction: Direction,
    sender: JoinHandle<Sent>,
    receiver: JoinHandle<Tally>,
    received: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
}

/// What a sender did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sent {
    packets: u64,
    /// Attempts the kernel refused; their numbers are used again.
    refused: u64,
}

/// The outcome of one direction.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    /// Which flow.
    pub(crate) flow: Flow,
    /// Which way.
    pub(crate) direction: Direction,
    /// What became of its packets.
    #[serde(flatten)]
    pub(crate) accounting: Accounting,
    /// Packets the sender's own kernel refused to take; not part of `sent`.
    pub(crate) refused: u64,
}

impl UdpFlow {
    /// Starts both directions with `rate` packets per second each.
    ///
    /// # Errors
    /// If a socket cannot be opened at its site.
    pub(crate) fn start(sites: Sites<'_>, ends: Ends, rate: u32) -> anyhow::Result<Self> {
        let cn = netns::enter(sites.cn, || udp_socket(ends.cn, ends.mn))?;
        let mn = netns::enter(sites.mn, || udp_socket(ends.mn, ends.cn))?;
        let mut out = Self {
            flow: ends.flow,
            halves: Vec::new(),
            senders_stop: Arc::default(),
            receivers_stop: Arc::default(),
        };
        for (direction, from, to) in [
            (Direction::Downlink, cn.try_clone()?, mn.try_clone()?),
            (Direction::Uplink, mn, cn),
        ] {
            let received = Arc::new(AtomicU64::new(0));
            let (counter, stop) = (Arc::clone(&received), Arc::clone(&out.receivers_stop));
            let receiver = thread::spawn(move || {
                let mut tally = Tally::default();
                receive(&to, &stop, |arrival| {
                    tally.arrive(arrival);
                    counter.fetch_add(1, Ordering::Relaxed);
                });
                tally
            });
            let sent = Arc::new(AtomicU64::new(0));
            let (counter, stop) = (Arc::clone(&sent), Arc::clone(&out.senders_stop));
            let sender = thread::spawn(move || send(&from, rate, &stop, &counter));
            out.halves.push(Half {
                direction,
                sender,
                receiver,
                received,
                sent,
            });
        }
        Ok(out)
    }

    /// Datagrams received so far, in each direction.
    pub(crate) fn received(&self) -> impl Iterator<Item = u64> {
        let halves = self.halves.iter();
        halves.map(|half| half.received.load(Ordering::Relaxed))
    }

    /// The number of the next datagram in each direction.
    pub(crate) fn sent(&self) -> impl Iterator<Item = u64> {
        let halves = self.halves.iter();
        halves.map(|half| half.sent.load(Ordering::Relaxed))
    }

    /// Tells the senders to stop, without waiting.
    pub(crate) fn stop_sending(&self) {
        self.senders_stop.store(true, Ordering::Relaxed);
    }

    /// Stops the senders, waits for packets under way, and accounts for all.
    ///
    /// # Errors
    /// If a thread panicked.
    pub(crate) fn finish(mut self) -> anyhow::Result<Vec<Outcome>> {
        self.stop_sending();
        let mut sent = Vec::new();
        let halves = std::mem::take(&mut self.halves);
        let mut rest = Vec::new();
        for half in halves {
            let Ok(done) = half.sender.join() else {
                bail!("a sender panicked");
            };
            sent.push(done);
            rest.push((half.direction, half.receiver, half.received));
        }
        let deadline = Instant::now() + STRAGGLERS;
        let complete = || {
            let pairs = rest.iter().zip(&sent);
            pairs
                .into_iter()
                .all(|((_, _, r), s)| r.load(Ordering::Relaxed) >= s.packets)
        };
        while !complete() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        // A duplicate comes after its original: give it the time too.
        thread::sleep(TURN);
        self.receivers_stop.store(true, Ordering::Relaxed);
        let mut outcomes = Vec::new();
        for ((direction, receiver, _), sent) in rest.into_iter().zip(sent) {
            let Ok(tally) = receiver.join() else {
                bail!("a receiver panicked");
            };
            outcomes.push(Outcome {
                flow: self.flow,
                direction,
                accounting: tally.finish(sent.packets),
                refused: sent.refused,
            });
        }
        Ok(outcomes)
    }
}

impl Drop for UdpFlow {
    fn drop(&mut self) {
        self.senders_stop.store(true, Ordering::Relaxed);
        self.receivers_stop.store(true, Ordering::Relaxed);
    }
}

/// A UDP flow that nobody accounts for. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Stream {
    stop: Arc<AtomicBool>,
}

impl Stream {
    /// Starts both directions with `rate` packets per second each.
    ///
    /// # Errors
    /// If a socket cannot be opened at its site.
    pub(crate) fn start(sites: Sites<'_>, ends: &Ends, rate: u32) -> anyhow::Result<Self> {
        let cn = netns::enter(sites.cn, || udp_socket(ends.cn, ends.mn))?;
        let mn = netns::enter(sites.mn, || udp_socket(ends.mn, ends.cn))?;
        let stop = Arc::<AtomicBool>::default();
        for (from, to) in [(cn.try_clone()?, mn.try_clone()?), (mn, cn)] {
            let stopped = Arc::clone(&stop);
            thread::spawn(move || send(&from, rate, &stopped, &AtomicU64::new(0)));
            let stopped = Arc::clone(&stop);
            thread::spawn(move || receive(&to, &stopped, drop));
        }
        Ok(Self { stop })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn udp_socket(local: (Ipv6Addr, u16), remote: (Ipv6Addr, u16)) -> anyhow::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))
        .context("cannot open a UDP socket")?;
    sockopt::RcvBufForce.set(&socket, &BUFFER)?;
    sockopt::SndBufForce.set(&socket, &BUFFER)?;
    let local = SocketAddrV6::new(local.0, local.1, 0, 0);
    socket
        .bind(&local.into())
        .with_context(|| format!("cannot bind to {local}"))?;
    let remote = SocketAddrV6::new(remote.0, remote.1, 0, 0);
    socket
        .connect(&remote.into())
        .with_context(|| format!("cannot connect to {remote}"))?;
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(TURN))?;
    Ok(socket)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}

fn send(socket: &UdpSocket, rate: u32, stop: &AtomicBool, count: &AtomicU64) -> Sent {
    let mut sent = Sent {
        packets: 0,
        refused: 0,
    };
    let mut pace = Pace::new(rate, 1);
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..pace.due() {
            let datagram = datagram(sent.packets, now());
            // A refused datagram never left: its number is the next one's.
            match socket.send(&datagram) {
                Ok(_) => sent.packets += 1,
                Err(_) => sent.refused += 1,
            }
            count.store(sent.packets, Ordering::Relaxed);
        }
    }
    sent
}

fn receive(socket: &UdpSocket, stop: &AtomicBool, mut each: impl FnMut(Arrival)) {
    let mut buffer = [0; 2 * DATAGRAM];
    while !stop.load(Ordering::Relaxed) {
        // Errors are timeouts, or ICMPv6 from before the other end was ready: both are no packets.
        let Ok(len) = socket.recv(&mut buffer) else {
            continue;
        };
        if let Some((sequence, sent)) = buffer.get(..len).and_then(parse) {
            each(Arrival {
                sequence,
                sent,
                received: now(),
            });
        }
    }
}

fn datagram(sequence: u64, time: u64) -> [u8; DATAGRAM] {
    let mut out = [0; DATAGRAM];
    let head = [MAGIC, sequence.to_be_bytes(), time.to_be_bytes()];
    for (to, from) in out.iter_mut().zip(head.as_flattened()) {
        *to = *from;
    }
    out
}

fn parse(datagram: &[u8]) -> Option<(u64, u64)> {
    if datagram.len() != DATAGRAM || datagram.get(..8)? != MAGIC {
        return None;
    }
    let number = |at: usize| {
        Some(u64::from_be_bytes(
            datagram.get(at..at + 8)?.try_into().ok()?,
        ))
    };
    Some((number(8)?, number(16)?))
}

/// Says how many things are due.
struct Pace {
    start: Instant,
    /// Nanoseconds from one to the next; at least one.
    interval: u64,
    done: u64,
}

impl Pace {
    /// Things of `size` units each, `rate` units a second.
    fn new(rate: u32, size: u64) -> Self {
        Self {
            start: Instant::now(),
            interval: (size * 1_000_000_000 / u64::from(rate.max(1))).max(1),
            done: 0,
        }
    }

    /// Sleeps until something is due.
    fn due(&mut self) -> u64 {
        let next = Duration::from_nanos((self.done + 1).saturating_mul(self.interval));
        thread::sleep(next.saturating_sub(self.start.elapsed()));
        let elapsed = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let total = elapsed / self.interval;
        let due = total.saturating_sub(self.done);
        self.done = total.max(self.done);
        due
    }
}

/// A TCP transfer from the correspondent node to the mobile, at a steady rate until it is told to
/// end.
#[derive(Debug)]
pub(crate) struct TcpFlow {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<anyhow::Result<Digest>>,
    receiver: JoinHandle<anyhow::Result<Digest>>,
}

/// What went in at one end or came out at the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Digest {
    /// Octets.
    pub(crate) octets: u64,
    /// Their FNV-1a hash, 64 bits.
    pub(crate) checksum: u64,
}

impl Digest {
    const EMPTY: Self = Self {
        octets: 0,
        checksum: 0xcbf2_9ce4_8422_2325,
    };

    fn add(&mut self, octets: &[u8]) {
        self.octets += octets.len() as u64;
        for octet in octets {
            self.checksum = (self.checksum ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl TcpFlow {
    /// The mobile connects, the correspondent node sends `rate` octets per second.
    ///
    /// # Errors
    /// If the connection is not made.
    pub(crate) fn start(sites: Sites<'_>, ends: Ends, rate: u32) -> anyhow::Result<Self> {
        let local = SocketAddrV6::new(ends.cn.0, ends.cn.1, 0, 0);
        let listener = netns::enter(sites.cn, || {
            TcpListener::bind(local).with_context(|| format!("cannot listen on {local}"))
        })?;
        let client = netns::enter(sites.mn, || tcp_connect(ends))?;
        let (server, _) = listener.accept().context("the mobile does not connect")?;
        client.set_read_timeout(Some(TCP_PATIENCE))?;
        server.set_write_timeout(Some(TCP_PATIENCE))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        Ok(Self {
            stop,
            sender: thread::spawn(move || tcp_send(server, rate, &stopped)),
            receiver: thread::spawn(move || tcp_receive(client)),
        })
    }

    /// Ends the transfer and waits for its last octets: what was sent and what was received.
    ///
    /// # Errors
    /// If the connection broke.
    pub(crate) fn finish(self) -> anyhow::Result<(Digest, Digest)> {
        self.stop.store(true, Ordering::Relaxed);
        let (Ok(sent), Ok(received)) = (self.sender.join(), self.receiver.join()) else {
            bail!("a TCP thread panicked");
        };
        Ok((sent?, received?))
    }
}

fn tcp_connect(ends: Ends) -> anyhow::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))
        .context("cannot open a TCP socket")?;
    let local = SocketAddrV6::new(ends.mn.0, ends.mn.1, 0, 0);
    socket
        .bind(&local.into())
        .with_context(|| format!("cannot bind to {local}"))?;
    let remote = SocketAddrV6::new(ends.cn.0, ends.cn.1, 0, 0);
    socket
        .connect_timeout(&remote.into(), TCP_PATIENCE)
        .with_context(|| format!("no TCP connection from {local} to {remote}"))?;
    Ok(socket.into())
}

fn tcp_send(mut stream: TcpStream, rate: u32, stop: &AtomicBool) -> anyhow::Result<Digest> {
    let mut digest = Digest::EMPTY;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut chunk = [0; CHUNK];
    let mut pace = Pace::new(rate, CHUNK as u64);
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..pace.due() {
            for octets in chunk.chunks_exact_mut(8) {
                // xorshift64: content that no two places share.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                octets.copy_from_slice(&state.to_be_bytes());
            }
            stream
                .write_all(&chunk)
                .context("the TCP sender is stuck")?;
            digest.add(&chunk);
        }
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(digest)
}

fn tcp_receive(mut stream: TcpStream) -> anyhow::Result<Digest> {
    let mut digest = Digest::EMPTY;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(digest),
            Ok(len) => digest.add(buffer.get(..len).unwrap_or_default()),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e).context("the TCP receiver gets nothing more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_say_their_number_and_time() {
        let datagram = datagram(7, 9);
        assert_eq!(parse(&datagram), Some((7, 9)));
        assert_eq!(parse(&datagram[..DATAGRAM - 1]), None);
        let mut foreign = datagram;
        foreign[0] ^= 1;
        assert_eq!(parse(&foreign), None);
    }

    #[test]
    fn the_digest_is_fnv_1a() {
        let mut digest = Digest::EMPTY;
        digest.add(b"foo");
        digest.add(b"bar");
        // The value for "foobar" in the published test vectors of FNV.
        assert_eq!(digest.checksum, 0x8594_4171_f739_67e8);
        assert_eq!(digest.octets, 6);
    }

    #[test]
    fn a_pace_catches_up_and_does_not_run_ahead() {
        let mut pace = Pace::new(1000, 1);
        thread::sleep(Duration::from_millis(20));
        let mut done = pace.due();
        assert!(done >= 20);
        while done < 50 {
            done += pace.due();
        }
        assert!(pace.start.elapsed() >= Duration::from_millis(50));
    }
}
