use super::*;

fn args(device: &Device, index: u16, queues: u16) -> String {
    device.eal_args(index, queues, 1500).unwrap()
}

#[test]
fn each_device_becomes_its_drivers_arguments() {
    let iface = || "mag1-core".to_owned();
    assert_eq!(
        args(&Device::Tap { iface: iface() }, 0, 2),
        "net_tap0,iface=mag1-core"
    );
    assert_eq!(
        args(&Device::AfPacket { iface: iface() }, 1, 2),
        "net_af_packet1,iface=mag1-core,qpairs=2"
    );
    assert_eq!(
        args(&Device::AfXdp { iface: iface() }, 2, 4),
        "net_af_xdp2,iface=mag1-core,start_queue=0,queue_count=4"
    );
    let pcap = Device::Pcap {
        input: "/tmp/in.pcap".into(),
        output: "out.pcap".into(),
    };
    assert_eq!(
        args(&pcap, 3, 1),
        "net_pcap3,rx_pcap=/tmp/in.pcap,tx_pcap=out.pcap"
    );
    assert_eq!(args(&Device::Null { size: 64 }, 4, 1), "net_null4,size=64");
    assert_eq!(args(&Device::Ring, 5, 1), "net_ring5");
    assert_eq!(
        args(
            &Device::Pci {
                address: "0000:3b:00.0".into()
            },
            6,
            1
        ),
        "0000:3b:00.0"
    );
    let raw = "net_vhost0,iface=/run/vhost.sock";
    assert_eq!(args(&Device::Vdev(raw.into()), 7, 1), raw);
}

#[test]
fn a_memif_socket_is_a_path_or_abstract() {
    let path = Device::Memif {
        socket: "/run/m.sock".into(),
        server: true,
        id: 3,
        queues: 1,
    };
    assert_eq!(
        args(&path, 0, 1),
        "net_memif0,role=server,id=3,socket=/run/m.sock,socket-abstract=no,bsize=2048"
    );
    let hidden = Device::Memif {
        socket: "@lab".into(),
        server: false,
        id: 0,
        queues: 1,
    };
    assert_eq!(
        args(&hidden, 1, 1),
        "net_memif1,role=client,id=0,socket=lab,socket-abstract=yes,bsize=2048"
    );
}

#[test]
fn the_largest_packet_fits_one_buffer_of_memif() {
    let device = Device::Memif {
        socket: "/run/m.sock".into(),
        server: true,
        id: 0,
        queues: 2,
    };
    assert_eq!(device.max_queues(), 2);
    for (mtu, buffer) in [(1280, 2048), (2030, 2048), (2031, 2112), (9000, 9024)] {
        let args = device.eal_args(0, 1, mtu).unwrap();
        assert!(args.ends_with(&format!(",bsize={buffer}")), "{args}");
    }
}

#[test]
fn each_end_of_a_virtio_device_has_its_driver() {
    let socket = || PathBuf::from("/run/v.sock");
    for (server, client) in [(true, 0), (false, 1)] {
        let back = Device::VhostUser {
            socket: socket(),
            server,
            queues: 4,
        };
        assert_eq!(back.max_queues(), 4);
        assert_eq!(
            args(&back, 0, 2),
            format!("net_vhost0,iface=/run/v.sock,queues=2,client={client},tso=0")
        );
    }
    let front = Device::VirtioUser {
        socket: socket(),
        queues: 1,
    };
    assert_eq!(
        args(&front, 3, 1),
        "net_virtio_user3,path=/run/v.sock,queues=1,queue_size=1024,server=1,mrg_rxbuf=0"
    );
    // A driver whose plugin is called otherwise.
    assert_eq!(missing_driver("net_virtio_user"), None);
}

#[test]
fn names_that_cannot_be_are_refused_with_the_reason() {
    let refused = |name: &str| {
        Device::Tap { iface: name.into() }
            .eal_args(0, 1, 1500)
            .map_err(|error| error.to_string())
    };
    assert!(refused("fifteen-letters").is_ok());
    for (name, why) in [
        ("", "is empty"),
        ("..", "is reserved"),
        ("sixteen-letters!", "longer than 15"),
        ("a b", "visible ASCII"),
        ("a,mac=fixed", "one of / : , %"),
        ("a/b", "one of / : , %"),
        ("tap%d", "one of / : , %"),
    ] {
        let error = refused(name).unwrap_err();
        assert!(error.contains(why), "{name:?}: {error}");
    }
}

#[test]
fn an_argument_cannot_be_smuggled_in_a_path() {
    let pcap = Device::Pcap {
        input: "a,infinite_rx=1".into(),
        output: "b".into(),
    };
    assert!(matches!(
        pcap.eal_args(0, 1, 1500),
        Err(DeviceError::Path { .. })
    ));
}

#[test]
fn a_capture_file_has_one_queue() {
    let pcap = Device::Pcap {
        input: "a".into(),
        output: "b".into(),
    };
    assert!(matches!(
        pcap.eal_args(0, 2, 1500),
        Err(DeviceError::OneQueue { queues: 2, .. })
    ));
}

#[test]
fn pci_addresses_and_raw_vdevs_are_checked() {
    for bad in [
        "3b:00.0",
        "0000:3b:00.8",
        "0000:3b:00",
        "0000:xb:00.0",
        "0000:3b:00.0,a=b",
        "",
    ] {
        let device = Device::Pci {
            address: bad.into(),
        };
        assert!(
            matches!(device.eal_args(0, 1, 1500), Err(DeviceError::Pci { .. })),
            "{bad}"
        );
    }
    for bad in ["", "null", "net null,size=1", "--no-huge"] {
        let device = Device::Vdev(bad.into());
        assert!(
            matches!(device.eal_args(0, 1, 1500), Err(DeviceError::Vdev { .. })),
            "{bad}"
        );
    }
}

#[test]
fn a_plugin_that_is_not_there_is_named_by_its_package() {
    assert_eq!(missing_plugin("mempool_ring"), None);
    let Some(MissingDriver::Plugin {
        library, package, ..
    }) = missing_plugin("net_no_such")
    else {
        panic!("there is none");
    };
    assert_eq!(library, "librte_net_no_such.so");
    assert_eq!(
        package,
        format!("librte-net-no-such{}", dpdk_sys::RTE_VER_YEAR + 1)
    );
}

#[test]
fn a_driver_that_is_not_linked_in_is_named() {
    let linked = ["mempool_ring", "net_virtio"];
    assert_eq!(not_linked("net_virtio", &linked), None);
    let missing = not_linked("net_mlx5", &linked).unwrap().to_string();
    assert!(missing.contains("net_mlx5 is not linked"), "{missing}");
}

/// Whichever way it is linked.
#[test]
fn the_drivers_of_all_devices_are_there() {
    for driver in [
        "mempool_ring",
        "net_tap",
        "net_af_packet",
        "net_af_xdp",
        "net_pcap",
        "net_null",
        "net_ring",
        "net_memif",
        "net_vhost",
        "net_virtio_user",
    ] {
        assert_eq!(missing_driver(driver), None);
    }
    assert!(missing_driver("net_no_such").is_some());
}
