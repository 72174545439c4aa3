//! The words both planes of flowmob speak.
//!
//! The control plane decides in these types and the workers forward by them; neither
//! imports the other. Nothing here reads a clock, allocates on the packet path, or
//! knows about DPDK. Addresses are in their usual order; integers are host order.
//!
//! * [`id`]: who and what (mobiles, bindings, flows, paths, ports);
//! * [`selector`]: which packets (RFC 6088 traffic selectors and the key they match);
//! * [`path`]: where to (tunnels towards an LMA or a MAG, links towards a mobile);
//! * [`update`]: what the control plane tells a worker;
//! * [`punt`]: what a worker hands to the control plane;
//! * [`capture`]: which packets somebody wants to see, and what is told about them;
//! * [`mod@drop`]: every reason a packet can end without being forwarded.

pub mod capture;
pub mod drop;
pub mod id;
pub mod path;
pub mod punt;
pub mod selector;
mod text;
pub mod update;

pub use crate::capture::{Direction, End, Filter, PacketNumber, Seen};
pub use crate::drop::DropReason;
pub use crate::id::{
    AccessTechnology, Bid, Fid, FidPriority, HandoffIndicator, Hnp, HnpError, Lmaa, MacAddr, MnId,
    MnIdError, MnLinkLayerId, MobileId, PathId, PortId, ProxyCoa, WorkerId,
};
pub use crate::path::{Link, Path, Tunnel};
pub use crate::punt::Punt;
pub use crate::selector::{FlowKey, Interval, Selector, SelectorError, TrafficSelector};
pub use crate::update::{
    Binding, BindingCounters, Counters, PathCounters, PortCounters, Report, ReportRequest, Role,
    RouteNext, Rule, RuleAction, TableUpdate, Transmit, TransmitTo, Update,
};
