//! A table for people: cells that can be sorted and searched, and the row that is pointed at.

use std::cmp::Ordering;

use flow::{MnId, Role};

use super::rates::short;

/// What a row is about. Rows are found again by it when the table changes, and commands work on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A mobile, or one of its accesses.
    Mobile {
        /// Whose table.
        role: Role,
        /// The mobile.
        mn: MnId,
        /// The access, in tables of these.
        access: Option<String>,
    },
    /// A flow rule.
    Flow {
        /// Whose table.
        role: Role,
        /// The mobile.
        mn: MnId,
        /// The flow; only an LMA has it.
        fid: Option<u16>,
        /// Its packets, in words.
        selector: String,
    },
    /// Anything else, by a name of its own.
    Other(String),
}

/// A field.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    /// As it is shown.
    pub(super) text: String,
    /// What it is sorted by, if not by its text.
    value: Option<f64>,
    /// Whether there is anything.
    known: bool,
}

impl Cell {
    /// A text.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            value: None,
            known: true,
        }
    }

    /// A number that is shown as it is.
    pub(super) fn number(number: u64) -> Self {
        Self::valued(super::rates::number(number), number.to_string())
    }

    /// A text that stands for a number.
    pub(super) fn valued(value: f64, text: String) -> Self {
        Self {
            text,
            value: Some(value),
            known: true,
        }
    }

    /// A rate.
    pub(super) fn rate(rate: Option<f64>) -> Self {
        rate.map_or_else(Self::none, |rate| Self::valued(rate, short(rate)))
    }

    /// Nothing.
    pub(super) fn none() -> Self {
        Self {
            text: "-".to_owned(),
            value: None,
            known: false,
        }
    }

    /// A text that may be missing.
    pub(super) fn optional(text: Option<impl Into<String>>) -> Self {
        text.map_or_else(Self::none, Self::text)
    }

    /// Which comes first; what is not known comes last either way.
    fn compare(&self, other: &Self, descending: bool) -> Ordering {
        let known = other.known.cmp(&self.known);
        let values = match (self.value, other.value) {
            (Some(one), Some(two)) => one.total_cmp(&two),
            _ => self.text.cmp(&other.text),
        };
        known.then(if descending { values.reverse() } else { values })
    }
}

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// What it is about.
    pub(super) subject: Subject,
    /// Its fields, one a column.
    pub(super) cells: Vec<Cell>,
    /// Whether somebody should look at it.
    pub(super) loud: bool,
}

/// A column's head, and whether its fields are numbers.
pub(super) type Column = (&'static str, bool);

/// A table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Grid {
    /// Its columns.
    pub(super) columns: &'static [Column],
    /// Its rows.
    pub(super) rows: Vec<Row>,
}

/// How a table is looked at; it stays when the table changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outlook {
    /// The column it is sorted by, if it is, and whether the greatest comes first.
    pub(super) sort: Option<(usize, bool)>,
    /// What rows have to contain.
    pub(super) filter: String,
    /// The number of the row that is pointed at.
    pub(super) at: usize,
    subject: Option<Subject>,
}

impl Outlook {
    /// Arranges a table so, and finds the row that was pointed at again.
    pub(super) fn arrange(&mut self, mut grid: Grid) -> Grid {
        let needle = self.filter.to_lowercase();
        if !needle.is_empty() {
            let has = |cell: &Cell| cell.text.to_lowercase().contains(&needle);
            grid.rows.retain(|row| row.cells.iter().any(has));
        }
        if let Some((column, descending)) = self.sort {
            grid.rows.sort_by(
                |one, two| match (one.cells.get(column), two.cells.get(column)) {
                    (Some(one), Some(two)) => one.compare(two, descending),
                    _ => Ordering::Equal,
                },
            );
        }
        let again = |subject: &Subject| grid.rows.iter().position(|row| row.subject == *subject);
        match self.subject.as_ref().map(again) {
            Some(Some(at)) => self.at = at,
            // It has gone: the row in its place is next.
            Some(None) => self.point(self.at, &grid),
            None => {}
        }
        grid
    }

    /// Points at the first row, whichever that will be.
    pub(super) fn top(&mut self) {
        self.at = 0;
        self.subject = None;
    }

    /// Points at a row, or at the last if there are not so many.
    pub(super) fn point(&mut self, at: usize, grid: &Grid) {
        self.at = at.min(grid.rows.len().saturating_sub(1));
        self.subject = grid.rows.get(self.at).map(|row| row.subject.clone());
    }

    /// Sorts by the next column, or the one before; at the ends of the table, by none.
    pub(super) fn sort_beside(&mut self, right: bool, columns: &'static [Column]) {
        let at = match (self.sort, right) {
            (None, true) => Some(0),
            (None, false) => columns.len().checked_sub(1),
            (Some((at, _)), true) => Some(at + 1),
            (Some((at, _)), false) => at.checked_sub(1),
        };
        // Of numbers one wants to see the great ones.
        self.sort = at.and_then(|at| Some((at, columns.get(at)?.1)));
    }

    /// Sorts the other way round.
    pub(super) fn reverse(&mut self) {
        self.sort = self.sort.map(|(at, descending)| (at, !descending));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[("NAME", false), ("PKT/S", true)];

    fn grid(rows: &[(&str, Option<f64>)]) -> Grid {
        let row = |(name, rate): &(&str, Option<f64>)| Row {
            subject: Subject::Other((*name).to_owned()),
            cells: vec![Cell::text(*name), Cell::rate(*rate)],
            loud: false,
        };
        Grid {
            columns: COLUMNS,
            rows: rows.iter().map(row).collect(),
        }
    }

    fn names(grid: &Grid) -> Vec<&str> {
        let rows = grid.rows.iter();
        rows.map(|row| row.cells[0].text.as_str()).collect()
    }

    #[test]
    fn numbers_are_sorted_as_such_and_what_is_not_known_comes_last() {
        let table = || {
            grid(&[
                ("a", Some(9.0)),
                ("b", None),
                ("c", Some(1.2e6)),
                ("d", Some(30.0)),
            ])
        };
        let mut outlook = Outlook::default();
        assert_eq!(names(&outlook.arrange(table())), ["a", "b", "c", "d"]);
        outlook.sort_beside(false, COLUMNS);
        assert_eq!(outlook.sort, Some((1, true)));
        assert_eq!(names(&outlook.arrange(table())), ["c", "d", "a", "b"]);
        outlook.reverse();
        assert_eq!(names(&outlook.arrange(table())), ["a", "d", "c", "b"]);
        outlook.sort_beside(false, COLUMNS);
        assert_eq!(outlook.sort, Some((0, false)));
        outlook.sort_beside(false, COLUMNS);
        assert_eq!(outlook.sort, None);
    }

    #[test]
    fn the_same_row_is_pointed_at_wherever_it_goes() {
        let mut outlook = Outlook::default();
        let table = outlook.arrange(grid(&[("a", None), ("b", None), ("c", None)]));
        outlook.point(1, &table);
        outlook.arrange(grid(&[("x", None), ("a", None), ("b", None)]));
        assert_eq!(outlook.at, 2);
        outlook.arrange(grid(&[("x", None), ("a", None)]));
        assert_eq!(outlook.at, 1);
        outlook.arrange(grid(&[("a", None), ("x", None)]));
        assert_eq!(outlook.at, 0);
        outlook.arrange(grid(&[]));
        assert_eq!(outlook.at, 0);
        // At the top one sees what comes to the top.
        let table = outlook.arrange(grid(&[("a", None), ("b", None)]));
        outlook.point(1, &table);
        outlook.top();
        outlook.arrange(grid(&[("x", None), ("a", None), ("b", None)]));
        assert_eq!(outlook.at, 0);
    }

    #[test]
    fn a_filter_looks_into_every_field() {
        let mut outlook = Outlook {
            filter: "B".to_owned(),
            ..Outlook::default()
        };
        let table = grid(&[("ab", None), ("x", Some(5.0)), ("b", None)]);
        assert_eq!(names(&outlook.arrange(table.clone())), ["ab", "b"]);
        "5.0".clone_into(&mut outlook.filter);
        assert_eq!(names(&outlook.arrange(table)), ["x"]);
    }
}
