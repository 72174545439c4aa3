//! What is different in another configuration, key by key, and whether a process that runs can take it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use toml::{Table, Value};

use crate::schema::Config;

/// A key, or a whole entry of an array of tables, that is different.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    /// Where it is, such as `lma.drain_ms` or `lma.peer[mag1].address`: entries go by their names.
    pub path: String,
    /// What it was, defaults included; `None` if there was nothing.
    pub from: Option<String>,
    /// What it becomes.
    pub to: Option<String>,
    /// Whether a process that runs can take it.
    pub live: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "~ {}: {from} -> {to}", self.path),
            (None, Some(to)) => write!(f, "+ {}: {to}", self.path),
            (Some(from), None) => write!(f, "- {}: {from}", self.path),
            (None, None) => f.write_str(&self.path),
        }
    }
}

/// What is made once, at the start: a change of anything below these keys needs a restart.
const FIXED: [&str; 11] = [
    "name",
    "process",
    "management",
    "log.format",
    "port",
    "lma.address",
    "lma.prefix_length",
    "mag.address",
    "mag.access_ports",
    "mag.link_local",
    "mn",
];

/// What tells the entries of an array of tables apart, in this order.
const NAMES: [&str; 3] = ["name", "id", "to"];

/// All that is different in `new`, in the order of the keys' names.
pub fn differences(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    compare("", &old.to_table(), &new.to_table(), &mut changes);
    changes
}

fn compare(path: &str, old: &Table, new: &Table, changes: &mut Vec<Change>) {
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        compare_values(path, old.get(key), new.get(key), changes);
    }
}

fn compare_values(
    path: String,
    old: Option<&Value>,
    new: Option<&Value>,
    changes: &mut Vec<Change>,
) {
    match (old, new) {
        (Some(Value::Table(old)), Some(Value::Table(new))) => compare(&path, old, new, changes),
        _ if entries(old).is_some() || entries(new).is_some() => {
            let (old, new) = (
                entries(old).unwrap_or_default(),
                entries(new).unwrap_or_default(),
            );
            let mut names: Vec<&(String, usize)> = old.keys().chain(new.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let path = format!("{path}[{}]", name.0);
                let entry =
                    |of: &BTreeMap<_, &Table>| of.get(name).map(|t| Value::Table((*t).clone()));
                compare_values(path, entry(&old).as_ref(), entry(&new).as_ref(), changes);
            }
        }
        _ if old == new => {}
        _ => {
            let live = !FIXED.iter().any(|fixed| is_below(&path, fixed)) && !is_role(&path);
            changes.push(Change {
                path,
                from: old.map(shown),
                to: new.map(shown),
                live,
            });
        }
    }
}

/// The entries of an array of tables by name. Those that share one, as a mobile's interfaces at a MAG do,
/// are told apart by their order.
fn entries(value: Option<&Value>) -> Option<BTreeMap<(String, usize), &Table>> {
    let tables: Option<Vec<&Table>> = value?.as_array()?.iter().map(Value::as_table).collect();
    let (mut named, mut met) = (BTreeMap::new(), HashMap::new());
    for table in tables? {
        let mut names = NAMES.iter().filter_map(|key| table.get(*key)?.as_str());
        let name = names.next()?;
        let same = met.entry(name).or_insert(0);
        named.insert((name.to_owned(), *same), table);
        *same += 1;
    }
    Some(named)
}

fn is_below(path: &str, key: &str) -> bool {
    path.strip_prefix(key)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// A process is an LMA or a MAG from its start to its end.
fn is_role(path: &str) -> bool {
    path == "lma" || path == "mag"
}

/// A value in one line, as a file could have it.
fn shown(value: &Value) -> String {
    let Some(table) = value.as_table() else {
        return value.to_string();
    };
    let keys = table
        .iter()
        .map(|(key, value)| format!("{key} = {}", shown(value)));
    format!("{{ {} }}", keys.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    const OLD: &str = r#"
        [[port]]
        name = "core"
        device = "null"
        addresses = ["2001:db8::1/64"]
        [lma]
        address = "2001:db8::1"
        pools = ["2001:db8:100::/40"]
        [[lma.peer]]
        name = "mag1"
        address = "2001:db8::a"
        protection = "none"
        [[lma.peer]]
        name = "mag2"
        address = "2001:db8::b"
        protection = "none"
    "#;

    fn between(old: &str, new: &str) -> Vec<String> {
        let changes = differences(&parse("old", old).unwrap(), &parse("new", new).unwrap());
        let line = |change: &Change| {
            let how = if change.live { "" } else { " (restart)" };
            format!("{change}{how}")
        };
        changes.iter().map(line).collect()
    }

    #[test]
    fn what_means_the_same_is_no_difference() {
        let explicit = OLD.replace("[lma]", "[lma]\ndrain_ms = 1000 # as ever");
        assert_eq!(between(OLD, &explicit), [""; 0]);
        // Entries go by their names, not by their order.
        let (front, peers) = OLD.split_at(OLD.find("[[lma.peer]]").unwrap());
        let (first, second) = peers.split_at(peers.rfind("[[lma.peer]]").unwrap());
        assert_eq!(between(OLD, &format!("{front}{second}{first}")), [""; 0]);
    }

    #[test]
    fn each_difference_has_its_path_and_says_whether_it_needs_a_restart() {
        let new = OLD
            .replace("pools", "drain_ms = 5\npools")
            .replace("mag2", "mag3")
            .replace("::a", "::aa")
            .replace("device = \"null\"", "device = \"ring\"\nmtu = 1400");
        assert_eq!(
            between(OLD, &new),
            [
                "~ lma.drain_ms: 1000 -> 5",
                "~ lma.peer[mag1].address: \"2001:db8::a\" -> \"2001:db8::aa\"",
                "- lma.peer[mag2]: { address = \"2001:db8::b\", name = \"mag2\", protection = \"none\", signalling = \"draft\" }",
                "+ lma.peer[mag3]: { address = \"2001:db8::b\", name = \"mag3\", protection = \"none\", signalling = \"draft\" }",
                "~ port[core].device: \"null\" -> \"ring\" (restart)",
                "~ port[core].mtu: 1500 -> 1400 (restart)",
            ]
        );
    }

    #[test]
    fn entries_of_one_name_are_told_apart_by_their_order() {
        let old = r#"
            [[port]]
            name = "core"
            device = "null"
            addresses = ["2001:db8::1/64"]
            [[port]]
            name = "wlan"
            device = "null"
            [mag]
            address = "2001:db8::1"
            access_ports = ["wlan"]
            [[mag.peer]]
            name = "lma"
            address = "2001:db8::a"
            protection = "none"
            [[mag.mobile]]
            id = "mn@x"
            link_layer = "02:00:00:00:00:01"
            access_technology = "wlan"
            [[mag.mobile]]
            id = "mn@x"
            link_layer = "02:00:00:00:00:02"
            access_technology = "wlan"
        "#;
        let new = old.replace("00:02", "00:03");
        assert_eq!(
            between(old, &new),
            ["~ mag.mobile[mn@x].link_layer: \"02:00:00:00:00:02\" -> \"02:00:00:00:00:03\""]
        );
    }

    #[test]
    fn a_role_is_for_life() {
        let mobile = r#"
            [mn]
            interface = "mn0"
            interface_id = "::100"
            [[mn.access]]
            name = "wlan"
            interface = "eth0"
        "#;
        let changes = between(mobile, OLD);
        for start in ["+ lma: ", "- mn: ", "+ port[core]: "] {
            let line = changes.iter().find(|line| line.starts_with(start)).unwrap();
            assert!(line.ends_with("(restart)"), "{line}");
        }
        let routed =
            format!("{OLD}\n[[route]]\nto = \"::/0\"\nvia = \"2001:db8::9\"\nport = \"core\"");
        let changes = between(&routed, OLD);
        assert!(
            matches!(changes.as_slice(), [line] if line.starts_with("- route[::/0]: ") && !line.contains("restart"))
        );
    }
}
