//! What waits for the caller to fetch it.

use std::collections::VecDeque;
use std::net::Ipv6Addr;

use flow::TableUpdate;
use pmip_wire::Message;

use crate::command::Command;

/// Commands and events in the order they came up.
#[derive(Clone, Debug)]
pub(crate) struct Outbox<E> {
    commands: VecDeque<Queued>,
    events: VecDeque<E>,
    /// Messages, advertisements and events there have been.
    said: u64,
}

/// Table updates are small, and there are as many as mobiles when an LMA begins; all else is large.
#[derive(Clone, Debug)]
enum Queued {
    Table(TableUpdate),
    Other(Box<Command>),
}

impl<E> Default for Outbox<E> {
    fn default() -> Self {
        Self {
            commands: VecDeque::new(),
            events: VecDeque::new(),
            said: 0,
        }
    }
}

impl<E> Outbox<E> {
    pub(crate) fn command(&mut self, command: Command) {
        let queued = match command {
            Command::Table(update) => Queued::Table(update),
            Command::Send { .. } | Command::Advertise(_) => {
                self.said += 1;
                Queued::Other(Box::new(command))
            }
        };
        self.commands.push_back(queued);
    }

    pub(crate) fn send(&mut self, from: Ipv6Addr, to: Ipv6Addr, message: Message) {
        self.command(Command::Send { from, to, message });
    }

    pub(crate) fn table(&mut self, update: TableUpdate) {
        self.commands.push_back(Queued::Table(update));
    }

    pub(crate) fn event(&mut self, event: E) {
        self.said += 1;
        self.events.push_back(event);
    }

    /// Grows with everything that is for somebody else than the workers.
    pub(crate) fn said(&self) -> u64 {
        self.said
    }

    /// Puts what another one has before what is here.
    pub(crate) fn put_before(&mut self, other: Self) {
        let Self {
            mut commands,
            mut events,
            said,
        } = other;
        commands.append(&mut self.commands);
        events.append(&mut self.events);
        self.commands = commands;
        self.events = events;
        self.said += said;
    }

    pub(crate) fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front().map(|queued| match queued {
            Queued::Table(update) => Command::Table(update),
            Queued::Other(command) => *command,
        })
    }

    pub(crate) fn poll_event(&mut self) -> Option<E> {
        self.events.pop_front()
    }
}
