//! Mobiles and their traffic: `GET /v1/mobiles`.

use flow::{MnId, Role};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One entry of `GET /v1/mobiles`: a mobile that an LMA or MAG has registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct MobileRow {
    /// Whose table.
    #[schema(value_type = String)]
    pub(crate) role: Role,
    /// The mobile.
    #[schema(value_type = String)]
    pub(crate) mn: MnId,
    /// How many accesses it has here.
    pub(crate) accesses: usize,
    /// How many flows have rules.
    pub(crate) flows: usize,
    /// The traffic of its prefixes. Absent where a prefix was not counted: the first 1024 are, in the order of
    /// this list.
    pub(crate) traffic: Option<MobileTraffic>,
}

/// Traffic of a mobile's prefixes, all workers together; octets are those of inner packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct MobileTraffic {
    /// Packets towards the mobile.
    pub(crate) downlink_packets: u64,
    /// Octets towards it.
    pub(crate) downlink_octets: u64,
    /// Packets from it.
    pub(crate) uplink_packets: u64,
    /// Octets from it.
    pub(crate) uplink_octets: u64,
}
