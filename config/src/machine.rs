//! What the checks need to know about the machine.

use std::collections::BTreeSet;

/// The machine a configuration is checked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Machine {
    /// CPU cores that threads of the process may run on; `None` if that is unknown, which turns
    /// the checks of `cores` and `control_core` off.
    pub cores: Option<BTreeSet<u16>>,
}

impl Machine {
    /// A machine with these cores.
    pub fn with_cores(cores: impl IntoIterator<Item = u16>) -> Self {
        Self {
            cores: Some(cores.into_iter().collect()),
        }
    }

    /// The machine this runs on. Cores are those the *process* may use, which in a container are
    /// fewer than the machine has; a main thread that is pinned already sees only its own.
    pub fn this() -> Self {
        let cores = std::fs::read_to_string("/proc/self/status")
            .ok()
            .and_then(|status| {
                let list = status
                    .lines()
                    .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
                cpu_list(list.trim())
            });
        Self { cores }
    }
}

/// Reads the kernel's notation for sets of cores, such as `0-3,8`; `None` if it is not that, or empty.
pub fn cpu_list(text: &str) -> Option<BTreeSet<u16>> {
    let mut cores = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cores.extend(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?);
    }
    Some(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_notation_is_read() {
        assert_eq!(
            cpu_list("0-2,5,8-9"),
            Some(BTreeSet::from([0, 1, 2, 5, 8, 9]))
        );
        assert_eq!(cpu_list("0"), Some(BTreeSet::from([0])));
        for wrong in ["", "x", "0-", "1,,2"] {
            assert_eq!(cpu_list(wrong), None, "{wrong}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_a_core() {
        assert!(!Machine::this().cores.unwrap().is_empty());
    }
}
