//! A virtio device whose rings and packets are on hugepages, which its front end has to hand over as few descriptors.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;

use common::{assert_all_free, goes, is_root, open, pool, start, wait_for};
use dpdk::{Device, Eal, EalConfig, Memory};

const RESERVED: &str = "/proc/sys/vm/nr_hugepages";
const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
/// Of 2 MiB: what the environment takes.
const PAGES: u64 = 32;

fn number(path: impl AsRef<Path>) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Hugepages for the time of the test.
struct Reservation;

impl Reservation {
    /// None if the machine has none to give.
    fn new() -> Option<Self> {
        let before = number(RESERVED)?;
        fs::write(RESERVED, (before + PAGES).to_string()).ok()?;
        let reservation = Self;
        (number(FREE)? >= PAGES).then_some(reservation)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // Others may have taken or given some meanwhile.
        let left = number(RESERVED).map(|now| now.saturating_sub(PAGES));
        // Nothing else can be done about it.
        let _ = left.map(|left| fs::write(RESERVED, left.to_string()));
    }
}

#[test]
fn vhost_user_on_hugepages() {
    if !is_root() {
        println!("left out: hugepages need root");
        return;
    }
    let Some(_reservation) = Reservation::new() else {
        println!("left out: no hugepages are free");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("vhost.sock");
    let eal = Eal::init(&EalConfig {
        memory: Memory::Hugepages,
        memory_mib: 64,
        ..EalConfig::default()
    })
    .unwrap();
    let pool = pool(&eal);
    let front = Device::VirtioUser {
        socket: socket.clone(),
        queues: 1,
    };
    let back = Device::VhostUser {
        socket,
        server: false,
        queues: 1,
    };
    let mut virtio = open(&eal, &front, 0, &pool);
    let (mut virtio_rx, mut virtio_tx) = start(&mut virtio);
    let mut vhost = open(&eal, &back, 1, &pool);
    let (mut vhost_rx, mut vhost_tx) = start(&mut vhost);
    wait_for(|| virtio.link().unwrap().up && vhost.link().unwrap().up);
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
}
