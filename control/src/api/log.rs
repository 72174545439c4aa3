//! What is logged: `GET` and `POST /v1/log`.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is logged: this and everything above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogLevel {
    /// Something failed.
    Error,
    /// Something that someone should look at.
    Warn,
    /// Changes of state: attachments, moves, peers.
    Info,
    /// Single messages, with addresses.
    Debug,
    /// Single steps.
    Trace,
}

impl From<::config::LogLevel> for LogLevel {
    fn from(level: ::config::LogLevel) -> Self {
        match level {
            ::config::LogLevel::Error => Self::Error,
            ::config::LogLevel::Warn => Self::Warn,
            ::config::LogLevel::Info => Self::Info,
            ::config::LogLevel::Debug => Self::Debug,
            ::config::LogLevel::Trace => Self::Trace,
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        })
    }
}

/// What is logged by a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct LogState {
    /// How much, of what is about nobody special.
    pub(crate) level: LogLevel,
    /// Mobiles about which everything down to `debug` is logged, whatever the level.
    pub(crate) mobiles: Vec<String>,
    /// Whether lines above `debug` have addresses in them.
    pub(crate) addresses: bool,
    /// Lines of `debug` and `trace` that were left out because there were more than a thousand in a second.
    pub(crate) not_written: u64,
}

impl fmt::Display for LogState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mobiles = if self.mobiles.is_empty() {
            "none".to_owned()
        } else {
            self.mobiles.join(", ")
        };
        let addresses = if self.addresses {
            "at every level"
        } else {
            "at debug and trace"
        };
        writeln!(f, "level: {}", self.level)?;
        writeln!(f, "mobiles at debug: {mobiles}")?;
        write!(f, "addresses: {addresses}")?;
        if self.not_written > 0 {
            write!(
                f,
                "\nlines left out, beyond 1000 a second: {}",
                self.not_written
            )?;
        }
        Ok(())
    }
}

/// `POST /v1/log`: logs more or less, until the process ends, or a reload brings another level. Answered by what is
/// in force then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogChange {
    /// How much; as it is if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) level: Option<LogLevel>,
    /// One mobile; all as they are if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mobile: Option<MobileSwitch>,
}

/// Whether everything about a mobile is logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MobileSwitch {
    /// The mobile.
    pub(crate) mn: String,
    /// Whether its lines are logged down to `debug`.
    pub(crate) on: bool,
}
