//! Which signalling is let in, and how it goes out: ESP with the peers that have keys, plain messages with those
//! that are configured to have none (RFC 5213 §4).
//!
//! Associations are bound to the addresses of both ends: a key opens nothing from any other peer. Sequence numbers are
//! noted durably in blocks before they are used (see [`marks`]), so that a restarted process repeats none.

mod marks;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use pmip_esp::{InboundSa, OpenError, OutboundSa, SealError, Spi};
use pmip_wire::message::mh_type;

use self::marks::{Marks, Way};
use crate::keys::{self, Association, KeyFile, PeerKeys, Source};
use nd::packet::{Ipv6, next_header};

/// Sequence numbers that are noted at once: one write to disk for so many messages, and so many numbers
/// skipped by a restart after a crash.
const BLOCK: u32 = 1 << 14;

/// Past this sequence number, every further block is a warning: three quarters of all.
const NEARLY_EXHAUSTED: u32 = u32::MAX / 4 * 3;

/// Where a Mobility Header has its MH Type (RFC 6275 §6.1.1).
const MH_TYPE_AT: usize = 2;

/// The addresses of both ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Pair {
    own: Ipv6Addr,
    peer: Ipv6Addr,
}

/// The security associations with one peer.
#[derive(Debug)]
struct Associations {
    outbound: OutboundSa,
    /// By their indexes.
    inbound: BTreeMap<u32, InboundSa>,
    /// Of the last authentic packet.
    heard: Option<Spi>,
}

/// Lets signalling in and out.
#[derive(Debug)]
pub(super) struct Protection {
    sources: Vec<Source>,
    /// All configured peers; `None` is one without protection.
    pairs: BTreeMap<Pair, Option<Associations>>,
    /// Only where a peer has keys.
    marks: Option<Marks>,
    /// Seconds since 1970 when the process started: the part of every IV that a lost mark does not repeat.
    epoch: u32,
    counters: ProtectionCounters,
}

/// Packets that were not let in or out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct ProtectionCounters {
    /// Plain messages between addresses that are no peers', Binding Updates excepted.
    pub(super) unknown_peer: u64,
    /// Plain messages of a peer with keys.
    pub(super) unprotected: u64,
    /// ESP packets for which there is no association (RFC 4303 §3.4.2).
    pub(super) unknown_sa: u64,
    /// Received before, or too old to tell (RFC 4303 §3.4.3).
    pub(super) replayed: u64,
    /// Altered, or sealed with another key.
    pub(super) icv: u64,
    /// No ESP packet, or badly padded.
    pub(super) malformed: u64,
    /// Authentic, but not a Mobility Header.
    pub(super) inner: u64,
    /// Authentic, and made to be thrown away (RFC 4303 §2.6).
    pub(super) dummy: u64,
    /// Own messages without a sequence number.
    pub(super) not_sealed: u64,
}

/// Who a message that was let in is from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sender {
    /// From a peer's address, which anyone may have written.
    Claimed,
    /// From a peer that has the key.
    Authentic,
    /// From no configured peer: a Binding Update, whose sender is told so (RFC 5213 §5.3.1).
    Stranger,
}

/// A message that was let in.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Admitted<'p> {
    /// The Mobility Header.
    pub(super) header: Cow<'p, [u8]>,
    /// Who it is from.
    pub(super) sender: Sender,
}

/// What there is to say about a peer's protection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ProtectionState {
    /// The association that we send with; `None` if there is no protection.
    pub(super) sending: Option<Spi>,
    /// The one that the peer sent with last.
    pub(super) heard: Option<Spi>,
}

/// Why [`Protection::open`] did not.
enum Refused {
    UnknownSa,
    Esp(OpenError),
    Dummy,
    Inner(u8),
}

fn epoch() -> u32 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    since_1970.map_or(0, |time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX))
}

/// A peer's new keys, before they take effect.
struct Prepared {
    pair: Pair,
    /// `None` for a peer without protection.
    keys: Option<KeyFile>,
    /// `None` if the association that sends now goes on.
    outbound: Option<OutboundSa>,
}

impl Protection {
    /// Reads all keys, and the marks in `state` if there are any keys.
    ///
    /// # Errors
    /// What is wrong with key files or marks.
    pub(super) fn new(sources: Vec<Source>, state: &Path) -> anyhow::Result<Self> {
        // The keys first: a start that fails leaves no directory behind.
        let peers = load(&sources)?;
        let marks = if peers.iter().any(|peer| peer.keys.is_some()) {
            Some(Marks::open(state)?)
        } else {
            None
        };
        let mut protection = Self {
            sources,
            pairs: BTreeMap::new(),
            marks,
            epoch: epoch(),
            counters: ProtectionCounters::default(),
        };
        protection.apply(peers)?;
        Ok(protection)
    }

    /// Lets nothing in: for a process that does not serve.
    pub(super) fn closed() -> Self {
        Self {
            sources: Vec::new(),
            pairs: BTreeMap::new(),
            marks: None,
            epoch: 0,
            counters: ProtectionCounters::default(),
        }
    }

    /// As [`Protection::new`], with marks that other processes go on from: `used` is what the last one has noted.
    ///
    /// # Errors
    /// What is wrong with key files or marks.
    pub(super) fn shared(
        sources: Vec<Source>,
        notes: store::Store,
        used: Option<&[u8]>,
    ) -> anyhow::Result<Self> {
        let peers = load(&sources)?;
        let mut protection = Self {
            sources,
            marks: Some(Marks::shared(notes, used)?),
            epoch: epoch(),
            ..Self::closed()
        };
        protection.apply(peers)?;
        Ok(protection)
    }

    /// Reads the keys again. Associations that were there before go on as they are.
    ///
    /// # Errors
    /// What is wrong with the key files; then nothing has changed.
    pub(super) fn reload(&mut self) -> anyhow::Result<()> {
        let peers = self.read(&self.sources)?;
        self.note_received();
        self.apply(peers)
    }

    /// Reads keys that could take the place of those in force.
    ///
    /// # Errors
    /// What is wrong with the key files.
    pub(super) fn read(&self, sources: &[Source]) -> anyhow::Result<Vec<PeerKeys>> {
        let peers = load(sources)?;
        for peer in &peers {
            self.check_indexes(peer)?;
        }
        Ok(peers)
    }

    /// Takes other peers, with keys that [`Protection::read`] has read. Associations with those that stay go on
    /// as they are. `state` is where marks are kept, should there have been none yet.
    ///
    /// # Errors
    /// If marks cannot be written; then nothing has changed.
    pub(super) fn replace_all(
        &mut self,
        sources: Vec<Source>,
        peers: Vec<PeerKeys>,
        state: &Path,
    ) -> anyhow::Result<()> {
        if self.marks.is_none() && peers.iter().any(|peer| peer.keys.is_some()) {
            self.marks = Some(Marks::open(state)?);
        }
        self.note_received();
        self.apply(peers)?;
        let stay: BTreeSet<Pair> = sources.iter().map(Pair::of).collect();
        self.pairs.retain(|pair, _| stay.contains(pair));
        self.sources = sources;
        Ok(())
    }

    /// Puts keys into force, whole or not at all.
    fn apply(&mut self, peers: Vec<PeerKeys>) -> anyhow::Result<()> {
        let prepared: Vec<_> = peers.into_iter().map(|peer| self.prepare(peer)).collect();
        if let Some(marks) = &mut self.marks {
            marks.save()?;
        }
        for peer in prepared {
            self.replace(peer);
        }
        Ok(())
    }

    /// A key is changed together with its index, or the peer could not tell the two apart.
    fn check_indexes(&self, peer: &PeerKeys) -> anyhow::Result<()> {
        let current = self.pairs.get(&Pair::of(&peer.source));
        let (Some(Some(current)), Some(keys)) = (current, &peer.keys) else {
            return Ok(());
        };
        let other_key = |known: &InboundSa, new: &Association| {
            known.spi() == new.spi && !known.has_key(&new.key)
        };
        let inbound = keys
            .inbound
            .iter()
            .find(|new| current.inbound.values().any(|known| other_key(known, new)));
        let sending = &keys.outbound;
        let outbound = Some(sending)
            .filter(|new| current.outbound.spi() == new.spi && !current.outbound.has_key(&new.key));
        if let Some(Association { spi, .. }) = inbound.or(outbound) {
            anyhow::bail!(
                "{}: {spi} has another key than before\n  = help: new keys need an index of their own",
                keys.path().display()
            );
        }
        Ok(())
    }

    /// Makes the association that is to send, with numbers that the next save makes usable.
    fn prepare(&mut self, peer: PeerKeys) -> Prepared {
        let pair = Pair::of(&peer.source);
        let current = self.pairs.get(&pair).and_then(Option::as_ref);
        let goes_on = |new: &Association| {
            current.is_some_and(|current| {
                current.outbound.spi() == new.spi && current.outbound.has_key(&new.key)
            })
        };
        let new = peer.keys.as_ref().map(|keys| &keys.outbound);
        let new = new.filter(|new| !goes_on(new)).cloned();
        let outbound = self.marks.as_mut().zip(new).map(|(marks, new)| {
            let used = marks.get(Way::Out, new.key.check());
            let mut outbound = OutboundSa::new(new.spi, new.key, self.epoch, used);
            let highest = used.saturating_add(BLOCK);
            marks.set(Way::Out, outbound.key_check(), highest);
            outbound.reserve(highest);
            outbound
        });
        Prepared {
            pair,
            keys: peer.keys,
            outbound,
        }
    }

    /// Puts a peer's new keys into force.
    fn replace(&mut self, new: Prepared) {
        let current = self.pairs.remove(&new.pair).flatten();
        // Without keys nothing of the old association goes on. The mark of its numbers stays, should the key come back.
        let Some(keys) = new.keys else {
            self.pairs.insert(new.pair, None);
            return;
        };
        let (mut known, sending, heard) = match current {
            Some(current) => (current.inbound, Some(current.outbound), current.heard),
            None => (BTreeMap::new(), None, None),
        };
        let inbound = keys.inbound.into_iter().map(|Association { spi, key }| {
            let goes_on = known.remove(&spi.get());
            let sa = goes_on.unwrap_or_else(|| {
                let marks = self.marks.as_ref();
                let received = marks.map_or(0, |marks| marks.get(Way::In, key.check()));
                InboundSa::new(spi, key, received)
            });
            (spi.get(), sa)
        });
        let inbound: BTreeMap<_, _> = inbound.collect();
        let associations = new.outbound.or(sending).map(|outbound| Associations {
            outbound,
            inbound,
            heard,
        });
        self.pairs.insert(new.pair, associations);
    }

    /// What of a packet with a Mobility Header or ESP is to be looked at further; `None` if nothing is, which is
    /// then counted.
    pub(super) fn admit<'p>(&mut self, ip: &Ipv6<'p>) -> Option<Admitted<'p>> {
        let pair = Pair {
            own: ip.destination,
            peer: ip.source,
        };
        if ip.next_header == next_header::ESP {
            return match self.open(pair, ip.payload) {
                Ok(header) => Some(Admitted {
                    header: Cow::Owned(header),
                    sender: Sender::Authentic,
                }),
                Err(refused) => {
                    self.count(pair, &refused);
                    None
                }
            };
        }
        let sender = match self.pairs.get(&pair) {
            Some(Some(_)) => {
                self.counters.unprotected += 1;
                tracing::debug!(from = %pair.peer, "message not protected");
                return None;
            }
            Some(None) => Sender::Claimed,
            None if ip.payload.get(MH_TYPE_AT) == Some(&mh_type::BINDING_UPDATE) => {
                Sender::Stranger
            }
            None => {
                self.counters.unknown_peer += 1;
                tracing::debug!(from = %pair.peer, "message of no peer");
                return None;
            }
        };
        Some(Admitted {
            header: Cow::Borrowed(ip.payload),
            sender,
        })
    }

    fn open(&mut self, pair: Pair, esp: &[u8]) -> Result<Vec<u8>, Refused> {
        let associations = self.pairs.get_mut(&pair).and_then(Option::as_mut);
        let spi = Spi::peek(esp).ok_or(Refused::Esp(OpenError::Malformed))?;
        let associations = associations.ok_or(Refused::UnknownSa)?;
        let sa = associations
            .inbound
            .get_mut(&spi)
            .ok_or(Refused::UnknownSa)?;
        let opened = sa.open(esp).map_err(Refused::Esp)?;
        associations.heard = Some(sa.spi());
        let (key, highest) = (sa.key_check(), sa.highest());
        if let Some(marks) = &mut self.marks
            && highest.saturating_sub(marks.get(Way::In, key)) >= BLOCK
        {
            marks.set(Way::In, key, highest);
            // If it fails, less is known after a crash, and nothing else is lost: the next block tries again.
            marks.save_or_log();
        }
        match opened.next_header {
            next_header::MOBILITY => Ok(opened.payload),
            next_header::NONE => Err(Refused::Dummy),
            other => Err(Refused::Inner(other)),
        }
    }

    fn count(&mut self, pair: Pair, refused: &Refused) {
        let counters = &mut self.counters;
        let (counter, why) = match refused {
            Refused::UnknownSa | Refused::Esp(OpenError::OtherSpi) => (
                &mut counters.unknown_sa,
                "no security association".to_owned(),
            ),
            Refused::Esp(error @ OpenError::Replayed(_)) => {
                (&mut counters.replayed, error.to_string())
            }
            Refused::Esp(error @ OpenError::Icv) => (&mut counters.icv, error.to_string()),
            Refused::Esp(error @ (OpenError::Malformed | OpenError::Padding)) => {
                (&mut counters.malformed, error.to_string())
            }
            Refused::Dummy => (&mut counters.dummy, "a dummy packet".to_owned()),
            Refused::Inner(protocol) => (&mut counters.inner, format!("protocol {protocol}")),
        };
        *counter += 1;
        tracing::debug!(from = %pair.peer, %why, "ESP packet not used");
    }

    /// The next header and the payload of a packet with a Mobility Header for a peer.
    ///
    /// # Errors
    /// If its sequence numbers are used up, or could not be noted.
    pub(super) fn seal(
        &mut self,
        from: Ipv6Addr,
        to: Ipv6Addr,
        header: Vec<u8>,
    ) -> Result<(u8, Vec<u8>), SealError> {
        let pair = Pair {
            own: from,
            peer: to,
        };
        let Some(Some(associations)) = self.pairs.get_mut(&pair) else {
            return Ok((next_header::MOBILITY, header));
        };
        let outbound = &mut associations.outbound;
        if let Some(marks) = &mut self.marks {
            reserve(outbound, marks);
        }
        match outbound.seal(next_header::MOBILITY, &header) {
            Ok(sealed) => Ok((next_header::ESP, sealed)),
            Err(error) => {
                self.counters.not_sealed += 1;
                Err(error)
            }
        }
    }

    /// A peer's protection.
    pub(super) fn state(&self, own: Ipv6Addr, peer: Ipv6Addr) -> ProtectionState {
        let associations = self.pairs.get(&Pair { own, peer });
        let associations = associations.and_then(Option::as_ref);
        ProtectionState {
            sending: associations.map(|associations| associations.outbound.spi()),
            heard: associations.and_then(|associations| associations.heard),
        }
    }

    /// What has been counted.
    pub(super) fn counters(&self) -> &ProtectionCounters {
        &self.counters
    }

    /// Notes where the numbers are, so that the next process skips none.
    ///
    /// # Errors
    /// If the marks cannot be written. They are then as they were: safe.
    pub(super) fn close(mut self) -> anyhow::Result<()> {
        self.note_received();
        let Some(marks) = &mut self.marks else {
            return Ok(());
        };
        for associations in self.pairs.values().flatten() {
            let outbound = &associations.outbound;
            marks.set(Way::Out, outbound.key_check(), outbound.last());
        }
        marks.save().context("sequence numbers")
    }

    fn note_received(&mut self) {
        let Some(marks) = &mut self.marks else { return };
        for sa in self
            .pairs
            .values()
            .flatten()
            .flat_map(|a| a.inbound.values())
        {
            marks.set(Way::In, sa.key_check(), sa.highest());
        }
    }
}

/// Reads the keys of all peers.
///
/// # Errors
/// What is wrong with key files.
pub(super) fn load(sources: &[Source]) -> anyhow::Result<Vec<PeerKeys>> {
    keys::load_all(sources).map_err(|errors| {
        let all: Vec<_> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", all.join("\n"))
    })
}

impl Pair {
    fn of(source: &Source) -> Self {
        Self {
            own: source.own,
            peer: source.peer,
        }
    }
}

/// Notes a further block of numbers when half of the last one is used.
fn reserve(outbound: &mut OutboundSa, marks: &mut Marks) {
    let left = outbound.left();
    let highest = outbound.last().saturating_add(BLOCK);
    let is_more = highest > outbound.last() + left;
    // While the disk refuses, it is not asked for every single message, until there is nothing else left.
    if left > BLOCK / 2 || !left.is_multiple_of(BLOCK / 64) || !is_more {
        return;
    }
    marks.set(Way::Out, outbound.key_check(), highest);
    if marks.save_or_log() {
        outbound.reserve(highest);
    }
    if highest > NEARLY_EXHAUSTED {
        tracing::warn!(spi = %outbound.spi(), used = outbound.last(), "change the keys soon");
    }
}
