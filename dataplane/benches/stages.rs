//! What each stage of a packet's way costs by itself. See bench/README.md.
#![allow(missing_docs, reason = "the macros of criterion make items without")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dataplane::micro::{Bench, PACKETS, Rules, Way};

/// The stage that is timed, or what must come before it.
type Step = fn(&mut Bench) -> usize;

/// What a binding usually has.
const RECORD: Rules = Rules::Exact(4);

fn nothing(_: &mut Bench) -> usize {
    PACKETS
}

fn classified(bench: &mut Bench) -> usize {
    bench.lookup().min(bench.match_rules())
}

/// Times `stage` alone: new packets are written and go through the stages before it in between.
fn time(
    criterion: &mut Criterion,
    name: &str,
    (bindings, rules): (u32, Rules),
    way: Way,
    before: Step,
    stage: Step,
) {
    let mut group = criterion.benchmark_group("stages");
    group.throughput(Throughput::Elements(PACKETS as u64));
    group.bench_function(name, |bencher| {
        let mut bench = Bench::new(bindings, rules).expect("the bench's own configuration");
        bencher.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                bench.fresh(way);
                assert_eq!(before(&mut bench), PACKETS);
                let start = Instant::now();
                let well = stage(black_box(&mut bench));
                total += start.elapsed();
                assert_eq!(well, PACKETS, "{name} went wrong");
            }
            total
        });
    });
    group.finish();
}

fn stages(c: &mut Criterion) {
    let small = (1000, RECORD);
    time(c, "parse/downlink", small, Way::Down, nothing, Bench::parse);
    time(c, "parse/uplink", small, Way::Up, nothing, Bench::parse);
    for (name, bindings) in [("1k", 1000), ("100k", 100_000), ("1M", 1_000_000)] {
        let name = format!("lookup/{name}");
        time(
            c,
            &name,
            (bindings, RECORD),
            Way::Down,
            nothing,
            Bench::lookup,
        );
    }
    for (name, rules) in [
        ("record-4", RECORD),
        ("set-16", Rules::Exact(16)),
        ("set-64", Rules::Exact(64)),
        ("wide-16", Rules::Wide(16)),
    ] {
        let name = format!("match/{name}");
        time(
            c,
            &name,
            (1000, rules),
            Way::Down,
            Bench::lookup,
            Bench::match_rules,
        );
    }
    time(
        c,
        "encapsulate",
        small,
        Way::Down,
        classified,
        Bench::encapsulate,
    );
    time(
        c,
        "decapsulate/strip",
        small,
        Way::Up,
        nothing,
        Bench::strip,
    );
    time(c, "decapsulate/bare", small, Way::Up, nothing, Bench::bare);
    let updates = |bench: &mut Bench| {
        bench.fresh_updates();
        PACKETS
    };
    time(c, "ring/update", small, Way::Down, updates, Bench::update);
    time(
        c,
        "ring/hand-over",
        small,
        Way::Down,
        nothing,
        Bench::spread,
    );
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = stages
}
criterion_main!(benches);
