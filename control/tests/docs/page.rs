//! What a document has in its fences: commands with what they print, files, and what is only shown.

use std::time::Duration;

/// How long a command is asked again if its block says nothing else.
const ONCE: Duration = Duration::ZERO;

/// A command and what it is to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// Where it stands, counted from 1.
    pub(crate) line: usize,
    /// What the shell is given.
    pub(crate) text: String,
    /// What it prints, by line.
    pub(crate) output: Vec<String>,
    /// Whether it is to fail.
    pub(crate) fails: bool,
    /// How long it is asked again until it prints that.
    pub(crate) patience: Duration,
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
    NotRun,
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
    let unknown =
        || format!("expected `file: NAME`, `not run: REASON` or `within: N s`: {comment}");
    let (key, value) = comment.split_once(": ").ok_or_else(unknown)?;
    match key {
        "file" if !value.contains('/') => Ok(About::File(value.to_owned())),
        "not run" => Ok(About::NotRun),
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
        ("console" | "console fails", Some(About::NotRun)) => commands(fence, ONCE).map(|_| Vec::new()),
        ("console" | "console fails", None) => commands(fence, ONCE),
        ("console", Some(About::Within(time))) => commands(fence, *time),
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

fn commands(fence: &Fence<'_>, patience: Duration) -> Result<Vec<Step>, (usize, String)> {
    let mut commands: Vec<Command> = Vec::new();
    for &(line, text) in &fence.lines {
        if let Some(text) = text.strip_prefix("$ ") {
            commands.push(Command {
                line,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(document: &str) -> String {
        let wrong = steps(document).unwrap_err();
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        format!("{}: {}", wrong[0].0, wrong[0].1)
    }

    #[test]
    fn commands_come_with_what_they_print() {
        let document = "text\n\n```console\n$ one | two\na\n> b\n\nc\n$ cat <<EOF\n> x\n>\n>  y\n> EOF\nx\n```\n\
                        <!-- within: 7 s -->\n\n```console\n$ three\n```\n```console fails\n$ four\nno\n```\n";
        let steps = steps(document).unwrap();
        let command = |line, text: &str, output: &[&str], fails, seconds| {
            Step::Run(Command {
                line,
                text: text.to_owned(),
                output: output.iter().map(ToString::to_string).collect(),
                fails,
                patience: Duration::from_secs(seconds),
            })
        };
        assert_eq!(
            steps,
            [
                command(4, "one | two", &["a", "> b", "", "c"], false, 0),
                command(9, "cat <<EOF\nx\n\n y\nEOF", &["x"], false, 0),
                command(19, "three", &[], false, 7),
                command(22, "four", &["no"], true, 0),
            ]
        );
    }

    #[test]
    fn files_are_written_and_figures_left_alone() {
        let document = "<!-- file: a.toml -->\n```toml\nx = 1\n```\n```text\nfigure\n```\n```toml\ny = 2\n```\n\
                        <!-- not run: it never ends -->\n```console\n$ sleep infinity\n```\n";
        let write = Step::Write {
            line: 2,
            name: "a.toml".into(),
            text: "x = 1\n".into(),
        };
        let read = Step::Read {
            line: 8,
            text: "y = 2\n".into(),
        };
        assert_eq!(steps(document).unwrap(), [write, read]);
    }

    #[test]
    fn what_nobody_could_execute_is_refused() {
        for (document, expected) in [
            ("```\n$ a\n```\n", "1: a block without a label"),
            ("x\n```sh\na\n```\n", "2: commands are in `console` blocks"),
            ("```bash\na\n```\n", "1: commands are in `console` blocks"),
            ("```text\nb\n$ a\n```\n", "3: a command in a block of text"),
            ("```console\na\n```\n", "2: output before any command"),
            (
                "```console\n```\n",
                "1: a `console` block without a command",
            ),
            ("```console\n$ a\n", "1: a fence without an end"),
            (
                "```python\na\n```\n",
                "1: a block with an unknown label: python",
            ),
            (
                "<!-- file: a -->\ntext\n",
                "1: no block follows this comment",
            ),
            (
                "<!-- not run: why -->\n",
                "1: no block follows this comment",
            ),
            ("<!-- file: a/b -->\n", "1: expected `file: NAME`"),
            ("<!-- not run -->\n", "1: expected `file: NAME`"),
            ("<!-- within: ever -->\n", "1: expected `file: NAME`"),
            (
                "<!-- within: 1 s -->\n```text\n```\n",
                "2: that cannot be said",
            ),
            (
                "<!-- file: a -->\n```console\n$ a\n```\n",
                "2: that cannot be said",
            ),
            ("- x\n\n  ```text\n```\n", "3: a fence that is indented"),
        ] {
            let said = wrong(document);
            assert!(said.starts_with(expected), "{document}: {said}");
        }
    }

    #[test]
    fn a_difference_is_found() {
        let expected = ["a", "...", "c ...", "d"].map(ToOwned::to_owned);
        for (printed, line) in [
            ("a\nc 1\nd", None),
            ("a\nb\nc 1\nd\ne", None),
            ("a\nb\nc 1\ne", Some(3)),
            ("a\nb", Some(2)),
            ("b", Some(0)),
        ] {
            assert_eq!(first_difference(&expected, printed), line, "{printed}");
        }
    }

    #[test]
    fn dots_are_anything() {
        let matches = |expected: &str, printed: &str| {
            let expected: Vec<String> = expected.lines().map(ToOwned::to_owned).collect();
            matches(&expected, printed)
        };
        for (expected, printed) in [
            ("", ""),
            ("a\nb", "a\nb\n"),
            ("a   b", "a b  \n"),
            ("took ... us", "took 17 us"),
            ("...", ""),
            ("...", "a\nb"),
            ("a\n...\nd", "a\nb\nc\nd"),
            ("a\n...\nd", "a\nd"),
            ("...\nb\n...", "a\nb\nb\nc"),
            ("a...c...e", "abcdcde"),
            ("...", "\n"),
        ] {
            assert!(matches(expected, printed), "{expected:?} {printed:?}");
        }
        for (expected, printed) in [
            ("", "a"),
            ("a", ""),
            ("a", "b"),
            ("a", "a\nb"),
            ("a b", "ab"),
            ("took ... us", "took 17 ms"),
            ("a\n...\nd", "a\nb"),
            ("a...c", "ab"),
        ] {
            assert!(!matches(expected, printed), "{expected:?} {printed:?}");
        }
    }
}
