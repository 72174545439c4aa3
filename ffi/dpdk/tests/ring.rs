//! What a ring port is sent comes back, and what it does not take stays with the sender.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

mod common;

use common::{assert_all_free, eal, open, packet, pool, start};
use dpdk::{Burst, Device, Port, PortConfig};

#[test]
fn ring() {
    let eal = eal();
    let pool = pool(&eal);
    let mut port = open(&eal, &Device::Ring, 0, &pool);
    let (mut rx, mut tx) = start(&mut port);

    let mut sent = 0_u32;
    let mut burst = Burst::<32>::new();
    // The ring fills in the middle of a burst: its capacity is not a multiple of 32.
    while burst.is_empty() {
        while !burst.is_full() {
            burst.push(packet(&pool, &sent.to_be_bytes()));
            sent += 1;
        }
        tx.burst(&mut burst);
    }
    let left: Vec<u32> = burst.iter().map(|mbuf| number(mbuf.data())).collect();
    let taken = sent - u32::try_from(left.len()).unwrap();
    assert_eq!(
        left,
        (taken..sent).collect::<Vec<_>>(),
        "the rest is left, in order"
    );
    assert_eq!(tx.burst(&mut burst), 0);
    assert_eq!(pool.in_use(), sent as usize);

    let mut received = Burst::<32>::new();
    let mut next = 0;
    while rx.burst(&mut received) > 0 {
        for mbuf in received.drain(..) {
            assert_eq!(number(mbuf.data()), next);
            next += 1;
        }
    }
    assert_eq!(next, taken);

    // Now the rest goes, and stays in the ring when the port closes.
    let rest = burst.len();
    assert_eq!(tx.burst(&mut burst), rest);
    assert_eq!(pool.in_use(), rest);
    let mut back = Burst::<32>::new();
    assert_eq!(rx.burst(&mut back), rest);
    drop((back, rx, tx, port));
    assert_all_free(&pool);

    // The name is free again once the last owner is gone.
    let config = PortConfig {
        mac: Some([2, 0, 0, 0, 0, 1]),
        ..PortConfig::default()
    };
    let port = Port::open(&eal, &Device::Ring, 0, &config, &pool).unwrap();
    assert_eq!(port.mac(), [2, 0, 0, 0, 0, 1]);
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().unwrap())
}
