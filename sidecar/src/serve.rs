//! HTTP/1 for whoever is near, within the bounds of a small program.

use std::time::Duration;

use axum::Router;
use prometheus_client::metrics::counter::Counter;
use service::Shutdown;
use service::http::{Bounds, serve_within};
use tokio::net::TcpListener;

/// Serves until the shutdown is ordered, then lets open requests end; connections beyond the bound are counted and
/// closed.
///
/// # Errors
/// None that ends it: a connection that cannot be accepted is another attempt.
pub async fn serve(listener: TcpListener, router: Router, refused: Counter, shutdown: Shutdown) -> anyhow::Result<()> {
    serve_within(bounds(refused), listener, router, shutdown).await
}

fn bounds(refused: Counter) -> Bounds {
    Bounds {
        // The app, the health check.
        own_max: 128,
        // The collector, and whoever else is in the network.
        others_max: 64,
        head_timeout: Duration::from_secs(30),
        // hyper's own buffer would grow to 400 KiB.
        head_bytes_max: Some(32 * 1024),
        drain: Some(Duration::from_secs(2)),
        refused,
    }
}
