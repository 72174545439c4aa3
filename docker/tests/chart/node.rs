//! Containers as a runtime confines them: a network namespace, a user, capabilities; and bridges between them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use deploy::{run, said, wait_for};
use serde_json::Value;

use super::pod::{LMA, PATIENCE, Pod, Running, release, within};
use super::rendered::{Rendered, text};
use crate::common::packages::appliance;

/// Waits until a process that is to have a network namespace of its own has it.
fn wait_for_namespace(process: u32) {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).unwrap();
    wait_for("a namespace", PATIENCE, || {
        (namespace(&process.to_string()) != namespace("self")).then_some(())
    });
}

/// A network namespace that has bridges, as a node has.
#[derive(Debug)]
struct Node(Running);

impl Node {
    fn start() -> Self {
        let mut node = Command::new("unshare");
        node.args(["--net", "sleep", "600"]);
        let node = Self(Running(node.spawn().unwrap()));
        wait_for_namespace(node.0.0.id());
        node
    }

    /// Attaches the pod whose process this is to the networks of its release, as Multus and the plugin `bridge` do.
    fn attach(&self, rendered: &Rendered, pod: u32) {
        let annotations =
            &rendered.one("StatefulSet")["spec"]["template"]["metadata"]["annotations"];
        let Some(networks) = annotations["k8s.v1.cni.cncf.io/networks"].as_str() else {
            return;
        };
        let networks: Value = serde_json::from_str(networks).unwrap();
        for network in networks.as_array().unwrap() {
            let definition = rendered.named("NetworkAttachmentDefinition", text(&network["name"]));
            let config: Value = serde_json::from_str(text(&definition["spec"]["config"])).unwrap();
            let bridge = text(&config["bridge"]);
            let interface = text(&network["interface"]);
            let script = format!(
                "ip link show {bridge} >/dev/null 2>&1 || ip link add {bridge} up type bridge
                ip link add {interface} netns {pod} type veth peer name {interface}-{pod}
                ip link set {interface}-{pod} up master {bridge}"
            );
            let node = self.0.0.id().to_string();
            let mut command = Command::new("nsenter");
            let attached = run(command.args(["-t", &node, "-n", "sh", "-euc", &script]));
            assert!(attached.status.success(), "{}", said(&attached));
        }
    }
}

/// A container's command as its user, with its capabilities and no others, in a network namespace that waits for the
/// interface `last`.
fn confined(rendered: &Rendered, command: &Command, last: &str) -> Command {
    let user = rendered.pod()["securityContext"]["runAsUser"].to_string();
    let container = &rendered.container("flowmob")["securityContext"];
    assert_eq!(container["allowPrivilegeEscalation"], false);
    let added = container["capabilities"]["add"].as_array();
    let bounds =
        (added.into_iter().flatten()).map(|name| format!(",+{}", text(name).to_lowercase()));
    let bounds: String = bounds.collect();
    let script = format!(
        "until ip link show {last} >/dev/null 2>&1; do sleep 0.05; done
        for link in $(ip -o link | cut -d : -f 2 | cut -d @ -f 1); do ip link set $link up; done
        exec setpriv --reuid {user} --regid {user} --clear-groups --no-new-privs --inh-caps=-all \
        --bounding-set=-all{bounds} \"$@\""
    );
    let mut confined = Command::new("unshare");
    confined.args(["--net", "sh", "-euc", &script, "sh"]);
    within(confined, command)
}

/// A gateway of a release on a node, when it is ready.
fn gateway(node: &Node, rendered: &Rendered, flowmob: &Path, last: &str) -> (Pod, Running) {
    let user = rendered.pod()["securityContext"]["runAsUser"].to_string();
    let mut pod = Pod::new(rendered, flowmob.to_owned());
    // The mounts of a pod are anybody's to enter, and the Secrets of its user or group.
    for directory in [".", "run"] {
        fs::set_permissions(pod.path(directory), fs::Permissions::from_mode(0o777)).unwrap();
    }
    let owned = run(Command::new("chgrp")
        .arg(&user)
        .arg(pod.path("etc/token/token")));
    assert!(owned.status.success(), "{}", said(&owned));
    // Where the project is, others may not be let in.
    pod.flowmob = pod.path("flowmob");
    fs::copy(flowmob, &pod.flowmob).unwrap();
    let mut command = confined(rendered, &pod.container("start.sh", &pod.flowmob), last);
    let mut gateway = Running::start(&mut command, &pod.path("gateway.log"));
    wait_for_namespace(gateway.0.id());
    node.attach(rendered, gateway.0.id());
    wait_for("ready", PATIENCE, || {
        let log = pod.read("gateway.log");
        assert!(gateway.0.try_wait().unwrap().is_none(), "{log}");
        log.contains("ready").then_some(())
    });
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.0.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    // NET_RAW and NET_ADMIN.
    let expected = if user == "0" {
        "0000000000003000"
    } else {
        "0000000000000000"
    };
    assert_eq!(field("CapEff:"), expected);
    assert!(field("Uid:").starts_with(&user));
    (pod, gateway)
}

/// Whether the test may make network namespaces; says so if not.
fn is_root() -> bool {
    let root = said(&run(Command::new("id").arg("-u"))).trim() == "0";
    if !root {
        deploy::leave_out("network namespaces and other users need root");
    }
    root
}

#[test]
fn the_trial_registers_a_mobile_with_the_capabilities_of_its_containers_alone() {
    let lma = Rendered::new("lma-trial", &[], &[]);
    let mag = Rendered::new("mag-trial", &[], &[]);
    let (true, Some(flowmob), Some(lma), Some(mag)) = (is_root(), appliance(), lma, mag) else {
        return;
    };
    let node = Node::start();
    let (lma, mut lma_process) = gateway(&node, &lma, &flowmob, "net0");
    let (mag, mut mag_process) = gateway(&node, &mag, &flowmob, "wlan0");
    let attached = mag.exec(&["attach", "mn1@example.net"]);
    assert!(attached.status.success(), "{}", said(&attached));
    wait_for("the binding at the LMA", PATIENCE, || {
        let bindings = lma.exec(&["show", "bindings", "--json"]);
        said(&bindings).contains("mn1@example.net").then_some(())
    });
    assert_eq!(
        mag_process.terminate(),
        Some(0),
        "{}",
        mag.read("gateway.log")
    );
    assert_eq!(
        lma_process.terminate(),
        Some(0),
        "{}",
        lma.read("gateway.log")
    );
}

#[test]
fn a_gateway_that_needs_no_capability_is_not_root() {
    let toml = format!("[process]\nmemory_mib = 64\n{LMA}");
    let (true, Some((flowmob, rendered))) = (is_root(), release(&toml, &["networks=null"])) else {
        return;
    };
    assert_eq!(rendered.pod()["securityContext"]["runAsUser"], 64000);
    let node = Node::start();
    let (pod, mut process) = gateway(&node, &rendered, &flowmob, "lo");
    assert_eq!(process.terminate(), Some(0), "{}", pod.read("gateway.log"));
}
