//! A peer or mobile that sends all it can: what it fills is bounded, what it is denied is counted, and the
//! others are served.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests may fail loudly, like the tests"
)]

use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{
    AccessTechnology, Bid, HandoffIndicator, Hnp, Interval, Lmaa, MacAddr, MnId, PortId, ProxyCoa,
    Selector,
};
use pmip_proto::lma::{Bce, BceState, RevocationError, RevocationScope};
use pmip_proto::recording::{Recorded, Recorder};
use pmip_proto::{
    Attachment, Command, FlowRequest, Lma, LmaConfig, LmaEvent, LmaPeer, Mag, MagConfig, MagEvent,
    MagPeer, MoveFailure, MoveStarted, Now, PrefixPool,
};
use pmip_wire::{
    BindingLifetime, BindingStatus, Fma, FmaStatus, Fmi, HnpOption, Message, Pba, PbaFlags, Pbu,
    PbuFlags, Timestamp,
};

const LMAA: Lmaa = Lmaa(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1));
const HOSTILE: ProxyCoa = ProxyCoa(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1));
const HONEST: ProxyCoa = ProxyCoa(Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 1));
const MILLION: u32 = 1_000_000;

fn at(milliseconds: u64) -> Now {
    Now {
        monotonic: Duration::from_millis(milliseconds),
        wall: Duration::from_secs(1_700_000_000) + Duration::from_millis(milliseconds),
    }
}

fn lma(change: impl FnOnce(&mut LmaConfig)) -> Lma {
    let range = Hnp::new("2001:db8:1000::".parse().unwrap(), 44).unwrap();
    let pool = PrefixPool::new(range, 64, Duration::ZERO).unwrap();
    let peers = [HOSTILE, HONEST].map(MagPeer::new).to_vec();
    let mut config = LmaConfig::new(LMAA, peers, vec![pool]);
    change(&mut config);
    Lma::new(config, 1)
}

fn name(kind: &str, n: u32) -> MnId {
    MnId::new(&format!("{kind}{n}@example.net")).unwrap()
}

fn mac(interface: u8, n: u32) -> MacAddr {
    let [a, b, c, d] = n.to_be_bytes();
    MacAddr([2 | interface << 2, interface, a, b, c, d])
}

/// A PBU that registers an interface of a mobile.
fn pbu(mn_id: &MnId, mac: MacAddr, now: Now) -> Pbu {
    Pbu {
        sequence: 1,
        flags: PbuFlags::REQUEST,
        lifetime: BindingLifetime::MAX,
        mn_id: Some(mn_id.clone().into()),
        hnps: vec![HnpOption::ALL_ZERO],
        handoff: Some(HandoffIndicator::NEW_INTERFACE),
        access: Some(AccessTechnology(4)),
        ll_id: Some(mac.into()),
        timestamp: Some(Timestamp::from_epoch(now.wall)),
        ..Pbu::default()
    }
}

/// The statuses of the PBAs that the LMA sends to `to`, and how many events there were.
fn answers(lma: &mut Lma, to: ProxyCoa) -> (Vec<BindingStatus>, usize) {
    let mut statuses = Vec::new();
    while let Some(command) = lma.poll_command() {
        if let Command::Send {
            to: sent_to,
            message: Message::Pba(pba),
            ..
        } = command
        {
            assert_eq!(sent_to, to.0);
            statuses.push(pba.status);
        }
    }
    (statuses, std::iter::from_fn(|| lma.poll_event()).count())
}

/// Registers and gives the answer.
fn register(lma: &mut Lma, from: ProxyCoa, mn_id: &MnId, mac: MacAddr, now: Now) -> BindingStatus {
    lma.handle_message(now, from.0, LMAA.0, &pbu(mn_id, mac, now).into());
    let (statuses, _) = answers(lma, from);
    let [status] = statuses.as_slice() else {
        panic!("{statuses:?}");
    };
    *status
}

#[test]
fn a_million_mobiles_of_one_mag_leave_room_for_those_of_another() {
    let mut lma = lma(|config| {
        config.max_mobiles = 4000;
        config.max_sessions_per_mag = 3000;
    });
    let mut events = 0;
    let mut accepted = 0;
    for n in 0..MILLION {
        let mn_id = name("hostile", n);
        let message = pbu(&mn_id, mac(1, n), at(0)).into();
        lma.handle_message(at(0), HOSTILE.0, LMAA.0, &message);
        let (statuses, told) = answers(&mut lma, HOSTILE);
        events += told;
        accepted += u32::from(statuses == [BindingStatus::ACCEPTED]);
        assert!(statuses.len() == 1);
    }
    assert_eq!(accepted, 3000);
    assert_eq!(lma.mobiles(), 3000);
    let refused = u64::from(MILLION) - 3000;
    assert_eq!(lma.counters().over_share, refused);
    let full = BindingStatus::INSUFFICIENT_RESOURCES.0;
    assert_eq!(lma.counters().pbas.get(&full), Some(&refused));
    // All at one moment: ten refusals are told, and the rest is counted.
    assert_eq!(events, 3000 + 10);
    assert_eq!(lma.counters().unreported, refused - 10);

    for n in 0..1000 {
        let status = register(&mut lma, HONEST, &name("mn", n), mac(2, n), at(1));
        assert_eq!(status, BindingStatus::ACCEPTED);
    }
    let peers: Vec<_> = lma.peers().map(|p| (p.proxy_coa, p.sessions)).collect();
    assert_eq!(peers, [(HOSTILE, 3000), (HONEST, 1000)]);

    // A mobile that comes over from the hostile MAG is no new session, and frees one there.
    let mn_id = name("hostile", 7);
    let mut handoff = pbu(&mn_id, mac(1, 7), at(2));
    handoff.handoff = Some(HandoffIndicator::BETWEEN_MAGS);
    lma.handle_message(at(2), HONEST.0, LMAA.0, &handoff.into());
    assert_eq!(answers(&mut lma, HONEST).0, [BindingStatus::ACCEPTED]);
    let peers: Vec<_> = lma.peers().map(|p| p.sessions).collect();
    assert_eq!(peers, [2999, 1001]);
    // When all lifetimes are over, nobody has any.
    lma.handle_timeout(at(10_000_000));
    assert!(lma.peers().all(|peer| peer.sessions == 0));
    assert_eq!(lma.mobiles(), 0);
}

/// Sends a PBU and gives the status of the answer.
fn ask(lma: &mut Lma, from: ProxyCoa, pbu: Pbu, now: Now) -> BindingStatus {
    lma.handle_message(now, from.0, LMAA.0, &pbu.into());
    let (statuses, _) = answers(lma, from);
    let [status] = statuses.as_slice() else {
        panic!("{statuses:?}");
    };
    *status
}

#[test]
fn while_there_is_too_much_to_do_those_who_are_there_are_served_and_no_others() {
    let mut lma = lma(|_| {});
    lma.keep_records();
    let ours = name("ours", 1);
    assert_eq!(
        register(&mut lma, HONEST, &ours, mac(1, 1), at(0)),
        BindingStatus::ACCEPTED
    );
    while lma.poll_record().is_some() {}
    lma.set_overloaded(true);
    assert!(lma.is_overloaded());

    let flood = MILLION / 10;
    let mut events = 0;
    for n in 0..flood {
        let message = pbu(&name("new", n), mac(2, n), at(1)).into();
        lma.handle_message(at(1), HOSTILE.0, LMAA.0, &message);
        let mut answers = 0;
        while let Some(command) = lma.poll_command() {
            let Command::Send {
                message: Message::Pba(pba),
                ..
            } = command
            else {
                panic!("{command:?}");
            };
            assert_eq!(pba.status, BindingStatus::INSUFFICIENT_RESOURCES);
            answers += 1;
        }
        assert_eq!(answers, 1);
        events += std::iter::from_fn(|| lma.poll_event()).count();
    }
    assert_eq!(events, 10, "the rest is counted");
    assert_eq!(lma.counters().overload, u64::from(flood));
    assert_eq!(lma.mobiles(), 1);
    // Of all of them there is one note, of the MAG.
    assert_eq!(std::iter::from_fn(|| lma.poll_record()).count(), 1);

    // Meanwhile: a refresh, a handoff, a further access, and the end of it.
    let refresh = Pbu {
        handoff: Some(HandoffIndicator::NO_CHANGE),
        ..pbu(&ours, mac(1, 1), at(2))
    };
    let handoff = Pbu {
        handoff: Some(HandoffIndicator::BETWEEN_MAGS),
        ..pbu(&ours, mac(1, 1), at(3))
    };
    let further = pbu(&ours, mac(3, 1), at(4));
    let end = Pbu {
        lifetime: BindingLifetime::ZERO,
        handoff: Some(HandoffIndicator::UNKNOWN),
        ..pbu(&ours, mac(3, 1), at(5))
    };
    for (ms, from, message) in [
        (2, HONEST, refresh),
        (3, HOSTILE, handoff),
        (4, HONEST, further),
        (5, HONEST, end),
    ] {
        let status = ask(&mut lma, from, message, at(ms));
        assert_eq!(status, BindingStatus::ACCEPTED, "at {ms}");
    }
    let sessions: Vec<_> = lma.bindings().map(|(_, bce)| bce.proxy_coa).collect();
    assert_eq!(sessions, [HOSTILE, HONEST]);

    // A flow is added and told to the MAG, as ever.
    let selector = Selector {
        destination_port: Some(Interval::single(5004)),
        ..Selector::<Ipv6Addr>::default()
    };
    let request = FlowRequest {
        mn_id: ours.clone(),
        fid: None,
        priority: None,
        selector: selector.into(),
        bid: Bid::new(1).unwrap(),
    };
    assert!(lma.add_flow(at(6), request).is_ok());
    while lma.poll_command().is_some() {}

    // What ends unknown is not refused but ignored, as ever.
    let end = Pbu {
        lifetime: BindingLifetime::ZERO,
        ..pbu(&name("new", 1), mac(2, 1), at(7))
    };
    lma.handle_message(at(7), HOSTILE.0, LMAA.0, &end.into());
    assert_eq!(answers(&mut lma, HOSTILE).0, []);
    assert_eq!(lma.counters().overload, u64::from(flood));

    lma.set_overloaded(false);
    let status = register(&mut lma, HOSTILE, &name("new", 1), mac(2, 1), at(8));
    assert_eq!(status, BindingStatus::ACCEPTED);
}

#[test]
fn what_is_refused_for_too_much_to_do_is_decided_again_alike() {
    let machine = lma(|_| {});
    let tape = Recorder::new(machine.clone(), 64);
    let mut recorded = Recorded::new(machine, Some(tape));
    let mut statuses = Vec::new();
    for (n, on) in (0..).zip([false, true, true, false]) {
        recorded.set_overloaded(at(n.into()), on);
        let message = pbu(&name("mn", n), mac(1, n), at(n.into())).into();
        recorded.handle_message(at(n.into()), HONEST.0, LMAA.0, &message);
        while let Some(command) = recorded.poll_command() {
            if let Command::Send {
                message: Message::Pba(pba),
                ..
            } = command
            {
                statuses.push(pba.status);
            }
        }
        while recorded.poll_event().is_some() {}
    }
    let (accepted, full) = (
        BindingStatus::ACCEPTED,
        BindingStatus::INSUFFICIENT_RESOURCES,
    );
    assert_eq!(statuses, [accepted, full, full, accepted]);
    let recording = recorded.tape().unwrap().recording();
    assert_eq!(recording.turns.len(), 4);
    assert_eq!(recording.replay(|_| {}), None);
}

/// A copy of a PBU changes nothing that is written down or told to workers, however many there are and whatever orders them.
#[test]
fn a_storm_of_copies_leaves_one_answer_that_counts_and_no_record() {
    for stamped in [true, false] {
        let mut lma = lma(|_| {});
        lma.keep_records();
        let mn_id = name("mn", 1);
        let mut first = pbu(&mn_id, mac(1, 1), at(0));
        if !stamped {
            first.timestamp = None;
        }
        let message: Message = first.into();
        lma.handle_message(at(0), HONEST.0, LMAA.0, &message);
        assert_eq!(answers(&mut lma, HONEST).0, [BindingStatus::ACCEPTED]);
        while lma.poll_record().is_some() {}
        for _ in 0..MILLION / 10 {
            lma.handle_message(at(1), HONEST.0, LMAA.0, &message);
            let Some(Command::Send {
                message: Message::Pba(pba),
                ..
            }) = lma.poll_command()
            else {
                panic!("no answer");
            };
            // It has the number of the accepted one: whoever keeps that one back need not say this.
            assert!(!pba.status.is_accepted());
            assert_eq!(pba.sequence, 1);
            assert_eq!(lma.poll_command(), None);
        }
        // The count of the MAG's PBUs.
        assert_eq!(std::iter::from_fn(|| lma.poll_record()).count(), 1);
    }
}

/// Registers mobiles until one is refused; how many are not.
fn fill(lma: &mut Lma, interfaces: impl Fn(u32) -> (MnId, MacAddr), now: Now) -> u32 {
    (0..MILLION)
        .find(|n| {
            let (mn_id, mac) = interfaces(*n);
            let status = register(lma, HONEST, &mn_id, mac, now);
            let full = status == BindingStatus::INSUFFICIENT_RESOURCES;
            assert!(full || status == BindingStatus::ACCEPTED, "{status:?}");
            full
        })
        .unwrap()
}

/// Of each table of an LMA that MAGs fill: how many fit, that those in it are served on, and that one that leaves makes room.
#[test]
fn a_full_table_refuses_one_more_and_serves_those_that_are_in_it() {
    let mobiles: fn(u32) -> (MnId, MacAddr) = |n| (name("mn", n), mac(1, n));
    let interfaces: fn(u32) -> (MnId, MacAddr) = |n| (name("mn", 0), mac(1, n));
    let few_mobiles: fn(&mut LmaConfig) = |config| config.max_mobiles = 300;
    let few_sessions: fn(&mut LmaConfig) = |config| config.max_sessions_per_mobile = 3;
    let small_share: fn(&mut LmaConfig) = |config| config.max_sessions_per_mag = 200;
    let small_pool: fn(&mut LmaConfig) = |config| {
        let range = Hnp::new("2001:db8:1000::".parse().unwrap(), 56).unwrap();
        config.pools = vec![PrefixPool::new(range, 64, Duration::ZERO).unwrap()];
    };
    for (change, who, room) in [
        (few_mobiles, mobiles, 300),
        (few_sessions, interfaces, 3),
        (small_share, mobiles, 200),
        (small_pool, mobiles, 256),
    ] {
        let mut lma = lma(|config| {
            change(config);
            config.min_delay_before_bce_delete = Duration::from_millis(1);
        });
        assert_eq!(fill(&mut lma, who, at(0)), room);
        for n in 0..room {
            let (mn_id, mac) = who(n);
            let status = register(&mut lma, HONEST, &mn_id, mac, at(1));
            assert_eq!(status, BindingStatus::ACCEPTED, "{n} of {room}");
        }
        let (mn_id, mac) = who(0);
        let end = Pbu {
            lifetime: BindingLifetime::ZERO,
            ..pbu(&mn_id, mac, at(2))
        };
        assert_eq!(ask(&mut lma, HONEST, end, at(2)), BindingStatus::ACCEPTED);
        lma.handle_timeout(at(10));
        let (mn_id, mac) = who(room);
        let status = register(&mut lma, HONEST, &mn_id, mac, at(11));
        assert_eq!(status, BindingStatus::ACCEPTED, "{room}");
    }
}

#[test]
fn revocations_without_an_answer_are_bounded() {
    const ROOM: u32 = 0x8000;
    let mut lma = lma(|_| {});
    for n in 0..=ROOM {
        register(&mut lma, HONEST, &name("mn", n), mac(1, n), at(0));
    }
    let scope = |n| RevocationScope::Mobile(name("mn", n));
    for n in 0..ROOM {
        assert_eq!(lma.revoke(at(1), &scope(n)), Ok(1));
    }
    assert_eq!(
        lma.revoke(at(1), &scope(ROOM)),
        Err(RevocationError::TooMany)
    );
    let left = lma.binding(&name("mn", ROOM)).unwrap().sessions;
    assert!(left.iter().all(|bce| bce.state == BceState::Active));
    // The MAG never answers: they end all the same.
    while let Some(next) = lma.poll_timeout()
        && lma.revoke(at(1), &scope(ROOM)).is_err()
    {
        lma.handle_timeout(at(u64::try_from(next.as_millis()).unwrap() + 1));
        while lma.poll_command().is_some() {}
    }
    let last = name("mn", ROOM);
    let is_last = |(mn_id, bce): (&_, &Bce)| *mn_id == last && bce.state == BceState::Revoking;
    assert!(lma.bindings().all(is_last));
    // Their prefixes are kept from others for as long as the MAG may route them, and no longer.
    assert_eq!(lma.mobiles(), usize::try_from(ROOM).unwrap() + 1);
    lma.handle_timeout(at(100_000_000));
    assert_eq!(lma.mobiles(), 0);
}

#[test]
fn questions_to_a_pool_without_an_answer_are_bounded() {
    const ROOM: u32 = 1 << 16;
    let other = Lmaa("2001:db8:f::2".parse().unwrap());
    let mut lma = lma(|config| {
        config.pool = vec![LMAA, other];
        config.peers.push(MagPeer::new(ProxyCoa(other.0)));
    });
    while lma.poll_command().is_some() {}
    let redirectable = |n, now| Pbu {
        redirect_capability: true,
        ..pbu(&name("mn", n), mac(1, n), now)
    };
    let sent = |lma: &mut Lma| {
        let commands = std::iter::from_fn(|| lma.poll_command());
        let to = commands.filter_map(|command| match command {
            Command::Send {
                to,
                message: Message::Pbu(_) | Message::Pba(_),
                ..
            } => Some(to),
            Command::Send { .. } | Command::Table(_) | Command::Advertise(_) => None,
        });
        to.collect::<Vec<_>>()
    };
    for n in 0..ROOM {
        let message = redirectable(n, at(0)).into();
        lma.handle_message(at(0), HONEST.0, LMAA.0, &message);
        assert_eq!(sent(&mut lma), [other.0], "{n}");
    }
    let more = |lma: &mut Lma, n, now| {
        let message = redirectable(n, now).into();
        lma.handle_message(now, HONEST.0, LMAA.0, &message);
        sent(lma)
    };
    assert_eq!(more(&mut lma, ROOM, at(1)), [HONEST.0], "it is refused");
    let full = BindingStatus::INSUFFICIENT_RESOURCES.0;
    assert_eq!(lma.counters().pbas.get(&full), Some(&1));
    // A copy takes the place of the one before, and who does not answer is given up.
    assert_eq!(more(&mut lma, 7, at(2)), [other.0]);
    assert_eq!(more(&mut lma, ROOM, at(60_001)), [other.0]);
}

/// A MAG forwards for as many stations as workers have numbers for, and says no to another.
#[test]
fn stations_beyond_the_paths_of_a_mag_are_not_served_by_halves() {
    let mut config = MagConfig::new(HONEST, vec![LmaPeer::new(LMAA)]);
    config.max_prefixes = 100_000;
    let mut mag = Mag::new(config, 1);
    // One is the tunnel's.
    let room = u32::from(flow::PathId::LAST.0);
    for n in 0..=room {
        mag.attach(at(0), attachment(n)).unwrap();
        let pbus = std::iter::from_fn(|| mag.poll_command()).filter_map(|command| match command {
            Command::Send {
                message: Message::Pbu(pbu),
                ..
            } => Some(pbu),
            Command::Send { .. } | Command::Table(_) | Command::Advertise(_) => None,
        });
        let pbu = pbus.last().unwrap();
        let prefix = (0x2001_0db8_1000_u128 << 80) | (u128::from(n) << 64);
        let hnp = Hnp::new(prefix.into(), 64).unwrap();
        let pba = accepted(pbu, hnp);
        mag.handle_message(at(0), LMAA.0, HONEST.0, &pba.into());
        while mag.poll_command().is_some() {}
        let events: Vec<_> = std::iter::from_fn(|| mag.poll_event()).collect();
        let refused = |event: &MagEvent| matches!(event, MagEvent::Refused { .. });
        assert_eq!(events.iter().any(refused), n == room, "{n}: {events:?}");
    }
    assert_eq!(mag.routes().count(), usize::try_from(room).unwrap());
}

#[test]
fn a_million_replays_change_nothing() {
    let mut lma = lma(|_| {});
    let mn_id = name("mn", 1);
    let message: Message = pbu(&mn_id, mac(1, 1), at(0)).into();
    lma.handle_message(at(0), HONEST.0, LMAA.0, &message);
    assert_eq!(answers(&mut lma, HONEST).0, [BindingStatus::ACCEPTED]);
    let before = lma.binding(&mn_id).unwrap().sessions[0].expires;
    let replays = MILLION / 4;
    for _ in 0..replays {
        lma.handle_message(at(100), HONEST.0, LMAA.0, &message);
        while let Some(command) = lma.poll_command() {
            let Command::Send { message, .. } = command else {
                panic!("{command:?}");
            };
            let Message::Pba(pba) = message else {
                panic!("{message:?}");
            };
            assert_eq!(
                pba.status,
                BindingStatus::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED
            );
        }
    }
    assert_eq!(lma.binding(&mn_id).unwrap().sessions[0].expires, before);
    let status = BindingStatus::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED.0;
    assert_eq!(lma.counters().pbas.get(&status), Some(&replays.into()));
}

#[test]
fn a_million_strangers_are_answered_at_a_rate() {
    let mut lma = lma(|_| {});
    let mut answered = 0;
    for n in 0..MILLION {
        let from = Ipv6Addr::from((0x2001_0db8_0bad_u128 << 80) | (u128::from(n) + 1));
        let mn_id = name("mn", 1);
        let message = pbu(&mn_id, mac(1, 1), at(0)).into();
        lma.handle_message(at(0), from, LMAA.0, &message);
        let (statuses, _) = answers(&mut lma, ProxyCoa(from));
        answered += statuses.len();
    }
    assert_eq!(answered, 10);
    assert_eq!(lma.counters().unknown_peer, u64::from(MILLION) - 10);
    assert_eq!(lma.mobiles(), 0);
}

/// A mobile at both MAGs, with a flow on the interface at `from`.
fn with_flow(lma: &mut Lma, n: u32, from: u16) -> MnId {
    let mn_id = name("mn", n);
    for (interface, mag) in [(1, HOSTILE), (2, HONEST)] {
        let status = register(lma, mag, &mn_id, mac(interface, n), at(0));
        assert_eq!(status, BindingStatus::ACCEPTED);
    }
    let selector = Selector {
        destination_port: Some(Interval::single(5004)),
        ..Selector::<Ipv6Addr>::default()
    };
    let request = FlowRequest {
        mn_id: mn_id.clone(),
        fid: None,
        priority: None,
        selector: selector.into(),
        bid: Bid::new(from).unwrap(),
    };
    lma.add_flow(at(0), request).unwrap();
    serve(lma, at(0));
    mn_id
}

/// Answers what is asked of the honest MAG; gives how many FMIs the other has got.
fn serve(lma: &mut Lma, now: Now) -> u32 {
    let mut unanswered = 0;
    while let Some(command) = lma.poll_command() {
        let Command::Send {
            to,
            message: Message::Fmi(fmi),
            ..
        } = command
        else {
            continue;
        };
        if to == HOSTILE.0 {
            unanswered += 1;
            continue;
        }
        let fma = Fma {
            sequence: fmi.sequence,
            status: FmaStatus::SUCCESS,
            lifetime: fmi.lifetime,
            mn_id: fmi.mn_id,
            hnps: fmi.hnps,
            ..Fma::default()
        };
        lma.handle_message(now, HONEST.0, LMAA.0, &fma.into());
    }
    unanswered
}

#[test]
fn moves_that_a_mag_leaves_half_open_fill_its_window_and_no_others() {
    const WINDOW: usize = 16;
    const MOBILES: u32 = 2000;
    let mut lma = lma(|config| {
        config.signal_hosted = false;
        config.fmi_window = WINDOW;
        config.flow_lifetime = 0xffff;
        config.max_lifetime = Duration::from_hours(24);
    });
    // Half of the flows are to move to the MAG that never answers, half of them to the other.
    let mobiles: Vec<_> = (0..MOBILES)
        .map(|n| (with_flow(&mut lma, n, if n % 2 == 0 { 2 } else { 1 }), n))
        .collect();
    while lma.poll_event().is_some() {}
    let fid = flow::Fid::new(1).unwrap();
    for (mn_id, n) in &mobiles {
        let to = Bid::new(if n % 2 == 0 { 1 } else { 2 }).unwrap();
        let started = lma.move_flow(at(1), mn_id, fid, to);
        assert_eq!(started, Ok(MoveStarted::Signalling));
        serve(&mut lma, at(1));
        assert!(lma.peers().all(|peer| peer.outstanding <= WINDOW));
    }
    let moved = |lma: &mut Lma| {
        let events = std::iter::from_fn(|| lma.poll_event());
        let mut count = [0, 0];
        for event in events {
            count[0] += u32::from(matches!(event, LmaEvent::FlowMoved { .. }));
            if let LmaEvent::FlowMoveFailed { reason, .. } = event {
                assert_eq!(reason, MoveFailure::NoAnswer);
                count[1] += 1;
            }
        }
        count
    };
    assert_eq!(moved(&mut lma), [MOBILES / 2, 0]);
    let open = lma.peers().next().unwrap();
    assert_eq!((open.proxy_coa, open.outstanding), (HOSTILE, WINDOW));

    // Each is given up in its turn, and the window is never wider.
    let mut failed = 0;
    let mut now = 1;
    while failed < MOBILES / 2 {
        let next = lma.poll_timeout().expect("something is open");
        now = u64::try_from(next.as_millis()).unwrap().max(now);
        lma.handle_timeout(at(now));
        serve(&mut lma, at(now));
        assert!(lma.peers().all(|peer| peer.outstanding <= WINDOW));
        failed += moved(&mut lma)[1];
    }
    assert_eq!(failed, MOBILES / 2);
}

/// A mobile at a MAG.
fn attachment(n: u32) -> Attachment {
    Attachment {
        mn_id: name("mn", n),
        ll_id: Some(mac(1, n).into()),
        access: AccessTechnology(4),
        port: PortId(1),
        mac: mac(1, n),
        handoff: HandoffIndicator::NEW_INTERFACE,
        wanted: vec![],
        lma: None,
    }
}

/// The LMA's answer to a PBU of a MAG.
fn accepted(pbu: Pbu, hnp: Hnp) -> Pba {
    Pba {
        status: BindingStatus::ACCEPTED,
        flags: PbaFlags::PROXY,
        sequence: pbu.sequence,
        lifetime: pbu.lifetime,
        mn_id: pbu.mn_id,
        hnps: vec![HnpOption::on_link(hnp)],
        handoff: pbu.handoff,
        access: pbu.access,
        ll_id: pbu.ll_id,
        timestamp: pbu.timestamp,
        ..Pba::default()
    }
}

/// A MAG with one mobile that is registered.
fn mag() -> Mag {
    let config = MagConfig::new(HONEST, vec![LmaPeer::new(LMAA)]);
    let mut mag = Mag::new(config, 1);
    mag.attach(at(0), attachment(1)).unwrap();
    let Some(Command::Send {
        message: Message::Pbu(pbu),
        ..
    }) = mag.poll_command()
    else {
        panic!("no PBU");
    };
    let hnp = Hnp::new("2001:db8:1000::".parse().unwrap(), 64).unwrap();
    let pba = accepted(pbu, hnp);
    mag.handle_message(at(0), LMAA.0, HONEST.0, &pba.into());
    while mag.poll_command().is_some() {}
    while mag.poll_event().is_some() {}
    mag
}

#[test]
fn a_million_solicitations_are_answered_at_a_rate() {
    let mut mag = mag();
    let mut advertised = 0;
    for n in 0..u64::from(MILLION) {
        // A thousand a second.
        let known = mag.handle_router_solicitation(at(n), PortId(1), mac(1, 1));
        assert!(known);
        while let Some(command) = mag.poll_command() {
            assert!(matches!(command, Command::Advertise(_)));
            advertised += 1;
        }
        // Stations that are none of ours leave nothing behind.
        let stranger = mac(3, u32::try_from(n).unwrap());
        assert!(!mag.handle_router_solicitation(at(n), PortId(1), stranger));
    }
    assert_eq!(advertised, 3 + 999);
    let unanswered = mag.counters().solicitations_unanswered;
    assert_eq!(unanswered, u64::from(MILLION) - advertised);
    assert_eq!(mag.bul().count(), 1);
}

#[test]
fn a_million_messages_about_others_leave_nothing_at_a_mag() {
    let mut mag = mag();
    for n in 0..MILLION / 2 {
        let fmi = Fmi {
            sequence: 1,
            mn_id: Some(name("other", n).into()),
            ..Fmi::default()
        };
        mag.handle_message(at(0), LMAA.0, HONEST.0, &fmi.into());
        let Some(Command::Send {
            message: Message::Fma(fma),
            ..
        }) = mag.poll_command()
        else {
            panic!("no FMA");
        };
        assert_eq!(fma.status, FmaStatus::NOT_ATTACHED);
        let pba = Pba {
            flags: PbaFlags::PROXY,
            mn_id: Some(name("other", n).into()),
            ..Pba::default()
        };
        mag.handle_message(at(0), LMAA.0, HONEST.0, &pba.into());
        assert_eq!((mag.poll_command(), mag.poll_event()), (None, None));
    }
    let counters = mag.counters();
    assert_eq!(counters.fmis_refused, u64::from(MILLION / 2));
    assert_eq!(counters.stray_pbas, u64::from(MILLION / 2));
    assert_eq!(mag.bul().count(), 1);
    assert_eq!(mag.routes().count(), 1);
}
