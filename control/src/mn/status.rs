//! What a running logical interface tells about itself, on request.

use std::net::Ipv6Addr;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::Duration;

use flow::{Hnp, MacAddr};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The state of the logical interface at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub(crate) struct MnStatus {
    /// The TUN device.
    pub(crate) interface: String,
    /// Its MTU, in octets.
    pub(crate) mtu: u32,
    /// The prefixes on it.
    pub(crate) prefixes: Vec<PrefixRow>,
    /// The accesses below it.
    pub(crate) accesses: Vec<AccessRow>,
    /// The flows with downlink history; at most [`MnStatus::MAX_FLOWS`], the busiest first.
    pub(crate) flows: Vec<FlowRow>,
    /// How many flows have history.
    pub(crate) flow_count: usize,
    /// How often the downlink of a flow came to another access.
    #[serde(default)]
    pub(crate) flow_moves: u64,
    /// Why packets ended, for reasons that occurred.
    pub(crate) drops: Vec<DropRow>,
}

impl MnStatus {
    /// Most flows that a status lists.
    pub(crate) const MAX_FLOWS: usize = 1000;
}

/// One home network prefix.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = MnPrefixRow)]
pub(crate) struct PrefixRow {
    /// The prefix.
    #[schema(value_type = String)]
    pub(crate) prefix: Hnp,
    /// The address made from it.
    #[schema(value_type = String)]
    pub(crate) address: Ipv6Addr,
    /// Names of the accesses whose routers advertise it.
    pub(crate) accesses: Vec<String>,
}

/// One access.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = MnAccessRow)]
pub(crate) struct AccessRow {
    /// Its name in the configuration.
    pub(crate) name: String,
    /// The Ethernet interface.
    pub(crate) interface: String,
    /// Its station address, or the last it had; none if it has not been there yet.
    #[schema(value_type = Option<String>)]
    pub(crate) mac: Option<MacAddr>,
    /// Whether the interface is there and its link is up.
    pub(crate) up: bool,
    /// The router's link-local address, once it has advertised itself.
    #[schema(value_type = Option<String>)]
    pub(crate) router: Option<Ipv6Addr>,
    /// The router's link-layer address.
    #[schema(value_type = Option<String>)]
    pub(crate) router_mac: Option<MacAddr>,
    /// Frames received.
    pub(crate) rx_packets: u64,
    /// Packets of these handed to the logical interface.
    pub(crate) delivered: u64,
    /// Neighbour discovery messages of these.
    pub(crate) discovery: u64,
    /// Packets of the logical interface sent here.
    pub(crate) tx_packets: u64,
    /// Frames this host made: solicitations and advertisements.
    pub(crate) originated: u64,
}

/// One flow, as its uplink packets name it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = MnFlowRow)]
pub(crate) struct FlowRow {
    /// Source address.
    #[schema(value_type = String)]
    pub(crate) source: Ipv6Addr,
    /// Destination address.
    #[schema(value_type = String)]
    pub(crate) destination: Ipv6Addr,
    /// Upper-layer protocol.
    pub(crate) protocol: u8,
    /// Source and destination port.
    pub(crate) ports: Option<(u16, u16)>,
    /// Name of the access it uses.
    pub(crate) access: String,
    /// Downlink packets.
    pub(crate) downlink_packets: u64,
    /// Uplink packets.
    pub(crate) uplink_packets: u64,
    /// How often its downlink came to another access.
    pub(crate) moves: u32,
}

/// One reason and its packets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = MnDropRow)]
pub(crate) struct DropRow {
    /// The counter, named as in [`flow::DropReason`].
    pub(crate) reason: String,
    /// Packets.
    pub(crate) packets: u64,
}

/// Asks the running interface for its state; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct StatusHandle(Sender<StatusRequest>);

/// The other end of a [`StatusHandle`], for [`super::run`].
#[derive(Debug)]
pub(crate) struct StatusRequests(pub(super) Receiver<StatusRequest>);

#[derive(Debug)]
pub(super) struct StatusRequest {
    /// Whether the flows are wanted, too. There may be many, and packets wait while they are put in order.
    pub(super) flows: bool,
    pub(super) reply: SyncSender<MnStatus>,
}

/// Connects those who ask to the interface that answers.
pub(crate) fn status_channel() -> (StatusHandle, StatusRequests) {
    let (sender, receiver) = mpsc::channel();
    (StatusHandle(sender), StatusRequests(receiver))
}

impl StatusHandle {
    /// The state now; `None` if the interface has ended or does not answer within `timeout`.
    pub(crate) fn get(&self, timeout: Duration) -> Option<MnStatus> {
        self.ask(true, timeout)
    }

    /// The same without the flows.
    pub(crate) fn summary(&self, timeout: Duration) -> Option<MnStatus> {
        self.ask(false, timeout)
    }

    fn ask(&self, flows: bool, timeout: Duration) -> Option<MnStatus> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.0.send(StatusRequest { flows, reply }).ok()?;
        answer.recv_timeout(timeout).ok()
    }
}
