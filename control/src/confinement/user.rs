//! How a process that root has started becomes another user.
//!
//! First root makes what only root can make, then all that the ports do not need is given up, before there is a thread that
//! could keep it and before the first byte from outside is read. What has to be readable later is tried at once.

use std::ffi::CString;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, lchown};
use std::path::{Path, PathBuf};

use anyhow::Context;
use caps::{CapSet, Capability, CapsHashSet};
use config::{Config, Device, User};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::unistd::{AccessFlags, Gid, Uid, access, geteuid};

use super::rights;

/// How a user is made that owns nothing and cannot log in.
const MAKE: &str = "useradd --system --no-create-home --shell /usr/sbin/nologin";

/// A user as the machine knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Account {
    /// Its name; its number if it has none.
    name: String,
    uid: Uid,
    gid: Gid,
    is_known: bool,
}

impl Account {
    /// Looks for a user. A number without a name has the group of that number, and no other.
    ///
    /// # Errors
    /// If there is none of that name.
    fn find(user: &User) -> anyhow::Result<Self> {
        let found = match user {
            User::Name(name) => nix::unistd::User::from_name(name),
            User::Id(id) => nix::unistd::User::from_uid(Uid::from_raw(*id)),
        };
        let found = found.with_context(|| format!("[process] user: who is {user}?"))?;
        match (found, user) {
            (Some(known), _) => Ok(Self {
                name: known.name,
                uid: known.uid,
                gid: known.gid,
                is_known: true,
            }),
            (None, User::Id(id)) => Ok(Self {
                name: id.to_string(),
                uid: Uid::from_raw(*id),
                gid: Gid::from_raw(*id),
                is_known: false,
            }),
            (None, User::Name(name)) => anyhow::bail!(Obstacle {
                found: format!("there is no user {name} on this machine"),
                fix: format!("make one ({MAKE} {name}), or name another"),
            }),
        }
    }

    /// Becomes this user for good, with these capabilities of those that there are.
    fn assume(&self, needed: &CapsHashSet, for_children: bool) -> anyhow::Result<()> {
        let threads = fs::read_dir("/proc/self/task").context("/proc/self/task")?;
        anyhow::ensure!(threads.count() == 1, "too late: there are threads already");
        let permitted = read(CapSet::Permitted)?;
        let kept: CapsHashSet = needed.intersection(&permitted).copied().collect();
        if geteuid().is_root() {
            give_up_for_good(&kept);
            self.groups()
                .and_then(|()| nix::unistd::setresgid(self.gid, self.gid, self.gid))
                .with_context(|| format!("cannot take the groups of {}", self.name))
                .context("it takes CAP_SETGID")?;
            caps::securebits::set_keepcaps(true).context("cannot keep capabilities")?;
            nix::unistd::setresuid(self.uid, self.uid, self.uid)
                .with_context(|| format!("cannot become {}", self.name))
                .context("it takes CAP_SETUID")?;
            caps::securebits::set_keepcaps(false).context("cannot keep capabilities")?;
        }
        let inherited = if for_children {
            kept.clone()
        } else {
            CapsHashSet::new()
        };
        // Each set has to be within those that come before it.
        for (set, value) in [
            (CapSet::Effective, &kept),
            (CapSet::Permitted, &kept),
            (CapSet::Inheritable, &inherited),
            (CapSet::Ambient, &inherited),
        ] {
            caps::set(None, set, value).with_context(|| format!("{set:?} capabilities"))?;
        }
        nix::sys::prctl::set_no_new_privs().context("no new privileges")
    }

    /// Tries what it will have to read and write.
    fn reaches(&self, config: &Config, file: &Path) -> anyhow::Result<()> {
        let problems = unreadable(self, file).into_iter();
        let problems: Vec<String> = problems.chain(unwritable(self, config)).collect();
        anyhow::ensure!(problems.is_empty(), "{}", problems.join("\n"));
        Ok(())
    }

    fn groups(&self) -> nix::Result<()> {
        if !self.is_known {
            return nix::unistd::setgroups(&[self.gid]);
        }
        let name = CString::new(self.name.as_str()).unwrap_or_default();
        nix::unistd::initgroups(&name, self.gid)
    }
}

fn read(set: CapSet) -> anyhow::Result<CapsHashSet> {
    caps::read(None, set).context("which capabilities are there?")
}

/// Nothing that this process could start may have more than `kept`.
fn give_up_for_good(kept: &CapsHashSet) {
    let all = caps::runtime::procfs_all_supported(None);
    let all = all.unwrap_or_else(|_| caps::runtime::thread_all_supported());
    for capability in all.difference(kept) {
        if let Err(error) = caps::drop(None, CapSet::Bounding, *capability) {
            // Without CAP_SETPCAP. There are no new privileges anyway.
            tracing::warn!(%error, "the bounding set of capabilities stays as it is");
            return;
        }
    }
}

/// Becomes the user that the configuration names, if it names one; `file` is where it is from.
///
/// # Errors
/// If there is no such user, this process cannot become it, or it could not read or write what it has to.
pub(crate) fn become_configured(config: &Config, file: &Path) -> anyhow::Result<()> {
    let Some(account) = of_this_process(config)? else {
        return Ok(());
    };
    if geteuid().is_root() {
        if let Some(state) = config.state_directory() {
            make_for(&account, &state, 0o700)?;
        }
        if let Some(sockets) = config.management.socket.parent() {
            make_for(&account, sockets, 0o755)?;
        }
        let is_xdp = |port: &config::Port| matches!(port.device, Device::AfXdp { .. });
        if config.ports.iter().any(is_xdp) {
            // libxdp's: without it, it leaves its program on the interface at the end.
            make_for(&account, Path::new("/run/xdp"), 0o700)?;
        }
        // What cards and XDP sockets reach is locked. Who may not raise it has what it was given.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    }
    // A mobile node has the command `ip` do some of its work.
    let for_children = config.mn.is_some();
    account.assume(&rights::needed(config), for_children)?;
    account.reaches(config, file)?;
    let kept = read(CapSet::Permitted)?;
    let mut kept: Vec<String> = kept.iter().map(Capability::to_string).collect();
    kept.sort();
    tracing::info!(user = %account.name, capabilities = kept.join(" "), "goes on as this user");
    Ok(())
}

/// As [`become_configured`], to see what that user would see: without any capability, and without making anything. Who
/// is not root sees with his own eyes.
///
/// # Errors
/// What [`become_configured`] would say.
pub(crate) fn see_as_configured(config: &Config, file: &Path) -> anyhow::Result<()> {
    let Some(user) = &config.process.user else {
        return Ok(());
    };
    let account = Account::find(user)?;
    if !geteuid().is_root() {
        return Ok(());
    }
    account.assume(&CapsHashSet::new(), false)?;
    account.reaches(config, file)?;
    Ok(())
}

/// The directory below which a process that becomes another user has DPDK's files: root's would be closed to it.
#[cfg(feature = "dpdk")]
pub(crate) fn run_directory(config: &Config) -> Option<PathBuf> {
    config.process.user.as_ref()?;
    // A service manager has chosen one.
    if std::env::var_os("RUNTIME_DIRECTORY").is_some() {
        return None;
    }
    let socket = std::path::absolute(&config.management.socket).ok()?;
    Some(socket.parent()?.to_owned())
}

/// Why a process with this configuration cannot be whom it names, and what to do about it; `None` if it can.
#[cfg(feature = "dpdk")]
pub(crate) fn obstacle(config: &Config) -> Option<Obstacle> {
    of_this_process(config).err().map(|error| {
        let found = || format!("{error:#}");
        let fix = "see that the user database can be asked".to_owned();
        match error.downcast_ref::<Obstacle>() {
            Some(obstacle) => obstacle.clone(),
            None => Obstacle {
                found: found(),
                fix,
            },
        }
    })
}

/// Why a process cannot be somebody.
#[derive(Clone, Debug)]
pub(crate) struct Obstacle {
    /// What is in the way.
    pub(crate) found: String,
    /// What to do about it.
    pub(crate) fix: String,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[process] user: {}: {}", self.found, self.fix)
    }
}

impl std::error::Error for Obstacle {}

/// The user that the configuration names, if it names one.
///
/// # Errors
/// If there is no such user, or this process is neither it nor root.
fn of_this_process(config: &Config) -> anyhow::Result<Option<Account>> {
    let Some(user) = &config.process.user else {
        return Ok(None);
    };
    let account = Account::find(user)?;
    let this = geteuid();
    if this.is_root() || this == account.uid {
        return Ok(Some(account));
    }
    anyhow::bail!(Obstacle {
        found: format!(
            "this process is user {}, and only root can become {}",
            name(this),
            account.name
        ),
        fix: format!(
            "start it as root or as {}, or leave the key out",
            account.name
        ),
    })
}

/// A user's name; its number if it has none.
pub(crate) fn name(uid: Uid) -> String {
    let known = nix::unistd::User::from_uid(uid).ok().flatten();
    known.map_or_else(|| uid.to_string(), |user| user.name)
}

/// Makes a directory for a user, if it is not there, and those above it that are not.
fn make_for(account: &Account, directory: &Path, mode: u32) -> anyhow::Result<()> {
    let missing = directory.ancestors().take_while(|above| {
        // A relative path ends in an empty one, which is here.
        !above.as_os_str().is_empty() && !above.exists()
    });
    let missing: Vec<&Path> = missing.collect();
    for one in missing.into_iter().rev() {
        let mode = if one == directory { mode } else { 0o755 };
        let what = || format!("cannot make the directory {}", one.display());
        DirBuilder::new()
            .mode(mode)
            .create(one)
            .with_context(what)?;
        // Not where a link leads that somebody has put there meanwhile.
        lchown(one, Some(account.uid.as_raw()), Some(account.gid.as_raw())).with_context(what)?;
    }
    Ok(())
}

/// What a reload would not be able to read. Keys and tokens are read at the start, and say so themselves.
fn unreadable(account: &Account, file: &Path) -> Option<String> {
    let error = File::open(file).err()?;
    let (file, name) = (file.display(), &account.name);
    Some(format!(
        "{file}: not readable by user {name}, as whom it is read again at each reload: {error}; \
         chgrp {} {file} and chmod 640 {file} let it be, and the directories above have to let it pass",
        account.gid
    ))
}

/// The directories that it will have to write to, as far as they are there, and what is in them that is another user's.
fn unwritable(account: &Account, config: &Config) -> Vec<String> {
    let (name, uid) = (&account.name, account.uid.as_raw());
    let state = config.state_directory();
    let sockets = config.management.socket.parent().map(Path::to_owned);
    let sockets = sockets.filter(|directory| !directory.as_os_str().is_empty());
    let mut problems = Vec::new();
    let places = [(&state, "state_directory"), (&sockets, "socket")];
    for (directory, key) in places {
        let there = directory.iter().filter(|directory| {
            // What cannot be looked at is there.
            !fs::metadata(directory).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
        });
        for directory in there {
            if access(directory, AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
                let directory = directory.display();
                problems.push(format!(
                    "{directory}: not writable by user {name}: chown {name} {directory}, or name another `{key}`"
                ));
            }
        }
    }
    let others = state.iter().find_map(|state| others_file(state, uid));
    if let (Some(file), Some(state)) = (others, &state) {
        let (file, state) = (file.display(), state.display());
        problems.push(format!(
            "{file}: belongs to another user than {name}, as if another had kept its state here: chown -R {name} {state}"
        ));
    }
    problems
}

/// A file or directory below this one that is not this user's.
fn others_file(directory: &Path, uid: u32) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?;
    entries.flatten().find_map(|entry| {
        let metadata = entry.metadata().ok()?;
        if metadata.uid() != uid {
            return Some(entry.path());
        }
        let below = metadata.is_dir().then(|| entry.path())?;
        others_file(&below, uid)
    })
}
