//! The Restart Counter (RFC 5847 §3.2): by it, peers see that this process has lost its sessions.

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;

/// The file in the state directory: a decimal number and a newline.
const FILE: &str = "restart_counter";

/// The counter of this run: one more than that of the run before, or that one if the process goes on where it was. It is on
/// disk when this returns.
///
/// Without a directory it is the time in seconds since 1970, which also grows from run to run unless the
/// clock goes back.
///
/// # Errors
/// If the directory, which is made if it is missing, cannot be written to, or the file holds no number.
pub(super) fn next(directory: Option<&Path>, goes_on: bool) -> anyhow::Result<u32> {
    let Some(directory) = directory else {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // The low bits: the counter wraps, as the one on disk does.
        let [.., a, b, c, d] = since.as_secs().to_be_bytes();
        return Ok(u32::from_be_bytes([a, b, c, d]));
    };
    make(directory)?;
    let path = directory.join(FILE);
    let shown = path.display();
    let counter = match fs::read_to_string(&path) {
        Ok(text) => {
            let last: u32 = text.trim().parse().with_context(|| {
                format!(
                    "{shown} holds no number; remove it, and peers take this start for any other"
                )
            })?;
            if goes_on {
                return Ok(last);
            }
            last.wrapping_add(1)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => 1,
        Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
    };
    store(directory, &path, counter).with_context(|| {
        format!(
            "cannot write {shown}; let this user write to the directory, or name another one in [process] state_directory"
        )
    })?;
    Ok(counter)
}

/// Makes the state directory if it is missing.
///
/// # Errors
/// If that cannot be.
pub(super) fn make(directory: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| {
            let shown = directory.display();
            format!("cannot make the directory {shown}, which [process] state_directory names")
        })
}

/// Replaces the file whole: whatever happens, there is either the old number or the new one.
fn store(directory: &Path, path: &Path, counter: u32) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    writeln!(file, "{counter}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // The name is in the directory, which has to be on disk too.
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_counts_one_up_and_wraps() {
        let directory = tempfile::tempdir().unwrap();
        let here = Some(directory.path());
        assert_eq!([(); 3].map(|()| next(here, false).unwrap()), [1, 2, 3]);
        assert_eq!(next(here, true).unwrap(), 3, "nothing was lost");
        fs::write(directory.path().join(FILE), format!("{}", u32::MAX)).unwrap();
        assert_eq!(next(here, false).unwrap(), 0);
        let names: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, [FILE]);
    }

    #[test]
    fn the_directory_is_made_for_its_owner() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("deep/er");
        assert_eq!(
            [(); 2].map(|()| next(Some(&missing), false).unwrap()),
            [1, 2]
        );
        let mode = fs::metadata(&missing).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn what_cannot_be_kept_is_an_error_that_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let error = next(Some(Path::new("/proc/flowmob")), false).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("the directory /proc/flowmob"), "{error}");
        assert!(error.contains("state_directory"), "{error}");
        fs::write(directory.path().join(FILE), "seven").unwrap();
        let error = format!("{:#}", next(Some(directory.path()), false).unwrap_err());
        assert!(error.contains("holds no number"), "{error}");
        assert_eq!(
            fs::read_to_string(directory.path().join(FILE)).unwrap(),
            "seven"
        );
    }

    #[test]
    fn without_a_directory_time_counts() {
        let first = next(None, false).unwrap();
        assert!(next(None, false).unwrap().wrapping_sub(first) < 60);
    }
}
