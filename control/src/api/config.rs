//! The configuration in force, and another in its place: `POST /v1/reload`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Reads the configuration's file again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reload {
    /// Only says what would change, and what stands in its way.
    #[serde(default)]
    pub(crate) dry_run: bool,
}

/// What a configuration changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Reloaded {
    /// Whether it is in force now.
    pub(crate) applied: bool,
    /// All differences, by the names of the keys.
    pub(crate) changes: Vec<ConfigChange>,
    /// What stands in its way; nothing if it can be, or was, put into force.
    pub(crate) refused: Vec<String>,
    /// What is legal but dubious in the new one, and was not in the old.
    pub(crate) warnings: Vec<String>,
}

/// A key, or a whole entry, that is different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ConfigChange {
    /// Where it is, such as `lma.peer[mag1].address`.
    pub(crate) path: String,
    /// What it was, in the words of a file; absent if there was nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// What it becomes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// Whether a process that runs can take it.
    pub(crate) live: bool,
}

impl From<&::config::Change> for ConfigChange {
    fn from(change: &::config::Change) -> Self {
        Self {
            path: change.path.clone(),
            from: change.from.clone(),
            to: change.to.clone(),
            live: change.live,
        }
    }
}

impl std::fmt::Display for ConfigChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let change = ::config::Change {
            path: self.path.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            live: self.live,
        };
        std::fmt::Display::fmt(&change, f)
    }
}
