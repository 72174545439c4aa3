//! One opened device.

use std::sync::Arc;

use crate::device::Device;
use crate::eal::EalHandle;
use crate::error::PortError;
use crate::log::Mark;
use crate::mempool::Mempool;
use crate::queue::{Place, RxQueue, TxQueue};

pub(crate) use gate::Gate;
pub(crate) use opened::Opened;

mod gate;
mod interrupts;
mod opened;
mod relay;
mod socket;
mod stand_in;

/// The least MTU of an IPv6 link (RFC 8200 section 5).
pub const MIN_MTU: u16 = 1280;

/// How to open a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// Queue pairs: one for each worker.
    pub queues: u16,
    /// Packets the receive queue holds; rounded to what the driver can do.
    pub rx_descriptors: u16,
    /// Packets the transmit queue holds; rounded to what the driver can do.
    pub tx_descriptors: u16,
    /// The largest IP packet, in bytes.
    pub mtu: u16,
    /// The station address to use instead of the device's own: see [`Port::mac`].
    pub mac: Option<[u8; 6]>,
    /// Whether to receive frames that are for others.
    pub promiscuous: bool,
}

impl Default for PortConfig {
    /// One queue pair of 1024 descriptors each way, MTU 1500, the device's own address.
    fn default() -> Self {
        Self {
            queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: 1500,
            mac: None,
            promiscuous: false,
        }
    }
}

/// The state of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whether it carries frames.
    pub up: bool,
    /// Mbit/s, as far as the driver knows it.
    pub speed_mbps: u32,
}

/// The driver's own counters since the port was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets lost because a receive queue was full.
    pub rx_missed: u64,
    /// Packets received with errors.
    pub rx_errors: u64,
    /// Packets not received because the pool was empty.
    pub rx_no_mbuf: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets not sent.
    pub tx_errors: u64,
}

/// A configured device, shared by control and by its queues.
///
/// Its life is open, start, and being dropped: there is no stop, since a stop under a worker's
/// feet would be a race. When the port and all its queues are gone, the device is stopped and
/// closed.
#[derive(Debug)]
pub struct Port {
    opened: Arc<Opened>,
    mac: [u8; 6],
    mtu: u16,
    queues: u16,
    by_flow: bool,
    /// Whether its queues have their owners.
    handed_out: bool,
}

impl Port {
    /// Opens and configures a device. `index` is unique in the process; the receive queues take
    /// their packets from `pool`.
    ///
    /// # Errors
    ///
    /// [`PortError`], with DPDK's last words on the matter.
    pub fn open(
        eal: &EalHandle,
        device: &Device,
        index: u16,
        config: &PortConfig,
        pool: &Mempool,
    ) -> Result<Self, PortError> {
        let opened = Opened::new(eal, device, index, config, pool)?;
        Self::set_up(opened, config)
    }

    /// As [`Port::open`], with fewer queue pairs if the device has no more: [`Port::queues`] tells.
    ///
    /// # Errors
    ///
    /// As [`Port::open`].
    pub fn open_at_most(
        eal: &EalHandle,
        device: &Device,
        index: u16,
        config: &PortConfig,
        pool: &Mempool,
    ) -> Result<Self, PortError> {
        let mut config = config.clone();
        config.queues = config.queues.min(device.max_queues());
        let opened = Opened::new(eal, device, index, &config, pool)?;
        let info = opened.info()?;
        config.queues = config
            .queues
            .min(info.max_rx_queues.min(info.max_tx_queues));
        Self::set_up(opened, &config)
    }

    fn set_up(opened: Opened, config: &PortConfig) -> Result<Self, PortError> {
        let info = opened.info()?;
        opened.check(config, &info)?;
        opened.configure(config, &info)?;
        opened.set_up_queues(config)?;
        opened.set_mtu(config.mtu, &info)?;
        let mac = opened.settle_station(config, &opened::driver_name(&info))?;
        Ok(Self {
            opened: Arc::new(opened),
            mac,
            mtu: config.mtu,
            queues: config.queues,
            by_flow: opened::spreads_by_flow(&info),
            handed_out: false,
        })
    }

    /// Starts the device and hands out its queues, one pair for each worker. Works once.
    ///
    /// Without its other end, a port that shares memory with one receives and sends nothing; that may come later, and go
    /// and come again.
    ///
    /// # Errors
    ///
    /// [`PortError::Started`] the second time, [`PortError::Step`] if the driver refuses.
    pub fn start(&mut self) -> Result<Vec<(RxQueue, TxQueue)>, PortError> {
        let opened = &self.opened;
        if self.handed_out {
            return Err(PortError::Started {
                device: opened.device.clone(),
            });
        }
        opened.start(self.queues)?;
        self.handed_out = true;
        let place = |place| {
            let gate = opened.gate().map(Arc::clone)?;
            Some(Place { gate, place })
        };
        let pair = |queue| {
            let (port_id, port) = (opened.id, || Arc::clone(opened));
            (
                RxQueue {
                    port: port(),
                    port_id,
                    queue,
                    place: place(2 * usize::from(queue)),
                },
                TxQueue {
                    port: port(),
                    port_id,
                    queue,
                    place: place(2 * usize::from(queue) + 1),
                },
            )
        };
        Ok((0..self.queues).map(pair).collect())
    }

    /// The port's number in DPDK.
    pub fn id(&self) -> u16 {
        self.opened.id
    }

    /// The device's name in DPDK, such as `net_tap0`.
    pub fn name(&self) -> &str {
        self.opened.name()
    }

    /// The station address: the one to send from, to answer neighbour solicitations with, and to
    /// expect in frames for us.
    ///
    /// It is [`PortConfig::mac`] if given, else the device's own, with one exception. The device
    /// address of a TAP port *is* the address of the kernel's interface at the other end of the
    /// wire, and a station there: were ours the same, the kernel (or a bridge that the interface
    /// is a port of) would take frames for us as its own and deliver none. So a TAP port has a
    /// station address that is not the kernel interface's, and that it keeps in software.
    ///
    /// The device is made to deliver frames to the station address: it takes the address where it
    /// is ours to set, and else goes promiscuous, so frames for others may arrive too. Frames to
    /// groups arrive, whichever. Not so from an interface of the kernel that is used through packet
    /// or XDP sockets: the kernel has to be asked, which DPDK does not do.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The largest IP packet, in bytes.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// The number of queue pairs.
    pub fn queues(&self) -> u16 {
        self.queues
    }

    /// Whether the device, or the kernel behind it, puts the packets of different flows on different
    /// queues. For a tunnel that is at best its outer addresses and flow label.
    pub fn spreads_by_flow(&self) -> bool {
        self.queues > 1 && self.by_flow
    }

    /// The state of the link, as last seen by the driver.
    ///
    /// # Errors
    ///
    /// [`PortError::Step`] if the driver cannot tell.
    pub fn link(&self) -> Result<Link, PortError> {
        let link = self.opened.link()?;
        let passes = self.opened.gate().is_none_or(|gate| gate.is_open());
        Ok(Link {
            up: passes && link.link_status() != 0,
            speed_mbps: link.link_speed,
        })
    }

    /// The driver's counters.
    ///
    /// # Errors
    ///
    /// [`PortError::Step`] if the driver has none.
    pub fn stats(&self) -> Result<PortStats, PortError> {
        let mut stats = dpdk_sys::rte_eth_stats::default();
        let mark = Mark::now();
        // SAFETY: the port is open and the pointer is to a live structure.
        let result = unsafe { dpdk_sys::rte_eth_stats_get(self.opened.id, &raw mut stats) };
        self.opened.done("read its counters", result, mark)?;
        Ok(PortStats {
            rx_packets: stats.ipackets,
            rx_bytes: stats.ibytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            rx_no_mbuf: stats.rx_nombuf,
            tx_packets: stats.opackets,
            tx_bytes: stats.obytes,
            tx_errors: stats.oerrors,
        })
    }
}
