//! What is known about a file besides its values: where they stand, which are faulty, and what has
//! been reported.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::report::{Content, Errors, Mark, Report, Severity, Source};

/// Where a key stands in the file.
struct Place {
    key: Range<usize>,
    value: Range<usize>,
}

/// All that is known about a file besides its values: where they stand, which of them are
/// faulty, and what has been reported.
///
/// Keys are named by their path, such as `port[0].mac`.
pub(crate) struct Notes {
    source: Arc<Source>,
    places: HashMap<String, Place>,
    tainted: HashSet<String>,
    reports: Vec<Report>,
    /// Every key that was asked for, without indexes: `port.mac`.
    known: BTreeSet<String>,
}

/// A report in the making.
#[must_use]
pub(crate) struct Draft {
    severity: Severity,
    path: String,
    on_key: bool,
    message: String,
    label: String,
    help: String,
    other: Option<(String, String)>,
}

impl Draft {
    /// An error about the value of `path`.
    pub(crate) fn error(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            path: path.into(),
            on_key: false,
            message: message.into(),
            label: String::new(),
            help: String::new(),
            other: None,
        }
    }

    /// A warning about the value of `path`.
    pub(crate) fn warning(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(path, message)
        }
    }

    /// Underlines the key, not its value.
    pub(crate) fn on_key(self) -> Self {
        Self {
            on_key: true,
            ..self
        }
    }

    /// The words under the underlined value.
    pub(crate) fn label(self, label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            ..self
        }
    }

    /// The way out.
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: help.into(),
            ..self
        }
    }

    /// A second value that the report is about.
    pub(crate) fn other(self, path: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            other: Some((path.into(), label.into())),
            ..self
        }
    }
}

impl Notes {
    pub(crate) fn new(source: Arc<Source>, tree: &DeTable<'_>) -> Self {
        let mut places = HashMap::new();
        place_table("", tree, &mut places);
        Self {
            source,
            places,
            tainted: HashSet::new(),
            reports: Vec::new(),
            known: BTreeSet::new(),
        }
    }

    /// Remembers that a key was asked for.
    pub(crate) fn ask(&mut self, path: &str) {
        self.known.insert(without_indexes(path));
    }

    /// Every key that was asked for, without indexes: `port.mac`.
    #[cfg(test)]
    pub(crate) fn known(&self) -> &BTreeSet<String> {
        &self.known
    }

    /// Every key of the file, with indexes.
    #[cfg(test)]
    pub(crate) fn present(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Whether the file has this key.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    /// Where a value starts, to say which of two comes first.
    pub(crate) fn offset(&self, path: &str) -> usize {
        self.place(path).map_or(0, |place| place.value.start)
    }

    /// Whether the value of a key, or of a table around it, is faulty: what was read is a
    /// placeholder that nothing may be concluded from.
    pub(crate) fn is_tainted(&self, path: &str) -> bool {
        around(path).any(|p| self.tainted.contains(p))
    }

    /// Whether any value is faulty whose path without indexes is `path`, or is in such a value.
    pub(crate) fn any_tainted(&self, path: &str) -> bool {
        self.tainted.iter().any(|tainted| {
            let plain = without_indexes(tainted);
            around(&plain).any(|p| p == path) || around(path).any(|p| p == plain)
        })
    }

    /// Reports a contradiction, unless one of the values it is about is faulty by itself.
    pub(crate) fn push(&mut self, draft: Draft) {
        let other = draft.other.as_ref().map(|(path, _)| path);
        if !self.is_tainted(&draft.path) && !other.is_some_and(|path| self.is_tainted(path)) {
            self.add(draft);
        }
    }

    /// Reports a value that is faulty by itself.
    pub(crate) fn fault(&mut self, draft: Draft) {
        self.tainted.insert(draft.path.clone());
        self.add(draft);
    }

    /// Marks a value as a placeholder; why has been reported.
    pub(crate) fn taint(&mut self, path: String) {
        self.tainted.insert(path);
    }

    fn add(&mut self, draft: Draft) {
        let span = |path: &str, on_key: bool| {
            // A key that is not in the file is missing from the table around it.
            self.place(path).map_or(0..0, |place| {
                let span = if on_key { &place.key } else { &place.value };
                span.clone()
            })
        };
        let place = Mark {
            span: span(&draft.path, draft.on_key),
            label: draft.label,
        };
        // A default has no place of its own.
        let other = draft.other.filter(|(path, _)| self.has(path));
        let other = other.map(|(path, label)| Mark {
            span: span(&path, false),
            label,
        });
        self.reports.push(Report::new(
            &self.source,
            Content {
                severity: draft.severity,
                key: draft.path,
                message: draft.message,
                help: draft.help,
                place,
                other,
            },
        ));
    }

    fn place(&self, path: &str) -> Option<&Place> {
        around(path).find_map(|p| self.places.get(p))
    }

    /// The warnings, if there are no errors.
    pub(crate) fn into_warnings(mut self) -> Result<Vec<Report>, Errors> {
        self.reports.sort_by_key(Report::offset);
        if self.reports.iter().any(|r| r.severity == Severity::Error) {
            Err(Errors::new(self.reports))
        } else {
            Ok(self.reports)
        }
    }
}

/// A path, the table it is in, and so on outwards.
fn around(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| {
        path.rfind(['.', '['])
            .map(|at| path.get(..at).unwrap_or(""))
    })
}

pub(crate) fn without_indexes(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    for part in path.split(['[', ']']).step_by(2) {
        plain.push_str(part);
    }
    plain
}

pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn place_table(path: &str, table: &DeTable<'_>, places: &mut HashMap<String, Place>) {
    for (key, value) in table {
        let path = join(path, key.get_ref());
        place_value(path, key.span(), value, places);
    }
}

fn place_value(
    path: String,
    key: Range<usize>,
    value: &Spanned<DeValue<'_>>,
    places: &mut HashMap<String, Place>,
) {
    if let Some(table) = value.get_ref().as_table() {
        place_table(&path, table, places);
    }
    for (i, element) in value.get_ref().as_array().into_iter().flatten().enumerate() {
        place_value(format!("{path}[{i}]"), element.span(), element, places);
    }
    let value = value.span();
    places.insert(path, Place { key, value });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        let path = "lma.mobile[2].prefixes[0]";
        assert_eq!(without_indexes(path), "lma.mobile.prefixes");
        let tables: Vec<_> = around(path).collect();
        assert_eq!(
            tables,
            [
                path,
                "lma.mobile[2].prefixes",
                "lma.mobile[2]",
                "lma.mobile",
                "lma"
            ]
        );
    }
}
