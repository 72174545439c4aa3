//! Proxy Mobile IPv6 with flow mobility as state machines: no clock, no socket, no thread.
//!
//! An [`Lma`] and a [`Mag`] take in messages and the passing of time with `handle_*` methods, and
//! give out what they want done with `poll_*` methods. The same inputs and seed give the same
//! outputs, so two of them on a virtual clock can be put through hours of loss and restarts in
//! milliseconds, and a field problem can be replayed.
//!
//! ```text
//!  octets --> Receiver --> Message --> Lma, Mag --> Command: messages, table updates, advertisements
//!                 |         Now -------^      `---> Event
//!                 `--> Reply
//! ```
//!
//! A [`Command`] is data. Carried out in order, they keep the promise that flow mobility rests on: a
//! MAG acknowledges a flow only when its route is in force, and the LMA sends a flow's packets to a
//! MAG only after it has acknowledged.

mod command;
mod config;
mod event;
mod exact;
mod heartbeat;
mod kept;
mod outbox;
mod pool;
mod random;
mod rate;
mod receiver;
mod record;
mod rendezvous;
mod selector;
mod table;
mod time;
mod timer;

pub mod lma;
pub mod mag;
pub mod recording;

pub use command::{AdvertisedPrefix, Command, RouterAdvertisement};
pub use config::{
    Dialect, LmaConfig, LmaPeer, MagConfig, MagPeer, MobileProfile, PrefixModel, Retransmission,
    TunnelConfig,
};
pub use event::{DeletionReason, LmaEvent, MagEvent, MoveFailure, MoveTimes, RequestOutcome};
pub use heartbeat::{HeartbeatConfig, HeartbeatCounters, HeartbeatView, Liveness};
pub use lma::{FlowError, FlowRequest, Lma, LmaFollower, MoveStarted};
pub use mag::{AttachError, Attachment, Mag, Probe};
pub use pool::{PoolError, PrefixPool};
pub use receiver::{Receiver, ReceiverCounters, Rejected, Reply};
pub use record::{Record, Restored, Spoilt};
pub use time::Now;
