//! `flowmob` as a child process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::wait_for;

/// The program under test.
pub const FLOWMOB: &str = env!("CARGO_BIN_EXE_flowmob");

/// Runs the program to its end.
pub fn flowmob<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Said {
    Said::of(Command::new(FLOWMOB).args(arguments))
}

/// What a program said, and whether it was content.
#[derive(Debug)]
pub struct Said {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn of(command: &mut Command) -> Self {
        let command = command.env_remove("FLOWMOB_SOCKET").stdin(Stdio::null());
        command.output().unwrap().into()
    }

    /// Standard output of a success without complaints.
    pub fn ok(self) -> String {
        assert!(self.status.success(), "{self:?}");
        assert_eq!(self.err, "", "{self:?}");
        self.out
    }

    /// Standard error of an ordinary failure that printed nothing else.
    pub fn fails(self) -> String {
        assert_eq!(self.status.code(), Some(1), "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        self.err
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
        Self {
            status: output.status,
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

/// What the kernel says of threads, by their names: the lines of `status`, by theirs.
pub type Threads = BTreeMap<String, BTreeMap<String, String>>;

/// A running `flowmob run` and its management socket. Ended when dropped.
#[derive(Debug)]
pub struct Appliance {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Appliance {
    /// Starts an appliance in `directory` with this configuration, to which the socket is added here, and
    /// waits until it is ready.
    pub fn start(directory: &Path, name: &str, namespace: Option<&str>, config: &str) -> Self {
        let file = |suffix: &str| directory.join(format!("{name}.{suffix}"));
        let socket = file("sock");
        let management = format!("[management]\nsocket = \"{}\"\n", socket.display());
        let config = if config.contains("[management]\n") {
            config.replace("[management]\n", &management)
        } else {
            format!("{config}\n{management}")
        };
        let config = format!("name = \"{name}\"\n{config}");
        std::fs::write(file("toml"), config).unwrap();
        let mut command = program_in(namespace);
        command.args(["run", "--config"]).arg(file("toml"));
        Self::start_command(command, directory, name, &socket)
    }

    /// Starts an appliance with a configuration that says where its socket is.
    pub fn start_at(directory: &Path, name: &str, socket: &Path, config: &str) -> Self {
        let file = directory.join(format!("{name}.toml"));
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(FLOWMOB);
        command.args(["run", "--config"]).arg(file);
        Self::start_command(command, directory, name, socket)
    }

    /// Starts an appliance by a command, and waits until it is ready.
    pub fn start_command(
        mut command: Command,
        directory: &Path,
        name: &str,
        socket: &Path,
    ) -> Self {
        let (socket, log) = (socket.to_owned(), directory.join(format!("{name}.log")));
        let said = File::create(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap();
        let mut appliance = Self { child, socket, log };
        let socket = appliance.socket.clone();
        wait_for(
            &format!("readiness of {name}"),
            Duration::from_secs(30),
            || {
                let ended = appliance.child.try_wait().unwrap();
                assert_eq!(ended, None, "{}", appliance.log());
                let answer = asked(&socket, "GET /v1/status").ok()?;
                (answer.0 == 200).then_some(())
            },
        );
        appliance
    }

    /// Has another process with the same configuration take its place, and waits until that is ready.
    pub fn taken_over(mut self, directory: &Path, name: &str, namespace: Option<&str>) -> Self {
        let said = File::options().append(true).open(&self.log).unwrap();
        let child = program_in(namespace)
            .args(["run", "--take-over", "--config"])
            .arg(directory.join(format!("{name}.toml")))
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap();
        let (socket, log) = (self.socket.clone(), self.log.clone());
        let mut new = Self { child, socket, log };
        let patience = Duration::from_secs(30);
        let former = wait_for("the end of the former process", patience, || {
            let ended = new.child.try_wait().unwrap();
            assert_eq!(ended, None, "{}", new.log());
            self.child.try_wait().unwrap()
        });
        assert!(former.success(), "{}", new.log());
        wait_for("readiness of the new process", patience, || {
            let ended = new.child.try_wait().unwrap();
            assert_eq!(ended, None, "{}", new.log());
            let answer = asked(&new.socket, "GET /v1/status").ok()?;
            (answer.0 == 200).then_some(())
        });
        new
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the kernel says of each of its threads.
    pub fn threads(&self) -> Threads {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        let threads = tasks.map(|task| {
            let text = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let lines = text.lines().filter_map(|line| line.split_once(":\t"));
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            let lines: BTreeMap<_, _> = lines.map(|(k, v)| (k.to_owned(), words(v))).collect();
            (lines["Name"].clone(), lines)
        });
        threads.collect()
    }

    /// Runs a command that speaks to it.
    pub fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Said {
        Said::of(
            Command::new(FLOWMOB)
                .arg("--socket")
                .arg(&self.socket)
                .args(arguments),
        )
    }

    /// One of its tables, as `show --json` prints it.
    pub fn show(&self, what: &str) -> Vec<Value> {
        serde_json::from_str(&self.command(["show", what, "--json"]).ok()).unwrap()
    }

    /// One request as others than our own client make them: `GET /path`. Gives status and body, as far as that is
    /// text.
    pub fn http(&self, request: &str) -> (u16, String) {
        asked(&self.socket, request).unwrap()
    }

    /// How often it dropped a packet for this reason.
    pub fn drops(&self, reason: &str) -> u64 {
        let rows = self.show("drops");
        let row = rows.iter().find(|row| row["reason"] == reason);
        row.map_or(0, |row| row["packets"].as_u64().unwrap())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id().try_into().unwrap()), signal).unwrap();
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Tells it to end, and returns how it did.
    pub fn stop(mut self, signal: Signal) -> ExitStatus {
        let id = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(id, signal).unwrap();
        wait_for("end of the process", Duration::from_secs(10), || {
            self.child.try_wait().unwrap()
        })
    }
}

/// The program, to be run in a namespace.
fn program_in(namespace: Option<&str>) -> Command {
    match namespace {
        Some(namespace) => {
            let mut command = Command::new("nsenter");
            command
                .arg(format!("--net=/run/netns/{namespace}"))
                .arg(FLOWMOB);
            command
        }
        None => Command::new(FLOWMOB),
    }
}

/// A request on a socket, and the answer's status and body. Fails if nobody listens, or goes without an answer.
fn asked(socket: &Path, request: &str) -> std::io::Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket)?;
    let request = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok((status, body.to_owned()))
}

impl Drop for Appliance {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Nothing more can be done about a child that cannot be ended.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            // Its directory may have gone before it.
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            println!("---- what it logged\n{log}");
        }
    }
}
