//! What the flight recorder has kept.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::{ANSWER_TIMEOUT, Api, ApplianceRequest, answer, problem};
use crate::api::Problem;
use crate::sink::sink;

/// The type of what is answered.
pub(super) const RECORDING: &str = "application/octet-stream";

/// `GET /v1/recorder`.
pub(super) async fn recorder(State(api): State<Api>) -> Response {
    let (to, mut from) = sink(1);
    if let Err(error) = answer(
        &api.calls,
        ApplianceRequest::Recorder(to).into(),
        ANSWER_TIMEOUT,
    )
    .await
    {
        return problem(&error);
    }
    let mut stopped = api.stopped;
    let octets = tokio::select! {
        octets = from.recv() => octets,
        () = tokio::time::sleep(ANSWER_TIMEOUT) => None,
        // An error means that the server is gone, which says the same.
        _ = stopped.wait_for(|stopped| *stopped) => None,
    };
    match octets {
        Some(octets) => ([(CONTENT_TYPE, RECORDING)], octets).into_response(),
        None => problem(&Problem::unavailable(
            "the flight recorder has not answered",
        )),
    }
}
