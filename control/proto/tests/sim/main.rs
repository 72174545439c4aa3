//! An LMA and its MAGs against each other on a virtual clock.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "all of this is test code, where a panic is a finding"
)]

mod answers;
mod checks;
mod clocks;
mod handoffs;
mod lists;
mod liveness;
mod losses;
mod model;
mod ordering;
mod pools;
mod prefixes;
mod presence;
mod records;
mod revocation;
mod roaming;
mod scenarios;
mod schedules;
mod seeds;
mod standby;
mod statuses;
mod world;
