//! The kept inputs pass, with nothing but a stable compiler.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may fail loudly, like the tests"
)]

use std::path::{Path, PathBuf};

use fuzz_targets::TARGETS;

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus")
}

/// The names in a directory, sorted.
fn names(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut names: Vec<PathBuf> = entries
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    names.sort();
    names
}

#[test]
fn kept_inputs_pass() {
    for (name, run) in TARGETS {
        let inputs = names(&corpora().join(name));
        assert!(inputs.len() >= 10, "{name}: {} inputs", inputs.len());
        for input in inputs {
            // The input is named in what the test prints when it fails.
            println!("{}", input.display());
            run(&std::fs::read(&input).expect("it can be read"));
        }
    }
}

#[test]
fn every_target_has_a_fuzzer_and_every_fuzzer_a_target() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let targets: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert!(targets.is_sorted());
    for directory in ["../corpus", "../fuzz_targets"] {
        let found = names(&here.join(directory));
        let found: Vec<_> = found.iter().filter_map(|path| path.file_stem()).collect();
        assert_eq!(found, targets, "{directory}");
    }
    let manifest = std::fs::read_to_string(here.join("../Cargo.toml")).expect("it can be read");
    for name in targets {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

#[test]
fn short_inputs_pass() {
    for (_, run) in TARGETS {
        run(&[]);
        for octet in 0..=u8::MAX {
            run(&[octet]);
            run(&[octet; 40]);
        }
    }
}
