//! What the management API asks, answered by the thread that owns the state.

use std::time::Duration;

use flow::{Bid, Fid, FidPriority, HandoffIndicator, MnId};
use pmip_proto::{FlowRequest, MoveFailure, MoveStarted, MoveTimes, Now};
use serde::Serialize;
use serde_json::{Value, json};
use store::Mark as Kept;
use tokio::sync::oneshot;

use super::control::Control;
use super::keeping::{Keeping, MOST_ANSWERS};
use super::pair::Pair;
use super::workers::{Mark, WorkerSet};
use crate::api::{
    Attach, Done, FlowAdd, FlowAdded, FlowDelete, FlowMove, FlowMoved, Handoff, Problem, Status,
};
use crate::keys::Source;
use crate::selector_text;
use crate::server::{Answer, ApplianceRequest, Call, Request};

impl Control {
    /// Answers a request, now or when the workers or the peer have.
    pub(super) fn call(&mut self, now: Now, call: Call) {
        let Call { request, reply } = call;
        let answer = match request {
            Request::Appliance(request) => {
                self.appliance_call(now, request, reply);
                return;
            }
            Request::Status => rows(&self.status()),
            Request::Ready => rows(&self.readiness()),
            Request::Alive | Request::Metrics | Request::Drops => {
                self.reports.ask(&mut self.workers, request, reply, &[]);
                return;
            }
            Request::Reload(request) => {
                self.reloads.read(request, reply);
                return;
            }
            Request::Log => rows(&self.reloads.logging().state()),
            Request::LogChange(change) => {
                let changed = self.reloads.logging().change(&change, true);
                changed.and_then(|state| rows(&state))
            }
            Request::Config => rows(&self.reloads.running().to_table()),
            Request::Mn => Err(not_an_mn()),
        };
        answered(reply, answer);
    }

    fn appliance_call(
        &mut self,
        now: Now,
        request: ApplianceRequest,
        reply: oneshot::Sender<Answer>,
    ) {
        let keeps = request.changes_what_is_kept();
        if self.stands_by() && request.is_for_who_decides() {
            let why = "this process stands by and decides nothing: ask the one that leads";
            answered(reply, Err(Problem::refused(why)));
            return;
        }
        if (keeps || matches!(request, ApplianceRequest::FlowMove(_))) && self.is_full() {
            let why = "too much waits for the disk; try again";
            answered(reply, Err(Problem::unavailable(why)));
            return;
        }
        let answer = match request {
            ApplianceRequest::Bindings => rows(&self.binding_rows(now)),
            ApplianceRequest::Peers => rows(&self.peer_rows()),
            ApplianceRequest::Routes => rows(&self.route_rows()),
            ApplianceRequest::Flows
            | ApplianceRequest::Mobiles
            | ApplianceRequest::Paths
            | ApplianceRequest::Ports
            | ApplianceRequest::Workers => {
                let prefixes = if request == ApplianceRequest::Flows {
                    self.flow_prefixes()
                } else if request == ApplianceRequest::Mobiles {
                    self.mobile_prefixes()
                } else {
                    Vec::new()
                };
                self.reports
                    .ask(&mut self.workers, request.into(), reply, &prefixes);
                return;
            }
            ApplianceRequest::Explain(request) => {
                self.explain(&request, reply);
                return;
            }
            ApplianceRequest::Capture(query, to) => match self.start_capture(now, &query, to) {
                Ok(()) => {
                    self.captures.wait(&self.workers, reply);
                    return;
                }
                Err(problem) => Err(problem),
            },
            ApplianceRequest::Recorder(to) => match &self.recorder {
                Some(recorder) if recorder.take(to) => Ok(Value::Null),
                Some(_) => Err(Problem::refused("somebody takes the recording already")),
                None => Err(Problem::refused(
                    "nothing is recorded: [process] recorded_turns is 0",
                )),
            },
            ApplianceRequest::FlowAdd(request) => self.add_flow(now, &request),
            ApplianceRequest::FlowMove(request) => match self.move_flow(now, &request) {
                Ok(waiting) => {
                    self.moves.wait(waiting, reply);
                    return;
                }
                Err(problem) => Err(problem),
            },
            ApplianceRequest::FlowDelete(request) => self.delete_flow(now, &request),
            ApplianceRequest::KeysReload(_) => self.reload_keys(),
            ApplianceRequest::Revoke(request) => self.revoke(now, &request),
            ApplianceRequest::Service(request) => self.set_service(now, &request),
            ApplianceRequest::Drain(request) => self.set_draining(now, request),
            ApplianceRequest::Reregister(request) => self.reregister(now, &request),
            ApplianceRequest::Attach(request) => self.attach(now, &request),
            ApplianceRequest::Detach(request) => self.detach(now, &request),
        };
        if keeps {
            self.keeping.promise(reply, answer);
        } else {
            answered(reply, answer);
        }
    }

    /// Whether nothing may be begun that somebody waits for.
    fn is_full(&mut self) -> bool {
        self.load.is_most() || self.keeping.is_full() || self.moves.is_full()
    }

    fn status(&self) -> Status {
        Status {
            name: self.setup.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            roles: self.setup.roles.clone(),
            ready: self.readiness().ready,
            uptime_seconds: self.clock.uptime().as_secs(),
            workers: self.workers.len(),
            leads: self.pair.as_ref().map(Pair::leads),
            draining: self.lma.as_ref().is_some_and(|lma| lma.is_draining()),
            sessions: self.lma.as_ref().map(|lma| lma.sessions()),
        }
    }

    fn add_flow(&mut self, now: Now, request: &FlowAdd) -> Answer {
        let wanted = FlowRequest {
            mn_id: mn_id(&request.mn)?,
            fid: request.fid.map(fid).transpose()?,
            priority: request.priority.map(priority).transpose()?,
            selector: selector_text::parse(request)?,
            bid: bid(request.bid)?,
        };
        let lma = self.lma.as_mut().ok_or_else(not_an_lma)?;
        let fid = lma
            .add_flow(now, wanted)
            .map_err(|e| Problem::refused(e.to_string()))?;
        rows(&FlowAdded { fid: fid.0.get() })
    }

    fn move_flow(&mut self, now: Now, request: &FlowMove) -> Result<Waiting, Problem> {
        let waiting = Waiting {
            mn_id: mn_id(&request.mn)?,
            fid: fid(request.fid)?,
            to: bid(request.bid)?,
        };
        let lma = self.lma.as_mut().ok_or_else(not_an_lma)?;
        let started = lma.move_flow(now, &waiting.mn_id, waiting.fid, waiting.to);
        match started.map_err(|error| Problem::refused(error.to_string()))? {
            MoveStarted::Signalling | MoveStarted::Done => Ok(waiting),
            MoveStarted::AlreadyThere => Err(Problem::refused(format!(
                "flow {} is on access {} already",
                request.fid, request.bid
            ))),
        }
    }

    fn delete_flow(&mut self, now: Now, request: &FlowDelete) -> Answer {
        let (mn, fid) = (mn_id(&request.mn)?, fid(request.fid)?);
        let lma = self.lma.as_mut().ok_or_else(not_an_lma)?;
        lma.delete_flow(now, &mn, fid)
            .map_err(|error| Problem::refused(error.to_string()))?;
        Ok(done(format!("flow {fid} of {mn} deleted")))
    }

    fn reload_keys(&mut self) -> Answer {
        let refused = |error: anyhow::Error| Problem::refused(format!("{error:#}"));
        if self.stands_by() {
            let sources = Source::all(self.reloads.running());
            self.protection.read(&sources).map_err(refused)?;
            return Ok(done(
                "keys are right, and are used when this process leads".to_owned(),
            ));
        }
        self.protection.reload().map_err(refused)?;
        Ok(done("keys read".to_owned()))
    }

    fn attach(&mut self, now: Now, request: &Attach) -> Answer {
        let mn = mn_id(&request.mn)?;
        let mut attachment = self.place(&mn, request)?;
        if let Some(handoff) = request.handoff {
            attachment.handoff = indicator(handoff);
        }
        let port = self.setup.port_name(attachment.port).to_owned();
        let mag = self.mag.as_mut().ok_or_else(not_a_mag)?;
        mag.attach(now, attachment)
            .map_err(|error| Problem::refused(error.to_string()))?;
        Ok(done(format!("attaching {mn} on port {port}")))
    }

    fn detach(&mut self, now: Now, request: &Attach) -> Answer {
        if request.handoff.is_some() {
            return Err(Problem::bad_request(
                "a handoff indicator is for an attachment".to_owned(),
            ));
        }
        let mn = mn_id(&request.mn)?;
        let attachment = self.place(&mn, request)?;
        let port = self.setup.port_name(attachment.port).to_owned();
        let mag = self.mag.as_mut().ok_or_else(not_a_mag)?;
        if !mag.detach(now, attachment.port, attachment.mac) {
            return Err(Problem::refused(format!(
                "{mn} is not attached on port {port}"
            )));
        }
        Ok(done(format!("detaching {mn} from port {port}")))
    }

    /// Where a mobile is meant to attach: on the named port, or on the only one it may use.
    fn place(&self, mn: &MnId, request: &Attach) -> Result<pmip_proto::Attachment, Problem> {
        if self.mag.is_none() {
            return Err(not_a_mag());
        }
        let places = self.mobiles.of(mn);
        let places: Vec<_> = match &request.port {
            None => places,
            Some(name) => {
                let port = self
                    .setup
                    .port_id(name)
                    .ok_or_else(|| Problem::not_found(format!("no port is named {name}")))?;
                places
                    .into_iter()
                    .filter(|place| place.port == port)
                    .collect()
            }
        };
        match places.as_slice() {
            [place] => Ok((*place).clone()),
            [] => Err(Problem::not_found(format!(
                "no [[mag.mobile]] entry is for {mn}{}",
                request
                    .port
                    .as_ref()
                    .map(|p| format!(" on port {p}"))
                    .unwrap_or_default()
            ))),
            [..] => Err(Problem::bad_request(format!(
                "{mn} is on several ports: name one (--port)"
            ))),
        }
    }
}

fn indicator(handoff: Handoff) -> HandoffIndicator {
    match handoff {
        Handoff::New => HandoffIndicator::NEW_INTERFACE,
        Handoff::Interfaces => HandoffIndicator::BETWEEN_INTERFACES,
        Handoff::Mags => HandoffIndicator::BETWEEN_MAGS,
        Handoff::Unknown => HandoffIndicator::UNKNOWN,
        Handoff::Sharing => HandoffIndicator::SHARING_PREFIXES,
    }
}

/// Sends an answer. Whoever asked may have gone: then nobody misses it.
pub(super) fn answered(reply: oneshot::Sender<Answer>, answer: Answer) {
    let _ = reply.send(answer);
}

/// A value as an answer.
pub(super) fn rows<T: Serialize>(value: &T) -> Answer {
    serde_json::to_value(value).map_err(|error| Problem::unavailable(error.to_string()))
}

/// What was done, in words.
pub(super) fn done(done: String) -> Value {
    json!(Done { done })
}

fn not_an_lma() -> Problem {
    Problem::refused("this process is no LMA: flows are added and moved at the LMA")
}

fn not_a_mag() -> Problem {
    Problem::refused("this process is no MAG: mobiles are attached at a MAG")
}

fn not_an_mn() -> Problem {
    Problem::refused("this process is no mobile node")
}

pub(super) fn mn_id(text: &str) -> Result<MnId, Problem> {
    MnId::new(text).map_err(|error| Problem::bad_request(format!("mn: {error}")))
}

fn fid(number: u16) -> Result<Fid, Problem> {
    Fid::new(number).ok_or_else(|| Problem::bad_request("fid: 0 is reserved"))
}

pub(super) fn bid(number: u16) -> Result<Bid, Problem> {
    Bid::new(number).ok_or_else(|| Problem::bad_request("bid: 0 is reserved"))
}

fn priority(number: u16) -> Result<FidPriority, Problem> {
    FidPriority::new(number).ok_or_else(|| Problem::bad_request("priority: 0 is reserved"))
}

/// A move that somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// The mobile.
    pub(crate) mn_id: MnId,
    /// The flow.
    pub(crate) fid: Fid,
    /// Its new access.
    pub(crate) to: Bid,
}

/// Those who wait for moves.
#[derive(Debug, Default)]
pub(crate) struct WaitingMoves {
    /// The MAG has not answered.
    signalling: Vec<(Waiting, oneshot::Sender<Answer>)>,
    /// The LMA has decided; the workers have not all been told.
    switching: Vec<Switching>,
}

#[derive(Debug)]
struct Switching {
    waiting: Waiting,
    reply: oneshot::Sender<Answer>,
    times: MoveTimes,
    mark: Mark,
    kept: Kept,
}

impl WaitingMoves {
    /// Somebody waits for a move that has begun.
    pub(crate) fn wait(&mut self, waiting: Waiting, reply: oneshot::Sender<Answer>) {
        self.signalling.push((waiting, reply));
    }

    /// Whether as many wait as may. Who has lost patience is not waited for.
    pub(crate) fn is_full(&mut self) -> bool {
        if self.len() >= MOST_ANSWERS {
            self.signalling.retain(|(_, reply)| !reply.is_closed());
            self.switching.retain(|move_| !move_.reply.is_closed());
        }
        self.len() >= MOST_ANSWERS
    }

    fn len(&self) -> usize {
        self.signalling.len() + self.switching.len()
    }

    /// A move is decided; whoever waits is told once the workers have passed `mark`, and `kept` is on disk.
    pub(crate) fn moved(&mut self, moved: &Waiting, times: MoveTimes, mark: &Mark, kept: Kept) {
        for (waiting, reply) in self.take(moved) {
            self.switching.push(Switching {
                waiting,
                reply,
                times,
                mark: mark.clone(),
                kept,
            });
        }
    }

    /// A move has failed; the flow stays where it was.
    pub(crate) fn failed(&mut self, failed: &Waiting, reason: MoveFailure) {
        for (waiting, reply) in self.take(failed) {
            let detail = format!("flow {} stays where it was: {reason}", waiting.fid);
            answered(reply, Err(Problem::peer(detail)));
        }
    }

    /// Answers those whose move is in force at every worker, and will not be forgotten.
    pub(super) fn finish(&mut self, workers: &WorkerSet, keeping: &Keeping, now: Duration) {
        let in_force = |switching: &mut Switching| {
            workers.reached(&switching.mark) && keeping.has_kept(switching.kept)
        };
        for Switching {
            waiting,
            reply,
            times,
            ..
        } in self.switching.extract_if(.., in_force)
        {
            let time = now.saturating_sub(times.requested);
            let moved = FlowMoved {
                fid: waiting.fid.0.get(),
                bid: waiting.to.0.get(),
                signalled: times.initiated.is_some(),
                microseconds: u64::try_from(time.as_micros()).unwrap_or(u64::MAX),
            };
            answered(reply, rows(&moved));
        }
    }

    fn take(&mut self, which: &Waiting) -> Vec<(Waiting, oneshot::Sender<Answer>)> {
        self.signalling
            .extract_if(.., |(waiting, _)| waiting == which)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_wait_are_bounded_and_who_has_gone_makes_room() {
        let mut moves = WaitingMoves::default();
        let waiting = Waiting {
            mn_id: MnId::new("mn1@example.net").unwrap(),
            fid: Fid::new(1).unwrap(),
            to: Bid::new(1).unwrap(),
        };
        let mut listening = Vec::new();
        for _ in 0..MOST_ANSWERS {
            assert!(!moves.is_full());
            let (reply, answer) = oneshot::channel();
            moves.wait(waiting.clone(), reply);
            listening.push(answer);
        }
        assert!(moves.is_full());
        // Also those that are decided.
        let times = MoveTimes {
            requested: Duration::ZERO,
            initiated: None,
            completed: Duration::ZERO,
        };
        let mark = WorkerSet::new(Vec::new()).mark();
        moves.moved(&waiting, times, &mark, Kept::default());
        assert!(moves.is_full());
        listening.pop();
        assert!(!moves.is_full());
    }
}
