use std::process::Command;

use flow::{AccessTechnology, HandoffIndicator, Lmaa, MnId, MnLinkLayerId, ProxyCoa};
use pmip_proto::{LmaConfig, MagPeer, PrefixPool};
use pmip_wire::{BindingLifetime, HnpOption, Message, Pbu, PbuFlags};

use super::*;
use crate::recording::{list, replay};
use crate::sink::sink;

/// Plays both parts: with this set it is the process that panics, and leaves its recording here.
const PANICS: &str = "FLOWMOB_TEST_PANICS_IN";

fn addresses() -> (Ipv6Addr, Ipv6Addr) {
    ["2001:db8::1", "2001:db8::a"]
        .map(|a| a.parse().unwrap())
        .into()
}

fn lma() -> Lma {
    let (lmaa, coa) = addresses();
    let range = "2001:db8:100::".parse().unwrap();
    let range = flow::Hnp::new(range, 48).unwrap();
    let pool = PrefixPool::new(range, 64, Duration::ZERO).unwrap();
    let peers = vec![MagPeer::new(ProxyCoa(coa))];
    Lma::new(LmaConfig::new(Lmaa(lmaa), peers, vec![pool]), 7)
}

fn at(seconds: u64) -> Now {
    let time = Duration::from_secs(seconds);
    Now {
        monotonic: time,
        wall: time,
    }
}

/// Has a mobile registered, and fetches what comes of it.
fn register(lma: &mut RecordedLma, number: u8) {
    let (lmaa, coa) = addresses();
    let pbu = Pbu {
        sequence: u16::from(number),
        flags: PbuFlags::REQUEST,
        lifetime: BindingLifetime::from_units(75),
        mn_id: Some(
            MnId::new(&format!("mn{number}@example.net"))
                .unwrap()
                .into(),
        ),
        hnps: vec![HnpOption::ALL_ZERO],
        handoff: Some(HandoffIndicator::NEW_INTERFACE),
        access: Some(AccessTechnology(4)),
        ll_id: Some(MnLinkLayerId::new(&[2, 0, 0, 0, 1, number]).unwrap()),
        ..Pbu::default()
    };
    lma.handle_message(at(number.into()), coa, lmaa, &Message::from(pbu));
    while lma.poll_command().is_some() {}
    while lma.poll_event().is_some() {}
}

#[test]
fn a_recorder_that_does_not_keep_up_ends_and_says_so() {
    let (to, notes) = unbounded();
    let mut tape = FlightTape {
        to,
        ended: Arc::default(),
        taking: Arc::default(),
        most: 8,
    };
    let (_, coa) = addresses();
    let error = Message::decode(&[59, 0], coa, coa).unwrap_err();
    for _ in 0..100 {
        tape.rejected(at(4).wall, coa, &error, &[0; 2 * MOST_OCTETS]);
    }
    let notes: Vec<Note> = notes.try_iter().collect();
    let (last, kept) = notes.split_last().unwrap();
    assert!(
        matches!(last, Note::Ended(why) if why.contains("did not keep up")),
        "{last:?}"
    );
    assert_eq!(kept.len(), 9);
    let is_short =
        |note: &Note| matches!(note, Note::Rejected(.., octets) if octets.len() == MOST_OCTETS);
    assert!(kept.iter().all(is_short));
}

fn recorded(turns: usize) -> (RecordedLma, FlightTape) {
    let lma = lma();
    let tape = start("test", (Some(&lma), None), turns, None).unwrap();
    (Recorded::new(lma, Some(tape.clone())), tape)
}

fn taken(tape: &FlightTape) -> FlightRecording {
    let (to, mut from) = sink(1);
    tape.take(to);
    FlightRecording::read(&from.blocking_recv().unwrap()).unwrap()
}

#[test]
fn the_last_turns_are_kept_and_decided_the_same() {
    let (mut lma, mut tape) = recorded(3);
    for number in 1..=9 {
        register(&mut lma, number);
    }
    let (_, coa) = addresses();
    let error = Message::decode(&[59, 0], coa, coa).unwrap_err();
    tape.rejected(at(4).wall, coa, &error, &[59, 0]);
    let recording = taken(&tape);
    let kept = recording.lma.as_ref().unwrap();
    assert_eq!((kept.turns.len(), kept.forgotten), (3, 6));
    let (text, same) = replay(&recording);
    assert!(same, "{text}");
    assert!(
        text.contains("lma: 3 turns from 1970-01-01T00:00:07.000000Z to 1970-01-01T00:00:09.000000Z, 6 before them forgotten: decided the same"),
        "{text}"
    );
    let lines = list(&recording, Some("mn8@"));
    assert!(
        lines.contains("00:00:08.000000Z lma in   Message {"),
        "{lines}"
    );
    assert!(
        lines.contains("lma out  Send {") && !lines.contains("mn7@"),
        "{lines}"
    );
    let lines = list(&recording, None);
    assert!(lines.starts_with("1970-01-01T00:00:04.000000Z     -    rejected, from 2001:db8::a: "));
    assert!(lines.lines().next().unwrap().ends_with(": 3b00"), "{lines}");
}

#[test]
fn what_is_decided_otherwise_is_said() {
    let (mut lma, tape) = recorded(9);
    for number in 1..=3 {
        register(&mut lma, number);
    }
    let mut recording = taken(&tape);
    let turn = &mut recording.lma.as_mut().unwrap().turns[1];
    let accepted = turn
        .outputs
        .iter_mut()
        .find(|o| o.contains("BindingStatus(0)"));
    let accepted = accepted.unwrap();
    *accepted = accepted.replace("BindingStatus(0)", "BindingStatus(130)");
    let (text, same) = replay(&recording);
    assert!(
        !same && text.contains("forgotten: not decided the same\n"),
        "{text}"
    );
    assert!(text.contains("00:00:02.000000Z in   Message {") && text.contains("mn2@example.net"));
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("  then: ").contains("BindingStatus(130)"), "{text}");
    assert!(line("  now:  ").contains("BindingStatus(0)"), "{text}");
    recording.lma.as_mut().unwrap().turns[1].outputs.clear();
    assert!(replay(&recording).0.contains("\n  then: nothing\n"));
}

#[test]
fn files_that_are_none_are_refused() {
    let (_lma, tape) = recorded(1);
    let octets = taken(&tape).write().unwrap();
    let why = |octets: &[u8]| format!("{:#}", FlightRecording::read(octets).unwrap_err());
    assert!(why(b"").contains("no recording"));
    assert!(why(b"flowmob recording 9.9.9\n").contains("made by flowmob 9.9.9"));
    assert!(why(&octets[..octets.len() - 1]).contains("damaged"));
}

#[test]
fn a_panic_leaves_the_recording_behind() {
    if let Some(directory) = std::env::var_os(PANICS) {
        let (mut lma, tape) = recorded(9);
        tape.save_on_panic("test", Path::new(&directory));
        register(&mut lma, 1);
        // In the middle of a turn.
        let (lmaa, coa) = addresses();
        let beat = pmip_wire::Heartbeat {
            kind: pmip_wire::HeartbeatKind::Request,
            sequence: 1,
            restart_counter: None,
            others: Vec::new(),
        };
        lma.handle_message(at(5), coa, lmaa, &beat.into());
        panic!("something has gone wrong");
    }
    let directory = tempfile::tempdir().unwrap();
    let this = "appliance::recorder::tests::a_panic_leaves_the_recording_behind";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", this, "--nocapture"])
        .env(PANICS, directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("something has gone wrong"),
        "{said}"
    );
    let mut files = std::fs::read_dir(directory.path()).unwrap();
    let file = files.next().unwrap().unwrap().path();
    assert!(
        said.contains(&format!("flight recording in {}", file.display())),
        "{said}"
    );
    let recording = FlightRecording::read(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(recording.why, "by a panic");
    assert_eq!(recording.lma.as_ref().unwrap().turns.len(), 2);
    let (text, same) = replay(&recording);
    assert!(same, "{text}");
}
