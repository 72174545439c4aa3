//! Two workers on a null port; packets and their memory.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

mod common;

use std::thread;

use common::{PACKETS, assert_all_free, eal, packet, pool};
use dpdk::{
    Burst, Device, Eal, EalConfig, EalError, Mempool, Port, PortConfig, PortError,
    RegisteredThread, ThreadError,
};
use nix::sched::sched_getaffinity;
use nix::unistd::Pid;

#[test]
fn null() {
    let before = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let eal = eal();
    assert_eq!(
        sched_getaffinity(Pid::from_raw(0)).unwrap(),
        before,
        "init must not pin us"
    );
    let again = Eal::init(&EalConfig::default());
    assert!(matches!(again, Err(EalError::AlreadyInitialised)));

    let pool = pool(&eal);
    edges_move(&pool);
    bursts_keep_order(&pool);
    the_pool_runs_dry_and_recovers(&pool);
    assert_all_free(&pool);

    two_workers(&eal, &pool);
    assert_all_free(&pool);

    // Everything is dropped: the environment goes too, and cannot come back.
    drop(pool);
    drop(eal);
    let again = Eal::init(&EalConfig::default());
    assert!(matches!(again, Err(EalError::AlreadyInitialised)));
}

fn edges_move(pool: &Mempool) {
    let mut mbuf = packet(pool, b"payload");
    let room = usize::from(pool.config().data_room);
    assert_eq!(
        (mbuf.len(), mbuf.headroom(), mbuf.tailroom()),
        (7, 128, room - 7)
    );
    assert!(mbuf.is_contiguous() && !mbuf.is_empty());

    mbuf.prepend(3).unwrap().copy_from_slice(b"hd:");
    assert_eq!(mbuf.data(), b"hd:payload");
    mbuf.data_mut()[0] = b'H';
    assert!(mbuf.trim_back(4));
    assert_eq!(mbuf.data(), b"Hd:pay");
    assert!(mbuf.trim_front(2));
    assert_eq!(
        (mbuf.data(), mbuf.len(), mbuf.headroom()),
        (&b":pay"[..], 4, 127)
    );

    // What does not fit changes nothing.
    assert!(mbuf.prepend(128).is_none() && mbuf.prepend(usize::MAX).is_none());
    assert!(mbuf.extend_back(room).is_none() && mbuf.extend_back(65_536).is_none());
    assert!(!mbuf.trim_front(5) && !mbuf.trim_back(5) && !mbuf.trim_front(65_540));
    assert_eq!(mbuf.data(), b":pay");

    // To the very edges, and down to nothing.
    assert_eq!(mbuf.prepend(127).unwrap().len(), 127);
    let tail = mbuf.tailroom();
    assert_eq!(mbuf.extend_back(tail).unwrap().len(), tail);
    assert_eq!(
        (mbuf.len(), mbuf.headroom(), mbuf.tailroom()),
        (128 + room, 0, 0)
    );
    assert!(mbuf.trim_front(128 + room) && mbuf.is_empty());
    mbuf.prefetch();
}

fn bursts_keep_order(pool: &Mempool) {
    let mut burst = Burst::<4>::new();
    for byte in b"abcd" {
        burst.push(packet(pool, &[*byte]));
    }
    let refused = burst.try_push(packet(pool, b"e")).unwrap_err().element();
    assert_eq!(refused.data(), b"e");
    let read = |burst: &Burst<4>| burst.iter().map(|mbuf| mbuf.data()[0]).collect::<Vec<_>>();
    assert_eq!(read(&burst), b"abcd");
    assert_eq!(burst.swap_remove(1).data(), b"b");
    assert_eq!(read(&burst), b"adc");
    burst.swap(0, 2);
    assert_eq!(burst.pop().unwrap().data(), b"a");
    let drained: Vec<u8> = burst.drain(..).map(|mbuf| mbuf.data()[0]).collect();
    assert_eq!(drained, b"cd");
    assert!(burst.is_empty());

    drop(refused);
    assert!(pool.alloc_bulk(&mut burst, 3));
    assert!(!pool.alloc_bulk(&mut burst, 2), "one place is left");
    assert_eq!((burst.len(), pool.in_use()), (3, 3));
    burst.clear();
    assert_all_free(pool);
}

fn the_pool_runs_dry_and_recovers(pool: &Mempool) {
    let all: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!(all.len(), PACKETS as usize);
    assert_eq!(pool.available(), 0);
    let mut burst = Burst::<32>::new();
    assert!(!pool.alloc_bulk(&mut burst, 1) && burst.is_empty());
    // Freed by another thread, one that DPDK does not know.
    thread::scope(|scope| {
        scope.spawn(|| drop(all));
    });
    assert_all_free(pool);
}

fn two_workers(eal: &Eal, pool: &Mempool) {
    const BURSTS: u64 = 1000;
    let config = PortConfig {
        queues: 2,
        ..PortConfig::default()
    };
    let mut port = Port::open(eal, &Device::Null { size: 90 }, 0, &config, pool).unwrap();
    assert_eq!(
        (port.name(), port.mtu(), port.queues()),
        ("net_null0", 1500, 2)
    );
    let queues = port.start().unwrap();
    assert!(matches!(port.start(), Err(PortError::Started { .. })));
    assert!(port.link().unwrap().up);

    let workers: Vec<_> = queues
        .into_iter()
        .map(|(mut rx, mut tx)| {
            let eal = eal.handle();
            thread::spawn(move || {
                let _registered = RegisteredThread::new(&eal).unwrap();
                let twice = RegisteredThread::new(&eal);
                assert!(matches!(twice, Err(ThreadError::Registered)));
                let mut burst = Burst::<32>::new();
                for _ in 0..BURSTS {
                    assert_eq!(rx.burst(&mut burst), 32);
                    assert_eq!(rx.burst(&mut burst), 0, "a full burst takes no more");
                    assert!(
                        burst
                            .iter()
                            .all(|mbuf| mbuf.len() == 90 && mbuf.headroom() == 128)
                    );
                    assert_eq!(tx.burst(&mut burst), 32);
                    assert!(burst.is_empty());
                }
                // The last burst is dropped here, with packets in it.
                rx.burst(&mut burst);
                assert_eq!((rx.index(), rx.port_name()), (tx.index(), "net_null0"));
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    let stats = port.stats().unwrap();
    assert_eq!(stats.rx_packets, 2 * (BURSTS + 1) * 32);
    assert_eq!(stats.tx_packets, 2 * BURSTS * 32);
}
