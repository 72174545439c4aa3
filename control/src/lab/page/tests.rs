use flow::Hnp;

use super::super::analysis::{Direction, Flow, PerMag};
use super::super::capture::Completeness;
use super::super::signalling::Kind;
use super::super::timeline::Timeline;
use super::super::topology::{Dialect, Mag, Scenario};
use super::super::verdict::Criterion;
use super::*;

fn report(messages: u16) -> Report {
    let prefix =
        |n: u16| Hnp::new(std::net::Ipv6Addr::new(0x2001, 0xdb8, n, 0, 0, 0, 0, 0), 64).unwrap();
    let heard = |n: u16| Heard {
        time: Duration::from_millis(100 * u64::from(n)),
        mag: if n.is_multiple_of(2) {
            Mag::Mag1
        } else {
            Mag::Mag2
        },
        from_lma: n.is_multiple_of(3),
        kind: Kind::FmiAdd,
        sequence: Some(n),
        status: None,
        content: "a <b> & \"c\", d".to_owned(),
    };
    let pieces = vec![PerMag { mag1: 3, mag2: 0 }, PerMag { mag1: 0, mag2: 4 }];
    Report {
        scenario: Scenario::Unique,
        dialect: Dialect::Draft,
        version: "1",
        workers: 1,
        rate: 10,
        passed: false,
        criteria: vec![Criterion {
            name: "x < y".to_owned(),
            passed: false,
            evidence: "1 & 2".to_owned(),
        }],
        prefixes: [prefix(1), prefix(2)],
        tables: Vec::new(),
        flows: Vec::new(),
        tcp: Err("broken".to_owned()),
        moves: Vec::new(),
        started: Duration::ZERO,
        signalling: (0..messages).map(heard).collect(),
        timeline: Timeline {
            begin: Duration::from_secs(1),
            width: Duration::from_millis(10),
            rows: vec![(Flow::Y, Direction::Downlink, pieces)],
            closely: vec![vec![(Duration::from_secs(1), Direction::Uplink, Mag::Mag2)]],
        },
        capture: Completeness::default(),
    }
}

fn well_formed(text: &str) {
    if let Err(error) = roxmltree::Document::parse(text) {
        panic!("{error} in\n{text}");
    }
}

#[test]
fn everything_is_written_and_well_formed() {
    let directory = tempfile::tempdir().unwrap();
    for messages in [0, 7, 900] {
        let page = write(&report(messages), directory.path()).unwrap();
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        for name in ["report.html", "packets.svg", "moves.svg", "sequence.svg"] {
            let text = read(name);
            well_formed(&text.replace("<!DOCTYPE html>", ""));
            assert!(!text.contains("a <b>") && !text.contains("x < y"), "{name}");
            // Nothing is from elsewhere.
            let outside = text.matches("http").count();
            assert_eq!(
                outside,
                text.matches("http://www.w3.org/2000/svg").count(),
                "{name}"
            );
        }
        assert_eq!(page, directory.path().join("report.html"));
        let signalling = read("signalling.csv");
        assert_eq!(signalling.lines().count(), usize::from(messages) + 1);
        assert_eq!(
            read("packets.csv"),
            "seconds,width_seconds,flow,direction,mag1_packets,mag2_packets\n\
             1.000,0.010,Y,downlink,3,0\n1.010,0.010,Y,downlink,0,4\n"
        );
        assert_eq!(
            read("sequence.svg").contains("more in signalling.csv"),
            messages > 200
        );
    }
}

#[test]
fn a_run_without_packets_has_a_page_too() {
    let directory = tempfile::tempdir().unwrap();
    let empty = Report {
        timeline: Timeline::default(),
        ..report(1)
    };
    write(&empty, directory.path()).unwrap();
    let svg = fs::read_to_string(directory.path().join("packets.svg")).unwrap();
    well_formed(&svg);
    assert!(!svg.contains("NaN"));
}
