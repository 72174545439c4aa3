//! The poll-mode worker: packets in, one decision each, packets out.
//!
//! ```text
//!             updates ring                                punts, reports
//! control ------------------> Worker::turn ------------------------------> control
//!                                  |
//!   rx burst -> look -> find -> choose -> rewrite, one straight loop a lane -> tx burst
//!               once    bulk    bulk          |
//!                                             +- odd ones, one by one: local, errors, held, punted
//! ```
//!
//! * [`rehearsal`] finds out what a worker would do with a packet.
//! * [`spread`] shares one port's packets among several workers.
//! * [`worker`] has the loop and the stages; [`io`] what it needs from ports; [`ring`] how it talks to
//!   the control plane; [`config`] what it is told at the start.
//! * Each step of the way is a file: `ingress` (own addresses, lanes), `classify` (rules), `encap`,
//!   `decap`, `route`, `local` (echo, neighbour discovery, Mobility Header), `icmp` (errors),
//!   `fragment` (outer packets cut and put together, inner ones that follow their first), `mtu` (what
//!   tunnels' ways carry), `neighbour` and `egress`.
//! * `capture` shows packets to whoever wants to see some.
//! * `simd` compiles the stages for several processors and picks one at the start.
//! * `table` holds one role's bindings and paths, laid out in cache lines.
//!
//! **Conservation.** After every turn, over all ports of a worker:
//! `rx + originated + taken_over = tx + drops + punted + consumed + held + handed_over`. A packet answered in its own buffer
//! counts as consumed and as originated. A solicitation that is answered here and also shown to the
//! control plane is consumed, not punted. `held` counts packets that wait for a neighbour, for a busy
//! port, or for the rest of their fragments. Of a packet sent in fragments all but the first count as
//! originated; of one put together, all but one as consumed.
//!
//! Nothing here needs DPDK: [`io::PacketIo`] is all a worker knows of its ports.

#![expect(
    clippy::inline_always,
    reason = "what a packet runs through must be compiled along with the stages, for each processor: see `simd`"
)]

pub mod config;
pub mod io;
#[cfg(feature = "micro")]
pub mod micro;
pub mod packet;
pub mod rehearsal;
pub mod ring;
pub mod spread;
pub mod worker;

mod capture;
mod classify;
mod decap;
mod egress;
mod encap;
mod ends;
mod fate;
mod fib;
mod fragment;
mod icmp;
mod ingress;
mod local;
mod mtu;
mod neighbour;
mod police;
mod role;
mod route;
mod simd;
mod table;

pub use config::{
    FragmentLimits, Idle, LmaConfig, MagConfig, NeighbourLimits, PortConfig, PuntRates, Rate,
    WorkerConfig,
};
pub use io::{BURST, Burst, PacketIo};
pub use packet::PacketBuf;
pub use ring::{ControlRings, RingSizes, WorkerRings, rings};
pub use spread::{Peers, PortShare, Spread, peers};
pub use table::TableError;
pub use worker::{Clock, Worker, WorkerError};
