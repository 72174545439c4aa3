//! The Helm chart: linted, rendered with every example, validated by the schemas of Kubernetes' API, and its scripts run
//! with the files that a pod would have, around a real process. No cluster takes part, but there is a stand-in for one.

mod cluster;
mod node;
mod pod;
mod rendered;

use std::collections::BTreeSet;

use rendered::{CHART, Rendered, examples, helm, refusal, text};
use serde_json::{Value, json};

/// The oldest version that Chart.yaml allows, one in between, and the newest that there are schemas for.
const VERSIONS: [&str; 3] = ["1.25", "1.31", "1.37"];

#[test]
fn the_chart_is_linted_with_every_example() {
    for example in examples() {
        let Some(linted) = helm(&["lint", "--strict", CHART, "-f", &example]) else {
            return;
        };
        assert!(
            linted.status.success(),
            "{example}: {}",
            deploy::said(&linted)
        );
    }
}

#[test]
fn objects_are_what_the_api_takes() {
    // Everything that is off by default, too.
    let more: &[&str] = &[
        "networkPolicy.enabled=true",
        "networkPolicy.from[0].podSelector.matchLabels.app=prometheus",
        "serviceMonitor.enabled=true",
        "podDisruptionBudget.enabled=true",
        "imagePullSecrets[0]=registry",
        "priorityClassName=system-cluster-critical",
        "nodeSelector.zone=a",
        "tolerations[0].operator=Exists",
        "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight=1",
        "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchFields[0].key=metadata.name",
        "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchFields[0].operator=Exists",
        "security.user=1000",
        "security.fileCapabilities=true",
        "extraResources.example\\.com/tun=1",
        "persistence.storageClass=fast",
        "podAnnotations.a=b",
        "podLabels.a=b",
        "spread=required",
        "persistence.enabled=true",
    ];
    let examples = examples();
    let cases = examples.iter().map(|example| (example, [].as_slice()));
    for (example, values) in cases.chain([(&examples[0], more)]) {
        let Some(rendered) = Rendered::new(example, values, &VERSIONS) else {
            return;
        };
        assert!(
            rendered.problems.is_empty(),
            "{example}: {:#?}",
            rendered.problems
        );
        // These are Prometheus' operator's and Multus': their schemas are in their own definitions.
        for kind in &rendered.unknown {
            assert!(
                ["ServiceMonitor", "NetworkAttachmentDefinition"].contains(&kind.as_str()),
                "{kind}"
            );
        }
        assert_eq!(rendered.all("StatefulSet").len(), 1, "{example}");
    }
}

/// That the schemas would say so.
#[test]
fn a_field_that_the_api_does_not_know_is_found() {
    let object = "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {prots: []}}";
    let Some(checked) = rendered::check(object, &VERSIONS) else {
        return;
    };
    let problems = checked["problems"].as_array().unwrap();
    assert_eq!(problems.len(), VERSIONS.len(), "{checked}");
    assert!(text(&problems[0]).contains("prots"), "{checked}");
}

#[test]
fn containers_may_what_their_ports_ask_for_and_no_more() {
    let null = "config=name = \"x\"\n# device = \"tap:no\"\nport = [{ name = \"a\"\\, device = \"null\" }]\n[lma]";
    let cases: &[(&str, &[&str], u64, Value, bool)] = &[
        ("lma-sriov", &[], 0, json!(["IPC_LOCK"]), false),
        ("mag-sriov", &[], 0, json!(["IPC_LOCK"]), false),
        ("lma-trial", &[], 0, json!(["NET_ADMIN", "NET_RAW"]), false),
        ("lma-trial", &[null], 64000, Value::Null, false),
        (
            "lma-trial",
            &[null, "security.extraCapabilities={SYS_NICE}"],
            0,
            json!(["SYS_NICE"]),
            false,
        ),
        (
            "lma-sriov",
            &["security.user=70", "security.fileCapabilities=true"],
            70,
            json!(["IPC_LOCK"]),
            true,
        ),
    ];
    for (example, values, user, capabilities, escalation) in cases {
        let Some(rendered) = Rendered::new(example, values, &[]) else {
            return;
        };
        let pod = rendered.pod();
        let context = &pod["securityContext"];
        assert_eq!(context["runAsUser"], *user, "{example} {values:?}");
        assert_eq!(context["runAsNonRoot"], *user != 0);
        assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
        // Without the group, another user than root could not read the Secrets.
        assert_eq!(
            context["fsGroup"],
            if *user == 0 { Value::Null } else { json!(user) }
        );
        assert_eq!(pod["automountServiceAccountToken"], false);
        for shared in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"] {
            assert_eq!(pod[shared], Value::Null);
        }
        for container in pod["containers"].as_array().unwrap() {
            let context = &container["securityContext"];
            let gateway = container["name"] == "flowmob";
            assert_eq!(context["privileged"], false);
            assert_eq!(context["readOnlyRootFilesystem"], true);
            assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
            assert_eq!(context["allowPrivilegeEscalation"], gateway && *escalation);
            let expected = if gateway { capabilities } else { &Value::Null };
            assert_eq!(
                context["capabilities"]["add"], *expected,
                "{example} {values:?}"
            );
        }
        assert!(!pod["volumes"].to_string().contains("hostPath"));
    }
}

#[test]
fn the_pod_is_guaranteed_whole_cores_pages_and_cards() {
    for (example, cpu, pages, cards) in [
        (
            "lma-sriov",
            "4",
            Some("2Gi"),
            vec!["flowmob_core", "flowmob_net"],
        ),
        (
            "mag-sriov",
            "4",
            Some("1Gi"),
            vec!["flowmob_access", "flowmob_core"],
        ),
        ("lma-trial", "1", None, vec![]),
        ("mag-trial", "1", None, vec![]),
    ] {
        let Some(rendered) = Rendered::new(example, &[], &[]) else {
            return;
        };
        let pod = rendered.pod();
        for container in pod["containers"].as_array().unwrap() {
            let resources = &container["resources"];
            assert_eq!(resources["requests"], resources["limits"], "{example}");
            for name in ["cpu", "memory"] {
                assert!(resources["limits"][name].is_string(), "{example}: {name}");
            }
        }
        let limits = &rendered.container("flowmob")["resources"]["limits"];
        assert_eq!(limits["cpu"], cpu);
        assert_eq!(limits["hugepages-1Gi"].as_str(), pages);
        let named: Vec<&str> = (limits.as_object().unwrap().iter())
            .filter_map(|(name, count)| {
                let card = name.strip_prefix("example.com/")?;
                assert_eq!(count, "1");
                Some(card)
            })
            .collect();
        assert_eq!(named, cards);
        let mounts = &rendered.container("flowmob")["volumeMounts"];
        assert_eq!(
            mounts.to_string().contains("/dev/hugepages"),
            pages.is_some()
        );
        assert_eq!(
            pod["volumes"].to_string().contains("HugePages-1Gi"),
            pages.is_some()
        );
    }
}

#[test]
fn two_cards_of_one_kind_are_asked_for_together() {
    let more = [
        "networks[1].resource=example.com/flowmob_core",
        "networks[1].name=other",
    ];
    let Some(rendered) = Rendered::new("lma-sriov", &more, &[]) else {
        return;
    };
    let limits = &rendered.container("flowmob")["resources"]["limits"];
    assert_eq!(limits["example.com/flowmob_core"], "2");
}

#[test]
fn there_is_one_pod_with_a_state_of_its_own() {
    let Some(rendered) = Rendered::new("lma-sriov", &[], &[]) else {
        return;
    };
    let set = rendered.one("StatefulSet");
    assert_eq!(set["spec"]["replicas"], 1);
    let claim = &set["spec"]["volumeClaimTemplates"][0];
    assert_eq!(claim["metadata"]["name"], "state");
    let mounts = rendered.container("flowmob")["volumeMounts"]
        .as_array()
        .unwrap();
    assert!(mounts.contains(&json!({"name": "state", "mountPath": "/var/lib/flowmob"})));
    // The container that only reloads writes nothing there.
    assert!(
        !rendered
            .container("reload")
            .to_string()
            .contains("/var/lib/flowmob")
    );
    let Some(rendered) = Rendered::new("lma-trial", &[], &[]) else {
        return;
    };
    assert_eq!(
        rendered.one("StatefulSet")["spec"]["volumeClaimTemplates"],
        Value::Null
    );
    assert!(
        rendered.pod()["terminationGracePeriodSeconds"]
            .as_u64()
            .unwrap()
            >= 10
    );
}

#[test]
fn probes_ask_what_needs_no_token_and_monitoring_bears_it() {
    let Some(rendered) = Rendered::new("mag-sriov", &[], &[]) else {
        return;
    };
    let gateway = rendered.container("flowmob");
    for (probe, path) in [
        ("startupProbe", "/livez"),
        ("livenessProbe", "/livez"),
        ("readinessProbe", "/readyz"),
    ] {
        assert_eq!(
            gateway[probe]["httpGet"],
            json!({"path": path, "port": "api"})
        );
    }
    assert_eq!(
        gateway["ports"],
        json!([{"name": "api", "containerPort": 8090}])
    );
    let labels = &rendered.one("StatefulSet")["spec"]["template"]["metadata"]["labels"];
    let selects = |selector: &Value| {
        let selector = selector.as_object().unwrap();
        selector.iter().all(|(name, value)| labels[name] == *value)
    };
    let service = rendered.one("Service");
    assert_eq!(service["spec"]["clusterIP"], "None");
    assert!(selects(&service["spec"]["selector"]));
    assert!(selects(
        &rendered.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]
    ));

    // As the operator's definition of ServiceMonitor has it.
    let monitor = rendered.one("ServiceMonitor");
    assert_eq!(monitor["apiVersion"], "monitoring.coreos.com/v1");
    let chosen = monitor["spec"]["selector"]["matchLabels"]
        .as_object()
        .unwrap();
    assert!(
        chosen
            .iter()
            .all(|(name, value)| service["metadata"]["labels"][name] == *value)
    );
    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_eq!(
        (&endpoint["port"], &endpoint["path"]),
        (&json!("api"), &json!("/metrics"))
    );
    let credentials = &endpoint["authorization"]["credentials"];
    assert_eq!(credentials["key"], "token");
    let secret = rendered.one("Secret");
    assert_eq!(credentials["name"], secret["metadata"]["name"]);
    assert!(text(&secret["data"]["token"]).len() >= 40);
    // The process refuses a file that others may read.
    let volumes = rendered.pod()["volumes"].as_array().unwrap();
    for name in ["token", "keys"] {
        let volume = volumes
            .iter()
            .find(|volume| volume["name"] == name)
            .unwrap();
        assert_eq!(volume["secret"]["defaultMode"], 0o400);
    }
}

#[test]
fn networks_are_attached_and_made_if_they_are_defined() {
    let Some(rendered) = Rendered::new("lma-trial", &[], &[]) else {
        return;
    };
    let annotations = &rendered.one("StatefulSet")["spec"]["template"]["metadata"]["annotations"];
    let networks: Value =
        serde_json::from_str(text(&annotations["k8s.v1.cni.cncf.io/networks"])).unwrap();
    let attached: BTreeSet<&str> = networks
        .as_array()
        .unwrap()
        .iter()
        .map(|n| text(&n["name"]))
        .collect();
    let definitions = rendered.all("NetworkAttachmentDefinition");
    let made: BTreeSet<&str> = definitions
        .iter()
        .map(|d| text(&d["metadata"]["name"]))
        .collect();
    assert_eq!(attached, made);
    assert_eq!(
        attached,
        BTreeSet::from(["gw-flowmob-core", "gw-flowmob-net"])
    );
    for definition in definitions {
        assert_eq!(definition["apiVersion"], "k8s.cni.cncf.io/v1");
        let config: Value = serde_json::from_str(text(&definition["spec"]["config"])).unwrap();
        assert_eq!(config["type"], "bridge");
    }
    // Both ends of the trial are on one bridge, and each of its ports is an interface that the pod has.
    let toml = text(&rendered.named("ConfigMap", "gw-flowmob")["data"]["flowmob.toml"]);
    for network in networks.as_array().unwrap() {
        assert!(toml.contains(&format!("af_packet:{}", text(&network["interface"]))));
    }
}

#[test]
fn a_configuration_that_changes_replaces_the_pod_only_if_told_so() {
    let template = |values: &[&str]| {
        let rendered = Rendered::new("lma-trial", values, &[])?;
        Some(rendered.one("StatefulSet")["spec"]["template"].clone())
    };
    let other =
        "config=name = \"x\"\nport = [{ name = \"a\"\\, device = \"af_packet:core0\" }]\n[lma]";
    let Some(live) = template(&[]) else { return };
    assert_eq!(Some(&live), template(&[other]).as_ref());
    assert_ne!(Some(&live), template(&["api.port=9000"]).as_ref());
    assert_eq!(live["spec"]["containers"].as_array().unwrap().len(), 2);
    let restart = template(&["reload=restart"]).unwrap();
    assert_ne!(
        Some(&restart),
        template(&["reload=restart", other]).as_ref()
    );
    assert_eq!(restart["spec"]["containers"].as_array().unwrap().len(), 1);
    // A subPath would not follow the ConfigMap.
    assert!(!live.to_string().contains("subPath"));
}

#[test]
fn values_that_cannot_be_right_are_refused_with_their_names() {
    refused(&[
        ("'/role': value must be one of 'lma', 'mag'", &["role=mn"]),
        ("'/config': minLength", &["config="]),
        ("additional properties 'rolle' not allowed", &["rolle=lma"]),
        (
            "'/resources/cpu': minimum: got 0, want 1",
            &["resources.cpu=0"],
        ),
        (
            "'/resources/cpu': got string, want integer",
            &["resources.cpu=500m"],
        ),
        ("'/resources/memory'", &["resources.memory=lots"]),
        (
            "'/hugepages/size': value must be one of",
            &["hugepages.size=4Mi"],
        ),
        (
            "'/reload': value must be one of 'live', 'restart'",
            &["reload=never"],
        ),
        ("'/api/port'", &["api.port=80"]),
        (
            "'/security/extraCapabilities/0'",
            &["security.extraCapabilities={ALL}"],
        ),
        (
            "'/security/extraCapabilities/0'",
            &["security.extraCapabilities={CAP_NET_RAW}"],
        ),
        (
            "'/networks/0/resource'",
            &["networks[0].resource=flowmob-core"],
        ),
        (
            "'/networks/0/name': got null, want string",
            &["networks[0].name=null"],
        ),
        ("'/reloader/cpu'", &["reloader.cpu=1"]),
    ]);
    let values = ["-f", "/dev/null"];
    let Some(bare) = helm(&[&["template", "gw", CHART], values.as_slice()].concat()) else {
        return;
    };
    assert!(!bare.status.success());
    assert!(
        deploy::said(&bare).contains("'/role'"),
        "{}",
        deploy::said(&bare)
    );
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    refused(&[
        (
            "role is mag, but config has no section [mag]",
            &["role=mag"],
        ),
        (
            "leave it out, the chart adds it",
            &["config=[lma]\n[management]\n"],
        ),
        ("the pages would lie idle", &["hugepages.size=2Mi"]),
        (
            "the pod would be given none",
            &["config=[process]\nmemory = \"hugepages\"\n[lma]"],
        ),
        (
            "config takes 2048 MiB of pages (memory_mib), but hugepages.amount is 1Gi",
            &[
                "config=[process]\nmemory = \"hugepages\"\nmemory_mib = 2_048\n[lma]",
                "hugepages.size=1Gi",
            ],
        ),
        (
            "config takes 256 MiB of pages",
            &[
                "config=[process]\nmemory = \"hugepages\"\n[lma]",
                "hugepages.size=2Mi",
                "hugepages.amount=128Mi",
            ],
        ),
        (
            "config takes 512 MiB (memory_mib), which leaves nothing of resources.memory, 512Mi",
            &["config=[process]\nmemory_mib = 512\n[lma]"],
        ),
        (
            "keys.secret names no Secret",
            &["config=[lma]\n[[lma.peer]]\nkeys = \"keys/a.toml\""],
        ),
        (
            "keys need persistence.enabled",
            &[
                "config=[lma]\n[[lma.peer]]\nkeys = \"keys/a.toml\"",
                "keys.secret=a",
            ],
        ),
        (
            "would not have the capabilities that the ports need (NET_ADMIN NET_RAW)",
            &["security.user=1000"],
        ),
    ]);
}

/// Each of these values, set in the LMA's trial, is refused with these words.
fn refused(cases: &[(&str, &[&str])]) {
    for (expected, values) in cases {
        let Some(said) = refusal("lma-trial", values) else {
            return;
        };
        assert!(said.contains(expected), "{values:?}: {expected}:\n{said}");
    }
}
