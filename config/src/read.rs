//! Reads a TOML tree key by key and collects what is wrong instead of stopping at it.

use std::env::VarError;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::notes::{Draft, Notes, join, without_indexes};
use crate::spell::{did_you_mean, listed, nearest, suggest};
use crate::value::{Fault, Value, integer, type_name};

/// One table of the file. Reading a key that is missing or faulty reports it and gives a
/// placeholder; [`Table::finish`] reports the keys that nobody asked for.
pub(crate) struct Table<'a> {
    notes: &'a mut Notes,
    tree: &'a DeTable<'a>,
    path: String,
    /// What was asked for.
    keys: Vec<&'static str>,
    /// What is missing, with an example. Reported last: a misspelt key is not missing.
    missing: Vec<(&'static str, String)>,
}

impl<'a> Table<'a> {
    fn new(notes: &'a mut Notes, tree: &'a DeTable<'a>, path: String) -> Self {
        Self {
            notes,
            tree,
            path,
            keys: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// The document itself.
    pub(crate) fn root(notes: &'a mut Notes, tree: &'a DeTable<'a>) -> Self {
        Self::new(notes, tree, String::new())
    }

    /// The path of one of the table's keys.
    pub(crate) fn at(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// The notes on the whole file.
    pub(crate) fn notes(&mut self) -> &mut Notes {
        self.notes
    }

    /// The table's name for people.
    fn name(&self) -> String {
        if self.path.is_empty() {
            "this file".to_owned()
        } else if self.path.ends_with(']') {
            format!("[[{}]]", without_indexes(&self.path))
        } else {
            format!("[{}]", without_indexes(&self.path))
        }
    }

    /// Whether the file gives this key.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.tree.contains_key(key)
    }

    fn take(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.keys.push(key);
        let path = self.at(key);
        self.notes.ask(&path);
        self.tree.get(key)
    }

    /// A value that may be missing.
    pub(crate) fn optional<T: Value>(&mut self, key: &'static str) -> Option<T> {
        let value = self.take(key)?;
        let path = self.at(key);
        self.value(&path, key, value)
    }

    /// A value with a default.
    pub(crate) fn or<T: Value>(&mut self, key: &'static str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// A value that must be there.
    pub(crate) fn required<T: Value>(&mut self, key: &'static str) -> T {
        if self.has(key) {
            return self.or(key, T::placeholder());
        }
        self.take(key);
        self.missing(key, T::EXAMPLE);
        T::placeholder()
    }

    /// Reports that a key is missing.
    pub(crate) fn missing(&mut self, key: &'static str, example: &str) {
        let path = self.at(key);
        self.notes.taint(path);
        self.missing.push((key, example.to_owned()));
    }

    /// Values of one kind; an empty list if the key is missing.
    pub(crate) fn list<T: Value>(&mut self, key: &'static str) -> Vec<T> {
        self.elements(key, T::EXAMPLE, |table, path, value| {
            table.value(path, key, value).unwrap_or_else(T::placeholder)
        })
    }

    /// Whole numbers of one range; an empty list if the key is missing.
    pub(crate) fn numbers<N: Number>(
        &mut self,
        key: &'static str,
        range: &RangeInclusive<N>,
    ) -> Vec<N> {
        self.elements(key, &range.start().to_string(), |table, path, value| {
            table
                .integer(path, key, value, range, "")
                .unwrap_or(*range.start())
        })
    }

    fn elements<T>(
        &mut self,
        key: &'static str,
        example: &str,
        mut read: impl FnMut(&mut Self, &str, &Spanned<DeValue<'_>>) -> T,
    ) -> Vec<T> {
        let path = self.at(key);
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            let example = format!("[{example}]");
            self.wrong_type(&path, key, value, "an array", &example);
            return Vec::new();
        };
        let read = |(i, element)| read(self, &format!("{path}[{i}]"), element);
        array.iter().enumerate().map(read).collect()
    }

    /// A whole number in a range, with a default.
    pub(crate) fn number<N: Number>(
        &mut self,
        key: &'static str,
        default: N,
        range: RangeInclusive<N>,
    ) -> N {
        self.optional_number(key, range).unwrap_or(default)
    }

    /// A whole number in a range that may be missing.
    pub(crate) fn optional_number<N: Number>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<N>,
    ) -> Option<N> {
        let value = self.take(key)?;
        let path = self.at(key);
        self.integer(&path, key, value, &range, "")
    }

    /// A time in milliseconds, with default and range.
    pub(crate) fn millis(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Duration {
        let value = self.take(key);
        let path = self.at(key);
        let read = value.and_then(|v| self.integer(&path, key, v, &range, " milliseconds"));
        Duration::from_millis(read.unwrap_or(default))
    }

    /// A time in seconds, with default and range.
    pub(crate) fn seconds(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Duration {
        let value = self.take(key);
        let path = self.at(key);
        let read = value.and_then(|v| self.integer(&path, key, v, &range, " seconds"));
        Duration::from_secs(read.unwrap_or(default))
    }

    /// A time in seconds or the word `infinite`, which is also the default; `None` for that.
    pub(crate) fn seconds_or_infinite(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<Duration> {
        let value = self.take(key)?;
        if value.get_ref().as_str() == Some("infinite") {
            return None;
        }
        let path = self.at(key);
        if !value.get_ref().is_integer() {
            let example = range.start().to_string();
            let expected = "an integer or \"infinite\"";
            self.wrong_type(&path, key, value, expected, &example);
            return None;
        }
        let unit = " seconds or \"infinite\"";
        let read = self.integer(&path, key, value, &range, unit);
        read.map(Duration::from_secs)
    }

    fn integer<N: Number>(
        &mut self,
        path: &str,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        range: &RangeInclusive<N>,
        unit: &str,
    ) -> Option<N> {
        let (low, high) = (range.start(), range.end());
        let Some(read) = integer(value.get_ref()) else {
            self.wrong_type(path, key, value, "an integer", &low.to_string());
            return None;
        };
        let number = N::try_from(read).ok().filter(|n| range.contains(n));
        if number.is_none() {
            let draft = Draft::error(path, format!("`{key}` is out of range"))
                .label(format!("not in {low} to {high}"))
                .help(format!("give a number from {low} to {high}{unit}"));
            self.notes.fault(draft);
        }
        number
    }

    /// The index in `names` of the name that `key` gives; `kind` is what is named.
    pub(crate) fn reference(
        &mut self,
        key: &'static str,
        kind: &str,
        names: &Names,
    ) -> Option<usize> {
        let name: String = self.optional(key)?;
        let path = self.at(key);
        self.resolve(&path, kind, &name, names)
    }

    /// As [`Table::reference`] for a list of names.
    pub(crate) fn references(
        &mut self,
        key: &'static str,
        kind: &str,
        names: &Names,
    ) -> Vec<Option<usize>> {
        let listed: Vec<String> = self.list(key);
        let path = self.at(key);
        let resolve = |(i, name): (usize, &String)| {
            let path = format!("{path}[{i}]");
            if self.notes.is_tainted(&path) {
                return None;
            }
            self.resolve(&path, kind, name, names)
        };
        listed.iter().enumerate().map(resolve).collect()
    }

    /// As [`Table::reference`] for a key that must be there.
    pub(crate) fn required_reference(
        &mut self,
        key: &'static str,
        kind: &str,
        names: &Names,
    ) -> Option<usize> {
        let index = self.reference(key, kind, names);
        if !self.has(key) {
            let mut usable = names.names.iter().filter(|name| !name.is_empty());
            let first = usable.next().map_or(kind, String::as_str);
            self.missing(key, &format!("\"{first}\""));
        }
        index
    }

    fn resolve(&mut self, path: &str, kind: &str, name: &str, names: &Names) -> Option<usize> {
        let found = names.names.iter().position(|n| n == name);
        if found.is_none() {
            if names.complete {
                let list = names.names.iter().map(String::as_str);
                let help = suggest(name, list.clone()).unwrap_or_else(|| match listed(list) {
                    list if list.is_empty() => format!("there is no {kind} in this file"),
                    list => format!("there is {list}"),
                });
                let message = format!("there is no {kind} named `{name}`");
                let draft = Draft::error(path, message).label("unknown name").help(help);
                self.notes.fault(draft);
            } else {
                self.notes.taint(path.to_owned());
            }
        }
        found
    }

    /// A table that may be missing.
    pub(crate) fn table<R>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Table<'_>) -> R,
    ) -> Option<R> {
        let value = self.take(key)?;
        let path = self.at(key);
        self.child(path, key, value, read)
    }

    /// A table that reads as an empty one if it is missing: all its keys have defaults.
    pub(crate) fn section<R>(
        &mut self,
        key: &'static str,
        read: impl Fn(&mut Table<'_>) -> R,
    ) -> R {
        self.table(key, &read).unwrap_or_else(|| {
            let path = self.at(key);
            let tree = DeTable::new();
            read(&mut Table::new(self.notes, &tree, path))
        })
    }

    /// An array of tables; empty if it is missing. An element that is no table ends it, so that
    /// indexes stay those of the file.
    pub(crate) fn tables<R>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Table<'_>) -> R,
    ) -> Vec<R> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let path = self.at(key);
        let Some(array) = value.get_ref().as_array() else {
            let header = format!("[[{}]]", without_indexes(&path));
            let kind = type_name(value.get_ref());
            let draft = Draft::error(&path, format!("`{key}` must be an array of tables"))
                .label(format!("this is {kind}"))
                .help(format!("start each with a line {header}"));
            self.notes.fault(draft);
            return Vec::new();
        };
        let mut read_all = Vec::with_capacity(array.len());
        for (i, element) in array.iter().enumerate() {
            let Some(element) = self.child(format!("{path}[{i}]"), key, element, &mut read) else {
                self.notes.taint(path);
                break;
            };
            read_all.push(element);
        }
        read_all
    }

    fn child<R>(
        &mut self,
        path: String,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        read: impl FnOnce(&mut Table<'_>) -> R,
    ) -> Option<R> {
        let Some(tree) = value.get_ref().as_table() else {
            let header = match without_indexes(&path) {
                plain if path.ends_with(']') => format!("[[{plain}]]"),
                plain => format!("[{plain}]"),
            };
            let kind = type_name(value.get_ref());
            let draft = Draft::error(path, format!("`{key}` must be a table"))
                .label(format!("this is {kind}"))
                .help(format!("start it with a line {header}, its keys below"));
            self.notes.fault(draft);
            return None;
        };
        let mut child = Table::new(self.notes, tree, path);
        let result = read(&mut child);
        child.finish();
        Some(result)
    }

    /// Reports the keys that nobody asked for, and those that are missing.
    pub(crate) fn finish(self) {
        let table = self.name();
        let mut misspelt = Vec::new();
        for key in self.tree.keys() {
            let name = key.get_ref().as_ref();
            if self.keys.contains(&name) {
                continue;
            }
            let keys = self.keys.iter().copied();
            let near = nearest(name, keys.clone());
            misspelt.extend(near);
            let help = near.map_or_else(|| format!("known here: {}", listed(keys)), did_you_mean);
            let message = format!("unknown key `{name}` in {table}");
            let draft = Draft::error(join(&self.path, name), message)
                .on_key()
                .label("not known")
                .help(help);
            self.notes.fault(draft);
        }
        for (key, example) in &self.missing {
            if !misspelt.contains(key) {
                let draft = Draft::error(self.at(key), format!("{table} needs the key `{key}`"))
                    .label("missing here")
                    .help(format!("add a line such as: {key} = {example}"));
                self.notes.fault(draft);
            }
        }
    }

    fn value<T: Value>(
        &mut self,
        path: &str,
        key: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<T> {
        let read = match value.get_ref().as_str() {
            Some(text) => in_environment(text).and_then(|text| T::read(&text)),
            None => T::read(value.get_ref()),
        };
        match read {
            Ok(value) => Some(value),
            Err(Fault::Type) => {
                self.wrong_type(path, key, value, T::EXPECTED, T::EXAMPLE);
                None
            }
            Err(Fault::Value { label, help }) => {
                let draft = Draft::error(path, format!("`{key}` must be {}", T::EXPECTED))
                    .label(label)
                    .help(help);
                self.notes.fault(draft);
                None
            }
        }
    }

    fn wrong_type(
        &mut self,
        path: &str,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        expected: &str,
        example: &str,
    ) {
        let kind = type_name(value.get_ref());
        let quoted_number = value
            .get_ref()
            .as_str()
            .is_some_and(|text| text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok());
        let help = match expected {
            "an integer" | "true or false" if quoted_number => "leave out the quotes".to_owned(),
            _ if path.ends_with(']') => format!("write each such as: {example}"),
            _ => format!("write it such as: {key} = {example}"),
        };
        let draft = Draft::error(path, format!("`{key}` must be {expected}"))
            .label(format!("this is {kind}"))
            .help(help);
        self.notes.fault(draft);
    }
}

/// A text with environment variables in place of their names: `${NAME}`, `${NAME:-default}`; `$$` is a dollar.
fn in_environment(text: &str) -> Result<DeValue<'_>, Fault> {
    let look_up = |name: &str| std::env::var(name).map(Some);
    let expanded = shellexpand::env_with_context(text, look_up).map_err(|error| {
        let name = error.var_name;
        let label = match error.cause {
            VarError::NotPresent => format!("there is no environment variable {name}"),
            VarError::NotUnicode(_) => format!("the environment variable {name} is not text"),
        };
        let help = format!("set it, or write ${{{name}:-default}}; a dollar sign is $$");
        Fault::new(label, help)
    })?;
    Ok(DeValue::String(expanded))
}

/// Names that other keys refer to.
pub(crate) struct Names {
    /// In the order of the file.
    pub(crate) names: Vec<String>,
    /// Whether all of them could be read; if not, an unknown name may be one of the others.
    pub(crate) complete: bool,
}

/// What a numeric key can be.
pub(crate) trait Number: Copy + PartialOrd + Display + TryFrom<i64> {}
impl<N: Copy + PartialOrd + Display + TryFrom<i64>> Number for N {}
