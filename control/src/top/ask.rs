//! Questions to the process and its answers: the only file here that speaks to it.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::rates::Answered;
use crate::api::mobiles::MobileRow;
use crate::api::{
    BindingRow, DropRow, FlowMove, FlowMoved, FlowRow, PathRow, PeerRow, PortRow, Problem, Status,
    WorkerRow,
};
use crate::client::Client;
use crate::mn::status::MnStatus;

/// What to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Tables; answered by [`Answer::Tables`].
    Tables(Wanted),
    /// A flow's move; answered by [`Answer::Moved`].
    Move(FlowMove),
}

/// Which tables are asked for, beside those that are small everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Mobiles and their traffic.
    pub(super) mobiles: bool,
    /// Flows.
    pub(super) flows: bool,
    /// The binding cache or the binding update list.
    pub(super) bindings: bool,
    /// Events after this one.
    pub(super) events_after: u64,
}

/// What was answered.
#[derive(Debug)]
pub(super) enum Answer {
    /// Tables, or why there are none.
    Tables(Result<Box<Tables>, String>),
    /// What became of a move.
    Moved(FlowMove, Result<FlowMoved, String>),
}

/// A table, unless it was not wanted or this process has none.
pub(super) type Table<R> = Option<Answered<Vec<R>>>;

/// The tables of a process, each as it was when it was answered.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) status: Status,
    pub(super) peers: Table<PeerRow>,
    pub(super) ports: Table<PortRow>,
    pub(super) paths: Table<PathRow>,
    pub(super) workers: Table<WorkerRow>,
    pub(super) drops: Table<DropRow>,
    pub(super) mobiles: Table<MobileRow>,
    pub(super) flows: Table<FlowRow>,
    pub(super) bindings: Table<BindingRow>,
    /// Instead of all these, at a mobile node.
    pub(super) mn: Option<Answered<MnStatus>>,
    pub(super) events: Vec<Happening>,
}

/// An event, whatever its kind.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Happening {
    /// Its number.
    pub(super) id: u64,
    /// When, in milliseconds since 1970 UTC.
    pub(super) unix_ms: u64,
    /// Whether somebody should look at it.
    pub(super) warning: bool,
    /// What, in words.
    pub(super) text: String,
}

/// Asks, and waits for the answer.
pub(super) fn perform(client: &Client, ask: Ask, clock: impl Fn() -> Duration) -> Answer {
    match ask {
        Ask::Tables(wanted) => {
            let tables = Asker { client, clock }.tables(wanted);
            Answer::Tables(tables.map(Box::new).map_err(|error| reason(&error)))
        }
        Ask::Move(request) => {
            let answer = client.post("/v1/flows/move", &json!(request));
            let moved = answer.and_then(|answer| Ok(serde_json::from_value(answer)?));
            Answer::Moved(request, moved.map_err(|error| reason(&error)))
        }
    }
}

fn understood<T: DeserializeOwned>(value: Value) -> anyhow::Result<T> {
    serde_json::from_value(value)
        .map_err(|error| anyhow::anyhow!("it speaks another version of the API: {error}"))
}

/// Why nothing was answered: its last cause says it; those above are hints for the command line.
fn reason(error: &anyhow::Error) -> String {
    error.root_cause().to_string()
}

struct Asker<'a, C> {
    client: &'a Client,
    clock: C,
}

impl<C: Fn() -> Duration> Asker<'_, C> {
    fn tables(&self, wanted: Wanted) -> anyhow::Result<Tables> {
        let status: Status = understood(self.client.get("/v1/status")?)?;
        let mobile_node = status.roles.iter().all(|role| role == "mn");
        let appliance = !mobile_node;
        Ok(Tables {
            peers: self.get(appliance, "/v1/peers")?,
            ports: self.get(appliance, "/v1/ports")?,
            paths: self.get(appliance, "/v1/paths")?,
            workers: self.get(appliance, "/v1/workers")?,
            drops: self.get(appliance, "/v1/drops")?,
            mobiles: self.get(appliance && wanted.mobiles, "/v1/mobiles")?,
            flows: self.get(appliance && wanted.flows, "/v1/flows")?,
            bindings: self.get(appliance && wanted.bindings, "/v1/bindings")?,
            mn: self.get(mobile_node, "/v1/mn")?,
            events: self.events(wanted.events_after)?,
            status,
        })
    }

    fn events(&self, after: u64) -> anyhow::Result<Vec<Happening>> {
        let answer = self.get(true, &format!("/v1/events?after={after}"))?;
        Ok(answer.map(|answer| answer.value).unwrap_or_default())
    }

    /// One resource. What the process says it does not have is none; other refusals are errors.
    fn get<T: DeserializeOwned>(
        &self,
        wanted: bool,
        path: &str,
    ) -> anyhow::Result<Option<Answered<T>>> {
        if !wanted {
            return Ok(None);
        }
        match self.client.get(path) {
            Ok(value) => Ok(Some(Answered {
                at: (self.clock)(),
                value: understood(value)?,
            })),
            Err(error) => match error.downcast_ref::<Problem>() {
                Some(problem) if matches!(problem.status, 404 | 409) => Ok(None),
                _ => Err(error),
            },
        }
    }
}
