//! The text of a configuration file: a configuration or reports, and never both.

use config::{Machine, parse_with};

/// Checks a text and prints what is wrong with it.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let machine = Machine::with_cores([0, 1]);
    match parse_with("fuzz.toml", text, &machine) {
        Ok(config) => {
            assert!(config.process.workers > 0);
            assert!(config.lma.is_some() || config.mag.is_some() || config.mn.is_some());
            for warning in &config.warnings {
                assert!(!warning.to_string().is_empty());
            }
        }
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
}
