//! An LMA and two MAGs, each a process: one MAG is stopped, goes on, is killed and starts again, while
//! the LMA asks it for a sign of life every 100 ms.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use std::fs;
use std::time::Duration;

use common::appliances::{LMAA, MN1, PROCESS};
use common::process::Appliance;
use common::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

const HEARTBEAT: &str = "interval_ms = 100\n";
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A network of three processes that share memory, and need no rights.
struct Network {
    directory: TempDir,
    lma: Appliance,
    mags: [Option<Appliance>; 2],
}

impl Network {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let link = |n: usize| {
            let socket = directory.path().join(format!("link{n}"));
            format!(
                "[[port]]\nname = \"mag{n}\"\ndevice = \"memif:{},server\"\n\
                 addresses = [\"2001:db8:f:{n}::f/64\"]\n",
                socket.display()
            )
        };
        let peer = |n: usize| {
            format!(
                "[[lma.peer]]\nname = \"mag{n}\"\naddress = \"2001:db8:f:{n}::1\"\nprotection = \"none\"\n"
            )
        };
        let config = format!(
            "{PROCESS}{}{}\
             [[port]]\nname = \"cn\"\ndevice = \"ring\"\naddresses = [\"{LMAA}/64\"]\n\
             [lma]\naddress = \"{LMAA}\"\npools = [\"2001:db8:100::/48\"]\n\
             [lma.heartbeat]\n{HEARTBEAT}{}{}",
            link(1),
            link(2),
            peer(1),
            peer(2),
        );
        let lma = Appliance::start(directory.path(), "lma", None, &config);
        let mut network = Self {
            directory,
            lma,
            mags: [None, None],
        };
        for n in [1, 2] {
            fs::create_dir(network.directory.path().join(format!("mag{n}.state"))).unwrap();
            network.start_mag(n);
        }
        network
    }

    /// Starts the n-th MAG, and attaches the mobile's n-th interface.
    fn start_mag(&mut self, n: usize) {
        let here = self.directory.path();
        let name = format!("mag{n}");
        // Whoever waits for the socket shall not find that of a dead process.
        let _ = fs::remove_file(here.join(format!("{name}.sock")));
        let state = here.join(format!("{name}.state"));
        let config = format!(
            "{PROCESS}state_directory = \"{}\"\ndurability = \"none\"\n\
             [[port]]\nname = \"core\"\ndevice = \"memif:{}\"\n\
             addresses = [\"2001:db8:f:{n}::1/64\"]\n\
             [[port]]\nname = \"access\"\ndevice = \"ring\"\n\
             [[route]]\nto = \"::/0\"\nvia = \"2001:db8:f:{n}::f\"\nport = \"core\"\n\
             [mag]\naddress = \"2001:db8:f:{n}::1\"\naccess_ports = [\"access\"]\n\
             deregister_on_stop = {}\n\
             [mag.heartbeat]\n{HEARTBEAT}\
             [[mag.peer]]\nname = \"lma\"\naddress = \"{LMAA}\"\nprotection = \"none\"\n\
             [[mag.mobile]]\nid = \"{MN1}\"\nlink_layer = \"02:00:00:00:01:0{n}\"\n\
             access_technology = \"wlan\"\nattach = \"command\"\n",
            state.display(),
            here.join(format!("link{n}")).display(),
            n == 2,
        );
        let mag = Appliance::start(here, &name, None, &config);
        // A PBU that waits for its link is too old when it arrives (RFC 5213 §5.5).
        wait_for("its link", PATIENCE, || {
            (mag.http("GET /readyz").0 == 200).then_some(())
        });
        mag.command(["attach", MN1]).ok();
        self.mags[n - 1] = Some(mag);
        self.mag(n).wait("bindings", "registration", |rows| {
            rows.iter().any(|row| row["state"] == "active")
        });
    }

    fn mag(&self, n: usize) -> &Appliance {
        self.mags[n - 1].as_ref().unwrap()
    }

    fn signal(&self, n: usize, signal: Signal) {
        let id = Pid::from_raw(self.mag(n).id().try_into().unwrap());
        kill(id, signal).unwrap();
    }

    /// What the LMA thinks of the n-th MAG.
    fn wait_for_peer(&self, n: usize, state: &str, restarts: u64) {
        self.lma.wait("peers", &format!("mag{n} {state}"), |rows| {
            let mut rows = rows.iter().filter(|row| row["name"] == format!("mag{n}"));
            rows.any(|row| row["state"] == state && row["restart_counter"] == restarts)
        });
    }

    fn wait_for_flow(&self, state: &str) {
        self.lma.wait("flows", &format!("a flow {state}"), |rows| {
            rows.iter().any(|row| row["state"] == state)
        });
    }

    /// The MAG that packets to a prefix go to if they match no flow, as the LMA's workers have it.
    fn wait_for_route(&self, prefix: &Value, n: usize) {
        self.lma
            .wait("routes", &format!("{prefix} at mag{n}"), |rows| {
                let mut rows = rows.iter().filter(|row| row["prefix"] == *prefix);
                rows.any(|row| row["next"].as_str().unwrap().contains(&format!("mag{n}")))
            });
    }
}

impl Appliance {
    fn wait(&self, table: &str, what: &str, look: impl Fn(&[Value]) -> bool) {
        wait_for(what, PATIENCE, || look(&self.show(table)).then_some(()));
    }

    /// How often it has told of an event of this kind.
    fn told(&self, kind: &str) -> usize {
        let events = self.command(["events", "--json"]).ok();
        let events = events
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["kind"] == kind).count()
    }
}

#[test]
fn a_dead_mags_flows_go_to_the_other_access_and_return() {
    let mut network = Network::new();
    network.wait_for_peer(1, "up", 1);
    network.wait_for_peer(2, "up", 1);
    let bindings = network.lma.show("bindings");
    let prefix = &bindings[0]["prefixes"][0];
    let flow = ["flow", "add", "--mn", MN1, "--bid", "1"];
    let selector = ["--proto", "udp", "--dport", "5004"];
    network.lma.command(flow.into_iter().chain(selector)).ok();
    network.wait_for_flow("active");
    network.wait_for_route(prefix, 1);

    // It does not answer: its prefix is routed to the other MAG, with which the flow goes.
    network.signal(1, Signal::SIGSTOP);
    network.wait_for_peer(1, "down", 1);
    network.wait_for_flow("inactive");
    network.wait_for_route(prefix, 2);
    let told = |kind| network.lma.told(kind);
    assert_eq!((told("peer-down"), told("flow-returned")), (1, 0));
    assert!(told("flow-fell-back") >= 1);

    // It goes on, with all it knew.
    network.signal(1, Signal::SIGCONT);
    network.wait_for_peer(1, "up", 1);
    network.wait_for_flow("active");
    network.wait_for_route(prefix, 1);
    let told = |kind| network.lma.told(kind);
    assert_eq!((told("peer-up"), told("flow-returned")), (1, 1));

    // It dies.
    network.signal(1, Signal::SIGKILL);
    network.wait_for_peer(1, "down", 1);
    network.wait_for_flow("inactive");
    network.wait_for_route(prefix, 2);

    // It starts again, and has forgotten everything but how often it has started.
    drop(network.mags[0].take());
    network.start_mag(1);
    network.wait_for_peer(1, "up", 2);
    network.wait_for_flow("active");
    network.wait_for_route(prefix, 1);
    assert_eq!(network.lma.told("peer-restarted"), 1);
    assert_eq!(network.lma.told("flow-returned"), 2);
}

#[test]
fn bindings_are_revoked_and_registered_again_by_command() {
    let network = Network::new();
    let state = |n: usize, state: &str| {
        network.mag(n).wait("bindings", state, |rows| {
            rows.iter().any(|row| row["state"] == state)
        });
    };
    let command = |arguments: &[&str]| network.lma.command(arguments.iter().copied());
    let said = command(&["revoke", "--mn", MN1, "--bid", "1"]).ok();
    assert_eq!(said, "revoking 1 binding\n");
    state(1, "revoked");
    state(2, "active");
    let said = command(&["reregister", "--mn", MN1, "--mag", "mag1"]).ok();
    assert_eq!(said, format!("asking 1 MAG to register {MN1} again\n"));
    state(1, "active");
    command(&["revoke", "--mag", "mag2"]).ok();
    state(2, "revoked");
    let said = command(&["service", "--mn", MN1, "off"]).ok();
    assert!(said.contains("not served any more"), "{said}");
    state(1, "revoked");
    network.mag(1).command(["attach", MN1]).ok();
    network.mag(1).wait("bindings", "a refusal", |rows| {
        rows.iter()
            .any(|row| row["state"].as_str().unwrap().starts_with("refused"))
    });
    command(&["service", "--mn", MN1, "on"]).ok();
    network.mag(1).command(["attach", MN1]).ok();
    state(1, "active");

    let said = command(&["revoke", "--mn", "mn9@example.net"]).fails();
    assert!(said.contains("no mobile mn9@example.net"), "{said}");
    let said = command(&["revoke", "--mag", "mag9"]).fails();
    assert!(said.contains("no [[lma.peer]] is mag9"), "{said}");
    let said = network.mag(1).command(["revoke", "--mn", MN1]).fails();
    assert!(said.contains("this process is no LMA"), "{said}");
}

#[test]
fn a_mag_that_is_told_to_stop_ends_its_sessions_first_if_it_shall() {
    let mut network = Network::new();
    let flow = ["flow", "add", "--mn", MN1, "--bid", "2"];
    let selector = ["--proto", "udp", "--dport", "5004"];
    network.lma.command(flow.into_iter().chain(selector)).ok();
    network.wait_for_flow("active");
    let bindings = network.lma.show("bindings");
    assert_eq!(bindings.len(), 2, "{bindings:?}");

    // One that leaves its sessions leaves them whole.
    let status = network.mags[0].take().unwrap().stop(Signal::SIGTERM);
    assert!(status.success());
    assert_eq!(network.lma.show("bindings").len(), 2);
    network.wait_for_peer(1, "down", 1);
    network.start_mag(1);
    network.wait_for_peer(1, "up", 2);

    let status = network.mags[1].take().unwrap().stop(Signal::SIGTERM);
    assert!(status.success());
    network.lma.wait("bindings", "the other access", |rows| {
        let mut of_mag2 = rows.iter().filter(|row| row["bid"] == 2);
        // Nobody had to miss it: then it would be "unreachable".
        of_mag2.all(|row| row["state"] == "deregistering")
    });
    network.wait_for_flow("inactive");
}
