//! What orchestrators and monitoring ask: whether the process lives, is ready, and what it counts.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::{Calls, Request, answer, problem};
use crate::api::{Problem, Readiness};

/// Loops that turn answer in less, whatever there is to do.
const PATIENCE: Duration = Duration::from_secs(2);

/// `GET /livez`: 200 if the control thread and all workers turn, 503 if one has not answered in two seconds.
pub(super) async fn alive(State(calls): State<Calls>) -> Response {
    match answer(&calls, Request::Alive, PATIENCE).await {
        Ok(_) => "ok\n".into_response(),
        Err(error) => problem(&error),
    }
}

/// `GET /readyz`: 200 if packets can be served, 503 if not.
pub(super) async fn ready(State(calls): State<Calls>) -> Response {
    let answer = answer(&calls, Request::Ready, PATIENCE).await;
    match answer.map(serde_json::from_value::<Readiness>) {
        Ok(Ok(ready)) if ready.ready => Json(ready).into_response(),
        Ok(Ok(ready)) => (StatusCode::SERVICE_UNAVAILABLE, Json(ready)).into_response(),
        Ok(Err(error)) => problem(&Problem::unavailable(error.to_string())),
        Err(error) => problem(&error),
    }
}

/// `GET /metrics`: everything that is counted, as OpenMetrics text.
pub(super) async fn metrics(State(calls): State<Calls>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match answer(&calls, Request::Metrics, PATIENCE).await {
        Ok(Value::String(text)) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Ok(_) => problem(&Problem::unavailable("no metrics")),
        Err(error) => problem(&error),
    }
}
