//! Debian's base system, from its packages: what images are made of where no registry can be asked for one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{kept, ok};

/// The archive of a minimal bookworm; made the first time.
pub fn base() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        let archive = kept().join("bookworm.tar");
        if !archive.exists() {
            let unfinished = kept().join("bookworm.unfinished.tar");
            let mut command = Command::new("mmdebstrap");
            command.args([
                "--quiet",
                "--variant=minbase",
                "--include=usr-is-merged",
                "bookworm",
            ]);
            ok(command.arg(&unfinished));
            std::fs::rename(&unfinished, &archive).unwrap();
        }
        archive
    })
}
