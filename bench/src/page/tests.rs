//! The page of a whole report.

use serde_json::json;

use super::*;
use crate::case::{Memory, cases};

/// A report with a row for every case of a whole run, as JSON.
fn report() -> Value {
    let (mut results, mut rounds) = (Vec::new(), Vec::new());
    for memory in [Memory::Hugepages, Memory::Anonymous] {
        for case in crate::case::Work::ALL
            .into_iter()
            .flat_map(|work| cases(work, memory, false))
        {
            let cycles = 100.0 + f64::from(case.bindings).ln() + f64::from(case.rules);
            results.push(json!({
                "work": case.work, "bindings": case.bindings, "rules": case.rules,
                "packet_bytes": case.size.mean(), "workers": 1, "memory": memory,
                "cycles_per_packet": cycles, "floor_cycles": 80.0, "mpps_per_core": 20.0,
                "ratio_to_floor": cycles / 80.0, "ratio_to_testpmd": 4.0,
            }));
            rounds.push(json!({
                "memory": memory, "case": case, "cycles": [cycles, cycles + 1.0], "floor": [80.0],
            }));
        }
    }
    let latency = latency::cases().flat_map(|case| {
        [10, 50, 90].map(|load| {
            json!({
                "work": case.work, "bindings": case.bindings, "rules": case.rules,
                "packet_bytes": 64, "memory": "hugepages", "flood_mpps": 15.0,
                "no_loss_mpps": 13.0, "load_percent": load, "offered_mpps": 1.3,
                "packets": 1_000_000, "lost": 0, "p50_us": 0.4, "p90_us": 1.0, "p99_us": 2.0,
                "p99_9_us": 9.0, "p99_99_us": 20.0, "max_us": 90.0, "largest_gap_us": 80.0,
                "stall_over_us": 8.5, "stalls": 3, "stalled_percent": 0.01, "involuntary_switches": 1,
                "quiet_percent": 99.0, "quiet_p50_us": 0.4, "quiet_p90_us": 0.9,
                "quiet_p99_us": 1.5, "quiet_p99_9_us": 3.0, "quiet_p99_99_us": 6.0,
                "quiet_max_us": 19.0,
            })
        })
    });
    json!({
        "machine": {
            "cpu": "A <fast> & \"small\" one", "cores": 2, "tsc_mhz": 2500.0, "kernel": "6.1",
            "dpdk": "DPDK 22.11", "memory": "hugepages", "transparent_hugepages": "madvise",
            "governor": "none", "commit": "0", "load": 0.0,
        },
        "testpmd": {"cycles_per_packet": 30.0, "hugepages": 30.0, "anonymous": 60.0},
        "results": results,
        "rounds": rounds,
        "latency": latency.collect::<Vec<_>>(),
        "control": {
            "mobiles": 1_000_000, "updates_per_second": 2e5, "refreshes_per_second": 3e5,
            "attach_seconds": 5.0, "bytes_per_mobile": 2000.0,
            "load_updates_per_second": 100_000.0, "idle_cycles": 200.0, "loaded_cycles": 220.0,
            "rate_drop_percent": 9.1,
            "under_load": {
                "no_loss_mpps": 12.0, "offered_mpps": 10.8, "updates_per_second": 100_000.0,
                "stretches": 70, "stretches_without_loss": 60, "stretches_without_loss_without_updates": 61,
                "packets": 75_000_000, "lost": 10, "lost_to_stalls": 10,
                "packets_without_updates": 75_000_000, "lost_without_updates": 20,
                "lost_to_stalls_without_updates": 20, "p50_us": 2.0, "p99_us": 9.0,
                "p99_99_us": 90.0, "p50_us_without_updates": 2.0, "p99_us_without_updates": 8.0,
                "p99_99_us_without_updates": 80.0, "quiet_p99_99_us": 9.0,
                "quiet_p99_99_us_without_updates": 8.0, "stall_over_us": 8.5, "stalls": 3,
                "stalls_without_updates": 3, "stalled_percent": 0.1,
                "stalled_percent_without_updates": 0.1,
            },
            "switch": {"count": 100, "p50_us": 15.0, "p99_us": 25.0, "p99_99_us": 90.0,
                "max_us": 1200.0},
        },
        "spread": {
            "workers": 2, "flows": 4096, "mpps_one": 10.0, "mpps_received": 40.0, "mpps_all": 17.5, "shares": [0.51, 0.49],
            "reordered": 0, "dropped_ppm": 0.0, "second_busy_percent": 60.0,
        },
        "tables": [
            {"bindings": 1_000_000, "rules": 4, "bytes_per_binding": 182.0, "fill_seconds": 1.0,
                "cycles_per_packet": 200.0},
            {"bindings": 10_000_000, "rules": 4, "bytes_per_binding": 182.0, "fill_seconds": 10.0,
                "cycles_per_packet": 300.0},
        ],
        "hostile": [
            {"attack": "pool-scan", "beside": "lma-downlink", "bindings": 100_000,
                "forwarded_cycles": 113.0, "hostile_cycles": 160.0, "ratio": 1.42, "heard_ppm": 40.0,
                "within": [
                    {"no_loss_mpps": 16.0, "load_percent": 90, "offered_mpps": 14.4, "borne_mpps": 1.75,
                        "borne_percent": 12.2, "losses": [
                            {"hostile_pps": 10_000, "packets": 2_000_000, "lost": 3_000,
                                "lost_to_stalls": 2_000, "lost_percent": 0.125},
                        ]},
                ]},
            // As reports were before.
            {"attack": "discovery", "beside": "lma-downlink", "bindings": 100_000,
                "forwarded_cycles": 113.0, "hostile_cycles": 330.0, "ratio": 2.92, "heard_ppm": 20.0},
        ],
        "kernel": [
            kernel("flowmob-af_packet", 9e5),
            kernel("flowmob-af_packet", 5e5),
            kernel("linux-seg6", 3e5),
        ],
    })
}

fn kernel(forwarder: &str, delivered: f64) -> Value {
    json!({
        "forwarder": forwarder, "packet_bytes": 64, "routes_or_bindings": 1000, "rules": 4,
        "offered_pps": 1e6, "delivered_pps": delivered, "loss_percent": 0.0,
        "cpu_ns_per_packet": 900.0, "core_ns_per_packet": 500.0, "worker_ns_per_packet": null,
        "packets_per_turn": null, "others_percent": 1.0, "sender_ns_per_packet": 400.0,
        "sender_alone_ns_per_packet": 300.0, "busy_cpu_ns_per_packet": 900.0,
        "sender_busy_percent": 50.0, "rounds": [],
    })
}

/// Whether every element that begins ends, in order, and every attribute is quoted: what a page needs
/// to be XML too. Returns the elements.
fn well_formed(text: &str) -> Vec<&str> {
    let (mut open, mut all) = (Vec::new(), Vec::new());
    let text = text.strip_prefix("<!DOCTYPE html>").unwrap_or(text);
    for piece in text.split('<').skip(1) {
        let (tag, content) = piece.split_once('>').expect("a tag without an end");
        assert!(!content.contains('>'), "a bare > in {content}");
        for entity in content.split('&').skip(1) {
            let known = ["amp;", "lt;", "gt;", "quot;"];
            assert!(
                known.iter().any(|name| entity.starts_with(name)),
                "{entity}"
            );
        }
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "before {content}");
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        all.push(name);
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    all
}

const FIGURES: [&str; 12] = [
    "overview",
    "tables-lma-downlink",
    "tables-lma-uplink",
    "rules",
    "sizes",
    "latency-lma-downlink",
    "latency-lma-uplink",
    "latency-mag-downlink",
    "latency-mag-uplink",
    "switch",
    "kernel-rate",
    "kernel-cost",
];

#[test]
fn the_page_is_well_formed_and_has_every_figure() {
    let (page, figures) = render(&report()).unwrap();
    let ids: Vec<&str> = figures.iter().map(|figure| figure.id.as_str()).collect();
    assert_eq!(ids, FIGURES);
    let elements = well_formed(&page);
    let count = |name| elements.iter().filter(|element| **element == name).count();
    assert_eq!((count("figure"), count("svg")), (12, 12));
    assert_eq!(count("table"), 7);
    // At other rates nothing was measured.
    let line = "<td>1.75</td><td>12 %</td><td>-</td><td>0.12 (0.05)</td><td>-</td><td>-</td></tr>";
    assert!(page.contains(line));
    assert!(
        page.contains("one alone 10.00 (1.75 x), 40.00 only received; shares 51.0 % and 49.0 %")
    );
    let downlink = figures.iter().find(|f| f.id == "tables-lma-downlink");
    assert!(downlink.unwrap().csv.contains("10000000"));
    for forbidden in ["NaN", "http:", "https:", "<script", "inf"] {
        let page = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert!(page.contains("A &lt;fast&gt; &amp; &quot;small&quot; one"));
    for figure in &figures {
        let names = well_formed(&figure.svg);
        assert!(names.iter().any(|name| ["circle", "rect"].contains(name)));
        well_formed(&picture::alone(&figure.svg));
        assert!(figure.csv.lines().count() > 1, "{}", figure.id);
    }
}

#[test]
fn no_text_leaves_its_figure() {
    let (_, figures) = render(&report()).unwrap();
    for figure in figures {
        for element in figure.svg.split("<text ").skip(1) {
            let number = |name: &str| -> Option<f64> {
                let (_, rest) = element.split_once(&format!(" {name}=\""))?;
                rest.split_once('"')?.0.parse().ok()
            };
            let (Some(x), Some((_, text))) = (number("x"), element.split_once('>')) else {
                continue;
            };
            let text = text.split('<').next().unwrap_or_default();
            let larger = if element.starts_with("class=\"t\"") {
                1.2
            } else {
                1.0
            };
            let width = picture::text_width(text) * larger;
            let (left, right) = match element {
                end if end.contains("\"end\"") => (x - width, x),
                middle if middle.contains("\"middle\"") => (x - width / 2.0, x + width / 2.0),
                _ => (x, x + width),
            };
            assert!(
                left > -4.0 && right < picture::WIDTH + 4.0,
                "{}: {text}: {left} to {right}",
                figure.id
            );
        }
    }
}

#[test]
fn a_report_of_less_has_a_page_of_less() {
    let mut value = report();
    let members = value.as_object_mut().unwrap();
    for key in [
        "latency", "control", "spread", "tables", "hostile", "kernel",
    ] {
        members.remove(key);
    }
    for key in ["results", "rounds"] {
        members[key] = json!([]);
    }
    let (page, figures) = render(&value).unwrap();
    assert!(figures.is_empty());
    well_formed(&page);
}

#[test]
fn a_report_of_before_has_no_table_of_what_others_bear() {
    let mut value = report();
    let hostile = value["hostile"].as_array_mut().unwrap();
    hostile.remove(0);
    let (page, _) = render(&value).unwrap();
    assert_eq!(
        well_formed(&page).iter().filter(|e| **e == "table").count(),
        6
    );
    assert!(page.contains("<td class=\"n\">discovery</td>"));
}

#[test]
fn what_was_written_is_there_and_can_be_rendered_again() {
    let out = std::env::temp_dir().join(format!("flowmob-page-{}", std::process::id()));
    let page = write(&report(), &out).unwrap();
    let text = fs::read_to_string(&page).unwrap();
    for id in FIGURES {
        let path = out.join(id);
        let picture = fs::read_to_string(path.with_extension("svg")).unwrap();
        assert!(picture.contains("<style>"), "{id}");
        assert!(path.with_extension("csv").is_file(), "{id}");
        assert!(text.contains(&format!("{id}.csv")), "{id}");
    }
    for name in ["results.csv", "latency.csv", "tables.csv", "kernel.csv"] {
        assert!(out.join(name).is_file(), "{name}");
    }
    fs::remove_dir_all(&out).unwrap();
}

#[test]
fn digits_come_in_groups() {
    let shown = [0, 999, 1000, 1_234_567].map(grouped);
    assert_eq!(
        shown,
        ["0", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]
    );
}
