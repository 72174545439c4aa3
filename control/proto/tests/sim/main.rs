//! An LMA and two MAGs against each other on a virtual clock.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "all of this is test code, where a panic is a finding"
)]

mod checks;
mod liveness;
mod losses;
mod model;
mod revocation;
mod scenarios;
mod schedules;
mod statuses;
mod world;
