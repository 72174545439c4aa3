//! How processes start and end, and what they say if they cannot; configurations that are only checked.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::appliances::{LMAA, MAGS, PROCESS, mag};
use common::process::{Appliance, FLOWMOB, Said, flowmob};
use common::{has_tool, is_root, program_for_anybody, unique, wait_for};
use nix::sys::signal::Signal;

#[test]
fn a_process_ends_when_told_and_takes_its_socket_along() {
    let directory = tempfile::tempdir().unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mag = mag(&directory);
        let socket = mag.socket().to_owned();
        let dpdk = Path::new("/run/dpdk").join(format!("flowmob-{}", mag.id()));
        assert!(mag.stop(signal).success());
        assert!(!socket.exists(), "{signal}");
        assert!(!dpdk.exists(), "{signal}");
    }
    // What a killed one leaves is no hindrance.
    let killed = mag(&directory);
    let socket = killed.socket().to_owned();
    let dpdk = Path::new("/run/dpdk").join(format!("flowmob-{}", killed.id()));
    // Afterwards whoever starts next takes it away, which may be another test's process.
    assert!(dpdk.exists());
    assert!(!killed.stop(Signal::SIGKILL).success());
    assert!(socket.exists());
    let said = Said::of(
        Command::new(FLOWMOB)
            .arg("--socket")
            .arg(&socket)
            .args(["show", "status"]),
    );
    assert!(said.fails().contains("is it running"));
    fs::remove_file(directory.path().join("mag.log")).unwrap();
    let socket = std::os::unix::net::UnixStream::connect(&socket);
    assert!(socket.is_err(), "nobody listens");
    let again = mag(&directory);
    again.command(["show", "status"]).ok();
    assert!(!dpdk.exists(), "nobody's");
    assert!(again.stop(Signal::SIGTERM).success());
}

#[test]
fn a_process_takes_the_place_of_its_former_self_and_of_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let former = mag(&directory);
    let (socket, pid) = (former.socket().to_owned(), former.id());
    // The configuration of another process, which has the same socket: it is not that one which is to end.
    let config = fs::read_to_string(directory.path().join("mag.toml")).unwrap();
    let other = config.replacen("name = \"mag\"", "name = \"other\"", 1);
    assert_ne!(other, config);
    let path = directory.path().join("other.toml");
    fs::write(&path, other).unwrap();
    let said = flowmob(["run", "--take-over", "--config", path.to_str().unwrap()]).fails();
    assert!(said.contains("is mag, not other"), "{said}");
    // So does one that could not run.
    fs::write(&path, config.replacen("[mag]", "[gam]", 1)).unwrap();
    flowmob(["run", "--take-over", "--config", path.to_str().unwrap()]).fails();
    let status = former.command(["show", "status"]).ok();
    assert!(status.contains("mag"), "{status}");

    let mut now = former.taken_over(directory.path(), "mag", None);
    assert_ne!(now.id(), pid);
    assert!(now.log().contains("taking over"), "{}", now.log());
    now.command(["show", "status"]).ok();

    // Where nobody is, it is a start like any other: also where somebody was killed.
    now.kill();
    assert!(socket.exists());
    let mut command = Command::new(FLOWMOB);
    let file = directory.path().join("mag.toml");
    command.args(["run", "--take-over", "--config"]).arg(&file);
    let again = Appliance::start_command(command, directory.path(), "mag", &socket);
    assert!(again.log().contains("like any other"), "{}", again.log());
    assert!(again.stop(Signal::SIGUSR1).success());
}

/// Runs a configuration that cannot be run, and returns what is said.
fn refused(directory: &Path, program: &mut Command, config: &str) -> String {
    let path = directory.join("wrong.toml");
    fs::write(&path, config).unwrap();
    let mut child = program
        .args(["run", "--config"])
        .arg(&path)
        .env_remove("FLOWMOB_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut waited = Duration::ZERO;
    while child.try_wait().unwrap().is_none() {
        let step = Duration::from_millis(20);
        std::thread::sleep(step);
        waited += step;
        if waited > Duration::from_secs(20) {
            child.kill().unwrap();
        }
    }
    Said::from(child.wait_with_output().unwrap()).fails()
}

fn one_port(device: &str, socket: &Path, process: &str) -> String {
    format!(
        "[process]\n{process}\n[management]\nsocket = \"{}\"\n\
         [[port]]\nname = \"core\"\ndevice = \"{device}\"\naddresses = [\"{LMAA}/64\"]\n\
         [lma]\naddress = \"{LMAA}\"\npools = [\"2001:db8:100::/48\"]\n\
         [[lma.peer]]\nname = \"mag1\"\naddress = \"{}\"\nprotection = \"none\"\n",
        socket.display(),
        MAGS[0],
    )
}

#[test]
fn what_cannot_start_says_why_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let socket = here.join("x.sock");
    let small = "memory_mib = 64";
    let run = |config: &str| refused(here, &mut Command::new(FLOWMOB), config);

    let said = run(&one_port("af_packet:nosuch0", &socket, small));
    assert!(
        said.contains(
            "port core: af_packet:nosuch0: this network namespace has no interface \"nosuch0\""
        ),
        "{said}"
    );
    let said = run(&one_port("ring", &socket, "memory_mib = 64\nworkers = 16"));
    assert!(said.contains("set [process] memory_mib to "), "{said}");
    let said = run(&one_port("ring", &socket, "memory_mib = 1000000"));
    assert!(said.contains("1000000 MiB of memory needed"), "{said}");
    let said = run(&one_port(
        "pcap:/nonexistent/in,/nonexistent/out",
        &socket,
        small,
    ));
    assert!(
        said.contains("port core") && said.contains("/nonexistent/in"),
        "{said}"
    );
    let said = run(&one_port("ring", Path::new("/proc/flowmob/x.sock"), small));
    assert!(
        said.contains("cannot make the directory /proc/flowmob"),
        "{said}"
    );
    let lost = "memory_mib = 64\nstate_directory = \"/proc/flowmob/state\"";
    let said = run(&one_port("ring", &socket, lost));
    assert!(
        said.contains("cannot make the directory /proc/flowmob/state")
            && said.contains("state_directory"),
        "{said}"
    );
    assert!(!socket.exists());
    fs::write(&socket, "not a socket").unwrap();
    let said = run(&one_port("ring", &socket, small));
    assert!(said.contains("x.sock is there and is no socket"), "{said}");
    assert_eq!(
        fs::read_to_string(&socket).unwrap(),
        "not a socket",
        "somebody's file is kept"
    );
    fs::remove_file(&socket).unwrap();

    let said = run("name = \"x\"\nnonsense = 1\n");
    assert!(
        said.contains("cannot be run") && said.contains("nonsense"),
        "{said}"
    );
    let said =
        Said::of(Command::new(FLOWMOB).args(["run", "--config", "/nonexistent.toml"])).fails();
    assert!(said.contains("/nonexistent.toml"), "{said}");

    let first = mag(&directory);
    let said = run(&one_port("ring", first.socket(), small));
    let expected = format!("another process answers on {}", first.socket().display());
    assert!(said.contains(&expected), "{said}");
    assert!(
        first.command(["show", "status"]).ok().contains("ready"),
        "the first one lives"
    );
}

#[test]
fn without_rights_a_tap_says_what_is_missing() {
    if !is_root() || !has_tool("setpriv") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = program_for_anybody(directory.path());
    let work = tempfile::tempdir().unwrap();
    fs::set_permissions(work.path(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(work.path(), Some(65534), Some(65534)).unwrap();
    let config = one_port(
        "tap:fmtest0",
        &work.path().join("x.sock"),
        "memory_mib = 64",
    );
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(program);
    command.env("XDG_RUNTIME_DIR", work.path());
    let said = refused(work.path(), &mut command, &config);
    assert!(
        said.contains("tap:fmtest0 needs CAP_NET_ADMIN: run as root, or `setcap"),
        "{said}"
    );
}

#[test]
fn check_says_yes_or_what_is_wrong_and_where() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.toml");
    let path_text = path.to_str().unwrap();
    fs::write(&path, one_port("ring", Path::new("/run/x.sock"), "")).unwrap();
    let said = flowmob(["check", "--config", path_text]).ok();
    let valid = format!("{path_text} is a valid configuration\n");
    let warning = "warning: signalling with this peer is not protected\n";
    assert!(
        said.starts_with(warning) && said.ends_with(&valid),
        "{said}"
    );

    fs::write(&path, "name = \"x\"\n[lma]\naddres = \"2001:db8::1\"\n").unwrap();
    let said = flowmob(["check", "--config", path_text]).fails();
    assert!(said.contains(&format!("{path_text}:3:1")), "{said}");
    assert!(said.contains("addres"), "{said}");

    let missing = unique("missing.toml");
    let said = flowmob(["check", "--config", &missing]).fails();
    assert!(said.contains(&missing), "{said}");
}

#[test]
fn check_reads_the_keys() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.toml");
    let config = one_port("ring", Path::new("/run/x.sock"), "");
    fs::write(
        &path,
        config.replace("protection = \"none\"", "keys = \"mine\""),
    )
    .unwrap();
    let check = || flowmob(["check", "--config", path.to_str().unwrap()]);
    let said = check().fails();
    assert!(said.contains("mine: the key file cannot be read"), "{said}");
    assert!(said.contains("flowmob keys generate"), "{said}");

    let [mine, theirs] = ["mine", "theirs"].map(|name| directory.path().join(name));
    let [lma, mag] = [&mine, &theirs].map(|path| path.to_str().unwrap());
    flowmob(["keys", "generate", "--lma", lma, "--mag", mag]).ok();
    assert_eq!(
        check().ok(),
        format!("{} is a valid configuration\n", path.display())
    );
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(&mine, open).unwrap();
    let said = check().fails();
    assert!(said.contains("this one has 0644"), "{said}");
    assert!(said.contains(&format!("= help: chmod 600 {lma}")), "{said}");
    let said = flowmob(["run", "--config", path.to_str().unwrap()]).fails();
    assert!(said.contains("this one has 0644"), "{said}");
    let keys = fs::read(&mine).unwrap();
    let said = flowmob(["keys", "generate", "--lma", lma, "--mag", mag]).fails();
    assert!(said.contains(&format!("{lma} is there already")), "{said}");
    assert!(said.contains("choose another name"), "{said}");
    assert_eq!(fs::read(&mine).unwrap(), keys);
}

#[test]
fn shells_and_man_know_every_command() {
    let script = flowmob(["completions", "bash"]).ok();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("flowmob.bash");
    fs::write(&file, &script).unwrap();
    let bash = Said::of(Command::new("bash").arg("-n").arg(&file));
    bash.ok();
    let pages = directory.path().join("deep/man");
    flowmob(["man", pages.to_str().unwrap()]).ok();
    let help = flowmob(["--help"]).ok();
    let commands = help.split("Commands:").nth(1).unwrap();
    let commands = commands.split("Options:").next().unwrap();
    let starts = commands
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: Vec<&str> = starts
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names.into_iter().filter(|name| *name != "help") {
        assert!(script.contains(&format!("flowmob,{name})")), "{name}");
        let page = fs::read_to_string(pages.join(format!("flowmob-{name}.1"))).unwrap();
        assert!(page.contains(".TH"), "{name}");
    }
    let below = fs::read_to_string(pages.join("flowmob-flow-move.1")).unwrap();
    assert!(below.contains("\\-\\-fid"), "{below}");
}

#[test]
fn the_command_line_helps() {
    let version = format!("flowmob {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(flowmob(["-V"]).ok(), version);
    let said = flowmob(["--version"]).ok();
    let dpdk = said.strip_prefix(&version).unwrap();
    assert!(
        dpdk.starts_with("DPDK ") && dpdk.lines().count() == 1,
        "{said}"
    );
    let help = flowmob(["--help"]).ok();
    for command in [
        "run", "check", "show", "top", "flow", "keys", "attach", "detach", "lab",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
    }
    let wrong: [(&[&str], &str); 7] = [
        (&[], "Usage: flowmob"),
        (&["show"], "<WHAT>"),
        (
            &["show", "nothing"],
            "possible values: bindings, mobiles, flows, paths",
        ),
        (&["flow", "move", "--mn", "x"], "--fid"),
        (
            &["flow", "add", "--mn", "x", "--bid", "65536"],
            "65536 is not in 0..=65535",
        ),
        (&["lab", "run", "--workers", "0"], "0 is not in 1..=16"),
        (
            &["lab", "run", "--scenario", "triple"],
            "unique, shared, both",
        ),
    ];
    for (arguments, expected) in wrong {
        let said = flowmob(arguments.iter().copied());
        assert_eq!(said.status.code(), Some(2), "{arguments:?}: {said:?}");
        assert!(said.err.contains(expected), "{arguments:?}: {}", said.err);
    }
}

#[test]
fn a_port_that_is_down_is_not_ready_anywhere() {
    let directory = tempfile::tempdir().unwrap();
    let memif = directory.path().join("memif");
    let config = format!(
        "{PROCESS}[[port]]\nname = \"core\"\ndevice = \"memif:{},server,id=0\"\n\
         addresses = [\"{LMAA}/64\"]\n[lma]\naddress = \"{LMAA}\"\npools = [\"2001:db8:100::/48\"]\n",
        memif.display()
    );
    let lma = Appliance::start(directory.path(), "x", None, &config);
    let (status, ready) = lma.http("GET /readyz");
    assert_eq!(
        (status, ready.contains("\"ready\":false")),
        (503, true),
        "{ready}"
    );
    let (_, said) = lma.http("GET /v1/status");
    assert!(said.contains("\"ready\":false"), "{said}");
}

/// Two TAP ports of one name would be one interface, of which each process gets a part of the packets.
#[test]
fn a_tap_interface_is_one_process_s() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let name = format!("fmt{}", std::process::id() % 1_000_000);
    let config = |own: &str| {
        format!(
            "{PROCESS}[[port]]\nname = \"core\"\ndevice = \"tap:{name}\"\naddresses = [\"{own}/64\"]\n\
             [lma]\naddress = \"{own}\"\npools = [\"2001:db8:100::/48\"]\n"
        )
    };
    let first = Appliance::start(directory.path(), "first", None, &config("2001:db8:f::1"));
    // Its address goes out three times, and as often when the link comes back.
    let sent = |times: u64| {
        wait_for("announcements", Duration::from_secs(20), || {
            let sent = first.show("ports")[0]["tx_packets"].as_u64().unwrap();
            (sent >= times).then_some(sent)
        })
    };
    let before = sent(3);
    let link = |state: &str| {
        let set = Command::new("ip")
            .args(["link", "set", &name, state])
            .status();
        assert!(set.unwrap().success());
    };
    link("down");
    wait_for("a link that is down", Duration::from_secs(10), || {
        (first.http("GET /readyz").0 == 503).then_some(())
    });
    let status = first.command(["show", "status", "--json"]).ok();
    assert!(status.contains("\"ready\": false"), "{status}");
    // The control thread has to see it, too.
    std::thread::sleep(Duration::from_secs(1));
    link("up");
    sent(before + 3);

    let socket = directory.path().join("second.sock");
    let second = config("2001:db8:f::2");
    let second = format!("{second}[management]\nsocket = \"{}\"\n", socket.display());
    let said = refused(directory.path(), &mut Command::new(FLOWMOB), &second);
    let expected = format!("tap:{name}: there is an interface {name} already");
    assert!(said.contains(&expected), "{said}");
    assert!(said.contains(&format!("ip link delete {name}")), "{said}");
    assert_eq!(first.http("GET /readyz").0, 200);
    // A killed one keeps nobody out.
    assert!(!first.stop(Signal::SIGKILL).success());
    let again = Appliance::start(directory.path(), "first", None, &config("2001:db8:f::1"));
    assert!(again.stop(Signal::SIGTERM).success());
}
