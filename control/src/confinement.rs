//! What a process may do once it has started: as little as it needs.
//!
//! Before it has threads it becomes the user that its configuration names, with the capabilities of its ports (`user`,
//! `rights`). Each thread that reads what others have sent then gives up what it does not need itself: its capabilities, and
//! the system calls that are not on its list (`filter`, `lists`). The threads of one process share its memory, so whoever
//! has taken over one of them is not locked out of the others; but most of what is done with a thread that was taken over
//! begins with a system call.
//!
//! A call that is not on a list fails with EPERM, and the thread goes on: a list that is too short must not cost all mobiles
//! their network. The kernel logs it.

// What lists name differs from architecture to architecture; others have no filters.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod filter;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod lists;
pub(crate) mod rights;
pub(crate) mod user;

use caps::CapSet;
#[cfg(feature = "dpdk")]
use config::Device;
use config::{Config, Seccomp};

/// A thread, by what it is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thread {
    /// Parses packets.
    #[cfg(feature = "dpdk")]
    Worker,
    /// Parses signalling and neighbour discovery. Threads that it starts are as it is.
    #[cfg(feature = "dpdk")]
    Control,
    /// Follows the control thread, with what that was sent.
    #[cfg(feature = "dpdk")]
    Recorder,
    /// Serves the API.
    Server,
}

/// How far the threads of a process give up what they do not need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Confinement {
    seccomp: Seccomp,
    /// Some port's driver is not one of those whose ways are known: a card's, or any virtual one.
    #[cfg(feature = "dpdk")]
    is_open: bool,
    /// Files are this user's, so that nobody needs to be more than a user to read and write them.
    #[cfg(feature = "dpdk")]
    is_user: bool,
}

/// What a configuration asks for that does not mention it.
#[cfg(test)]
impl Default for Confinement {
    fn default() -> Self {
        Self {
            seccomp: Seccomp::Refuse,
            #[cfg(feature = "dpdk")]
            is_open: false,
            #[cfg(feature = "dpdk")]
            is_user: false,
        }
    }
}

impl Confinement {
    /// What a configuration asks for.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            seccomp: config.process.seccomp,
            #[cfg(feature = "dpdk")]
            is_open: (config.ports.iter())
                .any(|port| matches!(port.device, Device::Pci { .. } | Device::Vdev { .. })),
            #[cfg(feature = "dpdk")]
            is_user: config.process.user.is_some(),
        }
    }

    /// Gives up what the calling thread does not need from now on. What cannot be given up is logged.
    pub(crate) fn enter(self, thread: Thread) {
        let keeps_capabilities = match thread {
            // All files that it needs are open.
            Thread::Server => false,
            #[cfg(feature = "dpdk")]
            Thread::Worker => false,
            #[cfg(feature = "dpdk")]
            Thread::Control | Thread::Recorder => !self.is_user || self.is_open,
        };
        if !keeps_capabilities {
            // Inheritable and ambient ones are of no use without permitted ones.
            let given_up = caps::clear(None, CapSet::Permitted);
            if let Err(error) = given_up {
                tracing::warn!(?thread, %error, "keeps its capabilities");
            }
        }
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        {
            let list = lists::of(thread);
            #[cfg(feature = "dpdk")]
            let list = if self.is_open && matches!(thread, Thread::Control | Thread::Recorder) {
                lists::with_unknown_drivers(list)
            } else {
                list
            };
            if let Err(error) = filter::install(self.seccomp, list) {
                tracing::warn!(?thread, "system calls are not filtered: {error:#}");
            }
        }
    }
}

#[cfg(test)]
#[cfg(feature = "dpdk")]
mod tests;
