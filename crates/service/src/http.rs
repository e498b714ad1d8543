//! Listening and serving.

use std::io;
use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use tokio::net::TcpListener;

use crate::Shutdown;

/// Binds before anything starts, so that a taken port is one clear message and port 0 is known to tests.
///
/// # Errors
/// The address, why it cannot be had, and the setting that changes it.
pub async fn bind(addr: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(addr).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            anyhow::bail!("{addr} is already in use: stop the other program or choose another address by {setting}")
        }
        Err(error) => Err(error).with_context(|| format!("failed to listen on {addr} ({setting})")),
    }
}

/// Serves until the shutdown is ordered, then lets open requests end.
///
/// # Errors
/// When accepting connections fails for good.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) -> anyhow::Result<()> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service)
        .with_graceful_shutdown(async move { shutdown.requested().await })
        .await
        .context("the HTTP server failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_names_the_setting_that_changes_it() {
        let first = bind(([127, 0, 0, 1], 0).into(), "--listen").await.expect("port 0");
        let taken = first.local_addr().expect("bound");
        let error = bind(taken, "--listen").await.expect_err("taken");
        assert_eq!(
            error.to_string(),
            format!("{taken} is already in use: stop the other program or choose another address by --listen")
        );
    }
}
