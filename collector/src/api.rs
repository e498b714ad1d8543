//! What the collector answers over HTTP: health, its own metrics, the Prometheus API, the UI.
//!
//! Reads only; every answer comes from a stage's status or from a query. The one thing it can cause is a reload.

mod auth;
mod discovery;
mod federate;
pub mod prometheus;
mod ui;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use serde::{Deserialize, Serialize};
use service::metrics::Metrics;
use service::{Health, Shutdown};
use telemetry::Timestamp;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use crate::clock::Clock;
use crate::config::ConfigWatch;
use crate::query::Querier;
use crate::reload::ReloadHandle;
use crate::{expected, ingest, notify, publish, rules, scaling, scrape};

pub use auth::{Auth, Guard, Role, Token};

/// The `web:` block.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Who may ask. Needed wherever the collector listens on more than loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Listen on more than loopback without `auth`: somebody else guards the port.
    pub allow_unauthenticated: bool,
}

impl Config {
    /// # Errors
    /// What is wrong with `auth`.
    pub fn check(&self) -> Result<(), String> {
        self.auth.as_ref().map_or(Ok(()), Auth::check)
    }

    /// # Errors
    /// When `addr` is reachable from elsewhere and nobody is asked who they are.
    pub fn check_listen(&self, addr: SocketAddr) -> Result<(), String> {
        if addr.ip().is_loopback() || self.auth.is_some() || self.allow_unauthenticated {
            return Ok(());
        }
        Err(format!(
            "refusing to listen on {addr} without authentication: configure tokens under `web.auth`, \
             listen on 127.0.0.1, or set `web.allow_unauthenticated: true` where something else guards the port"
        ))
    }
}

/// What the answers are made of: handles to the stages, all cheap to clone.
#[derive(Clone)]
pub struct Sources {
    pub config: ConfigWatch,
    pub reload: ReloadHandle,
    pub clock: Clock,
    pub started: Timestamp,
    pub health: Health,
    pub metrics: Metrics,
    pub querier: Querier,
    pub discovery: crate::discovery::Status,
    pub scrape: scrape::Status,
    pub expected: expected::Expected,
    pub ingest: ingest::Ingest,
    pub rules: rules::Status,
    pub notify: notify::Status,
    pub publish: publish::Handle,
    pub scaling: scaling::Handle,
    pub retention: Duration,
    /// What the command line and the configuration decided at the start, by Prometheus' names of flags.
    pub flags: Arc<BTreeMap<&'static str, String>>,
}

/// All routes. Health is open to load balancers, the UI's files are no secret; everything else asks who it is where
/// `web.auth` says so.
pub fn router(sources: Sources, guard: auth::Guard) -> Router {
    let guarded = Router::new()
        .merge(prometheus::router(sources.clone()))
        .merge(federate::router(sources.clone()))
        .merge(ui::router(sources.clone()))
        .merge(sources.metrics.router())
        .merge(sources.ingest.router())
        .merge(discovery::router(sources.expected.clone()))
        .layer(from_fn_with_state(guard, auth::check));
    Router::new()
        .merge(sources.health.router())
        .merge(prometheus::health_router(sources.health))
        .merge(crate::ui::router())
        .merge(guarded)
        .layer(CompressionLayer::new().gzip(true))
        .layer(CatchPanicLayer::new())
}

/// Serves until the stop.
///
/// # Errors
/// When the server fails for good.
pub async fn serve(
    listener: tokio::net::TcpListener,
    sources: Sources,
    guard: Guard,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    service::http::serve(listener, router(sources, guard), shutdown).await
}
