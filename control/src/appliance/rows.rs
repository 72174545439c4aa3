//! The tables of `flowmob show`, made from what the control thread and the workers know.

use std::collections::{BTreeMap, BTreeSet};

use flow::{Counters, DropReason, Fid, Hnp, MnId, Path, PathCounters, PathId, Role};
use pmip_esp::Spi;
use pmip_proto::lma::{BceState, FlowState, MobileView};
use pmip_proto::mag::BuleState;
use pmip_proto::{HeartbeatView, Liveness, Lma, Mag, Now};
use pmip_wire::BindingStatus;
use serde_json::Value;

use super::calls::{answered, rows};
use super::control::Control;
use super::pair::Pair;
use super::protection::ProtectionState;
use super::reports::Complete;
use crate::api::{
    BindingRow, DropRow, FlowRow, PathRow, PeerRow, PortRow, Problem, Readiness, RouteRow,
    WorkerRow,
};
use crate::server::{ApplianceRequest, Request};

/// Most prefixes whose counters are asked for at once.
pub(super) const MAX_COUNTED_PREFIXES: usize = 1024;

impl Control {
    /// Answers a question now that every worker has.
    pub(super) fn answer_reported(&self, complete: Complete) {
        let answer = match complete.request {
            Request::Appliance(ApplianceRequest::Flows) => rows(&self.flow_rows(&complete)),
            Request::Appliance(ApplianceRequest::Mobiles) => rows(&self.mobile_rows(&complete)),
            Request::Appliance(ApplianceRequest::Paths) => {
                rows(&self.path_rows(&complete.counters))
            }
            Request::Appliance(ApplianceRequest::Ports) => {
                rows(&self.port_rows(&complete.counters))
            }
            Request::Appliance(ApplianceRequest::Workers) => {
                rows(&self.worker_rows(&complete.counters))
            }
            Request::Drops => rows(&self.drop_rows(&complete.counters)),
            Request::Alive => Ok(Value::Null),
            Request::Metrics => Ok(self.metrics(&complete.counters).into()),
            Request::Status
            | Request::Ready
            | Request::Mn
            | Request::Config
            | Request::Reload(_)
            | Request::Log
            | Request::LogChange(_)
            | Request::Appliance(
                ApplianceRequest::Bindings
                | ApplianceRequest::Routes
                | ApplianceRequest::Peers
                | ApplianceRequest::Explain(_)
                | ApplianceRequest::Capture(..)
                | ApplianceRequest::Recorder(_)
                | ApplianceRequest::FlowAdd(_)
                | ApplianceRequest::FlowMove(_)
                | ApplianceRequest::FlowDelete(_)
                | ApplianceRequest::KeysReload(_)
                | ApplianceRequest::Revoke(_)
                | ApplianceRequest::Service(_)
                | ApplianceRequest::Drain(_)
                | ApplianceRequest::Reregister(_)
                | ApplianceRequest::Attach(_)
                | ApplianceRequest::Detach(_),
            ) => Err(Problem::unavailable("the workers are not asked for this")),
        };
        answered(complete.reply, answer);
    }

    /// Whether everything is up.
    pub(super) fn readiness(&self) -> Readiness {
        let down = |port: &&super::setup::PortInfo| !port.is_up();
        let ports_down: Vec<String> = (self.setup.ports.iter().filter(down))
            .map(|port| port.name.clone())
            .collect();
        Readiness {
            ready: ports_down.is_empty()
                && !self.is_ending
                && !self.keeping.is_failing()
                && self.pair.as_ref().is_none_or(Pair::is_ready),
            ports_down,
            store_failing: self.keeping.is_failing()
                || self.pair.as_ref().is_some_and(|pair| !pair.hears()),
            accesses_down: Vec::new(),
        }
    }

    pub(super) fn binding_rows(&self, now: Now) -> Vec<BindingRow> {
        let anchored =
            self.lma
                .as_deref()
                .into_iter()
                .flat_map(Lma::bindings)
                .map(|(mn_id, bce)| BindingRow {
                    role: Role::Lma,
                    mn: mn_id.clone(),
                    bid: Some(bce.bid.0.get()),
                    bid_priority: Some(bce.bid_priority),
                    access_technology: bce.access.to_string(),
                    link_layer: bce.ll_id.as_ref().map(ToString::to_string),
                    prefixes: bce.hnps.clone(),
                    granted: bce.granted().into_iter().collect(),
                    peer: self.setup.peer_name(Role::Lma, bce.proxy_coa.0),
                    peer_address: bce.proxy_coa.0,
                    state: bce_state(bce.state).to_owned(),
                    remaining_seconds: bce.expires.saturating_sub(now.monotonic).as_secs(),
                    port: None,
                });
        let attached = self
            .mag
            .as_deref()
            .into_iter()
            .flat_map(Mag::bul)
            .map(|bule| BindingRow {
                role: Role::Mag,
                mn: bule.attachment.mn_id.clone(),
                bid: None,
                bid_priority: None,
                access_technology: bule.attachment.access.to_string(),
                link_layer: bule.attachment.ll_id.as_ref().map(ToString::to_string),
                prefixes: bule.hnps.clone(),
                granted: bule.off_link().into_iter().collect(),
                peer: self.setup.peer_name(Role::Mag, bule.lmaa.0),
                peer_address: bule.lmaa.0,
                state: bule_state(bule.state),
                remaining_seconds: bule.expires.saturating_sub(now.monotonic).as_secs(),
                port: Some(self.setup.port_name(bule.attachment.port).to_owned()),
            });
        anchored.chain(attached).collect()
    }

    pub(super) fn peer_rows(&self) -> Vec<PeerRow> {
        let mut sessions = BTreeMap::new();
        for (_, bce) in self.lma.as_deref().into_iter().flat_map(Lma::bindings) {
            *sessions.entry((Role::Lma, bce.proxy_coa.0)).or_insert(0) += 1;
        }
        for bule in self.mag.as_deref().into_iter().flat_map(Mag::bul) {
            *sessions.entry((Role::Mag, bule.lmaa.0)).or_insert(0) += 1;
        }
        let mags = self.lma.as_deref().into_iter().flat_map(Lma::peers);
        let mags = mags.filter_map(|mag| Some(((Role::Lma, mag.proxy_coa.0), mag.heartbeat?)));
        let lmas = self.mag.as_deref().into_iter().flat_map(Mag::peers);
        let lmas = lmas.map(|(lmaa, heartbeat)| ((Role::Mag, lmaa.0), heartbeat));
        let heartbeats: BTreeMap<_, HeartbeatView> = mags.chain(lmas).collect();
        let row = |peer: &super::setup::PeerInfo| {
            let key = (peer.role, peer.address);
            let heartbeat = heartbeats.get(&key);
            let ProtectionState { sending, heard } = self.protection.state(peer.own, peer.address);
            PeerRow {
                role: peer.role,
                name: peer.name.clone(),
                address: peer.address,
                signalling: peer.signalling.clone(),
                protection: if sending.is_some() { "esp" } else { "none" }.to_owned(),
                sent_spi: sending.map(Spi::get),
                heard_spi: heard.map(Spi::get),
                sessions: sessions.get(&key).copied().unwrap_or(0),
                state: heartbeat
                    .map_or("unknown", |h| liveness(h.liveness))
                    .to_owned(),
                restart_counter: heartbeat.and_then(|h| h.restart_counter),
                missing: heartbeat.map_or(0, |h| h.missing),
                requests: heartbeat.map_or(0, |h| h.counters.requests),
                answers: heartbeat.map_or(0, |h| h.counters.answers),
                downs: heartbeat.map_or(0, |h| h.counters.downs),
                restarts: heartbeat.map_or(0, |h| h.counters.restarts),
            }
        };
        self.setup.peers.iter().map(row).collect()
    }

    pub(super) fn route_rows(&self) -> Vec<RouteRow> {
        let mut owners: BTreeMap<(Role, Hnp), MnId> = BTreeMap::new();
        for (mn_id, bce) in self.lma.as_deref().into_iter().flat_map(Lma::bindings) {
            owners.extend(
                bce.hnps
                    .iter()
                    .map(|hnp| ((Role::Lma, *hnp), mn_id.clone())),
            );
        }
        for bule in self.mag.as_deref().into_iter().flat_map(Mag::bul) {
            let granted = bule.off_link();
            let all = bule.hnps.iter().chain(granted.iter());
            owners.extend(all.map(|hnp| ((Role::Mag, *hnp), bule.attachment.mn_id.clone())));
        }
        let mobiles = self
            .setup
            .prefixes
            .iter()
            .map(|(key @ (role, hnp), info)| RouteRow {
                role: Some(*role),
                prefix: hnp.to_string(),
                mn: owners.get(key).cloned(),
                next: info
                    .default_path
                    .map_or_else(|| "none".to_owned(), |id| self.setup.path_text(*role, id)),
                uplink: info.uplink.map(|id| self.setup.path_text(*role, id)),
                local: info.local,
            });
        mobiles.chain(self.setup.routes.iter().cloned()).collect()
    }

    /// The prefixes whose counters tell how often each flow rule matched.
    pub(super) fn flow_prefixes(&self) -> Vec<(Role, Hnp)> {
        let Some(lma) = &self.lma else {
            return Vec::new();
        };
        let mobiles: BTreeSet<&MnId> = lma.flows().map(|(mn_id, ..)| mn_id).collect();
        let views = mobiles.into_iter().filter_map(|mn_id| lma.binding(mn_id));
        let hnps: BTreeSet<Hnp> = views.flat_map(|view| prefixes(&view)).collect();
        hnps.into_iter()
            .map(|hnp| (Role::Lma, hnp))
            .take(MAX_COUNTED_PREFIXES)
            .collect()
    }

    fn flow_rows(&self, complete: &Complete) -> Vec<FlowRow> {
        let anchored = self.lma.as_deref().into_iter().flat_map(|lma| {
            lma.flows().map(|(mn_id, entry, state)| {
                let view = lma.binding(mn_id);
                let session = view.and_then(|v| v.sessions.iter().find(|s| s.bid == entry.bid));
                let own = view.map(|view| prefixes(&view)).unwrap_or_default();
                FlowRow {
                    role: Role::Lma,
                    mn: mn_id.clone(),
                    fid: Some(entry.fid.0.get()),
                    priority: Some(entry.priority.0.get()),
                    selector_text: entry.selector.to_string(),
                    selector: entry.selector.clone(),
                    bid: Some(entry.bid.0.get()),
                    via: session.map(|bce| self.setup.peer_name(Role::Lma, bce.proxy_coa.0)),
                    state: if entry.moving.is_some() {
                        "moving"
                    } else {
                        flow_state(state)
                    }
                    .to_owned(),
                    packets: matched(complete, &own, entry.fid),
                }
            })
        });
        let signalled = self
            .mag
            .as_deref()
            .into_iter()
            .flat_map(Mag::bul)
            .flat_map(|bule| {
                bule.flows.iter().map(|flow| FlowRow {
                    role: Role::Mag,
                    mn: bule.attachment.mn_id.clone(),
                    fid: None,
                    priority: None,
                    selector_text: flow.selector.to_string(),
                    selector: flow.selector.clone(),
                    bid: None,
                    via: None,
                    state: "active".to_owned(),
                    packets: 0,
                })
            });
        anchored.chain(signalled).collect()
    }

    pub(super) fn path_rows(&self, counters: &[Counters]) -> Vec<PathRow> {
        let row = |(&(role, id), path): (&(Role, PathId), &Path)| {
            let mut sum = PathCounters::default();
            for worker in counters {
                let all = match role {
                    Role::Lma => &worker.lma_paths,
                    Role::Mag => &worker.mag_paths,
                };
                if let Some(part) = all.get(usize::from(id.0)) {
                    sum.out_packets += part.out_packets;
                    sum.out_octets += part.out_octets;
                    sum.in_packets += part.in_packets;
                    sum.in_octets += part.in_octets;
                }
            }
            let ends = match path {
                Path::Tunnel(tunnel) => Some((tunnel.local, tunnel.remote)),
                Path::Link(_) => None,
            };
            PathRow {
                role,
                id: id.0,
                path: *path,
                learned_mtu: ends.and_then(|ends| self.ways.mtu(ends)),
                counters: sum,
            }
        };
        self.setup.paths.iter().map(row).collect()
    }

    pub(super) fn port_rows(&self, counters: &[Counters]) -> Vec<PortRow> {
        let row = |(index, port): (usize, &super::setup::PortInfo)| {
            let of = || {
                counters
                    .iter()
                    .filter_map(move |worker| worker.ports.get(index))
            };
            // A driver without counters has nothing to say about what it missed.
            let missed = port
                .port
                .stats()
                .map(|stats| stats.rx_missed + stats.rx_no_mbuf);
            PortRow {
                name: port.name.clone(),
                device: port.device.clone(),
                mac: port.mac,
                mtu: port.mtu,
                access: port.access,
                rx_packets: of().map(|c| c.rx_packets).sum(),
                rx_octets: of().map(|c| c.rx_octets).sum(),
                tx_packets: of().map(|c| c.tx_packets).sum(),
                tx_octets: of().map(|c| c.tx_octets).sum(),
                rx_missed: missed.unwrap_or(0),
            }
        };
        self.setup.ports.iter().enumerate().map(row).collect()
    }

    pub(super) fn worker_rows(&self, counters: &[Counters]) -> Vec<WorkerRow> {
        let row = |(id, (worker, core)): (u16, (&Counters, &Option<usize>))| WorkerRow {
            id,
            core: *core,
            turns: worker.turns,
            busy_turns: worker.busy_turns,
            rx_packets: worker.ports.iter().map(|port| port.rx_packets).sum(),
            tx_packets: worker.ports.iter().map(|port| port.tx_packets).sum(),
            drops: worker.drops.iter().sum(),
            punted: worker.punted,
            handed_over: worker.handed_over,
            taken_over: worker.taken_over,
            fragmented: worker.fragmented,
            reassembled: worker.reassembled,
            early_fragments: worker.early_fragments,
            updates: worker.updates,
        };
        (0..)
            .zip(counters.iter().zip(&self.setup.cores))
            .map(row)
            .collect()
    }

    fn drop_rows(&self, counters: &[Counters]) -> Vec<DropRow> {
        let dropped = |reason: &DropReason| {
            let packets = counters.iter().map(|worker| worker.dropped(*reason)).sum();
            (packets > 0).then(|| DropRow {
                plane: "data-plane".to_owned(),
                reason: reason.name().to_owned(),
                packets,
                meaning: reason.meaning().to_owned(),
            })
        };
        let signalling = self
            .ignored_messages()
            .into_iter()
            .filter(|(_, packets, _)| *packets > 0);
        let ignored = signalling.map(|(reason, packets, meaning)| DropRow {
            plane: "signalling".to_owned(),
            reason: reason.to_owned(),
            packets,
            meaning: meaning.to_owned(),
        });
        let refused: u64 = counters.iter().map(|worker| worker.updates_refused).sum();
        let refused = (refused > 0).then(|| DropRow {
            plane: "data-plane".to_owned(),
            reason: "update-refused".to_owned(),
            packets: refused,
            meaning: "A table of a worker had no room for an update.".to_owned(),
        });
        DropReason::ALL
            .iter()
            .filter_map(dropped)
            .chain(refused)
            .chain(ignored)
            .collect()
    }
}

pub(super) fn bce_state(state: BceState) -> &'static str {
    match state {
        BceState::Active => "active",
        BceState::Deregistering => "deregistering",
        BceState::Unreachable => "unreachable",
        BceState::Lost => "lost",
        BceState::Revoking => "revoking",
    }
}

fn liveness(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::Unknown => "unknown",
        Liveness::Up => "up",
        Liveness::Down => "down",
        Liveness::Unsupported => "no heartbeat",
    }
}

pub(super) fn bule_state(state: BuleState) -> String {
    match state {
        BuleState::Registering => "registering".to_owned(),
        BuleState::Active => "active".to_owned(),
        BuleState::Deregistering => "deregistering".to_owned(),
        BuleState::Revoked => "revoked".to_owned(),
        BuleState::Refused(status) => format!("refused: {}", BindingStatus(status)),
    }
}

pub(super) fn flow_state(state: FlowState) -> &'static str {
    match state {
        FlowState::Active => "active",
        FlowState::Pending => "pending",
        FlowState::Inactive => "inactive",
    }
}

/// The prefixes of a mobile, each once.
fn prefixes(view: &MobileView<'_>) -> BTreeSet<Hnp> {
    view.sessions
        .iter()
        .flat_map(|bce| bce.hnps.iter().copied())
        .collect()
}

/// Downlink packets that matched a flow, over the prefixes of its mobile.
fn matched(complete: &Complete, prefixes: &BTreeSet<Hnp>, fid: Fid) -> u64 {
    let counters = prefixes
        .iter()
        .filter_map(|hnp| complete.bindings.get(&(Role::Lma, *hnp)));
    let rules = counters.flat_map(|counters| &counters.rules);
    rules
        .filter(|(known, _)| *known == fid)
        .map(|(_, packets)| packets)
        .sum()
}
