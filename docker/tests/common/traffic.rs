//! Numbered datagrams from one network namespace to another and back, from ordinary sockets.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

/// Time between two datagrams.
const INTERVAL: Duration = Duration::from_millis(4);
/// How long answers may be under way.
const STRAGGLERS: Duration = Duration::from_secs(3);

/// Runs something in the network namespace of a process.
fn within<T: Send>(process: u32, body: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(format!("/proc/{process}/ns/net")).unwrap();
    // A thread of its own: it never comes back.
    std::thread::scope(|scope| {
        let enter = || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            body()
        };
        scope.spawn(enter).join().unwrap()
    })
}

fn socket(process: u32, address: Ipv6Addr, port: u16) -> UdpSocket {
    let bound = within(process, || UdpSocket::bind((address, port)));
    let socket = bound.unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    socket
}

/// Datagrams that go from one end to the other and back, until they are to stop.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    asks: JoinHandle<Account>,
    answers: JoinHandle<()>,
}

/// What became of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub sent: u64,
    /// Numbers that were not answered.
    pub lost: Vec<u64>,
}

impl Echo {
    /// Starts asking from `from` and answering at `to`: process, address, port.
    pub fn start(from: (u32, Ipv6Addr, u16), to: (u32, Ipv6Addr, u16)) -> Self {
        let (asking, answering) = (socket(from.0, from.1, from.2), socket(to.0, to.1, to.2));
        let stop = Arc::new(AtomicBool::new(false));
        let at = SocketAddrV6::new(to.1, to.2, 0, 0);
        let told = Arc::clone(&stop);
        let asks = std::thread::spawn(move || ask(&asking, at, &told));
        let told = Arc::clone(&stop);
        let answers = std::thread::spawn(move || answer(&answering, &told));
        Self {
            stop,
            asks,
            answers,
        }
    }

    /// Stops, waits for what is under way, and says what was lost.
    pub fn finish(self) -> Account {
        self.stop.store(true, Ordering::Relaxed);
        let account = self.asks.join().unwrap();
        self.answers.join().unwrap();
        account
    }
}

fn ask(socket: &UdpSocket, to: SocketAddrV6, stop: &AtomicBool) -> Account {
    let (mut sent, mut missing) = (0u64, BTreeSet::new());
    let receiver = socket.try_clone().unwrap();
    let take = |missing: &mut BTreeSet<u64>| {
        let mut octets = [0; 64];
        if let Ok(len) = receiver.recv(&mut octets)
            && let Ok(number) = <[u8; 8]>::try_from(&octets[..len])
        {
            missing.remove(&u64::from_be_bytes(number));
        }
    };
    socket.set_nonblocking(true).unwrap();
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let due = start + INTERVAL * u32::try_from(sent).unwrap();
        if Instant::now() < due {
            take(&mut missing);
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        missing.insert(sent);
        socket.send_to(&sent.to_be_bytes(), to).unwrap();
        sent += 1;
    }
    let end = Instant::now() + STRAGGLERS;
    while !missing.is_empty() && Instant::now() < end {
        take(&mut missing);
        std::thread::sleep(Duration::from_micros(200));
    }
    Account {
        sent,
        lost: missing.into_iter().collect(),
    }
}

fn answer(socket: &UdpSocket, stop: &AtomicBool) {
    let mut octets = [0; 64];
    let mut since_stop = None;
    loop {
        if let Ok((len, from)) = socket.recv_from(&mut octets) {
            socket.send_to(&octets[..len], from).unwrap();
        }
        if stop.load(Ordering::Relaxed) {
            let since = *since_stop.get_or_insert_with(Instant::now);
            if since.elapsed() > STRAGGLERS {
                return;
            }
        }
    }
}
