//! Whether a run was what the draft promises: a list of criteria, each with its evidence.

use std::fmt::Write as _;

use serde::Serialize;

use super::analysis::{Direction, Flow, PerMag};
use super::capture::Completeness;
use super::moves::{Exchange, Move, Packets};
use super::tables::Stage;
use super::topology::Mag;
use super::traffic::{Digest, Outcome};

/// One thing that must be so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Criterion {
    /// What must be so.
    pub(crate) name: String,
    /// Whether it is.
    pub(crate) passed: bool,
    /// What shows it.
    pub(crate) evidence: String,
}

/// All that a run has shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'a> {
    /// The UDP flows.
    pub(crate) outcomes: &'a [Outcome],
    /// The TCP transfer: what was sent and what was received, or why it broke.
    pub(crate) tcp: &'a Result<(Digest, Digest), String>,
    /// How each stage's tables differ from the slides.
    pub(crate) differences: &'a [(Stage, Vec<String>)],
    /// The move to MAG1 and the move back.
    pub(crate) moves: &'a [Move],
    /// How complete the capture is.
    pub(crate) capture: Completeness,
}

/// Judges a run.
pub(crate) fn judge(evidence: &Evidence<'_>) -> Vec<Criterion> {
    let mut out = Vec::new();
    for flow in [Flow::X, Flow::Y] {
        for direction in Direction::ALL {
            out.push(whole(flow, direction, evidence.outcomes));
        }
    }
    out.push(tcp(evidence.tcp));
    for stage in Stage::ALL {
        out.push(tables(stage, evidence.differences));
    }
    for (target, name) in [(Mag::Mag1, "move"), (Mag::Mag2, "move back")] {
        let Some(found) = evidence.moves.iter().find(|m| m.to == target) else {
            out.push(Criterion::new(name, false, "it did not happen"));
            continue;
        };
        out.extend(judge_move(name, found));
    }
    let Completeness { frames, dropped } = evidence.capture;
    let text = format!("{frames} frames, {dropped} dropped");
    out.push(Criterion::new("capture complete", dropped == 0, text));
    out
}

impl Criterion {
    fn new(name: impl Into<String>, passed: bool, evidence: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            passed,
            evidence: evidence.into(),
        }
    }
}

fn whole(flow: Flow, direction: Direction, outcomes: &[Outcome]) -> Criterion {
    let name = format!("flow {flow:?} {} lossless", direction.name());
    let found = outcomes
        .iter()
        .find(|o| o.flow == flow && o.direction == direction);
    let Some(outcome) = found else {
        return Criterion::new(name, false, "it did not run");
    };
    let a = &outcome.accounting;
    let mut text = format!(
        "{} sent, {} received, {} lost, {} duplicated",
        a.sent, a.received, a.lost, a.duplicated
    );
    if a.foreign > 0 {
        let _ = write!(text, ", {} never sent", a.foreign);
    }
    if !a.lost_ranges.is_empty() {
        let _ = write!(text, "; lost numbers {:?}", a.lost_ranges);
    }
    Criterion::new(name, a.is_whole(), text)
}

fn tcp(result: &Result<(Digest, Digest), String>) -> Criterion {
    let name = "flow Z (TCP) intact";
    match result {
        Ok((sent, received)) => {
            let passed = sent == received && sent.octets > 0;
            let text = format!(
                "{} octets sent, {} received, checksums {:016x} and {:016x}",
                sent.octets, received.octets, sent.checksum, received.checksum
            );
            Criterion::new(name, passed, text)
        }
        Err(error) => Criterion::new(name, false, error.clone()),
    }
}

fn tables(stage: Stage, differences: &[(Stage, Vec<String>)]) -> Criterion {
    let name = format!("tables {} as on the slides", stage.name());
    match differences.iter().find(|(s, _)| *s == stage) {
        Some((_, wrong)) if wrong.is_empty() => Criterion::new(name, true, "equal"),
        Some((_, wrong)) => Criterion::new(name, false, wrong.join("; ")),
        None => Criterion::new(name, false, "they were not read"),
    }
}

fn judge_move(name: &str, found: &Move) -> Vec<Criterion> {
    let (to, from) = (found.to, found.from);
    let mut out = vec![
        add(name, found),
        path(name, found),
        untouched(name, found, &[Flow::X, Flow::Z]),
    ];
    // Optional in the draft; but a request must be answered.
    if let Some(del) = &found.del {
        let title = format!("{name}: FMI to {} acknowledged", from.title());
        out.push(Criterion::new(
            title,
            del.acknowledge.is_some(),
            exchange(del),
        ));
    }
    if let (Some(fma), Some(first)) = (found.fma_us, found.first_downlink_us) {
        let title = format!("{name}: {} had its route first", to.title());
        let text = format!("FMA after {fma} us, first packet after {first} us");
        out.push(Criterion::new(title, fma <= first, text));
    }
    out
}

fn add(name: &str, found: &Move) -> Criterion {
    let title = format!("{name}: FMI and FMA on the wire");
    match &found.add {
        Some(add) => Criterion::new(title, add.acknowledge.is_some(), exchange(add)),
        None => Criterion::new(title, false, format!("no FMI to {}", found.to.title())),
    }
}

fn exchange(exchange: &Exchange) -> String {
    let sequence = exchange.initiate.sequence.unwrap_or(0);
    match &exchange.acknowledge {
        Some(fma) => {
            let took = fma.time.saturating_sub(exchange.initiate.time);
            format!(
                "sequence {sequence}, answered after {} us",
                took.as_micros()
            )
        }
        None => format!("sequence {sequence}, no FMA that accepts it"),
    }
}

fn path(name: &str, found: &Move) -> Criterion {
    let title = format!("{name}: flow Y in the tunnel to {} only", found.to.title());
    let of = |packets: PerMag, mag: Mag| match mag {
        Mag::Mag1 => packets.mag1,
        Mag::Mag2 => packets.mag2,
    };
    let right = |p: &&Packets| {
        of(p.before, found.from) > 0
            && of(p.before, found.to) == 0
            && of(p.after, found.to) > 0
            && of(p.after, found.from) == 0
    };
    let (passed, text) = check(found, &[Flow::Y], right);
    Criterion::new(title, passed, text)
}

fn untouched(name: &str, found: &Move, flows: &[Flow]) -> Criterion {
    let title = format!("{name}: flows X and Z untouched");
    let right = |p: &&Packets| {
        p.before.mag1 > 0 && p.after.mag1 > 0 && p.before.mag2 == 0 && p.after.mag2 == 0
    };
    let (passed, text) = check(found, flows, right);
    Criterion::new(title, passed, text)
}

/// Whether all directions of `flows` are right, and their packets in words.
fn check(found: &Move, flows: &[Flow], right: impl Fn(&&Packets) -> bool) -> (bool, String) {
    let chosen: Vec<&Packets> = found
        .packets
        .iter()
        .filter(|p| flows.contains(&p.flow))
        .collect();
    let texts: Vec<String> = chosen
        .iter()
        .map(|p| {
            format!(
                "{:?} {} MAG1/MAG2 {}/{} -> {}/{}",
                p.flow,
                p.direction.name(),
                p.before.mag1,
                p.before.mag2,
                p.after.mag1,
                p.after.mag2
            )
        })
        .collect();
    let complete = chosen.len() == flows.len() * Direction::ALL.len();
    (complete && chosen.iter().all(right), texts.join(", "))
}

#[cfg(test)]
mod tests;
