//! What goes wrong says what to do.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

mod common;

use std::fmt::Debug;
use std::sync::Mutex;

use common::{eal, is_root, pool};
use dpdk::log::{self, Level};
use dpdk::{
    Device, DeviceError, Eal, EalConfig, EalError, Memory, Mempool, MempoolConfig, MempoolError,
    Port, PortConfig, PortError,
};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Uid, seteuid};

static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[test]
fn errors() {
    // Refused before DPDK is asked: the process may try again.
    let too_much = EalConfig {
        memory_mib: u32::MAX,
        ..EalConfig::default()
    };
    expect(
        Eal::init(&too_much),
        "4294967295 MiB of memory needed",
        |error| matches!(error, EalError::Memory { .. }),
    );
    let hugepages = EalConfig {
        memory: Memory::Hugepages,
        ..too_much
    };
    expect(Eal::init(&hugepages), "sysctl vm.nr_hugepages=", |error| {
        matches!(error, EalError::Hugepages { .. })
    });

    assert!(log::forward_to(|level, line| {
        assert!(level <= Level::Warning, "{line}");
        LOGGED.lock().unwrap().push(line.to_owned());
    }));
    let eal = eal();
    let pool = pool(&eal);
    pools(&eal);
    devices(&eal, &pool);
    limits(&eal, &pool);
    assert!(
        !LOGGED.lock().unwrap().is_empty(),
        "DPDK's lines are forwarded"
    );
    if is_root() {
        privileges(&eal, &pool);
    } else {
        println!("skipped: dropping privileges needs root");
    }
}

/// Checks the kind of an error and that its text helps.
fn expect<T: Debug, E: std::error::Error>(
    result: Result<T, E>,
    text: &str,
    kind: impl Fn(&E) -> bool,
) {
    let error = result.unwrap_err();
    println!("{error}\n");
    assert!(kind(&error), "{error:?}");
    assert!(
        error.to_string().contains(text),
        "{text:?} is not in: {error}"
    );
}

fn pools(eal: &Eal) {
    let new = |name: &str, count, cache| {
        let config = MempoolConfig {
            name: name.into(),
            count,
            cache,
            ..MempoolConfig::default()
        };
        Mempool::new(eal, &config)
    };
    expect(new("large", 1_000_000, 256), "raise memory_mib", |error| {
        matches!(
            error,
            MempoolError::Memory {
                needed_mib: 2000..3000,
                memory_mib: 64,
                ..
            }
        )
    });
    expect(new("test", 63, 0), "exists already", |error| {
        matches!(error, MempoolError::Exists { .. })
    });
    expect(new("cache", 63, 64), "above count / 1.5", |error| {
        matches!(error, MempoolError::Bad { .. })
    });
    expect(new(&"x".repeat(26), 63, 0), "1 to 25 bytes", |error| {
        matches!(error, MempoolError::Bad { .. })
    });
}

fn devices(eal: &Eal, pool: &Mempool) {
    let open = |device| Port::open(eal, &device, 0, &PortConfig::default(), pool);
    let remedy = match dpdk::linked_drivers() {
        None => "apt-get install librte-net-nosuch",
        Some(_) => "net_nosuch is not linked into this program",
    };
    expect(open(Device::Vdev("net_nosuch0".into())), remedy, |error| {
        matches!(error, PortError::NoDriver { .. })
    });
    expect(
        open(Device::Vdev("net_null0,bogus=1".into())),
        "DPDK: ",
        |error| matches!(error, PortError::Probe { .. }),
    );
    expect(
        open(Device::AfPacket {
            iface: "no-such".into(),
        }),
        "ip link",
        |error| matches!(error, PortError::NoInterface { .. }),
    );
    expect(
        open(Device::Tap {
            iface: "longer-than-15-bytes".into(),
        }),
        "15 bytes",
        |error| matches!(error, PortError::Device(DeviceError::Interface { .. })),
    );
    expect(
        open(Device::Pci {
            address: "0000:ff:1f.7".into(),
        }),
        "dpdk-devbind.py",
        |error| matches!(error, PortError::NoCard { .. }),
    );
    let pcap = Device::Pcap {
        input: "/no/such.pcap".into(),
        output: "/dev/null".into(),
    };
    expect(open(pcap), "/no/such.pcap", |error| {
        matches!(error, PortError::Probe { .. })
    });
}

fn limits(eal: &Eal, pool: &Mempool) {
    let null = Device::Null { size: 64 };
    let open = |config| Port::open(eal, &null, 1, &config, pool);
    expect(
        open(PortConfig {
            queues: 5000,
            ..PortConfig::default()
        }),
        "fewer workers",
        |error| matches!(error, PortError::Queues { wanted: 5000, .. }),
    );
    expect(
        open(PortConfig {
            mtu: 9000,
            ..PortConfig::default()
        }),
        "the packet pool",
        |error| matches!(error, PortError::Mtu { max: 2030, .. }),
    );
    expect(
        open(PortConfig {
            mtu: 1279,
            ..PortConfig::default()
        }),
        "1280",
        |error| matches!(error, PortError::Mtu { .. }),
    );
    let mac = Some([0x33, 0x33, 0, 0, 0, 1]);
    expect(
        open(PortConfig {
            mac,
            ..PortConfig::default()
        }),
        "unicast",
        |error| matches!(error, PortError::Mac { .. }),
    );
    // Each failure closed what it had opened: the name is free.
    open(PortConfig {
        mtu: 2030,
        ..PortConfig::default()
    })
    .unwrap();
}

/// Last, since there is no way back.
fn privileges(eal: &Eal, pool: &Mempool) {
    // Were the interface made after all, it would be in a namespace of this thread's.
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    seteuid(Uid::from_raw(65534)).unwrap();
    let tap = Device::Tap {
        iface: "flowmob-priv".into(),
    };
    let opened = Port::open(eal, &tap, 2, &PortConfig::default(), pool);
    expect(opened, "setcap cap_net_admin+ep", |error| {
        matches!(
            error,
            PortError::Privilege {
                capability: "CAP_NET_ADMIN",
                ..
            }
        )
    });
}
