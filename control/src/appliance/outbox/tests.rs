//! What waits while the disk takes nothing, and in which order it leaves.

use pmip_wire::{BindingStatus, MnIdOption};
use tempfile::TempDir;

use super::*;

const MAG: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1);
const OTHER_MAG: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 1);
const STALE: BindingStatus = BindingStatus::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED;
const FULL: BindingStatus = BindingStatus::INSUFFICIENT_RESOURCES;

/// An outbox, a process without workers, and a disk of which the test says how far it is.
struct World {
    outbox: Outbox,
    workers: WorkerSet,
    store: store::Store,
    kept: Kept,
    _directory: TempDir,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = store::Store::open(&directory.path().join("records")).unwrap();
        Self {
            outbox: Outbox::default(),
            workers: WorkerSet::new(Vec::new()),
            kept: store.mark(),
            store,
            _directory: directory,
        }
    }

    /// Something changes, so that what is said from now on waits longer.
    fn change(&mut self) {
        self.store
            .put(store::Space::Lma, b"key".to_vec(), None, true);
        self.store.submit(store::Clocks::default());
    }

    fn letter(to: Ipv6Addr, mn: &MnId, name: &'static str, header: Vec<u8>) -> Outgoing {
        Outgoing::Message(Box::new(Letter {
            from: Ipv6Addr::UNSPECIFIED,
            to,
            header,
            name,
            mn: Some(mn.clone()),
        }))
    }

    /// An answer about one interface of a mobile.
    fn answer(&mut self, to: Ipv6Addr, mn: &str, interface: u8, what: (BindingStatus, u16)) {
        let (status, sequence) = what;
        let mn = MnId::new(mn).unwrap();
        let pba = Pba {
            status,
            sequence,
            mn_id: Some(MnIdOption::Nai(mn.clone())),
            access: Some(AccessTechnology(4)),
            ll_id: MnLinkLayerId::new(&[2, 0, 0, 0, 0, interface]),
            ..Pba::default()
        };
        let octet = u8::try_from(sequence).unwrap();
        let letter = Self::letter(to, &mn, "PBA", vec![status.0, octet]);
        let kept = self.store.mark();
        self.outbox
            .answer(&self.workers, kept, Answer::from(&pba), letter);
    }

    fn notice(&mut self, to: Ipv6Addr, mn: &str) {
        let letter = Self::letter(to, &MnId::new(mn).unwrap(), "FMI", Vec::new());
        let kept = self.store.mark();
        self.outbox.promise(&self.workers, kept, letter);
    }

    /// All that was submitted is on disk.
    fn keep(&mut self) {
        self.kept = self.store.mark();
    }

    /// What leaves now: mobiles, and statuses with numbers, or none of an FMI.
    fn leaves(&mut self) -> Vec<(String, Vec<u8>)> {
        let kept = self.kept;
        let next = || self.outbox.pop_if(&self.workers, |mark| mark <= kept);
        let text = |outgoing| match outgoing {
            Outgoing::Message(letter) => (letter.mn.unwrap().to_string(), letter.header),
            Outgoing::Packet(..) => unreachable!("letters only"),
        };
        std::iter::from_fn(next).map(text).collect()
    }
}

fn said(mn: &str, (status, sequence): (BindingStatus, u8)) -> (String, Vec<u8>) {
    (mn.to_owned(), vec![status.0, sequence])
}

const ACCEPTED: BindingStatus = BindingStatus::ACCEPTED;

#[test]
fn refusals_do_not_wait_for_the_disk_behind_other_mobiles() {
    let mut world = World::new();
    world.change();
    world.answer(MAG, "a@x", 1, (ACCEPTED, 1));
    world.answer(MAG, "b@x", 2, (FULL, 2));
    // Another interface of the mobile, and the same at another MAG.
    world.answer(MAG, "a@x", 3, (FULL, 3));
    world.answer(OTHER_MAG, "a@x", 1, (FULL, 4));
    let all = [
        said("b@x", (FULL, 2)),
        said("a@x", (FULL, 3)),
        said("a@x", (FULL, 4)),
    ];
    assert_eq!(world.leaves(), all);
    assert_eq!(world.outbox.len(), 1);
    world.keep();
    assert_eq!(world.leaves(), [said("a@x", (ACCEPTED, 1))]);
    assert!(world.outbox.is_empty() && world.outbox.told.is_empty());
}

#[test]
fn copies_of_a_pbu_that_waits_for_its_answer_make_no_more_of_them() {
    let mut world = World::new();
    world.change();
    world.answer(MAG, "a@x", 1, (ACCEPTED, 5));
    for _ in 0..100_000 {
        world.answer(MAG, "a@x", 1, (STALE, 5));
    }
    assert_eq!(world.leaves(), []);
    assert_eq!(
        (world.outbox.len(), world.outbox.superseded()),
        (1, 100_000)
    );
    // Copies with numbers of their own are as many acceptances, and older ones are refused: the last of each is said.
    for sequence in 6..=100 {
        world.change();
        world.answer(MAG, "a@x", 1, (STALE, 4));
        world.answer(MAG, "a@x", 1, (ACCEPTED, sequence));
        world.answer(MAG, "a@x", 1, (STALE, 3));
    }
    assert_eq!(world.outbox.len(), 2);
    world.keep();
    let last = [said("a@x", (ACCEPTED, 100)), said("a@x", (STALE, 3))];
    assert_eq!(world.leaves(), last);
    assert!(world.outbox.told.is_empty());
    // When nothing waits any more, a copy is answered as ever.
    world.answer(MAG, "a@x", 1, (STALE, 100));
    assert_eq!(world.leaves(), [said("a@x", (STALE, 100))]);
}

/// Who goes on refreshing holds up himself, and nobody else.
#[test]
fn an_answer_that_takes_anothers_place_waits_at_the_end() {
    let mut world = World::new();
    world.change();
    world.answer(MAG, "a@x", 1, (ACCEPTED, 1));
    world.answer(MAG, "b@x", 2, (ACCEPTED, 1));
    world.keep();
    world.change();
    world.answer(MAG, "a@x", 1, (ACCEPTED, 2));
    assert_eq!(world.leaves(), [said("b@x", (ACCEPTED, 1))]);
    world.keep();
    assert_eq!(world.leaves(), [said("a@x", (ACCEPTED, 2))]);
}

#[test]
fn a_mag_hears_of_a_session_before_it_hears_of_its_flows() {
    let mut world = World::new();
    world.change();
    world.answer(MAG, "a@x", 1, (ACCEPTED, 1));
    world.notice(MAG, "a@x");
    world.answer(MAG, "a@x", 1, (ACCEPTED, 2));
    world.answer(MAG, "a@x", 1, (ACCEPTED, 3));
    world.notice(OTHER_MAG, "a@x");
    world.keep();
    let fmi = ("a@x".to_owned(), Vec::new());
    let all = [
        said("a@x", (ACCEPTED, 1)),
        fmi.clone(),
        said("a@x", (ACCEPTED, 3)),
        fmi,
    ];
    assert_eq!(world.leaves(), all);
    assert_eq!(world.outbox.superseded(), 1);
    assert!(world.outbox.told.is_empty());
}

#[test]
fn what_waits_has_a_bound_whatever_it_is() {
    let mut world = World::new();
    world.change();
    for _ in 0..MOST + 7 {
        world.notice(MAG, "a@x");
    }
    assert_eq!((world.outbox.len(), world.outbox.lost()), (MOST, 7));
    world.answer(MAG, "a@x", 1, (ACCEPTED, 1));
    assert_eq!((world.outbox.len(), world.outbox.lost()), (MOST, 8));
    // What needs no disk is said.
    world.answer(MAG, "b@x", 1, (FULL, 1));
    assert_eq!(world.leaves(), [said("b@x", (FULL, 1))]);
    world.keep();
    assert_eq!(world.leaves().len(), MOST);
    assert!(world.outbox.told.is_empty());
}

/// What is said of mobiles that are elsewhere waits for the disk like all else, but leaves room for those that are here.
#[test]
fn questions_about_others_fill_a_quarter() {
    let mut world = World::new();
    world.change();
    let mn = MnId::new("elsewhere@x").unwrap();
    for _ in 0..MOST_MESSAGES {
        let letter = World::letter(OTHER_MAG, &mn, "PBA", Vec::new());
        let kept = world.store.mark();
        world.outbox.promise_if_few(&world.workers, kept, letter);
    }
    assert_eq!(world.leaves(), []);
    assert_eq!(world.outbox.len(), MANY_MESSAGES);
    let lost = u64::try_from(MOST_MESSAGES - MANY_MESSAGES).unwrap();
    assert_eq!(world.outbox.lost(), lost);
    world.answer(MAG, "a@x", 1, (ACCEPTED, 1));
    assert_eq!(world.outbox.len(), MANY_MESSAGES + 1);
}
