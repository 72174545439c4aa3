//! Network namespaces, and processes in them.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use deploy::{said, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A namespace, which is there as long as this is.
#[derive(Debug)]
pub struct Namespace {
    holder: Child,
}

impl Namespace {
    /// One with nothing but a loopback interface, which is up.
    pub fn new() -> Self {
        let mut command = Command::new("setpriv");
        // Nothing stays behind, even if this process is killed.
        command.args(["--pdeathsig", "KILL", "unshare", "--net"]);
        let holder = command.args(["sleep", "infinity"]).spawn().unwrap();
        let namespace = Self { holder };
        let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
        wait_for("a namespace", Duration::from_secs(10), || {
            let its = std::fs::read_link(format!("/proc/{}/ns/net", namespace.id()));
            (its.ok()? != ours).then_some(())
        });
        namespace.ip("link set lo up");
        namespace
    }

    /// A process that is in it.
    pub fn id(&self) -> u32 {
        self.holder.id()
    }

    /// A command in it, which ends when this process does.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter"]);
        command.arg(format!("--net=/proc/{}/ns/net", self.id()));
        command.arg(program.as_ref());
        command
    }

    /// Runs `ip` commands, one a line.
    #[track_caller]
    pub fn ip(&self, commands: &str) {
        let mut command = self.command("ip");
        command
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(commands.as_bytes()).unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{commands}: {}", said(&output));
    }

    /// Whether an interface is there.
    pub fn has(&self, interface: &str) -> bool {
        let output = self
            .command("ip")
            .args(["link", "show", interface])
            .output();
        output.unwrap().status.success()
    }

    /// Has its kernel keep silent: it is a wire.
    pub fn no_ipv6(&self) {
        let all = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; \
                   echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6";
        super::ok(self.command("sh").args(["-ec", all]));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A process that runs until this is dropped; then its log is shown if the test has failed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let said = File::create(log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap();
        let log = log.to_owned();
        Self { child, log }
    }

    /// Fails if it has ended.
    pub fn runs(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert_eq!(ended, None, "{}", self.log());
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let id = Pid::from_raw(self.child.id().cast_signed());
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            for round in 0..50 {
                // The number of one that has ended, and was asked for how, may be another's.
                if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                    break;
                }
                if round == 0 {
                    let _ = kill(id, signal);
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        if std::thread::panicking() {
            println!("---- {}\n{}", self.log.display(), self.log());
        }
    }
}
