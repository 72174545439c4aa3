//! Moving a flow: choose the access, confirm, and hear what came of it.

use flow::Role;

use super::super::ask::Ask;
use super::super::grid::Subject;
use super::{Key, Mode, Said, Top};
use crate::api::{FlowMove, FlowMoved};

/// A move that is being put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Move {
    /// The mobile.
    pub(in super::super) mn: String,
    /// The flow.
    pub(in super::super) fid: u16,
    /// Its packets, in words.
    pub(in super::super) selector: String,
    /// The accesses that it may go to.
    pub(in super::super) targets: Vec<Target>,
    /// The one that is pointed at.
    pub(in super::super) at: usize,
    /// Whether that is chosen: only to be confirmed.
    pub(in super::super) chosen: bool,
}

/// An access to move to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Target {
    bid: u16,
    /// In words.
    pub(in super::super) text: String,
}

impl Top {
    /// Begins with the flow that is pointed at, or says why not.
    pub(super) fn begin_to_move(&mut self) {
        match self.movable() {
            Ok(moving) => {
                self.said = None;
                self.mode = Mode::Move(moving);
            }
            Err(text) => {
                let text = text.to_owned();
                self.said = Some(Said { text, error: true });
            }
        }
    }

    fn movable(&self) -> Result<Move, &'static str> {
        let Some(Subject::Flow {
            role,
            mn,
            fid,
            selector,
        }) = self.row().map(|row| &row.subject)
        else {
            return Err("point at a flow to move it: 3, or Enter on a mobile");
        };
        let (Role::Lma, Some(fid)) = (*role, *fid) else {
            return Err("flows are moved at the LMA");
        };
        let mut flows = self.data.flows.rows().iter();
        let flow = flows.find(|row| row.role == *role && row.mn == *mn && row.fid == Some(fid));
        let current = flow.and_then(|flow| flow.bid);
        let accesses = self.data.accesses_of(*role, mn);
        let others = accesses.filter(|access| access.bid != current);
        let targets: Vec<_> = others
            .filter_map(|access| {
                Some(Target {
                    bid: access.bid?,
                    text: format!(
                        "access {}: {} at {}, {}",
                        access.bid?, access.access_technology, access.peer, access.state
                    ),
                })
            })
            .collect();
        if targets.is_empty() {
            return Err("its mobile has no other access");
        }
        Ok(Move {
            mn: mn.to_string(),
            fid,
            selector: selector.clone(),
            targets,
            at: 0,
            chosen: false,
        })
    }

    /// Takes a key while a move is put together.
    pub(super) fn go_on_moving(&mut self, mut moving: Move, key: Key) {
        match key {
            Key::Escape | Key::Char('n') if moving.chosen => moving.chosen = false,
            Key::Escape | Key::Char('q') => return,
            Key::Enter | Key::Char('y') if moving.chosen => return self.ask_to_move(&moving),
            Key::Enter => moving.chosen = true,
            Key::Up | Key::Char('k') if !moving.chosen => moving.at = moving.at.saturating_sub(1),
            Key::Down | Key::Char('j') if !moving.chosen => {
                moving.at = (moving.at + 1).min(moving.targets.len().saturating_sub(1));
            }
            Key::Char(_)
            | Key::Up
            | Key::Down
            | Key::Left
            | Key::Right
            | Key::Tab
            | Key::BackTab
            | Key::PageUp
            | Key::PageDown
            | Key::Home
            | Key::End
            | Key::Backspace
            | Key::Interrupt => {}
        }
        self.mode = Mode::Move(moving);
    }

    fn ask_to_move(&mut self, moving: &Move) {
        let Some(target) = moving.targets.get(moving.at) else {
            return;
        };
        let request = FlowMove {
            mn: moving.mn.clone(),
            fid: moving.fid,
            bid: target.bid,
        };
        self.said = Some(Said {
            text: format!(
                "moving flow {} of {} to access {} ...",
                request.fid, request.mn, request.bid
            ),
            error: false,
        });
        self.commands.push_back(Ask::Move(request));
    }
}

/// What came of a move, in words.
pub(super) fn said(request: &FlowMove, result: Result<FlowMoved, String>) -> Said {
    match result {
        Ok(moved) => Said {
            text: moved.text(&request.mn),
            error: false,
        },
        Err(reason) => Said {
            text: format!(
                "flow {} of {} not moved to access {}: {reason}",
                request.fid, request.mn, request.bid
            ),
            error: true,
        },
    }
}
