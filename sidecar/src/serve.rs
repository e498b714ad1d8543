//! HTTP/1 for whoever is near, with bounds: so many connections, so long for a request's head.
//!
//! axum's own `serve` waits for a head for ever, which lets a few slow clients take every descriptor that we have.
//! Those of this host have their own bound: whoever opens many from outside keeps neither the app nor the health
//! check out.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::counter::Counter;
use service::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// From the address that is connected to: the app, the health check.
const CONNECTIONS_MAX: usize = 128;
/// From elsewhere: the collector, and whoever else is in the network.
const CONNECTIONS_FROM_OUTSIDE_MAX: usize = 64;
/// From the connection, or the answer before, to the last byte of the head: also how long a connection may rest.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// For open requests at the end.
const DRAIN: Duration = Duration::from_secs(2);
/// The largest head; hyper's own buffer would grow to 400 KiB.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Serves until the shutdown is ordered, then lets open requests end. Connections beyond the bound are counted and
/// closed.
///
/// # Errors
/// None that ends it: a connection that cannot be accepted is another attempt.
pub async fn serve(listener: TcpListener, router: Router, refused: Counter, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    let slots = [CONNECTIONS_MAX, CONNECTIONS_FROM_OUTSIDE_MAX].map(|bound| Arc::new(Semaphore::new(bound)));
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let is_own = stream.local_addr().is_ok_and(|local| local.ip() == peer.ip());
                    let Ok(slot) = Arc::clone(&slots[usize::from(!is_own)]).try_acquire_owned() else {
                        refused.inc();
                        continue;
                    };
                    let connection = connection(stream, router.clone(), shutdown.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                // Out of descriptors, or a peer that went away: neither is for good.
                Err(error) => {
                    tracing::debug!(error = %error, "connection not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            () = shutdown.requested() => break,
        }
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    drop(tokio::time::timeout(DRAIN, drained).await);
    Ok(())
}

async fn connection(stream: TcpStream, router: Router, shutdown: Shutdown) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        () = shutdown.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served.context("connection failed") {
        tracing::debug!(error = format!("{error:#}"), "HTTP connection");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn connections_beyond_the_bound_are_closed_and_a_stop_lets_requests_end() {
        let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "test").await.expect("port 0");
        let addr = listener.local_addr().expect("bound");
        let (refused, order) = (Counter::default(), Shutdown::new());
        let router = Router::new().route("/", get(|| async { "hello" }));
        let serving = service::task::spawn("server", serve(listener, router, refused.clone(), order.clone()));
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            idle.push(TcpStream::connect(addr).await.expect("connects"));
        }
        let mut one_more = TcpStream::connect(addr).await.expect("connects");
        assert_eq!(one_more.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed");
        assert_eq!(refused.get(), 1);
        let mut first = idle.swap_remove(0);
        first.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("sent");
        let mut answer = String::new();
        first.read_to_string(&mut answer).await.expect("answered");
        assert!(answer.ends_with("hello"), "{answer}");
        order.request();
        serving.await.expect("no panic").expect("ends well");
    }
}
