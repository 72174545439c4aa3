//! The inputs of both machines as values.

use std::fmt::Debug;
use std::net::Ipv6Addr;

use flow::{Bid, Fid, Lmaa, MacAddr, MnId, PortId, ProxyCoa};
use pmip_wire::Message;
use serde::{Deserialize, Serialize};

use super::{Machine, Output};
use crate::config::{LmaConfig, MagConfig};
use crate::lma::{FlowRequest, Lma, RevocationScope};
use crate::mag::{Attachment, Mag};
use crate::time::Now;

/// Everything that changes an LMA.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum LmaInput {
    /// [`Lma::handle_message`].
    Message {
        /// Source address.
        from: Ipv6Addr,
        /// Destination address.
        to: Ipv6Addr,
        /// The message.
        message: Box<Message>,
    },
    /// [`Lma::handle_timeout`].
    Timeout,
    /// [`Lma::add_flow`].
    AddFlow(Box<FlowRequest>),
    /// [`Lma::move_flow`].
    MoveFlow(MnId, Fid, Bid),
    /// [`Lma::delete_flow`].
    DeleteFlow(MnId, Fid),
    /// [`Lma::revoke`].
    Revoke(RevocationScope),
    /// [`Lma::set_service`].
    SetService(MnId, bool),
    /// [`Lma::remove_profile`].
    RemoveProfile(MnId),
    /// [`Lma::set_draining`].
    SetDraining(bool),
    /// [`Lma::set_overloaded`].
    SetOverloaded(bool),
    /// [`Lma::allow_signalling`].
    AllowSignalling(ProxyCoa),
    /// [`Lma::reregister`].
    Reregister(MnId, Option<Bid>, Option<ProxyCoa>),
    /// [`Lma::reconfigure`].
    Reconfigure(Box<LmaConfig>),
}

/// Everything that changes a MAG.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MagInput {
    /// [`Mag::handle_message`].
    Message {
        /// Source address.
        from: Ipv6Addr,
        /// Destination address.
        to: Ipv6Addr,
        /// The message.
        message: Box<Message>,
    },
    /// [`Mag::handle_timeout`].
    Timeout,
    /// [`Mag::attach`].
    Attach(Box<Attachment>),
    /// [`Mag::notice`].
    Notice(Box<Attachment>),
    /// [`Mag::detach`].
    Detach(PortId, MacAddr),
    /// [`Mag::handle_router_solicitation`].
    RouterSolicitation(PortId, MacAddr),
    /// [`Mag::handle_sign_of_life`].
    SignOfLife(PortId, MacAddr, Ipv6Addr),
    /// [`Mag::handle_path_mtu`].
    PathMtu(Lmaa, Option<u16>),
    /// [`Mag::reconfigure`].
    Reconfigure(Box<MagConfig>),
}

/// What the caller is told, in words.
pub(super) fn said(answer: impl Debug) -> String {
    format!("{answer:?}")
}

impl Machine for Lma {
    type Input = LmaInput;

    fn apply(&mut self, now: Now, input: &LmaInput) -> Option<String> {
        let answer = match input {
            LmaInput::Message { from, to, message } => {
                self.handle_message(now, *from, *to, message);
                return None;
            }
            LmaInput::Timeout => {
                self.handle_timeout(now);
                return None;
            }
            LmaInput::AddFlow(request) => said(self.add_flow(now, request.as_ref().clone())),
            LmaInput::MoveFlow(mn_id, fid, to) => said(self.move_flow(now, mn_id, *fid, *to)),
            LmaInput::DeleteFlow(mn_id, fid) => said(self.delete_flow(now, mn_id, *fid)),
            LmaInput::Revoke(scope) => said(self.revoke(now, scope)),
            LmaInput::SetService(mn_id, on) => said(self.set_service(now, mn_id, *on)),
            LmaInput::RemoveProfile(mn_id) => said(self.remove_profile(now, mn_id)),
            LmaInput::SetDraining(on) => said(self.set_draining(*on)),
            LmaInput::SetOverloaded(on) => {
                self.set_overloaded(*on);
                return None;
            }
            LmaInput::AllowSignalling(proxy_coa) => {
                self.allow_signalling(now, *proxy_coa);
                return None;
            }
            LmaInput::Reregister(mn_id, bid, at) => said(self.reregister(now, mn_id, *bid, *at)),
            LmaInput::Reconfigure(config) => {
                self.reconfigure(now, config.as_ref().clone());
                return None;
            }
        };
        Some(answer)
    }

    fn poll(&mut self) -> Option<Output> {
        let command = self.poll_command().map(Output::Command);
        command.or_else(|| self.poll_event().map(Output::LmaEvent))
    }
}

impl Machine for Mag {
    type Input = MagInput;

    fn apply(&mut self, now: Now, input: &MagInput) -> Option<String> {
        let answer = match input {
            MagInput::Message { from, to, message } => {
                self.handle_message(now, *from, *to, message);
                return None;
            }
            MagInput::Timeout => {
                self.handle_timeout(now);
                return None;
            }
            MagInput::Attach(attachment) => said(self.attach(now, attachment.as_ref().clone())),
            MagInput::Notice(attachment) => said(self.notice(now, attachment.as_ref().clone())),
            MagInput::Detach(port, mac) => said(self.detach(now, *port, *mac)),
            MagInput::RouterSolicitation(port, mac) => {
                said(self.handle_router_solicitation(now, *port, *mac))
            }
            MagInput::SignOfLife(port, mac, address) => {
                self.handle_sign_of_life(now, *port, *mac, *address);
                return None;
            }
            MagInput::PathMtu(lmaa, mtu) => {
                self.handle_path_mtu(now, *lmaa, *mtu);
                return None;
            }
            MagInput::Reconfigure(config) => {
                self.reconfigure(now, config.as_ref().clone());
                return None;
            }
        };
        Some(answer)
    }

    fn poll(&mut self) -> Option<Output> {
        let command = self.poll_command().map(Output::Command);
        let probe = command.or_else(|| self.poll_probe().map(Output::Probe));
        probe.or_else(|| self.poll_event().map(Output::MagEvent))
    }
}
