//! What the collector answers over HTTP: health, its own metrics, the Prometheus API, the UI.
//!
//! Reads only; every answer comes from a stage's status or from a query.

use axum::Router;
use serde::{Deserialize, Serialize};
use service::metrics::Metrics;
use service::{Health, Shutdown};

use crate::clock::Clock;
use crate::config::ConfigWatch;
use crate::query::Querier;

/// The `web:` block.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

/// What the answers are made of: handles to the stages, all cheap to clone.
#[derive(Clone)]
pub struct Sources {
    pub config: ConfigWatch,
    pub clock: Clock,
    pub health: Health,
    pub metrics: Metrics,
    pub querier: Querier,
    pub scrape: crate::scrape::Status,
}

/// All routes.
pub fn router(sources: Sources) -> Router {
    Router::new().merge(sources.health.router()).merge(sources.metrics.router())
}

/// Serves until the stop.
///
/// # Errors
/// When the server fails for good.
pub async fn serve(listener: tokio::net::TcpListener, sources: Sources, shutdown: Shutdown) -> anyhow::Result<()> {
    service::http::serve(listener, router(sources), shutdown).await
}
