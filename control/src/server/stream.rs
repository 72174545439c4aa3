//! Events: those that were, as a list, and those that come, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, unfold};
use serde::Deserialize;
use tokio::sync::watch;

use super::{Api, problem};
use crate::api::Problem;
use crate::api::event::Event;
use crate::feed::{Heard, Listener};

/// How often a stream without events shows that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What can be asked of both.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Since {
    /// Events after the one with this number; all that are kept if left out.
    after: u64,
}

/// `GET /v1/events`: the last thousand, oldest first.
pub(super) async fn events(
    State(api): State<Api>,
    since: Result<Query<Since>, axum::extract::rejection::QueryRejection>,
) -> Response {
    match since {
        Ok(Query(since)) => {
            let kept = api.feed.after(since.after);
            let kept: Vec<&Event> = kept.iter().map(AsRef::as_ref).collect();
            Json(kept).into_response()
        }
        Err(rejection) => problem(&Problem::bad_request(rejection.body_text())),
    }
}

/// `GET /v1/events/stream`: the same and all that follow, until the process ends. A client that was cut off
/// says in `Last-Event-ID` what it has heard.
pub(super) async fn follow(
    State(api): State<Api>,
    headers: HeaderMap,
    since: Result<Query<Since>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Query(since) = match since {
        Ok(since) => since,
        Err(rejection) => return problem(&Problem::bad_request(rejection.body_text())),
    };
    let heard = headers.get("last-event-id").map(|id| {
        let id = id.to_str().ok().and_then(|id| id.parse().ok());
        id.ok_or_else(|| Problem::bad_request("Last-Event-ID is no number of an event"))
    });
    let after = match heard.transpose() {
        Ok(heard) => heard.unwrap_or(since.after),
        Err(error) => return problem(&error),
    };
    let stream = stream(api.feed.listen(after), api.stopped);
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Sse::new(stream).keep_alive(keep_alive).into_response()
}

fn stream(
    listener: Listener,
    stopped: watch::Receiver<bool>,
) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    unfold((listener, stopped), async |(mut listener, mut stopped)| {
        let heard = tokio::select! {
            heard = listener.next() => heard?,
            // An error means that the server is gone, which says the same.
            _ = stopped.wait_for(|stopped| *stopped) => return None,
        };
        Some((Ok(event(&heard)), (listener, stopped)))
    })
}

fn event(heard: &Heard) -> sse::Event {
    match heard {
        Heard::Event(event) => {
            let data = sse::Event::default().id(event.id.to_string());
            // An event is numbers, texts and lists: all of it is JSON.
            data.json_data(event.as_ref())
                .unwrap_or_else(|error| sse::Event::default().comment(error.to_string()))
        }
        Heard::Missed(missed) => sse::Event::default()
            .event("missed")
            .data(missed.to_string()),
    }
}
