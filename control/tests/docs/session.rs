//! A shell on a machine of its own, as far as namespaces go: what it starts, mounts, listens on or names is there for
//! nobody else, and ends with it, whatever happens.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::common::process::FLOWMOB;

/// No command of a document may take longer.
const PATIENCE: Duration = Duration::from_secs(40);
/// Says that a command has ended, and how. Nothing prints it by itself.
const END: &str = "\u{1}ended ";

/// Reads the names of files on its standard input, and does what is in them.
const SHELL: &str = r#"
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mount -t sysfs sysfs /sys
ip link set lo up
exec 2>&1
set +e
while IFS= read -r command; do
    . "$command" < /dev/null
    printf '\n\001ended %d\n' $?
done
"#;

/// The shell. Dropping it ends everything that it has started.
pub(crate) struct Session {
    child: Child,
    commands: Option<ChildStdin>,
    lines: Receiver<String>,
    /// What it is given.
    scripts: TempDir,
    /// Where it begins.
    work: TempDir,
    count: usize,
}

/// What a command printed, and how it ended.
pub(crate) struct Ended {
    pub(crate) printed: String,
    /// `None` if it did not end.
    pub(crate) status: Option<i32>,
}

impl Session {
    pub(crate) fn start() -> Self {
        let (scripts, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let programs = Path::new(FLOWMOB).parent().unwrap().display();
        let path = std::env::var("PATH").unwrap();
        // The first process of a namespace takes all others along. It dies with `unshare`.
        let mut child = Command::new("unshare")
            .args(["--mount", "--net", "--ipc", "--pid", "--fork"])
            .args(["--mount-proc", "--kill-child", "--"])
            .args(["bash", "--noprofile", "--norc", "-c", SHELL])
            .current_dir(work.path())
            .env("PATH", format!("{programs}:{path}"))
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("TERM", "dumb")
            .env("HOME", work.path())
            .env_remove("FLOWMOB_SOCKET")
            .env_remove("RUNTIME_DIRECTORY")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let commands = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (to, lines) = channel();
        std::thread::spawn(move || {
            let mut octets = Vec::new();
            while output.read_until(b'\n', &mut octets).is_ok_and(|n| n > 0) {
                let line = String::from_utf8_lossy(&octets).into_owned();
                octets.clear();
                if to.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            commands,
            lines,
            scripts,
            work,
            count: 0,
        }
    }

    /// Where it begins.
    pub(crate) fn directory(&self) -> &Path {
        self.work.path()
    }

    /// Has a command run.
    pub(crate) fn run(&mut self, command: &str) -> Ended {
        self.count += 1;
        let script = self.scripts.path().join(self.count.to_string());
        std::fs::write(&script, format!("{command}\n")).unwrap();
        let commands = self.commands.as_mut().unwrap();
        writeln!(commands, "{}", script.display()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut printed = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => match line.strip_prefix(END) {
                    Some(status) => {
                        // What comes before the end is on a line of its own for that only.
                        printed.pop();
                        let status = status.trim().parse().ok();
                        return Ended { printed, status };
                    }
                    None => printed += &line,
                },
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Ended {
                        printed,
                        status: None,
                    };
                }
            }
        }
    }

    /// The processes that are left but the shell, as `ps` shows them.
    pub(crate) fn left(&mut self) -> String {
        let script = "for p in /proc/[0-9]*; do n=${p#/proc/}; [ $n = 1 ] || tr '\\0' ' ' < $p/cmdline; done 2>/dev/null; true";
        self.run(script).printed
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Nothing more can be done about a child that cannot be ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
