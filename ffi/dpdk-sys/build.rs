//! Finds the system's DPDK with pkg-config, binds the names flowmob uses with bindgen, and
//! compiles C shims for those that are `static inline` in DPDK's headers.
//!
//! With the feature `static`, DPDK's archives are linked in place of its shared libraries, with a choice of drivers.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const OLDEST: &str = "22.11";

/// Functions of the library proper, and inlines, which keep their names through their shims.
const FUNCTIONS: &[&str] = &[
    "dpdk_sys_.*",
    "fopencookie",
    "rte_dev_(name|probe|remove)",
    "rte_eal_(alarm_set|cleanup|get_runtime_dir|init)",
    "rte_eth_(dev_close|dev_configure|dev_default_mac_addr_set|dev_get_mtu|dev_get_port_by_name)",
    "rte_eth_(dev_info_get|dev_set_mtu|dev_socket_id|dev_start|dev_stop)",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_(allmulticast_enable|link_get_nowait|macaddr_get|promiscuous_enable|random_addr|stats_get)",
    "rte_eth_(rx_burst|rx_queue_setup|tx_burst|tx_queue_setup)",
    "rte_mempool_(avail_count|free|in_use_count|lookup)",
    "rte_log_cur_msg_loglevel",
    "rte_openlog_stream",
    "rte_pktmbuf_(alloc|alloc_bulk|free|free_bulk|pool_create)",
    "rte_strerror",
    "rte_thread_(register|unregister)",
    "rte_version",
];

const CONSTANTS: &[&str] = &[
    "DPDK_SYS_.*",
    "RTE_EAL_PMD_PATH",
    "RTE_ETHER_(CRC|HDR)_LEN",
    "RTE_LOG_(ERR|WARNING|NOTICE|INFO|DEBUG)",
    "RTE_MAX_LCORE",
    "RTE_MEMPOOL_CACHE_MAX_SIZE",
    "RTE_VER_(YEAR|MONTH)",
    "rte_eth_rx_mq_mode_RTE_ETH_MQ_RX_(NONE|RSS)",
];

/// Types that DPDK declares both packed and aligned, which Rust cannot express. Never used here.
const OPAQUE: &str = "rte_arp_ipv4|rte_arp_hdr|rte_ecpri_.*|rte_l2tpv2_.*|rte_gtp_psc_generic_hdr";

/// Drivers that are linked in. None of them needs more than [`LIBRARIES`] and [`OTHERS`]; mlx4 and mlx5 do: rdma-core
/// loads its own drivers at run time.
const DRIVERS: &[&str] = &[
    "bus_pci",
    "bus_vdev",
    "mempool_ring",
    "net_af_packet",
    "net_af_xdp",
    "net_e1000",
    "net_ena",
    "net_i40e",
    "net_iavf",
    "net_ice",
    "net_ixgbe",
    "net_memif",
    "net_null",
    "net_pcap",
    "net_ring",
    "net_tap",
    "net_vhost",
    "net_virtio",
    "net_vmxnet3",
];

/// What flowmob and these drivers call of DPDK.
const LIBRARIES: &[&str] = &[
    "common_iavf",
    "cryptodev",
    "dmadev",
    "eal",
    "ethdev",
    "gso",
    "hash",
    "kvargs",
    "mbuf",
    "mempool",
    "meter",
    "net",
    "pci",
    "rcu",
    "ring",
    "security",
    "telemetry",
    "timer",
    "vhost",
];

/// What DPDK calls of others, each before what it calls itself: archives of Debian's.
const OTHERS: &[&str] = &["numa", "pcap", "xdp", "bpf", "elf", "z", "bsd", "md"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=wrapper.h");
    println!("cargo::rerun-if-changed=pcap.c");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let linked_in = env::var_os("CARGO_FEATURE_STATIC").is_some();
    find_dpdk(linked_in);
    let cflags = cflags()?;
    bind(&cflags, &out)?;
    compile_shims(&cflags, &out);
    if linked_in {
        link_archives(&out)?;
    }
    let drivers = if linked_in { DRIVERS } else { &[] };
    fs::write(out.join("drivers.rs"), format!("&{drivers:?}"))?;
    Ok(())
}

/// Emits the link flags of the shared libraries, unless archives are linked. Without DPDK, ends the build with the way
/// to get it.
fn find_dpdk(linked_in: bool) {
    if let Err(error) = pkg_config::Config::new()
        .atleast_version(OLDEST)
        .cargo_metadata(!linked_in)
        .probe("libdpdk")
    {
        println!("cargo::error=DPDK {OLDEST} or newer was not found: {error}");
        println!(
            "cargo::error=on Debian or Ubuntu: apt-get install libdpdk-dev libclang-dev pkg-config"
        );
        std::process::exit(1);
    }
}

/// Emits the link flags of the archives. They stay out of this crate's own library: whole, they are large.
fn link_archives(out: &Path) -> Result<(), Box<dyn Error>> {
    let directory = pkg_config::get_variable("libdpdk", "libdir")?;
    let missing = |name: &&str| !Path::new(&directory).join(format!("lib{name}.a")).exists();
    if let Some(name) = OTHERS.iter().copied().find(missing) {
        return Err(format!("{directory}/lib{name}.a is missing").into());
    }
    println!("cargo::rustc-link-search=native={directory}");
    println!("cargo::rustc-link-search=native={}", out.display());
    cc::Build::new()
        .cargo_metadata(false)
        .file("pcap.c")
        .compile("dpdk_sys_pcap");
    // Whole: drivers, buses and much else are reached through constructors only, and these definitions have to be there
    // before libpcap's are looked for.
    println!("cargo::rustc-link-lib=static:-bundle,+whole-archive=dpdk_sys_pcap");
    for name in DRIVERS.iter().chain(LIBRARIES) {
        println!("cargo::rustc-link-lib=static:-bundle,+whole-archive=rte_{name}");
    }
    for name in OTHERS {
        println!("cargo::rustc-link-lib=static:-bundle={name}");
    }
    Ok(())
}

/// All of `pkg-config --cflags`: the pkg-config crate drops `-include rte_config.h` and `-march`,
/// without which DPDK's headers do not compile.
fn cflags() -> Result<Vec<String>, Box<dyn Error>> {
    let pkg_config = env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
    let output = Command::new(pkg_config)
        .args(["--cflags", "libdpdk"])
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8(output.stdout)?
        .split_whitespace()
        .map(str::to_owned)
        .collect())
}

fn bind(cflags: &[String], out: &Path) -> Result<(), Box<dyn Error>> {
    let mut builder = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(cflags)
        .wrap_static_fns(true)
        .wrap_static_fns_path(out.join("shims"))
        .opaque_type(OPAQUE)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .generate_cstr(true)
        .derive_default(true)
        .generate_comments(false)
        .allowlist_recursively(true);
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    builder = builder.allowlist_type("dpdk_sys_mbuf_head");
    for name in CONSTANTS {
        builder = builder.allowlist_var(name);
    }
    builder.generate()?.write_to_file(out.join("bindings.rs"))?;
    Ok(())
}

fn compile_shims(cflags: &[String], out: &Path) {
    let mut build = cc::Build::new();
    build
        .file(out.join("shims.c"))
        .include(".")
        .warnings(false)
        .opt_level(3);
    // `-include FILE` is two arguments: kept in order, not filtered one by one.
    for flag in cflags {
        build.flag(flag);
    }
    build.compile("dpdk_sys_shims");
}
