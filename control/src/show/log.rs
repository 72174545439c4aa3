//! `flowmob log`: what is logged.

use serde_json::{Value, json};

use crate::api::log::{LogChange, LogState, MobileSwitch};
use crate::cli::{LogCommand, Switch};
use crate::client::Client;

/// Runs `flowmob log`, returning what to print: what is in force, after the change if there is one.
///
/// # Errors
/// If the process does not answer or refuses.
pub(crate) fn log(
    client: &Client,
    change: Option<LogCommand>,
    json: bool,
) -> anyhow::Result<String> {
    let change = change.map(|change| match change {
        LogCommand::Level { level } => LogChange {
            level: Some(level),
            mobile: None,
        },
        LogCommand::Mobile { mn, switch } => {
            let on = match switch {
                Switch::On => true,
                Switch::Off => false,
            };
            LogChange {
                level: None,
                mobile: Some(MobileSwitch { mn, on }),
            }
        }
    });
    let answer: Value = match change {
        Some(change) => client.post("/v1/log", &json!(change))?,
        None => client.get("/v1/log")?,
    };
    if json {
        return Ok(serde_json::to_string_pretty(&answer)?);
    }
    let state: LogState = serde_json::from_value(answer)?;
    Ok(state.to_string())
}
