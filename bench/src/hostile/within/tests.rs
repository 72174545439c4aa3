use hdrhistogram::Histogram;

use super::*;

/// Cycles between packets.
const GAP: f64 = 100.0;

/// A stretch of 1000 packets, of which so many were lost, and so many came while the worker stalled.
fn course(lost: u64, waiting: u64, in_stalls: u64) -> Course {
    let latencies = Histogram::new_with_bounds(1, 1 << 20, 2).unwrap();
    Course {
        handed: 1000 - lost,
        sent: 0,
        lost,
        lost_to_stalls: if in_stalls > 0 { lost } else { 0 },
        waiting,
        largest_gap: 0,
        stalls: 0,
        stalled: in_stalls * 100,
        quiet: latencies.clone(),
        latencies,
    }
}

fn alone(course: &Course) -> Fate {
    Fate::of(course, 0, 0.0, GAP)
}

#[test]
fn of_what_is_lost_the_others_have_their_share() {
    let fate = Fate::of(&course(200, 40, 100), 190, 0.25, GAP);
    let expected = Fate {
        offered: 800 - 190 + 150,
        lost: 150,
        lost_to_stalls: 75,
        waiting: 30,
        in_stalls: 75,
    };
    assert_eq!(fate, expected);
    let nobody = Fate::of(&course(1000, 0, 0), 0, 1.0, GAP);
    assert_eq!((nobody.offered, nobody.lost), (0, 0));
}

#[test]
fn stalls_have_lost_no_more_than_came_in_them_and_no_more_than_was_lost() {
    let lost = |lost, in_stalls| alone(&course(lost, 0, in_stalls)).lost_to_stalls;
    assert_eq!([lost(50, 0), lost(50, 20), lost(50, 60)], [0, 20, 50]);
}

#[test]
fn one_in_a_hundred_may_be_lost_or_wait_at_the_end() {
    let borne = |lost, waiting| alone(&course(lost, waiting, 0)).is_borne();
    assert!(borne(10, 0) && borne(0, 10) && borne(5, 5));
    assert!(!borne(11, 0) && !borne(0, 11) && !borne(6, 5));
}

#[test]
fn what_came_in_stalls_is_the_machines_up_to_a_tenth() {
    let fate = |lost, in_stalls| alone(&course(lost, 0, in_stalls));
    assert!(fate(40, 30).is_borne() && !fate(41, 30).is_borne());
    assert!(fate(0, 300).is_borne() && fate(110, 300).is_borne());
    assert!(!fate(111, 300).is_borne());
    assert!(fate(0, 101).is_spoiled() && !fate(0, 100).is_spoiled());
}

#[test]
fn a_loss_is_of_all_stretches_and_its_share_that_of_the_middle_one() {
    let fates =
        [(0, 0), (500, 450), (10, 10)].map(|(lost, stalls)| alone(&course(lost, 0, stalls)));
    let loss = loss(10_000, &fates);
    assert_eq!((loss.hostile_pps, loss.packets), (10_000, 3000));
    assert_eq!((loss.lost, loss.lost_to_stalls), (510, 460));
    assert!((loss.lost_percent - 1.0).abs() < 1e-9);
    assert!((loss.own_percent() - 50.0 / 30.0).abs() < 1e-9);
}

#[test]
fn a_report_of_before_has_none() {
    let row: Row = serde_json::from_str(
        r#"{"attack": "discovery", "beside": "lma-downlink", "bindings": 100000,
            "forwarded_cycles": 113.0, "hostile_cycles": 330.0, "ratio": 2.92, "heard_ppm": 20.0}"#,
    )
    .unwrap();
    assert!(cells(std::slice::from_ref(&row)).is_empty());
    assert!(table(std::slice::from_ref(&row)).is_none());
    assert!(warning(&[row]).is_none());
}

/// A load at which so many of 1000 packets were lost, whatever came besides.
fn within(lost: u64) -> Within {
    let fates = [alone(&course(lost, 0, 0))];
    Within {
        no_loss_mpps: 16.0,
        load_percent: 50,
        offered_mpps: 8.0,
        borne_mpps: 4.0,
        borne_percent: 50.0,
        losses: RATES.map(|rate| loss(rate, &fates)).to_vec(),
    }
}

#[test]
fn losses_beside_nobody_are_warned_of() {
    let row = |within| Row {
        attack: Attack::PoolScan,
        beside: Work::LmaDownlink,
        bindings: 1,
        forwarded_cycles: 1.0,
        hostile_cycles: 1.0,
        ratio: 1.0,
        heard_ppm: 0.0,
        within,
    };
    assert!(warning(&[row(vec![within(10)])]).is_none());
    let said = warning(&[row(vec![within(0), within(11)])]).unwrap();
    assert!(said.starts_with("hostile: in 1 of 2 lines "), "{said}");
}

#[test]
fn every_line_has_a_cell_for_every_column() {
    let line = line(Attack::PoolScan, &within(0));
    assert_eq!(line.len(), columns().len());
    let [.., last] = line.as_slice() else {
        panic!("an empty line");
    };
    assert_eq!(last, "0.00 (0.00)");
    assert_eq!(columns().last().map(String::as_str), Some("at 1M/s"));
}
