use std::time::Duration;

use super::*;
use crate::lab::sequence::Accounting;
use crate::lab::signalling::{Heard, Kind};

struct Run {
    outcomes: Vec<Outcome>,
    tcp: Result<(Digest, Digest), String>,
    differences: Vec<(Stage, Vec<String>)>,
    moves: Vec<Move>,
    capture: Completeness,
}

fn exchange_with(kind: Kind, mag: Mag) -> Exchange {
    let heard = |kind, from_lma, status| Heard {
        time: Duration::from_millis(1),
        mag,
        from_lma,
        kind,
        sequence: Some(7),
        status,
        content: String::new(),
    };
    Exchange {
        initiate: heard(kind, true, None),
        acknowledge: Some(heard(Kind::Fma, false, Some(0))),
    }
}

fn a_move(from: Mag, to: Mag) -> Move {
    let at = |mag| match mag {
        Mag::Mag1 => PerMag { mag1: 9, mag2: 0 },
        Mag::Mag2 => PerMag { mag1: 0, mag2: 9 },
    };
    let mut packets = Vec::new();
    for flow in Flow::ALL {
        for direction in Direction::ALL {
            let (before, after) = match flow {
                Flow::Y => (at(from), at(to)),
                Flow::X | Flow::Z | Flow::W => (at(Mag::Mag1), at(Mag::Mag1)),
            };
            packets.push(Packets {
                flow,
                direction,
                before,
                after,
            });
        }
    }
    Move {
        command: Duration::ZERO,
        from,
        to,
        add: Some(exchange_with(Kind::FmiAdd, to)),
        del: Some(exchange_with(Kind::FmiDel, from)),
        command_us: 3,
        fma_us: Some(1),
        first_downlink_us: Some(2),
        first_uplink_us: Some(3),
        packets,
    }
}

fn good() -> Run {
    let digest = Digest {
        octets: 1,
        checksum: 2,
    };
    let mut outcomes = Vec::new();
    for flow in [Flow::X, Flow::Y] {
        for direction in Direction::ALL {
            outcomes.push(Outcome {
                flow,
                direction,
                accounting: Accounting {
                    sent: 10,
                    received: 10,
                    ..Accounting::default()
                },
                refused: 0,
            });
        }
    }
    Run {
        outcomes,
        tcp: Ok((digest, digest)),
        differences: Stage::ALL.map(|s| (s, Vec::new())).to_vec(),
        moves: vec![a_move(Mag::Mag2, Mag::Mag1), a_move(Mag::Mag1, Mag::Mag2)],
        capture: Completeness {
            frames: 100,
            dropped: 0,
        },
    }
}

fn failed(run: &Run) -> Vec<String> {
    let evidence = Evidence {
        outcomes: &run.outcomes,
        tcp: &run.tcp,
        differences: &run.differences,
        moves: &run.moves,
        capture: run.capture,
    };
    let criteria = judge(&evidence);
    assert!(criteria.len() >= 14);
    let failed = criteria.into_iter().filter(|c| !c.passed);
    failed.map(|c| c.name).collect()
}

#[test]
fn a_good_run_passes() {
    assert_eq!(failed(&good()), [""; 0]);
    // The clean-up at the old gateway is optional.
    let mut run = good();
    run.moves[0].del = None;
    assert_eq!(failed(&run), [""; 0]);
}

#[test]
fn each_fault_fails_its_own_criterion() {
    type Fault = fn(&mut Run);
    let faults: [(Fault, &str); 14] = [
        (
            |r| r.outcomes[2].accounting.lost = 1,
            "flow Y downlink lossless",
        ),
        (
            |r| r.outcomes[1].accounting.duplicated = 1,
            "flow X uplink lossless",
        ),
        (
            |r| r.outcomes[0].accounting.sent = 0,
            "flow X downlink lossless",
        ),
        (|r| drop(r.outcomes.remove(3)), "flow Y uplink lossless"),
        (
            |r| r.tcp.as_mut().unwrap().1.checksum = 3,
            "flow Z (TCP) intact",
        ),
        (|r| r.tcp = Err("stuck".into()), "flow Z (TCP) intact"),
        (
            |r| r.differences[1].1.push("MAG1: ...".into()),
            "tables after as on the slides",
        ),
        (
            |r| drop(r.differences.remove(2)),
            "tables back as on the slides",
        ),
        (|r| r.moves[0].add = None, "move: FMI and FMA on the wire"),
        (
            |r| r.moves[0].add.as_mut().unwrap().acknowledge = None,
            "move: FMI and FMA on the wire",
        ),
        (
            |r| r.moves[1].del.as_mut().unwrap().acknowledge = None,
            "move back: FMI to MAG1 acknowledged",
        ),
        (
            |r| r.moves[0].packets[2].after.mag2 = 1,
            "move: flow Y in the tunnel to MAG1 only",
        ),
        (
            |r| r.moves[0].packets[0].after.mag2 = 1,
            "move: flows X and Z untouched",
        ),
        (|r| r.capture.dropped = 1, "capture complete"),
    ];
    for (fault, name) in faults {
        let mut run = good();
        fault(&mut run);
        assert_eq!(failed(&run), [name]);
    }
}

#[test]
fn a_packet_before_the_acknowledgement_is_a_fault() {
    let mut run = good();
    run.moves[0].first_downlink_us = Some(0);
    assert_eq!(failed(&run), ["move: MAG1 had its route first"]);
}

#[test]
fn a_move_that_did_not_happen_is_a_fault() {
    let mut run = good();
    run.moves.pop();
    assert_eq!(failed(&run), ["move back"]);
}
