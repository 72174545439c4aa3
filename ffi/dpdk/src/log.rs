//! DPDK's own log lines: kept to be quoted in errors, and forwarded to whoever asks.
//!
//! DPDK writes to a stdio stream of ours instead of stderr and syslog, so a normal run prints
//! nothing, and an error can say what the driver said.

use std::collections::VecDeque;
use std::ffi::{c_char, c_int, c_long, c_void};
use std::fmt;
use std::ptr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// How severe a line is; also the least severe that DPDK is asked to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is not as it should be. The default.
    #[default]
    Warning,
    /// Normal but worth noting.
    Notice,
    /// What DPDK and its drivers do.
    Info,
    /// Everything.
    Debug,
}

impl Level {
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    fn from_raw(raw: u32) -> Self {
        match raw {
            0..=dpdk_sys::RTE_LOG_ERR => Self::Error,
            dpdk_sys::RTE_LOG_WARNING => Self::Warning,
            dpdk_sys::RTE_LOG_NOTICE => Self::Notice,
            dpdk_sys::RTE_LOG_INFO => Self::Info,
            _ => Self::Debug,
        }
    }
}

/// Receives each line, without its newline, on the thread that logged it. It must not call back
/// into this crate: the stream is locked meanwhile.
pub type Sink = fn(Level, &str);

/// Forwards every line from now on to `sink`; false if another sink was set before.
pub fn forward_to(sink: Sink) -> bool {
    SINK.set(sink).is_ok()
}

/// A line of this crate's own.
pub(crate) fn say(level: Level, line: &str) {
    if let Some(sink) = SINK.get() {
        sink(level, line);
    }
}

/// What DPDK logged while an operation failed. Displays as indented lines, or as nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said(Vec<String>);

impl Said {
    /// The lines, oldest first.
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|line| write!(f, "\n  DPDK: {line}"))
    }
}

/// A place in the log, taken before an operation, to quote what was said since.
#[derive(Clone, Copy)]
pub(crate) struct Mark(u64);

impl Mark {
    pub(crate) fn now() -> Self {
        Self(lines().seen)
    }

    /// The lines written since, at most the last [`KEPT`].
    pub(crate) fn said(self) -> Said {
        let lines = lines();
        let since = usize::try_from(lines.seen - self.0).unwrap_or(usize::MAX);
        let skip = lines.kept.len().saturating_sub(since);
        Said(lines.kept.iter().skip(skip).cloned().collect())
    }
}

/// Lines kept for quoting: enough for the worst driver failure seen, about ten.
const KEPT: usize = 32;

struct Lines {
    /// Lines ever written.
    seen: u64,
    kept: VecDeque<String>,
    /// The start of a line whose end was not written yet.
    partial: String,
}

static LINES: Mutex<Lines> = Mutex::new(Lines {
    seen: 0,
    kept: VecDeque::new(),
    partial: String::new(),
});
static SINK: OnceLock<Sink> = OnceLock::new();

fn lines() -> MutexGuard<'static, Lines> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes DPDK write to [`LINES`]. Called once, before EAL init; the stream is never closed, as
/// DPDK's threads may log until the process ends.
pub(crate) fn capture() {
    let functions = dpdk_sys::cookie_io_functions_t {
        write: Some(write),
        ..Default::default()
    };
    // SAFETY: the mode is a C string, and `write` ignores the cookie, so null is a valid one.
    let stream = unsafe { dpdk_sys::fopencookie(ptr::null_mut(), c"w".as_ptr(), functions) };
    // A null stream (out of memory) means DPDK's default, stderr: still a place to be read.
    // SAFETY: `stream` is null or an open stream that is never closed.
    unsafe { dpdk_sys::rte_openlog_stream(stream) };
}

/// The stream's write function. `extern "C"` turns a panic into an abort: none unwinds into C.
unsafe extern "C" fn write(_cookie: *mut c_void, buffer: *const c_char, size: usize) -> c_long {
    // SAFETY: stdio passes a buffer of `size` bytes that it does not touch during this call.
    let bytes = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), size) };
    // SAFETY: reads a thread-local of the thread that is writing the message.
    let level: c_int = unsafe { dpdk_sys::rte_log_cur_msg_loglevel() };
    let level = u32::try_from(level).map_or(Level::Warning, Level::from_raw);
    for line in complete_lines(&String::from_utf8_lossy(bytes)) {
        if let Some(sink) = SINK.get() {
            sink(level, &line);
        }
    }
    c_long::try_from(size).unwrap_or(c_long::MAX)
}

/// Adds `text` to the log and returns the lines that it completed.
fn complete_lines(text: &str) -> Vec<String> {
    let mut lines = lines();
    lines.partial.push_str(text);
    let whole = lines.partial.rfind('\n').map_or(0, |end| end + 1);
    let rest = lines.partial.split_off(whole);
    let whole = std::mem::replace(&mut lines.partial, rest);
    let completed: Vec<String> = whole
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .map(Into::into)
        .collect();
    for line in &completed {
        if lines.kept.len() == KEPT {
            lines.kept.pop_front();
        }
        lines.kept.push_back(line.clone());
        lines.seen += 1;
    }
    completed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_counted_and_bounded() {
        let mark = Mark::now();
        assert!(complete_lines("EAL: half").is_empty());
        assert_eq!(
            complete_lines(" line\n\nEAL: next\nrest"),
            ["EAL: half line", "EAL: next"]
        );
        assert_eq!(mark.said().lines(), ["EAL: half line", "EAL: next"]);
        assert_eq!(
            mark.said().to_string(),
            "\n  DPDK: EAL: half line\n  DPDK: EAL: next"
        );

        let mark = Mark::now();
        assert_eq!(complete_lines("!\n"), ["rest!"]);
        assert_eq!(mark.said().lines(), ["rest!"]);

        for _ in 0..2 * KEPT {
            complete_lines("flood\n");
        }
        assert_eq!(mark.said().lines().len(), KEPT);
    }
}
