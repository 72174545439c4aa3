//! What each key does.

use std::time::Duration;

use super::super::views::View;
use super::{Mode, Top};

/// A key, as far as there is use for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Key {
    /// A letter.
    Char(char),
    /// Control and C.
    Interrupt,
    /// As they are called.
    Enter,
    Escape,
    Backspace,
    Tab,
    BackTab,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
}

/// What the help says: keys and what they do.
pub(in super::super) const HELP: [(&str, &str); 11] = [
    ("1 to 7, Tab", "another table"),
    (
        "Up, Down, k, j",
        "another row; Page Up, Page Down, Home, End",
    ),
    (
        "Left, Right",
        "sort by another column, or by none at the ends",
    ),
    ("r", "sort the other way round"),
    ("/", "show only rows that contain a text"),
    ("Enter", "the mobile of this row: its accesses and flows"),
    ("Esc", "back; or show all rows again"),
    ("m", "move this flow to another access (at an LMA)"),
    ("space", "ask at once"),
    ("?", "this"),
    ("q, Ctrl-C", "quit"),
];

/// Rows that Page Up and Page Down pass.
const PAGE: usize = 10;

impl Top {
    /// Does what a key is for.
    pub(in super::super) fn handle_key(&mut self, now: Duration, key: Key) {
        if key == Key::Interrupt {
            self.ended = true;
            return;
        }
        match std::mem::take(&mut self.mode) {
            Mode::Browse => self.browse(now, key),
            Mode::Filter => self.write_filter(key),
            // Any key ends it, and does nothing else.
            Mode::Help => {}
            Mode::Move(moving) => self.go_on_moving(moving, key),
        }
    }

    fn browse(&mut self, now: Duration, key: Key) {
        let at = self.outlook().at;
        match key {
            Key::Up | Key::Char('k') => self.point(at.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.point(at.saturating_add(1)),
            Key::PageUp => self.point(at.saturating_sub(PAGE)),
            Key::PageDown => self.point(at.saturating_add(PAGE)),
            Key::Home => self.outlook_mut().top(),
            Key::End => self.point(usize::MAX),
            Key::Left | Key::Right => {
                let columns = self.grid.columns;
                self.outlook_mut().sort_beside(key == Key::Right, columns);
                self.arrange();
            }
            Key::Tab => self.show(now, self.beside(1)),
            Key::BackTab => self.show(now, self.beside(View::ALL.len() - 1)),
            Key::Enter => self.enter(now),
            Key::Escape => self.leave(now),
            Key::Char(letter) => self.letter(now, letter),
            Key::Backspace | Key::Interrupt => {}
        }
    }

    fn letter(&mut self, now: Duration, letter: char) {
        match letter {
            'q' => self.ended = true,
            '?' | 'h' => self.mode = Mode::Help,
            '/' => self.mode = Mode::Filter,
            'r' => {
                self.outlook_mut().reverse();
                self.arrange();
            }
            'm' => self.begin_to_move(),
            ' ' => self.hurry(now),
            _ => {
                let place = letter.to_digit(10).and_then(|digit| digit.checked_sub(1));
                let view = place.and_then(|place| View::ALL.get(usize::try_from(place).ok()?));
                if let Some(view) = view {
                    self.show(now, *view);
                }
            }
        }
    }

    /// The view so many further.
    fn beside(&self, steps: usize) -> View {
        let all = View::ALL.iter().cycle();
        let mut from_here = all.skip_while(|view| **view != self.view);
        from_here.nth(steps).copied().unwrap_or_default()
    }

    /// The table follows while the filter is written.
    fn write_filter(&mut self, key: Key) {
        match key {
            Key::Enter => return,
            Key::Escape => {
                self.outlook_mut().filter.clear();
                return self.arrange();
            }
            Key::Backspace => {
                self.outlook_mut().filter.pop();
            }
            Key::Char(letter) => self.outlook_mut().filter.push(letter),
            Key::Up
            | Key::Down
            | Key::Left
            | Key::Right
            | Key::Tab
            | Key::BackTab
            | Key::PageUp
            | Key::PageDown
            | Key::Home
            | Key::End
            | Key::Interrupt => {}
        }
        self.mode = Mode::Filter;
        self.arrange();
    }
}
