//! The Prometheus HTTP API as Grafana and promtool call it: the same paths, JSON, error types and status codes.
//! What differs is listed in docs/api.md.

mod disabled;
mod exemplars;
mod params;
mod query;
mod render;
mod rules;
mod series;
mod status;
mod targets;
mod tree;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use service::Health;

use super::Sources;
use crate::query::{QueryError, RemoteKind};

/// What is answered here, for programs that read such descriptions.
const DESCRIPTION: &str = include_str!("../../api/openapi.yaml");

/// Everything below `/api/v1`, and `/-/reload`.
pub fn router(sources: Sources) -> Router {
    let api = Router::new()
        .route("/query", get(query::instant).post(query::instant))
        .route("/query_range", get(query::range).post(query::range))
        .route("/query_exemplars", get(exemplars::exemplars).post(exemplars::exemplars))
        .route("/format_query", get(query::format).post(query::format))
        .route("/parse_query", get(query::parse).post(query::parse))
        .route("/series", get(series::series).post(series::series))
        .route("/labels", get(series::label_names).post(series::label_names))
        .route("/label/{name}/values", get(series::label_values))
        .route("/rules", get(rules::rules))
        .route("/alerts", get(rules::alerts))
        .route("/alertmanagers", get(rules::alertmanagers))
        .route("/metadata", get(targets::metadata))
        .route("/targets", get(targets::targets))
        .route("/targets/metadata", get(targets::target_metadata))
        .route("/targets/relabel_steps", get(targets::relabel_steps))
        .route("/scrape_pools", get(targets::scrape_pools))
        .route("/scrape_pools/config", get(targets::scrape_pool_config))
        .route("/status/config", get(status::config))
        .route("/status/flags", get(status::flags))
        .route("/status/runtimeinfo", get(status::runtimeinfo))
        .route("/status/buildinfo", get(status::buildinfo))
        .route("/status/tsdb", get(status::tsdb))
        .route("/status/walreplay", get(status::walreplay))
        .route("/features", get(status::features))
        .route("/notifications", get(status::notifications))
        .route("/openapi.yaml", get(|| async { ([(CONTENT_TYPE, "application/yaml")], DESCRIPTION) }))
        .merge(disabled::api())
        .fallback(|| async { ApiError::NotFound("no such path in this API".to_owned()) });
    Router::new()
        .nest("/api/v1", api)
        .route("/-/reload", post(reload).put(reload))
        .merge(disabled::lifecycle())
        .with_state(sources)
}

/// `/-/healthy` and `/-/ready`: Prometheus' names for our health.
pub fn health_router(health: Health) -> Router {
    let ready = move || async move {
        match health.ready().await {
            report if report.is_ok() => (StatusCode::OK, "collector is ready\n".to_owned()),
            report => (StatusCode::SERVICE_UNAVAILABLE, format!("collector is not ready: {:?}\n", report.checks)),
        }
    };
    Router::new().route("/-/healthy", get(|| async { "collector is healthy\n" })).route("/-/ready", get(ready))
}

async fn reload(State(sources): State<Sources>) -> Response {
    match sources.reload.reload().await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(why) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload the configuration: {why}\n")).into_response()
        }
    }
}

/// `{"status":"success","data":…}`; warnings and infos only where there are some.
#[derive(Serialize)]
struct Success<T> {
    status: &'static str,
    data: T,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    infos: Vec<String>,
}

impl<T> Success<T> {
    fn new(data: T) -> Self {
        Success { status: "success", data, warnings: Vec::new(), infos: Vec::new() }
    }

    fn with_warnings(data: T, warnings: Vec<String>) -> Self {
        Success { warnings, ..Success::new(data) }
    }
}

impl<T: Serialize> IntoResponse for Success<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self) {
            Ok(body) => ([(CONTENT_TYPE, "application/json")], body).into_response(),
            Err(error) => ApiError::Internal(error.to_string()).into_response(),
        }
    }
}

/// One variant per `errorType`; the text is the `error` field.
#[derive(Clone, Debug, PartialEq)]
enum ApiError {
    BadData(String),
    Execution(String),
    Timeout(String),
    /// Nobody waits for the answer any more; whoever reads the access log sees it.
    Canceled(String),
    NotFound(String),
    /// Not switched on.
    Unavailable(String),
    Internal(String),
}

type ApiResult<T> = Result<Success<T>, ApiError>;

impl ApiError {
    fn parameter(name: &str, why: impl std::fmt::Display) -> Self {
        ApiError::BadData(format!("invalid parameter {name:?}: {why}"))
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Parse(_) | QueryError::NoRange(_) => ApiError::parameter("query", error),
            QueryError::Execution(_) => ApiError::Execution(error.to_string()),
            QueryError::Timeout(_) => ApiError::Timeout(error.to_string()),
            QueryError::Cancelled => ApiError::Canceled(error.to_string()),
            QueryError::Source(_) => ApiError::Internal(error.to_string()),
            QueryError::Remote { kind, message } => match kind {
                RemoteKind::BadData => ApiError::BadData(message),
                RemoteKind::Execution => ApiError::Execution(message),
                RemoteKind::Timeout => ApiError::Timeout(message),
                RemoteKind::Unavailable => ApiError::Internal(message),
            },
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        /// nginx' number for it, which Prometheus took over.
        const CLIENT_CLOSED_REQUEST: StatusCode = match StatusCode::from_u16(499) {
            Ok(status) => status,
            Err(_) => StatusCode::BAD_REQUEST,
        };
        let (status, kind, error) = match self {
            ApiError::BadData(error) => (StatusCode::BAD_REQUEST, "bad_data", error),
            ApiError::Execution(error) => (StatusCode::UNPROCESSABLE_ENTITY, "execution", error),
            ApiError::Timeout(error) => (StatusCode::SERVICE_UNAVAILABLE, "timeout", error),
            ApiError::Canceled(error) => (CLIENT_CLOSED_REQUEST, "canceled", error),
            ApiError::NotFound(error) => (StatusCode::NOT_FOUND, "not_found", error),
            // Prometheus' own status for it, though it is nobody's fault.
            ApiError::Unavailable(error) => (StatusCode::INTERNAL_SERVER_ERROR, "unavailable", error),
            ApiError::Internal(error) => (StatusCode::INTERNAL_SERVER_ERROR, "internal", error),
        };
        let body = serde_json::json!({ "status": "error", "errorType": kind, "error": error });
        (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
    }
}
