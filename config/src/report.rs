//! Reports: what is wrong, where, and what to do about it.

use std::fmt;
use std::io;
use std::ops::Range;
use std::string::FromUtf8Error;
use std::sync::Arc;

use annotate_snippets::{
    Annotation, AnnotationKind, Group, Level, Renderer, Snippet,
    normalize_untrusted_str as normalize,
};
use serde::Serialize;

/// A file's name and text.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Source {
    name: String,
    text: String,
    /// Offsets of the first octet of each line.
    lines: Vec<usize>,
}

impl Source {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let starts = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            name: name.to_owned(),
            text: text.to_owned(),
            lines: std::iter::once(0).chain(starts).collect(),
        }
    }

    /// The index of the line that an offset is on.
    fn line(&self, offset: usize) -> usize {
        self.lines
            .partition_point(|start| *start <= offset)
            .saturating_sub(1)
    }

    /// The offset of a line's first octet; of the end of the text if there is no such line.
    fn start(&self, line: usize) -> usize {
        self.lines.get(line).copied().unwrap_or(self.text.len())
    }

    /// The largest character boundary of the text that is not past `offset`.
    fn boundary(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }

    /// Keeps a span inside the text and on one line: the renderer panics on anything past the
    /// end, and a table's first line says enough.
    fn clamp(&self, span: &Range<usize>) -> Range<usize> {
        let start = self.boundary(span.start);
        let end = self.boundary(span.end).max(start);
        let inside = self.slice(start..end);
        let line = inside.split(['\r', '\n']).next().unwrap_or(inside);
        start..start + line.len()
    }

    fn slice(&self, range: Range<usize>) -> &str {
        self.text.get(range).unwrap_or("")
    }

    /// Line and column of an offset, both from 1; columns count characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let offset = self.boundary(offset);
        let line = self.line(offset);
        let before = self.slice(self.start(line)..offset);
        (line + 1, before.chars().count() + 1)
    }
}

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is accepted, but something in it is probably not meant.
    Warning,
}

/// One thing that is wrong with a file. `Display` prints it as a compiler would: the message, the
/// place, the line itself with the fault underlined, and the way out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// How bad it is.
    pub severity: Severity,
    /// The line, from 1; 0 if the file could not be read at all.
    pub line: usize,
    /// The column in characters, from 1; 0 if the file could not be read at all.
    pub column: usize,
    /// The key it is about, such as `port[0].mac`; empty for the file as a whole.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: String,
    #[serde(skip)]
    place: Mark,
    #[serde(skip)]
    other: Option<Mark>,
    #[serde(skip)]
    source: Arc<Source>,
}

/// An underlined part of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    pub(crate) span: Range<usize>,
    pub(crate) label: String,
}

/// What [`Report::new`] makes a report of.
pub(crate) struct Content {
    pub(crate) severity: Severity,
    pub(crate) key: String,
    pub(crate) message: String,
    pub(crate) help: String,
    pub(crate) place: Mark,
    pub(crate) other: Option<Mark>,
}

impl Report {
    pub(crate) fn new(source: &Arc<Source>, content: Content) -> Self {
        let clamp = |mark: Mark| Mark {
            span: source.clamp(&mark.span),
            ..mark
        };
        let place = clamp(content.place);
        let (line, column) = source.position(place.span.start);
        Self {
            severity: content.severity,
            line,
            column,
            key: content.key,
            message: content.message,
            help: content.help,
            place,
            other: content.other.map(clamp),
            source: Arc::clone(source),
        }
    }

    /// The name of the file.
    pub fn file(&self) -> &str {
        &self.source.name
    }

    /// Where the fault starts, as an offset in octets.
    pub(crate) fn offset(&self) -> usize {
        self.place.span.start
    }

    /// The report as `Display` prints it, with colours for a terminal.
    pub fn to_ansi(&self) -> String {
        self.render(&Renderer::styled())
    }

    fn render(&self, renderer: &Renderer) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(self.message.as_str());
        let help = Level::HELP.message(normalize(&self.help));
        let group = if self.line == 0 {
            Group::with_title(title).element(help)
        } else {
            title.elements(self.snippets()).element(help)
        };
        renderer.render(&[group])
    }

    /// The marked lines: one piece of the file, or two if the marks are far apart, as rendering
    /// takes time for each line in between.
    fn snippets(&self) -> Vec<Snippet<'_, Annotation<'_>>> {
        const FAR: usize = 100;
        let line = |mark: &Mark| self.source.line(mark.span.start);
        let place = (&self.place, AnnotationKind::Primary);
        match &self.other {
            None => vec![self.snippet(&[place])],
            Some(other) => {
                let other = (other, AnnotationKind::Context);
                if line(place.0).abs_diff(line(other.0)) > FAR {
                    vec![self.snippet(&[place]), self.snippet(&[other])]
                } else {
                    vec![self.snippet(&[place, other])]
                }
            }
        }
    }

    fn snippet(&self, marks: &[(&Mark, AnnotationKind)]) -> Snippet<'_, Annotation<'_>> {
        let source = &self.source;
        let lines = || marks.iter().map(|(mark, _)| source.line(mark.span.start));
        let (first, last) = (lines().min().unwrap_or(0), lines().max().unwrap_or(0));
        let base = source.start(first);
        let shown = source.slice(base..source.start(last + 1));
        let annotations = marks.iter().map(|(mark, kind)| {
            kind.span(mark.span.start - base..mark.span.end - base)
                .label(mark.label.clone())
        });
        Snippet::source(shown)
            .line_start(first + 1)
            .path(source.name.as_str())
            .annotations(annotations)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&Renderer::plain()))
    }
}

/// Everything that is wrong with a file, in the order of its lines. `Display` prints all reports,
/// warnings included, and a line that counts them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Errors {
    reports: Vec<Report>,
}

impl Errors {
    /// `reports` must hold at least one error.
    pub(crate) fn new(reports: Vec<Report>) -> Self {
        Self { reports }
    }

    pub(crate) fn unreadable(name: &str, error: &io::Error) -> Self {
        let help = if error.kind() == io::ErrorKind::NotFound {
            "check the path; `examples/` has configurations to start from"
        } else {
            "the argument must be the path of a TOML file that may be read"
        };
        let empty = Arc::new(Source::new(name, ""));
        let mut report = Report::new(
            &empty,
            Content {
                severity: Severity::Error,
                key: String::new(),
                message: format!("cannot read `{name}`: {error}"),
                help: help.to_owned(),
                place: Mark {
                    span: 0..0,
                    label: String::new(),
                },
                other: None,
            },
        );
        (report.line, report.column) = (0, 0);
        Self::new(vec![report])
    }

    pub(crate) fn not_utf8(name: &str, error: &FromUtf8Error) -> Self {
        let at = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        // Up to the fault the lossy text has the same offsets as the file.
        let content = Content {
            severity: Severity::Error,
            key: String::new(),
            message: "the file is not UTF-8 text".to_owned(),
            help: "save it with UTF-8 encoding".to_owned(),
            place: Mark {
                span: at..at + char::REPLACEMENT_CHARACTER.len_utf8(),
                label: "this octet is no part of a character".to_owned(),
            },
            other: None,
        };
        let source = Arc::new(Source::new(name, &text));
        Self::new(vec![Report::new(&source, content)])
    }

    /// The first syntax error of each line; what follows on a line is mostly an echo of it.
    pub(crate) fn syntax(source: &Arc<Source>, errors: &[toml::de::Error]) -> Self {
        let mut reports: Vec<_> = errors.iter().map(|e| syntax_error(source, e)).collect();
        reports.sort_by_key(Report::offset);
        reports.dedup_by_key(|report| report.line);
        Self::new(reports)
    }

    /// The errors, in the order of their lines.
    pub fn iter(&self) -> impl Iterator<Item = &Report> {
        self.of(Severity::Error)
    }

    /// The warnings that were found beside the errors.
    pub fn warnings(&self) -> impl Iterator<Item = &Report> {
        self.of(Severity::Warning)
    }

    fn of(&self, severity: Severity) -> impl Iterator<Item = &Report> {
        self.reports.iter().filter(move |r| r.severity == severity)
    }

    /// All reports as `Display` prints them, with colours for a terminal.
    pub fn to_ansi(&self) -> String {
        self.join(Report::to_ansi)
    }

    fn join(&self, render: impl Fn(&Report) -> String) -> String {
        let mut text = String::new();
        for report in &self.reports {
            text.push_str(&render(report));
            text.push_str("\n\n");
        }
        let name = self.reports.first().map_or("", Report::file);
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        text.push_str(&count(self.iter().count(), "error"));
        let warnings = self.warnings().count();
        if warnings > 0 {
            text.push_str(" and ");
            text.push_str(&count(warnings, "warning"));
        }
        text.push_str(" in ");
        text.push_str(name);
        text
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.join(ToString::to_string))
    }
}

impl std::error::Error for Errors {}

fn syntax_error(source: &Arc<Source>, error: &toml::de::Error) -> Report {
    let (message, expected) = error
        .message()
        .split_once(", expected ")
        .unwrap_or((error.message(), ""));
    // Text without quotes: the parser says what else it took it for, a date or a truth value.
    let bare = message == "string values must be quoted"
        || (message.starts_with("invalid") && !message.ends_with("string"));
    let (message, expected, help) = match message {
        _ if bare => (
            "not a value",
            "a number, true, false or text in quotes",
            "put names, addresses and prefixes in double quotes: key = \"value\"",
        ),
        "duplicate key" => (
            "a key or table is given twice",
            "it only once",
            "remove one of the two, or merge them",
        ),
        "key with no value" => (
            "a key without a value",
            expected,
            "a line is `key = value`, `[table]` or `# comment`",
        ),
        "unclosed table" => (message, expected, "close the header with `]`"),
        "unexpected key or value" => (
            "something after the value",
            "the end of the line",
            "one value a line, and nothing after it but a comment",
        ),
        _ if message.starts_with("invalid") => (
            message,
            expected,
            "close the text with the quote it starts with, and double every `\\` in it",
        ),
        _ => (message, expected, "see https://toml.io for the notation"),
    };
    Report::new(
        source,
        Content {
            severity: Severity::Error,
            key: String::new(),
            message: message.to_owned(),
            help: help.to_owned(),
            place: Mark {
                span: error.span().unwrap_or(0..0),
                label: if expected.is_empty() {
                    "not valid TOML".to_owned()
                } else {
                    format!("expected {expected}")
                },
            },
            other: None,
        },
    )
}
