//! What a mobile node says of its state: to those who watch over it, and to Prometheus.

use std::fmt::Write as _;
use std::time::Duration;

use flow::DropReason;

use super::status::{AccessRow, MnStatus};
use crate::api::{DropRow, Readiness};

/// Whether packets can be served: with an address, and a router to send to.
pub(crate) fn readiness(status: &MnStatus) -> Readiness {
    let usable = |access: &AccessRow| access.up && access.router.is_some();
    let down = status.accesses.iter().filter(|access| !usable(access));
    Readiness {
        store_failing: false,
        ready: status.accesses.iter().any(usable) && !status.prefixes.is_empty(),
        ports_down: Vec::new(),
        accesses_down: down.map(|access| access.name.clone()).collect(),
    }
}

/// The drops that occurred, as those of an LMA or MAG.
pub(crate) fn drops(status: &MnStatus) -> Vec<DropRow> {
    let meaning = |name: &str| {
        let reason = DropReason::ALL.iter().find(|reason| reason.name() == name);
        reason.map_or("", |reason| reason.meaning()).to_owned()
    };
    let rows = status.drops.iter().map(|drop| DropRow {
        plane: "data-plane".to_owned(),
        reason: drop.reason.clone(),
        packets: drop.packets,
        meaning: meaning(&drop.reason),
    });
    rows.collect()
}

/// Everything that is counted, in OpenMetrics' text format. Labels name accesses and reasons, never an address.
pub(crate) fn metrics(name: &str, uptime: Duration, status: &MnStatus) -> String {
    let mut text = Text::default();
    let version = env!("CARGO_PKG_VERSION");
    let process = format!(
        "name=\"{}\",version=\"{version}\",roles=\"mn\"",
        escaped(name)
    );
    text.gauge("process", "What this process is", [(process, 1)]);
    let none = String::new;
    let help = "Seconds since the process started";
    text.gauge("uptime_seconds", help, [(none(), uptime.as_secs())]);
    let help = "1 if there is an address and a router";
    let ready = u64::from(readiness(status).ready);
    text.gauge("ready", help, [(none(), ready)]);

    let each = |value: fn(&AccessRow) -> u64| {
        let rows = status.accesses.iter();
        rows.map(move |row| (format!("access=\"{}\"", escaped(&row.name)), value(row)))
    };
    let help = "1 if an access's interface is there and its link is up";
    text.gauge("access_up", help, each(|row| row.up.into()));
    let help = "1 if an access has a router";
    let router = |row: &AccessRow| row.router.is_some().into();
    text.gauge("access_router", help, each(router));
    let help = "Frames received on an access";
    text.counter("access_rx_packets", help, each(|row| row.rx_packets));
    let help = "Packets of these handed to the logical interface";
    text.counter("access_delivered_packets", help, each(|row| row.delivered));
    let help = "Neighbour discovery messages of these";
    text.counter("access_discovery_packets", help, each(|row| row.discovery));
    let help = "Packets of the logical interface sent on an access";
    text.counter("access_tx_packets", help, each(|row| row.tx_packets));
    let help = "Solicitations and advertisements sent on an access";
    text.counter(
        "access_originated_packets",
        help,
        each(|row| row.originated),
    );

    // Every reason from the start, so that rates can be told from the first occurrence on.
    let dropped = DropReason::ALL.iter().map(|reason| {
        let row = status.drops.iter().find(|row| row.reason == reason.name());
        let label = format!("reason=\"{}\"", reason.name());
        (label, row.map_or(0, |row| row.packets))
    });
    text.counter("dropped_packets", "Packets that were dropped", dropped);
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let help = "Prefixes on the logical interface";
    text.gauge(
        "mn_prefixes",
        help,
        [(none(), count(status.prefixes.len()))],
    );
    let help = "Flows whose access is known";
    text.gauge("mn_flows", help, [(none(), count(status.flow_count))]);
    let help = "How often the downlink of a flow came to another access";
    text.counter("mn_flow_moves", help, [(none(), status.flow_moves)]);
    text.0 + "# EOF\n"
}

/// The text format, as far as it is needed. A library for it has more in it than all of this node.
#[derive(Default)]
struct Text(String);

impl Text {
    fn gauge(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (String, u64)>) {
        self.family(name, "gauge", "", help, values);
    }

    fn counter(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (String, u64)>) {
        self.family(name, "counter", "_total", help, values);
    }

    fn family(
        &mut self,
        name: &str,
        kind: &str,
        suffix: &str,
        help: &str,
        values: impl IntoIterator<Item = (String, u64)>,
    ) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP flowmob_{name} {help}.");
        let _ = writeln!(self.0, "# TYPE flowmob_{name} {kind}");
        for (labels, value) in values {
            let _ = if labels.is_empty() {
                writeln!(self.0, "flowmob_{name}{suffix} {value}")
            } else {
                writeln!(self.0, "flowmob_{name}{suffix}{{{labels}}} {value}")
            };
        }
    }
}

/// A label's value as it may stand between quotation marks.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    text.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mn::status::PrefixRow;

    fn access(name: &str, up: bool, router: Option<&str>) -> AccessRow {
        AccessRow {
            name: name.to_owned(),
            interface: "wlan0".to_owned(),
            mac: None,
            up,
            router: router.map(|text| text.parse().unwrap()),
            router_mac: None,
            rx_packets: 7,
            delivered: 5,
            discovery: 1,
            tx_packets: 3,
            originated: 2,
        }
    }

    #[test]
    fn ready_is_an_address_and_a_router() {
        let mut status = MnStatus::default();
        assert!(!readiness(&status).ready);
        status.accesses = vec![
            access("wifi", true, None),
            access("modem", true, Some("fe80::1")),
        ];
        assert!(!readiness(&status).ready, "no address");
        status.prefixes.push(PrefixRow {
            prefix: flow::Hnp::new("2001:db8:100::".parse().unwrap(), 64).unwrap(),
            address: "2001:db8:100::100".parse().unwrap(),
            accesses: vec!["modem".to_owned()],
        });
        let ready = readiness(&status);
        assert_eq!(
            (ready.ready, ready.accesses_down),
            (true, vec!["wifi".to_owned()])
        );
        status.accesses[1].router = None;
        let ready = readiness(&status);
        assert_eq!((ready.ready, ready.accesses_down.len()), (false, 2));
    }

    #[test]
    fn metrics_name_accesses_and_every_reason() {
        let status = MnStatus {
            accesses: vec![access("a \"b\"", true, None)],
            ..MnStatus::default()
        };
        let text = metrics("mn1", Duration::from_secs(61), &status);
        for line in [
            "flowmob_uptime_seconds 61",
            "flowmob_ready 0",
            "flowmob_access_up{access=\"a \\\"b\\\"\"} 1",
            "flowmob_access_rx_packets_total{access=\"a \\\"b\\\"\"} 7",
            "flowmob_dropped_packets_total{reason=\"no-route\"} 0",
            "# TYPE flowmob_mn_flow_moves counter",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}:\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
    }
}
