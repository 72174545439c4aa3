//! `flowmob events`: what happened, line by line.

use serde_json::{Value, json};

use crate::api::event::Event;
use crate::client::Client;

/// Runs `flowmob events`, printing line by line.
///
/// # Errors
/// If the process does not answer or ends, or a line cannot be printed for another reason than that nobody reads
/// it.
pub(crate) fn events(
    client: &Client,
    follow: bool,
    json: bool,
    mut print: impl FnMut(&str) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    let mut line = |text: &str| match print(text) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        result => anyhow::Ok(result.map(|()| true)?),
    };
    if follow {
        return client.follow("/v1/events/stream", |kind, data| {
            match said(kind, data, json)? {
                Some(text) => line(&text),
                None => Ok(true),
            }
        });
    }
    let kept: Vec<Value> = serde_json::from_value(client.get("/v1/events")?)?;
    for event in kept {
        if !line(&said_of(event, json)?)? {
            break;
        }
    }
    Ok(())
}

/// The line for a message of the stream; none if its kind is not known, as kinds may be added.
fn said(kind: &str, data: &str, json: bool) -> anyhow::Result<Option<String>> {
    Ok(match kind {
        "message" => Some(said_of(serde_json::from_str(data)?, json)?),
        "missed" => {
            let missed: u64 = data.parse()?;
            Some(if json {
                json!({"kind": "missed", "missed": missed}).to_string()
            } else {
                format!("{missed} events came too fast to be told here")
            })
        }
        _ => None,
    })
}

fn said_of(event: Value, json: bool) -> anyhow::Result<String> {
    if json {
        return Ok(event.to_string());
    }
    Ok(event_line(&serde_json::from_value(event)?))
}

fn event_line(event: &Event) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(event.unix_ms);
    let level = if event.warning { "WARN" } else { "INFO" };
    let at = humantime::format_rfc3339_millis(at);
    format!("{at}  {level}  {}", event.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_of_the_stream_has_its_line() {
        let event = r#"{"id": 1, "unix_ms": 0, "kind": "configuration-applied", "text": "port up", "warning": false}"#;
        let plain = said("message", event, false).unwrap().unwrap();
        assert_eq!(plain, "1970-01-01T00:00:00.000Z  INFO  port up");
        let plain = said("missed", "3", false).unwrap().unwrap();
        assert_eq!(plain, "3 events came too fast to be told here");
        let json = said("missed", "3", true).unwrap().unwrap();
        assert_eq!(json, r#"{"kind":"missed","missed":3}"#);
        assert_eq!(said("another", "x", false).unwrap(), None);
        assert!(said("message", "{}", false).is_err());
    }
}
