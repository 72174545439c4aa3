//! What a document has in its fences: commands with what they print, files, and what is only shown.
#![allow(dead_code, reason = "each test uses its part")]

use std::time::Duration;

/// How long a command is asked again if its block says nothing else.
const ONCE: Duration = Duration::ZERO;

/// Who runs a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The test of the documents.
    Documents,
    /// That one too, but as far as `make -n` goes.
    DryRun,
    /// Another test: its file, as the project's directory has it.
    Test(String),
}

/// A command and what it is to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// Where its block begins, counted from 1.
    pub(crate) block: usize,
    /// Where it stands.
    pub(crate) line: usize,
    pub(crate) by: By,
    /// What the shell is given.
    pub(crate) text: String,
    /// What it prints, by line.
    pub(crate) output: Vec<String>,
    /// Whether it is to fail.
    pub(crate) fails: bool,
    /// How long it is asked again until it prints that.
    pub(crate) patience: Duration,
}

impl Command {
    /// Whether it ended and printed as the document says.
    pub(crate) fn is_as_told(&self, succeeded: bool, printed: &str) -> bool {
        succeeded != self.fails && matches(&self.output, printed)
    }

    /// Fails unless it ended and printed as the document says.
    #[track_caller]
    pub(crate) fn check(&self, succeeded: bool, printed: &str) {
        assert!(
            self.is_as_told(succeeded, printed),
            "line {}: $ {}\nprinted, success {succeeded}:\n{printed}",
            self.line,
            self.text
        );
    }
}

/// What there is to do for a document, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Run a command.
    Run(Command),
    /// Write a file.
    Write {
        line: usize,
        name: String,
        text: String,
    },
    /// Part of a TOML file, to be read and no more.
    Read { line: usize, text: String },
}

/// What is said about the fence that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum About {
    File(String),
    DryRun,
    RunBy(String),
    Within(Duration),
}

/// A fence.
struct Fence<'a> {
    line: usize,
    info: &'a str,
    lines: Vec<(usize, &'a str)>,
    about: Option<About>,
}

/// Takes a document apart.
///
/// # Errors
/// Everything that nobody could execute: line, and what is wrong.
pub(crate) fn steps(document: &str) -> Result<Vec<Step>, Vec<(usize, String)>> {
    let mut wrong = Vec::new();
    let mut steps = Vec::new();
    for fence in fences(document, &mut wrong) {
        match understood(&fence) {
            Ok(more) => steps.extend(more),
            Err(problem) => wrong.push(problem),
        }
    }
    if wrong.is_empty() {
        Ok(steps)
    } else {
        Err(wrong)
    }
}

/// The commands that a test has to run, block by block. There have to be as many blocks as it knows what to do with.
#[track_caller]
pub(crate) fn run_by<const N: usize>(document: &str, test: &str) -> [Vec<Command>; N] {
    let steps = steps(document).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    let its = By::Test(test.to_owned());
    let commands = steps.into_iter().filter_map(|step| match step {
        Step::Run(command) if command.by == its => Some(command),
        Step::Run(_) | Step::Write { .. } | Step::Read { .. } => None,
    });
    let commands: Vec<Command> = commands.collect();
    let blocks: Vec<Vec<Command>> = commands
        .chunk_by(|one, next| one.block == next.block)
        .map(<[Command]>::to_vec)
        .collect();
    let found = blocks.len();
    blocks
        .try_into()
        .unwrap_or_else(|_| panic!("{test} runs {N} blocks of a page that has {found} for it"))
}

/// The file of that name that a document has its reader write.
#[track_caller]
pub(crate) fn file(document: &str, wanted: &str) -> String {
    let steps = steps(document).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    let mut texts = steps.into_iter().filter_map(|step| match step {
        Step::Write { name, text, .. } => (name == wanted).then_some(text),
        Step::Run(_) | Step::Read { .. } => None,
    });
    texts
        .next()
        .unwrap_or_else(|| panic!("no block is {wanted}"))
}

fn fences<'a>(document: &'a str, wrong: &mut Vec<(usize, String)>) -> Vec<Fence<'a>> {
    let mut fences = Vec::new();
    let mut about: Option<(usize, About)> = None;
    let mut open: Option<Fence> = None;
    for (line, text) in (1..).zip(document.lines()) {
        if let Some(fence) = &mut open {
            if text.trim_end() == "```" {
                fences.extend(open.take());
            } else {
                fence.lines.push((line, text));
            }
            continue;
        }
        let trimmed = text.trim();
        if let Some(info) = trimmed.strip_prefix("```") {
            if trimmed.len() != text.trim_end().len() {
                wrong.push((line, "a fence that is indented".into()));
            }
            open = Some(Fence {
                line,
                info,
                lines: Vec::new(),
                about: about.take().map(|(_, about)| about),
            });
        } else if let Some(comment) = trimmed.strip_prefix("<!--") {
            match said(comment.trim_end_matches("-->").trim()) {
                Ok(said) => about = Some((line, said)),
                Err(problem) => wrong.push((line, problem)),
            }
        } else if !trimmed.is_empty()
            && let Some((line, _)) = about.take()
        {
            wrong.push((line, "no block follows this comment".into()));
        }
    }
    if let Some(fence) = open {
        wrong.push((fence.line, "a fence without an end".into()));
    }
    if let Some((line, _)) = about {
        wrong.push((line, "no block follows this comment".into()));
    }
    fences
}

fn said(comment: &str) -> Result<About, String> {
    let unknown = || {
        format!(
            "expected `file: NAME`, `within: N s`, `run by: TEST` or `dry run: REASON`: {comment}"
        )
    };
    let (key, value) = comment.split_once(": ").ok_or_else(unknown)?;
    match key {
        "file" if !value.contains('/') => Ok(About::File(value.to_owned())),
        "dry run" => Ok(About::DryRun),
        // After the file there may be a remark.
        "run by" => {
            let (test, _) = value.split_once(", ").unwrap_or((value, ""));
            Ok(About::RunBy(test.to_owned()))
        }
        "within" => {
            let seconds = value.strip_suffix(" s").and_then(|n| n.parse().ok());
            let seconds = seconds.ok_or_else(unknown)?;
            Ok(About::Within(Duration::from_secs(seconds)))
        }
        _ => Err(unknown()),
    }
}

fn understood(fence: &Fence<'_>) -> Result<Vec<Step>, (usize, String)> {
    let line = fence.line;
    let body = || {
        let lines = fence.lines.iter();
        lines
            .flat_map(|(_, text)| [*text, "\n"])
            .collect::<String>()
    };
    let misplaced = || Err((line, "that cannot be said of such a block".to_owned()));
    match (fence.info, &fence.about) {
        ("console" | "console fails", None) => commands(fence, &By::Documents, ONCE),
        ("console", Some(About::Within(time))) => commands(fence, &By::Documents, *time),
        ("console", Some(About::DryRun)) => commands(fence, &By::DryRun, ONCE),
        ("console", Some(About::RunBy(test))) => commands(fence, &By::Test(test.clone()), ONCE),
        ("", _) => Err((
            line,
            "a block without a label: `console` if it has commands, `text` if it is a figure or output".into(),
        )),
        ("sh" | "bash" | "shell", _) => Err((
            line,
            "commands are in `console` blocks, each after `$ `, with what they print".into(),
        )),
        (_, Some(About::File(name))) if !fence.info.starts_with("console") => Ok(vec![Step::Write {
            line,
            name: name.clone(),
            text: body(),
        }]),
        ("toml", None) => Ok(vec![Step::Read { line, text: body() }]),
        ("text", None) => match fence.lines.iter().find(|(_, text)| text.starts_with("$ ")) {
            Some((line, _)) => Err((*line, "a command in a block of text".into())),
            None => Ok(Vec::new()),
        },
        (_, Some(_)) => misplaced(),
        (other, None) => Err((line, format!("a block with an unknown label: {other}"))),
    }
}

fn commands(fence: &Fence<'_>, by: &By, patience: Duration) -> Result<Vec<Step>, (usize, String)> {
    let mut commands: Vec<Command> = Vec::new();
    for &(line, text) in &fence.lines {
        if let Some(text) = text.strip_prefix("$ ") {
            commands.push(Command {
                block: fence.line,
                line,
                by: by.clone(),
                text: text.to_owned(),
                output: Vec::new(),
                fails: fence.info == "console fails",
                patience,
            });
            continue;
        }
        let Some(command) = commands.last_mut() else {
            return Err((line, "output before any command".into()));
        };
        match text.strip_prefix('>') {
            // As a shell asks for the rest of a command.
            Some(more)
                if command.output.is_empty() && (more.is_empty() || more.starts_with(' ')) =>
            {
                command.text.push('\n');
                command.text += more.strip_prefix(' ').unwrap_or(more);
            }
            Some(_) | None => command.output.push(text.to_owned()),
        }
    }
    if commands.is_empty() {
        return Err((fence.line, "a `console` block without a command".into()));
    }
    Ok(commands.into_iter().map(Step::Run).collect())
}

/// Whether a command printed what it was to print. `...` alone in a line is any lines, in a line anything; space
/// is space, however much of it.
pub(crate) fn matches(expected: &[String], printed: &str) -> bool {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut expected: Vec<String> = expected.iter().map(|line| words(line)).collect();
    let mut printed: Vec<String> = printed.lines().map(words).collect();
    for lines in [&mut expected, &mut printed] {
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
    }
    glob(
        &expected,
        &printed,
        |pattern| pattern == "...",
        |pattern, line| {
            let pattern: Vec<&str> = pieces(pattern);
            let line: Vec<&str> = line.split("").collect();
            glob(&pattern, &line, |piece| *piece == "...", |a, b| a == b)
        },
    )
}

/// The first line that something else was printed in place of; `None` if more was printed, or all is well.
pub(crate) fn first_difference(expected: &[String], printed: &str) -> Option<usize> {
    (0..expected.len()).find(|n| {
        let mut start = expected.get(..=*n).unwrap_or_default().to_vec();
        start.push("...".to_owned());
        !matches(&start, printed)
    })
}

/// The characters of a pattern, with `...` as one.
fn pieces(pattern: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    for (n, part) in pattern.split("...").enumerate() {
        if n > 0 {
            pieces.push("...");
        }
        pieces.extend(part.split("").filter(|piece| !piece.is_empty()));
    }
    // As `split` has it for what is compared.
    pieces.insert(0, "");
    pieces.push("");
    pieces
}

/// Whether `items` are as `pattern` has it, in which some stand for any number of items.
fn glob<P, T>(
    pattern: &[P],
    items: &[T],
    any: impl Fn(&P) -> bool,
    same: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut p, mut i) = (0, 0);
    // Where the last wildcard is, and how far it reaches.
    let mut star: Option<(usize, usize)> = None;
    while i < items.len() {
        match pattern.get(p) {
            Some(here) if any(here) => {
                star = Some((p, i));
                p += 1;
            }
            Some(here) if same(here, &items[i]) => {
                p += 1;
                i += 1;
            }
            Some(_) | None => {
                let Some((at, reached)) = star else {
                    return false;
                };
                star = Some((at, reached + 1));
                p = at + 1;
                i = reached + 1;
            }
        }
    }
    pattern[p..].iter().all(any)
}
