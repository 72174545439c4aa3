use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use serde_json::json;

use super::super::ask::{Answer, Tables};
use super::super::model::Key;
use super::super::model::tests::{answered, lma, press, top};
use super::super::rates::Answered;
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const COLOURS: Look = Look { colours: true };

fn drawn(top: &Top, width: u16, height: u16, look: Look) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(frame, top, 21 * SECOND, look))
        .unwrap();
    terminal.backend().buffer().clone()
}

fn lines(top: &Top, width: u16, height: u16) -> Vec<String> {
    let buffer = drawn(top, width, height, COLOURS);
    let line = |y| {
        (0..width)
            .map(|x| buffer[(x, y)].symbol())
            .collect::<String>()
    };
    (0..height).map(|y| line(y).trim_end().to_owned()).collect()
}

/// An LMA after two answers, and these keys.
fn shown(keys: &str) -> Top {
    let mut top = top();
    press(&mut top, keys);
    answered(&mut top, 20 * SECOND, 1000);
    answered(&mut top, 21 * SECOND, 3000);
    top
}

#[test]
fn traffic() {
    assert_eq!(
        lines(&shown(""), 110, 8),
        [
            "lma1 (lma) up 31s | in 8.00k pkt/s 8.00M bit/s | out 4.00k pkt/s 3.20M bit/s | load 25 % | drops 2.00k/s",
            "[1 Traffic] 2 Mobiles  3 Flows  4 Bindings  5 Workers  6 Drops  7 Events",
            "  KIND    NAME  IN PKT/S  IN BIT/S  OUT PKT/S  OUT BIT/S  IN PACKETS  OUT PACKETS  MISSED/S  WHERE",
            "> port    core     2.00k     2.00M      1.00k       800k        3000         1500         0  null",
            "  port    net      6.00k     6.00M      3.00k      2.40M        9000         4500         0  null",
            "  tunnel  -            0         0      2.00k      2.00M           0         3000         -  2001:db8:f::1 > 2",
            "",
            "Tab next  Enter mobile  / filter  Left Right sort  r reverse  m move flow  ? help  q quit",
        ]
    );
}

#[test]
fn workers_drops_and_a_sorted_filtered_table() {
    let workers = lines(&shown("5"), 110, 8);
    assert!(
        workers[3].starts_with(">      0     1  25 %  ###.......     2.00k"),
        "{workers:#?}"
    );
    let drops = lines(&shown("6"), 110, 8);
    assert!(drops[3].contains("hop-limit  2.00k     3000  The hop limit ran out."));
    let mobiles = lines(&shown("2>>/mn\n"), 110, 8);
    assert!(mobiles[1].contains("[2 Mobiles]") && mobiles[1].ends_with("2 with \"mn\""));
    assert!(
        mobiles[2].contains("MN               DOWN PKT/S▼"),
        "{mobiles:#?}"
    );
    assert!(mobiles[3].starts_with("> mn2@example.net        18.0k       18.0M"));
    let none = lines(&shown("2/nobody"), 110, 8);
    assert_eq!(none[3], "  (none with this text; Esc shows all)");
    assert_eq!(none[7], "/nobody_");
}

#[test]
fn a_mobile_and_the_move_of_its_flow() {
    let mut top = shown("2");
    press(&mut top, "\n");
    answered(&mut top, 21 * SECOND, 4000);
    let mobile = lines(&top, 110, 16);
    assert!(mobile[1].contains("[2 Mobiles] 3") && mobile[1].ends_with("> mn1@example.net"));
    assert!(
        mobile[3].contains("mn1@example.net    1  wlan  mag1  active"),
        "{mobile:#?}"
    );
    assert!(
        mobile[8].starts_with("> mn1@example.net    1"),
        "{mobile:#?}"
    );
    press(&mut top, "mv");
    let choice = lines(&top, 110, 16).join("\n");
    assert!(
        choice.contains("┌ Move flow 1 of mn1@example.net"),
        "{choice}"
    );
    assert!(
        choice.contains("│   access 2: wlan at mag2, active"),
        "{choice}"
    );
    assert!(
        choice.contains("│ > access 3: wlan at mag3, unreachable"),
        "{choice}"
    );
    press(&mut top, "\n");
    let question = lines(&top, 110, 16).join("\n");
    assert!(
        question.contains("to access 3: wlan at mag3, unreachable?"),
        "{question}"
    );
}

#[test]
fn trouble_and_help() {
    let mut top = shown("");
    while top.poll_ask(23 * SECOND).is_some() {}
    top.handle_answer(
        23 * SECOND,
        Answer::Tables(Err("Connection refused".to_owned())),
    );
    let lost = lines(&top, 60, 8);
    assert_eq!(
        lost[0],
        "no answer from /run/flowmob/lma1.sock: Connection refused"
    );
    assert!(lost.iter().any(|line| line.contains("core")), "{lost:#?}");
    press(&mut top, "?");
    let help = lines(&top, 90, 20).join("\n");
    assert!(
        help.contains(" Keys ") && help.contains("q, Ctrl-C"),
        "{help}"
    );
}

#[test]
fn every_size_will_do() {
    for keys in ["", "2", "3m", "5", "7", "?", "/x", "3m\n"] {
        let mut top = shown(keys);
        press(&mut top, "\n");
        for width in [1, 2, 7, 30, 300] {
            for height in 1..12 {
                drawn(&top, width, height, COLOURS);
            }
        }
    }
    // With hardly any room it is the table that is seen.
    assert_eq!(
        lines(&shown(""), 20, 2),
        ["  KIND    NAME  IN P", "> port    core     2"]
    );
}

#[test]
fn the_row_that_is_pointed_at_is_always_in_sight() {
    let mut top = shown("2");
    let mut tables = lma(22 * SECOND, 32, 4000);
    let mobiles = &mut tables.mobiles.as_mut().unwrap().value;
    let first = mobiles[0].clone();
    *mobiles = (0..500)
        .map(|number| {
            let mut row = first.clone();
            row.mn = flow::MnId::new(&format!("mn{number}@example.net")).unwrap();
            row
        })
        .collect();
    top.handle_answer(22 * SECOND, Answer::Tables(Ok(Box::new(tables))));
    for (key, name) in [
        (Key::Down, "> mn1@"),
        (Key::PageDown, "> mn11@"),
        (Key::End, "> mn499@"),
        (Key::Home, "> mn0@"),
    ] {
        top.handle_key(22 * SECOND, key);
        let screen = lines(&top, 80, 10);
        assert!(
            screen.iter().any(|line| line.starts_with(name)),
            "{name}: {screen:#?}"
        );
    }
}

#[test]
fn without_colours_nothing_is_coloured() {
    for colours in [true, false] {
        let mut top = shown("3");
        while top.poll_ask(23 * SECOND).is_some() {}
        top.handle_answer(23 * SECOND, Answer::Tables(Err("gone".to_owned())));
        let buffer = drawn(&top, 80, 10, Look { colours });
        let coloured = buffer.content().iter().any(|cell| cell.fg != Color::Reset);
        assert_eq!(coloured, colours);
        assert!(buffer.content().iter().all(|cell| cell.bg == Color::Reset));
    }
}

/// A mobile node, with so many packets.
fn mobile_node(at: Duration, packets: u64) -> Tables {
    let mut tables = lma(at, 30, 0);
    tables.status.roles = vec!["mn".to_owned()];
    let access = |name: &str, packets: u64| {
        json!({"name": name, "interface": name, "mac": "02:00:00:00:01:01", "up": packets > 0, "router": null,
               "router_mac": null, "rx_packets": packets, "delivered": 0, "discovery": 0, "tx_packets": packets,
               "originated": 0})
    };
    let status = json!({
        "interface": "mn0", "mtu": 1460, "flow_count": 1,
        "prefixes": [{"prefix": "2001:db8:100::/64", "address": "2001:db8:100::100", "accesses": ["if1"]}],
        "accesses": [access("if1", packets), access("if2", 0)],
        "flows": [{"source": "2001:db8:100::100", "destination": "2001:db8:c::5", "protocol": 17,
                   "ports": [5001, 5002], "access": "if1", "downlink_packets": packets, "uplink_packets": 7,
                   "moves": 3}],
        "drops": [{"reason": "no-binding", "packets": packets}],
    });
    Tables {
        peers: None,
        ports: None,
        paths: None,
        workers: None,
        drops: None,
        mobiles: None,
        flows: None,
        bindings: None,
        mn: Some(Answered {
            at,
            value: serde_json::from_value(status).unwrap(),
        }),
        ..tables
    }
}

#[test]
fn a_mobile_node() {
    let mut top = top();
    for (seconds, packets) in [(20, 100), (21, 300)] {
        let at = seconds * SECOND;
        let tables = mobile_node(at, packets);
        top.handle_answer(at, Answer::Tables(Ok(Box::new(tables))));
    }
    let traffic = lines(&top, 110, 8);
    assert_eq!(
        traffic[0],
        "lma1 (mn) up 30s | in 200 pkt/s | out 200 pkt/s | drops 200/s"
    );
    assert!(traffic[3].starts_with("> access  if1        200         -        200"));
    assert!(traffic[4].ends_with("if2, link down"), "{traffic:#?}");
    press(&mut top, "3");
    let flows = lines(&top, 130, 8);
    assert!(
        flows[3].ends_with("3  2001:db8:100::100 > 2001:db8:c::5 proto 17 ports 5001 > 5002"),
        "{flows:#?}"
    );
    press(&mut top, "m");
    let refused = lines(&top, 110, 8);
    assert!(refused[7].starts_with("point at a flow"), "{refused:#?}");
    press(&mut top, "4");
    assert!(lines(&top, 110, 8)[3].contains("2001:db8:100::100  if1"));
    for view in ["2", "5"] {
        press(&mut top, view);
        assert_eq!(lines(&top, 110, 8)[3], "  (none)");
    }
}
