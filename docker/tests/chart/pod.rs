//! The scripts of the ConfigMap, run with a directory in the place of what the kubelet mounts.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use deploy::{run, said, wait_for};
use serde_json::Value;
use tempfile::TempDir;

use super::rendered::{Rendered, examples, text};
use crate::common::packages::appliance;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a pod's containers see, below one directory.
#[derive(Debug)]
pub(crate) struct Pod {
    directory: TempDir,
    pub(crate) flowmob: PathBuf,
    versions: u32,
}

impl Pod {
    /// The mounted files of a release, but for the keys.
    pub(crate) fn new(rendered: &Rendered, flowmob: PathBuf) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut pod = Self {
            directory,
            flowmob,
            versions: 0,
        };
        for (name, content) in rendered.named("ConfigMap", "gw-flowmob-scripts")["data"]
            .as_object()
            .unwrap()
        {
            pod.write(&format!("scripts/{name}"), text(content), 0o555);
        }
        pod.write("etc/token/token", "0123456789abcdef0123456789abcdef", 0o440);
        fs::create_dir_all(pod.path("etc/keys")).unwrap();
        fs::create_dir_all(pod.path("run")).unwrap();
        let config = &rendered.named("ConfigMap", "gw-flowmob")["data"]["flowmob.toml"];
        let socket = pod.path("run/flowmob.sock");
        pod.configure(&text(config).replace("/run/flowmob/flowmob.sock", socket.to_str().unwrap()));
        pod
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn write(&self, path: &str, content: &str, mode: u32) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// Changes the ConfigMap as the kubelet does: a new directory, and a link that leads there from one moment to the next.
    fn configure(&mut self, toml: &str) {
        self.versions += 1;
        let version = format!("..{}", self.versions);
        self.write(&format!("etc/config/{version}/flowmob.toml"), toml, 0o644);
        symlink(&version, self.path("etc/config/..new")).unwrap();
        fs::rename(
            self.path("etc/config/..new"),
            self.path("etc/config/..data"),
        )
        .unwrap();
        let _ = symlink("..data/flowmob.toml", self.path("etc/config/flowmob.toml"));
    }

    /// A container's command, with a program `flowmob` that it finds first.
    pub(crate) fn container(&self, script: &str, program: &Path) -> Command {
        let bin = self.path("bin");
        fs::create_dir_all(&bin).unwrap();
        let _ = fs::remove_file(bin.join("flowmob"));
        symlink(program, bin.join("flowmob")).unwrap();
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new("sh");
        command
            .arg(self.path(&format!("scripts/{script}")))
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("FLOWMOB_ETC", self.path("etc"))
            .env("FLOWMOB_RUN", self.path("run"))
            .env("FLOWMOB_SCRIPTS", self.path("scripts"))
            .env("FLOWMOB_SOCKET", self.path("run/flowmob.sock"))
            .env("FLOWMOB_CPUS", own_cpus().len().to_string())
            .env("FLOWMOB_SECONDS", "0.1")
            .env("RUNTIME_DIRECTORY", self.path("run"));
        command
    }

    /// The gateway's container with a program in flowmob's place that only checks the configuration.
    fn only_check(&self) -> Command {
        let check = format!(
            "#!/bin/sh\nexec '{}' check --config \"$3\"\n",
            self.flowmob.display()
        );
        self.write("check", &check, 0o755);
        self.container("start.sh", &self.path("check"))
    }

    /// A command of flowmob's in the gateway's container.
    pub(crate) fn exec(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.flowmob);
        run(command
            .arg("-s")
            .arg(self.path("run/flowmob.sock"))
            .args(arguments))
    }
}

/// A command as the arguments of one that runs it in other circumstances.
pub(crate) fn within(mut outer: Command, command: &Command) -> Command {
    outer.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        outer.env(name, value.unwrap_or_default());
    }
    outer
}

/// A process that is ended with the test.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let log = fs::File::create(log).unwrap();
        Self(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// Sends SIGTERM, as the kubelet does, and waits for the end.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        run(Command::new("kill").arg(self.0.id().to_string()));
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The CPUs that this process may use.
fn own_cpus() -> Vec<u16> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = (status.lines()).find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    cpu_list(line.unwrap().trim())
}

/// Reads the kernel's notation, such as `0-3,8`.
fn cpu_list(text: &str) -> Vec<u16> {
    let ranges = text.split(',').map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        first.parse::<u16>().unwrap()..=last.parse().unwrap()
    });
    ranges.flatten().collect()
}

fn generate_keys(pod: &Pod, ours: &Path, role: &str) {
    let other = tempfile::tempdir().unwrap();
    let other = other.path().join("other");
    let (lma, mag) = if role == "lma" {
        (ours, &*other)
    } else {
        (&*other, ours)
    };
    let made = run(Command::new(&pod.flowmob)
        .args(["keys", "generate", "--lma"])
        .arg(lma)
        .arg("--mag")
        .arg(mag));
    assert!(made.status.success(), "{}", said(&made));
    // As the kubelet leaves it for a pod with a group.
    fs::set_permissions(ours, fs::Permissions::from_mode(0o440)).unwrap();
}

#[test]
fn flowmob_accepts_what_every_example_becomes_on_a_node() {
    for example in examples() {
        let (Some(flowmob), Some(rendered)) = (appliance(), Rendered::new(&example, &[], &[]))
        else {
            return;
        };
        let pod = Pod::new(&rendered, flowmob);
        let role = if example.contains("/lma-") {
            "lma"
        } else {
            "mag"
        };
        let peer = if role == "lma" { "mag1" } else { "lma1" };
        generate_keys(&pod, &pod.path(&format!("etc/keys/{peer}.toml")), role);
        let started = run(pod
            .only_check()
            .env("PCIDEVICE_EXAMPLE_COM_FLOWMOB_CORE", "0000:3b:02.1")
            .env(
                "PCIDEVICE_EXAMPLE_COM_FLOWMOB_CORE_INFO",
                r#"{"0000:3b:02.1":{"generic":{}}}"#,
            )
            .env("PCIDEVICE_EXAMPLE_COM_FLOWMOB_NET", "0000:3b:02.2")
            .env("PCIDEVICE_EXAMPLE_COM_FLOWMOB_ACCESS", "0000:5e:0a.0"));
        assert!(started.status.success(), "{example}: {}", said(&started));
        assert!(
            said(&started).contains("is a valid configuration"),
            "{}",
            said(&started)
        );
        let toml = pod.read("run/config/flowmob.toml");
        if example.contains("sriov") {
            assert!(toml.contains(r#"device = "pci:0000:3b:02.1""#), "{toml}");
            assert!(toml.contains("cores = ["), "{toml}");
        }
        for secret in [format!("keys/{peer}.toml"), "token".into()] {
            let file = fs::metadata(pod.path(&format!("run/config/{secret}"))).unwrap();
            assert_eq!(file.permissions().mode() & 0o7777, 0o400, "{secret}");
        }
    }
}

/// A release of its own, with one port and room for placeholders.
pub(crate) fn release(toml: &str, values: &[&str]) -> Option<(PathBuf, Rendered)> {
    let config = toml.replace(',', "\\,");
    let config = format!("config={config}");
    let mut all = vec![config.as_str()];
    all.extend(values);
    Some((appliance()?, Rendered::new("lma-trial", &all, &[])?))
}

pub(crate) const LMA: &str = r#"[[port]]
name = "core"
device = "null"
addresses = ["2001:db8:f::1/64"]

[lma]
address = "2001:db8:f::1"
pools = ["2001:db8:100::/48"]
"#;

#[test]
fn cores_are_one_thread_of_each_that_is_the_containers_own() {
    let toml = format!(
        "[process]\nmemory_mib = 64\ncontrol_core = ${{CONTROL_CORE}}\ncores = [${{WORKER_CORES}}]\n{LMA}"
    );
    let Some((flowmob, rendered)) = release(&toml, &[]) else {
        return;
    };
    let pod = Pod::new(&rendered, flowmob);
    let value = |name: &str| {
        let values = pod.read("run/values");
        let line = (values.lines()).find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(str::to_owned)
    };
    // What a container may use, which of that share a core, what comes of it.
    for (allowed, count, siblings, control, workers) in [
        ("2-5", 4, &["2", "3", "4", "5"][..], "2", "3,4,5"),
        ("2-4,10-12", 6, &["2,10", "3,11", "4,12"], "2", "3,4"),
        ("4-7", 4, &["4-5", "6-7"], "4", "6"),
        // A thread of a core whose other one is not this container's.
        ("1,3,11", 3, &["1,9", "3,11"], "1", "3"),
        ("6,14", 2, &["6,14"], "6", "14"),
        ("7", 1, &["7"], "7", "7"),
    ] {
        pod.write(
            "status",
            &format!("Name:\tsh\nCpus_allowed_list:\t{allowed}\n"),
            0o644,
        );
        let _ = fs::remove_dir_all(pod.path("cpus"));
        for list in siblings {
            for cpu in cpu_list(list) {
                pod.write(
                    &format!("cpus/cpu{cpu}/topology/thread_siblings_list"),
                    list,
                    0o644,
                );
            }
        }
        // This machine has other cores: whether flowmob likes them does not matter.
        run(pod
            .only_check()
            .env("FLOWMOB_CPUS", count.to_string())
            .env("FLOWMOB_STATUS", pod.path("status"))
            .env("FLOWMOB_CPUS_DIRECTORY", pod.path("cpus")));
        assert_eq!(value("CONTROL_CORE").as_deref(), Some(control), "{allowed}");
        assert_eq!(value("WORKER_CORES").as_deref(), Some(workers), "{allowed}");
        let toml = pod.read("run/config/flowmob.toml");
        assert!(
            toml.contains(&format!("control_core = {control}\ncores = [{workers}]\n")),
            "{toml}"
        );
    }
    // As it is here.
    let started = run(&mut pod.only_check());
    assert!(started.status.success(), "{}", said(&started));
    // Not the container's own: then these are all of the node's.
    let started = run(pod.only_check().env("FLOWMOB_CPUS", "1000"));
    assert!(!started.status.success());
    let said = said(&started);
    assert!(said.contains("cpuManagerPolicy: static"), "{said}");
    assert!(
        said.contains("${WORKER_CORES} has no value in this pod"),
        "{said}"
    );
}

#[test]
fn several_cards_of_one_kind_have_numbers() {
    let toml = format!(
        "# ${{NOTHING}}\n{LMA}\n[[port]]\nname = \"a\"\ndevice = \"pci:${{PCIDEVICE_X_2}}\"\n[[port]]\nname = \"b\"\ndevice = \"pci:${{PCIDEVICE_X_1}}\"\n"
    );
    let Some((flowmob, rendered)) = release(&toml, &[]) else {
        return;
    };
    let pod = Pod::new(&rendered, flowmob);
    let started = run(pod
        .only_check()
        .env("PCIDEVICE_X", "0000:01:00.0,0000:02:00.0"));
    assert!(started.status.success(), "{}", said(&started));
    let toml = pod.read("run/config/flowmob.toml");
    let devices: Vec<&str> = toml.lines().filter(|line| line.contains("pci:")).collect();
    assert_eq!(
        devices,
        [
            r#"device = "pci:0000:02:00.0""#,
            r#"device = "pci:0000:01:00.0""#
        ]
    );
    let started = run(&mut pod.only_check());
    assert!(!started.status.success());
    assert!(
        said(&started).contains("${PCIDEVICE_X_2} has no value in this pod"),
        "{}",
        said(&started)
    );
}

/// A port of this machine that nobody listens on.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn get(port: u16, path: &str, token: Option<&str>) -> String {
    use std::io::Write;
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else {
        return String::new();
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: 10.1.2.3:{port}\r\nConnection: close\r\n{}\r\n",
        bearer.unwrap_or_default()
    );
    let mut answer = String::new();
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn a_pod_starts_takes_changes_live_and_ends() {
    let port = free_port();
    let api = format!("api.port={port}");
    let peer =
        "[[lma.peer]]\nname = \"mag1\"\naddress = \"2001:db8:f::11\"\nkeys = \"keys/mag1.toml\"\n";
    let values = [&*api, "keys.secret=k", "persistence.enabled=true"];
    let state = tempfile::tempdir().unwrap();
    let state = state.path().display();
    let toml = format!(
        "name = \"lma1\"\n[process]\nmemory_mib = 64\ncontrol_core = ${{CONTROL_CORE}}\ncores = [${{WORKER_CORES}}]\nstate_directory = \"{state}\"\n{LMA}{peer}"
    );
    let Some((flowmob, rendered)) = release(&toml, &values) else {
        return;
    };
    let mut pod = Pod::new(&rendered, flowmob.clone());
    generate_keys(&pod, &pod.path("etc/keys/mag1.toml"), "lma");
    fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(pod.path("run"))
        .unwrap();

    let (gateway_log, reload_log) = (pod.path("gateway.log"), pod.path("reload.log"));
    // The gateway's cores are no other container's.
    let mut elsewhere = Command::new("taskset");
    elsewhere.args(["-c", &own_cpus()[0].to_string()]);
    let mut elsewhere = within(elsewhere, &pod.container("reload.sh", &flowmob));
    let mut reload = Running::start(&mut elsewhere, &reload_log);
    let mut gateway = Running::start(&mut pod.container("start.sh", &flowmob), &gateway_log);
    // The probes, as the kubelet asks.
    wait_for("ready", PATIENCE, || {
        get(port, "/readyz", None)
            .starts_with("HTTP/1.1 200")
            .then_some(())
    });
    assert!(get(port, "/livez", None).starts_with("HTTP/1.1 200"));
    assert!(get(port, "/metrics", None).starts_with("HTTP/1.1 401"));
    let metrics = get(port, "/metrics", Some("0123456789abcdef0123456789abcdef"));
    assert!(metrics.contains("flowmob_ready 1"), "{metrics}");

    // The root file system is read only in a pod.
    assert!(pod.path("run/dpdk").is_dir());

    let mounted = pod.read("etc/config/flowmob.toml");
    let says = |pod: &Pod, what: &str| {
        wait_for(what, PATIENCE, || {
            pod.read("reload.log").contains(what).then_some(())
        });
    };
    let log = |pod: &Pod| -> Value {
        serde_json::from_slice(&pod.exec(&["log", "--json"]).stdout).unwrap()
    };
    assert_eq!(log(&pod)["level"], "info", "{}", pod.read("gateway.log"));

    // Live.
    pod.configure(&format!("{mounted}\n[log]\nlevel = \"debug\"\n"));
    says(&pod, "~ log.level: \"info\" -> \"debug\"");
    says(&pod, "in force");
    assert_eq!(log(&pod)["level"], "debug");

    // Only with a restart: refused by name, and once.
    pod.configure(&mounted.replace("name = \"core\"", "name = \"kern\""));
    says(&pod, "needs a restart");
    says(&pod, "kubectl rollout restart");
    assert_eq!(log(&pod)["level"], "debug");

    // Not valid: with its place.
    pod.configure(&format!("{mounted}\nnonsense = 1\n"));
    says(&pod, "flowmob.toml:");
    says(&pod, "nonsense");
    pod.configure(&mounted.replace("\"null\"", "\"pci:${NOWHERE}\""));
    says(&pod, "${NOWHERE} has no value in this pod");

    // Another key in the Secret, and the configuration of the beginning.
    let file = pod.path("etc/keys/mag1.toml");
    fs::remove_file(&file).unwrap();
    generate_keys(&pod, &file, "lma");
    pod.configure(&mounted);
    wait_for("the new keys", PATIENCE, || {
        (pod.read("run/config/keys/mag1.toml") == pod.read("etc/keys/mag1.toml")).then_some(())
    });
    wait_for("the old level", PATIENCE, || {
        (log(&pod)["level"] == "info").then_some(())
    });
    let said = pod.read("reload.log");
    // Each was asked for once.
    assert_eq!(said.matches("kubectl rollout restart").count(), 2, "{said}");

    assert_eq!(reload.terminate(), Some(0));
    assert_eq!(gateway.terminate(), Some(0), "{}", pod.read("gateway.log"));
    assert!(!pod.path("run/flowmob.sock").exists());
}
