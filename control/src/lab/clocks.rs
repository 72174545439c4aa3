//! The wall clocks of a lab's processes, each of which can be wrong: by libfaketime, which reads from a file by how much.
//!
//! Monotonic clocks are left alone, as they are when somebody sets a clock.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use super::topology::Host;

/// How long it may take until a process has another time: the file is read every other second.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Seconds between looks into the file.
const EVERY: &str = "1";
/// What a clock may differ by from where it was set, in seconds: whole ones are compared, at different times.
const BLUR: u64 = 2;

/// The clock of a host's process.
#[derive(Debug)]
pub(super) struct Clock(PathBuf);

impl Clock {
    /// A host's, in a lab with this directory.
    pub(super) fn of(directory: &Path, host: Host) -> Self {
        Self(directory.join(format!("{}.clock", host.name())))
    }

    /// Sets it wrong by so many seconds.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn set(&self, seconds: i64) -> anyhow::Result<()> {
        // Whoever reads it finds the one or the other.
        let new = self.0.with_extension("clock-new");
        let about = || new.display().to_string();
        fs::write(&new, format!("{seconds:+}\n")).with_context(about)?;
        fs::rename(&new, &self.0).with_context(about)
    }

    /// What a process is started with whose clock this is. Until it is set for the first time, it is right.
    ///
    /// # Errors
    /// If libfaketime is not there.
    pub(super) fn environment(&self) -> anyhow::Result<Vec<(&'static str, String)>> {
        let library = format!("/usr/lib/{ARCH}-linux-gnu/faketime/libfaketimeMT.so.1");
        anyhow::ensure!(
            Path::new(&library).exists(),
            "there is no {library}, by which clocks are set wrong: install libfaketime"
        );
        if !self.0.exists() {
            self.set(0)?;
        }
        let file = self
            .0
            .to_str()
            .context("a lab in a directory without a name")?;
        Ok(vec![
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", file.to_owned()),
            ("FAKETIME_CACHE_DURATION", EVERY.to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            // It would be shared by all processes of a lab.
            ("FAKETIME_DISABLE_SHM", "1".to_owned()),
        ])
    }
}

/// Whether a clock that shows `its` seconds since 1970 is wrong by so many.
pub(super) fn is_wrong_by(its: u64, seconds: i64) -> Result<(), String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let right = now.unwrap_or_default().as_secs();
    let wanted = right.saturating_add_signed(seconds);
    if its.abs_diff(wanted) <= BLUR {
        Ok(())
    } else {
        Err(format!("it takes it for {its}, and it is {right}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_right_until_it_is_set() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::of(directory.path(), Host::Mag1);
        let read = || fs::read_to_string(directory.path().join("mag1.clock")).unwrap();
        clock.environment().unwrap();
        assert_eq!(read(), "+0\n");
        clock.set(-3600).unwrap();
        clock.environment().unwrap();
        assert_eq!(read(), "-3600\n");
    }

    #[test]
    fn whole_seconds_are_near_enough() {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        assert_eq!(is_wrong_by(now + 3600, 3600), Ok(()));
        assert_eq!(is_wrong_by(now - 1, 0), Ok(()));
        assert!(is_wrong_by(now, 3600).is_err());
    }
}
