//! A Debian system with systemd that is booted in a container (systemd-nspawn), without a network but its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deploy::wait_for;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::base::base;
use super::{as_told, kept, ok, page};

/// What DPDK looks at is not in the part of /sys that such a container has.
const SYS: &str = "--bind-ro=/sys/module";

/// A root directory, not booted. It is in memory, and only its thread and what that starts can see it: so it is made and
/// removed quickly, and none of its files can be left behind.
#[derive(Debug)]
pub struct System {
    root: TempDir,
    /// All of them would be in one control group.
    _alone: MutexGuard<'static, ()>,
}

impl System {
    /// A minimal system with systemd, where these packages, files that are with `root`, can be installed: what they depend
    /// on is downloaded, as there is no network once it is booted.
    pub fn ready_for(packages: &[&Path]) -> Self {
        static ONE: Mutex<()> = Mutex::new(());
        let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let root = in_memory();
        ok(Command::new("tar")
            .arg("-xf")
            .arg(base())
            .arg("-C")
            .arg(root.path()));
        let system = Self {
            root,
            _alone: alone,
        };
        // Nobody is there to say yes.
        let answers = "APT::Get::Assume-Yes \"true\";\nAPT::Install-Recommends \"false\";\n";
        std::fs::write(system.path("etc/apt/apt.conf.d/answers"), answers).unwrap();
        let names: Vec<String> = packages.iter().map(|path| system.bring(path)).collect();
        system.apt("update");
        system.apt("install systemd systemd-sysv dbus");
        system.apt(&format!("install --download-only {}", names.join(" ")));
        system
    }

    /// Has apt-get do something in it, before it is booted.
    pub fn apt(&self, arguments: &str) {
        let shell = format!("DEBIAN_FRONTEND=noninteractive apt-get -q {arguments}");
        ok(&mut self.command(&shell));
    }

    /// Copies a file into it; its name there.
    pub fn bring(&self, file: &Path) -> String {
        let name = file.file_name().unwrap().to_str().unwrap();
        std::fs::copy(file, self.path("root").join(name)).unwrap();
        format!("/root/{name}")
    }

    /// A path in it, seen from outside.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.root.path().join(inside)
    }

    /// A shell command in it, with this machine's network.
    fn command(&self, shell: &str) -> Command {
        let mut command = nspawn(self.root.path());
        command.args(["--as-pid2", "--resolv-conf=copy-host", "sh", "-ec", shell]);
        command
    }

    /// Boots it.
    pub fn boot(self) -> Booted {
        let mut command = nspawn(self.root.path());
        command.args([SYS, "--private-network", "--console=pipe", "--boot"]);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let booted = Booted {
            child,
            system: self,
        };
        wait_for("a system that runs", Duration::from_mins(1), || {
            booted.init()?;
            let state = booted
                .command("systemctl is-system-running")
                .output()
                .unwrap();
            let state = String::from_utf8(state.stdout).unwrap();
            matches!(state.trim(), "running" | "degraded").then_some(())
        });
        booted
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let _ = umount2(self.root.path(), MntFlags::MNT_DETACH);
    }
}

fn in_memory() -> TempDir {
    let directory = tempfile::tempdir_in(kept()).unwrap();
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let tmpfs = Some("tmpfs");
    mount(
        tmpfs,
        directory.path(),
        tmpfs,
        MsFlags::empty(),
        Some("mode=755"),
    )
    .unwrap();
    directory
}

fn nspawn(root: &Path) -> Command {
    let mut command = Command::new("systemd-nspawn");
    // No service of this machine need run for it.
    command.args(["--quiet", "--register=no", "--keep-unit"]);
    command.arg("-D").arg(root);
    command
}

/// A system that runs; ended when dropped.
#[derive(Debug)]
pub struct Booted {
    child: Child,
    system: System,
}

impl Booted {
    /// Its first process, as this machine numbers it.
    fn init(&self) -> Option<u32> {
        let id = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// A shell command in it.
    pub fn command(&self, shell: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--all", "--target", &self.init().unwrap().to_string()]);
        command.args(["sh", "-c", shell]);
        command
    }

    /// Runs a command of a document, where root logs in; it has to end and print as that says.
    #[track_caller]
    pub fn as_told(&self, command: &page::Command) {
        let shell = format!("cd /root && {}", command.text);
        as_told(
            command,
            self.command(&shell)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        );
    }

    /// Runs a shell command that has to succeed; what it printed.
    #[track_caller]
    pub fn ok(&self, shell: &str) -> String {
        ok(&mut self.command(shell))
    }

    /// The system, for its files.
    pub fn system(&self) -> &System {
        &self.system
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // It powers the system off at the first, and ends whatever happens at the second.
        for (signal, patience) in [(Signal::SIGTERM, 100), (Signal::SIGKILL, 100)] {
            let _ = kill(Pid::from_raw(self.child.id().cast_signed()), signal);
            for _ in 0..patience {
                if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}
