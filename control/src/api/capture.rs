//! Packets as they go through the workers: `GET /v1/capture`.

use flow::MnId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Which packets, and when to stop. What is left out matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CaptureQuery {
    /// Packets from or to this mobile node, in or out of a tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub(crate) mn: Option<MnId>,
    /// Packets with a frame from or to this MAG or LMA, by name or address: in its tunnels, or its signalling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<String>,
    /// Packets that the rule of this flow decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fid: Option<u16>,
    /// Packets dropped for one of these reasons, separated by commas; `any` for all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) drop: Option<String>,
    /// Frames on this port, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<String>,
    /// Frames that come in, or those that leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) direction: Option<FrameDirection>,
    /// Octets kept of each frame; all of them if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) octets: Option<u32>,
    /// Frames after which the capture ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) packets: Option<u64>,
    /// Seconds after which it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds: Option<u64>,
}

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FrameDirection {
    /// It comes in.
    In,
    /// It leaves.
    Out,
}

/// A capture has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CaptureStarted {
    /// The process.
    pub(crate) name: String,
    /// Its ports, in the order of their numbers, and the appliance itself, which is where packets end that
    /// it made and that never left.
    pub(crate) interfaces: Vec<String>,
}
