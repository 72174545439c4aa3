//! What happened, for people and for counters: nothing needs to be done about it.

use std::fmt;
use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{AccessTechnology, Bid, Fid, Hnp, Lmaa, MnId, ProxyCoa};

/// What happened at an LMA.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LmaEvent {
    /// A mobile attached over a new interface.
    BindingCreated {
        /// The mobile.
        mn_id: MnId,
        /// The interface.
        bid: Bid,
        /// Its MAG.
        proxy_coa: ProxyCoa,
        /// Its prefixes.
        hnps: Vec<Hnp>,
    },
    /// A session moved to another MAG (RFC 5213 §5.3.4).
    Handoff {
        /// The mobile.
        mn_id: MnId,
        /// The session.
        bid: Bid,
        /// The MAG it left.
        from: ProxyCoa,
        /// The MAG it is at.
        to: ProxyCoa,
    },
    /// A session's MAG lost the flow state it had, or a session came back in time.
    BindingRenewed {
        /// The mobile.
        mn_id: MnId,
        /// The session.
        bid: Bid,
    },
    /// A session is being deregistered; its flows fell back (RFC 5213 §5.3.5).
    BindingDeregistered {
        /// The mobile.
        mn_id: MnId,
        /// The session.
        bid: Bid,
    },
    /// A session is gone.
    BindingDeleted {
        /// The mobile.
        mn_id: MnId,
        /// The session.
        bid: Bid,
        /// Why.
        reason: DeletionReason,
    },
    /// A PBU was refused.
    PbuRefused {
        /// The MAG.
        from: Ipv6Addr,
        /// The mobile, if the PBU named one.
        mn_id: Option<MnId>,
        /// Status of the PBA (RFC 5213 §8.9).
        status: u8,
    },
    /// A flow's packets leave over another access.
    FlowMoved {
        /// The mobile.
        mn_id: MnId,
        /// The flow.
        fid: Fid,
        /// Where it was.
        from: Bid,
        /// Where it is.
        to: Bid,
        /// When, monotonic.
        times: MoveTimes,
    },
    /// A flow stays where it was.
    FlowMoveFailed {
        /// The mobile.
        mn_id: MnId,
        /// The flow.
        fid: Fid,
        /// Where it should have gone.
        to: Bid,
        /// Why it did not.
        reason: MoveFailure,
        /// When the move was asked for and given up, monotonic.
        times: MoveTimes,
    },
    /// A flow's state was removed at a MAG that no longer serves it.
    FlowReleased {
        /// The mobile.
        mn_id: MnId,
        /// The flow.
        fid: Fid,
        /// The session it was removed from.
        bid: Bid,
        /// Whether the MAG said so; otherwise it did not answer, and is told again when it is heard of.
        acknowledged: bool,
    },
    /// A MAG refused or did not answer an FMI that restores a flow's state. It is tried again later.
    FlowNotInstalled {
        /// The mobile.
        mn_id: MnId,
        /// The flow.
        fid: Fid,
        /// The session.
        bid: Bid,
        /// Why.
        reason: MoveFailure,
    },
    /// A MAG does not know message type 11: it gets no FMI until it registers a mobile anew.
    SignallingRefused {
        /// The MAG.
        proxy_coa: ProxyCoa,
    },
    /// A flow's access is not usable: its packets match the next flow or take the default path of their
    /// prefix (RFC 6089 §5.3.1).
    FlowFellBack {
        /// The mobile.
        mn_id: MnId,
        /// The flow.
        fid: Fid,
        /// The access that it belongs to.
        bid: Bid,
        /// The access of the default path; `None` if no MAG routes the prefix yet.
        to: Option<Bid>,
    },
    /// A flow that fell back is on its access again.
    FlowReturned {
        /// The mobile.
        mn_id: MnId,
        /// The flow.
        fid: Fid,
        /// Its access.
        bid: Bid,
    },
    /// A MAG does not answer heartbeats any more: its bindings are not used (RFC 5847 §3.1).
    PeerDown {
        /// The MAG.
        proxy_coa: ProxyCoa,
        /// Bindings with it.
        bindings: usize,
    },
    /// A MAG answers again and has lost nothing.
    PeerUp {
        /// The MAG.
        proxy_coa: ProxyCoa,
        /// Bindings with it.
        bindings: usize,
    },
    /// A MAG has restarted: bindings from before are void unless it registers them anew (RFC 5847 §3.2).
    PeerRestarted {
        /// The MAG.
        proxy_coa: ProxyCoa,
        /// Its new Restart Counter.
        counter: u32,
        /// Bindings that are void.
        lost: usize,
    },
    /// A MAG does not know Heartbeat, and is not asked again.
    HeartbeatRefused {
        /// The MAG.
        proxy_coa: ProxyCoa,
    },
    /// A revocation has ended; the bindings it was about are deleted, unless the MAG insists on them.
    RevocationEnded {
        /// The MAG.
        proxy_coa: ProxyCoa,
        /// The mobile; `None` if it was about all bindings with the MAG.
        mn_id: Option<MnId>,
        /// How.
        outcome: RequestOutcome,
    },
    /// A request to register a mobile again has ended (FORCE-REREGISTRATION, RFC 7077 §4.1).
    ReregistrationEnded {
        /// The MAG.
        proxy_coa: ProxyCoa,
        /// The mobile.
        mn_id: MnId,
        /// How.
        outcome: RequestOutcome,
    },
}

/// How something that a peer was asked for has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RequestOutcome {
    /// The peer answered with this status.
    #[error("answered with status {0}")]
    Answered(u8),
    /// The peer did not answer.
    #[error("not answered")]
    NoAnswer,
    /// The peer does not know the message.
    #[error("the message is not known")]
    NotUnderstood,
}

/// Why a binding cache entry was deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeletionReason {
    /// Its MAG deregistered it and nobody revived it in time.
    Deregistered,
    /// Its lifetime ran out.
    Expired,
    /// Its MAG lost it and did not register it anew in time.
    Lost,
    /// It was revoked (RFC 5846).
    Revoked,
    /// Its MAG has another session for the interface since.
    Superseded,
}

impl fmt::Display for DeletionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Deregistered => "deregistered",
            Self::Expired => "lifetime expired",
            Self::Lost => "lost by its MAG",
            Self::Revoked => "revoked",
            Self::Superseded => "superseded",
        })
    }
}

/// When the steps of a move took place, on the monotonic clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MoveTimes {
    /// The move was asked for.
    pub requested: Duration,
    /// The FMI first left; `None` if none was needed.
    pub initiated: Option<Duration>,
    /// The move was done or given up: the tables were switched in the same instant as the FMA came.
    pub completed: Duration,
}

/// Why a flow could not be put on an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MoveFailure {
    /// The MAG refused.
    #[error("the MAG refused with status {0}")]
    Refused(u8),
    /// The MAG did not answer.
    #[error("the MAG did not answer")]
    NoAnswer,
    /// The MAG does not know the signalling message.
    #[error("the MAG does not know flow mobility messages")]
    NotUnderstood,
    /// The session ended, or was registered anew, before the move was done.
    #[error("the access went away")]
    AccessGone,
    /// Another move of the flow was asked for.
    #[error("another move was asked for")]
    Superseded,
    /// The flow was deleted.
    #[error("the flow was deleted")]
    Deleted,
}

/// What happened at a MAG.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MagEvent {
    /// The LMA accepted a mobile: its prefixes are routed.
    Registered {
        /// The mobile.
        mn_id: MnId,
        /// Its access.
        access: AccessTechnology,
        /// Its prefixes.
        hnps: Vec<Hnp>,
    },
    /// The LMA refused a mobile: nothing is forwarded for it.
    Refused {
        /// The mobile.
        mn_id: MnId,
        /// Status of the PBA (RFC 5213 §8.9).
        status: u8,
        /// When it is asked again, monotonic; `None` if only a new attachment does.
        retry: Option<Duration>,
    },
    /// A PBA answered our request with other identifiers than we sent (RFC 5213 §6.9.1.2).
    PbaMismatch {
        /// The mobile.
        mn_id: MnId,
    },
    /// A mobile no longer answers on its link: it is deregistered.
    Vanished {
        /// The mobile.
        mn_id: MnId,
    },
    /// The LMA did not confirm a registration before it ran out; the MAG keeps asking.
    RegistrationExpired {
        /// The mobile.
        mn_id: MnId,
    },
    /// A mobile is gone and so are its routes.
    Detached {
        /// The mobile.
        mn_id: MnId,
        /// Whether the LMA confirmed.
        acknowledged: bool,
    },
    /// A prefix that a mobile had here belongs to another one: the LMA said so.
    PrefixReassigned {
        /// The mobile that lost it.
        mn_id: MnId,
        /// The prefix.
        hnp: Hnp,
    },
    /// An FMI was answered.
    FlowMobility {
        /// The mobile.
        mn_id: MnId,
        /// Status of the FMA.
        status: u8,
        /// Granted prefixes that are routed to the mobile and not its own here.
        off_link: Vec<Hnp>,
    },
    /// A flow's lifetime ran out.
    FlowExpired {
        /// The mobile.
        mn_id: MnId,
    },
    /// An LMA does not answer heartbeats any more; its sessions are registered again, and last as long as
    /// they had been granted (RFC 5847 §3.1).
    PeerDown {
        /// The LMA.
        lmaa: Lmaa,
    },
    /// An LMA answers again and has lost nothing; its sessions are refreshed.
    PeerUp {
        /// The LMA.
        lmaa: Lmaa,
    },
    /// An LMA has restarted: flows that it had put here are void, and sessions are registered again
    /// (RFC 5847 §3.2).
    PeerRestarted {
        /// The LMA.
        lmaa: Lmaa,
        /// Its new Restart Counter.
        counter: u32,
    },
    /// An LMA does not know Heartbeat, and is not asked again.
    HeartbeatRefused {
        /// The LMA.
        lmaa: Lmaa,
    },
    /// The LMA has revoked a session: nothing is forwarded, and nothing is asked for until the
    /// mobile attaches anew (RFC 5846 §9).
    Revoked {
        /// The mobile.
        mn_id: MnId,
        /// Why (RFC 5846 §5.1).
        trigger: u8,
    },
    /// The LMA wants a mobile registered again (FORCE-REREGISTRATION, RFC 7077 §4.1).
    ReregistrationAsked {
        /// The mobile.
        mn_id: MnId,
    },
}
