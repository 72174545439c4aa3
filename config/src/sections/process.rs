//! `[process]` and the tables in it.

use std::path::PathBuf;

use super::DAY;
use crate::read::Table;
use crate::schema::{
    Durability, Fragments, Identity, Idle, Memory, Pair, Process, Seccomp, Spread, Tls, User,
};
use crate::store::Store;
use crate::value::{Fault, Unicast, Value, integer, text};

pub(super) fn process(t: &mut Table<'_>) -> Process {
    let cores = t.numbers("cores", &(0..=1023));
    let as_cores = u16::try_from(cores.len()).unwrap_or(u16::MAX).max(1);
    Process {
        user: t.optional("user"),
        seccomp: t.or("seccomp", Seccomp::Refuse),
        memory: t.or("memory", Memory::Anonymous),
        memory_mib: t.number("memory_mib", 256, 64..=1_048_576),
        workers: t.number("workers", as_cores, 1..=256),
        cores,
        control_core: t.optional_number("control_core", 0..=1023),
        idle: t.or("idle", Idle::Adaptive),
        spread: t.or("spread", Spread::Auto),
        state_directory: t.optional("state_directory").map(|Directory(path)| path),
        durability: t.or("durability", Durability::AcknowledgeAfterCommit),
        store: t.or("store", Store::Files),
        pair: t.section("pair", pair),
        path_mtu_lifetime: t.seconds("path_mtu_lifetime", 600, 300..=DAY),
        recorded_turns: t.number("recorded_turns", 4096, 0..=1_000_000),
        fragments: t.section("fragments", fragments),
    }
}

fn pair(t: &mut Table<'_>) -> Pair {
    Pair {
        address: t.optional("address"),
        addresses: t
            .list("addresses")
            .into_iter()
            .map(|Unicast(address)| address)
            .collect(),
        lease: t.seconds("lease", 2, 2..=60),
        tls: t.table("tls", tls),
    }
}

fn tls(t: &mut Table<'_>) -> Tls {
    let ca: Option<PathBuf> = t.optional("ca");
    if !t.has("ca") {
        t.missing("ca", "\"ca.pem\"");
    }
    let (certificate, key) = (t.optional("certificate"), t.optional("key"));
    // One without the other says who this is, or proves it: neither will do.
    for (one, other, example) in [
        ("certificate", "key", "\"lma1.key\""),
        ("key", "certificate", "\"lma1.pem\""),
    ] {
        if t.has(one) && !t.has(other) {
            t.missing(other, example);
        }
    }
    Tls {
        ca: ca.unwrap_or_default(),
        identity: certificate
            .zip(key)
            .map(|(certificate, key)| Identity { certificate, key }),
    }
}

fn fragments(t: &mut Table<'_>) -> Fragments {
    Fragments {
        packets: t.number("packets", 128, 1..=65_536),
        held: t.number("held", 512, 2..=262_144),
        remembered: t.number("remembered", 1024, 1..=1_048_576),
        time: t.millis("time_ms", 60_000, 1_000..=120_000),
    }
}

/// The path of a directory that does not depend on where the process is started.
struct Directory(PathBuf);

impl Value for Directory {
    const EXPECTED: &'static str = "an absolute path";
    const EXAMPLE: &'static str = "\"/var/lib/flowmob/lma1\"";

    fn read(value: &toml::de::DeValue<'_>) -> Result<Self, Fault> {
        let path = PathBuf::read(value)?;
        if path.is_absolute() {
            return Ok(Self(path));
        }
        let help = "begin with `/`: a process may be started anywhere";
        Err(Fault::new("not an absolute path", help))
    }

    fn placeholder() -> Self {
        Self(PathBuf::new())
    }
}

impl Value for User {
    const EXPECTED: &'static str = "the name or number of a user";
    const EXAMPLE: &'static str = "\"flowmob\"";

    fn read(value: &toml::de::DeValue<'_>) -> Result<Self, Fault> {
        let no_number = || Fault::new("no user's number", "use 0 to 4294967294, or a name");
        // The largest is how system calls say that nothing is to change.
        let id = |id: u32| (id != u32::MAX).then_some(Self::Id(id));
        if let Some(number) = integer(value) {
            let number = u32::try_from(number).ok();
            return number.and_then(id).ok_or_else(no_number);
        }
        let name = text(value)?;
        if !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_digit()) {
            return name.parse().ok().and_then(id).ok_or_else(no_number);
        }
        let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if (1..=32).contains(&name.len()) && name.chars().all(usable) && !name.starts_with('-') {
            return Ok(Self::Name(name.to_owned()));
        }
        let help = "use a name of 1 to 32 letters, digits, `-`, `_` and `.`, or a number";
        Err(Fault::new("no user's name", help))
    }

    fn placeholder() -> Self {
        Self::Id(0)
    }
}
