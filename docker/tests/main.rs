//! Everything that flowmob is deployed as, started as the documents say: packages, containers, machines, pods.
//!
//! One program, so that what waits for a machine to boot, or for a download, leaves its core to another test.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

mod beside;
mod chart;
mod common;
mod container;
mod machine;
mod mobile;
mod package;
mod release;
