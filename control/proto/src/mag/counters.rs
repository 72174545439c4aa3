//! What a MAG counts.

use serde::{Deserialize, Serialize};

/// What a MAG has counted since it began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MagCounters {
    /// PBUs sent, each copy counted.
    pub pbus: u64,
    /// PBAs that answer an outstanding PBU.
    pub pbas: u64,
    /// PBAs that answer none, or lack the P flag: late ones, mostly.
    pub stray_pbas: u64,
    /// FMIs carried out.
    pub fmis_accepted: u64,
    /// FMIs refused.
    pub fmis_refused: u64,
    /// Copies of FMIs, which were answered as the first was.
    pub fmi_copies: u64,
    /// Router Solicitations without an answer, because the mobile asks too often.
    pub solicitations_unanswered: u64,
    /// BRIs after which sessions ended.
    pub bris_accepted: u64,
    /// BRIs refused.
    pub bris_refused: u64,
    /// Copies of BRIs, which were answered as the first was.
    pub bri_copies: u64,
    /// Requests to register a mobile again, copies included.
    pub reregistrations: u64,
    /// Those about mobiles that are not attached.
    pub reregistrations_refused: u64,
    /// PBAs that assigned a session another LMA of the pool.
    pub redirects_followed: u64,
    /// PBAs that assigned a session an LMA that is in no pool here; the session is not served.
    pub redirects_refused: u64,
    /// Redirect options that were not asked for.
    pub redirects_ignored: u64,
    /// Messages to an address that is not the MAG's.
    pub wrong_destination: u64,
    /// Messages from LMAs that are not configured.
    pub unknown_peer: u64,
    /// Messages of types that a MAG does not receive.
    pub unexpected: u64,
}
