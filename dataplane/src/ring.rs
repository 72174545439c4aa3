//! The rings between the control thread and one worker.
//!
//! Bounded and lock-free. Neither side ever waits inside: a full ring gives the message back.
//!
//! A binding is packed into the tables' own form by whoever sends it, and lies in the ring itself until the worker
//! has copied it; rules that it replaces go back: a worker neither packs nor allocates nor frees for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use flow::{Punt, Report, Seen, TableUpdate, Update};
use rtrb::chunks::ReadChunk;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::table::{Packed, RuleSet};

/// Places in each ring.
#[derive(Clone, Copy, Debug)]
pub struct RingSizes {
    /// Updates waiting for the worker.
    pub updates: usize,
    /// Punts waiting for the control thread.
    pub punts: usize,
    /// Reports waiting for the control thread.
    pub reports: usize,
    /// Octets of captured frames that wait for the control thread. Memory is taken when the first of them come.
    pub captured: usize,
}

impl Default for RingSizes {
    fn default() -> Self {
        Self {
            updates: 4096,
            punts: 4096,
            reports: 64,
            captured: 1 << 20,
        }
    }
}

/// Octets that a captured frame has at least, for as many places as frames can need.
const LEAST_FRAME: usize = 64;

/// An update on its way.
#[derive(Debug)]
pub(crate) enum Order {
    /// Creates or replaces a prefix.
    Binding(Packed),
    /// Anything else.
    Other(Update),
}

// What one core takes over from another, line by line.
const _: () = assert!(size_of::<Order>() == 3 * 64);

#[derive(Debug)]
struct Shared {
    punts: ArrayQueue<Punt>,
    reports: ArrayQueue<Report>,
    applied: CachePadded<AtomicU64>,
}

/// The worker's end.
#[derive(Debug)]
pub struct WorkerRings {
    orders: Consumer<Order>,
    spent: Producer<RuleSet>,
    seen: Producer<Seen>,
    frames: Producer<u8>,
    shared: Arc<Shared>,
    applied: u64,
}

/// The control thread's end.
#[derive(Debug)]
pub struct ControlRings {
    orders: Producer<Order>,
    spent: Consumer<RuleSet>,
    seen: Consumer<Seen>,
    frames: Consumer<u8>,
    shared: Arc<Shared>,
    pushed: u64,
}

/// The two ends of one worker's rings; a size of 0 counts as 1.
pub fn rings(sizes: RingSizes) -> (WorkerRings, ControlRings) {
    let shared = Arc::new(Shared {
        punts: ArrayQueue::new(sizes.punts.max(1)),
        reports: ArrayQueue::new(sizes.reports.max(1)),
        applied: CachePadded::new(AtomicU64::new(0)),
    });
    let (orders, next_order) = RingBuffer::new(sizes.updates.max(1));
    // Whoever sends an update frees what those before it have replaced: there is never more than all that wait leave.
    let (spend, spent) = RingBuffer::new(sizes.updates.max(1));
    let (tell, seen) = RingBuffer::new(sizes.captured.div_ceil(LEAST_FRAME).max(1));
    let (copy, frames) = RingBuffer::new(sizes.captured.max(1));
    let worker = WorkerRings {
        orders: next_order,
        spent: spend,
        seen: tell,
        frames: copy,
        shared: Arc::clone(&shared),
        applied: 0,
    };
    let control = ControlRings {
        orders,
        spent,
        seen,
        frames,
        shared,
        pushed: 0,
    };
    (worker, control)
}

/// Where rules go that were replaced or refused.
pub(crate) struct Spent<'a>(&'a mut Producer<RuleSet>);

impl Spent<'_> {
    /// Gives rules back to whoever may free them.
    pub(crate) fn give_back(&mut self, rules: RuleSet) {
        let given = self.0.push(rules);
        // There is a place for each update.
        debug_assert!(given.is_ok() || self.0.is_abandoned());
    }
}

impl WorkerRings {
    /// Updates that wait now.
    pub(crate) fn waiting(&self) -> usize {
        self.orders.slots()
    }

    /// Up to `most` of the next updates, where they lie: those that are committed are done with.
    pub(crate) fn orders(&mut self, most: usize) -> Option<(ReadChunk<'_, Order>, Spent<'_>)> {
        let count = self.orders.slots().min(most);
        let chunk = self.orders.read_chunk(count).ok()?;
        Some((chunk, Spent(&mut self.spent)))
    }

    /// Takes the next update, unless it is a binding.
    pub(crate) fn pop_other(&mut self) -> Option<Update> {
        if !matches!(self.orders.peek(), Ok(Order::Other(_))) {
            return None;
        }
        match self.orders.pop() {
            Ok(Order::Other(update)) => Some(update),
            Ok(Order::Binding(_)) | Err(_) => None,
        }
    }

    /// Notes that so many more updates are in force or were refused; [`WorkerRings::publish`] tells.
    pub fn note_applied(&mut self, count: u64) {
        self.applied += count;
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

    /// Shows a captured frame, all or some of whose octets are given, to the control plane.
    ///
    /// # Errors
    /// Gives back what is told of it if there is no room; nothing is shown then.
    pub fn push_seen(&mut self, seen: Seen, frame: &[u8]) -> Result<(), Seen> {
        if self.seen.slots() == 0 || self.frames.push_entire_slice(frame).is_err() {
            return Err(seen);
        }
        // Second: whoever finds this finds the octets too.
        self.seen
            .push(seen)
            .map_err(|rtrb::PushError::Full(seen)| seen)
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
        // A place first: an order that is packed cannot be given back.
        let Ok(place) = self.orders.write_chunk_uninit(1) else {
            return Err(update);
        };
        while let Ok(rules) = self.spent.pop() {
            drop(rules);
        }
        place.fill_from_iter([Self::pack(update)]);
        self.pushed += 1;
        Ok(())
    }

    fn pack(update: Update) -> Order {
        let Update::Table(
            role,
            TableUpdate::Binding {
                hnp,
                binding: Some(binding),
            },
        ) = update
        else {
            return Order::Other(update);
        };
        if let Ok(packed) = Packed::of(role, hnp, &binding) {
            return Order::Binding(packed);
        }
        // Refusing it is up to the worker, who counts that.
        let binding = Some(binding);
        Order::Other(Update::Table(role, TableUpdate::Binding { hnp, binding }))
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

    /// Whether punts fill half of their ring.
    pub fn is_crowded(&self) -> bool {
        self.shared.punts.len() >= self.shared.punts.capacity().div_ceil(2)
    }

    /// The next captured frame, whose octets replace what is in `frame`.
    pub fn pop_seen(&mut self, frame: &mut Vec<u8>) -> Option<Seen> {
        let seen = self.seen.pop().ok()?;
        frame.clear();
        if let Ok(octets) = self.frames.read_chunk(seen.captured as usize) {
            let (first, second) = octets.as_slices();
            frame.extend_from_slice(first);
            frame.extend_from_slice(second);
            octets.commit_all();
        }
        Some(seen)
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
            captured: 128,
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
    fn bindings_are_taken_where_they_lie_and_their_rules_come_back() {
        let rule = |number: u16| flow::Rule {
            fid: flow::Fid::new(number).unwrap(),
            priority: flow::FidPriority::new(number).unwrap(),
            selector: flow::Selector::default().into(),
            action: flow::RuleAction::Drop,
        };
        let binding = flow::Binding {
            mobile: flow::MobileId(1),
            default_path: None,
            sources: vec![],
            uplink: None,
            local: false,
            rules: (1..10).map(rule).collect(),
        };
        let update = |number: u64| {
            let address = std::net::Ipv6Addr::from_bits(u128::from(number + 1) << 64);
            let hnp = flow::Hnp::new(address, 64).unwrap();
            let binding = Some(Box::new(binding.clone()));
            Update::Table(flow::Role::Lma, TableUpdate::Binding { hnp, binding })
        };
        for places in 1..5 {
            let (mut worker, mut control) = rings(RingSizes {
                updates: places,
                ..RingSizes::default()
            });
            let mut taken = 0;
            // They go round the ring again and again, as many at a time as there is room for or fewer.
            for round in 0..40 {
                while control.pushed() - taken < 1 + round % places as u64 {
                    control.push(update(control.pushed())).unwrap();
                }
                if round % 3 == 0 {
                    assert_eq!(worker.waiting() as u64, control.pushed() - taken);
                }
                let (mut orders, mut spent) = worker.orders(places).unwrap();
                let (first, second) = orders.as_mut_slices();
                for order in first.iter_mut().chain(second) {
                    let Order::Binding(packed) = order else {
                        panic!("{order:?}");
                    };
                    assert_eq!(packed.hnp.addr().to_bits() >> 64, u128::from(taken + 1));
                    spent.give_back(packed.take_rules().unwrap());
                    taken += 1;
                }
                orders.commit_all();
                assert_eq!(worker.waiting(), 0);
                assert!(control.spent.slots() <= places);
            }
        }
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
                let Some(update) = worker.pop_other() else {
                    std::thread::yield_now();
                    continue;
                };
                let request = ReportRequest::Counters { token: next };
                assert_eq!(update, Update::Report(request));
                next += 1;
                worker.note_applied(1);
                worker.publish();
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
