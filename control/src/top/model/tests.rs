use serde_json::{Value, json};

use super::super::ask::{Tables, perform};
use super::super::rates::Answered;
use super::*;
use crate::api::{FlowMove, FlowMoved};

const SECOND: Duration = Duration::from_secs(1);
pub(in super::super) const MN1: &str = "mn1@example.net";

/// An LMA that began so long ago, with so many packets of everything.
pub(in super::super) fn lma(at: Duration, uptime: u64, packets: u64) -> Tables {
    let port = |name: &str, packets: u64| {
        json!({"name": name, "device": "null", "mac": "02:00:00:00:00:01", "mtu": 1500, "access": false,
               "rx_packets": packets, "rx_octets": packets * 125, "tx_packets": packets / 2,
               "tx_octets": packets * 50, "rx_missed": 0})
    };
    let mobile = |mn: &str, packets: u64| {
        json!({"role": "lma", "mn": mn, "accesses": 2, "flows": 1, "traffic": {"downlink_packets": packets,
               "downlink_octets": packets * 125, "uplink_packets": 0, "uplink_octets": 0}})
    };
    let binding = |mn: &str, bid: u16, peer: &str, state: &str| {
        json!({"role": "lma", "mn": mn, "bid": bid, "bid_priority": 1, "access_technology": "wlan",
               "link_layer": "02:00:00:00:01:01", "prefixes": ["2001:db8:100::/64"], "granted": [],
               "peer": peer, "peer_address": "2001:db8:f::a", "state": state, "remaining_seconds": 300,
               "port": null})
    };
    let flow = |mn: &str, fid: u16, packets: u64| {
        json!({"role": "lma", "mn": mn, "fid": fid, "priority": fid, "selector": flow::TrafficSelector::Ipv6(Box::default()),
               "selector_text": format!("dport {} proto 17", 5000 + fid), "bid": 1, "via": "mag1",
               "state": "active", "packets": packets})
    };
    Tables {
        status: of(
            json!({"name": "lma1", "version": "0", "roles": ["lma"], "ready": true,
                          "uptime_seconds": uptime, "workers": 1}),
        ),
        peers: Some(rows(at, json!([]))),
        ports: Some(rows(
            at,
            json!([port("core", packets), port("net", 3 * packets)]),
        )),
        paths: Some(rows(
            at,
            json!([{"role": "lma", "id": 0, "learned_mtu": null,
            "path": {"kind": "tunnel", "local": "2001:db8:f::1", "remote": "2001:db8:f::a", "hop_limit": 64,
                     "path_mtu": 1500, "copy_dscp": false, "encapsulation_limit": null},
            "counters": {"out_packets": packets, "out_octets": packets * 125, "in_packets": 0, "in_octets": 0}}]),
        )),
        workers: Some(rows(
            at,
            json!([{"id": 0, "core": 1, "turns": packets * 4, "busy_turns": packets,
            "rx_packets": packets, "tx_packets": packets, "drops": 0, "punted": 0, "handed_over": 0,
            "taken_over": 0, "fragmented": 0, "reassembled": 0, "early_fragments": 0, "updates": 7}]),
        )),
        drops: Some(rows(
            at,
            json!([{"plane": "data-plane", "reason": "hop-limit", "packets": packets,
            "meaning": "The hop limit ran out."}]),
        )),
        mobiles: Some(rows(
            at,
            json!([mobile(MN1, packets), mobile("mn2@example.net", 9 * packets)]),
        )),
        flows: Some(rows(
            at,
            json!([
                flow(MN1, 1, packets),
                flow(MN1, 2, 0),
                flow("mn2@example.net", 1, packets)
            ]),
        )),
        bindings: Some(rows(
            at,
            json!([
                binding(MN1, 1, "mag1", "active"),
                binding(MN1, 2, "mag2", "active"),
                binding(MN1, 3, "mag3", "unreachable"),
                binding("mn2@example.net", 1, "mag1", "active")
            ]),
        )),
        mn: None,
        events: vec![],
    }
}

fn rows<R: serde::de::DeserializeOwned>(at: Duration, value: Value) -> Answered<Vec<R>> {
    Answered {
        at,
        value: of(value),
    }
}

fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

pub(in super::super) fn top() -> Top {
    Top::new("/run/flowmob/lma1.sock".to_owned(), SECOND)
}

/// Answers whatever is asked for, as an LMA with so many packets.
pub(in super::super) fn answered(top: &mut Top, now: Duration, packets: u64) {
    while top.poll_ask(now).is_some() {}
    let tables = lma(now, now.as_secs() + 10, packets);
    top.handle_answer(now, Answer::Tables(Ok(Box::new(tables))));
}

pub(in super::super) fn press(top: &mut Top, keys: &str) {
    for letter in keys.chars() {
        let key = match letter {
            '\n' => Key::Enter,
            '\x1b' => Key::Escape,
            '\t' => Key::Tab,
            'v' => Key::Down,
            '<' => Key::Left,
            '>' => Key::Right,
            letter => Key::Char(letter),
        };
        top.handle_key(20 * SECOND, key);
    }
}

/// One column of the table at hand.
fn column(top: &Top, head: &str) -> Vec<String> {
    let columns = top.grid.columns;
    let at = columns.iter().position(|(h, _)| *h == head).unwrap();
    let cells = top.grid.rows.iter().map(|row| row.cells[at].text.clone());
    cells.collect()
}

#[test]
fn rates_come_with_the_second_answer_and_stop_where_counters_begin_anew() {
    let mut top = top();
    answered(&mut top, SECOND, 1000);
    assert_eq!(column(&top, "IN PKT/S"), ["-", "-", "-"]);
    answered(&mut top, 3 * SECOND, 3000);
    assert_eq!(column(&top, "IN PKT/S"), ["1.00k", "3.00k", "0"]);
    assert_eq!(column(&top, "IN BIT/S"), ["1.00M", "3.00M", "0"]);
    assert_eq!(column(&top, "OUT PKT/S"), ["500", "1.50k", "1.00k"]);
    assert_eq!(top.data.load(), Some(0.25));
    // Another process, which has counted more already than the one before.
    let again = lma(4 * SECOND, 1, 50_000);
    top.handle_answer(4 * SECOND, Answer::Tables(Ok(Box::new(again))));
    assert_eq!(column(&top, "IN PKT/S"), ["-", "-", "-"]);
    // Without a restart that shows: counters that are less than before have no rate either.
    answered(&mut top, 5 * SECOND, 7);
    assert_eq!(column(&top, "IN PKT/S"), ["-", "-", "0"]);
    assert_eq!(top.data.load(), None);
    answered(&mut top, 6 * SECOND, 8);
    assert_eq!(column(&top, "IN PKT/S"), ["1.00", "3.00", "0"]);
}

#[test]
fn one_question_at_a_time_and_no_more_than_the_process_bears() {
    let mut top = top();
    assert!(matches!(top.poll_ask(SECOND), Some(Ask::Tables(_))));
    assert_eq!(top.poll_ask(60 * SECOND), None, "one is under way");
    // It took two seconds: the next one has to wait for nine times that.
    let tables = Box::new(lma(3 * SECOND, 1, 1));
    top.handle_answer(3 * SECOND, Answer::Tables(Ok(tables)));
    assert_eq!(top.poll_ask(20 * SECOND), None);
    assert!(top.poll_ask(21 * SECOND).is_some());
    // What another view needs is asked for as soon as there is an answer, or at once.
    press(&mut top, "2");
    assert_eq!(top.poll_ask(21 * SECOND), None);
    top.handle_answer(21 * SECOND, Answer::Tables(Err("it is busy".to_owned())));
    let Some(Ask::Tables(wanted)) = top.poll_ask(21 * SECOND) else {
        panic!("nothing is asked");
    };
    assert!(wanted.mobiles && !wanted.flows && !wanted.bindings);
}

#[test]
fn a_process_that_goes_is_told_of_and_what_was_known_stays_until_it_is_back() {
    let mut top = top();
    answered(&mut top, SECOND, 1000);
    assert_eq!(top.trouble(SECOND), None);
    assert!(top.poll_ask(2 * SECOND).is_some());
    top.handle_answer(
        2 * SECOND,
        Answer::Tables(Err("Connection refused (os error 111)".to_owned())),
    );
    assert_eq!(
        top.trouble(2 * SECOND).unwrap(),
        "no answer from /run/flowmob/lma1.sock: Connection refused (os error 111)"
    );
    assert_eq!(column(&top, "NAME")[0], "core");
    // It is tried again, and this time there is nobody who would even refuse.
    assert!(top.poll_ask(3 * SECOND).is_some());
    let silent = top.trouble(9 * SECOND).unwrap();
    assert!(silent.ends_with("lma1.sock: silent for 6 s"), "{silent}");
    let back = Box::new(lma(10 * SECOND, 1, 7));
    top.handle_answer(10 * SECOND, Answer::Tables(Ok(back)));
    assert_eq!(top.trouble(10 * SECOND), None);
}

#[test]
fn events_go_on_after_the_last_one_and_from_the_first_of_another_process() {
    let event = |id: u64| json!({"id": id, "unix_ms": id, "warning": false, "text": format!("no. {id}"), "kind": "new"});
    let after = |top: &mut Top, now| match top.poll_ask(now) {
        Some(Ask::Tables(wanted)) => wanted.events_after,
        other => panic!("{other:?}"),
    };
    let mut top = top();
    press(&mut top, "7");
    assert_eq!(after(&mut top, 20 * SECOND), 0);
    let mut tables = lma(SECOND, 100, 1);
    tables.events = of(json!([event(1), event(2)]));
    top.handle_answer(20 * SECOND, Answer::Tables(Ok(Box::new(tables))));
    assert_eq!(column(&top, "EVENT"), ["no. 2", "no. 1"]);
    assert_eq!(after(&mut top, 30 * SECOND), 2);
    let tables = lma(SECOND, 3, 1);
    top.handle_answer(30 * SECOND, Answer::Tables(Ok(Box::new(tables))));
    assert_eq!(column(&top, "EVENT"), ["no. 2", "no. 1"]);
    assert_eq!(after(&mut top, 40 * SECOND), 0);
}

#[test]
fn keys_choose_views_sort_and_filter() {
    let mut top = top();
    answered(&mut top, SECOND, 10);
    answered(&mut top, 2 * SECOND, 20);
    for (place, view) in View::ALL.into_iter().enumerate() {
        press(&mut top, &(place + 1).to_string());
        assert_eq!(top.view, view);
    }
    press(&mut top, "\t");
    assert_eq!(top.view, View::Traffic);
    top.handle_key(SECOND, Key::BackTab);
    assert_eq!(top.view, View::Events);
    press(&mut top, "2>>");
    assert_eq!(column(&top, "MN"), ["mn2@example.net", MN1]);
    press(&mut top, "r");
    assert_eq!(column(&top, "MN"), [MN1, "mn2@example.net"]);
    // Each view has its own order and filter.
    press(&mut top, "1/nETx");
    assert_eq!(top.mode, Mode::Filter);
    top.handle_key(SECOND, Key::Backspace);
    press(&mut top, "\n");
    assert_eq!(top.mode, Mode::Browse);
    assert_eq!(column(&top, "NAME"), ["net"]);
    press(&mut top, "2");
    assert_eq!(column(&top, "MN"), [MN1, "mn2@example.net"]);
    press(&mut top, "1\x1b");
    assert_eq!(column(&top, "NAME").len(), 3);
    press(&mut top, "?");
    assert_eq!(top.mode, Mode::Help);
    press(&mut top, "q");
    assert!(!top.ended, "any key ends the help, and no more");
    press(&mut top, "q");
    assert!(top.ended);
}

#[test]
fn a_mobile_is_entered_and_its_flow_moved() {
    let mut top = top();
    press(&mut top, "2");
    answered(&mut top, 20 * SECOND, 10);
    press(&mut top, "m");
    assert!(top.said.take().unwrap().text.contains("point at a flow"));
    press(&mut top, "\n");
    assert_eq!(top.mobile, Some((Role::Lma, of(json!(MN1)))));
    answered(&mut top, 21 * SECOND, 20);
    assert_eq!(column(&top, "FID"), ["1", "2"]);
    press(&mut top, "vm");
    let Mode::Move(moving) = &top.mode else {
        panic!("{:?}", top.mode);
    };
    let targets: Vec<_> = moving.targets.iter().map(|t| t.text.as_str()).collect();
    assert_eq!(
        targets,
        [
            "access 2: wlan at mag2, active",
            "access 3: wlan at mag3, unreachable"
        ]
    );
    // The last one and no further; chosen; thought better of; the one before; confirmed.
    press(&mut top, "vv\nn");
    top.handle_key(SECOND, Key::Up);
    press(&mut top, "\ny");
    let request = FlowMove {
        mn: MN1.to_owned(),
        fid: 2,
        bid: 2,
    };
    assert_eq!(top.poll_ask(21 * SECOND), Some(Ask::Move(request.clone())));
    assert_eq!(top.mode, Mode::Browse);
    let moved = FlowMoved {
        fid: 2,
        bid: 2,
        signalled: true,
        microseconds: 1208,
    };
    top.handle_answer(22 * SECOND, Answer::Moved(request.clone(), Ok(moved)));
    let said = top.said.clone().unwrap();
    assert_eq!(
        said.text,
        format!("flow 2 of {MN1} moved to access 2 after FMI and FMA, in 1208 us")
    );
    assert!(!said.error);
    let refused = Err("the MAG did not answer".to_owned());
    top.handle_answer(22 * SECOND, Answer::Moved(request, refused));
    let said = top.said.clone().unwrap();
    assert!(
        said.error
            && said
                .text
                .ends_with("not moved to access 2: the MAG did not answer")
    );
    press(&mut top, "\x1b");
    assert_eq!((top.view, &top.mobile), (View::Mobiles, &None));
}

#[test]
fn a_move_may_be_left_and_needs_another_access() {
    let mut top = top();
    press(&mut top, "3");
    answered(&mut top, 20 * SECOND, 10);
    press(&mut top, "m\x1b");
    assert_eq!(top.mode, Mode::Browse);
    press(&mut top, "vvm");
    assert_eq!(
        top.said.clone().unwrap().text,
        "its mobile has no other access"
    );
    assert!(matches!(top.poll_ask(30 * SECOND), Some(Ask::Tables(_))));
    press(&mut top, "m");
    top.handle_key(SECOND, Key::Interrupt);
    assert!(top.ended);
}

#[test]
fn nobody_there_is_an_answer_too() {
    let client = crate::client::Client::new(std::path::Path::new("/nonexistent/flowmob.sock"));
    let answer = perform(&client, Ask::Tables(Wanted::default()), || SECOND);
    let Answer::Tables(Err(reason)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(reason, "No such file or directory (os error 2)");
}
