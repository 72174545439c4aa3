//! The TOML file of a flowmob process.
//!
//! [`load`] reads a file into a [`Config`], or says everything that is wrong with it at once:
//! unknown keys, wrong types and values, and contradictions between them, each with file, line,
//! column, the line itself and a way out. What is legal but dubious is in [`Config::warnings`].
//!
//! A file passes through three steps, and problems of all of them are collected before any is
//! reported:
//!
//! * `read` and `value`: keys and types, one value at a time; a faulty value leaves a placeholder
//!   behind and taints its key;
//! * `sections`: which keys there are, with their defaults and ranges;
//! * `validate`: what one value alone cannot show. A check that would look at a tainted key stays
//!   silent, so no fault is reported twice.
//!
//! `notes` keeps the places of all keys, the taints and the reports; `report` prints.
//!
//! Every key is documented in `examples/reference.toml`; a test keeps that true.

mod device;
mod difference;
mod file;
mod machine;
mod notes;
mod read;
mod report;
mod roles;
mod schema;
mod sections;
mod spell;
mod store;
mod validate;
mod value;

use std::path::Path;
use std::sync::Arc;

pub use crate::device::{Device, DeviceError, End, InterfaceName, PciAddress};
pub use crate::difference::{Change, differences};
pub use crate::machine::{Machine, cpu_list};
pub use crate::report::{Errors, Report, Severity};
pub use crate::roles::{
    Attach, Handoff, Heartbeat, InterfaceId, Lma, LmaMobile, Mag, MagMobile, Mn, MnAccess, Peer,
    PrefixModel, Protection, Signalling, TunnelOptions,
};
pub use crate::schema::{
    Config, Durability, Fragments, Identity, Idle, Log, LogFormat, LogLevel, Management, Memory,
    Pair, Port, Process, Route, Seccomp, Spread, Tls, User,
};
pub use crate::store::Store;

use crate::notes::Notes;
use crate::read::Table;
use crate::report::Source;

/// Reads and checks a file, for the machine this runs on.
///
/// Call it before anything pins the calling thread to a core: the cores that exist are the ones
/// this process may run on (see [`Machine::this`]).
///
/// # Errors
/// All that is wrong with the file, or why it cannot be read.
pub fn load(path: impl AsRef<Path>) -> Result<Config, Errors> {
    let path = path.as_ref();
    let name = path.display().to_string();
    let octets = std::fs::read(path).map_err(|error| Errors::unreadable(&name, &error))?;
    match String::from_utf8(octets) {
        Ok(text) => {
            let mut config = parse_with(&name, &text, &Machine::this())?;
            if let Some(directory) = path.parent() {
                config.resolve(directory);
            }
            Ok(config)
        }
        Err(error) => Err(Errors::not_utf8(&name, &error)),
    }
}

/// Checks the text of a file, for the machine this runs on. `name` is what reports call the file.
///
/// # Errors
/// All that is wrong with the text.
pub fn parse(name: &str, text: &str) -> Result<Config, Errors> {
    parse_with(name, text, &Machine::this())
}

/// As [`parse`], for a machine of the caller's description.
///
/// # Errors
/// All that is wrong with the text.
pub fn parse_with(name: &str, text: &str, machine: &Machine) -> Result<Config, Errors> {
    let source = Arc::new(Source::new(name, text));
    let (tree, errors) = toml::de::DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What a broken document means is a guess: no further checks on it.
        return Err(Errors::syntax(&source, &errors));
    }
    let mut notes = Notes::new(source, tree.get_ref());
    let mut root = Table::root(&mut notes, tree.get_ref());
    let mut config = sections::config(&mut root);
    root.finish();
    validate::config(&config, machine, &mut notes);
    config.warnings = notes.into_warnings()?;
    Ok(config)
}

#[cfg(test)]
mod tests;
