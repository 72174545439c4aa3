//! Bindings that the LMA ends, with both ends and a network between them.

use flow::HandoffIndicator;
use pmip_proto::lma::{BceState, RevocationError, RevocationScope};
use pmip_proto::mag::BuleState;
use pmip_proto::{DeletionReason, LmaEvent, MagEvent, RequestOutcome};
use pmip_wire::{Message, Pbu, RevocationFlags, RevocationStatus, RevocationTrigger, Timestamp};

use crate::liveness::{lma, mags, mixed};
use crate::seeds::for_seeds;
use crate::world::{COAS, LMAA, Sent, Weather, World, attachment, bid, mn, udp};

const Y: u16 = 5004;

/// Mobiles with interface 0 at the first MAG and 1 at the second.
fn attached(mobiles: u64) -> World {
    attached_in(World::new(1, lma(), mags()), mobiles)
}

fn attached_in(mut world: World, mobiles: u64) -> World {
    for n in 1..=mobiles {
        for interface in 0..2 {
            let handoff = HandoffIndicator::NEW_INTERFACE;
            world.attach(&mn(n), interface, interface.into(), handoff);
            world.run_ms(100);
        }
    }
    world.log.clear();
    world
}

fn revoke(world: &mut World, scope: &RevocationScope) -> Result<usize, RevocationError> {
    let now = world.now();
    let revoked = world.lma.revoke(now, scope);
    world.drain();
    revoked
}

fn bris(world: &World) -> Vec<&Sent> {
    let sent = world.log.iter();
    sent.filter(|s| matches!(s.message, Message::Bri(_)))
        .collect()
}

fn ended(world: &World) -> Vec<RequestOutcome> {
    let outcome = |event: &LmaEvent| match event {
        LmaEvent::RevocationEnded { outcome, .. } => Some(*outcome),
        _ => None,
    };
    world.lma_events.iter().filter_map(outcome).collect()
}

/// The states of all interfaces at a MAG.
fn states(world: &World, mag: usize) -> Vec<BuleState> {
    world.mags[mag].bul().map(|bule| bule.state).collect()
}

fn success() -> RequestOutcome {
    RequestOutcome::Answered(RevocationStatus::SUCCESS.0)
}

#[test]
fn one_session_ends_and_its_flows_go_to_the_other() {
    let mut world = attached(1);
    let hnps: Vec<_> = world.lma.bindings().map(|(_, b)| b.hnps[0]).collect();
    let flow = world
        .add_flow(&mn(1), udp(Some(hnps[1]), Y), bid(2))
        .unwrap();
    world.run_ms(100);
    world.move_flow(&mn(1), flow, bid(1)).unwrap();
    world.run_ms(100);
    assert_eq!(world.mag_of(hnps[1], Y), Some(0));

    let scope = RevocationScope::Session(mn(1), bid(1));
    assert_eq!(revoke(&mut world, &scope), Ok(1));
    // At once, whatever becomes of the message.
    assert_eq!(world.mag_of(hnps[1], Y), Some(1));
    assert_eq!(
        world.lma.bindings().next().unwrap().1.state,
        BceState::Revoking
    );
    assert_eq!(revoke(&mut world, &scope), Err(RevocationError::NoBinding));
    world.run_ms(100);
    assert_eq!(ended(&world), [success()]);
    let deleted = LmaEvent::BindingDeleted {
        mn_id: mn(1),
        bid: bid(1),
        reason: DeletionReason::Revoked,
    };
    assert!(world.lma_events.contains(&deleted));
    assert_eq!(
        (states(&world, 0), states(&world, 1)),
        (vec![BuleState::Revoked], vec![BuleState::Active])
    );
    assert!(world.mag_tables[0].bindings.is_empty());
    let revoked = MagEvent::Revoked {
        mn_id: mn(1),
        trigger: RevocationTrigger::ADMINISTRATIVE.0,
    };
    assert!(world.mag_events.contains(&revoked));

    // The mobile is not registered again for what it does, nor for the time that passes...
    let now = world.now();
    let place = world.mags[0].bul().next().unwrap().attachment.clone();
    assert!(world.mags[0].handle_router_solicitation(now, place.port, place.mac));
    assert!(world.mags[0].is_revoked(place.port, place.mac));
    world.drain();
    world.run_ms(400_000);
    assert_eq!(states(&world, 0), [BuleState::Revoked]);
    // ... but when it attaches anew; and then its flow is back.
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(500);
    assert_eq!(world.mag_of(hnps[1], Y), Some(0));
    world.check_agreement();
}

#[test]
fn the_lma_can_have_a_revoked_mobile_registered_again() {
    let mut world = attached(1);
    let scope = RevocationScope::MobileAt(mn(1), COAS[0]);
    assert_eq!(revoke(&mut world, &scope), Ok(1));
    world.run_ms(100);
    let now = world.now();
    assert_eq!(
        world.lma.reregister(now, &mn(1), None, Some(COAS[0])),
        Ok(1)
    );
    world.drain();
    world.run_ms(100);
    assert_eq!(states(&world, 0), [BuleState::Active]);
    world.check_agreement();
}

#[test]
fn a_lost_indication_is_sent_once_more_and_then_the_binding_ends_anyway() {
    let mut world = attached(1);
    world.lose = Box::new(|sent| matches!(sent.message, Message::Bri(_)));
    let start = world.clock;
    let scope = RevocationScope::Mobile(mn(1));
    assert_eq!(revoke(&mut world, &scope), Ok(2));
    world.run_ms(2999);
    assert_eq!(world.lma.bindings().count(), 2);
    world.run_ms(1);
    assert_eq!(world.lma.bindings().count(), 0);
    assert_eq!(ended(&world), [RequestOutcome::NoAnswer; 2]);
    let at: Vec<u128> = bris(&world)
        .iter()
        .map(|sent| sent.at.saturating_sub(start).as_millis())
        .collect();
    assert_eq!(at, [0, 0, 1000, 1000]);
    let sequences: Vec<u16> = bris(&world)
        .iter()
        .filter_map(|sent| match &sent.message {
            Message::Bri(bri) => Some(bri.sequence),
            _ => None,
        })
        .collect();
    assert_eq!((sequences[0], sequences[1]), (sequences[2], sequences[3]));
}

#[test]
fn a_mag_that_heard_nothing_is_told_again_when_it_refreshes() {
    let mut world = attached(1);
    world.lose = Box::new(|sent| matches!(sent.message, Message::Bri(_)));
    let scope = RevocationScope::Session(mn(1), bid(1));
    assert_eq!(revoke(&mut world, &scope), Ok(1));
    world.run_ms(4000);
    assert_eq!(world.lma.bindings().count(), 1);
    assert_eq!(states(&world, 0), [BuleState::Active]);
    world.lose = Box::new(|_| false);
    world.run_ms(160_000);
    assert_eq!(states(&world, 0), [BuleState::Revoked]);
    assert_eq!(world.lma.bindings().count(), 1);
    // Whoever attaches anew is let in.
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(100);
    assert_eq!(states(&world, 0), [BuleState::Active]);
    world.check_agreement();
}

#[test]
fn a_lost_acknowledgement_changes_nothing() {
    let mut world = attached(1);
    let mut lost = false;
    world.lose = Box::new(move |sent| {
        let first = matches!(sent.message, Message::Bra(_)) && !lost;
        lost |= first;
        first
    });
    let scope = RevocationScope::Session(mn(1), bid(1));
    assert_eq!(revoke(&mut world, &scope), Ok(1));
    world.run_ms(1100);
    // The copy is answered as the first was.
    assert_eq!(ended(&world), [success()]);
    assert_eq!(world.mags[0].counters().bri_copies, 1);
}

#[test]
fn a_refresh_that_crosses_the_indication_does_not_revive_the_binding() {
    let mut world = attached(1);
    let now = world.now();
    world
        .lma
        .reregister(now, &mn(1), Some(bid(1)), None)
        .unwrap();
    world.drain();
    // The PBU is on its way.
    world.lose = Box::new(|sent| matches!(sent.message, Message::Bri(_)));
    let scope = RevocationScope::Session(mn(1), bid(1));
    world.run_ms(11);
    assert_eq!(revoke(&mut world, &scope), Ok(1));
    world.run_ms(500);
    assert_eq!(
        world.lma.bindings().next().unwrap().1.state,
        BceState::Revoking
    );
    world.lose = Box::new(|_| false);
    world.run_ms(3000);
    assert_eq!(world.lma.bindings().count(), 1);
    assert_eq!(states(&world, 0), [BuleState::Revoked]);
}

#[test]
fn a_whole_mag_is_revoked_with_one_message() {
    let mut world = attached(3);
    assert_eq!(revoke(&mut world, &RevocationScope::Peer(COAS[0])), Ok(3));
    world.run_ms(100);
    let sent = bris(&world);
    assert_eq!(sent.len(), 1);
    let Message::Bri(bri) = &sent[0].message else {
        panic!("no BRI");
    };
    assert_eq!(bri.trigger, RevocationTrigger::PER_PEER);
    assert!(bri.flags.contains(RevocationFlags::GLOBAL));
    assert!(bri.mn_id.is_none() && bri.hnps.is_empty());
    assert_eq!(ended(&world), [success()]);
    assert_eq!(states(&world, 0), [BuleState::Revoked; 3]);
    assert_eq!(states(&world, 1), [BuleState::Active; 3]);
    assert!(world.lma.bindings().all(|(_, b)| b.proxy_coa == COAS[1]));
    assert_eq!(
        revoke(&mut world, &RevocationScope::Peer(COAS[0])),
        Err(RevocationError::NoBinding)
    );
}

#[test]
fn a_mobile_without_service_is_revoked_and_refused_until_it_has() {
    let mut world = attached(1);
    let now = world.now();
    assert_eq!(world.lma.set_service(now, &mn(1), false), Ok(2));
    world.drain();
    world.run_ms(100);
    assert_eq!(world.lma.bindings().count(), 0);
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(100);
    assert_eq!(states(&world, 0), [BuleState::Refused(152)]);
    let now = world.now();
    assert_eq!(world.lma.set_service(now, &mn(1), true), Ok(0));
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(100);
    assert_eq!(states(&world, 0), [BuleState::Active]);
}

#[test]
fn a_mobile_whose_entry_goes_is_revoked_if_only_known_ones_are_served() {
    let mut config = lma();
    config.serve_unknown = false;
    config
        .profiles
        .insert(mn(1), pmip_proto::MobileProfile::default());
    let mut world = World::new(1, config, mags());
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(100);
    let now = world.now();
    assert_eq!(world.lma.remove_profile(now, &mn(1)), Ok(1));
    world.drain();
    world.run_ms(100);
    assert_eq!(states(&world, 0), [BuleState::Revoked]);
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(100);
    assert_eq!(states(&world, 0), [BuleState::Refused(153)]);
}

#[test]
fn who_is_not_there_cannot_be_revoked() {
    let mut world = attached(1);
    let unknown = RevocationError::UnknownMobile(mn(9));
    assert_eq!(
        revoke(&mut world, &RevocationScope::Mobile(mn(9))),
        Err(unknown)
    );
    let scope = RevocationScope::Session(mn(1), bid(7));
    assert_eq!(revoke(&mut world, &scope), Err(RevocationError::NoBinding));
    let nobody = flow::ProxyCoa("2001:db8:bad::1".parse().unwrap());
    let unknown = RevocationError::UnknownPeer(nobody);
    assert_eq!(
        revoke(&mut world, &RevocationScope::Peer(nobody)),
        Err(unknown)
    );
    assert!(bris(&world).is_empty());
}

/// A PBU of the first interface's session as it was sent, but with the time of now.
fn overtaken(world: &World, handoff: HandoffIndicator) -> Message {
    let sent = world.log.iter().find_map(|sent| match &sent.message {
        Message::Pbu(pbu) if pbu.handoff == Some(HandoffIndicator::NO_CHANGE) => Some(pbu.clone()),
        _ => None,
    });
    let late = Pbu {
        timestamp: Some(Timestamp::from_epoch(world.now().wall)),
        handoff: Some(handoff),
        ..sent.unwrap()
    };
    late.into()
}

/// A world in which that session was refreshed, and then revoked.
fn refreshed_and_revoked() -> World {
    let mut world = attached(1);
    world.run_ms(151_000);
    let scope = RevocationScope::Session(mn(1), bid(1));
    assert_eq!(revoke(&mut world, &scope), Ok(1));
    world.run_ms(100);
    assert_eq!(world.lma.bindings().count(), 1);
    world
}

/// A refresh that was under way when its session was revoked begins nothing, even if nobody hears what
/// came of it.
#[test]
fn an_overtaken_refresh_begins_nothing() {
    let mut world = refreshed_and_revoked();
    let late = overtaken(&world, HandoffIndicator::NO_CHANGE);
    for _ in 0..2 {
        let now = world.now();
        world.lma.handle_message(now, COAS[0].0, LMAA.0, &late);
        world.drain();
        assert_eq!(world.lma.bindings().count(), 1);
    }
    assert_eq!(world.lma.counters().ignored_while_revoking, 2);
    // But who attaches anew is let in.
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(100);
    assert_eq!(world.lma.bindings().count(), 2);
}

/// Nor does the network's copy of the PBU that began the session.
#[test]
fn a_copy_of_a_registration_begins_nothing() {
    let mut world = attached(1);
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(50);
    let Message::Pbu(first) = world.log[0].message.clone() else {
        panic!("{:?}", world.log);
    };
    assert_eq!(first.handoff, Some(HandoffIndicator::NEW_INTERFACE));
    let scope = RevocationScope::Session(mn(1), bid(1));
    assert_eq!(revoke(&mut world, &scope), Ok(1));
    world.run_ms(100);
    assert_eq!(world.lma.bindings().count(), 1);
    let now = world.now();
    let copy = first.into();
    world.lma.handle_message(now, COAS[0].0, LMAA.0, &copy);
    world.drain();
    assert_eq!(world.lma.bindings().count(), 1);
    assert_eq!(world.lma.counters().ignored_while_revoking, 1);
}

/// A PBU that began a session and was under way when that was revoked makes a binding that the MAG does
/// not know of: when it hears of it, it ends it.
#[test]
fn a_binding_that_an_overtaken_registration_makes_is_ended_by_its_mag() {
    let mut world = refreshed_and_revoked();
    let late = overtaken(&world, HandoffIndicator::NEW_INTERFACE);
    let now = world.now();
    world.lma.handle_message(now, COAS[0].0, LMAA.0, &late);
    world.drain();
    assert_eq!(world.lma.bindings().count(), 2);
    world.run_ms(100);
    let bindings: Vec<_> = world.lma.bindings().map(|(_, b)| b.state).collect();
    assert_eq!(bindings, [BceState::Deregistering, BceState::Active]);
    assert_eq!(states(&world, 0), [BuleState::Revoked]);
    world.run_ms(11_000);
    assert_eq!(world.lma.bindings().count(), 1);
}

/// A MAG whose PBU is not answered when its session is revoked says that it is over: the LMA may have
/// taken the PBU for a new session's.
#[test]
fn a_mag_ends_what_its_unanswered_registration_may_have_begun() {
    let mut world = attached(1);
    world.run_ms(151_000);
    world.lose = Box::new(|sent| matches!(sent.message, Message::Pba(_)));
    // The mobile attaches once more, and the answer is lost.
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(100);
    let scope = RevocationScope::Session(mn(1), bid(1));
    assert_eq!(revoke(&mut world, &scope), Ok(1));
    let seen = world.log.len();
    world.run_ms(100);
    let ends = |sent: &&Sent| matches!(&sent.message, Message::Pbu(pbu) if pbu.lifetime.is_zero());
    assert_eq!(world.log[seen..].iter().filter(ends).count(), 1);
    assert_eq!(states(&world, 0), [BuleState::Revoked]);
}

/// Somebody's BRI is slow, and its LMA is killed.
fn killed_while_revoking(scope: &RevocationScope) -> (World, Message) {
    let mut world = attached(1);
    world.lose = Box::new(|sent| matches!(sent.message, Message::Bri(_)));
    assert_eq!(revoke(&mut world, scope), Ok(1));
    world.run_ms(20);
    let slow = bris(&world)[0].message.clone();
    world.kill_lma();
    (world, slow)
}

/// The BRI comes when its MAG has asked for a session of this mobile: none has begun that it could end.
fn heard_late(world: &mut World, slow: &Message, mobile: u64) {
    let place = attachment(&mn(mobile), 0, HandoffIndicator::NEW_INTERFACE);
    world.attach(&mn(mobile), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(100);
    assert_eq!(world.lma.counters().ignored_while_revoking, 1);
    assert!(
        world
            .lma
            .bindings()
            .all(|(_, bce)| bce.ll_id != place.ll_id)
    );
    let now = world.now();
    world.mags[0].handle_message(now, LMAA.0, COAS[0].0, slow);
    world.drain();
    world.run_ms(20_000);
}

#[test]
fn what_a_killed_lma_has_revoked_does_not_begin_before_that_is_heard() {
    let scope = RevocationScope::Session(mn(1), bid(1));
    let (mut world, slow) = killed_while_revoking(&scope);
    heard_late(&mut world, &slow, 1);
    assert_eq!(states(&world, 0), [BuleState::Revoked]);
    assert_eq!(world.lma.bindings().count(), 1);
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(100);
    world.check_agreement();
}

#[test]
fn nor_does_what_it_cannot_tell_from_that() {
    let (mut world, slow) = killed_while_revoking(&RevocationScope::Peer(COAS[0]));
    heard_late(&mut world, &slow, 2);
    assert_eq!(states(&world, 0), [BuleState::Revoked, BuleState::Active]);
    world.detach(&mn(1), 0);
    world.run_ms(20_000);
    world.check_agreement();
}

#[test]
fn whatever_weather_both_ends_agree_on_what_was_revoked() {
    for_seeds(250, |seed| {
        let mut world = attached_in(mixed(seed), 2);
        world.weather = Weather {
            loss: world.dice.pick(&[0, 20, 40]),
            repeat: world.dice.pick(&[0, 30]),
            slow: 20,
            delay: world.dice.pick(&[10, 80]),
            // A copy that comes when the LMA has given up ends what has begun since.
            slow_delay: 900,
        };
        for _ in 0..15 {
            let n = mn(1 + world.dice.below(2));
            let interface = u8::try_from(world.dice.below(2)).unwrap();
            let scope = match world.dice.below(4) {
                0 => Some(RevocationScope::Mobile(n.clone())),
                1 => Some(RevocationScope::Session(
                    n.clone(),
                    bid(u16::from(interface) + 1),
                )),
                2 => Some(RevocationScope::Peer(COAS[usize::from(interface)])),
                _ => None,
            };
            if let Some(scope) = scope {
                // There may be nothing left to revoke.
                drop(revoke(&mut world, &scope));
            } else {
                world.detach(&n, interface);
                let handoff = HandoffIndicator::NEW_INTERFACE;
                world.attach(&n, interface, interface.into(), handoff);
            }
            let pause = world.dice.pick(&[0, 20, 500, 4000]);
            world.run_ms(pause);
            world.kill_sometimes();
        }
        world.weather = Weather::FAIR;
        world.run_ms(200_000);
        // Interfaces that were revoked are at their MAGs still, and nobody has anything for them.
        let revoked: Vec<_> = (0..2)
            .flat_map(|mag| world.mags[mag].bul().map(move |bule| (mag, bule)))
            .filter(|(_, bule)| bule.state == BuleState::Revoked)
            .map(|(mag, bule)| (mag, bule.attachment.clone()))
            .collect();
        for (mag, place) in revoked {
            let now = world.now();
            assert!(world.mags[mag].detach(now, place.port, place.mac));
            world.attached.retain(|(mn_id, interface), at| {
                *at != mag || *mn_id != place.mn_id || u16::from(*interface) != place.port.0
            });
        }
        world.drain();
        world.check_agreement();
    });
}
