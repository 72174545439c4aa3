//! One of several LMAs of which one serves: it hears what that one writes down until it has to lead.
//!
//! ```text
//!   another one leads    records heard -> LmaFollower -> the workers' tables
//!   this one has to      an LMA of the records, keys with numbers that were never used, a store that it may write,
//!                        then the LMA's address, which neighbours are told of
//!   its term is over     it says nothing more, and ends: another process of it begins by hearing
//! ```
//!
//! While etcd is lost to whoever leads, packets go on and nothing is acknowledged: messages wait for the store.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use config::{Config, Store as Place};
use crossbeam::channel::Receiver;
use flow::{MacAddr, PortId, Role, Update};
use nd::icmp6;
use pmip_proto::recording::Recorded;
use pmip_proto::{LmaFollower, Now};
use store::{Change, Clocks, Member, Membership, News, Space, Store, Term};

use super::control::Control;
use super::keeping::{Keeping, LINES};
use super::protection::Protection;
use super::{beginning, random_seed, recorder, restart_counter, wiring};
use crate::keys::Source;

/// The key of the Restart Counter, which is the pair's.
const RESTART_COUNTER: &[u8] = b"restart counter";
/// The key of the sequence numbers that protected signalling has used.
pub(super) const SEQUENCE_NUMBERS: &[u8] = b"sequence numbers";
/// News that are taken in one turn.
const BUDGET: usize = 64;

/// A process's part in a pair.
pub(super) struct Pair {
    /// Until it is dropped, nobody else leads without need.
    member: Member,
    news: Receiver<News>,
    state: State,
}

enum State {
    Follows(Box<Following>),
    Leads,
    Over,
}

/// What is known before this process leads.
struct Following {
    lma: LmaFollower,
    /// Whether all that there is has been heard.
    has_all: bool,
    /// What the one that leads keeps of the process as a whole.
    process: BTreeMap<Vec<u8>, Vec<u8>>,
    /// How far its clock is ahead of this process's.
    ahead: Ahead,
    /// For the records.
    store: Store,
    /// For what cannot wait for them.
    notes: Store,
}

/// How far the monotonic clock of the one that leads is ahead of this process's.
#[derive(Clone, Copy, Default)]
struct Ahead {
    /// So much at least: what is heard was written before. Whoever leads writes every second.
    at_least: Duration,
    /// So much by the wall clocks, as long as nothing was heard while it was written.
    guessed: Option<Duration>,
}

impl Ahead {
    /// Takes in what has just been written.
    fn hear(&mut self, last: Clocks, now: Now) {
        *self = Self {
            at_least: self
                .at_least
                .max(last.monotonic.saturating_sub(now.monotonic)),
            guessed: None,
        };
    }

    /// Takes in what was written at some time. `knew` is whether something was heard before.
    fn hear_late(&mut self, last: Clocks, now: Now, knew: bool) {
        self.at_least = self
            .at_least
            .max(last.monotonic.saturating_sub(now.monotonic));
        if !knew || self.guessed.is_some() {
            let since = now.wall.saturating_sub(last.wall);
            let then = last.monotonic.saturating_add(since);
            self.guessed = Some(then.saturating_sub(now.monotonic));
        }
    }

    fn by(self) -> Duration {
        self.at_least.max(self.guessed.unwrap_or_default())
    }
}

/// How a pair stands, for metrics.
pub(super) struct Standing {
    pub(super) term: u64,
    pub(super) is_reached: bool,
    /// Mobiles that the workers know of, while another one leads.
    pub(super) followed: Option<usize>,
}

impl Pair {
    /// Joins the pair that a configuration names; `None` if it names none. `tls` protects the connections to etcd.
    ///
    /// # Errors
    /// If nobody could connect to this process, or there can be no thread.
    pub(super) fn join(config: &Config, tls: Option<store::Tls>) -> anyhow::Result<Option<Self>> {
        let Place::Etcd { endpoints, prefix } = &config.process.store else {
            return Ok(None);
        };
        let place = store::Place {
            endpoints: endpoints.clone(),
            prefix: prefix.clone(),
            tls,
        };
        let lma = config
            .lma
            .as_ref()
            .context("only an LMA can be one of a pair")?;
        // Its counter says nothing of tables.
        let lma = LmaFollower::new(&wiring::lma(config, lma, 0)?);
        let pair = &config.process.pair;
        let (member, news) = Member::join(Membership {
            place: place.clone(),
            name: config.name.clone(),
            address: pair.address,
            lease: pair.lease,
        })
        .context("[process.pair] address")?;
        let following = Following {
            lma,
            has_all: false,
            process: BTreeMap::new(),
            ahead: Ahead::default(),
            store: Store::stand_by(place.clone())?,
            notes: Store::stand_by(place)?,
        };
        tracing::info!(store = %config.process.store, "stands by until nobody else leads");
        Ok(Some(Self {
            member,
            news,
            state: State::Follows(Box::new(following)),
        }))
    }

    /// Whether this process serves.
    pub(super) fn leads(&self) -> bool {
        matches!(self.state, State::Leads)
    }

    fn stands_by(&self) -> bool {
        matches!(self.state, State::Follows(_))
    }

    /// Whether it has been told not to serve any more.
    fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether nothing can be missing of what it has to hear.
    pub(super) fn hears(&self) -> bool {
        !self.stands_by() || self.standing().is_reached
    }

    /// Whether it serves, or could at any time.
    pub(super) fn is_ready(&self) -> bool {
        match &self.state {
            State::Follows(following) => following.has_all && self.hears(),
            State::Leads => true,
            State::Over => false,
        }
    }

    /// How things stand.
    pub(super) fn standing(&self) -> Standing {
        let standing = self.member.standing();
        Standing {
            term: standing.term.load(Ordering::Relaxed),
            is_reached: standing.is_reached.load(Ordering::Relaxed),
            followed: match &self.state {
                State::Follows(following) => Some(following.lma.mobiles()),
                State::Leads | State::Over => None,
            },
        }
    }

    /// What the workers are to know of tunnels is different; for who leads, its LMA knows.
    pub(super) fn reconfigure(&mut self, config: &pmip_proto::LmaConfig) {
        if let State::Follows(following) = &mut self.state {
            following.lma.reconfigure(config);
        }
    }
}

impl Following {
    /// Takes in what has just been written; the time is by this process's clock.
    fn hear_now(&mut self, changes: Vec<Change>, clocks: Option<Clocks>, now: Now) {
        if let Some(clocks) = clocks {
            self.ahead.hear(clocks, now);
        }
        self.hear(changes);
    }

    /// Takes in what has been written.
    fn hear(&mut self, changes: Vec<Change>) {
        for Change { space, key, value } in changes {
            match (space, value) {
                (Space::Lma, value) => {
                    if let Err(spoilt) = self.lma.take(key, value) {
                        let (what, why) = (&spoilt.what, &spoilt.why);
                        tracing::error!(%what, %why, "the workers are not told of a record");
                    }
                }
                (Space::Process, Some(value)) => {
                    self.process.insert(key, value);
                }
                (Space::Process, None) => {
                    self.process.remove(&key);
                }
                (Space::Mag, _) => {}
            }
        }
    }

    /// Takes all there is in place of what was heard.
    fn hear_all(&mut self, records: Vec<Change>, clocks: Option<Clocks>, now: Now) {
        if let Some(clocks) = clocks {
            self.ahead.hear_late(clocks, now, self.has_all);
        }
        let of_lma = records.iter().filter(|change| change.space == Space::Lma);
        let there: HashSet<&[u8]> = of_lma.map(|change| change.key.as_slice()).collect();
        let gone = self
            .lma
            .keys()
            .filter(|key| !there.contains(key.as_slice()));
        let gone: Vec<Change> = gone
            .map(|key| Change {
                space: Space::Lma,
                key: key.clone(),
                value: None,
            })
            .collect();
        self.process.clear();
        self.hear(gone);
        self.hear(records);
        self.has_all = true;
    }
}

impl Control {
    /// Whether another process leads.
    pub(super) fn stands_by(&self) -> bool {
        self.pair.as_ref().is_some_and(Pair::stands_by)
    }

    /// Whether this process has led, and must not any more; or, in a pair or not, can keep nothing.
    pub(super) fn is_over(&self) -> bool {
        self.pair.as_ref().is_some_and(Pair::is_over) || self.keeping.is_over()
    }

    /// Takes in what the others of a pair do.
    pub(super) fn take_news(&mut self, now: Now) -> bool {
        let Some(mut pair) = self.pair.take() else {
            return false;
        };
        let mut any = false;
        for _ in 0..BUDGET {
            // The workers' tables are not filled faster than they can take it.
            if self.workers.is_behind() {
                break;
            }
            let Ok(news) = pair.news.try_recv() else {
                break;
            };
            any = true;
            pair.state = match (pair.state, news) {
                (State::Follows(mut following), News::Everything(records, clocks)) => {
                    let count = records.len();
                    following.hear_all(records, clocks, now);
                    self.lay_tables(&mut following);
                    let mobiles = following.lma.mobiles();
                    tracing::info!(records = count, mobiles, "knows what is in the store");
                    State::Follows(following)
                }
                (State::Follows(mut following), News::Changed(changes, clocks)) => {
                    following.hear_now(changes, clocks, now);
                    self.lay_tables(&mut following);
                    State::Follows(following)
                }
                (State::Follows(following), News::Lead(term)) => {
                    match self.lead(*following, term) {
                        Ok(()) => State::Leads,
                        Err(error) => {
                            tracing::error!("cannot lead, and ends: {error:#}");
                            State::Over
                        }
                    }
                }
                (_, News::Over) => {
                    tracing::error!("another process leads, and this one ends");
                    State::Over
                }
                (state, News::Everything(..) | News::Changed(..) | News::Lead(_)) => state,
            };
        }
        self.pair = Some(pair);
        any
    }

    /// A neighbour says that an address of this process is its own. If etcd has not been heard for a while, another process
    /// leads, and two must not answer for one address. While etcd is there, it knows better than whoever can send this.
    pub(super) fn yield_address(&mut self, port: PortId, source: MacAddr, packet: &[u8]) {
        let alone = |pair: &&mut Pair| pair.leads() && !pair.standing().is_reached;
        let Some(pair) = self.pair.as_mut().filter(alone) else {
            return;
        };
        let Some(address) = icmp6::own_address(packet) else {
            return;
        };
        let is_ours = self.setup.port_mac(port) == Some(source);
        let shared = wiring::shared_addresses(self.reloads.running());
        let is_shared = shared
            .iter()
            .any(|(at, net)| (*at, net.addr()) == (port, address));
        if is_shared && !is_ours {
            tracing::error!(%address, station = %source, "another station has this address, and this process ends");
            pair.state = State::Over;
        }
    }

    /// Tells the workers of what was heard.
    fn lay_tables(&mut self, following: &mut Following) {
        while let Some(command) = following.lma.poll_command() {
            self.command(Role::Lma, command);
        }
    }

    /// Goes on where the one that led has left it.
    fn lead(&mut self, following: Following, term: Term) -> anyhow::Result<()> {
        let Following {
            lma,
            has_all: _,
            process,
            ahead,
            store,
            notes,
        } = following;
        store.lead(term);
        notes.lead(term);
        // The first thing that is written: a clock that went back would wake timers late.
        self.clock.go_ahead(ahead.by());
        let now = self.now();
        let config = self.reloads.running().clone();
        let used = process.get(SEQUENCE_NUMBERS);
        self.protection = Protection::shared(Source::all(&config), notes, used.map(Vec::as_slice))
            .context("the keys of the signalling")?;
        // Its tables are laid: packets need not wait for what comes now.
        self.claim(now, &config);
        let wanted = config.lma.as_ref().context("only an LMA can lead")?;
        let known = process.get(RESTART_COUNTER);
        let known =
            known.and_then(|octets| Some(u32::from_be_bytes(octets.as_slice().try_into().ok()?)));
        let counter = match known {
            Some(counter) => counter,
            None => restart_counter::next(None, false)?,
        };
        let seed = random_seed();
        let (mut lma, restored) = lma.lead(wiring::lma(&config, wanted, counter)?, seed, now);
        let unreadable = beginning::report("lma", &restored);
        let counter = if unreadable > 0 {
            let next = counter.wrapping_add(1);
            lma.count_restart(next);
            next
        } else {
            counter
        };
        self.reloads.set_restart_counter(counter);
        self.keeping = Keeping::shared(store);
        if known != Some(counter) {
            let octets = counter.to_be_bytes().to_vec();
            self.keeping
                .keep(Space::Process, RESTART_COUNTER.to_vec(), Some(octets));
        }
        // The thread may do what this one may, which is what it would be left.
        self.recorder = recorder::begin(&config, (Some(&lma), None), None)?;
        let mut lma = Recorded::new(lma, self.recorder.clone());
        lma.keep_records();
        self.lma = Some(lma);
        self.keep(now);
        if restored.spoilt.len() > LINES {
            tracing::warn!("records of another configuration: are both files the same?");
        }
        tracing::warn!(term = term.number, mobiles = restored.mobiles, "leads");
        Ok(())
    }

    /// The LMA's address is this process's, and its neighbours are told.
    fn claim(&mut self, now: Now, config: &Config) {
        self.worker.unclaimed.clear();
        let shared = wiring::shared_addresses(config);
        for (port, net) in shared {
            self.workers.broadcast(&Update::Claim {
                port,
                address: net.addr(),
            });
            self.nd.claim(now.monotonic, port, net);
        }
        self.carry_out(now);
        self.workers.flush();
    }
}
