//! Whoever replaces bindings from another core.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use dataplane::ControlRings;
use flow::{HnpError, Role, TableUpdate, Update};

use crate::case::Case;
use crate::cell::pin;
use crate::clock::precise;
use crate::network;

/// What the thread does, in [`Shared::state`].
const WAIT: u8 = 0;
const PREPARE: u8 = 1;
const SEND: u8 = 2;
const STOP: u8 = 3;

#[derive(Debug)]
struct Shared {
    state: AtomicU8,
    sent: AtomicU64,
}

/// A thread that sends updates at a steady rate while it is told to.
#[derive(Debug)]
pub(super) struct Updater {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<()>>,
}

impl Updater {
    /// Starts the thread on its core; it makes `ahead` updates at a time.
    pub(super) fn start(
        control: ControlRings,
        case: Case,
        rate: f64,
        ahead: usize,
        core: usize,
    ) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU8::new(WAIT),
            sent: AtomicU64::new(0),
        });
        let mut sender = Sender {
            control,
            case,
            rate,
            ahead: Vec::with_capacity(ahead),
            made: 0,
            shared: Arc::clone(&shared),
        };
        let thread = thread::spawn(move || {
            pin(core)?;
            sender.serve()
        });
        Self { shared, thread }
    }

    /// Lets the thread make the updates of the next stretch, and waits for them.
    ///
    /// # Errors
    /// If it has ended.
    pub(super) fn prepare(&self) -> Result<()> {
        self.shared.state.store(PREPARE, Ordering::Release);
        while self.shared.state.load(Ordering::Acquire) == PREPARE {
            ensure!(!self.thread.is_finished(), "the updating thread has ended");
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Starts or stops the updates.
    pub(super) fn switch(&self, on: bool) {
        let state = if on { SEND } else { WAIT };
        self.shared.state.store(state, Ordering::Release);
    }

    /// Updates sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Ends the thread.
    ///
    /// # Errors
    /// Its own.
    pub(super) fn stop(self) -> Result<()> {
        self.shared.state.store(STOP, Ordering::Release);
        self.thread
            .join()
            .map_err(|_| anyhow!("the updating thread panicked"))?
    }
}

/// The thread's own.
struct Sender {
    control: ControlRings,
    case: Case,
    rate: f64,
    /// Updates made beforehand: sending them asks nothing of the heap.
    ahead: Vec<Update>,
    made: u64,
    shared: Arc<Shared>,
}

impl Sender {
    fn serve(&mut self) -> Result<()> {
        loop {
            match self.shared.state.load(Ordering::Acquire) {
                PREPARE => {
                    while self.ahead.len() < self.ahead.capacity() {
                        let update = self.make()?;
                        self.ahead.push(update);
                    }
                    // Unless something else was asked meanwhile.
                    let state = &self.shared.state;
                    let _other =
                        state.compare_exchange(PREPARE, WAIT, Ordering::AcqRel, Ordering::Relaxed);
                }
                SEND => self.send()?,
                STOP => return Ok(()),
                _ => thread::sleep(Duration::from_micros(100)),
            }
        }
    }

    fn is_sending(&self) -> bool {
        self.shared.state.load(Ordering::Relaxed) == SEND
    }

    fn send(&mut self) -> Result<()> {
        let (start, mut here) = (Instant::now(), 0u64);
        while self.is_sending() {
            if precise(here) > start.elapsed().as_secs_f64() * self.rate {
                thread::sleep(Duration::from_micros(50));
                continue;
            }
            let mut update = match self.ahead.pop() {
                Some(update) => update,
                None => self.make()?,
            };
            while let Err(back) = self.control.push(update) {
                update = back;
                thread::yield_now();
                if !self.is_sending() {
                    return Ok(());
                }
            }
            here += 1;
            self.shared.sent.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A mobile's binding, its default path through the first or the second of its tunnels.
    fn make(&mut self) -> Result<Update, HnpError> {
        // A prime stride, so that the table is walked all over.
        let mobile = self.made * 7919 % u64::from(self.case.bindings.max(1));
        let mobile = u32::try_from(mobile).unwrap_or(0);
        let (hnp, mut binding) = network::binding(&self.case, mobile)?;
        let source = usize::from(!self.made.is_multiple_of(2));
        binding.default_path = binding.sources.get(source).copied();
        self.made += 1;
        let binding = Some(Box::new(binding));
        Ok(Update::Table(
            Role::Lma,
            TableUpdate::Binding { hnp, binding },
        ))
    }
}
