//! A lab to look at: its dashboard, and flows that run for as long as somebody looks.

use std::net::SocketAddr;

use flow::Hnp;

use super::analysis::Flow;
use super::network::Network;
use super::scenario::{add_flow, ends};
use super::topology::{Host, Mag};
use super::traffic::{Sites, Stream};
use crate::server::Page;

/// Packets per second of each flow in each direction: enough to see, and little for a small machine.
const RATE: u32 = 200;

/// What is shown. Dropping it ends the flows and the page.
#[derive(Debug)]
pub(crate) struct Show {
    page: Page,
    _streams: [Stream; 2],
}

impl Show {
    /// Begins flows X and Y, and serves the LMA's dashboard on a loopback address.
    ///
    /// # Errors
    /// If the address cannot be used, or the flows cannot run.
    pub(crate) fn begin(
        network: &Network,
        prefixes: [Hnp; 2],
        address: SocketAddr,
    ) -> anyhow::Result<Self> {
        let page = Page::serve(address, &network.socket(Host::Lma))?;
        let (cn, mn) = (network.namespace(Host::Cn), network.namespace(Host::Mn));
        let stream = |flow, mag: Mag| {
            let ends = ends(flow, prefixes);
            add_flow(network, &ends, mag.bid())?;
            Stream::start(Sites { cn: &cn, mn: &mn }, &ends, RATE)
        };
        Ok(Self {
            page,
            _streams: [stream(Flow::X, Mag::Mag1)?, stream(Flow::Y, Mag::Mag2)?],
        })
    }

    /// What to do with it.
    pub(crate) fn invitation(&self) -> String {
        format!(
            "the dashboard is at http://{}/ : flow 1 (X) runs over mag1, flow 2 (Y) over mag2; move Y with a click and \
             watch it slide over",
            self.page.address()
        )
    }
}
