//! Two ends of a shared memory link, as between two processes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::os::unix::net::UnixListener;
use std::sync::Mutex;

use common::{assert_all_free, eal, open, packet, pool, send, start, wait_for};
use dpdk::{Burst, Device, Port, PortConfig, PortError};

/// What was logged.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

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
        queues: 1,
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

    // Ends that differ in their queues do not connect, and it is said.
    assert!(dpdk::log::forward_to(|_, line| SAID
        .lock()
        .unwrap()
        .push(line.to_owned())));
    let two = Device::Memif {
        socket: socket.clone(),
        server: true,
        id: 7,
        queues: 2,
    };
    let config = PortConfig {
        queues: 2,
        ..PortConfig::default()
    };
    let mut server = Port::open(&eal, &two, 2, &config, &pool).unwrap();
    let server_queues = server.start().unwrap();
    let mut client = open(&eal, &end(false), 3, &pool);
    let client_queues = start(&mut client);
    wait_for(|| {
        let said = SAID.lock().unwrap();
        said.iter()
            .any(|line| line.contains("has 1 queues towards us and 1 from us, we have 2"))
    });
    assert!(!up(&server) && !up(&client));
    drop((server_queues, server, client_queues, client));
    assert_all_free(&pool);

    // What cannot be says why.
    let wrong = |device: &Device| {
        let opened = Port::open(&eal, device, 4, &PortConfig::default(), &pool);
        opened.unwrap_err()
    };
    for server in [true, false] {
        let error = wrong(&Device::Memif {
            socket: dir.path().join("no/such/memif.sock"),
            server,
            id: 7,
            queues: 1,
        });
        assert!(
            matches!(&error, PortError::NoSocketDirectory { directory, .. } if directory.ends_with("no/such")),
            "{error}"
        );
    }
    std::fs::write(&socket, "somebody's").unwrap();
    let error = wrong(&end(true)).to_string();
    assert!(error.contains("what is there is no socket"), "{error}");
    assert!(socket.exists());
    std::fs::remove_file(&socket).unwrap();
    let _theirs = UnixListener::bind(&socket).unwrap();
    let error = wrong(&end(true)).to_string();
    assert!(error.contains("another process listens there"), "{error}");
}

fn up(port: &Port) -> bool {
    port.link().unwrap().up
}
