//! Writing groups to etcd.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use etcd_client::{Client, Compare, CompareOp, KvClient, Txn, TxnOp};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::{PATIENCE, Place, Term, write_clocks};
use crate::Clocks;
use crate::writer::Changes;

/// Operations in a transaction that any etcd takes.
const FEW: usize = 120;
/// Those that are tried first: an etcd that was told `--max-txn-ops 2048` takes a third more changes a second that way.
const MANY: usize = 2000;
/// Octets in a transaction, more or less: etcd takes requests of one and a half million.
const OCTETS: usize = 1_000_000;
/// Transactions under way at once.
const AT_ONCE: usize = 16;
/// How often what etcd remembers of the past is given up. Who follows has heard of it by then, or asks for everything.
const FORGET: Duration = Duration::from_secs(10);

/// The records in etcd, open for writing by whoever has the term.
pub(crate) struct Shared {
    place: Place,
    /// 0 before this process leads.
    term: Arc<AtomicU64>,
    runtime: Runtime,
    client: Option<Client>,
    /// The revision that the term's key has to have for writes to count; `None` if writes may be under way that must not count any
    /// more: one that was given up may come late, after the next of its keys.
    fence: Option<i64>,
    /// Operations in a transaction.
    operations: usize,
    /// The last revision that was seen when the past was last given up, and when that was.
    past: (i64, Instant),
    seen: i64,
}

/// Why a group is not written.
enum Refused {
    /// etcd cannot, now.
    Failed(io::Error),
    /// Somebody else leads.
    Over,
}

impl Shared {
    pub(crate) fn new(place: Place, term: Arc<AtomicU64>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            place,
            term,
            runtime,
            client: None,
            fence: None,
            operations: MANY,
            past: (0, Instant::now()),
            seen: 0,
        })
    }

    /// Where it is, for people.
    pub(crate) fn name(&self) -> String {
        format!("{}{}", self.place.endpoints.join(", "), self.place.prefix)
    }

    /// Writes changes. Unlike in a file, a part of them may be there when this fails; they are tried again, and nobody has
    /// been promised any. `false` if somebody else leads.
    pub(crate) fn write(&mut self, changes: &Changes, clocks: Clocks) -> io::Result<bool> {
        match self.try_write(changes, clocks) {
            Ok(()) => Ok(true),
            Err(Refused::Over) => Ok(false),
            Err(Refused::Failed(error)) => Err(error),
        }
    }

    fn try_write(&mut self, changes: &Changes, clocks: Clocks) -> Result<(), Refused> {
        // Again if something of this process's own has moved the fence late, or there were too many at once.
        for _ in 0..3 {
            let fence = match self.fence {
                Some(fence) => fence,
                None => self.raise_fence()?,
            };
            let group = self.transactions(changes, clocks, fence);
            let sent = self.ask(|kv| send(kv, group));
            if let Err(Refused::Failed(error)) = &sent
                && self.operations > FEW
                && error.to_string().contains("too many operations")
            {
                self.operations = FEW;
                continue;
            }
            match sent? {
                Some(revision) => {
                    self.fence = Some(fence);
                    self.seen = self.seen.max(revision);
                    self.forget();
                    return Ok(());
                }
                None => self.fence = None,
            }
        }
        Err(Refused::Failed(io::Error::other("writes cross each other")))
    }

    /// Writes the term's key again, as long as the term is this process's: of what was sent before, nothing counts any more.
    fn raise_fence(&mut self) -> Result<i64, Refused> {
        let number = self.term.load(Ordering::Acquire);
        if number == 0 {
            let early = io::Error::other("this process does not lead");
            return Err(Refused::Failed(early));
        }
        let (key, number) = (self.place.term(), Term { number }.octets());
        let is_ours = Compare::value(key.clone(), CompareOp::Equal, number.clone());
        let again = TxnOp::put(key, number, None);
        let txn = Txn::new().when([is_ours]).and_then([again]);
        let sent = self.ask(|kv| send(kv, vec![txn]));
        sent?.ok_or(Refused::Over)
    }

    /// Has something done with etcd. What fails is given up.
    fn ask<T, F: Future<Output = io::Result<T>>>(
        &mut self,
        what: impl FnOnce(KvClient) -> F,
    ) -> Result<T, Refused> {
        let Self {
            runtime,
            client,
            place,
            ..
        } = self;
        let done = runtime.block_on(async {
            let kv = if let Some(client) = client {
                client.kv_client()
            } else {
                let connecting = timeout(PATIENCE, place.connect()).await;
                let new = connecting.map_err(|_| late())?.map_err(io::Error::other)?;
                client.insert(new).kv_client()
            };
            what(kv).await
        });
        done.map_err(|error| {
            self.client = None;
            self.fence = None;
            Refused::Failed(error)
        })
    }

    /// All changes, each key once, so the order of the transactions does not matter.
    fn transactions(&self, changes: &Changes, clocks: Clocks, fence: i64) -> Vec<Txn> {
        let fence = Compare::mod_revision(self.place.term(), CompareOp::Equal, fence);
        // Who has nothing to say of clocks leaves them as they are.
        let said = (clocks != Clocks::default()).then(|| write_clocks(clocks));
        let said = said.map(|clocks| TxnOp::put(self.place.clocks(), clocks, None));
        let (mut group, mut size) = (Vec::from_iter(said), 0);
        let mut groups = Vec::new();
        for ((space, key), value) in changes {
            let key = self.place.record(*space, key);
            size += key.len() + value.as_ref().map_or(0, Vec::len);
            group.push(match value {
                Some(value) => TxnOp::put(key, value.clone(), None),
                None => TxnOp::delete(key, None),
            });
            if group.len() >= self.operations || size >= OCTETS {
                groups.push(std::mem::take(&mut group));
                size = 0;
            }
        }
        groups.push(group);
        let groups = groups.into_iter().filter(|group| !group.is_empty());
        groups
            .map(|group| Txn::new().when([fence.clone()]).and_then(group))
            .collect()
    }

    /// Has etcd give up what was before the last time; it would keep every value that ever was.
    fn forget(&mut self) {
        let (revision, at) = self.past;
        if at.elapsed() < FORGET {
            return;
        }
        self.past = (self.seen, Instant::now());
        if revision > 0
            && let Some(client) = &self.client
        {
            let mut kv = client.kv_client();
            let forgetting = async { timeout(PATIENCE, kv.compact(revision, None)).await };
            let done = self.runtime.block_on(forgetting);
            // It is tried again, with a later one.
            if let Ok(Err(error)) = done {
                tracing::debug!(%error, "etcd keeps the past");
            }
        }
    }
}

/// Sends transactions; the last revision of them, or `None` if what they compare is otherwise.
async fn send(kv: KvClient, group: Vec<Txn>) -> io::Result<Option<i64>> {
    let mut waiting = group.into_iter();
    let mut under_way = FuturesUnordered::new();
    let begin = |txn: Txn| {
        let mut kv = kv.clone();
        async move { timeout(PATIENCE, kv.txn(txn)).await }
    };
    under_way.extend(waiting.by_ref().take(AT_ONCE).map(begin));
    let mut last = Some(0);
    while let Some(done) = under_way.next().await {
        let response = done.map_err(|_| late())?.map_err(io::Error::other)?;
        let revision = response
            .header()
            .map_or(0, etcd_client::ResponseHeader::revision);
        last = last
            .filter(|_| response.succeeded())
            .map(|last: i64| last.max(revision));
        under_way.extend(waiting.next().map(begin));
    }
    Ok(last)
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "etcd does not answer")
}
