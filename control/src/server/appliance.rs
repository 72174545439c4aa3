//! What only an LMA or MAG can be asked, and the routes to it.

use axum::routing::get;
use utoipa::IntoParams;
use utoipa::openapi::path::ParameterIn;
use utoipa::openapi::schema::Object;

use self::ApplianceRequest as Ask;
use super::doors::Doors;
use super::{Request, capture, recorder};
use crate::api::capture::{CaptureQuery, FrameDirection};
use crate::api::explain::{Explain, Explanation};
use crate::api::mobiles::MobileRow;
use crate::api::{
    Attach, BindingRow, Done, Drain, Drained, FlowAdd, FlowAdded, FlowDelete, FlowMove, FlowMoved,
    FlowRow, KeysReload, PathRow, PeerRow, PortRow, Reregister, Revoke, RouteRow, Service,
    WorkerRow,
};
use crate::frames::FrameSink;
use crate::sink::Sink;

/// A [`Request`] to an LMA or MAG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ApplianceRequest {
    /// All [`crate::api::BindingRow`]s.
    Bindings,
    /// All [`crate::api::FlowRow`]s.
    Flows,
    /// All [`crate::api::mobiles::MobileRow`]s.
    Mobiles,
    /// All [`crate::api::PathRow`]s.
    Paths,
    /// All [`crate::api::RouteRow`]s.
    Routes,
    /// All [`crate::api::PeerRow`]s.
    Peers,
    /// All [`crate::api::PortRow`]s.
    Ports,
    /// All [`crate::api::WorkerRow`]s.
    Workers,
    /// What would become of a packet: [`crate::api::explain::Explanation`].
    Explain(Box<Explain>),
    /// Captures packets: [`crate::api::capture::CaptureStarted`].
    Capture(Box<CaptureQuery>, FrameSink),
    /// What the flight recorder has kept: a file.
    Recorder(Sink<Vec<u8>>),
    /// Adds a flow rule.
    FlowAdd(FlowAdd),
    /// Moves a flow.
    FlowMove(FlowMove),
    /// Deletes a flow rule.
    FlowDelete(FlowDelete),
    /// Reads the key files again.
    KeysReload(KeysReload),
    /// Revokes bindings.
    Revoke(Revoke),
    /// Serves a mobile, or no longer.
    Service(Service),
    /// Takes no new mobiles, or takes them again.
    Drain(Drain),
    /// Has a mobile registered again.
    Reregister(Reregister),
    /// Attaches a mobile.
    Attach(Attach),
    /// Detaches a mobile.
    Detach(Attach),
}

impl ApplianceRequest {
    /// Whether it changes sessions or flows, and is answered when it has.
    pub(crate) fn changes_what_is_kept(&self) -> bool {
        match self {
            Self::FlowAdd(_)
            | Self::FlowDelete(_)
            | Self::Revoke(_)
            | Self::Service(_)
            | Self::Drain(_)
            | Self::Attach(_)
            | Self::Detach(_) => true,
            Self::Bindings
            | Self::Flows
            | Self::Mobiles
            | Self::Paths
            | Self::Routes
            | Self::Peers
            | Self::Ports
            | Self::Workers
            | Self::Explain(_)
            | Self::Capture(..)
            | Self::Recorder(_)
            | Self::FlowMove(_)
            | Self::KeysReload(_)
            | Self::Reregister(_) => false,
        }
    }

    /// Whether it is for the state machines: of two LMAs of which one serves, for that one.
    pub(crate) fn is_for_who_decides(&self) -> bool {
        self.changes_what_is_kept() || matches!(self, Self::FlowMove(_) | Self::Reregister(_))
    }
}

impl From<ApplianceRequest> for Request {
    fn from(request: ApplianceRequest) -> Self {
        Self::Appliance(request)
    }
}

impl Doors {
    /// Those to an LMA or MAG.
    pub(super) fn of_an_appliance(self) -> Self {
        self.tables_and_commands_of_an_appliance()
            .other(
            "/v1/capture",
            "Packets as they come in and leave, with what was decided about each, as pcapng, until the reader goes",
            (capture::PCAPNG, Object::new().into()),
            CaptureQuery::into_params(|| Some(ParameterIn::Query)),
            get(capture::capture),
        )
            .knows::<FrameDirection>()
            .other(
            "/v1/recorder",
            "The last signalling messages and decisions of an LMA or MAG, as a file for flowmob replay",
            (recorder::RECORDING, Object::new().into()),
            Vec::new(),
            get(recorder::recorder),
        )
    }

    /// What `flowmob show` and the commands that change something ask for.
    fn tables_and_commands_of_an_appliance(self) -> Self {
        self.list::<BindingRow>(
            "/v1/bindings",
            "Binding cache of an LMA, binding update list of a MAG",
            Ask::Bindings,
        )
        .list::<FlowRow>(
            "/v1/flows",
            "Flow mobility cache of an LMA, flow state of a MAG",
            Ask::Flows,
        )
        .write::<FlowAdd, FlowAdded, _>("/v1/flows", "Adds a flow rule, at an LMA", Ask::FlowAdd)
        .write::<FlowMove, FlowMoved, _>(
            "/v1/flows/move",
            "Moves a flow to another access; answered when every worker has switched",
            Ask::FlowMove,
        )
        .write::<FlowDelete, Done, _>("/v1/flows/delete", "Deletes a flow rule", Ask::FlowDelete)
        .write::<Explain, Explanation, _>(
            "/v1/explain",
            "What would become of a packet, and why; nothing is sent",
            |explain| Ask::Explain(Box::new(explain)),
        )
        .list::<MobileRow>(
            "/v1/mobiles",
            "Mobiles that are registered, with the traffic of their prefixes",
            Ask::Mobiles,
        )
        .list::<PathRow>(
            "/v1/paths",
            "Tunnels and links with their traffic",
            Ask::Paths,
        )
        .list::<RouteRow>("/v1/routes", "Prefixes and static routes", Ask::Routes)
        .list::<PeerRow>("/v1/peers", "Configured LMAs and MAGs", Ask::Peers)
        .list::<PortRow>("/v1/ports", "Ports with their traffic", Ask::Ports)
        .list::<WorkerRow>("/v1/workers", "Poll-mode workers", Ask::Workers)
        .write::<KeysReload, Done, _>(
            "/v1/keys/reload",
            "Reads the key files again",
            Ask::KeysReload,
        )
        .write::<Revoke, Done, _>("/v1/revoke", "Revokes bindings, at an LMA", Ask::Revoke)
        .write::<Service, Done, _>("/v1/service", "Serves a mobile, or no longer", Ask::Service)
        .write::<Drain, Drained, _>(
            "/v1/drain",
            "Takes no new mobiles, or takes them again, at an LMA",
            Ask::Drain,
        )
        .write::<Reregister, Done, _>(
            "/v1/reregister",
            "Has a mobile registered again by its MAGs",
            Ask::Reregister,
        )
        .write::<Attach, Done, _>("/v1/attach", "Attaches a mobile, at a MAG", Ask::Attach)
        .write::<Attach, Done, _>("/v1/detach", "Detaches a mobile, at a MAG", Ask::Detach)
    }
}
