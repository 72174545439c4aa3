//! Ends of shared memory that go while workers are busy in it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::{assert_all_free, eal, open, pool, start, wait_for};
use dpdk::{Burst, Device};

#[test]
fn memif_gone() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("memif.sock");
    let eal = eal();
    let pool = pool(&eal);
    let end = |server| Device::Memif {
        socket: socket.clone(),
        server,
        id: 0,
        queues: 1,
    };
    let mut server = open(&eal, &end(true), 0, &pool);
    let (mut rx, mut tx) = start(&mut server);
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (ends, pool, eal) = (&ends, &pool, &eal);
        let works = || !ends.load(Ordering::Relaxed);
        scope.spawn(move || {
            let mut burst = Burst::<32>::new();
            while works() {
                rx.burst(&mut burst);
                while burst.pop().is_some() {}
            }
        });
        scope.spawn(move || {
            let mut burst = Burst::<32>::new();
            while works() {
                while burst.len() < 32
                    && let Some(mut packet) = pool.alloc()
                {
                    packet.extend_back(1400);
                    burst.push(packet);
                }
                tx.burst(&mut burst);
            }
        });
        // Others who want the processors, so that workers are interrupted anywhere.
        for _ in 0..2 {
            scope.spawn(move || while works() {});
        }
        for index in 1..25 {
            let mut client = open(eal, &end(false), index, pool);
            let (mut client_rx, mut client_tx) = start(&mut client);
            wait_for(|| server.link().unwrap().up && client.link().unwrap().up);
            let mut burst = Burst::<32>::new();
            wait_for(|| client_rx.burst(&mut burst) > 0);
            client_tx.burst(&mut burst);
            drop((burst, client_rx, client_tx, client));
            wait_for(|| !server.link().unwrap().up);
        }
        ends.store(true, Ordering::Relaxed);
    });
    drop(server);
    assert_all_free(&pool);
}
