//! What is lost, late or gone at the worst moment of a move.

use flow::{HandoffIndicator, Hnp};
use pmip_proto::{FlowRequest, LmaEvent, MoveFailure};
use pmip_wire::{Fmi, Message};

use crate::world::{COAS, LMAA, World, bid, fid, mn, udp};

const Y: u16 = 5004;

/// Y on BID 2, about to be moved to BID 1.
fn ready() -> (World, Hnp) {
    let mut world = World::plain();
    for interface in 0..2 {
        let mag = usize::from(interface);
        world.attach(&mn(1), interface, mag, HandoffIndicator::NEW_INTERFACE);
        world.run_ms(100);
    }
    let pref2 = world.lma.binding(&mn(1)).unwrap().sessions[1].hnps[0];
    assert_eq!(
        world.add_flow(&mn(1), udp(Some(pref2), Y), bid(2)),
        Some(fid(1))
    );
    world.run_ms(100);
    world.log.clear();
    (world, pref2)
}

fn fmis(world: &World) -> Vec<&Fmi> {
    world
        .log
        .iter()
        .filter_map(|s| match &s.message {
            Message::Fmi(fmi) if s.to == COAS[0].0 => Some(fmi),
            _ => None,
        })
        .collect()
}

fn moves(world: &World) -> usize {
    let moved = |e: &&LmaEvent| matches!(e, LmaEvent::FlowMoved { .. });
    world.lma_events.iter().filter(moved).count()
}

fn failure(world: &World) -> Option<MoveFailure> {
    world.lma_events.iter().find_map(|e| match e {
        LmaEvent::FlowMoveFailed { reason, .. } => Some(*reason),
        _ => None,
    })
}

/// Loses the first `n` messages that fit.
fn lose_first(world: &mut World, mut n: u32, fits: fn(&Message) -> bool) {
    world.lose = Box::new(move |sent| {
        let lost = n > 0 && fits(&sent.message);
        n -= u32::from(lost);
        lost
    });
}

#[test]
fn a_lost_fmi_is_sent_again() {
    let (mut world, pref2) = ready();
    lose_first(&mut world, 1, |m| matches!(m, Message::Fmi(_)));
    world.move_flow(&mn(1), fid(1), bid(1)).unwrap();
    world.run_ms(2900);
    assert_eq!((fmis(&world).len(), world.mag_of(pref2, Y)), (1, Some(1)));
    world.run_ms(200);
    let copies = fmis(&world);
    assert_eq!(copies.len(), 2);
    assert_eq!(copies[0], copies[1], "the same number and content");
    assert_eq!((world.mag_of(pref2, Y), moves(&world)), (Some(0), 1));
    assert_eq!(world.mags[0].counters().fmi_copies, 0);
}

#[test]
fn a_lost_fma_is_answered_again() {
    let (mut world, pref2) = ready();
    lose_first(&mut world, 1, |m| matches!(m, Message::Fma(_)));
    world.move_flow(&mn(1), fid(1), bid(1)).unwrap();
    world.run_ms(3100);
    assert_eq!((world.mag_of(pref2, Y), moves(&world)), (Some(0), 1));
    assert_eq!(world.mags[0].counters().fmi_copies, 1);
    let fmas: Vec<_> = world
        .log
        .iter()
        .filter(|s| matches!(s.message, Message::Fma(_)))
        .collect();
    assert_eq!(fmas[0].message, fmas[1].message, "the same answer");
}

#[test]
fn a_silent_mag_gets_no_flow() {
    let (mut world, pref2) = ready();
    world.lose = Box::new(|s| matches!(s.message, Message::Fma(_)) || s.to == COAS[0].0);
    world.move_flow(&mn(1), fid(1), bid(1)).unwrap();
    world.run_ms(12_100);
    let fmi = fmis(&world)[0].clone();
    assert_eq!(
        fmis(&world)
            .iter()
            .filter(|f| f.sequence == fmi.sequence)
            .count(),
        4
    );
    assert_eq!(failure(&world), Some(MoveFailure::NoAnswer));
    assert_eq!((world.mag_of(pref2, Y), moves(&world)), (Some(1), 0));
    // Perhaps it has the route: it is told to drop it until it says so.
    world.lose = Box::new(|_| false);
    world.run_ms(60_000);
    assert!(fmis(&world).last().unwrap().is_deletion());
    world.check_agreement();
}

#[test]
fn a_late_answer_means_nothing() {
    let (mut world, pref2) = ready();
    // The MAG hears everything and is not heard.
    world.lose = Box::new(|s| matches!(s.message, Message::Fma(_)));
    world.move_flow(&mn(1), fid(1), bid(1)).unwrap();
    world.run_ms(12_100);
    assert_eq!(failure(&world), Some(MoveFailure::NoAnswer));
    let late = world
        .log
        .iter()
        .find(|s| matches!(s.message, Message::Fma(_)))
        .unwrap()
        .message
        .clone();
    let now = world.now();
    world.lma.handle_message(now, COAS[0].0, LMAA.0, &late);
    world.drain();
    assert_eq!((world.mag_of(pref2, Y), moves(&world)), (Some(1), 0));
    assert_eq!(world.lma.peers().next().unwrap().counters.stray_fmas, 1);
    world.lose = Box::new(|_| false);
    world.run_ms(60_000);
    world.check_agreement();
}

/// Y has been at MAG1 and left it again; and the FMI that brought it there.
fn there_and_back() -> (World, Hnp, Message) {
    let (mut world, pref2) = ready();
    world.move_flow(&mn(1), fid(1), bid(1)).unwrap();
    world.run_ms(2000);
    let add = Message::from(fmis(&world)[0].clone());
    world.move_flow(&mn(1), fid(1), bid(2)).unwrap();
    world.run_ms(2000);
    (world, pref2, add)
}

/// A copy of the FMI comes to MAG1 only now, and changes nothing.
fn check_late_copy(world: &mut World, pref2: Hnp, add: &Message) {
    assert_eq!(world.mags[0].routes().count(), 1);
    let now = world.now();
    world.mags[0].handle_message(now, LMAA.0, COAS[0].0, add);
    world.drain();
    assert_eq!(world.mags[0].routes().count(), 1);
    assert_eq!(world.mag_of(pref2, Y), Some(1));
}

#[test]
fn an_overtaken_fmi_is_not_carried_out() {
    let (mut world, pref2, add) = there_and_back();
    check_late_copy(&mut world, pref2, &add);
    assert!(matches!(&world.log.last().unwrap().message, Message::Fma(f) if f.status.0 == 130));
}

/// A MAG that has restarted does not know the numbers it has seen. So before a copy can reach it, it has
/// been sent a later number: about a session that goes on, and about one that begins.
#[test]
fn an_overtaken_fmi_is_not_carried_out_by_a_mag_that_restarted() {
    for begins in [false, true] {
        let (mut world, pref2, add) = there_and_back();
        if begins {
            world.detach(&mn(1), 0);
            world.run_ms(15_000);
            world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
        }
        world.restart(0);
        world.run_ms(100);
        check_late_copy(&mut world, pref2, &add);
        world.run_ms(2000);
        world.check_agreement();
    }
}

#[test]
fn the_target_access_goes_away_during_the_move() {
    // The mobile is gone from MAG1 when the FMI comes: 129, or the de-registration is first.
    let (mut world, pref2) = ready();
    lose_first(&mut world, 1, |m| matches!(m, Message::Pbu(_)));
    world.detach(&mn(1), 0);
    world.move_flow(&mn(1), fid(1), bid(1)).unwrap();
    world.run_ms(500);
    assert_eq!(failure(&world), Some(MoveFailure::Refused(129)));
    world.run_ms(20_000);
    assert_eq!(world.mag_of(pref2, Y), Some(1));
    world.check_agreement();

    // The FMA is first.
    let (mut world, pref2) = ready();
    world.move_flow(&mn(1), fid(1), bid(1)).unwrap();
    world.run_ms(50);
    assert_eq!(world.mag_of(pref2, Y), Some(0));
    world.detach(&mn(1), 0);
    world.run_ms(100);
    assert_eq!(
        world.mag_of(pref2, Y),
        Some(1),
        "falls back to the session that owns the prefix"
    );
    world.run_ms(20_000);
    assert_eq!(world.mags[0].bul().count(), 0);
    world.check_agreement();
}

#[test]
fn a_restarted_mag_gets_its_flows_back() {
    let (mut world, pref2) = ready();
    world.move_flow(&mn(1), fid(1), bid(1)).unwrap();
    world.run_ms(2000);
    assert_eq!(world.mag_of(pref2, Y), Some(0));
    world.lose = Box::new(|s| matches!(s.message, Message::Fmi(_)));
    world.restart(0);
    world.run_ms(100);
    assert_eq!(world.mag_of(pref2, Y), Some(1), "MAG1 knows nothing of Y");
    world.lose = Box::new(|_| false);
    world.run_ms(5000);
    assert_eq!(world.mag_of(pref2, Y), Some(0));
    world.check_agreement();
}

#[test]
fn a_mag_without_flow_mobility_is_left_alone() {
    let (mut world, pref2) = ready();
    world.lose = Box::new(|s| matches!(s.message, Message::Fmi(_)));
    world.move_flow(&mn(1), fid(1), bid(1)).unwrap();
    let now = world.now();
    let error = pmip_wire::BindingError::unrecognized().into();
    world.lma.handle_message(now, COAS[0].0, LMAA.0, &error);
    world.drain();
    assert_eq!(failure(&world), Some(MoveFailure::NotUnderstood));
    assert_eq!(world.mag_of(pref2, Y), Some(1));
    assert_eq!(world.move_flow(&mn(1), fid(1), bid(1)), None);
    world.lose = Box::new(|_| false);
    world.lma.allow_signalling(now, COAS[0]);
    world.move_flow(&mn(1), fid(1), bid(1)).unwrap();
    world.run_ms(2000);
    assert_eq!(world.mag_of(pref2, Y), Some(0));
    world.check_agreement();
}

#[test]
fn a_whole_session_takes_its_moved_flows_along() {
    let (mut world, pref2) = ready();
    // The first interface, with Y on it, leaves MAG1 for MAG2's neighbour: here MAG2 itself.
    world.move_flow(&mn(1), fid(1), bid(1)).unwrap();
    world.run_ms(2000);
    world.detach(&mn(1), 0);
    world.attach(&mn(1), 0, 1, HandoffIndicator::BETWEEN_MAGS);
    world.run_ms(3000);
    assert_eq!(world.mag_of(pref2, Y), Some(1));
    assert_eq!(
        world
            .lma
            .bindings()
            .filter(|(_, b)| b.proxy_coa == COAS[1])
            .count(),
        2
    );
    world.run_ms(20_000);
    world.check_agreement();
}

/// To a MAG of the draft a flow is its selector. One that is defined again, before the MAG has heard that the last one
/// is over, is served as that was, and all the while.
#[test]
fn a_flow_that_is_defined_again_is_not_interrupted() {
    let (mut world, pref2) = ready();
    world.move_flow(&mn(1), fid(1), bid(1)).unwrap();
    world.run_ms(100);
    assert_eq!(world.mag_of(pref2, Y), Some(0));
    // Something else is under way, so that neither end nor beginning is told.
    world.lose = Box::new(|sent| matches!(sent.message, Message::Fmi(_)));
    world
        .add_flow(&mn(1), udp(Some(pref2), Y + 1), bid(1))
        .unwrap();
    world.delete_flow(&mn(1), fid(1));
    let now = world.now();
    let again = FlowRequest {
        mn_id: mn(1),
        fid: Some(fid(7)),
        priority: None,
        selector: udp(Some(pref2), Y),
        bid: bid(1),
    };
    world.lma.add_flow(now, again).unwrap();
    world.drain();
    let sources = |world: &World| world.lma_tables.sources(pref2).len();
    assert_eq!(sources(&world), 2);
    world.lose = Box::new(|sent| matches!(sent.message, Message::Fma(_)));
    let told = fmis(&world).len();
    // The other one is given up; then it is this one's turn.
    while fmis(&world).last().unwrap().selectors != [udp(Some(pref2), Y).into()] {
        world.run_ms(100);
    }
    assert!(fmis(&world).len() > told);
    assert_eq!((world.mag_of(pref2, Y), sources(&world)), (Some(0), 2));
    world.kill_lma();
    world.lose = Box::new(|_| false);
    world.run_ms(100_000);
    assert_eq!(world.mag_of(pref2, Y), Some(0));
    world.check_agreement();
}
