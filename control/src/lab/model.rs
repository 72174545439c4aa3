//! What has to be so in a lab whatever happens to it: each flow on one access, each prefix with one owner, and nothing
//! forgotten that anybody was told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use flow::{Hnp, Role};
use serde_json::Value;

use super::analysis::{Direction, Flow, Watcher, Window};
use super::network::Network;
use super::progress::Progress;
use super::scenario::add_flow;
use super::topology::{Host, MN_ID, MN2_ID, Mag, Scenario, guest_id};
use super::traffic::Ends;
use crate::api::{Attach, BindingRow, FlowMove, FlowRow, RouteRow};

/// Heartbeats tell of a restart within that time.
const HEARD: Duration = Duration::from_secs(1);
/// How long a mobile may take to be known again where its gateway has lost it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What should be so.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    scenario: Scenario,
    /// The prefixes of the sessions at MAG1 and MAG2.
    prefixes: [Hnp; 2],
    /// Those of the other mobile, if there is one.
    bystander: Option<[Hnp; 2]>,
    /// Each flow's ends, identifier and gateway.
    flows: BTreeMap<Flow, (Ends, u16, Mag)>,
    guests: u16,
    /// Guests that are attached, by name, and where.
    attached: BTreeSet<(Mag, String)>,
}

impl Model {
    /// A lab whose mobile is attached, with `guests` others that are not.
    pub(crate) fn new(
        scenario: Scenario,
        prefixes: [Hnp; 2],
        bystander: Option<[Hnp; 2]>,
        guests: u16,
    ) -> Self {
        Self {
            scenario,
            prefixes,
            bystander,
            flows: BTreeMap::new(),
            guests,
            attached: BTreeSet::new(),
        }
    }

    /// Puts a flow on the access at a gateway.
    ///
    /// # Errors
    /// If the LMA refuses.
    pub(crate) fn add(&mut self, network: &Network, ends: Ends, mag: Mag) -> anyhow::Result<()> {
        let fid = add_flow(network, &ends, bid_at(network, mag)?)?;
        self.flows.insert(ends.flow, (ends, fid, mag));
        Ok(())
    }

    /// Where a flow is not.
    pub(crate) fn other_mag(&self, flow: Flow) -> Mag {
        match self.flows.get(&flow) {
            Some((.., Mag::Mag1)) => Mag::Mag2,
            Some((.., Mag::Mag2)) | None => Mag::Mag1,
        }
    }

    /// What to ask the LMA for, to move a flow.
    ///
    /// # Errors
    /// If there is no such flow, or the mobile is not at that gateway.
    pub(crate) fn request_of_move(
        &self,
        network: &Network,
        flow: Flow,
        to: Mag,
    ) -> anyhow::Result<FlowMove> {
        let (_, fid, _) = self.flows.get(&flow).context("no such flow")?;
        Ok(FlowMove {
            mn: MN_ID.to_owned(),
            fid: *fid,
            bid: bid_at(network, to)?,
        })
    }

    /// The LMA has said that it moved a flow.
    pub(crate) fn moved(&mut self, flow: Flow, to: Mag) {
        if let Some((.., mag)) = self.flows.get_mut(&flow) {
            *mag = to;
        }
    }

    /// Attaches all guests to a gateway if one of them is not there, or else detaches all of them, without waiting.
    ///
    /// # Errors
    /// If the gateway does not take a request.
    pub(crate) fn storm(&mut self, network: &Network, mag: Mag) -> anyhow::Result<()> {
        let guests: Vec<String> = (0..self.guests).map(guest_id).collect();
        let there = |guest: &&String| self.attached.contains(&(mag, (*guest).clone()));
        let (there, away): (Vec<&String>, Vec<&String>) = guests.iter().partition(there);
        if away.is_empty() {
            for guest in there {
                ask(network, mag, "/v1/detach", guest)?;
                self.attached.remove(&(mag, guest.clone()));
            }
        } else {
            for guest in away {
                ask(network, mag, "/v1/attach", guest)?;
                self.attached.insert((mag, guest.clone()));
            }
        }
        Ok(())
    }

    /// After damage at a host, something may be lost: waits for the mobile to be known again, and does once more what an
    /// operator would.
    ///
    /// # Errors
    /// If the mobile does not come back.
    pub(crate) fn repair(
        &mut self,
        network: &mut Network,
        host: Host,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        if let Some(mag) = Mag::ALL.into_iter().find(|mag| mag.host() == host) {
            let rows: Vec<BindingRow> = network.read(host, "/v1/bindings")?;
            let known: BTreeSet<&str> = rows.iter().map(|row| row.mn.as_str()).collect();
            let guests = self.attached.iter().filter(|(at, _)| *at == mag);
            let guests = guests.map(|(_, guest)| guest.as_str());
            // The mobile would come back by itself with the next packet that it sends there.
            let mobiles = self.mobiles().map(|(mn, _)| mn);
            for mn in guests.chain(mobiles).filter(|mn| !known.contains(mn)) {
                ask(network, mag, "/v1/attach", mn)?;
            }
        }
        progress.pause(HEARD)?;
        progress.wait_for("the mobile's bindings", PATIENCE, || {
            network.check()?;
            let rows: Vec<BindingRow> = network.read(Host::Lma, "/v1/bindings")?;
            let mut wrong = Vec::new();
            self.bindings(&rows, &mut wrong);
            Ok(wrong.is_empty().then_some(()).ok_or(wrong.join("; ")))
        })?;
        let rows: Vec<FlowRow> = network.read(Host::Lma, "/v1/flows")?;
        let lost: Vec<(Ends, Mag)> = self
            .flows
            .values()
            .filter(|(_, fid, _)| !rows.iter().any(|row| row.fid == Some(*fid)))
            .map(|(ends, _, mag)| (*ends, *mag))
            .collect();
        for (ends, mag) in lost {
            self.add(network, ends, mag)?;
        }
        Ok(())
    }

    /// What is not as it should be. Routes of former moves may be there still if not `exact`.
    ///
    /// # Errors
    /// If somebody does not answer.
    pub(crate) fn wrong(&self, network: &Network, exact: bool) -> anyhow::Result<Vec<String>> {
        let mut wrong = Vec::new();
        let rows: Vec<BindingRow> = network.read(Host::Lma, "/v1/bindings")?;
        self.bindings(&rows, &mut wrong);
        owners(&rows, &mut wrong);
        for mag in Mag::ALL {
            let granted = self.granted(mag);
            let row = rows
                .iter()
                .find(|row| is_mobile(row) && row.peer == mag.name());
            let told: BTreeSet<Hnp> = row.iter().flat_map(|row| &row.granted).copied().collect();
            compare(
                &format!("lma: granted to {}", mag.name()),
                &granted,
                &told,
                exact,
                &mut wrong,
            );
        }
        let rows: Vec<FlowRow> = network.read(Host::Lma, "/v1/flows")?;
        let flows: BTreeSet<String> = rows.iter().map(placed).collect();
        let wanted = self
            .flows
            .values()
            .map(|(_, fid, mag)| on(*fid, mag.name()));
        compare("lma: flows", &wanted.collect(), &flows, true, &mut wrong);
        for mag in Mag::ALL {
            self.gateway(network, mag, exact, &mut wrong)?;
        }
        Ok(wrong)
    }

    /// Flows that were not in their tunnel alone.
    pub(crate) fn astray(&self, watcher: &Watcher, window: Window) -> Vec<String> {
        let mut wrong = Vec::new();
        let flows = self.flows.iter().map(|(flow, (.., mag))| (flow, mag));
        let other = self.bystander.map(|_| (&Flow::W, &Mag::Mag1));
        for (flow, mag) in flows.chain(other) {
            for direction in Direction::ALL {
                let count = watcher.count(*flow, direction, window);
                let (own, other) = match mag {
                    Mag::Mag1 => (count.mag1, count.mag2),
                    Mag::Mag2 => (count.mag2, count.mag1),
                };
                if own == 0 || other > 0 {
                    wrong.push(format!(
                        "{flow:?} {}: {own} packets by {}, {other} by the other",
                        direction.name(),
                        mag.name()
                    ));
                }
            }
        }
        wrong
    }

    /// The active sessions at the LMA: the mobile's with their prefixes, and guests where they are attached.
    fn bindings(&self, rows: &[BindingRow], wrong: &mut Vec<String>) {
        let active = rows.iter().filter(|row| row.state == "active");
        let is: BTreeSet<String> = active
            .map(|row| {
                let mn = row.mn.as_str();
                let has_known = self.mobiles().any(|(mobile, _)| mobile == mn);
                session(mn, &row.peer, if has_known { &row.prefixes } else { &[] })
            })
            .collect();
        let mobiles = self.mobiles().flat_map(|(mn, prefixes)| {
            let sessions = Mag::ALL.into_iter().zip(prefixes);
            sessions.map(move |(mag, prefix)| session(mn, mag.name(), &[prefix]))
        });
        let guests = self.attached.iter();
        let guests = guests.map(|(mag, guest)| session(guest, mag.name(), &[]));
        compare(
            "lma: bindings",
            &mobiles.chain(guests).collect(),
            &is,
            true,
            wrong,
        );
    }

    /// The mobiles that are attached everywhere, and their prefixes.
    fn mobiles(&self) -> impl Iterator<Item = (&'static str, [Hnp; 2])> {
        let other = self.bystander.map(|prefixes| (MN2_ID, prefixes));
        [(MN_ID, self.prefixes)].into_iter().chain(other)
    }

    /// Prefixes that a gateway hosts for others' sessions.
    fn granted(&self, mag: Mag) -> BTreeSet<Hnp> {
        if self.scenario == Scenario::Shared {
            return BTreeSet::new();
        }
        let here = self.flows.values().filter(|(.., at)| *at == mag);
        let prefixes = here.filter_map(|(ends, ..)| self.prefix_of(ends));
        prefixes.filter(|prefix| *prefix != self.own(mag)).collect()
    }

    fn own(&self, mag: Mag) -> Hnp {
        let [one, two] = self.prefixes;
        match mag {
            Mag::Mag1 => one,
            Mag::Mag2 => two,
        }
    }

    fn prefix_of(&self, ends: &Ends) -> Option<Hnp> {
        self.prefixes
            .into_iter()
            .find(|prefix| prefix.contains(ends.mn.0))
    }

    fn gateway(
        &self,
        network: &Network,
        mag: Mag,
        exact: bool,
        wrong: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let name = mag.name();
        let rows: Vec<BindingRow> = network.read(mag.host(), "/v1/bindings")?;
        let is: BTreeSet<String> = rows
            .iter()
            .filter(|row| row.state == "active")
            .map(|row| row.mn.to_string())
            .collect();
        let guests = self.attached.iter().filter(|(at, _)| *at == mag);
        let wanted = guests.map(|(_, guest)| guest.clone());
        let wanted = wanted.chain(self.mobiles().map(|(mn, _)| mn.to_owned()));
        let wanted = wanted.collect();
        compare(&format!("{name}: bindings"), &wanted, &is, true, wrong);
        let rows: Vec<RouteRow> = network.read(mag.host(), "/v1/routes")?;
        let of_mobile = |row: &&RouteRow| {
            row.role == Some(Role::Mag) && row.mn.as_ref().is_some_and(|mn| mn.as_str() == MN_ID)
        };
        let is = rows.iter().filter(of_mobile).map(|row| row.prefix.clone());
        let wanted = self.granted(mag).into_iter().chain([self.own(mag)]);
        let wanted = wanted.map(|prefix| prefix.to_string()).collect();
        compare(
            &format!("{name}: routes"),
            &wanted,
            &is.collect(),
            exact,
            wrong,
        );
        Ok(())
    }
}

fn is_mobile(row: &BindingRow) -> bool {
    row.mn.as_str() == MN_ID
}

fn session(mn: &str, mag: &str, prefixes: &[Hnp]) -> String {
    let prefixes: Vec<String> = prefixes.iter().map(Hnp::to_string).collect();
    format!("{mn} at {mag} {}", prefixes.join(" "))
}

fn on(fid: u16, mag: &str) -> String {
    format!("{fid} on {mag} active")
}

fn placed(row: &FlowRow) -> String {
    let fid = row.fid.unwrap_or_default();
    let via = row.via.as_deref().unwrap_or("nothing");
    format!("{fid} on {via} {}", row.state)
}

/// A prefix that two mobiles have.
fn owners(rows: &[BindingRow], wrong: &mut Vec<String>) {
    let mut owners: BTreeMap<Hnp, &str> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.state == "active") {
        for prefix in &row.prefixes {
            let owner = owners.insert(*prefix, row.mn.as_str());
            if let Some(owner) = owner.filter(|owner| *owner != row.mn.as_str()) {
                wrong.push(format!("lma: {prefix} is {owner}'s and {}'s", row.mn));
            }
        }
    }
}

fn compare<T: Ord + ToString>(
    what: &str,
    wanted: &BTreeSet<T>,
    is: &BTreeSet<T>,
    exact: bool,
    wrong: &mut Vec<String>,
) {
    let list = |items: Vec<&T>| {
        items
            .iter()
            .map(|item| item.to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let missing: Vec<&T> = wanted.difference(is).collect();
    if !missing.is_empty() {
        wrong.push(format!("{what}: missing {}", list(missing)));
    }
    let extra: Vec<&T> = is.difference(wanted).collect();
    if exact && !extra.is_empty() {
        wrong.push(format!("{what}: too much {}", list(extra)));
    }
}

/// The number of the mobile's session at a gateway.
fn bid_at(network: &Network, mag: Mag) -> anyhow::Result<u16> {
    let rows: Vec<BindingRow> = network.read(Host::Lma, "/v1/bindings")?;
    let row = rows
        .iter()
        .find(|row| is_mobile(row) && row.peer == mag.name());
    row.and_then(|row| row.bid)
        .with_context(|| format!("the mobile has no session at {}", mag.name()))
}

fn ask(network: &Network, mag: Mag, path: &str, mn: &str) -> anyhow::Result<()> {
    let request = Attach {
        mn: mn.to_owned(),
        port: None,
        handoff: None,
    };
    network.post::<Value>(mag.host(), path, &request).map(drop)
}
