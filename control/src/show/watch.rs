//! `flowmob show ... --watch`: the same table again and again.

use std::io::{ErrorKind, IsTerminal, Write, stdout};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use ratatui::crossterm::cursor::MoveTo;
use ratatui::crossterm::queue;
use ratatui::crossterm::terminal::{Clear, ClearType, size};

use super::{ask, shown};
use crate::cli::Show;
use crate::client::Client;
use crate::top::{Screen, pause, told_to_end};

/// How often to look whether the answer is there.
const TURN: Duration = Duration::from_millis(5);

/// Runs `flowmob show ... --watch` until told to end: in place on a terminal; anywhere else, and as JSON, one after
/// the other.
///
/// # Errors
/// If the process does not answer the first time, or nothing can be printed though somebody reads it. Later a
/// process may go and come back.
pub(crate) fn watch(
    client: &Client,
    what: Show,
    json: bool,
    interval: Duration,
) -> anyhow::Result<()> {
    let told = told_to_end()?;
    let Some(mut said) = look(client, what, json, &told)? else {
        return Ok(());
    };
    if said.is_err() {
        return said.map(|_| ());
    }
    let in_place = !json && stdout().is_terminal();
    let screen = in_place.then(|| Screen::enter(false)).transpose()?;
    loop {
        let printed = match &said {
            Ok(text) if in_place => replace(text),
            Err(error) if in_place => replace(&format!("{error:#}")),
            Ok(text) => writeln!(stdout(), "{text}"),
            Err(error) => writeln!(std::io::stderr(), "flowmob: {error:#}"),
        };
        match printed {
            // A reader that has gone, as `head` does, is no failure.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            printed => printed?,
        }
        if pause(interval, &told) {
            break;
        }
        match look(client, what, json, &told)? {
            Some(next) => said = next,
            None => break,
        }
    }
    drop(screen);
    Ok(())
}

/// Asks once; none if told to end before there is an answer. It is waited for by a thread of its own, as one that has
/// stopped would never let us end.
fn look(
    client: &Client,
    what: Show,
    json: bool,
    told: &AtomicBool,
) -> anyhow::Result<Option<anyhow::Result<String>>> {
    let client = client.clone();
    let asking = std::thread::Builder::new()
        .name("ask".into())
        .spawn(move || {
            let value = ask(&client, what)?;
            if json {
                Ok(value.to_string())
            } else {
                shown(what, value)
            }
        })
        .context("no thread to ask with")?;
    while !asking.is_finished() {
        if pause(TURN, told) {
            return Ok(None);
        }
    }
    let said = asking.join();
    Ok(Some(said.unwrap_or_else(|_| {
        Err(anyhow::anyhow!("the question has panicked"))
    })))
}

/// Puts a text in place of the one before, as much as there is room for. Nothing is cleared before it is written
/// anew, so nothing flickers.
fn replace(text: &str) -> std::io::Result<()> {
    let mut out = stdout().lock();
    let (_, height) = size()?;
    let mut lines = text.lines();
    for y in 0..height {
        queue!(out, MoveTo(0, y))?;
        write!(out, "{}", lines.next().unwrap_or_default())?;
        queue!(out, Clear(ClearType::UntilNewLine))?;
    }
    out.flush()
}
