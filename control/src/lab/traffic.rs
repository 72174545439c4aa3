//! The lab's applications: numbered UDP both ways, and one TCP transfer.
//!
//! They are ordinary programs on ordinary sockets: neither knows of tunnels or accesses.

mod tcp;

use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
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

pub(crate) use tcp::{Digest, TcpFlow};

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
