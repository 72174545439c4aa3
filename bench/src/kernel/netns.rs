//! Network namespaces without a name: the kernel removes them, with the interfaces in them, when
//! the last process that holds one is gone, however it went.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace.
#[derive(Debug)]
pub(super) struct Netns(File);

impl Netns {
    /// Makes one.
    ///
    /// # Errors
    /// No right to.
    pub(super) fn new() -> Result<Self> {
        on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
            Ok(Self(File::open("/proc/thread-self/ns/net")?))
        })
    }

    /// What `ip` takes for its name.
    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Runs `work` on a thread that is inside. Sockets and processes that it makes stay there.
    ///
    /// # Errors
    /// If it cannot be entered, and the error of `work`.
    pub(super) fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_a_thread(|| {
            setns(&self.0, CloneFlags::CLONE_NEWNET).context("entering a network namespace")?;
            work()
        })
    }

    /// Runs `ip -6` commands, one a line.
    ///
    /// # Errors
    /// What `ip` says.
    pub(super) fn ip(&self, commands: &str) -> Result<()> {
        self.enter(|| {
            let mut child = Command::new("ip")
                .args(["-6", "-batch", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .context("cannot run ip: install iproute2")?;
            if let Some(mut input) = child.stdin.take() {
                // Where `ip` stops reading, it says why below.
                let _ = input.write_all(commands.as_bytes());
            }
            let output = child.wait_with_output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "ip: {}", said.trim());
            Ok(())
        })
    }

    /// Writes values below `/proc/sys/net/ipv6/conf`.
    ///
    /// # Errors
    /// A variable that this kernel does not have, or no right to.
    pub(super) fn ipv6(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.enter(|| {
            for (name, value) in settings {
                let path = Path::new("/proc/sys/net/ipv6/conf").join(name);
                fs::write(&path, value).with_context(|| path.display().to_string())?;
            }
            Ok(())
        })
    }

    /// Has a core do what there is to be done for packets that arrive at an interface (receive packet
    /// steering).
    ///
    /// # Errors
    /// If this kernel cannot do that, or no right to.
    pub(super) fn steer(&self, interface: &str, core: usize) -> Result<()> {
        const NOTHING: Option<&str> = None;
        // The mask is written in groups of 32 cores, the highest first.
        let mask = format!(
            "{:x}{}",
            1_u32 << (core % 32),
            ",00000000".repeat(core / 32)
        );
        self.enter(|| {
            // The machine's own /sys shows the machine's own interfaces.
            unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(NOTHING, "/", NOTHING, private, NOTHING).context("a private /")?;
            let sysfs = Some("sysfs");
            mount(sysfs, "/sys", sysfs, MsFlags::empty(), NOTHING).context("mounting /sys")?;
            let file = format!("/sys/class/net/{interface}/queues/rx-0/rps_cpus");
            fs::write(&file, &mask).context(file)
        })
    }
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(_) => bail!("a thread in a network namespace panicked"),
    })
}
