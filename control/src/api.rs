//! The management API's types, version 1: what the server sends, the client reads and
//! `--json` prints. Field names are part of the interface.

#[cfg(feature = "dpdk")]
pub(crate) mod capture;
pub(crate) mod config;
pub(crate) mod event;
pub(crate) mod explain;
pub(crate) mod log;
pub(crate) mod mobiles;

use std::net::Ipv6Addr;

use flow::{Hnp, MacAddr, MnId, PathCounters, Role, TrafficSelector};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Status {
    /// The process's name from its configuration.
    pub(crate) name: String,
    /// Version of the program.
    pub(crate) version: String,
    /// What the process does: `lma`, `mag`, `mn`.
    pub(crate) roles: Vec<String>,
    /// Whether it can serve packets: as `/readyz` says.
    pub(crate) ready: bool,
    /// Seconds since the process became ready.
    pub(crate) uptime_seconds: u64,
    /// Number of workers.
    pub(crate) workers: usize,
    /// Of one of several processes of which one serves, whether it is that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) leads: Option<bool>,
    /// Whether an LMA takes no new mobiles.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) draining: bool,
    /// Sessions that an LMA has; only an LMA has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sessions: Option<usize>,
}

/// `GET /readyz`; with a status of 503 if it is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Readiness {
    /// Whether the configuration is applied, all ports are up, the disk takes what is to be kept, and the process has not
    /// been told to stop; at a mobile node,
    /// whether it has an address and a router for it.
    pub(crate) ready: bool,
    /// Names of ports whose link is down.
    pub(crate) ports_down: Vec<String>,
    /// Whether the disk, or etcd, refuses what is to be kept of sessions and flows; of an LMA that stands by, whether it
    /// hears nothing from etcd.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) store_failing: bool,
    /// Names of a mobile node's accesses that are down or have no router.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) accesses_down: Vec<String>,
}

/// One entry of `GET /v1/bindings`: a binding cache entry of an LMA, a binding update list entry of a
/// MAG, or an access of a mobile node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct BindingRow {
    /// Whose table.
    #[schema(value_type = String)]
    pub(crate) role: Role,
    /// The mobile.
    #[schema(value_type = String)]
    pub(crate) mn: MnId,
    /// Binding identifier; only an LMA has it.
    pub(crate) bid: Option<u16>,
    /// Priority of the binding identifier, lower first; only an LMA has it.
    pub(crate) bid_priority: Option<u8>,
    /// Access technology by name.
    pub(crate) access_technology: String,
    /// Link-layer identifier.
    pub(crate) link_layer: Option<String>,
    /// The session's own prefixes.
    #[schema(value_type = Vec<String>)]
    pub(crate) prefixes: Vec<Hnp>,
    /// Off-link prefixes granted for flow mobility and acknowledged.
    #[schema(value_type = Vec<String>)]
    pub(crate) granted: Vec<Hnp>,
    /// The other end's name in the configuration.
    pub(crate) peer: String,
    /// The other end's address: the Proxy-CoA at an LMA, the LMAA at a MAG.
    #[schema(value_type = String)]
    pub(crate) peer_address: Ipv6Addr,
    /// Where in its life the entry is.
    pub(crate) state: String,
    /// Seconds left of the lifetime.
    pub(crate) remaining_seconds: u64,
    /// The access port; only a MAG has it.
    pub(crate) port: Option<String>,
}

/// One entry of `GET /v1/flows`: the flow mobility cache of an LMA, or the flow state of a MAG.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct FlowRow {
    /// Whose table.
    #[schema(value_type = String)]
    pub(crate) role: Role,
    /// The mobile.
    #[schema(value_type = String)]
    pub(crate) mn: MnId,
    /// Flow identifier; only an LMA has it.
    pub(crate) fid: Option<u16>,
    /// Priority, lower first; only an LMA has it.
    pub(crate) priority: Option<u16>,
    /// Which downlink packets.
    #[schema(value_type = Object)]
    pub(crate) selector: TrafficSelector,
    /// The same for people.
    pub(crate) selector_text: String,
    /// The access it runs over; only an LMA knows.
    pub(crate) bid: Option<u16>,
    /// The MAG it runs over, by name.
    pub(crate) via: Option<String>,
    /// `active`, `inactive` (its access is gone), or `moving`.
    pub(crate) state: String,
    /// Downlink packets that matched.
    pub(crate) packets: u64,
}

/// One entry of `GET /v1/paths`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PathRow {
    /// Whose table.
    #[schema(value_type = String)]
    pub(crate) role: Role,
    /// Index in it.
    pub(crate) id: u16,
    /// The path.
    #[schema(value_type = Object)]
    pub(crate) path: flow::Path,
    /// What a router has said lately that a tunnel's way carries, in octets, outer header included.
    pub(crate) learned_mtu: Option<u16>,
    /// Its traffic, all workers together.
    #[schema(value_type = Object)]
    pub(crate) counters: PathCounters,
}

/// One entry of `GET /v1/routes`: where a prefix leads, as the workers hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct RouteRow {
    /// Whose table; `None` for static routes.
    #[schema(value_type = Option<String>)]
    pub(crate) role: Option<Role>,
    /// Destinations.
    pub(crate) prefix: String,
    /// The mobile, where the prefix is one's home network prefix.
    #[schema(value_type = Option<String>)]
    pub(crate) mn: Option<MnId>,
    /// Where packets go that match no flow rule.
    pub(crate) next: String,
    /// Where packets from the prefix go.
    pub(crate) uplink: Option<String>,
    /// Whether packets to the prefix from mobiles of the same MAG do not go by the LMA.
    #[serde(default)]
    pub(crate) local: bool,
}

/// One entry of `GET /v1/peers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PeerRow {
    /// Our role towards it.
    #[schema(value_type = String)]
    pub(crate) role: Role,
    /// Its name in the configuration.
    pub(crate) name: String,
    /// Its address.
    #[schema(value_type = String)]
    pub(crate) address: Ipv6Addr,
    /// The signalling dialect.
    pub(crate) signalling: String,
    /// `esp` or `none`.
    pub(crate) protection: String,
    /// Security parameters index of the association that we send with, if there is protection.
    pub(crate) sent_spi: Option<u32>,
    /// That of the last authentic packet from it.
    pub(crate) heard_spi: Option<u32>,
    /// Sessions over it.
    pub(crate) sessions: usize,
    /// Whether it is alive: `up`, `down`, `unknown` (not asked, or no answer yet), or `no heartbeat` (it
    /// does not know them).
    pub(crate) state: String,
    /// Its Restart Counter, if it told.
    pub(crate) restart_counter: Option<u32>,
    /// Answers to heartbeats missing in a row.
    pub(crate) missing: u32,
    /// Heartbeat requests sent.
    pub(crate) requests: u64,
    /// Answers to them.
    pub(crate) answers: u64,
    /// How often it went down.
    pub(crate) downs: u64,
    /// How often it was found to have restarted.
    pub(crate) restarts: u64,
}

/// One entry of `GET /v1/ports`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PortRow {
    /// Its name in the configuration.
    pub(crate) name: String,
    /// The device behind it.
    pub(crate) device: String,
    /// Its station address.
    #[schema(value_type = String)]
    pub(crate) mac: MacAddr,
    /// Largest IPv6 packet, in octets.
    pub(crate) mtu: u16,
    /// Whether mobiles are on it.
    pub(crate) access: bool,
    /// Packets received by all workers.
    pub(crate) rx_packets: u64,
    /// Octets received.
    pub(crate) rx_octets: u64,
    /// Packets sent.
    pub(crate) tx_packets: u64,
    /// Octets sent.
    pub(crate) tx_octets: u64,
    /// Packets the device lost before a worker saw them.
    pub(crate) rx_missed: u64,
}

/// One entry of `GET /v1/workers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct WorkerRow {
    /// Its number.
    pub(crate) id: u16,
    /// The core it is pinned to, if any.
    pub(crate) core: Option<usize>,
    /// Poll-loop turns.
    pub(crate) turns: u64,
    /// Turns that found packets.
    pub(crate) busy_turns: u64,
    /// Packets received.
    pub(crate) rx_packets: u64,
    /// Packets sent.
    pub(crate) tx_packets: u64,
    /// Packets dropped, all reasons.
    pub(crate) drops: u64,
    /// Packets handed to the control plane.
    pub(crate) punted: u64,
    /// Packets handed to other workers.
    pub(crate) handed_over: u64,
    /// Packets taken from other workers.
    pub(crate) taken_over: u64,
    /// Packets sent into tunnels in fragments.
    pub(crate) fragmented: u64,
    /// Packets put together from fragments.
    pub(crate) reassembled: u64,
    /// Fragments of mobiles' packets that came before their first one.
    pub(crate) early_fragments: u64,
    /// Table updates applied.
    pub(crate) updates: u64,
}

/// One entry of `GET /v1/drops`: a reason that occurred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct DropRow {
    /// `data-plane` or `signalling`.
    pub(crate) plane: String,
    /// The counter.
    pub(crate) reason: String,
    /// Its value.
    pub(crate) packets: u64,
    /// What it means.
    pub(crate) meaning: String,
}

/// `POST /v1/flows`: adds a flow rule to a mobile. Selector fields are texts as on the command line:
/// an address, a prefix or `first-last`; a number or `first-last`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FlowAdd {
    /// The mobile.
    pub(crate) mn: String,
    /// Access to put it on.
    pub(crate) bid: u16,
    /// Flow identifier; the next free one if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fid: Option<u16>,
    /// Priority; after all others if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<u16>,
    /// Source of downlink packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) src: Option<String>,
    /// Destination of downlink packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dst: Option<String>,
    /// Upper-layer protocol, by name or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) proto: Option<String>,
    /// Source port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sport: Option<String>,
    /// Destination port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dport: Option<String>,
    /// Flow label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) flow_label: Option<String>,
    /// Traffic class; its two ECN bits are ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tc: Option<String>,
    /// Security parameter index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spi: Option<String>,
}

/// Answer to `POST /v1/flows`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct FlowAdded {
    /// The flow's identifier.
    pub(crate) fid: u16,
}

/// `POST /v1/flows/move`: moves a flow to another access; answered when the move has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FlowMove {
    /// The mobile.
    pub(crate) mn: String,
    /// The flow.
    pub(crate) fid: u16,
    /// Its new access.
    pub(crate) bid: u16,
}

/// Answer to `POST /v1/flows/move`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct FlowMoved {
    /// The flow.
    pub(crate) fid: u16,
    /// Its access from now on.
    pub(crate) bid: u16,
    /// Whether the MAG was asked first (FMI and FMA), or hosted the prefix already.
    pub(crate) signalled: bool,
    /// From the request until every worker forwards to the new access, in microseconds.
    pub(crate) microseconds: u64,
}

impl FlowMoved {
    /// The same for people.
    pub(crate) fn text(&self, mn: &str) -> String {
        let how = if self.signalled {
            "after FMI and FMA"
        } else {
            "without signalling"
        };
        format!(
            "flow {} of {mn} moved to access {} {how}, in {} us",
            self.fid, self.bid, self.microseconds
        )
    }
}

/// `POST /v1/flows/delete`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FlowDelete {
    /// The mobile.
    pub(crate) mn: String,
    /// The flow.
    pub(crate) fid: u16,
}

/// Where an attachment comes from, as far as whoever asks for it knows (RFC 5213 §6.9.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Handoff {
    /// An interface that was not attached before: handoff indicator 1.
    New,
    /// Another interface of the mobile, whose session this one takes over: 2.
    Interfaces,
    /// The same interface, at another MAG: 3.
    Mags,
    /// Nobody knows: 4.
    Unknown,
    /// A new interface that shares the prefixes of the others: 6 (RFC 7864 §3.2.1).
    Sharing,
}

/// `POST /v1/attach` and `POST /v1/detach`, at a MAG.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attach {
    /// The mobile, as in the MAG's table.
    pub(crate) mn: String,
    /// The access port; needed only where the mobile is on several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<String>,
    /// Where it comes from; as configured if left out. Not for `detach`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) handoff: Option<Handoff>,
}

/// `POST /v1/keys/reload`: reads the key files again.
#[cfg(feature = "dpdk")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeysReload {}

/// `POST /v1/revoke`, at an LMA: ends bindings (RFC 5846). Those of a mobile, of one of its accesses, of a
/// mobile at one MAG, or all with a MAG.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Revoke {
    /// The mobile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mn: Option<String>,
    /// The access; only with a mobile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bid: Option<u16>,
    /// The MAG, by name or address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mag: Option<String>,
}

/// `POST /v1/service`, at an LMA: serves a mobile or no longer; then its bindings are revoked. Until
/// the process ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    /// The mobile.
    pub(crate) mn: String,
    /// Whether it is served.
    pub(crate) on: bool,
}

/// `POST /v1/drain`, at an LMA: takes no new mobiles, or takes them again. Outlives the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Drain {
    /// Whether it drains.
    pub(crate) on: bool,
}

/// What an LMA that drains, or does no longer, still has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Drained {
    /// Whether it takes no new mobiles.
    pub(crate) draining: bool,
    /// Sessions that it has.
    pub(crate) sessions: usize,
}

/// `POST /v1/reregister`, at an LMA: asks MAGs to register a mobile again (RFC 7077 §4.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reregister {
    /// The mobile.
    pub(crate) mn: String,
    /// One of its accesses; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bid: Option<u16>,
    /// The MAG, by name or address; it is asked even if no binding with it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mag: Option<String>,
}

/// What was done, where there is nothing else to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Done {
    /// In words.
    pub(crate) done: String,
}

/// An error, in the form of RFC 9457.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Problem {
    /// A name for the kind of problem.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The kind in words.
    pub(crate) title: String,
    /// HTTP status.
    pub(crate) status: u16,
    /// This occurrence in words, with a remedy where there is one.
    pub(crate) detail: String,
}

impl Problem {
    /// The request names something that does not exist.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new("not-found", "No such thing", 404, detail)
    }

    /// The request cannot be read.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(
            "bad-request",
            "The request cannot be understood",
            400,
            detail,
        )
    }

    /// The asker has not shown that it may; 401 if a token would do.
    pub(crate) fn unauthorized(detail: impl Into<String>, token: bool) -> Self {
        let status = if token { 401 } else { 403 };
        Self::new("unauthorized", "Not for everybody", status, detail)
    }

    /// The request is clear but what it asks cannot be done now.
    pub(crate) fn refused(detail: impl Into<String>) -> Self {
        Self::new("refused", "Refused", 409, detail)
    }

    /// Something that should answer does not.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new("unavailable", "Not available", 503, detail)
    }

    /// Another end did not agree or answer.
    #[cfg(feature = "dpdk")]
    pub(crate) fn peer(detail: impl Into<String>) -> Self {
        Self::new("peer", "The peer did not agree", 502, detail)
    }

    fn new(kind: &str, title: &str, status: u16, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:flowmob:{kind}"),
            title: title.to_owned(),
            status,
            detail: detail.into(),
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}
