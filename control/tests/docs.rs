//! The documents: every command in them is run, and prints what they say.
//!
//! A `console` block has lines `$ command`, each followed by what it prints; `...` in a line is anything, `...` alone
//! any lines. In a `console fails` block, each command fails. Blocks of a document run in order, in one shell on a
//! machine of its own (`docs/session.rs`), which begins in an empty directory. A comment before a block says more:
//!
//! * `<!-- file: lma1.toml -->`: the block is written to that file; one of TOML has to be a valid configuration.
//! * `<!-- within: 10 s -->`: each command is run again until it prints that.
//! * `<!-- run by: docker/tests/package.rs -->`: that test runs it, after whose name a remark may follow.
//! * `<!-- dry run: reason -->`: each door of make is asked what it would do (`make -n`). Another command is one that the
//!   last door would run.
//!
//! There is no block that nobody runs. Figures and mere output are in `text` blocks, parts of files in `toml` ones. Others
//! are refused.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;
#[path = "docs/page.rs"]
mod page;
#[path = "docs/page/tests.rs"]
mod page_tests;
#[path = "docs/session.rs"]
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::appliances::{LMAA, MAGS, MN1, PROCESS, lma};
use common::kernel::Namespace;
use common::process::Appliance;
use common::{has_tool, is_root, wait_for};
use flow::DropReason;
use nix::sys::signal::Signal;
use page::{By, Command, Step};
use session::Session;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// README.md and all of docs/, by name.
fn documents() -> Vec<String> {
    let pages = std::fs::read_dir(root().join("docs")).unwrap().flatten();
    let pages = pages.filter_map(|entry| entry.file_name().into_string().ok());
    let mut pages: Vec<String> = pages
        .filter(|name| Path::new(name).extension().is_some_and(|e| e == "md"))
        .map(|name| format!("docs/{name}"))
        .collect();
    pages.sort();
    pages.push("README.md".into());
    pages
}

fn steps(name: &str) -> Vec<Step> {
    let text = std::fs::read_to_string(root().join(name)).unwrap();
    page::steps(&text).unwrap_or_else(|wrong| {
        let lines = wrong
            .iter()
            .map(|(line, problem)| format!("{name}:{line}: {problem}\n"));
        panic!("\n{}", lines.collect::<String>())
    })
}

#[test]
fn every_block_is_understood_and_files_are_valid() {
    let mut commands = 0;
    for name in documents() {
        for step in steps(&name) {
            match step {
                Step::Run(_) => commands += 1,
                Step::Write {
                    line,
                    name: file,
                    text,
                } if Path::new(&file).extension() == Some("toml".as_ref()) => {
                    let loaded = config::parse(&file, &text);
                    assert!(loaded.is_ok(), "{name}:{line}:\n{}", loaded.unwrap_err());
                }
                Step::Write { .. } => {}
                Step::Read { line, text } => {
                    let read = text.parse::<toml::Table>();
                    assert!(read.is_ok(), "{name}:{line}:\n{}", read.unwrap_err());
                }
            }
        }
    }
    assert!(commands > 50, "{commands}");
}

/// The commands of a document that somebody else runs, or nobody to the end.
fn left_to_others(name: &str) -> impl Iterator<Item = Command> {
    steps(name).into_iter().filter_map(|step| match step {
        Step::Run(command) => (command.by != By::Documents).then_some(command),
        Step::Write { .. } | Step::Read { .. } => None,
    })
}

#[test]
fn tests_that_are_to_run_a_block_read_its_page() {
    for name in documents() {
        for command in left_to_others(&name) {
            let By::Test(test) = &command.by else {
                continue;
            };
            let at = format!("{name}:{}: {test}", command.block);
            let source = std::fs::read_to_string(root().join(test));
            let source = source.unwrap_or_else(|error| panic!("{at}: {error}"));
            // As `run_by` is given it.
            let reads = source.contains(&format!("/{name}\")")) && source.contains("file!()");
            assert!(reads, "{at} does not read that page");
        }
    }
}

#[test]
fn doors_are_as_the_documents_have_them() {
    if !has_tool("make") {
        return;
    }
    let mut doors = 0;
    for name in documents() {
        let mut last = String::new();
        for command in left_to_others(&name) {
            let at = format!("{name}:{}: {}", command.line, command.text);
            if let Some(door) = command.text.strip_prefix("make ") {
                last = would_do(&at, door);
                doors += 1;
            } else if command.by == By::DryRun {
                let is_part = last.lines().any(|line| line == command.text);
                assert!(is_part, "{at}: not in\n{last}");
            }
        }
    }
    assert!(doors > 5, "{doors}");
}

/// What a door of make would do.
fn would_do(at: &str, door: &str) -> String {
    let mut make = std::process::Command::new("sh");
    make.args(["-c", &format!("make -n {door}")]);
    // Neither the `make` nor the cargo that have started this.
    for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CARGO"] {
        make.env_remove(name);
    }
    let output = make.current_dir(root()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{at}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a document; says what was otherwise.
fn execute(name: &str) -> Result<(), String> {
    let steps = steps(name);
    let mut session = Session::start();
    for step in &steps {
        match step {
            Step::Run(command) if command.by == By::Documents => {
                run(&mut session, name, command)?;
            }
            Step::Write { name, text, .. } => {
                std::fs::write(session.directory().join(name), text).unwrap();
            }
            Step::Run(_) | Step::Read { .. } => {}
        }
    }
    // A process may take a moment to be gone.
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let left = session.left();
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!(
                "{name}: the document leaves processes behind:\n{left}\n"
            ));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn run(session: &mut Session, name: &str, command: &Command) -> Result<(), String> {
    let deadline = Instant::now() + command.patience;
    loop {
        let ended = session.run(&command.text);
        let status = ended.status;
        if status.is_some_and(|status| command.is_as_told(status == 0, &ended.printed)) {
            return Ok(());
        }
        if ended.status.is_none() || Instant::now() > deadline {
            let how = match ended.status {
                Some(status) => format!("status {status}"),
                None => "it did not end".to_owned(),
            };
            let wanted = if command.fails {
                "a failure"
            } else {
                "success"
            };
            let other = page::first_difference(&command.output, &ended.printed);
            let mark = |n: usize| if Some(n) == other { "!" } else { " " };
            let mut said = format!(
                "{name}:{}: $ {}\n  expected, and {wanted}:\n",
                command.line, command.text
            );
            for (n, line) in command.output.iter().enumerate() {
                let _ = writeln!(said, "  {} {line}", mark(n));
            }
            let _ = writeln!(said, "  printed, {how}:");
            for line in ended.printed.lines() {
                let _ = writeln!(said, "    {line:.400}");
            }
            return Err(said);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn commands_print_what_the_documents_say() {
    if !is_root() || !["unshare", "bash", "curl"].into_iter().all(has_tool) {
        return;
    }
    let only = std::env::var("FLOWMOB_DOCUMENT").ok();
    let wanted = |name: &String| {
        only.as_ref()
            .is_none_or(|only| name.contains(only.as_str()))
    };
    let waiting: Mutex<Vec<String>> = Mutex::new(documents().into_iter().filter(wanted).collect());
    let failed = Mutex::new(String::new());
    // Each on a machine of its own, so two at once do not meet.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap().pop();
                    let Some(name) = next else { return };
                    let begun = Instant::now();
                    if let Err(said) = execute(&name) {
                        *failed.lock().unwrap() += &said;
                    }
                    println!("{name}: {:.1} s", begun.elapsed().as_secs_f64());
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "\n{failed}");
}

/// The tables of docs/counters.md: what the first column's head calls its names, each name, and what is said of it.
fn counters() -> BTreeMap<String, Vec<(String, String)>> {
    let text = std::fs::read_to_string(root().join("docs/counters.md")).unwrap();
    let mut tables: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut kind: Option<String> = None;
    for line in text.lines() {
        let Some(row) = line.strip_prefix('|') else {
            kind = None;
            continue;
        };
        let cells: Vec<&str> = row
            .split(" | ")
            .map(|cell| cell.trim_matches([' ', '|']))
            .collect();
        if cells[0].starts_with("---") {
            continue;
        }
        let Some(kind) = &kind else {
            kind = Some(cells[0].to_owned());
            continue;
        };
        let name = cells[0].trim_matches('`');
        assert_eq!(cells[0], format!("`{name}`"), "{line}");
        let rows = tables.entry(kind.clone()).or_default();
        assert!(
            rows.iter().all(|(known, _)| known != name),
            "{name} is there twice"
        );
        rows.push((name.to_owned(), cells[1].to_owned()));
    }
    tables
}

/// A process that counts everything there is to count.
fn counting(directory: &Path) -> Appliance {
    let config = format!(
        "{PROCESS}[[port]]\nname = \"core\"\ndevice = \"ring\"\naddresses = [\"{LMAA}/64\", \"{}/64\"]\n\
         [[port]]\nname = \"wlan\"\ndevice = \"ring\"\n\
         [lma]\naddress = \"{LMAA}\"\npools = [\"2001:db8:100::/48\"]\n\
         [[lma.peer]]\nname = \"mag\"\naddress = \"{}\"\nprotection = \"none\"\n\
         [mag]\naddress = \"{}\"\naccess_ports = [\"wlan\"]\n\
         [[mag.peer]]\nname = \"lma\"\naddress = \"2001:db8:f::2\"\nprotection = \"none\"\n",
        MAGS[0], MAGS[1], MAGS[0],
    );
    let process = Appliance::start(directory, "both", None, &config);
    // Its socket is there a moment before it answers.
    wait_for("an answer", Duration::from_secs(10), || {
        let asked = process.command(["show", "status"]);
        asked.status.success().then_some(())
    });
    process
}

fn compare(what: &str, there: &BTreeSet<String>, page: &[(String, String)]) {
    let page: BTreeSet<String> = page.iter().map(|(name, _)| name.clone()).collect();
    let missing: Vec<_> = there.difference(&page).collect();
    let unknown: Vec<_> = page.difference(there).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "docs/counters.md, {what}: {missing:?} missing, {unknown:?} unknown"
    );
}

#[test]
fn every_counter_is_on_its_page_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let process = counting(directory.path());
    let (status, metrics) = process.http("GET /metrics");
    assert_eq!(status, 200);
    let labels = |family: &str| -> BTreeSet<String> {
        let prefix = format!("{family}{{reason=\"");
        let names = metrics
            .lines()
            .filter_map(|line| line.strip_prefix(&prefix)?.split('"').next());
        names.map(str::to_owned).collect()
    };
    let page = counters();

    // Data plane: names and meanings are those of the program.
    let drops = &page["drop reason"];
    let reasons = DropReason::ALL
        .iter()
        .map(|reason| reason.name().to_owned());
    let reasons: BTreeSet<String> = reasons.collect();
    assert_eq!(labels("flowmob_dropped_packets_total"), reasons);
    compare("drop reasons", &reasons, drops);
    for reason in DropReason::ALL {
        let said = drops.iter().find(|(name, _)| name == reason.name());
        assert_eq!(said.unwrap().1, reason.meaning(), "{reason}");
    }

    // Control plane: what is counted is asked of the process, the meanings are in its source.
    let refusals = &page["refusal"];
    compare("refusals", &labels("flowmob_ignored_total"), refusals);
    let source = include_str!("../src/appliance/ignored.rs");
    for (name, said) in refusals {
        let (_, rest) = source.split_once(&format!("\"{name}\",")).unwrap();
        assert_eq!(rest.split('"').nth(1), Some(said.as_str()), "{name}");
    }

    let columns = process.command(["show", "workers"]).ok();
    let columns = columns.lines().next().unwrap().split("  ").map(str::trim);
    let columns: BTreeSet<String> = columns
        .filter(|c| !c.is_empty())
        .map(str::to_owned)
        .collect();
    compare("columns of `show workers`", &columns, &page["column"]);

    // A family without bindings, tunnels or flows to count is not there at all.
    let lma = lma(&directory);
    lma.command(["flow", "add", "--mn", MN1, "--bid", "1"]).ok();
    let metrics = metrics + &lma.http("GET /metrics").1;
    let families = metrics.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        let suffix = if kind == "counter" { "_total" } else { "" };
        Some(format!("{name}{suffix}"))
    });
    compare("metrics", &families.collect(), &page["metric"]);
    let kinds: Vec<&str> = page.keys().map(String::as_str).collect();
    assert_eq!(
        kinds,
        [
            "column",
            "drop reason",
            "metric",
            "metric of a mobile node",
            "metric of a pair",
            "refusal"
        ]
    );
}

#[test]
fn every_metric_of_a_pair_is_on_that_page_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    // Nobody answers there, so it never leads.
    let config = format!(
        "[process]\nmemory_mib = 64\nstore = \"etcd://127.0.0.1:1\"\n\
         [[port]]\nname = \"core\"\ndevice = \"ring\"\naddresses = [\"{LMAA}/64\"]\n\
         [lma]\naddress = \"{LMAA}\"\npools = [\"2001:db8:100::/48\"]\n\
         [[lma.peer]]\nname = \"mag\"\naddress = \"{}\"\nprotection = \"none\"\n",
        MAGS[0]
    );
    let process = Appliance::start(directory.path(), "standby", None, &config);
    let metrics = wait_for("metrics", Duration::from_secs(10), || {
        let (status, metrics) = process.http("GET /metrics");
        (status == 200).then_some(metrics)
    });
    let page = counters();
    let families = metrics.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        name.starts_with("flowmob_pair_").then(|| name.to_owned())
    });
    compare(
        "metrics of a pair",
        &families.collect(),
        &page["metric of a pair"],
    );
    for sample in [
        "flowmob_pair_leads 0",
        "flowmob_pair_store_reached 0",
        "flowmob_ready 0",
    ] {
        assert!(metrics.lines().any(|line| line == sample), "{metrics}");
    }
    // It has nothing to tell anybody, and ends at once.
    assert!(process.stop(Signal::SIGTERM).success());
}

#[test]
fn every_metric_of_a_mobile_node_is_on_that_page_and_nothing_else() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let namespace = Namespace::new("counters");
    // Without the interface of its access, it counts as much.
    let config = "[mn]\ninterface = \"lif0\"\ninterface_id = \"::100\"\n\
                  [[mn.access]]\nname = \"wifi\"\ninterface = \"wlan0\"\n";
    let mobile = Appliance::start(directory.path(), "mn", Some(namespace.name()), config);
    let metrics = wait_for("metrics", Duration::from_secs(10), || {
        let (status, metrics) = mobile.http("GET /metrics");
        (status == 200).then_some(metrics)
    });
    let families = metrics.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        let suffix = if kind == "counter" { "_total" } else { "" };
        Some(format!("{name}{suffix}"))
    });
    let page = counters();
    let what = "metrics of a mobile node";
    compare(what, &families.collect(), &page["metric of a mobile node"]);
    for reason in DropReason::ALL {
        let sample = format!("flowmob_dropped_packets_total{{reason=\"{reason}\"}} 0");
        assert!(metrics.lines().any(|line| line == sample), "{metrics}");
    }
}
