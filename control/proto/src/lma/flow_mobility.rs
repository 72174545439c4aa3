//! The flow mobility cache of one mobile: which flow is on which access (RFC 7864 §5.2,
//! RFC 6089 §4.3), and what that asks of the MAGs.

use std::collections::BTreeMap;
use std::time::Duration;

use flow::{Bid, Fid, FidPriority, Hnp, MnId, SelectorError, TrafficSelector};
use serde::{Deserialize, Serialize};

use super::binding_cache::{Bce, Mobile};
use super::change::{StatedPrefix, Statement, Statements};
use super::fallback::Course;
use crate::event::{LmaEvent, MoveTimes};
use crate::selector::can_match;

/// A flow to add.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FlowRequest {
    /// The mobile.
    pub mn_id: MnId,
    /// Its number; the lowest free one if `None`.
    pub fid: Option<Fid>,
    /// Its place; after all others if `None`.
    pub priority: Option<FidPriority>,
    /// Its downlink packets.
    pub selector: TrafficSelector,
    /// The access it goes over.
    pub bid: Bid,
}

/// Why a flow cannot be added, moved or deleted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FlowError {
    /// No such mobile is attached.
    #[error("no mobile {0} is registered here")]
    UnknownMobile(MnId),
    /// The mobile has no such flow.
    #[error("{mn_id} has no flow {fid}")]
    UnknownFlow {
        /// The mobile.
        mn_id: MnId,
        /// The flow.
        fid: Fid,
    },
    /// The mobile has no such access, or it is going away.
    #[error("{mn_id} has no active binding {bid}")]
    NotAttached {
        /// The mobile.
        mn_id: MnId,
        /// The access.
        bid: Bid,
    },
    /// The number is in use.
    #[error("flow {0} exists already: choose another FID or leave it out")]
    DuplicateFid(Fid),
    /// The priority is in use (RFC 6089 §4.2).
    #[error("priority {0} is that of flow {1}: every flow of a mobile needs its own")]
    DuplicatePriority(FidPriority, Fid),
    /// Another flow has the same selector: it would never match, and the draft's messages name
    /// flows by their selectors.
    #[error("flow {0} has the same selector")]
    DuplicateSelector(Fid),
    /// All numbers or priorities above the last are taken, or the mobile has too many flows.
    #[error("{0} has too many flows")]
    TooMany(MnId),
    /// The selector is not well formed.
    #[error("bad traffic selector: {0}")]
    Selector(#[from] SelectorError),
    /// The selector is for IPv4 packets, which have no binding here.
    #[error("bindings have IPv6 prefixes only, and the selector is for IPv4")]
    Ipv4,
    /// Both accesses are at one MAG, which cannot tell them apart by flow.
    #[error("bindings {0} and {1} are at the same MAG, which routes by prefix and not by flow")]
    SameMag(Bid, Bid),
    /// Signalling is needed and the MAG cannot be signalled to.
    #[error("the MAG of binding {0} does not take flow mobility messages")]
    NoSignalling(Bid),
}

/// What came of asking for a move.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MoveStarted {
    /// The MAG has been asked: [`LmaEvent::FlowMoved`] or [`LmaEvent::FlowMoveFailed`] follows.
    Signalling,
    /// No signalling was needed: the flow has moved, and [`LmaEvent::FlowMoved`] says so.
    Done,
    /// The flow is there already.
    AlreadyThere,
}

/// A flow as the cache has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FmcEntry {
    /// The flow.
    pub fid: Fid,
    /// Its place among the mobile's flows.
    pub priority: FidPriority,
    /// Its downlink packets.
    pub selector: TrafficSelector,
    /// The access it goes over.
    pub bid: Bid,
    /// The access it is on its way to.
    pub moving: Option<Moving>,
    /// Accesses it left a moment ago.
    pub(crate) draining: BTreeMap<Bid, Duration>,
    /// Where its packets go, as was last said.
    pub(crate) course: Course,
}

/// A move that has begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Moving {
    /// Where to.
    pub to: Bid,
    /// When it was asked for, on the monotonic clock.
    pub requested: Duration,
    /// When the first FMI left.
    pub initiated: Option<Duration>,
}

impl Moving {
    pub(crate) fn times(&self, completed: Duration) -> MoveTimes {
        MoveTimes {
            requested: self.requested,
            initiated: self.initiated,
            completed,
        }
    }
}

/// Whether a flow's packets take the access that its entry names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FlowState {
    /// They do.
    Active,
    /// The MAG has not acknowledged the flow: some or all packets take the default path.
    Pending,
    /// The access is gone: they match the next flow or take the default path (RFC 6089 §5.3.1).
    Inactive,
}

impl FmcEntry {
    /// Whether the entry depends on this access.
    pub(crate) fn names(&self, bid: Bid) -> bool {
        self.bid == bid || self.moving.is_some_and(|m| m.to == bid)
    }
}

/// Whether the MAG has to be told for a flow to be on its session.
pub(crate) fn needs_signalling(statement: &Statement, signal_hosted: bool) -> bool {
    let hosted = |stated: &StatedPrefix| !stated.off_link;
    !statement.hnps.is_empty() && (signal_hosted || !statement.hnps.iter().all(hosted))
}

impl Mobile {
    /// Whether a session's MAG hosts a prefix: as one of the session, or of another one there.
    pub(super) fn hosts(&self, at: &Bce, hnp: Hnp) -> bool {
        at.owns(hnp) || {
            let mut there = self.active().filter(|s| s.proxy_coa == at.proxy_coa);
            there.any(|s| s.owns(hnp))
        }
    }

    /// What a session's MAG has to know about a flow: the prefixes its packets can be addressed to.
    fn statement(&self, flow: &FmcEntry, hnps: &[Hnp], at: &Bce) -> Statement {
        let matching = hnps.iter().filter(|hnp| can_match(&flow.selector, **hnp));
        Statement {
            priority: flow.priority,
            selector: flow.selector.clone(),
            hnps: matching
                .map(|hnp| StatedPrefix {
                    hnp: *hnp,
                    off_link: !self.hosts(at, *hnp),
                })
                .collect(),
        }
    }

    /// What the MAG of a session should hold.
    pub(crate) fn wanted(&self, at: &Bce, signal_hosted: bool) -> Statements {
        if !at.is_active() || (self.flows.is_empty() && self.rescues.is_empty()) {
            return Statements::new();
        }
        let hnps = self.hnps();
        let of_flow = |flow: &FmcEntry| {
            let statement = if flow.names(at.bid) {
                self.statement(flow, &hnps, at)
            } else if flow.draining.contains_key(&at.bid) {
                at.sync.stated(flow.fid)?.clone()
            } else {
                return None;
            };
            needs_signalling(&statement, signal_hosted).then_some((flow.fid, statement))
        };
        let of_flows = self.flows.iter().filter_map(of_flow);
        of_flows.chain(self.rescued_by(at)).collect()
    }

    /// Whether a session's MAG is ready for a flow.
    pub(crate) fn is_ready(&self, flow: &FmcEntry, at: &Bce, signal_hosted: bool) -> bool {
        let statement = self.statement(flow, &self.hnps(), at);
        !needs_signalling(&statement, signal_hosted) || at.sync.is_settled(flow.fid, &statement)
    }

    /// Whether packets of a flow to one of the mobile's prefixes may be sent to the session it is on.
    pub(crate) fn may_use(&self, flow: &FmcEntry, at: &Bce, hnp: Hnp) -> bool {
        at.is_active() && (self.hosts(at, hnp) || at.sync.serves(flow.fid, &flow.selector, hnp))
    }

    /// Where a flow stands.
    pub(crate) fn flow_state(&self, flow: &FmcEntry) -> FlowState {
        let Some(at) = self.active_session(flow.bid) else {
            return FlowState::Inactive;
        };
        let hnps = self.hnps();
        let mut matching = hnps.iter().filter(|hnp| can_match(&flow.selector, **hnp));
        if matching.all(|hnp| self.may_use(flow, at, *hnp)) {
            FlowState::Active
        } else {
            FlowState::Pending
        }
    }

    /// Completes the moves whose target MAG is ready, and returns what happened.
    pub(crate) fn complete_moves(
        &mut self,
        now: Duration,
        drain: Duration,
        signal_hosted: bool,
    ) -> Vec<LmaEvent> {
        let ready = |flow: &FmcEntry| {
            let moving = flow.moving?;
            let at = self.active_session(moving.to)?;
            self.is_ready(flow, at, signal_hosted)
                .then_some((flow.fid, moving))
        };
        let ready: Vec<(Fid, Moving)> = self.flows.iter().filter_map(ready).collect();
        let mut events = Vec::new();
        for (fid, moving) in ready {
            let mn_id = self.mn_id.clone();
            let Some(flow) = self.flow_mut(fid) else {
                continue;
            };
            let from = flow.bid;
            flow.moving = None;
            flow.bid = moving.to;
            flow.course = Course::Own;
            flow.draining.remove(&moving.to);
            flow.draining.insert(from, now + drain);
            events.push(LmaEvent::FlowMoved {
                mn_id,
                fid,
                from,
                to: moving.to,
                times: moving.times(now),
            });
        }
        events
    }
}
