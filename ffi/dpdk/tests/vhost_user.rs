//! A virtio device whose front end and back end are two ports, as in two processes.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::os::unix::net::UnixListener;

use common::{assert_all_free, eal, goes, open, packet, pool, send, start, wait_for};
use dpdk::{Burst, Device, Port};

fn up(port: &Port) -> bool {
    port.link().unwrap().up
}

#[test]
fn vhost_user() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("vhost.sock");
    let eal = eal();
    let pool = pool(&eal);
    let front = Device::VirtioUser {
        socket: socket.clone(),
        queues: 1,
    };
    let back = Device::VhostUser {
        socket: socket.clone(),
        server: false,
        queues: 1,
    };

    // The front end starts without a back end, where a killed process has been.
    drop(UnixListener::bind(&socket).unwrap());
    let mut virtio = open(&eal, &front, 0, &pool);
    let (mut virtio_rx, mut virtio_tx) = start(&mut virtio);
    wait_for(|| !up(&virtio));
    let large: Vec<u8> = (0..=255).cycle().take(1514).collect();
    for index in 1..3 {
        let mut vhost = open(&eal, &back, index, &pool);
        let (mut vhost_rx, mut vhost_tx) = start(&mut vhost);
        assert_ne!(vhost.mac(), virtio.mac());
        wait_for(|| up(&virtio) && up(&vhost));
        for text in [b"a frame that is short".as_slice(), &large] {
            goes(text, &mut virtio_tx, &mut vhost_rx, &pool);
            goes(text, &mut vhost_tx, &mut virtio_rx, &pool);
        }
        drop((vhost_rx, vhost_tx, vhost));
        wait_for(|| !up(&virtio));
    }
    drop((virtio_rx, virtio_tx, virtio));
    assert!(!socket.exists(), "the front end takes its socket along");

    // The back end starts without a front end, and goes on waiting.
    let mut vhost = open(&eal, &back, 3, &pool);
    let (mut vhost_rx, mut vhost_tx) = start(&mut vhost);
    assert!(!up(&vhost));
    let mut burst = Burst::<32>::new();
    burst.push(packet(&pool, b"to nobody"));
    assert_eq!(vhost_tx.burst(&mut burst), 0);
    drop(burst);
    let mut virtio = open(&eal, &front, 4, &pool);
    let (mut virtio_rx, mut virtio_tx) = start(&mut virtio);
    wait_for(|| up(&virtio) && up(&vhost));
    goes(
        b"a frame that goes up",
        &mut virtio_tx,
        &mut vhost_rx,
        &pool,
    );
    goes(
        b"a frame that goes down",
        &mut vhost_tx,
        &mut virtio_rx,
        &pool,
    );
    drop((virtio_rx, virtio_tx, virtio, vhost_rx, vhost_tx, vhost));
    assert_all_free(&pool);

    // The other way round: the back end listens, for front ends that connect once.
    drop(UnixListener::bind(&socket).unwrap());
    let listening = Device::VhostUser {
        socket: socket.clone(),
        server: true,
        queues: 1,
    };
    let mut vhost = open(&eal, &listening, 5, &pool);
    let (mut vhost_rx, mut vhost_tx) = start(&mut vhost);
    let connecting = format!("net_virtio_user6,path={}", socket.display());
    let mut virtio = open(&eal, &Device::Vdev(connecting), 6, &pool);
    let (mut virtio_rx, mut virtio_tx) = start(&mut virtio);
    wait_for(|| up(&virtio) && up(&vhost));
    goes(
        b"another one that goes up",
        &mut virtio_tx,
        &mut vhost_rx,
        &pool,
    );
    goes(
        b"another one that goes down",
        &mut vhost_tx,
        &mut virtio_rx,
        &pool,
    );
    send(&mut vhost_tx, packet(&pool, b"on its way at the end"));
    drop((virtio_rx, virtio_tx, virtio, vhost_rx, vhost_tx, vhost));
    assert!(!socket.exists());
    assert_all_free(&pool);
}
