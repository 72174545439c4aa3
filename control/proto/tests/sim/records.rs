//! What is written down: how it is laid out, and what becomes of records that do not go together.

use std::fmt::Write as _;

use flow::HandoffIndicator;
use pmip_proto::lma::LmaRecord;
use pmip_proto::{Lma, Restored};

use crate::world::{Records, World, bid, lma_config, mn, udp};

const Y: u16 = 5004;

/// A mobile at both MAGs, with a flow that was moved.
fn settled(n: u64) -> World {
    let mut world = World::plain();
    for interface in 0..2 {
        let handoff = HandoffIndicator::NEW_INTERFACE;
        world.attach(&mn(n), interface, interface.into(), handoff);
        world.run_ms(300);
    }
    let hnp = world.lma.bindings().nth(1).map(|(_, bce)| bce.hnps[0]);
    let fid = world.add_flow(&mn(n), udp(hnp, Y), bid(2)).unwrap();
    world.run_ms(300);
    world.move_flow(&mn(n), fid, bid(1)).unwrap();
    world.run_ms(300);
    world
}

fn written(records: &Records) -> String {
    let hex = |octets: &[u8]| {
        octets.iter().fold(String::new(), |mut text, octet| {
            write!(text, "{octet:02x}").unwrap();
            text
        })
    };
    let lines = records.iter();
    let lines = lines.map(|(key, value)| format!("{} {}\n", hex(key), hex(value)));
    lines.collect()
}

/// An LMA that is upgraded reads what its former self has written. Whoever changes a type that is in records sees it here: the
/// number of the layout has to change with it. `FLOWMOB_BLESS=1` writes the file anew.
#[test]
fn records_are_laid_out_as_ever() {
    let world = settled(1);
    let [one, two] = &world.mag_records[..] else {
        panic!("two MAGs")
    };
    let all = [&world.lma_records, one, two].map(written).join("\n");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/records.layout1");
    if std::env::var_os("FLOWMOB_BLESS").is_some() {
        std::fs::write(path, &all).unwrap();
    }
    let before = std::fs::read_to_string(path).unwrap();
    assert!(all == before, "laid out otherwise than in {path}:\n{all}");
}

/// Of the last kind, and one octet besides the number of the layout. It is written again when it changes only.
#[test]
fn whether_an_lma_drains_is_laid_out_as_ever() {
    let mut world = settled(1);
    let before = world.lma_records.clone();
    let now = world.now();
    for (on, octets) in [(true, [1, 1]), (false, [1, 0])] {
        assert_eq!(world.lma.set_draining(now, on), 2);
        world.drain();
        let mut expected = before.clone();
        expected.insert(vec![7], octets.to_vec());
        assert_eq!(world.lma_records, expected);
        let (lma, report) = restored(&world, &world.lma_records);
        assert_eq!((lma.is_draining(), report.spoilt.len()), (on, 0));
        world.lma.set_draining(now, on);
        assert_eq!(world.lma.poll_record(), None);
    }
}

fn restored(world: &World, records: &Records) -> (Lma, Restored) {
    let records = records.iter();
    let records = records.map(|(key, value)| LmaRecord::read(key, value));
    Lma::restore(lma_config(), 9, world.now(), records)
}

fn spoilt(restored: &Restored) -> Vec<&str> {
    restored
        .spoilt
        .iter()
        .map(|spoilt| spoilt.why.as_str())
        .collect()
}

/// Keys of mobiles are the last ones, unless the LMA drains: their kind, and their number.
fn of_mobile(records: &Records) -> (Vec<u8>, Vec<u8>) {
    let (key, value) = records.last_key_value().unwrap();
    assert_eq!(key.len(), 5);
    (key.clone(), value.clone())
}

#[test]
fn of_two_mobiles_of_one_name_the_first_goes_on() {
    let world = settled(1);
    let mut records = world.lma_records.clone();
    let (mut key, value) = of_mobile(&records);
    key[4] += 7;
    records.insert(key, value);
    let (lma, report) = restored(&world, &records);
    assert_eq!(spoilt(&report), ["there are two of it"]);
    assert_eq!((report.mobiles, report.sessions), (1, 2));
    assert_eq!(lma.bindings().count(), 2);
}

#[test]
fn a_prefix_that_two_mobiles_had_goes_to_the_first() {
    let (world, other) = (settled(1), settled(2));
    let mut records = world.lma_records.clone();
    let (mut key, value) = of_mobile(&other.lma_records);
    key[4] += 7;
    records.insert(key, value);
    let (mut lma, report) = restored(&world, &records);
    let anothers = "a prefix of it is another mobile's";
    assert_eq!(spoilt(&report), [anothers, anothers]);
    assert_eq!(report.sessions, 2);
    assert!(lma.bindings().all(|(mn_id, _)| *mn_id == mn(1)));
    // That it has no sessions any more has to be written down.
    let told: Vec<_> = std::iter::from_fn(|| lma.poll_record()).collect();
    assert!(told.iter().any(|record| record.key[4..] == [7]), "{told:?}");
}

#[test]
fn another_layout_is_not_taken_for_ours() {
    let world = settled(1);
    let mut records = world.lma_records.clone();
    let (key, mut value) = of_mobile(&records);
    value[0] = 200;
    records.insert(key, value);
    let (_, report) = restored(&world, &records);
    assert_eq!((report.unreadable, report.sessions), (1, 0));
    assert!(
        spoilt(&report)[0].contains("layout is number 200"),
        "{report:?}"
    );
}
