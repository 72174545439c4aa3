//! A run as a page.

use std::fmt::Write as _;

use picture::{Anchor, Canvas, WIDTH, escaped};

use super::super::ordeal::Cost;
use super::super::page::table;
use super::super::scenario::Plan;
use super::{COLUMNS, Chaos, rows, verdict};

/// Where names end, and where the axis does.
const LEFT: f64 = 190.0;
const RIGHT: f64 = WIDTH - 16.0;
/// A kind's height.
const ROW: f64 = 20.0;

/// The page, whole.
pub(super) fn page(chaos: &Chaos, plan: Plan) -> String {
    let setting = plan.setting;
    let mut body = format!(
        "<h1>flowmob: chaos</h1>\n<p>{} events drawn from seed {}, under two flows of {} packets per second in each direction: \
         <strong>{}</strong></p>\n",
        chaos.events,
        chaos.seed,
        chaos.costs.rate,
        escaped(&verdict(chaos)).replace('\n', "<br/>"),
    );
    // Writing into a string cannot fail.
    let _infallible = writeln!(
        body,
        "<h2>What it cost</h2>\n<p>Effective blocked time: packets lost divided by their rate, of the flow that lost most; \
         median and highest, in milliseconds. So is the time until everything was as it has to be.</p>\n\
         <div class=\"figures\"><figure>\n{}</figure></div>\n{}",
        figure(chaos),
        table(&COLUMNS, &rows(chaos), 1)
    );
    let _infallible = writeln!(
        body,
        "<h2>One after the other</h2>\n<p>In the order in which they were done.</p>\n{}",
        table(
            &[
                "",
                "event",
                "lost",
                "blocked down",
                "blocked up",
                "all well after",
                "what was wrong"
            ],
            &(1..)
                .zip(&chaos.costs.operations)
                .map(event)
                .collect::<Vec<_>>(),
            2
        )
    );
    let _infallible = writeln!(
        body,
        "<h2>Again</h2>\n<p><code>flowmob lab chaos --seed {} --events {} --guests {} --scenario {} --dialect {} --workers {}{} \
         --rate {}</code>, with flowmob {}</p>",
        chaos.seed,
        chaos.events,
        setting.guests,
        setting.scenario.name(),
        setting.dialect.name(),
        setting.workers,
        if setting.pair { " --pair" } else { "" },
        chaos.costs.rate,
        env!("CARGO_PKG_VERSION")
    );
    picture::page("flowmob: chaos", &body)
}

fn event((number, cost): (u32, &Cost)) -> [String; 7] {
    [
        number.to_string(),
        cost.operation.clone(),
        cost.lost.to_string(),
        format!("{:.0}", cost.blocked_downlink_ms),
        format!("{:.0}", cost.blocked_uplink_ms),
        cost.settled_ms.to_string(),
        cost.wrong.join("\n"),
    ]
}

/// Each event as a dot in its kind's row: how long its flows were blocked.
fn figure(chaos: &Chaos) -> String {
    let mut canvas = Canvas::default();
    canvas.text(
        "t",
        (12.0, 20.0),
        Anchor::Start,
        "Blocked time of each event, in milliseconds",
    );
    let legend = [("f0", "towards the mobile"), ("f2", "from it")];
    let legend = legend.map(|(class, name)| (class.to_owned(), name.to_owned()));
    let top = canvas.legend(40.0, &legend, true) + 14.0;
    let costs = &chaos.costs.operations;
    let most = costs
        .iter()
        .map(|cost| cost.blocked_downlink_ms.max(cost.blocked_uplink_ms))
        .fold(1.0, f64::max);
    // Most events cost little and a few cost much: the axis is logarithmic, from nothing.
    let x = |ms: f64| LEFT + (RIGHT - LEFT) * (1.0 + ms).ln() / (1.0 + most).ln();
    let mut bottom = top;
    for kind in &chaos.kinds {
        let middle = bottom + ROW / 2.0;
        canvas.text(
            "l",
            (LEFT - 8.0, middle + 4.0),
            Anchor::End,
            &kind.operations,
        );
        canvas.line("g", (LEFT, middle), (RIGHT, middle));
        for cost in costs.iter().filter(|cost| cost.kind == kind.operations) {
            let both = [
                ("f0", cost.blocked_downlink_ms, -3.0),
                ("f2", cost.blocked_uplink_ms, 3.0),
            ];
            for (class, ms, aside) in both {
                let says = format!("{}: {ms:.1} ms", cost.operation);
                canvas.dot(class, (x(ms), middle + aside), &says);
            }
        }
        bottom += ROW;
    }
    for tick in [0.0, 1.0, 10.0, 100.0, 1000.0, 10_000.0] {
        if tick <= most {
            canvas.line("g", (x(tick), top), (x(tick), bottom));
            canvas.text("l", (x(tick), bottom + 16.0), Anchor::Middle, tick);
        }
    }
    canvas.finish(bottom + 26.0, "Blocked time of each event")
}
