//! A client of a shared memory link whose server, another process, comes and goes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{PACKETS, assert_all_free, packet, send, start, wait_for};
use dpdk::{Burst, Device, Eal, EalConfig, Mempool, MempoolConfig, Port, PortConfig};

/// Names the socket to the process that is the other end: the driver keeps one socket of a name in a process.
const SERVER: &str = "FLOWMOB_TEST_MEMIF_SERVER";
/// More than the driver says it can take.
const LARGE: PortConfig = PortConfig {
    queues: 1,
    rx_descriptors: 1024,
    tx_descriptors: 1024,
    mtu: 9000,
    mac: None,
    promiscuous: false,
};

fn end(socket: &Path, server: bool) -> Device {
    Device::Memif {
        socket: socket.to_owned(),
        server,
        id: 7,
        queues: 1,
    }
}

fn large_pool(eal: &Eal) -> Mempool {
    let config = MempoolConfig {
        count: PACKETS,
        data_room: 9088,
        ..MempoolConfig::default()
    };
    Mempool::new(eal, &config).unwrap()
}

/// Sends back what it gets, until nobody holds its standard input any more.
fn serve(socket: &Path) {
    let eal = Eal::init(&EalConfig {
        file_prefix: "flowmob-memif-server".into(),
        ..EalConfig::default()
    })
    .unwrap();
    let pool = large_pool(&eal);
    let mut server = Port::open(&eal, &end(socket, true), 0, &LARGE, &pool).unwrap();
    let (mut rx, mut tx) = start(&mut server);
    let ended = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&ended);
    let input = std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        ends.store(true, Ordering::Relaxed);
    });
    let mut burst = Burst::<32>::new();
    while !ended.load(Ordering::Relaxed) {
        rx.burst(&mut burst);
        tx.burst(&mut burst);
        std::thread::sleep(Duration::from_micros(100));
    }
    input.join().unwrap();
    drop((burst, rx, tx, server));
    assert_all_free(&pool);
}

fn server(socket: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_client_connects_whenever_its_server_comes"])
        .env(SERVER, socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_client_connects_whenever_its_server_comes() {
    if let Some(socket) = std::env::var_os(SERVER) {
        return serve(Path::new(&socket));
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("memif.sock");
    let eal = Eal::init(&EalConfig::default()).unwrap();
    let pool = large_pool(&eal);

    // Alone, it starts, and sends and receives nothing.
    let mut client = Port::open(&eal, &end(&socket, false), 1, &LARGE, &pool).unwrap();
    let (mut rx, mut tx) = start(&mut client);
    let up = || client.link().unwrap().up;
    assert!(!up());
    let mut burst = Burst::<32>::new();
    assert_eq!(rx.burst(&mut burst), 0);
    burst.push(packet(&pool, b"to nobody"));
    assert_eq!(tx.burst(&mut burst), 0);
    drop(burst.pop());

    // What another process has left behind is in nobody's way: this, and what the first server leaves.
    drop(UnixListener::bind(&socket).unwrap());
    for killed in [true, false] {
        let mut server = server(&socket);
        wait_for(up);
        for len in [60, 1514, 9014] {
            let text: Vec<u8> = (0..=255).cycle().take(len).collect();
            send(&mut tx, packet(&pool, &text));
            wait_for(|| rx.burst(&mut burst) == 1);
            assert_eq!(burst[0].data(), text);
            burst.pop();
        }
        if killed {
            server.kill().unwrap();
        } else {
            drop(server.stdin.take());
        }
        assert_eq!(server.wait().unwrap().success(), !killed);
        assert_eq!(socket.exists(), killed);
        wait_for(|| !up());
        burst.push(packet(&pool, b"too late"));
        assert_eq!(tx.burst(&mut burst), 0);
        drop(burst.pop());
    }
    drop((burst, rx, tx, client));
    assert_all_free(&pool);
}
