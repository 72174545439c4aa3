//! Log lines: how they look, how much is said and about whom, and whether with addresses, all of which but the look
//! may change while the process runs.

mod rate;
mod redact;

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

use config::{Log, LogFormat};
use flow::MnId;
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

pub(crate) use rate::LogRate;

use crate::api::Problem;
use crate::api::log::{LogChange, LogLevel, LogState};

/// The field of a line that says which mobile it is about.
const MOBILE: &str = "mn";
/// What is written about the mobiles that somebody looks at, and the first level whose lines may have addresses.
const CLOSELY: LevelFilter = LevelFilter::DEBUG;
/// Most mobiles looked at: each line about any mobile is compared with them.
const MAX_MOBILES: usize = 64;

/// Lines a second for a close look: whoever asks for them must not fill the disk either, nor hold up those who
/// write them.
const CLOSE_LINES: u32 = 1000;

/// What is logged, for those who change it.
#[derive(Clone, Debug)]
pub(crate) struct Logging {
    in_force: Arc<RwLock<InForce>>,
    /// How many lines of a close look are written.
    close: Arc<Mutex<LogRate>>,
    start: Instant,
}

#[derive(Debug)]
struct InForce {
    level: LogLevel,
    mobiles: BTreeSet<MnId>,
    addresses: bool,
}

impl Logging {
    /// Sends log lines to standard error from now on.
    pub(crate) fn start(log: &Log) -> Self {
        let logging = Self::new(log);
        let colours = io::stderr().is_terminal();
        logging.subscriber(log.format, colours, io::stderr).init();
        logging
    }

    fn new(log: &Log) -> Self {
        let in_force = InForce {
            level: log.level.into(),
            mobiles: BTreeSet::new(),
            addresses: log.addresses,
        };
        Self {
            in_force: Arc::new(RwLock::new(in_force)),
            close: Arc::new(Mutex::new(LogRate::new(CLOSE_LINES))),
            start: Instant::now(),
        }
    }

    /// What makes lines of events.
    fn subscriber<W>(
        &self,
        format: LogFormat,
        colours: bool,
        out: W,
    ) -> impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync + use<W>
    where
        W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    {
        let logging = self.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(Lines { logging, out })
            .with_ansi(colours);
        let lines = match format {
            LogFormat::Text => lines.with_target(false).boxed(),
            LogFormat::Json => lines.json().boxed(),
        };
        tracing_subscriber::registry().with(lines.with_filter(Chosen(self.clone())))
    }

    /// Takes what is different in a configuration. What was changed by command stays otherwise.
    pub(crate) fn reload(&self, old: &Log, new: &Log) {
        self.set(|in_force| {
            if old.level != new.level {
                in_force.level = new.level.into();
            }
            in_force.addresses = new.addresses;
        });
    }

    /// Says more or less, until the process ends or a reload says otherwise. `mobiles` is whether the process has
    /// any.
    ///
    /// # Errors
    /// If nothing or too much is asked for, or a mobile is named where there is none.
    pub(crate) fn change(&self, change: &LogChange, mobiles: bool) -> Result<LogState, Problem> {
        if change.level.is_none() && change.mobile.is_none() {
            return Err(Problem::bad_request("neither a level nor a mobile"));
        }
        let mobile = match &change.mobile {
            Some(_) if !mobiles => {
                return Err(Problem::refused(
                    "this process is a mobile node, and knows of no others: it has a log level only",
                ));
            }
            Some(mobile) => {
                let mn = MnId::new(&mobile.mn);
                let mn = mn.map_err(|error| Problem::bad_request(format!("mn: {error}")))?;
                Some((mn, mobile.on))
            }
            None => None,
        };
        if let Some((mn, true)) = &mobile {
            let known = &self.in_force().mobiles;
            if known.len() >= MAX_MOBILES && !known.contains(mn) {
                return Err(Problem::refused(format!(
                    "{MAX_MOBILES} mobiles are logged closely, which is the most: take one off, \
                     or set the level to debug"
                )));
            }
        }
        self.set(|in_force| {
            in_force.level = change.level.unwrap_or(in_force.level);
            match mobile {
                Some((mn, true)) => {
                    in_force.mobiles.insert(mn);
                }
                Some((mn, false)) => {
                    in_force.mobiles.remove(&mn);
                }
                None => {}
            }
        });
        let state = self.state();
        tracing::info!(level = %state.level, mobiles = state.mobiles.len(), "what is logged has changed");
        Ok(state)
    }

    /// What is in force.
    pub(crate) fn state(&self) -> LogState {
        let in_force = self.in_force();
        LogState {
            level: in_force.level,
            mobiles: in_force.mobiles.iter().map(ToString::to_string).collect(),
            addresses: in_force.addresses,
            not_written: self.close().suppressed(),
        }
    }

    fn close(&self) -> MutexGuard<'_, LogRate> {
        self.close.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_force(&self) -> RwLockReadGuard<'_, InForce> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(&mut InForce)) {
        change(
            &mut self
                .in_force
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        );
        // Which lines are worth a look is known by heart where they are made.
        tracing::callsite::rebuild_interest_cache();
    }
}

impl InForce {
    fn level(&self) -> LevelFilter {
        match self.level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        }
    }

    /// Whether lines like this are written: all, none, or those about some mobiles.
    fn interest(&self, line: &Metadata<'_>) -> Interest {
        if *line.level() <= self.level() {
            Interest::always()
        } else if !self.mobiles.is_empty()
            && *line.level() <= CLOSELY
            && line.fields().field(MOBILE).is_some()
        {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    }
}

/// Chooses the lines that are written.
struct Chosen(Logging);

impl<S> Filter<S> for Chosen {
    fn enabled(&self, line: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        !self.0.in_force().interest(line).is_never()
    }

    fn callsite_enabled(&self, line: &'static Metadata<'static>) -> Interest {
        self.0.in_force().interest(line)
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let in_force = self.0.in_force();
        if *event.metadata().level() <= in_force.level() {
            return true;
        }
        let mut about = About {
            mobiles: &in_force.mobiles,
            one: false,
        };
        event.record(&mut about);
        about.one
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let in_force = self.0.in_force();
        let level = in_force.level();
        Some(if in_force.mobiles.is_empty() {
            level
        } else {
            level.max(CLOSELY)
        })
    }
}

/// Whether a line is about one of these mobiles.
struct About<'m> {
    mobiles: &'m BTreeSet<MnId>,
    one: bool,
}

impl Visit for About<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == MOBILE {
            let value = format!("{value:?}");
            self.one |= self.mobiles.iter().any(|mn| mn.as_str() == value);
        }
    }
}

/// Where lines go: without addresses, unless they are for a close look or somebody asked for them.
struct Lines<W> {
    logging: Logging,
    out: W,
}

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for Lines<W> {
    type Writer = Line<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        Line {
            out: self.out.make_writer(),
            addresses: self.logging.in_force().addresses,
            written: true,
        }
    }

    fn make_writer_for(&'w self, line: &Metadata<'_>) -> Self::Writer {
        let close = *line.level() >= Level::DEBUG;
        let elapsed = self.logging.start.elapsed();
        let written = !close || self.logging.close().allow(elapsed);
        Line {
            out: self.out.make_writer_for(line),
            addresses: close || self.logging.in_force().addresses,
            written,
        }
    }
}

/// Takes one line, whole.
struct Line<W> {
    out: W,
    addresses: bool,
    /// There is room for it in this second.
    written: bool,
}

impl<W: io::Write> io::Write for Line<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.written {
            return Ok(line.len());
        }
        if self.addresses {
            return self.out.write(line);
        }
        self.out.write_all(&redact::redacted(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
