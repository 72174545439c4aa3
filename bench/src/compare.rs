//! The control plane's figures beside those of an older run.

use anyhow::Result;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde_json::Value;

use crate::signalling::Outcome;

/// Every figure, before and now.
///
/// # Errors
/// None that can happen: the figures are numbers.
pub(crate) fn control(now: &Outcome, before: &Outcome) -> Result<Table> {
    let before = numbers("", &serde_json::to_value(before)?);
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["control plane", "before", "now", "change"]);
    for (name, value) in numbers("", &serde_json::to_value(now)?) {
        let old = before.iter().find(|(other, _)| *other == name);
        let (old, change) = match old {
            Some((_, old)) => (
                old.to_string(),
                format!("{:+.1} %", (value / old - 1.0) * 100.0),
            ),
            None => ("-".into(), "-".into()),
        };
        table.add_row([name, old, value.to_string(), change]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    Ok(table)
}

/// All numbers in a value, each with the way to it.
pub(crate) fn numbers(name: &str, value: &Value) -> Vec<(String, f64)> {
    match value {
        Value::Object(members) => members
            .iter()
            .flat_map(|(key, member)| {
                let gap = if name.is_empty() { "" } else { " " };
                numbers(&format!("{name}{gap}{key}"), member)
            })
            .collect(),
        Value::Number(number) => vec![(name.to_owned(), number.as_f64().unwrap_or(f64::NAN))],
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_at_any_depth_and_nothing_else_is() {
        let value = serde_json::json!({"a": 1, "b": {"c": 2.5, "d": "text"}, "e": [3]});
        let expected = vec![("a".to_owned(), 1.0), ("b c".to_owned(), 2.5)];
        assert_eq!(numbers("", &value), expected);
    }
}
