use std::collections::BTreeSet;

use super::*;

fn drawn(seed: u64, events: usize) -> Vec<Operation> {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    (0..events).map(|_| draw(&mut dice)).collect()
}

/// A seed that somebody notes is worth nothing if the next build draws something else from it.
#[test]
fn a_seed_says_what_is_done() {
    let titles: Vec<String> = drawn(1, 6).iter().map(Operation::title).collect();
    let expected = [
        "kill -9 lma mag1 mag2, start",
        "reload lma with a bad file",
        "storm at mag2",
        "kill -9 lma, start",
        "access link of mag1 down for 5000 ms",
        "cut mag1 off for 300 ms",
    ];
    assert_eq!(titles, expected);
    assert_ne!(drawn(1, 20), drawn(2, 20));
}

#[test]
fn everything_is_drawn_sooner_or_later() {
    let kinds: BTreeSet<String> = drawn(1, 3000).iter().map(Operation::kind).collect();
    for kind in [
        "move a flow",
        "storm at mag1",
        "storm at mag2, kill -9 lma, start",
        "kill -9 mag2, start",
        "kill -9 lma mag1 mag2, start",
        "kill -9 lma mag2, start",
        "end lma, start",
        "take over from mag1",
        "hold mag1",
        "cut mag2 off",
        "access link of mag1 down",
        "disk of lma full",
        "kill -9 lma, damage, start",
        "reload mag1 with a bad file",
        "clock of lma wrong",
        "clock of mag2 wrong, kill -9, start",
    ] {
        assert!(kinds.contains(kind), "{kind}");
    }
}

#[test]
fn everything_is_drawn_for_a_pair_too() {
    let mut dice = ChaCha8Rng::seed_from_u64(1);
    let kinds: BTreeSet<String> = (0..2000).map(|_| draw_for_pair(&mut dice).kind()).collect();
    for kind in [
        "move a flow",
        "storm at mag2",
        "kill -9 mag1, start",
        "cut mag2 off",
        "access link of mag1 down",
        "kill -9 the LMA that leads",
        "storm at mag1, kill -9 the LMA that leads",
        "clock of the LMA that stands by wrong, kill -9 the LMA that leads",
        "end the LMA that leads",
        "cut the LMA that leads off from etcd",
        "kill -9 the LMA that stands by",
        "kill -9 a node of etcd, start",
        "kill -9 all nodes of etcd, start",
    ] {
        assert!(kinds.contains(kind), "{kind}");
    }
}

fn cost(operation: &Operation, lost: u64, blocked: f64, wrong: &[&str]) -> Cost {
    Cost {
        operation: operation.title(),
        kind: operation.kind(),
        sent: 4000,
        lost,
        blocked_downlink_ms: blocked,
        blocked_uplink_ms: 0.0,
        settled_ms: 70,
        wrong: wrong.iter().map(|wrong| (*wrong).to_owned()).collect(),
    }
}

fn chaos(operations: Vec<Cost>) -> Chaos {
    let passed = operations.iter().all(|cost| cost.wrong.is_empty());
    Chaos {
        seed: 5,
        events: 9,
        kinds: kinds(&operations),
        costs: Costs {
            rate: 1000,
            passed,
            operations,
        },
    }
}

#[test]
fn what_is_alike_is_summed_up() {
    let kill = Operation::Kill(vec![Host::Lma]);
    let hold = |ms| Operation::Hold(Host::Lma, Duration::from_millis(ms));
    let chaos = chaos(vec![
        cost(&hold(50), 0, 0.0, &[]),
        cost(&kill, 300, 280.0, &[]),
        cost(&hold(300), 7, 3.5, &[]),
        cost(&kill, 310, 290.0, &[]),
        cost(&kill, 320, 300.0, &[]),
    ]);
    let rows: Vec<String> = rows(&chaos).iter().map(|row| row.join(" | ")).collect();
    let expected = [
        "hold lma | 2 | 7 | 4 / 4 | 0 / 0 | 70 / 70",
        "kill -9 lma, start | 3 | 930 | 290 / 300 | 0 / 0 | 70 / 70",
    ];
    assert_eq!(rows, expected);
    assert!(render(&chaos).ends_with("nothing was forgotten\n"));
}

#[test]
fn what_is_wrong_is_told_with_the_seed() {
    let kill = Operation::Kill(vec![Host::Lma]);
    let chaos = chaos(vec![cost(
        &kill,
        1,
        1.0,
        &["lma: flows: missing 1 <on> mag2"],
    )]);
    let said = render(&chaos);
    let expected = "FAILED after event 1, kill -9 lma, start: lma: flows: missing 1 <on> mag2\n`--seed 5` does the same again\n";
    assert!(said.ends_with(expected), "{said}");
}

/// What the documents show has to have the ways in which an LMA stops to lead.
#[test]
fn the_documented_seed_does_to_a_pair_what_it_is_for() {
    let mut dice = ChaCha8Rng::seed_from_u64(5308);
    let drawn: Vec<String> = (1..8).map(|_| draw_for_pair(&mut dice).kind()).collect();
    for what in [
        "kill -9 the LMA that leads",
        "clock of the LMA that stands by",
        "storm at",
        "end the LMA",
        "cut the LMA",
    ] {
        assert!(drawn.iter().any(|kind| kind.contains(what)), "{drawn:?}");
    }
}
