//! flowmob and virtual machines: an anchor in one, on its cards; and an anchor beside one, whose kernel is the gateway.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::common::machine::{Machine, Seed, TOOLS};
use crate::common::namespace::{Namespace, Process};
use crate::common::packages::packages;
use crate::common::page::{self, file, run_by};
use crate::common::traffic::Echo;
use crate::common::{can_run, kept, ok};
use deploy::{leave_out, wait_for};
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_mins(1);
const CN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 5);
const MN: &str = "mn1@example.net";
const TOKEN: &str = "a-token-for-a-test";

fn directory() -> TempDir {
    // Short, as there are sockets in it.
    tempfile::Builder::new().prefix("vm").tempdir().unwrap()
}

/// A process of flowmob's on this machine.
struct Appliance {
    process: Process,
    socket: PathBuf,
}

impl Appliance {
    fn start(namespace: &Namespace, directory: &Path, name: &str, config: &str) -> Self {
        let file = |suffix: &str| directory.join(format!("{name}.{suffix}"));
        let socket = file("sock");
        let config = format!(
            "name = \"{name}\"\nmanagement = {{ socket = \"{}\" }}\n{config}",
            socket.display()
        );
        std::fs::write(file("toml"), config).unwrap();
        let mut command = namespace.command(kept().join("flowmob"));
        command.args(["run", "-c"]).arg(file("toml"));
        let process = Process::start(&mut command, &file("log"));
        let mut appliance = Self { process, socket };
        wait_for(&format!("{name} to be ready"), PATIENCE, || {
            appliance.process.runs();
            appliance.process.log().contains("ready").then_some(())
        });
        appliance
    }

    fn show(&self, table: &str) -> Value {
        let mut command = Command::new(kept().join("flowmob"));
        command.arg("-s").arg(&self.socket);
        serde_json::from_str(&ok(command.args(["show", table, "--json"]))).unwrap()
    }

    /// Packets that have come out of its tunnels.
    fn carried(&self) -> u64 {
        let paths = self.show("paths");
        let count = |row: &Value| row["counters"]["in_packets"].as_u64().unwrap();
        paths.as_array().unwrap().iter().map(count).sum()
    }
}

/// A request to the API of a machine, from where its bridge for management is.
fn ask(namespace: &Namespace, path: &str, body: Option<&Value>) -> Option<Value> {
    let mut command = namespace.command("curl");
    command.args(["-sS", "--fail-with-body", "--max-time", "20"]);
    command.args(["-H", &format!("Authorization: Bearer {TOKEN}")]);
    if let Some(body) = body {
        command.args(["--json", &body.to_string()]);
    }
    let output = command
        .arg(format!("http://192.0.2.10:8090{path}"))
        .output();
    let output = output.unwrap();
    (output.status.success()).then(|| serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
}

/// The address that a mobile has of its prefix.
fn address(prefix: &Value) -> Ipv6Addr {
    let prefix: ipnet::Ipv6Net = prefix.as_str().unwrap().parse().unwrap();
    Ipv6Addr::from(u128::from(prefix.addr()) | 0x100)
}

fn active(bindings: &Value) -> usize {
    let rows = bindings.as_array().unwrap().iter();
    rows.filter(|row| row["state"] == "active").count()
}

const LMA: &str = include_str!("machine/lma.toml");

fn mag(number: u8, access: &str, technology: &str) -> String {
    format!(
        "process = {{ memory_mib = 64 }}\n\
         [[port]]\nname = \"core\"\ndevice = \"tap:core{number}\"\naddresses = [\"2001:db8:f::1{number}/64\"]\n\
         [[port]]\nname = \"{access}\"\ndevice = \"tap:{access}\"\nmtu = 1460\n\
         [mag]\naddress = \"2001:db8:f::1{number}\"\naccess_ports = [\"{access}\"]\ntimestamps = false\n\
         [[mag.peer]]\nname = \"lma\"\naddress = \"2001:db8:f::1\"\nprotection = \"none\"\n\
         [[mag.mobile]]\nid = \"{MN}\"\nlink_layer = \"02:00:00:00:01:0{number}\"\n\
         access_technology = \"{technology}\"\n"
    )
}

#[test]
fn an_anchor_in_a_machine_moves_a_flow_between_gateways_outside() {
    if !can_run(&TOOLS) || !can_run(&["curl", "ping"]) {
        return;
    }
    packages();
    let directory = directory();
    let [core, cn, mn] = [(); 3].map(|()| Namespace::new());
    core.no_ipv6();
    core.ip(
        "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set br0 up",
    );

    // The host's bridge for management.
    core.ip("link add mgmt up type bridge\naddress add 192.0.2.1/24 dev mgmt");
    let page = include_str!("../../docs/virtual-machine.md");
    let [qemu, _] = run_by(page, file!());
    let [list, bind, driverctl, near, slot] = on_cards(IOMMU);
    let seed = Seed::default()
        .network(&file(page, "network-config"))
        .file("/etc/flowmob/lma.toml", LMA)
        .file("/etc/flowmob/token", TOKEN)
        // All but the one for management.
        .file("/etc/flowmob/cards", "virtio-net\n")
        .unpacked(&["dpdk", "driverctl"])
        .told(&list)
        .told(&bind)
        .told(&driverctl)
        .told(&near)
        .told(&slot)
        .start("lma");
    // QEMU's own back ends, which filter multicast as cards do.
    let mut machine = Machine::boot_as_told(&core, directory.path(), seed, &qemu, CARD);
    wait_for("the machine's interfaces", PATIENCE, || {
        (core.has("core0") && core.has("net0")).then_some(())
    });
    core.ip("link set core0 master br0\nlink set core0 up");
    core.ip(&format!("link set net0 netns {}", cn.id()));
    cn.ip(&format!(
        "link set net0 up\naddress add {CN}/64 dev net0 nodad\n\
         route add 2001:db8:100::/48 via 2001:db8:c::1"
    ));

    machine.is_set_up();
    wait_for("the anchor", PATIENCE, || ask(&core, "/readyz", None));
    let mags = [(1, "wlan", "wlan"), (2, "lte", "eutran")].map(|(number, access, technology)| {
        let config = mag(number, access, technology);
        let name = format!("mag{number}");
        let appliance = Appliance::start(&core, directory.path(), &name, &config);
        // A bridge keeps to itself what is for the address of one of its interfaces.
        core.ip(&format!(
            "link set core{number} address 02:fe:00:00:00:0{number}\n\
             link set core{number} master br0\nlink set core{number} up\n\
             link set {access} address 02:00:00:00:01:0{number}\nlink set {access} netns {}",
            mn.id()
        ));
        mn.ip(&format!("link set {access} up"));
        appliance
    });
    let log = "[mn]\ninterface = \"lif0\"\ninterface_id = \"::100\"\n\
               [[mn.access]]\nname = \"wlan\"\ninterface = \"wlan\"\n\
               [[mn.access]]\nname = \"lte\"\ninterface = \"lte\"\n";
    let mobile = Appliance::start(&mn, directory.path(), "mn", log);

    let bindings = wait_for("both accesses", PATIENCE, || {
        ask(&core, "/v1/bindings", None).filter(|bindings| active(bindings) == 2)
    });
    let at = |mag: &str| {
        let mut rows = bindings.as_array().unwrap().iter();
        rows.find(|row| row["peer"] == mag).unwrap()
    };
    let address = address(&at("mag1")["prefixes"][0]);
    wait_for("an address", PATIENCE, || {
        let addresses = mobile.show("mn")["prefixes"].to_string();
        addresses.contains(&address.to_string()).then_some(())
    });
    // Neighbours find each other by multicast: that comes through.
    is_reached(&mn, CN);

    let rule = json!({
        "mn": MN, "fid": 1, "bid": at("mag1")["bid"], "proto": "udp", "sport": "7000",
    });
    ask(&core, "/v1/flows", Some(&rule)).expect("a rule");
    let echo = Echo::start((mn.id(), address, 7001), (cn.id(), CN, 7000));
    let carried = |mag: &Appliance, than: u64| {
        wait_for("the flow at its gateway", PATIENCE, || {
            (mag.carried() > than + 500).then_some(())
        });
    };
    carried(&mags[0], mags[0].carried());
    for to in [1, 0] {
        let before = mags[to].carried();
        let bid = &at(["mag1", "mag2"][to])["bid"];
        let order = json!({"mn": MN, "fid": 1, "bid": bid});
        ask(&core, "/v1/flows/move", Some(&order)).expect("a move");
        carried(&mags[to], before);
    }
    let account = echo.finish();
    assert!(account.sent > 500, "{account:?}");
    assert!(account.lost.is_empty(), "{account:?}");
}

/// A host answers, to packets of a size that is usual.
#[track_caller]
fn is_reached(from: &Namespace, host: Ipv6Addr) {
    wait_for(&format!("an answer of {host}"), PATIENCE, || {
        let mut ping = from.command("ping");
        ping.args(["-c", "1", "-W", "1", "-s", "1200", &host.to_string()]);
        ping.output().unwrap().status.success().then_some(())
    });
}

/// As its kernel and `machine/mag.py` have it.
const KERNELS_CORE: &str = "02:00:00:00:0c:0b";
const KERNELS_ACCESS: &str = "02:00:00:00:0a:0b";

#[test]
fn an_anchor_serves_a_machine_whose_kernel_is_the_gateway() {
    if !can_run(&TOOLS) || !can_run(&["ping"]) {
        return;
    }
    if !Path::new(UEFI).exists() {
        leave_out(format_args!("{UEFI} is missing: .ci/setup"));
        return;
    }
    packages();
    let directory = directory();
    let [host, cn, mn, other] = [(); 4].map(|()| Namespace::new());
    for wire in [&host, &other] {
        wire.ip("link set lo up");
    }
    host.no_ipv6();
    let socket = directory.path().join("vhost");
    let config = format!(
        "process = {{ memory_mib = 64 }}\n\
         [[port]]\nname = \"core\"\ndevice = \"vhost-user:{}\"\naddresses = [\"2001:db8:f::1/64\"]\n\
         [[port]]\nname = \"net\"\ndevice = \"tap:net0\"\naddresses = [\"2001:db8:c::1/64\"]\n\
         [lma]\naddress = \"2001:db8:f::1\"\npools = [\"2001:db8:100::/48\"]\n\
         heartbeat = {{ enabled = false }}\n\
         [[lma.peer]]\nname = \"kernel\"\naddress = \"2001:db8:f::11\"\nprotection = \"none\"\n",
        socket.display()
    );
    let lma = Appliance::start(&host, directory.path(), "lma", &config);
    host.ip(&format!("link set net0 netns {}", cn.id()));
    cn.ip(&format!(
        "link set net0 up\naddress add {CN}/64 dev net0 nodad\n\
         route add 2001:db8:100::/48 via 2001:db8:c::1"
    ));

    // Beside its kernel it has a flowmob, on a card that is behind no IOMMU, as docs/virtual-machine.md says.
    let [_, no_iommu] = run_by(include_str!("../../docs/virtual-machine.md"), file!());
    let [uio, vfio] = on_cards(NO_IOMMU);
    let seed = Seed::default()
        .interface("core", KERNELS_CORE, "2001:db8:f::11/64")
        .file("/root/mag.py", include_str!("machine/mag.py"))
        .file("/etc/flowmob/lma1.toml", OTHER)
        .file("/etc/flowmob/cards", "# the third\n0000:00:13.0\n")
        .run_all(&no_iommu)
        .unpacked(&["dpdk"])
        .told(&uio)
        .told(&vfio)
        .start("lma1")
        .run(&format!("python3 /root/mag.py {MN} core {KERNELS_ACCESS}"));
    // No message-signalled interrupts for the card that is ours: QEMU 7.2 falls over them without KVM.
    let options = format!(
        "-machine q35 -bios {UEFI} {},addr=11,mac={KERNELS_CORE},vectors=0 \
         -netdev tap,id=n2,ifname=access0,script=no,downscript=no -device virtio-net-pci,netdev=n2,addr=12,mac={KERNELS_ACCESS} \
         -netdev tap,id=n3,ifname=other0,script=no,downscript=no -device virtio-net-pci,netdev=n3,addr=13,disable-legacy=on \
         {CARD}",
        card_behind(&socket)
    );
    let mut machine = Machine::boot(&host, directory.path(), seed, &options);
    wait_for("the machine's interfaces", PATIENCE, || {
        (host.has("access0") && host.has("other0")).then_some(())
    });
    host.ip(&format!(
        "link set access0 netns {}\nlink set other0 netns {}",
        mn.id(),
        other.id()
    ));
    machine.is_set_up();
    other.ip("link set other0 up\naddress add 2001:db8:e::5/64 dev other0 nodad");
    is_reached(&other, "2001:db8:e::1".parse().unwrap());

    let bindings = lma.show("bindings");
    assert_eq!(active(&bindings), 1, "{bindings}");
    let prefix = &bindings[0]["prefixes"][0];
    assert!(
        machine
            .console()
            .contains(&format!("accepted: {}", prefix.as_str().unwrap()))
    );
    let address = address(prefix);
    mn.ip(&format!(
        "link set access0 address 02:00:00:00:01:01 mtu 1460 up\n\
         address add {address}/64 dev access0 nodad\nroute add default via fe80::1 dev access0"
    ));
    is_reached(&mn, CN);
    is_reached(&cn, address);
    let echo = Echo::start((mn.id(), address, 7001), (cn.id(), CN, 7000));
    let before = lma.carried();
    wait_for("datagrams through the tunnel", PATIENCE, || {
        (lma.carried() > before + 500).then_some(())
    });
    let account = echo.finish();
    assert!(account.lost.is_empty(), "{account:?}");
}

/// What docs/ports.md tells QEMU, for as much memory as our machine has; a card at the end.
fn card_behind(socket: &Path) -> String {
    let [block] = run_by(include_str!("../../docs/ports.md"), file!());
    let [command] = &block[..] else {
        panic!("{block:?}");
    };
    let (_, options) = command.text.split_once("qemu-system-x86_64 ... ").unwrap();
    let options = options
        .replace("\\\n", " ")
        .replace("/run/flowmob/vm1.vhost", socket.to_str().unwrap());
    assert!(options.contains("size=2G"), "{options}");
    options.replace("size=2G", "size=1024M")
}

/// A card of two ports, in a slot of its own.
const CARD: &str = "-device pcie-root-port,id=card,chassis=1,addr=1c \
                    -device virtio-net-pci,bus=card,addr=0.0,multifunction=on,disable-legacy=on,iommu_platform=on,ats=on,vectors=0 \
                    -device virtio-net-pci,bus=card,addr=0.1,disable-legacy=on,iommu_platform=on,ats=on,vectors=0";

/// Which blocks of docs/hardware.md are for a machine with an IOMMU, and for one without.
const IOMMU: [usize; 5] = [0, 1, 4, 5, 6];
const NO_IOMMU: [usize; 2] = [2, 3];

/// These blocks of docs/hardware.md, for a card in another slot, whose driver in the kernel is another one.
fn on_cards<const N: usize>(which: [usize; N]) -> [Vec<page::Command>; N] {
    let mut blocks: [Vec<page::Command>; 7] =
        run_by(include_str!("../../docs/hardware.md"), file!());
    for command in blocks.iter_mut().flatten() {
        for text in command.output.iter_mut().chain([&mut command.text]) {
            *text = (text.replace("0000:3b:00", "0000:01:00"))
                .replace("--bind=ice", "--bind=virtio-pci");
        }
    }
    which.map(|number| blocks[number].clone())
}

/// A firmware of QEMU's that is no BIOS: the disk boots with both.
const UEFI: &str = "/usr/share/ovmf/OVMF.fd";

const OTHER: &str = r#"
name = "lma1"

[process]
memory = "hugepages"
memory_mib = 128

[[port]]
name = "core"
device = "pci:0000:00:13.0"
addresses = ["2001:db8:e::1/64"]

[lma]
address = "2001:db8:e::1"
pools = ["2001:db8:200::/48"]

[[lma.peer]]
name = "mag"
address = "2001:db8:e::11"
protection = "none"
"#;
