//! The kernel's IPv6 on the accesses: off while the logical interface has them, and afterwards as it was.
//!
//! It would answer solicitations for itself, and send errors for packets that are not its own. What it was is also
//! noted in a file: a process that is killed puts nothing back, and the next one would take what it finds for what
//! was there before.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// An index may be another interface's after a restart of the machine.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// IPv6 is off.
const OFF: &str = "1";

/// What there was before, by interface.
#[derive(Debug)]
pub(super) struct KernelIpv6 {
    note: PathBuf,
    before: BTreeMap<String, Before>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Before {
    /// Of the interface: one of the same name that comes later is another one.
    index: u32,
    value: String,
}

impl KernelIpv6 {
    /// Begins with what a killed process has noted in this file.
    pub(super) fn new(note: &Path) -> Self {
        let before = match fs::read_to_string(note) {
            Ok(text) => read(&text, &boot()),
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!(file = %note.display(), %error, "cannot read what IPv6 was");
                }
                BTreeMap::new()
            }
        };
        Self {
            note: note.to_owned(),
            before,
        }
    }

    /// Puts back what a killed process left on interfaces that are no accesses any more.
    pub(super) fn restore_others(&mut self, accesses: &[&str]) {
        let others: Vec<_> = self.before.keys().cloned().collect();
        for interface in others {
            if !accesses.contains(&interface.as_str()) {
                self.restore(&interface);
            }
        }
        self.write();
    }

    /// Switches it off on an interface that becomes an access.
    ///
    /// # Errors
    /// If the kernel's setting cannot be read or written.
    pub(super) fn switch_off(&mut self, interface: &str, index: u32) -> anyhow::Result<()> {
        let known = self.before.get(interface);
        if known.is_some_and(|known| known.index != index) {
            self.forget(interface);
        }
        self.off(interface, index)
            .context("cannot switch off the kernel's IPv6")?;
        Ok(())
    }

    /// Has it stay off. `true` if others had switched it on: at the end it will be on again, as they wanted.
    ///
    /// # Errors
    /// If the kernel's setting cannot be read or written.
    pub(super) fn keep_off(&mut self, interface: &str, index: u32) -> anyhow::Result<bool> {
        self.off(interface, index)
    }

    /// The interface is gone: there is nothing to put back.
    pub(super) fn forget(&mut self, interface: &str) {
        if self.before.remove(interface).is_some() {
            self.write();
        }
    }

    /// Whether it was on. In a container the setting can be written from outside only, so it is left alone if it is right.
    fn off(&mut self, interface: &str, index: u32) -> anyhow::Result<bool> {
        let path = sysctl(interface, "disable_ipv6");
        let what = || path.display().to_string();
        let value = fs::read_to_string(&path).with_context(what)?;
        let value = value.trim();
        if value == OFF {
            return Ok(false);
        }
        let value = value.to_owned();
        // Before it is changed: there is no moment at which nobody knows.
        let noted = Before { index, value };
        let old = self.before.insert(interface.to_owned(), noted.clone());
        if old.as_ref() != Some(&noted) {
            self.write();
        }
        fs::write(&path, OFF).with_context(what)?;
        Ok(true)
    }

    fn restore(&mut self, interface: &str) {
        let Some(before) = self.before.remove(interface) else {
            return;
        };
        // It may have another name by now, and its name may be another's.
        let Ok(name) = nix::net::if_::if_indextoname(before.index) else {
            return;
        };
        let name = name.to_string_lossy();
        if let Err(error) = fs::write(sysctl(&name, "disable_ipv6"), &before.value) {
            tracing::warn!(interface = %name, %error, "cannot restore the kernel's IPv6");
        }
    }

    /// Notes what there was; no file if there is nothing to note.
    fn write(&self) {
        if let Err(error) = self.try_write() {
            let file = self.note.display();
            tracing::warn!(%file, %error, "cannot note what IPv6 was: after SIGKILL it would stay off");
        }
    }

    fn try_write(&self) -> io::Result<()> {
        if self.before.is_empty() {
            return match fs::remove_file(&self.note) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            };
        }
        let mut text = format!("boot {}\n", boot());
        for (interface, Before { index, value }) in &self.before {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{interface} {index} {value}");
        }
        let new = self.note.with_added_extension("new");
        fs::write(&new, text)?;
        fs::rename(&new, &self.note)
    }
}

impl Drop for KernelIpv6 {
    fn drop(&mut self) {
        let interfaces: Vec<_> = self.before.keys().cloned().collect();
        for interface in interfaces {
            self.restore(&interface);
        }
        self.write();
    }
}

fn boot() -> String {
    fs::read_to_string(BOOT).map_or_else(|_| "unknown".to_owned(), |id| id.trim().to_owned())
}

/// What is noted since this boot. What cannot be understood is not noted.
fn read(text: &str, boot: &str) -> BTreeMap<String, Before> {
    let mut lines = text.lines();
    if lines.next() != Some(&format!("boot {boot}")) {
        return BTreeMap::new();
    }
    let noted = lines.filter_map(|line| {
        let mut words = line.split(' ');
        let (interface, index, value) = (words.next()?, words.next()?, words.next()?);
        let value = value.to_owned();
        let index = index.parse().ok()?;
        Some((interface.to_owned(), Before { index, value }))
    });
    noted.collect()
}

/// Where the kernel has a setting of an interface's IPv6.
pub(super) fn sysctl(interface: &str, key: &str) -> PathBuf {
    ["/proc/sys/net/ipv6/conf", interface, key].iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before(index: u32, value: &str) -> Before {
        let value = value.to_owned();
        Before { index, value }
    }

    #[test]
    fn what_is_noted_is_read_again_until_the_machine_starts_anew() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("mn1.ipv6");
        let mut first = KernelIpv6::new(&file);
        assert!(first.before.is_empty());
        // Of interfaces that this machine does not have.
        first
            .before
            .insert("wlan0".into(), before(2_000_000_003, "0"));
        first
            .before
            .insert("wwan0".into(), before(2_000_000_012, "0"));
        first.write();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(read(&text, &boot()), first.before);
        assert_eq!(read(&text, "another"), BTreeMap::new());
        assert_eq!(read("", &boot()), BTreeMap::new());
        let damaged = text.replace(" 2000000003 ", " x ");
        assert_eq!(read(&damaged, &boot()).len(), 1);

        let mut second = KernelIpv6::new(&file);
        assert_eq!(second.before, first.before);
        second.restore_others(&["wwan0"]);
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(read(&text, &boot()), second.before);
        assert_eq!(second.before.len(), 1);
        // There is nothing to put back, and then no note.
        drop(second);
        assert!(!file.exists());
        drop(first);
        assert!(!file.exists());
    }
}
