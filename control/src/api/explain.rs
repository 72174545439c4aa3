//! What would become of a packet: `POST /v1/explain`.

use std::net::Ipv6Addr;

use flow::{Hnp, MacAddr, MnId, Role};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A packet: fields as on the command line, or octets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Explain {
    /// Source address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) src: Option<Ipv6Addr>,
    /// Destination address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) dst: Option<Ipv6Addr>,
    /// Upper-layer protocol, by name or number; udp if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) proto: Option<String>,
    /// Source port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sport: Option<u16>,
    /// Destination port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dport: Option<u16>,
    /// Flow label, at most 20 bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) flow_label: Option<u32>,
    /// Traffic class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tc: Option<u8>,
    /// Instead of all these: the octets of an IPv6 packet, or of an Ethernet frame that holds one, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hex: Option<String>,
    /// The port that it arrives on, by name; one that it may be expected on if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<String>,
    /// The peer whose tunnel a mobile's packet comes through at an LMA, by name; its default one if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) via: Option<String>,
}

/// What would become of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Explanation {
    /// How it was taken to arrive, in words.
    pub(crate) arrival: String,
    /// The port.
    pub(crate) port: String,
    /// Whose packet it is, if a prefix is a mobile's: by destination, or else by source.
    pub(crate) binding: Option<BindingFound>,
    /// The rules for packets to the prefix, in their order.
    pub(crate) rules: Vec<RuleTried>,
    /// What becomes of it.
    pub(crate) result: Outcome,
    /// At an LMA: what would, as soon as one of the mobile's accesses is lost.
    pub(crate) if_lost: Vec<IfLost>,
}

/// The binding that a packet belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct BindingFound {
    /// Whose table.
    #[schema(value_type = String)]
    pub(crate) role: Role,
    /// The mobile.
    #[schema(value_type = String)]
    pub(crate) mn: MnId,
    /// The prefix.
    #[schema(value_type = String)]
    pub(crate) prefix: Hnp,
    /// Whether it is the destination's; otherwise the source's.
    pub(crate) of_destination: bool,
    /// Where packets to it go that match no rule.
    pub(crate) default: String,
}

/// A rule that the packet was compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct RuleTried {
    /// The flow.
    pub(crate) fid: u16,
    /// Its priority.
    pub(crate) priority: u16,
    /// Its selector.
    pub(crate) selector: String,
    /// Where its packets go.
    pub(crate) action: String,
    /// `matched`; `not matched`; or `not tried`, as one before it matched or the packet never came here.
    pub(crate) verdict: String,
    /// The fields that keep it from matching.
    pub(crate) mismatches: Vec<String>,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Outcome {
    /// `sent`, `fragmented`, `dropped`, `to the control plane`, `consumed` or `held`.
    pub(crate) fate: String,
    /// Why it is dropped, by the counter's name.
    pub(crate) reason: Option<String>,
    /// What that means.
    pub(crate) meaning: Option<String>,
    /// The path it takes.
    pub(crate) path: Option<String>,
    /// The frame that leaves.
    pub(crate) frame: Option<FrameOut>,
    /// Whether its sender is told or answered.
    pub(crate) answered: bool,
}

/// The outermost headers of a frame that leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct FrameOut {
    /// The port, by name.
    pub(crate) port: String,
    /// The next hop's station.
    #[schema(value_type = String)]
    pub(crate) to: MacAddr,
    /// Source address.
    #[schema(value_type = String)]
    pub(crate) source: Ipv6Addr,
    /// Destination address.
    #[schema(value_type = String)]
    pub(crate) destination: Ipv6Addr,
    /// Next header: 41 in a tunnel.
    pub(crate) next_header: u8,
    /// Hop limit.
    pub(crate) hop_limit: u8,
    /// Traffic class.
    pub(crate) traffic_class: u8,
    /// Flow label.
    pub(crate) flow_label: u32,
    /// Octets of the IPv6 packet.
    pub(crate) octets: usize,
}

/// What would become of it if an access were lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct IfLost {
    /// The access.
    pub(crate) bid: u16,
    /// Its MAG, by name.
    pub(crate) peer: String,
    /// What becomes of the packet at once.
    pub(crate) result: Outcome,
    /// The MAG that would be asked to serve the whole prefix, by name; the packet goes there once it has agreed.
    pub(crate) rescuer: Option<String>,
}
