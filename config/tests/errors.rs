//! Wrong configurations and what is said about them: for each `tests/wrong/NAME.toml` a snapshot
//! of the reports, which starts with them in the short form for programs.

use std::fmt::Write as _;
use std::path::Path;

use config::{Machine, Report, Severity, parse_with};

/// What is reported about a file, errors and warnings in the order of the lines.
fn reports(text: &str) -> (Vec<Report>, String) {
    match parse_with("x.toml", text, &Machine::with_cores([0, 1, 2, 3])) {
        Ok(config) => {
            let shown: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
            (config.warnings, shown.join("\n\n"))
        }
        Err(errors) => {
            let mut all: Vec<_> = errors.iter().chain(errors.warnings()).cloned().collect();
            all.sort_by_key(|report| (report.line, report.column));
            (all, errors.to_string())
        }
    }
}

#[test]
fn wrong_files_are_reported_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 12);
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let (reports, shown) = reports(&std::fs::read_to_string(&file).unwrap());
        assert!(!reports.is_empty(), "{name}");
        let mut list = String::new();
        for report in reports {
            let kind = match report.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            let (line, column, key) = (report.line, report.column, &report.key);
            writeln!(list, "{line}:{column} {kind} {key}: {}", report.message).unwrap();
        }
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(name, format!("{list}\n{shown}"));
        });
    }
}

#[test]
fn ten_faults_of_all_kinds_are_ten_reports() {
    let (reports, _) = reports(include_str!("wrong/ten.toml"));
    let lines: Vec<_> = reports.iter().map(|report| report.line).collect();
    assert_eq!(lines, [3, 5, 6, 10, 11, 14, 20, 23, 24, 28]);
}

#[test]
fn reports_are_data_too() {
    let (reports, _) = reports("nmae = \"x\"\n[mn]\ninterface = \"lif0\"\n");
    let report = &reports[0];
    assert_eq!((report.line, report.column), (1, 1));
    assert_eq!((report.file(), report.key.as_str()), ("x.toml", "nmae"));
    assert_eq!(report.help, "did you mean `name`?");
}

#[test]
fn a_large_file_with_faults_far_apart_is_reported_in_pieces() {
    let mut text = "[lma]\naddress = \"2001:db8::1\"\n".to_owned();
    for i in 0..5000 {
        let (high, low) = (i / 2500, i % 2500);
        writeln!(
            text,
            "[[lma.mobile]]\nid = \"mn{i}\"\nprefixes = [\"2001:db9:0:{low}::/64\"] # {high}"
        )
        .unwrap();
    }
    let (reports, _) = reports(&text);
    let twice: Vec<_> = reports
        .iter()
        .filter(|report| report.key.starts_with("lma.mobile"))
        .collect();
    assert_eq!(twice.len(), 2500);
    insta::assert_snapshot!(twice[0], @r#"
    error: the prefixes 2001:db9::/64 and 2001:db9::/64 overlap
        --> x.toml:7505:13
         |
    7505 | prefixes = ["2001:db9:0:0::/64"] # 1
         |             ^^^^^^^^^^^^^^^^^^^ overlaps 2001:db9::/64
         |
        ::: x.toml:5:13
         |
       5 | prefixes = ["2001:db9:0:0::/64"] # 0
         |             ------------------- this one
         |
         = help: a home network prefix belongs to one mobile (RFC 5213 §5.4)
    "#);
}
