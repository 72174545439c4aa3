//! What killed processes have left behind: DPDK's runtime directories, one for each.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// What the name of a process's runtime directory begins with; its number follows.
pub(super) const PREFIX: &str = "flowmob-";

/// Removes the directories beside this process's own whose processes are dead.
///
/// Nothing is kept in them, as processes share no memory through DPDK, and only empty ones are removed. So one that is
/// mistaken for dead, such as a process of a container that shares the directory above, loses nothing.
pub(super) fn remove(own: &Path) {
    remove_unless(own, |process| {
        kill(Pid::from_raw(process), None) != Err(Errno::ESRCH)
    });
}

fn remove_unless(own: &Path, is_alive: impl Fn(i32) -> bool) {
    let above = own.parent().map(std::fs::read_dir);
    for entry in above.into_iter().flatten().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let process = number.and_then(|number| number.parse().ok());
        if entry.path() != own && process.is_some_and(|process| process > 0 && !is_alive(process)) {
            // Another start may be faster, and what is not empty is not ours.
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_directories_of_the_dead_go() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let stay = [
            "flowmob-1",
            "flowmob-7",
            "flowmob-3",
            "flowmob-x",
            "other-2",
        ];
        for name in stay.into_iter().chain(["flowmob-2", "flowmob-4000000"]) {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::fs::write(at("flowmob-3/config"), "").unwrap();
        remove_unless(&at("flowmob-1"), |process| process == 7);
        let mut left: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(
            left,
            [
                "flowmob-1",
                "flowmob-3",
                "flowmob-7",
                "flowmob-x",
                "other-2"
            ]
        );
    }
}
