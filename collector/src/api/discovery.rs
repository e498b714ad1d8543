//! What discovery knows, in words: services with what is expected and scraped, and why a task is no target.

use axum::Json;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;

use crate::expected::Expected;

#[derive(Deserialize)]
struct ExplainParams {
    #[serde(default)]
    task: String,
}

/// `GET /api/v1/discovery/services` and `GET /api/v1/discovery/explain?task=…`.
pub(super) fn router(expected: Expected) -> Router {
    Router::new()
        .route("/api/v1/discovery/services", get(services))
        .route("/api/v1/discovery/explain", get(explain))
        .with_state(expected)
}

async fn services(State(expected): State<Expected>) -> Response {
    Json(json!({"status": "success", "data": expected.services()})).into_response()
}

async fn explain(State(expected): State<Expected>, Query(params): Query<ExplainParams>) -> Response {
    if params.task.is_empty() {
        let error = "the parameter task is missing: an ECS task's id or ARN";
        let body = json!({"status": "error", "errorType": "bad_data", "error": error});
        return (StatusCode::BAD_REQUEST, Json(body)).into_response();
    }
    match expected.explain(&params.task) {
        Some(explanation) => Json(json!({"status": "success", "data": explanation})).into_response(),
        None => {
            let error = format!(
                "no cluster that discovery reads has a task {:?}: it has ended, it is of another cluster, \
                 or no aws_sd_configs names its cluster",
                params.task
            );
            let body = json!({"status": "error", "errorType": "not_found", "error": error});
            (StatusCode::NOT_FOUND, Json(body)).into_response()
        }
    }
}
