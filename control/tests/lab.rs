//! The lab from outside: its runs judged by tshark from the capture, and its manners.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "lab/capture.rs"]
mod capture;
mod common;
#[path = "docs/page.rs"]
mod page;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use capture::{Capture, Signal as Heard};
use common::browser::Browser;
use common::process::{FLOWMOB, Said};
use common::{has_tool, is_root, names, processes_about, program_for_anybody, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// A run is lossless only if it does not have to share the machine with another one.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lab that works.
struct Lab {
    child: Child,
    said: BufReader<ChildStderr>,
    /// All it has said so far.
    text: String,
    out: TempDir,
}

impl Lab {
    fn start(arguments: &[&str]) -> Self {
        let out = tempfile::tempdir().unwrap();
        let results = out.path().to_str().unwrap().to_owned();
        let all = [["run", "--out", &results].as_slice(), arguments].concat();
        Self::spawn(out, &all)
    }

    /// One that stays up until it is told to end.
    fn up(arguments: &[&str]) -> Self {
        let all = [["up"].as_slice(), arguments].concat();
        Self::spawn(tempfile::tempdir().unwrap(), &all)
    }

    fn spawn(out: TempDir, arguments: &[&str]) -> Self {
        let mut child = Command::new(FLOWMOB)
            .arg("lab")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        Self {
            child,
            said,
            text: String::new(),
            out,
        }
    }

    /// Reads on until it says something with `text` in it.
    fn says(&mut self, text: &str) {
        loop {
            let from = self.text.len();
            let octets = self.said.read_line(&mut self.text).unwrap();
            assert_ne!(octets, 0, "never said {text:?}:\n{}", self.text);
            if self.text[from..].contains(text) {
                return;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(id, signal).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        while self.said.read_line(&mut self.text).unwrap() > 0 {}
        self.child.wait().unwrap()
    }

    /// The end of a run that meets every criterion, and its report.
    fn report(&mut self, name: &str) -> Value {
        let status = self.end();
        let path = self.out.path().join(format!("{name}.json"));
        let json = std::fs::read_to_string(path).unwrap_or_else(|_| panic!("{}", self.text));
        let report: Value = serde_json::from_str(&json).unwrap();
        let criteria = report["criteria"].as_array().unwrap().iter();
        let unmet: Vec<_> = criteria
            .filter(|criterion| criterion["passed"] != true)
            .collect();
        assert!(unmet.is_empty(), "{unmet:#?}");
        assert!(status.success(), "{}", self.text);
        assert_eq!(report["passed"], true);
        page_agrees(&report, &self.out.path().join(name));
        report
    }

    fn directory(&self) -> PathBuf {
        format!("/run/flowmob-lab/fm{}", self.child.id()).into()
    }

    /// Asserts that nothing outside `out` tells that there was a lab.
    fn left_nothing(&self) {
        let directory = self.directory();
        assert!(!directory.exists());
        let namespaces = names("/run/netns", &format!("fm{}-", self.child.id()));
        assert_eq!(namespaces, Vec::<String>::new());
        let processes = processes_about(&directory.display().to_string());
        assert_eq!(processes, Vec::<String>::new());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

/// The page is there, and its data add up to what the report says.
fn page_agrees(report: &Value, directory: &Path) {
    for name in ["report.html", "packets.svg", "moves.svg", "sequence.svg"] {
        let text = std::fs::read_to_string(directory.join(name)).unwrap();
        assert!(text.len() > 3000 && text.contains("<svg"), "{name}");
    }
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    let signalling = read("signalling.csv").lines().count() - 1;
    assert_eq!(signalling, report["signalling"].as_array().unwrap().len());
    let packets = read("packets.csv");
    let rows: Vec<Vec<&str>> = packets
        .lines()
        .skip(1)
        .map(|l| l.split(',').collect())
        .collect();
    for flow in report["flows"].as_array().unwrap() {
        let (name, direction) = (&flow["flow"], &flow["direction"]);
        let its = rows
            .iter()
            .filter(|row| *name == row[2] && *direction == row[3]);
        let sum: u64 = its
            .map(|row| row[4].parse::<u64>().unwrap() + row[5].parse::<u64>().unwrap())
            .sum();
        assert_eq!(sum, flow["sent"].as_u64().unwrap(), "{name} {direction}");
    }
}

/// A lossless run whose report tshark confirms.
fn run(scenario: &str, dialect: &str, workers: &str) {
    if !is_root() || !has_tool("tshark") {
        return;
    }
    let alone = alone();
    let arguments = [
        "--scenario",
        scenario,
        "--dialect",
        dialect,
        "--workers",
        workers,
    ];
    let mut lab = Lab::start(&[&arguments[..], &["--seconds", "1", "--rate", "500"]].concat());
    let name = if dialect == "draft" {
        scenario.to_owned()
    } else {
        format!("{scenario}-{dialect}")
    };
    let report = lab.report(&name);
    assert_eq!(report["scenario"], scenario);
    assert_eq!(report["dialect"], dialect);
    assert_eq!(report["workers"].to_string(), workers);
    lab.left_nothing();
    // What is left is reading.
    drop(alone);
    let capture = Capture::read(&lab.out.path().join(name).join("core.pcapng"));
    assert_eq!(report["capture"]["frames"], capture.frames);
    let heard = capture.signalling();
    signalling_agrees(&report, &heard);
    the_story_is_the_drafts(&report, &heard);
    tunnels_agree(&report, &capture);
    make_before_break(&report, &capture, &heard);
}

#[test]
fn unique_prefixes_one_worker() {
    run("unique", "draft", "1");
}

#[test]
fn a_shared_prefix_one_worker() {
    run("shared", "draft", "1");
}

#[test]
fn unique_prefixes_two_workers() {
    run("unique", "draft", "2");
}

#[test]
fn unique_prefixes_in_the_dialect_of_rfc_7864() {
    run("unique", "rfc7864", "1");
}

#[test]
fn a_shared_prefix_in_the_dialect_of_rfc_7864() {
    run("shared", "rfc7864", "1");
}

#[test]
fn unique_prefixes_with_a_gateway_of_each_dialect() {
    run("unique", "mixed", "1");
}

/// Every message that tshark finds is in the report, in order and with the same content, and no
/// other is.
fn signalling_agrees(report: &Value, heard: &[Heard]) {
    let reported = report["signalling"].as_array().unwrap();
    assert_eq!(reported.len(), heard.len(), "{reported:#?}\n{heard:#?}");
    for (reported, heard) in reported.iter().zip(heard) {
        assert_eq!(reported["kind"], heard.kind, "{heard:?}");
        assert_eq!(reported["sequence"], heard.sequence, "{heard:?}");
        let status = heard.status.map_or(Value::Null, Value::from);
        assert_eq!(reported["status"], status, "{heard:?}");
        let mag = capture::address(reported["mag"].as_str().unwrap());
        let ends = if reported["from_lma"] == true {
            [capture::LMA, mag]
        } else {
            [mag, capture::LMA]
        };
        assert_eq!(ends, [&heard.source, &heard.destination], "{heard:?}");
        let content = reported["content"].as_str().unwrap();
        heard.content.iter().for_each(|part| {
            assert!(
                content.contains(part.as_str()),
                "no {part:?} in {content:?}"
            );
        });
    }
}

/// Registration at both gateways; each flow put on its access; an FMI to the new gateway and
/// then one to the old gateway, for the move and for the move back.
fn the_story_is_the_drafts(report: &Value, heard: &[Heard]) {
    const REGISTER: [&str; 2] = ["PBU", "PBA"];
    const LIST: [&str; 2] = ["UPN", "UPA"];
    let [one, two] = ["mag1", "mag2"].map(capture::address);
    let dialect = report["dialect"].as_str().unwrap();
    // How a gateway is told to add and to delete.
    let words = |gateway: &str| match dialect {
        "draft" => [["FMI(add)", "FMA"], ["FMI(del)", "FMA"]],
        "mixed" if gateway == one => [["FMI(add)", "FMA"], ["FMI(del)", "FMA"]],
        _ => [LIST, LIST],
    };
    let ([add_one, del_one], [add_two, del_two]) = (words(one), words(two));
    // The LMA does not let one gateway wait for the other when it puts the flows on them.
    for (gateway, expected) in [
        (one, [REGISTER, add_one, add_one, del_one]),
        (two, [REGISTER, add_two, del_two, add_two]),
    ] {
        let told = heard
            .iter()
            .filter(|h| h.gateway() == gateway)
            .map(|h| h.kind);
        assert_eq!(told.collect::<Vec<_>>(), expected.concat(), "{gateway}");
    }
    // What belongs to the moves goes step by step.
    let moves = [
        (add_one, one),
        (del_two, two),
        (add_two, two),
        (del_one, one),
    ];
    let expected: Vec<_> = moves
        .iter()
        .flat_map(|(kinds, mag)| kinds.map(|k| (k, *mag)))
        .collect();
    let told: Vec<_> = heard[8..].iter().map(|h| (h.kind, h.gateway())).collect();
    assert_eq!(told, expected);
    assert!(
        heard
            .iter()
            .all(|h| h.status.is_none_or(|status| status == 0))
    );
    let [own, other] = [0, 1].map(|n| report["prefixes"][n].as_str().unwrap());
    // Where the story is about flow Y its prefix is named, and in lists what else there is to serve.
    for heard in &heard[8..] {
        let named = |prefix: &str| heard.prefixes.iter().any(|p| p == prefix);
        match heard.kind {
            "UPN" | "UPA" => assert!(named(own) || named(other), "{heard:?}"),
            _ => assert_eq!(heard.prefixes, [other], "{heard:?}"),
        }
    }
    assert_eq!(heard[1].prefixes, [own]);
    assert_eq!(heard[3].prefixes, [other]);
    assert_eq!(own == other, report["scenario"] == "shared");
}

/// Packets that went through the tunnels, as tshark counts them, against what the applications
/// sent and received and what the report says of its stretches.
fn tunnels_agree(report: &Value, capture: &Capture) {
    let mut counts: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    for packet in &capture.tunnelled {
        *counts
            .entry((packet.flow, packet.direction, packet.gateway))
            .or_default() += 1;
    }
    let count = |flow, direction, gateway| counts.get(&(flow, direction, gateway)).copied();
    let count = |flow, direction, gateway| count(flow, direction, gateway).unwrap_or(0);
    for outcome in report["flows"].as_array().unwrap() {
        let text = |key: &str| outcome[key].as_str().unwrap();
        let (flow, direction) = (text("flow"), text("direction"));
        let [one, two] = ["mag1", "mag2"].map(|gateway| count(flow, direction, gateway));
        assert_eq!(outcome["sent"], one + two, "{flow} {direction}: {counts:?}");
        assert_eq!(
            outcome["received"],
            one + two,
            "{flow} {direction}: {counts:?}"
        );
        assert_eq!(flow == "X", two == 0, "{flow} {direction}: {counts:?}");

        let stretch = |number: usize, stretch: &str, gateway: &str| {
            let rows = report["moves"][number]["packets"].as_array().unwrap();
            let row = rows
                .iter()
                .find(|r| r["flow"] == flow && r["direction"] == direction);
            row.unwrap()[stretch][gateway].as_u64().unwrap()
        };
        let quiet = |gateway: &str| {
            stretch(0, "before", gateway)
                + stretch(0, "after", gateway)
                + stretch(1, "after", gateway)
        };
        for (gateway, whole) in [("mag1", one), ("mag2", two)] {
            // All but what was sent while a move went on, and before and after everything.
            let quiet = quiet(gateway);
            let (text, used) = (
                format!("{flow} {direction} {gateway} {quiet} {whole}"),
                whole > 0,
            );
            assert!(quiet <= whole, "{text}");
            assert_eq!(quiet > 0, used, "{text}");
            assert!(quiet * 2 >= whole, "{text}");
        }
    }
    assert!(
        counts.len() == 6,
        "X in one tunnel and Y in two, both ways: {counts:?}"
    );
}

/// Flow Y goes from one tunnel to the other and back, never to and fro, and never before the new
/// gateway has said that it is ready.
fn make_before_break(report: &Value, capture: &Capture, heard: &[Heard]) {
    let y = |direction: &'static str| {
        let packets = capture.tunnelled.iter();
        packets.filter(move |p| p.flow == "Y" && p.direction == direction)
    };
    let mut way: Vec<_> = y("downlink").collect();
    way.dedup_by_key(|packet| packet.gateway);
    let gateways: Vec<_> = way.iter().map(|packet| packet.gateway).collect();
    assert_eq!(gateways, ["mag2", "mag1", "mag2"]);
    for (number, first) in way[1..].iter().enumerate() {
        let answer = &report["moves"][number]["add"]["acknowledge"];
        let is_it = |h: &&Heard| h.kind == answer["kind"] && answer["sequence"] == h.sequence;
        let ready = heard
            .iter()
            .filter(is_it)
            .find(|h| h.gateway() == capture::address(first.gateway));
        assert!(ready.unwrap().frame < first.frame, "{first:?}");
        // The mobile answers on the new access only after it was reached there.
        let until = way.get(number + 2).map_or(u64::MAX, |next| next.frame);
        let answered =
            y("uplink").find(|p| p.frame > ready.unwrap().frame && p.gateway == first.gateway);
        assert!(
            (first.frame..until).contains(&answered.unwrap().frame),
            "{first:?}"
        );
    }
}

#[test]
fn whatever_ends_it_nothing_is_left() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let stages = [
        (Signal::SIGINT, "starting LMA"),
        (Signal::SIGTERM, "if1 attached"),
        (Signal::SIGINT, "are running"),
    ];
    for (signal, stage) in stages {
        let mut lab = Lab::start(&["--scenario", "shared", "--seconds", "20", "--rate", "100"]);
        lab.says(stage);
        assert!(lab.directory().exists());
        // DPDK's directories are inside, so that they do not outlive a killed lab either.
        let dpdk = names(lab.directory().join("dpdk"), "flowmob-");
        assert!(dpdk.len() == 3 || stage == "starting LMA", "{dpdk:?}");
        lab.signal(signal);
        let status = lab.end();
        assert_eq!(status.code(), Some(1), "{stage}: {}", lab.text);
        let last = lab.text.lines().last().unwrap();
        assert_eq!(last, "flowmob: interrupted; everything is cleaned up");
        lab.left_nothing();
        assert!(
            !lab.out.path().join("shared.json").exists(),
            "no report of half a run"
        );
    }
}

#[test]
fn a_killed_lab_is_cleaned_up_by_the_next_and_a_living_one_is_left_alone() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let quick = ["--scenario", "unique", "--seconds", "1", "--rate", "100"];
    let mut killed = Lab::start(&quick);
    killed.says("are running");
    killed.signal(Signal::SIGKILL);
    killed.end();
    assert!(killed.directory().exists());
    let about = killed.directory().display().to_string();
    wait_for(
        "end of the dead lab's processes",
        Duration::from_secs(2),
        || processes_about(&about).is_empty().then_some(()),
    );

    let mut first = Lab::start(&quick);
    first.says("starting LMA");
    killed.left_nothing();
    let mut second = Lab::start(&["--scenario", "shared", "--seconds", "1", "--rate", "100"]);
    second.says("starting LMA");
    assert!(first.directory().exists() && second.directory().exists());
    let reports = [first.report("unique"), second.report("shared")];
    for (report, lab) in reports.iter().zip([&first, &second]) {
        let name = report["scenario"].as_str().unwrap();
        let capture = Capture::read(&lab.out.path().join(name).join("core.pcapng"));
        assert_eq!(report["capture"]["frames"], capture.frames);
        lab.left_nothing();
    }
}

#[test]
fn a_newcomer_watches_flow_y_slide_over() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let mut lab = Lab::up(&["--dashboard", "127.0.0.1:0"]);
    lab.says("the dashboard is at ");
    let url = lab.text.split("the dashboard is at ").nth(1).unwrap();
    let url = url.split_whitespace().next().unwrap().to_owned();
    if let Some(mut browser) = Browser::open(&url) {
        // Both flows run, each over its own access.
        browser.wait("document.querySelectorAll('.beads.runs').length === 2");
        let peers =
            "[...document.querySelectorAll('g[data-flow]')].map(f => f.dataset.peer).join()";
        assert_eq!(browser.eval(peers), "mag1,mag2");
        let button = "document.querySelectorAll('#flows tbody tr')[1].querySelector('button')";
        browser.eval(&format!("{button}.click()"));
        browser.wait(&format!("{peers} === 'mag1,mag1'"));
        // Y's packets go the other way now.
        browser.wait("document.getElementById('legend').innerText.includes('mag2 0 bit/s')");
        browser.wait("document.querySelectorAll('.beads.runs').length === 2");
        assert_eq!(browser.complaints, [""; 0]);
    }
    lab.signal(Signal::SIGINT);
    assert!(lab.end().success(), "{}", lab.text);
    lab.left_nothing();
}

#[test]
fn without_rights_it_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = if nix::unistd::geteuid().is_root() {
        let mut command = Command::new(program_for_anybody(directory.path()));
        command.uid(65534).gid(65534);
        command
    } else {
        Command::new(FLOWMOB)
    };
    let out = directory.path().join("out");
    let said = Said::of(
        command
            .args(["lab", "run", "--out"])
            .arg(&out)
            .current_dir("/"),
    );
    assert_eq!(
        said.fails(),
        "flowmob: the lab makes network namespaces and needs root: try `sudo flowmob lab ...`\n"
    );
    assert!(!Path::new(&out).exists());
}

#[test]
fn results_that_cannot_be_written_are_an_error_and_leave_nothing() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("file");
    std::fs::write(&out, "in the way").unwrap();
    let mut command = Command::new(FLOWMOB);
    let said = Said::of(
        command
            .args(["lab", "run", "--scenario", "unique", "--out"])
            .arg(&out),
    );
    let err = said.fails();
    assert!(
        err.contains(&format!("cannot make {}", out.join("unique").display())),
        "{err}"
    );
}

/// Runs what a page tells its reader to, which prints what the page shows; in a directory that has the results.
fn as_shown(commands: &[page::Command]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for command in commands {
        let words: Vec<&str> = command.text.split(' ').collect();
        assert_eq!(words[..2], ["flowmob", "lab"]);
        let said = Command::new(FLOWMOB)
            .args(&words[1..])
            .current_dir(directory.path())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(
            said.status.success(),
            "{told}{}",
            String::from_utf8_lossy(&said.stderr)
        );
        let different = page::first_difference(&command.output, &told);
        assert!(
            page::matches(&command.output, &told),
            "{different:?}\n{told}"
        );
    }
    directory
}

fn result(directory: &TempDir, name: &str) -> Value {
    let path = directory.path().join("target/lab").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Everything is as it should be after each operation.
#[test]
fn disturbed_it_is_what_it_was() {
    let [commands] = page::run_by(include_str!("../../docs/operations.md"), file!());
    if !is_root() {
        return;
    }
    let _alone = alone();
    let directory = as_shown(&commands);
    let costs = result(&directory, "disturb.json");
    let operations = costs["operations"].as_array().unwrap();
    assert_eq!(operations.len(), 10);
    for operation in operations {
        let name = operation["operation"].as_str().unwrap();
        let (sent, lost) = (&operation["sent"], &operation["lost"]);
        let quiet = name == "nothing" || name.starts_with("reload");
        assert!(sent.as_u64().unwrap() > 4000, "{operation}");
        assert!(!quiet || lost == 0, "{operation}");
        let blocked = operation["blocked_downlink_ms"].as_f64().unwrap();
        // A process was away, and its flows were not moved away from it.
        assert!(!name.starts_with("kill") || blocked > 0.0, "{operation}");
    }
}

/// Two LMAs that share an etcd, and what makes the one follow the other.
#[test]
fn of_two_anchors_one_goes_on_where_the_other_was() {
    let [chaos] = page::run_by(include_str!("../../docs/pair.md"), file!());
    if !is_root() || !has_tool("etcd") {
        return;
    }
    let _alone = alone();
    let directory = as_shown(&chaos);
    let report = result(&directory, "chaos.json");
    assert_eq!(report["passed"], true);
    let kinds = report["kinds"].as_array().unwrap();
    let times = |of: &str| -> u64 {
        let alike = kinds.iter().filter(|kind| {
            let what = kind["operations"].as_str().unwrap();
            what.contains(of)
        });
        alike.map(|kind| kind["times"].as_u64().unwrap()).sum()
    };
    assert!(times("kill -9 the LMA that leads") > 0, "{report}");
    assert!(times("cut the LMA that leads off") > 0, "{report}");
    let page = std::fs::read_to_string(directory.path().join("target/lab/chaos.html")).unwrap();
    assert!(page.contains(" --pair"), "{page}");
}

/// A little of everything that is drawn from a seed, and moves that go on for a while.
#[test]
fn whatever_is_done_to_it_nothing_is_forgotten() {
    let [chaos, soak] = page::run_by(include_str!("../../docs/chaos.md"), file!());
    if !is_root() {
        return;
    }
    let _alone = alone();
    let directory = as_shown(&chaos);
    let report = result(&directory, "chaos.json");
    assert_eq!(
        (&report["seed"], &report["passed"]),
        (&531_241.into(), &true.into())
    );
    let operations = report["operations"].as_array().unwrap();
    let sum = |rows: &[Value], name: &str| -> u64 {
        rows.iter().map(|row| row[name].as_u64().unwrap()).sum()
    };
    let kinds = report["kinds"].as_array().unwrap();
    assert_eq!((operations.len(), sum(kinds, "times")), (12, 12));
    assert_eq!(sum(kinds, "lost"), sum(operations, "lost"));
    assert!(sum(operations, "lost") > 0, "a kill costs something");
    let done = |what: &str| operations.iter().any(|row| row["operation"] == what);
    assert!(
        done("clock of lma wrong by +86400 s, kill -9, start"),
        "{report}"
    );
    let page = std::fs::read_to_string(directory.path().join("target/lab/chaos.html")).unwrap();
    for row in operations {
        assert!(page.contains(row["operation"].as_str().unwrap()), "{row}");
    }
    assert!(
        page.contains("--seed 531241 --events 12 --guests 10 --scenario shared --dialect mixed")
    );

    let soaked = result(&as_shown(&soak), "soak.json");
    assert!(soaked["moves"].as_u64().unwrap() >= 10, "{soaked}");
    assert_eq!(soaked["lost"], 0);
    let used = |name: &str, what: &str| soaked["processes"][name][1][what].as_u64().unwrap();
    for name in ["lma", "mag1", "mag2"] {
        assert!(
            used(name, "buffers") > 0 && used(name, "descriptors") > 10,
            "{soaked}"
        );
    }
    for counts in soaked["counted"].as_object().unwrap().values() {
        assert!(
            counts[0].as_u64().unwrap() > 1000 && counts[0] == counts[1],
            "{soaked}"
        );
    }
}

#[test]
fn a_lab_to_which_things_are_done_can_be_interrupted() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let out = tempfile::tempdir().unwrap();
    let path = out.path().to_str().unwrap().to_owned();
    let mut lab = Lab::spawn(out, &["chaos", "--seed", "1", "--out", &path]);
    lab.says("seed 1, 200 events");
    lab.says("2/200");
    lab.signal(Signal::SIGINT);
    assert!(!lab.end().success());
    assert!(lab.text.contains("interrupted"), "{}", lab.text);
    lab.left_nothing();
    // Its small disks are gone as well.
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(
        !mounts.contains(&*lab.directory().to_string_lossy()),
        "{mounts}"
    );
}
