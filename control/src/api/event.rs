//! What happens in a process, for whoever listens: `GET /v1/events` and `/v1/events/stream`.

use std::fmt;
use std::net::Ipv6Addr;

use flow::{Hnp, MnId, Role};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Event {
    /// One more than that of the event before it in this process; the first is 1.
    pub(crate) id: u64,
    /// When, in milliseconds since 1970 UTC.
    pub(crate) unix_ms: u64,
    /// Whether somebody should look at it.
    pub(crate) warning: bool,
    /// For people.
    pub(crate) text: String,
    /// What it was.
    #[serde(flatten)]
    pub(crate) what: What,
}

/// The kinds of events, with what they are about. Programs should pass over kinds they do not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum What {
    /// The process serves what its configuration says.
    ConfigurationApplied,
    /// A mobile is registered over an access.
    Attached {
        /// Our role.
        #[schema(value_type = String)]
        role: Role,
        /// The mobile.
        #[schema(value_type = String)]
        mn: MnId,
        /// The access; only an LMA knows it.
        bid: Option<u16>,
        /// The other end, by name.
        peer: Option<String>,
        /// The session's prefixes.
        #[schema(value_type = Vec<String>)]
        prefixes: Vec<Hnp>,
    },
    /// A mobile is gone from an access.
    Detached {
        /// Our role.
        #[schema(value_type = String)]
        role: Role,
        /// The mobile.
        #[schema(value_type = String)]
        mn: MnId,
        /// The access; only an LMA knows it.
        bid: Option<u16>,
        /// Why.
        reason: String,
    },
    /// An access is about to go: its flows use others (RFC 5213 §5.3.5).
    Detaching {
        /// The mobile.
        #[schema(value_type = String)]
        mn: MnId,
        /// The access.
        bid: u16,
    },
    /// A session moved to another MAG.
    Handoff {
        /// The mobile.
        #[schema(value_type = String)]
        mn: MnId,
        /// The session.
        bid: u16,
        /// The MAG it left, by name.
        from: String,
        /// The MAG it is at.
        to: String,
    },
    /// A session was registered again, without what its MAG knew of flows.
    Renewed {
        /// The mobile.
        #[schema(value_type = String)]
        mn: MnId,
        /// The session.
        bid: u16,
    },
    /// A registration was refused.
    Refused {
        /// Our role.
        #[schema(value_type = String)]
        role: Role,
        /// The mobile, if the message named one.
        #[schema(value_type = Option<String>)]
        mn: Option<MnId>,
        /// The MAG, by name; only at an LMA.
        peer: Option<String>,
        /// Status of the PBA.
        status: u8,
        /// The status in words.
        reason: String,
    },
    /// A mobile's registration is in doubt at its MAG.
    RegistrationInDoubt {
        /// The mobile.
        #[schema(value_type = String)]
        mn: MnId,
        /// Why.
        reason: String,
    },
    /// A flow's packets leave over another access.
    FlowMoved {
        /// The mobile.
        #[schema(value_type = String)]
        mn: MnId,
        /// The flow.
        fid: u16,
        /// The access it was on.
        from: u16,
        /// The access it is on.
        to: u16,
        /// From the request to the decision to switch.
        microseconds: u64,
    },
    /// A flow stays where it was.
    FlowNotMoved {
        /// The mobile.
        #[schema(value_type = String)]
        mn: MnId,
        /// The flow.
        fid: u16,
        /// Where it should have gone.
        to: u16,
        /// Why it did not.
        reason: String,
    },
    /// A flow's access is not usable; its packets take another.
    FlowFellBack {
        /// The mobile.
        #[schema(value_type = String)]
        mn: MnId,
        /// The flow.
        fid: u16,
        /// The access that it belongs to.
        bid: u16,
        /// The access of the default path, if there is one.
        to: Option<u16>,
    },
    /// A flow that fell back is on its access again.
    FlowReturned {
        /// The mobile.
        #[schema(value_type = String)]
        mn: MnId,
        /// The flow.
        fid: u16,
        /// Its access.
        bid: u16,
    },
    /// A MAG that no longer serves a flow was told so.
    FlowReleased {
        /// The mobile.
        #[schema(value_type = String)]
        mn: MnId,
        /// The flow.
        fid: u16,
        /// The access it left.
        bid: u16,
        /// Whether the MAG said that it has understood.
        acknowledged: bool,
    },
    /// A MAG does not take a flow; it is asked again later.
    FlowNotInstalled {
        /// The mobile.
        #[schema(value_type = String)]
        mn: MnId,
        /// The flow.
        fid: u16,
        /// The access.
        bid: u16,
        /// Why.
        reason: String,
    },
    /// A MAG was told what it serves of a mobile's flows.
    FlowState {
        /// The mobile.
        #[schema(value_type = String)]
        mn: MnId,
        /// What the MAG answered: 0 is success.
        status: u8,
        /// Granted prefixes that are not the session's own.
        #[schema(value_type = Vec<String>)]
        granted: Vec<Hnp>,
    },
    /// A flow's lifetime at a MAG ran out.
    FlowExpired {
        /// The mobile.
        #[schema(value_type = String)]
        mn: MnId,
    },
    /// A peer does not answer heartbeats any more.
    PeerDown(Peer),
    /// A peer answers again, and has lost nothing.
    PeerUp(Peer),
    /// A peer has restarted.
    PeerRestarted(Peer),
    /// A peer does not know a kind of message, and is not sent it any more.
    PeerLimited {
        /// The peer.
        #[serde(flatten)]
        peer: Peer,
        /// What it does not know.
        message: String,
    },
    /// A revocation has ended at an LMA.
    Revoked {
        /// The mobile; `None` if it was about all bindings with a peer.
        #[schema(value_type = Option<String>)]
        mn: Option<MnId>,
        /// The MAG, by name; at a MAG, nobody.
        peer: Option<String>,
        /// How, or why.
        reason: String,
    },
    /// A MAG is asked to register a mobile again, or has answered.
    Reregistration {
        /// The mobile.
        #[schema(value_type = String)]
        mn: MnId,
        /// The MAG, by name; at a MAG, nobody.
        peer: Option<String>,
        /// How far it is.
        reason: String,
    },
    /// At a mobile node: an access's link is up.
    AccessUp {
        /// The access.
        access: String,
        /// Its interface.
        interface: String,
    },
    /// At a mobile node: an access's link is down, or its interface is not there.
    AccessDown {
        /// The access.
        access: String,
        /// Its interface.
        interface: String,
    },
    /// At a mobile node: a router advertises itself on an access, which is used from now on.
    RouterFound {
        /// The access.
        access: String,
        /// The router's address.
        #[schema(value_type = String)]
        router: Ipv6Addr,
    },
    /// At a mobile node: an access has no router any more.
    RouterLost {
        /// The access.
        access: String,
        /// The router's address.
        #[schema(value_type = String)]
        router: Ipv6Addr,
    },
    /// At a mobile node: a prefix is advertised for the first time.
    PrefixGained {
        /// The prefix.
        #[schema(value_type = String)]
        prefix: Hnp,
        /// The mobile's address from it.
        #[schema(value_type = String)]
        address: Ipv6Addr,
    },
    /// At a mobile node: nobody vouches for a prefix any more.
    PrefixLost {
        /// The prefix.
        #[schema(value_type = String)]
        prefix: Hnp,
        /// The mobile's address from it, which has gone.
        #[schema(value_type = String)]
        address: Ipv6Addr,
    },
    /// At a mobile node: a flow's downlink comes over another access, and its uplink leaves there.
    UplinkMoved {
        /// Source of uplink packets.
        #[schema(value_type = String)]
        source: Ipv6Addr,
        /// Destination of uplink packets.
        #[schema(value_type = String)]
        destination: Ipv6Addr,
        /// Upper-layer protocol.
        protocol: u8,
        /// Source and destination port.
        ports: Option<(u16, u16)>,
        /// The access it was on.
        from: String,
        /// The access it is on.
        to: String,
        /// Moves since the start that were too many in their second to be told.
        untold: u64,
    },
}

/// An LMA or MAG that something happened to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Peer {
    /// Our role towards it.
    #[schema(value_type = String)]
    pub(crate) role: Role,
    /// Its name.
    #[serde(rename = "peer")]
    pub(crate) name: String,
    /// Its address.
    #[schema(value_type = String)]
    pub(crate) address: Ipv6Addr,
    /// Sessions with it, or those that are void since it restarted.
    pub(crate) sessions: Option<usize>,
}

#[cfg(feature = "dpdk")]
impl What {
    /// The mobile that it is about, if it is about one.
    pub(crate) fn mobile(&self) -> Option<&MnId> {
        match self {
            Self::Attached { mn, .. }
            | Self::Detached { mn, .. }
            | Self::Detaching { mn, .. }
            | Self::Handoff { mn, .. }
            | Self::Renewed { mn, .. }
            | Self::RegistrationInDoubt { mn, .. }
            | Self::FlowMoved { mn, .. }
            | Self::FlowNotMoved { mn, .. }
            | Self::FlowFellBack { mn, .. }
            | Self::FlowReturned { mn, .. }
            | Self::FlowReleased { mn, .. }
            | Self::FlowNotInstalled { mn, .. }
            | Self::FlowState { mn, .. }
            | Self::FlowExpired { mn }
            | Self::Reregistration { mn, .. } => Some(mn),
            Self::Refused { mn, .. } | Self::Revoked { mn, .. } => mn.as_ref(),
            Self::ConfigurationApplied
            | Self::PeerDown(_)
            | Self::PeerUp(_)
            | Self::PeerRestarted(_)
            | Self::PeerLimited { .. }
            | Self::AccessUp { .. }
            | Self::AccessDown { .. }
            | Self::RouterFound { .. }
            | Self::RouterLost { .. }
            | Self::PrefixGained { .. }
            | Self::PrefixLost { .. }
            | Self::UplinkMoved { .. } => None,
        }
    }
}

impl fmt::Display for What {
    #[expect(clippy::too_many_lines, reason = "one arm for each kind")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access =
            |bid: &Option<u16>| bid.map(|bid| format!(" access {bid}")).unwrap_or_default();
        let by = |peer: &Option<String>, word| {
            let peer = peer.as_ref();
            peer.map(|peer| format!(" {word} {peer}"))
                .unwrap_or_default()
        };
        match self {
            Self::ConfigurationApplied => f.write_str("configuration applied"),
            Self::Attached {
                mn,
                bid,
                peer,
                prefixes,
                ..
            } => write!(
                f,
                "{mn}{} attached{} with {}",
                access(bid),
                by(peer, "at"),
                list(prefixes)
            ),
            Self::Detached {
                mn, bid, reason, ..
            } => write!(f, "{mn}{} detached: {reason}", access(bid)),
            Self::Detaching { mn, bid } => write!(f, "{mn} access {bid} is about to go"),
            Self::Handoff { mn, bid, from, to } => {
                write!(f, "{mn} access {bid} handed over from {from} to {to}")
            }
            Self::Renewed { mn, bid } => write!(f, "{mn} access {bid} registered again"),
            Self::Refused {
                mn,
                peer,
                status,
                reason,
                ..
            } => {
                let mn = mn.as_ref().map_or("a mobile", MnId::as_str);
                write!(f, "{mn} refused{}: {status}, {reason}", by(peer, "at"))
            }
            Self::RegistrationInDoubt { mn, reason } => write!(f, "{mn}: {reason}"),
            Self::FlowMoved {
                mn,
                fid,
                from,
                to,
                microseconds,
            } => write!(
                f,
                "flow {fid} of {mn} moved from access {from} to {to} in {microseconds} us"
            ),
            Self::FlowNotMoved {
                mn,
                fid,
                to,
                reason,
            } => write!(f, "flow {fid} of {mn} not moved to access {to}: {reason}"),
            Self::FlowFellBack { mn, fid, bid, to } => {
                write!(f, "flow {fid} of {mn} fell back from access {bid}")?;
                match to {
                    Some(to) => write!(f, " to {to}"),
                    None => f.write_str(", and has nowhere to go"),
                }
            }
            Self::FlowReturned { mn, fid, bid } => {
                write!(f, "flow {fid} of {mn} returned to access {bid}")
            }
            Self::FlowReleased {
                mn,
                fid,
                bid,
                acknowledged,
            } => {
                let heard = if *acknowledged {
                    ""
                } else {
                    ", not acknowledged"
                };
                write!(f, "flow {fid} of {mn} released at access {bid}{heard}")
            }
            Self::FlowNotInstalled {
                mn,
                fid,
                bid,
                reason,
            } => write!(
                f,
                "flow {fid} of {mn} not installed at access {bid}: {reason}"
            ),
            Self::FlowState {
                mn,
                status,
                granted,
            } => write!(
                f,
                "flows of {mn}: status {status}, granted {}",
                list(granted)
            ),
            Self::FlowExpired { mn } => write!(f, "a flow of {mn} expired"),
            Self::PeerDown(peer) => write!(f, "{peer} is down"),
            Self::PeerUp(peer) => write!(f, "{peer} is up"),
            Self::PeerRestarted(peer) => write!(f, "{peer} has restarted"),
            Self::PeerLimited { peer, message } => write!(f, "{peer} does not know {message}"),
            Self::Revoked { mn, peer, reason } => {
                let mn = mn.as_ref().map_or("all bindings", MnId::as_str);
                write!(f, "{mn}{} revoked: {reason}", by(peer, "at"))
            }
            Self::Reregistration { mn, peer, reason } => {
                write!(f, "{mn} asked for again{}: {reason}", by(peer, "at"))
            }
            Self::AccessUp { access, interface } => {
                write!(f, "access {access} ({interface}) is up")
            }
            Self::AccessDown { access, interface } => {
                write!(f, "access {access} ({interface}) is down")
            }
            Self::RouterFound { access, router } => {
                write!(f, "access {access} has router {router}")
            }
            Self::RouterLost { access, router } => {
                write!(f, "access {access} has lost router {router}")
            }
            Self::PrefixGained { prefix, address } => {
                write!(f, "prefix {prefix} gained, address {address}")
            }
            Self::PrefixLost { prefix, address } => {
                write!(f, "prefix {prefix} lost, address {address}")
            }
            Self::UplinkMoved {
                source,
                destination,
                protocol,
                ports,
                from,
                to,
                ..
            } => {
                write!(f, "flow {source} > {destination} proto {protocol}")?;
                if let Some((source, destination)) = ports {
                    write!(f, " ports {source} > {destination}")?;
                }
                write!(f, " moved from access {from} to {to}")
            }
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.address)?;
        match self.sessions {
            Some(sessions) => write!(f, " ({sessions} sessions)"),
            None => Ok(()),
        }
    }
}

fn list(prefixes: &[Hnp]) -> String {
    let texts: Vec<_> = prefixes.iter().map(ToString::to_string).collect();
    if texts.is_empty() {
        "nothing".to_owned()
    } else {
        texts.join(", ")
    }
}
