//! Key files.
//!
//! What is said about a faulty one names lines and keys, never their values: they may be secrets.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pmip_esp::{Key, Spi};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::secret::{self, SecretError, What};

/// The keys that are shared with one peer.
#[derive(Debug)]
pub(crate) struct KeyFile {
    path: PathBuf,
    /// What the peer may use.
    pub(crate) inbound: Vec<Association>,
    /// What we send with.
    pub(crate) outbound: Association,
    /// What we have sent with, or will.
    standby: Vec<Association>,
}

/// One security association: its index and key. The direction is known from where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Association {
    /// Its index, unique in its direction.
    pub(crate) spi: Spi,
    /// Its key, which no other has.
    pub(crate) key: Key,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    In,
    Out,
}

/// An `[[sa]]` of the file.
struct Entry {
    direction: Direction,
    association: Association,
    /// Whether it is the one to send with.
    send: bool,
    line: usize,
}

impl KeyFile {
    /// Reads a key file.
    ///
    /// # Errors
    /// If it cannot be read, others may read it, or its content is not right.
    pub(crate) fn load(path: &Path) -> Result<Self, SecretError> {
        let text = secret::read(path, What::Keys)?;
        let reader = Reader { path, text: &text };
        let entries = reader.entries()?;
        reader.check(&entries)?;
        let (mut inbound, mut sending, mut standby) = (Vec::new(), None, Vec::new());
        for entry in entries {
            match (entry.direction, entry.send) {
                (Direction::In, _) => inbound.push(entry.association),
                (Direction::Out, true) => sending = Some(entry.association),
                (Direction::Out, false) => standby.push(entry.association),
            }
        }
        let outbound = sending.ok_or_else(|| reader.nothing_sends())?;
        Ok(Self {
            path: path.to_owned(),
            inbound,
            outbound,
            standby,
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// All associations, of either direction.
    pub(crate) fn associations(&self) -> impl Iterator<Item = &Association> {
        let sending = std::iter::once(&self.outbound);
        self.inbound.iter().chain(sending).chain(&self.standby)
    }
}

/// A file being read.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn line(&self, offset: usize) -> usize {
        let before = self.text.get(..offset).unwrap_or(self.text);
        1 + before.matches('\n').count()
    }

    fn error(&self, offset: usize, problem: impl Into<String>, help: &str) -> SecretError {
        SecretError::new(self.path, Some(self.line(offset)), problem, help)
    }

    fn nothing_sends(&self) -> SecretError {
        SecretError::new(
            self.path,
            None,
            "no outgoing association is the one to send with",
            "add send = true to one [[sa]] with direction = \"out\"",
        )
    }

    fn entries(&self) -> Result<Vec<Entry>, SecretError> {
        let (tree, errors) = DeTable::parse_recoverable(self.text);
        if let Some(error) = errors.first() {
            let at = error.span().map_or(0, |span| span.start);
            // The message describes the syntax; the line would be shown by `Display` only.
            return Err(self.error(at, error.message(), "key files are TOML"));
        }
        let mut entries = Vec::new();
        for (key, value) in tree.get_ref() {
            let tables = value.get_ref().as_array();
            let (Some(tables), "sa") = (tables, key.get_ref().as_ref()) else {
                let problem = "only [[sa]] tables belong into a key file";
                return Err(self.error(key.span().start, problem, "remove this"));
            };
            for table in tables {
                let at = table.span().start;
                let Some(table) = table.get_ref().as_table() else {
                    return Err(self.error(at, "this is no table", "write it as [[sa]]"));
                };
                entries.push(self.entry(at, table)?);
            }
        }
        Ok(entries)
    }

    fn entry(&self, at: usize, table: &DeTable<'_>) -> Result<Entry, SecretError> {
        let (mut direction, mut spi, mut key, mut send) = (None, None, None, false);
        for (name, value) in table {
            match name.get_ref().as_ref() {
                "direction" => direction = Some(self.direction(value)?),
                "spi" => spi = Some(self.spi(value)?),
                "key" => key = Some(self.key(value)?),
                "send" => send = self.send(value)?,
                _ => {
                    let help = "an [[sa]] has `direction`, `spi`, `key` and perhaps `send`";
                    return Err(self.error(name.span().start, "unknown key", help));
                }
            }
        }
        let missing = |name: &str, help| self.error(at, format!("`{name}` is missing"), help);
        let direction =
            direction.ok_or_else(|| missing("direction", "add direction = \"in\" or \"out\""))?;
        let spi = spi.ok_or_else(|| missing("spi", "add a number of 256 or more"))?;
        let key = key.ok_or_else(|| missing("key", "flowmob keys generate makes keys"))?;
        if send && direction == Direction::In {
            let problem = "an incoming association does not send";
            return Err(self.error(at, problem, "remove `send` here"));
        }
        Ok(Entry {
            direction,
            association: Association { spi, key },
            send,
            line: self.line(at),
        })
    }

    fn direction(&self, value: &Spanned<DeValue<'_>>) -> Result<Direction, SecretError> {
        match value.get_ref().as_str() {
            Some("in") => Ok(Direction::In),
            Some("out") => Ok(Direction::Out),
            Some(_) | None => {
                let problem = "`direction` is not right";
                let help = "\"in\" for what the peer sends, \"out\" for what we send";
                Err(self.error(value.span().start, problem, help))
            }
        }
    }

    fn spi(&self, value: &Spanned<DeValue<'_>>) -> Result<Spi, SecretError> {
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|integer| u32::from_str_radix(integer.as_str(), integer.radix()).ok());
        number.and_then(Spi::new).ok_or_else(|| {
            let help = "a number from 256 to 4294967295; 0x... is fine";
            self.error(value.span().start, "`spi` is not right", help)
        })
    }

    fn key(&self, value: &Spanned<DeValue<'_>>) -> Result<Key, SecretError> {
        let problem = match value.get_ref().as_str().map(Key::from_hex) {
            Some(Ok(key)) => return Ok(key),
            Some(Err(error)) => error.to_string(),
            None => "`key` must be a string of hexadecimal digits".to_owned(),
        };
        let help = "flowmob keys generate makes keys";
        Err(self.error(value.span().start, problem, help))
    }

    fn send(&self, value: &Spanned<DeValue<'_>>) -> Result<bool, SecretError> {
        value.get_ref().as_bool().ok_or_else(|| {
            let problem = "`send` must be true or false";
            self.error(value.span().start, problem, "without quotes")
        })
    }

    /// What one entry alone cannot show.
    fn check(&self, entries: &[Entry]) -> Result<(), SecretError> {
        let (mut indexes, mut keys) = (BTreeSet::new(), BTreeSet::new());
        let mut sends = false;
        let error = |entry: &Entry, problem: String, help: &str| {
            SecretError::new(self.path, Some(entry.line), problem, help)
        };
        for entry in entries {
            let Association { spi, key } = &entry.association;
            if !indexes.insert((entry.direction, *spi)) {
                let problem = format!("there is another {spi} in this direction");
                return Err(error(entry, problem, "each has an index of its own"));
            }
            if !keys.insert(key.check()) {
                let problem = format!("the key of {spi} is another association's too");
                let help = "each has a key of its own, also in the other direction";
                return Err(error(entry, problem, help));
            }
            if entry.send && std::mem::replace(&mut sends, true) {
                let problem = "another association has send = true".to_owned();
                return Err(error(entry, problem, "one sends at a time"));
            }
        }
        if !entries.iter().any(|entry| entry.direction == Direction::In) {
            let problem = "there is no incoming association";
            let help = "add an [[sa]] with direction = \"in\"";
            return Err(SecretError::new(self.path, None, problem, help));
        }
        Ok(())
    }
}
