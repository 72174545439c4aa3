//! The mobile node's build: what it has, what it has not, and a run of it on a veth pair in a namespace.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::common::packages::small;
use deploy::{leave_out, root, run, said, wait_for};

const PATIENCE: Duration = Duration::from_secs(15);

/// A namespace with an access and its other end, removed when dropped, with the process in it.
struct Machine {
    namespace: String,
    process: Option<Child>,
}

impl Machine {
    fn new() -> Self {
        let machine = Self {
            namespace: format!("fmsmall{}", std::process::id()),
            process: None,
        };
        let name = machine.namespace.as_str();
        ip(&["netns", "add", name]);
        let pair = ["type", "veth", "peer", "name", "far0"];
        ip(&[&["-n", name, "link", "add", "wlan0"], &pair[..]].concat());
        ip(&["-n", name, "link", "set", "far0", "up"]);
        machine
    }

    fn inside(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace])
            .arg(program);
        command
    }

    fn ipv6_is_off(&self) -> bool {
        let mut command = self.inside(Path::new("cat"));
        let output = run(command.arg("/proc/sys/net/ipv6/conf/wlan0/disable_ipv6"));
        assert!(output.status.success(), "{}", said(&output));
        said(&output).trim() == "1"
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.namespace])
            .status();
    }
}

fn ip(arguments: &[&str]) {
    let output = run(Command::new("ip").args(arguments));
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
}

/// Runs a command of the program to its end.
fn tell(program: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    run(command.args(arguments).env_remove("FLOWMOB_SOCKET"))
}

#[test]
fn the_small_build_runs_a_mobile_node_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let program = small();
    it_has_no_appliance(program, directory.path());
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        it_runs(program, directory.path());
    } else {
        leave_out("network namespaces need root");
    }
}

fn it_has_no_appliance(program: &Path, directory: &Path) {
    let tell = |arguments: &[&str]| tell(program, arguments);
    let help = said(&tell(&["--help"]));
    for command in [
        "run",
        "check",
        "show",
        "top",
        "events",
        "flow",
        "health",
        "dashboard",
    ] {
        assert!(
            help.contains(&format!("\n  {command} ")),
            "{command}:\n{help}"
        );
    }
    for command in ["lab", "doctor", "capture", "keys", "recorder", "replay"] {
        let output = tell(&[command]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        assert!(
            said(&output).contains("unrecognized subcommand"),
            "{command}"
        );
    }
    let examples = root().join("config/examples");
    let example = |name: &str| examples.join(name).to_str().unwrap().to_owned();
    let output = tell(&["check", "--config", &example("mn.toml")]);
    assert!(output.status.success(), "{}", said(&output));
    let lma = directory.join("lma.toml");
    let text = "[[port]]\nname = \"core\"\ndevice = \"ring\"\naddresses = [\"2001:db8:f::1/64\"]\n\
                [lma]\naddress = \"2001:db8:f::1\"\npools = [\"2001:db8:100::/48\"]\n";
    fs::write(&lma, text).unwrap();
    let output = tell(&["run", "--config", lma.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("it runs [mn] only"),
        "{}",
        said(&output)
    );
}

fn it_runs(program: &Path, directory: &Path) {
    let socket = directory.join("mn.sock");
    let config = directory.join("mn.toml");
    let text = format!(
        "name = \"mn1\"\n[management]\nsocket = \"{}\"\n\
         [mn]\ninterface = \"lif0\"\ninterface_id = \"::100\"\n\
         [[mn.access]]\nname = \"wifi\"\ninterface = \"wlan0\"\n\
         [[mn.access]]\nname = \"modem\"\ninterface = \"wwan0\"\n",
        socket.display()
    );
    fs::write(&config, text).unwrap();
    let mut machine = Machine::new();
    let log = directory.join("log");
    let mut command = machine.inside(program);
    command.args(["run", "--config"]).arg(&config);
    command
        .stdin(Stdio::null())
        .stderr(fs::File::create(&log).unwrap());
    machine.process = Some(command.spawn().unwrap());
    let ask = |arguments: &[&str]| {
        let socket = socket.to_str().unwrap();
        tell(program, &[&["--socket", socket], arguments].concat())
    };
    let shown = wait_for("its access", PATIENCE, || {
        let output = ask(&["show", "mn"]);
        let text = said(&output);
        (output.status.success() && text.contains("wlan0")).then_some(text)
    });
    assert!(shown.contains("modem") && shown.contains("down"), "{shown}");
    assert!(machine.ipv6_is_off());
    let status = said(&ask(&["show", "status"]));
    assert!(
        status.starts_with("mn1 (mn) version ") && status.contains(": not ready,"),
        "{status}"
    );
    let health = ask(&["health"]);
    assert_eq!(health.status.code(), Some(1));
    assert!(
        said(&health).contains("\"accesses_down\":[\"wifi\",\"modem\"]"),
        "{}",
        said(&health)
    );
    assert!(ask(&["health", "--live"]).status.success());
    let events = said(&ask(&["events"]));
    assert!(events.contains("access modem (wwan0) is down"), "{events}");
    let ports = ask(&["show", "ports"]);
    assert_eq!(ports.status.code(), Some(1));
    assert!(
        said(&ports).contains("this process is a mobile node"),
        "{}",
        said(&ports)
    );

    let process = machine.process.as_mut().unwrap();
    let id = process.id().to_string();
    assert!(
        run(Command::new("kill").args(["-TERM", &id]))
            .status
            .success()
    );
    let ended = wait_for("its end", PATIENCE, || process.try_wait().unwrap());
    assert!(
        ended.success(),
        "{ended}:\n{}",
        fs::read_to_string(&log).unwrap()
    );
    assert!(!machine.ipv6_is_off());
    assert!(!socket.exists());
}
