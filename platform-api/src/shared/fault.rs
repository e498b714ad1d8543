//! The fault switch: where `FAULT_INJECTION=enabled`, a share of the `/api/` requests fails for a while,
//! so that alerts, evidence and dashboards can be shown and tested on something real.
//!
//! Off unless the variable is set; then `/internal/fault` does not exist. Every failure it makes says
//! in the log that it is injected.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use garde::Validate;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::Platform;
use super::error::{ApiError, ApiResult};
use super::extract::Body;

/// A forgotten fault ends by itself.
const DURATION_MAX: Duration = Duration::from_secs(3600);
/// Beyond the request timeout every request would fail, which is what `error_ratio` is for.
const LATENCY_MAX: Duration = Duration::from_secs(9);

/// The switch; clones share it.
#[derive(Clone, Default)]
pub struct Faults {
    enabled: bool,
    active: Arc<Mutex<Option<Active>>>,
}

#[derive(Clone, Copy)]
struct Active {
    error_ratio: f64,
    latency: Duration,
    until: Instant,
}

#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
struct FaultRequest {
    /// Share of requests that fail, 0 to 1.
    #[garde(range(min = 0.0, max = 1.0))]
    #[serde(default)]
    error_ratio: f64,
    #[garde(custom(|d: &Duration, _: &()| at_most(d, DURATION_MAX)))]
    #[serde(with = "service::config::duration")]
    duration: Duration,
    /// Added to every request.
    #[garde(custom(|d: &Option<Duration>, _: &()| d.as_ref().map_or(Ok(()), |d| at_most(d, LATENCY_MAX))))]
    #[serde(default, with = "service::config::duration_option")]
    latency: Option<Duration>,
}

fn at_most(duration: &Duration, max: Duration) -> garde::Result {
    let too_long = || garde::Error::new(format!("at most {}", telemetry::duration::format(max)));
    (*duration <= max).then_some(()).ok_or_else(too_long)
}

#[derive(Debug, Serialize)]
struct FaultStatus {
    active: bool,
    error_ratio: f64,
    latency_ms: u64,
    remaining_s: f64,
}

impl Faults {
    pub fn new(enabled: bool) -> Self {
        Faults { enabled, active: Arc::default() }
    }

    fn active(&self) -> Option<Active> {
        let mut active = self.active.lock().expect("no one panics holding it");
        if active.is_some_and(|a| a.until <= Instant::now()) {
            *active = None;
            tracing::warn!("the injected fault has ended");
        }
        *active
    }

    fn set(&self, fault: Option<Active>) {
        *self.active.lock().expect("no one panics holding it") = fault;
    }

    fn status(&self) -> FaultStatus {
        match self.active() {
            None => FaultStatus { active: false, error_ratio: 0.0, latency_ms: 0, remaining_s: 0.0 },
            Some(fault) => FaultStatus {
                active: true,
                error_ratio: fault.error_ratio,
                latency_ms: fault.latency.as_millis() as u64,
                remaining_s: fault.until.saturating_duration_since(Instant::now()).as_secs_f64(),
            },
        }
    }
}

/// `POST`, `GET` and `DELETE /internal/fault`; no route at all where faults are not enabled.
pub fn router(faults: &Faults) -> Router<Platform> {
    if !faults.enabled {
        return Router::new();
    }
    Router::new().route("/internal/fault", post(start).get(show).delete(end))
}

async fn start(State(platform): State<Platform>, Body(asked): Body<FaultRequest>) -> ApiResult<Json<FaultStatus>> {
    let latency = asked.latency.unwrap_or_default();
    platform.faults.set(Some(Active {
        error_ratio: asked.error_ratio,
        latency,
        until: Instant::now() + asked.duration,
    }));
    tracing::warn!(
        error_ratio = asked.error_ratio,
        latency_ms = latency.as_millis() as u64,
        duration_s = asked.duration.as_secs_f64(),
        "a fault is being injected"
    );
    Ok(Json(platform.faults.status()))
}

async fn show(State(platform): State<Platform>) -> Json<FaultStatus> {
    Json(platform.faults.status())
}

async fn end(State(platform): State<Platform>) -> StatusCode {
    platform.faults.set(None);
    tracing::warn!("the injected fault was ended by request");
    StatusCode::NO_CONTENT
}

/// Fails or slows the requests that the active fault picks.
pub async fn inject(State(platform): State<Platform>, request: Request, next: Next) -> Response {
    if !platform.faults.enabled || !request.uri().path().starts_with("/api/") {
        return next.run(request).await;
    }
    let Some(fault) = platform.faults.active() else { return next.run(request).await };
    if !fault.latency.is_zero() {
        tokio::time::sleep(fault.latency).await;
    }
    if rand::rng().random_bool(fault.error_ratio) {
        tracing::error!(injected = true, "injected fault: payment provider unreachable");
        let detail = "an injected fault made this request fail";
        return ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "injected_fault", detail).into_response();
    }
    next.run(request).await
}
