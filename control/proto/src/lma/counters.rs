//! What an LMA counts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What an LMA has counted since it began.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LmaCounters {
    /// PBAs by status.
    pub pbas: BTreeMap<u8, u64>,
    /// Messages to an address that is not the LMA's.
    pub wrong_destination: u64,
    /// Messages other than PBUs from MAGs that are not configured, and PBUs from them beyond the rate
    /// at which they are answered.
    pub unknown_peer: u64,
    /// Binding Updates without the P flag: those of mobiles themselves.
    pub not_proxy: u64,
    /// PBUs whose care-of address or source cannot be answered (RFC 6275 §6.1.7).
    pub bad_care_of_address: u64,
    /// PBUs refused because their MAG has as many sessions as one may.
    pub over_share: u64,
    /// Refusals that no event was made of, because there were many.
    pub unreported: u64,
    /// De-registrations of sessions that are unknown, or at another MAG (RFC 5213 §5.3.5).
    pub ignored_deregistrations: u64,
    /// PBUs for sessions that are being revoked, other than de-registrations.
    pub ignored_while_revoking: u64,
    /// BRIs sent, each copy counted.
    pub bris: u64,
    /// BRAs that answer none: late ones, mostly.
    pub stray_bras: u64,
    /// Requests to register a mobile again that were sent, each copy counted.
    pub reregistrations: u64,
    /// UPAs that answer one of those but are about another mobile.
    pub stray_upas: u64,
    /// PBUs that another LMA of the pool accepted, which the MAG was told.
    pub redirected: u64,
    /// PBUs of mobiles that are not here, refused because this LMA drains, and times that it passed itself over.
    pub draining: u64,
    /// PBUs of mobiles that are not here, refused because this LMA has too much to do.
    pub overload: u64,
    /// Questions of other LMAs of the pool about mobiles that are not here.
    pub pool_questions: u64,
    /// Times that another LMA of the pool was passed over as it does not answer heartbeats.
    pub members_passed_over: u64,
    /// PBAs of other LMAs of the pool that answer nothing that is waited for: late ones, mostly.
    pub stray_pool_answers: u64,
    /// PBUs that another LMA could be shown, but that had been passed on before.
    pub passed_on_before: u64,
    /// Messages of types that an LMA does not receive.
    pub unexpected: u64,
}
