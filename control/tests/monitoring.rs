//! The alerts and the dashboard against what an appliance really serves.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use std::collections::BTreeSet;

use common::appliances::{lma, mag};
use promql_parser::label::MatchOp;
use promql_parser::parser::{Expr, VectorSelector, parse};

/// All expressions of the alerts and of the dashboard, with Grafana's variables filled in.
fn expressions() -> Vec<String> {
    let alerts = include_str!("../../docs/monitoring/alerts.yaml");
    let alerts = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "));
    let mut all: Vec<String> = alerts.map(str::to_owned).collect();
    let alerts = all.len();
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../../docs/monitoring/grafana.json")).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            all.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    assert!(alerts >= 10 && all.len() > 2 * alerts, "{all:?}");
    let filled = |text: String| {
        text.replace("$__rate_interval", "1m")
            .replace("$instance", ".*")
    };
    all.into_iter().map(filled).collect()
}

fn selectors(expr: &Expr, found: &mut Vec<VectorSelector>) {
    match expr {
        Expr::Aggregate(e) => selectors(&e.expr, found),
        Expr::Unary(e) => selectors(&e.expr, found),
        Expr::Binary(e) => {
            selectors(&e.lhs, found);
            selectors(&e.rhs, found);
        }
        Expr::Paren(e) => selectors(&e.expr, found),
        Expr::Subquery(e) => selectors(&e.expr, found),
        Expr::VectorSelector(selector) => found.push(selector.clone()),
        Expr::MatrixSelector(matrix) => found.push(matrix.vs.clone()),
        Expr::Call(call) => call.args.args.iter().for_each(|e| selectors(e, found)),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
    }
}

#[test]
fn alerts_and_dashboard_ask_for_what_there_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut samples: BTreeSet<(String, String)> = BTreeSet::new();
    for appliance in [lma(&directory), mag(&directory)] {
        let (_, text) = appliance.http("GET /metrics");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let labels = line
                .split_once('{')
                .map_or("", |(_, rest)| rest.rsplit_once('}').unwrap().0);
            samples.insert((name.to_owned(), labels.to_owned()));
        }
    }
    for text in expressions() {
        let expr = parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let mut found = Vec::new();
        selectors(&expr, &mut found);
        assert!(!found.is_empty(), "{text}");
        for selector in found {
            let name = selector.name.clone().unwrap();
            let of_name = || samples.iter().filter(|(n, _)| *n == name);
            // Flows and peers that there are not have no samples: their families have a name all the same.
            assert!(
                of_name().next().is_some() || name == "flowmob_flows",
                "{name} in {text}"
            );
            for matcher in &selector.matchers.matchers {
                let label = format!("{}=\"", matcher.name);
                // Prometheus adds this one.
                if matcher.name == "instance" || name == "flowmob_flows" {
                    continue;
                }
                let values: BTreeSet<&str> = of_name()
                    .filter_map(|(_, labels)| labels.split_once(&label)?.1.split('"').next())
                    .collect();
                let wanted: Vec<&str> = match &matcher.op {
                    MatchOp::Equal => vec![matcher.value.as_str()],
                    MatchOp::Re(_) => matcher.value.split('|').collect(),
                    MatchOp::NotEqual | MatchOp::NotRe(_) => vec![],
                };
                for value in wanted {
                    assert!(
                        values.contains(value),
                        "{}={value} in {text}: {values:?}",
                        matcher.name
                    );
                }
            }
        }
    }
}
