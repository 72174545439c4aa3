//! A TCP transfer, and what went in and came out.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddrV6, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};

use super::super::netns;
use super::{Ends, Pace, Sites};

/// Octets of one write of the TCP sender.
const CHUNK: usize = 8 << 10;
/// How long TCP may take for its last octets.
const TCP_PATIENCE: Duration = Duration::from_secs(10);

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
    fn the_digest_is_fnv_1a() {
        let mut digest = Digest::EMPTY;
        digest.add(b"foo");
        digest.add(b"bar");
        // The value for "foobar" in the published test vectors of FNV.
        assert_eq!(digest.checksum, 0x8594_4171_f739_67e8);
        assert_eq!(digest.octets, 6);
    }
}
