//! A list of system calls as a filter of the kernel's.

use std::collections::BTreeMap;

use anyhow::Context;
use config::Seccomp;
use netdev::seccomp::Instruction;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use super::lists::{CLONE3, List};

/// Filters the system calls of this thread, and of threads that it starts.
///
/// # Errors
/// If the kernel cannot.
pub(super) fn install(how: Seccomp, list: List) -> anyhow::Result<()> {
    let otherwise = match how {
        Seccomp::Refuse => SeccompAction::Errno(number(libc::EPERM)),
        Seccomp::Log => SeccompAction::Log,
        Seccomp::Off => return Ok(()),
    };
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    nix::sys::prctl::set_no_new_privs().context("no new privileges")?;
    if list.contains_key(&CLONE3) {
        // Its flags are in memory, where filters do not look: libc takes `clone` where there is no such call. First, as there
        // will be no other filter; of two answers, the one that is not `Allow` counts.
        let none = SeccompAction::Errno(number(libc::ENOSYS));
        let list = BTreeMap::from([(CLONE3, Vec::new())]);
        let no_clone3 = SeccompFilter::new(list, SeccompAction::Allow, none, arch)?;
        // Nothing is lost by it, so nobody is told.
        put(no_clone3, false)?;
    }
    let listed = SeccompFilter::new(list, otherwise, SeccompAction::Allow, arch)?;
    put(listed, true)
}

fn number(errno: i32) -> u32 {
    errno.unsigned_abs()
}

fn put(filter: SeccompFilter, is_logged: bool) -> anyhow::Result<()> {
    let program = BpfProgram::try_from(filter)?;
    let program = program.iter().map(|one| Instruction {
        code: one.code,
        jt: one.jt,
        jf: one.jf,
        k: one.k,
    });
    let program: Vec<_> = program.collect();
    netdev::seccomp::install(&program, is_logged).context("the kernel takes no filter")
}
