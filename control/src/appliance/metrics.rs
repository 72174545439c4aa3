//! What is counted, for Prometheus. Labels name what the configuration names, and reasons; never a mobile or
//! an address, of which there may be millions.

use std::collections::BTreeMap;
use std::time::Duration;

use flow::{Counters, DropReason, Path, Role};
use pmip_proto::{Lma, LmaEvent, Mag, MoveTimes};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::control::Control;
use crate::api::{PeerRow, PortRow, WorkerRow};

/// Label names and values.
type Labels = Vec<(&'static str, String)>;

/// How long things took.
#[derive(Clone, Debug)]
pub(super) struct Times {
    /// From the request of a flow move to its end.
    moved: Histogram,
    /// From the first FMI of a move to the answer.
    signalled: Histogram,
}

impl Default for Times {
    fn default() -> Self {
        // 100 us to 26 s, by factors of two.
        let buckets = || prometheus_client::metrics::histogram::exponential_buckets(1e-4, 2.0, 19);
        Self {
            moved: Histogram::new(buckets()),
            signalled: Histogram::new(buckets()),
        }
    }
}

impl Times {
    /// Takes note of a move that succeeded.
    pub(super) fn note(&self, event: &LmaEvent) {
        if let LmaEvent::FlowMoved { times, .. } = event {
            let MoveTimes {
                requested,
                initiated,
                completed,
            } = *times;
            let since = |begun: Duration| completed.saturating_sub(begun).as_secs_f64();
            self.moved.observe(since(requested));
            if let Some(initiated) = initiated {
                self.signalled.observe(since(initiated));
            }
        }
    }
}

/// A registry that is filled for one scrape.
struct Scrape(Registry);

impl Scrape {
    fn counters(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(name, help, family);
    }

    fn gauges(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Gauge>::default();
        for (labels, value) in values {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            family.get_or_create(&labels).set(value);
        }
        self.0.register(name, help, family);
    }
}

impl Control {
    /// Everything, in OpenMetrics' text format.
    pub(super) fn metrics(&self, counters: &[Counters]) -> String {
        let mut scrape = Scrape(Registry::with_prefix("flowmob"));
        self.process_metrics(&mut scrape);
        self.port_metrics(&mut scrape, counters);
        self.worker_metrics(&mut scrape, counters);
        self.drop_metrics(&mut scrape, counters);
        self.peer_metrics(&mut scrape, counters);
        self.table_metrics(&mut scrape);
        self.pool_metrics(&mut scrape);
        let (moved, signalled) = (self.times.moved.clone(), self.times.signalled.clone());
        scrape.0.register_with_unit(
            "flow_move",
            "From the request of a flow move to the decision to switch",
            Unit::Seconds,
            moved,
        );
        scrape.0.register_with_unit(
            "flow_signalling",
            "From the first FMI of a flow move to the answer",
            Unit::Seconds,
            signalled,
        );
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &scrape.0);
        text
    }

    fn process_metrics(&self, scrape: &mut Scrape) {
        let info = vec![
            ("name", self.setup.name.clone()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("roles", self.setup.roles.join("+")),
        ];
        scrape.gauges("process", "What this process is", [(info, 1)]);
        let uptime = self.clock.uptime().as_secs();
        let help = "Seconds since the process started";
        scrape.gauges("uptime_seconds", help, [(vec![], uptime)]);
        let time = self.clock.now().wall.as_secs();
        let help = "What the process takes the time for, in seconds since 1970";
        scrape.gauges("clock_seconds", help, [(vec![], time)]);
        let pool = &self.setup.pool;
        let help = "Packet buffers";
        let all = u64::from(pool.config().count);
        scrape.gauges("packet_buffers", help, [(vec![], all)]);
        let help = "Packet buffers that are not free: in drivers' queues, or under way";
        let used = u64::try_from(pool.in_use()).unwrap_or(u64::MAX);
        scrape.gauges("packet_buffers_used", help, [(vec![], used)]);
        if let Some(pair) = &self.pair {
            let standing = pair.standing();
            let help = "1 if this process of a pair leads";
            scrape.gauges("pair_leads", help, [(vec![], pair.leads().into())]);
            let help = "Number of the term of whoever leads: how often that has changed";
            scrape.gauges("pair_term", help, [(vec![], standing.term)]);
            let help = "1 if etcd answers";
            let reached = u64::from(standing.is_reached);
            scrape.gauges("pair_store_reached", help, [(vec![], reached)]);
            if let Some(followed) = standing.followed {
                let followed = u64::try_from(followed).unwrap_or(u64::MAX);
                let help = "Mobiles that the workers know of while another process leads";
                scrape.gauges("pair_followed", help, [(vec![], followed)]);
            }
        }
        let waiting = u64::try_from(self.outbox.len()).unwrap_or(u64::MAX);
        let help = "Messages that wait until what they say is in force and on disk";
        scrape.gauges("messages_waiting", help, [(vec![], waiting)]);
        if let Some(kept) = self.keeping.progress() {
            let help = "Groups of changes that are not on disk yet";
            scrape.gauges("store_waiting", help, [(vec![], kept.waiting)]);
            let help = "Groups of changes written to disk";
            scrape.counters("store_groups", help, [(vec![], kept.groups)]);
            let help = "Changes of sessions and flows written to disk";
            scrape.counters("store_changes", help, [(vec![], kept.changes)]);
            let help = "Groups of changes that the disk refused";
            scrape.counters("store_failures", help, [(vec![], kept.failures)]);
        }
        let ready = u64::from(self.readiness().ready);
        let help = "1 if all ports are up and the disk takes what is to be kept";
        scrape.gauges("ready", help, [(vec![], ready)]);
    }

    fn port_metrics(&self, scrape: &mut Scrape, counters: &[Counters]) {
        let rows = self.port_rows(counters);
        let each = |value: fn(&PortRow) -> u64| {
            let labels = |row: &PortRow| vec![("port", row.name.clone())];
            let values = rows.iter().map(move |row| (labels(row), value(row)));
            values.collect::<Vec<_>>()
        };
        let help = "Packets received by workers";
        scrape.counters("port_rx_packets", help, each(|row| row.rx_packets));
        let help = "Octets received, Ethernet header included";
        scrape.counters("port_rx_octets", help, each(|row| row.rx_octets));
        let help = "Packets sent by workers";
        scrape.counters("port_tx_packets", help, each(|row| row.tx_packets));
        let help = "Octets sent, Ethernet header included";
        scrape.counters("port_tx_octets", help, each(|row| row.tx_octets));
        let help = "Packets that the device lost before a worker saw them";
        scrape.counters("port_rx_missed", help, each(|row| row.rx_missed));
    }

    fn worker_metrics(&self, scrape: &mut Scrape, counters: &[Counters]) {
        let rows = self.worker_rows(counters);
        let each = |value: fn(&WorkerRow) -> u64| {
            let labels = |row: &WorkerRow| vec![("worker", row.id.to_string())];
            let values = rows.iter().map(move |row| (labels(row), value(row)));
            values.collect::<Vec<_>>()
        };
        let help = "Turns of the poll loop";
        scrape.counters("worker_turns", help, each(|row| row.turns));
        let help = "Turns of the poll loop that found packets";
        scrape.counters("worker_busy_turns", help, each(|row| row.busy_turns));
        let help = "Packets handed to the control plane";
        scrape.counters("worker_punted", help, each(|row| row.punted));
        let help = "Packets handed to other workers";
        scrape.counters("worker_handed_over", help, each(|row| row.handed_over));
        let help = "Packets sent into tunnels in fragments";
        scrape.counters("worker_fragmented", help, each(|row| row.fragmented));
        let help = "Packets put together from fragments";
        scrape.counters("worker_reassembled", help, each(|row| row.reassembled));
        let help = "Table updates applied";
        scrape.counters("worker_updates", help, each(|row| row.updates));
    }

    /// Every reason from the start, so that rates can be told from the first occurrence on.
    fn drop_metrics(&self, scrape: &mut Scrape, counters: &[Counters]) {
        let reason = |name: &str| vec![("reason", name.to_owned())];
        let dropped = DropReason::ALL.iter().map(|why| {
            let packets = counters.iter().map(|worker| worker.dropped(*why)).sum();
            (reason(why.name()), packets)
        });
        let help = "Packets that workers dropped";
        scrape.counters("dropped_packets", help, dropped);
        let ignored = self.ignored_messages();
        let ignored = ignored
            .iter()
            .map(|(name, count, _)| (reason(name), *count));
        let help = "Messages, requests and log lines that were refused or ignored";
        scrape.counters("ignored", help, ignored);
        let refused = counters.iter().map(|worker| worker.updates_refused).sum();
        let help = "Table updates for which a worker had no room";
        scrape.counters("updates_refused", help, [(vec![], refused)]);
    }

    fn peer_metrics(&self, scrape: &mut Scrape, counters: &[Counters]) {
        let rows = self.peer_rows();
        let labels =
            |role: Role, name: &str| vec![("role", role.to_string()), ("peer", name.to_owned())];
        let each = |value: fn(&PeerRow) -> u64| {
            let values = rows
                .iter()
                .map(|row| (labels(row.role, &row.name), value(row)));
            values.collect::<Vec<_>>()
        };
        let help = "Sessions with a peer";
        let sessions = |row: &PeerRow| u64::try_from(row.sessions).unwrap_or(u64::MAX);
        scrape.gauges("peer_sessions", help, each(sessions));
        let help = "0 if a peer does not answer heartbeats any more; 1 also if it is not asked";
        let up = |row: &PeerRow| u64::from(row.state != "down");
        scrape.gauges("peer_up", help, each(up));
        let help = "Heartbeat requests sent to a peer";
        scrape.counters("peer_heartbeats", help, each(|row| row.requests));
        let help = "Answers to them";
        scrape.counters("peer_heartbeat_answers", help, each(|row| row.answers));
        let help = "How often a peer was found to have restarted";
        scrape.counters("peer_restarts", help, each(|row| row.restarts));

        let mut tunnels: BTreeMap<(Role, String), [u64; 4]> = BTreeMap::new();
        for row in self.path_rows(counters) {
            if let Path::Tunnel(tunnel) = row.path {
                let name = self.setup.peer_name(row.role, tunnel.remote);
                let sum = tunnels.entry((row.role, name)).or_default();
                let c = row.counters;
                let values = [c.out_packets, c.out_octets, c.in_packets, c.in_octets];
                for (sum, value) in sum.iter_mut().zip(values) {
                    *sum += value;
                }
            }
        }
        let names = [
            (
                "tunnel_out_packets",
                "Inner packets sent into tunnels to a peer",
            ),
            (
                "tunnel_out_octets",
                "Inner octets sent into tunnels to a peer",
            ),
            (
                "tunnel_in_packets",
                "Inner packets accepted from a peer's tunnels",
            ),
            (
                "tunnel_in_octets",
                "Inner octets accepted from a peer's tunnels",
            ),
        ];
        for (place, (name, help)) in names.into_iter().enumerate() {
            let values = tunnels.iter().map(|((role, peer), values)| {
                let value = values.get(place).copied().unwrap_or(0);
                (labels(*role, peer), value)
            });
            scrape.counters(name, help, values);
        }
    }

    fn pool_metrics(&self, scrape: &mut Scrape) {
        let assigned = self.lma.as_deref().map(|lma| lma.counters().redirected);
        let followed = self
            .mag
            .as_deref()
            .map(|mag| mag.counters().redirects_followed);
        let values = [(Role::Lma, assigned), (Role::Mag, followed)];
        let values = values
            .into_iter()
            .filter_map(|(role, count)| Some((vec![("role", role.to_string())], count?)));
        let help = "Sessions that another LMA of the pool was assigned";
        scrape.counters("redirects", help, values);
        if let Some(lma) = &self.lma {
            let help = "1 while the LMA refuses new mobiles as there is too much to do";
            scrape.gauges("overload", help, [(vec![], u64::from(lma.is_overloaded()))]);
            let help = "Whether the LMA takes no new mobiles";
            scrape.gauges(
                "draining",
                help,
                [(Vec::new(), u64::from(lma.is_draining()))],
            );
        }
    }

    fn table_metrics(&self, scrape: &mut Scrape) {
        let mut bindings: BTreeMap<(Role, String), u64> = BTreeMap::new();
        for (_, bce) in self.lma.as_deref().into_iter().flat_map(Lma::bindings) {
            let state = super::rows::bce_state(bce.state).to_owned();
            *bindings.entry((Role::Lma, state)).or_default() += 1;
        }
        for bule in self.mag.as_deref().into_iter().flat_map(Mag::bul) {
            let state = super::rows::bule_state(bule.state);
            // A refusal's status is in the counters of refusals.
            let state = state.split(':').next().unwrap_or_default().to_owned();
            *bindings.entry((Role::Mag, state)).or_default() += 1;
        }
        let labels = |(role, state): &(Role, String)| {
            vec![("role", role.to_string()), ("state", state.clone())]
        };
        let help = "Bindings by state";
        let values = bindings.iter().map(|(key, count)| (labels(key), *count));
        scrape.gauges("bindings", help, values);

        let mut flows: BTreeMap<(Role, String), u64> = BTreeMap::new();
        for (_, entry, state) in self.lma.as_deref().into_iter().flat_map(Lma::flows) {
            let state = super::rows::flow_state(state);
            let state = if entry.moving.is_some() {
                "moving"
            } else {
                state
            };
            *flows.entry((Role::Lma, state.to_owned())).or_default() += 1;
        }
        for bule in self.mag.as_deref().into_iter().flat_map(Mag::bul) {
            let count = u64::try_from(bule.flows.len()).unwrap_or(u64::MAX);
            *flows.entry((Role::Mag, "active".to_owned())).or_default() += count;
        }
        let help = "Flows by state";
        let values = flows.iter().map(|(key, count)| (labels(key), *count));
        scrape.gauges("flows", help, values);
    }
}
