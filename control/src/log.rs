//! Log lines: how they look, and how much is said, which may change while the process runs.

use std::io::IsTerminal;

use config::{Log, LogFormat, LogLevel};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, reload};

/// How much is said.
#[derive(Clone, Debug)]
pub(crate) struct Level(reload::Handle<LevelFilter, Registry>);

impl Level {
    /// Sends log lines to standard error from now on.
    pub(crate) fn start(log: &Log) -> Self {
        let (level, handle) = reload::Layer::new(filter(log.level));
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        let lines = match log.format {
            LogFormat::Text => lines.with_target(false).boxed(),
            LogFormat::Json => lines.json().boxed(),
        };
        tracing_subscriber::registry()
            .with(level)
            .with(lines)
            .init();
        Self(handle)
    }

    /// Says more, or less.
    pub(crate) fn set(&self, level: LogLevel) {
        if let Err(error) = self.0.reload(filter(level)) {
            tracing::error!(%error, "the log level stays");
        }
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
