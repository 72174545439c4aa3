//! The way of the packet itself, and what is said about it.

use std::net::Ipv6Addr;

use dataplane::rehearsal::{Played, Rehearsal};
use flow::{
    Binding, End, MacAddr, MobileId, PathId, PortId, Role, Rule, RuleAction, Selector, TableUpdate,
    TrafficSelector, Update,
};
use nd::packet::{Ipv6, be32};

use super::{Arrival, ETHERNET_LEN, Names, Question};
use crate::api::Problem;
use crate::api::explain::{BindingFound, Explanation, FrameOut, IfLost, Outcome, RuleTried};

impl Question {
    /// Lets the packet go its way, with everything as it is, and as it would be without each access.
    pub(super) fn answer(self) -> Result<Explanation, Problem> {
        let Self {
            worker,
            told,
            arrival,
            found,
            what_ifs,
            names,
        } = self;
        let mut stage = Rehearsal::new(worker)
            .map_err(|error| Problem::unavailable(format!("no worker to ask: {error}")))?;
        for update in told {
            stage.tell(update);
        }
        let played = stage.play(arrival.port, &arrival.frame);
        let result = names.outcome(&played);
        let to_mobile = found.as_ref().filter(|(found, _)| found.of_destination);
        let mut rules = Vec::new();
        let mut if_lost = Vec::new();
        if let Some((found, binding)) = to_mobile {
            rules = tried(&mut stage, &names, &arrival, found, binding);
            for (bid, peer, what_if, rescuer) in what_ifs {
                for path in what_if.paths {
                    stage.tell(Update::Table(found.role, path));
                }
                set(&mut stage, found, what_if.binding);
                let played = stage.play(arrival.port, &arrival.frame);
                if_lost.push(IfLost {
                    bid,
                    peer,
                    result: names.outcome(&played),
                    rescuer,
                });
            }
        }
        Ok(Explanation {
            arrival: arrival.words,
            port: names.port(arrival.port),
            binding: found.map(|(found, _)| found),
            rules,
            result,
            if_lost,
        })
    }
}

fn set(stage: &mut Rehearsal, found: &BindingFound, binding: Binding) {
    let (hnp, binding) = (found.prefix, Some(Box::new(binding)));
    stage.tell(Update::Table(
        found.role,
        TableUpdate::Binding { hnp, binding },
    ));
}

/// Which rule decided, and what kept those before it from doing so.
fn tried(
    stage: &mut Rehearsal,
    names: &Names,
    arrival: &Arrival,
    found: &BindingFound,
    binding: &Binding,
) -> Vec<RuleTried> {
    let (role, hnp) = (found.role, found.prefix);
    let counted = stage.counters(role, hnp).map_or(0, |c| c.downlink_packets);
    let decided = stage.decided_by(role, hnp);
    let place = binding
        .rules
        .iter()
        .position(|rule| Some(rule.fid) == decided);
    let tried = if counted == 0 {
        0
    } else {
        place.unwrap_or(binding.rules.len())
    };
    // Counters of a mobile live on: each trial is another one's.
    let mut mobile = MobileId(u32::MAX);
    let mut matches = |rule: Rule| {
        mobile.0 -= 1;
        let fid = rule.fid;
        let alone = Binding {
            mobile,
            rules: vec![rule],
            ..binding.clone()
        };
        set(stage, found, alone);
        stage.play(arrival.port, &arrival.frame);
        stage.decided_by(role, hnp) == Some(fid)
    };
    let all = binding.rules.iter().enumerate().map(|(number, rule)| {
        let verdict = if Some(number) == place {
            "matched"
        } else if number < tried {
            "not matched"
        } else {
            "not tried"
        };
        let mut mismatches = Vec::new();
        if number < tried {
            for (field, part) in parts(&rule.selector) {
                let selector = part;
                let part = Rule {
                    selector,
                    ..rule.clone()
                };
                if !matches(part) {
                    mismatches.push(field.to_owned());
                }
            }
        }
        RuleTried {
            fid: rule.fid.0.get(),
            priority: rule.priority.0.get(),
            selector: rule.selector.to_string(),
            action: match rule.action {
                RuleAction::Forward(path) => names.path(role, path),
                RuleAction::Drop => "drop".to_owned(),
            },
            verdict: verdict.to_owned(),
            mismatches,
        }
    });
    let all = all.collect();
    set(stage, found, binding.clone());
    all
}

/// The selectors that a selector is made of, one field each.
fn parts(selector: &TrafficSelector) -> Vec<(&'static str, TrafficSelector)> {
    let Some(s) = selector.ipv6() else {
        return Vec::new();
    };
    let none = Selector::<Ipv6Addr>::default;
    let fields = [
        (
            "source address",
            s.source.is_some(),
            Selector {
                source: s.source,
                ..none()
            },
        ),
        (
            "destination address",
            s.destination.is_some(),
            Selector {
                destination: s.destination,
                ..none()
            },
        ),
        (
            "next header",
            s.next_header.is_some(),
            Selector {
                next_header: s.next_header,
                ..none()
            },
        ),
        (
            "source port",
            s.source_port.is_some(),
            Selector {
                source_port: s.source_port,
                ..none()
            },
        ),
        (
            "destination port",
            s.destination_port.is_some(),
            Selector {
                destination_port: s.destination_port,
                ..none()
            },
        ),
        (
            "traffic class",
            s.traffic_class.is_some(),
            Selector {
                traffic_class: s.traffic_class,
                ..none()
            },
        ),
        (
            "flow label",
            s.flow_label.is_some(),
            Selector {
                flow_label: s.flow_label,
                ..none()
            },
        ),
        (
            "SPI",
            s.spi.is_some(),
            Selector {
                spi: s.spi,
                ..none()
            },
        ),
    ];
    let present = fields.into_iter().filter(|(_, present, _)| *present);
    present
        .map(|(name, _, selector)| (name, selector.into()))
        .collect()
}

impl Names {
    fn port(&self, port: PortId) -> String {
        let name = self.ports.get(usize::from(port.0));
        name.cloned().unwrap_or_else(|| port.to_string())
    }

    fn path(&self, role: Role, id: PathId) -> String {
        let name = self.paths.get(&(role, id)).cloned();
        name.unwrap_or_else(|| format!("path {id}"))
    }

    fn outcome(&self, played: &Played) -> Outcome {
        let fate = match played.end {
            End::Sent if played.sent.len() > 1 => "fragmented",
            End::Sent => "sent",
            End::Dropped(_) => "dropped",
            End::Punted => "to the control plane",
            End::Consumed => "consumed",
            End::Held => "held",
        };
        let reason = match played.end {
            End::Dropped(reason) => Some(reason),
            End::Sent | End::Punted | End::Consumed | End::Held => None,
        };
        // What leaves of a packet that was dropped or consumed is an answer.
        let answered = played.originated && played.end != End::Sent;
        let frame = played.sent.first().filter(|_| !answered);
        let frame = frame.and_then(|(port, frame)| self.frame(*port, frame));
        let path = played.path.filter(|_| !answered);
        let path = path.map(|(role, id)| {
            let known = self.paths.get(&(role, id)).cloned();
            known.unwrap_or_else(|| self.new_path(role, id, frame.as_ref()))
        });
        Outcome {
            fate: fate.to_owned(),
            reason: reason.map(|reason| reason.name().to_owned()),
            meaning: reason.map(|reason| reason.meaning().to_owned()),
            path,
            frame,
            answered,
        }
    }

    /// A path that is not in use yet.
    fn new_path(&self, role: Role, id: PathId, frame: Option<&FrameOut>) -> String {
        let end = frame.map(|frame| frame.destination);
        let peer = end.and_then(|end| Some((end, self.peers.get(&(role, end))?)));
        peer.map_or_else(
            || format!("path {id}"),
            |(end, peer)| format!("tunnel to {peer} {end}"),
        )
    }

    fn frame(&self, port: PortId, frame: &[u8]) -> Option<FrameOut> {
        let packet = frame.get(ETHERNET_LEN..)?;
        let ip = Ipv6::parse(packet)?;
        let word = be32(packet, 0)?;
        let [traffic_class, ..] = (word << 4).to_be_bytes();
        Some(FrameOut {
            port: self.port(port),
            to: MacAddr(*frame.first_chunk()?),
            source: ip.source,
            destination: ip.destination,
            next_header: ip.next_header,
            hop_limit: *packet.get(7)?,
            traffic_class,
            flow_label: word & flow::FlowKey::FLOW_LABEL_MASK,
            octets: packet.len(),
        })
    }
}
