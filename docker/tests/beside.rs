//! What stands beside flowmob on a system, in one that is booted for them: DPDK's drivers and tools, Open vSwitch with
//! DPDK, NetworkManager. All of them are Debian's.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::booted::{Booted, System};
use crate::common::packages::packages;
use crate::common::page::{self, file, run_by};
use crate::common::{can_run, kept};
use deploy::said;

const PATIENCE: Duration = Duration::from_secs(30);

/// What the documents install.
const TOLD: [&str; 5] = [
    "dpdk",
    "librte-mempool-ring23",
    "librte-net-ice23",
    "openvswitch-switch-dpdk",
    "pciutils",
];

/// The address by which the MAG knows the mobile.
const MN: &str = "02:00:00:00:01:01\n";

#[test]
fn others_do_what_the_documents_tell_them() {
    if !can_run(&["dh", "mmdebstrap", "systemd-nspawn"]) {
        return;
    }
    let packages = packages();
    let system = System::ready_for(&[]);
    let appliance = system.bring(&packages.appliance);
    // What the documents do not install, and most of what the rest needs: it takes less time here.
    system.apt(&format!(
        "install {appliance} iputils-ping network-manager python3"
    ));
    system.apt(&format!("install --download-only {}", TOLD.join(" ")));
    // Each in its turn, and nobody waits for a network.
    let masked = system.path("etc/systemd/system/NetworkManager.service");
    let waits = system.path("etc/systemd/system/NetworkManager-wait-online.service");
    symlink("/dev/null", &masked).unwrap();
    symlink("/dev/null", waits).unwrap();
    // Open vSwitch's service asks for a module of the kernel, which its datapath with DPDK does without.
    symlink("/bin/true", system.path("usr/local/sbin/modprobe")).unwrap();
    let system = system.boot();
    drivers(&system);
    open_vswitch(&system);
    fs::remove_file(masked).unwrap();
    network_manager(&system, &packages.mobile);
}

/// Runs a command of a document until it ends and prints as that says.
#[track_caller]
fn soon_as_told(system: &Booted, command: &page::Command) {
    soon(system, &command.text, |succeeded, printed| {
        command.is_as_told(succeeded, printed)
    });
}

/// Runs a shell command until it prints this.
#[track_caller]
fn soon_says(system: &Booted, shell: &str, part: &str) {
    soon(system, shell, |_, printed| printed.contains(part));
}

#[track_caller]
fn soon(system: &Booted, shell: &str, is_it: impl Fn(bool, &str) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let output = system.command(shell).output().unwrap();
        let printed = said(&output);
        if is_it(output.status.success(), &printed) {
            return;
        }
        assert!(Instant::now() < deadline, "$ {shell}\n{printed}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What docs/hardware.md says of drivers.
fn drivers(system: &Booted) {
    let [commands] = run_by(include_str!("../../docs/hardware.md"), file!());
    for command in &commands {
        system.as_told(command);
    }
}

/// What docs/ports.md says of OVS-DPDK, with an LMA and a MAG on the bridge.
fn open_vswitch(system: &Booted) {
    let page = include_str!("../../docs/ports.md");
    let [installed, started, bridge, asked] = run_by(page, file!());
    for command in &installed {
        system.as_told(command);
    }
    // Hugepages and cards are the whole machine's. Threads need not turn while there is nothing to do.
    system.ok(
        "ovs-vsctl --no-wait set Open_vSwitch . other_config:pmd-maxsleep=500 \
         other_config:per-port-memory=true other_config:dpdk-extra='--no-huge --legacy-mem -m 256 --no-pci'",
    );
    for command in &started {
        system.as_told(command);
    }
    let initialized = system.ok("ovs-vsctl get Open_vSwitch . dpdk_initialized");
    assert_eq!(initialized, "true\n");

    for name in ["lma1", "mag1"] {
        let memif = "memif:/run/flowmob/core.memif";
        let port = format!("virtio-user:/run/flowmob/{name}.vhost");
        let config = file(page, &format!("{name}.toml"));
        assert!(config.contains(memif), "{config}");
        let config = config.replace(&format!("{memif},server"), &port);
        let path = format!("etc/flowmob/{name}.toml");
        fs::write(system.system().path(&path), config.replace(memif, &port)).unwrap();
    }
    system.ok("systemctl start flowmob@lma1 flowmob@mag1");
    for command in &bridge {
        system.as_told(command);
        if command.text.contains("lma1") {
            system.ok(&command.text.replace("lma1", "mag1"));
        }
    }
    for command in &asked {
        soon_as_told(system, command);
    }
    system.ok("flowmob -s /run/flowmob/mag1.sock attach mn1@example.net");
    let bindings = "flowmob -s /run/flowmob/lma1.sock show bindings";
    soon_says(system, bindings, " active ");

    // It is killed, and started again, and both find it.
    let killed = system.ok("pidof ovs-vswitchd");
    system.ok("kill -KILL $(pidof ovs-vswitchd)");
    soon(system, "pidof ovs-vswitchd", |runs, id| {
        runs && id != killed
    });
    for command in &asked {
        soon_as_told(system, command);
    }
    soon_says(system, bindings, " active ");
    system.ok(
        "systemctl stop flowmob@lma1 flowmob@mag1 openvswitch-switch ovs-vswitchd ovsdb-server",
    );
}

/// What docs/mobile-node.md says of NetworkManager. A veth pair stands in for Wi-Fi; at its other end there is a MAG.
fn network_manager(system: &Booted, mobile: &Path) {
    let page = include_str!("../../docs/mobile-node.md");
    let [told, shown] = run_by(page, file!());
    let write = |path: &str, text: &str| fs::write(system.system().path(path), text).unwrap();
    network(system, page);
    system.ok(
        "systemctl daemon-reload && systemctl start NetworkManager && \
         nmcli connection add type ethernet con-name 'My Wi-Fi' ifname wlan0 \
         ipv4.method manual ipv4.addresses 192.0.2.2/24",
    );
    let up = || system.ok("nmcli connection up 'My Wi-Fi'");
    up();
    let mobile = system.system().bring(mobile);
    system.ok(&format!("apt-get install -q {mobile}"));
    write("etc/flowmob/mn.toml", &file(page, "mn.toml"));
    system.ok("systemctl start flowmob-mn");

    // As it is when nobody has told it anything, and as it is where it hides addresses.
    let devices = "nmcli -f DEVICE,STATE,CONNECTION device | tr -s ' '";
    soon_says(system, devices, "lif0 connected (externally)");
    let log = "journalctl -o cat -u flowmob-mn";
    let warning = "others had switched on the kernel's IPv6";
    assert!(!system.ok(log).contains(warning));
    write(
        "etc/NetworkManager/conf.d/30-anon.conf",
        "[connection]\nwifi.cloned-mac-address=stable\nethernet.cloned-mac-address=stable\n",
    );
    system.ok("nmcli general reload");
    up();
    soon_says(system, log, warning);
    let mac = || system.ok("cat /sys/class/net/wlan0/address");
    assert_ne!(mac(), MN);

    write("root/flowmob.conf", &file(page, "flowmob.conf"));
    for command in &told {
        system.as_told(command);
    }
    let disabled = || system.ok("cat /proc/sys/net/ipv6/conf/wlan0/disable_ipv6") == "1\n";
    assert!(disabled());
    for command in &shown {
        soon_as_told(system, command);
    }
    assert_eq!(mac(), MN);
    system.ok("ping -c 2 -i 0.2 -W 5 2001:db8:c::5");
    let access = system.ok("ip -brief address show dev wlan0");
    let is_ipv4 = access.contains(" 192.0.2.2/24") && !access.contains("::");
    assert!(is_ipv4, "{access}");

    // Told otherwise while lif0 is there, it takes that for its own, and its addresses away; they come back.
    let lif0 = "ip -brief address show dev lif0";
    assert!(system.ok(lif0).contains("2001:db8:100::100/64"));
    system.ok("rm /etc/NetworkManager/conf.d/flowmob.conf && nmcli general reload");
    soon_says(
        system,
        log,
        "others had set it down, or taken its addresses",
    );
    soon_says(system, lif0, "2001:db8:100::100/64");
    soon(system, "ping -c 1 -W 1 2001:db8:c::5", |answered, _| {
        answered
    });

    // What it does to an access by itself.
    system.ok("systemctl stop flowmob-mn");
    let connect = |method: &str, before: u8| {
        system.ok(&format!(
            "nmcli connection modify 'My Wi-Fi' ipv6.method {method} && \
             echo {before} > /proc/sys/net/ipv6/conf/wlan0/disable_ipv6"
        ));
        up();
    };
    connect("disabled", 0);
    assert!(disabled());
    connect("auto", 1);
    assert!(!disabled());
}

/// The MAG that a page has, with its LMA and a correspondent node, in a namespace of the system; and a mobile's interface.
fn network(system: &Booted, page: &str) {
    let inside = |path: &str| system.system().path("root").join(path);
    let config = |name: &str, text: String| {
        let socket = format!("[management]\nsocket = \"/root/{name}.sock\"\n");
        fs::write(inside(&format!("{name}.toml")), text + &socket).unwrap();
    };
    config("lma1", file(page, "lma1.toml"));
    let mag = file(page, "mag1.toml");
    assert!(mag.contains("tap:wlan0"), "{mag}");
    config("mag1", mag.replace("tap:wlan0", "af_packet:ap0"));
    // The package of the mobile node takes the other one's away.
    fs::copy(kept().join("flowmob"), inside("flowmob")).unwrap();
    system.ok(
        "set -e
         ip netns add net
         ip -n net link set lo up
         ip link add wlan0 address 02:00:00:00:01:01 type veth peer name ap0 netns net
         ip -n net link set ap0 up
         for name in lma1 mag1; do
             systemd-run -q --unit $name -p NetworkNamespacePath=/run/netns/net /root/flowmob run -c /root/$name.toml
         done",
    );
    soon(
        system,
        "for port in core0 core1 net0; do ip -n net link show $port || exit 1; done",
        |are_there, _| are_there,
    );
    system.ok("set -e
         ip -n net link add br0 up type bridge
         for n in 0 1; do ip -n net link set core$n address 02:fe:00:00:00:0$n up master br0; done
         ip -n net address add 2001:db8:c::5/64 dev net0 nodad
         ip -n net link set net0 up
         ip -n net route add default via 2001:db8:c::1");
}
