//! The rings between the control thread and one worker.
//!
//! Bounded and lock-free. Neither side ever waits inside: a full ring gives the message back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use flow::{Punt, Report, Update};

/// Places in each ring.
#[derive(Clone, Copy, Debug)]
pub struct RingSizes {
    /// Updates waiting for the worker.
    pub updates: usize,
    /// Punts waiting for the control thread.
    pub punts: usize,
    /// Reports waiting for the control thread.
    pub reports: usize,
}

impl Default for RingSizes {
    fn default() -> Self {
        Self {
            updates: 4096,
            punts: 1024,
            reports: 64,
        }
    }
}

#[derive(Debug)]
struct Shared {
    updates: ArrayQueue<Update>,
    punts: ArrayQueue<Punt>,
    reports: ArrayQueue<Report>,
    applied: CachePadded<AtomicU64>,
}

/// The worker's end.
#[derive(Debug)]
pub struct WorkerRings {
    shared: Arc<Shared>,
    applied: u64,
}

/// The control thread's end.
#[derive(Debug)]
pub struct ControlRings {
    shared: Arc<Shared>,
    pushed: u64,
}

/// The two ends of one worker's rings; a size of 0 counts as 1.
pub fn rings(sizes: RingSizes) -> (WorkerRings, ControlRings) {
    let shared = Arc::new(Shared {
        updates: ArrayQueue::new(sizes.updates.max(1)),
        punts: ArrayQueue::new(sizes.punts.max(1)),
        reports: ArrayQueue::new(sizes.reports.max(1)),
        applied: CachePadded::new(AtomicU64::new(0)),
    });
    let worker = WorkerRings {
        shared: Arc::clone(&shared),
        applied: 0,
    };
    (worker, ControlRings { shared, pushed: 0 })
}

impl WorkerRings {
    /// The next update.
    pub fn pop_update(&mut self) -> Option<Update> {
        self.shared.updates.pop()
    }

    /// Notes that one more update is in force or was refused; [`WorkerRings::publish`] tells.
    pub fn note_applied(&mut self) {
        self.applied += 1;
    }

    /// Lets the control thread see how many updates are in force.
    pub fn publish(&self) {
        // Release: whoever reads this number sees every packet sent before it as sent.
        self.shared.applied.store(self.applied, Ordering::Release);
    }

    /// Hands a packet or question to the control plane.
    ///
    /// # Errors
    /// Gives it back if the ring is full; `reserve` places are then left for more urgent ones.
    pub fn push_punt(&mut self, punt: Punt, reserve: usize) -> Result<(), Punt> {
        let punts = &self.shared.punts;
        if punts.len() + reserve >= punts.capacity() && reserve > 0 {
            return Err(punt);
        }
        punts.push(punt)
    }

    /// Places in the punt ring.
    pub fn punt_capacity(&self) -> usize {
        self.shared.punts.capacity()
    }

    /// Answers a report request.
    ///
    /// # Errors
    /// Gives the report back if the ring is full.
    pub fn push_report(&mut self, report: Report) -> Result<(), Report> {
        self.shared.reports.push(report)
    }
}

impl ControlRings {
    /// Sends an update. It is in force once [`ControlRings::applied`] has reached the value that
    /// [`ControlRings::pushed`] has after this call.
    ///
    /// # Errors
    /// Gives the update back if the ring is full.
    pub fn push(&mut self, update: Update) -> Result<(), Update> {
        self.shared.updates.push(update)?;
        self.pushed += 1;
        Ok(())
    }

    /// Updates sent so far.
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// Updates that the worker has finished with so far.
    pub fn applied(&self) -> u64 {
        self.shared.applied.load(Ordering::Acquire)
    }

    /// The next packet or question.
    pub fn pop_punt(&mut self) -> Option<Punt> {
        self.shared.punts.pop()
    }

    /// The next report.
    pub fn pop_report(&mut self) -> Option<Report> {
        self.shared.reports.pop()
    }
}

#[cfg(test)]
mod tests {
    use flow::{PortId, ReportRequest};

    use super::*;

    #[test]
    fn a_full_ring_gives_the_message_back() {
        let (mut worker, mut control) = rings(RingSizes {
            updates: 1,
            punts: 4,
            reports: 1,
        });
        assert_eq!(control.push(Update::Stop), Ok(()));
        assert_eq!(control.push(Update::Stop), Err(Update::Stop));
        assert_eq!(control.pushed(), 1);
        let punt = || Punt::Resolve {
            port: PortId(0),
            next_hop: std::net::Ipv6Addr::LOCALHOST,
        };
        for _ in 0..3 {
            assert!(worker.push_punt(punt(), 1).is_ok());
        }
        assert!(
            worker.push_punt(punt(), 1).is_err(),
            "one place is reserved"
        );
        assert!(worker.push_punt(punt(), 0).is_ok());
        assert!(worker.push_punt(punt(), 0).is_err());
    }

    #[test]
    fn updates_cross_threads_in_order() {
        const COUNT: u64 = 20_000;
        let (mut worker, mut control) = rings(RingSizes {
            updates: 16,
            ..RingSizes::default()
        });
        let thread = std::thread::spawn(move || {
            let mut next = 0;
            while next < COUNT {
                match worker.pop_update() {
                    Some(Update::Report(ReportRequest::Counters { token })) => {
                        assert_eq!(token, next);
                        next += 1;
                        worker.note_applied();
                        worker.publish();
                    }
                    Some(_) => unreachable!(),
                    None => std::thread::yield_now(),
                }
            }
        });
        for token in 0..COUNT {
            let mut update = Update::Report(ReportRequest::Counters { token });
            while let Err(back) = control.push(update) {
                update = back;
                std::thread::yield_now();
            }
            assert!(control.applied() <= control.pushed());
        }
        thread.join().unwrap();
        assert_eq!(control.applied(), COUNT);
    }
}
