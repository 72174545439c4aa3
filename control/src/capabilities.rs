//! The rights of a process that is not root: those that its program's file grants (`setcap`), as in a container.
//!
//! The file grants them permitted only, not effective: a program whose file has effective ones is not even started where
//! one of them is withheld, and which of them a process needs depends on its ports.

use anyhow::Context;
use caps::CapSet;

/// Makes what is permitted effective, for this process and for the programs that it starts.
///
/// # Errors
/// If the kernel does not allow what it has permitted.
pub(crate) fn raise() -> anyhow::Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let permitted = caps::read(None, CapSet::Permitted).context("which capabilities are there?")?;
    for set in [CapSet::Effective, CapSet::Inheritable, CapSet::Ambient] {
        caps::set(None, set, &permitted).with_context(|| format!("{set:?} capabilities"))?;
    }
    Ok(())
}
