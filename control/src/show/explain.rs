//! `flowmob explain`: what would become of a packet, in words.

use serde_json::json;

use crate::api::explain::{Explain, Explanation, Outcome};
use crate::cli::ExplainArgs;
use crate::client::Client;

/// Runs `flowmob explain`, returning what to print.
///
/// # Errors
/// If the process does not answer, or cannot read the packet.
pub(crate) fn explain(client: &Client, arguments: ExplainArgs) -> anyhow::Result<String> {
    let json = arguments.json;
    let request = Explain {
        src: arguments.src,
        dst: arguments.dst,
        proto: arguments.proto,
        sport: arguments.sport,
        dport: arguments.dport,
        flow_label: arguments.flow_label,
        tc: arguments.tc,
        hex: arguments.hex,
        port: arguments.port,
        via: arguments.via,
    };
    let answer = client.post("/v1/explain", &json!(request))?;
    if json {
        return Ok(serde_json::to_string_pretty(&answer)?);
    }
    Ok(explained(&serde_json::from_value(answer)?))
}

fn explained(explanation: &Explanation) -> String {
    let mut lines = vec![format!(
        "arrives   {} on port {}",
        explanation.arrival, explanation.port
    )];
    lines.push(match &explanation.binding {
        Some(found) => format!(
            "binding   {} of {} ({}, by {})",
            found.prefix,
            found.mn,
            found.role,
            if found.of_destination {
                "destination"
            } else {
                "source"
            },
        ),
        None => "binding   none: no mobile's prefix holds its addresses".to_owned(),
    });
    for rule in &explanation.rules {
        let why = if rule.mismatches.is_empty() {
            String::new()
        } else {
            format!(": {} differs", rule.mismatches.join(", "))
        };
        lines.push(format!(
            "rule      {} (flow {}) {} -> {}: {}{why}",
            rule.priority, rule.fid, rule.selector, rule.action, rule.verdict
        ));
    }
    if let Some(found) = explanation
        .binding
        .as_ref()
        .filter(|found| found.of_destination)
    {
        lines.push(format!("default   {}", found.default));
    }
    lines.push(format!("result    {}", outcome(&explanation.result)));
    if let Some(frame) = &explanation.result.frame {
        lines.push(format!(
            "leaves    on port {} to {}: {} > {}, next header {}, hop limit {}, class {:#04x}, flow label {:#07x}, \
             {} octets",
            frame.port,
            frame.to,
            frame.source,
            frame.destination,
            frame.next_header,
            frame.hop_limit,
            frame.traffic_class,
            frame.flow_label,
            frame.octets
        ));
    }
    for lost in &explanation.if_lost {
        let then = lost.rescuer.as_ref().map_or(String::new(), |peer| {
            format!("; then by way of {peer}, once it has agreed")
        });
        lines.push(format!(
            "if lost   access {} at {}: {}{then}",
            lost.bid,
            lost.peer,
            outcome(&lost.result)
        ));
    }
    lines.join("\n")
}

fn outcome(outcome: &Outcome) -> String {
    let mut text = outcome.fate.clone();
    if let Some(reason) = &outcome.reason {
        text += ": ";
        text += reason;
    }
    if let Some(path) = &outcome.path {
        text += ", ";
        text += path;
    }
    if outcome.answered {
        text += ", and its sender is told";
    }
    if let Some(meaning) = &outcome.meaning {
        text += " (";
        text += meaning;
        text += ")";
    }
    text
}
