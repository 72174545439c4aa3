//! docs/kubernetes.md, by the real kubectl and helm, on a stand-in for a cluster (`docker/tests/cluster`): its pods are processes of
//! flowmob's, with what the objects that helm has made give them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use deploy::{program, root, run, wait_for};
use tempfile::TempDir;

use super::pod::{PATIENCE, Running};
use super::rendered::{CHART, HOW};
use crate::common::namespace::Namespace;
use crate::common::packages::appliance;
use crate::common::page::{self, run_by};
use crate::common::{as_told, can_run, ok};

const PAGE: &str = include_str!("../../../docs/kubernetes.md");

/// A cluster, and the directory of somebody who has it before them.
#[derive(Debug)]
struct Cluster {
    node: Running,
    network: Namespace,
    directory: TempDir,
}

impl Cluster {
    fn start() -> Option<Self> {
        let tool = |name| program(&format!("target/tools/{name}"), HOW);
        let (flowmob, helm, kubectl) = (appliance()?, tool("helm")?, tool("kubectl")?);
        if !can_run(&["/usr/bin/python3", "curl", "ip"]) {
            return None;
        }
        let network = Namespace::new();
        network.no_ipv6();
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir_all(path("bin")).unwrap();
        for (name, program) in [
            ("flowmob", &flowmob),
            ("helm", &helm),
            ("kubectl", &kubectl),
        ] {
            symlink(program, path("bin").join(name)).unwrap();
        }
        let access = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": "http://127.0.0.1:6443"}}],
            "contexts": [{"name": "it", "context": {"cluster": "it"}}]}"#;
        fs::write(path("access"), access).unwrap();
        let mut node = network.command("unshare");
        node.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        node.args(["/usr/bin/python3", "-B"]);
        node.arg(root().join("docker/tests/cluster")).arg(flowmob);
        let node = Running::start(&mut node, &path("log"));
        let mut cluster = Self {
            node,
            network,
            directory,
        };
        wait_for("the cluster's API", PATIENCE, || {
            let ended = cluster.node.0.try_wait().unwrap();
            assert_eq!(ended, None, "{}", cluster.log());
            cluster.log().contains("ready").then_some(())
        });
        Some(cluster)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    /// A shell that takes with it what it has begun.
    fn shell(&self, commands: &str) -> Command {
        let mut command = self.network.command("timeout");
        command.args(["--signal", "KILL", "60", "unshare", "--pid", "--fork"]);
        command.args(["--kill-child", "sh", "-euc", commands]);
        let path = std::env::var("PATH").unwrap();
        // Nothing of whoever runs the tests: neither plugins nor another cluster.
        command
            .env_clear()
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("HOME", self.directory.path())
            .env("KUBECONFIG", self.path("access"))
            .current_dir(self.directory.path());
        command
    }

    fn ok(&self, commands: &str) -> String {
        ok(&mut self.shell(commands))
    }

    /// What a command prints is compared with what the page says; what only looks may look again.
    #[track_caller]
    fn as_told(&self, command: &page::Command) {
        let looks = [" show ", " logs "].map(|word| command.text.contains(word));
        let deadline = Instant::now() + PATIENCE;
        while looks.contains(&true) && Instant::now() < deadline {
            let output = run(&mut self.shell(&command.text));
            if command.is_as_told(output.status.success(), &deploy::said(&output)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        as_told(command, &mut self.shell(&command.text));
    }

    #[track_caller]
    fn all_as_told(&self, commands: &[page::Command]) {
        for command in commands {
            self.as_told(command);
        }
    }
}

impl Drop for Cluster {
    #[expect(clippy::print_stdout, reason = "for whoever looks why a test failed")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("---- the cluster\n{}", self.log());
        }
    }
}

/// The commands of a block in one shell, whose variables they share.
fn together(commands: &[page::Command]) -> page::Command {
    let mut all = commands[0].clone();
    for command in &commands[1..] {
        all.text = format!("{}\n{}", all.text, command.text);
        all.output.extend_from_slice(&command.output);
    }
    all
}

/// An example for cards, with packet sockets of the kernel on what the networks are here, and a core for the whole.
fn without_cards(values: &str) -> String {
    let mut values = values.to_owned();
    for (card, ours) in [
        ("\"pci:", "\"af_packet:"),
        ("cpu: 4", "cpu: 1"),
        ("size: 1Gi", "size: \"\""),
        ("  memory = \"hugepages\"\n", ""),
        ("  idle = \"poll\"\n", ""),
        ("  mtu = 1540\n", ""),
        ("memory_mib = 2048", "memory_mib = 64"),
        ("memory_mib = 1024", "memory_mib = 64"),
    ] {
        values = values.replace(card, ours);
    }
    format!("reloader: {{ seconds: 1 }}\n{values}")
}

#[test]
fn the_page_holds_on_a_stand_in_for_a_cluster() {
    let [networks, install, change, drain, remove, api, trial] = run_by(PAGE, file!());
    let Some(cluster) = Cluster::start() else {
        return;
    };
    fs::create_dir_all(cluster.path("docker/helm")).unwrap();
    let chart = cluster.path(CHART);
    ok(Command::new("cp")
        .arg("-r")
        .arg(root().join(CHART))
        .arg(&chart));
    let [lma, mag] = ["lma", "mag"].map(|role| {
        let file = chart.join(format!("examples/{role}-sriov.yaml"));
        let values = without_cards(&fs::read_to_string(&file).unwrap());
        fs::write(file, &values).unwrap();
        values
    });

    cluster.write("networks.yaml", &page::file(PAGE, "networks.yaml"));
    cluster.all_as_told(&networks);
    cluster.all_as_told(&install);

    // A second MAG, whose entry the LMA takes live.
    let image = "image: { repository: registry.example/flowmob }\n";
    let peer = "  [[lma.peer]]\n  name = \"mag2\"\n  address = \"2001:db8:f::12\"\n  protection = \"none\"\n";
    cluster.write("lma1.yaml", &format!("{image}{lma}{peer}"));
    let mag2 = mag
        .replace("mag1", "mag2")
        .replace("keys:\n  secret: mag2-keys\n", "")
        .replace("keys = \"keys/lma1.toml\"", "protection = \"none\"")
        .replace("2001:db8:f::11", "2001:db8:f::12")
        .replace("02:00:00:00:01:01", "02:00:00:00:01:02")
        .replace(
            "access_technology = \"wlan\"",
            "access_technology = \"eutran\"",
        );
    cluster.write("mag2.yaml", &mag2);
    let pod = || cluster.ok("kubectl get pod lma1-flowmob-0 -o 'jsonpath={.metadata.uid}'");
    let before = pod();
    cluster.all_as_told(&change);
    assert_eq!(pod(), before, "the pod was replaced");

    cluster.ok("helm install mag2 docker/helm/flowmob -f mag2.yaml");
    cluster.ok("kubectl rollout status statefulset/mag2-flowmob");
    cluster.ok("kubectl exec mag2-flowmob-0 -- flowmob attach mn1@example.net");
    wait_for("both accesses", PATIENCE, || {
        let bindings = cluster.ok("kubectl exec lma1-flowmob-0 -- flowmob show bindings");
        (bindings.matches(" active ").count() == 2).then_some(())
    });
    let rule = "flow add --mn mn1@example.net --bid 1 --proto udp";
    cluster.ok(&format!("kubectl exec lma1-flowmob-0 -- flowmob {rule}"));
    cluster.all_as_told(&drain);
    cluster.ok("kubectl rollout status statefulset/mag1-flowmob");

    cluster.as_told(&together(&api));
    // Last, though it is in an earlier part of the page.
    cluster.all_as_told(&remove);
    cluster.ok("helm uninstall mag1 mag2");
    cluster.all_as_told(&trial);
    wait_for("no pods", PATIENCE, || {
        let pods = cluster.ok("kubectl get pods -o name");
        pods.is_empty().then_some(())
    });
}
