//! Filters of system calls for single threads (seccomp(2)).

use std::io;

/// An instruction of such a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What is done.
    pub code: u16,
    /// How many instructions are left out if it is so.
    pub jt: u8,
    /// And if it is not.
    pub jf: u8,
    /// What it is done with.
    pub k: u32,
}

/// Has the kernel ask a filter about every system call that the calling thread makes from now on, and the threads that it
/// starts. If it `is_logged`, the kernel logs what is refused, with the name of the thread. There is no way back.
///
/// # Errors
/// The kernel's: it may know no filters, refuse this one, or want a thread that can get no new privileges.
pub fn install(filter: &[Instruction], is_logged: bool) -> io::Result<()> {
    let raw = filter.iter().map(|one| libc::sock_filter {
        code: one.code,
        jt: one.jt,
        jf: one.jf,
        k: one.k,
    });
    let mut raw: Vec<_> = raw.collect();
    let len = u16::try_from(raw.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog {
        len,
        filter: raw.as_mut_ptr(),
    };
    // Older kernels take whoever is filtered for foreign code, and have the processor guess less: none is run here.
    let mut flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    if is_logged {
        flags |= libc::SECCOMP_FILTER_FLAG_LOG;
    }
    // SAFETY: `program` and the `len` instructions it points to live until this returns; the kernel copies and checks them. A
    // filter changes what system calls answer, which every caller of them has to expect.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loads the number of the call, and refuses one of them.
    fn refuses(call: libc::c_long) -> [Instruction; 4] {
        let one = |code, jt, jf, k| Instruction { code, jt, jf, k };
        [
            one(0x20, 0, 0, 0),
            one(0x15, 0, 1, u32::try_from(call).unwrap()),
            one(0x06, 0, 0, libc::SECCOMP_RET_ERRNO | 1),
            one(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
        ]
    }

    #[test]
    fn a_filter_is_the_threads_that_asked_for_it() {
        let filtered = std::thread::spawn(|| {
            nix::sys::prctl::set_no_new_privs().unwrap();
            install(&refuses(libc::SYS_getppid), false).unwrap();
            // SAFETY: asks for a number.
            unsafe { libc::syscall(libc::SYS_getppid) }
        });
        assert_eq!(filtered.join().unwrap(), -1);
        // SAFETY: asks for a number.
        assert!(unsafe { libc::syscall(libc::SYS_getppid) } >= 0);
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        assert!(install(&[], true).is_err());
    }
}
