//! `flowmob top` and `flowmob show --watch`, on a terminal, against a living LMA.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;
#[path = "docs/page.rs"]
mod page;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use common::appliances::{MN1, lma, mag};
use common::process::FLOWMOB;
use common::terminal::OnTerminal;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use page::run_by;

const SIZE: (u16, u16) = (30, 120);

#[test]
fn a_mobile_is_found_and_its_flow_moved() {
    let directory = tempfile::tempdir().unwrap();
    let lma = lma(&directory);
    let add = "flow add --mn mn1@example.net --bid 1 --proto udp --dport 5001";
    lma.command(add.split(' ')).ok();
    let mut top = OnTerminal::start(lma.socket(), &["top", "--interval", "0.2"], SIZE);
    let traffic = top.reads("load");
    assert!(traffic.contains("lma (lma) up"), "{traffic}");
    top.reads("tunnel  mag2");
    top.press("2");
    top.reads("mn2@example.net");
    top.press("/mn1\r\r");
    top.reads(&format!("> {MN1}"));
    top.reads("dport 5001 proto 17");
    top.press("m");
    top.reads("Move flow 1 of mn1@example.net");
    top.reads("> access 2: eutran at mag2, active");
    top.press("\r");
    top.reads("to access 2: eutran at mag2, active?");
    assert_eq!(lma.show("flows")[0]["bid"], 1, "not before it is confirmed");
    top.press("y");
    top.reads("flow 1 of mn1@example.net moved to access 2 without signalling, in ");
    assert_eq!(lma.show("flows")[0]["bid"], 2);
    // What is refused is said too: the other MAG does not host the other mobile's prefix, and nobody is there.
    lma.command("flow add --mn mn2@example.net --bid 1 --proto tcp".split(' '))
        .ok();
    top.press("3/mn2");
    top.reads("3 Flows]");
    top.sees("the flow", |screen| screen.contains("\n> mn2@example.net"));
    top.press("\rm\ry");
    top.reads("not moved to access 2: flow 1 stays where it was: the MAG did not answer");
    top.press("7");
    top.reads("flow 1 of mn1@example.net moved from access 1 to 2");
    for size in [(3, 20), (1, 1), (12, 50)] {
        top.resize(size.0, size.1);
    }
    // A key that comes together with a new size may wait for the next one.
    top.sees("the last size", |screen| {
        let mut lines = screen.lines();
        lines.clone().count() > 3 && lines.all(|line| line.len() <= 50)
    });
    top.press("5");
    top.sees("a smaller table", |screen| {
        screen.contains("WORKER  CORE") && screen.lines().all(|line| line.len() <= 50)
    });
    top.press("q");
    assert!(top.ends().success());
}

#[test]
fn it_is_what_the_tutorial_types() {
    let [commands] = run_by(include_str!("../../docs/tutorial.md"), file!());
    let directory = tempfile::tempdir().unwrap();
    let lma = lma(&directory);
    for command in &commands {
        let mut top = OnTerminal::type_in(&command.text, lma.socket(), SIZE);
        top.reads("lma (lma) up");
        top.press("?");
        top.reads("Ctrl-C");
        top.press("qq");
        assert!(top.ends().success());
    }
}

#[test]
fn an_appliance_may_go_and_come_back_and_signals_end_it() {
    let directory = tempfile::tempdir().unwrap();
    let first = lma(&directory);
    let top = OnTerminal::start(first.socket(), &["top", "--interval", "0.2"], SIZE);
    let other = OnTerminal::start(first.socket(), &["top"], SIZE);
    let mut third = OnTerminal::start(first.socket(), &["top"], SIZE);
    for top in [&top, &other, &third] {
        top.reads("lma (lma) up");
    }
    let socket = first.socket().display().to_string();
    first.stop(Signal::SIGTERM);
    let gone = top.reads(&format!("no answer from {socket}: "));
    assert!(
        gone.contains("core"),
        "what was known is there still:\n{gone}"
    );
    let _second = lma(&directory);
    top.sees("an answer", |screen| {
        screen.contains("lma (lma) up") && !screen.contains("no answer")
    });
    top.signal(Signal::SIGTERM);
    assert!(top.ends().success());
    other.signal(Signal::SIGINT);
    assert!(other.ends().success());
    third.press("\x03");
    assert!(third.ends().success());
}

#[test]
fn keys_work_while_a_process_is_silent() {
    let directory = tempfile::tempdir().unwrap();
    let lma = lma(&directory);
    let id = Pid::from_raw(lma.id().try_into().unwrap());
    let mut top = OnTerminal::start(lma.socket(), &["top", "--interval", "0.2"], SIZE);
    let mut other = OnTerminal::start(lma.socket(), &["top"], SIZE);
    let watch = ["show", "status", "--watch"];
    let mut watch = OnTerminal::start(lma.socket(), &watch, SIZE);
    top.reads("lma (lma) up");
    other.reads("lma (lma) up");
    watch.reads("lma (lma) version");
    kill(id, Signal::SIGSTOP).unwrap();
    top.reads("lma.sock: silent for ");
    top.press("?");
    top.reads("Ctrl-C");
    other.press("q");
    assert!(other.ends().success());
    watch.press("\x03");
    assert!(watch.ends().success());
    kill(id, Signal::SIGCONT).unwrap();
    top.reads("lma (lma) up");
    top.press("qq");
    assert!(top.ends().success());
}

#[test]
fn a_mag_has_its_own_tables() {
    let directory = tempfile::tempdir().unwrap();
    let mag = mag(&directory);
    mag.command(["attach", MN1]).ok();
    let mut top = OnTerminal::start(mag.socket(), &["top"], SIZE);
    top.reads("mag (mag) up");
    top.press("2");
    let mobiles = top.reads(MN1);
    assert!(mobiles.contains(" mag"), "{mobiles}");
    top.press("\r");
    top.reads("(no flow rules)");
    top.press("\x1b");
    top.press("4");
    top.reads("registering");
    top.press("q");
    assert!(top.ends().success());
}

#[test]
fn a_table_is_shown_again_and_again() {
    let directory = tempfile::tempdir().unwrap();
    let lma = lma(&directory);
    let watch = ["show", "bindings", "--watch", "0.1"];
    let mut shown = OnTerminal::start(lma.socket(), &watch, SIZE);
    shown.reads("LINK LAYER");
    let add = "flow add --mn mn1@example.net --bid 1 --proto udp --dport 5001";
    let other = OnTerminal::start(lma.socket(), &["show", "flows", "--watch", "0.1"], SIZE);
    other.reads("(none)");
    lma.command(add.split(' ')).ok();
    other.sees("the flow in place of nothing", |screen| {
        screen.contains("dport 5001") && !screen.contains("(none)")
    });
    other.signal(Signal::SIGTERM);
    assert!(other.ends().success());
    shown.press("\x03");
    assert!(shown.ends().success());

    let mut json = Command::new(FLOWMOB)
        .arg("--socket")
        .arg(lma.socket())
        .args(["show", "bindings", "--json", "--watch", "0.1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(json.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let document: serde_json::Value =
            serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(document.as_array().unwrap().len(), 4);
    }
    kill(Pid::from_raw(json.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert!(json.wait().unwrap().success());
}

#[test]
fn without_a_terminal_or_a_process_it_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let lma = lma(&directory);
    let refused = lma.command(["top"]).fails();
    assert!(
        refused.starts_with("flowmob: top needs a terminal; for programs there is `flowmob show"),
        "{refused}"
    );
    let nobody = common::process::flowmob([
        "--socket",
        "/nonexistent/flowmob.sock",
        "show",
        "status",
        "--watch",
    ]);
    assert!(nobody.fails().contains("no flowmob answers on"));
    for wrong in ["0", "-1", "x", "1e9"] {
        let said = lma.command(["show", "status", &format!("--watch={wrong}")]);
        assert_eq!(said.status.code(), Some(2), "{said:?}");
        assert!(said.err.contains("expected seconds"), "{said:?}");
    }
}
