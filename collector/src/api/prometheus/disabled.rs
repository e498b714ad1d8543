//! What Prometheus has and we deliberately have not, answered as Prometheus answers where it is switched off.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};

use super::ApiError;
use crate::api::Sources;

/// Deleting series and taking snapshots by HTTP; the experimental search.
pub(super) fn api() -> Router<Sources> {
    let unavailable = |what: &'static str| move || async move { ApiError::Unavailable(what.to_owned()) };
    let (admin, search) = (unavailable("admin APIs disabled"), unavailable("search API disabled"));
    Router::new()
        .route("/admin/tsdb/delete_series", post(admin).put(admin))
        .route("/admin/tsdb/clean_tombstones", post(admin).put(admin))
        .route("/admin/tsdb/snapshot", post(admin).put(admin))
        .route("/search/metric_names", get(search).post(search))
        .route("/search/label_names", get(search).post(search))
        .route("/search/label_values", get(search).post(search))
}

/// Stopping the program is for whoever started it.
pub(super) fn lifecycle() -> Router<Sources> {
    let quit = || async { (StatusCode::FORBIDDEN, "stopping by HTTP is not enabled: send SIGTERM\n") };
    Router::new().route("/-/quit", post(quit).put(quit))
}
