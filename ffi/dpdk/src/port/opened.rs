//! A device as DPDK has it: the steps from a name to a configured port, and back.

use std::ffi::{CStr, CString, c_int};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dpdk_sys::{rte_device, rte_eth_conf, rte_eth_dev_info, rte_eth_link, rte_ether_addr};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::SockType;

use super::gate::Gate;
use super::interrupts;
use super::relay::{Driver, Relay, Sockets};
use super::stand_in::StandIn;
use super::{MIN_MTU, PortConfig};
use crate::device::{Device, L2_OVERHEAD, missing_driver};
use crate::eal::{EalHandle, reason};
use crate::error::PortError;
use crate::log::{Mark, Said};
use crate::mempool::Mempool;

/// The largest IP packet that 22.11's memif says it can take. It does not look at the MTU and takes any.
const MEMIF_SAYS: u16 = 1500;

/// The driver of a virtio device whose back end is another process.
const VIRTIO_USER: &str = "net_virtio_user";

/// How long a port may take to notice that the stand-in has left.
const FAREWELL: Duration = Duration::from_millis(200);

/// A probed device. Dropping it stops and closes it and takes it off its bus.
pub(crate) struct Opened {
    pub(super) id: u16,
    name: String,
    /// As a person wrote it: for messages.
    pub(super) device: String,
    /// The port's device on its bus.
    raw: *mut rte_device,
    /// Whether DPDK has it started.
    started: Arc<AtomicBool>,
    /// Whether its driver is called by DPDK's own thread.
    has_interrupts: bool,
    /// What memif needs.
    memif: Option<Memif>,
    /// Answers the driver until the port is started.
    stand_in: Mutex<Option<StandIn>>,
    pool: Mempool,
    /// Keeps the environment until the device is closed.
    _eal: EalHandle,
}

/// What stands between memif's driver, its queues and the other end.
struct Memif {
    gate: Arc<Gate>,
    /// Until the port is started, and from then on.
    sockets: Mutex<Option<Sockets>>,
    relay: Mutex<Option<Relay>>,
    /// Where the driver's own socket is or was.
    driver: PathBuf,
    /// The file to be removed at the end.
    listens: Option<PathBuf>,
}

// SAFETY: the control functions below are called by `Port::open` and `Port::start` alone, before the
// value is shared, by the relay behind a closed gate, and by the last owner's drop, after the relay
// has ended; counters and link state may be read from any thread.
unsafe impl Send for Opened {}
// SAFETY: as above.
unsafe impl Sync for Opened {}

impl Opened {
    /// Makes the device known to DPDK and finds its port.
    pub(super) fn new(
        eal: &EalHandle,
        device: &Device,
        index: u16,
        config: &PortConfig,
        pool: &Mempool,
    ) -> Result<Self, PortError> {
        let queues = config.queues;
        // The driver of memif does not meet the other end: the relay does.
        let driver_socket = eal.runtime_directory().join(format!("memif-{index}"));
        let arguments = match device {
            Device::Memif {
                server, id, queues, ..
            } => Device::Memif {
                socket: driver_socket.clone(),
                server: *server,
                id: *id,
                queues: *queues,
            }
            .eal_args(index, config.queues, config.mtu)?,
            Device::Tap { .. }
            | Device::AfPacket { .. }
            | Device::AfXdp { .. }
            | Device::Pcap { .. }
            | Device::Null { .. }
            | Device::Ring
            | Device::VhostUser { .. }
            | Device::VirtioUser { .. }
            | Device::Pci { .. }
            | Device::Vdev(_) => device.eal_args(index, queues, config.mtu)?,
        };
        let text = device.to_string();
        if let Device::AfPacket { iface } | Device::AfXdp { iface } = device
            && if_nametoindex(iface.as_str()).is_err()
        {
            return Err(PortError::NoInterface {
                device: text,
                iface: iface.clone(),
            });
        }
        device.clear_socket()?;
        let stand_in = if let Device::VirtioUser { socket, .. } = device {
            let stand_in = StandIn::at(socket, queues);
            Some(stand_in.map_err(|error| PortError::Probe {
                device: text.clone(),
                reason: error.to_string(),
                said: Said::default(),
            })?)
        } else {
            None
        };
        // A card was probed when the environment started.
        if !matches!(device, Device::Pci { .. }) {
            probe(device, &arguments)?;
        }
        let name = arguments.split(',').next().unwrap_or_default().to_owned();
        let id = find(&name).ok_or_else(|| PortError::NoCard {
            device: text.clone(),
        })?;
        let mut opened = Self {
            id,
            name,
            device: text,
            raw: std::ptr::null_mut(),
            started: Arc::new(AtomicBool::new(false)),
            has_interrupts: false,
            memif: None,
            stand_in: Mutex::new(stand_in),
            pool: pool.clone(),
            _eal: eal.clone(),
        };
        let info = opened.info()?;
        opened.raw = info.device;
        opened.has_interrupts = driver_name(&info) == VIRTIO_USER;
        if let Device::Memif { socket, server, .. } = device {
            opened.memif = Some(opened.meet(device, socket, *server, driver_socket, queues)?);
        }
        Ok(opened)
    }

    /// Prepares for a memif port's other end.
    fn meet(
        &self,
        device: &Device,
        socket: &Path,
        server: bool,
        driver: PathBuf,
        queues: u16,
    ) -> Result<Memif, PortError> {
        let mut listens = None;
        let sockets = if server {
            let public = device.listen(socket, SockType::SeqPacket)?;
            listens = socket.exists().then(|| socket.to_owned());
            Sockets::server(public, &driver)
                .map_err(|error| self.cannot("reach its driver", &error))?
        } else {
            Sockets::Client {
                public: socket.to_owned(),
                driver: driver.clone(),
            }
        };
        Ok(Memif {
            gate: Arc::new(Gate::new(2 * usize::from(queues))),
            sockets: Mutex::new(Some(sockets)),
            relay: Mutex::new(None),
            driver,
            listens,
        })
    }

    /// A step that failed without DPDK.
    fn cannot(&self, step: &'static str, why: &dyn fmt::Display) -> PortError {
        PortError::Step {
            device: self.device.clone(),
            step,
            reason: why.to_string(),
            said: Said::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where its queues have to pass, if their memory may go.
    pub(super) fn gate(&self) -> Option<&Arc<Gate>> {
        self.memif.as_ref().map(|memif| &memif.gate)
    }

    /// Starts the device, with so many queue pairs; of a client of memif, what will do so.
    pub(super) fn start(&self, queues: u16) -> Result<(), PortError> {
        let Some(memif) = &self.memif else {
            return self.start_device();
        };
        let sockets = lock(&memif.sockets).take();
        let Some(sockets) = sockets else {
            return Ok(());
        };
        let is_server = matches!(sockets, Sockets::Server { .. });
        if is_server {
            self.start_device()?;
        }
        let driver = MemifDriver {
            id: self.id,
            gate: Arc::clone(&memif.gate),
            started: Arc::clone(&self.started),
        };
        let relay = Relay::start(self.device.clone(), queues, sockets, driver);
        *lock(&memif.relay) = Some(relay.map_err(|error| self.cannot("start its relay", &error))?);
        Ok(())
    }

    fn start_device(&self) -> Result<(), PortError> {
        let mark = Mark::now();
        // SAFETY: the port is configured and its queues are set up.
        let result = unsafe { dpdk_sys::rte_eth_dev_start(self.id) };
        self.done("start", result, mark)?;
        self.started.store(true, Ordering::Relaxed);
        if lock(&self.stand_in).take().is_some() {
            // Nobody shall take it for the true one. Who has come meanwhile may be there before we look.
            let deadline = Instant::now() + FAREWELL;
            while self.link()?.link_status() != 0 && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// The state of the link, as last seen by the driver.
    pub(super) fn link(&self) -> Result<rte_eth_link, PortError> {
        let mut link = rte_eth_link::default();
        let mark = Mark::now();
        // SAFETY: the port is open and the pointer is to a live structure.
        let result = unsafe { dpdk_sys::rte_eth_link_get_nowait(self.id, &raw mut link) };
        self.done("read the link state", result, mark)?;
        Ok(link)
    }

    pub(super) fn info(&self) -> Result<rte_eth_dev_info, PortError> {
        let mut info = rte_eth_dev_info::default();
        let mark = Mark::now();
        // SAFETY: the port exists and the pointer is to a live structure.
        let result = unsafe { dpdk_sys::rte_eth_dev_info_get(self.id, &raw mut info) };
        self.done("read its properties", result, mark)?;
        Ok(info)
    }

    /// Holds the wishes against what the device and the pool can do.
    pub(super) fn check(
        &self,
        config: &PortConfig,
        info: &rte_eth_dev_info,
    ) -> Result<(), PortError> {
        let device = || self.device.clone();
        let (wanted, max) = (config.queues, info.max_rx_queues.min(info.max_tx_queues));
        if wanted == 0 || wanted > max {
            return Err(PortError::Queues {
                device: device(),
                wanted,
                max,
            });
        }
        let by_pool = self.pool.config().data_room.saturating_sub(L2_OVERHEAD);
        let by_device = device_mtu(info);
        let (max, by) = if by_device < by_pool {
            (by_device, "the device")
        } else {
            (by_pool, "the packet pool")
        };
        let mtu = config.mtu;
        if !(MIN_MTU..=max).contains(&mtu) {
            return Err(PortError::Mtu {
                device: device(),
                mtu,
                min: MIN_MTU,
                max,
                by,
            });
        }
        Ok(())
    }

    /// Sets queue count, MTU and, where the device can, spreading by IPv6 flow.
    pub(super) fn configure(
        &self,
        config: &PortConfig,
        info: &rte_eth_dev_info,
    ) -> Result<(), PortError> {
        let mut conf = rte_eth_conf::default();
        let mtu = match driver_name(info).as_str() {
            "net_memif" => config.mtu.min(MEMIF_SAYS),
            _ => config.mtu,
        };
        conf.rxmode.mtu = u32::from(mtu);
        // Only so does virtio-user look whether a back end comes or goes.
        if driver_name(info) == VIRTIO_USER && tells_of_links(info) {
            conf.intr_conf.set_lsc(1);
        }
        if config.queues > 1 && can_spread(info) {
            conf.rxmode.mq_mode = dpdk_sys::rte_eth_rx_mq_mode_RTE_ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf =
                dpdk_sys::DPDK_SYS_RSS_IPV6 & info.flow_type_rss_offloads;
        }
        let mark = Mark::now();
        // SAFETY: the port is not started and the pointer is to a live structure.
        let result = unsafe {
            dpdk_sys::rte_eth_dev_configure(self.id, config.queues, config.queues, &raw const conf)
        };
        self.done("configure", result, mark)
    }

    pub(super) fn set_up_queues(&self, config: &PortConfig) -> Result<(), PortError> {
        let (mut rx, mut tx) = (config.rx_descriptors, config.tx_descriptors);
        let mark = Mark::now();
        // SAFETY: the port is configured and the pointers are to two live integers.
        let result = unsafe {
            dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.id, &raw mut rx, &raw mut tx)
        };
        self.done("size its queues", result, mark)?;
        for queue in 0..config.queues {
            let pool = self.pool.as_raw();
            let no_conf = std::ptr::null();
            let mark = Mark::now();
            // SAFETY: the port is configured with this queue; no configuration means the driver's
            // default; the pool lives as long as `self`.
            let result = unsafe {
                dpdk_sys::rte_eth_rx_queue_setup(self.id, queue, rx, ANY_SOCKET, no_conf, pool)
            };
            self.done("set up a receive queue", result, mark)?;
            let no_conf = std::ptr::null();
            let mark = Mark::now();
            // SAFETY: as above, without a pool.
            let result = unsafe {
                dpdk_sys::rte_eth_tx_queue_setup(self.id, queue, tx, ANY_SOCKET, no_conf)
            };
            self.done("set up a transmit queue", result, mark)?;
        }
        Ok(())
    }

    /// Sets the MTU of the device, or of the kernel interface behind it. A device without one
    /// carries what it is given. An interface that has it is left alone: that needs no rights.
    pub(super) fn set_mtu(&self, mtu: u16, info: &rte_eth_dev_info) -> Result<(), PortError> {
        if interface_mtu(info.if_index) == Some(mtu) {
            return Ok(());
        }
        let mark = Mark::now();
        // SAFETY: the port is configured and not started.
        let result = unsafe { dpdk_sys::rte_eth_dev_set_mtu(self.id, mtu) };
        self.done_if_supported("set the MTU", result, mark)
            .map(|_| ())
    }

    /// Settles the station address, and what the device must do for frames to it to arrive.
    pub(super) fn settle_station(
        &self,
        config: &PortConfig,
        driver: &str,
    ) -> Result<[u8; 6], PortError> {
        let own = self.mac()?;
        let mut promiscuous = config.promiscuous;
        let station = match (config.mac, driver) {
            (Some(mac), _) if !is_station(mac) => {
                return Err(PortError::Mac {
                    device: self.device.clone(),
                });
            }
            // The device's address is that of the kernel's interface: see `Port::mac`.
            (None, "net_tap") => other_end(own),
            (Some(mac), "net_tap") if mac == own => {
                self.set_mac(other_end(own))?;
                mac
            }
            // Its address is the same in every process.
            (None, "net_vhost") => random_station(),
            (None, _) => own,
            // These pass every frame; of an interface of the kernel, whoever opens it asks the kernel for them.
            (
                Some(mac),
                "net_tap" | "net_null" | "net_ring" | "net_pcap" | "net_memif" | "net_vhost"
                | "net_virtio_user" | "net_af_packet" | "net_af_xdp",
            ) => mac,
            (Some(mac), _) => {
                promiscuous |= mac != own && !self.set_mac(mac)?;
                mac
            }
        };
        if promiscuous {
            let mark = Mark::now();
            // SAFETY: the port is configured.
            let result = unsafe { dpdk_sys::rte_eth_promiscuous_enable(self.id) };
            // A device without this mode has no filter either.
            self.done_if_supported("become promiscuous", result, mark)?;
        } else {
            let mark = Mark::now();
            // SAFETY: the port is configured.
            let result = unsafe { dpdk_sys::rte_eth_allmulticast_enable(self.id) };
            // As above. Solicitations go to groups (RFC 4861 §7.2.2), and DPDK joins none.
            self.done_if_supported("take all multicast frames", result, mark)?;
        }
        Ok(station)
    }

    /// The device's own address.
    fn mac(&self) -> Result<[u8; 6], PortError> {
        let mut mac = rte_ether_addr::default();
        let mark = Mark::now();
        // SAFETY: the port exists and the pointer is to a live structure.
        let result = unsafe { dpdk_sys::rte_eth_macaddr_get(self.id, &raw mut mac) };
        self.done("read the MAC address", result, mark)?;
        Ok(mac.addr_bytes)
    }

    /// Changes the device's own address; false if it cannot.
    fn set_mac(&self, mac: [u8; 6]) -> Result<bool, PortError> {
        let mut mac = rte_ether_addr { addr_bytes: mac };
        let mark = Mark::now();
        // SAFETY: the port is configured and the pointer is to a live structure.
        let result = unsafe { dpdk_sys::rte_eth_dev_default_mac_addr_set(self.id, &raw mut mac) };
        self.done_if_supported("set the MAC address", result, mark)
    }

    /// The outcome of a step, with what DPDK said since `mark`.
    pub(super) fn done(
        &self,
        step: &'static str,
        result: c_int,
        mark: Mark,
    ) -> Result<(), PortError> {
        if result >= 0 {
            return Ok(());
        }
        let (device, reason, said) = (self.device.clone(), reason(result), mark.said());
        Err(PortError::Step {
            device,
            step,
            reason,
            said,
        })
    }

    /// As `done`, but a driver that does not know the step is false, not an error.
    fn done_if_supported(
        &self,
        step: &'static str,
        result: c_int,
        mark: Mark,
    ) -> Result<bool, PortError> {
        if Errno::from_raw(-result) == Errno::ENOTSUP {
            return Ok(false);
        }
        self.done(step, result, mark).map(|()| true)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(memif) = &self.memif {
            // It ends first, and with it what it does to the device.
            drop(lock(&memif.relay).take());
            if let Some(socket) = &memif.listens {
                // Somebody may have done so.
                let _ = fs::remove_file(socket);
                // The driver complains if it has nothing to remove.
                let _ = fs::write(&memif.driver, "");
            }
        }
        if self.has_interrupts {
            let (id, started) = (self.id, self.started.load(Ordering::Relaxed));
            interrupts::end_when_quiet(|| link_status(id), || end(id, started));
        } else {
            end(self.id, self.started.load(Ordering::Relaxed));
        }
        if !self.raw.is_null() {
            // SAFETY: the bus keeps the device until this call, which closing the port is not.
            unsafe { dpdk_sys::rte_dev_remove(self.raw) };
        }
    }
}

/// Stops and closes a port whose last owner is gone.
fn end(id: u16, started: bool) {
    // A failure leaves nothing to be done here; DPDK has logged it.
    if started {
        // SAFETY: no queue is left: each holds a reference to the owner.
        unsafe { dpdk_sys::rte_eth_dev_stop(id) };
    }
    // SAFETY: the port is stopped and nobody can reach it any more.
    unsafe { dpdk_sys::rte_eth_dev_close(id) };
}

/// The state of a port's link as its driver has noted it; `None` if there is none.
fn link_status(id: u16) -> Option<u16> {
    let mut link = rte_eth_link::default();
    // SAFETY: the port is open and the pointer is to a live structure.
    let result = unsafe { dpdk_sys::rte_eth_link_get_nowait(id, &raw mut link) };
    (result >= 0).then(|| link.link_status())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the relay does to its port.
struct MemifDriver {
    id: u16,
    gate: Arc<Gate>,
    started: Arc<AtomicBool>,
}

impl Driver for MemifDriver {
    fn is_up(&self) -> bool {
        // The port is open as long as the relay.
        link_status(self.id).is_some_and(|status| status != 0)
    }

    fn restart(&mut self) -> Result<(), String> {
        self.gate.close();
        let mark = Mark::now();
        if self.started.swap(false, Ordering::Relaxed) {
            // SAFETY: no queue is in the driver, and none gets there before the gate opens.
            let result = unsafe { dpdk_sys::rte_eth_dev_stop(self.id) };
            if result < 0 {
                return Err(format!("{}{}", reason(result), mark.said()));
            }
        }
        // SAFETY: the port is configured and its queues are set up.
        let result = unsafe { dpdk_sys::rte_eth_dev_start(self.id) };
        if result < 0 {
            return Err(format!("{}{}", reason(result), mark.said()));
        }
        self.started.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn shut(&self) {
        self.gate.close();
    }

    fn let_in(&self) {
        self.gate.open();
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// `SOCKET_ID_ANY`: memory from wherever it is.
const ANY_SOCKET: u32 = u32::MAX;

/// Creates a virtual device.
fn probe(device: &Device, arguments: &str) -> Result<(), PortError> {
    let text = CString::new(arguments).map_err(|_| crate::DeviceError::Vdev {
        raw: arguments.to_owned(), // `eal_args` lets no NUL pass
    })?;
    let mark = Mark::now();
    // SAFETY: the environment is initialised (the caller has a handle) and `text` is a C string.
    let result = unsafe { dpdk_sys::rte_dev_probe(text.as_ptr()) };
    if result >= 0 {
        Ok(())
    } else {
        Err(why_not(device, arguments, result, mark))
    }
}

/// The likeliest reason for a failed probe. Drivers say as little as -1.
fn why_not(device: &Device, arguments: &str, result: c_int, mark: Mark) -> PortError {
    let said = mark.said();
    let text = device.to_string();
    let name = arguments.split(',').next().unwrap_or_default();
    let driver = device
        .driver()
        .unwrap_or(name.trim_end_matches(|c: char| c.is_ascii_digit()));
    if let Some(missing) = missing_driver(driver) {
        return PortError::NoDriver {
            device: text,
            missing,
        };
    }
    let needs: &[(&str, u32)] = match driver {
        "net_tap" => &[("CAP_NET_ADMIN", 12)],
        "net_af_packet" => &[("CAP_NET_RAW", 13)],
        "net_af_xdp" => &[
            ("CAP_NET_ADMIN", 12),
            ("CAP_NET_RAW", 13),
            ("CAP_SYS_ADMIN", 21),
        ],
        _ => &[],
    };
    // Most drivers return a bare -1, which is not the EPERM that it reads as.
    let reason = if result == -1 {
        "the driver refused it".to_owned()
    } else {
        reason(result)
    };
    match needs.iter().find(|(_, bit)| !has_capability(*bit)) {
        Some(&(capability, _)) => PortError::Privilege {
            device: text,
            capability,
            said,
        },
        None => PortError::Probe {
            device: text,
            reason,
            said,
        },
    }
}

/// Whether the process has a capability, by its bit in `capability.h`. Without /proc: assumed.
fn has_capability(bit: u32) -> bool {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    effective.is_none_or(|set| set >> bit & 1 == 1)
}

/// The port of the device with this name.
fn find(name: &str) -> Option<u16> {
    let name = CString::new(name).ok()?;
    let mut id = 0;
    // SAFETY: `name` is a C string and `id` a live integer.
    let result = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut id) };
    (result == 0).then_some(id)
}

/// Whether the device itself is to spread by IPv6 flow. The kernel spreads over the queues of a TAP;
/// its driver would want to do so by itself.
fn can_spread(info: &rte_eth_dev_info) -> bool {
    let name = driver_name(info);
    dpdk_sys::DPDK_SYS_RSS_IPV6 & info.flow_type_rss_offloads != 0 && name != "net_tap"
}

/// Whether flows are put on different queues, by the device or by the kernel behind it.
pub(super) fn spreads_by_flow(info: &rte_eth_dev_info) -> bool {
    match driver_name(info).as_str() {
        "net_tap" | "net_af_packet" => true,
        // It takes the wish and does nothing.
        "net_null" => false,
        _ => can_spread(info),
    }
}

pub(super) fn driver_name(info: &rte_eth_dev_info) -> String {
    if info.driver_name.is_null() {
        return String::new();
    }
    // SAFETY: a driver's name is a C string that lives as long as the driver.
    unsafe { CStr::from_ptr(info.driver_name) }
        .to_string_lossy()
        .into_owned()
}

/// Whether a station can have this address: unicast and not zero.
fn is_station(mac: [u8; 6]) -> bool {
    mac != [0; 6] && mac[0] & 1 == 0
}

/// The largest IP packet that a device takes: some say that of frames only, and memif says so and takes any.
fn device_mtu(info: &rte_eth_dev_info) -> u16 {
    let frame = u16::try_from(info.max_rx_pktlen).unwrap_or(u16::MAX);
    if info.max_mtu == u16::MAX && frame > L2_OVERHEAD && driver_name(info) != "net_memif" {
        frame.saturating_sub(L2_OVERHEAD)
    } else {
        info.max_mtu
    }
}

/// The MTU of a kernel interface; `None` if there is no such interface.
fn interface_mtu(index: u32) -> Option<u16> {
    let name = nix::net::if_::if_indextoname(index).ok()?;
    let path = format!("/sys/class/net/{}/mtu", name.to_str().ok()?);
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Whether the device interrupts when its link changes.
fn tells_of_links(info: &rte_eth_dev_info) -> bool {
    // SAFETY: DPDK fills it with a pointer to the device's flags, which live as long as the port.
    let flags = unsafe { info.dev_flags.as_ref() };
    flags.is_some_and(|flags| flags & dpdk_sys::DPDK_SYS_LINK_INTERRUPT != 0)
}

/// An address that nobody has: locally administered, unicast.
fn random_station() -> [u8; 6] {
    let mut mac = [0; 6];
    // SAFETY: it writes six octets.
    unsafe { dpdk_sys::rte_eth_random_addr(mac.as_mut_ptr()) };
    mac
}

/// An address for the station at our end of a TAP wire whose kernel end has `mac`: different, and
/// as unique as that one, which is random. Locally administered, unicast.
fn other_end(mut mac: [u8; 6]) -> [u8; 6] {
    mac[0] = (mac[0] ^ 0x40) & 0xfe | 0x02;
    mac
}
