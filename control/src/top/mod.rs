//! `flowmob top`: what a process does, as it does it, on a terminal.
//!
//! ```text
//! terminal  --keys-->    model  --what to ask-->  ask  --HTTP--> the process
//!           <--draw--           <--answers------
//! ```
//!
//! The model knows neither terminal nor socket nor clock; the loop here brings them together. Each question has a
//! thread of its own, so that a process that is slow or gone never keeps keys from working.

mod ask;
mod data;
mod draw;
mod grid;
mod model;
mod rates;
mod terminal;
mod views;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam::channel::{Receiver, Sender, unbounded};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use self::ask::{Answer, perform};
use self::draw::{Look, draw};
use self::model::{HELP, Top};
use self::terminal::{Input, input};
use crate::client::Client;

pub(crate) use self::terminal::{Screen, pause, told_to_end};

/// How long answers and signals may wait for somebody to look.
const TURN: Duration = Duration::from_millis(50);
/// Time passes on the screen at least so often.
const SECOND: Duration = Duration::from_secs(1);

/// What keys do, for the command line's help.
pub(crate) fn help() -> String {
    let keys = HELP.iter();
    let lines = keys.map(|(keys, what)| format!("  {keys:<14} {what}\n"));
    format!("Keys:\n{}", lines.collect::<String>())
}

/// Runs `flowmob top` until the user has seen enough.
///
/// # Errors
/// If there is no terminal.
pub(crate) fn run(client: &Client, socket: &Path, interval: Duration) -> anyhow::Result<()> {
    let told = told_to_end()?;
    let _screen = Screen::enter(true)
        .context("top needs a terminal; for programs there is `flowmob show ... --watch --json`")?;
    let mut terminal = Terminal::new(CrosstermBackend::new(std::io::stdout()))?;
    let look = Look {
        colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    };
    let start = Instant::now();
    let mut top = Top::new(socket.display().to_string(), interval);
    let (to, answers) = unbounded();
    let mut drawn: Option<Duration> = None;
    while !top.ended && !told.load(Ordering::Relaxed) {
        while let Some(ask) = top.poll_ask(start.elapsed()) {
            let (client, to) = (client.clone(), to.clone());
            std::thread::Builder::new()
                .name("ask".into())
                .spawn(move || answer(&to, perform(&client, ask, || start.elapsed())))
                .context("no thread to ask with")?;
        }
        let now = start.elapsed();
        if drawn.is_none_or(|drawn| now >= drawn + SECOND) {
            terminal.draw(|frame| draw(frame, &top, now, look))?;
            drawn = Some(now);
        }
        let changed = match input(TURN)? {
            Some(Input::Key(key)) => {
                top.handle_key(start.elapsed(), key);
                true
            }
            Some(Input::Resized) => true,
            None => false,
        };
        if take(&mut top, &answers, start) || changed {
            drawn = None;
        }
    }
    Ok(())
}

fn answer(to: &Sender<Answer>, answer: Answer) {
    // Nobody waits for it while the program ends.
    let _ = to.send(answer);
}

/// Takes the answers that are there; says whether there were any.
fn take(top: &mut Top, answers: &Receiver<Answer>, start: Instant) -> bool {
    let mut any = false;
    for answer in answers.try_iter() {
        top.handle_answer(start.elapsed(), answer);
        any = true;
    }
    any
}
