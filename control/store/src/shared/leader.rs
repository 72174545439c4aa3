//! Who leads, and whether its process still runs.

use std::net::SocketAddr;

use tokio::task::JoinHandle;

use super::link;

/// Who leads, as etcd has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Leader {
    pub(super) term: u64,
    pub(super) name: String,
    pub(super) address: Option<SocketAddr>,
    /// The revision in which it began to.
    pub(super) revision: i64,
}

impl Leader {
    pub(super) fn read(octets: &[u8], revision: i64) -> Option<Self> {
        let text = str::from_utf8(octets).ok()?;
        let mut words = text.split(' ');
        let (term, address, name) = (words.next()?, words.next()?, words.next()?);
        Some(Self {
            term: term.parse().ok()?,
            address: address.parse().ok(),
            name: name.to_owned(),
            revision,
        })
    }
}

/// The process that leads, as far as its end can be noticed.
#[derive(Default)]
pub(super) struct Watched {
    leader: Option<Leader>,
    /// Ends with the process; `None` if that cannot be noticed, or has been.
    task: Option<JoinHandle<()>>,
    /// It has ended, and nothing has come of that yet.
    has_ended: bool,
}

impl Watched {
    /// Another one leads, or nobody; else nothing changes.
    pub(super) fn watch(&mut self, leader: Option<&Leader>) {
        if self.leader.as_ref() == leader {
            return;
        }
        self.settle();
        self.leader = leader.cloned();
        let place = leader.and_then(|leader| Some((leader.address?, leader.term)));
        self.task = place.map(|(address, term)| tokio::spawn(link::ended(address, term)));
    }

    /// When it has ended; again and again, until that is settled.
    pub(super) async fn ended(&mut self) -> Leader {
        if let Some(task) = &mut self.task
            && task.await.is_ok()
        {
            self.task = None;
            self.has_ended = true;
        }
        match &self.leader {
            Some(leader) if self.has_ended => leader.clone(),
            Some(_) | None => std::future::pending().await,
        }
    }

    /// etcd knows what is to be known.
    pub(super) fn settle(&mut self) {
        self.has_ended = false;
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.settle();
    }
}
