//! The two clocks of a measurement: the processor's time stamp counter, and the time that a
//! thread had a processor.

#![expect(
    unsafe_code,
    reason = "an instruction and a system call without a safe wrapper here"
)]

use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

/// The time stamp counter. It runs at one rate on every core, whatever the core's own clock does.
#[inline]
pub(crate) fn tsc() -> u64 {
    // SAFETY: rdtsc is part of x86_64 and touches no memory.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// How long the calling thread has been running on a processor.
pub(crate) fn thread_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a live structure, and the clock is one that every Linux has.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// How often the kernel has taken the processor from the calling thread.
pub(crate) fn involuntary_switches() -> u64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is a live structure, and all zero is a value of it.
    let failed = unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
    // SAFETY: integers that were zero, or that the kernel has written.
    let usage = unsafe { usage.assume_init() };
    if failed == 0 {
        u64::try_from(usage.ru_nivcsw).unwrap_or(0)
    } else {
        0
    }
}

/// The time stamp counter's frequency in Hz, measured against the system's monotonic clock.
pub(crate) fn tsc_hz() -> f64 {
    let (start, began) = (tsc(), Instant::now());
    std::thread::sleep(Duration::from_millis(300));
    let (end, took) = (tsc(), began.elapsed());
    precise(end - start) / took.as_secs_f64()
}

/// A count as a number to reckon with: exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^53")]
pub(crate) fn precise(count: u64) -> f64 {
    count as f64
}
