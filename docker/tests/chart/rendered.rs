//! What helm makes of the chart.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use deploy::{program, root, run, said};
use serde_json::Value;

/// The chart, from the project's directory.
pub(crate) const CHART: &str = "docker/helm/flowmob";

pub(crate) const HOW: &str = ".ci/helm brings it";

/// Runs helm, if it is there.
pub(crate) fn helm(arguments: &[&str]) -> Option<Output> {
    let helm = program("target/tools/helm", HOW)?;
    // Nothing of whoever runs the tests: neither plugins nor a cluster.
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(helm);
    command.args(arguments).current_dir(root());
    command.env("HOME", home.path()).env_remove("KUBECONFIG");
    Some(run(&mut command))
}

/// The files with example values.
pub(crate) fn examples() -> Vec<String> {
    let files = std::fs::read_dir(root().join(CHART).join("examples")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names
        .map(|name| format!("{CHART}/examples/{name}"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 4, "{names:?}");
    names
}

fn template(example: &str, values: &[&str]) -> Option<Output> {
    let file = if example.contains('/') {
        example.to_owned()
    } else {
        format!("{CHART}/examples/{example}.yaml")
    };
    let mut arguments = vec!["template", "gw", CHART, "-f", &file];
    arguments.extend(values.iter().flat_map(|value| ["--set", value]));
    helm(&arguments)
}

/// What helm says against an example with values changed, such as `role=mn`.
pub(crate) fn refusal(example: &str, values: &[&str]) -> Option<String> {
    let output = template(example, values)?;
    assert!(!output.status.success(), "{values:?}: accepted");
    Some(said(&output))
}

/// The objects in YAML, and what the schemas of the API's versions say.
pub(crate) fn check(yaml: &str, versions: &[&str]) -> Option<Value> {
    let python = program("target/tools/kubernetes/bin/python", HOW)?;
    let mut child = Command::new(python)
        .arg(root().join("docker/tests/objects.py"))
        .args(versions)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(yaml.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{yaml}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// A text in an object.
pub(crate) fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}

/// The objects of a release named `gw`.
#[derive(Debug)]
pub(crate) struct Rendered {
    objects: Vec<Value>,
    pub(crate) problems: Vec<String>,
    pub(crate) unknown: Vec<String>,
}

impl Rendered {
    /// Renders an example, with some values changed; `None` without the tools.
    pub(crate) fn new(example: &str, values: &[&str], versions: &[&str]) -> Option<Self> {
        let output = template(example, values)?;
        assert!(
            output.status.success(),
            "{example} {values:?}: {}",
            said(&output)
        );
        let checked = check(&String::from_utf8(output.stdout).unwrap(), versions)?;
        let list = |name: &str| checked[name].as_array().unwrap().clone();
        let texts = |name: &str| list(name).iter().map(|t| text(t).to_owned()).collect();
        Some(Self {
            objects: list("objects"),
            problems: texts("problems"),
            unknown: texts("unknown"),
        })
    }

    pub(crate) fn all(&self, kind: &str) -> Vec<&Value> {
        self.objects
            .iter()
            .filter(|object| object["kind"] == kind)
            .collect()
    }

    pub(crate) fn one(&self, kind: &str) -> &Value {
        let all = self.all(kind);
        assert_eq!(all.len(), 1, "{kind}");
        all[0]
    }

    pub(crate) fn named(&self, kind: &str, name: &str) -> &Value {
        let all = self.all(kind).into_iter();
        let mut named = all.filter(|object| object["metadata"]["name"] == name);
        named.next().unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    pub(crate) fn pod(&self) -> &Value {
        &self.one("StatefulSet")["spec"]["template"]["spec"]
    }

    pub(crate) fn container(&self, name: &str) -> &Value {
        let containers = self.pod()["containers"].as_array().unwrap();
        let container = containers
            .iter()
            .find(|container| container["name"] == name);
        container.unwrap_or_else(|| panic!("no container {name}"))
    }
}
