//! Two ends with matching keys, and what others send.

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::keys::{GenerateArgs, generate};
use nd::packet::ipv6_packet;

const LMA: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1);
const MAG: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1);
const OPEN_MAG: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 1);
const STRANGER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 1);
const MESSAGE: &[u8] = b"a Mobility Header";

/// The files of an LMA and a MAG.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.generate("", false);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn generate(&self, suffix: &str, standby: bool) {
        let arguments = GenerateArgs {
            lma: self.path(&format!("lma{suffix}")),
            mag: self.path(&format!("mag{suffix}")),
            standby,
        };
        generate(&arguments).unwrap();
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Changes a file as an editor does, which keeps its mode.
    fn edit(&self, name: &str, change: impl Fn(String) -> String) {
        std::fs::write(self.path(name), change(self.text(name))).unwrap();
    }

    fn lma(&self) -> Protection {
        let open = Source {
            own: LMA,
            peer: OPEN_MAG,
            file: None,
        };
        let sources = vec![self.source("lma", LMA, MAG), open];
        Protection::new(sources, &self.path("lma-state")).unwrap()
    }

    fn mag(&self) -> Protection {
        let sources = vec![self.source("mag", MAG, LMA)];
        Protection::new(sources, &self.path("mag-state")).unwrap()
    }

    fn source(&self, name: &str, own: Ipv6Addr, peer: Ipv6Addr) -> Source {
        Source {
            own,
            peer,
            file: Some(self.path(name)),
        }
    }
}

/// A packet as the sender of a message makes it.
fn sent(sender: &mut Protection, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    let (protocol, payload) = sender.seal(from, to, MESSAGE.to_vec()).unwrap();
    ipv6_packet(from, to, protocol, 64, &payload)
}

fn admit<'p>(receiver: &mut Protection, packet: &'p [u8]) -> Option<Admitted<'p>> {
    receiver.admit(&Ipv6::parse(packet).unwrap())
}

/// Has a message arrive.
fn arrives(sender: &mut Protection, receiver: &mut Protection, from: Ipv6Addr, to: Ipv6Addr) {
    let packet = sent(sender, from, to);
    assert_eq!(packet[6], next_header::ESP);
    let admitted = admit(receiver, &packet).expect("an authentic packet");
    assert_eq!(&*admitted.header, MESSAGE);
    assert_eq!(admitted.sender, Sender::Authentic);
}

#[test]
fn peers_with_keys_talk_and_nobody_else_does_in_their_name() {
    let files = Files::new();
    let (mut lma, mut mag) = (files.lma(), files.mag());
    for _ in 0..3 {
        arrives(&mut mag, &mut lma, MAG, LMA);
        arrives(&mut lma, &mut mag, LMA, MAG);
    }
    assert_eq!(*lma.counters(), ProtectionCounters::default());

    // In the clear, altered, once more, and for another association.
    let plain = ipv6_packet(MAG, LMA, next_header::MOBILITY, 64, MESSAGE);
    assert_eq!(admit(&mut lma, &plain), None);
    let packet = sent(&mut mag, MAG, LMA);
    let mut altered = packet.clone();
    altered[60] ^= 1;
    assert_eq!(admit(&mut lma, &altered), None);
    assert!(admit(&mut lma, &packet).is_some());
    assert_eq!(admit(&mut lma, &packet), None);
    let mut other = packet.clone();
    other[40] ^= 1;
    assert_eq!(admit(&mut lma, &other), None);
    let short = ipv6_packet(MAG, LMA, next_header::ESP, 64, &[1]);
    assert_eq!(admit(&mut lma, &short), None);
    // The same octets from another address: a key is one pair's.
    let esp = &sent(&mut mag, MAG, LMA)[40..];
    for from in [OPEN_MAG, STRANGER] {
        let packet = ipv6_packet(from, LMA, next_header::ESP, 64, esp);
        assert_eq!(admit(&mut lma, &packet), None);
    }
    let expected = ProtectionCounters {
        unprotected: 1,
        icv: 1,
        replayed: 1,
        unknown_sa: 3,
        malformed: 1,
        ..ProtectionCounters::default()
    };
    assert_eq!(*lma.counters(), expected);
}

#[test]
fn peers_without_keys_talk_in_the_clear() {
    let files = Files::new();
    let mut lma = files.lma();
    let plain = |from, message: &[u8]| ipv6_packet(from, LMA, next_header::MOBILITY, 64, message);
    let packet = plain(OPEN_MAG, MESSAGE);
    let admitted = admit(&mut lma, &packet).unwrap();
    let expected = (MESSAGE, Sender::Claimed);
    assert_eq!((&*admitted.header, admitted.sender), expected);
    // A stranger may ask to register, and gets a refusal.
    let packet = plain(STRANGER, &[59, 1, 5, 0]);
    assert_eq!(admit(&mut lma, &packet).unwrap().sender, Sender::Stranger);
    for other in [&[59, 1, 6, 0][..], &[59, 1]] {
        assert_eq!(admit(&mut lma, &plain(STRANGER, other)), None);
    }
    assert_eq!(lma.counters().unknown_peer, 2);
    for from in [OPEN_MAG, STRANGER] {
        let answer = lma.seal(LMA, from, MESSAGE.to_vec()).unwrap();
        assert_eq!(answer, (next_header::MOBILITY, MESSAGE.to_vec()));
    }
    let none = ProtectionState {
        sending: None,
        heard: None,
    };
    assert_eq!(lma.state(LMA, OPEN_MAG), none);
    lma.close().unwrap();
    // Nothing is noted where nothing is protected, nor where the start fails.
    let state = files.path("no-state");
    Protection::new(vec![], &state).unwrap().close().unwrap();
    Protection::new(vec![files.source("nothing", LMA, MAG)], &state).unwrap_err();
    assert!(!state.exists());
}

#[test]
fn authentic_packets_with_something_else_inside_are_not_messages() {
    let files = Files::new();
    let keys = KeyFile::load(&files.path("mag")).unwrap().outbound;
    let mut sender = OutboundSa::new(keys.spi, keys.key, 1, 0);
    sender.reserve(3);
    let mut lma = files.lma();
    for protocol in [next_header::UDP, next_header::NONE, next_header::MOBILITY] {
        let sealed = sender.seal(protocol, MESSAGE).unwrap();
        let packet = ipv6_packet(MAG, LMA, next_header::ESP, 64, &sealed);
        let admitted = admit(&mut lma, &packet);
        assert_eq!(admitted.is_some(), protocol == next_header::MOBILITY);
    }
    assert_eq!((lma.counters().inner, lma.counters().dummy), (1, 1));
}

#[test]
fn a_restart_repeats_no_number_and_takes_nothing_old() {
    let files = Files::new();
    let (mut lma, mut mag) = (files.lma(), files.mag());
    let old = sent(&mut mag, MAG, LMA);
    assert!(admit(&mut lma, &old).is_some());
    let last = sent(&mut mag, MAG, LMA);
    let number = |packet: &[u8]| u32::from_be_bytes(packet[44..48].try_into().unwrap());
    assert_eq!(number(&last), 2);

    // In order: the next one goes on, and the receiver remembers.
    mag.close().unwrap();
    lma.close().unwrap();
    let (mut lma, mut mag) = (files.lma(), files.mag());
    let next = sent(&mut mag, MAG, LMA);
    assert_eq!(number(&next), 3);
    assert_eq!(admit(&mut lma, &old), None);
    assert_eq!(lma.counters().replayed, 1);
    assert!(admit(&mut lma, &next).is_some());

    // Without a word: all that was reserved counts as used.
    drop(mag);
    let mut mag = files.mag();
    let next = sent(&mut mag, MAG, LMA);
    assert_eq!(number(&next), 2 + BLOCK + 1);
    assert!(admit(&mut lma, &next).is_some());

    // With nothing left of the notes, numbers repeat but not IVs: the start is part of them.
    drop(mag);
    std::fs::remove_dir_all(files.path("mag-state")).unwrap();
    let mut mag = files.mag();
    mag.epoch += 1;
    let current = mag
        .pairs
        .get_mut(&Pair {
            own: MAG,
            peer: LMA,
        })
        .unwrap();
    *current = None;
    mag.reload().unwrap();
    let again = sent(&mut mag, MAG, LMA);
    assert_ne!(again[48..56], old[48..56]);
}

#[test]
fn numbers_are_noted_before_they_are_used() {
    let files = Files::new();
    let mut mag = files.mag();
    let noted = || {
        let text = std::fs::read_to_string(files.path("mag-state/sequence-numbers")).unwrap();
        let line = text.lines().find(|line| line.starts_with("out")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()
    };
    for n in 1..=2 * BLOCK {
        sent(&mut mag, MAG, LMA);
        if n % 1000 == 0 {
            assert!(noted() >= n, "{n}");
        }
    }
    assert!(noted() <= 3 * BLOCK);
    // A disk that refuses ends the sending before a number is used that is not noted.
    let noted = noted();
    std::fs::remove_dir_all(files.path("mag-state")).unwrap();
    let sealed = |mag: &mut Protection| mag.seal(MAG, LMA, MESSAGE.to_vec());
    let possible = (0..3 * BLOCK)
        .take_while(|_| sealed(&mut mag).is_ok())
        .count();
    assert_eq!(possible, (noted - 2 * BLOCK) as usize);
    assert_eq!(sealed(&mut mag), Err(SealError::NotReserved));
    assert_eq!(mag.counters().not_sealed, 2);
    // And it goes on as soon as there is a disk again.
    std::fs::create_dir(files.path("mag-state")).unwrap();
    assert!(sealed(&mut mag).is_ok());
}

#[test]
fn keys_are_changed_without_losing_a_message() {
    let files = Files::new();
    let (mut lma, mut mag) = (files.lma(), files.mag());
    let talk = |lma: &mut Protection, mag: &mut Protection| {
        arrives(mag, lma, MAG, LMA);
        arrives(lma, mag, LMA, MAG);
    };
    talk(&mut lma, &mut mag);
    let before = lma.state(LMA, MAG);
    // A message under way meets the change.
    let late = sent(&mut mag, MAG, LMA);

    let old = ["lma", "mag"].map(|name| files.text(name));
    files.generate("-new", true);
    for name in ["lma", "mag"] {
        files.edit(name, |text| text + &files.text(&format!("{name}-new")));
    }
    mag.reload().unwrap();
    talk(&mut lma, &mut mag);
    lma.reload().unwrap();
    talk(&mut lma, &mut mag);
    assert_eq!(lma.state(LMA, MAG), before);

    for (name, end) in [("lma", &mut lma), ("mag", &mut mag)] {
        files.edit(name, |text| {
            text.replace("= true", "= X")
                .replace("= false", "= true")
                .replace("= X", "= false")
        });
        end.reload().unwrap();
    }
    talk(&mut lma, &mut mag);
    assert_ne!(lma.state(LMA, MAG), before);
    assert_ne!(lma.state(LMA, MAG).heard, before.heard);
    assert!(admit(&mut lma, &late).is_some());
    assert_eq!(admit(&mut lma, &late), None);

    for (name, old) in ["lma", "mag"].iter().zip(old) {
        files.edit(name, |text| {
            text.strip_prefix(&old.replace("= true", "= false"))
                .unwrap()
                .to_owned()
        });
    }
    mag.reload().unwrap();
    talk(&mut lma, &mut mag);
    lma.reload().unwrap();
    talk(&mut lma, &mut mag);
    let counters = ProtectionCounters {
        replayed: 1,
        ..ProtectionCounters::default()
    };
    assert_eq!(*lma.counters(), counters);
    assert_eq!(*mag.counters(), ProtectionCounters::default());
    // What the old keys sealed is of no use any more.
    assert_eq!(admit(&mut lma, &late), None);
    assert_eq!(lma.counters().unknown_sa, 1);
}

#[test]
fn protection_ends_whole_and_comes_back_with_new_numbers() {
    let files = Files::new();
    let (mut lma, mut mag) = (files.lma(), files.mag());
    arrives(&mut mag, &mut lma, MAG, LMA);
    arrives(&mut lma, &mut mag, LMA, MAG);
    let number = |packet: &[u8]| u32::from_be_bytes(packet[44..48].try_into().unwrap());
    let last = number(&sent(&mut lma, LMA, MAG));
    let (state, esp) = (files.path("lma-state"), sent(&mut mag, MAG, LMA));

    let open = Source {
        own: LMA,
        peer: MAG,
        file: None,
    };
    let keys = lma.read(std::slice::from_ref(&open)).unwrap();
    lma.replace_all(vec![open], keys, &state).unwrap();
    let none = ProtectionState {
        sending: None,
        heard: None,
    };
    assert_eq!(lma.state(LMA, MAG), none);
    let plain = sent(&mut lma, LMA, MAG);
    assert_eq!(plain[6], next_header::MOBILITY);
    let plain = ipv6_packet(MAG, LMA, next_header::MOBILITY, 64, MESSAGE);
    assert_eq!(admit(&mut lma, &plain).unwrap().sender, Sender::Claimed);
    assert_eq!(admit(&mut lma, &esp), None);

    // The same keys again: no number is used twice, in this process or in the next one.
    let source = files.source("lma", LMA, MAG);
    let keys = lma.read(std::slice::from_ref(&source)).unwrap();
    lma.replace_all(vec![source], keys, &state).unwrap();
    arrives(&mut mag, &mut lma, MAG, LMA);
    assert_eq!(admit(&mut lma, &plain), None);
    let again = sent(&mut lma, LMA, MAG);
    assert!(number(&again) > last);
    assert!(admit(&mut mag, &again).is_some());
    drop(lma);
    let mut lma = files.lma();
    assert!(number(&sent(&mut lma, LMA, MAG)) > number(&again));
}

#[test]
fn a_faulty_reload_changes_nothing() {
    let files = Files::new();
    let (mut lma, mut mag) = (files.lma(), files.mag());
    arrives(&mut mag, &mut lma, MAG, LMA);
    let old = sent(&mut mag, MAG, LMA);
    assert!(admit(&mut lma, &old).is_some());
    let good = files.text("lma");

    files.edit("lma", |text| text + "[[sa]]\n");
    let error = lma.reload().unwrap_err().to_string();
    assert!(error.contains("`direction` is missing"), "{error}");
    // The index of the old key for a new one: to the peer, they would be the same.
    files.generate("-new", false);
    let key = |text: &str| {
        let line = text.lines().rfind(|line| line.starts_with("key")).unwrap();
        line.to_owned()
    };
    let stolen = good.replace(&key(&good), &key(&files.text("lma-new")));
    files.edit("lma", |_| stolen.clone());
    let error = lma.reload().unwrap_err().to_string();
    assert!(error.contains("has another key than before"), "{error}");
    arrives(&mut mag, &mut lma, MAG, LMA);
    arrives(&mut lma, &mut mag, LMA, MAG);

    // Reading the same again keeps numbers and windows.
    files.edit("lma", |_| good.clone());
    lma.reload().unwrap();
    assert_eq!(admit(&mut lma, &old), None);
    assert_eq!(lma.counters().replayed, 1);
    arrives(&mut lma, &mut mag, LMA, MAG);
}
