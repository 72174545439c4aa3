//! A TAP port whose kernel end is a bridge port, as in a lab or behind a virtual machine.
//!
//! ```text
//! TAP port ═ tap0 ── br0 ── veth0 ═ veth1 ═ packet socket port
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

mod common;

use std::process::Command;
use std::thread;
use std::time::Duration;

use common::{assert_all_free, eal, is_root, packet, pool, send};
use dpdk::{Burst, Device, Eal, Mempool, Port, PortConfig, RxQueue, TxQueue};
use nix::sched::{CloneFlags, unshare};

const MAG_ACCESS: [u8; 6] = [0x00, 0x00, 0x5e, 0x00, 0x52, 0x13];
const OTHER: [u8; 6] = [0x02, 0, 0, 0, 0, 0xaa];
/// For local experiments (RFC 5342 appendix B.2): the kernel does not send these.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

#[test]
fn tap() {
    if !is_root() {
        println!("skipped: TAP and namespaces need root");
        return;
    }
    // A namespace of this thread's and its children's: it goes with them.
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    ip("link add veth0 type veth peer name veth1");
    ip("link add br0 type bridge");
    for link in ["veth0", "veth1", "br0"] {
        ip(&format!("link set {link} up"));
    }
    ip("link set veth0 master br0");

    let eal = eal();
    let pool = pool(&eal);
    for (index, mac) in [(0, None), (2, Some(MAG_ACCESS))] {
        frames_cross_the_bridge(&eal, &pool, index, mac);
        assert_all_free(&pool);
    }
    two_queues(&eal, &pool);
    assert_all_free(&pool);
}

fn frames_cross_the_bridge(eal: &Eal, pool: &Mempool, index: u16, mac: Option<[u8; 6]>) {
    let tap = Device::Tap {
        iface: "tap0".into(),
    };
    let config = PortConfig {
        mac,
        mtu: 1400,
        ..PortConfig::default()
    };
    let mut tap = Port::open(eal, &tap, index, &config, pool).unwrap();
    let (mut tap_rx, mut tap_tx) = common::start(&mut tap);
    ip("link set tap0 master br0");
    ip("link set tap0 up");
    assert_eq!(tap_link("mtu"), "1400");
    let wire = Device::AfPacket {
        iface: "veth1".into(),
    };
    let config = PortConfig {
        mac: Some(OTHER),
        ..PortConfig::default()
    };
    let mut wire = Port::open(eal, &wire, index + 1, &config, pool).unwrap();
    let (mut wire_rx, mut wire_tx) = common::start(&mut wire);

    let station = tap.mac();
    let kernel = kernel_mac();
    assert_eq!(station, mac.unwrap_or(station));
    assert_ne!(station, kernel);
    assert_eq!(station[0] & 1, 0);

    // Out, so that the bridge learns where the station is; and back.
    send(&mut tap_tx, packet(pool, &frame(OTHER, station, b'>')));
    assert_eq!(receive(&mut wire_rx), Some(b'>'));
    send(&mut wire_tx, packet(pool, &frame(station, OTHER, b'<')));
    assert_eq!(receive(&mut tap_rx), Some(b'<'));
    // Why the station has an address of its own: the bridge keeps frames for its ports'.
    send(&mut wire_tx, packet(pool, &frame(kernel, OTHER, b'x')));
    assert_eq!(receive(&mut tap_rx), None);
    // Neighbour discovery begins with multicast.
    send(
        &mut wire_tx,
        packet(pool, &frame([0x33, 0x33, 0, 0, 0, 1], OTHER, b'*')),
    );
    assert_eq!(receive(&mut tap_rx), Some(b'*'));
    assert!(tap.stats().unwrap().rx_packets >= 2);
}

/// Each worker sends on its own queue; what the kernel sends arrives at one of them.
fn two_queues(eal: &Eal, pool: &Mempool) {
    let tap = Device::Tap {
        iface: "tap0".into(),
    };
    let config = PortConfig {
        queues: 2,
        ..PortConfig::default()
    };
    let mut tap = Port::open(eal, &tap, 4, &config, pool).unwrap();
    let queues = tap.start().unwrap();
    ip("link set tap0 master br0");
    let wire = Device::AfPacket {
        iface: "veth1".into(),
    };
    let mut wire = Port::open(eal, &wire, 5, &PortConfig::default(), pool).unwrap();
    let (mut wire_rx, mut wire_tx) = common::start(&mut wire);
    let station = tap.mac();

    let send_one = |(rx, mut tx): (RxQueue, TxQueue)| {
        let marker = b'0' + u8::try_from(tx.index()).unwrap();
        let sender = thread::spawn({
            let pool = pool.clone();
            move || send(&mut tx, packet(&pool, &frame(OTHER, station, marker)))
        });
        sender.join().unwrap();
        (rx, marker)
    };
    let mut receivers = Vec::new();
    for pair in queues {
        let (rx, marker) = send_one(pair);
        assert_eq!(receive(&mut wire_rx), Some(marker));
        receivers.push(rx);
    }
    send(&mut wire_tx, packet(pool, &frame(station, OTHER, b'<')));
    let got: Vec<u8> = receivers.iter_mut().filter_map(receive).collect();
    assert_eq!(got, b"<");
}

fn frame(to: [u8; 6], from: [u8; 6], marker: u8) -> Vec<u8> {
    [&to[..], &from, &ETHERTYPE, &[marker; 50]].concat()
}

/// The marker of the next frame of ours, if one comes within half a second.
fn receive(rx: &mut RxQueue) -> Option<u8> {
    for _ in 0..500 {
        let mut burst = Burst::<1>::new();
        if rx.burst(&mut burst) == 0 {
            thread::sleep(Duration::from_millis(1));
        } else if burst[0].data()[12..14] == ETHERTYPE {
            return Some(burst[0].data()[14]);
        }
    }
    None
}

fn kernel_mac() -> [u8; 6] {
    let text = tap_link("link/ether");
    let bytes: Vec<u8> = text
        .split(':')
        .map(|hex| u8::from_str_radix(hex, 16).unwrap())
        .collect();
    bytes.try_into().unwrap()
}

/// From `ip link`, since /sys shows the network namespace it was mounted in.
fn tap_link(key: &str) -> String {
    let output = Command::new("ip")
        .args(["-o", "link", "show", "tap0"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words = text.split_whitespace().skip_while(|word| *word != key);
    words.nth(1).unwrap().to_owned()
}

fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .unwrap();
    assert!(status.success(), "ip {arguments}");
}
