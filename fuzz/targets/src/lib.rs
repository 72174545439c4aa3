//! What the fuzzers call: one module a target, each with a plain function `run` from octets to nothing.
//!
//! A panic is a finding, and so is a broken promise: every target asserts what its subject says of itself.
//! The same functions are run over the kept inputs by an ordinary test, so they need nothing but a stable
//! compiler.
//!
//! | target | what gets the octets |
//! | --- | --- |
//! | [`message`] | the decoder of Mobility Headers, and its encoder with what came out |
//! | [`selector`] | the decoder of traffic selectors |
//! | [`receiver`] | the door for Mobility Header packets, with its answers and their rate |
//! | [`lma`] | an LMA: messages of several MAGs, commands and time |
//! | [`mag`] | a MAG: messages of LMAs, mobiles that come and go, and time |
//! | [`worker`] | a worker on memory ports: frames, updates and time |
//! | [`neighbours`] | neighbour discovery of an LMA or MAG |
//! | [`host`] | packets and neighbour discovery as a mobile node reads them |
//! | [`configuration`] | the text of a configuration file |
//! | [`esp`] | protected signalling between a sender and a receiver |
//!
//! Targets that take a sequence of things read it with [`arbitrary::Unstructured`]: every octet string is
//! some sequence, and small changes of one make small changes of the other.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a target says that it found something"
)]

pub mod configuration;
pub mod esp;
pub mod host;
pub mod lma;
pub mod mag;
pub mod message;
pub mod neighbours;
pub mod receiver;
pub mod selector;
pub mod worker;

mod choice;
mod tables;

/// What gets the octets.
pub type Run = fn(&[u8]);

/// All targets by name, which is also that of the fuzzer and of the directory of kept inputs.
pub const TARGETS: &[(&str, Run)] = &[
    ("configuration", configuration::run),
    ("esp", esp::run),
    ("host", host::run),
    ("lma", lma::run),
    ("mag", mag::run),
    ("message", message::run),
    ("neighbours", neighbours::run),
    ("receiver", receiver::run),
    ("selector", selector::run),
    ("worker", worker::run),
];
