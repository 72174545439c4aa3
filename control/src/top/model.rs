//! What the screen shows and what keys do to it, without terminal, socket or clock.
//!
//! Inputs are [`Top::handle_key`] and [`Top::handle_answer`], each with the time since the program began. After
//! either, and when time has passed, [`Top::poll_ask`] says what to ask the process, until it says nothing.

mod keys;
mod moving;
#[cfg(test)]
pub(super) mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use flow::{MnId, Role};

use super::ask::{Answer, Ask, Wanted};
use super::data::Data;
use super::grid::{Grid, Outlook, Row, Subject};
use super::views::{View, flows_of};

pub(super) use keys::{HELP, Key};
pub(super) use moving::Move;

/// A process that has not answered for so long is said to be silent.
const PATIENCE: Duration = Duration::from_secs(3);
/// Of the time, the part that the process may spend on answering: one in so many.
const SHARE: u32 = 10;

/// The state of the screen.
#[derive(Debug)]
pub(super) struct Top {
    socket: String,
    interval: Duration,
    pub(super) data: Data,
    pub(super) view: View,
    /// The mobile that is looked at closely.
    pub(super) mobile: Option<(Role, MnId)>,
    outlooks: [Outlook; View::ALL.len()],
    /// That of the flows of a mobile.
    closely: Outlook,
    pub(super) grid: Grid,
    pub(super) mode: Mode,
    /// What came of the last command.
    pub(super) said: Option<Said>,
    /// Why there was no answer, the last time.
    trouble: Option<String>,
    /// Since when an answer is awaited.
    asked: Option<Duration>,
    /// When to ask next.
    due: Duration,
    /// Whether to ask again as soon as there is an answer.
    hurry: bool,
    commands: VecDeque<Ask>,
    pub(super) ended: bool,
}

/// What keys are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// The table.
    #[default]
    Browse,
    /// Writing the filter.
    Filter,
    /// Reading what keys do.
    Help,
    /// Moving a flow.
    Move(Move),
}

/// A line for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) error: bool,
}

impl Top {
    /// Before anything was asked.
    pub(super) fn new(socket: String, interval: Duration) -> Self {
        Self {
            socket,
            interval,
            data: Data::default(),
            view: View::default(),
            mobile: None,
            outlooks: Default::default(),
            closely: Outlook::default(),
            grid: View::default().grid(&Data::default()),
            mode: Mode::default(),
            said: None,
            trouble: None,
            asked: None,
            due: Duration::ZERO,
            hurry: false,
            commands: VecDeque::new(),
            ended: false,
        }
    }

    /// What to ask now. Tables are asked for when the last ones have been answered.
    pub(super) fn poll_ask(&mut self, now: Duration) -> Option<Ask> {
        if let Some(command) = self.commands.pop_front() {
            return Some(command);
        }
        if self.asked.is_some() || now < self.due {
            return None;
        }
        self.asked = Some(now);
        Some(Ask::Tables(self.wanted()))
    }

    fn wanted(&self) -> Wanted {
        let tables = match self.mobile {
            Some(_) => Wanted {
                flows: true,
                bindings: true,
                ..self.view.wanted()
            },
            None => self.view.wanted(),
        };
        Wanted {
            events_after: self.data.last_event,
            ..tables
        }
    }

    /// Takes an answer.
    pub(super) fn handle_answer(&mut self, now: Duration, answer: Answer) {
        match answer {
            Answer::Tables(answer) => {
                let took = now.saturating_sub(self.asked.take().unwrap_or(now));
                self.due = if std::mem::take(&mut self.hurry) {
                    now
                } else {
                    now + self.interval.max(took * (SHARE - 1))
                };
                match answer {
                    Ok(tables) => {
                        self.trouble = None;
                        self.data.take(*tables);
                        self.arrange();
                    }
                    Err(reason) => self.trouble = Some(reason),
                }
            }
            Answer::Moved(request, result) => {
                self.said = Some(moving::said(&request, result));
                self.hurry(now);
            }
        }
    }

    /// Why nothing can be seen of the process, if so.
    pub(super) fn trouble(&self, now: Duration) -> Option<String> {
        let silent = self.asked.map(|asked| now.saturating_sub(asked));
        let reason = match (&self.trouble, silent) {
            (_, Some(silent)) if silent >= PATIENCE => {
                format!("silent for {} s", silent.as_secs())
            }
            (Some(reason), _) => reason.clone(),
            (None, _) => return None,
        };
        Some(format!("no answer from {}: {reason}", self.socket))
    }

    /// How the table at hand is looked at.
    pub(super) fn outlook(&self) -> &Outlook {
        let place = View::ALL.iter().position(|view| *view == self.view);
        let outlook = place.and_then(|place| self.outlooks.get(place));
        match (&self.mobile, outlook) {
            (None, Some(outlook)) => outlook,
            (Some(_), _) | (None, None) => &self.closely,
        }
    }

    fn outlook_mut(&mut self) -> &mut Outlook {
        let place = View::ALL.iter().position(|view| *view == self.view);
        let outlook = place.and_then(|place| self.outlooks.get_mut(place));
        match (&self.mobile, outlook) {
            (None, Some(outlook)) => outlook,
            (Some(_), _) | (None, None) => &mut self.closely,
        }
    }

    /// Makes the table at hand anew.
    fn arrange(&mut self) {
        let grid = match &self.mobile {
            Some((role, mn)) => flows_of(&self.data, *role, mn),
            None => self.view.grid(&self.data),
        };
        self.grid = self.outlook_mut().arrange(grid);
    }

    /// The row that is pointed at.
    fn row(&self) -> Option<&Row> {
        self.grid.rows.get(self.outlook().at)
    }

    fn point(&mut self, at: usize) {
        let grid = std::mem::take(&mut self.grid);
        self.outlook_mut().point(at, &grid);
        self.grid = grid;
    }

    /// Shows another view. What is not asked for elsewhere is asked for at once.
    fn show(&mut self, now: Duration, view: View) {
        self.view = view;
        self.mobile = None;
        self.look_elsewhere(now);
    }

    /// Looks at the mobile of the row that is pointed at.
    fn enter(&mut self, now: Duration) {
        let Some(row) = self.row().filter(|_| self.mobile.is_none()) else {
            return;
        };
        let (Subject::Mobile { role, mn, .. } | Subject::Flow { role, mn, .. }) = &row.subject
        else {
            return;
        };
        self.mobile = Some((*role, mn.clone()));
        self.closely = Outlook::default();
        self.look_elsewhere(now);
    }

    fn leave(&mut self, now: Duration) {
        if self.mobile.take().is_some() {
            self.look_elsewhere(now);
        } else {
            self.outlook_mut().filter.clear();
            self.arrange();
        }
        self.said = None;
    }

    /// Asks at once, or when what is under way, which may not be what is wanted now, has been answered.
    fn hurry(&mut self, now: Duration) {
        self.due = now;
        self.hurry = self.asked.is_some();
    }

    fn look_elsewhere(&mut self, now: Duration) {
        self.hurry(now);
        self.said = None;
        self.arrange();
    }
}
