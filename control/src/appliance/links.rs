//! The links of the ports: neighbours are told of our addresses whenever one comes up, as what was sent before went
//! nowhere (RFC 4861 §7.2.6).

use std::time::Duration;

use flow::PortId;
use pmip_proto::Now;

use super::control::Control;
use super::setup::PortInfo;

/// How often the drivers are asked.
const INTERVAL: Duration = Duration::from_millis(250);

/// Which links were up when they were last looked at.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Indexed by [`PortId`]; empty before the first look.
    up: Vec<bool>,
    next: Duration,
}

impl PortInfo {
    /// Whether its link is up; a driver that does not know says it is.
    pub(super) fn is_up(&self) -> bool {
        self.port.link().map_or(true, |link| link.up)
    }
}

impl Control {
    /// Announces our addresses on the ports whose links have come up, at the start on all that are.
    pub(super) fn watch_links(&mut self, now: Now) {
        if now.monotonic < self.links.next {
            return;
        }
        self.links.next = now.monotonic + INTERVAL;
        let up: Vec<bool> = self.setup.ports.iter().map(PortInfo::is_up).collect();
        for (port, up) in (0..).map(PortId).zip(&up) {
            let was_up = self.links.up.get(usize::from(port.0)) == Some(&true);
            if *up && !was_up {
                self.nd.announce(now.monotonic, port);
            }
        }
        self.links.up = up;
    }
}
