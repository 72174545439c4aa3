//! What the tests share. DPDK starts once a process, so each file has one environment and one test.

#![allow(dead_code, reason = "each test file uses its part")]

use std::time::{Duration, Instant};

use dpdk::{Burst, Device, Eal, EalConfig, Mbuf, Mempool, MempoolConfig, Port, PortConfig};
use dpdk::{RxQueue, TxQueue};

pub(crate) const PACKETS: u32 = 4095;

/// An environment without PCI, hugepages or privileges.
pub(crate) fn eal() -> Eal {
    Eal::init(&EalConfig {
        memory_mib: 64,
        ..EalConfig::default()
    })
    .unwrap()
}

pub(crate) fn pool(eal: &Eal) -> Mempool {
    let config = MempoolConfig {
        name: "test".into(),
        count: PACKETS,
        ..MempoolConfig::default()
    };
    let pool = Mempool::new(eal, &config).unwrap();
    assert_all_free(&pool);
    pool
}

/// The leak check: every packet is back.
pub(crate) fn assert_all_free(pool: &Mempool) {
    assert_eq!((pool.available(), pool.in_use()), (PACKETS as usize, 0));
}

pub(crate) fn open(eal: &Eal, device: &Device, index: u16, pool: &Mempool) -> Port {
    Port::open(eal, device, index, &PortConfig::default(), pool).unwrap()
}

/// Starts a port with one queue pair.
pub(crate) fn start(port: &mut Port) -> (RxQueue, TxQueue) {
    let mut queues = port.start().unwrap();
    assert_eq!(queues.len(), 1);
    queues.pop().unwrap()
}

pub(crate) fn packet(pool: &Mempool, bytes: &[u8]) -> Mbuf {
    let mut packet = pool.alloc().unwrap();
    packet
        .extend_back(bytes.len())
        .unwrap()
        .copy_from_slice(bytes);
    packet
}

pub(crate) fn send(tx: &mut TxQueue, packet: Mbuf) {
    let mut burst = Burst::<32>::new();
    burst.push(packet);
    assert_eq!(tx.burst(&mut burst), 1);
}

/// Something that goes through, after what was lost while rings were made.
pub(crate) fn goes(text: &[u8], tx: &mut TxQueue, rx: &mut RxQueue, pool: &Mempool) {
    let mut burst = Burst::<32>::new();
    wait_for(|| {
        let mut sent = Burst::<32>::new();
        sent.push(packet(pool, text));
        tx.burst(&mut sent);
        rx.burst(&mut burst) > 0
    });
    assert_eq!(burst.first().map(Mbuf::data), Some(text));
}

/// What two ends do on DPDK's own threads takes its time; those of vhost-user try once a second.
pub(crate) fn wait_for(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "ten seconds have passed");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
