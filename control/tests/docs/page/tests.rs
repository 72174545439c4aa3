//! How documents are taken apart.

use std::time::Duration;

use super::page::{By, Command, Step, file, first_difference, matches, run_by, steps};

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
    let command = |block, line, text: &str, output: &[&str], fails, seconds| {
        Step::Run(Command {
            block,
            line,
            by: By::Documents,
            text: text.to_owned(),
            output: output.iter().map(ToString::to_string).collect(),
            fails,
            patience: Duration::from_secs(seconds),
        })
    };
    assert_eq!(
        steps,
        [
            command(3, 4, "one | two", &["a", "> b", "", "c"], false, 0),
            command(3, 9, "cat <<EOF\nx\n\n y\nEOF", &["x"], false, 0),
            command(18, 19, "three", &[], false, 7),
            command(21, 22, "four", &["no"], true, 0),
        ]
    );
}

#[test]
fn files_are_written_and_figures_left_alone() {
    let document =
        "<!-- file: a.toml -->\n```toml\nx = 1\n```\n```text\nfigure\n```\n```toml\ny = 2\n```\n";
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
fn others_run_what_is_theirs_and_have_to_know_all_of_it() {
    let document = "<!-- run by: a/b.rs, on a terminal -->\n```console\n$ one\n$ two\n```\n```console\n$ three\n```\n\
                    <!-- run by: a/b.rs -->\n```console\n$ four\nyes ...\n```\n\
                    <!-- run by: a/c.rs -->\n```console\n$ five\n```\n\
                    <!-- file: x -->\n```text\nf\n```\n<!-- dry run: hours -->\n```console\n$ make six\n```\n";
    let [first, second] = run_by(document, "a/b.rs");
    let texts: Vec<&str> = first.iter().map(|command| &*command.text).collect();
    assert_eq!(texts, ["one", "two"]);
    assert!(second[0].is_as_told(true, "yes it is\n"));
    assert!(!second[0].is_as_told(true, "no\n") && !second[0].is_as_told(false, "yes it is\n"));
    assert_eq!(file(document, "x"), "f\n");
    let by: Vec<By> = steps(document)
        .unwrap()
        .into_iter()
        .filter_map(|step| match step {
            Step::Run(command) => Some(command.by),
            Step::Write { .. } | Step::Read { .. } => None,
        })
        .collect();
    let [b, c] = ["a/b.rs", "a/c.rs"].map(|test| By::Test(test.to_owned()));
    assert_eq!(by, [b.clone(), b.clone(), By::Documents, b, c, By::DryRun]);
}

#[test]
#[should_panic(expected = "runs 2 blocks of a page that has 1 for it")]
fn a_block_that_a_test_does_not_know_is_found() {
    let _: [_; 2] = run_by("<!-- run by: t -->\n```console\n$ one\n```\n", "t");
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
            "<!-- dry run: why -->\n",
            "1: no block follows this comment",
        ),
        ("<!-- file: a/b -->\n", "1: expected `file: NAME`"),
        ("<!-- dry run -->\n", "1: expected `file: NAME`"),
        ("<!-- within: ever -->\n", "1: expected `file: NAME`"),
        (
            "<!-- within: 1 s -->\n```text\n```\n",
            "2: that cannot be said",
        ),
        (
            "<!-- file: a -->\n```console\n$ a\n```\n",
            "2: that cannot be said",
        ),
        (
            "<!-- not run: no card -->\n```console\n$ a\n```\n",
            "1: expected `file: NAME`",
        ),
        (
            "<!-- run by: a -->\n```console fails\n$ a\n```\n",
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
