//! Checks of `[mn]`.

use super::unique;
use crate::notes::{Draft, Notes};
use crate::roles::Mn;
use crate::schema::Config;

pub(crate) fn check(config: &Config, mn: &Mn, notes: &mut Notes) {
    let accesses = || mn.accesses.iter().enumerate();
    let at = |i: usize, key: &str| format!("mn.access[{i}].{key}");
    if mn.accesses.is_empty() {
        notes.push(
            Draft::error(
                "mn.access",
                "a mobile node needs an interface to attach with",
            )
            .label("no [[mn.access]]")
            .help("add a [[mn.access]] for each interface, with `name` and `interface`"),
        );
    }
    unique(
        notes,
        accesses().map(|(i, access)| (&access.name, at(i, "name"))),
        |name| format!("two accesses are named `{name}`"),
        "give each access a name of its own",
    );
    let own = std::iter::once((&mn.interface, "mn.interface".to_owned()));
    let physical = accesses().map(|(i, access)| (&access.interface, at(i, "interface")));
    unique(
        notes,
        own.chain(physical),
        |interface| format!("the interface `{interface}` is named twice"),
        "`mn.interface` is created; each access names another, existing interface",
    );
    let (lma, mag) = (notes.has("lma"), notes.has("mag"));
    if !config.ports.is_empty() && !lma && !mag {
        notes.push(
            Draft::warning("port", "a mobile node does not use ports")
                .label("ignored")
                .help("remove every [[port]] and [[route]]; accesses are Linux interfaces"),
        );
    }
}
