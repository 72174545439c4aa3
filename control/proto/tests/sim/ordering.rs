//! What orders PBUs and how often they come: timestamps, sequence numbers, rates, refusals that last
//! (RFC 5213 §5.5, §6.9.1.2, §6.9.4).

use std::collections::BTreeSet;
use std::time::Duration;

use flow::{HandoffIndicator, PortId};
use pmip_proto::mag::BuleState;
use pmip_proto::{Command, Lma, LmaConfig, Mag, MagConfig, MagEvent, MobileProfile, Now};
use pmip_wire::{BindingStatus, HnpOption, Message, Pba, PbaFlags, Pbu, Timestamp};

use crate::world::{COAS, LMAA, access, attachment, hnp, lma_config, mac, mag_config, mn};

fn at(ms: u64) -> Now {
    Now {
        monotonic: Duration::from_millis(ms),
        wall: Duration::from_secs(1_700_000_000) + Duration::from_millis(ms),
    }
}

fn mag(change: impl FnOnce(&mut MagConfig)) -> Mag {
    let mut config = mag_config(0);
    change(&mut config);
    Mag::new(config, 1)
}

fn attach(mag: &mut Mag, ms: u64, interface: u8) {
    let new = attachment(&mn(1), interface, HandoffIndicator::NEW_INTERFACE);
    mag.attach(at(ms), new).unwrap();
}

/// The PBUs sent since the last call.
fn pbus(mag: &mut Mag) -> Vec<Pbu> {
    let commands = std::iter::from_fn(|| mag.poll_command());
    commands
        .filter_map(|command| match command {
            Command::Send {
                message: Message::Pbu(pbu),
                ..
            } => Some(pbu),
            Command::Send { .. } | Command::Table(_) | Command::Advertise(_) => None,
        })
        .collect()
}

/// An LMA's answer to a PBU.
fn pba(pbu: &Pbu, status: BindingStatus) -> Pba {
    Pba {
        status,
        flags: PbaFlags::PROXY,
        sequence: pbu.sequence,
        lifetime: pbu.lifetime,
        mn_id: pbu.mn_id.clone(),
        hnps: vec![HnpOption::on_link(hnp("2001:db8:1::/64"))],
        handoff: pbu.handoff,
        access: pbu.access,
        ll_id: pbu.ll_id.clone(),
        timestamp: pbu.timestamp,
        ..Pba::default()
    }
}

fn tell(mag: &mut Mag, ms: u64, pba: &Pba) {
    mag.handle_message(at(ms), LMAA.0, COAS[0].0, &pba.clone().into());
}

/// What an LMA answers a MAG's PBU.
fn ask(lma: &mut Lma, ms: u64, pbu: &Pbu) -> Option<Pba> {
    lma.handle_message(at(ms), COAS[0].0, LMAA.0, &pbu.clone().into());
    std::iter::from_fn(|| lma.poll_command()).find_map(|command| match command {
        Command::Send {
            message: Message::Pba(pba),
            ..
        } => Some(pba),
        Command::Send { .. } | Command::Table(_) | Command::Advertise(_) => None,
    })
}

fn first_pbu(change: impl FnOnce(&mut MagConfig)) -> (Mag, Pbu) {
    let mut mag = mag(change);
    attach(&mut mag, 0, 0);
    let pbu = pbus(&mut mag).pop().unwrap();
    (mag, pbu)
}

/// A PBU that was overtaken may name prefixes that its session had before: it is no new session's.
#[test]
fn an_overtaken_pbu_about_the_same_interface_begins_nothing() {
    let mut lma = Lma::new(lma_config(), 1);
    let (mut mag, pbu) = first_pbu(|_| {});
    let named = |hnps: Vec<HnpOption>, ms| Pbu {
        hnps,
        timestamp: Some(Timestamp::from_epoch(at(ms).wall)),
        ..pbu.clone()
    };
    let had = vec![HnpOption::on_link(hnp("2001:db8:1000:7::/64"))];
    let later = named(vec![HnpOption::ALL_ZERO], 20);
    assert_eq!(
        ask(&mut lma, 30, &later).unwrap().status,
        BindingStatus::ACCEPTED
    );
    let overtaken = ask(&mut lma, 40, &named(had.clone(), 10)).unwrap();
    assert_eq!(
        overtaken.status,
        BindingStatus::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED
    );
    assert_eq!(lma.bindings().count(), 1);
    // A later one ends what was before.
    let news = ask(&mut lma, 50, &named(had.clone(), 41)).unwrap();
    assert_eq!(news.status, BindingStatus::ACCEPTED);
    let hnps: Vec<_> = lma.bindings().flat_map(|(_, b)| b.hnps.clone()).collect();
    assert_eq!(hnps, [had[0].prefix]);
    let had = vec![HnpOption::on_link(hnp("2001:db8:1000:8::/64"))];
    // Of another interface it says nothing.
    attach(&mut mag, 0, 1);
    let other = Pbu {
        hnps: had,
        timestamp: Some(Timestamp::from_epoch(at(10).wall)),
        ..pbus(&mut mag).pop().unwrap()
    };
    assert_eq!(
        ask(&mut lma, 60, &other).unwrap().status,
        BindingStatus::ACCEPTED
    );
    assert_eq!(lma.bindings().count(), 2);
}

#[test]
fn a_mobiles_own_timestamps_are_only_compared_with_each_other() {
    let config = LmaConfig {
        mobile_node_generated_timestamps: true,
        ..lma_config()
    };
    let mut lma = Lma::new(config, 1);
    let (_, mut pbu) = first_pbu(|_| {});
    let mut stamped = |value| {
        pbu.timestamp = Some(Timestamp(value));
        let pba = ask(&mut lma, 0, &pbu).unwrap();
        (pba.status, pba.timestamp)
    };
    let lower = BindingStatus::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED;
    let clock = Some(Timestamp::from_epoch(at(0).wall));
    assert_eq!(
        stamped(1000),
        (BindingStatus::ACCEPTED, Some(Timestamp(1000)))
    );
    assert_eq!(stamped(1000), (lower, clock));
    assert_eq!(stamped(999), (lower, clock));
    assert_eq!(
        stamped(1001),
        (BindingStatus::ACCEPTED, Some(Timestamp(1001)))
    );
}

#[test]
fn an_lma_takes_both_schemes_message_by_message() {
    let mut lma = Lma::new(lma_config(), 1);
    let (_, mut pbu) = first_pbu(|_| {});
    let echoed = ask(&mut lma, 0, &pbu).unwrap();
    assert_eq!(
        (echoed.timestamp, echoed.sequence),
        (pbu.timestamp, pbu.sequence)
    );
    // With a timestamp the sequence number is only repeated.
    pbu.sequence = pbu.sequence.wrapping_sub(5);
    pbu.timestamp = Some(Timestamp::from_epoch(at(10).wall));
    let again = ask(&mut lma, 10, &pbu).unwrap();
    assert_eq!(
        (again.status, again.sequence),
        (BindingStatus::ACCEPTED, pbu.sequence)
    );
    // Without one it counts, and the answer has no timestamp either.
    let time = pbu.timestamp.take();
    let old = ask(&mut lma, 20, &pbu).unwrap();
    assert_eq!(
        (old.status, old.timestamp),
        (BindingStatus::SEQUENCE_OUT_OF_WINDOW, None)
    );
    pbu.sequence = pbu.sequence.wrapping_add(1);
    let new = ask(&mut lma, 30, &pbu).unwrap();
    assert_eq!((new.status, new.timestamp), (BindingStatus::ACCEPTED, None));
    let (_, bce) = lma.bindings().next().unwrap();
    assert_eq!(
        bce.timestamp, None,
        "RFC 5213 §5.1: none while numbers are in use"
    );
    pbu.timestamp = time;
    assert_eq!(
        ask(&mut lma, 40, &pbu).unwrap().status,
        BindingStatus::ACCEPTED
    );
}

#[test]
fn a_mag_numbers_each_session_on_its_own() {
    let mut mag = mag(|config| config.timestamps = false);
    attach(&mut mag, 0, 0);
    attach(&mut mag, 0, 1);
    let [first, second] = pbus(&mut mag).try_into().unwrap();
    assert_eq!((first.timestamp, second.timestamp), (None, None));
    // The numbers of the first are far from where the LMA's are; the second's are not affected.
    let mut refusal = pba(&first, BindingStatus::SEQUENCE_OUT_OF_WINDOW);
    refusal.sequence = 0xffff;
    tell(&mut mag, 10, &refusal);
    let [again] = pbus(&mut mag).try_into().unwrap();
    assert_eq!((again.sequence, &again.ll_id), (0, &first.ll_id));
    tell(&mut mag, 20, &pba(&again, BindingStatus::ACCEPTED));
    mag.handle_timeout(at(1000));
    let [copy] = pbus(&mut mag).try_into().unwrap();
    assert_eq!(copy.ll_id, second.ll_id);
    assert_eq!(copy.sequence, second.sequence.wrapping_add(1));
    // Two sessions of a mobile may use the same number: the interface tells their answers apart.
    let mut same = mag;
    let mut refusal = pba(&copy, BindingStatus::SEQUENCE_OUT_OF_WINDOW);
    refusal.sequence = again.sequence;
    tell(&mut same, 1010, &refusal);
    let [third] = pbus(&mut same).try_into().unwrap();
    assert_eq!(third.sequence, 1);
    same.handle_timeout(at(150_500));
    let sent = pbus(&mut same);
    let refresh = sent.iter().find(|p| p.ll_id == first.ll_id).unwrap();
    assert_eq!(
        (refresh.sequence, refresh.handoff),
        (1, Some(HandoffIndicator::NO_CHANGE))
    );
    tell(&mut same, 150_510, &pba(refresh, BindingStatus::ACCEPTED));
    let states: Vec<_> = same.bul().map(|b| (b.attachment.access, b.state)).collect();
    let expected = [
        (access(0), BuleState::Active),
        (access(1), BuleState::Registering),
    ];
    assert_eq!(states, expected);
}

/// RFC 6275 §11.8: no more than three PBUs about a mobile in any second; the next one waits.
#[test]
fn a_mobile_that_comes_and_goes_is_not_reported_more_often_than_allowed() {
    let mut mag = mag(|_| {});
    let mut sent = Vec::new();
    for ms in (0..3000_u64).step_by(50) {
        if (ms / 50).is_multiple_of(2) {
            attach(&mut mag, ms, 0);
        } else {
            mag.detach(at(ms), PortId(0), mac(&mn(1), 0));
        }
        mag.handle_timeout(at(ms));
        sent.extend(pbus(&mut mag).iter().map(|_| ms));
    }
    for window in sent.windows(4) {
        assert!(window[3] - window[0] >= 1000, "{sent:?}");
    }
    assert!(sent.len() >= 7, "{sent:?}");
    // What was said last is told in the end.
    for ms in (3000..9000).step_by(100) {
        mag.handle_timeout(at(ms));
        for pbu in pbus(&mut mag) {
            tell(&mut mag, ms, &pba(&pbu, BindingStatus::ACCEPTED));
        }
    }
    assert_eq!(mag.bul().count(), 0);
    // Another mobile has turns of its own.
    let mut mag = super::ordering::mag(|config| config.max_update_rate = 1);
    for n in 1..=3 {
        let new = attachment(&mn(n), 0, HandoffIndicator::NEW_INTERFACE);
        mag.attach(at(0), new).unwrap();
    }
    assert_eq!(pbus(&mut mag).len(), 3);
}

/// RFC 5213 §6.9.1.2: service that is not enabled is not asked for again by the mobile's packets,
/// only by an operator.
#[test]
fn a_refused_mobile_waits_for_an_operator() {
    let (mut mag, pbu) = first_pbu(|_| {});
    tell(
        &mut mag,
        10,
        &pba(&pbu, BindingStatus::PROXY_REG_NOT_ENABLED),
    );
    let again = attachment(&mn(1), 0, HandoffIndicator::NEW_INTERFACE);
    mag.notice(at(20), again.clone()).unwrap();
    assert!(mag.handle_router_solicitation(at(20), PortId(0), mac(&mn(1), 0)));
    assert_eq!(pbus(&mut mag), []);
    mag.attach(at(30), again).unwrap();
    assert_eq!(pbus(&mut mag).len(), 1);
}

/// RFC 5213 §6.9.1.2: an LMA that repeats other identifiers is not asked again until an operator
/// acts, not even when the registration runs out.
#[test]
fn an_answer_with_other_identifiers_ends_the_asking() {
    type Change = fn(&mut Pba);
    let changes: [Change; 4] = [
        |p| p.handoff = Some(HandoffIndicator(9)),
        |p| p.access = Some(access(1)),
        |p| p.ll_id = None,
        |p| p.ll_id = Some(mac(&mn(2), 0).into()),
    ];
    for change in changes {
        let (mut mag, pbu) = first_pbu(|_| {});
        tell(&mut mag, 10, &pba(&pbu, BindingStatus::ACCEPTED));
        mag.handle_timeout(at(150_000));
        let [refresh] = pbus(&mut mag).try_into().unwrap();
        let mut other = pba(&refresh, BindingStatus::ACCEPTED);
        change(&mut other);
        tell(&mut mag, 150_010, &other);
        let mismatch = MagEvent::PbaMismatch { mn_id: mn(1) };
        assert!(std::iter::from_fn(|| mag.poll_event()).any(|e| e == mismatch));
        assert_eq!(mag.bul().next().unwrap().state, BuleState::Active);
        for second in 151..=400 {
            mag.handle_timeout(at(second * 1000));
        }
        assert_eq!(pbus(&mut mag), []);
        assert_eq!(mag.bul().next().unwrap().state, BuleState::Refused(128));
        assert_eq!(mag.routes().count(), 0);
        attach(&mut mag, 401_000, 0);
        assert_eq!(pbus(&mut mag).len(), 1);
    }
    // An operator may also ask before that.
    let (mut mag, pbu) = first_pbu(|_| {});
    let mut other = pba(&pbu, BindingStatus::ACCEPTED);
    other.access = Some(access(1));
    tell(&mut mag, 10, &other);
    attach(&mut mag, 20, 0);
    let [again] = pbus(&mut mag).try_into().unwrap();
    tell(&mut mag, 30, &pba(&again, BindingStatus::ACCEPTED));
    assert_eq!(mag.bul().next().unwrap().state, BuleState::Active);
}

/// A de-registration whose answer is lost: routes end after INITIAL_BINDACK_TIMEOUT (RFC 5213
/// §6.9.1.4), and the LMA is told a few times more.
#[test]
fn a_deregistration_does_not_wait_for_its_answer() {
    let (mut mag, pbu) = first_pbu(|_| {});
    tell(&mut mag, 10, &pba(&pbu, BindingStatus::ACCEPTED));
    mag.detach(at(5000), PortId(0), mac(&mn(1), 0));
    let [end] = pbus(&mut mag).try_into().unwrap();
    assert!(end.lifetime.is_zero());
    assert_eq!(end.handoff, Some(HandoffIndicator::UNKNOWN));
    assert_eq!(end.hnps, [HnpOption::on_link(hnp("2001:db8:1::/64"))]);
    assert_eq!(mag.routes().count(), 1);
    mag.handle_timeout(at(6000));
    assert_eq!(mag.routes().count(), 0);
    for second in 6..60 {
        mag.handle_timeout(at(second * 1000));
    }
    assert_eq!(pbus(&mut mag).len(), 3);
    assert_eq!(mag.bul().count(), 0);
    // With an answer it is over at once, whatever the answer is.
    for status in [
        BindingStatus::ACCEPTED,
        BindingStatus::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED,
    ] {
        let (mut mag, pbu) = first_pbu(|_| {});
        tell(&mut mag, 10, &pba(&pbu, BindingStatus::ACCEPTED));
        mag.detach(at(5000), PortId(0), mac(&mn(1), 0));
        let [end] = pbus(&mut mag).try_into().unwrap();
        tell(&mut mag, 5010, &pba(&end, status));
        assert_eq!((mag.bul().count(), mag.routes().count()), (0, 0));
    }
}

/// Status 129: what an operator's policy forbids, here technologies (RFC 5213 §8.9).
#[test]
fn a_mobile_may_be_kept_to_its_technologies() {
    let profile = MobileProfile {
        access_technologies: Some(BTreeSet::from([access(1)])),
        ..MobileProfile::default()
    };
    let config = LmaConfig {
        profiles: [(mn(1), profile)].into(),
        ..lma_config()
    };
    let mut lma = Lma::new(config, 1);
    let (_, pbu) = first_pbu(|_| {});
    assert_eq!(
        ask(&mut lma, 0, &pbu).unwrap().status,
        BindingStatus::PROHIBITED
    );
    let allowed = Pbu {
        access: Some(access(1)),
        ..pbu
    };
    assert_eq!(
        ask(&mut lma, 0, &allowed).unwrap().status,
        BindingStatus::ACCEPTED
    );
}
