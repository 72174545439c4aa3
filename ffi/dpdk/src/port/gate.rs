//! Keeps workers out of a driver while its memory may go.

use std::sync::atomic::{AtomicBool, Ordering};

/// A gate between a port's queues and its driver. Each queue passes at a place of its own.
#[derive(Debug)]
pub(crate) struct Gate {
    open: AtomicBool,
    inside: Box<[Inside]>,
}

/// Whether somebody is inside; on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Inside(AtomicBool);

impl Gate {
    /// A closed one.
    pub(super) fn new(places: usize) -> Self {
        Self {
            open: AtomicBool::new(false),
            inside: std::iter::repeat_with(Inside::default)
                .take(places)
                .collect(),
        }
    }

    pub(super) fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    /// Closes it, and waits until nobody is inside: no longer than a burst takes.
    pub(super) fn close(&self) {
        self.open.store(false, Ordering::SeqCst);
        for inside in &self.inside {
            while inside.0.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
        }
    }

    /// Does `work` inside; 0 if the gate is closed.
    #[inline]
    pub(crate) fn pass(&self, place: usize, work: impl FnOnce() -> u16) -> u16 {
        let Some(Inside(inside)) = self.inside.get(place) else {
            return 0;
        };
        // One of the two sees the other: we that it is closed, or who closes it that we are inside.
        inside.store(true, Ordering::SeqCst);
        let done = if self.open.load(Ordering::SeqCst) {
            work()
        } else {
            0
        };
        inside.store(false, Ordering::SeqCst);
        done
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn nobody_is_inside_of_a_closed_gate() {
        let gate = Gate::new(2);
        assert_eq!(gate.pass(0, || 7), 0);
        let (working, stop) = (AtomicU32::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let passed: Vec<_> = (0..2)
                .map(|place| {
                    let (gate, working, stop) = (&gate, &working, &stop);
                    scope.spawn(move || {
                        let mut passed = 0_u64;
                        while !stop.load(Ordering::Relaxed) {
                            passed += u64::from(gate.pass(place, || {
                                working.fetch_add(1, Ordering::SeqCst);
                                std::hint::spin_loop();
                                working.fetch_sub(1, Ordering::SeqCst);
                                1
                            }));
                        }
                        passed
                    })
                })
                .collect();
            for _ in 0..200 {
                gate.open();
                std::thread::yield_now();
                gate.close();
                assert_eq!(working.load(Ordering::SeqCst), 0);
            }
            // Both get through once it stays open.
            gate.open();
            std::thread::sleep(std::time::Duration::from_millis(20));
            stop.store(true, Ordering::Relaxed);
            for thread in passed {
                assert!(thread.join().unwrap() > 0);
            }
        });
    }
}
