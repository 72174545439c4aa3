//! Two ends of a shared memory link, as between two processes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::thread;
use std::time::Duration;

use common::{assert_all_free, eal, open, packet, pool, send, start};
use dpdk::{Burst, Device, Port};

#[test]
fn memif() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("memif.sock");
    let eal = eal();
    let pool = pool(&eal);
    let end = |server| Device::Memif {
        socket: socket.clone(),
        server,
        id: 7,
    };
    let mut server = open(&eal, &end(true), 0, &pool);
    let (mut server_rx, mut server_tx) = start(&mut server);
    let mut client = open(&eal, &end(false), 1, &pool);
    let (mut client_rx, mut client_tx) = start(&mut client);
    wait_for(|| up(&server) && up(&client));
    assert_ne!(server.mac(), client.mac());

    let mut burst = Burst::<32>::new();
    send(
        &mut client_tx,
        packet(&pool, b"to the server, in at least one burst"),
    );
    wait_for(|| server_rx.burst(&mut burst) == 1);
    assert_eq!(burst[0].data(), b"to the server, in at least one burst");
    // The server sends into buffers that the client offers when it polls.
    assert_eq!(client_rx.burst(&mut Burst::<32>::new()), 0);
    assert_eq!(server_tx.burst(&mut burst), 1);
    wait_for(|| client_rx.burst(&mut burst) == 1);
    assert_eq!(burst[0].data(), b"to the server, in at least one burst");

    drop((
        burst, client_rx, client_tx, client, server_rx, server_tx, server,
    ));
    assert_all_free(&pool);
}

fn up(port: &Port) -> bool {
    port.link().unwrap().up
}

/// The two ends shake hands on DPDK's own thread.
fn wait_for(mut done: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("two seconds have passed");
}
