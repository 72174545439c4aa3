//! A Docker engine of the tests' own, with Debian's packages.
//!
//! Images are built with this machine's network, as that is where packages come from; what they are then tried with
//! runs in an engine whose networks are in a namespace of their own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use deploy::{root, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::base::base;
use super::{as_told, is_newer, kept, ok, page};

/// What images are made of; a registry would have it by this name.
const BASE: &str = "debian:bookworm-slim";

/// Debian's client, where there is another one too.
const CLIENT: &str = "/usr/bin/docker";

/// Where an engine's networks are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Networks {
    /// On this machine.
    Here,
    /// In a namespace of their own.
    Apart,
}

/// A running engine; ended when dropped. Its images stay.
#[derive(Debug)]
pub struct Engine {
    child: Child,
    socket: PathBuf,
}

impl Engine {
    pub fn start(networks: Networks) -> Self {
        let directory = kept().join("docker");
        std::fs::create_dir_all(&directory).unwrap();
        let socket = directory.join("socket");
        let log = File::create(directory.join("log")).unwrap();
        let mut command = match networks {
            Networks::Here => Command::new("dockerd"),
            Networks::Apart => {
                let mut command = Command::new("unshare");
                command.args(["--net", "dockerd"]);
                command
            }
        };
        let options = [
            ("--data-root", directory.join("data")),
            ("--exec-root", directory.join("run")),
            ("--pidfile", directory.join("pid")),
        ];
        for (option, path) in options {
            command.arg(option).arg(path);
        }
        // No rules of a firewall are needed: no network leads out.
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
        command.arg(format!("--host=unix://{}", socket.display()));
        let child = command
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let engine = Self { child, socket };
        wait_for("a Docker engine", Duration::from_mins(1), || {
            let answer = engine.docker(&["version"]).output().unwrap();
            answer.status.success().then_some(())
        });
        engine
    }

    fn with(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.env("DOCKER_HOST", format!("unix://{}", self.socket.display()));
        command.env("DOCKER_BUILDKIT", "1");
        command.env("COMPOSE_PROJECT_NAME", "flowmob-test");
        command.args(arguments).current_dir(root());
        command
    }

    /// `docker ...`.
    pub fn docker(&self, arguments: &[&str]) -> Command {
        let client = Path::new(CLIENT);
        self.with(if client.exists() { CLIENT } else { "docker" }, arguments)
    }

    /// `docker-compose ...` with the project's file.
    pub fn compose(&self, arguments: &[&str]) -> Command {
        let file = ["-f", "docker/compose.yaml"];
        self.with("docker-compose", &[&file, arguments].concat())
    }

    /// Runs a command of a document as it is typed on a terminal, in a directory; it has to end and print as that says.
    #[track_caller]
    pub fn as_told(&self, command: &page::Command, directory: &Path) {
        let path = std::env::var("PATH").unwrap();
        let mut shell = self.with("script", &["-qec", &command.text, "/dev/null"]);
        shell.env("PATH", format!("/usr/bin:{path}"));
        as_told(command, shell.current_dir(directory));
    }

    /// Has the base image there.
    pub fn import_base(&self) {
        let (archive, mark) = (base().to_owned(), kept().join("docker/base-imported"));
        let known = self.docker(&["image", "inspect", BASE]).output().unwrap();
        if !known.status.success() || !is_newer(&mark, std::slice::from_ref(&archive)) {
            ok(&mut self.docker(&["import", archive.to_str().unwrap(), BASE]));
            std::fs::write(mark, "").unwrap();
        }
    }

    /// A process's number on this machine: a container's first one.
    pub fn process(&self, container: &str) -> u32 {
        let format = ["inspect", "--format", "{{.State.Pid}}", container];
        ok(&mut self.docker(&format)).trim().parse().unwrap()
    }

    /// A field of a container's state.
    pub fn state(&self, container: &str, field: &str) -> String {
        let format = format!("{{{{.State.{field}}}}}");
        ok(&mut self.docker(&["inspect", "--format", &format, container]))
            .trim()
            .to_owned()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        );
        // It ends its containers first.
        for _ in 0..300 {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
    }
}
