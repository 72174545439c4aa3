//! Who is served first while more comes in than can be kept up with: mobiles that are here, before any that are not.
//!
//! What a refused mobile costs is one answer. Nothing is noted of it, so that it waits for no disk, and it fills no table. Whoever runs
//! the LMA knows when that is needed, and says so by [`Lma::set_overloaded`].

use flow::MnId;
use pmip_wire::BindingStatus;

use super::Lma;
use super::pbu::{Arrival, Stop};

impl Lma {
    /// Refuses mobiles that have no session here with 130 from now on, or takes them again. Those that have are served on:
    /// refreshes, handoffs, further accesses and ends of sessions, and all that concerns their flows.
    pub fn set_overloaded(&mut self, on: bool) {
        self.overloaded = on;
    }

    /// Whether mobiles that have no session here are refused.
    pub fn is_overloaded(&self) -> bool {
        self.overloaded
    }

    /// Whether there is time for a mobile. Members of the pool are not asked to take it: that is more messages for each, where there
    /// are too many. One that asks us in a MAG's place hears 130 as well, and goes on to the next (RFC 6463 §5.3.2).
    pub(super) fn admit(&mut self, arrival: &Arrival, mn_id: &MnId) -> Result<(), Stop> {
        // What ends costs nothing, and makes room.
        if self.overloaded && !arrival.pbu.lifetime.is_zero() && !self.has(mn_id) {
            self.counters.overload += 1;
            return Err(BindingStatus::INSUFFICIENT_RESOURCES.into());
        }
        Ok(())
    }
}
