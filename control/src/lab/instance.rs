//! One running lab on this machine: its directory, its lock, its namespaces.
//!
//! Everything a lab makes outside its process is named after the process and written down in
//! `/run/flowmob-lab/<name>/` before it is made, so that whatever a killed lab leaves behind can
//! be found and removed.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::configuration;
use super::netns;
use super::progress::say_plainly;
use super::topology::{Host, Setting};

/// Where labs write down what they made.
const ROOT: &str = "/run/flowmob-lab";
/// Octets of a small disk: more than a process needs while it empties its old files.
const SMALL_DISK: u64 = 256 << 20;
/// How long `down` waits for a running lab to clean up after itself.
const DOWN_PATIENCE: Duration = Duration::from_secs(20);

/// A lab's namespaces and files; all of them are gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Instance {
    name: String,
    directory: PathBuf,
    /// Held as long as this lab lives; the kernel lets go of it whatever happens to us.
    _lock: Flock<File>,
}

impl Instance {
    /// Makes a lab's namespaces, empty.
    ///
    /// # Errors
    /// No rights, or a namespace or directory that cannot be made.
    pub(crate) fn create(setting: Setting) -> anyhow::Result<Self> {
        let pid = std::process::id();
        let (name, directory, lock) = (0..100)
            .find_map(|n| claim(&format!("fm{pid}{}", suffix(n))).transpose())
            .context("a hundred labs of this process are running already")??;
        let instance = Self {
            name,
            directory,
            _lock: lock,
        };
        for host in setting.hosts() {
            let namespace = instance.namespace(host);
            netns::add(&namespace)?;
            if !matches!(host, Host::Cn | Host::Mn | Host::Mn2) {
                netns::enter(&namespace, kernel_ipv6_off)?;
            }
        }
        Ok(instance)
    }

    /// The lab's name, such as `fm4711`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The namespace of a host.
    pub(crate) fn namespace(&self, host: Host) -> String {
        namespace(&self.name, host)
    }

    /// Where its sockets, configurations and logs are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Err(error) = sweep(&self.name, &self.directory) {
            say_plainly(&format!("cannot clean up the lab {}: {error:#}", self.name));
        }
    }
}

/// What `down` found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Swept {
    /// Running labs that were told to end and did.
    pub(crate) stopped: usize,
    /// Remains of dead labs.
    pub(crate) removed: usize,
}

/// Removes what dead labs have left behind and, if `running`, ends those that run.
///
/// # Errors
/// If something cannot be removed, or a lab does not end.
pub(crate) fn clean(running: bool) -> anyhow::Result<Swept> {
    let mut swept = Swept::default();
    let entries = match fs::read_dir(ROOT) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(swept),
        other => other.with_context(|| format!("cannot read {ROOT}"))?,
    };
    for entry in entries {
        let directory = entry?.path();
        let name = directory.file_name().and_then(|n| n.to_str());
        let Some(name) = name.filter(|n| n.starts_with("fm")) else {
            continue;
        };
        if let Some(_lock) = lock(&directory)? {
            sweep(name, &directory)?;
            swept.removed += 1;
        } else if running {
            end(name, &directory)?;
            swept.stopped += 1;
        }
    }
    Ok(swept)
}

/// Takes a name that no other lab has; `None` if one has it.
fn claim(name: &str) -> anyhow::Result<Option<(String, PathBuf, Flock<File>)>> {
    let directory = Path::new(ROOT).join(name);
    // Namespaces of such a name that are not written down are somebody else's.
    if Host::ALL
        .iter()
        .any(|h| netns::path(&namespace(name, *h)).exists())
    {
        return Ok(None);
    }
    fs::create_dir_all(ROOT).with_context(|| format!("cannot make {ROOT}"))?;
    match fs::create_dir(&directory) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(None),
        other => other.with_context(|| format!("cannot make {}", directory.display()))?,
    }
    let lock = lock(&directory)?.context("a new directory is locked by somebody else")?;
    fs::write(directory.join("pid"), std::process::id().to_string())?;
    Ok(Some((name.to_owned(), directory, lock)))
}

fn suffix(number: u32) -> String {
    if number == 0 {
        String::new()
    } else {
        format!("x{number}")
    }
}

/// The lab's lock; `None` if its process lives.
fn lock(directory: &Path) -> anyhow::Result<Option<Flock<File>>> {
    let path = directory.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// On appliances and in the core the kernel is a wire: it must not speak there itself.
fn kernel_ipv6_off() -> anyhow::Result<()> {
    for which in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
        fs::write(&path, "1").with_context(|| format!("cannot write {path}"))?;
    }
    Ok(())
}

fn namespace(lab: &str, host: Host) -> String {
    format!("{lab}-{}", host.name())
}

/// Ends what is in a lab's namespaces and removes them, and its directory.
fn sweep(lab: &str, directory: &Path) -> anyhow::Result<()> {
    for host in Host::ALL {
        let name = namespace(lab, host);
        if !netns::path(&name).exists() {
            continue;
        }
        for pid in netns::pids(&name)? {
            // It may have ended in between.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        netns::remove(&name)?;
    }
    for host in Host::ALL {
        // Most have no disk of their own.
        let _ = umount2(&configuration::state(directory, host), MntFlags::MNT_DETACH);
    }
    fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))
}

/// Makes a directory with a disk of its own, in memory, that is full after [`SMALL_DISK`].
///
/// # Errors
/// The system's.
pub(crate) fn mount_small_disk(directory: &Path) -> anyhow::Result<()> {
    let about = || format!("a small disk at {}", directory.display());
    fs::create_dir(directory).with_context(about)?;
    let options = format!("size={SMALL_DISK},mode=0700");
    mount(
        Some("flowmob-lab"),
        directory,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .with_context(about)
}

/// Tells a running lab to end and waits until it has cleaned up.
fn end(lab: &str, directory: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(directory.join("pid"))
        .with_context(|| format!("cannot tell which process runs the lab {lab}"))?;
    let pid: i32 = text.trim().parse().context("its pid file has no number")?;
    kill(Pid::from_raw(pid), Signal::SIGTERM)
        .with_context(|| format!("cannot end process {pid}, which runs the lab {lab}"))?;
    let deadline = Instant::now() + DOWN_PATIENCE;
    while directory.exists() {
        if Instant::now() > deadline {
            bail!("the lab {lab} (process {pid}) does not end");
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
