//! Being one of those who may lead, for whoever is.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use crossbeam::channel::{Receiver, unbounded};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::elector::Elector;
use super::{Change, Place, Term, link};
use crate::Clocks;

/// Who wants to be a member, and of what.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Where the records are.
    pub place: Place,
    /// What others call this process.
    pub name: String,
    /// Where others connect to notice when it ends; without it, they wait for its lease to run out.
    pub address: Option<SocketAddr>,
    /// Whole seconds for which nobody else leads when nothing is heard of this process.
    pub lease: Duration,
}

/// What a member hears.
#[derive(Debug)]
pub enum News {
    /// All records there are, in place of what was heard before.
    Everything(Vec<Change>, Option<Clocks>),
    /// What has been written since.
    Changed(Vec<Change>, Option<Clocks>),
    /// This process leads. It has heard of everything that was written before.
    Lead(Term),
    /// This process leads no more.
    Over,
}

/// How things stand, for whoever asks.
#[derive(Debug, Default)]
pub struct Standing {
    /// Whether etcd answers.
    pub is_reached: AtomicBool,
    /// The term of whoever leads, as far as is known; 0 if nobody ever did.
    pub term: AtomicU64,
}

/// Membership of a pair, as long as it is not dropped; then another one may lead at once.
#[derive(Debug)]
pub struct Member {
    stop: watch::Sender<bool>,
    standing: Arc<Standing>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Member {
    /// Joins. News come from now on, in their order.
    ///
    /// # Errors
    /// If there can be no thread, or nobody can connect to the address. That etcd does not answer is none.
    pub fn join(membership: Membership) -> io::Result<(Self, Receiver<News>)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener =
            match membership.address {
                Some(address) => Some(runtime.block_on(TcpListener::bind(address)).map_err(
                    |error| io::Error::new(error.kind(), format!("{address}: {error}")),
                )?),
                None => None,
            };
        let (stop, stopped) = watch::channel(false);
        let (news, heard) = unbounded();
        let standing = Arc::new(Standing::default());
        let (said, term) = watch::channel(0);
        let mut elector = Elector::new(membership, news, Arc::clone(&standing), stopped, said);
        let body = async move {
            if let Some(listener) = listener {
                tokio::spawn(link::serve(listener, term));
            }
            Box::pin(elector.run()).await;
        };
        let thread = std::thread::Builder::new()
            .name("pair".into())
            .spawn(move || runtime.block_on(body))?;
        let member = Self {
            stop,
            standing,
            thread: Some(thread),
        };
        Ok((member, heard))
    }

    /// How things stand.
    pub fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that knows who leads has panicked");
        }
    }
}
