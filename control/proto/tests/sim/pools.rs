//! A pool of three LMAs and two MAGs: all sessions of a mobile end at one LMA, whatever happens on the way.

use std::collections::BTreeSet;
use std::time::Duration;

use flow::{HandoffIndicator, MnId, ProxyCoa};
use pmip_proto::mag::BuleState;
use pmip_proto::{Command, LmaConfig, Mag, MagConfig, Now};
use pmip_wire::{BindingStatus, Message, Pba, PbaFlags, Redirect};

use crate::seeds::for_seeds;
use crate::world::{COAS, Weather, attachment, mn};

mod cluster;

use cluster::{Cluster, LMAS, MAGS, NEW, first_of, lma_config, lmaa, mag_config, mobile_of};

#[test]
fn a_mobile_is_assigned_its_lma_and_goes_on_there() {
    let (first, asked) = (2, 0);
    let mn_id = mobile_of(first);
    let mut cluster = Cluster::new(1);
    cluster.attach(&mn_id, 0, 0, asked, NEW);
    cluster.run_ms(500);
    assert_eq!(cluster.only_lma_of(&mn_id), first);
    assert_eq!(
        cluster.bule_lma(&mn_id, 0),
        (lmaa(first), BuleState::Active)
    );

    // The MAG's PBU says that it can be redirected, the answer is from whom it asked, with status 0 and the address.
    let coa = COAS[0].0;
    let asks = cluster.passed(coa, lmaa(asked).0);
    let [Message::Pbu(pbu)] = asks.as_slice() else {
        panic!("{asks:?}")
    };
    assert!(pbu.redirect_capability);
    let answers = cluster.passed(lmaa(asked).0, coa);
    let [Message::Pba(pba)] = answers.as_slice() else {
        panic!("{answers:?}")
    };
    assert_eq!(pba.status, BindingStatus::ACCEPTED);
    assert_eq!(pba.redirect, Some(Redirect(lmaa(first).0.into())));
    assert_eq!(pba.sequence, pbu.sequence);

    // The member was shown the MAG's PBU: first whether it has the mobile, then to take it.
    let shown = cluster.passed(lmaa(asked).0, lmaa(first).0);
    let [Message::Pbu(question), Message::Pbu(order)] = shown.as_slice() else {
        panic!("{shown:?}")
    };
    assert!(question.redirect_capability && !order.redirect_capability);
    for shown in [question, order] {
        assert_eq!(shown.alt_coa, Some(COAS[0]));
        assert_eq!(
            (shown.timestamp, shown.sequence),
            (pbu.timestamp, pbu.sequence)
        );
        assert_eq!((&shown.ll_id, shown.handoff), (&pbu.ll_id, pbu.handoff));
    }
    let answers = cluster.passed(lmaa(first).0, lmaa(asked).0);
    assert!(
        answers
            .iter()
            .all(|m| matches!(m, Message::Pba(pba) if pba.redirect.is_none()))
    );
    let counters = cluster.lmas[asked].counters();
    assert_eq!((counters.redirected, counters.stray_pool_answers), (1, 0));
    assert_eq!(cluster.mags[0].counters().redirects_followed, 1);
    let sessions = |coa| {
        cluster.lmas[first]
            .peers()
            .find(|p| p.proxy_coa == coa)
            .unwrap()
            .sessions
    };
    assert_eq!(
        (sessions(COAS[0]), sessions(ProxyCoa(lmaa(asked).0))),
        (1, 0)
    );

    // Refreshes and the end of it pass the first one by, and whoever has the session says nothing of others.
    cluster.run_ms(60_000);
    cluster.detach(&mn_id, 0);
    cluster.run_ms(5_000);
    assert_eq!(cluster.passed(coa, lmaa(asked).0).len(), 1);
    assert!(cluster.passed(coa, lmaa(first).0).len() > 2);
    let answers = cluster.passed(lmaa(first).0, coa);
    assert!(
        answers
            .iter()
            .all(|m| matches!(m, Message::Pba(pba) if pba.redirect.is_none()))
    );
    assert_eq!(cluster.lmas_of(&mn_id), BTreeSet::new());
    cluster.check_agreement();
}

#[test]
fn an_lma_that_is_asked_first_and_comes_first_says_nothing_of_it() {
    let mn_id = mobile_of(1);
    let mut cluster = Cluster::new(1);
    cluster.attach(&mn_id, 0, 0, 1, NEW);
    cluster.run_ms(500);
    assert_eq!(cluster.only_lma_of(&mn_id), 1);
    let answers = cluster.passed(lmaa(1).0, COAS[0].0);
    assert!(matches!(answers.as_slice(), [Message::Pba(pba)] if pba.redirect.is_none()));
}

#[test]
fn further_accesses_and_handoffs_find_the_mobiles_lma() {
    for lma in 0..LMAS {
        let mn_id = mobile_of(lma);
        let mut cluster = Cluster::new(1);
        // Each MAG asks another LMA first.
        cluster.attach(&mn_id, 0, 0, 0, NEW);
        cluster.run_ms(500);
        cluster.attach(&mn_id, 1, 1, 1, NEW);
        cluster.run_ms(500);
        assert_eq!(cluster.only_lma_of(&mn_id), lma);
        let hnps = |cluster: &Cluster| {
            cluster.lmas[lma]
                .bindings()
                .map(|(_, b)| b.hnps.clone())
                .collect::<Vec<_>>()
        };
        let before = hnps(&cluster);
        assert_eq!(before.len(), 2);
        // The first interface goes to the other MAG, which asks a third LMA, and keeps its prefix.
        cluster.attach(&mn_id, 0, 1, 2, HandoffIndicator::BETWEEN_MAGS);
        cluster.run_ms(500);
        cluster.leave(&mn_id, 0, 0);
        cluster.run_ms(20_000);
        assert_eq!(hnps(&cluster), before);
        cluster.check_agreement();
    }
}

#[test]
fn who_drains_keeps_its_mobiles_and_takes_no_others() {
    let (stays, comes) = (mobile_of(2), {
        let mut others = (0..30).map(mn).filter(|mn_id| first_of(mn_id) == 2);
        others.nth(1).unwrap()
    });
    let mut cluster = Cluster::new(1);
    cluster.attach(&stays, 0, 0, 0, NEW);
    cluster.run_ms(500);
    assert_eq!(cluster.set_draining(2, true), 1);
    // A second access of its mobile comes here, whoever is asked.
    cluster.attach(&stays, 1, 1, 1, NEW);
    cluster.attach(&comes, 0, 0, 2, NEW);
    cluster.run_ms(500);
    assert_eq!(cluster.only_lma_of(&stays), 2);
    let other = cluster.only_lma_of(&comes);
    assert_ne!(other, 2);
    // It outlives the process.
    cluster.kill_lma(2);
    assert!(cluster.lmas[2].is_draining());
    assert_eq!(cluster.lmas[2].sessions(), 2);
    // Once it takes mobiles again, those that went elsewhere stay there with all of their accesses.
    cluster.set_draining(2, false);
    cluster.attach(&comes, 1, 1, 2, NEW);
    cluster.attach(&comes, 2, 1, 0, NEW);
    cluster.run_ms(500);
    assert_eq!(cluster.only_lma_of(&comes), other);
    cluster.check_agreement();
    for interface in 0..3 {
        cluster.detach(&comes, interface);
        cluster.detach(&stays, interface);
    }
    cluster.run_ms(10_000);
    assert_eq!(
        cluster.lmas.iter().map(|lma| lma.sessions()).sum::<usize>(),
        0
    );
    // And those that come anew come to it.
    cluster.attach(&comes, 0, 0, 0, NEW);
    cluster.run_ms(500);
    assert_eq!(cluster.only_lma_of(&comes), 2);
}

#[test]
fn who_has_too_much_to_do_sends_new_mobiles_on_and_keeps_its_own() {
    let (stays, comes) = (mobile_of(2), {
        let mut others = (0..30).map(mn).filter(|mn_id| first_of(mn_id) == 2);
        others.nth(1).unwrap()
    });
    let mut cluster = Cluster::new(1);
    cluster.attach(&stays, 0, 0, 0, NEW);
    cluster.run_ms(500);
    cluster.set_overloaded(2, true);
    // Its mobile's second access comes here, a new mobile that another asks it about does not.
    cluster.attach(&stays, 1, 1, 1, NEW);
    cluster.attach(&comes, 0, 0, 0, NEW);
    cluster.run_ms(500);
    assert_eq!(cluster.only_lma_of(&stays), 2);
    assert_eq!(cluster.lmas[2].sessions(), 2);
    let other = cluster.only_lma_of(&comes);
    assert_ne!(other, 2);
    assert_eq!(cluster.lmas[2].counters().overload, 1);
    cluster.set_overloaded(2, false);
    cluster.attach(&comes, 1, 1, 2, NEW);
    cluster.run_ms(500);
    assert_eq!(cluster.only_lma_of(&comes), other);
    cluster.check_agreement();
}

#[test]
fn if_all_drain_a_mobile_is_refused_until_one_does_no_longer() {
    let mn_id = mobile_of(0);
    let mut cluster = Cluster::new(1);
    for lma in 0..LMAS {
        cluster.set_draining(lma, true);
    }
    cluster.attach(&mn_id, 0, 0, 0, NEW);
    cluster.run_ms(500);
    let full = BuleState::Refused(BindingStatus::INSUFFICIENT_RESOURCES.0);
    assert_eq!(cluster.bule_lma(&mn_id, 0).1, full);
    for lma in 0..LMAS {
        assert_eq!(cluster.lmas[lma].counters().draining, 1, "LMA {lma}");
    }
    cluster.set_draining(1, false);
    // Who has just turned a mobile away does not take its next access: the first may be on its way to another LMA.
    cluster.attach(&mn_id, 1, 1, 1, NEW);
    cluster.run_ms(500);
    assert_eq!(cluster.lmas_of(&mn_id), BTreeSet::new());
    cluster.run_ms(10_000);
    assert_eq!(cluster.only_lma_of(&mn_id), 1);
    cluster.check_agreement();
}

#[test]
fn a_mag_that_cannot_be_redirected_is_served_where_it_asks_unless_that_drains() {
    let mn_id = mobile_of(2);
    let mut mags: Vec<MagConfig> = (0..MAGS).map(mag_config).collect();
    mags[0].pool.clear();
    let mut cluster = Cluster::with(1, (0..LMAS).map(lma_config).collect(), mags);
    cluster.attach(&mn_id, 0, 0, 0, NEW);
    cluster.run_ms(500);
    assert_eq!(cluster.only_lma_of(&mn_id), 0);
    cluster.detach(&mn_id, 0);
    cluster.run_ms(5_000);
    cluster.set_draining(0, true);
    cluster.attach(&mn_id, 0, 0, 0, NEW);
    cluster.run_ms(500);
    let full = BuleState::Refused(BindingStatus::INSUFFICIENT_RESOURCES.0);
    assert_eq!(cluster.bule_lma(&mn_id, 0), (lmaa(0), full));
    assert_eq!(cluster.lmas[0].counters().draining, 1);
    assert_eq!(cluster.lmas[0].counters().redirected, 0);
}

#[test]
fn a_member_without_a_pool_of_its_own_drains_as_well() {
    let mut configs: Vec<LmaConfig> = (0..LMAS).map(lma_config).collect();
    configs[0].pool.clear();
    let mut cluster = Cluster::with(1, configs, (0..MAGS).map(mag_config).collect());
    cluster.set_draining(0, true);
    cluster.attach(&mn(1), 0, 0, 0, NEW);
    cluster.run_ms(500);
    let full = BuleState::Refused(BindingStatus::INSUFFICIENT_RESOURCES.0);
    assert_eq!(cluster.bule_lma(&mn(1), 0), (lmaa(0), full));
    assert_eq!(cluster.lmas[0].counters().draining, 1);
}

#[test]
fn a_member_that_is_dead_is_passed_over_and_one_that_is_slow_is_not() {
    let mn_id = mobile_of(2);
    let mut cluster = Cluster::new(1);
    cluster.run_ms(1_000);
    cluster.dead[2] = true;
    cluster.attach(&mn_id, 0, 0, 0, NEW);
    // Nobody knows yet: it may have the mobile.
    cluster.run_ms(5_000);
    assert_eq!(cluster.lmas_of(&mn_id), BTreeSet::new());
    cluster.run_ms(30_000);
    let other = cluster.only_lma_of(&mn_id);
    assert_ne!(other, 2);
    assert!(cluster.lmas[0].counters().members_passed_over > 0);
    // A MAG does not wait for the one that it asks first, either.
    cluster.attach(&mn_id, 1, 1, 2, NEW);
    cluster.run_ms(40_000);
    assert_eq!(cluster.only_lma_of(&mn_id), other);
    // It comes back, and the mobile stays.
    cluster.dead[2] = false;
    cluster.run_ms(60_000);
    cluster.attach(&mn_id, 2, 1, 2, NEW);
    cluster.run_ms(2_000);
    assert_eq!(cluster.only_lma_of(&mn_id), other);
    cluster.check_agreement();
}

#[test]
fn sessions_of_an_lma_that_died_are_registered_elsewhere() {
    let mn_id = mobile_of(2);
    let mut cluster = Cluster::new(1);
    for interface in 0..2 {
        cluster.attach(&mn_id, interface, interface.into(), 0, NEW);
    }
    cluster.run_ms(500);
    assert_eq!(cluster.only_lma_of(&mn_id), 2);
    cluster.dead[2] = true;
    cluster.run_ms(120_000);
    for interface in 0..2 {
        let (lmaa_now, state) = cluster.bule_lma(&mn_id, interface);
        assert_eq!(state, BuleState::Active);
        assert_ne!(lmaa_now, lmaa(2));
    }
    assert_eq!(
        cluster.lmas_of(&mn_id).len(),
        1,
        "what the dead one had has expired"
    );
}

#[test]
fn members_that_disagree_about_who_they_are_make_no_loop() {
    // Each knows but the next one: a mobile that all pass on goes round, if it goes.
    let configs = (0..LMAS).map(|lma| {
        let mut config = lma_config(lma);
        config.pool = vec![lmaa(lma), lmaa((lma + 1) % LMAS)];
        config
    });
    let mut cluster = Cluster::with(1, configs.collect(), (0..MAGS).map(mag_config).collect());
    for number in 0..30 {
        cluster.attach(
            &mn(number % 10),
            u8::try_from(number / 10).unwrap(),
            0,
            0,
            NEW,
        );
        cluster.run_ms(200);
    }
    cluster.run_ms(5_000);
    let passed_on = cluster
        .lmas
        .iter()
        .map(|lma| lma.counters().passed_on_before);
    assert!(passed_on.sum::<u64>() > 0, "nothing came round");
    let pbus = cluster
        .log
        .iter()
        .filter(|(.., message)| matches!(message, Message::Pbu(_)));
    // One of the MAG, a question and an order.
    assert!(pbus.count() <= 30 * 3);
    assert!(
        cluster.attached.keys().all(|(mn_id, interface)| {
            cluster.bule_lma(mn_id, *interface).1 == BuleState::Active
        })
    );
}

#[test]
fn a_full_lma_gives_its_mobiles_to_the_next() {
    let full = (0..LMAS).map(|lma| LmaConfig {
        max_mobiles: if lma == 0 { 2 } else { 100 },
        ..lma_config(lma)
    });
    let mut cluster = Cluster::with(1, full.collect(), (0..MAGS).map(mag_config).collect());
    // Those whose place is at LMA 0 come to it and to others.
    let mobiles: Vec<MnId> = (0..10)
        .map(mn)
        .filter(|mn_id| first_of(mn_id) == 0)
        .collect();
    assert!(mobiles.len() > 3);
    for (mn_id, first) in mobiles.iter().zip([0, 1, 0, 1].into_iter().cycle()) {
        cluster.attach(mn_id, 0, 0, first, NEW);
        cluster.run_ms(500);
    }
    assert_eq!(cluster.lmas[0].mobiles(), 2);
    cluster.check_agreement();
}

#[test]
fn a_pool_comes_and_goes_while_lmas_run() {
    let alone = |lma| LmaConfig {
        pool: Vec::new(),
        ..lma_config(lma)
    };
    let configs = (0..LMAS).map(alone);
    let mut cluster = Cluster::with(1, configs.collect(), (0..MAGS).map(mag_config).collect());
    let mobiles: Vec<MnId> = (0..30)
        .map(mn)
        .filter(|mn_id| first_of(mn_id) == 2)
        .collect();
    let [one, two, three, ..] = mobiles.as_slice() else {
        panic!("{mobiles:?}")
    };
    let mut come_to = |mn_id: &MnId, config: fn(usize) -> LmaConfig| {
        let now = cluster.now();
        for lma in 0..LMAS {
            let config = config(lma);
            assert_eq!(cluster.lmas[lma].conflicts(&config), []);
            cluster.lmas[lma].reconfigure(now, config);
        }
        cluster.drain();
        cluster.attach(mn_id, 0, 0, 0, NEW);
        cluster.run_ms(2000);
        cluster.only_lma_of(mn_id)
    };
    assert_eq!(come_to(one, alone), 0);
    assert_eq!(come_to(two, lma_config), 2);
    assert_eq!(come_to(three, alone), 0);
    // Nobody lost what it had.
    assert_eq!((cluster.only_lma_of(one), cluster.only_lma_of(two)), (0, 2));
    cluster.check_agreement();
}

/// A MAG that has just asked LMA 0 about a mobile, and the answer that accepts.
fn asked(config: MagConfig) -> (Mag, Now, Pba) {
    let mut mag = Mag::new(config, 7);
    let now = Now {
        monotonic: Duration::from_secs(1),
        wall: Duration::from_secs(1_700_000_000),
    };
    mag.attach(now, attachment(&mn(1), 0, NEW)).unwrap();
    let sent = std::iter::from_fn(|| mag.poll_command());
    let pbu = sent.filter_map(|command| match command {
        Command::Send {
            message: Message::Pbu(pbu),
            ..
        } => Some(pbu),
        _ => None,
    });
    let pbu = pbu.last().unwrap();
    let pba = Pba {
        flags: PbaFlags::PROXY,
        sequence: pbu.sequence,
        lifetime: pbu.lifetime,
        mn_id: pbu.mn_id.clone(),
        hnps: vec![pmip_wire::HnpOption::on_link(crate::world::hnp(
            "2001:db8:1000::/64",
        ))],
        handoff: pbu.handoff,
        access: pbu.access,
        ll_id: pbu.ll_id.clone(),
        timestamp: pbu.timestamp,
        ..Pba::default()
    };
    (mag, now, pba)
}

#[test]
fn a_redirect_is_followed_to_the_pool_only_and_if_it_was_asked_for() {
    let to = |address: &str| Some(Redirect(address.parse().unwrap()));
    let hear = |mag: &mut Mag, now, pba: Pba| {
        mag.handle_message(now, lmaa(0).0, COAS[0].0, &pba.into());
        let bule = mag.bul().next().unwrap();
        (bule.lmaa, bule.state)
    };
    // RFC 6463 §5.2: it is ignored if the PBU had no Redirect-Capability.
    let mut alone = mag_config(0);
    alone.pool.clear();
    let (mut mag, now, pba) = asked(alone);
    let pba = Pba {
        redirect: to("2001:db8:f::3"),
        ..pba
    };
    assert_eq!(hear(&mut mag, now, pba), (lmaa(0), BuleState::Active));
    assert_eq!(mag.counters().redirects_ignored, 1);

    let refused = BuleState::Refused(BindingStatus::UNSPECIFIED.0);
    for stranger in [
        "2001:db8:f::9",
        "2001:db8:a::1",
        "::",
        "ff02::1",
        "192.0.2.1",
    ] {
        let (mut mag, now, pba) = asked(mag_config(0));
        let pba = Pba {
            redirect: to(stranger),
            ..pba
        };
        assert_eq!(hear(&mut mag, now, pba), (lmaa(0), refused), "{stranger}");
        assert_eq!(mag.counters().redirects_refused, 1);
        assert_eq!(mag.routes().count(), 0);
    }

    // A peer that is in no pool is none that may be assigned.
    let mut two = mag_config(0);
    two.pool.pop();
    let (mut mag, now, pba) = asked(two);
    let pba = Pba {
        redirect: to("2001:db8:f::3"),
        ..pba
    };
    assert_eq!(hear(&mut mag, now, pba), (lmaa(0), refused));

    let (mut mag, now, pba) = asked(mag_config(0));
    let pba = Pba {
        redirect: to("2001:db8:f::2"),
        ..pba
    };
    assert_eq!(
        hear(&mut mag, now, pba.clone()),
        (lmaa(1), BuleState::Active)
    );
    assert!(mag.routes().all(|route| route.lmaa == lmaa(1)));
    // A copy, or one that leads elsewhere, answers nothing any more.
    let again = Pba {
        redirect: to("2001:db8:f::3"),
        ..pba
    };
    assert_eq!(hear(&mut mag, now, again), (lmaa(1), BuleState::Active));
    assert_eq!(mag.counters().redirects_followed, 1);
    assert_eq!(mag.counters().stray_pbas, 1);
}

#[test]
fn a_mag_that_is_killed_knows_what_it_was_assigned() {
    let mn_id = mobile_of(2);
    let mut cluster = Cluster::new(1);
    cluster.attach(&mn_id, 0, 0, 0, NEW);
    cluster.run_ms(500);
    cluster.kill_mag(0);
    assert_eq!(cluster.bule_lma(&mn_id, 0), (lmaa(2), BuleState::Active));
    // Whoever finds it on the link again finds it registered.
    cluster.attach(&mn_id, 0, 0, 0, NEW);
    cluster.run_ms(30_000);
    assert_eq!(cluster.only_lma_of(&mn_id), 2);
    cluster.check_agreement();
}

/// Two MAGs ask two LMAs at nearly the same time, and the one that the mobile belongs to stops taking mobiles as soon
/// as it has it.
#[test]
fn whose_mobile_was_assigned_while_its_place_was_asked_for_keeps_it() {
    for apart in 0..12 {
        let mn_id = mobile_of(1);
        let mut cluster = Cluster::new(1);
        cluster.attach(&mn_id, 0, 0, 0, NEW);
        cluster.run_ms(apart);
        cluster.attach(&mn_id, 2, 1, 1, NEW);
        while cluster.lmas[1].sessions() == 0 {
            cluster.run_ms(1);
        }
        cluster.set_draining(1, true);
        cluster.run_ms(30_000);
        assert_eq!(cluster.only_lma_of(&mn_id), 1, "{apart} ms apart");
        cluster.check_agreement();
    }
}

/// Whom an LMA has turned away it does not know any more when it was killed; it goes on to, as its last answers may have
/// sent the mobile elsewhere.
#[test]
fn who_was_killed_while_it_drained_turns_mobiles_away_for_a_moment() {
    let mn_id = mobile_of(0);
    let mut cluster = Cluster::new(1);
    cluster.set_draining(0, true);
    cluster.kill_lma(0);
    cluster.set_draining(0, false);
    cluster.attach(&mn_id, 0, 0, 0, NEW);
    cluster.run_ms(1000);
    assert_ne!(cluster.only_lma_of(&mn_id), 0);
    cluster.detach(&mn_id, 0);
    cluster.run_ms(20_000);
    cluster.attach(&mn_id, 0, 0, 0, NEW);
    cluster.run_ms(1000);
    assert_eq!(cluster.only_lma_of(&mn_id), 0);
}

fn act(cluster: &mut Cluster) {
    let mn_id = mn(cluster.dice.below(5));
    let interface = u8::try_from(cluster.dice.below(3)).unwrap();
    let [mag, first, lma] =
        [MAGS, LMAS, LMAS].map(|n| usize::try_from(cluster.dice.below(n as u64)).unwrap());
    let at = cluster.attached.get(&(mn_id.clone(), interface)).copied();
    match cluster.dice.below(16) {
        0..=5 if at.is_none() => {
            let handoff = cluster.dice.pick(&[NEW, NEW, HandoffIndicator::UNKNOWN]);
            cluster.attach(&mn_id, interface, mag, first, handoff);
        }
        0..=3 => cluster.detach(&mn_id, interface),
        // A handoff to the other MAG, which asks anybody.
        4..=8 => {
            if let Some(from) = at {
                let handoff = cluster.dice.pick(&[
                    HandoffIndicator::BETWEEN_MAGS,
                    HandoffIndicator::UNKNOWN,
                    NEW,
                ]);
                cluster.attach(&mn_id, interface, 1 - from, first, handoff);
                let pause = cluster.dice.pick(&[0, 20, 500, 2000]);
                cluster.run_ms(pause);
                cluster.leave(&mn_id, interface, from);
            }
        }
        9..=11 => {
            let on = cluster.dice.chance(50);
            cluster.set_draining(lma, on);
        }
        12 => cluster.kill_lma(lma),
        13 => cluster.kill_mag(mag),
        _ => {}
    }
}

#[test]
fn whatever_happens_a_mobile_has_one_lma_in_the_end() {
    for_seeds(600, |seed| {
        let mut cluster = Cluster::new(seed);
        let dice = &mut cluster.dice;
        cluster.weather = Weather {
            loss: dice.pick(&[0, 5, 15]),
            repeat: dice.pick(&[0, 10, 30]),
            slow: dice.pick(&[0, 10]),
            delay: dice.pick(&[2, 20, 50]),
            slow_delay: 1000,
        };
        for _ in 0..40 {
            act(&mut cluster);
            let pause = cluster.dice.pick(&[0, 5, 100, 1000, 5000]);
            cluster.run_ms(pause);
        }
        cluster.weather = Weather::FAIR;
        for lma in 0..LMAS {
            cluster.set_draining(lma, false);
        }
        cluster.run_ms(200_000);
        cluster.check_agreement();
    });
}
