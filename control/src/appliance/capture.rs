//! Captures, from the control thread's side: names become numbers for the workers, and numbers words for people.

use std::fmt::Write;
use std::time::Duration;

use dataplane::BURST;
use flow::{Direction, DropReason, End, Fid, Filter, MnId, MobileId, Role, Seen, Update};
use pmip_proto::{Lma, Mag, Now};
use tokio::sync::oneshot;

use super::calls::{answered, rows};
use super::control::Control;
use super::workers::{Mark, WorkerSet};
use crate::api::Problem;
use crate::api::capture::{CaptureQuery, CaptureStarted, FrameDirection};
use crate::frames::{Frame, FrameSink};
use crate::server::Answer;

/// What is taken from the workers in one turn of the loop: the protocol must not wait for it.
const BUDGET: usize = 8 * BURST;
/// How often to see which numbers a mobile has: it may attach while its packets are waited for.
const LOOK: Duration = Duration::from_millis(10);
/// Where packets are said to be that the appliance made and that never left.
const NOWHERE: &str = "appliance";

/// The capture that runs, if one does.
#[derive(Debug, Default)]
pub(super) struct Captures {
    running: Option<Running>,
    last: u64,
    /// What is being taken from a worker.
    octets: Vec<u8>,
}

#[derive(Debug)]
struct Running {
    to: FrameSink,
    /// The mobile whose packets are wanted.
    mn: Option<MnId>,
    /// What the workers were told.
    filter: Filter,
    /// Frames that the reader had no room for since the last one it got.
    missed: u64,
    /// When to see which numbers the mobile has.
    look: Duration,
    /// Who is told that it has begun, and when every worker has heard of it.
    waiting: Option<(Mark, oneshot::Sender<Answer>)>,
}

impl Captures {
    /// Has somebody told that the capture has begun once it has, at every worker.
    pub(super) fn wait(&mut self, workers: &WorkerSet, reply: oneshot::Sender<Answer>) {
        if let Some(running) = &mut self.running {
            running.waiting = Some((workers.mark(), reply));
        }
    }
}

impl Control {
    /// Begins a capture.
    pub(super) fn start_capture(
        &mut self,
        now: Now,
        query: &CaptureQuery,
        to: FrameSink,
    ) -> Result<(), Problem> {
        self.end_capture_unread();
        if self.captures.running.is_some() {
            let why = "somebody captures here already, and one capture is all there is at a time";
            return Err(Problem::refused(why));
        }
        let filter = self.filter(query)?;
        self.captures.last += 1;
        let filter = Filter {
            capture: self.captures.last,
            ..filter
        };
        self.tell_filter(Some(&filter));
        self.captures.running = Some(Running {
            to,
            mn: query.mn.clone(),
            filter,
            missed: 0,
            look: now.monotonic + LOOK,
            waiting: None,
        });
        Ok(())
    }

    /// Tells who waits for the capture that it has begun, if it has.
    fn tell_begun(&mut self) {
        let Some(running) = &mut self.captures.running else {
            return;
        };
        let workers = &self.workers;
        let begun = running.waiting.take_if(|(mark, _)| workers.reached(mark));
        let Some((_, reply)) = begun else { return };
        let ports = self.setup.ports.iter().map(|port| port.name.clone());
        let started = CaptureStarted {
            name: self.setup.name.clone(),
            interfaces: ports.chain([NOWHERE.to_owned()]).collect(),
        };
        answered(reply, rows(&started));
    }

    /// What a query says, in numbers.
    fn filter(&self, query: &CaptureQuery) -> Result<Filter, Problem> {
        let port = query.port.as_ref().map(|name| {
            let port = self.setup.port_id(name);
            port.ok_or_else(|| {
                Problem::not_found(format!(
                    "port: no port is named {name}: see flowmob show ports"
                ))
            })
        });
        let peer = query.peer.as_ref().map(|name| {
            let peer = self.setup.peer_named(name);
            let unknown =
                || Problem::not_found(format!("peer: no peer is {name}: see flowmob show peers"));
            peer.map(|peer| peer.address).ok_or_else(unknown)
        });
        let fid = query.fid.map(|fid| {
            Fid::new(fid).ok_or_else(|| Problem::bad_request("fid: flows have numbers from 1 on"))
        });
        Ok(Filter {
            capture: 0,
            mobiles: query.mn.as_ref().map(|mn| self.numbers_of(mn)),
            peer: peer.transpose()?,
            fid: fid.transpose()?,
            dropped: query.drop.as_deref().map(reasons).transpose()?,
            port: port.transpose()?,
            direction: query.direction.map(|direction| match direction {
                FrameDirection::In => Direction::In,
                FrameDirection::Out => Direction::Out,
            }),
            octets: query.octets.unwrap_or(0),
        })
    }

    /// The numbers that a mobile has now.
    fn numbers_of(&self, mn: &MnId) -> Vec<(Role, MobileId)> {
        let lma = self.lma.as_deref().and_then(|lma| lma.mobile_id(mn));
        let mag = self.mag.as_deref().and_then(|mag| mag.mobile_id(mn));
        let lma = lma.map(|id| (Role::Lma, id));
        lma.into_iter()
            .chain(mag.map(|id| (Role::Mag, id)))
            .collect()
    }

    fn tell_filter(&mut self, filter: Option<&Filter>) {
        let filter = filter.map(|filter| filter.clone().into());
        self.workers.broadcast(&Update::Capture(filter));
    }

    /// Ends the capture if nobody reads it any more.
    fn end_capture_unread(&mut self) {
        let running = &mut self.captures.running;
        if running.take_if(|running| running.to.is_closed()).is_some() {
            self.tell_filter(None);
        }
    }

    /// Takes what the workers have seen and hands it on; whether there was anything.
    pub(super) fn take_captured(&mut self, now: Now) -> bool {
        if self.captures.running.is_none() && self.captures.last == 0 {
            return false;
        }
        self.end_capture_unread();
        self.tell_begun();
        self.follow_mobile(now);
        let mut octets = std::mem::take(&mut self.captures.octets);
        let mut taken = 0;
        while taken < BUDGET {
            let Some(seen) = self.workers.pop_seen(&mut octets) else {
                break;
            };
            taken += 1;
            self.show(&seen, &octets);
        }
        self.captures.octets = octets;
        taken > 0
    }

    /// Sees which numbers the mobile has whose packets are wanted.
    fn follow_mobile(&mut self, now: Now) {
        let Some(running) = &self.captures.running else {
            return;
        };
        let Some(mn) = running
            .mn
            .as_ref()
            .filter(|_| now.monotonic >= running.look)
        else {
            return;
        };
        let numbers = Some(self.numbers_of(mn));
        if let Some(running) = &mut self.captures.running {
            running.look = now.monotonic + LOOK;
            if running.filter.mobiles != numbers {
                running.filter.mobiles = numbers;
                let filter = running.filter.clone();
                self.tell_filter(Some(&filter));
            }
        }
    }

    /// Hands a frame on to the reader, unless it is of an earlier capture.
    fn show(&mut self, seen: &Seen, octets: &[u8]) {
        let wanted = |running: &Running| running.filter.capture == seen.capture;
        if !self.captures.running.as_ref().is_some_and(wanted) {
            return;
        }
        let comment = self.comment(seen);
        let ports = self.setup.ports.len();
        let interface = usize::from(seen.port.0).min(ports);
        if let Some(running) = &mut self.captures.running {
            let missed = running.missed + seen.missed;
            let frame = Frame {
                interface: u32::try_from(interface).unwrap_or(u32::MAX),
                time: seen.time,
                came: seen.direction == Direction::In,
                missed,
                octets: octets.to_vec(),
                len: seen.len,
                comment,
            };
            running.missed = if running.to.offer(frame) {
                0
            } else {
                missed + 1
            };
        }
    }

    /// The packet's number, whose it is, which rule and path it was given, and how it ended.
    fn comment(&self, seen: &Seen) -> String {
        let mut parts = vec![format!("packet {}", seen.packet)];
        for (word, mobile) in [("from", seen.from), ("to", seen.to)] {
            if let Some((role, id)) = mobile {
                let name = match role {
                    Role::Lma => self
                        .lma
                        .as_deref()
                        .and_then(|lma: &Lma| lma.mobile_name(id)),
                    Role::Mag => self
                        .mag
                        .as_deref()
                        .and_then(|mag: &Mag| mag.mobile_name(id)),
                };
                let name = name.map_or_else(|| format!("mobile {}", id.0), ToString::to_string);
                parts.push(format!("{word} {name}"));
            }
        }
        if let Some(fid) = seen.fid {
            parts.push(format!("flow {fid}"));
        } else if matches!(seen.to, Some((Role::Lma, _))) && seen.path.is_some() {
            parts.push("no rule".to_owned());
        }
        if let Some((role, path)) = seen.path {
            parts.push(self.setup.path_text(role, path));
        }
        let end = match (seen.direction, seen.end) {
            (Direction::Out, End::Sent) => None,
            (_, End::Dropped(reason)) => Some(format!("dropped: {reason}")),
            (_, End::Sent) => Some("sent".to_owned()),
            (_, End::Punted) => Some("to the control plane".to_owned()),
            (_, End::Consumed) => Some("ends here".to_owned()),
            (_, End::Held) => Some("waits".to_owned()),
        };
        let mut comment = parts.into_iter().chain(end).collect::<Vec<_>>().join("; ");
        if let End::Dropped(reason) = seen.end {
            // Writing to a text does not fail.
            let _ = write!(comment, ". {}", reason.meaning());
        }
        comment
    }
}

/// Names of reasons.
fn reasons(names: &str) -> Result<Vec<DropReason>, Problem> {
    if names == "any" {
        return Ok(DropReason::ALL.to_vec());
    }
    let reason = |name: &str| {
        if name == DropReason::SpreadRing.name() {
            let why = "such packets are dropped on their way to another worker, before anyone looks at them";
            return Err(Problem::bad_request(format!("drop: {name}: {why}")));
        }
        let mut all = DropReason::ALL.iter();
        let known = all.find(|reason| reason.name() == name).copied();
        known.ok_or_else(|| {
            let all: Vec<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
            let all = all.join(", ");
            Problem::bad_request(format!("drop: {name} is none of any, {all}"))
        })
    };
    names.split(',').map(reason).collect()
}
