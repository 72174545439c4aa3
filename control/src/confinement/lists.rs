//! Which system calls each kind of thread makes.
//!
//! All that is not here is refused, so a list holds what code and libraries ask for and what libc asks for behind their backs,
//! now or in another version. But for one: when glibc first gives memory back it opens /proc/sys/vm/overcommit_memory, and does
//! without if it may not; to open that is to open any file. What is missing shows in the kernel's log; with `[process] seccomp = "log"` without harm.

use std::collections::BTreeMap;

use libc::{c_int, c_long};
use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use super::Thread;

/// Calls, and on what conditions: one of a call's rules has to hold, or it has none.
pub(super) type List = BTreeMap<c_long, Vec<SeccompRule>>;

/// How newer libraries start threads, if there is such a call.
pub(super) const CLONE3: c_long = libc::SYS_clone3;

/// Has a descriptor not be waited for: the number on all architectures that have lists.
const FIONBIO: u64 = 0x5421;

/// Time, waiting, and other threads' memory.
const ALL: &[c_long] = &[
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_membarrier,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    // Memory; what is executable is below.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // What is open, which is all that most threads ever get: log, devices, connections.
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Sockets that are there.
const SOCKETS: &[c_long] = &[
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
];

const SERVER: &[c_long] = &[
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_shutdown,
];

/// Files, for what outlives the process, its configuration and keys.
#[cfg(feature = "dpdk")]
const FILES: &[c_long] = &[
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fchmod,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getuid,
    libc::SYS_mkdirat,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_readlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_statx,
    libc::SYS_unlinkat,
];

/// What drivers do when they are asked for links and counters: also of sockets, and DPDK's alarms.
#[cfg(feature = "dpdk")]
const DRIVERS: &[c_long] = &[libc::SYS_getsockopt, libc::SYS_timerfd_settime];

/// What a driver may do besides of which nothing is known.
#[cfg(feature = "dpdk")]
const UNKNOWN_DRIVERS: &[c_long] = &[
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_ioctl,
    libc::SYS_setsockopt,
    libc::SYS_socket,
];

/// Older forms of the calls above, which this architecture has besides.
#[cfg(target_arch = "x86_64")]
mod older {
    use super::c_long;

    pub(super) const ALL: &[c_long] = &[libc::SYS_poll, libc::SYS_time];
    pub(super) const SERVER: &[c_long] = &[libc::SYS_epoll_wait];
    #[cfg(feature = "dpdk")]
    pub(super) const FILES: &[c_long] = &[
        libc::SYS_access,
        libc::SYS_lstat,
        libc::SYS_mkdir,
        libc::SYS_open,
        libc::SYS_readlink,
        libc::SYS_rename,
        libc::SYS_rmdir,
        libc::SYS_stat,
        libc::SYS_unlink,
    ];
}

#[cfg(not(target_arch = "x86_64"))]
mod older {
    use super::c_long;

    pub(super) const ALL: &[c_long] = &[];
    pub(super) const SERVER: &[c_long] = &[];
    #[cfg(feature = "dpdk")]
    pub(super) const FILES: &[c_long] = &[];
}

/// The list of a thread.
pub(super) fn of(thread: Thread) -> List {
    let mut list = List::new();
    allow(&mut list, &[ALL, older::ALL, SOCKETS]);
    no_programs(&mut list);
    match thread {
        Thread::Server => {
            allow(&mut list, &[SERVER, older::SERVER]);
            descriptors(&mut list);
            // Nothing else of a socket is for it to set.
            let tcp = argument(1, u64::from(libc::IPPROTO_TCP.unsigned_abs()));
            only(&mut list, libc::SYS_setsockopt, [tcp]);
            let is_nonblocking = argument(1, FIONBIO);
            only(&mut list, libc::SYS_ioctl, [is_nonblocking]);
        }
        // No file, no new socket, no thread. Drivers of cards work in memory.
        #[cfg(feature = "dpdk")]
        Thread::Worker => {}
        #[cfg(feature = "dpdk")]
        Thread::Control | Thread::Recorder => {
            allow(&mut list, &[FILES, older::FILES, DRIVERS]);
            descriptors(&mut list);
            threads(&mut list);
            // About interfaces; to change one takes a capability.
            let of_sockets = masked(1, 0xff00, 0x8900);
            only(&mut list, libc::SYS_ioctl, [of_sockets]);
        }
    }
    list
}

/// As well as what drivers may do of which nothing is known.
#[cfg(feature = "dpdk")]
pub(super) fn with_unknown_drivers(mut list: List) -> List {
    allow(&mut list, &[UNKNOWN_DRIVERS]);
    list
}

fn allow(list: &mut List, groups: &[&[c_long]]) {
    let calls = groups.iter().copied().flatten();
    list.extend(calls.map(|call| (*call, Vec::new())));
}

/// Memory is not to be executed, and the one process that may be sent a signal is this one, when it aborts.
fn no_programs(list: &mut List) {
    let executable = bits(libc::PROT_EXEC);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        only(list, call, [masked(2, executable, 0)]);
    }
    only(
        list,
        libc::SYS_tgkill,
        [argument(0, u64::from(std::process::id()))],
    );
}

/// What is asked of, and set for, single descriptors; not who is sent signals by them.
fn descriptors(list: &mut List) {
    let commands = [
        libc::F_DUPFD_CLOEXEC,
        libc::F_GETFD,
        libc::F_GETFL,
        libc::F_SETFD,
        libc::F_SETFL,
    ];
    only(
        list,
        libc::SYS_fcntl,
        commands.map(|command| argument(1, bits(command))),
    );
}

/// Threads, but no processes, and none in namespaces of their own.
#[cfg(feature = "dpdk")]
fn threads(list: &mut List) {
    let namespaces = libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWUTS;
    let thread = bits(libc::CLONE_THREAD);
    // Answered by a filter of its own.
    list.insert(CLONE3, Vec::new());
    only(
        list,
        libc::SYS_clone,
        [masked(0, thread | bits(namespaces), thread)],
    );
    // Their names.
    only(
        list,
        libc::SYS_prctl,
        [argument(0, bits(libc::PR_SET_NAME))],
    );
    // Asks how large their stacks are to be, as nothing is to be set.
    let asks = condition(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0);
    only(list, libc::SYS_prlimit64, [asks]);
}

/// Allows a call if one of these holds.
fn only<const N: usize>(list: &mut List, call: c_long, ways: [SeccompCondition; N]) {
    let rules = ways.map(|way| SeccompRule::new(vec![way]).expect("one condition"));
    list.insert(call, rules.into());
}

fn argument(index: u8, is: u64) -> SeccompCondition {
    condition(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, is)
}

fn masked(index: u8, mask: u64, is: u64) -> SeccompCondition {
    let operator = SeccompCmpOp::MaskedEq(mask);
    condition(index, SeccompCmpArgLen::Dword, operator, is)
}

fn condition(
    index: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> SeccompCondition {
    SeccompCondition::new(index, length, operator, value).expect("calls have six arguments")
}

/// A constant of C's as the kernel sees it.
fn bits(constant: c_int) -> u64 {
    u64::from(constant.cast_unsigned())
}
