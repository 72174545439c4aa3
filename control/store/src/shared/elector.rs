//! Following, finding out that somebody has to lead, leading.
//!
//! | what is heard | what follows |
//! | --- | --- |
//! | nobody leads | this process tries to, and hears of its own success after everything that was written before |
//! | the process that led has ended (`link`) | the same, without waiting for its lease to run out |
//! | another term, while this process leads | its own is over |
//! | nothing from etcd | what was heard last still holds, and nothing can be written |

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use etcd_client::{
    Client, Compare, CompareOp, Error, Event, EventType, GetOptions, LeaseKeepAliveStream,
    LeaseKeeper, PutOptions, ResponseHeader, Txn, TxnOp, WatchOptions, WatchStream,
};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::leader::{Leader, Watched};
use super::member::{Membership, News, Standing};
use super::tls::whole;
use super::{Change, PATIENCE, Term, read_clocks};

/// When etcd is tried again.
const AGAIN: Duration = Duration::from_millis(100);
/// How often a lease is made longer while it lasts.
const RENEWALS: u32 = 5;
/// Different errors that are told of until etcd is reached again.
const LINES: usize = 8;
/// Records that are asked for at once.
const PAGE: i64 = 1000;
/// Octets of an answer: what was written while this process was away comes in one piece.
const LARGEST: usize = 256 << 20;

/// Why a session with etcd is over.
enum End {
    /// It did not answer.
    Failed(Error),
    /// Something else has to be listened to.
    Anew,
    /// Nothing is left to do.
    Done,
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A member at work.
pub(super) struct Elector {
    membership: Membership,
    news: Sender<News>,
    standing: Arc<Standing>,
    stopped: watch::Receiver<bool>,
    /// Of this process, and how long it lasts at least.
    lease: Option<(i64, Instant)>,
    /// The term in which it leads.
    leads: Option<Term>,
    /// It, for those who connect.
    said: watch::Sender<u64>,
    /// Kept from session to session: it may end while etcd is away.
    process: Watched,
}

/// What has been heard in a session.
struct View {
    term: Option<Term>,
    leader: Option<Leader>,
    /// The first revision that has not been heard of.
    next: i64,
}

impl Elector {
    /// A member that has heard nothing. `said` is for those who connect: the term in which it leads.
    pub(super) fn new(
        membership: Membership,
        news: Sender<News>,
        standing: Arc<Standing>,
        stopped: watch::Receiver<bool>,
        said: watch::Sender<u64>,
    ) -> Self {
        Self {
            membership,
            news,
            standing,
            stopped,
            lease: None,
            leads: None,
            said,
            process: Watched::default(),
        }
    }

    /// Until the member is dropped, or leads no more.
    pub(super) async fn run(&mut self) {
        let mut stopped = self.stopped.clone();
        // Since it was reached last: one thing may be wrong after the other.
        let mut said: Vec<String> = Vec::new();
        loop {
            let end = tokio::select! {
                end = self.session() => end,
                () = async { stopped.wait_for(|stop| *stop).await.map_or((), drop) } => {
                    self.resign().await;
                    return;
                }
            };
            let error = match end {
                Ok(never) => match never {},
                Err(End::Done) => return,
                Err(End::Anew) => continue,
                Err(End::Failed(error)) => error,
            };
            let error = whole(&error);
            let was_reached = self.standing.is_reached.swap(false, Ordering::Relaxed);
            if was_reached {
                said.clear();
            }
            let is_new = !said.contains(&error) && said.len() < LINES;
            if was_reached {
                tracing::error!(%error, "etcd is lost: nothing new is acknowledged until it is back");
            } else if is_new {
                tracing::error!(%error, "etcd does not answer: nobody can lead without it");
            } else {
                tracing::debug!(%error, "no etcd");
            }
            if is_new {
                said.push(error);
            }
            sleep(AGAIN).await;
        }
    }

    /// One connection to etcd, as long as it lasts.
    async fn session(&mut self) -> Result<Infallible, End> {
        let client = soon(self.membership.place.connect()).await?;
        let (mut keeper, mut kept) = self.hold_lease(&client).await?;
        let mut view = match self.leads {
            Some(term) => self.go_on(&client, term).await?,
            None => self.look(&client).await?,
        };
        if !self.standing.is_reached.swap(true, Ordering::Relaxed) {
            tracing::info!("etcd answers");
        }
        let mut events = self.listen(&client, view.next).await?;
        let every = self.membership.lease / RENEWALS;
        let mut renewal = interval(every);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if view.leader.is_none() {
            self.campaign(&client, &view, None).await?;
        }
        loop {
            self.standing
                .term
                .store(view.term.map_or(0, |term| term.number), Ordering::Relaxed);
            let watched = view.leader.as_ref().filter(|_| self.leads.is_none());
            self.process.watch(watched);
            tokio::select! {
                message = events.message() => {
                    let message = message?.ok_or_else(|| ended("watch"))?;
                    if message.canceled() {
                        return Err(Error::WatchError(message.cancel_reason().to_owned()).into());
                    }
                    let led = view.leader.is_some();
                    self.hear(message.events(), &mut view)?;
                    if led && view.leader.is_none() && self.leads.is_none() {
                        tracing::warn!("nobody leads");
                        self.campaign(&client, &view, None).await?;
                    }
                    if self.leads.is_some() && view.leader.is_none() {
                        // Its lease ran out while etcd was away, and nobody else was there.
                        return Err(Error::LeaseKeepAliveError("ran out".to_owned()).into());
                    }
                }
                leader = self.process.ended() => {
                    tracing::warn!(leader = %leader.name, "the process that led has ended");
                    // Whatever comes of it is heard as an event. If etcd does not answer, it is tried again.
                    self.campaign(&client, &view, Some(&leader)).await?;
                    self.process.settle();
                }
                _ = renewal.tick() => self.renew(&mut keeper, &mut kept).await?,
            }
        }
    }

    /// Makes a lease, or goes on with the one that there is.
    async fn hold_lease(
        &mut self,
        client: &Client,
    ) -> Result<(LeaseKeeper, LeaseKeepAliveStream), End> {
        let mut leases = client.lease_client();
        let begun = Instant::now();
        let id = if let Some((id, _)) = self.lease {
            id
        } else {
            let seconds = i64::try_from(self.membership.lease.as_secs()).unwrap_or(i64::MAX);
            soon(leases.grant(seconds, None)).await?.id()
        };
        self.lease = Some((id, begun + self.membership.lease));
        let kept = soon(leases.keep_alive(id)).await;
        if kept.is_err() {
            self.lease = None;
        }
        Ok(kept?)
    }

    async fn renew(
        &mut self,
        keeper: &mut LeaseKeeper,
        kept: &mut LeaseKeepAliveStream,
    ) -> Result<(), End> {
        let begun = Instant::now();
        soon(keeper.keep_alive()).await?;
        let answer = soon(kept.message()).await?.ok_or_else(|| ended("lease"))?;
        if answer.ttl() <= 0 {
            self.lease = None;
            return Err(Error::LeaseKeepAliveError("it has run out".to_owned()).into());
        }
        self.lease = Some((answer.id(), begun + self.membership.lease));
        Ok(())
    }

    /// Reads everything.
    async fn look(&mut self, client: &Client) -> Result<View, End> {
        let place = &self.membership.place;
        let mut kv = client.kv_client().max_decoding_message_size(LARGEST);
        let (mut from, end) = (place.all(), after(place.all()));
        let mut view = View {
            term: None,
            leader: None,
            next: 0,
        };
        let (mut changes, mut clocks) = (Vec::new(), None);
        loop {
            let mut options = GetOptions::new().with_range(end.clone()).with_limit(PAGE);
            if view.next > 0 {
                // All pages are of one moment.
                options = options.with_revision(view.next - 1);
            }
            let mut page = soon(kv.get(from.clone(), Some(options))).await?;
            if view.next == 0 {
                view.next = 1 + page.header().map_or(0, ResponseHeader::revision);
            }
            let more = page.more();
            for pair in page.take_kvs() {
                let revision = pair.mod_revision();
                let (key, value) = pair.into_key_value();
                from = after_key(&key);
                if key == place.leader() {
                    view.leader = Leader::read(&value, revision);
                } else if key == place.term() {
                    view.term = Term::read(&value);
                } else if key == place.clocks() {
                    clocks = read_clocks(&value);
                } else if let Some((space, key)) = place.record_of(&key) {
                    let value = Some(value);
                    changes.push(Change { space, key, value });
                }
            }
            if !more {
                break;
            }
        }
        self.tell(News::Everything(changes, clocks))?;
        // An attempt whose success this process has not heard of.
        if let (Some(leader), Some(term)) = (&view.leader, view.term)
            && leader.name == self.identity()
            && leader.term == term.number
        {
            self.lead(term)?;
        }
        Ok(view)
    }

    /// Finds its term again, and leads on if nobody else has led.
    async fn go_on(&mut self, client: &Client, own: Term) -> Result<View, End> {
        let place = &self.membership.place;
        let (id, _) = self.lease.ok_or_else(|| ended("lease"))?;
        let is_ours = Compare::value(place.term(), CompareOp::Equal, own.octets());
        let options = PutOptions::new().with_lease(id);
        let again = TxnOp::put(place.leader(), self.words(own), Some(options));
        let txn = Txn::new().when([is_ours]).and_then([again]);
        let done = soon(client.kv_client().txn(txn)).await?;
        if !done.succeeded() {
            return Err(self.be_over());
        }
        let revision = done.header().map_or(0, ResponseHeader::revision);
        Ok(View {
            term: Some(own),
            leader: Leader::read(&self.words(own), revision),
            next: revision + 1,
        })
    }

    /// Hears of all changes, or, while it leads, of the term's only: the others are its own.
    async fn listen(&self, client: &Client, from: i64) -> Result<WatchStream, End> {
        let place = &self.membership.place;
        let options = WatchOptions::new().with_start_revision(from);
        let mut watches = client.watch_client().max_decoding_message_size(LARGEST);
        let what = if self.leads.is_some() {
            place.lead()
        } else {
            place.all()
        };
        let watch = watches.watch(what, Some(options.with_prefix()));
        Ok(soon(watch).await?)
    }

    /// Tries to lead: where nobody does, or in place of one that has ended.
    async fn campaign(
        &self,
        client: &Client,
        view: &View,
        former: Option<&Leader>,
    ) -> Result<(), End> {
        let place = &self.membership.place;
        let (id, _) = self.lease.ok_or_else(|| ended("lease"))?;
        let same_term = match view.term {
            Some(term) => Compare::value(place.term(), CompareOp::Equal, term.octets()),
            None => Compare::version(place.term(), CompareOp::Equal, 0),
        };
        let vacant = match former {
            Some(former) => {
                Compare::mod_revision(place.leader(), CompareOp::Equal, former.revision)
            }
            None => Compare::version(place.leader(), CompareOp::Equal, 0),
        };
        let next = Term {
            number: view.term.map_or(0, |term| term.number) + 1,
        };
        let options = PutOptions::new().with_lease(id);
        let txn = Txn::new().when([same_term, vacant]).and_then([
            TxnOp::put(place.term(), next.octets(), None),
            TxnOp::put(place.leader(), self.words(next), Some(options)),
        ]);
        soon(client.kv_client().txn(txn)).await?;
        Ok(())
    }

    /// Takes in what has happened.
    fn hear(&mut self, events: &[Event], view: &mut View) -> Result<(), End> {
        let place = self.membership.place.clone();
        let (mut changes, mut clocks) = (Vec::new(), None);
        let mut leads = false;
        for event in events {
            let Some(pair) = event.kv() else { continue };
            let is_there = event.event_type() == EventType::Put;
            let value = is_there.then(|| pair.value());
            if pair.key() == place.leader() {
                view.leader = value.and_then(|value| Leader::read(value, pair.mod_revision()));
                leads = view
                    .leader
                    .as_ref()
                    .is_some_and(|leader| leader.name == self.identity());
            } else if pair.key() == place.term() {
                view.term = value.and_then(Term::read);
                if self.leads.is_some() && view.term != self.leads {
                    return Err(self.be_over());
                }
            } else if pair.key() == place.clocks() {
                clocks = value.and_then(read_clocks);
            } else if let Some((space, key)) = place.record_of(pair.key()) {
                let value = value.map(<[u8]>::to_vec);
                changes.push(Change { space, key, value });
            }
        }
        if self.leads.is_none() {
            self.tell(News::Changed(changes, clocks))?;
            if leads && let Some(term) = view.term {
                self.lead(term)?;
                return Err(End::Anew);
            }
        }
        Ok(())
    }

    fn lead(&mut self, term: Term) -> Result<(), End> {
        self.leads = Some(term);
        self.said.send_replace(term.number);
        self.tell(News::Lead(term))
    }

    fn be_over(&mut self) -> End {
        self.leads = None;
        // Who does not listen has ended.
        let _ = self.news.send(News::Over);
        End::Done
    }

    fn tell(&self, news: News) -> Result<(), End> {
        self.news.send(news).map_err(|_| End::Done)
    }

    /// What the others read of this process when it leads.
    fn words(&self, term: Term) -> Vec<u8> {
        let address = self.membership.address;
        let address = address.map_or_else(|| "-".to_owned(), |address| address.to_string());
        let (number, name) = (term.number, self.identity());
        format!("{number} {address} {name}").into_bytes()
    }

    /// A name that no former process of this one has.
    fn identity(&self) -> String {
        let name = self.membership.name.replace(' ', "_");
        format!("{name}/{:x}", self.lease.map_or(0, |(id, _)| id))
    }

    /// Another one may lead at once.
    async fn resign(&mut self) {
        let Some((id, _)) = self.lease.take() else {
            return;
        };
        let gone = async {
            let client = self.membership.place.connect().await?;
            client.lease_client().revoke(id).await
        };
        if let Err(error) = soon(gone).await {
            tracing::warn!(%error, "etcd was not told of the end, and finds out by itself");
        }
    }
}

/// Waits for etcd, but not for long.
async fn soon<T>(asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let answer = timeout(PATIENCE, asked).await;
    answer.unwrap_or_else(|_| Err(Error::Internal("etcd does not answer".to_owned())))
}

fn ended(what: &str) -> Error {
    Error::Internal(format!("the {what} has ended"))
}

/// The first key behind all that begin with this one.
fn after(mut prefix: Vec<u8>) -> Vec<u8> {
    if let Some(last) = prefix.last_mut() {
        // It is a slash.
        *last += 1;
    }
    prefix
}

/// The first key behind this one.
fn after_key(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}
