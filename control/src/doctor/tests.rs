//! Machines out of files.

use std::fs;

use tempfile::TempDir;

use super::*;

const CONFIG: &str = "name = \"mag\"\n\
    [process]\nmemory = \"hugepages\"\nmemory_mib = 512\nworkers = 2\ncores = [2, 3]\ncontrol_core = 1\n\
    [[port]]\nname = \"core\"\ndevice = \"pci:0000:03:00.0\"\nmtu = 1540\naddresses = [\"2001:db8:a::1/64\"]\n\
    [[port]]\nname = \"wlan\"\ndevice = \"af_packet:eth1\"\n\
    [mag]\naddress = \"2001:db8:a::1\"\naccess_ports = [\"wlan\"]\n\
    [[mag.peer]]\nname = \"lma\"\naddress = \"2001:db8:f::1\"\nprotection = \"none\"\n";

/// A machine on which there is nothing to mend for that configuration.
fn machine() -> (TempDir, Machine) {
    let root = tempfile::tempdir().unwrap();
    let machine = Machine {
        root: root.path().to_owned(),
        linked: None,
        clock: Some(true),
    };
    for (path, text) in [
        ("proc/meminfo", "MemTotal: 8 kB\nHugepagesize:    2048 kB\n"),
        (
            "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
            "512\n",
        ),
        (
            "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
            "44\n",
        ),
        (
            "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages",
            "2\n",
        ),
        (
            "sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages",
            "1\n",
        ),
        ("proc/self/status", "Name: x\nCapPrm:\t000001ffffffffff\n"),
        (
            "sys/kernel/mm/transparent_hugepage/enabled",
            "always [madvise] never\n",
        ),
        ("sys/devices/system/cpu/online", "0-3\n"),
        ("sys/devices/system/cpu/isolated", "2-3\n"),
        ("sys/devices/system/cpu/nohz_full", "2,3\n"),
        ("sys/bus/pci/devices/0000:03:00.0/numa_node", "0\n"),
        ("sys/bus/pci/drivers/vfio-pci/x", ""),
        ("sys/class/iommu/dmar0/x", ""),
        ("sys/class/net/eth1/device/numa_node", "-1\n"),
        (
            "proc/sys/kernel/seccomp/actions_avail",
            "kill_process trap errno log allow\n",
        ),
        (
            "usr/lib/x86_64-linux-gnu/dpdk/pmds-23.0/librte_net_af_packet.so.23",
            "",
        ),
    ] {
        put(&root, path, text);
    }
    for core in 0..4 {
        let cpu = format!("sys/devices/system/cpu/cpu{core}");
        put(
            &root,
            &format!("{cpu}/topology/thread_siblings_list"),
            &format!("{core}\n"),
        );
        put(
            &root,
            &format!("{cpu}/cpufreq/scaling_governor"),
            "performance\n",
        );
        put(&root, &format!("{cpu}/node0/x"), "");
    }
    let driver = root.path().join("sys/bus/pci/devices/0000:03:00.0/driver");
    std::os::unix::fs::symlink("../../drivers/vfio-pci", driver).unwrap();
    (root, machine)
}

fn put(root: &TempDir, path: &str, text: &str) {
    let path = root.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn config(text: &str) -> Config {
    config::parse_with("x", text, &config::Machine::with_cores(0..4)).unwrap()
}

fn hurting(machine: &Machine, config: Option<&Config>) -> Vec<(String, State)> {
    let findings = machine.look(config);
    let bad = findings.iter().filter(|finding| finding.state != State::Ok);
    bad.inspect(|finding| assert!(finding.fix.is_some(), "{finding:?}"))
        .map(|finding| (finding.check.clone(), finding.state))
        .collect()
}

#[test]
fn a_good_machine_has_nothing_to_mend() {
    let (_root, machine) = machine();
    let config = config(CONFIG);
    assert_eq!(hurting(&machine, Some(&config)), []);
    assert_eq!(hurting(&machine, None), []);
    let text = crate::show::findings(&machine.look(Some(&config))).unwrap();
    assert!(text.starts_with("STATE  CHECK"), "{text}");
    assert!(!text.contains("fix:"), "{text}");
}

#[test]
fn whatever_hurts_is_found_and_has_its_fix() {
    let good = config(CONFIG);
    // What is spoiled, and what is then found.
    let files = [
        (
            "sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages",
            "0\n",
            "hugepages",
            State::Fail,
        ),
        (
            "proc/self/status",
            "CapPrm:\t0000000000201000\n",
            "port core",
            State::Fail,
        ),
        (
            "sys/kernel/mm/transparent_hugepage/enabled",
            "always madvise [never]\n",
            "transparent hugepages",
            State::Warn,
        ),
        (
            "sys/devices/system/cpu/isolated",
            "3\n",
            "isolation",
            State::Warn,
        ),
        (
            "sys/devices/system/cpu/nohz_full",
            "\n",
            "isolation",
            State::Warn,
        ),
        (
            "sys/devices/system/cpu/cpu2/topology/thread_siblings_list",
            "2-3\n",
            "hyperthreads",
            State::Warn,
        ),
        (
            "sys/devices/system/cpu/cpu3/topology/thread_siblings_list",
            "1,3\n",
            "hyperthreads",
            State::Warn,
        ),
        (
            "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
            "schedutil\n",
            "governor",
            State::Warn,
        ),
        (
            "sys/bus/pci/devices/0000:03:00.0/numa_node",
            "1\n",
            "port core",
            State::Warn,
        ),
    ];
    for (path, text, check, state) in files {
        let (root, machine) = machine();
        put(&root, path, text);
        let found = hurting(&machine, Some(&good));
        assert!(
            found.contains(&(check.to_owned(), state)),
            "{path}: {found:?}"
        );
        assert!(
            found
                .iter()
                .all(|(other, _)| other == check || path.contains("status")),
            "{path}: {found:?}"
        );
        let all = machine.look(Some(&good));
        assert_eq!(fails(&all), state == State::Fail);
    }
}

#[test]
fn what_is_not_there_fails() {
    let good = config(CONFIG);
    for (gone, check) in [
        ("sys/class/iommu/dmar0", "IOMMU"),
        ("sys/class/net/eth1", "port wlan"),
        ("sys/bus/pci/devices/0000:03:00.0", "port core"),
        ("usr/lib/x86_64-linux-gnu/dpdk", "drivers"),
    ] {
        let (root, machine) = machine();
        fs::remove_dir_all(root.path().join(gone)).unwrap();
        assert_eq!(
            hurting(&machine, Some(&good)),
            [(check.to_owned(), State::Fail)],
            "{gone}"
        );
    }
    let (root, machine) = machine();
    fs::remove_file(root.path().join("sys/bus/pci/devices/0000:03:00.0/driver")).unwrap();
    let all = machine.look(Some(&good));
    let fix = all.iter().find_map(|finding| finding.fix.clone());
    assert_eq!(
        fix.as_deref(),
        Some("dpdk-devbind.py -b vfio-pci 0000:03:00.0")
    );
}

#[test]
fn cards_ask_for_rights_and_an_iommu_by_their_drivers() {
    const IPC_LOCK: u64 = 1 << 14;
    const SYS_RAWIO: u64 = 1 << 17;
    const SYS_ADMIN: u64 = 1 << 21;
    const FOR_WLAN: u64 = 1 << 12 | 1 << 13;
    let good = config(CONFIG);
    let iommu = |state| Some(("IOMMU".to_owned(), state));
    // The driver, whether there is an IOMMU and whether VFIO does without; what is enough, and what is said all the same.
    for (driver, guarded, without, enough, said) in [
        ("vfio-pci", true, false, IPC_LOCK, None),
        (
            "vfio-pci",
            false,
            true,
            SYS_ADMIN | SYS_RAWIO,
            iommu(State::Warn),
        ),
        (
            "vfio-pci",
            false,
            false,
            SYS_ADMIN | SYS_RAWIO,
            iommu(State::Fail),
        ),
        (
            "uio_pci_generic",
            false,
            false,
            SYS_ADMIN,
            iommu(State::Warn),
        ),
        ("mlx5_core", false, false, 0, None),
    ] {
        let (root, machine) = machine();
        let link = root.path().join("sys/bus/pci/devices/0000:03:00.0/driver");
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(format!("../../drivers/{driver}"), link).unwrap();
        if !guarded {
            fs::remove_dir_all(root.path().join("sys/class/iommu/dmar0")).unwrap();
        }
        let mode = if without { "Y\n" } else { "N\n" };
        put(
            &root,
            "sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
            mode,
        );
        let with = |capabilities: u64| {
            let status = format!("CapPrm:\t{:016x}\n", capabilities | FOR_WLAN);
            put(&root, "proc/self/status", &status);
            hurting(&machine, Some(&good))
        };
        assert_eq!(with(enough), Vec::from_iter(said), "{driver} {guarded}");
        for bit in [IPC_LOCK, SYS_RAWIO, SYS_ADMIN] {
            let lacks = ("port core".to_owned(), State::Fail);
            assert_eq!(
                with(enough & !bit).contains(&lacks),
                enough & bit != 0,
                "{driver} {bit}"
            );
        }
    }
}

#[test]
fn a_process_must_be_able_to_give_up_what_it_does_not_need() {
    let (root, machine) = machine();
    let with = |keys: &str| config(&CONFIG.replace("[process]\n", &format!("[process]\n{keys}\n")));
    let nobody = with("user = \"no-such-user\"");
    assert_eq!(
        hurting(&machine, Some(&nobody)),
        [("user".to_owned(), State::Fail)]
    );
    put(&root, "proc/sys/kernel/seccomp/actions_avail", "\n");
    let unfiltered = ("system calls".to_owned(), State::Warn);
    assert_eq!(hurting(&machine, Some(&config(CONFIG))), [unfiltered]);
    assert_eq!(hurting(&machine, Some(&with("seccomp = \"off\""))), []);
}

#[test]
fn what_a_configuration_asks_for_is_looked_at() {
    let change = |from: &str, to: &str| {
        assert!(CONFIG.contains(from));
        config(&CONFIG.replace(from, to))
    };
    let (root, machine) = machine();
    let anonymous = change("\"hugepages\"", "\"anonymous\"");
    assert_eq!(
        hurting(&machine, Some(&anonymous)),
        [("hugepages".to_owned(), State::Warn)]
    );
    let narrow = change("mtu = 1540", "mtu = 1500");
    assert_eq!(
        hurting(&machine, Some(&narrow)),
        [("MAG tunnel MTU".to_owned(), State::Warn)]
    );
    let tap = change("af_packet:eth1", "tap:eth1");
    assert_eq!(
        hurting(&machine, Some(&tap)),
        [("drivers".to_owned(), State::Fail)]
    );
    let fixes = |config: &Config| -> Vec<String> {
        let all = machine.look(Some(config)).into_iter();
        all.filter_map(|finding| finding.fix).collect()
    };
    assert_eq!(fixes(&tap), ["apt-get install librte-net-tap23"]);
    for (device, driver, package) in [
        ("memif:/srv/m", "memif", "memif23"),
        ("vhost-user:/srv/v,queues=2", "vhost", "vhost23"),
        ("virtio-user:/srv/v", "virtio", "virtio23"),
    ] {
        let shared = change("af_packet:eth1", device);
        let install = format!("apt-get install librte-net-{package}");
        assert_eq!(fixes(&shared), [install, "mkdir -p /srv".to_owned()]);
        let plugin = format!("usr/lib/x86_64-linux-gnu/dpdk/pmds-23.0/librte_net_{driver}.so.23");
        put(&root, &plugin, "");
        put(&root, "srv/x", "");
        assert_eq!(fixes(&shared), [""; 0]);
        fs::remove_dir_all(root.path().join("srv")).unwrap();
    }
    let hidden = change("af_packet:eth1", "memif:@lab");
    assert_eq!(fixes(&hidden), [""; 0]);
    let unpinned = change("cores = [2, 3]\ncontrol_core = 1\n", "");
    assert_eq!(
        hurting(&machine, Some(&unpinned)),
        [("cores".to_owned(), State::Warn)]
    );
    let late = Machine {
        clock: Some(false),
        ..self::machine().1
    };
    assert_eq!(
        hurting(&late, None).last(),
        Some(&("clock".to_owned(), State::Warn))
    );
}

#[test]
fn drivers_that_are_linked_in_are_no_files() {
    let (root, mut machine) = machine();
    fs::remove_dir_all(root.path().join("usr")).unwrap();
    machine.linked = Some(&["net_af_packet", "net_tap"]);
    assert_eq!(hurting(&machine, Some(&config(CONFIG))), []);
    let xdp = config(&CONFIG.replace("af_packet:eth1", "af_xdp:eth1"));
    assert_eq!(
        hurting(&machine, Some(&xdp)),
        [("drivers".to_owned(), State::Fail)]
    );
    // A card that its own driver of the kernel keeps, and DPDK's loads libraries for.
    let driver = root.path().join("sys/bus/pci/devices/0000:03:00.0/driver");
    fs::remove_file(&driver).unwrap();
    std::os::unix::fs::symlink("../../drivers/mlx5_core", driver).unwrap();
    assert_eq!(
        hurting(&machine, Some(&config(CONFIG))),
        [("port core".to_owned(), State::Fail)]
    );
    machine.linked = None;
    put(
        &root,
        "usr/lib/x86_64-linux-gnu/dpdk/pmds-23.0/librte_net_af_packet.so.23",
        "",
    );
    assert_eq!(hurting(&machine, Some(&config(CONFIG))), []);
}
