//! `flowmob config` and `flowmob reload`: what is in force, and what another file would change.

use anyhow::Context;
use serde_json::{Value, json};

use crate::api::config::{Reload, Reloaded};
use crate::client::Client;

/// Runs `flowmob config show`, returning what to print: a file that says all that is in force.
///
/// # Errors
/// If the process does not answer.
pub(crate) fn config(client: &Client, json: bool) -> anyhow::Result<String> {
    let config = client.get("/v1/config")?;
    if json {
        return Ok(serde_json::to_string_pretty(&config)?);
    }
    let config: toml::Table = serde_json::from_value(config)?;
    let text = toml::to_string(&config).context("the configuration cannot be written down")?;
    Ok(text.trim_end().to_owned())
}

/// Runs `flowmob reload`, or with `dry_run` only finds out what it would do. Returns what to print, and whether
/// nothing stands in its way.
///
/// # Errors
/// If the process does not answer, or cannot take the configuration.
pub(crate) fn reload(client: &Client, dry_run: bool, json: bool) -> anyhow::Result<(String, bool)> {
    let answer: Value = client.post("/v1/reload", &json!(Reload { dry_run }))?;
    let reloaded: Reloaded = serde_json::from_value(answer.clone())?;
    let fine = reloaded.refused.is_empty();
    if json {
        return Ok((serde_json::to_string_pretty(&answer)?, fine));
    }
    Ok((in_words(&reloaded), fine))
}

fn in_words(reloaded: &Reloaded) -> String {
    let mut lines = reloaded.warnings.clone();
    for change in &reloaded.changes {
        let restart = if change.live {
            ""
        } else {
            "  (needs a restart)"
        };
        lines.push(format!("{change}{restart}"));
    }
    let count = match reloaded.changes.len() {
        0 => "nothing is different".to_owned(),
        1 => "1 change".to_owned(),
        more => format!("{more} changes"),
    };
    lines.push(
        if reloaded.changes.is_empty() && reloaded.refused.is_empty() {
            count
        } else if reloaded.applied {
            format!("{count}: in force")
        } else if reloaded.refused.is_empty() {
            format!("{count}: flowmob reload would put it into force")
        } else {
            let refused = reloaded.refused.join("\n  ");
            format!("{count}: cannot be put into force:\n  {refused}")
        },
    );
    lines.join("\n")
}
