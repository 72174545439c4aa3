//! What a lab tells while it works, and whether it should go on.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Longest time that an interrupt is not noticed.
const TURN: Duration = Duration::from_millis(20);

/// The voice of a lab, on standard error: a moving line on a terminal, plain lines elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    start: Instant,
    bar: Option<ProgressBar>,
    interrupted: Arc<AtomicBool>,
}

impl Progress {
    /// Begins, and from now on takes interrupts as a wish to end and clean up.
    ///
    /// # Errors
    /// If signals cannot be handled.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))
                .context("cannot handle signals")?;
        }
        let style = ProgressStyle::with_template("{spinner} [{elapsed_precise}] {msg}")
            .context("the progress line's template")?;
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Ok(Self {
            start: Instant::now(),
            bar,
            interrupted,
        })
    }

    /// Says what happens now.
    pub(crate) fn say(&self, text: &str) {
        let seconds = self.start.elapsed().as_secs_f64();
        match &self.bar {
            Some(bar) => {
                bar.println(format!("  [{seconds:5.1} s] {text}"));
                bar.set_message(text.to_owned());
            }
            None => say_plainly(&format!("[{seconds:5.1} s] {text}")),
        }
    }

    /// Fails if somebody wants us to end.
    ///
    /// # Errors
    /// That somebody does.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted; everything is cleaned up");
        }
        Ok(())
    }

    /// Waits.
    ///
    /// # Errors
    /// If somebody wants us to end.
    pub(crate) fn pause(&self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(TURN));
        }
    }

    /// Waits until `ready` gives something, looking every 20 ms.
    ///
    /// # Errors
    /// If it gives nothing within `patience` (then `what` did not happen, for the reason it gave
    /// last), fails, or somebody wants us to end.
    pub(crate) fn wait_for<T>(
        &self,
        what: &str,
        patience: Duration,
        mut ready: impl FnMut() -> anyhow::Result<Result<T, String>>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            match ready()? {
                Ok(value) => return Ok(value),
                Err(reason) if Instant::now() > deadline => {
                    bail!(
                        "{what} did not happen within {} s: {reason}",
                        patience.as_secs()
                    )
                }
                Err(_) => self.pause(TURN)?,
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line on standard error.
pub(crate) fn say_plainly(text: &str) {
    // Nobody is left to tell if this fails.
    let _ = writeln!(stderr(), "{text}");
}
