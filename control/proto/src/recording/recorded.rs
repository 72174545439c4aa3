//! A machine that writes down what it is asked and what it decides.

use std::fmt::Debug;
use std::net::Ipv6Addr;
use std::ops::Deref;

use flow::{Bid, Fid, Lmaa, MacAddr, MnId, PortId, ProxyCoa};
use pmip_wire::Message;

use super::inputs::said;
use super::{LmaInput, Machine, MagInput, Output};
use crate::command::Command;
use crate::config::{LmaConfig, MagConfig};
use crate::event::{LmaEvent, MagEvent};
use crate::lma::{
    FlowError, FlowRequest, Lma, MoveStarted, ReregistrationError, RevocationError, RevocationScope,
};
use crate::mag::{AttachError, Attachment, Mag, Probe};
use crate::record::Record;
use crate::time::Now;

/// Where things are written down.
pub trait Tape<M: Machine> {
    /// Something went in.
    fn input(&mut self, now: Now, input: M::Input);

    /// Something came out.
    fn output(&mut self, output: Output);

    /// All that there was to fetch has been.
    fn end_turn(&mut self);
}

/// A machine with a tape, if it has one. It is read like the machine itself; what changes it has a method of
/// the same name here.
#[derive(Clone, Debug)]
pub struct Recorded<M, T> {
    machine: M,
    tape: Option<T>,
    /// Something was written down since the last turn ended.
    written: bool,
}

impl<M, T> Deref for Recorded<M, T> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.machine
    }
}

impl<M: Machine, T: Tape<M>> Recorded<M, T> {
    /// A machine that has seen nothing yet.
    pub fn new(machine: M, tape: Option<T>) -> Self {
        Self {
            machine,
            tape,
            written: false,
        }
    }

    /// Where it is written down.
    pub fn tape(&self) -> Option<&T> {
        self.tape.as_ref()
    }

    fn input(&mut self, now: Now, input: impl FnOnce() -> M::Input) {
        if let Some(tape) = &mut self.tape {
            self.written = true;
            tape.input(now, input());
        }
    }

    fn output(&mut self, output: impl FnOnce() -> Option<Output>) {
        if let Some(tape) = &mut self.tape
            && let Some(output) = output()
        {
            self.written = true;
            tape.output(output);
        }
    }

    /// Writes down what the caller is told.
    fn answer<A: Debug>(&mut self, answer: A) -> A {
        self.output(|| Some(Output::Answer(said(&answer))));
        answer
    }

    fn end_turn(&mut self) {
        if let Some(tape) = &mut self.tape
            && std::mem::take(&mut self.written)
        {
            tape.end_turn();
        }
    }
}

impl<T: Tape<Lma>> Recorded<Lma, T> {
    /// [`Lma::handle_message`].
    pub fn handle_message(&mut self, now: Now, from: Ipv6Addr, to: Ipv6Addr, message: &Message) {
        self.input(now, || LmaInput::Message {
            from,
            to,
            message: message.clone().into(),
        });
        self.machine.handle_message(now, from, to, message);
    }

    /// [`Lma::handle_timeout`].
    pub fn handle_timeout(&mut self, now: Now) {
        self.input(now, || LmaInput::Timeout);
        self.machine.handle_timeout(now);
    }

    /// [`Lma::add_flow`].
    ///
    /// # Errors
    /// As there.
    pub fn add_flow(&mut self, now: Now, request: FlowRequest) -> Result<Fid, FlowError> {
        self.input(now, || LmaInput::AddFlow(request.clone().into()));
        let answer = self.machine.add_flow(now, request);
        self.answer(answer)
    }

    /// [`Lma::move_flow`].
    ///
    /// # Errors
    /// As there.
    pub fn move_flow(
        &mut self,
        now: Now,
        mn_id: &MnId,
        fid: Fid,
        to: Bid,
    ) -> Result<MoveStarted, FlowError> {
        self.input(now, || LmaInput::MoveFlow(mn_id.clone(), fid, to));
        let answer = self.machine.move_flow(now, mn_id, fid, to);
        self.answer(answer)
    }

    /// [`Lma::delete_flow`].
    ///
    /// # Errors
    /// As there.
    pub fn delete_flow(&mut self, now: Now, mn_id: &MnId, fid: Fid) -> Result<(), FlowError> {
        self.input(now, || LmaInput::DeleteFlow(mn_id.clone(), fid));
        let answer = self.machine.delete_flow(now, mn_id, fid);
        self.answer(answer)
    }

    /// [`Lma::revoke`].
    ///
    /// # Errors
    /// As there.
    pub fn revoke(&mut self, now: Now, scope: &RevocationScope) -> Result<usize, RevocationError> {
        self.input(now, || LmaInput::Revoke(scope.clone()));
        let answer = self.machine.revoke(now, scope);
        self.answer(answer)
    }

    /// [`Lma::set_service`].
    ///
    /// # Errors
    /// As there.
    pub fn set_service(
        &mut self,
        now: Now,
        mn_id: &MnId,
        on: bool,
    ) -> Result<usize, RevocationError> {
        self.input(now, || LmaInput::SetService(mn_id.clone(), on));
        let answer = self.machine.set_service(now, mn_id, on);
        self.answer(answer)
    }

    /// [`Lma::remove_profile`].
    ///
    /// # Errors
    /// As there.
    pub fn remove_profile(&mut self, now: Now, mn_id: &MnId) -> Result<usize, RevocationError> {
        self.input(now, || LmaInput::RemoveProfile(mn_id.clone()));
        let answer = self.machine.remove_profile(now, mn_id);
        self.answer(answer)
    }

    /// [`Lma::set_draining`].
    pub fn set_draining(&mut self, now: Now, on: bool) -> usize {
        self.input(now, || LmaInput::SetDraining(on));
        let answer = self.machine.set_draining(on);
        self.answer(answer)
    }

    /// [`Lma::set_overloaded`].
    pub fn set_overloaded(&mut self, now: Now, on: bool) {
        self.input(now, || LmaInput::SetOverloaded(on));
        self.machine.set_overloaded(on);
    }

    /// [`Lma::reregister`].
    ///
    /// # Errors
    /// As there.
    pub fn reregister(
        &mut self,
        now: Now,
        mn_id: &MnId,
        bid: Option<Bid>,
        at: Option<ProxyCoa>,
    ) -> Result<usize, ReregistrationError> {
        self.input(now, || LmaInput::Reregister(mn_id.clone(), bid, at));
        let answer = self.machine.reregister(now, mn_id, bid, at);
        self.answer(answer)
    }

    /// [`Lma::allow_signalling`].
    pub fn allow_signalling(&mut self, now: Now, proxy_coa: ProxyCoa) {
        self.input(now, || LmaInput::AllowSignalling(proxy_coa));
        self.machine.allow_signalling(now, proxy_coa);
    }

    /// [`Lma::reconfigure`].
    pub fn reconfigure(&mut self, now: Now, config: LmaConfig) {
        self.input(now, || LmaInput::Reconfigure(config.clone().into()));
        self.machine.reconfigure(now, config);
    }

    /// [`Lma::poll_command`].
    pub fn poll_command(&mut self) -> Option<Command> {
        let command = self.machine.poll_command();
        self.output(|| command.clone().map(Output::Command));
        command
    }

    /// [`Lma::keep_records`]. What is recorded does not depend on it.
    pub fn keep_records(&mut self) {
        self.machine.keep_records();
    }

    /// [`Lma::poll_record`].
    pub fn poll_record(&mut self) -> Option<Record> {
        self.machine.poll_record()
    }

    /// [`Lma::poll_event`].
    pub fn poll_event(&mut self) -> Option<LmaEvent> {
        let event = self.machine.poll_event();
        self.output(|| event.clone().map(Output::LmaEvent));
        if event.is_none() {
            self.end_turn();
        }
        event
    }
}

impl<T: Tape<Mag>> Recorded<Mag, T> {
    /// [`Mag::handle_message`].
    pub fn handle_message(&mut self, now: Now, from: Ipv6Addr, to: Ipv6Addr, message: &Message) {
        self.input(now, || MagInput::Message {
            from,
            to,
            message: message.clone().into(),
        });
        self.machine.handle_message(now, from, to, message);
    }

    /// [`Mag::handle_timeout`].
    pub fn handle_timeout(&mut self, now: Now) {
        self.input(now, || MagInput::Timeout);
        self.machine.handle_timeout(now);
    }

    /// [`Mag::attach`].
    ///
    /// # Errors
    /// As there.
    pub fn attach(&mut self, now: Now, attachment: Attachment) -> Result<(), AttachError> {
        self.input(now, || MagInput::Attach(attachment.clone().into()));
        let answer = self.machine.attach(now, attachment);
        self.answer(answer)
    }

    /// [`Mag::notice`].
    ///
    /// # Errors
    /// As there.
    pub fn notice(&mut self, now: Now, attachment: Attachment) -> Result<(), AttachError> {
        self.input(now, || MagInput::Notice(attachment.clone().into()));
        let answer = self.machine.notice(now, attachment);
        self.answer(answer)
    }

    /// [`Mag::detach`].
    pub fn detach(&mut self, now: Now, port: PortId, mac: MacAddr) -> bool {
        self.input(now, || MagInput::Detach(port, mac));
        let answer = self.machine.detach(now, port, mac);
        self.answer(answer)
    }

    /// [`Mag::handle_router_solicitation`].
    pub fn handle_router_solicitation(&mut self, now: Now, port: PortId, mac: MacAddr) -> bool {
        self.input(now, || MagInput::RouterSolicitation(port, mac));
        let answer = self.machine.handle_router_solicitation(now, port, mac);
        self.answer(answer)
    }

    /// [`Mag::handle_sign_of_life`].
    pub fn handle_sign_of_life(&mut self, now: Now, port: PortId, mac: MacAddr, address: Ipv6Addr) {
        self.input(now, || MagInput::SignOfLife(port, mac, address));
        self.machine.handle_sign_of_life(now, port, mac, address);
    }

    /// [`Mag::handle_path_mtu`].
    pub fn handle_path_mtu(&mut self, now: Now, lmaa: Lmaa, mtu: Option<u16>) {
        self.input(now, || MagInput::PathMtu(lmaa, mtu));
        self.machine.handle_path_mtu(now, lmaa, mtu);
    }

    /// [`Mag::reconfigure`].
    pub fn reconfigure(&mut self, now: Now, config: MagConfig) {
        self.input(now, || MagInput::Reconfigure(config.clone().into()));
        self.machine.reconfigure(now, config);
    }

    /// [`Mag::poll_command`].
    pub fn poll_command(&mut self) -> Option<Command> {
        let command = self.machine.poll_command();
        self.output(|| command.clone().map(Output::Command));
        command
    }

    /// [`Mag::poll_probe`].
    pub fn poll_probe(&mut self) -> Option<Probe> {
        let probe = self.machine.poll_probe();
        self.output(|| probe.map(Output::Probe));
        probe
    }

    /// [`Mag::keep_records`]. What is recorded does not depend on it.
    pub fn keep_records(&mut self) {
        self.machine.keep_records();
    }

    /// [`Mag::poll_record`].
    pub fn poll_record(&mut self) -> Option<Record> {
        self.machine.poll_record()
    }

    /// [`Mag::poll_event`].
    pub fn poll_event(&mut self) -> Option<MagEvent> {
        let event = self.machine.poll_event();
        self.output(|| event.clone().map(Output::MagEvent));
        if event.is_none() {
            self.end_turn();
        }
        event
    }
}
