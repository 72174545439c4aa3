//! Each rule of RFC 5847 §3 on its own.

use super::*;
use crate::command::Command;

const PEER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1);
const OWN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1);

/// One role with one peer, on a clock in milliseconds.
struct Bench {
    heartbeats: Heartbeats,
    outbox: Outbox<()>,
    bound: bool,
}

impl Bench {
    fn new(interval: Option<u64>) -> Self {
        let config = HeartbeatConfig {
            interval: interval.map(Duration::from_millis),
            missing_allowed: 3,
            restart_counter: 7,
        };
        let peers = [(PEER, OWN)].into_iter();
        Self {
            heartbeats: Heartbeats::new(config, peers, &mut Random::new(1)),
            outbox: Outbox::default(),
            bound: true,
        }
    }

    /// With a binding since time 0.
    fn bound(interval: u64) -> Self {
        let mut bench = Self::new(Some(interval));
        bench.heartbeats.wake(ms(0), PEER, OWN);
        bench
    }

    /// Does what is due, and returns what it means.
    fn at(&mut self, now: u64) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let bound = self.bound;
        while let Some((peer, verdict)) =
            self.heartbeats
                .pop_due(ms(now), |_| bound, &mut self.outbox)
        {
            assert_eq!(peer, PEER);
            verdicts.extend(verdict);
        }
        verdicts
    }

    /// What was sent, in order; all from and to where it should.
    fn sent(&mut self) -> Vec<Heartbeat> {
        std::iter::from_fn(|| self.outbox.poll_command())
            .map(|command| match &command {
                Command::Send {
                    from: OWN,
                    to: PEER,
                    message: pmip_wire::Message::Heartbeat(heartbeat),
                } => heartbeat.clone(),
                Command::Send { .. } | Command::Table(_) | Command::Advertise(_) => {
                    panic!("{command:?}")
                }
            })
            .collect()
    }

    /// The numbers of the requests sent.
    fn requests(&mut self) -> Vec<u32> {
        let sent = self.sent();
        assert!(sent.iter().all(|h| h.kind == HeartbeatKind::Request));
        sent.iter().map(|h| h.sequence).collect()
    }

    fn hears(
        &mut self,
        now: u64,
        kind: HeartbeatKind,
        sequence: u32,
        counter: Option<u32>,
    ) -> Option<Verdict> {
        let heartbeat = Heartbeat {
            kind,
            sequence,
            restart_counter: counter.map(RestartCounter),
            others: Vec::new(),
        };
        self.heartbeats
            .handle(ms(now), PEER, OWN, &heartbeat, &mut self.outbox)
    }

    fn answers(&mut self, now: u64, sequence: u32, counter: u32) -> Option<Verdict> {
        self.hears(now, HeartbeatKind::Response, sequence, Some(counter))
    }

    fn view(&self) -> HeartbeatView {
        self.heartbeats.view(PEER).unwrap()
    }
}

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

#[test]
fn requests_are_answered_with_their_number_and_our_counter_whether_we_ask_or_not() {
    for interval in [None, Some(100)] {
        let mut bench = Bench::new(interval);
        assert_eq!(bench.hears(5, HeartbeatKind::Request, 99, None), None);
        let answer = Heartbeat {
            kind: HeartbeatKind::Response,
            sequence: 99,
            restart_counter: Some(RestartCounter(7)),
            others: Vec::new(),
        };
        assert_eq!(bench.sent(), [answer]);
        assert_eq!(bench.view().liveness, Liveness::Unknown);
    }
}

#[test]
fn more_requests_than_anybody_has_reason_for_are_not_answered() {
    let mut bench = Bench::new(None);
    for n in 0..150 {
        bench.hears(0, HeartbeatKind::Request, n, None);
    }
    assert_eq!(bench.sent().len(), 100);
    assert_eq!(bench.view().counters.suppressed, 50);
}

#[test]
fn a_peer_is_asked_while_there_is_a_binding() {
    let mut bench = Bench::new(Some(100));
    assert_eq!(bench.heartbeats.next(), None);
    bench.heartbeats.wake(ms(10), PEER, OWN);
    bench.heartbeats.wake(ms(50), PEER, OWN);
    assert_eq!(bench.heartbeats.next(), Some(ms(10)));
    bench.at(10);
    bench.at(110);
    assert_eq!(bench.requests().len(), 2);
    bench.bound = false;
    assert_eq!(bench.at(210), []);
    assert_eq!((bench.requests(), bench.heartbeats.next()), (vec![], None));
    assert_eq!(bench.view().missing, 0);
    // And again with the next one.
    bench.bound = true;
    bench.heartbeats.wake(ms(900), PEER, OWN);
    bench.at(900);
    assert_eq!(bench.requests().len(), 1);
}

#[test]
fn who_is_told_to_ask_nobody_asks_nobody() {
    let mut bench = Bench::new(None);
    bench.heartbeats.wake(ms(0), PEER, OWN);
    bench.heartbeats.hint(ms(0), PEER, &mut bench.outbox);
    bench.heartbeats.announce(PEER, &mut bench.outbox);
    assert_eq!((bench.heartbeats.next(), bench.sent()), (None, vec![]));
}

#[test]
fn a_peer_is_down_when_more_answers_are_missing_than_allowed() {
    let mut bench = Bench::bound(100);
    bench.at(0);
    let first = bench.requests()[0];
    assert_eq!(bench.answers(1, first, 3), None);
    assert_eq!(bench.view().liveness, Liveness::Up);
    // Asked at 100, 200, 300 and 400; three missing answers are allowed.
    for now in [100, 200, 300, 400] {
        assert_eq!(bench.at(now), [], "at {now}");
    }
    assert_eq!(
        (bench.view().missing, bench.view().liveness),
        (3, Liveness::Up)
    );
    assert_eq!(bench.at(500), [Verdict::Down]);
    assert!(bench.heartbeats.is_down(PEER));
    // Once, and it is still asked.
    assert_eq!(bench.at(600), []);
    let last = *bench.requests().last().unwrap();
    assert_eq!(bench.answers(601, last, 3), Some(Verdict::Up));
    assert_eq!(
        (bench.view().missing, bench.view().liveness),
        (0, Liveness::Up)
    );
}

#[test]
fn any_answer_in_time_starts_the_count_anew() {
    let mut bench = Bench::bound(100);
    for turn in 0..20 {
        assert_eq!(bench.at(turn * 100), []);
        let sequence = bench.requests()[0];
        // Every fourth is heard.
        if turn % 4 == 0 {
            assert_eq!(bench.answers(turn * 100 + 50, sequence, 3), None);
        }
    }
    assert_eq!(bench.view().counters.downs, 0);
}

#[test]
fn a_round_trip_may_take_longer_than_the_interval() {
    let mut bench = Bench::bound(100);
    let mut asked = Vec::new();
    for turn in 0..30 {
        assert_eq!(bench.at(turn * 100), []);
        asked.extend(bench.requests());
        if let Some(sent) = turn.checked_sub(3) {
            let sequence = asked[usize::try_from(sent).unwrap()];
            assert_eq!(bench.answers(turn * 100 + 50, sequence, 3), None);
        }
    }
    assert_eq!(
        (bench.view().liveness, bench.view().counters.stray),
        (Liveness::Up, 0)
    );
}

#[test]
fn copies_and_answers_to_nothing_prove_nothing() {
    let mut bench = Bench::bound(100);
    bench.at(0);
    let first = bench.requests()[0];
    bench.answers(1, first, 3);
    for now in [100, 200, 300, 400, 500] {
        bench.at(now);
        // A copy, a number never sent, one of the future.
        for sequence in [first, first.wrapping_sub(9), first.wrapping_add(1000)] {
            assert_eq!(bench.answers(now + 1, sequence, 4), None);
        }
    }
    assert!(bench.heartbeats.is_down(PEER));
    assert_eq!(bench.view().counters.stray, 15);
    assert_eq!(bench.view().restart_counter, Some(3));
    // Of the requests since, those are not waited for that are older than the allowance.
    let asked = bench.requests();
    assert_eq!(bench.answers(501, asked[0], 3), None);
    assert!(bench.heartbeats.is_down(PEER));
    assert_eq!(bench.answers(502, asked[1], 3), Some(Verdict::Up));
}

#[test]
fn another_restart_counter_means_that_sessions_from_before_are_lost() {
    let mut bench = Bench::bound(1000);
    bench.at(0);
    let first = bench.requests()[0];
    assert_eq!(bench.answers(5, first, 3), None);
    bench.at(1000);
    let second = bench.requests()[0];
    let verdict = Verdict::Restarted {
        since: ms(0),
        counter: 4,
    };
    assert_eq!(bench.answers(1005, second, 4), Some(verdict));
    // A lower one is another one too: the peer may have lost its file.
    bench.at(2000);
    let third = bench.requests()[0];
    let verdict = Verdict::Restarted {
        since: ms(1000),
        counter: 1,
    };
    assert_eq!(bench.answers(2005, third, 1), Some(verdict));
    assert_eq!(bench.view().counters.restarts, 2);
}

#[test]
fn a_peer_that_returns_with_another_counter_is_not_only_back() {
    let mut bench = Bench::bound(100);
    bench.at(0);
    let first = bench.requests()[0];
    bench.answers(1, first, 3);
    for now in [100, 200, 300, 400, 500] {
        bench.at(now);
    }
    let last = *bench.requests().last().unwrap();
    let verdict = Verdict::Restarted {
        since: ms(0),
        counter: 4,
    };
    assert_eq!(bench.answers(501, last, 4), Some(verdict));
    assert_eq!(bench.view().liveness, Liveness::Up);
}

#[test]
fn an_answer_without_counter_is_an_answer() {
    let mut bench = Bench::bound(100);
    for (now, counter) in [(0, Some(3)), (100, None), (200, Some(3))] {
        bench.at(now);
        let sequence = bench.requests()[0];
        let verdict = bench.hears(now + 1, HeartbeatKind::Response, sequence, counter);
        assert_eq!(verdict, None);
    }
    assert_eq!(bench.view().restart_counter, Some(3));
}

#[test]
fn an_unsolicited_heartbeat_is_a_reason_to_ask_at_once_and_not_too_often() {
    let mut bench = Bench::bound(60_000);
    bench.at(0);
    let first = bench.requests()[0];
    bench.answers(5, first, 3);
    // It may be old, so what it says is not taken for granted.
    let verdict = bench.hears(2000, HeartbeatKind::Unsolicited, 0, Some(4));
    assert_eq!(verdict, None);
    for now in [2000, 2050, 2099] {
        bench.hears(now, HeartbeatKind::Unsolicited, 0, Some(4));
    }
    let asked = bench.requests();
    assert_eq!(asked.len(), 1);
    bench.hears(2100, HeartbeatKind::Unsolicited, 0, Some(4));
    assert_eq!(bench.requests().len(), 1);
    let verdict = Verdict::Restarted {
        since: ms(0),
        counter: 4,
    };
    assert_eq!(bench.answers(2101, asked[0], 4), Some(verdict));
    assert_eq!(bench.view().counters.unsolicited, 5);
}

#[test]
fn nobody_is_asked_about_nothing() {
    let mut bench = Bench::new(Some(100));
    bench.hears(0, HeartbeatKind::Unsolicited, 0, Some(4));
    assert_eq!(bench.sent(), []);
}

#[test]
fn a_new_life_is_announced_once() {
    let mut bench = Bench::new(Some(100));
    bench.heartbeats.announce(PEER, &mut bench.outbox);
    bench.heartbeats.announce(PEER, &mut bench.outbox);
    let announced = Heartbeat {
        kind: HeartbeatKind::Unsolicited,
        sequence: 0,
        restart_counter: Some(RestartCounter(7)),
        others: Vec::new(),
    };
    assert_eq!(bench.sent(), [announced]);
}

#[test]
fn a_peer_that_does_not_know_heartbeats_gets_no_more() {
    let mut bench = Bench::bound(100);
    assert_eq!(bench.heartbeats.suspect(PEER), None);
    bench.at(0);
    let suspect = Suspect {
        never_answered: true,
        sent: ms(0),
    };
    assert_eq!(bench.heartbeats.suspect(PEER), Some(suspect));
    assert_eq!(bench.heartbeats.refused(PEER), None);
    assert_eq!(bench.view().liveness, Liveness::Unsupported);
    bench.sent();
    bench.heartbeats.wake(ms(50), PEER, OWN);
    bench.heartbeats.hint(ms(900), PEER, &mut bench.outbox);
    assert_eq!((bench.at(1000), bench.sent()), (vec![], vec![]));
    // It is still answered.
    bench.hears(1001, HeartbeatKind::Request, 1, None);
    assert_eq!(bench.sent().len(), 1);
}

#[test]
fn a_peer_that_was_taken_for_dead_is_not_if_it_only_does_not_know_heartbeats() {
    let mut bench = Bench::bound(100);
    let verdicts: Vec<_> = (0..5).flat_map(|turn| bench.at(turn * 100)).collect();
    assert_eq!(verdicts, [Verdict::Down]);
    assert_eq!(bench.heartbeats.refused(PEER), Some(Verdict::Up));
    assert!(!bench.heartbeats.is_down(PEER));
}

#[test]
fn strangers_are_not_answered() {
    let mut bench = Bench::bound(100);
    let stranger: Ipv6Addr = "2001:db8:bad::1".parse().unwrap();
    let heartbeat = Heartbeat {
        kind: HeartbeatKind::Request,
        sequence: 1,
        restart_counter: None,
        others: Vec::new(),
    };
    let outbox = &mut bench.outbox;
    let verdict = bench
        .heartbeats
        .handle(ms(0), stranger, OWN, &heartbeat, outbox);
    assert_eq!((verdict, bench.sent()), (None, vec![]));
}
