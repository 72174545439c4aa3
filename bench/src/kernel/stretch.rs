//! One forwarder under packets for a while.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::check::Frames;
use super::cpu::Usage;
use super::sender::{Limit, Sent};
use super::wires::Bed;
use super::{Forwarder, Order};
use crate::clock::{precise, thread_time};
use crate::report::rounded;

/// Frames of which every octet is looked at before a stretch.
const SAMPLE: u64 = 512;

/// One round of one forwarder. Times are in nanoseconds for each packet that arrived.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Stretch {
    /// Packets sent in a second.
    pub(super) offered_pps: f64,
    /// Packets that arrived in a second.
    pub(super) delivered_pps: f64,
    /// Packets that never arrived.
    pub(super) loss_percent: f64,
    /// What the forwarder's core was busy.
    pub(super) core_ns: f64,
    /// What of that the worker's thread was, if there is one.
    pub(super) worker_ns: Option<f64>,
    /// How many packets the worker found at once.
    pub(super) burst: Option<f64>,
    /// What others had of both cores.
    pub(super) others_percent: f64,
    /// The sender's calls, with what the kernel did in them for the forwarder.
    pub(super) sender_ns: f64,
    /// The sender's calls when nobody forwards.
    pub(super) sender_alone_ns: f64,
    /// Whatever any core did.
    pub(super) busy_ns: f64,
    /// How much of the time the sender's calls took.
    pub(super) sender_percent: f64,
}

impl Stretch {
    /// Sends as fast as packets arrive.
    pub(super) fn measure(order: &Order, bed: &mut Bed, sender_alone_ns: f64) -> Result<Self> {
        let length = Duration::from_millis(order.milliseconds);
        if let Some(process) = &mut bed.process {
            process.go()?;
        }
        send(bed, length / 5, || Ok(()))?;
        let before = Usage::read()?;
        let (start, began) = (Instant::now(), thread_time());
        let [mut core, mut all, mut others, mut programs] = [Duration::ZERO; 4];
        let sent = send(bed, length, || {
            let (after, elapsed) = (Usage::read()?, start.elapsed());
            core = before.busy(&after, order.core, elapsed);
            all = before.all_busy(&after, elapsed);
            let own = thread_time().saturating_sub(began);
            let sender_core = before.busy(&after, order.sender_core, elapsed);
            others = sender_core.saturating_sub(own);
            programs = before.programs(&after, order.core);
            Ok(())
        })?;
        let delivered = precise(sent.delivered);
        let each = |time: Duration| time.as_secs_f64() * 1e9 / delivered;
        let work = match &mut bed.process {
            Some(process) => Some(process.stop()?),
            None => None,
        };
        // Linux has no program there, and a worker nothing but its thread.
        others += match work {
            None => programs,
            Some(work) => {
                let thread = work.thread_ns * delivered / 1e9;
                core.saturating_sub(Duration::try_from_secs_f64(thread)?)
            }
        };
        let seconds = sent.elapsed.as_secs_f64();
        Ok(Self {
            offered_pps: rounded(precise(sent.offered) / seconds, 0),
            delivered_pps: rounded(delivered / seconds, 0),
            loss_percent: rounded(100.0 * precise(sent.lost) / precise(sent.offered), 4),
            core_ns: rounded(each(core), 0),
            worker_ns: work.map(|work| rounded(work.thread_ns, 0)),
            burst: work.map(|work| rounded(work.burst, 1)),
            others_percent: rounded(100.0 * others.as_secs_f64() / seconds, 1),
            sender_ns: rounded(each(sent.sending), 0),
            sender_alone_ns: rounded(sender_alone_ns, 0),
            busy_ns: rounded(each(all), 0),
            sender_percent: rounded(100.0 * sent.sending.as_secs_f64() / seconds, 1),
        })
    }
}

/// What the sender's calls take when nobody forwards, in nanoseconds a packet.
pub(super) fn alone(order: &Order, bed: &mut Bed) -> Result<f64> {
    let length = Duration::from_millis(order.milliseconds) / 5;
    send(bed, length / 5, || Ok(()))?;
    let sent = send(bed, length, || Ok(()))?;
    Ok(sent.sending.as_secs_f64() * 1e9 / precise(sent.delivered))
}

fn send(bed: &mut Bed, length: Duration, ended: impl FnOnce() -> Result<()>) -> Result<Sent> {
    let sent = bed.sender.send(&bed.arrived, Limit::Time(length), ended)?;
    ensure!(
        sent.delivered > 0,
        "none of {} packets arrived",
        sent.offered
    );
    Ok(sent)
}

/// Sends some frames and compares every octet of what arrives.
pub(super) fn sample(forwarder: Forwarder, bed: &mut Bed, frames: &Frames) -> Result<()> {
    if let Some(process) = &mut bed.process {
        process.go()?;
    }
    let watch = bed.watch()?;
    let limit = Limit::Frames(SAMPLE);
    let sent = bed.sender.send(&bed.arrived, limit, || Ok(()))?;
    let (mut buffer, mut right) = ([0; 2048], 0);
    loop {
        match watch.recv(&mut buffer) {
            Ok(len) => {
                let frame = buffer.get(..len).unwrap_or_default();
                // Linux reports its groups to all routers, unasked.
                if frame.first().is_some_and(|octet| octet & 1 == 0) {
                    frames.check(forwarder, frame)?;
                    right += 1;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
    }
    let offered = sent.offered;
    ensure!(right == offered, "{right} of {offered} packets arrived");
    if let Some(process) = &mut bed.process {
        process.stop()?;
    }
    Ok(())
}
