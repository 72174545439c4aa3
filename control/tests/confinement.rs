//! Whom a process becomes that root starts, and what is said if it cannot. That it then does all that it did is shown where
//! the kernel is its other end, in `kernel_lma.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::appliances::{LMAA, MAGS};
use common::process::{Appliance, FLOWMOB, Said, Threads, flowmob};
use common::{has_tool, is_root, program_for_anybody};
use nix::sys::signal::Signal;
use tempfile::TempDir;

/// Nobody in particular: this number has no name.
const USER: u32 = 54_322;

/// A directory that anybody may enter, and only this user may write to.
fn open_to(user: u32) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    chown(directory.path(), Some(user), Some(user)).unwrap();
    directory
}

/// An LMA whose port needs no rights; all that it makes is below `directory`.
fn config(directory: &Path, process: &str, keys: &str) -> String {
    let socket = directory.join("run/deep/x.sock");
    let state = directory.join("lib/deep/x");
    format!(
        "[process]\nmemory_mib = 64\nstate_directory = \"{}\"\n{process}\n\
         [management]\nsocket = \"{}\"\n\
         [[port]]\nname = \"core\"\ndevice = \"ring\"\naddresses = [\"{LMAA}/64\"]\n\
         [lma]\naddress = \"{LMAA}\"\npools = [\"2001:db8:100::/48\"]\n\
         [[lma.peer]]\nname = \"mag1\"\naddress = \"{}\"\n{keys}\n",
        state.display(),
        socket.display(),
        MAGS[0],
    )
}

fn file(directory: &Path, config: &str) -> PathBuf {
    let path = directory.join("x.toml");
    fs::write(&path, config).unwrap();
    path
}

fn command(what: &str, file: &Path) -> Command {
    let mut command = Command::new(FLOWMOB);
    command.args([what, "--config"]).arg(file);
    command
}

const OPEN: &str = "protection = \"none\"";

/// The threads of a process whose loops all turn, so that they have given up what they do not need.
fn at_work(process: &Appliance) -> Threads {
    assert_eq!(process.http("GET /livez").0, 200);
    process.threads()
}

/// What it has to write to is made for the user, and keys are that user's.
#[test]
fn root_makes_what_the_user_needs() {
    if !is_root() {
        return;
    }
    let directory = open_to(0);
    let here = directory.path();
    let [mine, theirs] = ["mine", "theirs"].map(|name| here.join(name));
    let paths = [&mine, &theirs].map(|path| path.to_str().unwrap());
    flowmob(["keys", "generate", "--lma", paths[0], "--mag", paths[1]]).ok();
    chown(&mine, Some(USER), Some(USER)).unwrap();
    let process = format!("user = \"{USER}\"");
    let text = config(here, &process, "keys = \"mine\"");
    let path = file(here, &text);
    let said = Said::of(&mut command("check", &path)).ok();
    assert!(said.ends_with("is a valid configuration\n"), "{said}");
    assert!(!here.join("lib").exists(), "a look changes nothing");

    let socket = here.join("run/deep/x.sock");
    let lma = Appliance::start_at(here, "x", &socket, &text);
    for made in [
        "run",
        "run/deep",
        "lib",
        "lib/deep",
        "lib/deep/x",
        "run/deep/dpdk",
    ] {
        let metadata = fs::metadata(here.join(made)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (USER, USER), "{made}");
    }
    let mode = fs::metadata(here.join("lib/deep/x")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o700);
    let said = lma.command(["keys", "reload"]).ok();
    assert!(!said.is_empty());
    let thread = &at_work(&lma)["flowmob"];
    assert_eq!(thread["CapBnd"], "0000000000000000");
    assert!(lma.stop(Signal::SIGTERM).success());
    assert!(!socket.exists());
}

#[test]
fn what_stands_in_the_way_is_said_with_the_way_out() {
    if !is_root() {
        return;
    }
    let directory = open_to(0);
    let here = directory.path();
    let process = format!("user = {USER}");
    let refused = |text: &str| {
        let path = file(here, text);
        let [check, run] = ["check", "run"].map(|what| Said::of(&mut command(what, &path)).fails());
        (check, run)
    };
    let both = |text: &str, words: &[&str]| {
        let (check, run) = refused(text);
        for word in words {
            assert!(check.contains(word), "{word}: {check}");
            assert!(run.contains(word), "{word}: {run}");
        }
        assert!(!here.join("run/deep/x.sock").exists());
    };
    let nobody = config(here, "user = \"no-such-user\"", OPEN);
    both(&nobody, &["there is no user no-such-user", "useradd"]);
    assert!(!here.join("lib").exists());

    // The configuration itself.
    let path = file(here, "");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let text = config(here, &process, OPEN);
    both(&text, &["x.toml: not readable by user 54322", "chmod 640"]);
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let _ = fs::remove_dir_all(here.join("lib"));
    let _ = fs::remove_dir_all(here.join("run"));

    // Keys and token.
    let [mine, theirs] = ["mine", "theirs"].map(|name| here.join(name));
    let paths = [&mine, &theirs].map(|path| path.to_str().unwrap());
    flowmob(["keys", "generate", "--lma", paths[0], "--mag", paths[1]]).ok();
    let text = config(here, &process, "keys = \"mine\"");
    let unreadable = "mine: the key file cannot be read by user 54322: Permission denied";
    both(&text, &[unreadable]);
    fs::set_permissions(&mine, Permissions::from_mode(0o600)).unwrap();
    fs::write(here.join("token"), "0123456789abcdef0123\n").unwrap();
    fs::set_permissions(here.join("token"), Permissions::from_mode(0o600)).unwrap();
    let text = config(here, &process, OPEN).replace(
        "[management]\n",
        "[management]\ntcp = \"127.0.0.1:0\"\ntoken_file = \"token\"\n",
    );
    both(
        &text,
        &["token: the token file cannot be read by user 54322"],
    );

    // A state that root has kept there.
    let _ = fs::remove_dir_all(here.join("lib"));
    let state = here.join("lib/deep/x");
    fs::create_dir_all(&state).unwrap();
    let text = config(here, &process, OPEN);
    both(
        &text,
        &["lib/deep/x: not writable by user 54322", "chown 54322"],
    );
    chown(&state, Some(USER), Some(USER)).unwrap();
    fs::create_dir(state.join("records")).unwrap();
    both(
        &text,
        &["records: belongs to another user", "chown -R 54322"],
    );
}

/// Who is not root is who he is: it cannot become another, and gives up what its ports do not need.
#[test]
fn others_stay_who_they_are() {
    if !is_root() || !has_tool("setpriv") {
        return;
    }
    let programs = tempfile::tempdir().unwrap();
    let program = program_for_anybody(programs.path());
    let directory = open_to(USER);
    let here = directory.path();
    let as_user = |file: &Path| {
        let mut command = Command::new("setpriv");
        let user = format!("--reuid={USER}");
        command
            .args([&user, "--regid=54322", "--clear-groups", "--"])
            .arg(&program)
            .args(["run", "--config"])
            .arg(file);
        command
    };
    let other = file(here, &config(here, "user = 54323", OPEN));
    let said = Said::of(&mut as_user(&other)).fails();
    assert!(
        said.contains("this process is user 54322, and only root can become 54323"),
        "{said}"
    );
    assert!(said.contains("start it as root or as 54323"), "{said}");

    let same = file(here, &config(here, "user = 54322", OPEN));
    let socket = here.join("run/deep/x.sock");
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    chown(socket.parent().unwrap(), Some(USER), Some(USER)).unwrap();
    fs::create_dir_all(here.join("lib")).unwrap();
    chown(here.join("lib"), Some(USER), Some(USER)).unwrap();
    let lma = Appliance::start_command(as_user(&same), here, "x", &socket);
    let threads = at_work(&lma);
    assert_eq!(threads["flowmob"]["Uid"].split(' ').next(), Some("54322"));
    assert_eq!(threads["worker-0"]["Seccomp"], "2");
    assert!(lma.stop(Signal::SIGTERM).success());
}

#[test]
fn filters_can_be_left_out() {
    let directory = tempfile::tempdir().unwrap();
    for (how, shown) in [("off", "0"), ("log", "2"), ("refuse", "2")] {
        let text = config(directory.path(), &format!("seccomp = \"{how}\""), OPEN);
        let socket = directory.path().join("run/deep/x.sock");
        let lma = Appliance::start_at(directory.path(), "x", &socket, &text);
        let threads = at_work(&lma);
        for name in ["worker-0", "control", "management", "recorder"] {
            assert_eq!(threads[name]["Seccomp"], shown, "{how}: {name}");
        }
        assert_eq!(threads["flowmob"]["Seccomp"], "0");
        assert!(lma.stop(Signal::SIGTERM).success());
    }
}
