//! The tables of the draft's slides: what they must hold, and what the appliances say they hold.

use flow::{Hnp, Role};
use serde::Serialize;

use crate::api::{BindingRow, FlowRow, RouteRow};

use super::analysis::Flow;
use super::topology::{MN_ID, Mag, Scenario};

/// A moment of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    /// Flow Y is at MAG2.
    Before,
    /// Flow Y has moved to MAG1.
    After,
    /// Flow Y has moved back.
    Back,
}

impl Stage {
    /// All, in order.
    pub(crate) const ALL: [Self; 3] = [Self::Before, Self::After, Self::Back];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
            Self::Back => "back",
        }
    }

    fn y_at(self) -> Mag {
        match self {
            Self::Before | Self::Back => Mag::Mag2,
            Self::After => Mag::Mag1,
        }
    }
}

/// All tables at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub(crate) struct Tables {
    /// The LMA's binding cache, by binding identifier.
    pub(crate) bindings: Vec<Binding>,
    /// The LMA's flow mobility cache, by flow.
    pub(crate) flows: Vec<FlowState>,
    /// What each gateway routes to the mobile, in the order of [`Mag::ALL`].
    pub(crate) routes: Vec<Routes>,
}

/// One binding cache entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Binding {
    /// Binding identifier.
    pub(crate) bid: u16,
    /// The mobile.
    pub(crate) mn: String,
    /// Access technology.
    pub(crate) access_technology: String,
    /// The session's own prefixes.
    pub(crate) prefixes: Vec<Hnp>,
    /// Off-link prefixes granted for moved flows.
    pub(crate) granted: Vec<Hnp>,
    /// The gateway, by name.
    pub(crate) mag: String,
}

/// Where a flow is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct FlowState {
    /// Which flow; `None` for one that the lab did not add.
    pub(crate) flow: Option<Flow>,
    /// Binding identifier.
    pub(crate) bid: Option<u16>,
    /// The gateway, by name.
    pub(crate) mag: Option<String>,
}

/// A gateway's routes for the mobile.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Routes {
    /// The gateway.
    pub(crate) mag: Mag,
    /// Prefixes routed to the mobile's point-to-point link.
    pub(crate) prefixes: Vec<Hnp>,
    /// Whether all that comes from them goes to the LMA.
    pub(crate) default_to_lma: bool,
}

/// Flow identifiers of the flows that the lab added.
pub(crate) type Fids = [(Flow, u16); 2];

impl Tables {
    /// The tables as the appliances tell them.
    pub(crate) fn read(
        bindings: &[BindingRow],
        flows: &[FlowRow],
        routes: [&[RouteRow]; 2],
        fids: Fids,
    ) -> Self {
        let mut out = Self {
            bindings: bindings.iter().filter_map(binding).collect(),
            flows: flows.iter().filter_map(|f| flow_state(f, fids)).collect(),
            routes: Vec::new(),
        };
        out.bindings.sort_by_key(|b| b.bid);
        out.flows.sort_by_key(|f| f.flow);
        out.routes = Mag::ALL
            .into_iter()
            .zip(routes)
            .map(|(mag, rows)| mag_routes(mag, rows))
            .collect();
        out
    }

    /// The tables on the slides, with the prefixes of this run: those of MAG1 and MAG2.
    pub(crate) fn expected(scenario: Scenario, stage: Stage, prefixes: [Hnp; 2]) -> Self {
        let [one, two] = prefixes;
        let foreign = scenario == Scenario::Unique && stage == Stage::After;
        let granted = if foreign { vec![two] } else { Vec::new() };
        let binding = |mag: Mag, prefix: Hnp, granted: Vec<Hnp>| Binding {
            bid: mag.bid(),
            mn: MN_ID.to_owned(),
            access_technology: mag.access_technology().to_owned(),
            prefixes: vec![prefix],
            granted,
            mag: mag.name().to_owned(),
        };
        let flow = |flow: Flow, mag: Mag| FlowState {
            flow: Some(flow),
            bid: Some(mag.bid()),
            mag: Some(mag.name().to_owned()),
        };
        let routes = |mag: Mag, prefixes: Vec<Hnp>| Routes {
            mag,
            prefixes,
            default_to_lma: true,
        };
        let mut at_mag1 = [&[one], &granted[..]].concat();
        at_mag1.sort_unstable();
        Self {
            bindings: vec![
                binding(Mag::Mag1, one, granted),
                binding(Mag::Mag2, two, Vec::new()),
            ],
            flows: vec![flow(Flow::X, Mag::Mag1), flow(Flow::Y, stage.y_at())],
            routes: vec![routes(Mag::Mag1, at_mag1), routes(Mag::Mag2, vec![two])],
        }
    }

    /// Where these tables are not as expected, in words.
    pub(crate) fn differences(&self, expected: &Self) -> Vec<String> {
        let mut out = Vec::new();
        if self.bindings != expected.bindings {
            out.push(differs("binding cache", &self.bindings, &expected.bindings));
        }
        if self.flows != expected.flows {
            out.push(differs("flow mobility cache", &self.flows, &expected.flows));
        }
        for (actual, expected) in self.routes.iter().zip(&expected.routes) {
            if actual != expected {
                out.push(differs(expected.mag.title(), actual, expected));
            }
        }
        if self.routes.len() != expected.routes.len() {
            out.push("a gateway's routes are missing".to_owned());
        }
        out
    }
}

fn differs(what: &str, actual: &impl std::fmt::Debug, expected: &impl std::fmt::Debug) -> String {
    format!("{what}: {actual:?}, expected {expected:?}")
}

fn binding(row: &BindingRow) -> Option<Binding> {
    if row.role != Role::Lma {
        return None;
    }
    Some(Binding {
        bid: row.bid?,
        mn: row.mn.to_string(),
        access_technology: row.access_technology.clone(),
        prefixes: row.prefixes.clone(),
        granted: row.granted.clone(),
        mag: row.peer.clone(),
    })
}

fn flow_state(row: &FlowRow, fids: Fids) -> Option<FlowState> {
    if row.role != Role::Lma {
        return None;
    }
    let known = fids.iter().find(|(_, fid)| Some(*fid) == row.fid);
    Some(FlowState {
        flow: known.map(|(flow, _)| *flow),
        bid: row.bid,
        mag: row.via.clone(),
    })
}

fn mag_routes(mag: Mag, rows: &[RouteRow]) -> Routes {
    let own = |row: &&RouteRow| {
        row.role == Some(Role::Mag) && row.mn.as_ref().is_some_and(|mn| mn.as_str() == MN_ID)
    };
    let rows: Vec<&RouteRow> = rows.iter().filter(own).collect();
    let mut prefixes: Vec<Hnp> = rows
        .iter()
        .filter_map(|row| Hnp::try_from(row.prefix.parse::<ipnet::Ipv6Net>().ok()?).ok())
        .collect();
    prefixes.sort_unstable();
    Routes {
        mag,
        prefixes,
        default_to_lma: !rows.is_empty() && rows.iter().all(|row| row.uplink.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    fn hnp(text: &str) -> Hnp {
        Hnp::try_from(text.parse::<ipnet::Ipv6Net>().unwrap()).unwrap()
    }

    fn prefixes() -> [Hnp; 2] {
        [hnp("2001:db8:100::/64"), hnp("2001:db8:100:1::/64")]
    }

    fn binding_row(bid: u16, mag: Mag, granted: &[Hnp]) -> BindingRow {
        let [one, two] = prefixes();
        BindingRow {
            role: Role::Lma,
            mn: MN_ID.parse().unwrap(),
            bid: Some(bid),
            bid_priority: Some(1),
            access_technology: mag.access_technology().into(),
            link_layer: None,
            prefixes: vec![if mag == Mag::Mag1 { one } else { two }],
            granted: granted.to_vec(),
            peer: mag.name().into(),
            peer_address: Ipv6Addr::LOCALHOST,
            state: "active".into(),
            remaining_seconds: 1,
            port: None,
        }
    }

    fn flow_row(fid: u16, mag: Mag) -> FlowRow {
        FlowRow {
            role: Role::Lma,
            mn: MN_ID.parse().unwrap(),
            fid: Some(fid),
            priority: Some(fid),
            selector: flow::TrafficSelector::Ipv6(Box::default()),
            selector_text: String::new(),
            bid: Some(mag.bid()),
            via: Some(mag.name().into()),
            state: "active".into(),
            packets: 0,
        }
    }

    fn route(prefix: Hnp) -> RouteRow {
        RouteRow {
            role: Some(Role::Mag),
            prefix: prefix.to_string(),
            mn: Some(MN_ID.parse().unwrap()),
            next: "link".into(),
            uplink: Some("tunnel".into()),
            local: false,
        }
    }

    const FIDS: Fids = [(Flow::X, 1), (Flow::Y, 2)];

    #[test]
    fn the_slides_after_the_move_are_recognised() {
        let [one, two] = prefixes();
        let bindings = [
            binding_row(2, Mag::Mag2, &[]),
            binding_row(1, Mag::Mag1, &[two]),
        ];
        let flows = [flow_row(2, Mag::Mag1), flow_row(1, Mag::Mag1)];
        let at_mag1 = [route(two), route(one)];
        let at_mag2 = [route(two)];
        let tables = Tables::read(&bindings, &flows, [&at_mag1, &at_mag2], FIDS);
        let expected = |stage| Tables::expected(Scenario::Unique, stage, [one, two]);
        assert_eq!(tables.differences(&expected(Stage::After)), [""; 0]);
        let wrong = tables.differences(&expected(Stage::Before));
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        // Without the route that the FMI asked for, only MAG1 is wrong.
        let tables = Tables::read(&bindings, &flows, [&at_mag1[1..], &at_mag2], FIDS);
        let wrong = tables.differences(&expected(Stage::After));
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].starts_with("MAG1: "), "{wrong:?}");
    }

    #[test]
    fn a_shared_prefix_is_at_both_and_nothing_is_granted() {
        let [one, _] = prefixes();
        for stage in Stage::ALL {
            let tables = Tables::expected(Scenario::Shared, stage, [one, one]);
            assert!(tables.bindings.iter().all(|b| b.granted.is_empty()));
            assert!(tables.routes.iter().all(|r| r.prefixes == [one]));
        }
    }

    #[test]
    fn routes_of_others_do_not_count() {
        let [one, _] = prefixes();
        let mut other = route(one);
        other.mn = None;
        let routes = mag_routes(Mag::Mag1, &[other]);
        assert_eq!(routes.prefixes, []);
        assert!(!routes.default_to_lma);
    }
}
