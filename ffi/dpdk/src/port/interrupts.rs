//! DPDK's thread for interrupts and alarms, and how a port of virtio-user is ended there.
//!
//! Such a port's driver hears of its back end by an interrupt, and has an alarm do what it cannot do while it is called.
//! Stopping it takes its interrupt away; but not while that is served, which the driver does not look at, and not from an
//! alarm, which puts it back. Then DPDK serves a port that is gone: it ends the process ("Error adding fd"), or reads
//! what was freed. Interrupts and alarms are served one after the other, by one thread: what is done there as an alarm
//! meets neither, unless an alarm is due still.

use std::ffi::c_void;
use std::sync::mpsc::{Sender, channel};

/// In microseconds; more than the driver gives its own alarms, so that what is asked for later is due later.
const DELAY: u64 = 10;

/// How often nothing may have happened in between until no alarm of the driver's is due: it may have one set once more
/// until the first has come.
const QUIET: u32 = 3;

/// A back end that comes and goes all the time is not waited for longer.
const ROUNDS: u32 = 100;

/// Work for that thread, and where it says that it is done.
struct Errand<'a> {
    work: Option<Box<dyn FnOnce() + Send + 'a>>,
    done: Sender<()>,
}

/// Ends a port there, when `state` has been the same for some time.
pub(super) fn end_when_quiet<T: PartialEq + Send>(
    state: impl Fn() -> T + Send + Sync,
    end: impl FnOnce() + Send,
) {
    let (mut last, mut quiet, mut end) = (None, 0, Some(end));
    for round in 1..=ROUNDS {
        on_its_thread(|| {
            let now = Some(state());
            quiet = if now == last { quiet + 1 } else { 0 };
            last = now;
            if (quiet == QUIET || round == ROUNDS)
                && let Some(end) = end.take()
            {
                end();
            }
        });
        if end.is_none() {
            return;
        }
    }
}

/// Runs something on that thread, and waits for it.
fn on_its_thread<'a>(work: impl FnOnce() + Send + 'a) {
    let (done, is_done) = channel();
    let mut errand = Errand {
        work: Some(Box::new(work)),
        done,
    };
    let pointer = (&raw mut errand).cast();
    // SAFETY: `errand` is there until `serve` has been called, which is waited for below.
    let result = unsafe { dpdk_sys::rte_eal_alarm_set(DELAY, Some(serve), pointer) };
    if result == 0 {
        // Whoever sends is in `errand`, so there is one.
        let _ = is_done.recv();
    } else if let Some(work) = errand.work.take() {
        // Without memory for an alarm, better here than not at all.
        work();
    }
}

/// # Safety
/// `errand` is an [`Errand`] that nobody else uses until it says that it is done.
unsafe extern "C" fn serve(errand: *mut c_void) {
    // SAFETY: as the caller promises.
    let errand = unsafe { &mut *errand.cast::<Errand<'_>>() };
    let done = errand.done.clone();
    if let Some(work) = errand.work.take() {
        work();
    }
    // The last that is done with it: the other thread goes on.
    let _ = done.send(());
}
